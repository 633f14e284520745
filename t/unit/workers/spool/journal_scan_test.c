/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recovery of journals from every state a crash can leave, and journals whose disk fails (the
 * linker puts our pwrite and fdatasync in place of the real ones, -Wl,--wrap).
 */
#include <sys/mman.h>

#include "t/unit/workers/spool/support.h"
#include "workers/spool/outcome.h"

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t off);
int __real_fdatasync(int fd);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off);
int __wrap_fdatasync(int fd);

static _Atomic int fail_pwrite, fail_fdatasync, syncs;

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off)
{
	if (atomic_load(&fail_pwrite) > 0) {
		errno = ENOSPC;
		return -1;
	}
	return __real_pwrite(fd, p, n, off);
}

int __wrap_fdatasync(int fd)
{
	atomic_fetch_add(&syncs, 1);
	if (atomic_load(&fail_fdatasync) > 0) {
		atomic_fetch_sub(&fail_fdatasync, 1);
		errno = EIO;
		return -1;
	}
	return __real_fdatasync(fd);
}

#define COUNT  12u
#define NUMBER 5u
#define NONCE  0x1122334455667788u

/* A journal made by hand, so that its bytes can be broken one by one. */
struct made {
	struct fixture f;
	struct buf bytes;
	size_t at[COUNT + 1]; /* where each outcome begins */
};

struct found {
	unsigned count, wrong;
	bool has[COUNT];
	struct spool_scan_stats stats;
	int err;
};

static void make(struct made *m)
{
	struct spool_file_head head;

	memset(m, 0, sizeof(*m));
	fx_init(&m->f, 0, 0);
	spool_head_fill(&head, SPOOL_JOURNAL_MAGIC, NUMBER, NONCE, 1);
	buf_add(&m->bytes, &head, sizeof(head));
	for (unsigned k = 0; k < COUNT; k++) {
		struct outcome_reason r = { .mask = 1, .text = SV("host said: 450 4.2.0 busy") };
		struct outcome o = { .kind = k % 3 == 0 ? OUTCOME_STARTED : OUTCOME_RESULT,
				     .qid = { 1000 + k, 3 },
				     .mask = 1,
				     .deferred = k % 3 != 0,
				     .reasons = &r,
				     .reason_count = k % 3 != 0 };

		m->at[k] = m->bytes.len;
		if (spool_outcome_encode(&o, NUMBER, NONCE, &m->bytes) != 0)
			die("encode");
	}
	m->at[COUNT] = m->bytes.len;
}

static void put(struct made *m, const char *p, size_t len, size_t reserved)
{
	char name[SPOOL_NAME_SIZE];
	int fd = openat(m->f.dirs.journal, spool_name(NUMBER, "jnl", name),
			O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0 || io_write_all(fd, p, len) != 0 || ftruncate(fd, (off_t)(len + reserved)) < 0)
		die("journal file");
	close(fd);
}

static int see(void *ctx, const struct outcome *o, struct proto_jref ref)
{
	struct found *s = ctx;
	unsigned k = (unsigned)(o->qid.time_us - 1000);

	s->count++;
	s->wrong += ref.journal != NUMBER || k >= COUNT || o->qid.life != 3;
	if (k < COUNT)
		s->has[k] = true;
	return 0;
}

static struct found scan(struct made *m)
{
	struct found s = { 0 };

	s.err = spool_scan_journal(&m->f.dirs, NUMBER, see, &s, &s.stats);
	return s;
}

static bool has_all_but(const struct found *s, unsigned count, int missing)
{
	for (unsigned k = 0; k < count; k++) {
		if (s->has[k] != ((int)k != missing))
			return false;
	}
	return s->err == 0 && s->wrong == 0 && s->count == count - (missing >= 0);
}

static void test_torn(void)
{
	struct made m;
	unsigned good = 0, n = 0;

	make(&m);
	put(&m, m.bytes.p, m.bytes.len, 0);
	struct found s = scan(&m);

	ok(has_all_but(&s, COUNT, -1), "a whole journal");
	put(&m, m.bytes.p, m.bytes.len, 100000);
	s = scan(&m);
	ok(has_all_but(&s, COUNT, -1), "with reserved space behind it");
	for (size_t len = 0; len < m.bytes.len; len += 1 + len % 3) {
		unsigned whole = 0;

		while (whole < COUNT && m.at[whole + 1] <= len)
			whole++;
		for (size_t reserved = 0; reserved <= 4096; reserved += 4096) {
			put(&m, m.bytes.p, len, reserved);
			s = scan(&m);
			n++;
			/* the padding of the last one may be missing: zeroes stand in for it */
			good += s.stats.damaged == 0 &&
				(has_all_but(&s, whole, -1) ||
				 (reserved > 0 && whole < COUNT && has_all_but(&s, whole + 1, -1)));
		}
	}
	is_int(good, n, "cut off at every byte: what was whole is found, nothing is damage");
	buf_fini(&m.bytes);
	fx_fini(&m.f);
}

