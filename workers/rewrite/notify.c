/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Notifications the supervisor asks for (PROTO_BOUNCE): who is to be told about which recipients of
 * an entry, and with which words. The reasons come from the journal of the worker that tried. A
 * notification is a message of its own; when it is committed the journal says so (a restart must
 * not tell twice) and the supervisor is answered. A bounce is never bounced: it goes to the
 * postmaster from the double bounce address, or nowhere.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/common/deliverlog.h"
#include "workers/mail/verp.h"
#include "workers/rewrite/dsn.h"
#include "workers/rewrite/rewrite.h"

#define REASONS_MAX  64
#define RCPTS_MAX    200000u
#define HEADERS_MAX  (256u << 10)
#define ORIGINAL_MAX (64u << 20)

struct notify_job { /* one request, while it is worked on */
	struct rewrite *r;
	struct proto_bounce b;
	struct qid id; /* of the message it is about */
	char id_text[QID_TEXT_SIZE];
	struct spool_record hdr;
	struct envelope env;
	struct outcome outcome;
	struct outcome_reason reasons[REASONS_MAX];
	struct dsn_rcpt rcpts[PROTO_ENTRY_SPAN];
	size_t rcpt_count;
	uint64_t mask; /* recipients in rcpts */
	bool told;     /* the notification itself is appended, only the copy is left */
};

struct waiting_notice { /* for answers of remote tables; the supervisor bounds how many */
	struct rewrite *r;
	struct proto_bounce b;
	struct map_memo *memo; /* NULL: there are no such tables */
	bool told, logged;
};

static struct buf journal_buf, content_buf; /* keep their memory between requests */

static const struct {
	uint8_t notify;  /* the sender is told when the recipient's NOTIFY has this */
	bool by_default; /* ... or when there is no NOTIFY */
	uint8_t dsn[3];  /* when the reason is lost */
	const char *text;
	const char *log;    /* "sender ... notification" */
	unsigned class_bit; /* notify_classes: a copy for the postmaster */
	uint8_t outcome;
} bounce_kinds[] = {
	[BOUNCE_FAILURE] = { NOTIFY_FAILURE,
			     true,
			     { 5, 0, 0 },
			     "delivery failed",
			     "non-delivery",
			     NOTIFY_CLASS_BOUNCE,
			     OUTCOME_NOTIFIED },
	[BOUNCE_EXPIRED] = { NOTIFY_FAILURE,
			     true,
			     { 4, 4, 7 },
			     "delivery time expired",
			     "non-delivery",
			     NOTIFY_CLASS_BOUNCE,
			     OUTCOME_NOTIFIED },
	[BOUNCE_FORCED] = { NOTIFY_FAILURE,
			    true,
			    { 4, 7, 0 },
			    "message is administratively expired",
			    "non-delivery",
			    NOTIFY_CLASS_BOUNCE,
			    OUTCOME_NOTIFIED },
	[BOUNCE_DELAY] = { NOTIFY_DELAY,
			   true,
			   { 4, 0, 0 },
			   "delivery is delayed",
			   "delay",
			   NOTIFY_CLASS_DELAY,
			   OUTCOME_WARNED },
	[BOUNCE_SUCCESS] = { NOTIFY_SUCCESS,
			     false,
			     { 2, 0, 0 },
			     "delivered",
			     "delivery status",
			     0,
			     OUTCOME_NOTIFIED },
};

static bool is_failure(const struct proto_bounce *b)
{
	return b->bounce != BOUNCE_DELAY && b->bounce != BOUNCE_SUCCESS;
}

/* ---- answering ---- */

static void answer(struct rewrite *r, const struct proto_bounce *b, uint32_t status)
{
	struct proto_bounced d = {
		.kind = PROTO_BOUNCED, .status = status, .word = b->ref.word, .entry = b->ref.entry
	};

	worker_send(r->w, &r->w->super, &d, sizeof(d));
}

/* Write down that the sender knows (or that there is nobody to tell). */
static int journal_notified(struct rewrite *r, const struct proto_bounce *b)
{
	bool success = b->bounce == BOUNCE_SUCCESS, delay = b->bounce == BOUNCE_DELAY;
	struct outcome o = { .kind = bounce_kinds[b->bounce].outcome,
			     .qid = qid_of_proto(b->ref.qid),
			     .rcpt_first = b->ref.rcpt_first,
			     .mask = b->ref.mask,
			     .warrant = b->warrant,
			     .sent = success ? b->ref.mask : 0,
			     .deferred = delay ? b->ref.mask : 0,
			     .bounced = success || delay ? 0 : b->ref.mask,
			     .when_us = clock_now_wall().us };
	struct proto_jref ref;
	int err = journal_append(r->journal, &o, &ref);

	if (err < 0 && err != E_AGAIN) {
		char id[QID_TEXT_SIZE];

		log_warn("%s: cannot journal the notification: %s", qid_format(o.qid, id),
			 err_str(err));
	}
	return err;
}

