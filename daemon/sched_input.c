/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What rewrite workers report: new messages, resolved entries, notifications made, files. Every
 * record is checked as a whole before anything of it is applied; E_PEER means the worker is broken
 * or taken over. Called by sched_input() (daemon/sched.c) for every record of their rings.
 */
#include "daemon/sched_int.h"
#include "lib/err.h"
#include "lib/log.h"

/* ---- destinations by the worker's own numbers ---- */

void local_dests_free(struct sched_worker *w)
{
	for (uint32_t i = 0; i < w->dest_cap; i++)
		free(w->dests[i].nexthop);
	free(w->dests);
	w->dests = NULL;
	w->dest_cap = 0;
	w->dest_bytes = 0;
}

/* Whether one more line about this life's records is to be written. */
static bool may_complain(struct sched_worker *w)
{
	if (w->complaints < COMPLAINTS_MAX && ++w->complaints == COMPLAINTS_MAX)
		log_warn("no more is said about the records of worker life %u", w->life);
	return w->complaints < COMPLAINTS_MAX;
}

static void grow_dests(struct sched_worker *w, uint32_t id)
{
	uint32_t cap = w->dest_cap == 0 ? 64 : w->dest_cap;

	while (cap <= id)
		cap *= 2;
	if (cap == w->dest_cap)
		return;
	w->dests = xrealloc(w->dests, cap * sizeof(*w->dests));
	memset(w->dests + w->dest_cap, 0, (cap - w->dest_cap) * sizeof(*w->dests));
	w->dest_cap = cap;
}

static bool is_text(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 0x7f)
			return false;
	}
	return true;
}

static int in_dest(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_dest r;

	if (len < sizeof(r))
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	if (len != sizeof(r) + r.transport_len + r.nexthop_len || r.transport_len == 0 ||
	    r.transport_len > PROTO_NAME_MAX || r.nexthop_len > PROTO_NAME_MAX ||
	    r.local_id >= LOCAL_DESTS_MAX || w->dest_bytes + r.nexthop_len >= LOCAL_DEST_BYTES)
		return E_PEER;
	struct sv transport = { (const char *)rec + sizeof(r), r.transport_len };
	struct sv nexthop = { transport.p + transport.len, r.nexthop_len };

	if (!is_text(transport) || !is_text(nexthop))
		return E_PEER;
	uint32_t ti = transport_find(s, transport);

	/* the table keeps room for the transports of a changed master.cf */
	if (ti == UINT32_MAX && s->transport_count < SCHED_TRANSPORTS / 2) {
		log_warn("transport \"%.*s\" is not in master.cf: mail for it is deferred",
			 (int)transport.len, transport.p);
		ti = transport_add(s, transport);
	}
	grow_dests(w, r.local_id);
	struct local_dest *d = &w->dests[r.local_id];

	if (d->nexthop != NULL)
		w->dest_bytes -= strlen(d->nexthop) + 1;
	w->dest_bytes += nexthop.len + 1;
	free(d->nexthop);
	*d = (struct local_dest){ .row = DTAB_NONE,
				  .transport = ti,
				  .nexthop = xstrndup(nexthop.p, nexthop.len) };
	return 0;
}

static bool dest_known(const struct sched_worker *w, uint32_t id)
{
	return id == UINT32_MAX || (id < w->dest_cap && w->dests[id].nexthop != NULL);
}

/* The row for a number; DTAB_NONE when the table is full or the recipient has no destination. */
static uint32_t dest_row(struct sched *s, struct sched_worker *w, uint32_t id)
{
	if (id == UINT32_MAX)
		return DTAB_NONE;
	struct local_dest *d = &w->dests[id];

	if (d->transport == UINT32_MAX)
		return DTAB_NONE;
	if (d->row != DTAB_NONE && s->dests[d->row].generation == d->generation)
		return d->row;
	uint32_t row;

	if (dest_intern(s, d->transport, sv_from(d->nexthop), &row) != 0)
		return DTAB_NONE;
	d->row = row;
	d->generation = s->dests[row].generation;
	return row;
}

