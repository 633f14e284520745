/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The commit rule under failing storage. The linker puts our functions in the place of pwrite,
 * fdatasync, fsync and fallocate (-Wl,--wrap). They keep, beside the files, what a power cut would
 * leave: the bytes a file had when a successful fdatasync of it began, and the names a directory
 * had when it was synced. Every commit callback without error is checked against that, while the
 * Nth call of each kind fails.
 */
#include <pthread.h>

#include "t/unit/workers/spool/support.h"

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t off);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_fallocate(int fd, int mode, off_t off, off_t len);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_fallocate(int fd, int mode, off_t off, off_t len);

enum call { CALL_PWRITE, CALL_FDATASYNC, CALL_FSYNC, CALL_FALLOCATE, CALL_COUNT };
enum fault { FAULT_EIO, FAULT_ENOSPC, FAULT_SHORT, FAULT_UNSUPPORTED, FAULTY_COUNT };

static const char *const call_names[CALL_COUNT] = { "pwrite", "fdatasync", "fsync", "fallocate" };
static const char *const faulty_names[FAULTY_COUNT] = { "EIO", "ENOSPC", "short", "EOPNOTSUPP" };

struct durable {
	ino_t ino;
	char *bytes;
	size_t len;
	bool failed; /* an fdatasync failed */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct durable files[512];
static unsigned file_count;
static bool names[4096]; /* segment numbers whose name is durable */
static unsigned calls[CALL_COUNT];
static unsigned fail_at, fail_for; /* the fail_at'th call fails, and fail_for - 1 more */
static enum call fail_call;
static enum fault fault;
static bool armed, fired;
static unsigned retried; /* fdatasync after a failed one */

static struct durable *durable_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	for (unsigned i = 0; i < file_count; i++) {
		if (files[i].ino == st.st_ino)
			return &files[i];
	}
	if (file_count == ARRAY_LEN(files))
		abort();
	files[file_count] = (struct durable){ .ino = st.st_ino };
	return &files[file_count++];
}

static bool fails(enum call c)
{
	bool fail = false;

	pthread_mutex_lock(&lock);
	if (armed && c == fail_call) {
		unsigned n = ++calls[c];

		fail = n >= fail_at && n < fail_at + fail_for;
		fired = fired || fail;
	}
	pthread_mutex_unlock(&lock);
	return fail;
}

static void arm(bool on)
{
	pthread_mutex_lock(&lock);
	armed = on;
	pthread_mutex_unlock(&lock);
}

static int fail_errno(void)
{
	errno = fault == FAULT_ENOSPC ? ENOSPC : fault == FAULT_UNSUPPORTED ? EOPNOTSUPP : EIO;
	return -1;
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off)
{
	if (!fails(CALL_PWRITE))
		return __real_pwrite(fd, p, n, off);
	if (fault == FAULT_SHORT && n > 1)
		return __real_pwrite(fd, p, n / 2, off);
	return fail_errno();
}

int __wrap_fallocate(int fd, int mode, off_t off, off_t len)
{
	return fails(CALL_FALLOCATE) ? fail_errno() : __real_fallocate(fd, mode, off, len);
}

static void take_snapshot(int fd, char **bytes_r, size_t *len_r)
{
	struct stat st;

	*bytes_r = NULL;
	*len_r = 0;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return;
	*bytes_r = xmalloc((size_t)st.st_size + 1);
	ssize_t n = pread(fd, *bytes_r, (size_t)st.st_size, 0);

	*len_r = n < 0 ? 0 : (size_t)n;
}

static int sync_file(int fd, bool fail, bool data_only)
{
	char *bytes;
	size_t len;

	take_snapshot(fd, &bytes, &len);
	pthread_mutex_lock(&lock);
	struct durable *d = durable_of(fd);

	if (d != NULL && d->failed)
		retried++;
	if (d != NULL && !fail) {
		free(d->bytes);
		d->bytes = bytes;
		d->len = len;
		bytes = NULL;
	} else if (d != NULL && data_only) {
		d->failed = true; /* (a failed fsync is of a file that goes away again) */
	}
	pthread_mutex_unlock(&lock);
	free(bytes);
	return fail ? fail_errno() : 0;
}

