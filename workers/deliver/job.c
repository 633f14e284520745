/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Jobs: from the supervisor's record to the report. The results of the recipients are kept here;
 * each is logged when it is final, journaled once for the whole attempt, and reported after that.
 * Called by main.c (jobs come in) and conn.c (results). See workers/deliver/deliver.h.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/common/statusfilter.h"
#include "workers/deliver/convert.h"
#include "workers/deliver/deliver.h"
#include "workers/deliver/headflags.h"
#include "workers/mail/verp.h"
#include "workers/tables/client.h"

#define ARENA_CHUNK  4096
#define VERIFY_LIMIT (1u << 20) /* larger records are verified while they are sent */
#define SPARE_MAX    256u       /* finished jobs whose memory is kept for the next ones */
#define HEADER_SCAN  65536u
#define REASON_SPARE 4u          /* beyond two per recipient, as found and as filtered */
#define KEEP_CONTENT 16384u      /* content up to this size stays in memory with its job ... */
#define KEEP_ALL     (16u << 20) /* ... while all of it together is not more */

static struct job *job_new(struct deliver *d)
{
	struct job *j = d->spare_jobs;

	if (j != NULL) {
		struct buf env_bytes = j->env_bytes, content = j->content;
		struct arena arena = j->arena;

		d->spare_jobs = j->next;
		d->spare_count--;
		*j = (struct job){
			.d = d, .env_bytes = env_bytes, .content = content, .arena = arena
		};
		buf_reset(&j->env_bytes);
		arena_reset(&j->arena);
	} else {
		j = xcalloc(1, sizeof(*j));
		j->d = d;
		arena_init(&j->arena, ARENA_CHUNK, 0);
	}
	d->job_count++;
	return j;
}

void job_free(struct job *j)
{
	struct deliver *d = j->d;

	route_unref(&j->route);
	map_memo_free(&j->memo);
	d->job_count--;
	d->kept_bytes -= j->content.len;
	buf_reset(&j->content);
	if (d->spare_count == SPARE_MAX) {
		buf_fini(&j->env_bytes);
		buf_fini(&j->content);
		arena_fini(&j->arena);
		free(j);
		return;
	}
	if (j->env_bytes.cap > SMALL_CONTENT)
		buf_fini(&j->env_bytes);
	j->next = d->spare_jobs;
	d->spare_jobs = j;
	d->spare_count++;
}

/* ---- reading the record ---- */

/* True when the header of an SMTPUTF8 message holds bytes that need it. */
static bool header_is_utf8(struct job *j)
{
	struct buf head = BUF_INIT;
	size_t len = (size_t)u64_min(j->hdr.content_len, HEADER_SCAN);
	const char *end;
	bool found = true;

	if (spool_read_content(j->d->reader, &j->hdr, j->pj.ref.place, 0, len, &head) == 0) {
		end = memmem(buf_cstr(&head), head.len, "\r\n\r\n", 4);
		found = !str_is_ascii(buf_cstr(&head),
				      end != NULL ? (size_t)(end - head.p) : head.len);
	}
	buf_fini(&head);
	return found;
}

static bool any_address_is_utf8(const struct job *j)
{
	if (!str_is_ascii(j->env.sender.p, j->env.sender.len))
		return true;
	for (unsigned i = 0; i < j->rcpt_count; i++) {
		if (!str_is_ascii(j->client_rcpts[i].addr.p, j->client_rcpts[i].addr.len))
			return true;
	}
	return false;
}

/* The recipients of the mask. False when the record does not have one of them. */
static bool pick_rcpts(struct job *j)
{
	uint64_t mask = j->pj.ref.mask;
	unsigned n = 0;

	unsigned count = (unsigned)__builtin_popcountll(mask);

	j->reason_cap = 2 * count + REASON_SPARE;
	j->rcpts = arena_calloc(&j->arena, count * sizeof(*j->rcpts));
	j->client_rcpts = arena_calloc(&j->arena, count * sizeof(*j->client_rcpts));
	j->reasons = arena_calloc(&j->arena, j->reason_cap * sizeof(*j->reasons));
	for (unsigned bit = 0; bit < CLIENT_RCPT_MAX; bit++) {
		size_t at = (size_t)j->pj.ref.rcpt_first + bit;

		if ((mask >> bit & 1) == 0)
			continue;
		j->rcpts[n] = (struct job_rcpt){ .bit = (uint8_t)bit, .reason = -1 };
		if (at >= j->env.rcpt_count)
			return false;
		const struct env_rcpt *r = &j->env.rcpts[at];

		j->client_rcpts[n] = (struct client_rcpt){ .addr = r->addr,
							   .orig = r->orig_addr,
							   .orcpt = r->orcpt,
							   .notify = r->notify };
		n++;
	}
	j->rcpt_count = n;
	return n > 0;
}

