/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Address verification without processes: who is answered what, when a probe is sent, what is kept
 * and for how long, damaged files and records, bounds; and the senders of probes. */
#include "workers/verify/core.h"

#include <kclangc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/mail/probeaddr.h"

#define DAY_S   86400
#define WAIT_MS 6000

static struct verify *v;
static char said[4096], probed[4096];
static unsigned probe_count, answer_count, warnings;
static int one, two; /* askers */

static void count_warnings(void *ctx UNUSED, enum log_level level, const char *program UNUSED,
			   const char *text UNUSED, size_t len UNUSED)
{
	warnings += level == LOG_LEVEL_WARN;
}

static void on_answer(void *ctx UNUSED, void *asker, uint32_t id, enum verify_status status,
		      struct sv text)
{
	size_t at = strlen(said);

	answer_count++;
	snprintf(said + at, sizeof(said) - at, "%c%u=%d %.*s;", asker == &one ? 'a' : 'b', id,
		 (int)status, (int)text.len, text.p);
}

static void on_probe(void *ctx UNUSED, struct sv addr)
{
	size_t at = strlen(probed);

	probe_count++;
	snprintf(probed + at, sizeof(probed) - at, "%.*s;", (int)addr.len, addr.p);
}

static const struct verify_ops ops = { .answer = on_answer, .probe = on_probe };
static const struct cache_times times = { .positive_expire = 31 * DAY_S,
					  .positive_refresh = 7 * DAY_S,
					  .negative_expire = 3 * DAY_S,
					  .negative_refresh = 3 * 3600 };

static void begin(const char *path, bool negative, uint64_t pending_max, uint64_t records_max)
{
	struct verify_conf conf = { .negative_cache = negative,
				    .pending_max = pending_max,
				    .clean_interval_s = 3600,
				    .map = "test" };

	verify_free(&v);
	said[0] = probed[0] = '\0';
	probe_count = answer_count = warnings = 0;
	v = verify_new(&conf, cache_open("address_verify_map", path, records_max, &times), &ops);
}

static void ask(void *asker, uint32_t id, const char *addr)
{
	said[0] = probed[0] = '\0';
	verify_ask(v, asker, id, sv_from(addr), WAIT_MS);
}

static void result(const char *addr, enum verify_status status, const char *text)
{
	said[0] = '\0';
	verify_result(v, sv_from(addr), status, sv_from(text));
}

static void pass(int64_t s)
{
	clock_fake_advance(s * 1000);
	clock_tick();
	said[0] = '\0';
	verify_tick(v);
}

static struct verify_stats stats(void)
{
	struct verify_stats s;

	verify_stats(v, &s);
	return s;
}

