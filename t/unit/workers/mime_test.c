/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Places within MIME messages, good and broken ones. */
#include "workers/mail/mime.h"

#include <stdio.h>
#include <string.h>

#include "lib/buf.h"
#include "t/unit/tap.h"

/* One letter per line: h p n = header of the message, of a part, of an attached message; b = body,
 * B = boundary. Headers are not folded here. */
static const char *places(const struct mime_limits *limits, const char *text)
{
	static struct mime m;
	static char out[4096];
	size_t n = 0;

	mime_begin(&m, limits);
	while (*text != '\0') {
		struct sv line = { text, strcspn(text, "\n") };
		size_t name, colon;

		text += line.len + (text[line.len] == '\n');
		if (m.place != MIME_BODY) {
			if (mime_header_name(line, &name, &colon) == MIME_NAME_YES) {
				out[n++] = "hpn"[m.place];
				mime_header(&m, line);
				continue;
			}
			mime_headers_end(&m, line.len == 0);
		}
		out[n++] = mime_line(&m, line) ? 'B' : 'b';
	}
	out[n] = '\0';
	mime_fini(&m);
	return out;
}

static const struct mime_limits limits = { .nesting = 5, .boundary_bytes = 20 };

static void test_places(void)
{
	static const struct {
		const char *name, *text, *want;
	} cases[] = {
		{ "plain", "A: b\n\nx\nB: c\n", "hbbb" },
		{ "two parts",
		  "Content-Type: multipart/mixed; boundary=\"a b\"\n\npre\n--a b\nX: y\n\nt\n--a "
		  "b\n\nu\n"
		  "--a b--\nepi\n--a b\nno: more\n",
		  "hbbBpbbBbbBbbb" },
		{ "attached message",
		  "Content-type: MULTIPART/mixed; charset=x; boundary=q\n\n--q\nContent-Type: "
		  "message/rfc822\n\nSubject: x\n\nbody\n--q--\n",
		  "hbBpbnbbB" },
		{ "digest",
		  "Content-Type: multipart/digest; boundary=q\n\n--q\n\nFrom: x\n\nbody\n--q\n"
		  "Content-Type: text/plain\n\nA: b\n",
		  "hbBbnbbBpbb" },
		{ "nested boundary is missing: the outer one counts",
		  "Content-Type: multipart/mixed; boundary=out\n\n--out\nContent-Type: "
		  "multipart/alternative; boundary=in\n\n--in\nA: b\n\nx\n--out\nC: d\n\ny\n--in\n",
		  "hbBpbBpbbBpbbb" },
		{ "boundary ends a header section",
		  "Content-Type: multipart/mixed; boundary=q\n\n--q\nA: b\n--q\nC: d\n", "hbBpBp" },
		{ "text behind a boundary",
		  "Content-Type: multipart/mixed; boundary=q\n\n--qx\nA: b\n\n--q-- x\nC: d\n",
		  "hbBpbBb" },
		{ "no header section at all", "hello world\nA: b\n", "bb" },
		{ "attached message without an empty line",
		  "Content-Type: message/rfc822\nno header\nA: b\n", "hbb" },
		{ "comments and quoting",
		  "Content-Type: (c (d)) multipart (x) / mixed (y;boundary=no) ; "
		  "a=\"b;boundary=z\";\t"
		  "Boundary = \"q\\\"r\"\n\n--q\"r\nA: b\n",
		  "hbBp" },
		{ "no boundary", "Content-Type: multipart/mixed\n\n--x\nA: b\n", "hbbb" },
		{ "empty boundary", "Content-Type: multipart/mixed; boundary=\"\"\n\n--\nA: b\n",
		  "hbbb" },
		{ "unfinished quoting",
		  "Content-Type: multipart/mixed; boundary=\"abc\n\n--abc\nA: b\n", "hbBp" },
		{ "external-body is body", "Content-Type: message/external-body\n\nA: b\n", "hbb" },
	};
	struct mime_limits off = limits;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		is_str(places(&limits, cases[i].text), cases[i].want, "%s", cases[i].name);
	off.disabled = true;
	is_str(places(&off, cases[1].text), "hbbbbbbbbbbbbb", "disabled: all is body");
}

