/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ring: single producer, single consumer, records of 1..RING_RECORD_MAX bytes, in shared memory.
 * Made fresh for each pair of worker lives; a dead producer's ring is complete up to its last
 * publish, and the living consumer drains it. There is no lock and nothing to wedge.
 *
 * Bytes: struct ring_shm (3 cache lines: producer's, consumer's, constants), then data_size bytes
 * (power of two). A record is a 4-byte length, the payload, padding to 8. A record that would cross
 * the end is preceded by a pad record (length RING_PAD) to the end. Positions only grow (64 bit).
 *
 *   field       written by  read by
 *   head        producer    consumer   (release by producer R1, acquire by consumer R2)
 *   tail        consumer    producer   (release by consumer R3, acquire by producer R4)
 *   cons_sleep  consumer 1  producer   (sequentially consistent on both sides, R5/R6)
 *   prod_wait   producer 1  consumer   (sequentially consistent on both sides, R7/R8)
 * Whoever finds the other's flag set takes it back (stores 0) and then writes the eventfd, so that
 * one sleep costs one system call however often the other side publishes meanwhile. The flag is
 * only a hint once the eventfd is written: the sleeper sets it again before it sleeps again.
 *
 * Sleeping: the consumer stores cons_sleep=1, then looks at head once more (R5); the producer
 * stores head, then looks at cons_sleep (R6). One of the two sees the other's store, so no wake-up
 * is lost. The same argument, turned round, holds for a producer that waits for room (R7/R8).
 * Under load cons_sleep is 0 and no system call is made.
 *
 * The other side may be hostile: the consumer copies a record out once and checks its length
 * against what it has room for; a position that runs backwards or a length that does not fit is
 * E_PEER, and the owner of the link then has the peer killed.
 */
#ifndef PH_SHM_RING_H
#define PH_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_RECORD_MAX 60000u
#define RING_PAD        UINT32_MAX

struct ring_shm {
	_Alignas(64) _Atomic uint64_t head;
	_Atomic uint32_t prod_wait;
	uint32_t spare0[13];
	_Alignas(64) _Atomic uint64_t tail;
	_Atomic uint32_t cons_sleep;
	uint32_t spare1[13];
	_Alignas(64) uint32_t data_size;
	uint32_t magic;
	uint32_t spare2[14];
	/* data_size bytes follow */
};

struct ring_prod {
	struct ring_shm *shm;
	unsigned char *data;
	uint32_t size; /* private copy of data_size */
	uint64_t head; /* next byte to write; published up to `published` */
	uint64_t published;
	uint64_t tail_seen;
	uint32_t reserved; /* bytes of the open reservation, pad included; 0 = none */
	int wake_fd;       /* the consumer's eventfd; not owned; -1 in tests */
	bool bad;          /* the shared tail was nonsense once; the ring then counts as full */
};

struct ring_cons {
	struct ring_shm *shm;
	const unsigned char *data;
	uint32_t size;
	uint64_t tail;
	uint64_t released;
	uint64_t head_seen;
	int wake_fd; /* the producer's eventfd; not owned; -1 in tests */
};

/* Bytes of shared memory for a ring of data_size (power of two, >= 2 * RING_RECORD_MAX unless in
 * tests: records larger than data_size / 2 - 8 are refused). */
size_t ring_bytes(uint32_t data_size);
void ring_init(void *mem, uint32_t data_size);
/* Sets right what never changes, and positions that make no sense (to an empty ring at head). */
void ring_mend(void *mem, uint32_t data_size);
/* Attach to a ring inside mem_bytes of checked memory. E_CORRUPT when it does not fit. A consumer
 * takes up at the shared tail (so that a new log worker goes on where the old one died). */
int ring_prod_attach(struct ring_prod *p, void *mem, size_t mem_bytes, int wake_fd);
int ring_cons_attach(struct ring_cons *c, void *mem, size_t mem_bytes, int wake_fd);

/* Room for a record of exactly len bytes; NULL when full or len too large. Write the payload, then
 * ring_commit(). Nothing is visible before ring_publish(). */
void *ring_reserve(struct ring_prod *p, size_t len);
void ring_commit(struct ring_prod *p);
/* reserve + copy + commit; E_AGAIN when full. */
int ring_put(struct ring_prod *p, const void *rec, size_t len);
/* Make committed records visible and wake a sleeping consumer. Call once per loop turn. */
void ring_publish(struct ring_prod *p);
/* Publishes, then asks to be woken when room appears; returns true when there is room for len
 * bytes now (look again). */
bool ring_prod_wait(struct ring_prod *p, size_t len);
size_t ring_prod_free(struct ring_prod *p);

/* Copy the next record into buf. 1 = got one (*len_r), 0 = empty, E_PEER = damaged, E_LIMIT =
 * record longer than cap (also damage for our fixed formats). */
int ring_get(struct ring_cons *c, void *buf, size_t cap, size_t *len_r);
/* Overwrite the records got since the last release: they held secrets. */
void ring_wipe(struct ring_cons *c);
/* Give the room of all records got so far back to the producer. Call once per loop turn. */
void ring_release(struct ring_cons *c);
/* Releases, then declares intent to sleep. Returns true when a record is there already: do not
 * sleep. */
bool ring_cons_sleep(struct ring_cons *c);
void ring_cons_awake(struct ring_cons *c);
/* The positions make no sense (E_PEER): begin anew where the producer says it is, so that what it
 * publishes from now on is read. What lay between is lost. Only where the other side is not ended
 * for it: log rings. */
void ring_cons_skip(struct ring_cons *c);
bool ring_cons_is_empty(struct ring_cons *c);

/* Checker: walks from tail to head. Returns 0, or E_CORRUPT with what broke and where. For a ring
 * whose producer is dead or stopped. */
int ring_check(const void *mem, size_t mem_bytes, char *why, size_t why_size);

#endif
