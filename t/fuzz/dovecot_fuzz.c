/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a Dovecot auth service sends, while dialogues begin, go on and are given up. The first byte
 * says how it is cut, and which dialogues there are. Each step that begins ends once; what is
 * offered and passed on is of the characters that it may be of.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/auth/dovecot.h"

#define DIALOGUES 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct params params = { .smtpd_sasl_service = "smtp" };
static struct auth_service service;
static struct dialogue *dialogues[DIALOGUES];

static void on_done(void *ctx UNUSED, struct dialogue *d)
{
	ASSERT(d->state == DIALOGUE_IDLE && d->in.len == 0);
	ASSERT(d->status < AUTH_OFFER && d->user.len <= AUTH_USER_MAX);
	ASSERT(d->status != AUTH_DONE || d->user.len > 0);
	ASSERT(d->status != AUTH_MORE || dialogue_is_base64(buf_sv(&d->text)));
	ASSERT((d->number_there != 0) == (d->status == AUTH_MORE));
	ASSERT(d->lines.len <= AUTH_LINES_MAX);
}

static void on_changed(void *ctx UNUSED, struct dovecot *dc)
{
	struct buf offer = BUF_INIT;

	dovecot_offer(dc, service.options[0], &offer);
	for (size_t i = 0; i < offer.len; i++)
		ASSERT(ascii_is_alnum(offer.p[i]) || strchr("-_ ", offer.p[i]) != NULL);
	buf_fini(&offer);
}

static void quiet(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		  const char *text UNUSED, size_t len UNUSED)
{
}

static void begin(struct dovecot *dc, unsigned which)
{
	static const char strings[] = "PLAIN\0"
				      "AGpvZQA=\0"
				      "192.0.2.1\0"
				      "1\0"
				      "192.0.2.2\0"
				      "25";
	struct dialogue *d = dialogues[which];

	if (d != NULL && d->state != DIALOGUE_IDLE)
		return;
	if (d != NULL && d->number_there == 0) {
		dialogue_free(d);
		d = NULL;
	}
	if (d == NULL) {
		d = dialogues[which] = dialogue_new(&service);
		ASSERT(dialogue_take_start(d, (struct sv){ strings, sizeof(strings) },
					   AUTH_INITIAL) == 0);
	} else {
		dialogue_take_step(d, SV("eA=="));
	}
	dovecot_step(dc, d);
}

static void give_up(struct dovecot *dc, unsigned which)
{
	struct dialogue *d = dialogues[which];

	if (d == NULL)
		return;
	dovecot_cancel(dc, d);
	dialogue_free(d);
	dialogues[which] = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct dovecot_ops ops = { .changed = on_changed, .done = on_done };
	struct dovecot *dc;
	size_t at = 1;

	if (size < 2)
		return 0;
	clock_init();
	log_set_sink(quiet, NULL);
	service.p = &params;
	service.options[0] = data[0] & 63u;
	ASSERT(dovecot_new(NULL, "private/auth", "/q", &ops, NULL, &dc) == 0);
	for (unsigned turn = 0; at < size; turn++) {
		size_t n = size_min(size - at, 1 + data[0] % 61u);

		begin(dc, turn % DIALOGUES);
		if (dovecot_input(dc, (const char *)data + at, n) != 0)
			break;
		if (turn % 7 == 6)
			give_up(dc, turn % DIALOGUES);
		at += n;
	}
	for (unsigned i = 0; i < DIALOGUES; i++)
		give_up(dc, i);
	dovecot_free(&dc);
	return 0;
}
