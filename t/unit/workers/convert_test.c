/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content that is changed on its way out: long lines, encoding, addresses, checks. Every case is
 * fed whole, in two parts at every place, and byte by byte: the result is the same. */
#include "workers/deliver/convert.h"

#include <string.h>

#include "conf/map_remote.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static struct buf logged;

static void log_sink(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		     const char *text, size_t len)
{
	buf_add(&logged, text, len);
	buf_add_c(&logged, '\n');
}

static struct conf *conf;
static struct convert_conf *cc;

static void use(const char *main_cf)
{
	struct conf_diag d;

	convert_conf_close(&cc);
	conf_free(&conf);
	conf = test_conf(main_cf);
	conf_diag_init(&d);
	if (convert_conf_open(conf, conf_transport_find(conf, "smtp"), &cc, &d) != 0)
		printf("# %s", buf_cstr(&d.text));
	conf_diag_fini(&d);
}

static int last_err;

static struct buf *run(struct sv in, size_t first, size_t step, bool downgrade)
{
	static struct buf out;
	static struct convert cv;

	buf_reset(&out);
	convert_begin(&cv, cc, "QID", downgrade, &out);
	for (size_t at = 0; at < in.len;) {
		size_t n = at == 0 ? first : step;

		n = n < in.len - at ? n : in.len - at;
		convert_feed(&cv, (struct sv){ in.p + at, n });
		at += n;
	}
	convert_end(&cv);
	last_err = cv.err;
	convert_fini(&cv);
	return &out;
}

static void check(const char *name, const char *in, const char *want, bool downgrade)
{
	struct sv s = sv_from(in);
	bool same = true;

	is_str(buf_cstr(run(s, s.len, s.len, downgrade)), want, "%s", name);
	for (size_t first = 1; first < s.len; first++)
		same = same && strcmp(buf_cstr(run(s, first, s.len, downgrade)), want) == 0;
	same = same && strcmp(buf_cstr(run(s, 1, 1, downgrade)), want) == 0;
	ok(same, "%s, in pieces", name);
}

static void test_lines(void)
{
	use("smtp_line_length_limit = 12\nline_length_limit = 512\n");
	check("short lines stay", "A: b\r\n\r\n123456789012\r\n..x\r\n",
	      "A: b\r\n\r\n123456789012\r\n..x\r\n", false);
	check("a line too long", "A: b\r\n\r\n1234567890123\r\n",
	      "A: b\r\n\r\n123456789012\r\n 3\r\n", false);
	check("three lines of one", "A: b\r\n\r\n123456789012abcdefghijklm\r\n",
	      "A: b\r\n\r\n123456789012\r\n abcdefghijk\r\n lm\r\n", false);
	check("a header", "Abc: defghijklm\r\n l\r\n\r\n", "Abc: defghij\r\n klm\r\n l\r\n\r\n",
	      false);
	check("dots at the break", "A: b\r\n\r\n.............\r\n", "A: b\r\n\r\n.............\r\n",
	      false);
	check("and behind it", "A: b\r\n\r\nxxxxxxxxxxxx.y\r\n",
	      "A: b\r\n\r\nxxxxxxxxxxxx\r\n .y\r\n", false);
	check("no line end", "A: b\r\n\r\nx", "A: b\r\n\r\nx\r\n", false);
	check("nothing", "", "", false);
	check("only a header", "A: b\r\n", "A: b\r\n", false);
	check("no header", "\r\nbody\r\n", "\r\nbody\r\n", false);
	check("no empty line", "A: b\r\nbody\r\n", "A: b\r\n\r\nbody\r\n", false);
	ok(strstr(buf_cstr(&logged), "QID: breaking line > 12 bytes with <CR><LF>SPACE") != NULL,
	   "which is logged");
	use("smtp_line_length_limit = 1\n");
	check("a limit that is none", "A: b\r\n\r\n1234567890123\r\n",
	      "A: b\r\n\r\n123456789012\r\n 3\r\n", false);
	use("smtp_line_length_limit = 0\n");
	check("no limit: pieces of lines", "A: b\r\n\r\nx.y\r\n..\r\n...\r\n",
	      "A: b\r\n\r\nx.y\r\n..\r\n...\r\n", true);
	char in[6000], want[6000];

	memset(in, 'x', sizeof(in));
	memcpy(in, "A: b\r\n\r\n", 8);
	strcpy(in + 5000, "\r\n");
	strcpy(want, in);
	is_str(buf_cstr(run(sv_from(in), 100, 700, true)), want, "no limit: no break");
	ok(!convert_is_needed(cc, false, 100000) && convert_is_needed(cc, true, 1),
	   "and no need to look");
	use("smtp_line_length_limit = 998\n");
	memset(in, '.', sizeof(in));
	memcpy(in, "A: b\r\n\r\n", 8);
	strcpy(in + 5000, "\r\n");
	is_int(run(sv_from(in), 100, 700, false)->len, 5002 + 3 * 5,
	       "long lines are broken, their first dot stays stuffed");
	ok(convert_is_needed(cc, false, 999) && convert_is_needed(cc, false, 0) &&
		   !convert_is_needed(cc, false, 998),
	   "only what is longer, or not known, needs that");
}