int __wrap_fdatasync(int fd)
{
	return sync_file(fd, fails(CALL_FDATASYNC), true);
}

static void sync_names(int fd)
{
	uint32_t *list = NULL;
	size_t count = 0;

	if (spool_list_dir(fd, "seg", &list, &count) != 0)
		return;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < count; i++) {
		if (list[i] < ARRAY_LEN(names))
			names[list[i]] = true;
	}
	pthread_mutex_unlock(&lock);
	free(list);
}

int __wrap_fsync(int fd)
{
	struct stat st;
	bool fail = fails(CALL_FSYNC);

	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
		if (!fail)
			sync_names(fd);
		return fail ? fail_errno() : 0;
	}
	return sync_file(fd, fail, false);
}

/* Would the record be found after a power cut now? */
static bool survives(struct fixture *f, const struct done *d)
{
	char name[SPOOL_NAME_SIZE];
	struct spool_record h;
	struct spool_file_head head;
	uint64_t off = (uint64_t)d->place.off8 * 8, bytes;
	int fd = openat(f->dirs.seg, spool_name(d->place.seg, "seg", name), O_RDONLY | O_CLOEXEC);
	bool good = false;

	if (fd < 0)
		return false;
	pthread_mutex_lock(&lock);
	struct durable *file = durable_of(fd);

	if (names[d->place.seg] && file != NULL && file->len >= off + d->place.len) {
		memcpy(&head, file->bytes, sizeof(head));
		memcpy(&h, file->bytes + off, sizeof(h));
		good = spool_head_ok(&head, SPOOL_SEGMENT_MAGIC, d->place.seg) &&
		       spool_record_plausible(&h, d->place.seg, &head.nonce, off, file->len,
					      &bytes) &&
		       spool_record_crc_ok(
			       &h, crc32c(0, file->bytes + off + 64, h.env_len + h.content_len)) &&
		       h.qid_us == fx_qid((unsigned)(uintptr_t)d->cookie).time_us;
	}
	pthread_mutex_unlock(&lock);
	close(fd);
	return good;
}

struct tally {
	unsigned taken, answered, good, lost, refused;
	bool waiting; /* the last append found no segment */
};

static void check_new(struct fixture *f, struct tally *t)
{
	for (; t->answered < f->done_count; t->answered++) {
		struct done *d = &f->done[t->answered];

		if (d->err != 0) {
			t->refused++;
		} else {
			t->good++;
			t->lost += !survives(f, d);
		}
	}
}

static void turn(struct fixture *f, struct tally *t)
{
	fx_grant(f);
	loop_turn(f->loop, t->waiting || t->taken > f->done_count ? 1 : 0);
	clock_fake_advance(350);
	check_new(f, t);
}

/* Messages of assorted sizes, a stream among them; every turn checks what was answered. */
static void load(struct fixture *f, struct tally *t, unsigned count)
{
	for (unsigned k = 0; k < count; k++) {
		unsigned id = t->taken + 1000 * (k == 0);
		struct spool_stream *s = NULL;
		struct spool_record h = fx_header(id);
		int err;

		if (k % 9 == 4 && spool_stream_open(f->w, 20000, &s) == 0) {
			spool_stream_add(s, call_names, sizeof(call_names));
			turn(f, t);
			err = spool_stream_commit(&s, &h, SV("env"), (void *)(uintptr_t)id);
		} else {
			err = fx_append(f, id, k % 7 == 3 ? 300000 : 100 + k * 997 % 6000);
		}
		t->taken += err == 0;
		t->waiting = err != 0;
		if (k % 3 == 2 || err != 0)
			turn(f, t);
	}
	for (int i = 0; i < 400 && f->done_count < t->taken; i++)
		turn(f, t);
}

