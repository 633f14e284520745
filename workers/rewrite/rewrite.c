/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The rewrite worker: what Postfix calls cleanup, trivial-rewrite and bounce. Takes messages from
 * smtp-in workers, makes them durable, announces them; reads recipients back for the supervisor;
 * makes notifications. Started by priv, framed by workers/common/worker.h.
 */
#include "workers/rewrite/rewrite.h"

#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "workers/common/landlock.h"
#include "workers/common/sandbox.h"

#define ARENA_CHUNK  (16u << 10)
#define ARENA_LIMIT  (64u << 20)
#define READER_FILES 64
#define TICK_MS      1000
/* With few sessions every message waits for the disk alone or nearly so, and the way through a
 * thread only adds to that; with many, the next batch is made while one is on its way. */
#define INLINE_COMMITS 8
#define SESSION_KEEP                                                                               \
	(8u << 10) /* of a message that stops anywhere, beside what is gathered of it */
#define DNS_TIMEOUT_MS 10000
#define PEER_MEMORY    (64u << 20) /* gathered of all messages of a peer */

static struct rewrite the_rewrite;

/* ---- files ---- */

static void need_file(struct rewrite *r, enum spool_file_kind kind)
{
	struct proto_file f = { .kind = PROTO_FILE_NEED, .file_kind = kind };

	worker_send(r->w, &r->w->super, &f, sizeof(f));
}

static void closed_file(struct rewrite *r, enum spool_file_kind kind, uint32_t number,
			uint64_t bytes)
{
	struct proto_file f = {
		.kind = PROTO_FILE_CLOSED, .file_kind = kind, .number = number, .bytes = bytes
	};

	worker_send(r->w, &r->w->super, &f, sizeof(f));
}

static void need_segment(void *ctx)
{
	need_file(ctx, SPOOL_SEGMENT);
}

static void closed_segment(void *ctx, uint32_t number, uint64_t bytes)
{
	closed_file(ctx, SPOOL_SEGMENT, number, bytes);
}

static void need_journal(void *ctx)
{
	need_file(ctx, SPOOL_JOURNAL);
}

static void closed_journal(void *ctx, uint32_t number, uint64_t bytes)
{
	closed_file(ctx, SPOOL_JOURNAL, number, bytes);
}

static void granted(struct rewrite *r, const void *rec, size_t len)
{
	struct proto_file f;

	if (len != sizeof(f))
		die("supervisor ring: file record of %zu bytes", len);
	memcpy(&f, rec, sizeof(f));
	r->progress = true;
	if (f.file_kind == SPOOL_SEGMENT)
		spool_writer_grant(r->writer, f.number, f.recycle);
	else
		journal_writer_grant(r->journal, f.number,
				     (struct journal_owner){ r->w->life, f.code });
}

/* ---- life ---- */

static int rewrite_init(struct worker *w)
{
	struct rewrite *r = &the_rewrite;
	struct conf_diag d;
	int err;

	w->state = r;
	r->w = w;
	conf_diag_init(&d);
	err = rules_open(w->conf, &r->rules, &d);
	if (err == 0)
		err = filters_open(w->conf, &r->filters, &d);
	if (err == 0 && r->filters.used) {
		landlock_also_connect();
		sandbox_also(SANDBOX_FILTER);
	}
	conf_diag_log(&d);
	if (err < 0 && d.text.len == 0)
		log_error("%s", err_str(err));
	conf_diag_fini(&d);
	return err;
}

static int open_spool(struct rewrite *r)
{
	const struct params *p = r->w->params;
	struct spool_writer_conf wc = { .segment_bytes = (uint64_t)p->spool_segment_size,
					.sync = p->spool_sync,
					.max_syncs = (unsigned)p->spool_syncs_in_flight,
					.inline_max = INLINE_COMMITS,
					.counters = r->w->counters };
	struct spool_writer_ops ops = { .committed = commit_done,
					.need_file = need_segment,
					.closed_file = closed_segment,
					.ctx = r };
	struct journal_conf jc = { .sync_window_ms = p->journal_sync_window,
				   .file_bytes = (uint64_t)p->journal_file_size,
				   .counters = r->w->counters,
				   .need_file = need_journal,
				   .closed_file = closed_journal,
				   .ctx = r };
	int err = spool_dirs_open(p->queue_directory, false, &r->dirs);

	if (err == 0)
		err = spool_writer_new(&wc, &ops, &r->dirs, r->w->loop, &r->writer);
	if (err == 0)
		err = journal_writer_new(&jc, &r->dirs, r->w->loop, &r->journal);
	if (err == 0)
		r->reader = spool_reader_new(&r->dirs, READER_FILES);
	if (err == 0)
		r->journal_reader = journal_reader_new(&r->dirs, READER_FILES);
	return err;
}

static void tick(void *ctx)
{
	struct rewrite *r = ctx;

	/* the turn that follows looks at waiting submissions and at old outcomes */
	loop_timer_set(&r->tick, TICK_MS);
	tables_client_tick(r->tables);
	if (r->filters.client != NULL) {
		dns_client_tick(r->filters.dns);
		milter_client_tick(r->filters.client);
	}
}

static void start_filters(struct rewrite *r)
{
	const char *protocols = r->w->params->inet_protocols;
	bool all = strstr(protocols, "all") != NULL;
	struct milter_client_conf conf = { .loop = r->w->loop,
					   .counters = r->w->counters,
					   .v4 = all || strstr(protocols, "ipv4") != NULL,
					   .v6 = all || strstr(protocols, "ipv6") != NULL };

	if (!r->filters.used)
		return;
	conf.dns = r->filters.dns = dns_client_new(DNS_TIMEOUT_MS, r->w->counters);
	r->filters.client = milter_client_new(&conf);
}