static void test_encoding(void)
{
	use("");
	check("text",
	      "MIME-Version: 1.0\r\nContent-Transfer-Encoding: 8bit\r\nX: y\r\n\r\ncaf\xc3\xa9 = "
	      "1\t\r\n.. \r\n\r\n",
	      "MIME-Version: 1.0\r\nX: y\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
	      "caf=C3=A9 =3D 1=09\r\n..=20\r\n\r\n",
	      true);
	check("not announced: left alone", "A: b\r\n\r\ncaf\xc3\xa9\r\n",
	      "A: b\r\n\r\ncaf\xc3\xa9\r\n", true);
	check("7 bits stay", "Content-Transfer-Encoding: 7bit\r\n\r\na=b\r\n",
	      "Content-Transfer-Encoding: 7bit\r\n\r\na=b\r\n", true);
	check("base64 stays", "Content-Transfer-Encoding: BASE64\r\n\r\na=b\r\n",
	      "Content-Transfer-Encoding: BASE64\r\n\r\na=b\r\n", true);
	check("the server takes 8 bits", "Content-Transfer-Encoding: 8bit\r\n\r\n\xe9=\r\n",
	      "Content-Transfer-Encoding: 8bit\r\n\r\n\xe9=\r\n", false);
	check("soft breaks",
	      "Content-Transfer-Encoding: binary\r\n\r\n"
	      "123456789 123456789 123456789 123456789 123456789 123456789 123456789 123456789 "
	      "x\r\n",
	      "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
	      "123456789 123456789 123456789 123456789 123456789 123456789 123456789 123=\r\n"
	      "456789 x\r\n",
	      true);
	check("parts say it for themselves",
	      "Content-Type: multipart/mixed; boundary=q\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	      "pre \xe9\r\n--q\r\nContent-Transfer-Encoding: "
	      "8bit\r\n\r\n\xe9\r\n--q\r\n\r\n\xe9\r\n"
	      "--q\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	      "Subject: s\r\nContent-Transfer-Encoding: binary\r\n\r\n\xe9\r\n--q--\r\nepi =\r\n",
	      "Content-Type: multipart/mixed; boundary=q\r\nContent-Transfer-Encoding: 7bit\r\n\r\n"
	      "pre \xe9\r\n--q\r\nContent-Transfer-Encoding: "
	      "quoted-printable\r\n\r\n=E9\r\n--q\r\n\r\n"
	      "\xe9\r\n--q\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: "
	      "7bit\r\n\r\n"
	      "Subject: s\r\nContent-Transfer-Encoding: "
	      "quoted-printable\r\n\r\n=E9\r\n--q--\r\nepi =\r\n",
	      true);
	check("message/global is encoded as a whole",
	      "Content-Type: message/global\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	      "Subject: \xc3\xa9\r\n\r\n=\r\n",
	      "Content-Type: message/global\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
	      "Subject: =C3=A9\r\n\r\n=3D\r\n",
	      true);
	use("mime_nesting_limit = 1\n");
	const char *deep = "Content-Type: multipart/mixed; boundary=a\r\n\r\n--a\r\n"
			   "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n";

	run(sv_from(deep), 10, 10, true);
	is_int(last_err, E_LIMIT, "nested too deep to be sure");
	run(sv_from(deep), 10, 10, false);
	is_int(last_err, 0, "which matters when it is encoded only");
}