/* Turn until a message is taken again, two seconds at the most. */
static void service_again(struct fixture *f, struct tally *t)
{
	int64_t end = clock_mono_us_raw() + 2000000;
	int err;

	do {
		t->waiting = true;
		turn(f, t);
		err = fx_append(f, t->taken, 100);
	} while (err != 0 && clock_mono_us_raw() < end);
	t->taken += err == 0;
}

static void forget(void)
{
	for (unsigned i = 0; i < file_count; i++)
		free(files[i].bytes);
	file_count = 0;
	memset(names, 0, sizeof(names));
	memset(calls, 0, sizeof(calls));
	fired = armed = false;
	retried = 0;
}

static bool run(unsigned max_syncs, unsigned inline_max, enum call c, enum fault what, unsigned at,
		unsigned times)
{
	struct fixture f;
	struct tally t = { 0 };

	forget();
	clock_fake_set(1700000000000);
	fx_init(&f, max_syncs, inline_max);
	f.conf.sync = true;
	fail_call = c;
	fault = what;
	fail_at = at;
	fail_for = times;
	arm(true);
	logged[0] = '\0';
	t.waiting = true;
	for (int i = 0; i < 3; i++)
		turn(&f, &t);
	load(&f, &t, 40);
	arm(false);
	unsigned during = t.good;

	clock_fake_advance(1100); /* past the retry of a segment that could not be made */
	service_again(&f, &t);
	load(&f, &t, 12);
	bool pass = t.lost == 0 && t.answered == t.taken && retried == 0 && t.good > during;

	if (!pass)
		printf("# %s %s at %u for %u, %u syncs, inline %u: taken %u answered %u lost %u "
		       "retried %u good %u/%u\n# %s\n",
		       call_names[c], faulty_names[what], at, times, max_syncs, inline_max, t.taken,
		       t.answered, t.lost, retried, during, t.good, logged);
	spool_writer_free(&f.w);
	check_new(&f, &t);
	pass = pass && t.lost == 0;
	fx_fini(&f);
	return pass;
}

static void sweep(enum call c, enum fault what, unsigned times)
{
	unsigned points = 0, passed = 0;
	static const struct {
		unsigned max_syncs, inline_max;
	} modes[] = { { 1, 0 }, { 2, 0 }, { 1, 4 } };

	/* the rarer combinations with one thread only */
	for (size_t m = 0; m < (times > 1 ? 1 : ARRAY_LEN(modes)); m++) {
		unsigned step = 1;

		for (unsigned at = 1; at < 200; at += step) {
			bool pass =
				run(modes[m].max_syncs, modes[m].inline_max, c, what, at, times);

			if (!fired)
				break;
			points++;
			passed += pass;
			if (at >= 6)
				step = 17;
		}
	}
	ok(points > 0 && points == passed, "%s %s x %u: %u of %u points", call_names[c],
	   faulty_names[what], times, passed, points);
}

/* The test must be able to fail: without syncs the same check finds losses. */
static void negative_control(void)
{
	struct fixture f;
	struct tally t = { 0 };
	struct spool_writer_ops ops = { fx_committed, fx_need, fx_closed, &f };

	forget();
	fx_init(&f, 0, 0);
	f.conf = (struct spool_writer_conf){ .segment_bytes = SEG_BYTES, .max_syncs = 1 };
	if (spool_writer_new(&f.conf, &ops, &f.dirs, f.loop, &f.w) != 0)
		die("writer");
	loop_add_hook(f.loop, spool_writer_poll, f.w);
	for (int i = 0; i < 20; i++) {
		turn(&f, &t);
		usleep(1000);
	}
	load(&f, &t, 20);
	ok(t.good > 0 && t.lost == t.good, "control: without sync all %u are seen as lost", t.good);
	fx_fini(&f);
}

