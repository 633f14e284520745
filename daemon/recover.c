/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recovery of the queue from the spool; see daemon/recover.h. Called by the supervisor. */
#include "daemon/recover.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "daemon/doubts.h"
#include "daemon/recover_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"

#define HUGE_PAGE ((size_t)2 << 20)

/* ---- table of records by queue id ---- */

#define AHEAD 16u /* memory that will be looked at soon is fetched so many steps before */

/* The bucket where the id is or belongs. Most strangers are told by the part of the hash that
 * stands in their bucket. */
static struct rbucket *bucket_of(const struct recovery *r, struct qid id)
{
	uint64_t hash = qid_hash(id);
	size_t b = hash & (r->bucket_count - 1);

	while (r->buckets[b].msg != RMSG_NONE && (r->buckets[b].tag != (uint32_t)(hash >> 32) ||
						  !qid_eq(r->msgs[r->buckets[b].msg].qid, id)))
		b = (b + 1) & (r->bucket_count - 1);
	return &r->buckets[b];
}

static struct rmsg *find_msg(const struct recovery *r, struct qid id)
{
	if (r->bucket_count == 0)
		return NULL;
	uint32_t i = bucket_of(r, id)->msg;

	return i == RMSG_NONE ? NULL : &r->msgs[i];
}

static void make_buckets(struct recovery *r)
{
	size_t bytes;

	free(r->buckets);
	for (r->bucket_count = 4096; r->bucket_count < 2 * r->msg_count;)
		r->bucket_count *= 2;
	bytes = r->bucket_count * sizeof(*r->buckets);
	r->buckets = aligned_alloc(HUGE_PAGE, align_up(bytes, HUGE_PAGE));
	if (r->buckets == NULL)
		die("out of memory");
	madvise(r->buckets, align_up(bytes, HUGE_PAGE), MADV_HUGEPAGE);
	memset(r->buckets, 0xff, bytes);
}

/* A copy-forward that was cut short leaves two equal records: the newer place is taken. */
static void index_msgs(struct recovery *r)
{
	size_t n = 0;

	make_buckets(r);
	for (size_t i = 0; i < r->msg_count; i++) {
		const struct rmsg m = r->msgs[i];

		if (i + AHEAD < r->msg_count)
			__builtin_prefetch(&r->buckets[qid_hash(r->msgs[i + AHEAD].qid) &
						       (r->bucket_count - 1)],
					   1);
		struct rbucket *b = bucket_of(r, m.qid);

		if (b->msg != RMSG_NONE) {
			r->duplicates++;
			r->msgs[b->msg] = m;
			continue;
		}
		*b = (struct rbucket){ (uint32_t)n, (uint32_t)(qid_hash(m.qid) >> 32) };
		r->msgs[n++] = m;
	}
	r->msg_count = n;
}

static struct rpiece *add_piece(struct recovery *r, struct rmsg *m)
{
	if (r->piece_count == r->piece_cap) {
		r->piece_cap = r->piece_cap == 0 ? 4096 : r->piece_cap * 2;
		r->pieces = xrealloc(r->pieces, r->piece_cap * sizeof(*r->pieces));
	}
	struct rpiece *p = &r->pieces[r->piece_count];

	*p = (struct rpiece){ .next = m->pieces };
	m->pieces = (uint32_t)r->piece_count++;
	return p;
}

/* ---- who may say what (workers/spool/warrant.h) ---- */

#define FORGED_LINES 20u

static void begin_journal(struct recovery *r, const struct spool_dirs *dirs, uint32_t number)
{
	r->owner_is = OWNER_OLD;
	if (r->key == NULL || number < r->key->first_file)
		return;
	int err = spool_journal_owner(dirs, number, &r->owner);

	if (err != 0)
		r->owner_is = OWNER_NOT_KNOWN; /* the scan says why */
	else if (r->owner.code == warrant_file_code(r->key, number, r->owner.life))
		r->owner_is = OWNER_KNOWN;
	else
		r->owner_is = OWNER_FORGED;
}