static void test_generic(void)
{
	use("smtp_generic_maps = inline:{ { joe@in.test = joe.doe@out.test } { @pc.test = "
	    "all@out.test }"
	    " { root@mx.example.org = admin } { bad@in.test = } }\nrecipient_delimiter = +\n"
	    "propagate_unmatched_extensions = generic\n");
	check("headers of the message",
	      "From: Joe <joe@in.test> (x)\r\nTo: a@b.test,\r\n joe+ext@in.test\r\nX-To: "
	      "joe@in.test\r\n"
	      "Resent-Cc: u@pc.test\r\nSender: root@mx.example.org\r\n\r\nTo: joe@in.test\r\n",
	      "From: Joe <joe.doe@out.test> (x)\r\nTo: a@b.test,\r\n joe.doe+ext@out.test\r\nX-To: "
	      "joe@in.test\r\n"
	      "Resent-Cc: all@out.test\r\nSender: admin@mx.example.org\r\n\r\nTo: joe@in.test\r\n",
	      false);
	check("not those of parts",
	      "Content-Type: message/rfc822\r\n\r\nTo: joe@in.test\r\n\r\nx\r\n",
	      "Content-Type: message/rfc822\r\n\r\nTo: joe@in.test\r\n\r\nx\r\n", true);
	struct arena a;
	struct sv out;

	arena_init(&a, 1000, 10000);
	is_int(generic_apply(cc->generic, SV(""), &a, &out), 0, "the null sender");
	is_int(out.len, 0, "stays");
	arena_fini(&a);
	use("smtp_generic_maps = hash:/no/such/file\n");
	run(sv_from("To: a@b.test\r\n\r\n"), 100, 100, false);
	is_int(last_err, E_AGAIN, "a table that cannot be asked");
}

static void answer(struct map_memo *memo, bool broken)
{
	const char *spec;
	struct sv key;

	for (size_t i = 0; i < map_memo_missing_count(memo); i++) {
		map_memo_missing(memo, i, &spec, &key);
		if (broken)
			map_memo_answer(memo, i, MAP_ERROR, SV(""));
		else if (sv_eq(key, SV("joe@in.test")))
			map_memo_answer(memo, i, MAP_FOUND, SV("joe.doe@out.test"));
		else
			map_memo_answer(memo, i, MAP_NOT_FOUND, SV(""));
	}
	map_memo_answered(memo);
}

/* Asks first, for all that the content will ask for, in pieces of `step` bytes. */
static unsigned ask(struct map_memo *memo, struct sv in, size_t step, bool broken)
{
	struct buf scratch = BUF_INIT;
	struct convert cv = { 0 };
	unsigned rounds = 0;
	bool missing = true;

	for (; missing && rounds < 20; rounds++) {
		map_memo_enter(memo);
		convert_ask_begin(&cv, cc, &scratch);
		for (size_t at = 0; at < in.len; at += step) {
			struct sv piece = { in.p + at, size_min(step, in.len - at) };

			if (!convert_ask(&cv, piece))
				break;
		}
		convert_fini(&cv);
		missing = map_memo_leave();
		if (missing)
			answer(memo, broken);
	}
	buf_fini(&scratch);
	return rounds;
}

