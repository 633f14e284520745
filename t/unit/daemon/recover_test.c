/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recovery from spools made by hand; then what becomes of files: retiring, removing, copying
 * forward, adopting. The spool is real, the workers are played by the test.
 */
#include "daemon/files_int.h"
#include "daemon/recover.h"
#include "daemon/recover_int.h"
#include "t/unit/daemon/sched_world.h"
#include "t/unit/workers/spool/support.h"
#include "workers/spool/doubt.h"

#define RW     100
#define NOW_US ((int64_t)W_START_MS * 1000)

struct scene {
	struct fixture f; /* the spool and its former writers */
	struct journal_writer *j;
	struct world w; /* the new supervisor */
	struct spool_state *state;
	struct files *files;
	struct loop *loop; /* the supervisor's */
	unsigned n;
};

/* Message k of `rcpts` recipients. */
static struct qid msg_id(unsigned k)
{
	return (struct qid){ (uint64_t)NOW_US - 3600000000u + k, 7 };
}

static void add(struct scene *sc, unsigned k, uint32_t rcpts, uint32_t flags, const char *bounce_of)
{
	struct qid id = msg_id(k);
	struct spool_record h = { .qid_us = id.time_us,
				  .qid_life = id.life,
				  .rcpt_count = rcpts,
				  .flags = flags,
				  .size = 100 };
	struct envelope env = { .sender = SV("s@x"), .arrival_us = (int64_t)id.time_us };
	struct arena arena;
	struct buf text = BUF_INIT;
	char body[] = "Subject: x\r\n\r\nbody\r\n";
	struct spool_iov iov = { body, sizeof(body) - 1 };

	arena_init(&arena, 4096, 0);
	for (uint32_t i = 0; i < rcpts; i++)
		env_add_rcpt(&env, &arena, &(struct env_rcpt){ .addr = SV("r@y") });
	if (bounce_of != NULL)
		env.bounce_of = sv_from(bounce_of);
	env_encode(&env, &text);
	int err;

	while ((err = spool_writer_append(sc->f.w, &h, buf_sv(&text), &iov, 1, NULL)) == E_AGAIN)
		fx_turns(&sc->f, 1);
	if (err != 0)
		die("append: %s", err_str(err));
	if (!fx_wait(&sc->f, ++sc->n))
		die("no commit");
	buf_fini(&text);
	arena_fini(&arena);
}

static void journal_begin(struct scene *sc)
{
	struct journal_conf jc = { .sync_window_ms = 1000,
				   .file_bytes = 1 << 20,
				   .counters = counters_of(&sc->f.counters),
				   .need_file = fx_need,
				   .closed_file = fx_closed,
				   .ctx = &sc->f };

	if (journal_writer_new(&jc, &sc->f.dirs, sc->f.loop, &sc->j) != 0)
		die("no journal");
}

static void journal_end(struct scene *sc)
{
	journal_writer_free(&sc->j);
}

static void put(struct scene *sc, const struct outcome *o)
{
	struct proto_jref ref;
	int err;

	for (int i = 0; (err = journal_append(sc->j, o, &ref)) == E_AGAIN && i < 1000; i++) {
		while (sc->f.needs > 0) {
			sc->f.needs--;
			journal_writer_grant(sc->j, sc->f.next_number++,
					     (struct journal_owner){ 0, 0 });
		}
		loop_turn(sc->f.loop, 2);
		journal_writer_poll(sc->j);
	}
	if (err != 0)
		die("journal: %s", err_str(err));
}

/* The outcome of an attempt at recipients `mask` from `first` on, `ago_s` seconds ago. */
static void result(struct scene *sc, unsigned k, uint32_t first, uint64_t sent, uint64_t deferred,
		   uint64_t bounced, int64_t ago_s)
{
	struct outcome_reason reason = { .mask = deferred | bounced,
					 .mta = SV("mx.y[1.2.3.4]"),
					 .text = SV("host mx.y said: 450 no") };

	put(sc, &(struct outcome){ .kind = OUTCOME_RESULT,
				   .qid = msg_id(k),
				   .rcpt_first = first,
				   .mask = sent | deferred | bounced,
				   .sent = sent,
				   .deferred = deferred,
				   .bounced = bounced,
				   .when_us = NOW_US - ago_s * 1000000,
				   .transport = SV("smtp"),
				   .nexthop = SV("y.example"),
				   .reasons = &reason,
				   .reason_count = (deferred | bounced) != 0 });
}