static void note_forged(struct recovery *r, const struct outcome *o, struct proto_jref ref)
{
	char text[QID_TEXT_SIZE];

	if (r->forged++ < FORGED_LINES)
		log_error("%s: an outcome in journal %08x at %llu is not its writer's to write: "
			  "ignored",
			  qid_format(o->qid, text), ref.journal,
			  (unsigned long long)ref.off16 * 16);
}

/* Is this outcome to be believed? */
static bool is_warranted(struct recovery *r, const struct outcome *o, struct proto_jref ref)
{
	bool good = r->owner_is == OWNER_OLD;

	if (r->owner_is == OWNER_NOT_KNOWN && warrant_find_life(r->key, o, &r->owner.life)) {
		r->owner_is = OWNER_KNOWN;
		good = true;
	} else if (r->owner_is == OWNER_KNOWN) {
		good = warrant_holds(r->key, r->owner.life, o);
	}
	if (!good)
		note_forged(r, o, ref);
	return good;
}

/* ---- segments ---- */

struct seg_scan {
	struct recovery *r;
	struct files *f;
	/* notifications name what they report; originals may come later in the scan */
	struct buf *reports;
};

void recover_add_record(struct recovery *r, const struct spool_found *found, struct buf *reports)
{
	if (r->msg_count == r->msg_cap) {
		r->msg_cap = r->msg_cap == 0 ? 4096 : r->msg_cap * 2;
		r->msgs = xrealloc(r->msgs, r->msg_cap * sizeof(*r->msgs));
	}
	r->msgs[r->msg_count++] = (struct rmsg){ .qid = found->qid,
						 .place = found->place,
						 .rcpt_count = found->rcpt_count,
						 .flags = (uint16_t)found->flags,
						 .commit_us = found->commit_us,
						 .pieces = RMSG_NONE };
	if (found->bounce_of.len > 0) {
		bool warranted = r->key != NULL && found->place.seg >= r->key->first_file;

		buf_add_c(reports, warranted ? 'w' : '-');
		buf_add_sv(reports, found->bounce_of);
		buf_add_c(reports, '\0');
	}
}

static int found_record(void *ctx, const struct spool_found *found)
{
	struct seg_scan *sc = ctx;

	recover_add_record(sc->r, found, sc->reports);
	if (sc->f != NULL)
		files_found_bytes(sc->f, found->place.seg,
				  (uint64_t)found->place.off8 * 8 + found->place.len);
	return 0;
}

/* "QID first mask kind", mask in hex: those recipients' failures are reported by a message that is
 * in the spool. */
static void apply_report(struct recovery *r, const char *text, bool warranted)
{
	char id_text[QID_TEXT_SIZE];
	unsigned first, kind, life = 0;
	unsigned long long mask, order = 0, code = 0;
	struct qid id;

	if (sscanf(text, "%31s %u %llx %u %llx %u %llx", id_text, &first, &mask, &kind, &order,
		   &life, &code) < 4 ||
	    qid_parse(sv_from(id_text), &id) != 0)
		return;
	struct outcome o = { .kind = kind == BOUNCE_DELAY ? OUTCOME_WARNED : OUTCOME_NOTIFIED,
			     .qid = id,
			     .rcpt_first = first,
			     .mask = mask,
			     .warrant = { order, code } };

	if (warranted && (life == 0 || !warrant_holds(r->key, life, &o))) {
		if (find_msg(r, id) != NULL && r->forged++ < FORGED_LINES)
			log_error("%s: a notification about it is in the spool that nobody asked "
				  "for: it counts for nothing",
				  id_text);
		return;
	}
	struct rmsg *m = find_msg(r, id);

	if (m == NULL)
		return;
	if (kind == BOUNCE_DELAY) {
		m->marks |= RMARK_WARNED;
		return;
	}
	struct rpiece *p = add_piece(r, m);

	p->kind = OUTCOME_NOTIFIED;
	p->rcpt_first = first;
	p->mask = p->done = mask;
	p->when_us = INT64_MAX;
	p->order = UINT64_MAX;
}