static void test_remote(void)
{
	struct sv in = SV("From: Joe <joe@in.test>\r\nTo: a@b.test,\r\n joe+ext@in.test\r\n"
			  "Cc: swap@x.test\r\n\r\nTo: c@d.test\r\n");

	use("smtp_generic_maps = redis:/tables.test\nrecipient_delimiter = +\n"
	    "smtp_header_checks = pcre:{ {/^Cc:/ REPLACE Cc: joe@in.test} }\n");
	ok(cc->remote, "remote generic maps");
	for (size_t step = 1; step < 200; step = step * 3 + 1) {
		struct map_memo *memo = map_memo_new();

		buf_reset(&logged);
		unsigned rounds = ask(memo, in, step, false);

		ok(rounds > 1 && rounds < 8, "asks in %u rounds", rounds);
		is_int(logged.len, 0, "and says nothing");
		map_memo_enter(memo);
		is_str(buf_cstr(run(in, step, step, false)),
		       "From: Joe <joe.doe@out.test>\r\nTo: a@b.test,\r\n joe.doe@out.test\r\n"
		       "Cc: joe.doe@out.test\r\n\r\nTo: c@d.test\r\n",
		       "then all answers are there");
		ok(!map_memo_leave(), "no other is needed");
		map_memo_free(&memo);
		memo = map_memo_new();
		ask(memo, in, step, true);
		map_memo_enter(memo);
		run(in, step, step, false);
		is_int(last_err, E_AGAIN, "a table that cannot be asked");
		map_memo_leave();
		map_memo_free(&memo);
	}
}

static void test_checks(void)
{
	use("smtp_header_checks = pcre:{ {/^Subject: one/ REPLACE Subject: two}, {/^A:/ IGNORE},"
	    " {/^B:/ STRIP gone}, {/^C:/ WARN it}, {/^D:/ PREPEND E: first},"
	    " {/^F:/ REPLACE nothing}, {/^G:/ REJECT no} }\n"
	    "smtp_mime_header_checks = pcre:{ {/^Content-Type: a/ REPLACE Content-Type: c/d} }\n"
	    "smtp_nested_header_checks = pcre:{ {/^Subject: in/ IGNORE} }\n"
	    "smtp_body_checks = pcre:{ {/^swap/ REPLACE .swapped}, {/^drop/ IGNORE},"
	    " {/^before/ PREPEND line} }\n");
	buf_reset(&logged);
	check("headers",
	      "Subject: one\r\nA: ignore\r\nB: strip\r\nC: warn\r\nD: prepend\r\nF: bad\r\nG: "
	      "what\r\n"
	      "Content-Type: a/b\r\n\r\n",
	      "Subject: two\r\nC: warn\r\nE: first\r\nD: prepend\r\nF: bad\r\nG: what\r\n"
	      "Content-Type: c/d\r\n\r\n",
	      false);
	*(strstr(buf_cstr(&logged), "c/d\n") + 4) = '\0';
	is_str(logged.p,
	       "QID: replace: header Subject: one: Subject: two\n"
	       "QID: strip: header B: strip: gone\nQID: warning: header C: warn: it\n"
	       "QID: prepend: header D: prepend: E: first\n"
	       "warning: bad REPLACE header text \"nothing\" in smtp_header_checks map -- need "
	       "\"headername: headervalue\"\n"
	       "warning: unsupported command in smtp_header_checks map: REJECT no\n"
	       "QID: replace: header Content-Type: a/b: Content-Type: c/d\n",
	       "the log says it in Postfix's words");
	check("attached",
	      "Content-Type: message/rfc822\r\n\r\nSubject: in\r\nSubject: one\r\n\r\nx\r\n",
	      "Content-Type: message/rfc822\r\n\r\nSubject: one\r\n\r\nx\r\n", false);
	check("body", "X: b\r\n\r\nswap\r\ndrop\r\nbefore\r\nstay\r\n",
	      "X: b\r\n\r\n..swapped\r\nline\r\nbefore\r\nstay\r\n", false);
	use("smtp_body_checks = hash:/no/such/file\n");
	run(sv_from("To: a@b.test\r\n\r\nx\r\n"), 100, 100, false);
	is_int(last_err, E_AGAIN, "a table that cannot be asked");
}

int main(void)
{
	log_set_sink(log_sink, NULL);
	test_lines();
	test_encoding();
	test_generic();
	test_remote();
	test_checks();
	convert_conf_close(&cc);
	conf_free(&conf);
	buf_fini(&logged);
	return tap_done();
}