/* What was read to verify it need not be read again to be sent. */
static void keep_content(struct job *j)
{
	struct deliver *d = j->d;
	struct sv content;

	if (j->hdr.content_len > KEEP_CONTENT || d->kept_bytes > KEEP_ALL ||
	    !spool_reader_has_content(d->reader, &j->hdr, j->pj.ref.place, &content))
		return;
	buf_add_sv(&j->content, content);
	d->kept_bytes += j->content.len;
}

static int read_record(struct job *j)
{
	const struct proto_ref *ref = &j->pj.ref;
	int err = spool_read_head(j->d->reader, j->qid, ref->place, ref->place.len <= VERIFY_LIMIT,
				  &j->hdr, &j->env_bytes);

	if (err == 0)
		keep_content(j);
	if (err == 0)
		err = env_decode(buf_sv(&j->env_bytes), j->hdr.rcpt_count, &j->arena, &j->env);
	if (err == 0 && !pick_rcpts(j))
		err = E_CORRUPT;
	return err;
}

/* A record that cannot be read: no recipient is known by name, all of the mask is deferred. The
 * rewrite worker that loads the entry again checks the record and quarantines it if need be. */
static bool report_unreadable(struct job *j)
{
	struct proto_result res = { .kind = PROTO_RESULT,
				    .health = JOB_HEALTH_NONE,
				    .word = j->pj.ref.word,
				    .entry = j->pj.ref.entry,
				    .deferred = j->pj.ref.mask };
	struct outcome_reason reason = { .mask = j->pj.ref.mask,
					 .dsn = { 4, 3, 0 },
					 .mta = SV("none"),
					 .text = SV("queue record cannot be read") };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = j->qid,
			     .rcpt_first = j->pj.ref.rcpt_first,
			     .mask = j->pj.ref.mask,
			     .warrant = j->pj.warrant,
			     .deferred = j->pj.ref.mask,
			     .when_us = clock_now_wall().us,
			     .transport = sv_from(j->t->name),
			     .nexthop = j->nexthop,
			     .reasons = &reason,
			     .reason_count = 1 };
	char id[QID_TEXT_SIZE];

	if (journal_append(j->d->journal, &o, &res.jref) == E_AGAIN)
		return false;
	log_warn("%s: record at %u/%u cannot be read: %s", qid_format(j->qid, id),
		 j->pj.ref.place.seg, j->pj.ref.place.off8, err_str(j->read_err));
	worker_send(j->d->w, &j->d->w->super, &res, sizeof(res));
	counter_add(j->d->counters, CTR_deliver_deferred,
		    (uint64_t)__builtin_popcountll(j->pj.ref.mask));
	job_free(j);
	return true;
}

/* ---- results ---- */

static struct deliver_delays delays_now(const struct job *j)
{
	int64_t now = clock_now_wall().us;
	int64_t start = j->start_us > 0 ? j->start_us : now;
	int64_t ready = j->ready_us > 0 ? j->ready_us : now;
	int64_t active = (int64_t)j->pj.active_us;
	struct deliver_delays t = { .a_us = active - j->env.arrival_us,
				    .b_us = start - active,
				    .c_us = ready - start,
				    .d_us = now - ready };

	return t;
}

static uint64_t us_to_ms(int64_t us)
{
	return us > 0 ? (uint64_t)us / 1000 : 0;
}

static void log_result(struct job *j, unsigned i, struct sv relay, unsigned conn_use,
		       const uint8_t dsn[3], const char *status, struct sv text)
{
	struct deliver_log_line line = { .program = j->t->program,
					 .qid = j->qid,
					 .to = j->client_rcpts[i].addr,
					 .orig_to = j->client_rcpts[i].orig,
					 .relay = relay,
					 .conn_use = conn_use,
					 .delays = delays_now(j),
					 .dsn = { dsn[0], dsn[1], dsn[2] },
					 .status = status,
					 .text = text };
	struct counters_shm *c = j->d->counters;

	deliver_log(&line);
	histogram_add(c, HIS_delay_a, us_to_ms(line.delays.a_us));
	histogram_add(c, HIS_delay_b, us_to_ms(line.delays.b_us));
	histogram_add(c, HIS_delay_c, us_to_ms(line.delays.c_us));
	histogram_add(c, HIS_delay_d, us_to_ms(line.delays.d_us));
}

