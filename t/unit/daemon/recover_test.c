/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recovery from spools made by hand: what is sent, waits, is in doubt, and whose word counts. */
#include "t/unit/daemon/recover_scene.h"
#include "workers/spool/doubt.h"

static void mark(struct scene *sc, unsigned k, enum outcome_kind kind, uint64_t mask, int64_t ago_s)
{
	put(sc, &(struct outcome){ .kind = (uint8_t)kind,
				   .qid = msg_id(k),
				   .mask = mask,
				   .when_us = NOW_US - ago_s * 1000000 });
}

static void test_outcomes(void)
{
	static struct scene sc;
	struct seen s;
	char of[80], text[QID_TEXT_SIZE];

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);   /* never tried */
	add(&sc, 2, 130, 0, NULL); /* never tried, many recipients */
	add(&sc, 3, 1, 0, NULL);   /* sent */
	add(&sc, 4, 4, 0, NULL);   /* sent, deferred, bounced, untried */
	add(&sc, 5, 1, 0, NULL);   /* deferred, then sent */
	add(&sc, 6, 1, 0, NULL);   /* bounced and notified */
	add(&sc, 7, 2, 0, NULL);   /* bounced, and a notification is in the spool */
	add(&sc, 8, 1, MSGF_HOLD, NULL);
	add(&sc, 9, 1, MSGF_HOLD, NULL); /* released */
	add(&sc, 10, 1, 0, NULL);        /* held, released, held */
	add(&sc, 11, 1, 0, NULL);        /* deleted */
	add(&sc, 12, 1, 0, NULL);        /* deferred and requeued */
	add(&sc, 13, 2, 0, NULL);        /* deferred, warned */
	add(&sc, 14, 1, 0, NULL);        /* begun */
	add(&sc, 15, 1, 0, NULL);        /* begun, then deferred */
	add(&sc, 18, 1, 0, NULL);        /* held, released after the clock was set back */
	add(&sc, 19, 1, 0, NULL);        /* expired by an operator, not tried since */
	add(&sc, 20, 1, 0, NULL);        /* deferred and expired */
	add(&sc, 21, 1, 0, NULL);        /* expired, then requeued */
	add(&sc, 16, 100, 0, NULL);      /* divided over the border of a window */
	snprintf(of, sizeof(of), "%s 0 1 %u", qid_format(msg_id(7), text), BOUNCE_FAILURE);
	add(&sc, 17, 1, MSGF_NULL_SENDER | MSGF_INTERNAL, of);
	result(&sc, 3, 0, 1, 0, 0, 50);
	result(&sc, 4, 0, 1, 2, 4, 50);
	result(&sc, 5, 0, 0, 1, 0, 500);
	result(&sc, 6, 0, 0, 0, 1, 50);
	mark(&sc, 6, OUTCOME_NOTIFIED, 1, 49);
	result(&sc, 7, 0, 0, 0, 3, 50);
	mark(&sc, 9, OUTCOME_RELEASED, 0, 40);
	mark(&sc, 10, OUTCOME_HELD, 0, 50);
	mark(&sc, 10, OUTCOME_RELEASED, 0, 40);
	mark(&sc, 10, OUTCOME_HELD, 0, 30);
	mark(&sc, 18, OUTCOME_HELD, 0, 30);
	mark(&sc, 18, OUTCOME_RELEASED, 0, 50);
	mark(&sc, 11, OUTCOME_DELETED, 0, 40);
	mark(&sc, 19, OUTCOME_EXPIRED, 0, 40);
	result(&sc, 20, 0, 0, 1, 0, 50);
	mark(&sc, 20, OUTCOME_EXPIRED, 0, 40);
	mark(&sc, 21, OUTCOME_EXPIRED, 0, 40);
	mark(&sc, 21, OUTCOME_REQUEUED, 0, 30);
	result(&sc, 12, 0, 0, 1, 0, 50);
	mark(&sc, 12, OUTCOME_REQUEUED, 0, 40);
	result(&sc, 13, 0, 0, 3, 0, 50);
	mark(&sc, 13, OUTCOME_WARNED, 0, 40);
	mark(&sc, 14, OUTCOME_STARTED, 1, 40);
	mark(&sc, 15, OUTCOME_STARTED, 1, 40);
	result(&sc, 15, 0, 0, 1, 0, 39);
	result(&sc, 16, 60, 0x0f, 0xf0, 0, 50); /* 60-63 sent, 64-67 deferred */
	result(&sc, 16, 64, 0x03, 0x0c, 0, 20); /* then 64, 65 sent */
	journal_end(&sc);
	fx_turns(&sc.f, 1);
	journal_begin(&sc);
	result(&sc, 5, 0, 1, 0, 0, 100); /* in a later journal */
	restart(&sc, "");

	s = look(&sc, 1);
	ok(s.entries == 1 && s.by_state[QS_LOAD] == 1, "never tried: to be loaded");
	s = look(&sc, 2);
	is_int(s.entries, 3, "130 recipients: three windows");
	is_int(look(&sc, 3).entries, 0, "sent: gone");
	s = look(&sc, 4);
	ok(s.by_state[QS_DEFERRED] == 2 && s.by_state[QS_NOTIFY] == 4 && s.by_state[QS_LOAD] == 8 &&
		   s.entries == 3,
	   "each recipient as its own outcome says");
	is_int(look(&sc, 5).entries, 0, "deferred and sent later: gone");
	is_int(look(&sc, 6).entries, 0, "bounced and notified: gone");
	s = look(&sc, 7);
	ok(s.by_state[QS_NOTIFY] == 2 && s.entries == 1,
	   "reported by a message in the spool: only the other one is to be reported");
	s = look(&sc, 8);
	ok(s.by_state[QS_HOLD] == 1 && s.flags & MSGF_HOLD, "held from the beginning");
	s = look(&sc, 9);
	ok(s.by_state[QS_LOAD] == 1 && !(s.flags & MSGF_HOLD), "released by an operator");
	is_int(look(&sc, 10).by_state[QS_HOLD], 1, "the last word counts");
	is_int(look(&sc, 18).by_state[QS_LOAD], 1, "whatever the clock said then");
	is_int(look(&sc, 11).entries, 0, "deleted: gone");
	s = look(&sc, 12);
	ok(s.by_state[QS_DEFERRED] == 1 && s.due_s <= W_START_MS / 1000 + 1, "requeued: due now");
	s = look(&sc, 19);
	ok(s.by_state[QS_NOTIFY] == 1 && s.flags & MSGF_EXPIRED, "expired: goes back");
	s = look(&sc, 20);
	ok(s.by_state[QS_DEFERRED] == 1 && s.flags & MSGF_EXPIRED, "or when it is due");
	s = look(&sc, 21);
	ok(s.by_state[QS_LOAD] == 1 && !(s.flags & MSGF_EXPIRED), "but not when requeued");
	s = look(&sc, 13);
	ok(s.flags & MSGF_DELAY_WARNED, "warned already");
	/* age at the attempt was 3550 s, so the next one is 3550 s later and up to an eighth more
	 */
	ok(s.due_s >= W_START_MS / 1000 - 50 + 3549 &&
		   s.due_s <= W_START_MS / 1000 - 50 + 3551 + 3551 / 8,
	   "deferred: due as if nothing had happened");
	ok(s.jref.journal != 0, "with the place of its reason");
	char reason[100] = "";

	ok(files_reason(sc.files, s.jref, reason, sizeof(reason)) &&
		   strcmp(reason, "host mx.y said: 450 no") == 0,
	   "which can be read: %s", reason);
	is_int(look(&sc, 14).by_state[QS_LOAD], 1, "begun and unknown: tried again");
	is_int(sc.w.board.in_doubt, 1, "and counted as in doubt, but not the one that ended");
	ok(strstr(sc.w.log, "outcome is unknown") != NULL, "and named in the log");
	s = look(&sc, 16);
	ok(s.entries == 3, "a divided message");
	struct drow row;
	uint32_t r = dtab_find(&sc.w.d, 0, SV("y.example"));

	ok(r != DTAB_NONE, "deferred mail is filed under its destination");
	sched_tick(sc.w.s);
	sched_turn(sc.w.s);
	ok(dtab_read(&sc.w.d, r, &row) && row.deferred > 0, "and counted there");
	finish(&sc);
}

