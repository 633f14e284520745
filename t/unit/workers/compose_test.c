/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tests of workers/pickup/compose.c: standard input as a message. */
#include "workers/pickup/compose.h"

#include <string.h>

#include "lib/log.h"
#include "t/unit/tap.h"

struct result {
	char header[400], body[400];
	bool done;
};

/* In pieces of `step` bytes: the result must not depend on them. */
static struct result run(const char *in, size_t len, bool dots, enum conf_line_endings fix,
			 size_t step)
{
	struct compose c;
	struct result r = { 0 };

	compose_init(&c, dots, fix);
	for (size_t at = 0; at < len && !c.done; at += step)
		compose_feed(&c, in + at, size_min(step, len - at));
	r.done = c.done;
	compose_end(&c);
	ASSERT(c.header.len < sizeof(r.header) && c.body.len < sizeof(r.body));
	memcpy(r.header, buf_cstr(&c.header), c.header.len);
	memcpy(r.body, buf_cstr(&c.body), c.body.len);
	compose_fini(&c);
	return r;
}

static void check(const char *in, bool dots, enum conf_line_endings fix, const char *header,
		  const char *body, bool done, const char *what)
{
	bool same = true;

	for (size_t step = 1; step <= strlen(in) + 1; step++) {
		struct result r = run(in, strlen(in), dots, fix, step);

		same = same && strcmp(r.header, header) == 0 && strcmp(r.body, body) == 0 &&
		       r.done == done;
	}
	ok(same, "%s", what);
}

static void test_text(void)
{
	check("A: b\n c\nD: e\n\nbody\n", true, LINE_ENDINGS_ALWAYS, "A: b\n c\nD: e\n", "\nbody\n",
	      false, "header and body");
	check("no header\n", true, LINE_ENDINGS_ALWAYS, "", "no header\n", false, "no header");
	check("A: b\nno header\n", true, LINE_ENDINGS_ALWAYS, "A: b\n", "no header\n", false,
	      "a header without an empty line behind it");
	check(" folded: first\n", true, LINE_ENDINGS_ALWAYS, "", " folded: first\n", false,
	      "no header begins with a blank");
	check("", true, LINE_ENDINGS_ALWAYS, "", "", false, "nothing");
	check("A: b", true, LINE_ENDINGS_ALWAYS, "A: b", "", false, "no line end");
	check("a\n.\nb\n", true, LINE_ENDINGS_ALWAYS, "", "a\n", true, "a lone dot");
	check("a\n.\nb\n", false, LINE_ENDINGS_ALWAYS, "", "a\n.\nb\n", false, "not with -i");
	check("a\r\n.\r\nb\r\n", true, LINE_ENDINGS_ALWAYS, "", "a\n", true, "a dot and CRLF");
	check("a\n.", true, LINE_ENDINGS_ALWAYS, "", "a\n", false, "a dot at the very end");
	check("a\n..\n.b\n", true, LINE_ENDINGS_ALWAYS, "", "a\n..\n.b\n", false,
	      "other dots stay");
	check("From x\n>From y\n>>From z\nFrom: a\n\nFrom b\n", true, LINE_ENDINGS_ALWAYS,
	      "From: a\n", "\nFrom b\n", false, "mailbox lines at the start go");
	check("a\r\nb\nc\r\n", true, LINE_ENDINGS_ALWAYS, "", "a\nb\nc\n", false, "always");
	check("a\r\nb\nc\r\n", true, LINE_ENDINGS_STRICT, "", "a\nb\nc\n", false,
	      "strict, the first line ends with CRLF");
	check("a\nb\r\nc\n", true, LINE_ENDINGS_STRICT, "", "a\nb\r\nc\n", false,
	      "strict, the first line ends with LF");
	check("a\r\n", true, LINE_ENDINGS_NEVER, "", "a\r\n", false, "never");
	check("a\rb\r\r\n", true, LINE_ENDINGS_ALWAYS, "", "a\rb\r\n", false, "other CRs stay");
}

static void test_long_lines(void)
{
	size_t len = 3 * COMPOSE_LINE_MAX;
	char *text = xmalloc(len);
	struct compose c;

	memset(text, 'x', len);
	memcpy(text, "A: ", 3);
	text[COMPOSE_LINE_MAX - 1] = '\r';
	text[COMPOSE_LINE_MAX] = '.';
	compose_init(&c, true, LINE_ENDINGS_ALWAYS);
	compose_feed(&c, text, len);
	compose_feed(&c, "\n.\n", 3);
	ok(c.done, "a dot after a long line");
	is_int(c.header.len, len + 1, "all of the line is there");
	ok(memcmp(c.header.p, text, len) == 0, "and nothing else");
	compose_fini(&c);
	free(text);
}

static void test_large_header(void)
{
	struct compose c;
	char line[1000];

	memset(line, 'x', sizeof(line));
	line[1] = ':';
	line[sizeof(line) - 1] = '\n';
	compose_init(&c, false, LINE_ENDINGS_ALWAYS);
	while (c.header.len + sizeof(line) <= COMPOSE_HEADER_MAX)
		compose_feed(&c, line, sizeof(line));
	ok(!c.header_done && !c.header_cut, "a large header");
	compose_feed(&c, line, sizeof(line));
	ok(c.header_done && c.header_cut, "one that is too large is not taken for a whole one");
	is_int(c.body.len, sizeof(line), "... and no line of it is lost");
	compose_fini(&c);
}

static void add(void *ctx, struct sv addr)
{
	struct buf *b = ctx;

	buf_printf(b, "%.*s|", (int)addr.len, addr.p);
}

static void check_rcpts(const char *header, const char *want, const char *what)
{
	struct buf b = BUF_INIT;

	compose_recipients(sv_from(header), add, &b);
	is_str(buf_cstr(&b), want, "%s", what);
	buf_fini(&b);
}

static void test_recipients(void)
{
	check_rcpts("To: a@x, B <b@x>,\n\t\"c d\"@x\ncc: e (comment)\nBCC:f@x\nFrom: no@x\n",
		    "a@x|b@x|c d@x|e|f@x|", "To, Cc and Bcc");
	check_rcpts("To: a@x\nResent-From: b@x\n", "a@x|", "Resent-From alone changes nothing");
	check_rcpts("To: a@x\nResent-Bcc: b@x\nCc: c@x\nResent-To: d@x\n", "b@x|d@x|",
		    "Resent- recipients count alone");
	check_rcpts("To: undisclosed-recipients:;\nCc: list: a@x, b@x;, c@x\n", "a@x|b@x|c@x|",
		    "groups");
	check_rcpts("To: , <>, (a b), ok@x\n", "ok@x|", "what is no address");
	check_rcpts("To: a@x b@x\n\tc@x, ok@x;d@x\n", "a@x|b@x|c@x|ok@x|d@x|",
		    "words without commas");
	check_rcpts("To: two words, ok@x\n", "two|words|ok@x|", "words without an @");
	check_rcpts("To: \"a, b\" <c@x>, (x, \\) y) d@x, <e@x>,,;\n", "c@x|d@x|e@x|",
		    "separators in strings, comments and brackets");
	check_rcpts("To: ok@x, \"a b@x, c@x\n", "ok@x|", "a string without an end");
	check_rcpts("To : a@x\nTo:\nTo\n: b@x\n", "a@x|", "odd headers");
	check_rcpts("", "", "nothing");
}

int main(void)
{
	test_text();
	test_long_lines();
	test_large_header();
	test_recipients();
	return tap_done();
}