static bool same_reason(const struct job_reason *r, struct sv relay, const struct client_fault *f)
{
	return memcmp(r->dsn, f->dsn, 3) == 0 && sv_eq(r->text, f->text) &&
	       sv_eq(r->relay, relay) && sv_eq(r->diag, f->diag);
}

static struct sv keep(struct job *j, struct sv s)
{
	if (s.len == 0)
		return (struct sv){ "", 0 };
	return (struct sv){ arena_strndup(&j->arena, s.p, s.len), s.len };
}

static int16_t reason_add(struct job *j, struct sv relay, const struct client_fault *f)
{
	for (unsigned i = j->reason_count; i-- > 0;) {
		if (same_reason(&j->reasons[i], relay, f))
			return (int16_t)i;
	}
	if (j->reason_count == j->reason_cap) /* many hosts, many texts: the newest tells enough */
		j->reason_count--;
	struct job_reason *r = &j->reasons[j->reason_count];

	memcpy(r->dsn, f->dsn, 3);
	r->relay = keep(j, relay);
	r->text = keep(j, f->text);
	r->diag = keep(j, f->diag);
	return (int16_t)j->reason_count++;
}

/* What a report on success says: to whom the message was handed, and the answer. With the name of a
 * host it says "relayed", without one "delivered". */
static void reason_add_sent(struct job *j, struct job_rcpt *r, struct sv relay,
			    const uint8_t dsn[3], struct sv reply)
{
	struct buf text = BUF_INIT;
	struct client_fault f = { .diag = reply };

	buf_printf(&text, "delivery via %.*s: ", (int)relay.len, relay.p);
	buf_add(&text, reply.p, reply.len);
	f.text = buf_sv(&text);
	memcpy(f.dsn, dsn, 3);
	r->reason = reason_add(j, j->t->assume_final ? SV("none") : relay, &f);
	buf_fini(&text);
}

/* Is the sender to hear of a success, whatever the next host does about DSN? */
static bool is_reported(const struct job *j, unsigned i)
{
	return (j->env.flags & (ENVF_PROBE | ENVF_REPORT)) != 0 ||
	       env_tells_cleared(j->pj.msg_flags, j->client_rcpts[i].notify);
}

void job_rcpt_sent(struct job *j, unsigned tx_rcpt, struct sv relay, unsigned conn_use,
		   struct sv reply, bool dsn_relayed)
{
	static const uint8_t plain[3] = { 2, 0, 0 };
	unsigned i = j->tx_rcpt[tx_rcpt];
	struct job_rcpt *r = &j->rcpts[i];
	struct buf mem = BUF_INIT;
	uint8_t dsn[3];
	struct sv code = { reply.p, 0 };

	r->state = JOB_SENT;
	r->report = (!dsn_relayed && (j->client_rcpts[i].notify & NOTIFY_SUCCESS) != 0) ||
		    is_reported(j, i);
	/* "250 2.1.5 text" */
	if (reply.len > 4)
		code = (struct sv){ reply.p + 4, reply.len - 4 };
	if (smtp_dsn_parse(code, dsn) == 0 || dsn[0] != 2)
		memcpy(dsn, plain, 3);
	status_filter_apply(j->t->status, dsn, &reply, &mem);
	if (r->report)
		reason_add_sent(j, r, relay, dsn, reply);
	log_result(j, i, relay, conn_use, dsn,
		   (j->env.flags & ENVF_PROBE) != 0 ? "deliverable" : "sent", reply);
	buf_fini(&mem);
}

/* What a probe found out, also a failure, is its success: it goes into the report. */
static void probe_failed(struct job *j, unsigned i, struct sv relay, unsigned conn_use,
			 const struct client_fault *f)
{
	j->rcpts[i].state = JOB_SENT;
	j->rcpts[i].report = true;
	j->rcpts[i].reason = reason_add(j, relay, f);
	log_result(j, i, relay, conn_use, f->dsn, "undeliverable", f->text);
}

static struct sv with_prefix(struct job *j, const char *prefix, struct sv text)
{
	size_t n = strlen(prefix);
	char *p = arena_alloc(&j->arena, n + text.len);

	if (p == NULL)
		return (struct sv){ "", 0 };
	memcpy(p, prefix, n);
	memcpy(p + n, text.p, text.len);
	return (struct sv){ p, n + text.len };
}

