/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMTP replies: made, formatted, parsed from tables and from servers; ESMTP parameters. */
#include "workers/smtp/reply.h"

#include "lib/err.h"
#include "t/unit/tap.h"

static void test_make(void)
{
	struct buf out = BUF_INIT;
	struct smtp_reply r =
		smtp_reply_make(554, "5.7.1", "<%s>: Relay access denied", "a@b\r\n250 x");

	smtp_reply_write(&r, &out);
	is_str(buf_cstr(&out), "554 5.7.1 <a@b??250 x>: Relay access denied\r\n", "one line only");
	buf_reset(&out);
	r = smtp_reply_make(354, NULL, "End data with <CR><LF>.<CR><LF>");
	smtp_reply_write(&r, &out);
	is_str(buf_cstr(&out), "354 End data with <CR><LF>.<CR><LF>\r\n", "without enhanced code");
	char longtext[2000];

	memset(longtext, 'x', sizeof(longtext) - 1);
	longtext[sizeof(longtext) - 1] = '\0';
	r = smtp_reply_make(250, "2.0.0", "%s", longtext);
	is_int(strlen(r.text), SMTP_REPLY_TEXT_SIZE - 1, "long text is cut");
	buf_fini(&out);
}

static void test_parse(void)
{
	static const struct {
		const char *text;
		int err;
		const char *out;
	} rows[] = {
		{ "554 5.7.1 go away", 0, "554 5.7.1 go away\r\n" },
		{ "450 go away", 0, "450 go away\r\n" },
		{ "450 5.7.1 x", 0, "450 4.7.1 x\r\n" },
		{ "450", 0, "450 \r\n" },
		{ "554 5.7.1", 0, "554 5.7.1 \r\n" },
		{ "554 5.7.1x y", 0, "554 5.7.1x y\r\n" },
		{ "554 5.700.1 y", 0, "554 5.700.1 y\r\n" },
		{ "REJECT", E_SYNTAX, NULL },
		{ "55", E_SYNTAX, NULL },
		{ "5540 x", E_SYNTAX, NULL },
		{ "554x", E_SYNTAX, NULL },
		{ "354 x", E_SYNTAX, NULL },
		{ "654 x", E_SYNTAX, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct smtp_reply r;
		struct buf out = BUF_INIT;

		is_int(smtp_reply_parse(sv_from(rows[i].text), &r), rows[i].err, "'%s'",
		       rows[i].text);
		if (rows[i].err == 0) {
			smtp_reply_write(&r, &out);
			is_str(buf_cstr(&out), rows[i].out, "  reply");
		}
		buf_fini(&out);
	}
}

static void server_case(const char *in, int want, unsigned code, const char *dsn,
			const char *joined, size_t left)
{
	for (size_t step = 1; step <= strlen(in); step += step < 3 ? 1 : strlen(in)) {
		struct smtp_reply_parser p;
		struct buf text = BUF_INIT;
		size_t pos = 0, used;
		int result = 0;
		char got[16];

		smtp_reply_parser_init(&p);
		while (pos < strlen(in) && result == 0) {
			result = smtp_reply_parser_feed(&p, in + pos,
							size_min(step, strlen(in) - pos), &used);
			pos += used;
		}
		is_int(result, want, "server reply of %zu bytes (%.3s) by %zu", strlen(in), in,
		       step);
		if (want == 1) {
			is_int(p.code, code, "  code");
			snprintf(got, sizeof(got), "%u.%u.%u", p.dsn[0], p.dsn[1], p.dsn[2]);
			is_str(got, dsn, "  enhanced code");
			smtp_reply_parser_joined(&p, 1000, &text);
			is_str(buf_cstr(&text), joined, "  text");
			is_int(strlen(in) - pos, left, "  rest");
		}
		buf_fini(&text);
		smtp_reply_parser_fini(&p);
	}
}

static void test_server(void)
{
	server_case("250 2.1.0 Ok\r\n", 1, 250, "2.1.0", "250 2.1.0 Ok", 0);
	server_case("250 Ok\r\n250 x", 1, 250, "2.0.0", "250 Ok", 5);
	server_case("250\r\n", 1, 250, "2.0.0", "250", 0);
	server_case("250 \n", 1, 250, "2.0.0", "250 ", 0);
	server_case("550-5.1.1 no\r\n550 5.1.2 such user\r\n", 1, 550, "5.1.2",
		    "550-5.1.1 no 550 5.1.2 such user", 0);
	server_case("550 4.1.1 class differs\r\n", 1, 550, "5.0.0", "550 4.1.1 class differs", 0);
	server_case("250-a\r\n550 b\r\n", 1, 550, "5.0.0", "250-a 550 b", 0);
	server_case("250-\r\n250\r\n", 1, 250, "2.0.0", "250- 250", 0);
	server_case("450 a\x07z\xff\r\n", 1, 450, "4.0.0", "450 a?z?", 0);
	server_case("250-a\r\n", 0, 0, NULL, NULL, 0);
	server_case("hello\r\n", E_PEER, 0, NULL, NULL, 0);
	server_case("\r\n", E_PEER, 0, NULL, NULL, 0);
	server_case("2500 x\r\n", E_PEER, 0, NULL, NULL, 0);
	server_case("250x\r\n", E_PEER, 0, NULL, NULL, 0);
	server_case("999 x\r\n", E_PEER, 0, NULL, NULL, 0);
	server_case("000 x\r\n", E_PEER, 0, NULL, NULL, 0);
}

static void test_server_limits(void)
{
	struct smtp_reply_parser p;
	char junk[4096];
	size_t used;
	int result = 0;

	memset(junk, 'x', sizeof(junk));
	smtp_reply_parser_init(&p);
	smtp_reply_parser_feed(&p, "250 ", 4, &used);
	smtp_reply_parser_feed(&p, junk, sizeof(junk), &used);
	is_int(smtp_reply_parser_feed(&p, "\r\n", 2, &used), 1, "a long line is accepted");
	is_int(p.text.len, SMTP_REPLY_LINE_MAX, "and cut");
	for (int i = 0; i < 100 && result == 0; i++)
		result = smtp_reply_parser_feed(&p, junk, sizeof(junk), &used);
	is_int(result, E_LIMIT, "an endless line is not");
	smtp_reply_parser_reset(&p);
	result = 0;
	for (int i = 0; i < 100000 && result == 0; i++)
		result = smtp_reply_parser_feed(&p, "250-x\r\n", 7, &used);
	is_int(result, E_LIMIT, "an endless reply is not");
	smtp_reply_parser_reset(&p);
	ok(p.text.cap <= 8192, "memory of a long reply is given back");
	smtp_reply_parser_feed(&p, "250-host\r\n250-SIZE 10\r\n250 DSN\r\n", 32, &used);
	struct sv line;
	size_t pos = 0, n = 0;

	static const char *const lines[] = { "host", "SIZE 10", "DSN" };

	while (n < 3 && smtp_reply_parser_line(&p, &pos, &line)) {
		ok(sv_eq_str(line, lines[n]), "line %zu", n);
		n++;
	}
	ok(n == 3 && !smtp_reply_parser_line(&p, &pos, &line), "three lines");
	smtp_reply_parser_fini(&p);
}

static void test_params(void)
{
	struct sv rest = SV(" SIZE=10  BODY=8BITMIME SMTPUTF8 X-Y=a=b "), key, value;
	bool has;
	static const struct {
		const char *key, *value;
		bool has;
	} want[] = { { "SIZE", "10", true },
		     { "BODY", "8BITMIME", true },
		     { "SMTPUTF8", "", false },
		     { "X-Y", "a=b", true } };

	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		is_int(smtp_param_next(&rest, &key, &value, &has), 1, "parameter %zu", i);
		ok(sv_eq_str(key, want[i].key) && sv_eq_str(value, want[i].value) &&
			   has == want[i].has,
		   "  its parts");
	}
	is_int(smtp_param_next(&rest, &key, &value, &has), 0, "end");
	static const char *const bad[] = { "=x",     "A=",     "-A=x", "A\x01=x",
					   "A=\x7f", "A=\xff", "A_B",  "A:B" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		rest = sv_from(bad[i]);
		is_int(smtp_param_next(&rest, &key, &value, &has), E_SYNTAX, "bad parameter %zu",
		       i);
	}
}

int main(void)
{
	test_make();
	test_parse();
	test_server();
	test_server_limits();
	test_params();
	return tap_done();
}