static void test_probe(void)
{
	begin(NULL, true, 10, 100);
	ask(&one, 1, "x@a.test");
	is_str(probed, "x@a.test;", "an unknown address is probed");
	is_str(said, "", "who asks waits");
	ask(&two, 7, "x@A.Test");
	is_str(probed, "", "one probe is enough for all, whatever the case of the domain");
	ask(&two, 8, "X@a.test");
	is_str(probed, "X@a.test;", "the local part is another one");
	result("x@a.test", VERIFY_OK, "250 ok");
	is_str(said, "b7=0 250 ok;a1=0 250 ok;", "the result is told to all who wait");
	ask(&one, 2, "x@a.test");
	is_str(said, "a2=0 250 ok;", "and known from then on");
	is_str(probed, "", "without a probe");
	ok(verify_has_waiters(v), "somebody waits still");
	pass(5);
	is_str(said, "", "as long as he wanted");
	pass(1);
	is_str(said, "b8=3 Address verification in progress;", "and no longer");
	ok(!verify_has_waiters(v), "nobody waits now");
	ask(&one, 3, "X@a.test");
	is_str(probed, "", "the probe is under way still");
	verify_forget(v, &one);
	result("X@a.test", VERIFY_BOUNCE, "550 no\nsuch\x01user");
	is_str(said, "", "nobody is told who is gone");
	ask(&one, 4, "X@a.test");
	is_str(said, "a4=2 550 no?such?user;", "but the result is kept, as printable text");
	said[0] = '\0';
	verify_ask(v, &one, 5, SV("now@a.test"), 0);
	is_str(said, "a5=3 Address verification in progress;", "who does not wait is told at once");
	verify_lost(v, SV("now@a.test"));
	ask(&one, 6, "now@a.test");
	is_str(probed, "now@a.test;", "a probe that was lost is sent again");
	pass(VERIFY_PROBE_TTL_S + 1);
	ask(&one, 7, "now@a.test");
	is_str(probed, "now@a.test;", "and one that is not heard of");
	result("other@a.test", VERIFY_DEFER, "later");
	ask(&one, 8, "other@a.test");
	is_str(said, "a8=1 later;", "a result nobody asked for is known, too");
	ask(&one, 9, "a:b@c.test");
	result("a:b@c.test", VERIFY_OK, "ok");
	is_str(said, "a9=0 ok;", "an address with a colon");
	ask(&one, 10, "a\nb@c.test");
	is_str(said, "a10=1 Address verification status unavailable;", "what is no address");
	is_int(stats().asked, 12, "questions are counted");
	is_int(stats().deliverable, 2, "and results");
}

static void test_times(void)
{
	begin(NULL, true, 10, 100);
	result("good@a.test", VERIFY_OK, "yes");
	result("bad@a.test", VERIFY_BOUNCE, "no");
	pass(3 * 3600 + 1);
	ask(&one, 1, "bad@a.test");
	is_str(said, "a1=2 no;", "a failure is answered for a while");
	is_str(probed, "bad@a.test;", "and probed again beside");
	ask(&one, 2, "bad@a.test");
	is_str(probed, "", "once");
	result("bad@a.test", VERIFY_OK, "now it is");
	ask(&one, 3, "bad@a.test");
	is_str(said, "a3=0 now it is;", "the newest result counts");
	pass(7 * DAY_S);
	ask(&one, 4, "good@a.test");
	is_str(said, "a4=0 yes;", "a success is answered longer");
	is_str(probed, "good@a.test;", "and probed again later");
	result("good@a.test", VERIFY_DEFER, "down");
	ask(&one, 5, "good@a.test");
	is_str(said, "a5=0 yes;", "one failure does not make it bad");
	is_str(probed, "good@a.test;", "it is asked about again");
	pass(24 * DAY_S);
	ask(&one, 6, "good@a.test");
	is_str(said, "", "it has expired");
	result("good@a.test", VERIFY_DEFER, "down");
	is_str(said, "a6=1 down;", "now the failure counts");
	is_int(stats().refreshes, 3, "probes to renew are counted");
	pass(3 * DAY_S + 1);
	pass(1);
	is_int(stats().records, 0, "cleaning removes what has expired");
	clock_fake_jump(1000000000000);
	clock_tick();
	result("late@a.test", VERIFY_OK, "yes");
	clock_fake_jump(900000000000);
	clock_tick();
	ask(&one, 7, "late@a.test");
	is_str(said, "", "a record from the future is none");
}