void recover_apply_reports(struct recovery *r, const struct buf *reports)
{
	index_msgs(r);
	for (size_t at = 0; at < reports->len; at += strlen(reports->p + at) + 1)
		apply_report(r, reports->p + at + 1, reports->p[at] == 'w');
}

/* ---- journals ---- */

static uint32_t name_of(struct recovery *r, const struct outcome *o)
{
	if (o->nexthop.len == 0)
		return 0;
	/* mail for one destination comes in runs */
	if (r->last_name != 0) {
		const char *t = r->names.p + r->last_name;

		if (sv_eq_str(o->transport, t) && sv_eq_str(o->nexthop, t + strlen(t) + 1))
			return r->last_name;
	}
	if (r->names.len == 0)
		buf_add_c(&r->names, '\0'); /* place 0 means none */
	if (r->names.len > UINT32_MAX / 2)
		return 0;
	r->last_name = (uint32_t)r->names.len;
	buf_add_sv(&r->names, o->transport);
	buf_add_c(&r->names, '\0');
	buf_add_sv(&r->names, o->nexthop);
	buf_add_c(&r->names, '\0');
	return r->last_name;
}

static void hold_mark(struct rmsg *m, const struct outcome *o)
{
	/* journals are read in the order in which they were begun, and one process writes all of
	 * these: this word came later, whatever its clock said */
	m->marks &= (uint16_t) ~(RMARK_UNSURE | RMARK_UNSURE_MARK);
	m->marks |= RMARK_HOLD_SEEN;
	m->hold_when_us = o->when_us;
	m->marks &= (uint16_t) ~(RMARK_HELD | RMARK_REQUEUED);
	if (o->kind == OUTCOME_HELD)
		m->marks |= RMARK_HELD;
	if (o->kind == OUTCOME_REQUEUED) {
		m->marks |= RMARK_REQUEUED;
		m->marks &= (uint16_t)~RMARK_EXPIRED;
	}
}

/* Those deferred are in doubt as if the attempt had no outcome: that is a piece behind its own. */
static void unsure(struct recovery *r, struct rmsg *m, const struct outcome *o,
		   struct proto_jref ref)
{
	struct rpiece *p = add_piece(r, m);

	p->kind = OUTCOME_STARTED;
	p->unsure = true;
	p->rcpt_first = o->rcpt_first;
	p->mask = o->deferred;
	p->when_us = o->when_us;
	p->order = o->warrant.order;
	p->jref = ref;
	p->jref.off16++;
	p->name = name_of(r, o);
}

static void result(struct recovery *r, struct rmsg *m, const struct outcome *o,
		   struct proto_jref ref)
{
	uint64_t done = o->kind == OUTCOME_NOTIFIED ? o->mask : o->sent & o->mask;

	if (m->rcpt_count == 1 && o->rcpt_first == 0 && done & 1 && o->report == 0) {
		m->marks |= RMARK_DONE;
		return;
	}
	struct rpiece *p = add_piece(r, m);

	p->kind = o->kind;
	p->rcpt_first = o->rcpt_first;
	p->mask = o->mask;
	p->done = done;
	p->when_us = o->when_us;
	p->order = o->warrant.order;
	p->jref = ref;
	if (o->kind == OUTCOME_NOTIFIED)
		return;
	p->name = name_of(r, o);
	p->deferred = o->deferred;
	p->bounced = o->bounced;
	p->report = o->report & o->sent;
	if (o->kind == OUTCOME_RESULT && o->unsure && o->deferred != 0)
		unsure(r, m, o, ref);
}

/* Attempts come about in the order of arrival, and a few workers share them: often it is one of the
 * records behind the last one, or the same. */
