/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The ways of an entry through the scheduler: sent, deferred, bounced, expired, warned, damaged. */
#include "t/unit/daemon/sched_world.h"

#define RW 100 /* life of the rewrite worker */
#define DW 200 /* life of the deliver worker */

static void begin(struct world *w, const char *main_cf)
{
	world_init(w, main_cf);
	world_up(w, CLASS_REWRITE, 0, RW);
	world_up(w, CLASS_DELIVER, 0, DW);
	is_int(w_dest(w, RW, 0, "smtp", "example.com"), 0, "a destination is named");
}

static uint64_t live(const struct world *w)
{
	return w->q.shm->msg_live;
}

static void test_sent(void)
{
	struct world w;
	struct qid id;
	char text[QID_TEXT_SIZE], want[64];

	begin(&w, "");
	is_int(w_new(&w, RW, 0, 0, 1, &id), 0, "message is taken");
	world_turn(&w);
	struct sent_rec *job = world_next(&w);

	ok(job != NULL && job->u.kind == PROTO_JOB && job->class_id == CLASS_DELIVER,
	   "a job goes to the deliver worker");
	is_int(job->u.job.window, 5, "with the initial window");
	is_int(job->u.job.nexthop_len, 11, "and the next hop");
	ok(memcmp(job->u.bytes + sizeof(job->u.job), "example.com", 11) == 0, "in full");
	is_int(sched_outstanding(w.s), 1, "one is out");
	is_int(w_result(&w, job, DW, 1, 0, 0, JOB_HEALTH_OK), 0, "delivered");
	is_int(live(&w), 0, "the message is gone");
	snprintf(want, sizeof(want), "%s: removed\n", qid_format(id, text));
	ok(strstr(w.log, want) != NULL, "and its removal logged");
	is_int(w_result(&w, job, DW, 1, 0, 0, JOB_HEALTH_OK), 0, "the same report again");
	is_int(w.counters->counter[CTR_sched_stale_reports], 1, "is stale and changes nothing");
	world_turn(&w);
	struct drow row;

	ok(dtab_read(&w.d, job->u.job.dest, &row), "the row can be read");
	is_int(row.sent, 1, "and counts one recipient sent");
	world_fini(&w);
}

static void test_retry_times(void)
{
	struct world w;
	static const int64_t want_min[] = { 300, 300, 600, 1200, 2400, 4000, 4000 };
	int64_t last_s, waited;
	bool in_bounds = true;

	begin(&w, "");
	w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	for (size_t i = 0; i < ARRAY_LEN(want_min); i++) {
		struct sent_rec *job = world_next(&w);

		if (job == NULL || job->u.kind != PROTO_JOB)
			break;
		w_result(&w, job, DW, 0, 1, 0, JOB_HEALTH_OK);
		last_s = clock_now_wall().us / 1000000;
		do {
			world_pass(&w, 1000);
		} while (world_left(&w) == 0 && clock_now_wall().us / 1000000 - last_s < 9000);
		waited = clock_now_wall().us / 1000000 - last_s;
		/* age when it was tried, within the limits, and up to an eighth more */
		if (waited < want_min[i] || waited > (i == 0   ? 340
						      : i == 1 ? 385
							       : want_min[i] * 3)) {
			printf("# try %zu after %lld s\n", i, (long long)waited);
			in_bounds = false;
		}
		if (waited > 4000 + 4000 / 8 + 1)
			in_bounds = false;
		struct sent_rec *load = world_next(&w);

		ok(load != NULL && load->u.kind == PROTO_LOAD, "it is due: to be resolved again");
		is_int(w_loaded(&w, load, RW, 0), 0, "resolved");
		world_turn(&w);
	}
	ok(in_bounds, "back-off follows the age, between the limits, with bounded jitter");
	world_fini(&w);
}