static void mark(struct scene *sc, unsigned k, enum outcome_kind kind, uint64_t mask, int64_t ago_s)
{
	put(sc, &(struct outcome){ .kind = (uint8_t)kind,
				   .qid = msg_id(k),
				   .mask = mask,
				   .when_us = NOW_US - ago_s * 1000000 });
}

static void begin(struct scene *sc)
{
	memset(sc, 0, sizeof(*sc));
	fx_init(&sc->f, 1, 0);
	journal_begin(sc);
}

static uint32_t table_size = 65536;
static const struct warrant_key *the_key; /* of the supervisors to come */

/* The old writers are gone; a supervisor starts. */
static void restart(struct scene *sc, const char *main_cf)
{
	struct files_setup fs;
	int err;

	if (sc->j != NULL)
		journal_end(sc);
	fx_end_writer(&sc->f);
	world_init_sized(&sc->w, main_cf, table_size, 1024, NULL);
	sc->loop = loop_new();
	err = spool_state_open(&sc->f.dirs, &sc->state);
	fs = (struct files_setup){ .dirs = &sc->f.dirs,
				   .state = sc->state,
				   .board = &sc->w.board,
				   .params = conf_params(sc->w.conf),
				   .counters = sc->w.counters,
				   .key = the_key,
				   .life = 300,
				   .loop = sc->loop };
	if (err == 0)
		err = files_new(&fs, &sc->files);
	sc->w.s->su.files = sc->files;
	if (err == 0)
		err = recover_all(sc->w.s, sc->files, &sc->f.dirs);
	is_int(err, 0, "recovery works");
}

static void end_supervisor(struct scene *sc)
{
	files_free(&sc->files);
	loop_free(&sc->loop);
	spool_state_close(&sc->state);
	world_fini(&sc->w);
}

static void finish(struct scene *sc)
{
	end_supervisor(sc);
	fx_fini(&sc->f);
}

/* ---- what is where ---- */

struct seen {
	unsigned entries;
	uint64_t by_state[QS_COUNT]; /* masks relative to recipient 0, for small messages */
	uint32_t flags, due_s;
	struct proto_jref jref;
};

static void see(void *ctx, const struct sched_item *it)
{
	struct seen *s = ctx;

	s->entries++;
	if (it->rcpt_first < 64)
		s->by_state[it->state] |= it->mask << it->rcpt_first;
	s->flags = it->msg_flags;
	s->due_s = it->state == QS_DEFERRED ? it->due_s : s->due_s;
	s->jref = it->jref;
}

static struct seen look(struct scene *sc, unsigned k)
{
	struct seen s = { 0 };

	sched_list_one(sc->w.s, msg_id(k), see, &s);
	return s;
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

/* ---- files ---- */

static bool exists(struct scene *sc, const char *dir, uint32_t number, const char *suffix)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s/%08x.%s", sc->f.path, dir, number, suffix);
	return access(path, F_OK) == 0;
}

/* Time passes for the files, and the helper thread gets some of it. */
static void pass(struct scene *sc, int64_t ms)
{
	for (int i = 0; i < 5; i++) {
		clock_fake_advance(ms / 5);
		clock_tick();
		files_tick(sc->files);
		files_turn(sc->files);
		int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;

		while (sc->files->jobs_out > 0 && clock_mono_us_raw() < end) {
			usleep(1000);
			sc->files->next_look_ms = INT64_MAX;
			files_tick(sc->files);
		}
		sc->files->next_look_ms = 0;
	}
}