/* Put a resolved entry where it belongs. */
static void place_entry(struct sched *s, struct sched_worker *w, uint32_t e, uint32_t local_id,
			unsigned list)
{
	uint32_t row = dest_row(s, w, local_id);

	sched_entry(s, e)->dest = row;
	if (row == DTAB_NONE || s->transports[s->dests[row].transport].gone)
		sched_entry_backoff(s, e);
	else
		sched_entry_ready(s, e, list);
}

/* ---- entries of a message ---- */

static const struct proto_entry *entries_after(const void *rec, size_t len, size_t fixed,
					       size_t count)
{
	if (len != fixed + count * sizeof(struct proto_entry))
		return NULL;
	return (const void *)((const char *)rec + fixed);
}

static struct proto_entry entry_at(const struct proto_entry *list, size_t i)
{
	struct proto_entry pe;

	memcpy(&pe, (const char *)list + i * sizeof(pe), sizeof(pe));
	return pe;
}

/* Marks the recipients in the bitmap (NULL: no bitmap); false when one is out of range or named
 * twice. */
static bool cover(uint64_t *map, uint32_t rcpts, const struct proto_entry *pe)
{
	if (pe->mask == 0)
		return false;
	unsigned top = 63 - (unsigned)__builtin_clzll(pe->mask), shift = pe->rcpt_first % 64;
	size_t at = pe->rcpt_first / 64;

	if (pe->rcpt_first >= rcpts || top >= rcpts - pe->rcpt_first)
		return false;
	uint64_t low = pe->mask << shift, high = shift > 0 ? pe->mask >> (64 - shift) : 0;

	if ((map[at] & low) != 0 || (high != 0 && (map[at + 1] & high) != 0))
		return false;
	map[at] |= low;
	if (high != 0)
		map[at + 1] |= high;
	return true;
}

static bool entries_ok(const struct sched_worker *w, uint64_t *map, uint32_t rcpts,
		       const struct proto_entry *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct proto_entry pe = entry_at(list, i);

		if (!dest_known(w, pe.dest) || !cover(map, rcpts, &pe))
			return false;
	}
	return true;
}

static uint32_t add_entry(struct sched *s, uint32_t msg, const struct proto_entry *pe)
{
	uint32_t e;

	if (qtab_entry_alloc(s->q, msg, &e) != 0)
		return QTAB_NONE;
	struct qentry *q = sched_entry(s, e);

	q->rcpt_first = pe->rcpt_first;
	q->mask = pe->mask;
	q->dest = DTAB_NONE;
	q->jref = 0;
	q->due_s = 0;
	s->count[QS_FRESH]++;
	return e;
}

/* The first entry of each destination goes to the sender's flow, further ones to the bulk list. */
static void add_entries(struct sched *s, struct sched_worker *w, uint32_t msg,
			const struct proto_entry *list, size_t count)
{
	unsigned flow = (s->q->msgs[msg].flags >> MSGF_FLOW_SHIFT) % READY_BULK;
	uint32_t last_dest = UINT32_MAX - 1;

	for (size_t i = 0; i < count; i++) {
		struct proto_entry pe = entry_at(list, i);
		uint32_t e = add_entry(s, msg, &pe);

		if (e == QTAB_NONE)
			bug("queue table full behind its own admission limit");
		place_entry(s, w, e, pe.dest, pe.dest == last_dest ? READY_BULK : flow);
		last_dest = pe.dest;
	}
}

/* Room in the entry table for n more, besides what is promised to messages that are announced in
 * part; the rest is found again on disk at the next start. */
bool input_has_entries(const struct sched *s, uint32_t n)
{
	uint32_t live = atomic_load_explicit(&s->q->shm->entry_live, memory_order_relaxed);

	return s->q->entry_cap - live >= (uint64_t)n + s->promised;
}

static int add_message(struct sched *s, struct sched_worker *w, const struct proto_new *r,
		       uint32_t *msg_r)
{
	struct qid id = { .time_us = r->qid.time_us, .life = r->qid.life };

	if (!qid_is_set(id) || id.time_us >= QID_MAX_TIME_US || id.life > 0xffffff)
		return E_PEER;
	int err = qtab_msg_alloc(s->q, id, msg_r);

	if (err != 0)
		return err;
	if (s->su.files != NULL && (!files_msg_is_there(s->su.files, id, &r->place) ||
				    files_msg_add(s->su.files, w->life, &r->place) != 0)) {
		qtab_msg_free(s->q, *msg_r);
		return E_PEER;
	}
	struct qmsg *m = &s->q->msgs[*msg_r];

	/* not what the id says: ids go on growing while the clock is behind */
	sched_msg_arrived(s, *msg_r, s->now_s);
	m->seg = r->place.seg;
	m->off8 = r->place.off8;
	m->len = r->place.len;
	m->flags = (m->flags & 0xffff0000u) | (r->flags & MSG_FLAGS_IN);
	return 0;
}