/* ---- deliveries in doubt ---- */

struct listed {
	unsigned count;
	struct doubt last;
	char names[200];
};

static void take_listed(void *ctx, const struct doubt *d)
{
	struct listed *l = ctx;

	l->count++;
	l->last = *d;
	snprintf(l->names, sizeof(l->names), "%.*s %.*s %.*s %.*s", (int)d->transport.len,
		 d->transport.p, (int)d->nexthop.len, d->nexthop.p, (int)d->sender.len, d->sender.p,
		 d->rcpt_count > 0 ? (int)d->rcpts[0].len : 0,
		 d->rcpt_count > 0 ? d->rcpts[0].p : "");
}

static struct listed list_of(struct scene *sc)
{
	struct listed l = { 0 };
	uint64_t damaged;

	is_int(doubt_each(&sc->f.dirs, take_listed, &l, &damaged), 0, "the list is there");
	return l;
}

static void started(struct scene *sc, unsigned k, int64_t ago_s)
{
	put(sc, &(struct outcome){ .kind = OUTCOME_STARTED,
				   .qid = msg_id(k),
				   .mask = 1,
				   .transport = SV("smtp"),
				   .nexthop = SV("y.example"),
				   .when_us = NOW_US - ago_s * 1000000 });
}

/* A further start over the same spool; what is put into a journal before it comes first. */
static void restart_again(struct scene *sc, const char *main_cf, enum outcome_kind before,
			  int64_t ago_s)
{
	end_supervisor(sc);
	fx_turns(&sc->f, 1);
	journal_begin(sc);
	if (before != 0)
		mark(sc, 1, before, 0, ago_s);
	restart(sc, main_cf);
}