static struct rmsg *next_msg(const struct recovery *r, struct qid id)
{
	size_t end = size_min(r->last_msg + 6, r->msg_count);

	for (size_t i = r->last_msg; i < end; i++) {
		if (qid_eq(r->msgs[i].qid, id))
			return &r->msgs[i];
	}
	return NULL;
}

static int found_outcome(void *ctx, const struct outcome *o, struct proto_jref ref)
{
	struct recovery *r = ctx;
	struct rmsg *m;

	m = next_msg(r, o->qid);
	if (m == NULL)
		m = find_msg(r, o->qid);
	if (m != NULL)
		r->last_msg = (size_t)(m - r->msgs);
	if (m == NULL || m->marks & RMARK_DONE || !is_warranted(r, o, ref))
		return 0;
	switch (o->kind) {
	case OUTCOME_STARTED:
	case OUTCOME_RESULT:
	case OUTCOME_NOTIFIED:
	case OUTCOME_WITHDRAWN:
		result(r, m, o, ref);
		break;
	case OUTCOME_DELETED:
		m->marks |= RMARK_DONE;
		break;
	case OUTCOME_HELD:
	case OUTCOME_RELEASED:
	case OUTCOME_REQUEUED:
		hold_mark(m, o);
		break;
	case OUTCOME_WARNED:
		m->marks |= RMARK_WARNED;
		break;
	case OUTCOME_EXPIRED:
		m->marks |= RMARK_EXPIRED;
		break;
	default:
		break; /* of a newer version */
	}
	return 0;
}

/* What it said is not known. Recipients it may have called done are tried again (or held, as what
 * is in doubt); what an operator said is not guessed: the message is held. */
static void damaged_outcome(void *ctx, struct qid id, uint8_t kind, struct proto_jref ref)
{
	struct recovery *r = ctx;
	struct rmsg *m = find_msg(r, id);
	char text[QID_TEXT_SIZE];

	if (m == NULL)
		return;
	bool mark =
		(kind >= OUTCOME_DELETED && kind <= OUTCOME_REQUEUED) || kind == OUTCOME_EXPIRED;

	/* workers do not write those */
	if (r->owner_is == OWNER_FORGED ||
	    (mark && r->owner_is == OWNER_KNOWN && r->owner.life != 0))
		return;
	m->marks |= mark ? RMARK_UNSURE | RMARK_UNSURE_MARK : RMARK_UNSURE;
	log_warn("journal %08x: %s of %s at %llu is damaged", ref.journal,
		 mark ? "a command of the operator" : "an outcome", qid_format(id, text),
		 (unsigned long long)ref.off16 * 16);
}

/* ---- all ---- */

static int scan_segments(struct recovery *r, struct files *f, const struct spool_dirs *dirs)
{
	struct buf reports = BUF_INIT;
	struct seg_scan sc = { .r = r, .f = f, .reports = &reports };
	uint32_t *numbers = NULL;
	size_t count = 0;
	int err = spool_list(dirs, SPOOL_SEGMENT, &numbers, &count);

	for (size_t i = 0; err == 0 && i < count; i++) {
		if (f != NULL)
			files_found(f, SPOOL_SEGMENT, numbers[i]);
		uint64_t unreadable = r->stats.unreadable;

		err = spool_scan_segment(dirs, numbers[i], 0, found_record, &sc, &r->stats);
		if (f != NULL && r->stats.unreadable != unreadable)
			files_pin(f, numbers[i]);
		if (err != 0)
			log_error("segment %08x: %s", numbers[i], err_str(err));
	}
	if (err == 0)
		recover_apply_reports(r, &reports);
	buf_fini(&reports);
	free(numbers);
	return err;
}

