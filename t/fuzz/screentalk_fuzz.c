/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A dialogue of postscreen. The first bytes choose the tests and their actions and how the stream
 * is cut; the rest is what the client sends. Whatever it is: replies are lines that begin with a
 * code, no recipient is accepted, what is kept of the input is less than a line, and log lines are
 * lines.
 */
#include <stdlib.h>
#include <string.h>

#include "t/unit/workers/screentalk_rig.h"
#include "t/unit/workers/testconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct talk_rig r;

static void set_texts(struct screentalk_conf *k)
{
	k->command_filter = "regexp:{{/^HELP (.*)/ NOOP $1}}";
	k->discard_ehlo_keyword_address_maps = "inline:{{192.0.2.8 = dsn}}";
	k->reject_footer = "\\c. See $server_name\\nfor $client_address $localtime";
}

static void check_replies(struct buf *out)
{
	const char *p = buf_cstr(out);

	while (*p != '\0') {
		const char *end = strstr(p, "\r\n");

		ASSERT(end != NULL && end - p >= 4);
		ASSERT(p[0] >= '2' && p[0] <= '5' && ascii_is_digit(p[1]) && ascii_is_digit(p[2]));
		ASSERT(strncmp(p, "354", 3) != 0 && strncmp(p, "250 2.1.5", 9) != 0);
		for (const char *c = p; c < end; c++)
			ASSERT((unsigned char)*c >= ' ');
		p = end + 2;
	}
	buf_consume(out, out->len);
}

static void begin(const uint8_t choice[2])
{
	static struct conf *conf;

	if (conf == NULL) {
		conf = test_conf("");
		ASSERT(conf != NULL && talk_init(&r, conf, set_texts) == 0);
	}
	talk_begin(&r);
	r.k.soft_bounce = (choice[0] & 1) != 0;
	r.k.helo_required = (choice[0] & 2) != 0;
	r.k.smtputf8 = (choice[0] & 4) == 0;
	for (int i = 0; i < 3; i++)
		r.k.tests[SCREEN_PIPELINING + i].action =
			(enum screen_action)((choice[1] >> (2 * i) & 3) % 3);
	r.tests.todo = (unsigned)choice[0] >> 3 & (SCREEN_DIALOGUE_BITS | 3);
	r.tests.failed = r.tests.todo & 3;
	if (choice[1] >= 250)
		r.client.last_reply = "421 4.3.2 All server ports are busy";
	talk_start(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = 3;

	if (size < 4)
		return 0;
	begin(data);
	while (at < size && screentalk_state(r.t) == SCREENTALK_ON) {
		size_t n = data[2] == 0 ? size - at : 1 + data[2] % 61u;

		n = n < size - at ? n : size - at;
		screentalk_input(r.t, (const char *)data + at, n);
		check_replies(screentalk_out(r.t));
		ASSERT((r.tests.passed & r.tests.failed) == 0);
		at += n;
	}
	if (data[2] % 3 == 0)
		clock_fake_advance(400000);
	screentalk_tick(r.t);
	check_replies(screentalk_out(r.t));
	screentalk_eof(r.t);
	ASSERT(screentalk_state(r.t) != SCREENTALK_ON);
	for (size_t i = 0; i < r.log.len; i++)
		ASSERT(r.log.p[i] == '\n' || (unsigned char)r.log.p[i] >= ' ');
	screentalk_free(&r.t);
	return 0;
}
