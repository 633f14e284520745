/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Several syncs of a journal under way at a time. The linker puts our function in the place of
 * fdatasync: it waits until the test says how it ends, so that their order is the test's.
 */
#include <pthread.h>

#include "t/unit/workers/spool/support.h"

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

#define CALLS 16u
#define BATCH 4u

/* Calls by their number since hold(); a verdict is 0 or an errno. With `by_file`, a call that was
 * let go lets go all later ones of its file (a sync may be made of two calls). */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool holding, by_file;
static unsigned begun, ended;
static int fds[CALLS];
static bool may_end[CALLS];
static int verdict[CALLS];

static bool let_go(int fd)
{
	for (unsigned i = 0; by_file && i < begun; i++) {
		if (fds[i] == fd && may_end[i])
			return true;
	}
	return false;
}

int __wrap_fdatasync(int fd)
{
	int result = 0;

	pthread_mutex_lock(&lock);
	if (holding && begun < CALLS && !let_go(fd)) {
		unsigned n = begun++;

		fds[n] = fd;
		while (!may_end[n])
			pthread_cond_wait(&changed, &lock);
		result = verdict[n];
		ended++;
	}
	pthread_mutex_unlock(&lock);
	errno = result;
	return result == 0 ? 0 : -1;
}

static void hold(bool on)
{
	pthread_mutex_lock(&lock);
	holding = on;
	by_file = false;
	begun = ended = 0;
	memset(may_end, 0, sizeof(may_end));
	memset(verdict, 0, sizeof(verdict));
	pthread_mutex_unlock(&lock);
}

static unsigned read_locked(const unsigned *n)
{
	pthread_mutex_lock(&lock);
	unsigned v = *n;

	pthread_mutex_unlock(&lock);
	return v;
}

struct lfixture {
	struct fixture f;
	struct journal_writer *j;
};

static void turns(struct lfixture *t, int n)
{
	while (n-- > 0) {
		while (t->f.needs > 0) {
			t->f.needs--;
			journal_writer_grant(t->j, t->f.next_number++,
					     (struct journal_owner){ 0, 0 });
		}
		loop_turn(t->f.loop, 1);
	}
}

static void append(struct lfixture *t, uint8_t kind, unsigned count)
{
	struct outcome o = { .kind = kind, .qid = { 5, 6 }, .mask = 1 };
	struct proto_jref ref;
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;

	while (count > 0) {
		int err = journal_append(t->j, &o, &ref);

		if (err == 0)
			count--;
		else if (err != E_AGAIN || clock_mono_us_raw() > end)
			die("append: %s", err_str(err));
		else
			turns(t, 1);
	}
}

/* With one sync done, so that one call is one sync from here on (journal_file_zero_ahead()). */
static void init(struct lfixture *t, unsigned lanes, uint64_t file_bytes)
{
	struct journal_conf conf = { .sync_window_ms = 3600000,
				     .batch = BATCH,
				     .lanes = lanes,
				     .file_bytes = file_bytes,
				     .need_file = fx_need,
				     .closed_file = fx_closed,
				     .ctx = &t->f };

	memset(t, 0, sizeof(*t));
	hold(false);
	fx_init(&t->f, 0, 0);
	if (journal_writer_new(&conf, &t->f.dirs, t->f.loop, &t->j) != 0)
		die("no journal");
	loop_add_hook(t->f.loop, journal_writer_poll, t->j);
	append(t, OUTCOME_STARTED, 1);
	if (journal_sync(t->j) != 0)
		die("no sync");
	hold(true);
}

static void fini(struct lfixture *t)
{
	pthread_mutex_lock(&lock);
	holding = false;
	memset(may_end, true, sizeof(may_end));
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	journal_writer_free(&t->j);
	fx_fini(&t->f);
}

static bool wait_begun(struct lfixture *t, unsigned n)
{
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;

	while (read_locked(&begun) < n && clock_mono_us_raw() < end)
		turns(t, 1);
	turns(t, 10);
	return read_locked(&begun) == n;
}

static void end_sync(struct lfixture *t, unsigned n, int how)
{
	unsigned before = read_locked(&ended);
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;

	pthread_mutex_lock(&lock);
	may_end[n] = true;
	verdict[n] = how;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	while (read_locked(&ended) == before && clock_mono_us_raw() < end)
		turns(t, 1);
	turns(t, 20);
}

/* Is it durable? The loop takes a finished sync some turns after its end. */
static int has(struct lfixture *t, uint64_t position, int want)
{
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;
	int got;

	while ((got = journal_has(t->j, position, true)) != want && clock_mono_us_raw() < end)
		turns(t, 1);
	return got;
}

static void test_batch(void)
{
	struct lfixture t;

	init(&t, 1, 1 << 20);
	append(&t, OUTCOME_STARTED, BATCH - 1);
	append(&t, OUTCOME_RESULT, 3 * BATCH);
	ok(wait_begun(&t, 0), "fewer starts than a batch, whatever else: no sync");
	append(&t, OUTCOME_STARTED, 1);
	ok(wait_begun(&t, 1), "a batch of starts begins a sync, though nobody waits");
	append(&t, OUTCOME_STARTED, BATCH);
	ok(wait_begun(&t, 1), "with one lane the next batch waits");
	is_int(journal_has(t.j, 2, true), 0, "not durable while the sync is under way");
	end_sync(&t, 0, 0);
	is_int(has(&t, 4 * BATCH + 1, 1), 1, "durable after it");
	ok(wait_begun(&t, 2), "and the next sync begins");
	fini(&t);
}

