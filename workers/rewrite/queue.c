/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the supervisor asks for: recipients of a queue entry resolved again (PROTO_LOAD), a record
 * moved to the current segment (PROTO_COPY).
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/rewrite/rewrite.h"

#define VERIFY_MAX (256u << 10) /* records up to this size are checked whole when loaded */
#define COPY_CHUNK (256u << 10)
#define RCPTS_MAX  200000u

/* ---- load ---- */

static void answer_load(struct rewrite *r, const struct proto_load *l, uint32_t status,
			const struct proto_entry *entries, size_t count)
{
	char rec[sizeof(struct proto_loaded) + PROTO_ENTRY_SPAN * sizeof(*entries)];
	struct proto_loaded d = { .kind = PROTO_LOADED,
				  .status = status,
				  .word = l->ref.word,
				  .entry = l->ref.entry,
				  .entry_count = (uint32_t)count };

	memcpy(rec, &d, sizeof(d));
	if (count > 0)
		memcpy(rec + sizeof(d), entries, count * sizeof(*entries));
	worker_send(r->w, &r->w->super, rec, sizeof(d) + count * sizeof(*entries));
}

/* False: its bytes could not be kept, so it must not leave the queue either. */
static bool keep_damaged(struct rewrite *r, struct qid id, struct proto_place place, int err)
{
	char text[QID_TEXT_SIZE];
	int kept = err == E_NOENT ? 0 : spool_quarantine(&r->dirs, id, place);

	qid_format(id, text);
	if (kept != 0) {
		log_error("%s: record is damaged (%s) at %llu of segment %08x, and cannot be saved "
			  "to "
			  "corrupt/: %s",
			  text, err_str(err), (unsigned long long)place.off8 * SPOOL_ALIGN,
			  place.seg, err_str(kept));
		return false;
	}
	log_error("%s: record is damaged (%s) at %llu of segment %08x: saved to corrupt/%s", text,
		  err_str(err), (unsigned long long)place.off8 * SPOOL_ALIGN, place.seg, text);
	return true;
}

/* As at arrival: mail that was on hold or waited for a restart is in the queue from now on. */
static void log_active(const struct rewrite *r, const struct proto_load *l,
		       const struct spool_record *hdr, const struct envelope *env)
{
	char id[QID_TEXT_SIZE];
	struct buf sender = BUF_INIT;

	mail_addr_quote(env->sender, &sender);
	log_as(rules_chain(&r->rules, env->cleanup)->log_qmgr, LOG_LEVEL_INFO,
	       "%s: from=<%s>, size=%" PRIu32 ", nrcpt=%d (queue active)",
	       qid_format(qid_of_proto(l->ref.qid), id), buf_cstr(&sender), hdr->size,
	       __builtin_popcountll(l->ref.mask));
	buf_fini(&sender);
}

/* Read and plan. Returns LOAD_*. */
static uint32_t load(struct rewrite *r, const struct proto_load *l, struct plan *plan)
{
	struct qid id = qid_of_proto(l->ref.qid);
	struct spool_record hdr;
	struct envelope env;
	int err;

	buf_reset(&r->env_buf);
	/* a large one is checked when it is sent; who found it damaged then has saved it */
	bool verify = l->ref.place.len <= VERIFY_MAX || spool_is_quarantined(&r->dirs, id);

	err = spool_read_head(r->reader, id, l->ref.place, verify, &hdr, &r->env_buf);
	if (err == 0)
		err = env_decode(buf_sv(&r->env_buf), RCPTS_MAX, &r->load_arena, &env);
	if (err == 0) {
		struct resolver *router =
			rules_router(&r->rules, rules_chain(&r->rules, env.cleanup), env.verify);

		resolver_flush(router, (l->flags & LOAD_FLUSH) != 0);
		resolver_best_mx(router, (l->flags & LOAD_BEST_MX) != 0);
		err = plan_again(r->rules.conf, router, &env, l->ref.rcpt_first, l->ref.mask,
				 &r->load_arena, plan);
		resolver_flush(router, false);
		resolver_best_mx(router, false);
	}
	if (err == E_CORRUPT || err == E_SYNTAX || err == E_NOENT || err == E_EOF) {
		return keep_damaged(r, id, l->ref.place, err) ? LOAD_DAMAGED : LOAD_RETRY;
	}
	if (err == 0 && !map_memo_is_missing())
		log_active(r, l, &hdr, &env);
	return err == 0 ? LOAD_OK : LOAD_RETRY;
}

static void loaded(struct rewrite *r, const struct proto_load *l, uint32_t status,
		   const struct plan *plan)
{
	struct proto_entry entries[PROTO_ENTRY_SPAN];

	if (status == LOAD_OK && !names_room(r->names, plan->dest_count, r->pending_count == 0))
		status = LOAD_RETRY;
	if (status != LOAD_OK) {
		answer_load(r, l, status, NULL, 0);
		return;
	}
	plan_to_entries(r, plan, entries);
	answer_load(r, l, LOAD_OK, entries, plan->entry_count);
	counter_add(r->w->counters, CTR_rewrite_loads, 1);
}

