/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queue time: clocks set ahead, back and right again, restarts with and without a boot. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/qclock.h"
#include "lib/clock.h"
#include "t/unit/tap.h"

#define START_S 1700000000LL
#define HOUR    3600LL
#define DAY     86400LL

static void begin(struct qclock *c)
{
	clock_fake_set(START_S * 1000);
	qclock_init(c, NULL, "boot1");
}

static void pass(struct qclock *c, int64_t s)
{
	for (; s > 0; s -= 600) {
		clock_fake_advance((s < 600 ? s : 600) * 1000);
		qclock_tick(c);
	}
}

static int64_t jump(struct qclock *c, int64_t s)
{
	clock_fake_jump(clock_wall_s() * 1000 + s * 1000);
	return qclock_tick(c);
}

static int64_t age(const struct qclock *c, int64_t stamp_s)
{
	return c->now_s - qclock_of(c, stamp_s);
}

static void test_ahead_and_back(void)
{
	struct qclock c;
	int64_t first, wrong;

	begin(&c);
	pass(&c, HOUR);
	first = clock_wall_s() - HOUR;
	is_int(jump(&c, 5 * DAY), 5 * DAY, "five days ahead are seen");
	is_int(age(&c, first), HOUR, "what was there is an hour old");
	pass(&c, HOUR);
	wrong = clock_wall_s() - HOUR;
	is_int(age(&c, first), 2 * HOUR, "and then two");
	is_int(age(&c, wrong), HOUR, "what came after the jump ages too");
	is_int(qclock_wall(&c, c.now_s), clock_wall_s(), "now is what the clock says");
	is_int(jump(&c, -5 * DAY), -5 * DAY, "set right again");
	pass(&c, HOUR);
	is_int(age(&c, first), 3 * HOUR, "three hours");
	is_int(age(&c, wrong), 2 * HOUR, "also for stamps of the wrong time");
	is_int(jump(&c, 30), 0, "half a minute is no jump");
	is_int(age(&c, clock_wall_s()), 0, "and what comes is new");
}

static void test_far(void)
{
	static const int64_t to[] = { 0, 2147483647, 4294967296 + DAY, 9000000000 };
	struct qclock c;

	for (unsigned i = 0; i < 4; i++) {
		begin(&c);
		int64_t first = clock_wall_s();

		pass(&c, HOUR);
		clock_fake_jump(to[i] * 1000);
		ok(qclock_tick(&c) != 0, "the clock says %lld", (long long)to[i]);
		is_int(age(&c, first), HOUR, "nothing is older by that");
		pass(&c, HOUR);
		is_int(age(&c, first), 2 * HOUR, "and it grows old");
		is_int(age(&c, to[i] + 60), HOUR - 60, "as what comes then does");
		clock_fake_jump((START_S + 2 * HOUR) * 1000);
		qclock_tick(&c);
		pass(&c, HOUR);
		is_int(age(&c, first), 3 * HOUR, "right again");
		/* begun far off: queue time fits 32 bits */
		clock_fake_set(to[i] * 1000);
		qclock_init(&c, NULL, "boot1");
		ok(c.now_s > 0 && c.now_s < (int64_t)3 << 30, "begun then");
		pass(&c, HOUR);
		is_int(age(&c, to[i]), HOUR, "an hour");
	}
}

static void test_many(void)
{
	struct qclock c;
	bool good = true;

	begin(&c);
	int64_t first = clock_wall_s();

	for (int i = 0; i < 100; i++) {
		pass(&c, 600);
		jump(&c, i % 2 == 0 ? HOUR : -HOUR);
		good = good && c.count <= QCLOCK_SPANS && age(&c, first) <= (i + 1) * 600;
	}
	ok(good, "a clock that is torn to and fro makes nothing older than it is");
}

