/* SPDX-License-Identifier: GPL-3.0-or-later */
/* header_checks and body_checks: what tables see, every action, and messages in pieces. */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/rewrite/message.h"

static const char main_cf[] =
	"mydestination = mx.example.org\n"
	"header_size_limit = 3000\n"
	"line_length_limit = 512\n"
	"body_checks_size_limit = 4000\n"
	"header_checks = regexp:{\n"
	" {/^X-Reject: ?(.*)/ REJECT $$1}\n"
	" {/^X-Warn:/ WARN take care} {/^X-Info:/ INFO} {/^X-Strip:/ STRIP} {/^X-Ignore:/ IGNORE}\n"
	" {/^X-Pass:/ PASS} {/^X-Discard:/ DISCARD spam} {/^X-Hold:/ HOLD} {/^X-Ok:/ OK}\n"
	" {/^X-Filter: (.*)/ FILTER $$1} {/^X-Redirect: (.*)/ REDIRECT $$1} {/^X-Bcc: (.*)/ BCC "
	"$$1}\n"
	" {/^X-Prepend: (.*)/ PREPEND $$1} {/^X-Replace: (.*)/ REPLACE $$1} {/^X-What:/ WHAT}\n"
	" {/^X-Fold: one(.)two$$/ REPLACE X-Folded: $$1x} {/^X-Replace:$$/ REPLACE}\n"
	" {/^X-Space: y/ REPLACE X-Was: spaced} {/^Received: .*drop/ IGNORE} {/^\\.dot:/ REPLACE "
	".Dot: "
	"yes} }\n"
	"mime_header_checks = regexp:{ {/^Content-.*name=.*\\.exe/ REJECT no programs} "
	"{/^Content-Disposition: drop/ IGNORE} {/^Part:/ REPLACE Part: seen} }\n"
	"nested_header_checks = regexp:{ {/^Subject: (.*)/ REPLACE Subject: nested $$1} }\n"
	"body_checks = regexp:{ {/^reject (.*)/ REJECT $$1} {/^drop/ IGNORE} {/^old/ REPLACE .new} "
	"{/^pre/ PREPEND .before} {/^copy/ BCC copy@x.test} {/^late/ REJECT} {/^--q$$/ WARN} }\n";

static struct rules rules;
static struct message m;
static struct buf logged;

static void sink(void *ctx, enum log_level level, const char *program, const char *text, size_t len)
{
	(void)ctx;
	(void)program;
	buf_printf(&logged, "%s%.*s\n", level == LOG_LEVEL_INFO ? "" : "! ", (int)len, text);
}

static struct buf got;

/* Returns the code of the verdict (250, 1 = discarded); the content that is left is in `got`. */
static int submit_flags(const char *content, size_t step, uint32_t flags)
{
	struct env_rcpt r[2] = { { .addr = SV("a@far.test") }, { .addr = SV("b@far.test") } };
	struct envelope e = { .sender = SV("s@s.test"),
			      .client_name = SV("client.test"),
			      .client_addr = SV("192.0.2.1"),
			      .proto = SV("ESMTP"),
			      .helo = SV("helo.test"),
			      .rcpts = r,
			      .rcpt_count = 2,
			      .flags = flags,
			      .arrival_us = clock_now_wall().us - 1000 };
	struct buf env = BUF_INIT;
	size_t len = strlen(content);
	const struct message_verdict *v;
	int err;

	buf_reset(&logged);
	buf_reset(&got);
	env_encode(&e, &env);
	err = message_begin(&m, (struct qid){ .time_us = 1700000000000000, .life = 7 },
			    buf_sv(&env));
	buf_fini(&env);
	for (size_t at = 0; err == 0 && at < len; at += step) {
		size_t n = size_min(step, len - at);
		bool cr = m.wire.cr;
		char *piece = xmalloc(n + 1);
		struct sv body;

		piece[0] = '\r';
		memcpy(piece + cr, content + at, n);
		err = message_feed(&m, piece, n + cr, &body);
		buf_add_sv(&got, buf_sv(&m.out));
		buf_reset(&m.out);
		buf_add_sv(&got, body);
		free(piece);
	}
	if (err < 0)
		return -1;
	v = message_finish(&m, &err);
	buf_add_sv(&got, buf_sv(&m.out));
	if (err < 0)
		return -1;
	return v->verdict == SUBMIT_OK ? 250 : v->verdict == SUBMIT_DISCARDED ? 1 : v->code;
}

