/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a deferred message costs: at most 100 bytes, also after many retries and flushes. */
#include "t/unit/daemon/sched_world.h"

#define MESSAGES 200000

static double bytes_each(const struct world *w)
{
	double n = w->q.shm->msg_live;

	/* slots in use, the hash as far as it is touched, the wheel with its reserve */
	return (n * (sizeof(struct qmsg) + sizeof(struct qentry) + sizeof(*w->s->arrived_s)) +
		(double)w->q.bucket_count * sizeof(uint32_t) + (double)wheel_bytes(&w->s->wheel)) /
	       n;
}

static void done(void *ctx, const struct sched_cmd_result *r UNUSED)
{
	*(bool *)ctx = true;
}

int main(void)
{
	static struct world w;
	struct sched_found m = { .place = { .seg = 1, .len = 1000 } };
	struct sched_found_entry e = { .mask = 1, .state = QS_DEFERRED };

	world_init_sized(&w, "", MESSAGES + 1000, 4096, NULL);
	for (unsigned i = 0; i < MESSAGES; i++) {
		m.qid = (struct qid){ .time_us = ++w.next_us, .life = 7 };
		e.due_s = (uint32_t)(W_START_MS / 1000 + 300 + i % 4000);
		if (sched_add_found(w.s, &m, &e, 1) != 0)
			bug("test: no room");
	}
	double fresh = bytes_each(&w);

	ok(fresh <= 100, "%.1f bytes per deferred message", fresh);
	is_int(w.s->wheel.refs, MESSAGES, "one reference each");
	/* flush again and again: stale references must not pile up for ever */
	world_up(&w, CLASS_REWRITE, 0, 100);
	w_dest(&w, 100, 0, "smtp", "a.example");
	for (int round = 0; round < 3; round++) {
		bool ended = false;

		sched_cmd_all(w.s, SCHED_FLUSH, done, &ended);
		for (int i = 0; i < 100000 &&
				(!ended || w.s->count[QS_LOAD] > 0 || w.s->count[QS_LOADING] > 0);
		     i++) {
			sched_turn(w.s);
			for (struct sent_rec *r; (r = world_next(&w)) != NULL;) {
				struct proto_loaded l = { .kind = PROTO_LOADED,
							  .status = LOAD_RETRY,
							  .word = r->u.load.ref.word,
							  .entry = r->u.load.ref.entry };

				sched_input(w.s, CLASS_REWRITE, 0, 100, &l, sizeof(l));
			}
			w.sent_count = w.sent_read = 0;
		}
		ok(ended, "flushed");
	}
	ok(w.s->wheel.refs <= 4 * (uint64_t)MESSAGES, "references pile up only until their time");
	sched_worker_gone(w.s, CLASS_REWRITE, 0, 100);
	sched_cmd_all(w.s, SCHED_DELETE, done, &(bool){ false });
	world_turn(&w);
	is_int(w.q.shm->msg_live, 0, "all deleted");
	for (int i = 0; i < 9000; i += 10)
		world_pass(&w, 10000);
	ok(w.s->wheel.refs == 0, "and are gone then");
	world_fini(&w);
	return tap_done();
}
