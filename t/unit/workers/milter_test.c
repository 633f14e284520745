/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The milter protocol without sockets: frames, replies, lists of the configuration, macros, and the
 * content that milters see and change. */
#include <stdlib.h>

#include "lib/err.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/milter/codec.h"
#include "workers/milter/content.h"
#include "workers/milter/spec.h"

static void test_frames(void)
{
	struct buf b = BUF_INIT;
	struct milter_frame f;
	size_t used = 0, mark = milter_begin(&b, MILTER_RCPT);
	struct sv s;
	uint32_t v;

	milter_put_u32(&b, 0x01020304);
	milter_put_string(&b, (struct sv){ "a\0b", 3 });
	milter_put_u16(&b, 0x4142);
	milter_end(&b, mark);
	is_int(b.len, 4 + 1 + 4 + 4 + 2, "length of a frame");
	for (size_t n = 0; n < b.len; n++)
		ok(milter_frame_get((struct sv){ b.p, n }, &f, &used) == E_AGAIN,
		   "%zu of its bytes are not enough", n);
	is_int(milter_frame_get(buf_sv(&b), &f, &used), 0, "all of them are");
	is_int(used, b.len, "and used");
	is_int(f.answer, MILTER_RCPT, "letter");
	ok(milter_get_u32(&f.data, &v) && v == 0x01020304, "a number");
	ok(milter_get_string(&f.data, &s) && sv_eq(s, SV("a b")), "a string, without NUL inside");
	ok(!milter_get_string(&f.data, &s), "no string without its end");
	ok(!milter_get_u32(&f.data, &v), "no number in two bytes");
	is_int(milter_frame_get((struct sv){ "\0\0\0\0c", 5 }, &f, &used), E_SYNTAX, "length 0");
	is_int(milter_frame_get((struct sv){ "\x7f\xff\xff\xff"
					     "c",
					     5 },
				&f, &used),
	       E_LIMIT, "an absurd length");
	buf_fini(&b);
}

static void test_replies(void)
{
	static const struct {
		const char *in, *out; /* NULL: not a reply */
	} cases[] = {
		{ "550 5.7.1 no", "550 5.7.1 no" },
		{ "450 ", "450 " },
		{ "450", NULL },
		{ "", NULL },
		{ "250 2.0.0 ok", NULL },
		{ "55x no", NULL },
		{ "550 4.7.1 no", NULL },
		{ "550-5.7.1 a\r\n550 5.7.1 b", "550-5.7.1 a\r\n550 5.7.1 b" },
		{ "550-a\r\n551 b", NULL },
		{ "550-a\r\n550-b", NULL },
		{ "550 a\r\n550 b", NULL },
		{ "550-a\n550 b", NULL },
		{ "550-a\r\n", NULL },
		{ "550 all 100%% of %s%", "550 all 100% of s" },
	};
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		bool good = milter_reply_text((struct sv){ cases[i].in, strlen(cases[i].in) + 1 },
					      &out);

		ok(good == (cases[i].out != NULL), "reply \"%s\"", cases[i].in);
		if (good)
			is_str(buf_cstr(&out), cases[i].out, "its text");
	}
	ok(!milter_reply_text((struct sv){ "550 a\0b", 8 }, &out), "a NUL inside");
	buf_fini(&out);
}

static int parse(const struct params *p, const char *text, struct milter_list *l)
{
	struct conf_diag d;
	int err;

	conf_diag_init(&d);
	err = milter_list_parse(p, text, "smtpd_milters", false, l, &d);
	conf_diag_fini(&d);
	return err;
}