static int scan_journals(struct recovery *r, struct files *f, const struct spool_dirs *dirs)
{
	uint32_t *numbers = NULL;
	size_t count = 0;
	int err = spool_list(dirs, SPOOL_JOURNAL, &numbers, &count);

	for (size_t i = 0; err == 0 && i < count; i++) {
		if (f != NULL)
			files_found(f, SPOOL_JOURNAL, numbers[i]);
		begin_journal(r, dirs, numbers[i]);
		err = spool_scan_journal_all(dirs, numbers[i], found_outcome, damaged_outcome, r,
					     &r->stats);
		if (err != 0)
			log_error("journal %08x: %s", numbers[i], err_str(err));
	}
	free(numbers);
	return err;
}

/* ---- the list of what was in doubt before ---- */

static void found_doubt(void *ctx, const struct doubt *d)
{
	struct recovery *r = ctx;
	struct rmsg *m = find_msg(r, d->qid);

	if (m == NULL)
		return;
	m->marks |= RMARK_DOUBT;
	for (uint32_t i = m->pieces; i != RMSG_NONE; i = r->pieces[i].next) {
		struct rpiece *p = &r->pieces[i];

		if (p->kind != OUTCOME_STARTED || p->rcpt_first != d->rcpt_first ||
		    (p->unsure ? p->when_us > d->found_us : p->when_us != d->began_us))
			continue;
		p->listed_us = d->found_us;
		p->listed_hold = d->held;
	}
}

/* Without the list nothing is lost but that deliveries of an earlier crash come on it again. */
static void read_doubts(struct recovery *r, const struct spool_dirs *dirs)
{
	uint64_t damaged;
	int err = doubt_each(dirs, found_doubt, r, &damaged);

	if (err != 0)
		log_error("list of deliveries in doubt: %s", err_str(err));
	if (damaged > 0)
		log_warn("list of deliveries in doubt: %llu lines are damaged",
			 (unsigned long long)damaged);
}

void recover_add_doubts(struct recovery *r, const struct rplan *plan, struct doubts *out)
{
	for (size_t i = 0; i < plan->doubt_count; i++) {
		const struct rdoubt *k = &plan->doubts[i];
		struct doubt d = { .qid = plan->found.qid,
				   .rcpt_first = k->rcpt_first,
				   .mask = k->mask,
				   .began_us = k->when_us,
				   .found_us = r->now_us,
				   .held = plan->doubt_hold,
				   .cause = k->unsure ? DOUBT_CHILD : DOUBT_SYSTEM };

		if (k->listed)
			continue;
		if (k->name != 0) {
			d.transport = sv_from(r->names.p + k->name);
			d.nexthop = sv_from(d.transport.p + d.transport.len + 1);
		}
		doubts_add(out, &d, plan->found.place);
	}
}

static int fill_queue(struct recovery *r, struct sched *s, struct files *f, struct doubts *doubts)
{
	struct rplan plan = { 0 };
	bool full = false;
	int err = 0;

	sched_expect_found(s, r->msg_count);
	for (size_t i = 0; err == 0 && i < r->msg_count; i++) {
		if (i + AHEAD < r->msg_count)
			sched_prefetch_found(s, r->msgs[i + AHEAD].qid, false);
		if (i + AHEAD / 2 < r->msg_count)
			sched_prefetch_found(s, r->msgs[i + AHEAD / 2].qid, true);
		recover_plan(r, &r->msgs[i], &plan);
		if (plan.count == 0)
			continue;
		recover_add_doubts(r, &plan, doubts);
		err = sched_add_found(s, &plan.found, plan.entries, plan.count);
		r->live += err == 0;
		if (err == E_NOSPC) {
			files_pin(f, plan.found.place.seg);
			full = true;
			err = 0;
		}
	}
	if (full)
		log_error(
			"queue table is too small for the spool: raise queue_table_size; the rest "
			"stays on disk until the next start");
	recover_plan_fini(&plan);
	return err;
}

