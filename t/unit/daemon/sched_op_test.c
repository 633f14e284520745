/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Operator commands in every state, death of workers in every state, and lying workers. */
#include "daemon/qpublic.h"
#include "t/unit/daemon/sched_world.h"

#define RW 100
#define DW 200

static void begin(struct world *w)
{
	world_init(w, "");
	world_up(w, CLASS_REWRITE, 0, RW);
	world_up(w, CLASS_DELIVER, 0, DW);
	w_dest(w, RW, 0, "smtp", "a.example");
}

static uint64_t live(const struct world *w)
{
	return w->q.shm->msg_live;
}

/* ---- a message in each state an operator can meet ---- */

/* Brings one message into the state; *r_r is what a worker holds of it, if any. */
static struct qid put_in(struct world *w, enum qstate state, struct sent_rec *r_r)
{
	struct sched_found m = { .qid = { .time_us = 1700000000000001, .life = 9 },
				 .place = { .seg = 1, .len = 8 } };
	struct sched_found_entry e = { .mask = 1, .state = state, .due_s = UINT32_MAX };
	struct sched_cmd_result r = { 0 };
	struct qid id = m.qid;

	memset(r_r, 0, sizeof(*r_r));
	switch (state) {
	case QS_READY:
	case QS_BUSY:
		w->ring_full = state == QS_READY;
		w_new(w, RW, 0, 0, 1, &id);
		world_turn(w);
		w->ring_full = false;
		break;
	case QS_LOADING:
	case QS_NOTIFYING:
		e.state = state == QS_LOADING ? QS_LOAD : QS_NOTIFY;
		sched_add_found(w->s, &m, &e, 1);
		world_turn(w);
		break;
	case QS_HOLD:
		e.state = QS_LOAD;
		sched_add_found(w->s, &m, &e, 1);
		sched_cmd(w->s, SCHED_HOLD, id, &r);
		break;
	default:
		sched_add_found(w->s, &m, &e, 1);
		break;
	}
	if (w->sent_count > 0)
		*r_r = w->sent[w->sent_count - 1];
	is_int(w->s->count[state], 1, "a message is in state %s", qstate_names[state]);
	return id;
}

static const enum qstate all_states[] = { QS_LOAD,     QS_LOADING, QS_READY,  QS_BUSY,
					  QS_DEFERRED, QS_HOLD,    QS_NOTIFY, QS_NOTIFYING };

/* The worker that holds something answers well, but for deliveries, which are deferred. */
static void answer(struct world *w, const struct sent_rec *r)
{
	switch (r->u.kind) {
	case PROTO_JOB:
		w_result(w, r, DW, 0, 1, 0, JOB_HEALTH_OK);
		break;
	case PROTO_LOAD:
		w_loaded(w, r, RW, 0);
		break;
	case PROTO_BOUNCE:
		w_bounced(w, r, RW, 0);
		break;
	default:
		break;
	}
}

static void test_delete(void)
{
	for (size_t i = 0; i < ARRAY_LEN(all_states); i++) {
		struct world w;
		struct sent_rec held;
		struct sched_cmd_result r = { 0 };

		begin(&w);
		struct qid id = put_in(&w, all_states[i], &held);

		is_int(sched_cmd(w.s, SCHED_DELETE, id, &r), 0, "delete in state %s",
		       qstate_names[all_states[i]]);
		is_int(r.busy, all_states[i] == QS_BUSY, "says whether it is in delivery");
		answer(&w, &held);
		is_int(live(&w), 0, "and it is gone, at the latest when its worker has answered");
		is_int(sched_cmd(w.s, SCHED_DELETE, id, &r), E_NOENT, "once");
		ok(strstr(w.log, ": removed") != NULL, "logged");
		world_fini(&w);
	}
}