static int submit(const char *content)
{
	return submit_flags(content, 100000, 0);
}

static void test_reject(void)
{
	is_int(submit("X-Reject: go away\r\n\r\n"), 550, "REJECT");
	is_str(m.failed.text, "go away", "its text");
	is_int(m.failed.dsn[0] * 100 + m.failed.dsn[1] * 10 + m.failed.dsn[2], 571, "5.7.1");
	ok(strstr(buf_cstr(&logged),
		  ": reject: header X-Reject: go away from client.test[192.0.2.1]; "
		  "from=<s@s.test> to=<b@far.test> proto=ESMTP helo=<helo.test>: 5.7.1 go "
		  "away\n") != NULL,
	   "logged as cleanup does");
}

static void test_reject_forms(void)
{
	static const struct {
		const char *header, *text;
		int code, dsn;
	} cases[] = {
		{ "X-Reject:", "message content rejected", 550, 571 },
		{ "X-Reject: 4.7.9 later", "later", 451, 479 },
		{ "X-Reject: 5.1.8 no", "no", 550, 518 },
		{ "X-Reject: 2.0.0 odd", "odd", 451, 471 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char text[200];

		snprintf(text, sizeof(text), "%s\r\n\r\nbody\r\n", cases[i].header);
		is_int(submit(text), cases[i].code, "%s: code", cases[i].header);
		is_str(m.failed.text, cases[i].text, "%s: text", cases[i].header);
		is_int(m.failed.dsn[0] * 100 + m.failed.dsn[1] * 10 + m.failed.dsn[2], cases[i].dsn,
		       "%s: status", cases[i].header);
	}
	ok(strstr(buf_cstr(&logged), "! ") != NULL, "a status of another class is warned about");
}

/* What comes out of a content without conditions on the way. */
static void test_content(void)
{
	static const struct {
		const char *name, *in, *want, *log;
	} cases[] = {
		{ "WARN", "X-Warn: a\r\n\r\nx\r\n", "X-Warn: a\r\n\r\nx\r\n",
		  ": warning: header X-Warn: a from" },
		{ "INFO", "X-Info: a\r\n\r\n", "X-Info: a\r\n\r\n", ": info: header" },
		{ "STRIP", "X-Strip: a\r\n b\r\nA: b\r\n\r\n", "A: b\r\n\r\n", ": strip: header" },
		{ "IGNORE", "X-Ignore: a\r\n\r\n", "\r\n", "" },
		{ "OK", "X-Ok: a\r\n\r\n", "X-Ok: a\r\n\r\n", "" },
		{ "unknown action", "X-What: a\r\n\r\n", "X-What: a\r\n\r\n",
		  "unknown command in header_checks map: WHAT" },
		{ "PREPEND", "X-Prepend: N: v\r\n\r\n", "N: v\r\nX-Prepend: N: v\r\n\r\n",
		  ": prepend: header" },
		{ "PREPEND of no header", "X-Prepend: nothing\r\n\r\n",
		  "X-Prepend: nothing\r\n\r\n", "! " },
		{ "REPLACE", "X-Replace: N: v\r\n\r\n", "N: v\r\n\r\n", ": replace: header" },
		{ "REPLACE without text", "X-Replace:\r\n\r\n", "X-Replace:\r\n\r\n", "! " },
		{ "folded header, put out again", "X-Fold: one\r\n two\r\n\r\n",
		  "X-Fold: one\r\n two\r\n\r\n", "" },
		{ "PASS ends all checks", "X-Pass: a\r\nX-Strip: b\r\n\r\nreject it\r\n",
		  "X-Pass: a\r\nX-Strip: b\r\n\r\nreject it\r\n", ": pass: header" },
		{ "space before the colon", "X-Space : y\r\n\r\n", "X-Was: spaced\r\n\r\n", "" },
		{ "name with a dot", "..dot: a\r\n\r\n", "..Dot: yes\r\n\r\n", "" },
		{ "no header section", "old times\r\nold\r\n", "\r\n..new\r\n..new\r\n", "" },
		{ "body", "A: b\r\n\r\ndrop\r\nold\r\npre\r\n..\r\nend\r\n",
		  "A: b\r\n\r\n..new\r\n..before\r\npre\r\n..\r\nend\r\n", ": replace: body old" },
		{ "parts",
		  "Content-Type: multipart/mixed;\r\n boundary=q\r\n\r\n--q\r\nPart: x\r\n"
		  "Content-Disposition: drop\r\n it\r\nOther: y\r\n z\r\n\r\nPart: body\r\n--q\r\n"
		  "Content-Type: message/rfc822\r\n\r\nSubject: hi\r\nPart: "
		  "z\r\n\r\nt\r\n--q--\r\n",
		  "Content-Type: multipart/mixed;\r\n boundary=q\r\n\r\n--q\r\nPart: seen\r\n"
		  "Other: y\r\n z\r\n\r\nPart: body\r\n--q\r\nContent-Type: message/rfc822\r\n\r\n"
		  "Subject: nested hi\r\nPart: z\r\n\r\nt\r\n--q--\r\n",
		  ": warning: body --q from" },
		{ "ends within a part's header",
		  "Content-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nPart: x\r\n y\r\n",
		  "Content-Type: multipart/mixed; boundary=q\r\n\r\n--q\r\nPart: seen\r\n", "" },
		{ "only headers", "X-Replace: N: v\r\n", "N: v\r\n", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		is_int(submit(cases[i].in), 250, "%s: accepted", cases[i].name);
		is_str(buf_cstr(&got), cases[i].want, "%s: content", cases[i].name);
		ok(strstr(buf_cstr(&logged), cases[i].log) != NULL, "%s: log", cases[i].name);
		for (size_t step = 1; step < 20; step++) {
			submit_flags(cases[i].in, step, 0);
			if (strcmp(buf_cstr(&got), cases[i].want) != 0)
				break;
		}
		is_str(buf_cstr(&got), cases[i].want, "%s: in pieces", cases[i].name);
	}
}

static void test_override(void)
{
	const char *text = "X-Reject: a\r\nX-Strip: b\r\n\r\nold\r\n";

	is_int(submit_flags(text, 7, ENVF_NO_CHECKS), 250, "no_header_body_checks");
	is_str(buf_cstr(&got), text, "leaves everything alone");
}

static void test_envelope(void)
{
	is_int(submit("X-Discard: a\r\n\r\nreject it\r\n"), 1, "DISCARD");
	is_int(submit("X-Hold: a\r\n\r\n"), 250, "HOLD");
	ok(m.hdr.flags & MSGF_HOLD, "is held");
	is_int(submit("X-Filter: smtp:[192.0.2.5]:25\r\n\r\n"), 250, "FILTER");
	is_int(m.plan.dest_count, 1, "one destination");
	ok(sv_eq_str(m.plan.dests[0].nexthop, "[192.0.2.5]:25"), "the filter");
	is_int(submit("X-Filter: nothing\r\n\r\n"), 250, "bad FILTER");
	ok(strstr(buf_cstr(&logged), "need transport:destination") != NULL, "warns");
	is_int(submit("X-Redirect: new@new.test\r\n\r\nreject it\r\n"), 250,
	       "REDIRECT ends checks");
	is_int(m.env.rcpt_count, 1, "to one");
	ok(sv_eq_str(m.env.rcpts[0].addr, "new@new.test"), "to that one");
	is_int(submit("X-Redirect: nobody\r\n\r\n"), 250, "bad REDIRECT");
	is_int(m.env.rcpt_count, 2, "changes nothing");
	is_int(submit("X-Bcc: c@x.test\r\nX-Bcc: c@x.test\r\nX-Bcc: a@far.test\r\n\r\n"), 250,
	       "BCC");
	is_int(m.env.rcpt_count, 3, "each once");
	is_int(m.env.rcpts[2].notify, NOTIFY_NEVER, "without notifications");
}

static void test_many_bcc(void)
{
	struct buf text = BUF_INIT;

	for (int i = 0; i < 300; i++)
		buf_printf(&text, "X-Bcc: c%d@x.test\r\n", i);
	buf_add_str(&text, "\r\n");
	is_int(submit(buf_cstr(&text)), 250, "many BCC");
	is_int(m.env.rcpt_count, 102, "are bounded");
	buf_fini(&text);
}

static void test_long(void)
{
	struct buf text = BUF_INIT, want = BUF_INIT;

	buf_add_str(&text, "A: b\r\n\r\n");
	for (int i = 0; i < 1300; i++)
		buf_add_c(&text, "abcdefghij.klm"[i % 14]);
	buf_add_str(&text, "\r\n..x\r\n");
	is_int(submit(buf_cstr(&text)), 250, "a long line");
	is_str(buf_cstr(&got), buf_cstr(&text), "comes out as it went in");
	for (size_t step = 500; step < 530; step++) {
		submit_flags(buf_cstr(&text), step, 0);
		if (strcmp(buf_cstr(&got), buf_cstr(&text)) != 0)
			break;
	}
	is_str(buf_cstr(&got), buf_cstr(&text), "in pieces, too");
	for (int n = 505; n < 520; n++) { /* line ends around the place where it is parted */
		buf_reset(&text);
		buf_add_str(&text, "A: b\r\n\r\n");
		for (int i = 0; i < n; i++)
			buf_add_c(&text, 'x');
		buf_add_str(&text, "\r\ndrop\r\n");
		buf_reset(&want);
		buf_add(&want, text.p, text.len - 6);
		submit(buf_cstr(&text));
		is_str(buf_cstr(&got), buf_cstr(&want), "%d bytes before a line end", n);
	}
	for (size_t step = 1; step < 1100; step += step < 505 || step > 520 ? 101 : 1) {
		buf_reset(&text);
		buf_add_str(&text, "A: b\r\n\r\n");
		for (int i = 0; i < 512; i++)
			buf_add_c(&text, 'x');
		buf_reset(&want);
		buf_add_sv(&want, buf_sv(&text));
		buf_add_str(&text, "old text\r\nend\r\n");
		buf_add_str(&want, ".new\r\nend\r\n");
		submit_flags(buf_cstr(&text), step, 0);
		is_str(buf_cstr(&got), buf_cstr(&want), "the second piece, by %zu", step);
	}
	buf_reset(&text);
	buf_add_str(&text, "Content-Type: message/rfc822\r\n\r\nSubject: ");
	for (int i = 0; i < 5000; i++)
		buf_add_c(&text, 'y');
	buf_add_str(&text, "\r\nA: b\r\n\r\nz\r\n");
	is_int(submit(buf_cstr(&text)), 250, "a long nested header");
	ok(strstr(buf_cstr(&got), "Subject: nested yyy") != NULL, "is checked");
	ok(strstr(buf_cstr(&got), "y\r\nA: b\r\n\r\nz\r\n") != NULL, "and what follows is there");
	ok(got.len < 3200, "and cut to header_size_limit");
	buf_reset(&text);
	buf_add_str(&text, "A: b\r\n\r\n");
	for (int i = 0; i < 400; i++)
		buf_add_str(&text, "ten bytes\r\n");
	buf_add_str(&text, "late\r\n");
	is_int(submit(buf_cstr(&text)), 250, "body_checks_size_limit");
	is_str(buf_cstr(&got), buf_cstr(&text), "nothing is lost");
	buf_fini(&text);
	buf_fini(&want);
}

/* A piece that is left out must never make what follows it begin a line of another kind. */
static void test_wire_form(void)
{
	for (int n = 500; n < 520; n++) {
		struct wire w = { 0 };
		char text[600];
		size_t usable;
		bool good;

		snprintf(text, sizeof(text), "A: b\r\n\r\ndrop%0*d.\r\nQUIT\r\n", n, 0);
		submit(text);
		good = wire_check(&w, got.p, got.len, &usable) == 0 && wire_end(&w) == 0;
		if (!ok(good, "a piece of %d bytes is dropped: wire form", n))
			printf("# %s\n", buf_cstr(&got));
	}
}

static void test_table_error(void)
{
	struct conf *c = test_conf("header_checks = regexp:/nonexistent/checks\n");
	struct conf_diag d;
	struct rules broken, good = rules;

	conf_diag_init(&d);
	is_int(rules_open(c, &broken, &d), 0, "a table that is not there");
	rules = broken;
	is_int(submit("A: b\r\n\r\n"), 451, "mail waits for it");
	ok(strstr(buf_cstr(&logged), "header_checks map lookup problem") != NULL, "and says why");
	rules = good;
	rules_close(&broken);
	conf_diag_fini(&d);
	conf_free(&c);
}

/* What the strict_* parameters and message_*_characters forbid, however the message is cut into
 * pieces. Text stands for what is left, or for what the client is told. */
static void test_strict(void)
{
	static const struct {
		const char *name, *in, *out;
		int code, dsn;
	} cases[] = {
		{ "nothing", "A: b\r\n\r\nx\r\n", "A: b\r\n\r\nx\r\n", 250, 0 },
		{ "header", "A: \xe9\r\n\r\nx\r\n", "improper use of 8-bit data in message header",
		  550, 560 },
		{ "body", "A: b\r\n\r\n\xe9\r\n", "improper use of 8-bit data in message body", 550,
		  560 },
		{ "8bit is said", "Content-Transfer-Encoding: 8bit\r\n\r\n\xe9\r\n",
		  "Content-Transfer-Encoding: 8bit\r\n\r\n\xe9\r\n", 250, 0 },
		{ "of another part",
		  "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: "
		  "8bit\r\n\r\n--b\r\n\r\n\xe9\r\n",
		  "improper use of 8-bit data in message body", 550, 560 },
		{ "an encoded multipart",
		  "Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: "
		  "base64\r\n\r\n--b\r\n\r\nx\r\n",
		  "invalid message/* or multipart/* encoding domain", 550, 560 },
		{ "an encoded message",
		  "Content-Transfer-Encoding: quoted-printable\r\nContent-Type: "
		  "message/rfc822\r\n\r\nA: b\r\n",
		  "invalid message/* or multipart/* encoding domain", 550, 560 },
		{ "a part of a message, 8bit",
		  "Content-Transfer-Encoding: 8bit\r\nContent-Type: message/partial\r\n\r\nx\r\n",
		  "invalid message/* or multipart/* encoding domain", 550, 560 },
		{ "message/global",
		  "Content-Transfer-Encoding: base64\r\nContent-Type: "
		  "message/global\r\n\r\neA==\r\n",
		  "Content-Transfer-Encoding: base64\r\nContent-Type: "
		  "message/global\r\n\r\neA==\r\n",
		  250, 0 },
		{ "refused character", "A: b\r\n\r\nx\r\ny\x7fz\r\n", "disallowed character", 550,
		  571 },
		{ "stripped characters",
		  "A: b\x02\x03\r\n\r\n\x02.x\r\n..\r\n..\x03y\r\n\x03\r\nz\x02\r\n",
		  "A: b\r\n\r\n..x\r\n..\r\n..y\r\n\r\nz\r\n", 250, 0 },
	};
	static const size_t steps[] = { 4096, 1, 2, 3, 7 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
			is_int(submit_flags(cases[i].in, steps[s], 0), cases[i].code, "%s, by %zu",
			       cases[i].name, steps[s]);
			if (cases[i].code == 250) {
				is_str(buf_cstr(&got), cases[i].out, "%s: text", cases[i].name);
				continue;
			}
			is_str(m.failed.text, cases[i].out, "%s: why", cases[i].name);
			is_int(m.failed.dsn[0] * 100 + m.failed.dsn[1] * 10 + m.failed.dsn[2],
			       cases[i].dsn, "%s: status", cases[i].name);
		}
	}
	submit("A: \xe9\r\n\r\nx\r\n");
	ok(strstr(buf_cstr(&logged), ": reject: mime-error improper use of 8-bit data in message "
				     "header: A: ? from client.test[192.0.2.1]; "
				     "from=<s@s.test> to=<b@far.test>\n") != NULL,
	   "logged as cleanup does");
	submit("A: b\r\n\r\nx\r\ny\x7fz\r\n");
	ok(strstr(buf_cstr(&logged),
		  ": reject: content y?z from client.test[192.0.2.1]; from=<s@s.test> "
		  "to=<b@far.test> "
		  "proto=ESMTP helo=<helo.test>: disallowed character\n") != NULL,
	   "a character, too");
	is_int(submit_flags("A: \xe9\r\n\r\nx\x7f\r\n", 100, ENVF_NO_CHECKS), 250,
	       "no_header_body_checks");
	is_int(submit("A: b\r\n"
		      "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
		      "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
		      "Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n"),
	       550, "nested too deep");
	is_str(m.failed.text, "MIME nesting exceeds safety limit", "and why");
}

static void with_rules(const char *text, void (*test)(void))
{
	struct conf *c = test_conf(text);
	struct conf_diag d;

	conf_diag_init(&d);
	if (!ok(c != NULL && rules_open(c, &rules, &d) == 0, "configuration: %s", text))
		printf("# %s", buf_cstr(&d.text));
	message_init(&m, &rules);
	test();
	message_fini(&m);
	rules_close(&rules);
	conf_diag_fini(&d);
	conf_free(&c);
}

/* non_empty_end_of_header_action */
static const char unended[] = "A: b\r\n..no header\r\nC: d\r\n";

static void test_unended_add(void)
{
	for (size_t step = 1; step < 40; step += 3) {
		is_int(submit_flags(unended, step, 0), 250, "taken by %zu", step);
		is_str(buf_cstr(&got),
		       "A: b\r\nMIME-Error: message header was not terminated by empty line\r\n\r\n"
		       "..no header\r\nC: d\r\n",
		       "and marked");
	}
	submit("A: b\r\n\r\nx\r\n");
	is_str(buf_cstr(&got), "A: b\r\n\r\nx\r\n", "a good one is not");
	submit("A: b\r\n");
	is_str(buf_cstr(&got), "A: b\r\n", "nor one without a body");
	submit_flags(unended, 100, ENVF_NO_CHECKS);
	is_str(buf_cstr(&got), "A: b\r\n\r\n..no header\r\nC: d\r\n", "no_header_body_checks");
}

static void test_unended_reject(void)
{
	for (size_t step = 1; step < 21; step += 19) {
		is_int(submit_flags(unended, step, 0), 550, "refused by %zu", step);
		is_str(m.failed.text, "primary header was terminated with non-empty line",
		       "and why");
	}
	submit(unended);
	ok(strstr(buf_cstr(&logged), ": reject: mime-error primary header was terminated with "
				     "non-empty line: .no header from client.test[192.0.2.1]; "
				     "from=<s@s.test> to=<b@far.test>\n") != NULL,
	   "logged as cleanup does");
	is_int(submit("A: b\r\n\r\nx\r\n"), 250, "a good one is taken");
	is_int(submit("A: b\r\nContent-Transfer-Encoding: 8bit\r\n\xe9\x20x: y\r\n"), 550,
	       "refused with 8 bits in it");
}

/* force_mime_input_conversion */
static void test_force(void)
{
	static const struct {
		const char *name, *in, *out;
	} cases[] = {
		{ "nothing to convert", "A: b\r\n\r\nx=\xe9\r\n", "A: b\r\n\r\nx=\xe9\r\n" },
		{ "text", "A: b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nx=\xe9 \r\n..y\r\n",
		  "A: b\r\nContent-Transfer-Encoding: "
		  "quoted-printable\r\n\r\nx=3D=E9=20\r\n..y\r\n" },
		{ "no body", "A: b\r\nContent-Transfer-Encoding: 8bit\r\n",
		  "A: b\r\nContent-Transfer-Encoding: quoted-printable\r\n" },
		{ "no empty line", "Content-Transfer-Encoding: 8bit\r\n\xe9 a: b\r\n",
		  "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E9 a: b\r\n" },
		{ "parts",
		  "Content-Type: multipart/mixed; boundary=q\r\nContent-Transfer-Encoding: "
		  "8bit\r\n\r\n--q\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xe9\r\n--q\r\n"
		  "Content-Transfer-Encoding: base64\r\n\r\n6Q==\r\n--q--\r\n",
		  "Content-Type: multipart/mixed; boundary=q\r\nContent-Transfer-Encoding: "
		  "7bit\r\n\r\n--q\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=E9\r\n"
		  "--q\r\nContent-Transfer-Encoding: base64\r\n\r\n6Q==\r\n--q--\r\n" },
	};
	bool checked = rules.chains[0].checks.any;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t step = 1; step < 5000; step = step * 3 + 1) {
			is_int(submit_flags(cases[i].in, step, 0), 250, "%s, by %zu%s",
			       cases[i].name, step, checked ? ", with checks" : "");
			is_str(buf_cstr(&got), cases[i].out, "what is left");
			ok(m.env.body != BODY_8BIT, "no 8BITMIME is needed");
		}
	}
}