static void test_lists(void)
{
	static const char *const wrong[] = {
		"nothing",
		"inet:",
		"tcp:host:25",
		"inet:host:0",
		"inet:host:none-such-port",
		"{ inet:h:1, default_action=maybe }",
		"{ inet:h:1, protocol=5 }",
		"{ inet:h:1, { protocol = 2 3 } }",
		"{ inet:h:1, colour=blue }",
		"{ }",
		"{ inet:h:1",
		"{ inet:h:1, command_timeout=never }",
		"{ inet:h:1, command_timeout=0 }",
	};
	struct conf *c = test_conf("queue_directory = /q\nmilter_connect_timeout = 7s\n"
				   "milter_default_action = reject\n");
	struct milter_list l;

	ok(parse(conf_params(c),
		 "inet:h.test:8891, unix:/run/m.sock local:below/m.sock "
		 "{ inet:[::1]:9, command_timeout=3s, default_action=accept, "
		 "{ protocol = 4 no_header_reply } }",
		 &l) == 0,
	   "a list of milters");
	if (l.count != 4) {
		conf_free(&c);
		return;
	}
	is_str(l.specs[0].host, "h.test", "host");
	is_int(l.specs[0].port, 8891, "port");
	is_int(l.specs[0].connect_ms, 7000, "time limit of the configuration");
	is_int(l.specs[0].on_error, MILTER_ON_ERROR_REJECT, "default action of the configuration");
	is_int(l.specs[0].version, 6, "version");
	is_str(l.specs[1].path, "/run/m.sock", "path");
	is_str(l.specs[2].path, "/q/below/m.sock", "relative path");
	is_str(l.specs[3].host, "::1", "IPv6 address");
	is_int(l.specs[3].command_ms, 3000, "own time limit");
	is_int(l.specs[3].on_error, MILTER_ON_ERROR_ACCEPT, "own default action");
	is_int(l.specs[3].version, 4, "own version");
	ok((l.specs[3].steps & MILTER_NR_HEADER) != 0 && (l.specs[3].steps & MILTER_CAN_SKIP) == 0,
	   "steps of version 4, and no_header_reply");
	milter_list_free(&l);
	ok(parse(conf_params(c), "", &l) == 0 && l.count == 0, "an empty list");
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
		is_int(parse(conf_params(c), wrong[i], &l), E_CONFIG, "%s", wrong[i]);
	is_int(milter_version_lacks(6), 0, "version 6 has all events");
	is_int(milter_version_lacks(5), 0x0, "version 5 is taken for 4");
	is_int(milter_version_lacks(3), MILTER_NO_DATA, "version 3 has no DATA");
	is_int(milter_version_lacks(2), MILTER_NO_DATA | MILTER_NO_UNKNOWN, "version 2");
	conf_free(&c);
}

static const char *value_of(void *ctx, const char *name)
{
	(void)ctx;
	return strcmp(name, "{i}") == 0 ? "ID" : strcmp(name, "{empty}") == 0 ? "" : NULL;
}

static void test_macros(void)
{
	static const char expected[] = "i\0ID\0{i}\0ID\0{empty}\0\0{x}\0of x\0y\0\0";
	struct buf out = BUF_INIT;

	milter_macros_add("i, {i} {empty} {x}, y z", "{ {x} = of x } y=", value_of, NULL, &out);
	ok(sv_eq(buf_sv(&out), (struct sv){ expected, sizeof(expected) - 1 }),
	   "macros, with defaults for those without a value");
	buf_fini(&out);
}

/* ---- content ---- */

#define HEAD "Received: ours\r\nReceived: theirs\r\n\tby b\r\nSubject:  x\r\n..Dot: y\r\n\r\n"
#define BODY "a\r\n..b\r\n\r\nc\r\n"

static struct arena arena;

static void begin(struct milter_content *c, uint64_t limit)
{
	arena_init(&arena, 1024, 1 << 20);
	milter_content_begin(c, &arena, SV(HEAD), SV(BODY), true, limit);
}

static void result_is(struct milter_content *c, const char *text, const char *what)
{
	struct buf out = BUF_INIT;

	milter_content_put(c, &out);
	is_str(buf_cstr(&out), text, "%s", what);
	buf_fini(&out);
	milter_content_fini(c);
	arena_fini(&arena);
}