static void test_expiry(void)
{
	struct world w;

	begin(&w, "maximal_queue_lifetime = 1h\nbounce_queue_lifetime = 10m\n");
	w_new(&w, RW, 0, 0, 1, NULL);
	w_new(&w, RW, MSGF_NULL_SENDER, 0, 1, NULL);
	world_turn(&w);
	struct sent_rec *a = world_next(&w), *b = world_next(&w);

	world_pass(&w, 1800 * 1000);
	w_result(&w, a, DW, 0, 1, 0, JOB_HEALTH_OK);
	w_result(&w, b, DW, 0, 1, 0, JOB_HEALTH_OK);
	is_int(w.s->count[QS_DEFERRED], 1, "young enough: deferred");
	is_int(w.s->count[QS_NOTIFY], 1, "null sender, too old: to be given up");
	world_turn(&w);
	struct sent_rec *n = world_next(&w);

	ok(n != NULL && n->u.kind == PROTO_BOUNCE && n->u.bounce.bounce == BOUNCE_EXPIRED,
	   "the rewrite worker gets it as expired");
	is_int(w_bounced(&w, n, RW, 0), 0, "done");
	is_int(live(&w), 1, "and gone");
	world_pass(&w, 3000 * 1000);
	struct sent_rec *load = world_next(&w);

	ok(load != NULL && load->u.kind == PROTO_LOAD, "the other one is due");
	w_loaded(&w, load, RW, 0);
	world_turn(&w);
	w_result(&w, world_next(&w), DW, 0, 1, 0, JOB_HEALTH_OK);
	is_int(w.s->count[QS_NOTIFY], 1, "after this attempt it is too old as well");
	is_int(w.counters->counter[CTR_sched_expired], 2, "counted");
	world_fini(&w);
}

/* A probe of the verify worker: what it finds out is told, it never waits. */
static void test_verify(void)
{
	struct world w;

	begin(&w, "maximal_queue_lifetime = 1h\n");
	w_new(&w, RW, MSGF_VERIFY | MSGF_WANT_SUCCESS, 0, 1, NULL);
	world_turn(&w);
	w_result(&w, world_next(&w), DW, 0, 1, 0, JOB_HEALTH_OK);
	is_int(w.s->count[QS_DEFERRED], 0, "a probe is not deferred");
	world_turn(&w);
	struct sent_rec *n = world_next(&w);

	ok(n != NULL && n->u.kind == PROTO_BOUNCE && n->u.bounce.bounce == BOUNCE_EXPIRED,
	   "it is reported at once");
	is_int(w_bounced(&w, n, RW, 0), 0, "done");
	is_int(live(&w), 0, "and gone");
	is_int(w.counters->counter[CTR_sched_expired], 0, "it is no mail that was too old");
	world_fini(&w);
}

static void test_warning(void)
{
	struct world w;

	begin(&w, "delay_warning_time = 10m\n");
	w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	w_result(&w, world_next(&w), DW, 0, 1, 0, JOB_HEALTH_OK);
	unsigned warnings = 0, tries = 0;

	while (tries < 6) {
		world_pass(&w, 10000);
		for (struct sent_rec *r; (r = world_next(&w)) != NULL; world_turn(&w)) {
			if (r->u.kind == PROTO_LOAD) {
				w_loaded(&w, r, RW, 0);
			} else if (r->u.kind == PROTO_BOUNCE) {
				warnings += r->u.bounce.bounce == BOUNCE_DELAY;
				w_bounced(&w, r, RW, 0);
			} else {
				tries++;
				w_result(&w, r, DW, 0, 1, 0, JOB_HEALTH_OK);
			}
		}
	}
	is_int(warnings, 1, "one warning per message");
	is_int(w.s->count[QS_DEFERRED] + w.s->count[QS_NOTIFY], 1, "which stays in the queue");
	world_fini(&w);
}

/* confirm_delay_cleared: workers hear that the sender knows of a delay. */
static void test_cleared(void)
{
	for (unsigned on = 0; on < 2; on++) {
		struct world w;
		struct sent_rec *r = NULL;
		bool warned = false;

		begin(&w, on ? "delay_warning_time = 10m\nconfirm_delay_cleared = yes\n"
			     : "delay_warning_time = 10m\n");
		w_new(&w, RW, 0, 0, 1, NULL);
		world_turn(&w);
		r = world_next(&w);
		ok((r->u.job.msg_flags & MSGF_DELAY_WARNED) == 0, "nobody was warned yet");
		w_result(&w, r, DW, 0, 1, 0, JOB_HEALTH_OK);
		for (unsigned i = 0; i < 1000; i++) {
			world_pass(&w, 10000);
			if ((r = world_next(&w)) == NULL)
				continue;
			if (r->u.kind == PROTO_BOUNCE) {
				warned = true;
				w_bounced(&w, r, RW, 0);
			} else if (r->u.kind == PROTO_LOAD) {
				w_loaded(&w, r, RW, 0);
			} else if (warned) {
				break;
			} else {
				w_result(&w, r, DW, 0, 1, 0, JOB_HEALTH_OK);
			}
			world_turn(&w);
		}
		ok(warned && r != NULL && r->u.kind == PROTO_JOB, "tried after the warning");
		is_int(!!(r->u.job.msg_flags & MSGF_DELAY_WARNED), on,
		       on ? "the worker is told" : "the worker is not told");
		struct proto_result res = { .kind = PROTO_RESULT,
					    .word = r->u.job.ref.word,
					    .entry = r->u.job.ref.entry,
					    .sent = 1,
					    .report = on };

		is_int(sched_input(w.s, CLASS_DELIVER, 0, DW, &res, sizeof(res)), 0, "delivered");
		world_turn(&w);
		r = world_next(&w);
		if (on)
			ok(r != NULL && r->u.bounce.bounce == BOUNCE_SUCCESS &&
				   (r->u.bounce.msg_flags & MSGF_DELAY_WARNED) != 0,
			   "and the sender is to hear of it");
		else
			ok(r == NULL && live(&w) == 0, "and that is all");
		world_fini(&w);
	}
}