static void test_force_checks(void)
{
	test_force();
	is_int(submit("Content-Transfer-Encoding: 8bit\r\n\r\n\xe9 word\r\n"), 550,
	       "body_checks see it encoded");
}

/* Both together: what ends the header is judged as it came. */
static void test_force_unended(void)
{
	is_int(submit("Content-Transfer-Encoding: 8bit\r\n\xe9 x: y\r\n"), 550,
	       "it is no header once it is encoded");
	is_int(submit("Content-Transfer-Encoding: 8bit\r\n\xe9x: y\r\n\r\n"), 550, "nor this");
	is_int(submit("A: b\r\n\r\nx\r\n"), 250, "a good one");
}

static void test_force_refused(void)
{
	struct conf *c = test_conf("force_mime_input_conversion = yes\n"
				   "disable_mime_input_processing = yes\n");
	struct conf_diag d;

	conf_diag_init(&d);
	is_int(rules_open(c, &rules, &d), E_CONFIG, "conversion without MIME is refused");
	conf_diag_fini(&d);
	conf_free(&c);
}

/* The configuration of the tests above, and strict. */
static void run_strict(void)
{
	struct conf *c = test_conf("myhostname = mx.example.org\nstrict_8bitmime = yes\n"
				   "strict_mime_encoding_domain = yes\nmime_nesting_limit = 2\n"
				   "message_reject_characters = \\177\n"
				   "message_strip_characters = \\2\\003\n");
	struct conf_diag d;

	conf_diag_init(&d);
	if (!ok(c != NULL && rules_open(c, &rules, &d) == 0, "strict configuration"))
		printf("# %s", buf_cstr(&d.text));
	message_init(&m, &rules);
	test_strict();
	message_fini(&m);
	rules_close(&rules);
	conf_diag_fini(&d);
	conf_free(&c);
}