static void test_bounds(void)
{
	char addr[40];

	begin(NULL, false, 3, 1000);
	for (unsigned i = 0; i < 5; i++) {
		snprintf(addr, sizeof(addr), "n%u@a.test", i);
		ask(&one, i, addr);
	}
	is_int(probe_count, 3, "so many probes may be under way");
	is_str(said, "a4=1 Too many address verification requests;", "who comes later is refused");
	result("n0@a.test", VERIFY_BOUNCE, "no");
	is_str(said, "a0=2 no;", "without a cache of failures who waits is told all the same");
	is_int(stats().records, 0, "but it is not kept");
	ask(&one, 9, "n0@a.test");
	is_int(probe_count, 4, "and probed again");
	begin(NULL, true, 5000, 1000);
	for (unsigned i = 0; i < VERIFY_WAITERS_MAX + 2; i++) {
		snprintf(addr, sizeof(addr), "w%u@a.test", i);
		ask(i == 0 ? (void *)&two : (void *)&one, i, addr);
	}
	is_int(answer_count, 1, "one too many waits");
	is_str(said, "a1=3 Address verification in progress;", "the oldest of that asker goes");
	begin(NULL, true, 10, 200);
	for (unsigned i = 0; i < 150; i++) {
		snprintf(addr, sizeof(addr), "good%u@a.test", i);
		result(addr, VERIFY_OK, "yes");
	}
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(addr, sizeof(addr), "bad%u@a.test", i);
		result(addr, VERIFY_BOUNCE, "no");
	}
	is_int(stats().records, 200, "the cache does not grow beyond its limit");
	unsigned known = 0;

	for (unsigned i = 0; i < 150; i++) {
		snprintf(addr, sizeof(addr), "good%u@a.test", i);
		said[0] = '\0';
		verify_ask(v, &one, 1, sv_from(addr), 0);
		known += strstr(said, "yes") != NULL;
	}
	ok(known >= 100, "failures make room first (%u of 150 good ones are left)", known);
}

static void plain_file(const char *path)
{
	FILE *f = fopen(path, "w");

	for (unsigned i = 0; i < 1000; i++)
		fputs("this is no cache at all\n", f);
	fclose(f);
}

/* A process that has the file until pipes[1] is closed: locks are between processes. */
static pid_t owner_begin(const char *spec, int pipes[2])
{
	int ready[2];
	char c;

	if (pipe(pipes) != 0 || pipe(ready) != 0)
		return -1;
	pid_t pid = fork();

	if (pid == 0) {
		KCDB *db = kcdbnew();

		kcdbopen(db, spec, KCOWRITER | KCOTRYLOCK);
		close(pipes[1]);
		close(ready[1]);
		_exit(read(pipes[0], &c, 1) != 0);
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 0)
		pid = -1;
	close(ready[0]);
	close(pipes[0]);
	return pid;
}

static void test_file(void)
{
	char dir[] = "/tmp/ph-verify-XXXXXX", *path;
	int pipes[2];

	path = mkdtemp(dir) != NULL ? xasprintf("%s/cache.kch", dir) : NULL;
	begin(path, true, 10, 100);
	result("x@a.test", VERIFY_OK, "yes");
	result("y@a.test", VERIFY_BOUNCE, "no");
	pass(10);
	begin(path, true, 10, 100);
	ask(&one, 1, "x@a.test");
	is_str(said, "a1=0 yes;", "what is known survives");
	is_int(stats().records, 2, "all of it");
	begin(NULL, true, 10, 100);

	KCDB *db = kcdbnew();
	char *spec = xasprintf("%s#opts=s", path);
	static const char *const bad[] = { "",
					   "0",
					   "0:0:0:x",
					   "9:0:5:x",
					   "3:0:5:x",
					   "a:b:c:d",
					   "0:0:99999999999999999999:x",
					   "::::",
					   "0:0:5" };

	kcdbopen(db, spec, KCOWRITER | KCOTRYLOCK);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		char key[20];
		int n = snprintf(key, sizeof(key), "bad%u@a.test", i);

		kcdbset(db, key, (size_t)n, bad[i], strlen(bad[i]));
	}
	kcdbclose(db);
	begin(path, true, 20, 100);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		char key[20];

		snprintf(key, sizeof(key), "bad%u@a.test", i);
		ask(&one, i, key);
	}
	is_int(probe_count, ARRAY_LEN(bad), "damaged records are as none");
	is_int(answer_count, 0, "nothing of them is told");
	pass(3601);
	pass(1);
	is_int(stats().records, 2, "they are cleaned away, the others are not");
	verify_free(&v);

	pid_t other = owner_begin(spec, pipes);

	begin(path, true, 10, 100);
	ask(&one, 1, "x@a.test");
	is_str(probed, "x@a.test;", "a file that another process has: memory has to do");
	is_int(warnings, 1, "and the log says so");
	close(pipes[1]);
	waitpid(other, NULL, 0);
	kcdbdel(db);
	verify_free(&v);

	plain_file(path);
	begin(path, true, 10, 100);
	is_int(warnings, 1, "a file that is no cache");
	result("x@a.test", VERIFY_OK, "yes");
	begin(path, true, 10, 100);
	ask(&one, 1, "x@a.test");
	is_str(said, "a1=0 yes;", "is begun anew");
	verify_free(&v);
	unlink(path);
	begin(path, true, 10, 100);
	verify_free(&v);
	rmdir(dir);
	begin("/nowhere/at/all.kch", true, 10, 100);
	is_int(warnings, 1, "a directory that is not there");
	result("x@a.test", VERIFY_OK, "yes");
	is_int(stats().records, 1, "costs the file, not the service");
	unlink(path);
	rmdir(dir);
	free(spec);
	free(path);
}