/* Where it comes from, for XFORWARD. */
static void set_origin(struct job *j)
{
	const struct envelope *e = &j->env;
	char id[QID_TEXT_SIZE];
	bool local = (e->flags & ENVF_LOCAL_CLIENT) != 0;
	struct sv ident = e->log_ident;

	if (ident.len == 0) {
		const char *own = arena_strdup(&j->arena, qid_format(j->qid, id));

		ident = own != NULL ? sv_from(own) : (struct sv){ "", 0 };
	}
	struct sv *o = j->tx.origin;

	o[ORIGIN_NAME] = e->client_name;
	o[ORIGIN_ADDR] = e->client_addr;
	if (e->client_addr.len > 0 && memchr(e->client_addr.p, ':', e->client_addr.len) != NULL)
		o[ORIGIN_ADDR] = with_prefix(j, "IPv6:", e->client_addr);
	o[ORIGIN_PORT] = e->client_port;
	o[ORIGIN_PROTO] = e->proto;
	o[ORIGIN_HELO] = e->helo;
	o[ORIGIN_IDENT] = ident;
	o[ORIGIN_SOURCE] = local ? SV("LOCAL") : SV("REMOTE");
}

static void rcpt_fault(struct job *j, unsigned i, struct sv relay, unsigned conn_use,
		       const struct client_fault *f)
{
	struct job_rcpt *r = &j->rcpts[i];
	struct client_fault result = *f;
	struct buf mem = BUF_INIT;
	const char *status;

	if (!f->permanent) { /* another host may do better */
		r->reason = reason_add(j, relay, f);
		return;
	}
	if ((j->env.flags & ENVF_PROBE) != 0) {
		probe_failed(j, i, relay, conn_use, f);
		return;
	}
	status = status_filter_apply(j->t->status, result.dsn, &result.text, &mem);
	r->state = result.dsn[0] == 5 ? JOB_BOUNCED : JOB_DEFERRED;
	r->reason = reason_add(j, relay, &result);
	log_result(j, i, relay, conn_use, result.dsn, status, result.text);
	buf_fini(&mem);
}

void job_rcpt_failed(struct job *j, unsigned tx_rcpt, struct sv relay, unsigned conn_use,
		     const struct client_fault *f)
{
	rcpt_fault(j, j->tx_rcpt[tx_rcpt], relay, conn_use, f);
}

void job_failed(struct job *j, struct sv relay, const struct client_fault *f)
{
	for (unsigned i = 0; i < j->rcpt_count; i++) {
		if (j->rcpts[i].state != JOB_TODO)
			continue;
		/* a host that said "later" outweighs a name that does not exist */
		if (f->permanent && f->diag.len == 0 && j->rcpts[i].reason >= 0 &&
		    j->reasons[j->rcpts[i].reason].dsn[0] == 4)
			continue;
		rcpt_fault(j, i, relay, 1, f);
	}
}

bool job_has_todo(const struct job *j)
{
	for (unsigned i = 0; i < j->rcpt_count; i++) {
		if (j->rcpts[i].state == JOB_TODO)
			return true;
	}
	return false;
}

bool job_has_more_hosts(const struct job *j)
{
	if (j->dest == NULL || j->damaged)
		return false;
	if (j->route == NULL)
		return j->alt < j->dest->nh.count;
	return j->alt + 1 < j->dest->nh.count ||
	       (j->pos < j->order_count &&
		(j->t->mx_session_limit == 0 || j->sessions < j->t->mx_session_limit));
}

/* May it go out as it is, without dots doubled or a line end supplied? Only where BDAT is used. */
static bool content_is_plain(const struct job *j)
{
	const struct buf *b = &j->content;
	bool as_it_is = j->t->convert == NULL ||
			(!convert_is_needed(j->t->convert, false, j->env.longest) &&
			 (j->t->head_flags & HEAD_LINES) == 0);

	return j->t->client.in_flight > 1 && as_it_is && b->len >= 2 &&
	       b->len == j->hdr.content_len && b->p[0] != '.' &&
	       memcmp(b->p + b->len - 2, "\r\n", 2) == 0 &&
	       memmem(b->p, b->len, "\r\n.", 3) == NULL;
}