/* The guard, an entry without recipients, keeps the message while more entries are to come. */
static void open_message(struct sched *s, struct sched_worker *w, uint32_t msg,
			 const struct proto_new *r, uint64_t *map)
{
	struct proto_entry none = { .dest = UINT32_MAX };

	w->open_guard = add_entry(s, msg, &none);
	ASSERT(w->open_guard != QTAB_NONE);
	w->open_msg = msg;
	w->open_ms = s->now_ms;
	w->open_left = r->entry_total - r->entry_count;
	s->promised += w->open_left;
	w->open_rcpts = r->rcpt_count;
	w->open_cover = map;
}

static int in_new(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_new r;
	uint64_t small[2] = { 0, 0 }, *map = small;
	uint32_t msg;

	if (len < sizeof(r) || w->open_left != 0)
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	const struct proto_entry *list = entries_after(rec, len, sizeof(r), r.entry_count);

	if (list == NULL || r.entry_count == 0 || r.entry_total < r.entry_count ||
	    r.entry_total > r.rcpt_count || r.rcpt_count > 10000000)
		return E_PEER;
	if (r.rcpt_count > 64 || r.entry_total > r.entry_count)
		map = xcalloc(r.rcpt_count / 64 + 2, sizeof(*map));
	int err = entries_ok(w, map, r.rcpt_count, list, r.entry_count) ? 0 : E_PEER;

	if (err == 0 && !input_has_entries(s, r.entry_total + 1))
		err = E_NOSPC;
	if (err == 0)
		err = add_message(s, w, &r, &msg);
	if (err == 0) {
		if (r.entry_total > r.entry_count) {
			open_message(s, w, msg, &r, map);
			map = small;
		}
		add_entries(s, w, msg, list, r.entry_count);
	}
	if (map != small)
		free(map);
	if (err != E_NOSPC && err != E_EXIST)
		return err;
	/* the id comes from smtp-in: only one that is taken over repeats it, for mail of its own */
	if (!may_complain(w))
		;
	else if (err == E_EXIST)
		log_error("a queue id was used twice: the second message is dropped");
	else
		log_error("queue table is full: a message stays in the spool until the next start");
	if (err == E_NOSPC && s->su.files != NULL)
		files_pin(s->su.files, r.place.seg);
	if (r.entry_total > r.entry_count) { /* and its further entries with it */
		w->open_left = r.entry_total - r.entry_count;
		w->open_ms = s->now_ms;
	}
	return 0;
}

/* Drop every entry of a message that nobody works on; those out there go when they come back. */
void sched_msg_drop(struct sched *s, uint32_t msg)
{
	uint32_t e = s->q->msgs[msg].first_entry;

	s->q->msgs[msg].flags |= MSGM_DOOMED;
	while (e != QTAB_NONE) {
		uint32_t next = sched_entry(s, e)->sibling;

		uint64_t word = qtab_entry_word(s->q, e);

		if (qword_life(word) == 0 && qword_state(word) != QS_FRESH)
			sched_entry_end(s, e);
		e = next;
	}
}

static void close_message(struct sched *s, struct sched_worker *w)
{
	if (w->open_msg != QTAB_NONE) {
		s->promised -= w->open_left;
		if (s->q->msgs[w->open_msg].flags & MSGM_DOOMED)
			sched_msg_drop(s, w->open_msg);
		sched_entry_end(s, w->open_guard);
	}
	free(w->open_cover);
	w->open_cover = NULL;
	w->open_msg = QTAB_NONE;
	w->open_left = 0;
}