static bool matches(const struct probe_addr *a, const char *addr, int64_t now_s, const char *want)
{
	struct buf out = BUF_INIT;
	bool good = probe_addr_match(a, sv_from(addr), now_s, &out) &&
		    strcmp(buf_cstr(&out), want) == 0;

	buf_fini(&out);
	return good;
}

static void test_sender(void)
{
	struct probe_addr fixed = { .sender = "double-bounce", .myorigin = "mx.test" };
	struct probe_addr timed = { .sender = "probe@other.test", .myorigin = "mx", .ttl_s = 60 };
	struct probe_addr null = { .sender = "<>", .myorigin = "mx" };
	struct buf out = BUF_INIT;
	char old[100];

	probe_addr_make(&fixed, 5, &out);
	is_str(buf_cstr(&out), "double-bounce@mx.test", "a sender, completed");
	ok(matches(&fixed, "Double-Bounce@MX.test", 5, "double-bounce@mx.test"), "is known");
	ok(!matches(&fixed, "double-bounces@mx.test", 5, ""), "not with something behind");
	ok(!matches(&fixed, "double-bounce@x.test", 5, ""), "nor at another domain");
	ok(!matches(&fixed, "double-bounce", 5, ""), "nor without one");
	buf_reset(&out);
	probe_addr_make(&timed, 60 * (31 * 10 + 30), &out);
	is_str(buf_cstr(&out), "probeBZ@other.test", "the time in Postfix's digits");
	str_copy(old, sizeof(old), buf_sv(&out));
	for (int64_t d = -2; d <= 2; d++)
		ok(matches(&timed, old, 60 * (31 * 10 + 30 + d), "probe@other.test") ==
			   (d >= -1 && d <= 1),
		   "good %lld times later", (long long)d);
	ok(!matches(&timed, "probe@other.test", 60 * 340, ""), "without a time it is not ours");
	ok(!matches(&timed, "probeBA@other.test", 60 * 340, ""), "nor with one that is none");
	ok(!matches(&timed, "probeZZZZZZZZZZZZZZZZZ@other.test", 60 * 340, ""), "or too long");
	buf_reset(&out);
	probe_addr_make(&null, 5, &out);
	is_int(out.len, 0, "the null sender");
	ok(!matches(&null, "", 5, "") && !matches(&null, "a@mx", 5, ""), "is no recipient");
	buf_fini(&out);
}

int main(void)
{
	log_set_sink(count_warnings, NULL);
	clock_fake_set(1700000000000);
	clock_tick();
	test_probe();
	test_times();
	clock_fake_set(1700000000000);
	clock_tick();
	test_bounds();
	test_file();
	test_sender();
	verify_free(&v);
	return tap_done();
}