/* The supervisor's own journal is made by a thread. */
static void wait_for_marks(struct scene *sc)
{
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;
	struct qid nobody = msg_id(999);

	while (files_mark(sc->files, OUTCOME_RELEASED, nobody) != 0 && clock_mono_us_raw() < end) {
		loop_turn(sc->loop, 2);
		files_turn(sc->files);
	}
	sc->w.log_len = 0;
	sc->w.log[0] = '\0';
}

static void test_retire(void)
{
	static struct scene sc;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	result(&sc, 1, 0, 1, 0, 0, 50);
	restart(&sc, "spool_spare_segments = 1\n");
	is_int(sc.w.q.shm->msg_live, 0, "nothing is left to do");
	ok(exists(&sc, "seg", 1, "seg"), "there is a segment");
	wait_for_marks(&sc);
	pass(&sc, 1000);
	ok(exists(&sc, "seg", 1, "seg"), "it stays until it was searched");
	pass(&sc, 20000);
	ok(!exists(&sc, "seg", 1, "seg"), "it is retired");
	ok(exists(&sc, "spare", 1, "seg"), "and kept to be overwritten");
	pass(&sc, 20000);
	uint32_t *numbers = NULL;
	size_t count = 0;

	spool_list(&sc.f.dirs, SPOOL_JOURNAL, &numbers, &count);
	free(numbers);
	is_int(count, 1,
	       "the journals that told so are gone after it, but for the supervisor's own");
	struct proto_file g;

	is_int(files_grant(sc.files, RW, SPOOL_SEGMENT, &g), 0, "a number for a new segment");
	is_int(g.recycle, 1, "comes with the spare one");
	ok(g.number > 2, "and was never used");
	finish(&sc);
}

static void test_spares_make_way(void)
{
	static struct scene sc;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	result(&sc, 1, 0, 1, 0, 0, 50);
	restart(&sc, "spool_spare_segments = 1\n");
	wait_for_marks(&sc);
	pass(&sc, 1000);
	pass(&sc, 20000);
	ok(exists(&sc, "spare", 1, "seg"), "a dead segment is kept");
	files_drop_spares(sc.files);
	pass(&sc, 1000);
	ok(!exists(&sc, "spare", 1, "seg"), "until space is short");
	struct proto_file g;

	is_int(files_grant(sc.files, RW, SPOOL_SEGMENT, &g), 0, "a number for a new segment");
	is_int(g.recycle, 0, "comes without it");
	finish(&sc);
}

/* ---- an index that lies, with right checksums ---- */

/* The row of message k says something else now. */
static void lie(struct scene *sc, unsigned k, struct qid id, bool elsewhere, uint32_t rcpts)
{
	struct proto_place place = sc->f.done[k - 1].place;
	char name[SPOOL_NAME_SIZE];
	int fd = openat(sc->f.dirs.seg, spool_name(place.seg, "idx", name), O_RDWR);
	struct spool_row row = { 0 };

	for (off_t at = 64; fd >= 0 && row.off8 != place.off8; at += 64) {
		if (io_pread_all(fd, &row, sizeof(row), at) != 0)
			die("no such row");
		if (row.off8 != place.off8)
			continue;
		row.qid_us = id.time_us;
		row.rcpt_count = rcpts;
		if (elsewhere) { /* the rest of the page, which is zero */
			row.off8 += row.len / 8;
			row.len = 64;
		}
		spool_row_seal(&row);
		if (io_pwrite_all(fd, &row, sizeof(row), at) != 0)
			die("cannot lie");
		break;
	}
	close(fd);
}

static void search(struct scene *sc)
{
	struct recover_hidden *h = NULL;

	for (int i = 0; i < 100; i++) {
		pass(sc, 1000);
		recover_hidden_tick(&h, sc->w.s, sc->files, &sc->f.dirs);
	}
	recover_hidden_free(&h);
}

static bool is_at_home(struct scene *sc, unsigned k)
{
	struct proto_place p, home = sc->f.done[k - 1].place;

	return sched_place_of(sc->w.s, msg_id(k), &p) && p.seg == home.seg && p.off8 == home.off8 &&
	       p.len == home.len;
}

