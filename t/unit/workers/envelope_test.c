/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Envelope encoding: round trip, damage, limits. */
#include "workers/mail/envelope.h"

#include <stdlib.h>

#include "lib/err.h"
#include "t/unit/tap.h"
#include "workers/mail/verp.h"

static struct arena arena;

static void fill(struct envelope *e)
{
	static struct sv prepend[] = { { "X-A: b", 6 }, { "X-C: d", 6 } };

	*e = (struct envelope){
		.sender = SV("from@example.org"),
		.envid = SV("id+1"),
		.client_name = SV("host.example"),
		.client_addr = SV("192.0.2.1"),
		.client_port = SV("4711"),
		.helo = SV("helo"),
		.proto = SV("ESMTP"),
		.sasl_method = SV("PLAIN"),
		.sasl_user = SV("u"),
		.sasl_sender = SV("s@x"),
		.filter = SV("smtp:[f]"),
		.cleanup = SV("sender-cleanup"),
		.redirect = SV("r@x"),
		.bounce_of = SV("Q 0 1 2"),
		.ret = DSN_RET_HDRS,
		.body = BODY_8BIT,
		.flags = ENVF_HOLD | ENVF_SMTPUTF8,
		.arrival_us = 1700000000123456,
		.size_hint = 300,
		.longest = 70000,
		.verp = SV("+="),
		.prepend = prepend,
		.prepend_count = 2,
	};
	for (int i = 0; i < 9; i++) {
		struct env_rcpt r = { .addr = SV("a@b.example"),
				      .notify = (uint8_t)(i == 3 ? 1 : 0) };

		if (i == 5) {
			r.orig_addr = SV("A@b.example");
			r.orcpt = SV("rfc822;A@b.example");
			r.notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
		}
		if (env_add_rcpt(e, &arena, &r) != 0)
			abort();
	}
}

static void test_round_trip(void)
{
	struct envelope e, back;
	struct buf a = BUF_INIT, b = BUF_INIT;

	fill(&e);
	is_int(env_encode(&e, &a), 0, "encodes");
	is_int(env_decode(buf_sv(&a), 100, &arena, &back), 0, "decodes");
	is_int(env_encode(&back, &b), 0, "encodes again");
	ok(sv_eq(buf_sv(&a), buf_sv(&b)), "same bytes after a round trip");
	is_int(back.rcpt_count, 9, "recipients");
	is_int(back.rcpts[3].notify, NOTIFY_NEVER, "notify");
	ok(sv_eq_str(back.rcpts[5].orcpt, "rfc822;A@b.example"), "orcpt");
	is_int(back.rcpts[6].orcpt.len, 0, "orcpt does not leak to the next one");
	is_int(back.arrival_us, 1700000000123456, "arrival");
	is_int(back.ret, DSN_RET_HDRS, "ret");
	ok(sv_eq_str(back.prepend[1], "X-C: d"), "prepend");
	is_int(env_decode(buf_sv(&a), 8, &arena, &back), E_LIMIT, "too many recipients");
	for (size_t n = 0; n < a.len; n++) {
		struct envelope part;
		char *exact = malloc(n + 1);

		memcpy(exact, a.p, n); /* so that a sanitizer sees one byte too many */
		int err = env_decode((struct sv){ exact, n }, 100, &arena, &part);

		if (err != 0 && err != E_SYNTAX)
			ok(false, "cut at %zu: %d", n, err);
		free(exact);
	}
	buf_fini(&a);
	buf_fini(&b);
}

