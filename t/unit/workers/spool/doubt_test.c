/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The list of deliveries in doubt: what is written is read, whatever was torn or damaged. */
#include "t/unit/workers/spool/support.h"
#include "workers/spool/doubt.h"

struct got {
	unsigned count;
	struct doubt last;
	char text[5000]; /* of the last one */
};

static void take(void *ctx, const struct doubt *d)
{
	struct got *g = ctx;
	size_t at = 0;

	g->count++;
	g->last = *d;
	at += (size_t)snprintf(g->text, sizeof(g->text), "%.*s|%.*s|%.*s", (int)d->transport.len,
			       d->transport.p, (int)d->nexthop.len, d->nexthop.p,
			       (int)d->sender.len, d->sender.p);
	for (size_t i = 0; i < d->rcpt_count && at < sizeof(g->text); i++)
		at += (size_t)snprintf(g->text + at, sizeof(g->text) - at, "|%.*s",
				       (int)d->rcpts[i].len, d->rcpts[i].p);
}

static struct got read_all(struct fixture *f, uint64_t *damaged_r)
{
	struct got g = { 0 };

	is_int(doubt_each(&f->dirs, take, &g, damaged_r), 0, "the list can be read");
	return g;
}

static int write_one(struct fixture *f, uint64_t n, uint64_t max_bytes)
{
	struct doubt d = { .qid = { 1700000000000000 + n, 7 }, .mask = 1, .began_us = (int64_t)n };
	struct buf lines = BUF_INIT;

	doubt_format(&d, &lines);
	int err = doubt_write(&f->dirs, buf_sv(&lines), max_bytes);

	buf_fini(&lines);
	return err;
}

static void test_line(void)
{
	struct fixture f;
	uint64_t damaged;
	struct sv rcpts[] = { SV("r@y"), SV("\"a b,%\"@z"), SV("-"), SV("\xc3\xa4@y") };
	struct doubt d = { .qid = { 1700000000123456, 7 },
			   .rcpt_first = 64,
			   .mask = 0xf000000000000001,
			   .began_us = 1700000000999999,
			   .found_us = 1700000001000001,
			   .held = true,
			   .cause = DOUBT_SYSTEM,
			   .transport = SV("smtp"),
			   .nexthop = SV("[::1]:25"),
			   .sender = SV("<>"),
			   .rcpts = rcpts,
			   .rcpt_count = 4 };
	struct buf lines = BUF_INIT;
	struct got g;

	fx_init(&f, 1, 0);
	is_int(read_all(&f, &damaged).count, 0, "no file is an empty list");
	doubt_format(&d, &lines);
	ok(memchr(lines.p, '\n', lines.len - 1) == NULL, "one line");
	is_int(doubt_write(&f.dirs, buf_sv(&lines), DOUBT_FILE_MAX), 0, "written");
	g = read_all(&f, &damaged);
	ok(g.count == 1 && damaged == 0, "and read");
	ok(qid_eq(g.last.qid, d.qid) && g.last.rcpt_first == 64 && g.last.mask == d.mask &&
		   g.last.began_us == d.began_us && g.last.found_us == d.found_us && g.last.held &&
		   g.last.cause == DOUBT_SYSTEM,
	   "numbers");
	is_str(g.text, "smtp|[::1]:25|<>|r@y|\"a b,%\"@z|-|\xc3\xa4@y", "texts");
	d.cause = DOUBT_CHILD;
	buf_reset(&lines);
	doubt_format(&d, &lines);
	doubt_write(&f.dirs, buf_sv(&lines), DOUBT_FILE_MAX);
	is_int(read_all(&f, &damaged).last.cause, DOUBT_CHILD, "another cause");
	d = (struct doubt){ .qid = d.qid, .mask = 1 };
	buf_reset(&lines);
	doubt_format(&d, &lines);
	doubt_write(&f.dirs, buf_sv(&lines), DOUBT_FILE_MAX);
	g = read_all(&f, &damaged);
	ok(g.count == 3 && g.last.rcpt_count == 0 && !g.last.held && g.last.cause == DOUBT_WORKER,
	   "nothing but the id is known");
	is_str(g.text, "||", "empty texts");
	buf_fini(&lines);
	fx_fini(&f);
}

static void test_damage(void)
{
	struct fixture f;
	struct stat st;
	uint64_t damaged;
	bool good = true;

	fx_init(&f, 1, 0);
	for (uint64_t n = 1; n <= 3; n++)
		write_one(&f, n, DOUBT_FILE_MAX);
	int fd = openat(f.dirs.root, "in_doubt", O_RDWR);

	if (fd < 0 || fstat(fd, &st) < 0)
		die("in_doubt");
	for (off_t at = 0; at < st.st_size; at++) {
		struct got g = { 0 };
		char was, now;

		io_pread_all(fd, &was, 1, at);
		now = was ^ 0x11;
		io_pwrite_all(fd, &now, 1, at);
		good = good && doubt_each(&f.dirs, take, &g, &damaged) == 0 && damaged >= 1 &&
		       g.count + damaged >= 2 && g.count <= 2;
		io_pwrite_all(fd, &was, 1, at);
	}
	ok(good, "no flipped byte is taken for something else");
	if (ftruncate(fd, st.st_size - 5) < 0)
		die("truncate");
	is_int(read_all(&f, &damaged).count, 2, "a torn line is left out");
	write_one(&f, 4, DOUBT_FILE_MAX);
	struct got g = read_all(&f, &damaged);

	ok(g.count == 3 && damaged == 1 && g.last.began_us == 4, "and does not spoil the next one");
	close(fd);
	fx_fini(&f);
}

static void test_bound(void)
{
	struct fixture f;
	struct stat st;
	uint64_t damaged;

	fx_init(&f, 1, 0);
	for (uint64_t n = 1; n <= 1000; n++)
		write_one(&f, n, 10000);
	struct got g = read_all(&f, &damaged);

	ok(g.count > 80 && g.count < 300 && g.last.began_us == 1000,
	   "%u of 1000 are kept, the newest ones", g.count);
	ok(fstatat(f.dirs.root, "in_doubt", &st, 0) == 0 && st.st_size <= 10000 &&
		   fstatat(f.dirs.root, "in_doubt.old", &st, 0) == 0 && st.st_size <= 10000,
	   "in two files of bounded size");
	fx_fini(&f);
}

int main(void)
{
	test_line();
	test_damage();
	test_bound();
	return tap_done();
}
