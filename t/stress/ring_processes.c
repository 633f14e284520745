/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Producer and consumer as processes that are killed with SIGKILL at random moments, as the
 * supervisor's workers are. The parent plays the supervisor: it learns of the death by waitpid()
 * and looks at the ring only afterwards. Three ways on: producer killed   the consumer drains the
 * old ring to its end; each record that was published arrived once, no other did; the next life
 * gets a fresh ring consumer killed,  (links) everything behind the shared tail is in doubt, by
 * name; it is sent fresh ring        again in the new ring; nothing else is repeated, nothing is
 * lost consumer killed,  (log) the next consumer takes up at the tail; only what was read and not
 *   same ring         released is seen twice
 * Ids go through all lives; arrivals are counted per id in memory that outlives them.
 */
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/rand.h"
#include "lib/util.h"
#include "shm/ring.h"
#include "t/unit/tap.h"

#define RING     2048u
#define IDS      (1u << 22)
#define ROUND_US 1000000 /* per way */

struct shared {
	_Atomic uint32_t committed; /* ids below were put into the ring, by the present producer */
	_Atomic uint32_t published; /* ids below were published for sure */
	_Atomic uint32_t arrived_bad;
	_Atomic uint32_t stop; /* no more input: the consumer drains and ends */
	_Atomic uint8_t arrivals[IDS];
	_Alignas(64) unsigned char ring[sizeof(struct ring_shm) + RING];
};

static struct shared *s;
static int prod_fd, cons_fd;

static uint32_t filler(uint32_t id)
{
	return id * 2654435761u;
}

static void sleep_on(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;

	/* The time-out stands for the supervisor's word that a peer has died. */
	if (poll(&p, 1, 50) == 1 && read(fd, &n, sizeof(n)) < 0)
		_exit(4);
}

/* Lets the killer run in the middle of things, too, however few processors there are. */
static void maybe_pause(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	if (*state >> 28 == 0)
		sched_yield();
}

/* ---- the two workers ---- */

static void producer(uint32_t first_id)
{
	struct ring_prod p;
	uint32_t rec[30], state = first_id;

	if (ring_prod_attach(&p, s->ring, sizeof(s->ring), cons_fd) != 0)
		_exit(3);
	for (uint32_t id = first_id; id < IDS; id++) {
		size_t len = 8 + 4 * (id % 28);

		rec[0] = id;
		for (size_t i = 1; i < len / 4; i++)
			rec[i] = filler(id);
		while (ring_put(&p, rec, len) != 0) {
			if (atomic_load(&s->stop))
				goto out;
			if (!ring_prod_wait(&p, len)) {
				atomic_store(&s->published, id);
				sleep_on(prod_fd);
			}
		}
		atomic_store(&s->committed, id + 1);
		maybe_pause(&state);
		if (id % 7 != 0)
			continue;
		ring_publish(&p);
		atomic_store(&s->published, id + 1);
		if (atomic_load(&s->stop))
			break;
	}
out:
	ring_publish(&p);
	_exit(0);
}

static void consumer(void)
{
	struct ring_cons c;
	uint32_t rec[64], state = 1;
	size_t len;

	if (ring_cons_attach(&c, s->ring, sizeof(s->ring), prod_fd) != 0)
		_exit(3);
	for (uint32_t n = 0;; n++) {
		int got = ring_get(&c, rec, sizeof(rec), &len);

		if (got < 0)
			_exit(5);
		if (got == 0) {
			bool last = atomic_load(&s->stop) == 2;

			ring_release(&c);
			if (last && ring_cons_is_empty(&c))
				_exit(0);
			if (!ring_cons_sleep(&c))
				sleep_on(cons_fd);
			ring_cons_awake(&c);
			continue;
		}
		if (rec[0] >= IDS || len != 8 + 4 * (rec[0] % 28) ||
		    rec[len / 4 - 1] != filler(rec[0]))
			atomic_fetch_add(&s->arrived_bad, 1);
		else
			atomic_fetch_add(&s->arrivals[rec[0]], 1);
		maybe_pause(&state);
		if (n % 5 == 0)
			ring_release(&c);
	}
}

static pid_t start_producer(uint32_t first_id)
{
	pid_t pid = fork();

	if (pid == 0)
		producer(first_id);
	return pid;
}

static pid_t start_consumer(void)
{
	pid_t pid = fork();

	if (pid == 0)
		consumer();
	return pid;
}

/* ---- the supervisor ---- */