/* sent, reported, deferred and bounced recipients in one result */
static void test_mixed(void)
{
	struct world w;
	struct new_rec r = { 0 };
	struct proto_result res = { .kind = PROTO_RESULT };

	begin(&w, "");
	r.n = (struct proto_new){ .kind = PROTO_NEW,
				  .qid = { .time_us = 1700000000000001, .life = 9 },
				  .place = { .seg = 1, .len = 8 },
				  .rcpt_count = 10,
				  .entry_total = 1,
				  .entry_count = 1 };
	r.e[0] = (struct proto_entry){ .rcpt_first = 2, .dest = 0, .mask = 0xff };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), 0,
	       "eight recipients in one entry");
	world_turn(&w);
	struct sent_rec *job = world_next(&w);

	res.word = job->u.job.ref.word;
	res.entry = job->u.job.ref.entry;
	res.sent = 0x0f;
	res.report = 0x03;
	res.deferred = 0x30;
	res.bounced = 0xc0;
	is_int(sched_input(w.s, CLASS_DELIVER, 0, DW, &res, sizeof(res)), 0, "a bit of everything");
	is_int(w.s->count[QS_NOTIFY], 2, "two notifications to make");
	is_int(w.s->count[QS_DEFERRED], 1, "one entry to try again");
	is_int(w.q.entries[res.entry].mask, 0x30, "with just the deferred recipients");
	world_turn(&w);
	uint64_t failure = 0, success = 0;

	for (struct sent_rec *b; (b = world_next(&w)) != NULL;) {
		*(b->u.bounce.bounce == BOUNCE_SUCCESS ? &success : &failure) |=
			b->u.bounce.ref.mask;
		is_int(b->u.bounce.ref.rcpt_first, 2, "the base stays");
		w_bounced(&w, b, RW, 0);
	}
	is_int(success, 0x03, "success is reported for those who asked");
	is_int(failure, 0xc0, "failure for the bounced ones");
	is_int(w.q.shm->entry_live, 1, "only the deferred entry is left");
	world_fini(&w);
}

/* Mail at its best MX host is resolved again at once, with a flag that says so. */
static void test_best_mx(void)
{
	struct world w;
	struct new_rec r = { 0 };
	struct proto_result res = { .kind = PROTO_RESULT, .health = JOB_HEALTH_PASS };

	begin(&w, "");
	r.n = (struct proto_new){ .kind = PROTO_NEW,
				  .qid = { .time_us = 1700000000000001, .life = 9 },
				  .place = { .seg = 1, .len = 8 },
				  .rcpt_count = 3,
				  .entry_total = 1,
				  .entry_count = 1 };
	r.e[0] = (struct proto_entry){ .dest = 0, .mask = 7 };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.n) + sizeof(r.e[0])), 0,
	       "three recipients");
	world_turn(&w);
	struct sent_rec *job = world_next(&w);

	res.word = job->u.job.ref.word;
	res.entry = job->u.job.ref.entry;
	res.sent = 1;
	res.deferred = 6;
	res.health = JOB_HEALTH_PASS + 1;
	is_int(sched_input(w.s, CLASS_DELIVER, 0, DW, &res, sizeof(res)), E_PEER,
	       "no health beyond it");
	res.health = JOB_HEALTH_PASS;
	is_int(sched_input(w.s, CLASS_DELIVER, 0, DW, &res, sizeof(res)), 0,
	       "one sent, two pass on");
	is_int(w.s->count[QS_LOAD], 1, "to be resolved again");
	world_turn(&w);
	struct sent_rec *load = world_next(&w);

	ok(load != NULL && load->u.load.kind == PROTO_LOAD && load->u.load.flags == LOAD_BEST_MX &&
		   load->u.load.ref.mask == 6,
	   "by best_mx_transport");
	world_fini(&w);
}

/* What delivery workers have for the postmaster goes to a rewrite worker as it is, within limits.
 */
