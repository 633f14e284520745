/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What waits for the disk, and what is said once it is there. The order in commit_done() is the
 * promise of the whole: the supervisor's ring gets the message first, the client's answer goes out
 * after it, so whoever has seen a 250 finds the message on disk and announced.
 */
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/rewrite/rewrite.h"

#define ENTRIES_PER_RECORD 1024u
#define SENDER_KEEP        1024u

void commit_init(struct rewrite *r)
{
	r->pending.next = r->pending.prev = &r->pending;
}

static void free_one(struct pending *p)
{
	free(p->entries);
	buf_fini(&p->sender);
	free(p);
}

void commit_fini(struct rewrite *r)
{
	while (r->free_pending != NULL) {
		struct pending *p = r->free_pending;

		r->free_pending = p->next;
		free_one(p);
	}
}

struct pending *pending_new(struct rewrite *r, enum pending_kind kind)
{
	struct pending *p = r->free_pending;

	if (p != NULL)
		r->free_pending = p->next;
	else
		p = xcalloc(1, sizeof(*p));
	p->kind = kind;
	p->peer = NULL;
	p->entry_count = 0;
	p->since = clock_now();
	buf_reset(&p->sender);
	return p;
}

void pending_drop(struct rewrite *r, struct pending *p)
{
	if (p->entry_cap > 64 || p->sender.cap > SENDER_KEEP) {
		free_one(p);
		return;
	}
	p->next = r->free_pending;
	r->free_pending = p;
}

void pending_add(struct rewrite *r, struct pending *p)
{
	p->prev = r->pending.prev;
	p->next = &r->pending;
	p->prev->next = p;
	r->pending.prev = p;
	r->pending_count++;
}

static void pending_remove(struct rewrite *r, struct pending *p)
{
	p->prev->next = p->next;
	p->next->prev = p->prev;
	r->pending_count--;
	pending_drop(r, p);
}

/* ---- destinations ---- */

static void tell_dest(struct rewrite *r, uint32_t id, struct sv transport, struct sv nexthop)
{
	char rec[sizeof(struct proto_dest) + 2 * PROTO_NAME_MAX];
	struct proto_dest d = { .kind = PROTO_DEST,
				.local_id = id,
				.transport_len = (uint16_t)size_min(transport.len, PROTO_NAME_MAX),
				.nexthop_len = (uint16_t)size_min(nexthop.len, PROTO_NAME_MAX) };

	memcpy(rec, &d, sizeof(d));
	memcpy(rec + sizeof(d), transport.p, d.transport_len);
	memcpy(rec + sizeof(d) + d.transport_len, nexthop.p, d.nexthop_len);
	worker_send(r->w, &r->w->super, rec, sizeof(d) + d.transport_len + d.nexthop_len);
}

void plan_to_entries(struct rewrite *r, const struct plan *plan, struct proto_entry *out)
{
	uint32_t last = UINT32_MAX, id = 0;

	for (size_t i = 0; i < plan->entry_count; i++) {
		out[i] = plan->entries[i];
		if (plan->entries[i].dest != last) {
			const struct plan_dest *d = &plan->dests[plan->entries[i].dest];
			bool fresh;

			last = plan->entries[i].dest;
			id = names_id(r->names, d->transport, d->nexthop, &fresh);
			if (fresh)
				tell_dest(r, id, d->transport, d->nexthop);
		}
		out[i].dest = id;
	}
}

int pending_set_message(struct rewrite *r, struct pending *p, const struct message *m)
{
	if (!names_room(r->names, m->plan.dest_count, r->pending_count == 0))
		return E_AGAIN;
	if (p->entry_cap < m->plan.entry_count) {
		free(p->entries);
		p->entry_cap = size_max(m->plan.entry_count, 4);
		p->entries = xmalloc(p->entry_cap * sizeof(*p->entries));
	}
	p->entry_count = m->plan.entry_count;
	plan_to_entries(r, &m->plan, p->entries);
	p->qid = m->qid;
	p->flags = m->hdr.flags;
	p->log_qmgr = m->chain->log_qmgr;
	p->rcpt_count = m->hdr.rcpt_count;
	p->size = m->hdr.size;
	mail_addr_quote(m->env.sender, &p->sender);
	return 0;
}