static void test_hold(void)
{
	for (size_t i = 0; i < ARRAY_LEN(all_states); i++) {
		struct world w;
		struct sent_rec held;
		struct sched_cmd_result r = { 0 };
		enum qstate st = all_states[i];

		if (st == QS_HOLD || st == QS_NOTIFY || st == QS_NOTIFYING)
			continue; /* notifications are finished */
		begin(&w);
		struct qid id = put_in(&w, st, &held);

		is_int(sched_cmd(w.s, SCHED_HOLD, id, &r), 0, "hold in state %s", qstate_names[st]);
		is_int(sched_cmd(w.s, SCHED_HOLD, id, &r), E_NOENT, "once");
		answer(&w, &held);
		is_int(w.s->count[QS_HOLD], 1, "it is held when nobody has it");
		size_t sent = w.sent_count;

		world_pass(&w, 5000000);
		is_int(w.sent_count, sent, "and stays so");
		is_int(sched_cmd(w.s, SCHED_RELEASE, id, &r), 0, "released");
		is_int(w.s->count[QS_HOLD], 0, "not held");
		is_int(sched_cmd(w.s, SCHED_RELEASE, id, &r), E_NOENT, "once");
		world_turn(&w);
		ok(w.sent_count == sent + 1 && w.sent[sent].u.kind == PROTO_LOAD,
		   "it goes on with being resolved");
		world_fini(&w);
	}
}

static void test_requeue(void)
{
	for (size_t i = 0; i < ARRAY_LEN(all_states); i++) {
		struct world w;
		struct sent_rec held;
		struct sched_cmd_result r = { 0 };
		enum qstate st = all_states[i];

		if (st == QS_NOTIFY || st == QS_NOTIFYING)
			continue;
		begin(&w);
		struct qid id = put_in(&w, st, &held);
		size_t sent = w.sent_count;

		is_int(sched_cmd(w.s, SCHED_REQUEUE, id, &r), 0, "requeue in state %s",
		       qstate_names[st]);
		answer(&w, &held);
		world_pass(&w, 1000);
		if (st == QS_LOADING) {
			ok(w.sent_count > sent && w.sent[sent].u.kind == PROTO_JOB,
			   "it was being resolved just then: goes out");
		} else {
			ok(w.sent_count > sent && w.sent[w.sent_count - 1].u.kind == PROTO_LOAD,
			   "it is resolved again");
		}
		world_fini(&w);
	}
}

static unsigned queue_in(enum qstate st)
{
	return st == QS_HOLD       ? SCHED_IN_HOLD
	       : st == QS_DEFERRED ? SCHED_IN_DEFERRED
				   : SCHED_IN_ACTIVE;
}

/* Returned to the sender now or when it would be tried, whoever has it; never tried again. */
static void test_expire(void)
{
	for (size_t i = 0; i < ARRAY_LEN(all_states); i++) {
		struct world w;
		struct sent_rec held;
		struct sched_cmd_result r = { 0 };
		enum qstate st = all_states[i];

		if (st == QS_NOTIFY || st == QS_NOTIFYING)
			continue;
		begin(&w);
		struct qid id = put_in(&w, st, &held);

		is_int(sched_cmd_in(w.s, SCHED_EXPIRE, SCHED_IN_ALL & ~queue_in(st), id, &r),
		       E_NOENT, "expire in state %s: not in another queue", qstate_names[st]);
		is_int(sched_cmd_in(w.s, SCHED_EXPIRE, queue_in(st), id, &r), 0, "but in its own");
		is_int(sched_cmd(w.s, SCHED_EXPIRE, id, &r), E_NOENT, "once");
		answer(&w, &held);
		world_turn(&w);
		if (st == QS_LOAD)
			answer(&w, &w.sent[w.sent_count - 1]);
		if (st == QS_DEFERRED) {
			is_int(w.s->count[QS_DEFERRED], 1, "it waits for its next attempt");
			sched_cmd(w.s, SCHED_FLUSH, id, &r);
		} else if (st == QS_HOLD) {
			is_int(w.s->count[QS_HOLD], 1, "it is held");
			sched_cmd(w.s, SCHED_RELEASE, id, &r);
		}
		world_turn(&w);
		const struct sent_rec *last = &w.sent[w.sent_count - 1];

		ok(w.sent_count > 0 && last->u.kind == PROTO_BOUNCE &&
			   last->u.bounce.bounce == BOUNCE_FORCED,
		   "it goes back to the sender");
		is_int(w.counters->counter[CTR_sched_force_expired], 1, "counted");
		world_fini(&w);
	}
}