static void test_hidden(void)
{
	static struct scene sc;

	begin(&sc);
	for (unsigned k = 1; k <= 6; k++)
		add(&sc, k, k == 4 ? 3 : 1, 0, NULL);
	add(&sc, 7, 2, 0, NULL);
	result(&sc, 6, 0, 1, 0, 0, 50);
	result(&sc, 7, 0, 1, 2, 0, 50);
	journal_end(&sc);
	sc.j = NULL;
	fx_end_writer(&sc.f);
	lie(&sc, 2, msg_id(2), true, 1);  /* its place is wrong */
	lie(&sc, 3, msg_id(90), true, 1); /* another one's, who does not exist */
	lie(&sc, 4, msg_id(4), false, 1); /* two recipients are missing */
	lie(&sc, 6, msg_id(91), true, 1);
	lie(&sc, 7, msg_id(92), true, 1);
	restart(&sc, "spool_spare_segments = 0\n");
	ok(look(&sc, 3).entries == 0 && look(&sc, 7).entries == 0, "recovery believes the index");
	ok(look(&sc, 2).entries == 1 && !is_at_home(&sc, 2), "also about a place");
	wait_for_marks(&sc);
	search(&sc);
	ok(look(&sc, 3).by_state[QS_LOAD] == 1 && is_at_home(&sc, 3), "what was hidden is found");
	ok(is_at_home(&sc, 2), "and where a message really is");
	ok(look(&sc, 7).by_state[QS_DEFERRED] == 2 && look(&sc, 7).entries == 1,
	   "with what the journals say about it");
	is_int(look(&sc, 6).entries, 0, "so that what was delivered is not delivered again");
	is_int(sc.w.counters->counter[CTR_sched_hidden], 2, "counted");
	ok(strstr(sc.w.log, "was hidden by the index") != NULL, "and named in the log");
	end_supervisor(&sc);
	restart(&sc, "");
	ok(look(&sc, 3).entries == 1 && look(&sc, 2).entries == 1 && is_at_home(&sc, 2),
	   "the next start needs no search");
	is_int(look(&sc, 4).by_state[QS_LOAD], 7, "and has all recipients");
	sc.w.log_len = 0;
	sc.w.log[0] = '\0';
	search(&sc);
	is_str(sc.w.log, "", "nor does it find anything");
	is_int(look(&sc, 1).entries, 1, "the others are as they were");
	finish(&sc);
}

/* Mail that the queue table has no room for stays on disk, whatever becomes of the rest. */
static void test_table_full(void)
{
	static struct scene sc;

	begin(&sc);
	for (unsigned k = 1; k <= 20; k++)
		add(&sc, k, 1, 0, NULL);
	table_size = 16;
	restart(&sc, "spool_spare_segments = 1\n");
	ok(sc.w.q.shm->msg_live < 20, "not all fit in");
	/* those in the table come to an end */
	for (unsigned k = 1; k <= 20; k++) {
		struct sched_cmd_result r = { 0 };

		if (qtab_msg_find(&sc.w.q, msg_id(k)) == QTAB_NONE)
			continue;
		sc.w.s->su.files = NULL;
		sched_cmd(sc.w.s, SCHED_DELETE, msg_id(k), &r);
		sc.w.s->su.files = sc.files;
		files_msg_del(sc.files, sc.f.done[k - 1].place.seg, sc.f.done[k - 1].place.len);
	}
	is_int(sc.w.q.shm->msg_live, 0, "those that do are done");
	pass(&sc, 20000);
	ok(exists(&sc, "seg", sc.f.done[19].place.seg, "seg"), "the others' segment stays");
	end_supervisor(&sc);
	sc.j = NULL;
	table_size = 65536;
	restart(&sc, "");
	ok(qtab_msg_find(&sc.w.q, msg_id(20)) != QTAB_NONE, "the next start finds them");
	finish(&sc);
}