/* Journal, then answer. Without a journal file it has to wait: an answer that is not journaled
 * would be forgotten by a restart, and the sender told twice. */
static void finished(struct rewrite *r, const struct proto_bounce *b)
{
	if (r->unjournaled.len == 0 && journal_notified(r, b) != E_AGAIN)
		answer(r, b, 0);
	else
		buf_add(&r->unjournaled, b, sizeof(*b));
}

void notify_resume(struct rewrite *r)
{
	size_t done = 0;
	struct proto_bounce b;

	while (done < r->unjournaled.len) {
		memcpy(&b, r->unjournaled.p + done, sizeof(b));
		if (journal_notified(r, &b) == E_AGAIN)
			break;
		answer(r, &b, 0);
		done += sizeof(b);
	}
	if (done > 0)
		buf_consume(&r->unjournaled, done);
}

void notify_committed(struct rewrite *r, struct pending *p, int err)
{
	char id[QID_TEXT_SIZE], own[QID_TEXT_SIZE];

	if (err != 0) {
		answer(r, &p->bounce, 1);
		return;
	}
	log_as("bounce", LOG_LEVEL_INFO, "%s: %s %s notification: %s",
	       qid_format(qid_of_proto(p->bounce.ref.qid), id),
	       p->to_postmaster ? "postmaster" : "sender", bounce_kinds[p->bounce.bounce].log,
	       qid_format(p->qid, own));
	counter_add(r->w->counters, CTR_rewrite_bounces, 1);
	if (!p->is_copy)
		finished(r, &p->bounce);
}

void notify_not_sent(struct rewrite *r, struct pending *p, int err)
{
	struct proto_bounce b = p->bounce;
	bool is_copy = p->is_copy;

	pending_drop(r, p);
	if (is_copy)
		return;
	if (err != 0)
		answer(r, &b, 1);
	else
		finished(r, &b);
}

/* ---- facts ---- */

static const struct outcome_reason *reason_of(const struct notify_job *j, unsigned bit)
{
	for (size_t i = 0; i < j->outcome.reason_count; i++) {
		if (j->reasons[i].mask >> bit & 1)
			return &j->reasons[i];
	}
	return NULL;
}

/* Read the reasons. When they are lost the sender gets the notification without them. */
static void read_reasons(struct notify_job *j)
{
	int err = E_NOENT;

	buf_reset(&journal_buf);
	j->outcome.reason_count = 0;
	if (j->b.jref.journal == 0)
		return;
	err = journal_read(j->r->journal_reader, j->b.jref, &journal_buf, &j->outcome, j->reasons);
	if (err == 0 && qid_eq(j->outcome.qid, j->id) &&
	    j->outcome.rcpt_first == j->b.ref.rcpt_first)
		return;
	log_warn("%s: no reasons in journal %08x: %s", j->id_text, j->b.jref.journal,
		 err_str(err != 0 ? err : E_CORRUPT));
	j->outcome.reason_count = 0;
}

static bool wants(const struct notify_job *j, const struct env_rcpt *rcpt)
{
	if (j->b.bounce == BOUNCE_SUCCESS && (j->env.flags & (ENVF_PROBE | ENVF_REPORT)) != 0)
		return true;
	if (j->b.bounce == BOUNCE_SUCCESS && env_tells_cleared(j->b.msg_flags, rcpt->notify))
		return true;
	if (rcpt->notify == 0)
		return bounce_kinds[j->b.bounce].by_default;
	return (rcpt->notify & bounce_kinds[j->b.bounce].notify) != 0;
}