static void test_restart(void)
{
	struct qclock c;
	struct qclock_seen seen;
	int64_t first;

	/* stopped for a minute */
	begin(&c);
	first = clock_wall_s();
	pass(&c, HOUR);
	jump(&c, 5 * DAY);
	qclock_look(&c, "boot1", &seen);
	clock_fake_advance(60000);
	is_int(qclock_init(&c, &seen, "boot1"), 0, "a restart");
	is_int(age(&c, first), HOUR + 60, "knows of the jump");
	ok(c.back_s == INT64_MIN, "and was not away");
	/* the clock was set while it was stopped */
	qclock_look(&c, "boot1", &seen);
	clock_fake_advance(60000);
	clock_fake_jump(clock_wall_s() * 1000 - 5 * DAY * 1000);
	is_int(qclock_init(&c, &seen, "boot1"), -5 * DAY, "a jump between two runs");
	is_int(age(&c, first), HOUR + 120, "counts for nothing");
	/* stopped for days */
	qclock_look(&c, "boot1", &seen);
	clock_fake_advance(5 * DAY * 1000);
	is_int(qclock_init(&c, &seen, "boot1"), 0, "five days off");
	is_int(age(&c, first), 5 * DAY + HOUR + 120, "are five days");
	is_int(c.back_s, c.now_s, "and all is tried again first");
}

static void test_boot(void)
{
	struct qclock c;
	struct qclock_seen seen;
	int64_t first;

	begin(&c);
	first = clock_wall_s();
	pass(&c, HOUR);
	qclock_look(&c, "boot1", &seen);
	clock_fake_advance(5 * DAY * 1000);
	is_int(qclock_init(&c, &seen, "boot2"), 0, "power off for five days");
	is_int(age(&c, first), 5 * DAY + HOUR, "are five days");
	ok(c.back_s == c.now_s, "and all is tried again first");
	/* a dead clock battery */
	clock_fake_set(0);
	ok(qclock_init(&c, &seen, "boot2") < -50 * 365 * DAY, "a boot in 1970");
	is_int(age(&c, first), HOUR, "makes nothing older");
	pass(&c, 600);
	jump(&c, START_S + 2 * HOUR - 600);
	is_int(age(&c, first), HOUR + 600, "nor does the right time then");
	/* a clock that is years ahead after the boot, and is then set right */
	clock_fake_set((START_S + 4000 * DAY) * 1000);
	is_int(qclock_init(&c, &seen, "boot2"), 0, "a boot in the far future");
	pass(&c, 600);
	jump(&c, -3999 * DAY);
	is_int(age(&c, first), DAY + 600, "what it claimed is taken back");
}

static void test_file(void)
{
	char dir[] = "/tmp/qclock_test.XXXXXX", path[64];
	struct qclock_file f;
	struct qclock_seen seen;
	struct qclock c;
	char page[8192];

	if (mkdtemp(dir) == NULL)
		abort();
	int fd = open(dir, O_RDONLY | O_DIRECTORY);

	begin(&c);
	jump(&c, DAY);
	ok(!qclock_file_open(&f, fd, false, &seen), "no file: nothing is known");
	ok(!qclock_file_open(&f, fd, true, &seen), "made");
	is_int(qclock_file_write(&f, &c, true), 0, "written");
	pass(&c, 60);
	is_int(qclock_file_write(&f, &c, false), 0, "and again");
	qclock_file_close(&f);
	ok(qclock_file_open(&f, fd, true, &seen), "read");
	ok(seen.wall_s == c.wall_s && seen.count == 2, "the newer page counts");
	ok(seen.span[0].off_s == c.span[0].off_s && seen.span[1].from_s == c.span[1].from_s,
	   "with its spans");
	/* a torn page leaves the other one; every flip is noticed */
	unsigned accepted = 0;
	ssize_t size = pread(f.fd, page, sizeof(page), 0);

	is_int(size, 8192, "two pages");
	for (unsigned i = 0; i < 160; i++) {
		char was = page[i];

		page[i] ^= 0x11;
		struct qclock_file g;

		if (pwrite(f.fd, page, sizeof(page), 0) != size)
			abort();
		bool got = qclock_file_open(&g, fd, false, &seen);

		accepted += !got || seen.wall_s != c.wall_s - 60;
		page[i] = was;
		qclock_file_close(&g);
	}
	ok(accepted <= 2, "a damaged page is not believed, the other one is (%u)", accepted);
	qclock_file_close(&f);
	close(fd);
	snprintf(path, sizeof(path), "%s/clock", dir);
	unlink(path);
	rmdir(dir);
}

int main(void)
{
	test_ahead_and_back();
	test_far();
	test_many();
	test_restart();
	test_boot();
	test_file();
	clock_fake_off();
	return tap_done();
}