static void test_flush(void)
{
	struct world w;
	struct sched_cmd_result r = { 0 };
	struct sent_rec held;

	begin(&w);
	struct qid id = put_in(&w, QS_DEFERRED, &held);

	is_int(sched_cmd(w.s, SCHED_FLUSH, id, &r), 0, "flush of one message");
	world_turn(&w);
	ok(world_left(&w) == 1 && w.sent[0].u.kind == PROTO_LOAD, "it is tried now");
	world_fini(&w);
}

struct done {
	unsigned calls;
	struct sched_cmd_result r;
};

static void done(void *ctx, const struct sched_cmd_result *r)
{
	struct done *d = ctx;

	d->calls++;
	d->r = *r;
}

static void defer_some(struct world *w, uint32_t dest, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		w_new(w, RW, 0, dest, 1, NULL);
	world_turn(w);
	for (struct sent_rec *j; (j = world_next(w)) != NULL; world_turn(w)) {
		if (j->u.kind == PROTO_JOB)
			w_result(w, j, DW, 0, 1, 0, JOB_HEALTH_OK);
	}
}

static void test_all(void)
{
	struct world w;
	struct done d = { 0 };

	begin(&w);
	w_dest(&w, RW, 1, "smtp", "[mx.b.example]:2525");
	defer_some(&w, 0, 5000);
	defer_some(&w, 1, 300);
	is_int(w.s->count[QS_DEFERRED], 5300, "5300 deferred");
	is_int(sched_flush_site(w.s, SV("MX.B.example"), done, &d), 0, "flush of a site");
	is_int(sched_flush_site(w.s, SV("x"), done, &d), E_AGAIN, "one at a time");
	world_turn(&w);
	is_int(d.calls, 1, "told once");
	is_int(d.r.messages, 300, "its mail only");
	is_int(w.s->count[QS_DEFERRED], 5000, "the rest waits on");
	is_int(sched_cmd_all(w.s, SCHED_HOLD, done, &d), 0, "hold all");
	world_turn(&w);
	is_int(d.r.messages, 5300, "all of them");
	is_int(sched_cmd_all(w.s, SCHED_RELEASE, done, &d), 0, "release all");
	world_turn(&w);
	is_int(w.s->count[QS_HOLD], 0, "none is held");
	world_fini(&w);

	begin(&w);
	defer_some(&w, 0, 5000);
	sched_cmd_all(w.s, SCHED_FLUSH, done, &d);
	world_turn(&w);
	is_int(d.r.messages, 5000, "flush all");
	is_int(w.s->count[QS_DEFERRED], 0, "everything is to be tried");
	is_int(w.s->count[QS_LOADING], LOADS_MAX, "but rewrite workers get bounded work");
	is_int(sched_cmd_all(w.s, SCHED_DELETE, done, &d), 0, "delete all");
	world_turn(&w);
	is_int(d.r.messages, 5000, "all marked");
	is_int(live(&w), LOADS_MAX, "what is out goes when it comes back");
	sched_worker_gone(w.s, CLASS_REWRITE, 0, RW);
	is_int(live(&w), 0, "also by the death of its worker");
	world_fini(&w);
}

static void count_item(void *ctx, const struct sched_item *it)
{
	*(unsigned *)ctx += it->state == QS_DEFERRED;
}

static void test_list(void)
{
	struct world w;
	uint32_t cursor = 0;
	unsigned n = 0, steps = 1;

	begin(&w);
	defer_some(&w, 0, 1000);
	while (sched_list(w.s, &cursor, 64, count_item, &n))
		steps++;
	is_int(n, 1000, "all are listed");
	ok(steps >= 1000 / 64, "in slices");
	world_fini(&w);
}

/* The same by entries, for the showq worker: its questions are anybody's. */
static void test_list_part(void)
{
	static const struct sched_cursor wrong[] = {
		{ 0, 0 },
		{ 0, 999999 },
		{ 5, 3 },
		{ UINT32_MAX, 0 },
		{ UINT32_MAX, UINT32_MAX },
		{ 999, UINT32_MAX },
	};
	struct world w;
	struct sched_cursor cursor = { 0, QTAB_NONE };
	unsigned n = 0, most = 0, before;

	begin(&w);
	defer_some(&w, 0, 1000);
	for (bool more = true; more;) {
		before = n;
		more = sched_list_part(w.s, &cursor, 7, count_item, &n);
		most = n - before > most ? n - before : most;
	}
	is_int(n, 1000, "all entries are listed in parts");
	is_int(most, 7, "no part is larger than was asked for");
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		cursor = wrong[i];
		n = 0;
		sched_list_part(w.s, &cursor, 7, count_item, &n);
		ok(n <= 7, "a cursor that is none");
	}
	world_fini(&w);
}

