/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rings in one process: every state of the producer and the consumer, built by hand. */
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/err.h"
#include "shm/ring.h"
#include "t/unit/tap.h"

#define SIZE 256u

static _Alignas(64) unsigned char mem[sizeof(struct ring_shm) + SIZE];
static struct ring_shm *shm = (struct ring_shm *)mem;
static struct ring_prod p;
static struct ring_cons c;
static char why[200];
static char buf[SIZE];
static size_t len;

static void fresh(void)
{
	memset(mem, 0xee, sizeof(mem));
	ring_init(mem, SIZE);
	if (ring_prod_attach(&p, mem, sizeof(mem), -1) != 0 ||
	    ring_cons_attach(&c, mem, sizeof(mem), -1) != 0)
		ok(false, "attach to a fresh ring");
}

static bool get_is(const char *want)
{
	return ring_get(&c, buf, sizeof(buf), &len) == 1 && len == strlen(want) &&
	       memcmp(buf, want, len) == 0;
}

static void visibility(void)
{
	fresh();
	is_int(ring_get(&c, buf, sizeof(buf), &len), 0, "empty at first");
	ok(ring_cons_is_empty(&c), "and says so");
	memcpy(ring_reserve(&p, 3), "abc", 3);
	is_int(ring_get(&c, buf, sizeof(buf), &len), 0, "reserved is not visible");
	ring_commit(&p);
	is_int(ring_get(&c, buf, sizeof(buf), &len), 0, "committed is not visible");
	ring_publish(&p);
	ok(!ring_cons_is_empty(&c), "published is");
	ok(get_is("abc"), "and is what was written");
	is_int(ring_get(&c, buf, sizeof(buf), &len), 0, "once");
	ring_reserve(&p, 10);
	memcpy(ring_reserve(&p, 2), "de", 2);
	ring_commit(&p);
	ring_put(&p, "f", 1);
	ring_publish(&p);
	ok(get_is("de") && get_is("f"), "an abandoned reservation leaves nothing");
	is_int(ring_check(mem, sizeof(mem), why, sizeof(why)), 0, "checker agrees");
}

static void limits(void)
{
	fresh();
	is_int(ring_put(&p, buf, 0), E_INVAL, "empty records are refused");
	is_int(ring_put(&p, buf, SIZE / 2 - 7), E_INVAL, "too long for this ring");
	is_int(ring_put(&p, buf, SIZE / 2 - 8), 0, "the longest");
	is_int(ring_put(&p, buf, SIZE / 2 - 16), 0, "and one that leaves 8 bytes");
	is_int(ring_put(&p, buf, 1), 0, "which a byte takes");
	is_int(ring_put(&p, buf, 1), E_AGAIN, "then it is full");
	ok(ring_reserve(&p, 1) == NULL, "for reserve too");
	is_int(ring_prod_free(&p), 0, "no room");
	ring_publish(&p);
	is_int(ring_get(&c, buf, SIZE / 2 - 9, &len), E_LIMIT, "longer than the buffer");
	is_int(ring_get(&c, buf, SIZE / 2 - 8, &len), 1, "still there for a larger buffer");
	is_int(ring_put(&p, buf, 1), E_AGAIN, "got is not given back");
	ring_release(&c);
	is_int(ring_prod_free(&p), SIZE / 2, "released is");
	is_int(ring_put(&p, buf, 1), 0, "room again");
}

static void wrap(void)
{
	char rec[SIZE / 2];
	unsigned n = 0, bad = 0, seed = 1;

	fresh();
	for (unsigned i = 0; i < 20000; i++) {
		seed = seed * 1103515245 + 12345;
		size_t want = 1 + (seed >> 16) % (SIZE / 2 - 8);

		memset(rec, (int)i, want);
		if (ring_put(&p, rec, want) != 0) {
			bad++;
			continue;
		}
		ring_publish(&p);
		if (ring_check(mem, sizeof(mem), why, sizeof(why)) != 0)
			bad++;
		if (ring_get(&c, buf, sizeof(buf), &len) != 1 || len != want ||
		    memcmp(buf, rec, want) != 0)
			bad++;
		ring_release(&c);
		n++;
	}
	is_int(bad, 0, "%u records of every size around the end", n);
	ok(p.head > 100 * SIZE, "many times round");
}

