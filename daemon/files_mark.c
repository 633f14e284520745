/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The supervisor's own journal: operators' marks, and what is left of messages that were copied
 * forward; and reading reasons back. Called through daemon/files.h by the scheduler.
 */
#include <stdio.h>

#include "daemon/files_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"

static void need_file(void *ctx)
{
	struct files *f = ctx;
	struct proto_file grant;

	f->mark_file_owed = files_grant(f, 0, SPOOL_JOURNAL, &grant) != 0;
	if (!f->mark_file_owed)
		journal_writer_grant(f->marks, grant.number,
				     (struct journal_owner){ 0, grant.code });
}

void files_marks_tick(struct files *f)
{
	if (f->mark_file_owed && f->marks != NULL)
		need_file(f);
}

static void closed_file(void *ctx, uint32_t number, uint64_t bytes)
{
	struct proto_file c = { .kind = PROTO_FILE_CLOSED,
				.file_kind = SPOOL_JOURNAL,
				.number = number,
				.bytes = bytes };

	files_closed(ctx, 0, &c);
}

int files_marks_new(struct files *f)
{
	struct journal_conf conf = {
		.sync_window_ms = f->su.params->journal_sync_window,
		.file_bytes = (uint64_t)f->su.params->journal_file_size,
		.counters = f->su.counters,
		.need_file = need_file,
		.closed_file = closed_file,
		.ctx = f,
	};

	f->reader = journal_reader_new(f->su.dirs, 16);
	return f->su.loop == NULL ? 0
				  : journal_writer_new(&conf, f->su.dirs, f->su.loop, &f->marks);
}

void files_marks_free(struct files *f)
{
	if (f->marks != NULL)
		journal_writer_free(&f->marks);
	journal_reader_free(&f->reader);
}

struct proto_warrant files_warrant(struct files *f, uint32_t life, enum outcome_kind kind,
				   const struct proto_ref *ref)
{
	struct warrant_of of = { .life = life,
				 .kind = (uint8_t)kind,
				 .rcpt_first = ref->rcpt_first,
				 .mask = ref->mask,
				 .order = f->order + 1,
				 .qid = { ref->qid.time_us, ref->qid.life } };

	if (f->su.key == NULL)
		return (struct proto_warrant){ 0, 0 };
	f->order++;
	return (struct proto_warrant){ of.order, warrant_code(f->su.key, &of) };
}

/* What the supervisor says itself; an order that is set is kept. */
static void warrant_own(struct files *f, struct outcome *o)
{
	if (f->su.key == NULL)
		return;
	if (o->warrant.order == 0)
		o->warrant.order = ++f->order;
	o->warrant.code = warrant_code(f->su.key, &(struct warrant_of){ .kind = o->kind,
									.rcpt_first = o->rcpt_first,
									.mask = o->mask,
									.done = o->sent,
									.order = o->warrant.order,
									.qid = o->qid });
}

static int append(struct files *f, struct outcome *o, struct proto_jref *ref_r)
{
	if (f->marks == NULL)
		return E_INVAL;
	warrant_own(f, o);
	int err = journal_append(f->marks, o, ref_r);

	if (err != 0) {
		log_error("mark in the journal failed: %s", err_str(err));
		return err;
	}
	f->marks_unsynced = true;
	return 0;
}

int files_mark(struct files *f, enum outcome_kind kind, struct qid id)
{
	struct outcome o = { .kind = (uint8_t)kind, .qid = id, .when_us = clock_now_wall().us };
	struct proto_jref ref;

	return append(f, &o, &ref);
}

int files_mark_sync(struct files *f)
{
	if (f->marks == NULL || !f->marks_unsynced)
		return 0;
	int err = journal_sync(f->marks);

	if (err == 0)
		f->marks_unsynced = false;
	return err;
}

int files_mark_ready(struct files *f)
{
	files_marks_tick(f);
	return f->marks == NULL ? E_INVAL : journal_writer_ready(f->marks);
}

/* A mask relative to recipient `from`, made relative to `to`. */
static uint64_t rebase(uint64_t mask, uint32_t from, uint32_t to)
{
	if (from >= to)
		return from - to >= 64 ? 0 : mask << (from - to);
	return to - from >= 64 ? 0 : mask >> (to - from);
}

int files_keep(struct files *f, struct qid id, uint32_t first, uint64_t all, uint64_t live,
	       struct proto_jref old, uint32_t *packed_r)
{
	struct outcome_reason reasons[64];
	struct buf mem = BUF_INIT;
	struct outcome was = { 0 };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = id,
			     .rcpt_first = first,
			     .mask = all,
			     .sent = all & ~live,
			     .deferred = all & live,
			     .when_us = clock_now_wall().us };
	struct proto_jref ref;

	*packed_r = 0;
	if (old.journal != 0 && journal_read(f->reader, old, &mem, &was, reasons) == 0) {
		o.when_us = was.when_us;             /* retry time counts from the attempt */
		o.warrant.order = was.warrant.order; /* and it is no newer than that */
		o.transport = was.transport;
		o.nexthop = was.nexthop;
		o.reasons = reasons;
		for (size_t i = 0; i < was.reason_count && i < 64; i++) {
			reasons[o.reason_count] = reasons[i];
			reasons[o.reason_count].mask =
				rebase(reasons[i].mask, was.rcpt_first, first) & all;
			if (reasons[o.reason_count].mask != 0)
				o.reason_count++;
		}
	}
	int err = append(f, &o, &ref);

	buf_fini(&mem);
	if (err == 0 && live != 0)
		err = files_jref_take(f, 0, ref, packed_r);
	return err;
}

/* ---- reading back ---- */

void files_each_outcome(struct files *f, uint32_t life, outcome_found_fn fn, void *ctx)
{
	struct spool_scan_stats stats = { 0 };

	for (size_t i = 0; i < f->jnls.count; i++) {
		const struct fjnl *j = f->jnls.p[i];

		if (j->life == life && !j->leaving)
			spool_scan_journal(f->su.dirs, j->number, fn, ctx, &stats);
	}
}

const struct warrant_key *files_key(const struct files *f)
{
	return f->su.key;
}

const struct spool_dirs *files_dirs(const struct files *f)
{
	return f->su.dirs;
}

bool files_reason(struct files *f, struct proto_jref ref, char *out, size_t out_size)
{
	struct outcome_reason reasons[64];
	struct buf mem = BUF_INIT;
	struct outcome o = { 0 };
	bool got = ref.journal != 0 && journal_read(f->reader, ref, &mem, &o, reasons) == 0 &&
		   o.reason_count > 0;

	if (got)
		snprintf(out, out_size, "%.*s", (int)reasons[0].text.len, reasons[0].text.p);
	buf_fini(&mem);
	return got;
}
