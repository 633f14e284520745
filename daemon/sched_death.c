/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a dead worker held goes back where the table of moves says, after its journals were asked:
 * an attempt that ended is over, one that had begun is in doubt (daemon/doubts.h). A message that
 * was there each time may be why they die: it is tried ever later, and after a number of deaths put
 * on hold, so that one poisonous message cannot keep a whole class of workers from working. Called
 * by sched_worker_gone().
 */
#include "daemon/sched_int.h"
#include "lib/clock.h"
#include "lib/hash.h"
#include "lib/log.h"

#define DEATHS_LATER 3u /* from here on it waits before it is tried again */
#define DEATHS_HOLD  8u
#define WAIT_S       60
#define FORGET_MS    3600000

/* Deaths of workers that held the message, with this one. Messages that share a place push each
 * other out: the one with more deaths stays. */
static unsigned count_death(struct sched *s, uint32_t msg)
{
	struct suspect *p = &s->suspects[msg % SUSPECTS];
	uint32_t seq = s->q->msgs[msg].flags >> 16;
	bool known = p->deaths > 0 && p->msg == msg && p->seq == seq &&
		     s->now_ms - p->last_ms < FORGET_MS;

	if (known) {
		/* several entries of it may have been with the same worker */
		if (p->last_ms != s->now_ms)
			p->deaths++;
		p->last_ms = s->now_ms;
		return p->deaths;
	}
	if (p->deaths <= 1 || s->now_ms - p->last_ms >= FORGET_MS)
		*p = (struct suspect){ .msg = msg, .seq = seq, .deaths = 1, .last_ms = s->now_ms };
	return 1;
}

static void give_back(struct sched *s, uint32_t e, enum qstate was)
{
	struct qentry *q = sched_entry(s, e);
	uint32_t msg = q->msg;
	unsigned deaths = count_death(s, msg);
	char text[QID_TEXT_SIZE];

	if (deaths >= DEATHS_HOLD) {
		log_error("%s: was with %u workers when they died: placed on hold",
			  qid_format(qtab_msg_qid(&s->q->msgs[msg]), text), deaths);
		s->q->msgs[msg].flags |= MSGF_HOLD;
		if (s->su.files != NULL)
			files_mark(s->su.files, OUTCOME_HELD, qtab_msg_qid(&s->q->msgs[msg]));
		sched_entry_hold(s, e);
	} else if (deaths >= DEATHS_LATER) {
		log_warn("%s: was with %u workers when they died: tried again later",
			 qid_format(qtab_msg_qid(&s->q->msgs[msg]), text), deaths);
		sched_entry_defer_at(s, e, s->now_s + (int64_t)WAIT_S * deaths);
	} else if (was == QS_BUSY) {
		sched_entry_ready(s, e, READY_BULK);
	} else if (was == QS_LOADING) {
		sched_entry_load(s, e);
	} else {
		sched_entry_notify(s, e, (enum bounce_kind)q->due_s);
	}
}

/* ---- what the journals of the dead worker say ---- */

struct attempt { /* what it had of one entry */
	uint32_t entry;
	bool started, ended;
	int64_t began_us;
	struct proto_result result;
};

struct attempt_key { /* no padding that is not zero */
	uint64_t time_us, mask;
	uint32_t life, rcpt_first;
};

struct attempts {
	struct strmap *by_key;
	struct attempt *list;
	size_t count;
};

static struct attempt *find_attempt(const struct attempts *a, struct qid id, uint32_t rcpt_first,
				    uint64_t mask)
{
	struct attempt_key key = { id.time_us, mask, id.life, rcpt_first };

	return strmap_get(a->by_key, (struct sv){ (const char *)&key, sizeof(key) });
}

static void add_attempt(struct sched *s, struct attempts *a, uint32_t e)
{
	const struct qentry *q = sched_entry(s, e);
	struct qid id = qtab_msg_qid(&s->q->msgs[q->msg]);
	struct attempt_key key = { id.time_us, q->mask, id.life, q->rcpt_first };
	struct attempt *t = &a->list[a->count++];

	t->entry = e;
	t->result = (struct proto_result){ .kind = PROTO_RESULT,
					   .health = JOB_HEALTH_NONE,
					   .word = qtab_entry_word(s->q, e),
					   .entry = e };
	strmap_put(a->by_key, (struct sv){ (const char *)&key, sizeof(key) }, t);
}

static int note_outcome(void *ctx, const struct outcome *o, struct proto_jref ref)
{
	struct attempt *t = find_attempt(ctx, o->qid, o->rcpt_first, o->mask);

	if (t == NULL)
		return 0;
	if (o->kind == OUTCOME_STARTED) {
		t->started = true;
		t->ended = false;
		t->began_us = o->when_us;
	} else if (o->kind == OUTCOME_RESULT) {
		t->started = false;
		t->ended = true;
		t->result.sent = o->sent;
		t->result.deferred = o->deferred;
		t->result.bounced = o->bounced;
		t->result.report = o->report;
		t->result.unsure = o->unsure && o->deferred != 0;
		t->result.jref = ref;
	} else if (o->kind == OUTCOME_WITHDRAWN) {
		t->started = t->ended = false;
	}
	return 0;
}

