/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records that found their ring full: order, and who waits for whom. */
#include "lib/err.h"
#include "t/unit/tap.h"
#include "workers/common/outbox.h"

#define SIZE 256u

struct line { /* a ring with both ends */
	_Alignas(64) unsigned char mem[sizeof(struct ring_shm) + SIZE];
	struct ring_prod p;
	struct ring_cons c;
};

static struct line super, a, b;
static struct outboxes o;

static void fresh(struct line *l)
{
	ring_init(l->mem, SIZE);
	if (ring_prod_attach(&l->p, l->mem, sizeof(l->mem), -1) != 0 ||
	    ring_cons_attach(&l->c, l->mem, sizeof(l->mem), -1) != 0)
		ok(false, "attach to a fresh ring");
}

static void all_fresh(void)
{
	fresh(&super);
	fresh(&a);
	fresh(&b);
}

/* Records are numbers. */
static int put(unsigned i, struct line *l, uint32_t n)
{
	return outbox_put(&o, i, &l->p, &n, sizeof(n));
}

/* The next number, -1 when there is none. */
static int64_t get(struct line *l)
{
	uint32_t n;
	size_t len;

	return ring_get(&l->c, &n, sizeof(n), &len) == 1 ? (int64_t)n : -1;
}

/* Reads all there is, letting the producer go on; true when it was first, first + 1 ... last. */
static bool reads(struct line *l, uint32_t first, uint32_t last)
{
	uint32_t next = first;

	for (int idle = 0; idle < 3; idle++) {
		for (int64_t n; (n = get(l)) >= 0; idle = 0) {
			if (n != next++)
				return false;
		}
		ring_release(&l->c);
		outbox_send(&o, &super.p);
		ring_publish(&l->p);
	}
	return next == last + 1;
}

static void one_peer_does_not_read(void)
{
	all_fresh();
	for (uint32_t n = 0; n < 100; n++)
		put(1, &a, n);
	ok(o.any, "what does not fit waits");
	put(2, &b, 7);
	put(0, &super, 8);
	ring_publish(&super.p);
	ring_publish(&b.p);
	is_int(get(&super), 8, "the supervisor does not wait for a peer");
	is_int(get(&b), 7, "nor does another peer");
	ring_publish(&a.p);
	ok(reads(&a, 0, 99), "it gets all in order when it reads");
	ok(!o.any, "nothing waits any more");
}

static void peers_wait_for_supervisor(void)
{
	all_fresh();
	for (uint32_t n = 0; n < 50; n++)
		put(0, &super, n);
	put(1, &a, 1000);
	outbox_send(&o, &super.p);
	ring_publish(&a.p);
	is_int(get(&a), -1, "an answer does not overtake the announcement before it");
	ok(reads(&super, 0, 49), "announcements arrive in order");
	ring_publish(&a.p);
	is_int(get(&a), 1000, "then the answer goes out");
	ok(!o.any, "nothing waits any more");
}

/* Waiting for room in a peer's ring publishes that ring. */
static void publishing_order(void)
{
	all_fresh();
	put(0, &super, 1);
	for (uint32_t n = 0; n < 50; n++)
		put(1, &a, n);
	outbox_send(&o, &super.p);
	is_int(get(&a), 0, "the peer can see its first answer");
	is_int(get(&super), 1, "and the supervisor the announcement");
	outbox_drop(&o, 1);
	ok(o.box[1].head == NULL && o.box[1].bytes == 0, "a ring that goes takes its records");
	outbox_send(&o, &super.p);
	ok(!o.any, "nothing waits any more");
}

static void bounded(void)
{
	int err = 0;
	uint32_t n = 0;

	all_fresh();
	for (; err == 0 && n < 2000000; n++)
		err = put(1, &a, n);
	is_int(err, E_LIMIT, "a peer that never reads does not fill our memory");
	ok(o.box[1].bytes < OUTBOX_BYTES_MAX + 1000, "%zu bytes", o.box[1].bytes);
	is_int(put(2, &b, 1), 0, "others are served");
	outbox_drop(&o, 1);
	outbox_send(&o, &super.p);
}

int main(void)
{
	one_peer_does_not_read();
	peers_wait_for_supervisor();
	publishing_order();
	bounded();
	return tap_done();
}