/* ---- announcing ---- */

static void send_entries(struct rewrite *r, void *head, size_t head_len,
			 const struct proto_entry *e, size_t count)
{
	static char rec[sizeof(struct proto_new) + ENTRIES_PER_RECORD * sizeof(*e)];

	memcpy(rec, head, head_len);
	memcpy(rec + head_len, e, count * sizeof(*e));
	worker_send(r->w, &r->w->super, rec, head_len + count * sizeof(*e));
}

static void announce(struct rewrite *r, const struct pending *p, const struct proto_place *place)
{
	struct proto_new head = { .kind = PROTO_NEW,
				  .flags = p->flags,
				  .qid = proto_qid_of(p->qid),
				  .place = *place,
				  .rcpt_count = p->rcpt_count,
				  .size = p->size,
				  .entry_total = (uint32_t)p->entry_count };
	struct proto_new_more more = { .kind = PROTO_NEW_MORE, .qid = head.qid };
	size_t done = size_min(p->entry_count, ENTRIES_PER_RECORD);

	head.entry_count = (uint32_t)done;
	send_entries(r, &head, sizeof(head), p->entries, done);
	while (done < p->entry_count) {
		size_t n = size_min(p->entry_count - done, ENTRIES_PER_RECORD);

		more.entry_count = (uint32_t)n;
		send_entries(r, &more, sizeof(more), p->entries + done, n);
		done += n;
	}
}

static void log_queued(const struct pending *p)
{
	static struct buf line; /* keeps its memory */
	char id[QID_TEXT_SIZE];

	if (p->flags & MSGF_HOLD)
		return;
	buf_reset(&line);
	buf_add_str(&line, qid_format(p->qid, id));
	buf_add_str(&line, ": from=<");
	buf_add_sv(&line, buf_sv(&p->sender));
	buf_add_str(&line, ">, size=");
	buf_add_uint(&line, p->size);
	buf_add_str(&line, ", nrcpt=");
	buf_add_uint(&line, p->rcpt_count);
	buf_add_str(&line, " (queue active)");
	log_text_as(p->log_qmgr, line.p, line.len);
}

static void message_committed(struct rewrite *r, const struct pending *p,
			      const struct proto_place *place)
{
	announce(r, p, place);
	log_queued(p);
	counter_add(r->w->counters, CTR_rewrite_messages, 1);
	counter_add(r->w->counters, CTR_rewrite_bytes, place->len);
}

static void copy_committed(struct rewrite *r, const struct pending *p, int err,
			   const struct proto_place *place)
{
	struct proto_copied answer = { .kind = PROTO_COPIED,
				       .status = err == 0 ? 0 : 1,
				       .msg = p->copy.msg,
				       .rcpt_count = p->rcpt_count,
				       .msg_seq = p->copy.msg_seq,
				       .qid = p->copy.qid };

	if (err == 0) {
		answer.place = *place;
		counter_add(r->w->counters, CTR_spool_copied, 1);
	}
	worker_send(r->w, &r->w->super, &answer, sizeof(answer));
}

void commit_done(void *ctx, void *cookie, int err, const struct proto_place *place)
{
	struct rewrite *r = ctx;
	struct pending *p = cookie;

	r->progress = true;
	switch (p->kind) {
	case PENDING_SUBMIT:
		if (err == 0)
			message_committed(r, p, place);
		if (p->peer != NULL)
			submit_answer(r, p->peer, p->session, p->tx,
				      err == 0 ? &verdict_ok : verdict_of_error(err));
		break;
	case PENDING_NOTICE:
		if (err == 0)
			message_committed(r, p, place);
		notify_committed(r, p, err);
		break;
	case PENDING_TOLD:
		if (err == 0)
			message_committed(r, p, place);
		break;
	case PENDING_COPY:
		copy_committed(r, p, err, place);
		break;
	}
	pending_remove(r, p);
}
