/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One producer thread, one consumer thread, a real eventfd for each, rings so small that both sides
 * sleep all the time, and rings so large that they hardly do. Every record arrives once, in order,
 * with its bytes; nobody waits for a wake-up that never comes. Built with --enable-tsan it is the
 * race check of shm/ring.c.
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/util.h"
#include "shm/ring.h"
#include "t/unit/tap.h"

#define LOST_WAKEUP_MS 10000

struct setting {
	const char *name;
	uint32_t ring_bytes;
	uint32_t records;
	uint32_t longest;
	uint32_t batch;       /* records per publish and per release */
	uint32_t pause_every; /* now and then give the processor away in the middle; 0 = never */
};

struct test {
	const struct setting *how;
	struct ring_prod prod;
	struct ring_cons cons;
	int prod_fd, cons_fd;
	uint64_t prod_sleeps, cons_sleeps;
	uint64_t bad;
	bool lost; /* a wake-up */
};

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static bool sleep_on(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;

	if (poll(&p, 1, LOST_WAKEUP_MS) != 1)
		return false;
	return read(fd, &n, sizeof(n)) == sizeof(n);
}

/* Record n: n, then bytes that follow from n. */
static size_t make_record(const struct setting *how, uint32_t n, unsigned char *rec)
{
	uint32_t state = n;
	size_t len = 4 + next_random(&state) % (how->longest - 3);

	memcpy(rec, &n, 4);
	for (size_t i = 4; i < len; i++)
		rec[i] = (unsigned char)(n + i * 3);
	return len;
}

static void maybe_pause(const struct setting *how, uint32_t *state)
{
	if (how->pause_every != 0 && next_random(state) % how->pause_every == 0)
		sched_yield();
}

static void *produce(void *arg)
{
	struct test *t = arg;
	unsigned char rec[4096];
	uint32_t state = 1;

	for (uint32_t n = 0; n < t->how->records; n++) {
		size_t len = make_record(t->how, n, rec);

		while (ring_put(&t->prod, rec, len) != 0) {
			if (ring_prod_wait(&t->prod, len))
				continue;
			t->prod_sleeps++;
			if (!sleep_on(t->prod_fd)) {
				t->lost = true;
				return NULL;
			}
		}
		maybe_pause(t->how, &state);
		if (n % t->how->batch == 0)
			ring_publish(&t->prod);
	}
	ring_publish(&t->prod);
	return NULL;
}

static void *consume(void *arg)
{
	struct test *t = arg;
	unsigned char got[4096], want[4096];
	uint32_t state = 2;

	for (uint32_t n = 0; n < t->how->records;) {
		size_t len;
		int r = ring_get(&t->cons, got, sizeof(got), &len);

		if (r < 0) {
			t->bad++;
			return NULL;
		}
		if (r == 1) {
			t->bad +=
				len != make_record(t->how, n, want) || memcmp(got, want, len) != 0;
			maybe_pause(t->how, &state);
			if (++n % t->how->batch == 0)
				ring_release(&t->cons);
			continue;
		}
		if (ring_cons_sleep(&t->cons))
			continue;
		t->cons_sleeps++;
		if (!sleep_on(t->cons_fd)) {
			t->lost = true;
			return NULL;
		}
		ring_cons_awake(&t->cons);
	}
	ring_release(&t->cons);
	return NULL;
}

static void run(const struct setting *how)
{
	struct test t = { .how = how };
	size_t bytes = ring_bytes(how->ring_bytes);
	void *mem = aligned_alloc(64, bytes);
	pthread_t p, c;
	char why[200];

	ring_init(mem, how->ring_bytes);
	t.prod_fd = eventfd(0, 0);
	t.cons_fd = eventfd(0, 0);
	is_int(ring_prod_attach(&t.prod, mem, bytes, t.cons_fd), 0, "%s: producer", how->name);
	is_int(ring_cons_attach(&t.cons, mem, bytes, t.prod_fd), 0, "%s: consumer", how->name);
	int64_t at = clock_mono_us_raw();

	pthread_create(&p, NULL, produce, &t);
	pthread_create(&c, NULL, consume, &t);
	pthread_join(p, NULL);
	pthread_join(c, NULL);
	at = clock_mono_us_raw() - at;
	ok(!t.lost, "%s: no wake-up was lost", how->name);
	is_int(t.bad, 0, "%s: %u records, each once, in order, whole", how->name, how->records);
	is_int(ring_check(mem, bytes, why, sizeof(why)), 0, "%s: sound at the end", how->name);
	printf("# %s: %lld ns per record, consumer slept %llu times, producer %llu times\n",
	       how->name, (long long)(at * 1000 / how->records), (unsigned long long)t.cons_sleeps,
	       (unsigned long long)t.prod_sleeps);
	close(t.prod_fd);
	close(t.cons_fd);
	free(mem);
}

/* What one record costs when nobody sleeps: put and get in turns of a loop's size. */
static void cost(void)
{
	enum { BYTES = 1 << 16, RECORDS = 2000000, TURN = 64 };
	void *mem = aligned_alloc(64, ring_bytes(BYTES));
	struct ring_prod p;
	struct ring_cons c;
	char rec[64] = { 1 }, got[64];
	size_t len;
	unsigned bad = 0;

	ring_init(mem, BYTES);
	ring_prod_attach(&p, mem, ring_bytes(BYTES), -1);
	ring_cons_attach(&c, mem, ring_bytes(BYTES), -1);
	clock_t at = clock(); /* processor time: the machine may be busy */

	for (int n = 0; n < RECORDS; n += TURN) {
		for (int i = 0; i < TURN; i++)
			bad += ring_put(&p, rec, sizeof(rec)) != 0;
		ring_publish(&p);
		for (int i = 0; i < TURN; i++)
			bad += ring_get(&c, got, sizeof(got), &len) != 1;
		ring_release(&c);
	}
	at = clock() - at;
	is_int(bad, 0, "two million records of 64 bytes");
	printf("# put and get of 64 bytes: %lld ns\n",
	       (long long)at * (1000000000 / CLOCKS_PER_SEC) / RECORDS);
	free(mem);
}

int main(void)
{
	static const struct setting settings[] = {
		{ "tiny ring", 256, 20000, 100, 1, 0 },
		{ "tiny ring, pauses", 256, 10000, 100, 1, 3 },
		{ "small ring, batches", 4096, 100000, 200, 16, 0 },
		{ "small ring, long records, pauses", 4096, 10000, 2000, 3, 20 },
		{ "large ring", 1 << 20, 200000, 200, 64, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		struct setting how = settings[i];

		how.records *= tap_factor();
		run(&how);
	}
	cost();
	return tap_done();
}