struct waiting_load { /* for answers of remote tables; the supervisor bounds how many */
	struct rewrite *r;
	struct proto_load l;
	struct map_memo *memo;
};

/* Until nothing is missing. */
static void load_with_memo(void *ctx)
{
	struct waiting_load *w = ctx;
	struct rewrite *r = w->r;
	struct plan plan = { 0 };
	uint32_t status;

	for (;;) {
		map_memo_enter(w->memo);
		arena_reset(&r->load_arena);
		status = load(r, &w->l, &plan);
		if (!map_memo_leave())
			break;
		if (tables_fetch(r->tables, w->memo, load_with_memo, w) != NULL)
			return;
	}
	loaded(r, &w->l, status, &plan);
	map_memo_free(&w->memo);
	free(w);
	r->waiting_count--;
}

void queue_load(struct rewrite *r, const void *rec, size_t len)
{
	struct proto_load l;
	struct plan plan;

	if (len != sizeof(l))
		die("supervisor ring: load record of %zu bytes", len);
	memcpy(&l, rec, sizeof(l));
	if (map_remote_is_used()) {
		struct waiting_load *w = xcalloc(1, sizeof(*w));

		*w = (struct waiting_load){ .r = r, .l = l, .memo = map_memo_new() };
		r->waiting_count++;
		load_with_memo(w);
		return;
	}
	arena_reset(&r->load_arena);
	uint32_t status = load(r, &l, &plan);

	loaded(r, &l, status, &plan);
}

/* ---- copy ---- */

static int copy_stream(struct rewrite *r, const struct spool_record *hdr,
		       const struct proto_place *place, struct pending *p)
{
	struct spool_stream *s = NULL;
	struct buf chunk = BUF_INIT;
	int err = spool_stream_open(r->writer, hdr->content_len + hdr->env_len + 64, &s);

	for (uint64_t off = 0; err == 0 && off < hdr->content_len; off += COPY_CHUNK) {
		size_t n = (size_t)u64_min(COPY_CHUNK, hdr->content_len - off);

		buf_reset(&chunk);
		err = spool_read_content(r->reader, hdr, *place, off, n, &chunk);
		if (err == 0)
			err = spool_stream_add(s, chunk.p, chunk.len);
		if (err != 0)
			spool_stream_abort(&s);
	}
	if (err == 0)
		err = spool_stream_commit(&s, hdr, buf_sv(&r->env_buf), p);
	buf_fini(&chunk);
	return err;
}

static int copy_small(struct rewrite *r, const struct spool_record *hdr,
		      const struct proto_place *place, struct pending *p)
{
	struct buf content = BUF_INIT;
	int err = spool_read_content(r->reader, hdr, *place, 0, (size_t)hdr->content_len, &content);
	struct spool_iov iov = { content.p, content.len };

	if (err == 0)
		err = spool_writer_append(r->writer, hdr, buf_sv(&r->env_buf), &iov, 1, p);
	buf_fini(&content);
	return err;
}

static int copy(struct rewrite *r, const struct proto_copy *c, struct pending *p)
{
	struct spool_record hdr;
	int err;

	buf_reset(&r->env_buf);
	err = spool_read_head(r->reader, qid_of_proto(c->qid), c->place, true, &hdr, &r->env_buf);
	if (err != 0)
		return err;
	hdr.flags &= ~SPOOL_ENV_LAST;
	p->rcpt_count = hdr.rcpt_count;
	return hdr.content_len > COPY_CHUNK ? copy_stream(r, &hdr, &c->place, p)
					    : copy_small(r, &hdr, &c->place, p);
}

void queue_copy(struct rewrite *r, const void *rec, size_t len)
{
	struct pending *p = pending_new(r, PENDING_COPY);
	int err;

	if (len != sizeof(p->copy))
		die("supervisor ring: copy record of %zu bytes", len);
	memcpy(&p->copy, rec, sizeof(p->copy));
	p->qid = qid_of_proto(p->copy.qid);
	err = copy(r, &p->copy, p);
	if (err == 0) {
		pending_add(r, p);
		return;
	}
	struct proto_copied answer = { .kind = PROTO_COPIED,
				       .status = 1,
				       .msg = p->copy.msg,
				       .msg_seq = p->copy.msg_seq,
				       .qid = p->copy.qid };

	if (err != E_AGAIN) {
		char text[QID_TEXT_SIZE];

		log_warn("%s: cannot copy the record forward: %s", qid_format(p->qid, text),
			 err_str(err));
	}
	worker_send(r->w, &r->w->super, &answer, sizeof(answer));
	pending_drop(r, p);
}