static int in_new_more(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_new_more r;

	if (len < sizeof(r) || w->open_left == 0)
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	const struct proto_entry *list = entries_after(rec, len, sizeof(r), r.entry_count);

	if (list == NULL || r.entry_count == 0 || r.entry_count > w->open_left)
		return E_PEER;
	uint32_t msg = w->open_msg;

	if (msg != QTAB_NONE) {
		struct qid id = qtab_msg_qid(&s->q->msgs[msg]);

		if (id.time_us != r.qid.time_us || id.life != r.qid.life ||
		    !entries_ok(w, w->open_cover, w->open_rcpts, list, r.entry_count))
			return E_PEER;
		add_entries(s, w, msg, list, r.entry_count);
		s->promised -= r.entry_count;
	}
	w->open_left -= r.entry_count;
	if (w->open_left == 0)
		close_message(s, w);
	return 0;
}

/* The worker died between PROTO_NEW and the last PROTO_NEW_MORE: recipients it did not get to are
 * loaded from the record. Without room for them the guard stays, so that the record does. */
void input_open_abandon(struct sched *s, struct sched_worker *w)
{
	uint32_t msg = w->open_msg;
	bool all_there = true;

	if (msg != QTAB_NONE) {
		s->promised -= w->open_left;
		w->open_left = 0;
	}
	for (uint32_t first = 0; msg != QTAB_NONE && first < w->open_rcpts; first += 64) {
		uint32_t left = w->open_rcpts - first;
		uint64_t all = left >= 64 ? UINT64_MAX : ((uint64_t)1 << left) - 1;
		struct proto_entry pe = { .rcpt_first = first,
					  .dest = UINT32_MAX,
					  .mask = all & ~w->open_cover[first / 64] };

		if (pe.mask == 0)
			continue;
		uint32_t e = input_has_entries(s, 1) ? add_entry(s, msg, &pe) : QTAB_NONE;

		if (e != QTAB_NONE)
			sched_entry_load(s, e);
		else
			all_there = false;
	}
	if (!all_there) {
		log_error("queue table is full: recipients wait in the spool until the next start");
		free(w->open_cover);
		w->open_cover = NULL;
		w->open_msg = QTAB_NONE;
	}
	close_message(s, w);
}

/* ---- answers about entries ---- */

/* 0: `e` is with this worker in that state, by exactly this word. E_STALE: it was, once. */
static int check_word(struct sched *s, const struct sched_worker *w, uint32_t e, uint64_t word,
		      enum qstate state)
{
	uint32_t used = atomic_load_explicit(&s->q->shm->entry_used, memory_order_relaxed);

	if (e >= used || qword_life(word) != w->life || qword_state(word) != state)
		return E_PEER;
	return qtab_entry_word(s->q, e) == word ? 0 : E_STALE;
}

static int stale(struct sched *s)
{
	counter_add(s->su.counters, CTR_sched_stale_reports, 1);
	return 0;
}

static void apply_loaded(struct sched *s, struct sched_worker *w, uint32_t e,
			 const struct proto_entry *list, size_t count)
{
	uint32_t msg = sched_entry(s, e)->msg;
	uint32_t packed = sched_entry(s, e)->jref;

	for (size_t i = 1; i < count; i++) {
		struct proto_entry pe = entry_at(list, i);
		uint32_t more = add_entry(s, msg, &pe);

		if (more == QTAB_NONE)
			bug("queue table full behind its own admission limit");
		if (packed != 0 && s->su.files != NULL) {
			files_jref_dup(s->su.files, packed);
			sched_entry(s, more)->jref = packed;
		}
		place_entry(s, w, more, pe.dest, READY_BULK);
	}
	struct proto_entry pe = entry_at(list, 0);

	sched_entry(s, e)->rcpt_first = pe.rcpt_first;
	sched_entry(s, e)->mask = pe.mask;
	place_entry(s, w, e, pe.dest, READY_BULK);
}

/* The entries cover exactly the recipients of e. */
static bool loaded_ok(struct sched *s, const struct sched_worker *w, uint32_t e,
		      const struct proto_entry *list, size_t count)
{
	const struct qentry *q = sched_entry(s, e);
	uint64_t seen = 0;

	for (size_t i = 0; i < count; i++) {
		struct proto_entry pe = entry_at(list, i);

		if (pe.mask == 0 || !dest_known(w, pe.dest) || pe.rcpt_first < q->rcpt_first ||
		    pe.rcpt_first - q->rcpt_first >= 64)
			return false;
		unsigned shift = pe.rcpt_first - q->rcpt_first;
		uint64_t abs = pe.mask << shift;

		if (abs >> shift != pe.mask || (seen & abs) != 0)
			return false;
		seen |= abs;
	}
	return seen == q->mask;
}