static void collect_rcpts(struct notify_job *j, bool all)
{
	j->rcpt_count = 0;
	j->mask = 0;
	for (unsigned bit = 0; bit < PROTO_ENTRY_SPAN; bit++) {
		const struct outcome_reason *reason;
		struct dsn_rcpt *d = &j->rcpts[j->rcpt_count];
		size_t index = (size_t)j->b.ref.rcpt_first + bit;

		if ((j->b.ref.mask >> bit & 1) == 0 || index >= j->env.rcpt_count ||
		    (!all && !wants(j, &j->env.rcpts[index])))
			continue;
		*d = (struct dsn_rcpt){ .rcpt = &j->env.rcpts[index],
					.text = sv_from(bounce_kinds[j->b.bounce].text) };
		memcpy(d->dsn, bounce_kinds[j->b.bounce].dsn, 3);
		reason = reason_of(j, bit);
		if (reason != NULL) {
			memcpy(d->dsn, reason->dsn, 3);
			d->text = reason->text;
			d->mta = reason->mta;
			d->diag = reason->diag;
		}
		j->mask |= UINT64_C(1) << bit;
		j->rcpt_count++;
	}
}

/* The original, or its headers, as far as the rules allow. */
static struct sv read_original(struct notify_job *j, enum dsn_audience audience, bool *full_r)
{
	uint64_t len = j->hdr.content_len;
	bool failure = is_failure(&j->b);
	int err;

	*full_r = failure && audience != DSN_TO_POSTMASTER && j->env.ret != DSN_RET_HDRS &&
		  len <= ORIGINAL_MAX &&
		  (j->env.ret == DSN_RET_FULL || len <= (uint64_t)j->r->rules.p->bounce_size_limit);
	if (!*full_r)
		len = u64_min(len, HEADERS_MAX);
	buf_reset(&content_buf);
	err = spool_read_content(j->r->reader, &j->hdr, j->b.ref.place, 0, (size_t)len,
				 &content_buf);
	if (err != 0) {
		log_warn("%s: cannot read the message for its notification: %s", j->id_text,
			 err_str(err));
		*full_r = false;
		return (struct sv){ "", 0 };
	}
	return *full_r ? buf_sv(&content_buf) : dsn_headers_of(buf_sv(&content_buf), HEADERS_MAX);
}

/* ---- making one ---- */

static void complete(const struct rewrite *r, const char *addr, struct buf *out)
{
	buf_add_str(out, addr);
	if (strchr(addr, '@') == NULL) {
		buf_add_c(out, '@');
		buf_add_str(out, r->rules.p->myorigin);
	}
}

static void build_text(struct notify_job *j, enum dsn_audience audience, struct sv to,
		       struct message *m)
{
	struct rewrite *r = j->r;
	const struct params *p = r->rules.p;
	struct buf from = BUF_INIT;
	struct dsn_facts f = {
		.kind = (enum bounce_kind)j->b.bounce,
		.audience = audience,
		.text = dsn_text(&r->rules.bounce_texts, (enum bounce_kind)j->b.bounce,
				 j->env.flags),
		.myhostname = sv_from(p->myhostname),
		.myorigin = sv_from(p->myorigin),
		.mail_name = sv_from(p->mail_name),
		.threaded = p->enable_threaded_bounces,
		.obsolete_from = p->header_from_format == HEADER_FROM_OBSOLETE,
		.to = to,
		.qid = sv_from(m->qid_text),
		.orig_qid = sv_from(j->id_text),
		.env = &j->env,
		.now_s = clock_now_wall().us / 1000000,
		.arrival_s = j->env.arrival_us / 1000000,
		.rcpts = j->rcpts,
		.rcpt_count = j->rcpt_count,
	};

	complete(r, f.text->from_addr, &from);
	f.from = buf_sv(&from);
	f.retry_until_s = f.arrival_s + p->maximal_queue_lifetime / 1000;
	f.original = read_original(j, audience, &f.original_full);
	dsn_build(&f, &m->out);
	snprintf(m->header.message_id, sizeof(m->header.message_id), "<%s@%s>", m->qid_text,
		 p->myhostname);
	buf_fini(&from);
}

/* By way of checks and milters. */
static int send_shown(struct notify_job *j, const struct envelope *env, struct message *m,
		      struct pending *p)
{
	struct buf text = m->out;
	int err;

	m->out = BUF_INIT;
	err = ownmail_send(j->r, env, m->qid, &text, p);
	buf_fini(&text);
	return err;
}