static void test_public_noise(void)
{
	struct world w;
	struct link link;
	unsigned refused = 0;

	begin(&w);
	memset(&link, 0, sizeof(link));
	srand(3);
	for (unsigned i = 0; i < 20000; i++) {
		char rec[sizeof(struct proto_queue_ask) + 300];
		struct proto_queue_ask q = { .kind = PROTO_QUEUE_ASK,
					     .what = 1 + (uint32_t)rand() % 6,
					     .site_len = (uint32_t)rand() % 400 };

		for (size_t k = 0; k < sizeof(rec); k++)
			rec[k] = (char)rand();
		if (i % 3 != 0)
			memcpy(rec, &q, sizeof(q));
		refused += qpublic_input(w.s, &link, rec, (size_t)rand() % sizeof(rec)) != 0;
	}
	ok(refused > 10000, "%u of 20000 requests of users are refused", refused);
	sched_turn(w.s);
	world_fini(&w);
}

/* ---- workers that die ---- */

static void test_death(void)
{
	static const struct {
		enum qstate state;
		enum worker_class class_id;
		uint32_t life;
		enum qstate after;
	} cases[] = {
		{ QS_LOADING, CLASS_REWRITE, RW, QS_LOAD },
		{ QS_NOTIFYING, CLASS_REWRITE, RW, QS_NOTIFY },
		{ QS_BUSY, CLASS_DELIVER, DW, QS_READY },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct world w;
		struct sent_rec held;

		begin(&w);
		put_in(&w, cases[i].state, &held);
		sched_worker_gone(w.s, cases[i].class_id, 0, cases[i].life);
		is_int(w.s->count[cases[i].after], 1, "held as %s by a worker that died: %s",
		       qstate_names[cases[i].state], qstate_names[cases[i].after]);
		is_int(sched_outstanding(w.s), 0, "nothing is out");
		size_t sent = w.sent_count;

		world_up(&w, cases[i].class_id, 0, cases[i].life + 1);
		world_turn(&w);
		is_int(w.sent_count, sent + 1, "the next life gets it");
		is_int(w.sent[sent].u.kind, held.u.kind, "the same task");
		is_int(sched_input(w.s, cases[i].class_id, 0, cases[i].life, &held, 8), E_PEER,
		       "a record under the old life is refused");
		world_fini(&w);
	}
}

/* One message kills every worker that gets it; the others get through. */
static void test_poison(void)
{
	struct world w;
	struct qid bad;
	unsigned done_ones = 0, deaths = 0;
	uint32_t life = DW;

	begin(&w);
	for (int i = 0; i < 4; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	w_new(&w, RW, 0, 0, 1, &bad);
	for (int i = 0; i < 400 && w.s->count[QS_HOLD] == 0; i++) {
		world_pass(&w, 10000);
		struct sent_rec *poison = NULL;

		for (struct sent_rec *j; (j = world_next(&w)) != NULL;) {
			if (j->u.kind == PROTO_LOAD)
				w_loaded(&w, j, RW, 0);
			else if (j->u.job.ref.qid.time_us == bad.time_us)
				poison = j;
			else if (deaths >= 2)
				done_ones += w_result(&w, j, life, 1, 0, 0, JOB_HEALTH_OK) == 0;
		}
		if (poison == NULL)
			continue;
		sched_worker_gone(w.s, CLASS_DELIVER, 0, life);
		deaths++;
		world_up(&w, CLASS_DELIVER, 0, ++life);
	}
	is_int(w.s->count[QS_HOLD], 1, "the message that kills its workers ends up on hold");
	is_int(deaths, 8, "after eight of them");
	is_int(done_ones, 4, "the others got through");
	ok(strstr(w.log, "placed on hold") != NULL, "and the log says why");
	world_fini(&w);
}

/* A rewrite worker dies between the parts of a large announcement. */
static void test_half_announced(void)
{
	struct world w;
	static struct new_rec r;

	begin(&w);
	r.n = (struct proto_new){ .kind = PROTO_NEW,
				  .qid = { .time_us = 1700000000000001, .life = 9 },
				  .place = { .seg = 1, .len = 8 },
				  .rcpt_count = 300,
				  .entry_total = 3,
				  .entry_count = 1 };
	r.e[0] = (struct proto_entry){ .rcpt_first = 10, .dest = 0, .mask = 0xff };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), 0,
	       "first part");
	world_turn(&w);
	w_result(&w, world_next(&w), DW, 0xff, 0, 0, JOB_HEALTH_OK);
	is_int(live(&w), 1, "delivered already, but the message is not complete: it stays");
	sched_worker_gone(w.s, CLASS_REWRITE, 0, RW);
	world_up(&w, CLASS_REWRITE, 0, RW + 1);
	world_turn(&w);
	unsigned rcpts = 0;

	for (struct sent_rec *l; (l = world_next(&w)) != NULL;)
		rcpts += (unsigned)__builtin_popcountll(l->u.load.ref.mask);
	is_int(rcpts, 292, "the recipients it did not get to are loaded, and no others");
	world_fini(&w);
}