void job_tx_prepare(struct job *j)
{
	struct client_rcpt *list = j->client_rcpts;
	unsigned n = 0;

	/* a second attempt has fewer recipients: the engine wants them in a row */
	for (unsigned i = 0; i < j->rcpt_count; i++)
		n += j->rcpts[i].state == JOB_TODO;
	if (n < j->rcpt_count)
		list = arena_calloc(&j->arena, n * sizeof(*list));
	n = 0;
	for (unsigned i = 0; i < j->rcpt_count; i++) {
		if (j->rcpts[i].state != JOB_TODO)
			continue;
		j->tx_rcpt[n] = (uint8_t)i;
		list[n++] = j->client_rcpts[i];
	}
	j->tx = (struct client_tx){ .ctx = j,
				    .sender = j->sender,
				    .envid = j->env.envid,
				    .ret = j->env.ret,
				    .is_8bit = j->env.body == BODY_8BIT,
				    .is_7bit = j->env.body == BODY_7BIT,
				    .may_downgrade =
					    j->t->convert != NULL && j->t->convert->downgrade,
				    .probe = (j->env.flags & ENVF_PROBE) != 0,
				    .plain = content_is_plain(j),
				    .size = j->hdr.content_len,
				    .content_len = j->hdr.content_len,
				    .rcpt_count = n,
				    .rcpts = list };
	if (j->t->send_xforward)
		set_origin(j);
	j->tx.needs_utf8 = any_address_is_utf8(j) ||
			   ((j->env.flags & ENVF_SMTPUTF8) != 0 && header_is_utf8(j));
}

int job_content_fd(struct job *j, int *fd_r, uint64_t *pos_r)
{
	*pos_r = spool_content_pos(&j->hdr, j->pj.ref.place);
	return spool_reader_fd(j->d->reader, j->pj.ref.place.seg, fd_r);
}

/* Kept as evidence; the rewrite worker that loads the entry again sees that, checks for itself, and
 * has the message dropped. */
static void note_damage(struct job *j)
{
	char id[QID_TEXT_SIZE];

	j->damaged = true;
	log_error("%s: record at %u/%u is damaged: its transmission was broken off; saved to "
		  "corrupt/%s",
		  qid_format(j->qid, id), j->pj.ref.place.seg, j->pj.ref.place.off8, id);
	if (spool_quarantine(&j->d->dirs, j->qid, j->pj.ref.place) < 0)
		log_warn("%s: cannot save the damaged record", id);
}

int job_check_content(struct job *j, uint64_t off, const char *data, size_t len)
{
	int err;

	if (j->pj.ref.place.len <= VERIFY_LIMIT)
		return 0; /* was verified by read_record() */
	err = spool_check_content(j->d->reader, &j->hdr, j->pj.ref.place, off, data, len,
				  &j->check);
	if (err == E_CORRUPT)
		note_damage(j);
	return err;
}

/* ---- begin and end ---- */

static void hold(struct job *j)
{
	j->next = NULL;
	*j->d->held_tail = j;
	j->d->held_tail = &j->next;
}

static struct outcome started_outcome(const struct job *j)
{
	return (struct outcome){ .kind = OUTCOME_STARTED,
				 .qid = j->qid,
				 .rcpt_first = j->pj.ref.rcpt_first,
				 .mask = j->pj.ref.mask,
				 .warrant = j->pj.warrant,
				 .when_us = clock_now_wall().us,
				 .transport = sv_from(j->t->name),
				 .nexthop = j->nexthop };
}

void job_withdraw(struct job *j)
{
	struct outcome o = started_outcome(j);
	struct proto_jref ref;

	o.kind = OUTCOME_WITHDRAWN;
	if (journal_append(j->d->journal, &o, &ref) != 0)
		log_warn("outcome cannot be journaled: a delivery that was not made will be in "
			 "doubt");
	job_free(j);
}

/* Journaled when it comes, not when its turn comes: most of it is on disk by then. */
static bool job_begin(struct job *j)
{
	struct outcome o = started_outcome(j);
	struct proto_jref ref;
	int err;

	if (j->started)
		return true;
	err = journal_append(j->d->journal, &o, &ref);
	if (err == E_AGAIN)
		return false;
	j->started = true;
	j->started_at = err == 0 ? journal_position(j->d->journal) : 0;
	return true;
}

/* On a disk that is full mail goes on: it is what makes room. On one that fails it does not, when
 * in_doubt_sync says so. */
static void begin_again(struct job *j)
{
	struct outcome o = started_outcome(j);
	struct proto_jref ref;
	int err = journal_append(j->d->journal, &o, &ref);

	if (err == 0)
		j->started_at = journal_position(j->d->journal);
	if (err != E_NOSPC)
		return;
	j->unrecorded = true;
	counter_add(j->d->counters, CTR_deliver_unrecorded, 1);
}

