/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tests of workers/rewrite/fromname.c: the From header of local mail. */
#include "workers/rewrite/fromname.h"

#include "lib/log.h"
#include "t/unit/tap.h"

static void check(const char *name, const char *addr, bool obsolete, const char *want)
{
	struct buf b = BUF_INIT;

	from_value_add(sv_from(name), sv_from(addr), obsolete, "utf-8", &b);
	is_str(buf_cstr(&b), want, "%s%s", name, obsolete ? " (obsolete)" : "");
	buf_fini(&b);
}

int main(void)
{
	struct buf b = BUF_INIT;
	char long_name[400];

	check("", "a@x", false, "a@x");
	check("  ", "a@x", true, "a@x");
	check("Jo Doe", "a@x", false, "Jo Doe <a@x>");
	check("Jo Doe", "a@x", true, "a@x (Jo Doe)");
	check("Doe, Jo", "a b@x", false, "\"Doe, Jo\" <\"a b\"@x>");
	check("\"J\\D\"", "a@x", false, "\"\\\"J\\\\D\\\"\" <a@x>");
	check("a (b) \\", "a@x", true, "a@x (a \\(b\\) \\\\)");
	check("J\303\274rgen M.", "a@x", false, "=?utf-8?Q?J=C3=BCrgen=20M=2E?= <a@x>");
	check("J\303\274", "a@x", true, "a@x (=?utf-8?Q?J=C3=BC?=)");
	for (size_t i = 0; i < 100; i++)
		memcpy(long_name + 2 * i, "\303\274", 2);
	from_value_add((struct sv){ long_name, 200 }, SV("a@x"), false, "utf-8", &b);
	size_t line = 0, longest = 0;

	for (size_t i = 0; i < b.len; i++) {
		line = b.p[i] == '\n' ? 0 : line + 1;
		longest = size_max(longest, line);
	}
	ok(longest <= 78, "long names are folded");
	ok(strstr(b.p, "=C3?=") == NULL, "not within a character");
	buf_fini(&b);
	return tap_done();
}