static void test_parts(void)
{
	struct world w;
	static struct new_rec r;
	struct {
		struct proto_new_more m;
		struct proto_entry e[2];
	} more = { .m = { .kind = PROTO_NEW_MORE,
			  .entry_count = 1,
			  .qid = { .time_us = 1700000000000001, .life = 9 } } };
	size_t len1 = sizeof(more.m) + sizeof(more.e[0]);

	begin(&w);
	r.n = (struct proto_new){ .kind = PROTO_NEW,
				  .qid = { .time_us = 1700000000000001, .life = 9 },
				  .place = { .seg = 1, .len = 8 },
				  .rcpt_count = 3,
				  .entry_total = 3,
				  .entry_count = 1 };
	r.e[0] = (struct proto_entry){ .rcpt_first = 0, .dest = 0, .mask = 1 };
	more.e[0] = (struct proto_entry){ .rcpt_first = 1, .dest = 0, .mask = 1 };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &more, len1), E_PEER, "more of nothing");
	sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0]));
	is_int(w_new(&w, RW, 0, 0, 1, NULL), E_PEER, "another message in between");
	more.m.qid.life = 8;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &more, len1), E_PEER, "more of another");
	more.m.qid.life = 9;
	more.e[0].rcpt_first = 0;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &more, len1), E_PEER, "a recipient twice");
	more.e[0].rcpt_first = 1;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &more, len1), 0, "second part");
	more.e[0].rcpt_first = 2;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &more, len1), 0, "third part");
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &more, len1), E_PEER, "a fourth");
	world_turn(&w);
	for (struct sent_rec *j; (j = world_next(&w)) != NULL;)
		w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
	is_int(live(&w), 0, "all delivered: gone");
	world_fini(&w);
}

/* What is announced in parts has its room, whatever comes in between. */
static void test_parts_full(void)
{
	static struct world w;
	static struct new_rec r;
	static struct {
		struct proto_new_more m;
		struct proto_entry e[40];
	} more = { .m = { .kind = PROTO_NEW_MORE,
			  .entry_count = 40,
			  .qid = { .time_us = 1700000000000001, .life = 9 } } };

	world_init_sized(&w, "", 128, 64, NULL);
	world_up(&w, CLASS_REWRITE, 0, RW);
	world_up(&w, CLASS_REWRITE, 1, RW + 50);
	w_dest(&w, RW, 0, "smtp", "a.example");
	r.n = (struct proto_new){ .kind = PROTO_NEW,
				  .qid = { .time_us = 1700000000000001, .life = 9 },
				  .place = { .seg = 1, .len = 8 },
				  .rcpt_count = 41,
				  .entry_total = 41,
				  .entry_count = 1 };
	r.e[0] = (struct proto_entry){ .rcpt_first = 0, .dest = 0, .mask = 1 };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), 0,
	       "first part");
	r.n.rcpt_count = r.n.entry_total = 1;
	r.e[0].dest = UINT32_MAX;
	for (unsigned i = 0; i < 300; i++) {
		r.n.qid.time_us++;
		if (sched_input(w.s, CLASS_REWRITE, 1, RW + 50, &r, sizeof(r.n) + sizeof(r.e[0])) !=
		    0)
			ok(false, "another worker's messages are taken, or dropped");
	}
	is_int(w.q.shm->entry_cap - w.q.shm->entry_live, 41,
	       "all but what is promised, and a guard");
	for (unsigned i = 0; i < 40; i++)
		more.e[i] = (struct proto_entry){ .rcpt_first = 1 + i, .dest = 0, .mask = 1 };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &more, sizeof(more)), 0, "the other parts");
	is_int(w.s->promised, 0, "the promise is kept");
	world_fini(&w);
}

