/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The ground floor: strings, buffers, arenas, maps, checksums, log lines. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/str.h"
#include "t/unit/tap.h"

static char logged[4096];

static void sink(void *ctx UNUSED, enum log_level level UNUSED, const char *program,
		 const char *text, size_t len)
{
	snprintf(logged, sizeof(logged), "%s: %.*s", program, (int)len, text);
}

static void test_str(void)
{
	uint64_t u;
	char s[] = "a\nb\tc\x80"
		   "\xc3\xa9\xed\xa0\x80\xc2\x85";

	str_make_printable(s, sizeof(s) - 1);
	is_str(s, "a?b?c?\xc3\xa9?????", "control bytes, broken UTF-8 and C1 become ?");
	ok(str_is_utf8("\xf0\x9f\x93\xa7", 4), "four-byte UTF-8");
	ok(!str_is_utf8("\xc0\xaf", 2), "overlong refused");
	ok(!str_is_utf8("\xf4\x90\x80\x80", 4), "above U+10FFFF refused");
	ok(!str_is_utf8("\xe2\x82", 2), "cut sequence refused");
	is_int(str_to_u64(SV("18446744073709551615"), UINT64_MAX, &u), 0, "largest u64");
	is_int(str_to_u64(SV("18446744073709551616"), UINT64_MAX, &u), E_LIMIT, "one more");
	is_int(str_to_u64(SV(""), 10, &u), E_SYNTAX, "empty number");
	is_int(str_to_u64(SV("11"), 10, &u), E_LIMIT, "above the bound");
	is_int(str_to_u64(SV("1x"), 10, &u), E_SYNTAX, "trailing junk");
}

PRINTF_LIKE(1, 2) static void format_is_vsnprintf(const char *fmt, ...)
{
	char want[64], got[64];
	bool same = true;
	va_list ap;

	for (size_t size = 0; size <= sizeof(want); size++) {
		memset(want, '#', sizeof(want));
		memset(got, '#', sizeof(got));
		va_start(ap, fmt);
		int n = vsnprintf(want, size, fmt, ap);

		va_end(ap);
		va_start(ap, fmt);
		same = same && str_vformat(got, size, fmt, ap) == n;
		va_end(ap);
		/* behind the end of the text both may write what they like, within size */
		same = same && memcmp(want, got, size_min(size, (size_t)n + 1)) == 0 &&
		       memcmp(want + size, got + size, sizeof(want) - size) == 0;
	}
	ok(same, "format \"%s\"", fmt);
}

static void test_format(void)
{
	const char *volatile none = NULL;

	format_is_vsnprintf("no conversion");
	format_is_vsnprintf("%s: client=%s", "4Zabc", "host[127.0.0.1]");
	format_is_vsnprintf("%.*s|%.*s|%.*s|", 3, "abcdef", 0, "x", -1, "all of it");
	format_is_vsnprintf("%d %d %d %u", 0, INT_MIN, INT_MAX, UINT_MAX);
	format_is_vsnprintf("%s%s", "", "at the end");
	format_is_vsnprintf("%s %.*s %.*s", none, 5, none, 6, none);
	format_is_vsnprintf("%5s %05d %lu %% %c", "a", 7, 8ul, 'c');
	format_is_vsnprintf("a text that is longer than the place there is for it, by far: %s%d",
			    "and more", 1);
}

static void test_buf(void)
{
	struct buf b = BUF_INIT;

	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%d,", i);
	is_int(b.len, 3890, "thousand numbers");
	buf_consume(&b, 3886);
	is_str(buf_cstr(&b), "999,", "consume keeps the rest");
	buf_fini(&b);
	buf_init(&b, 10);
	ok(buf_add_str(&b, "0123456789"), "up to the limit");
	ok(!buf_add_c(&b, 'x') && b.overflow, "one more is refused and remembered");
	ok(!buf_printf(&b, "%d", 5), "printf respects the limit");
	ok(!buf_add_uint(&b, 5), "and so do numbers");
	struct buf num = BUF_INIT;

	buf_add_uint(&num, 0);
	buf_add_c(&num, ' ');
	buf_add_uint(&num, UINT64_MAX);
	is_str(buf_cstr(&num), "0 18446744073709551615", "numbers");
	buf_fini(&num);
	is_str(buf_cstr(&b), "0123456789", "content is whole");
	buf_fini(&b);
}