static void test_damage(void)
{
	static const struct {
		const char *what;
		struct sv data;
		int want;
	} rows[] = {
		{ "empty", SV(""), 0 },
		{ "unknown tag", SV("\xc8\x01\0\0\0z"), 0 },
		{ "LF in sender", SV("\x01\x03\0\0\0a\nb"), E_SYNTAX },
		{ "CR in sender", SV("\x01\x03\0\0\0a\rb"), E_SYNTAX },
		{ "NUL in recipient", SV("\x20\x03\0\0\0a\0b"), E_SYNTAX },
		{ "LF in unknown tag", SV("\xc8\x01\0\0\0\n"), E_SYNTAX },
		{ "length past the end",
		  SV("\x01\xff\xff\xff\xff"
		     "a"),
		  E_SYNTAX },
		{ "number of 9 bytes",
		  SV("\x10\x09\0\0\0"
		     "123456789"),
		  E_SYNTAX },
		{ "flags beyond 32 bits",
		  SV("\x10\x05\0\0\0"
		     "12345"),
		  E_SYNTAX },
		{ "ret beyond its enum", SV("\x0e\x01\0\0\0\x03"), E_SYNTAX },
		{ "negative arrival", SV("\x11\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
		  E_SYNTAX },
		{ "NEVER with SUCCESS", SV("\x20\x01\0\0\0z\x23\x01\0\0\0\x03"), E_SYNTAX },
		{ "recipient attribute without recipient", SV("\x22\x01\0\0\0z"), E_SYNTAX },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct envelope e;

		is_int(env_decode(rows[i].data, 10, &arena, &e), rows[i].want, "%s", rows[i].what);
	}
}

static void test_limits(void)
{
	struct arena small;
	struct envelope e;
	struct buf out;
	int err = 0;

	arena_init(&small, 256, 1000);
	e = (struct envelope){ 0 };
	for (int i = 0; i < 100 && err == 0; i++)
		err = env_add_rcpt(&e, &small, &(struct env_rcpt){ .addr = SV("a@b") });
	is_int(err, E_LIMIT, "a full arena stops growth");
	buf_init(&out, 20);
	is_int(env_encode(&e, &out), E_LIMIT, "a limited buffer stops encoding");
	buf_fini(&out);
	arena_fini(&small);
	arena_init(&small, 64, 100);
	buf_init(&out, 0);
	fill(&e);
	is_int(env_encode(&e, &out), 0, "encodes");
	is_int(env_decode(buf_sv(&out), 100, &small, &e), E_LIMIT, "decode in a full arena");
	buf_fini(&out);
	arena_fini(&small);
}

static void test_verp(void)
{
	static const struct {
		const char *sender, *verp, *addr, *orig, *want;
	} cases[] = {
		{ "list@x.test", "+=", "u@y.test", "", "list+u=y.test@x.test" },
		{ "list@x.test", "=-", "u@y.test", "first@z.test", "list=first-z.test@x.test" },
		{ "list", "+=", "u", "", "list+u" },
		{ "li@st@x.test", "+=", "a@b@y.test", "", "li@st+a@b=y.test@x.test" },
		{ "list@x.test", "", "u@y.test", "", "list@x.test" },
		{ "", "+=", "u@y.test", "", "" },
		{ "list@x.test", "+", "u@y.test", "", "list@x.test" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct envelope e = { .sender = sv_from(cases[i].sender),
				      .verp = sv_from(cases[i].verp) };
		struct env_rcpt r = { .addr = sv_from(cases[i].addr),
				      .orig_addr = sv_from(cases[i].orig) };

		ok(sv_eq_str(verp_sender(&e, &r, &arena), cases[i].want), "verp: %s",
		   cases[i].want);
	}
	ok(verp_check_delimiters(SV("+="), "-=+") == NULL, "delimiters");
	ok(verp_check_delimiters(SV("+"), "-=+") != NULL, "one is too few");
	ok(verp_check_delimiters(SV("+!"), "-=+") != NULL, "one that is not allowed");
	ok(verp_check_delimiters((struct sv){ "\0=", 2 }, "-=+") != NULL, "nor is nothing");
}

static void test_notify(void)
{
	static const struct {
		const char *text;
		unsigned bits;
	} cases[] = {
		{ "NEVER", NOTIFY_NEVER },
		{ "success", NOTIFY_SUCCESS },
		{ "SUCCESS,FAILURE,Delay", NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY },
		{ "DELAY,DELAY", NOTIFY_DELAY },
		{ "", 0 },
		{ "NEVER,DELAY", 0 },
		{ "DELAY,", 0 },
		{ ",DELAY", 0 },
		{ "DELAY FAILURE", 0 },
		{ "SOMETIMES", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		is_int(env_notify_parse(sv_from(cases[i].text)), cases[i].bits, "NOTIFY=%s",
		       cases[i].text);
}

int main(void)
{
	test_notify();
	arena_init(&arena, 4096, 0);
	test_round_trip();
	test_damage();
	test_limits();
	test_verp();
	arena_fini(&arena);
	return tap_done();
}