static int in_loaded(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_loaded r;

	if (len < sizeof(r))
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	const struct proto_entry *list = entries_after(rec, len, sizeof(r), r.entry_count);
	int err = check_word(s, w, r.entry, r.word, QS_LOADING);

	if (err != 0 || list == NULL || r.entry_count > PROTO_ENTRY_SPAN)
		return err == E_STALE && list != NULL ? stale(s) : E_PEER;
	if (r.status == LOAD_OK &&
	    (r.entry_count == 0 || !loaded_ok(s, w, r.entry, list, r.entry_count)))
		return E_PEER;
	struct qmsg *m = sched_msg_of(s, sched_entry(s, r.entry));

	if (m->flags & MSGM_DOOMED) {
		sched_entry_end(s, r.entry);
	} else if (r.status == LOAD_DAMAGED) {
		char text[QID_TEXT_SIZE];

		log_error("%s: record is damaged; moved to corrupt/, message dropped",
			  qid_format(qtab_msg_qid(m), text));
		uint32_t msg = sched_entry(s, r.entry)->msg;

		sched_entry_hold(s, r.entry); /* ours again, so it goes with the others */
		sched_msg_drop(s, msg);
	} else if (r.status == LOAD_OK && input_has_entries(s, r.entry_count)) {
		apply_loaded(s, w, r.entry, list, r.entry_count);
	} else {
		sched_entry_defer_at(s, r.entry, s->now_s + 60);
	}
	return 0;
}

static int in_bounced(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_bounced r;

	if (len != sizeof(r))
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	int err = check_word(s, w, r.entry, r.word, QS_NOTIFYING);

	if (err != 0)
		return err == E_STALE ? stale(s) : E_PEER;
	struct qentry *q = sched_entry(s, r.entry);
	bool doomed = (sched_msg_of(s, q)->flags & MSGM_DOOMED) != 0;

	if (!doomed && q->due_s == BOUNCE_DELAY) {
		sched_entry_backoff(s, r.entry);
	} else if (doomed || r.status == 0) {
		sched_entry_end(s, r.entry);
	} else {
		/* what hinders one notification (a full disk) hinders the others */
		sched_entry_notify(s, r.entry, (enum bounce_kind)q->due_s);
		s->notify_pause_ms = s->now_ms + 5000;
	}
	return 0;
}

/* ---- results of deliveries ---- */

/* A new entry for some recipients of e, as READY, so that any move is possible; QTAB_NONE when the
 * table is full. */
static uint32_t split(struct sched *s, uint32_t e, uint64_t mask, uint32_t packed)
{
	struct qentry *q = sched_entry(s, e);
	struct proto_entry pe = { .rcpt_first = q->rcpt_first, .dest = 0, .mask = mask };
	uint32_t more = input_has_entries(s, 1) ? add_entry(s, q->msg, &pe) : QTAB_NONE;

	if (more == QTAB_NONE)
		return QTAB_NONE;
	if (packed != 0) {
		files_jref_dup(s->su.files, packed);
		sched_entry(s, more)->jref = packed;
	}
	sched_entry(s, e)->mask &= ~mask;
	return more;
}

/* Bounced and to-be-reported recipients leave into entries of their own when others remain. */
static void part_notify(struct sched *s, uint32_t e, uint64_t mask, uint64_t rest,
			enum bounce_kind kind)
{
	if (mask == 0)
		return;
	if (rest == 0) {
		sched_entry_notify(s, e, kind);
		return;
	}
	uint32_t more = split(s, e, mask, sched_entry(s, e)->jref);

	/* no room: they stay with the deferred ones; for sent ones the report is lost */
	if (more != QTAB_NONE)
		sched_entry_notify(s, more, kind);
	else if (kind == BOUNCE_SUCCESS)
		sched_entry(s, e)->mask &= ~mask;
}