static void test_in_doubt_list(void)
{
	static struct scene sc;
	struct listed l;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 2, 1, 0, NULL);
	started(&sc, 1, 40);
	restart(&sc, "");
	l = list_of(&sc);
	ok(l.count == 1 && qid_eq(l.last.qid, msg_id(1)) && l.last.mask == 1 && !l.last.held &&
		   l.last.cause == DOUBT_SYSTEM && l.last.began_us == NOW_US - 40000000,
	   "it is on the list");
	is_str(l.names, "smtp y.example s@x r@y", "with all names");
	ok((look(&sc, 1).flags & MSGF_IN_DOUBT) != 0, "and marked");
	ok((look(&sc, 2).flags & MSGF_IN_DOUBT) == 0, "the other one is not");
	is_int(sc.w.counters->counter[CTR_sched_in_doubt], 1, "counted");
	restart_again(&sc, "", 0, 0);
	is_int(list_of(&sc).count, 1, "a second start does not list it again");
	is_int(sc.w.counters->counter[CTR_sched_in_doubt], 0, "nor count it");
	ok((look(&sc, 1).flags & MSGF_IN_DOUBT) != 0 && sc.w.board.in_doubt == 1,
	   "it is still marked");
	end_supervisor(&sc);
	journal_begin(&sc);
	result(&sc, 1, 0, 0, 1, 0, 10);
	restart(&sc, "");
	ok((look(&sc, 1).flags & MSGF_IN_DOUBT) != 0 && look(&sc, 1).by_state[QS_DEFERRED] == 1,
	   "deferred since: the first attempt is as much in doubt as before");
	sched_cmd(sc.w.s, SCHED_DELETE, msg_id(1), &(struct sched_cmd_result){ 0 });
	finish(&sc);
}

static void test_in_doubt_hold(void)
{
	static const char hold[] = "in_doubt_action = hold\n";
	static struct scene sc;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	started(&sc, 1, 40);
	restart(&sc, hold);
	is_int(look(&sc, 1).by_state[QS_HOLD], 1, "in doubt: held when so configured");
	ok(list_of(&sc).last.held, "so says the list");
	restart_again(&sc, "", 0, 0);
	is_int(look(&sc, 1).by_state[QS_HOLD], 1, "and it stays held over the next start");
	restart_again(&sc, hold, OUTCOME_RELEASED, 20);
	is_int(look(&sc, 1).by_state[QS_HOLD], 1, "an operator's word of before does not count");
	restart_again(&sc, hold, OUTCOME_RELEASED, 0);
	is_int(look(&sc, 1).by_state[QS_LOAD], 1, "released: not held once more");
	finish(&sc);
}

/* ---- who may say what ---- */

static const struct warrant_key key_of_spool = { { 0x1234, 0x5678 }, 1 };

/* Journals from here on are those of a life. */
static void journal_of(struct scene *sc, uint32_t life, bool forged)
{
	if (sc->j != NULL)
		journal_end(sc);
	fx_turns(&sc->f, 1);
	journal_begin(sc);
	uint64_t code = warrant_file_code(&key_of_spool, sc->f.next_number, life) + forged;

	sc->f.needs = 0;
	journal_writer_grant(sc->j, sc->f.next_number++, (struct journal_owner){ life, code });
}