static void test_journal_stays(void)
{
	static struct scene sc;
	uint32_t *numbers = NULL;
	size_t count = 0;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 2, 1, 0, NULL); /* never tried: keeps the segment */
	result(&sc, 1, 0, 1, 0, 0, 50);
	restart(&sc, "");
	pass(&sc, 20000);
	ok(exists(&sc, "seg", 1, "seg"), "a segment with live mail stays");
	spool_list(&sc.f.dirs, SPOOL_JOURNAL, &numbers, &count);
	free(numbers);
	ok(count >= 1, "and with it the journal that says what of it is done");
	finish(&sc);
}

static void test_accounting(void)
{
	static struct scene sc;
	struct proto_file g, c = { .file_kind = SPOOL_SEGMENT };
	struct proto_place place = { .len = 64 };
	uint32_t a, b;

	begin(&sc);
	restart(&sc, "");
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	place.seg = g.number;
	is_int(files_msg_add(sc.files, RW + 1, &place), E_PEER, "mail in another worker's segment");
	is_int(files_msg_add(sc.files, RW, &place), 0, "in one's own");
	place.seg = 4711;
	is_int(files_msg_add(sc.files, RW, &place), E_PEER, "in one that does not exist");
	c.number = g.number;
	is_int(files_closed(sc.files, RW + 1, &c), E_PEER, "closing another worker's segment");
	is_int(files_closed(sc.files, RW, &c), 0, "one's own");
	is_int(files_closed(sc.files, RW, &c), E_PEER, "once");
	is_int(files_grant(sc.files, RW, 77, &g), E_INVAL, "an unknown kind of file");
	int err = 0;

	for (unsigned i = 0; err == 0 && i < 1000; i++)
		err = files_grant(sc.files, RW, SPOOL_JOURNAL, &g);
	is_int(err, E_LIMIT, "endless wishes for files are refused");
	is_int(files_jref_take(sc.files, RW + 1, (struct proto_jref){ g.number, 5 }, &a), E_PEER,
	       "an outcome in another worker's journal");
	is_int(files_jref_take(sc.files, RW, (struct proto_jref){ g.number, 5 }, &a), 0, "a place");
	struct proto_jref back = files_jref_unpack(sc.files, a);

	ok(a != 0 && back.journal == g.number && back.off16 == 5, "survives packing");
	is_int(files_jref_take(sc.files, RW, (struct proto_jref){ g.number, 1u << 22 }, &b), 0,
	       "one that is too far");
	is_int(b, 0, "is not known afterwards");
	files_jref_dup(sc.files, a);
	files_jref_drop(sc.files, a);
	ok(files_jref_unpack(sc.files, a).journal == g.number, "counted references");
	files_jref_drop(sc.files, a);
	finish(&sc);
}

/* The spool's state cannot be written for a while: who asked for a file gets it afterwards. */
static void test_late_grant(void)
{
	static struct scene sc;
	struct proto_file need = { .kind = PROTO_FILE_NEED, .file_kind = SPOOL_JOURNAL };
	struct proto_file g;

	begin(&sc);
	restart(&sc, "");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	for (int i = 0; i < 1023; i++) { /* to the end of what is reserved */
		files_grant(sc.files, 1000000u + (uint32_t)i, SPOOL_JOURNAL, &g);
	}
	int root = sc.f.dirs.root;

	sc.f.dirs.root = -1;
	while (files_grant(sc.files, 2000000u, SPOOL_JOURNAL, &g) == 0)
		;
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &need, sizeof(need)), 0, "asked for");
	is_int(world_left(&sc.w), 0, "there is none");
	world_pass(&sc.w, 1100);
	is_int(world_left(&sc.w), 0, "still none");
	sc.f.dirs.root = root;
	world_pass(&sc.w, 1100);
	struct sent_rec *r = world_next(&sc.w);

	ok(r != NULL && r->u.kind == PROTO_FILE_GRANT && r->u.file.file_kind == SPOOL_JOURNAL,
	   "it comes when it can");
	world_pass(&sc.w, 1100);
	is_int(world_left(&sc.w), 0, "once");
	finish(&sc);
}

