/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Records that found their ring full; see outbox.h. */
#include "workers/common/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"

struct outbox_rec {
	struct outbox_rec *next;
	size_t len;
	char rec[];
};

static void add(struct outbox *b, struct ring_prod *ring, const void *rec, size_t len)
{
	struct outbox_rec *r = xmalloc(sizeof(*r) + len);

	r->next = NULL;
	r->len = len;
	memcpy(r->rec, rec, len);
	if (b->head == NULL)
		b->head = r;
	else
		b->last->next = r;
	b->last = r;
	b->ring = ring;
	b->bytes += sizeof(*r) + len;
}

static void pop(struct outbox *b)
{
	struct outbox_rec *r = b->head;

	b->head = r->next;
	b->bytes -= sizeof(*r) + r->len;
	explicit_bzero(r->rec, r->len); /* it may have held a password */
	free(r);
}

int outbox_put(struct outboxes *o, unsigned i, struct ring_prod *ring, const void *rec, size_t len)
{
	struct outbox *b = &o->box[i];
	bool wait = o->any && (b->head != NULL || o->box[0].head != NULL);

	if (!wait && ring_put(ring, rec, len) == 0)
		return 0;
	if (i != 0 && b->bytes > OUTBOX_BYTES_MAX)
		return E_LIMIT;
	add(b, ring, rec, len);
	o->any = true;
	return 0;
}

static void send_box(struct outbox *b)
{
	while (b->head != NULL) {
		if (ring_put(b->ring, b->head->rec, b->head->len) == 0)
			pop(b);
		else if (!ring_prod_wait(b->ring, b->head->len))
			return; /* its consumer wakes us when there is room */
	}
}

void outbox_send(struct outboxes *o, struct ring_prod *super)
{
	if (!o->any)
		return;
	send_box(&o->box[0]);
	/* waiting for room in a peer's ring publishes it: what it must not overtake goes first */
	ring_publish(super);
	if (o->box[0].head != NULL)
		return;
	o->any = false;
	for (unsigned i = 1; i < OUTBOX_COUNT; i++) {
		send_box(&o->box[i]);
		o->any = o->any || o->box[i].head != NULL;
	}
}

void outbox_drop(struct outboxes *o, unsigned i)
{
	while (o->box[i].head != NULL)
		pop(&o->box[i]);
}
