/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a taken-over rewrite worker can make the scheduler keep for it. */
#include "t/unit/daemon/sched_world.h"

static struct world w;

static int define(uint32_t id, size_t len)
{
	char name[PROTO_NAME_MAX + 1];

	memset(name, 'a', sizeof(name));
	name[len] = '\0';
	return w_dest(&w, 10, id, "smtp", name);
}

static void names(void)
{
	uint32_t n = 0;

	while (n < LOCAL_DESTS_MAX && define(n, 250) == 0)
		n++;
	ok((uint64_t)n * 251 <= LOCAL_DEST_BYTES && n > 200000, "%u long names, then no more", n);
	is_int(define(5, 250), E_PEER, "not even in place of another");
}

static void parts(void)
{
	struct {
		struct proto_new n;
		struct proto_entry e;
	} r = { .n = { .kind = PROTO_NEW,
		       .qid = { .time_us = 77, .life = 7 },
		       .place = { .seg = 1, .len = 1000 },
		       .rcpt_count = 3000,
		       .entry_total = 3000,
		       .entry_count = 1 },
		.e = { .dest = UINT32_MAX, .mask = 1 } };

	ok(!sched_worker_overdue(w.s, CLASS_REWRITE, 0, 11), "nothing is open");
	is_int(sched_input(w.s, CLASS_REWRITE, 0, 11, &r, sizeof(r)), 0, "announced in part");
	world_pass(&w, OPEN_MS / 2);
	ok(!sched_worker_overdue(w.s, CLASS_REWRITE, 0, 11), "there is time");
	world_pass(&w, OPEN_MS);
	ok(sched_worker_overdue(w.s, CLASS_REWRITE, 0, 11), "it does not go on");
	ok(!sched_worker_overdue(w.s, CLASS_REWRITE, 0, 12), "that life, no other");
	sched_worker_gone(w.s, CLASS_REWRITE, 0, 11);
	ok(!sched_worker_overdue(w.s, CLASS_REWRITE, 0, 11), "its end ends it");
}

int main(void)
{
	world_init(&w, "");
	world_up(&w, CLASS_REWRITE, 0, 10);
	names();
	sched_worker_gone(w.s, CLASS_REWRITE, 0, 10);
	world_up(&w, CLASS_REWRITE, 0, 11);
	parts();
	return tap_done();
}