/* An outcome of attempt `order` as life `life` was allowed to write it about `mask`. */
static struct outcome leave(unsigned k, enum outcome_kind kind, uint32_t life, uint64_t mask,
			    uint64_t order)
{
	struct outcome o = { .kind = (uint8_t)kind,
			     .qid = msg_id(k),
			     .mask = mask,
			     .when_us = NOW_US - 50000000,
			     .transport = SV("smtp"),
			     .nexthop = SV("y.example") };
	struct warrant_of of = { .life = life,
				 .kind = kind == OUTCOME_STARTED ? OUTCOME_RESULT : o.kind,
				 .mask = mask,
				 .order = order,
				 .qid = o.qid };

	o.warrant = (struct proto_warrant){ order, warrant_code(&key_of_spool, &of) };
	return o;
}

static void sent(struct scene *sc, struct outcome o, uint64_t mask)
{
	o.mask = o.sent = mask;
	put(sc, &o);
}

/* What a taken-over worker could write into journals. */
static void test_forged(void)
{
	static struct scene sc;
	struct outcome o;
	char of[80], text[QID_TEXT_SIZE];

	the_key = &key_of_spool;
	begin(&sc);
	for (unsigned k = 1; k <= 9; k++)
		add(&sc, k, k == 4 ? 2 : 1, 0, NULL);
	snprintf(of, sizeof(of), "%s 0 1 %u 5 200 6", qid_format(msg_id(9), text), BOUNCE_FAILURE);
	add(&sc, 10, 1, MSGF_NULL_SENDER | MSGF_INTERNAL, of);
	journal_of(&sc, 200, false);
	sent(&sc, leave(1, OUTCOME_RESULT, 200, 1, 9), 1);
	sent(&sc, (struct outcome){ .kind = OUTCOME_RESULT, .qid = msg_id(2) }, 1);
	sent(&sc, leave(3, OUTCOME_RESULT, 201, 1, 9), 1);
	sent(&sc, leave(4, OUTCOME_RESULT, 200, 1, 9), 3);
	o = leave(5, OUTCOME_DELETED, 200, 0, 9);
	put(&sc, &o);
	sent(&sc, leave(6, OUTCOME_RESULT, 200, 1, 9), 1);
	journal_of(&sc, 201, true); /* the head is not the supervisor's work */
	sent(&sc, leave(7, OUTCOME_RESULT, 201, 1, 9), 1);
	journal_of(&sc, 0, false);
	o = leave(8, OUTCOME_DELETED, 0, 0, 10);
	put(&sc, &o);
	restart(&sc, "");
	is_int(look(&sc, 1).entries, 0, "what a worker was given it may call delivered");
	is_int(look(&sc, 2).by_state[QS_LOAD], 1, "not without leave");
	is_int(look(&sc, 3).by_state[QS_LOAD], 1, "nor with another one's");
	is_int(look(&sc, 4).by_state[QS_LOAD], 3, "nor for further recipients");
	is_int(look(&sc, 5).by_state[QS_LOAD], 1, "nor speak for an operator");
	is_int(look(&sc, 6).entries, 0, "what is true stands beside it");
	is_int(look(&sc, 7).by_state[QS_LOAD], 1, "a journal that nobody was granted");
	is_int(look(&sc, 8).entries, 0, "the supervisor's own");
	is_int(look(&sc, 9).by_state[QS_LOAD], 1, "a notification that nobody asked for");
	is_int(sc.w.counters->counter[CTR_sched_forged], 6, "counted");
	ok(strstr(sc.w.log, "is not its writer's to write") != NULL, "and in the log");
	finish(&sc);
	the_key = NULL;
}

/* The clock was set back between two attempts, which have journals of two workers. */
static void test_clock_set_back(void)
{
	static struct scene sc;
	struct outcome o;

	the_key = &key_of_spool;
	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 2, 1, 0, NULL);
	for (unsigned k = 1; k <= 2; k++) {
		journal_of(&sc, 200 + k, false);
		o = leave(1, OUTCOME_STARTED, 200 + k, 1, k == 1 ? 9 : 5);
		o.when_us = NOW_US - (k == 1 ? 5000 : 50) * 1000000LL;
		put(&sc, &o);
		o = leave(2, OUTCOME_STARTED, 200 + k, 1, k == 1 ? 5 : 9);
		o.when_us = NOW_US - (k == 1 ? 50 : 5000) * 1000000LL;
		put(&sc, &o);
		/* of message 1 the first attempt ended, of message 2 the second one */
		if (k == 1)
			continue;
		o = leave(1, OUTCOME_RESULT, 202, 1, 5);
		o.deferred = 1;
		o.when_us = NOW_US - 49000000;
		put(&sc, &o);
		o = leave(2, OUTCOME_RESULT, 202, 1, 9);
		o.deferred = 1;
		o.when_us = NOW_US - 4999000000;
		put(&sc, &o);
	}
	restart(&sc, "");
	is_int(look(&sc, 1).by_state[QS_LOAD], 1, "an outcome of before hides no doubt");
	ok(list_of(&sc).count == 1 && qid_eq(list_of(&sc).last.qid, msg_id(1)), "it is listed");
	is_int(look(&sc, 2).by_state[QS_DEFERRED], 1, "and an attempt of before is none");
	finish(&sc);
	the_key = NULL;
}