static void test_flipped(void)
{
	struct made m;
	unsigned good = 0, counted = 0;

	make(&m);
	for (size_t at = m.at[6]; at < m.at[7]; at++) {
		m.bytes.p[at] ^= 4;
		put(&m, m.bytes.p, m.bytes.len, 64);
		m.bytes.p[at] ^= 4;
		struct found s = scan(&m);

		good += has_all_but(&s, COUNT, 6);
		counted += s.stats.damaged == 1;
	}
	is_int(good, m.at[7] - m.at[6], "a flipped bit in any byte costs that outcome only");
	ok(counted > (m.at[7] - m.at[6]) / 2, "and is counted unless it hides the header");
	m.bytes.p[20] ^= 4;
	put(&m, m.bytes.p, m.bytes.len, 64);
	struct found s = scan(&m);

	ok(has_all_but(&s, COUNT, -1), "a damaged file head costs nothing");
	buf_fini(&m.bytes);
	fx_fini(&m.f);
}

/* A remote site answers with the bytes of an outcome. */
static void test_forged(void)
{
	struct made m;
	struct buf evil = BUF_INIT;
	struct outcome fake = { .kind = OUTCOME_DELETED, .qid = { 1003, 3 }, .mask = 1 };

	make(&m);
	if (spool_outcome_encode(&fake, NUMBER, 99, &evil) != 0)
		die("encode");
	struct outcome_reason r = { .mask = 1, .text = buf_sv(&evil) };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = { 1000, 3 },
			     .mask = 1,
			     .bounced = 1,
			     .reasons = &r,
			     .reason_count = 1 };
	size_t at = m.bytes.len;

	spool_outcome_encode(&o, NUMBER, NONCE, &m.bytes);
	const char *p = memmem(m.bytes.p + at + 4, m.bytes.len - at - 4, "POUT", 4);

	ok(p != NULL && (size_t)(p - m.bytes.p) % 16 == 0,
	   "a forged outcome stands where one could");
	m.bytes.p[at + 40] ^= 1; /* the carrier is damaged, so that the scan looks inside */
	put(&m, m.bytes.p, m.bytes.len, 64);
	struct found s = scan(&m);

	ok(has_all_but(&s, COUNT, -1), "it is not taken for one");
	buf_fini(&evil);
	buf_fini(&m.bytes);
	fx_fini(&m.f);
}

/* ---- failing disks ---- */

struct live {
	struct fixture f;
	struct journal_writer *j;
};

static void live_init(struct live *t)
{
	memset(t, 0, sizeof(*t));
	fx_init(&t->f, 0, 0);
	struct journal_conf conf = { .sync_window_ms = 0,
				     .file_bytes = 1 << 20,
				     .counters = counters_of(&t->f.counters),
				     .need_file = fx_need,
				     .closed_file = fx_closed,
				     .ctx = &t->f };

	if (journal_writer_new(&conf, &t->f.dirs, t->f.loop, &t->j) != 0)
		die("journal");
	loop_add_hook(t->f.loop, journal_writer_poll, t->j);
}

static void turns(struct live *t, int n)
{
	while (n-- > 0) {
		for (; t->f.needs > 0; t->f.needs--)
			journal_writer_grant(t->j, t->f.next_number++,
					     (struct journal_owner){ 0, 0 });
		loop_turn(t->f.loop, 2);
	}
}

/* Append when a file is at hand, within three seconds. */
static int append_soon(struct live *t, const struct outcome *o, struct proto_jref *ref)
{
	int64_t end = clock_mono_us_raw() + 3000000;
	int err;

	do {
		turns(t, 3);
		err = journal_append(t->j, o, ref);
	} while (err != 0 && clock_mono_us_raw() < end);
	return err;
}