/* A worker died with a record that it had committed and not announced. */
static void test_adopt(void)
{
	static struct scene sc;
	struct proto_file g;
	struct seen s;

	begin(&sc);
	restart(&sc, "");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	/* the same directory gets a writer again, which uses that number */
	fx_writer(&sc.f, 1, 0);
	sc.f.needs = 0;
	sc.f.next_number = g.number;
	spool_writer_grant(sc.f.w, sc.f.next_number++, 0);
	sc.n = sc.f.done_count;
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 2, 70, 0, NULL);
	fx_end_writer(&sc.f);
	struct {
		struct proto_new n;
		struct proto_entry e;
	} r = { .n = { .kind = PROTO_NEW,
		       .qid = { .time_us = msg_id(1).time_us, .life = 7 },
		       .place = sc.f.done[sc.n - 2].place,
		       .rcpt_count = 1,
		       .entry_total = 1,
		       .entry_count = 1 },
		.e = { .dest = UINT32_MAX, .mask = 1 } };

	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "one is announced");
	sched_worker_gone(sc.w.s, CLASS_REWRITE, 0, RW);
	pass(&sc, 20000);
	ok(exists(&sc, "seg", g.number, "seg"), "its segment waits for adoption");
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 1, "the other one is adopted");
	s = look(&sc, 2);
	is_int(s.entries, 2, "with all its recipients");
	is_int(sc.w.q.shm->msg_live, 2, "the announced one counts once");
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 0, "adoption is not repeated");
	finish(&sc);
}

/* One of the records in a dead worker's ring is refused: what was announced behind it is not taken
 * from there, for adoption has to begin at the refused one, and finds it all. */
static void test_adopt_refused(void)
{
	static struct scene sc;
	struct proto_file g;

	begin(&sc);
	restart(&sc, "");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	fx_writer(&sc.f, 1, 0);
	sc.f.needs = 0;
	sc.f.next_number = g.number;
	spool_writer_grant(sc.f.w, sc.f.next_number++, 0);
	sc.n = sc.f.done_count;
	for (unsigned k = 1; k <= 3; k++)
		add(&sc, k, 1, 0, NULL);
	fx_end_writer(&sc.f);
	for (unsigned k = 1; k <= 3; k++) {
		struct {
			struct proto_new n;
			struct proto_entry e;
		} r = { .n = { .kind = PROTO_NEW,
			       .qid = { .time_us = msg_id(k).time_us, .life = 7 },
			       .place = sc.f.done[sc.n - 4 + k].place,
			       .rcpt_count = 1,
			       .entry_total = 1,
			       .entry_count = 1 },
			.e = { .dest = UINT32_MAX, .mask = k == 2 ? 2 : 1 } };

		is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)),
		       k == 2 ? E_PEER : 0, k == 2 ? "the second is refused" : "message %u", k);
		if (k == 2)
			sched_worker_refused(sc.w.s, CLASS_REWRITE, 0, RW);
	}
	is_int(sc.w.q.shm->msg_live, 1, "the third waits");
	sched_worker_gone(sc.w.s, CLASS_REWRITE, 0, RW);
	struct spool_dirs broken = sc.f.dirs;

	broken.seg = -1;
	is_int(recover_adopt(sc.w.s, sc.files, &broken), 0, "the segment cannot be read now");
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 2, "two are adopted");
	ok(look(&sc, 2).entries == 1 && look(&sc, 3).entries == 1, "each once");
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