static void test_notices(void)
{
	struct world w;
	struct {
		struct proto_notice n;
		char text[8];
	} r = { .n = { .kind = PROTO_NOTICE, .peer_len = 4, .text_len = 4 }, .text = "hostIn:\n" };
	unsigned passed = 0;

	begin(&w, "");
	is_int(sched_input(w.s, CLASS_DELIVER, 0, DW, &r, sizeof(r.n) + 7), E_PEER, "too short");
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), E_PEER, "of no other class");
	for (int i = 0; i < 30; i++)
		is_int(sched_input(w.s, CLASS_DELIVER, 0, DW, &r, sizeof(r)), 0, "a notice");
	for (struct sent_rec *b; (b = world_next(&w)) != NULL;)
		passed += b->class_id == CLASS_REWRITE && b->u.kind == PROTO_NOTICE &&
			  memcmp(b->u.bytes, &r, sizeof(r)) == 0;
	is_int(passed, 10, "ten at once");
	r.n.text_len = PROTO_NOTICE_MAX + 1;
	is_int(sched_input(w.s, CLASS_DELIVER, 0, DW, &r, sizeof(r)), E_PEER, "too long");
	world_fini(&w);
}

static void test_notify_fails(void)
{
	struct world w;

	begin(&w, "");
	w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	w_result(&w, world_next(&w), DW, 0, 0, 1, JOB_HEALTH_OK);
	world_turn(&w);
	w_bounced(&w, world_next(&w), RW, 1);
	world_turn(&w);
	is_int(world_left(&w), 0, "a notification that failed is not repeated at once");
	world_pass(&w, 6000);
	struct sent_rec *b = world_next(&w);

	ok(b != NULL && b->u.kind == PROTO_BOUNCE && b->u.bounce.bounce == BOUNCE_FAILURE,
	   "but later");
	w_bounced(&w, b, RW, 0);
	is_int(live(&w), 0, "and then the message is done");
	world_fini(&w);
}

static void test_load_answers(void)
{
	struct world w;
	struct sched_found m = { .qid = { .time_us = 1700000000000001, .life = 9 },
				 .place = { .seg = 1, .len = 8 } };
	struct sched_found_entry e = { .rcpt_first = 0, .mask = 0xff, .state = QS_LOAD };
	struct loaded_rec r = { .l = { .kind = PROTO_LOADED } };

	begin(&w, "");
	w_dest(&w, RW, 1, "smtp", "other.example");
	is_int(sched_add_found(w.s, &m, &e, 1), 0, "a recovered message");
	is_int(sched_add_found(w.s, &m, &e, 1), E_EXIST, "is known then");
	world_turn(&w);
	struct sent_rec *load = world_next(&w);

	r.l.word = load->u.load.ref.word;
	r.l.entry = load->u.load.ref.entry;
	r.l.status = LOAD_RETRY;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.l)), 0, "not now");
	is_int(w.s->count[QS_DEFERRED], 1, "then later");
	world_pass(&w, 61000);
	load = world_next(&w);
	r.l.word = load->u.load.ref.word;
	r.l.status = LOAD_OK;
	r.l.entry_count = 2;
	r.e[0] = (struct proto_entry){ .rcpt_first = 0, .dest = 0, .mask = 0x0f };
	r.e[1] = (struct proto_entry){ .rcpt_first = 4, .dest = 1, .mask = 0x07 };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.l) + 2 * sizeof(r.e[0])), E_PEER,
	       "an answer that leaves a recipient out is refused");
	r.e[1].mask = 0x1f;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.l) + 2 * sizeof(r.e[0])), E_PEER,
	       "one that adds a recipient too");
	r.e[1].mask = 0x0f;
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.l) + 2 * sizeof(r.e[0])), 0,
	       "divided over two destinations");
	world_turn(&w);
	is_int(world_left(&w), 2, "two jobs");
	struct sent_rec *a = world_next(&w), *b = world_next(&w);

	w_result(&w, a, DW, a->u.job.ref.mask, 0, 0, JOB_HEALTH_OK);
	is_int(live(&w), 1, "half done");
	w_result(&w, b, DW, b->u.job.ref.mask, 0, 0, JOB_HEALTH_OK);
	is_int(live(&w), 0, "all done");
	m.qid.life = 10;
	sched_add_found(w.s, &m, &e, 1);
	world_turn(&w);
	load = world_next(&w);
	r.l = (struct proto_loaded){ .kind = PROTO_LOADED,
				     .status = LOAD_DAMAGED,
				     .word = load->u.load.ref.word,
				     .entry = load->u.load.ref.entry };
	is_int(sched_input(w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r.l)), 0, "damaged");
	is_int(live(&w), 0, "is dropped");
	ok(strstr(w.log, "damaged") != NULL, "and logged");
	world_fini(&w);
}