static void apply_deferred(struct sched *s, uint32_t e)
{
	struct qmsg *m = sched_msg_of(s, sched_entry(s, e));

	if (m->flags & MSGM_REQUEUE && !(m->flags & MSGF_HOLD)) {
		m->flags &= ~MSGM_REQUEUE;
		sched_entry_defer_at(s, e, s->now_s); /* due at once */
	} else {
		sched_entry_backoff(s, e);
	}
}

static void apply_result(struct sched *s, const struct proto_result *r, uint32_t packed)
{
	uint32_t e = r->entry;
	struct qmsg *m = sched_msg_of(s, sched_entry(s, e));

	sched_entry_jref(s, e, packed);
	if (m->flags & MSGM_DOOMED) {
		sched_entry_end(s, e);
		return;
	}
	uint64_t report = r->report;

	sched_entry(s, e)->mask = r->deferred | r->bounced | report;
	if ((r->deferred | r->bounced | report) == 0) {
		sched_entry_end(s, e);
		return;
	}
	part_notify(s, e, report, r->deferred | r->bounced, BOUNCE_SUCCESS);
	part_notify(s, e, r->bounced, r->deferred, BOUNCE_FAILURE);
	if (r->deferred != 0 && r->health == JOB_HEALTH_PASS)
		sched_entry_pass(s, e);
	else if (r->deferred != 0)
		apply_deferred(s, e);
}

int input_result(struct sched *s, struct sched_worker *w, const struct proto_result *r)
{
	uint32_t packed = 0;
	int err = check_word(s, w, r->entry, r->word, QS_BUSY);

	if (err != 0)
		return err == E_STALE ? stale(s) : E_PEER;
	struct qentry *q = sched_entry(s, r->entry);

	if (r->health > JOB_HEALTH_PASS || (r->sent & r->deferred) != 0 ||
	    (r->sent & r->bounced) != 0 || (r->deferred & r->bounced) != 0 ||
	    (r->sent | r->deferred | r->bounced) != q->mask || (r->report & ~r->sent) != 0 ||
	    r->unsure > (r->deferred != 0))
		return E_PEER;
	if (s->su.files != NULL && (r->deferred | r->bounced | r->report) != 0 &&
	    files_jref_take(s->su.files, w->life, r->jref, &packed) != 0)
		return E_PEER;
	uint32_t row = q->dest;
	unsigned share = q->due_s;
	struct sdest *d = &s->dests[row];

	d->sent_add += (unsigned)__builtin_popcountll(r->sent);
	if (r->health != JOB_HEALTH_PASS)
		d->deferred_add += (unsigned)__builtin_popcountll(r->deferred);
	d->bounced_add += (unsigned)__builtin_popcountll(r->bounced);
	dest_job_end(s, row, share, (enum job_health)r->health, r->jref);
	if (r->unsure)
		death_unsure(s, r->entry, r->deferred);
	apply_result(s, r, packed);
	return 0;
}

static int in_result(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_result r;

	if (len != sizeof(r))
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	return input_result(s, w, &r);
}

/* ---- files ---- */

/* An honest writer fills a file of at least some 64 KB before it asks for the next. */
static bool may_have_file(struct sched *s, struct sched_worker *w)
{
	int64_t more = (s->now_ms - w->files_ms) * FILES_PER_S / 1000;

	if (w->files_ms == 0 || more > FILES_BURST || more < 0) {
		w->files_left = FILES_BURST;
		w->files_ms = s->now_ms;
	} else if (more > 0) {
		w->files_left += more;
		w->files_ms = s->now_ms;
	}
	if (w->files_left > FILES_BURST)
		w->files_left = FILES_BURST;
	return w->files_left-- > 0;
}

/* A number of that kind to the worker. A writer asks once: when there is none now (the spool's
 * state cannot be written), it is given one later. */