int main(void)
{
	struct conf *c = test_conf(main_cf);
	struct conf_diag d;

	clock_init();
	clock_tick();
	conf_diag_init(&d);
	log_set_sink(sink, NULL);
	if (!ok(c != NULL && rules_open(c, &rules, &d) == 0, "configuration"))
		printf("# %s", buf_cstr(&d.text));
	message_init(&m, &rules);
	test_reject();
	test_reject_forms();
	test_content();
	test_override();
	test_envelope();
	test_many_bcc();
	test_long();
	test_wire_form();
	test_table_error();
	message_fini(&m);
	rules_close(&rules);
	conf_diag_fini(&d);
	conf_free(&c);
	run_strict();
	with_rules("non_empty_end_of_header_action = add_header\n", test_unended_add);
	with_rules("non_empty_end_of_header_action = reject\n", test_unended_reject);
	with_rules("force_mime_input_conversion = yes\n", test_force);
	with_rules("force_mime_input_conversion = yes\n"
		   "body_checks = regexp:{{/=E9 word/ REJECT}}\n",
		   test_force_checks);
	with_rules("force_mime_input_conversion = yes\nnon_empty_end_of_header_action = reject\n",
		   test_force_unended);
	test_force_refused();
	buf_fini(&logged);
	buf_fini(&got);
	return tap_done();
}