/* It ended, and the report did not get out. A recipient that is sent or failed leaves the entry's
 * mask, so such an outcome can only be that of this attempt; of one that says "later" for all, an
 * earlier attempt may have been the subject, and the entry is tried again. */
static void apply_journaled(struct sched *s, struct sched_worker *w, const struct attempt *t)
{
	if ((t->result.sent | t->result.bounced) == 0) {
		if (t->result.unsure)
			death_unsure(s, t->entry, t->result.deferred);
		return;
	}
	if (input_result(s, w, &t->result) != 0)
		log_warn("journal %08x: an outcome that does not fit its queue entry",
			 t->result.jref.journal);
}

static void in_doubt(struct sched *s, uint32_t entry, struct doubt d, struct doubts *out)
{
	const struct qentry *q = sched_entry(s, entry);
	struct qmsg *m = &s->q->msgs[q->msg];
	const struct sdest *dest = &s->dests[q->dest];
	bool hold = s->params->in_doubt_action == IN_DOUBT_HOLD;
	struct proto_place place = { .seg = m->seg, .off8 = m->off8, .len = m->len };

	d.qid = qtab_msg_qid(m);
	d.rcpt_first = q->rcpt_first;
	d.found_us = clock_wall().us;
	d.held = hold;
	d.transport = sv_from(s->transports[dest->transport].name);
	d.nexthop = sv_from(s->d->rows[q->dest].nexthop);
	doubts_add(out, &d, place);
	sched_msg_doubt(s, q->msg);
	if (!hold || m->flags & MSGF_HOLD)
		return;
	m->flags |= MSGF_HOLD;
	files_mark(s->su.files, OUTCOME_HELD, d.qid);
}

static void settle(struct sched *s, struct sched_worker *w, const struct attempts *a)
{
	struct doubts out;

	doubts_init(&out, files_dirs(s->su.files));
	for (size_t i = 0; i < a->count; i++) {
		if (a->list[i].ended)
			apply_journaled(s, w, &a->list[i]);
		else if (a->list[i].started)
			in_doubt(s, a->list[i].entry,
				 (struct doubt){ .mask = sched_entry(s, a->list[i].entry)->mask,
						 .began_us = a->list[i].began_us,
						 .cause = DOUBT_WORKER },
				 &out);
	}
	sched_count_doubts(s, out.count);
	doubts_write(&out); /* before any of it is handed out again */
	death_unsure_write(s);
}

void death_unsure(struct sched *s, uint32_t e, uint64_t mask)
{
	if (s->su.files == NULL)
		return;
	if (s->unsure.count == 0)
		doubts_init(&s->unsure, files_dirs(s->su.files));
	/* when it began is not known here; recovery takes it by when it came on the list, which is
	 * not before the worker wrote the outcome */
	in_doubt(s, e,
		 (struct doubt){ .mask = mask, .began_us = clock_wall().us, .cause = DOUBT_CHILD },
		 &s->unsure);
}

/* One sync for all of a turn: workers are not to have the supervisor wait for each. */
void death_unsure_write(struct sched *s)
{
	if (s->unsure.count == 0)
		return;
	sched_count_doubts(s, s->unsure.count);
	doubts_write(&s->unsure);
	s->unsure.count = 0;
}

void death_settle(struct sched *s, struct sched_worker *w)
{
	struct attempts a = { 0 };

	if (s->su.files == NULL || w->held.count == 0)
		return;
	a.by_key = strmap_new();
	a.list = xcalloc(w->held.count, sizeof(*a.list));
	for (uint32_t e = w->held.head; e != QTAB_NONE; e = sched_entry(s, e)->list_next)
		add_attempt(s, &a, e);
	files_each_outcome(s->su.files, w->life, note_outcome, &a);
	settle(s, w, &a);
	strmap_free(&a.by_key);
	free(a.list);
}

void death_take_back(struct sched *s, struct sched_worker *w)
{
	while (w->held.head != QTAB_NONE && !FAULT_SKIPS(REQUEUE)) {
		uint32_t e = w->held.head;
		struct qentry *q = sched_entry(s, e);
		enum qstate was = qword_state(qtab_entry_word(s->q, e));

		if (was == QS_BUSY)
			dest_job_end(s, q->dest, q->due_s, JOB_HEALTH_NONE,
				     (struct proto_jref){ 0, 0 });
		if (sched_msg_of(s, q)->flags & MSGM_DOOMED)
			sched_entry_end(s, e);
		else
			give_back(s, e, was);
	}
}