static void test_arena(void)
{
	struct arena a;

	arena_init(&a, 256, 1024);
	ok(arena_strdup(&a, "hello") != NULL, "small allocation");
	ok(arena_alloc(&a, 900) != NULL, "larger than a chunk");
	ok(arena_alloc(&a, 200) == NULL && a.full, "past the limit");
	ok(arena_alloc(&a, 8) != NULL && a.full, "full is sticky");
	arena_reset(&a);
	ok(!a.full && arena_alloc(&a, 1000) != NULL, "usable after a reset");
	is_str((arena_reset(&a), arena_printf(&a, "%d-%s", 5, "x")), "5-x", "printf");
	arena_fini(&a);
}

static void test_map(void)
{
	struct strmap *m = strmap_new();
	char key[16];
	size_t wrong = 0;

	for (intptr_t i = 1; i <= 5000; i++) {
		snprintf(key, sizeof(key), "k%d", (int)i);
		strmap_put(m, sv_from(key), (void *)i);
	}
	for (intptr_t i = 1; i <= 5000; i += 2) {
		snprintf(key, sizeof(key), "k%d", (int)i);
		wrong += strmap_remove(m, sv_from(key)) != (void *)i;
	}
	for (intptr_t i = 1; i <= 5000; i++) {
		snprintf(key, sizeof(key), "k%d", (int)i);
		wrong += strmap_get(m, sv_from(key)) != (i % 2 != 0 ? NULL : (void *)i);
	}
	is_int(wrong, 0, "5000 keys, every other removed");
	is_int(strmap_count(m), 2500, "count");
	for (int round = 0; round < 20000; round++) {
		snprintf(key, sizeof(key), "r%d", round);
		strmap_put(m, sv_from(key), key);
		strmap_remove(m, sv_from(key));
	}
	is_int(strmap_count(m), 2500, "churn leaves no trace");
	strmap_free(&m);
}

static void test_hash_keyed(void)
{
	/* from the paper on SipHash: key 00 .. 0f */
	static const uint64_t key[2] = { 0x0706050403020100, 0x0f0e0d0c0b0a0908 };
	unsigned char text[15];

	for (unsigned i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)i;
	ok(hash_keyed(key, text, 15) == 0xa129ca6149be45e5, "SipHash-2-4 of 15 bytes");
	ok(hash_keyed(key, text, 0) == 0x726fdb47dd0e0e31, "and of none");
}

/* Long input goes through lanes side by side; byte by byte it must come to the same. */
static void test_crc_lanes(void)
{
	static unsigned char text[8192];
	unsigned wrong = 0;
	uint32_t seed = 1, slow = 0;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (unsigned char)((seed = seed * 1664525 + 1013904223) >> 24);
	for (size_t n = 0; n < sizeof(text); n++) {
		wrong += crc32c(0, text, n) != slow;
		slow = crc32c(slow, text + n, 1);
	}
	is_int(wrong, 0, "CRC32C of every length up to 8 KiB");
	is_int(crc32c(crc32c(0, text, 3001), text + 3001, sizeof(text) - 3001),
	       crc32c(0, text, sizeof(text)), "in two long pieces");
}

static void test_next_part(void)
{
	struct sv rest = SV("a,,bc,"), none = { NULL, 0 };

	ok(sv_eq_str(sv_next_part(&rest, ','), "a"), "up to the separator");
	is_int((long)sv_next_part(&rest, ',').len, 0, "nothing between two");
	ok(sv_eq_str(sv_next_part(&rest, ','), "bc"), "the last that is ended");
	is_int((long)rest.len, 0, "nothing follows the last separator");
	rest = SV("ab");
	ok(sv_eq_str(sv_next_part(&rest, ','), "ab") && rest.len == 0, "all, without a separator");
	is_int((long)sv_next_part(&none, ',').len, 0, "of nothing, nothing");
}

int main(void)
{
	test_hash_keyed();
	is_int(crc32c(0, "123456789", 9), 0xe3069283, "CRC32C check value");
	is_int(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283, "in two pieces");
	test_crc_lanes();
	test_str();
	test_format();
	test_buf();
	test_arena();
	test_map();
	log_set_sink(sink, NULL);
	log_as("qmgr", LOG_LEVEL_WARN, "bad %s", "by\nte");
	is_str(logged, "postfix/qmgr: warning: bad by?te", "one line stays one line");
	log_text_as("smtp", "a\001b", 3);
	is_str(logged, "postfix/smtp: a?b", "text as it is, but for what cannot be printed");
	is_str(err_str(E_STALE), "stale owner or sequence", "own error text");
	is_str(err_str(E_NOSPC), "No space left on device", "errno text");
	test_next_part();
	return tap_done();
}
