/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A ring with records in it, changed by a hostile peer before and while both ends use it. */
#include "lib/err.h"
#include "lib/log.h"
#include "shm/ring.h"
#include "t/fuzz/patch.h"

#define SIZE 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static _Alignas(64) unsigned char mem[sizeof(struct ring_shm) + SIZE];

/* At most as many records as there can be, then the end or an error that stays. */
static void drain(struct ring_cons *c)
{
	char buf[SIZE];
	size_t len;
	int got;

	for (unsigned n = 0; (got = ring_get(c, buf, sizeof(buf) / 4, &len)) == 1; n++) {
		ASSERT(len >= 1 && len <= sizeof(buf) / 4);
		ASSERT(n <= SIZE / 8);
	}
	ASSERT(got == 0 || got == E_PEER || got == E_LIMIT);
	if (got != 0)
		ASSERT(ring_get(c, buf, sizeof(buf) / 4, &len) == got);
	ring_release(c);
	ring_cons_sleep(c);
	ring_cons_awake(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ring_prod p;
	struct ring_cons c;
	char why[200], rec[SIZE] = { 1, 2, 3 };
	size_t half = size / 2;

	memset(mem, 0, sizeof(mem));
	ring_init(mem, SIZE);
	ASSERT(ring_prod_attach(&p, mem, sizeof(mem), -1) == 0);
	ASSERT(ring_cons_attach(&c, mem, sizeof(mem), -1) == 0);
	for (size_t i = 0; i < 9; i++)
		ring_put(&p, rec, 1 + (size > 0 ? data[size - 1] : 0) * i % 100);
	ring_publish(&p);
	fuzz_patch(mem, sizeof(mem), data, half);
	int checked = ring_check(mem, sizeof(mem), why, sizeof(why));
	struct ring_cons fresh;

	if (ring_cons_attach(&fresh, mem, sizeof(mem), -1) == 0)
		drain(&fresh);
	else
		ASSERT(checked != 0);
	drain(&c);
	fuzz_patch(mem, sizeof(mem), data + half, size - half);
	for (size_t i = 1; i < 200; i += 13) {
		uint64_t before = p.tail_seen;

		if (ring_put(&p, rec, i) == 0)
			ASSERT(p.head - p.tail_seen <= SIZE);
		ASSERT(ring_prod_free(&p) <= SIZE && p.tail_seen >= before);
		ring_prod_wait(&p, i);
		ring_publish(&p);
	}
	drain(&c);
	return 0;
}