/* Append one notification. `copy`: an extra one for the postmaster, which settles nothing. */
static int send_one(struct notify_job *j, enum dsn_audience audience, struct sv from, struct sv to,
		    bool copy)
{
	struct rewrite *r = j->r;
	struct message *m = &r->scratch;
	struct env_rcpt rcpt = { .addr = to, .notify = NOTIFY_NEVER };
	char of[QID_TEXT_SIZE + 160];
	struct envelope env = { .sender = from,
				.flags = ENVF_INTERNAL | (j->env.flags & ENVF_SMTPUTF8),
				.body = j->env.body,
				.arrival_us = clock_now_wall().us,
				.rcpts = &rcpt,
				.rcpt_count = 1 };
	struct pending *p = pending_new(r, PENDING_NOTICE);
	int err = 0;

	snprintf(of, sizeof(of), "%s %" PRIu32 " %" PRIx64 " %u %" PRIx64 " %" PRIu32 " %" PRIx64,
		 j->id_text, j->b.ref.rcpt_first, j->b.ref.mask, (unsigned)j->b.bounce,
		 j->b.warrant.order, r->w->life, j->b.warrant.code);
	if (!copy)
		env.bounce_of = sv_from(of);
	p->bounce = j->b;
	p->is_copy = copy;
	p->to_postmaster = audience != DSN_TO_SENDER;
	message_begin_own(m, qid_make(&r->ids), &env);
	build_text(j, audience, to, m);
	if ((r->rules.filter_classes & FILTER_CLASS_BOUNCE) != 0) {
		err = send_shown(j, &env, m, p);
		if (err != 0)
			pending_drop(r, p);
		return err;
	}
	if (message_finish(m, &err)->verdict != SUBMIT_OK || map_memo_is_missing())
		err = E_AGAIN;
	if (err == 0)
		err = append_message(r, m, (struct sv){ "", 0 }, p);
	if (err != 0)
		pending_drop(r, p);
	return err;
}

/* A copy for the postmaster, when notify_classes asks for it. Losing it harms nobody. */
static void send_copy(struct notify_job *j)
{
	const struct rules *rules = &j->r->rules;
	const char *who = j->b.bounce == BOUNCE_DELAY ? rules->p->delay_notice_recipient
						      : rules->p->bounce_notice_recipient;

	if ((rules->notify_classes & bounce_kinds[j->b.bounce].class_bit) != 0)
		send_one(j, DSN_TO_POSTMASTER, sv_from(rules->double_bounce), sv_from(who), true);
}

/* ---- deciding ---- */

/* The message that failed is a bounce itself. */
static int double_bounce(struct notify_job *j)
{
	const struct rules *rules = &j->r->rules;

	if (!is_failure(&j->b))
		return 1;
	if ((rules->notify_classes & NOTIFY_CLASS_2BOUNCE) == 0) {
		log_as("bounce", LOG_LEVEL_INFO, "%s: undeliverable notification discarded",
		       j->id_text);
		return 1;
	}
	collect_rcpts(j, true);
	return send_one(j, DSN_DOUBLE, sv_from(rules->double_bounce),
			sv_from(rules->p->bounce2_notice_recipient), false);
}

/* The sender; with VERP, as this recipient knows it (an entry has one then). */
static struct sv whom(const struct notify_job *j)
{
	return j->r->rules.p->disable_verp_bounces
		       ? j->env.sender
		       : verp_sender(&j->env, j->rcpts[0].rcpt, &j->r->load_arena);
}

/* 0: a notification is on its way; 1: nobody is to be told; negative: not now. */
static int notify(struct notify_job *j)
{
	int err;

	read_reasons(j);
	if (rules_is_double_bounce(&j->r->rules, j->env.sender)) {
		if (is_failure(&j->b))
			log_warn("%s: undeliverable postmaster notification discarded", j->id_text);
		return 1;
	}
	if (j->env.sender.len == 0)
		return double_bounce(j);
	collect_rcpts(j, false);
	if (j->rcpt_count == 0)
		return 1;
	err = j->told ? 0 : send_one(j, DSN_TO_SENDER, (struct sv){ "", 0 }, whom(j), false);
	if (err == 0) {
		j->told = true;
		send_copy(j);
	}
	return err;
}

/* The message the request is about. 1: it is damaged or gone, there is nobody to tell. All of it is
 * checked: a sender that is not what was written is somebody else. */