static void test_seen(void)
{
	static const char *const seen[] = { "Received: theirs\n\tby b", "Subject:  x", ".Dot: y" };
	struct buf name = BUF_INIT, value = BUF_INIT, out = BUF_INIT;
	struct milter_content c;
	size_t at = 0, n = 0;

	begin(&c, 0);
	while (milter_content_header(&c, &at, &name, &value)) {
		buf_add_c(&name, ':');
		buf_add_sv(&name, buf_sv(&value));
		is_str(buf_cstr(&name), n < 3 ? seen[n] : "", "a header, not our own one");
		n++;
	}
	is_int(n, 3, "three headers");
	for (size_t max = 1; max < 12; max++) {
		buf_reset(&out);
		at = 0;
		while (milter_content_body(&c, &at, max, &out))
			continue;
		is_str(buf_cstr(&out), "a\r\n.b\r\n\r\nc\r\n", "the body, without stuffed dots");
	}
	result_is(&c, HEAD BODY, "nothing is changed");
	buf_fini(&name);
	buf_fini(&value);
	buf_fini(&out);
}

static void test_headers(void)
{
	struct milter_content c;

	begin(&c, 0);
	milter_content_mark(&c);
	is_int(milter_content_insert(&c, 0, SV("Top: 0")), 0, "insert in front of our own header");
	is_int(milter_content_insert(&c, 2, SV("Mid: 1")), 0, "insert");
	is_int(milter_content_insert(&c, 99, SV(".End: 2")), 0, "insert behind all");
	is_int(milter_content_add(&c, SV("Add: a\nb\r\n c\n\nd")), 0, "add");
	is_int(milter_content_change(&c, 1, SV("received"), SV("Received: new")), 0, "change");
	is_int(milter_content_change(&c, 2, SV("Received"), SV("Received: third")), 0,
	       "change what is not there");
	milter_content_delete(&c, 1, SV("Subject"));
	milter_content_delete(&c, 1, SV("Nothing"));
	is_int(milter_content_add(&c, SV("no name")), E_SYNTAX, "no colon");
	is_int(milter_content_add(&c, SV("a b: c")), E_SYNTAX, "blank in the name");
	is_int(milter_content_add(&c, SV("a\nb: c")), E_SYNTAX, "line end in the name");
	result_is(&c,
		  "Top: 0\r\nReceived: ours\r\nMid: 1\r\nReceived: new\r\n..Dot: y\r\n..End: 2\r\n"
		  "Add: a\r\n\tb\r\n c\r\n\t\r\n\td\r\nReceived: third\r\n\r\n" BODY,
		  "headers in their places; a value never ends the header section");
}

static void test_body(void)
{
	struct milter_content c;

	begin(&c, 0);
	milter_content_mark(&c);
	milter_content_replace(&c, SV(".x\r"));
	milter_content_replace(&c, SV("\n.y\nlone\rcr\r"));
	milter_content_replace(&c, SV("end"));
	milter_content_replaced(&c);
	result_is(&c, HEAD "..x\r\n..y\r\nlone cr end\r\n", "a new body is in wire form");
}

static void test_undo(void)
{
	struct milter_content c;

	begin(&c, 0);
	milter_content_mark(&c);
	milter_content_add(&c, SV("A: kept"));
	milter_content_mark(&c);
	milter_content_add(&c, SV("B: b"));
	milter_content_delete(&c, 1, SV("A"));
	milter_content_replace(&c, SV("half"));
	milter_content_undo(&c);
	result_is(&c,
		  "Received: ours\r\nReceived: theirs\r\n\tby b\r\nSubject:  x\r\n..Dot: y\r\n"
		  "A: kept\r\n\r\n" BODY,
		  "what a milter began and did not end is undone, what another did is not");
}

static void test_bounds(void)
{
	struct milter_content c;
	int err = 0;
	unsigned n = 0;

	begin(&c, 100);
	milter_content_mark(&c);
	while (err == 0 && n++ < 100)
		err = milter_content_add(&c, SV("A: 0123456789"));
	ok(err == E_LIMIT && n < 10, "headers without end");
	is_int(milter_content_replace(&c, SV("x")), 0, "a body");
	for (n = 0, err = 0; err == 0 && n < 1000; n++)
		err = milter_content_replace(&c, SV("0123456789"));
	ok(err == E_LIMIT && n < 20, "a body without end");
	milter_content_fini(&c);
	arena_fini(&arena);
}

int main(void)
{
	test_frames();
	test_replies();
	test_lists();
	test_macros();
	test_seen();
	test_headers();
	test_body();
	test_undo();
	test_bounds();
	return tap_done();
}