/* A record after a pad, looked at with nothing else in the ring. */
static void pad(void)
{
	fresh();
	for (int i = 0; i < 2; i++) {
		ring_put(&p, buf, 100);
		ring_publish(&p);
		ring_get(&c, buf, sizeof(buf), &len);
	}
	ring_release(&c);
	is_int(p.head, 208, "48 bytes before the end");
	ring_put(&p, "0123456789012345678901234567890123456789012345", 46);
	ring_publish(&p);
	is_int(p.head, SIZE + 56, "padded");
	is_int(*(uint32_t *)(void *)(mem + sizeof(struct ring_shm) + 208), RING_PAD, "pad mark");
	ok(get_is("0123456789012345678901234567890123456789012345"), "the record follows");
}

static void far_positions(void)
{
	fresh();
	atomic_store(&shm->head, UINT64_MAX - 127);
	atomic_store(&shm->tail, UINT64_MAX - 127);
	is_int(ring_prod_attach(&p, mem, sizeof(mem), -1), 0, "attach near the end of 64 bits");
	is_int(ring_cons_attach(&c, mem, sizeof(mem), -1), 0, "consumer too");
	unsigned good = 0;

	for (int i = 0; i < 10; i++) {
		ring_put(&p, "some twenty bytes...", 20);
		ring_publish(&p);
		good += get_is("some twenty bytes...");
		ring_release(&c);
	}
	is_int(good, 10, "positions wrap without harm");
}