static void test_sync_fails(void)
{
	struct live t;
	struct outcome o = { .kind = OUTCOME_STARTED, .qid = { 1000, 3 }, .mask = 1 };
	struct proto_jref ref;

	live_init(&t);
	append_soon(&t, &o, &ref);
	is_int(journal_sync(t.j), 0, "sync");
	atomic_store(&fail_fdatasync, 1);
	journal_append(t.j, &o, &ref);
	is_int(journal_sync(t.j), E_IO, "a failed sync is told");
	atomic_store(&syncs, 0);
	is_int(journal_sync(t.j), E_IO, "and stays told: the outcome is not on disk");
	is_int(atomic_load(&syncs), 0, "it is not tried again");
	is_int(append_soon(&t, &o, &ref), 0, "the next file takes over");
	is_int(ref.journal, 2, "it is another one");
	turns(&t, 5);
	is_int(journal_sync(t.j), 0, "where syncs work");
	is_int(t.f.closed_count, 1, "the failed one was closed");
	/* the same in the thread */
	atomic_store(&fail_fdatasync, 1);
	journal_append(t.j, &o, &ref);
	while (atomic_load(&fail_fdatasync) > 0)
		turns(&t, 1);
	turns(&t, 3);
	is_int(journal_has(t.j, journal_position(t.j), true), E_IO, "it will never be there");
	is_int(journal_has(t.j, 1, true), 1, "unlike what was synced before");
	is_int(append_soon(&t, &o, &ref), 0, "after a failure in the background too");
	is_int(ref.journal, 3, "the next file takes over");
	journal_writer_free(&t.j);
	fx_fini(&t.f);
}

/* True when a turn of the loop waits. */
static bool sleeps(struct live *t)
{
	for (int i = 0; i < 20; i++) {
		int64_t at = clock_mono_us_raw();

		loop_turn(t->f.loop, 100);
		if (clock_mono_us_raw() - at > 90000)
			return true;
	}
	return false;
}

static void test_write_fails(void)
{
	struct live t;
	struct outcome o = { .kind = OUTCOME_STARTED, .qid = { 1000, 3 }, .mask = 1 };
	struct proto_jref ref;

	live_init(&t);
	append_soon(&t, &o, &ref);
	atomic_store(&fail_pwrite, 1);
	journal_append(t.j, &o, &ref);
	int err = journal_sync(t.j);

	ok(err < 0, "a failed write is told (%s)", err_str(err));
	turns(&t, 20);
	ok(journal_append(t.j, &o, &ref) < 0, "while the disk is full outcomes are refused");
	ok(sleeps(&t), "and nobody looks again and again");
	atomic_store(&fail_pwrite, 0);
	err = append_soon(&t, &o, &ref);
	is_int(err, 0, "with space again they are taken");
	is_int(journal_sync(t.j), 0, "and synced");
	journal_writer_free(&t.j);
	fx_fini(&t.f);
}

/* Space that is reserved and was never written is not read: of a journal that is nearly empty,
 * nearly nothing is in memory afterwards. On the disk of the build folder, since memory file
 * systems have no such space. */
static void test_reserved(void)
{
	char dir[] = "./journal-test-XXXXXX", path[64];
	size_t size = 64u << 20, pages = size / 4096, resident = 0;
	struct spool_file_head head;
	struct spool_dirs dirs;
	struct spool_scan_stats stats = { 0 };
	unsigned char *core = xmalloc(pages);

	if (mkdtemp(dir) == NULL || spool_dirs_open(dir, true, &dirs) != 0)
		die("no directory for the test");
	snprintf(path, sizeof(path), "%s/journal/%08x.jnl", dir, NUMBER);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	spool_head_fill(&head, SPOOL_JOURNAL_MAGIC, NUMBER, NONCE, 1);
	if (fd < 0 || fallocate(fd, 0, 0, (off_t)size) < 0 ||
	    pwrite(fd, &head, sizeof(head), 0) != sizeof(head) || fsync(fd) < 0) {
		ok(true, "space cannot be reserved here: skipped");
	} else {
		is_int(spool_scan_journal(&dirs, NUMBER, NULL, NULL, &stats), 0, "scanned");
		void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

		if (map == MAP_FAILED || mincore(map, size, core) < 0)
			die("mincore");
		for (size_t i = 0; i < pages; i++)
			resident += core[i] & 1;
		munmap(map, size);
		ok(resident < pages / 8, "%zu of %zu reserved pages were read", resident, pages);
	}
	io_close(&fd);
	spool_dirs_close(&dirs);
	fx_remove_dir(AT_FDCWD, dir);
	free(core);
}

int main(void)
{
	clock_init();
	log_set_sink(log_sink, NULL);
	test_reserved();
	test_torn();
	test_flipped();
	test_forged();
	test_sync_fails();
	test_write_fails();
	return tap_done();
}