bool job_may_end(struct job *j)
{
	int has = E_IO;

	if (j->started_at != 0)
		has = journal_has(j->d->journal, j->started_at, j->d->record_sync);
	if (has == E_IO && !j->unrecorded && j->d->record_sync) {
		j->started_at = 0;
		j->started = true;
		begin_again(j);
	}
	return has == 1 || j->unrecorded || (has == E_IO && !j->d->record_sync);
}

/* By reason, the recipients it stands for: those not delivered, and those to be reported. */
static size_t collect_reasons(const struct job *j, struct outcome_reason *out)
{
	size_t n = 0;

	for (unsigned k = 0; k < j->reason_count && n < CLIENT_RCPT_MAX; k++) {
		uint64_t mask = 0;

		for (unsigned i = 0; i < j->rcpt_count; i++) {
			const struct job_rcpt *r = &j->rcpts[i];

			if (r->reason == (int)k && (r->state != JOB_SENT || r->report))
				mask |= (uint64_t)1 << r->bit;
		}
		if (mask == 0)
			continue;
		out[n] = (struct outcome_reason){ .mask = mask,
						  .mta = j->reasons[k].relay,
						  .text = j->reasons[k].text,
						  .diag = j->reasons[k].diag };
		memcpy(out[n++].dsn, j->reasons[k].dsn, 3);
	}
	return n;
}

static void count_results(struct job *j, const struct proto_result *r)
{
	struct counters_shm *c = j->d->counters;

	counter_add(c, CTR_deliver_sent, (uint64_t)__builtin_popcountll(r->sent));
	counter_add(c, j->passed ? CTR_deliver_passed : CTR_deliver_deferred,
		    (uint64_t)__builtin_popcountll(r->deferred));
	counter_add(c, CTR_deliver_bounced, (uint64_t)__builtin_popcountll(r->bounced));
}

/* Who was not decided is deferred; logged here because only now it is final. */
static void defer_rest(struct job *j)
{
	static const struct client_fault none = { .dsn = { 4, 3, 0 },
						  .text = { "delivery was not attempted", 26 } };
	struct buf mem = BUF_INIT;

	for (unsigned i = 0; i < j->rcpt_count; i++) {
		struct job_rcpt *r = &j->rcpts[i];

		if (r->state != JOB_TODO)
			continue;
		if (r->reason < 0)
			r->reason = reason_add(j, SV("none"), &none);
		const struct job_reason *why = &j->reasons[r->reason];
		struct client_fault result = { .dsn = { why->dsn[0], why->dsn[1], why->dsn[2] },
					       .text = why->text,
					       .diag = why->diag };

		if ((j->env.flags & ENVF_PROBE) != 0) {
			probe_failed(j, i, why->relay, 1, &result);
			continue;
		}
		const char *status =
			status_filter_apply(j->t->status, result.dsn, &result.text, &mem);

		r->state = result.dsn[0] == 5 ? JOB_BOUNCED : JOB_DEFERRED;
		log_result(j, i, why->relay, 1, result.dsn, status, result.text);
		r->reason = reason_add(j, why->relay, &result);
	}
	buf_fini(&mem);
}

/* False: the journal has no file, try again. */
static bool report(struct job *j)
{
	struct outcome_reason reasons[CLIENT_RCPT_MAX];
	struct proto_result res = { .kind = PROTO_RESULT,
				    .word = j->pj.ref.word,
				    .entry = j->pj.ref.entry };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = j->qid,
			     .rcpt_first = j->pj.ref.rcpt_first,
			     .mask = j->pj.ref.mask,
			     .warrant = j->pj.warrant,
			     .when_us = clock_now_wall().us,
			     .transport = sv_from(j->t->name),
			     .nexthop = j->nexthop,
			     .reasons = reasons };
	int err;

	for (unsigned i = 0; i < j->rcpt_count; i++) {
		uint64_t bit = (uint64_t)1 << j->rcpts[i].bit;

		if (j->rcpts[i].state == JOB_SENT)
			res.sent |= bit;
		else if (j->rcpts[i].state == JOB_BOUNCED)
			res.bounced |= bit;
		else
			res.deferred |= bit;
		if (j->rcpts[i].report)
			res.report |= bit;
	}
	ASSERT((res.sent | res.deferred | res.bounced) == j->pj.ref.mask);
	res.health = j->passed                            ? JOB_HEALTH_PASS
		     : j->site_failed && !j->handshake_ok ? JOB_HEALTH_SITE
							  : JOB_HEALTH_OK;
	o.sent = res.sent;
	o.deferred = res.deferred;
	o.bounced = res.bounced;
	o.report = res.report;
	o.reason_count = collect_reasons(j, reasons);
	err = journal_append(j->d->journal, &o, &res.jref);
	if (err == E_AGAIN)
		return false;
	if (err != 0)
		log_error("outcome cannot be journaled: %s", err_str(err));
	worker_send(j->d->w, &j->d->w->super, &res, sizeof(res));
	count_results(j, &res);
	job_free(j);
	return true;
}