static void jumped_retry(struct world *w)
{
	for (struct sent_rec *j; (j = world_next(w)) != NULL; world_turn(w)) {
		if (j->u.kind == PROTO_LOAD)
			w_loaded(w, j, RW, 0);
		else
			w_result(w, j, DW, 0, 1, 0, JOB_HEALTH_OK);
	}
}

/* After a long time off, what is older than it may get is tried again before it is returned. */
static void test_long_off(void)
{
	struct world w;
	struct sched_found m = { .qid = { .time_us = 1700000000000000 - 6 * 86400000000,
					  .life = 9 },
				 .place = { .seg = 1, .len = 8 } };
	struct sched_found_entry e = { .mask = 1, .state = QS_LOAD };

	begin(&w, "");
	sched_add_found(w.s, &m, &e, 1);
	world_turn(&w);
	jumped_retry(&w);
	is_int(w.s->count[QS_DEFERRED], 1, "failed once: waits");
	for (int i = 0; i < 460; i++)
		world_pass(&w, 10000);
	is_int(world_left(&w), 1, "tried again");
	jumped_retry(&w);
	is_int(w.s->count[QS_DEFERRED], 0, "then it has expired");
	is_int(w.counters->counter[CTR_sched_expired], 1, "and is returned");
	world_fini(&w);
}

static void test_clock_jumps(void)
{
	struct world w;

	begin(&w, "");
	for (int i = 0; i < 20; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	for (struct sent_rec *j; (j = world_next(&w)) != NULL; world_turn(&w))
		w_result(&w, j, DW, 0, 1, 0, JOB_HEALTH_OK);
	is_int(w.s->count[QS_DEFERRED], 20, "twenty deferred");
	clock_fake_jump(W_START_MS - 86400000); /* a day back */
	sched_tick(w.s);
	world_turn(&w);
	is_int(world_left(&w), 0, "the clock set back makes nothing due");
	for (int i = 0; i < 350; i++)
		world_pass(&w, 1000);
	is_int(world_left(&w), 20, "and nothing late");
	jumped_retry(&w);
	clock_fake_jump(W_START_MS + 3600000); /* an hour ahead */
	sched_tick(w.s);
	world_turn(&w);
	is_int(world_left(&w), 0, "the clock set ahead makes nothing due");
	for (int i = 0; i < 450; i++)
		world_pass(&w, 1000);
	is_int(world_left(&w), 20, "and nothing late");
	clock_fake_jump(W_START_MS + 6 * 86400000LL);
	world_turn(&w);
	jumped_retry(&w);
	is_int(w.s->count[QS_DEFERRED], 20, "an attempt after a jump of days expires nothing");
	clock_fake_jump(0);
	sched_tick(w.s);
	is_int(w.board.oldest_deferred_wall_s, 0, "the oldest is older than the epoch: not shown");
	clock_fake_jump(W_START_MS + 1000000);
	sched_tick(w.s);
	ok(w.board.oldest_deferred_wall_s / 1000 == W_START_MS / 1000000,
	   "the oldest came when it came");
	is_int(w.counters->counter[CTR_sched_clock_jumps], 5, "all counted");
	world_pass(&w, 3 * 86400000LL);
	is_int(world_left(&w), 20, "days that pass make all due");
	world_fini(&w);
}

/* Due times behind the wheel's horizon. */
static void test_horizon(void)
{
	struct world w;
	struct sched_found m = { .qid = { .time_us = 1700000000000001, .life = 9 },
				 .place = { .seg = 1, .len = 8 } };
	struct sched_found_entry e = { .mask = 1, .state = QS_DEFERRED };

	begin(&w, "");
	e.due_s = (uint32_t)(W_START_MS / 1000 + 20000);
	sched_add_found(w.s, &m, &e, 1);
	for (int i = 0; i < 19990; i += 10)
		world_pass(&w, 10000);
	is_int(world_left(&w), 0, "not before its time");
	for (int i = 0; i < 20; i++)
		world_pass(&w, 1000);
	is_int(world_left(&w), 1, "but then");
	world_fini(&w);
}

int main(void)
{
	test_sent();
	test_retry_times();
	test_expiry();
	test_verify();
	test_warning();
	test_cleared();
	test_mixed();
	test_best_mx();
	test_notices();
	test_notify_fails();
	test_load_answers();
	test_clock_jumps();
	test_long_off();
	test_horizon();
	return tap_done();
}