/* Reports of success that were owed when all stopped. */
static void test_success_report(void)
{
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .mask = 3,
			     .sent = 3,
			     .report = 2,
			     .when_us = NOW_US - 10000000 };
	static struct scene sc;
	struct seen s;

	begin(&sc);
	add(&sc, 1, 2, 0, NULL);
	add(&sc, 2, 2, 0, NULL);
	add(&sc, 3, 1, 0, NULL);
	for (unsigned k = 1; k <= 2; k++) {
		o.qid = msg_id(k);
		put(&sc, &o);
	}
	o = (struct outcome){ .kind = OUTCOME_RESULT,
			      .qid = msg_id(3),
			      .mask = 1,
			      .sent = 1,
			      .report = 1,
			      .when_us = NOW_US - 10000000 };
	put(&sc, &o);
	mark(&sc, 2, OUTCOME_NOTIFIED, 2, 5);
	restart(&sc, "");
	s = look(&sc, 1);
	ok(s.entries == 1 && s.by_state[QS_NOTIFY] == 2 && s.jref.journal != 0,
	   "delivered, but the report on success is owed");
	is_int(look(&sc, 2).entries, 0, "delivered and reported: gone");
	is_int(look(&sc, 3).by_state[QS_NOTIFY], 1, "a single recipient likewise");
	finish(&sc);
}

static void test_duplicate(void)
{
	static struct scene sc;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 1, 1, 0, NULL);
	restart(&sc, "");
	is_int(sc.w.q.shm->msg_live, 1, "two records of one id are one message");
	finish(&sc);
}
/* A deliver worker dies: what it had begun is in doubt, what it had only queued is not. */
static void doubt_when_worker_dies(bool hold)
{
	static struct scene sc;
	struct proto_file g;
	uint32_t life = 200;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 2, 1, 0, NULL);
	add(&sc, 3, 1, 0, NULL);
	add(&sc, 4, 2, 0, NULL);
	restart(&sc, hold ? "in_doubt_action = hold\n" : "");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	world_up(&sc.w, CLASS_DELIVER, 0, life);
	w_dest(&sc.w, RW, 0, "smtp", "y.example");
	files_grant(sc.files, life, SPOOL_JOURNAL, &g);
	journal_begin(&sc);
	sc.f.needs = 0;
	journal_writer_grant(sc.j, g.number, (struct journal_owner){ 0, 0 });
	world_turn(&sc.w);
	for (int i = 0; i < 4; i++)
		w_loaded(&sc.w, world_next(&sc.w), RW, 0);
	world_turn(&sc.w);
	is_int(sc.w.s->count[QS_BUSY], 4, "four jobs are out");
	mark(&sc, 1, OUTCOME_STARTED, 1, 0);
	mark(&sc, 2, OUTCOME_STARTED, 1, 0);
	result(&sc, 2, 0, 0, 1, 0, 0); /* written, but its report did not get out */
	mark(&sc, 4, OUTCOME_STARTED, 3, 0);
	result(&sc, 4, 0, 1, 2, 0, 0); /* the same, and one was sent */
	journal_end(&sc);
	loop_free(&sc.f.loop); /* the hooks of the writer that is gone */
	sched_worker_gone(sc.w.s, CLASS_DELIVER, 0, life);
	is_int(sc.w.board.in_doubt, 1, "one is in doubt");
	is_int(look(&sc, 1).by_state[hold ? QS_HOLD : QS_READY], 1, "%s",
	       hold ? "held, as configured" : "and tried again");
	is_int(look(&sc, 2).by_state[QS_READY], 1, "one has an outcome");
	is_int(look(&sc, 3).by_state[QS_READY], 1, "one was not begun");
	ok(look(&sc, 4).by_state[QS_DEFERRED] == 2 && look(&sc, 4).entries == 1,
	   "what was sent is not sent again");
	struct listed l = list_of(&sc);

	ok(l.count == 1 && qid_eq(l.last.qid, msg_id(1)) && l.last.held == hold &&
		   l.last.cause == DOUBT_WORKER,
	   "the one is on the list");
	is_str(l.names, "smtp y.example s@x r@y", "with all names");
	ok((look(&sc, 1).flags & MSGF_IN_DOUBT) != 0, "and marked");
	ok(strstr(sc.w.log, "outcome is unknown") != NULL, "the log names it");
	finish(&sc);
}