static void report(const struct recovery *r, uint64_t in_doubt, int64_t took_us)
{
	if (r->msg_count == 0)
		return;
	log_info(
		"recovered %llu messages of %zu records in %llu segments and %llu journals in %lld "
		"ms (damaged records %llu, duplicates %llu, in doubt %llu)",
		(unsigned long long)r->live, r->msg_count, (unsigned long long)r->stats.segments,
		(unsigned long long)r->stats.journals, (long long)(took_us / 1000),
		(unsigned long long)r->stats.damaged, (unsigned long long)r->duplicates,
		(unsigned long long)in_doubt);
}

int recover_read_outcomes(struct recovery *r, struct files *f, const struct spool_dirs *dirs)
{
	int err = scan_journals(r, f, dirs);

	if (err == 0)
		read_doubts(r, dirs);
	return err;
}

int recover_read(struct recovery *r, struct files *f, const struct spool_dirs *dirs)
{
	int err = scan_segments(r, f, dirs);

	return err != 0 ? err : recover_read_outcomes(r, f, dirs);
}

void recover_read_fini(struct recovery *r)
{
	free(r->msgs);
	free(r->buckets);
	free(r->pieces);
	buf_fini(&r->names);
}

int recover_all(struct sched *s, struct files *f, const struct spool_dirs *dirs)
{
	struct recovery r = { .params = sched_params(s),
			      .key = files_key(f),
			      .clock = sched_clock(s),
			      .now_us = clock_wall().us };
	int64_t start = clock_mono_us_raw();
	struct doubts doubts;
	int err = recover_read(&r, f, dirs);

	doubts_init(&doubts, dirs);
	if (err == 0)
		err = fill_queue(&r, s, f, &doubts);
	/* before any of it is handed out again */
	doubts_write(&doubts);
	sched_count_doubts(s, doubts.count);
	sched_count_forged(s, r.forged);
	if (err == 0) {
		files_recovered(f);
		report(&r, doubts.count, clock_mono_us_raw() - start);
	}
	recover_read_fini(&r);
	return err;
}

/* ---- adoption ---- */

struct adoption {
	struct sched *s;
	struct files *f;
	const struct spool_dirs *dirs;
	struct rplan plan;
	struct spool_scan_stats stats;
	uint32_t life;
	unsigned count;
};

static int adopt_record(void *ctx, const struct spool_found *found)
{
	struct adoption *a = ctx;
	char text[QID_TEXT_SIZE];

	if (sched_adopt_copy(a->s, a->life, found->qid, found->rcpt_count))
		return 0;
	a->plan.found = (struct sched_found){ .qid = found->qid,
					      .place = found->place,
					      .flags = found->flags,
					      .commit_us = found->commit_us };
	recover_plan_fresh(found->rcpt_count, QS_LOAD, &a->plan);
	int err = a->plan.count == 0
			  ? E_EXIST
			  : sched_add_found(a->s, &a->plan.found, a->plan.entries, a->plan.count);

	if (err == E_NOSPC)
		files_pin(a->f, found->place.seg);
	if (err != 0)
		return 0; /* known already, or for the next start */
	log_info("%s: taken over from a worker that ended", qid_format(found->qid, text));
	a->count++;
	return 0;
}

static bool adopt_segment(void *ctx, const struct files_orphan *o)
{
	struct adoption *a = ctx;
	uint64_t unreadable = a->stats.unreadable;

	a->life = o->life;
	int err = spool_scan_segment(a->dirs, o->seg, o->known_end, adopt_record, a, &a->stats);

	/* what could not be read stays for the next start */
	if (a->stats.unreadable != unreadable)
		files_pin(a->f, o->seg);
	if (err != 0 && err != E_NOENT && !o->again)
		log_error("segment %08x: %s", o->seg, err_str(err));
	return err == 0 || err == E_NOENT;
}

unsigned recover_adopt(struct sched *s, struct files *f, const struct spool_dirs *dirs)
{
	struct adoption a = { .s = s, .f = f, .dirs = dirs };

	files_each_orphan(f, adopt_segment, &a);
	recover_plan_fini(&a.plan);
	return a.count;
}