/* A mostly dead segment: its live message moves on, and after a restart all is as before. */
static void test_copy_forward(void)
{
	static struct scene sc;
	struct proto_file g;
	struct seen s;

	begin(&sc);
	for (unsigned k = 1; k <= 20; k++)
		add(&sc, k, k == 7 ? 3 : 1, 0, NULL);
	for (unsigned k = 1; k <= 20; k++) {
		if (k != 7)
			result(&sc, k, 0, 1, 0, 0, 50);
	}
	result(&sc, 7, 0, 1, 6, 0, 50); /* one of three is done */
	restart(&sc, "spool_spare_segments = 0\n");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	is_int(sc.w.q.shm->msg_live, 1, "one of twenty is alive");
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	for (int i = 0; i < 10 && world_left(&sc.w) == 0; i++) {
		pass(&sc, 20000);
		loop_turn(sc.f.loop, 2);
		sched_tick(sc.w.s);
		world_turn(&sc.w);
	}
	struct sent_rec *c = world_next(&sc.w);

	ok(c != NULL && c->u.kind == PROTO_COPY, "it is to be copied forward");
	fx_writer(&sc.f, 1, 0);
	sc.f.needs = 0;
	spool_writer_grant(sc.f.w, g.number, 0);
	sc.n = sc.f.done_count;
	add(&sc, 7, 3, 0, NULL); /* the copy */
	struct proto_copied r = { .kind = PROTO_COPIED,
				  .msg = c->u.copy.msg,
				  .rcpt_count = 3,
				  .msg_seq = c->u.copy.msg_seq,
				  .qid = c->u.copy.qid,
				  .place = sc.f.done[sc.n - 1].place };

	wait_for_marks(&sc);
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "copied");
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), E_PEER, "once");
	ok(strstr(sc.w.log, "mark in the journal failed") == NULL, "its state is journaled anew");
	pass(&sc, 20000);
	pass(&sc, 20000);
	ok(!exists(&sc, "seg", c->u.copy.place.seg, "seg"), "the old segment is gone");
	s = look(&sc, 7);
	is_int(s.by_state[QS_DEFERRED], 6, "the message waits as before");
	char reason[100] = "";

	ok(s.jref.journal != 0 && files_reason(sc.files, s.jref, reason, sizeof(reason)),
	   "its reason came along: %s", reason);
	uint32_t old_due = s.due_s;

	end_supervisor(&sc);
	sc.j = NULL;
	restart(&sc, "");
	s = look(&sc, 7);
	is_int(s.by_state[QS_DEFERRED], 6, "after a restart the same recipients are left");
	ok(s.due_s + 1000 > old_due && s.due_s < old_due + 1000, "due about when they were");
	is_int(sc.w.q.shm->msg_live, 1, "and no other message");
	finish(&sc);
}

/* The message ends while it is being copied: the copy must not come to life at a restart, when the
 * old segment and its journals are gone. */
static void test_copy_of_finished(void)
{
	static struct scene sc;
	struct proto_file g;
	struct sched_cmd_result cmd = { 0 };

	begin(&sc);
	for (unsigned k = 1; k <= 20; k++)
		add(&sc, k, 1, 0, NULL);
	for (unsigned k = 2; k <= 20; k++)
		result(&sc, k, 0, 1, 0, 0, 50);
	result(&sc, 1, 0, 0, 1, 0, 50);
	restart(&sc, "spool_spare_segments = 0\n");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	for (int i = 0; i < 10 && world_left(&sc.w) == 0; i++) {
		pass(&sc, 20000);
		loop_turn(sc.f.loop, 2);
		sched_tick(sc.w.s);
		world_turn(&sc.w);
	}
	struct sent_rec *c = world_next(&sc.w);

	ok(c != NULL && c->u.kind == PROTO_COPY, "the last one is to be copied");
	fx_writer(&sc.f, 1, 0);
	sc.f.needs = 0;
	spool_writer_grant(sc.f.w, g.number, 0);
	sc.n = sc.f.done_count;
	add(&sc, 1, 1, 0, NULL);
	struct proto_copied r = { .kind = PROTO_COPIED,
				  .msg = c->u.copy.msg,
				  .rcpt_count = 1,
				  .msg_seq = c->u.copy.msg_seq,
				  .qid = c->u.copy.qid,
				  .place = sc.f.done[sc.n - 1].place };

	wait_for_marks(&sc);
	/* it ends, and what says so is not to be seen at the restart */
	sc.w.s->su.files = NULL;
	is_int(sched_cmd(sc.w.s, SCHED_DELETE, msg_id(1), &cmd), 0, "it ends before");
	sc.w.s->su.files = sc.files;
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "copied");
	is_int(files_mark_sync(sc.files), 0, "marks are on disk");
	end_supervisor(&sc);
	sc.j = NULL;
	restart(&sc, "");
	is_int(sc.w.q.shm->msg_live, 0, "it does not come back");
	finish(&sc);
}