static int read_message(struct notify_job *j)
{
	struct rewrite *r = j->r;
	int err;

	buf_reset(&r->env_buf);
	arena_reset(&r->load_arena);
	err = spool_read_head(r->reader, j->id, j->b.ref.place, true, &j->hdr, &r->env_buf);
	if (err == 0)
		err = env_decode(buf_sv(&r->env_buf), RCPTS_MAX, &r->load_arena, &j->env);
	if (err != E_CORRUPT && err != E_NOENT && err != E_SYNTAX && err != E_EOF)
		return err;
	log_error("%s: no notification, the record is damaged: %s", j->id_text, err_str(err));
	if (err == E_NOENT)
		return 1;
	int kept = spool_quarantine(&r->dirs, j->id, j->b.ref.place);

	return kept == 0 ? 1 : kept;
}

/* The queue manager's line; it has no senders, so it is written here. */
static void log_expired(const struct notify_job *j)
{
	struct buf sender = BUF_INIT;

	mail_addr_quote(j->env.sender, &sender);
	log_as("qmgr", LOG_LEVEL_INFO, "%s: from=<%s>, status=%s, returned to sender", j->id_text,
	       buf_cstr(&sender), j->b.bounce == BOUNCE_FORCED ? "force-expired" : "expired");
	buf_fini(&sender);
}

/* The queue held the probe back, so nobody tried and no line says so. */
static void log_held_back(const struct notify_job *j, const struct dsn_rcpt *d)
{
	deliver_log(&(struct deliver_log_line){
		.program = "error",
		.qid = j->id,
		.to = d->rcpt->addr,
		.orig_to = d->rcpt->orig_addr,
		.relay = SV("none"),
		.delays = { .a_us = clock_now_wall().us - j->env.arrival_us },
		.dsn = { d->dsn[0], d->dsn[1], d->dsn[2] },
		.status = "undeliverable",
		.text = d->text });
}

static void tell_verifier(struct notify_job *j)
{
	static const uint8_t later[3] = { 4, 3, 0 };

	read_reasons(j);
	collect_rcpts(j, true);
	for (size_t i = 0; i < j->rcpt_count; i++) {
		struct dsn_rcpt *d = &j->rcpts[i];
		bool untried = j->b.bounce == BOUNCE_EXPIRED && j->outcome.reason_count == 0;

		if (untried) {
			memcpy(d->dsn, later, 3);
			d->text = SV("delivery temporarily suspended");
			log_held_back(j, d);
		}
		/* the text about a success is for reports, the reply is what Postfix keeps */
		probed_tell(j->r, &j->env, d->rcpt, d->dsn,
			    d->dsn[0] == 2 && d->diag.len > 0 ? d->diag : d->text);
	}
}

/* One try. As notify(). */
static int try_notice(struct waiting_notice *w)
{
	static struct notify_job j;

	j.r = w->r;
	j.b = w->b;
	j.told = w->told;
	j.id = qid_of_proto(j.b.ref.qid);
	qid_format(j.id, j.id_text);
	int err = read_message(&j);

	if (err == 0 && j.env.verify.len > 0) {
		tell_verifier(&j);
		return 1;
	}
	if (err == 0 && (j.b.bounce == BOUNCE_EXPIRED || j.b.bounce == BOUNCE_FORCED) &&
	    !w->logged) {
		log_expired(&j);
		w->logged = true;
	}
	if (err == 0)
		err = notify(&j);
	w->told = j.told;
	return err;
}

/* Until nothing is missing. */
static void run_notice(void *ctx)
{
	struct waiting_notice *w = ctx;
	struct rewrite *r = w->r;
	int err;

	for (;;) {
		bool told = w->told;

		if (w->memo != NULL)
			map_memo_enter(w->memo);
		err = try_notice(w);
		if (w->memo == NULL || !map_memo_leave()) {
			if (told)
				err = 0; /* this was about the copy, which answers for nothing */
			break;
		}
		if (tables_fetch(r->tables, w->memo, run_notice, w) != NULL)
			return;
	}
	if (err > 0)
		finished(r, &w->b);
	else if (err < 0)
		answer(r, &w->b, 1);
	map_memo_free(&w->memo);
	free(w);
	r->waiting_count--;
}

void notify_bounce(struct rewrite *r, const void *rec, size_t len)
{
	struct waiting_notice *w = xcalloc(1, sizeof(*w));

	if (len != sizeof(w->b))
		die("supervisor ring: bounce record of %zu bytes", len);
	memcpy(&w->b, rec, sizeof(w->b));
	if (w->b.bounce >= BOUNCE_KINDS)
		die("supervisor ring: bounce of kind %u", w->b.bounce);
	w->r = r;
	w->memo = map_remote_is_used() ? map_memo_new() : NULL;
	r->waiting_count++;
	run_notice(w);
}