/* An outcome that does not tell whether the deferred have it: they are in doubt like those of an
 * attempt without outcome, whether the supervisor heard of it or finds it at its next start. */
static void test_unsure_found(void)
{
	static struct scene sc;
	struct listed l;

	begin(&sc);
	add(&sc, 1, 2, 0, NULL);
	started(&sc, 1, 41);
	put(&sc, &(struct outcome){ .kind = OUTCOME_RESULT,
				    .qid = msg_id(1),
				    .mask = 3,
				    .sent = 1,
				    .deferred = 2,
				    .unsure = true,
				    .when_us = NOW_US - 40000000,
				    .transport = SV("virtual"),
				    .nexthop = SV("y") });
	restart(&sc, "");
	l = list_of(&sc);
	ok(l.count == 1 && l.last.mask == 2 && l.last.cause == DOUBT_CHILD, "it is on the list");
	is_str(l.names, "virtual y s@x r@y", "with all names");
	is_int(look(&sc, 1).by_state[QS_LOAD], 2, "the other one is not tried again");
	restart_again(&sc, "", 0, 0);
	is_int(list_of(&sc).count, 1, "a second start does not list it again");
	finish(&sc);
}

static void test_unsure_told(bool hold)
{
	const char *conf = hold ? "in_doubt_action = hold\n" : "";
	static struct scene sc;
	struct proto_file g;
	uint32_t life = 200;
	struct listed l;

	begin(&sc);
	add(&sc, 1, 2, 0, NULL);
	restart(&sc, conf);
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	world_up(&sc.w, CLASS_DELIVER, 0, life);
	w_dest(&sc.w, RW, 0, "smtp", "y.example");
	files_grant(sc.files, life, SPOOL_JOURNAL, &g);
	world_turn(&sc.w);
	w_loaded(&sc.w, world_next(&sc.w), RW, 0);
	world_turn(&sc.w);
	const struct sent_rec *job = world_next(&sc.w);
	struct proto_result r = { .kind = PROTO_RESULT,
				  .word = job->u.job.ref.word,
				  .entry = job->u.job.ref.entry,
				  .unsure = 1,
				  .sent = 3,
				  .jref = { g.number, 4 } };

	is_int(sched_input(sc.w.s, CLASS_DELIVER, 0, life, &r, sizeof(r)), E_PEER,
	       "nobody is deferred, so nobody is in doubt");
	r.sent = 1;
	r.deferred = 2;
	r.unsure = 2;
	is_int(sched_input(sc.w.s, CLASS_DELIVER, 0, life, &r, sizeof(r)), E_PEER, "yes or no");
	r.unsure = 1;
	is_int(sched_input(sc.w.s, CLASS_DELIVER, 0, life, &r, sizeof(r)), 0, "one is in doubt");
	world_turn(&sc.w);
	l = list_of(&sc);
	ok(l.count == 1 && qid_eq(l.last.qid, msg_id(1)) && l.last.mask == 2 &&
		   l.last.held == hold && l.last.cause == DOUBT_CHILD,
	   "it is on the list");
	is_str(l.names, "smtp y.example s@x r@y", "with all names");
	is_int(look(&sc, 1).by_state[hold ? QS_HOLD : QS_DEFERRED], 2, "and %s",
	       hold ? "held, as configured" : "tried again later");
	ok((look(&sc, 1).flags & MSGF_IN_DOUBT) != 0, "and marked");
	is_int(sc.w.counters->counter[CTR_sched_in_doubt], 1, "and counted");
	finish(&sc);
}

int main(void)
{
	test_outcomes();
	test_in_doubt_list();
	test_in_doubt_hold();
	test_forged();
	test_clock_set_back();
	test_success_report();
	test_duplicate();
	doubt_when_worker_dies(false);
	doubt_when_worker_dies(true);
	test_unsure_found();
	test_unsure_told(false);
	test_unsure_told(true);
	return tap_done();
}
