/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMTP paths, header address lists, the forms of an address, host names. */
#include "workers/mail/address.h"

#include <stdlib.h>

#include "lib/err.h"
#include "t/unit/tap.h"

static void test_paths(void)
{
	static const struct {
		const char *text;
		int lenient, strict; /* results */
		const char *addr, *rest;
	} rows[] = {
		{ "<a@b.example>", 0, 0, "a@b.example", "" },
		{ " <a@b.example> SIZE=10 BODY=8BITMIME ", 0, 0, "a@b.example",
		  "SIZE=10 BODY=8BITMIME" },
		{ "<>", 0, 0, "", "" },
		{ "<> RET=HDRS", 0, 0, "", "RET=HDRS" },
		{ "<postmaster>", 0, 0, "postmaster", "" },
		{ "a@b.example SIZE=1", 0, E_SYNTAX, "a@b.example", "SIZE=1" },
		{ "< a@b.example >", 0, E_SYNTAX, "a@b.example", "" },
		{ "<@x.example,@y.example:a@b.example>", 0, 0, "a@b.example", "" },
		{ "<@[IPv6:::1]:a@b.example>", 0, 0, "a@b.example", "" },
		{ "<\"a b\"@c.example>", 0, 0, "a b@c.example", "" },
		{ "<\"a>b\"@c.example> X", 0, 0, "a>b@c.example", "X" },
		{ "<\"a@b\"@c.example>", 0, 0, "a@b@c.example", "" },
		{ "<\"a\\\"b\"@c.example>", 0, 0, "a\"b@c.example", "" },
		{ "<a\\ b@c.example>", 0, 0, "a b@c.example", "" },
		{ "<a@[192.0.2.1]>", 0, 0, "a@[192.0.2.1]", "" },
		{ "<a@[IPv6:2001:db8::1]>", 0, 0, "a@[IPv6:2001:db8::1]", "" },
		{ "<a@B.example.>", 0, 0, "a@B.example", "" },
		{ "<j\xc3\xb6@b\xc3\xbc.example>", 0, 0, "j\xc3\xb6@b\xc3\xbc.example", "" },
		{ "<j\xc3@b.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@b.example", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@b.example>x", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<@b.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@b@c.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a b@c.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a(x)@c.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<\"a\nb\"@c.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<\"a\\\nb\"@c.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<\"a@c.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<\"a@b\">", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a\\@b>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<\"\">", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<\"\"@b.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a\\>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@1.2.3.4>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@[1.2.3.400]>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@-b.example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@b..example>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<a@b.example..>", E_SYNTAX, E_SYNTAX, "", NULL },
		{ "<@x:>", E_SYNTAX, E_SYNTAX, NULL, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows) * 2; i++) {
		bool strict = i % 2 != 0;
		int want = strict ? rows[i / 2].strict : rows[i / 2].lenient;
		struct buf addr = BUF_INIT;
		struct sv rest;
		const char *text = rows[i / 2].text;

		if (rows[i / 2].addr == NULL)
			continue;
		is_int(mail_addr_parse_path(sv_from(text), strict ? MAIL_PATH_STRICT : 0, &addr,
					    &rest),
		       want, "%s (%s)", text, strict ? "strict" : "lenient");
		if (want == 0) {
			is_str(buf_cstr(&addr), rows[i / 2].addr, "  address");
			ok(sv_eq_str(rest, rows[i / 2].rest), "  rest");
		}
		buf_fini(&addr);
	}
}