void job_finish(struct job *j)
{
	defer_rest(j);
	j->finished = true;
	j->dest = NULL;
	j->conn = NULL;
	route_unref(&j->route);
	if (!report(j))
		hold(j);
}

/* ---- transports without a network ---- */

/* error: "5.1.2 text" as next hop; retry: the same, deferred. */
static void refuse(struct job *j)
{
	struct client_fault f = { .permanent = !j->t->retry,
				  .dsn = { j->t->retry ? 4 : 5, 0, 0 },
				  .text = j->nexthop };
	uint8_t dsn[3];
	size_t len = smtp_dsn_parse(j->nexthop, dsn);

	if (len > 0) {
		memcpy(f.dsn, dsn, 3);
		f.permanent = dsn[0] == 5 && !j->t->retry;
		f.dsn[0] = f.permanent ? 5 : 4;
		f.text = sv_trim((struct sv){ j->nexthop.p + len, j->nexthop.len - len });
	}
	if (f.text.len == 0)
		f.text = SV("no delivery to this destination");
	job_failed(j, SV("none"), &f);
	job_finish(j);
}

static void discard(struct job *j)
{
	static const uint8_t dsn[3] = { 2, 0, 0 };
	struct sv text = j->nexthop.len > 0 ? j->nexthop : SV("transport discard");

	for (unsigned i = 0; i < j->rcpt_count; i++) {
		j->rcpts[i].state = JOB_SENT;
		j->rcpts[i].report =
			(j->client_rcpts[i].notify & NOTIFY_SUCCESS) != 0 || is_reported(j, i);
		log_result(j, i, SV("none"), 1, dsn,
			   (j->env.flags & ENVF_PROBE) != 0 ? "deliverable" : "sent", text);
	}
	job_finish(j);
}

static void refuse_text(struct job *j, bool permanent, unsigned subject, unsigned detail,
			const char *text)
{
	struct client_fault f = { .permanent = permanent,
				  .dsn = { permanent ? 5 : 4, (uint8_t)subject, (uint8_t)detail },
				  .text = sv_from(text) };

	job_failed(j, SV("none"), &f);
	job_finish(j);
}

/* Sender and recipients as the other side is to know them. */
static bool map_envelope(struct job *j)
{
	struct generic *g = j->t->convert != NULL ? j->t->convert->generic : NULL;

	j->sender = j->env.sender;
	if (j->env.verp.len > 0)
		j->sender = verp_sender(
			&j->env, &j->env.rcpts[j->pj.ref.rcpt_first + j->rcpts[0].bit], &j->arena);
	if (g == NULL)
		return true;
	if (generic_apply(g, j->sender, &j->arena, &j->sender) < 0)
		return false;
	for (unsigned i = 0; i < j->rcpt_count; i++) {
		struct client_rcpt *r = &j->client_rcpts[i];

		if (generic_apply(g, r->addr, &j->arena, &r->to) < 0)
			return false;
	}
	return true;
}

/* Looks up the addresses of the header. What cannot be read is found when it is sent. */
static void ask_for_header(struct job *j)
{
	struct buf scratch = BUF_INIT;
	struct convert cv = { 0 };
	bool more = true;

	convert_ask_begin(&cv, j->t->convert, &scratch);
	for (uint64_t at = 0, pos; more && at < j->hdr.content_len;) {
		struct sv piece = { j->d->io,
				    (size_t)u64_min(j->hdr.content_len - at, sizeof(j->d->io)) };
		int fd;

		if (j->content.len > 0)
			piece.p = j->content.p + at;
		else if (job_content_fd(j, &fd, &pos) != 0 ||
			 io_pread_all(fd, j->d->io, piece.len, (off_t)(pos + at)) != 0)
			break;
		more = convert_ask(&cv, piece);
		at += piece.len;
	}
	convert_fini(&cv);
	buf_fini(&scratch);
}

static void answered(void *ctx);