/* After the ring is behind: SIGKILL at some moment, and the death is reaped. */
static void kill_at_random(pid_t pid)
{
	int64_t until = clock_mono_us_raw() + rand_below(6000);

	while (clock_mono_us_raw() < until)
		sched_yield();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static bool ended_well(pid_t pid, uint32_t stop)
{
	int status;
	uint64_t one = 1;

	atomic_store(&s->stop, stop);
	if (write(cons_fd, &one, sizeof(one)) < 0 || write(prod_fd, &one, sizeof(one)) < 0)
		return false;
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	printf("# ended with status %#x\n", (unsigned)status);
	return false;
}

static void fresh_ring(void)
{
	ring_init(s->ring, RING);
	atomic_store(&s->stop, 0);
}

static unsigned arrivals(uint32_t id)
{
	return atomic_load(&s->arrivals[id]);
}

static void reset(void)
{
	for (uint32_t i = 0; i < IDS; i++)
		atomic_store_explicit(&s->arrivals[i], 0, memory_order_relaxed);
	atomic_store(&s->committed, 0);
	atomic_store(&s->published, 0);
	fresh_ring();
}

/* ---- the three ways ---- */

static void producer_dies(void)
{
	uint32_t next = 0, lives = 0, bad = 0, unsent = 0;
	int64_t until = clock_mono_us_raw() + ROUND_US * tap_factor();

	reset();
	while (clock_mono_us_raw() < until && next < IDS / 2) {
		char why[200];
		pid_t c = start_consumer(), p = start_producer(next);

		kill_at_random(p);
		bad += ring_check(s->ring, sizeof(s->ring), why, sizeof(why)) != 0;
		uint32_t committed = atomic_load(&s->committed),
			 published = atomic_load(&s->published);

		bad += !ended_well(c, 2);
		/* what arrived is a prefix that ends between the two */
		uint32_t id = next;

		for (; id < IDS && arrivals(id) == 1; id++)
			;
		/* the record being put while it died may count as committed a moment later */
		bad += id < published || id > committed + 1;
		for (uint32_t i = id; i < committed + 100 && i < IDS; i++)
			bad += arrivals(i) != 0;
		unsent += committed > id ? committed - id : 0;
		next = committed > id ? committed : id;
		atomic_store(&s->committed, next);
		atomic_store(&s->published, next);
		lives++;
		fresh_ring();
	}
	is_int(bad, 0,
	       "producer killed %u times: what was published arrived once, nothing else did",
	       lives);
	printf("# %u records, %u died with their producer unpublished\n", next, unsent);
	is_int(atomic_load(&s->arrived_bad), 0, "all whole");
	ok(lives > 10 && next > 1000, "there was something to kill");
}

/* First id behind the shared tail; `otherwise` when the ring is empty. */
static uint32_t first_in_doubt(uint32_t otherwise)
{
	struct ring_cons c;
	uint32_t rec[64];
	size_t len;

	if (ring_cons_attach(&c, s->ring, sizeof(s->ring), -1) != 0)
		return IDS;
	return ring_get(&c, rec, sizeof(rec), &len) == 1 ? rec[0] : otherwise;
}

static void consumer_dies_fresh_ring(void)
{
	uint32_t next = 0, lives = 0, bad = 0, repeated = 0;
	int64_t until = clock_mono_us_raw() + ROUND_US * tap_factor();

	reset();
	while (clock_mono_us_raw() < until && next < IDS / 2) {
		char why[200];
		pid_t c = start_consumer(), p = start_producer(next);

		kill_at_random(c);
		bad += !ended_well(p, 1);
		bad += ring_check(s->ring, sizeof(s->ring), why, sizeof(why)) != 0;
		uint32_t committed = atomic_load(&s->committed);
		uint32_t doubt = first_in_doubt(committed);

		bad += doubt < next || doubt > committed;
		for (uint32_t id = next; id < doubt; id++)
			bad += arrivals(id) != 1;
		/* in doubt: read at most once, and sent again by the next life */
		for (uint32_t id = doubt; id < committed; id++) {
			bad += arrivals(id) > 1;
			repeated += arrivals(id);
			atomic_store(&s->arrivals[id], 0);
		}
		next = doubt;
		atomic_store(&s->committed, next);
		lives++;
		fresh_ring();
	}
	is_int(bad, 0, "consumer killed %u times, fresh ring: repeated is only what was in doubt",
	       lives);
	printf("# %u records, %u were read and still in doubt\n", next, repeated);
	is_int(atomic_load(&s->arrived_bad), 0, "all whole");
	ok(lives > 10 && next > 1000, "there was something to kill");
}

static void consumer_dies_same_ring(void)
{
	uint32_t lives = 0, bad = 0, twice = 0, end;
	int64_t until = clock_mono_us_raw() + ROUND_US * tap_factor();

	reset();
	pid_t p = start_producer(0);

	while (clock_mono_us_raw() < until && atomic_load(&s->published) < IDS / 2) {
		pid_t c = start_consumer();

		kill_at_random(c);
		lives++;
	}
	pid_t c = start_consumer();

	bad += !ended_well(p, 1);
	bad += !ended_well(c, 2);
	end = atomic_load(&s->committed);
	for (uint32_t id = 0; id < end; id++) {
		bad += arrivals(id) == 0;
		twice += arrivals(id) > 1;
	}
	is_int(bad, 0, "consumer killed %u times, same ring: every record arrived", lives);
	/* released at the latest every fifth record, and when the ring was empty */
	ok(twice <= lives * 5, "%u records of %u were seen again: those not released", twice, end);
	is_int(atomic_load(&s->arrived_bad), 0, "all whole");
	ok(lives > 10 && end > 1000, "there was something to kill");
}

int main(void)
{
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		return 1;
	prod_fd = eventfd(0, EFD_NONBLOCK);
	cons_fd = eventfd(0, EFD_NONBLOCK);
	for (unsigned i = tap_factor(); i > 0; i--) {
		producer_dies();
		consumer_dies_fresh_ring();
		consumer_dies_same_ring();
	}
	return tap_done();
}
