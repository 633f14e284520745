/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SPSC rings; see shm/ring.h for the layout and the argument. Called by shm/link.c, the log path
 * and everything that sends or takes records.
 * Every access that is not relaxed carries its label (R1..R8) and its partner's; doc/shm-layout.md
 * and t/model/ring.pml use the same ones.
 */
#include "shm/ring.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/util.h"

#define RING_MAGIC    0x676e6952u /* "Ring" */
#define RING_MIN_DATA 64u
#define RING_MAX_DATA (1u << 30)
#define RECORD_HEAD   4u

_Static_assert(sizeof(struct ring_shm) == 192, "three cache lines");
_Static_assert(offsetof(struct ring_shm, tail) == 64, "the consumer's line");
_Static_assert(offsetof(struct ring_shm, data_size) == 128, "the constants' line");

/* Bytes a record takes in the ring. */
static inline uint32_t record_span(uint32_t len)
{
	return (len + RECORD_HEAD + 7u) & ~7u;
}

static inline uint32_t longest_record(uint32_t data_size)
{
	uint32_t half = data_size / 2 - 8;

	return half < RING_RECORD_MAX ? half : RING_RECORD_MAX;
}

size_t ring_bytes(uint32_t data_size)
{
	return sizeof(struct ring_shm) + data_size;
}

static bool data_size_ok(uint32_t size)
{
	return size >= RING_MIN_DATA && size <= RING_MAX_DATA && (size & (size - 1)) == 0;
}

void ring_init(void *mem, uint32_t data_size)
{
	struct ring_shm *shm = mem;

	ASSERT(data_size_ok(data_size) && (uintptr_t)mem % 64 == 0);
	memset(shm, 0, sizeof(*shm));
	shm->data_size = data_size;
	shm->magic = RING_MAGIC;
	FAULT_POINT(RING_INIT);
}

/* The size is fetched once; positions are looked at by the caller. */
static int check_constants(const void *mem, size_t mem_bytes, uint32_t *size_r)
{
	const struct ring_shm *shm = mem;

	if (mem_bytes < sizeof(*shm) || (uintptr_t)mem % 64 != 0)
		return E_CORRUPT;
	uint32_t size = *(const volatile uint32_t *)&shm->data_size;

	if (*(const volatile uint32_t *)&shm->magic != RING_MAGIC || !data_size_ok(size) ||
	    mem_bytes - sizeof(*shm) < size)
		return E_CORRUPT;
	*size_r = size;
	return 0;
}

static bool positions_ok(uint64_t head, uint64_t tail, uint32_t size)
{
	return head - tail <= size && head % 8 == 0 && tail % 8 == 0;
}

void ring_mend(void *mem, uint32_t data_size)
{
	struct ring_shm *shm = mem;

	shm->data_size = data_size;
	shm->magic = RING_MAGIC;
	FAULT_POINT(RING_TAIL);
	uint64_t head = atomic_load_explicit(&shm->head, memory_order_relaxed) & ~(uint64_t)7;

	if (!positions_ok(atomic_load_explicit(&shm->head, memory_order_relaxed),
			  atomic_load_explicit(&shm->tail, memory_order_relaxed), data_size)) {
		atomic_store_explicit(&shm->head, head, memory_order_relaxed);
		FAULT_POINT(RING_HEAD);
		atomic_store_explicit(&shm->tail, head, memory_order_seq_cst);
		FAULT_POINT(RING_TAIL);
	}
}

int ring_prod_attach(struct ring_prod *p, void *mem, size_t mem_bytes, int wake_fd)
{
	struct ring_shm *shm = mem;
	uint32_t size;
	int err = check_constants(mem, mem_bytes, &size);

	if (err != 0)
		return err;
	uint64_t head = atomic_load_explicit(&shm->head, memory_order_relaxed);
	/* R4, partner R3 */
	uint64_t tail = atomic_load_explicit(&shm->tail, memory_order_acquire);

	if (!positions_ok(head, tail, size))
		return E_CORRUPT;
	*p = (struct ring_prod){
		.shm = shm,
		.data = (unsigned char *)(shm + 1),
		.size = size,
		.head = head,
		.published = head,
		.tail_seen = tail,
		.wake_fd = wake_fd,
	};
	return 0;
}