static uint64_t wakes(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void sleeping(void)
{
	int cons_fd = eventfd(0, EFD_NONBLOCK), prod_fd = eventfd(0, EFD_NONBLOCK);

	fresh();
	p.wake_fd = cons_fd;
	c.wake_fd = prod_fd;
	ring_put(&p, "a", 1);
	ring_publish(&p);
	is_int(wakes(cons_fd), 0, "no wake-up for one that is awake");
	ok(ring_cons_sleep(&c), "cannot sleep before a record");
	is_int(atomic_load(&shm->cons_sleep), 0, "and does not say so");
	get_is("a");
	ok(!ring_cons_sleep(&c), "may sleep when empty");
	is_int(atomic_load(&shm->tail), 8, "room was given back before");
	ring_put(&p, "b", 1);
	is_int(wakes(cons_fd), 0, "commit wakes nobody");
	ring_publish(&p);
	ring_put(&p, "c", 1);
	ring_publish(&p);
	ring_publish(&p);
	is_int(wakes(cons_fd), 1, "one wake-up for one sleep");
	ok(!ring_cons_is_empty(&c), "the record is there");
	get_is("b");
	get_is("c");
	ok(!ring_cons_sleep(&c), "sleeps again");
	ring_cons_awake(&c);
	ring_put(&p, "d", 1);
	ring_publish(&p);
	is_int(wakes(cons_fd), 0, "awake for another reason: no wake-up");

	fresh();
	p.wake_fd = cons_fd;
	c.wake_fd = prod_fd;
	while (ring_put(&p, "x", 1) == 0)
		;
	ok(!ring_prod_wait(&p, 1), "full: wait");
	ok(!ring_cons_is_empty(&c), "waiting publishes");
	get_is("x");
	is_int(wakes(prod_fd), 0, "nothing given back yet");
	ring_release(&c);
	is_int(wakes(prod_fd), 1, "woken once");
	get_is("x");
	ring_release(&c);
	is_int(wakes(prod_fd), 0, "and not again");
	ok(ring_prod_wait(&p, 1), "room now");
	is_int(atomic_load(&shm->prod_wait), 0, "so nobody waits");
	ok(!ring_prod_wait(&p, SIZE), "never room for what cannot fit");
	close(cons_fd);
	close(prod_fd);
}

static void attach_refusals(void)
{
	fresh();
	is_int(ring_prod_attach(&p, mem, sizeof(mem) - 1, -1), E_CORRUPT, "memory too short");
	is_int(ring_cons_attach(&c, mem, sizeof(struct ring_shm) - 1, -1), E_CORRUPT,
	       "far too short");
	is_int(ring_cons_attach(&c, mem + 8, sizeof(mem) - 8, -1), E_CORRUPT, "not aligned");
	shm->data_size = 200;
	is_int(ring_cons_attach(&c, mem, sizeof(mem), -1), E_CORRUPT, "not a power of two");
	shm->data_size = 0;
	is_int(ring_cons_attach(&c, mem, sizeof(mem), -1), E_CORRUPT, "no size");
	shm->data_size = SIZE;
	shm->magic++;
	is_int(ring_prod_attach(&p, mem, sizeof(mem), -1), E_CORRUPT, "magic");
	shm->magic--;
	atomic_store(&shm->tail, 8);
	is_int(ring_prod_attach(&p, mem, sizeof(mem), -1), E_CORRUPT, "tail before head");
	is_int(ring_check(mem, sizeof(mem), why, sizeof(why)), E_CORRUPT, "checker: %s", why);
	atomic_store(&shm->head, 4 + 8);
	is_int(ring_cons_attach(&c, mem, sizeof(mem), -1), E_CORRUPT, "crooked head");
}

/* What a taken-over producer may write, seen by a consumer that holds tail 48 with 40 more bytes.
 */
static void hostile_producer(void)
{
	static const struct {
		const char *what;
		uint64_t head; /* 0 = leave */
		uint32_t len;
	} cases[] = {
		{ "length 0", 0, 0 },
		{ "length past head", 0, 60 },
		{ "length past everything", 0, 0x7fffffff },
		{ "length just below the pad mark", 0, RING_PAD - 1 },
		{ "pad past head", 0, RING_PAD },
		{ "pad up to head without a record", SIZE, RING_PAD },
		{ "pad, then another pad", SIZE + 48, RING_PAD },
		{ "record across the end", SIZE + 40, 240 },
		{ "head behind tail", 40, 8 },
		{ "head too far", SIZE + 56, 8 },
		{ "head far behind", UINT64_MAX - 7, 8 },
		{ "crooked head", 90, 8 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t mark = cases[i].len;

		fresh();
		ring_put(&p, buf, 44);
		ring_publish(&p);
		ring_get(&c, buf, sizeof(buf), &len);
		ring_release(&c);
		ring_put(&p, buf, 36);
		ring_publish(&p);
		if (cases[i].head != 0)
			atomic_store(&shm->head, cases[i].head);
		memcpy(mem + sizeof(struct ring_shm) + 48, &mark, 4);
		if (mark == RING_PAD)
			memcpy(mem + sizeof(struct ring_shm), &mark, 4);
		is_int(ring_get(&c, buf, sizeof(buf), &len), E_PEER, "refused: %s", cases[i].what);
		is_int(ring_get(&c, buf, sizeof(buf), &len), E_PEER, "again: %s", cases[i].what);
		is_int(ring_check(mem, sizeof(mem), why, sizeof(why)), E_CORRUPT, "checker: %s",
		       why);
	}
	fresh();
	atomic_store(&shm->head, 3);
	ok(ring_cons_sleep(&c), "a crooked head does not put the consumer to sleep");
}

static void hostile_consumer(void)
{
	fresh();
	for (int i = 0; i < 4; i++)
		ring_put(&p, buf, 44);
	ring_publish(&p);
	atomic_store(&shm->tail, 1000);
	is_int(ring_prod_free(&p), SIZE - 192, "a tail ahead of head is not believed");
	ok(p.bad, "and is noted");
	ok(ring_put(&p, buf, 44) == 0 && ring_put(&p, buf, 44) == E_AGAIN,
	   "only what was free before");
	atomic_store(&shm->tail, 96);
	is_int(ring_prod_free(&p), SIZE - 240 + 96, "a sane tail counts");
	atomic_store(&shm->tail, 48);
	is_int(ring_prod_free(&p), SIZE - 240 + 96, "one that runs backwards does not");
	ok(!ring_prod_wait(&p, 120), "waiting ends too");
}

/* The log ring: the next consumer takes up where the last one released. */
static void take_over(void)
{
	fresh();
	ring_put(&p, "one", 3);
	ring_put(&p, "two", 3);
	ring_publish(&p);
	get_is("one");
	ring_release(&c);
	get_is("two");
	is_int(ring_cons_attach(&c, mem, sizeof(mem), -1), 0, "a second consumer");
	ok(get_is("two"), "gets again what was not released");
	is_int(ring_prod_attach(&p, mem, sizeof(mem), -1), 0, "a second producer");
	ring_put(&p, "three", 5);
	ring_publish(&p);
	ok(get_is("three"), "goes on behind the first one's last publish");
}

static void long_records(void)
{
	size_t size = 1 << 17, bytes = ring_bytes((uint32_t)size);
	void *big = aligned_alloc(64, bytes);
	char *rec = malloc(RING_RECORD_MAX), *got = malloc(RING_RECORD_MAX);
	unsigned good = 0;

	ring_init(big, (uint32_t)size);
	is_int(ring_prod_attach(&p, big, bytes, -1), 0, "a ring of 128 KiB");
	is_int(ring_cons_attach(&c, big, bytes, -1), 0, "from both ends");
	for (int i = 0; i < 50; i++) {
		memset(rec, 'a' + i % 26, RING_RECORD_MAX);
		if (ring_put(&p, rec, RING_RECORD_MAX) != 0)
			break;
		ring_publish(&p);
		if (ring_get(&c, got, RING_RECORD_MAX, &len) == 1 && len == RING_RECORD_MAX &&
		    memcmp(rec, got, len) == 0)
			good++;
		ring_release(&c);
	}
	is_int(good, 50, "records of %u bytes always find room in an empty ring", RING_RECORD_MAX);
	is_int(ring_put(&p, rec, RING_RECORD_MAX + 1), E_INVAL, "longer ones are refused");
	free(big);
	free(rec);
	free(got);
}

/* A log ring whose reader was taken over: the next reader gets what is written from then on. */
static void mended(void)
{
	static _Alignas(64) char bytes[sizeof(struct ring_shm) + 4096];
	struct ring_shm *ring = (void *)bytes;
	struct ring_prod prod;
	struct ring_cons cons;
	char got[64];
	size_t n;

	ring_init(bytes, 4096);
	ok(ring_prod_attach(&prod, bytes, sizeof(bytes), -1) == 0, "producer");
	ring_put(&prod, "first", 5);
	ring_publish(&prod);
	ring_mend(bytes, 4096);
	ok(ring_cons_attach(&cons, bytes, sizeof(bytes), -1) == 0 &&
		   ring_get(&cons, got, sizeof(got), &n) == 1 && n == 5,
	   "a sound ring keeps its records");
	ring->data_size = 77;
	ring->magic = 0;
	atomic_store(&ring->head, 0xfffffffffffffff3u);
	atomic_store(&ring->tail, 0x123456);
	ok(ring_cons_attach(&cons, bytes, sizeof(bytes), -1) != 0, "a damaged one cannot be used");
	ring_mend(bytes, 4096);
	ok(ring_cons_attach(&cons, bytes, sizeof(bytes), -1) == 0, "mended, it can");
	ring_put(&prod, "second", 6);
	ring_publish(&prod);
	ok(ring_get(&cons, got, sizeof(got), &n) == E_PEER, "the producer is elsewhere");
	ring_cons_skip(&cons);
	ok(ring_get(&cons, got, sizeof(got), &n) == 0, "what lay between is lost");
	ring_put(&prod, "third", 5);
	ring_publish(&prod);
	ok(ring_get(&cons, got, sizeof(got), &n) == 1 && n == 5 && memcmp(got, "third", 5) == 0,
	   "what comes then is read");
}

/* What was read is overwritten, and nothing else, also around the end. */
static void wiped(void)
{
	static const char secret[] = "open sesame, and let nobody see how that is done";

	for (unsigned before = 0; before < 6; before++) {
		fresh();
		for (unsigned i = 0; i < before; i++) {
			ring_put(&p, secret, sizeof(secret));
			ring_publish(&p);
			ring_get(&c, buf, sizeof(buf), &len);
			ring_wipe(&c);
			ring_release(&c);
		}
		ring_put(&p, secret, sizeof(secret));
		ring_put(&p, "later", 5);
		ring_publish(&p);
		is_int(ring_get(&c, buf, sizeof(buf), &len), 1, "a secret, after %u", before);
		ring_wipe(&c);
		ok(memmem(mem, sizeof(mem), secret + 5, 12) == NULL, "... is in no ring");
		ok(get_is("later"), "... what follows is");
		ring_wipe(&c);
		ring_release(&c);
		ring_wipe(&c);
		ok(ring_cons_is_empty(&c), "... and it goes on");
	}
}

int main(void)
{
	wiped();
	mended();
	visibility();
	limits();
	wrap();
	pad();
	far_positions();
	sleeping();
	attach_refusals();
	hostile_producer();
	hostile_consumer();
	take_over();
	long_records();
	return tap_done();
}
