/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A QMQP session. The first byte chooses how the stream is cut, the second what goes wrong; the
 * rest is what the client sends. Whatever it is: content that is handed over is in wire form, a
 * message that begins ends or is given up, and what is said is a netstring.
 */
#include "t/unit/workers/smtpin_fake.h"
#include "workers/smtp_in/qmqp.h"

static struct fake f;

static void setup(void)
{
	struct conf_diag d;

	clock_fake_set(1700000000000);
	fake_conf(&f, "qmqpd_authorized_clients = 192.0.2.1\nmessage_size_limit = 4000\n", NULL);
	conf_diag_init(&d);
	listener_fini(&f.listener);
	for (unsigned i = 0; i < conf_service_count(f.conf); i++) {
		const struct conf_service *s = conf_service(f.conf, i);

		if (strcmp(s->program, "qmqpd") == 0)
			ASSERT(listener_init(&f.listener, f.conf, s, &d) == 0);
	}
	ASSERT(f.listener.qmqp);
	conf_diag_fini(&d);
}

static void check_content(void)
{
	const char *p = f.content.p;
	struct arena arena;
	struct envelope e;

	for (size_t i = 0; i < f.content.len; i++) {
		char before = i > 0 ? p[i - 1] : '\n';
		char after = i + 1 < f.content.len ? p[i + 1] : '\0';

		ASSERT(p[i] != '\n' || before == '\r');
		ASSERT(p[i] != '\r' || after == '\n');
		ASSERT(p[i] != '.' || before != '\n' || after == '.');
	}
	ASSERT(f.content.len > 0 && p[f.content.len - 1] == '\n');
	arena_init(&arena, 4096, 0);
	ASSERT(env_decode(buf_sv(&f.env), 20000, &arena, &e) == 0 && e.rcpt_count > 0);
	arena_fini(&arena);
}

static void check_reply(void)
{
	const char *reply = fake_take(&f), *colon = strchr(reply, ':');

	if (*reply == '\0')
		return;
	ASSERT(colon != NULL && strtoul(reply, NULL, 10) == strlen(colon) - 2);
	ASSERT(colon[1] == 'K' || colon[1] == 'Z' || colon[1] == 'D');
	ASSERT(reply[strlen(reply) - 1] == ',');
}

static void happen(unsigned what)
{
	if (f.s.wait == WAIT_ROOM && what % 3 == 0)
		session_submit_lost(&f.s);
	f.begin_error = 0;
	f.room_left = SIZE_MAX;
	session_room(&f.s);
	fake_settle(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *p = (const char *)data + 2;
	size_t step, left;

	if (len < 2)
		return 0;
	if (f.conf == NULL)
		setup();
	f.begun = f.ended = f.aborted = 0;
	f.verdict = (enum submit_verdict)(data[1] % 4);
	f.begin_error = (data[1] & 4) != 0 ? E_AGAIN : 0;
	f.room_left = (data[1] & 8) != 0 ? data[1] : SIZE_MAX;
	fake_connect(&f, "192.0.2.1");
	step = data[0] + 1u;
	left = len - 2;
	while (left > 0 && !session_is_over(&f.s)) {
		size_t n = size_min(step, left);

		session_input(&f.s, p, n);
		fake_settle(&f);
		happen(data[1] >> 4);
		p += n;
		left -= n;
	}
	clock_fake_advance(2000);
	session_tick(&f.s);
	fake_settle(&f);
	if (f.ended > 0)
		check_content();
	check_reply();
	session_eof(&f.s);
	fake_settle(&f);
	fake_close(&f);
	ASSERT(f.begun == f.ended + f.aborted || f.begun == f.ended);
	return 0;
}