int ring_cons_attach(struct ring_cons *c, void *mem, size_t mem_bytes, int wake_fd)
{
	struct ring_shm *shm = mem;
	uint32_t size;
	int err = check_constants(mem, mem_bytes, &size);

	if (err != 0)
		return err;
	uint64_t tail = atomic_load_explicit(&shm->tail, memory_order_relaxed);
	/* R2, partner R1 */
	uint64_t head = atomic_load_explicit(&shm->head, memory_order_acquire);

	if (!positions_ok(head, tail, size))
		return E_CORRUPT;
	*c = (struct ring_cons){
		.shm = shm,
		.data = (const unsigned char *)(shm + 1),
		.size = size,
		.tail = tail,
		.released = tail,
		.head_seen = head,
		.wake_fd = wake_fd,
	};
	return 0;
}

static void wake(int fd)
{
	uint64_t one = 1;

	/* A full counter means that a wake-up is pending already: nothing to do about a failure. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

/* ---- producer ---- */

/* Takes a tail over if it can be true. A tail that cannot be leaves us with the old one: we then
 * only see less room than there is, and never write where the last sane tail forbids it. */
static void see_tail(struct ring_prod *p, uint64_t tail)
{
	if (p->published - tail <= p->size && p->head - tail <= p->size && tail >= p->tail_seen)
		p->tail_seen = tail;
	else
		p->bad = true;
}

static inline bool has_room(const struct ring_prod *p, uint32_t need)
{
	return p->size - (uint32_t)(p->head - p->tail_seen) >= need;
}

/* Bytes that a record of this span takes at the present head, the pad before it included. */
static inline uint32_t span_at_head(const struct ring_prod *p, uint32_t span)
{
	uint32_t to_end = p->size - ((uint32_t)p->head & (p->size - 1));

	return span <= to_end ? span : to_end + span;
}

static inline void put_len(struct ring_prod *p, uint32_t pos, uint32_t len)
{
	memcpy(p->data + pos, &len, sizeof(len));
}

void *ring_reserve(struct ring_prod *p, size_t len)
{
	if (len == 0 || len > longest_record(p->size))
		return NULL;
	uint32_t span = record_span((uint32_t)len);
	uint32_t need = span_at_head(p, span);

	if (!has_room(p, need)) {
		/* R4, partner R3: the consumer has read what lies before this tail */
		see_tail(p, atomic_load_explicit(&p->shm->tail, memory_order_acquire));
		if (!has_room(p, need))
			return NULL;
	}
	uint32_t pos = (uint32_t)p->head & (p->size - 1);

	if (need != span) {
		put_len(p, pos, RING_PAD);
		FAULT_POINT(RING_PAD);
		pos = 0;
	}
	put_len(p, pos, (uint32_t)len);
	FAULT_POINT(RING_LEN);
	p->reserved = need;
	return p->data + pos + RECORD_HEAD;
}

void ring_commit(struct ring_prod *p)
{
	p->head += p->reserved;
	p->reserved = 0;
}

int ring_put(struct ring_prod *p, const void *rec, size_t len)
{
	void *at = ring_reserve(p, len);

	if (at == NULL)
		return len == 0 || len > longest_record(p->size) ? E_INVAL : E_AGAIN;
	memcpy(at, rec, len);
	FAULT_POINT(RING_COPY);
	ring_commit(p);
	FAULT_POINT(RING_COMMIT);
	return 0;
}

void ring_publish(struct ring_prod *p)
{
	if (p->published == p->head)
		return;
	p->published = p->head;
	/* R1, partner R2: payloads before head. Sequentially consistent because of R6. */
	atomic_store_explicit(&p->shm->head, p->head, memory_order_seq_cst);
	FAULT_POINT(RING_HEAD);
	/* R6, partner R5: either we see that it sleeps, or it sees our head */
	if (atomic_load_explicit(&p->shm->cons_sleep, memory_order_seq_cst) == 0)
		return;
	atomic_store_explicit(&p->shm->cons_sleep, 0, memory_order_relaxed);
	FAULT_POINT(RING_UNSLEEP);
	wake(p->wake_fd);
}

bool ring_prod_wait(struct ring_prod *p, size_t len)
{
	if (len == 0 || len > longest_record(p->size))
		return false;
	ring_publish(p);
	/* R7, partner R8: either we see its tail, or it sees that we wait */
	atomic_store_explicit(&p->shm->prod_wait, 1, memory_order_seq_cst);
	FAULT_POINT(RING_PROD_WAIT);
	see_tail(p, atomic_load_explicit(&p->shm->tail, memory_order_seq_cst)); /* R7 */
	if (!has_room(p, span_at_head(p, record_span((uint32_t)len))))
		return false;
	atomic_store_explicit(&p->shm->prod_wait, 0, memory_order_relaxed);
	FAULT_POINT(RING_PROD_GO);
	return true;
}

size_t ring_prod_free(struct ring_prod *p)
{
	/* R4, partner R3 */
	see_tail(p, atomic_load_explicit(&p->shm->tail, memory_order_acquire));
	return p->size - (uint32_t)(p->head - p->tail_seen);
}

/* ---- consumer ---- */

static inline int take_head(struct ring_cons *c, uint64_t head)
{
	if (!positions_ok(head, c->tail, c->size))
		return E_PEER;
	c->head_seen = head;
	return 0;
}

static inline uint32_t fetch_len(const struct ring_cons *c, uint32_t pos)
{
	return *(const volatile uint32_t *)(const void *)(c->data + pos);
}

/* Length and position of the record at tail, which lies before head. Skips one pad. */
static int next_record(struct ring_cons *c, uint32_t *pos_r, uint32_t *len_r)
{
	uint32_t pos = (uint32_t)c->tail & (c->size - 1);
	uint32_t avail = (uint32_t)(c->head_seen - c->tail);
	uint32_t len = fetch_len(c, pos);

	if (len == RING_PAD) {
		uint32_t pad = c->size - pos;

		/* a pad never begins the ring and never comes without its record */
		if (pos == 0 || pad >= avail)
			return E_PEER;
		c->tail += pad;
		avail -= pad;
		pos = 0;
		len = fetch_len(c, 0);
	}
	if (len == 0 || len > longest_record(c->size))
		return E_PEER;
	if (record_span(len) > avail || record_span(len) > c->size - pos)
		return E_PEER;
	*pos_r = pos;
	*len_r = len;
	return 1;
}

int ring_get(struct ring_cons *c, void *buf, size_t cap, size_t *len_r)
{
	uint32_t pos, len;

	if (c->tail == c->head_seen) {
		/* R2, partner R1: payloads before head */
		int err = take_head(c, atomic_load_explicit(&c->shm->head, memory_order_acquire));

		if (err != 0)
			return err;
		if (c->tail == c->head_seen)
			return 0;
	}
	int got = next_record(c, &pos, &len);

	if (got < 0)
		return got;
	if (len > cap)
		return E_LIMIT;
	memcpy(buf, c->data + pos + RECORD_HEAD, len); /* the single fetch */
	c->tail += record_span(len);
	*len_r = len;
	FAULT_POINT(RING_GET);
	return 1;
}

void ring_wipe(struct ring_cons *c)
{
	/* its own mapping is writable, or it could not say how far it has read */
	unsigned char *data = (unsigned char *)(uintptr_t)c->data;
	uint32_t from = (uint32_t)c->released & (c->size - 1);
	uint32_t to = (uint32_t)c->tail & (c->size - 1);

	if (c->released == c->tail)
		return;
	if (from >= to) {
		explicit_bzero(data + from, c->size - from);
		from = 0;
	}
	explicit_bzero(data + from, to - from);
}

void ring_release(struct ring_cons *c)
{
	if (c->released == c->tail)
		return;
	c->released = c->tail;
	/* R3, partner R4: our reads before tail. Sequentially consistent because of R8. */
	atomic_store_explicit(&c->shm->tail, c->tail, memory_order_seq_cst);
	FAULT_POINT(RING_TAIL);
	/* R8, partner R7: either we see that it waits, or it sees our tail */
	if (atomic_load_explicit(&c->shm->prod_wait, memory_order_seq_cst) == 0)
		return;
	atomic_store_explicit(&c->shm->prod_wait, 0, memory_order_relaxed);
	FAULT_POINT(RING_UNWAIT);
	wake(c->wake_fd);
}

bool ring_cons_sleep(struct ring_cons *c)
{
	ring_release(c);
	if (c->tail != c->head_seen)
		return true;
	/* R5, partner R6: either we see its head, or it sees that we sleep */
	atomic_store_explicit(&c->shm->cons_sleep, 1, memory_order_seq_cst);
	FAULT_POINT(RING_SLEEP);
	/* R5. A head that cannot be also means "do not sleep": ring_get() will say E_PEER. */
	if (atomic_load_explicit(&c->shm->head, memory_order_seq_cst) == c->tail)
		return false;
	atomic_store_explicit(&c->shm->cons_sleep, 0, memory_order_relaxed);
	FAULT_POINT(RING_UNSLEEP_SELF);
	return true;
}

void ring_cons_awake(struct ring_cons *c)
{
	if (atomic_load_explicit(&c->shm->cons_sleep, memory_order_relaxed) == 0)
		return;
	atomic_store_explicit(&c->shm->cons_sleep, 0, memory_order_relaxed);
	FAULT_POINT(RING_AWAKE);
}

void ring_cons_skip(struct ring_cons *c)
{
	/* R2, partner R1 */
	uint64_t head = atomic_load_explicit(&c->shm->head, memory_order_acquire) & ~(uint64_t)7;

	c->tail = c->head_seen = c->released = head;
	/* R3, partner R4 */
	atomic_store_explicit(&c->shm->tail, head, memory_order_seq_cst);
	FAULT_POINT(RING_TAIL);
}

bool ring_cons_is_empty(struct ring_cons *c)
{
	/* R2, partner R1 */
	return c->tail == c->head_seen &&
	       atomic_load_explicit(&c->shm->head, memory_order_acquire) == c->tail;
}

/* ---- checker ---- */

int ring_check(const void *mem, size_t mem_bytes, char *why, size_t why_size)
{
	const struct ring_shm *shm = mem;
	struct ring_cons c = { 0 };

	if (check_constants(mem, mem_bytes, &c.size) != 0) {
		snprintf(why, why_size, "ring: bad magic or size");
		return E_CORRUPT;
	}
	c.data = (const unsigned char *)(shm + 1);
	c.tail = atomic_load_explicit(&shm->tail, memory_order_acquire);
	if (take_head(&c, atomic_load_explicit(&shm->head, memory_order_acquire)) != 0) {
		snprintf(why, why_size, "ring: head and tail do not fit: %ju, %ju",
			 (uintmax_t)atomic_load(&shm->head), (uintmax_t)c.tail);
		return E_CORRUPT;
	}
	while (c.tail != c.head_seen) {
		uint32_t pos, len;

		if (next_record(&c, &pos, &len) < 0) {
			snprintf(why, why_size, "ring: no record at position %ju of %ju..%ju",
				 (uintmax_t)c.tail, (uintmax_t)c.tail, (uintmax_t)c.head_seen);
			return E_CORRUPT;
		}
		c.tail += record_span(len);
	}
	return 0;
}