/* A worker dies between the parts and there is no room to load the rest: the message stays. */
static void test_half_announced_full(void)
{
	static struct world w;
	static struct new_rec r;

	world_init_sized(&w, "", 64, 64, NULL);
	world_up(&w, CLASS_REWRITE, 0, RW);
	w_dest(&w, RW, 0, "smtp", "a.example");
	r.n = (struct proto_new){ .kind = PROTO_NEW,
				  .qid = { .time_us = 1700000000000001, .life = 9 },
				  .place = { .seg = 1, .len = 8 },
				  .rcpt_count = 64 * 100,
				  .entry_total = 3,
				  .entry_count = 1 };
	r.e[0] = (struct proto_entry){ .rcpt_first = 0, .dest = 0, .mask = 1 };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), 0,
	       "first part");
	sched_worker_gone(w.s, CLASS_REWRITE, 0, RW);
	is_int(w.s->promised, 0, "nothing is promised any more");
	ok(strstr(w.log, "until the next start") != NULL, "what found no room is told");
	is_int(w.q.shm->msg_live, 1, "the message stays");
	world_fini(&w);
}

/* A worker that invents transports does not take the room of those to come. */
static void test_many_transports(void)
{
	struct world w;
	char name[20];
	int err = 0;

	begin(&w);
	for (unsigned i = 0; i < 2 * SCHED_TRANSPORTS; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		err = err != 0 ? err : w_dest(&w, RW, 1, name, "a.example");
	}
	is_int(err, 0, "names without end are taken");
	ok(w.s->transport_count <= SCHED_TRANSPORTS / 2, "but not kept");
	is_int(w_new(&w, RW, 0, 1, 1, NULL), 0, "mail for them");
	is_int(live(&w), 1, "waits");
	world_fini(&w);
}

/* ---- workers that lie ---- */

static void test_bad_new(void)
{
	struct world w;
	static const struct {
		struct proto_entry e;
		uint32_t rcpts;
		const char *what;
	} cases[] = {
		{ { .rcpt_first = 0, .dest = 0, .mask = 0 }, 1, "an empty mask" },
		{ { .rcpt_first = 0, .dest = 0, .mask = 2 }, 1, "a recipient that is not there" },
		{ { .rcpt_first = UINT32_MAX, .dest = 0, .mask = 1 },
		  1,
		  "a number that overflows" },
		{ { .rcpt_first = 0, .dest = 77, .mask = 1 }, 1, "a destination without a name" },
		{ { .rcpt_first = 0, .dest = 0, .mask = 1 }, 0, "no recipients" },
		{ { .rcpt_first = 0, .dest = 0, .mask = 1 }, UINT32_MAX, "very many recipients" },
	};
	static struct new_rec r;

	begin(&w);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		r.n = (struct proto_new){ .kind = PROTO_NEW,
					  .qid = { .time_us = 1700000000000001, .life = 9 },
					  .place = { .seg = 1, .len = 8 },
					  .rcpt_count = cases[i].rcpts,
					  .entry_total = 1,
					  .entry_count = 1 };
		r.e[0] = cases[i].e;
		is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])),
		       E_PEER, "refused: %s", cases[i].what);
	}
	r.n.rcpt_count = 1;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + 5), E_PEER,
	       "a wrong length");
	r.n.entry_count = UINT32_MAX;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), E_PEER,
	       "a count that overflows");
	r.n.entry_count = 1;
	r.n.qid.life = 0;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), E_PEER,
	       "no id");
	r.n.qid.life = 9;
	r.n.flags = UINT32_MAX & ~(unsigned)MSGF_HOLD;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), 0,
	       "unknown flags are not taken over");
	is_int(w.q.msgs[0].flags & 0xfff & ~(unsigned)MSG_FLAGS_IN, 0, "into the table");
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), 0,
	       "the same id again harms nobody but its sender");
	is_int(live(&w), 1, "one message came of all this");
	world_fini(&w);
}