static void test_numeric(void)
{
	static const struct {
		const char *text;
		int want;
	} rows[] = {
		{ "<a@192.0.2.1>", 0 },           { "<a@2001:db8::1>", 0 },
		{ "<a@192.0.2>", E_SYNTAX },      { "<a@192.0.2.1.>", 0 },
		{ "<a@192.0.2.1000>", E_SYNTAX }, { "<a@[192.0.2.1]>", 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf addr = BUF_INIT;
		struct sv rest;

		is_int(mail_addr_parse_path(sv_from(rows[i].text), MAIL_PATH_NUMERIC, &addr, &rest),
		       rows[i].want, "%s, where numbers are domains", rows[i].text);
		buf_fini(&addr);
	}
}

static void test_limits(void)
{
	struct buf addr = BUF_INIT, text = BUF_INIT;
	struct sv rest;

	buf_add_c(&text, '<');
	for (int i = 0; i < 2000; i++)
		buf_add_c(&text, 'a');
	buf_add_str(&text, "@b.example>");
	is_int(mail_addr_parse_path(buf_sv(&text), 0, &addr, &rest), E_LIMIT, "over-long address");
	is_int(addr.len, 0, "nothing is added on failure");
	buf_fini(&addr);
	buf_fini(&text);
}

static void test_forms(void)
{
	static const char *const rows[][2] = {
		{ "a@b", "a@b" },
		{ "a b@c", "\"a b\"@c" },
		{ "a\"b@c", "\"a\\\"b\"@c" },
		{ "a.@c", "\"a.\"@c" },
		{ ".a@c", "\".a\"@c" },
		{ "a..b@c", "\"a..b\"@c" },
		{ "@c", "\"\"@c" },
		{ "x@y@c", "\"x@y\"@c" },
		{ "a", "a" },
		{ "", "" },
		{ "a\\b@c", "\"a\\\\b\"@c" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = BUF_INIT, back = BUF_INIT;

		ok(mail_addr_quote(sv_from(rows[i][0]), &out), "quote '%s'", rows[i][0]);
		is_str(buf_cstr(&out), rows[i][1], "  external form");
		is_int(mail_addr_unquote(buf_sv(&out), &back), 0, "  unquote");
		is_str(buf_cstr(&back), rows[i][0], "  and back");
		buf_fini(&out);
		buf_fini(&back);
	}
	struct buf out = BUF_INIT;

	is_int(mail_addr_unquote(SV("\"a"), &out), E_SYNTAX, "open quote");
	is_int(mail_addr_unquote(SV("a\\"), &out), E_SYNTAX, "open escape");
	buf_fini(&out);
}

static void ext_case(const char *local, const char *delims, const char *base, const char *ext)
{
	struct sv b, e;
	bool has = mail_addr_split_ext(sv_from(local), delims, &b, &e);

	is_int(has, ext != NULL, "extension of '%s' by '%s'", local, delims);
	ok(sv_eq_str(b, base) && sv_eq_str(e, ext == NULL ? "" : ext), "  parts");
}

static void test_ext(void)
{
	ext_case("user+ext", "+", "user", "ext");
	ext_case("user+ext+more", "+", "user", "ext+more");
	ext_case("user-ext+x", "+-", "user", "ext+x");
	ext_case("user+", "+", "user", "");
	ext_case("+user", "+", "+user", NULL);
	ext_case("user", "+", "user", NULL);
	ext_case("user+ext", "", "user+ext", NULL);
	ext_case("mailer-daemon", "-", "mailer-daemon", NULL);
	ext_case("double-bounce", "-", "double-bounce", NULL);
	ext_case("owner-list", "-", "owner-list", NULL);
	ext_case("list-request", "-", "list-request", NULL);
}

static void test_hostnames(void)
{
	static const struct {
		const char *name;
		bool valid;
	} rows[] = {
		{ "a", true },        { "a.b", true },   { "a-b.c_d", true },
		{ "_dmarc.x", true }, { "1a.2b", true }, { "b\xc3\xbc.example", true },
		{ "", false },        { ".", false },    { "a.", false },
		{ ".a", false },      { "a..b", false }, { "-a", false },
		{ "a-", false },      { "a.-b", false }, { "1.2.3.4", false },
		{ "12", false },      { "a b", false },  { "a\xff", false },
		{ "a/b", false },     { "a:b", false },
	};
	char longest[300];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		is_int(mail_hostname_is_valid(sv_from(rows[i].name)), rows[i].valid, "name '%s'",
		       rows[i].name);
	memset(longest, 'a', sizeof(longest));
	ok(mail_hostname_is_valid((struct sv){ longest, 63 }), "label of 63");
	ok(!mail_hostname_is_valid((struct sv){ longest, 64 }), "label of 64");
	for (size_t i = 50; i < sizeof(longest); i += 51)
		longest[i] = '.';
	ok(mail_hostname_is_valid((struct sv){ longest, 254 }), "name of 254");
	ok(!mail_hostname_is_valid((struct sv){ longest, 256 }), "name of 256");
	ok(mail_hostaddr_is_valid(SV("192.0.2.1")) && mail_hostaddr_is_valid(SV("::1")),
	   "addresses");
	ok(!mail_hostaddr_is_valid(SV("192.0.2")) && !mail_hostaddr_is_valid(SV("1.2.3.4\0x")) &&
		   !mail_hostaddr_is_valid(SV("")),
	   "no addresses");
	char up[] = "User@EXAMPLE.Org";

	mail_addr_lower_domain(up, strlen(up));
	is_str(up, "User@example.org", "domain folded");
}

static void test_crack(void)
{
	static const struct {
		const char *in;
		bool bang, percent;
		const char *out;
	} rows[] = {
		{ "site!user", true, true, "user@site" },
		{ "a!b!user", true, true, "b!user@a" },
		{ "user%dom", true, true, "user@dom" },
		{ "user%a%b", true, true, "user%a@b" },
		{ "a!u%d", true, true, "u%d@a" },
		{ "site!user", false, true, NULL },
		{ "user%dom", true, false, NULL },
		{ "user%dom@x", true, true, NULL },
		{ "!user", true, true, NULL },
		{ "site!", true, true, NULL },
		{ "user%", true, true, NULL },
		{ "user%a b", true, true, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct buf out = BUF_INIT;

		is_int(mail_addr_crack(sv_from(rows[i].in), rows[i].bang, rows[i].percent, &out),
		       rows[i].out != NULL, "crack %s", rows[i].in);
		is_str(buf_cstr(&out), rows[i].out == NULL ? "" : rows[i].out, "  result");
		buf_fini(&out);
	}
}

/* Rewriting every address to [internal] shows ranges and forms at once. */
static void list_case(const char *in, const char *want)
{
	struct mail_addrlist l;
	struct mail_addrlist_item item;
	struct buf addr = BUF_INIT, out = BUF_INIT;
	size_t copied = 0;

	mail_addrlist_init(&l, sv_from(in));
	while (mail_addrlist_next(&l, &item, &addr)) {
		if (item.begin < copied || item.end <= item.begin || item.end > strlen(in))
			ok(false, "range %zu-%zu in '%s'", item.begin, item.end, in);
		buf_add(&out, in + copied, item.begin - copied);
		buf_printf(&out, "{%s}", buf_cstr(&addr));
		copied = item.end;
	}
	buf_add_str(&out, in + copied);
	is_str(buf_cstr(&out), want, "list: %s", in);
	buf_fini(&addr);
	buf_fini(&out);
}

static void test_lists(void)
{
	list_case("a@b", "{a@b}");
	list_case(" a@b , c", " {a@b} , {c}");
	list_case("Joe <a@b>", "Joe <{a@b}>");
	list_case("\"Joe, Jr.\" <a@b>,c@d", "\"Joe, Jr.\" <{a@b}>,{c@d}");
	list_case("J. Random (x, y <z@z>) <a@b>", "J. Random (x, y <z@z>) <{a@b}>");
	list_case("a@b (Joe), c@d", "{a@b} (Joe), {c@d}");
	list_case("a (x) @ (y) b", "{a@b}");
	list_case("list: a@b, C <c@d>; , e@f", "list: {a@b}, C <{c@d}>; , {e@f}");
	list_case("undisclosed-recipients:;", "undisclosed-recipients:;");
	list_case("<@r,@s:a@b>", "<{a@b}>");
	list_case("\"a b\"@c", "{a b@c}");
	list_case("<\"a\\\"b\"@c>", "<{a\"b@c}>");
	list_case("a@[192.0.2.1]", "{a@[192.0.2.1]}");
	list_case("<>", "<>");
	list_case("", "");
	list_case(",,,", ",,,");
	list_case("foo bar", "foo bar");
	list_case("foo bar@x", "foo bar@x");
	list_case("@x, a@b", "@x, {a@b}");
	list_case("a@, b", "a@, {b}");
	list_case("=?utf-8?q?J=C3=B6?= <j@x>", "=?utf-8?q?J=C3=B6?= <{j@x}>");
	list_case("a@b,\r\n\tc@d", "{a@b},\r\n\t{c@d}");
	list_case("(open a@b", "(open a@b");
	list_case("\"open a@b", "\"open a@b");
	list_case("<a@b", "<{a@b}");
	list_case("<a@b> junk, c@d", "<{a@b}> junk, {c@d}");
	list_case("<a@b<c@d>", "<a@b<c@d>");
	list_case("a@b>", "a@b>");
	list_case("J\xc3\xb6rg@b", "{J\xc3\xb6rg@b}");
	list_case("a: b: c@d;", "a: b: c@d;");
}

/* Nesting and length cost linear time and no stack. */
static void test_list_monsters(void)
{
	static const char *const pieces[] = { "(", "\"", "<", "a:", "@a,", "a.", ",", "\\", "[" };
	size_t n = 1000000;
	char *text = malloc(n);

	for (size_t p = 0; p < ARRAY_LEN(pieces); p++) {
		struct mail_addrlist l;
		struct mail_addrlist_item item;
		struct buf addr = BUF_INIT;
		unsigned found = 0;

		for (size_t i = 0; i < n; i++)
			text[i] = pieces[p][i % strlen(pieces[p])];
		mail_addrlist_init(&l, (struct sv){ text, n });
		while (mail_addrlist_next(&l, &item, &addr))
			found++;
		ok(found == 0 && addr.cap < 4096, "a million bytes of '%s'", pieces[p]);
		buf_fini(&addr);
	}
	free(text);
}

int main(void)
{
	test_paths();
	test_numeric();
	test_limits();
	test_forms();
	test_ext();
	test_hostnames();
	test_crack();
	test_lists();
	test_list_monsters();
	return tap_done();
}
