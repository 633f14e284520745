/* SPDX-License-Identifier: GPL-3.0-or-later */
/* xtext and dates. */
#include <stdlib.h>
#include <time.h>

#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/mail/date.h"
#include "workers/mail/xtext.h"

static void decode_is(bool utf8, const char *in, const char *want)
{
	struct buf out = BUF_INIT;
	bool good = utf8 ? mail_utf8_xtext_decode(sv_from(in), &out)
			 : mail_xtext_decode(sv_from(in), &out);

	is_str(good ? buf_cstr(&out) : NULL, want, "decode '%s'", in);
	buf_fini(&out);
}

static void test_xtext(void)
{
	struct buf out = BUF_INIT, back = BUF_INIT;
	struct sv text = SV("a+b=c d\xc3\xb6~!");

	mail_xtext_encode(text, &out);
	is_str(buf_cstr(&out), "a+2Bb+3Dc+20d+C3+B6~!", "encode");
	ok(mail_xtext_decode(buf_sv(&out), &back) && sv_eq(buf_sv(&back), text), "and back");
	buf_fini(&out);
	buf_fini(&back);
	decode_is(false, "plain", "plain");
	decode_is(false, "", "");
	decode_is(false, "a+2bb", "a+b");
	static const char *const bad[] = { "a=b",  "a b",  "a+",   "a+2",  "a+0A", "a+0D",
					   "a+00", "a+7F", "a+XX", "\xc3", "a+C3", "a\n" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		decode_is(false, bad[i], NULL);
	decode_is(true, "j\\x{F6}@x", "j\xc3\xb6@x");
	decode_is(true, "\\x{20AC}\\x{1F600}", "\xe2\x82\xac\xf0\x9f\x98\x80");
	decode_is(true, "\\x{2B}", "+");
	static const char *const bad8[] = { "\\x{A}",       "\\x{0}", "\\x{D800}", "\\x{110000}",
					    "\\x{}",        "\\x{41", "\\x",       "\\",
					    "\\x{1234567}", "a+b",    "a=b",       "\xff" };

	for (size_t i = 0; i < ARRAY_LEN(bad8); i++)
		decode_is(true, bad8[i], NULL);
}

static void date_is(const char *zone, int64_t at_s, const char *want)
{
	struct buf out = BUF_INIT;

	setenv("TZ", zone, 1);
	tzset();
	mail_date_add(at_s, &out);
	is_str(buf_cstr(&out), want, "date in %s", zone);
	buf_fini(&out);
}

static void test_dates(void)
{
	date_is("UTC0", 0, "Thu, 01 Jan 1970 00:00:00 +0000 (UTC)");
	date_is("EST5", 1700000000, "Tue, 14 Nov 2023 17:13:20 -0500 (EST)");
	date_is("EST5", 1700000000, "Tue, 14 Nov 2023 17:13:20 -0500 (EST)");
	/* what was made for a second is kept: another zone, another second */
	date_is("IST-5:30", 1700000001, "Wed, 15 Nov 2023 03:43:21 +0530 (IST)");
	date_is("NST3:30", 1700000002, "Tue, 14 Nov 2023 18:43:22 -0330 (NST)");
	date_is("UTC0", 4102444800, "Fri, 01 Jan 2100 00:00:00 +0000 (UTC)");
}

int main(void)
{
	test_xtext();
	test_dates();
	return tap_done();
}