static void test_bad_results(void)
{
	struct world w;

	begin(&w);
	world_up(&w, CLASS_DELIVER, 1, 201);
	w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	struct sent_rec job = *world_next(&w);
	uint32_t life = 200 + job.slot;
	struct proto_result r = { .kind = PROTO_RESULT,
				  .word = job.u.job.ref.word,
				  .entry = job.u.job.ref.entry,
				  .sent = 1 };
#define GIVE(slot_, life_) sched_input(w.s, CLASS_DELIVER, slot_, life_, &r, sizeof(r))

	is_int(GIVE(1 - job.slot, 401 - life), E_PEER, "another worker's job");
	r.sent = 3;
	is_int(GIVE(job.slot, life), E_PEER, "a recipient that was not in the job");
	r.sent = r.deferred = 1;
	is_int(GIVE(job.slot, life), E_PEER, "a recipient sent and deferred");
	r.sent = r.deferred = 0;
	is_int(GIVE(job.slot, life), E_PEER, "a recipient without outcome");
	r.sent = 1;
	r.report = 2;
	is_int(GIVE(job.slot, life), E_PEER, "a report about nobody");
	r.report = 0;
	r.health = 9;
	is_int(GIVE(job.slot, life), E_PEER, "an unknown health");
	r.health = 0;
	r.entry = 4000000;
	is_int(GIVE(job.slot, life), E_PEER, "an entry that does not exist");
	r.entry = job.u.job.ref.entry;
	r.word ^= 1;
	is_int(GIVE(job.slot, life), 0, "a word that is not current changes nothing");
	is_int(w.counters->counter[CTR_sched_stale_reports], 1, "and is counted");
	r.word ^= 1;
	is_int(sched_input(w.s, CLASS_DELIVER, job.slot, life, &r, sizeof(r) - 1), E_PEER,
	       "a short record");
	r.kind = PROTO_NEW;
	is_int(GIVE(job.slot, life), E_PEER, "a deliver worker that announces mail");
	r.kind = PROTO_RESULT;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), E_PEER,
	       "a rewrite worker that reports deliveries");
	is_int(live(&w), 1, "the message is untouched");
	is_int(GIVE(job.slot, life), 0, "the true answer is taken");
	is_int(live(&w), 0, "and ends it");
#undef GIVE
	world_fini(&w);
}

/* Random records of plausible kinds: nothing but refusal may come of them. */
static void test_noise(void)
{
	struct world w;
	uint64_t x = 88172645463325252u;
	unsigned refused = 0;

	begin(&w);
	w_new(&w, RW, 0, 0, 100, NULL);
	world_turn(&w);
	for (unsigned i = 0; i < 200000; i++) {
		uint32_t rec[40];

		for (unsigned k = 0; k < ARRAY_LEN(rec); k++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			rec[k] = x & 0x10000 ? (uint32_t)(x >> 32) : (uint32_t)(x >> 32) % 5;
		}
		rec[0] = rec[0] % PROTO_KIND_COUNT;
		enum worker_class c = x & 1 ? CLASS_REWRITE : CLASS_DELIVER;

		refused += sched_input(w.s, c, 0, c == CLASS_REWRITE ? RW : DW, rec,
				       (x >> 3) % sizeof(rec)) != 0;
	}
	ok(refused > 100000, "%u of 200000 random records refused", refused);
	sched_turn(w.s);
	world_fini(&w);
}

int main(void)
{
	test_delete();
	test_hold();
	test_requeue();
	test_expire();
	test_flush();
	test_all();
	test_list();
	test_list_part();
	test_public_noise();
	test_death();
	test_poison();
	test_half_announced();
	test_parts();
	test_parts_full();
	test_half_announced_full();
	test_many_transports();
	test_bad_new();
	test_bad_results();
	test_noise();
	return tap_done();
}
