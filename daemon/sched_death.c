/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a dead worker held goes back where the table of moves says. A message that was there each
 * time may be why they die: it is tried ever later, and after a number of deaths put on hold, so
 * that one poisonous message cannot keep a whole class of workers from working. Called by
 * sched_worker_gone().
 */
#include "daemon/sched_int.h"
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

/* ---- deliveries whose outcome nobody knows ---- */

struct doubt {
	struct sched *s;
	const struct sched_worker *w;
};

static void in_doubt(void *ctx, struct qid id, uint32_t rcpt_first)
{
	struct doubt *d = ctx;
	struct sched *s = d->s;
	uint32_t msg = qtab_msg_find(s->q, id);
	uint32_t e = msg == QTAB_NONE ? QTAB_NONE : s->q->msgs[msg].first_entry;
	bool hold = s->params->in_doubt_action == IN_DOUBT_HOLD;
	char text[QID_TEXT_SIZE];

	while (e != QTAB_NONE && (sched_entry(s, e)->rcpt_first != rcpt_first ||
				  qword_state(qtab_entry_word(s->q, e)) != QS_BUSY ||
				  qword_life(qtab_entry_word(s->q, e)) != d->w->life))
		e = sched_entry(s, e)->sibling;
	if (e == QTAB_NONE)
		return;
	board_count(&s->su.board->in_doubt);
	log_warn("%s: delivery was under way when its worker ended, its outcome is unknown: %s",
		 qid_format(id, text), hold ? "placed on hold" : "will be tried again");
	if (!hold || s->q->msgs[msg].flags & MSGF_HOLD)
		return;
	s->q->msgs[msg].flags |= MSGF_HOLD;
	files_mark(s->su.files, OUTCOME_HELD, id);
}

void death_find_doubts(struct sched *s, struct sched_worker *w)
{
	struct doubt d = { s, w };

	if (s->su.files != NULL && w->held.count > 0)
		files_each_doubt(s->su.files, w->life, in_doubt, &d);
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