/* A rewrite worker dies with a copy that it had committed; the message ended meanwhile. */
static void test_copy_of_dead_worker(bool reported)
{
	static struct scene sc;
	struct proto_file g;
	struct sched_cmd_result cmd = { 0 };

	begin(&sc);
	for (unsigned k = 1; k <= 20; k++)
		add(&sc, k, 1, 0, NULL);
	for (unsigned k = 2; k <= 20; k++)
		result(&sc, k, 0, 1, 0, 0, 50);
	result(&sc, 1, 0, 0, 1, 0, 50);
	restart(&sc, "spool_spare_segments = 0\n");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	for (int i = 0; i < 10 && world_left(&sc.w) == 0; i++) {
		pass(&sc, 20000);
		loop_turn(sc.f.loop, 2);
		sched_tick(sc.w.s);
		world_turn(&sc.w);
	}
	struct sent_rec *c = world_next(&sc.w);

	ok(c != NULL && c->u.kind == PROTO_COPY, "a message is being copied");
	fx_writer(&sc.f, 1, 0);
	sc.f.needs = 0;
	spool_writer_grant(sc.f.w, g.number, 0);
	sc.n = sc.f.done_count;
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 30, 1, 0, NULL); /* a new one behind it */
	struct proto_copied r = { .kind = PROTO_COPIED,
				  .msg = c->u.copy.msg,
				  .rcpt_count = 1,
				  .msg_seq = c->u.copy.msg_seq,
				  .qid = c->u.copy.qid,
				  .place = sc.f.done[sc.n - 2].place };

	wait_for_marks(&sc);
	sc.w.s->su.files = NULL;
	is_int(sched_cmd(sc.w.s, SCHED_DELETE, msg_id(1), &cmd), 0, "it ends before");
	sc.w.s->su.files = sc.files;
	if (reported)
		is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "copied");
	sched_worker_gone(sc.w.s, CLASS_REWRITE, 0, RW);
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 1, "one is adopted");
	is_int(look(&sc, 1).entries, 0, "not the copy");
	is_int(look(&sc, 30).entries, 1, "but the new one");
	is_int(files_mark_sync(sc.files), 0, "marks are on disk");
	end_supervisor(&sc);
	sc.j = NULL;
	restart(&sc, "");
	is_int(look(&sc, 1).entries, 0, "nor does it come back at the next start");
	finish(&sc);
}

/* What cannot be journaled is not done. */
static void test_mark_refused(void)
{
	static struct scene sc;
	struct sched_cmd_result cmd = { 0 };

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	restart(&sc, "");
	/* its journal has no file yet */
	ok(sched_cmd(sc.w.s, SCHED_HOLD, msg_id(1), &cmd) != 0, "a hold is refused");
	is_int(cmd.messages, 0, "no message changed");
	is_int(cmd.failed, 1, "and one is said not to");
	is_int(sc.w.s->count[QS_HOLD], 0, "nor is it on hold");
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
	test_retire();
	test_spares_make_way();
	test_journal_stays();
	test_table_full();
	test_copy_of_finished();
	test_copy_of_dead_worker(false);
	test_copy_of_dead_worker(true);
	test_hidden();
	test_mark_refused();
	test_accounting();
	test_adopt();
	test_late_grant();
	test_adopt_refused();
	doubt_when_worker_dies(false);
	doubt_when_worker_dies(true);
	test_unsure_found();
	test_unsure_told(false);
	test_unsure_told(true);
	test_copy_forward();
	return tap_done();
}