static int rewrite_start(struct worker *w)
{
	struct rewrite *r = w->state;
	int err;

	commit_init(r);
	r->ids.life = w->life;
	r->tables = tables_client_new(w->params->lookup_timeout, w->counters);
	r->peer_memory = PEER_MEMORY + (size_t)w->params->smtpd_session_limit * SESSION_KEEP;
	start_filters(r);
	r->names = names_new(NAMES_MAX);
	message_init(&r->scratch, &r->rules);
	arena_init(&r->load_arena, ARENA_CHUNK, ARENA_LIMIT);
	err = open_spool(r);
	if (err < 0) {
		log_error("spool below %s: %s", w->params->queue_directory, err_str(err));
		return err;
	}
	loop_timer_init(w->loop, &r->tick, tick, r);
	loop_timer_set(&r->tick, TICK_MS);
	return 0;
}

/* ---- dispatch ---- */

typedef void (*super_fn)(struct rewrite *r, const void *rec, size_t len);

static const super_fn super_kinds[PROTO_KIND_COUNT] = {
	[PROTO_LOAD] = queue_load,       [PROTO_BOUNCE] = notify_bounce, [PROTO_COPY] = queue_copy,
	[PROTO_NOTICE] = notify_of_peer, [PROTO_FILE_GRANT] = granted,
};

static void rewrite_from_super(struct worker *w, const void *rec, size_t len)
{
	struct rewrite *r = w->state;
	uint32_t kind = PROTO_KIND_COUNT;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (kind >= PROTO_KIND_COUNT || super_kinds[kind] == NULL) {
		log_warn("supervisor ring: record of kind %u ignored", kind);
		return;
	}
	super_kinds[kind](r, rec, len);
}

static bool submits(const struct worker_peer *peer)
{
	return peer->class_id == CLASS_SMTP_IN || peer->class_id == CLASS_PICKUP ||
	       peer->class_id == CLASS_LOCAL || peer->class_id == CLASS_VERIFY;
}

/* Only milters have names to ask for. */
static void set_resolver(struct rewrite *r, struct worker_peer *peer)
{
	r->resolver = peer;
	if (r->filters.dns != NULL)
		dns_client_set_link(r->filters.dns, peer != NULL ? peer->link : NULL);
}

static void from_resolver(struct rewrite *r, struct worker_peer *peer, const void *rec, size_t len)
{
	uint32_t kind = 0;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (kind != PROTO_DNS_ANSWER || r->filters.dns == NULL)
		worker_accuse(r->w, peer, "unexpected record");
	else
		dns_client_input(r->filters.dns, rec, len);
}

static void rewrite_attach(struct worker *w, struct worker_peer *peer)
{
	if (submits(peer))
		submit_attach(w->state, peer);
	if (peer->class_id == CLASS_VERIFY)
		((struct rewrite *)w->state)->verify = peer;
	if (peer->class_id == CLASS_LOOKUP) {
		struct rewrite *r = w->state;

		r->lookup = peer;
		tables_client_set_link(r->tables, peer->link);
	}
	if (peer->class_id == CLASS_RESOLVER)
		set_resolver(w->state, peer);
}

static void rewrite_detach(struct worker *w, struct worker_peer *peer)
{
	struct rewrite *r = w->state;

	if (peer == r->lookup) {
		r->lookup = NULL;
		tables_client_set_link(r->tables, NULL);
	}
	if (peer == r->resolver)
		set_resolver(r, NULL);
	if (peer == r->verify)
		r->verify = NULL;
	if (submits(peer))
		submit_detach(w->state, peer);
}

static void rewrite_from_peer(struct worker *w, struct worker_peer *peer, const void *rec,
			      size_t len)
{
	struct rewrite *r = w->state;
	uint32_t kind = 0;

	if (peer->class_id == CLASS_RESOLVER) {
		from_resolver(r, peer, rec, len);
		return;
	}
	if (peer->class_id != CLASS_LOOKUP) {
		submit_record(r, peer, rec, len);
		return;
	}
	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (peer == r->lookup &&
	    (kind != PROTO_TABLE_ANSWER || tables_client_input(r->tables, rec, len) != 0))
		worker_accuse(w, peer, "malformed answer");
}

/* Draining and nothing left: close the files, so that the supervisor can retire them. */
static void end_if_idle(struct rewrite *r)
{
	if (!r->w->draining || r->pending_count > 0 || r->unjournaled.len > 0 ||
	    r->waiting_count > 0 || r->filter_count > 0 || !submit_is_idle(r))
		return;
	journal_writer_free(&r->journal);
	spool_writer_free(&r->writer);
	worker_exit(r->w);
}

static bool rewrite_turn(struct worker *w)
{
	struct rewrite *r = w->state;
	bool more;

	r->progress = false;
	if (r->unjournaled.len > 0)
		notify_resume(r);
	more = submit_resume(r);
	more = spool_writer_poll(r->writer) || more;
	more = journal_writer_poll(r->journal) || more;
	end_if_idle(r);
	return more || (r->stalled && r->progress);
}

static void rewrite_drain(struct worker *w)
{
	end_if_idle(w->state);
}

static const struct worker_ops rewrite_ops = {
	.class_id = CLASS_REWRITE,
	.program = "cleanup",
	.init = rewrite_init,
	.start = rewrite_start,
	.attach = rewrite_attach,
	.detach = rewrite_detach,
	.from_super = rewrite_from_super,
	.from_peer = rewrite_from_peer,
	.turn = rewrite_turn,
	.drain = rewrite_drain,
};

int main(int argc, char **argv)
{
	return worker_main(argc, argv, &rewrite_ops);
}