static void test_limits(void)
{
	struct buf text = BUF_INIT;
	const char *got;

	buf_add_str(&text, "Content-Type: multipart/x; boundary=b0\n\n");
	for (int i = 1; i < 100; i++)
		buf_printf(&text, "--b%d\nContent-Type: multipart/x; boundary=c%02d\n\n",
			   i == 1 ? 0 : 5, i);
	got = places(&limits, buf_cstr(&text));
	ok(strstr(got, "bbbbbbbb") != NULL, "deeper boundaries than the limit are body");
	buf_reset(&text);
	buf_add_str(&text, "Content-Type: multipart/x; boundary=");
	for (int i = 0; i < 3000; i++)
		buf_add_c(&text, 'x');
	buf_add_str(&text, "\n\n--xxxxxxxxxxxxxxxxxxx\n--xxxxxxxxxxxxxxxxxxxx\nA: b\n");
	is_str(places(&limits, buf_cstr(&text)), "hbbBp", "a long boundary is compared so far");
	buf_reset(&text);
	buf_add_str(&text, "Content-Type: multipart/x");
	for (int i = 0; i < 3000; i++)
		buf_printf(&text, "; boundary=x%04d", i);
	buf_add_str(&text, "\n\n--x0003\nA: b\n\n--x2999\n");
	is_str(places(&limits, buf_cstr(&text)), "hbBpbb", "many boundaries: the first ones");
	buf_fini(&text);
}

/* The encoding of each part: e = 8bit or binary, - = not, in front of each body line. */
static void test_encoding(void)
{
	static const char text[] =
		"Content-Type: multipart/mixed; boundary=q\nContent-Transfer-Encoding: "
		"8bit\n\npre\n"
		"--q\nContent-Transfer-Encoding: Binary\n\nx\n--q\n\ny\n--q\nContent-Type: "
		"message/global\nContent-Transfer-Encoding: 8bit\n\nA: b\n\nz\n--q--\nend\n";
	struct mime_limits encoding = limits;

	for (int pass = 0; pass < 2; pass++) {
		struct mime m = { .depth = 0 };
		char out[100] = "";
		size_t n = 0;

		encoding.encoding = pass == 1;
		mime_begin(&m, &encoding);
		for (const char *p = text; *p != '\0';) {
			struct sv line = { p, strcspn(p, "\n") };
			size_t name, colon;

			p += line.len + 1;
			if (m.place != MIME_BODY) {
				if (mime_header_name(line, &name, &colon) == MIME_NAME_YES) {
					mime_header(&m, line);
					continue;
				}
				mime_headers_end(&m, line.len == 0);
			}
			mime_line(&m, line);
			out[n++] = m.eight ? 'e' : '-';
		}
		mime_fini(&m);
		is_str(out,
		       pass == 0 ? "---ee---------"

				 : "---ee----eeee--",
		       "pass %d", pass);
	}
}

static void test_names(void)
{
	size_t name, colon;

	is_int(mime_header_name(SV("Subject : x"), &name, &colon), MIME_NAME_YES, "a header");
	is_int(name, 7, "its name");
	is_int(colon, 8, "its colon");
	is_int(mime_header_name(SV("Subject"), &name, &colon), MIME_NAME_MAYBE,
	       "it may become one");
	is_int(mime_header_name(SV(""), &name, &colon), MIME_NAME_MAYBE, "so may nothing");
	is_int(mime_header_name(SV(": x"), &name, &colon), MIME_NAME_NO, "no name");
	is_int(mime_header_name(SV("a b: x"), &name, &colon), MIME_NAME_NO, "two words");
	is_int(mime_header_name(SV("\xc3\xa4: x"), &name, &colon), MIME_NAME_NO, "8-bit name");
	ok(mime_is_mime_header(SV("content-TYPE")), "a MIME header");
	ok(!mime_is_mime_header(SV("Content-Length")), "not one");
}

int main(void)
{
	test_places();
	test_limits();
	test_encoding();
	test_names();
	return tap_done();
}