/* False: remote tables are asked, and answered() comes. */
static bool answers_are_there(struct job *j)
{
	bool missing = j->t->convert != NULL && j->t->convert->remote;

	if (missing && j->memo == NULL)
		j->memo = map_memo_new();
	while (missing) {
		map_memo_enter(j->memo);
		map_envelope(j);
		ask_for_header(j);
		missing = map_memo_leave();
		if (!missing)
			break;
		j->fetch = tables_fetch(j->d->tables, j->memo, answered, j);
		if (j->fetch != NULL)
			return false;
	}
	return true;
}

static bool envelope_is_mapped(struct job *j)
{
	bool mapped;

	if (j->memo != NULL)
		map_memo_enter(j->memo);
	mapped = map_envelope(j);
	if (j->memo != NULL)
		map_memo_leave();
	return mapped;
}

/* The record is there; now the transport decides. */
static void dispatch(struct job *j)
{
	if (j->read_err != 0) {
		if (!report_unreadable(j))
			hold(j);
		return;
	}
	if (j->t->kind == TRANSPORT_ERROR)
		refuse(j);
	else if (j->t->kind == TRANSPORT_DISCARD)
		discard(j);
	else if (j->t->kind != TRANSPORT_SMTP && j->t->kind != TRANSPORT_LMTP)
		refuse_text(j, false, 3, 5, "transport is not for this kind of worker");
	else if (job_is_loop(j))
		refuse_text(j, true, 4, 6,
			    arena_printf(&j->arena, "mail forwarding loop for %.*s",
					 (int)j->client_rcpts[0].addr.len,
					 j->client_rcpts[0].addr.p));
	else if (!answers_are_there(j))
		return;
	else if (!envelope_is_mapped(j))
		refuse_text(j, false, 3, 0, "address mapping table lookup error");
	else if (!job_begin(j))
		hold(j);
	else if (dest_add(j->d, j) != 0)
		refuse_text(j, true, 4, 4, "malformed next-hop destination");
}

static void answered(void *ctx)
{
	struct job *j = ctx;

	j->fetch = NULL;
	dispatch(j);
}

void job_retry_held(struct deliver *d)
{
	struct job *list = d->held_first;

	d->held_first = NULL;
	d->held_tail = &d->held_first;
	while (list != NULL) {
		struct job *j = list;

		list = j->next;
		if (!j->finished)
			dispatch(j);
		else if (!report(j))
			hold(j);
	}
}

void job_drop_unbegun(struct deliver *d)
{
	struct sv key;
	size_t pos = 0;
	void *dest;

	while (strmap_next(d->dests, &pos, &key, &dest))
		dest_drop_unbegun(dest);
}

void job_take(struct deliver *d, const struct proto_job *pj, struct sv nexthop)
{
	struct job *j = job_new(d);

	j->pj = *pj;
	j->qid = (struct qid){ pj->ref.qid.time_us, pj->ref.qid.life };
	j->nexthop = keep(j, nexthop);
	j->t = &d->tconfs[pj->transport];
	j->next = NULL;
	*d->new_tail = j;
	d->new_tail = &j->next;
	counter_add(d->counters, CTR_deliver_jobs, 1);
}

/* Messages of one commit stand side by side and come together. Reads the records of this job and of
 * those behind it as long as most of what is read is theirs; returns the first whose record is not
 * there. */
static struct job *read_ahead(struct job *first)
{
	uint64_t from = UINT64_MAX, to = 0, used = 0;
	uint32_t seg = first->pj.ref.place.seg;
	unsigned n = 0;
	struct job *j;

	for (j = first; j != NULL && j->pj.ref.place.seg == seg; j = j->next) {
		uint64_t off = (uint64_t)j->pj.ref.place.off8 * SPOOL_ALIGN;
		uint64_t low = u64_min(from, off), high = u64_max(to, off + j->pj.ref.place.len);

		used += j->pj.ref.place.len;
		if (high - low > SPOOL_AHEAD_MAX || (high - low) / 2 > used)
			break;
		from = low;
		to = high;
		n++;
	}
	if (n > 1)
		spool_reader_ahead(first->d->reader, seg, from, (size_t)(to - from));
	return n == 0 ? first->next : j;
}

void job_start_taken(struct deliver *d)
{
	struct job *list = d->new_first, *not_there = list;

	d->new_first = NULL;
	d->new_tail = &d->new_first;
	while (list != NULL) {
		struct job *j = list;

		list = j->next;
		if (j == not_there)
			not_there = read_ahead(j);
		j->read_err = read_record(j);
		dispatch(j);
	}
}