static int give_file(struct sched *s, struct sched_worker *w, enum worker_class class_id,
		     unsigned slot, uint32_t kind)
{
	struct proto_file grant;
	int err = files_grant(s->su.files, w->life, kind, &grant);

	if (err == E_PEER || err == E_LIMIT || err == E_INVAL)
		return E_PEER;
	if (err != 0) {
		if (may_complain(w))
			log_error("no number for a new spool file: %s", err_str(err));
		if (w->owed[kind] < UINT8_MAX)
			w->owed[kind]++;
		return 0;
	}
	err = s->su.ops.send(s->su.ops.ctx, class_id, slot, &grant, sizeof(grant));
	if (err != 0 && may_complain(w))
		log_error("ring to worker %u is full: a file grant is lost", slot);
	return err == 0 ? 0 : E_PEER;
}

static void give_owed(struct sched *s, enum worker_class class_id)
{
	struct pool *p = sched_pool(s, class_id);

	for (unsigned slot = 0; slot < SCHED_SLOTS; slot++) {
		struct sched_worker *w = &p->w[slot];

		for (uint32_t kind = SPOOL_SEGMENT; w->up && kind <= SPOOL_JOURNAL; kind++) {
			unsigned owed = w->owed[kind];

			/* a full ring is tried again: this time nobody has asked */
			for (w->owed[kind] = 0; owed > 0; owed--) {
				if (give_file(s, w, class_id, slot, kind) != 0)
					w->owed[kind]++;
			}
		}
	}
}

void input_give_owed(struct sched *s)
{
	if (s->su.files == NULL || s->now_ms < s->owed_ms)
		return;
	s->owed_ms = s->now_ms + 1000;
	give_owed(s, CLASS_REWRITE);
	give_owed(s, CLASS_DELIVER);
	give_owed(s, CLASS_LOCAL);
}

static int in_file_need(struct sched *s, struct sched_worker *w, enum worker_class class_id,
			unsigned slot, const void *rec, size_t len)
{
	struct proto_file r;

	if (len != sizeof(r) || s->su.files == NULL)
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	if (!may_have_file(s, w))
		return E_PEER;
	return give_file(s, w, class_id, slot, r.file_kind);
}

static int in_file_closed(struct sched *s, struct sched_worker *w, const void *rec, size_t len)
{
	struct proto_file r;

	if (len != sizeof(r) || s->su.files == NULL)
		return E_PEER;
	memcpy(&r, rec, sizeof(r));
	return files_closed(s->su.files, w->life, &r);
}

typedef int (*input_fn)(struct sched *s, struct sched_worker *w, const void *rec, size_t len);

static const input_fn from_rewrite[PROTO_KIND_COUNT] = {
	[PROTO_DEST] = in_dest,     [PROTO_NEW] = in_new,         [PROTO_NEW_MORE] = in_new_more,
	[PROTO_LOADED] = in_loaded, [PROTO_BOUNCED] = in_bounced,
};

/* Mail behind a record that was refused is passed over: adoption looks behind the last message that
 * was taken, and would not see the refused one before it, which may be acknowledged. */
static bool is_passed_over(const struct sched_worker *w, uint32_t kind)
{
	return w->refused && (kind == PROTO_NEW || kind == PROTO_NEW_MORE || kind == PROTO_COPIED);
}

int sched_input(struct sched *s, enum worker_class class_id, unsigned slot, uint32_t life,
		const void *rec, size_t len)
{
	struct pool *p = sched_pool(s, class_id);
	uint32_t kind;

	if (p == NULL || slot >= SCHED_SLOTS || !p->w[slot].up || p->w[slot].life != life ||
	    len < sizeof(kind))
		return E_PEER;
	struct sched_worker *w = &p->w[slot];

	memcpy(&kind, rec, sizeof(kind));
	s->holder = w;
	if (is_passed_over(w, kind))
		return 0;
	if (kind == PROTO_FILE_NEED)
		return in_file_need(s, w, class_id, slot, rec, len);
	if (kind == PROTO_FILE_CLOSED)
		return in_file_closed(s, w, rec, len);
	if (kind == PROTO_RESULT && p != &s->rewrite)
		return in_result(s, w, rec, len);
	if (kind == PROTO_NOTICE && p == &s->deliver)
		return work_notice(s, w, rec, len);
	if (p != &s->rewrite || kind >= PROTO_KIND_COUNT)
		return E_PEER;
	if (kind == PROTO_COPIED)
		return work_copied(s, w, slot, rec, len);
	return from_rewrite[kind] != NULL ? from_rewrite[kind](s, w, rec, len) : E_PEER;
}