static void test_no_space(void)
{
	struct fixture f;
	struct tally t = { 0 };

	forget();
	clock_fake_set(1700000000000);
	fx_init(&f, 1, 0);
	fail_call = CALL_FALLOCATE;
	fault = FAULT_ENOSPC;
	fail_at = 1;
	fail_for = 1000;
	arm(true);
	for (int i = 0; i < 10; i++) {
		turn(&f, &t);
		usleep(1000);
	}
	is_int(fx_append(&f, 0, 100), E_NOSPC, "a full disk is found before the message is taken");
	is_int(f.closed_count >= 1 && f.closed[0].bytes == 0, 1, "the number is given back");
	uint32_t *list = NULL;
	size_t count = 1;

	ok(spool_list(&f.dirs, SPOOL_SEGMENT, &list, &count) == 0 && count == 0,
	   "no half-made file stays");
	free(list);
	unsigned asked = f.next_number;

	for (int i = 0; i < 20; i++)
		turn(&f, &t); /* 7 s */
	ok(f.next_number <= asked + 7, "it is not tried at every turn");
	arm(false);
	for (int i = 0; i < 60; i++) {
		turn(&f, &t);
		usleep(500);
	}
	is_int(fx_append(&f, 1, 100), 0, "space again: service again");
	fx_fini(&f);
}

/* A journal on a disk that is gone, with outcomes that nobody can sync, lets its process sleep. */
static void test_failed_journal_sleeps(void)
{
	struct fixture f;
	struct journal_writer *j;
	struct outcome o = { .kind = OUTCOME_STARTED, .qid = { 1234567, 9 }, .mask = 1 };
	struct proto_jref ref;
	unsigned turns = 0;

	forget();
	clock_fake_off();
	fx_init(&f, 0, 0);
	struct journal_conf conf = {
		.file_bytes = 1 << 20, .need_file = fx_need, .closed_file = fx_closed, .ctx = &f
	};

	if (journal_writer_new(&conf, &f.dirs, f.loop, &j) != 0)
		die("no journal");
	loop_add_hook(f.loop, journal_writer_poll, j);
	while (journal_append(j, &o, &ref) == E_AGAIN) {
		while (f.needs > 0) {
			f.needs--;
			journal_writer_grant(j, f.next_number++, (struct journal_owner){ 0, 0 });
		}
		loop_turn(f.loop, 2);
	}
	fail_call = CALL_FDATASYNC;
	fault = FAULT_EIO;
	fail_at = 1;
	fail_for = 1000;
	arm(true);
	journal_has(j, 1, true);
	journal_writer_poll(j);
	is_int(journal_append(j, &o, &ref), 0, "one more while the first is synced");
	for (int i = 0; i < 1000 && journal_has(j, 1, true) != E_IO; i++)
		loop_turn(f.loop, 2);
	is_int(journal_has(j, 1, true), E_IO, "the sync has failed");
	for (int64_t end = clock_mono_us_raw() + 200000; clock_mono_us_raw() < end; turns++)
		loop_turn(f.loop, 20);
	ok(turns < 50, "%u turns of the loop in 200 ms", turns);
	arm(false);
	journal_writer_free(&j);
	fx_fini(&f);
}

int main(void)
{
	clock_init();
	log_set_sink(log_sink, NULL);
	negative_control();
	test_no_space();
	test_failed_journal_sleeps();
	for (int c = 0; c < CALL_COUNT; c++) {
		sweep((enum call)c, FAULT_EIO, 1);
		sweep((enum call)c, FAULT_ENOSPC, 3);
	}
	sweep(CALL_PWRITE, FAULT_SHORT, 1);
	sweep(CALL_PWRITE, FAULT_SHORT, 5);
	sweep(CALL_FALLOCATE, FAULT_UNSUPPORTED, 50);
	forget();
	return tap_done();
}