static void test_order(void)
{
	struct lfixture t;

	init(&t, 3, 1 << 20);
	for (unsigned i = 1; i <= 3; i++) {
		append(&t, OUTCOME_STARTED, BATCH);
		if (!wait_begun(&t, i))
			die("sync %u did not begin", i);
	}
	ok(fds[0] != fds[1] && fds[1] != fds[2] && fds[0] != fds[2],
	   "each sync has an open file of its own, so each hears of an error");
	append(&t, OUTCOME_STARTED, BATCH);
	ok(wait_begun(&t, 3), "no more than three");
	end_sync(&t, 1, 0);
	is_int(journal_has(t.j, 1 + 2 * BATCH, true), 0, "the second was faster: not yet durable");
	end_sync(&t, 0, 0);
	is_int(has(&t, 1 + 2 * BATCH, 1), 1, "after the first both are");
	is_int(journal_has(t.j, 2 + 2 * BATCH, true), 0, "the third is not");
	ok(wait_begun(&t, 4), "who waited for a lane has one");
	end_sync(&t, 2, 0);
	end_sync(&t, 3, 0);
	is_int(has(&t, 1 + 4 * BATCH, 1), 1, "all are durable");
	fini(&t);
}

static void test_waiting(void)
{
	struct lfixture t;

	init(&t, 3, 1 << 20);
	append(&t, OUTCOME_STARTED, BATCH);
	if (!wait_begun(&t, 1))
		die("no sync");
	journal_has(t.j, 2, true);
	ok(wait_begun(&t, 1), "who waits for what a sync covers begins no other");
	append(&t, OUTCOME_STARTED, 1);
	journal_has(t.j, 2 + BATCH, true);
	ok(wait_begun(&t, 2), "who waits for more does");
	fini(&t);
}

static void test_failures(void)
{
	struct lfixture t;

	init(&t, 3, 1 << 20);
	append(&t, OUTCOME_STARTED, BATCH);
	wait_begun(&t, 1);
	append(&t, OUTCOME_STARTED, BATCH);
	wait_begun(&t, 2);
	end_sync(&t, 1, 0);
	end_sync(&t, 0, EIO);
	is_int(has(&t, 2, E_IO), E_IO, "the first sync failed: its outcomes are lost");
	is_int(journal_has(t.j, 1 + 2 * BATCH, true), E_IO,
	       "what a later sync said of that file is not believed");
	fini(&t);

	init(&t, 3, 1 << 20);
	append(&t, OUTCOME_STARTED, BATCH);
	wait_begun(&t, 1);
	append(&t, OUTCOME_STARTED, BATCH);
	wait_begun(&t, 2);
	end_sync(&t, 0, 0);
	is_int(has(&t, 1 + BATCH, 1), 1, "the first is durable");
	end_sync(&t, 1, EIO);
	is_int(has(&t, 1 + 2 * BATCH, E_IO), E_IO, "the second failed");
	is_int(journal_has(t.j, 1 + BATCH, true), 1, "which takes nothing away from the first");
	append(&t, OUTCOME_STARTED, 1);
	is_int(t.f.next_number, 3, "the journal goes on in a new file");
	fini(&t);
}

/* The old file's outcomes come first also when the new file's sync is faster. */
static void test_change_of_file(void)
{
	struct lfixture t;
	uint64_t before, first;

	init(&t, 3, 65536);
	hold(false);
	while (t.f.next_number < 3) {
		append(&t, OUTCOME_RESULT, 10);
		turns(&t, 1);
	}
	turns(&t, 100); /* the next file is made */
	if (journal_sync(t.j) != 0)
		die("no sync");
	before = journal_position(t.j);
	hold(true);
	by_file = true;
	while (read_locked(&begun) == 0) { /* the old one, when it is full */
		append(&t, OUTCOME_RESULT, 100);
		turns(&t, 1);
	}
	first = journal_position(t.j);
	append(&t, OUTCOME_STARTED, BATCH);
	ok(wait_begun(&t, 2), "the new file is synced while the old one still is");
	ok(fds[0] != fds[1], "they are different files");
	end_sync(&t, 1, 0);
	is_int(journal_has(t.j, first + BATCH, true), 0, "the new one's outcomes wait for the old");
	is_int(t.f.closed_count, 0, "which is not closed while it is synced");
	end_sync(&t, 0, 0);
	is_int(has(&t, before + 1, 1), 1, "the old one's are durable");
	turns(&t, 10);
	is_int(t.f.closed_count, 1, "and it is closed");
	fini(&t);
}

int main(void)
{
	clock_init();
	log_set_sink(log_sink, NULL);
	test_batch();
	test_order();
	test_waiting();
	test_failures();
	test_change_of_file();
	return tap_done();
}
