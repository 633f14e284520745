/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What postscreen remembers of clients: records, records that are none, times that are too long,
 * cleaning, and what outlives a process. */
#include <inttypes.h>
#include <kclangc.h>
#include <stdio.h>
#include <string.h>

#include "conf/screen_use.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/verify/screened.h"

#define NOW_S 1700000000

static struct buf logged;

static void keep_log(void *ctx, enum log_level level, const char *program, const char *text,
		     size_t len)
{
	(void)ctx;
	(void)level;
	(void)program;
	buf_add(&logged, text, len);
	buf_add_c(&logged, '\n');
}

static const uint8_t v4[16] = { [10] = 0xff, [11] = 0xff, [12] = 192, 0, 2, 1 };
static const uint8_t v6[16] = { 0x20, 0x01, 0x0d, 0xb8, [15] = 7 };

static void put_raw(const char *path, const char *key, const char *value)
{
	KCDB *db = kcdbnew();

	ok(kcdbopen(db, path, KCOWRITER | KCOCREATE), "the file is open");
	kcdbset(db, key, strlen(key), value, strlen(value));
	kcdbclose(db);
	kcdbdel(db);
}

static void test_records(struct screened *s)
{
	const int64_t in[PROTO_SCREEN_TESTS] = { NOW_S + 60, NOW_S + 10 * 86400, 0, 1, INT64_MAX };
	int64_t out[PROTO_SCREEN_TESTS];

	ok(!screened_get(s, v4, out), "nothing is known");
	screened_put(s, v4, in);
	ok(screened_get(s, v4, out), "something is");
	is_int(out[0], NOW_S + 60, "as it was told");
	is_int(out[1], NOW_S + 3600, "but for no longer than the configuration says");
	is_int(out[2], 0, "never passed");
	is_int(out[3], 1, "not tested");
	is_int(out[4], NOW_S + 30 * 86400, "no end of time");
	ok(!screened_get(s, v6, out), "of that client only");
	screened_put(s, v6, in);
	is_int((int64_t)screened_count(s), 2, "two");
}

static void test_damage(const char *path, const struct params *p)
{
	static const struct {
		const char *value;
		int64_t want[PROTO_SCREEN_TESTS];
	} rows[] = {
		{ "1800000000;1800000001", { 1800000000, 1800000001, 1, 1, 1 } },
		{ "", { 1, 1, 1, 1, 1 } },
		{ "x;2;-3;4 ;99999999999999999999", { 1, 2, 1, 1, 1 } },
		{ ";;;;;;;;7", { 1, 1, 1, 1, 1 } },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int64_t out[PROTO_SCREEN_TESTS];

		put_raw(path, "192.0.2.1", rows[i].value);
		struct screened *s = screened_open(path, p);

		ok(screened_get(s, v4, out) && memcmp(out, rows[i].want, sizeof(out)) == 0,
		   "\"%s\"", rows[i].value);
		screened_close(&s);
	}
}

static void test_cleaning(const char *path, const struct params *p)
{
	int64_t out[PROTO_SCREEN_TESTS];
	struct screened *s = screened_open(path, p);

	ok(screened_get(s, v6, out), "it outlives the process");
	clock_fake_advance((int64_t)6 * 86400 * 1000);
	screened_tick(s);
	ok(screened_get(s, v6, out), "an expired one is kept for its time");
	clock_fake_advance((int64_t)3 * 86400 * 1000);
	screened_tick(s);
	ok(!screened_get(s, v6, out), "and then is not");
	ok(strstr(buf_cstr(&logged), "full cleanup: retained=") != NULL, "as the log says");
	screened_close(&s);
}

/* Which of several lines it is that has the cache. */
static void test_lines(void)
{
	static const char smtpd[] = "smtpd pass - - n - - smtpd\n";
	static const struct {
		const char *first, *second, *map;
	} rows[] = {
		{ "", "hash:/b", "hash:/b" },
		{ "hash:/a", "", "hash:/a" },
		{ "hash:/a", "hash:/b", "hash:/a" },
		{ "", "", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[300];

		snprintf(text, sizeof(text),
			 "25 inet n - n - 1 postscreen\n -o postscreen_cache_map=%s\n"
			 "26 inet n - n - 1 postscreen\n -o postscreen_cache_map=%s\n%s",
			 rows[i].first, rows[i].second, smtpd);
		struct conf *c = test_conf_both("", text);

		is_str(screen_params(c)->postscreen_cache_map, rows[i].map, "lines \"%s\", \"%s\"",
		       rows[i].first, rows[i].second);
		is_int(screen_has_cache(c), rows[i].map[0] != '\0', "is there one?");
		conf_free(&c);
	}
}

int main(void)
{
	struct conf *c =
		test_conf_both("postscreen_dnsbl_sites = bl.test\n",
			       "25 inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n");
	const struct params *p = conf_listener(c, 0)->screen->params;
	char dir[] = "/tmp/ph_screened_XXXXXX", path[64];

	ok(mkdtemp(dir) != NULL, "a directory");
	snprintf(path, sizeof(path), "%s/cache.kch", dir);
	log_set_sink(keep_log, NULL);
	clock_fake_set((int64_t)NOW_S * 1000);
	struct screened *s = screened_open(path, p);

	test_records(s);
	screened_close(&s);
	test_damage(path, p);
	test_cleaning(path, p);
	test_lines();
	unlink(path);
	rmdir(dir);
	buf_fini(&logged);
	conf_free(&c);
	return tap_done();
}
