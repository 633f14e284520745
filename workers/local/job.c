/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delivery jobs; see workers/local/job.h. Called by local.c. */
#include "workers/local/job.h"

#include <string.h>
#include <sys/mman.h>

#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/common/deliverlog.h"
#include "workers/common/statusfilter.h"
#include "workers/local/content.h"
#include "workers/local/job_int.h"
#include "workers/local/local_expand.h"
#include "workers/local/mailcopy.h"
#include "workers/mail/verp.h"

#define RCPTS_MAX    200000u
#define READ_CHUNK   (256u << 10)
#define ARENA_CHUNK  (8u << 10)
#define ARENA_LIMIT  (64u << 20)
#define HEADERS_SCAN (64u << 10) /* looked through for Delivered-To */

static void job_free(struct job *j)
{
	struct job **at = &j->l->jobs;

	while (*at != j)
		at = &(*at)->next;
	*at = j->next;
	if (j->l->jobs_tail == &j->next)
		j->l->jobs_tail = at;
	j->l->job_count--;
	for (size_t i = 0; i < j->rcpt_count; i++)
		buf_fini(&j->rcpts[i].header);
	free(j->rcpts);
	io_close(&j->content_fd);
	io_close(&j->pipe.input_fd);
	io_close(&j->mbox_fd);
	buf_fini(&j->env_copy);
	arena_fini(&j->arena);
	free(j);
}

/* ---- reporting ---- */

struct masks {
	uint64_t sent, deferred, bounced, report;
	bool unsure;
};

static struct masks job_masks(const struct job *j)
{
	struct masks m = { 0 };

	for (size_t i = 0; i < j->rcpt_count; i++) {
		const struct rcpt_job *r = &j->rcpts[i];
		uint64_t bit = UINT64_C(1) << r->bit;

		/* what a probe finds out is what it was sent for */
		if ((j->env.flags & ENVF_PROBE) != 0 || r->verdict.dsn[0] == 2)
			m.sent |= bit;
		else if (r->verdict.dsn[0] == 5)
			m.bounced |= bit;
		else
			m.deferred |= bit;
		m.unsure |= (m.deferred & bit) != 0 && r->verdict.unsure != 0;
		if ((j->env.flags & ENVF_PROBE) != 0 ||
		    (r->verdict.dsn[0] == 2 &&
		     ((r->rcpt->notify & NOTIFY_SUCCESS && !r->verdict.passed) != 0 ||
		      (j->env.flags & ENVF_REPORT) != 0 ||
		      env_tells_cleared(j->p.msg_flags, r->rcpt->notify))))
			m.report |= bit;
	}
	/* bits past the recipients of the record: nothing can be done for them */
	m.bounced |= j->p.ref.mask & ~(m.sent | m.deferred | m.bounced);
	return m;
}

/* Recipients with the same reason share one. Those sent need none, unless they are to be reported.
 */
static size_t collect_reasons(const struct job *j, const struct masks *m,
			      struct outcome_reason *out)
{
	size_t count = 0;

	for (size_t i = 0; i < j->rcpt_count; i++) {
		const struct rcpt_job *r = &j->rcpts[i];
		uint64_t bit = UINT64_C(1) << r->bit;
		size_t k = 0;

		if ((m->sent & bit) != 0 && (m->report & bit) == 0)
			continue;
		while (k < count && (memcmp(out[k].dsn, r->verdict.dsn, 3) != 0 ||
				     !sv_eq(out[k].text, r->verdict.text)))
			k++;
		if (k == count) {
			out[count] = (struct outcome_reason){ .mta = sv_from(r->verdict.mta),
							      .text = r->verdict.text,
							      .diag = r->verdict.diag };
			memcpy(out[count].dsn, r->verdict.dsn, 3);
			count++;
		}
		out[k].mask |= bit;
	}
	return count;
}

static int journal_result(struct job *j, const struct masks *m, struct proto_jref *ref_r)
{
	static struct outcome_reason reasons[PROTO_ENTRY_SPAN];
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = j->id,
			     .rcpt_first = j->p.ref.rcpt_first,
			     .mask = j->p.ref.mask,
			     .warrant = j->p.warrant,
			     .sent = m->sent,
			     .deferred = m->deferred,
			     .bounced = m->bounced,
			     .report = m->report,
			     .unsure = m->unsure,
			     .when_us = clock_now_wall().us,
			     .transport = sv_from(j->transport != NULL ? j->transport->name : ""),
			     .nexthop = sv_from(j->nexthop),
			     .reasons = reasons };

	o.reason_count = collect_reasons(j, m, reasons);
	return journal_append(j->l->journal, &o, ref_r);
}

static void count_masks(struct local *l, const struct masks *m)
{
	counter_add(l->w->counters, CTR_deliver_sent, (uint64_t)__builtin_popcountll(m->sent));
	counter_add(l->w->counters, CTR_deliver_deferred,
		    (uint64_t)__builtin_popcountll(m->deferred));
	counter_add(l->w->counters, CTR_deliver_bounced,
		    (uint64_t)__builtin_popcountll(m->bounced));
}

void rcpt_log(const struct rcpt_job *r, struct sv to, const uint8_t dsn[3], struct sv text,
	      const char *status)
{
	const struct job *j = r->job;
	int64_t active = (int64_t)j->p.active_us;
	struct deliver_log_line line = {
		.program = j->transport->log_name,
		.qid = j->id,
		.to = to,
		.orig_to = r->rcpt->orig_addr.len > 0 ? r->rcpt->orig_addr : r->rcpt->addr,
		.relay = sv_from(j->transport->name),
		.delays = { .a_us = active - j->env.arrival_us,
			    .b_us = j->start_us - active,
			    .d_us = clock_now_wall().us - j->start_us },
		.dsn = { dsn[0], dsn[1], dsn[2] },
		.status = status,
		.text = text,
	};

	deliver_log(&line);
	/* the clock may have been set back meanwhile */
	histogram_add(j->l->w->counters, HIS_delay_d,
		      line.delays.d_us > 0 ? (uint64_t)line.delays.d_us / 1000 : 0);
}

/* Everything is known: journal, then report. False: the journal has no file yet. */
static bool job_report(struct job *j)
{
	struct local *l = j->l;
	struct masks m = job_masks(j);
	struct proto_result r = { .kind = PROTO_RESULT,
				  .health = JOB_HEALTH_OK,
				  .word = j->p.ref.word,
				  .entry = j->p.ref.entry,
				  .unsure = m.unsure,
				  .sent = m.sent,
				  .deferred = m.deferred,
				  .bounced = m.bounced,
				  .report = m.report };
	int err = journal_result(j, &m, &r.jref);

	if (err == E_AGAIN)
		return false;
	if (err < 0)
		log_error("outcome of a delivery is not journaled: %s", err_str(err));
	count_masks(l, &m);
	worker_send(l->w, &l->w->super, &r, sizeof(r));
	job_free(j);
	return true;
}

const char *rcpt_filter(const struct rcpt_job *r, uint8_t dsn[3], struct sv *text)
{
	struct job *j = r->job;
	struct sv was = *text;
	struct buf mem = BUF_INIT;
	const char *status;

	if ((j->env.flags & ENVF_PROBE) != 0)
		return dsn[0] == 2 ? "deliverable" : "undeliverable";
	status = status_filter_apply(j->l->status[j->p.transport], dsn, text, &mem);
	if (text->p != was.p) {
		const char *copy = arena_strndup(&j->arena, text->p, text->len);

		*text = copy != NULL ? (struct sv){ copy, text->len } : was;
	}
	buf_fini(&mem);
	return status;
}

void job_finish(struct job *j)
{
	/* local(8) writes a line for each thing that a recipient becomes, when it is done */
	bool told = j->transport == NULL || j->expanded;

	for (size_t i = 0; i < j->rcpt_count && !told; i++) {
		struct rcpt_job *r = &j->rcpts[i];
		const char *status = rcpt_filter(r, r->verdict.dsn, &r->verdict.text);

		rcpt_log(r, r->rcpt->addr, r->verdict.dsn, r->verdict.text, status);
	}
	j->finished = true;
	job_report(j);
}

/* ---- content ---- */

/* The content in mailbox form, in a memory file that children read. */
static int make_content(struct job *j)
{
	struct local *l = j->l;
	struct content_conv conv = { 0 };
	int err = 0;

	j->content_fd = memfd_create("mail", MFD_CLOEXEC);
	if (j->content_fd < 0)
		return err_errno();
	for (uint64_t off = 0; err == 0 && off < j->hdr.content_len; off += READ_CHUNK) {
		size_t n = (size_t)u64_min(READ_CHUNK, j->hdr.content_len - off);
		struct sv text;

		buf_reset(&l->content_buf);
		buf_add_c(&l->content_buf, ' '); /* room for a CR that was held back */
		err = spool_read_content(l->reader, &j->hdr, j->p.ref.place, off, n,
					 &l->content_buf);
		if (err != 0)
			break;
		text = content_convert(&conv, l->content_buf.p + 1, l->content_buf.len - 1);
		err = io_write_all(j->content_fd, text.p, text.len);
		j->content_len += text.len;
	}
	return err;
}

bool job_is_loop(struct job *j, struct sv addr)
{
	struct buf *b = &j->l->content_buf;
	size_t n = (size_t)u64_min(j->content_len, HEADERS_SCAN);

	buf_reset(b);
	if (buf_reserve(b, n) == NULL || io_pread_all(j->content_fd, b->p, n, 0) != 0)
		return false;
	b->len = n;
	return content_has_delivered_to(buf_sv(b), addr);
}

void rcpt_make_header(const struct rcpt_job *r, bool is_mbox, struct sv delivered, struct buf *out)
{
	const struct job *j = r->job;
	const unsigned maildir = COPY_RETURN_PATH | COPY_ORIGINAL_TO | COPY_DELIVERED_TO;
	struct copy_head h = { .flags = is_mbox ? COPY_MAILBOX : maildir,
			       .eol = SV("\n"),
			       .sender = j->env.sender,
			       .null_from = SV("MAILER-DAEMON"),
			       .original_to = r->rcpt->orig_addr.len > 0 ? r->rcpt->orig_addr
									 : r->rcpt->addr,
			       .delivered = delivered,
			       .now_s = clock_now_wall().us / 1000000 };

	if (delivered.len == 0)
		h.flags &= ~(unsigned)COPY_DELIVERED_TO;
	if (!j->transport->params->enable_original_recipient)
		h.flags &= ~(unsigned)COPY_ORIGINAL_TO;
	copy_add_head(&h, out);
}

int job_copy_body(struct job *j, unsigned flags, struct sv eol, int fd, uint64_t *len_r)
{
	struct copy_body c = { .flags = flags, .eol = eol };
	struct buf in = BUF_INIT, out = BUF_INIT;
	int err = 0;

	*len_r = 0;
	for (uint64_t off = 0; err == 0 && off < j->content_len; off += READ_CHUNK) {
		size_t n = (size_t)u64_min(READ_CHUNK, j->content_len - off);

		buf_reset(&in);
		buf_reset(&out);
		err = buf_reserve(&in, n) == NULL
			      ? E_NOMEM
			      : io_pread_all(j->content_fd, in.p, n, (off_t)off);
		if (err != 0)
			break;
		copy_add_body(&c, (struct sv){ in.p, n }, &out);
		err = io_write_all(fd, out.p, out.len);
		*len_r += out.len;
	}
	buf_reset(&out);
	copy_end_body(&c, &out);
	*len_r += out.len;
	if (err == 0)
		err = io_write_all(fd, out.p, out.len);
	buf_fini(&in);
	buf_fini(&out);
	return err;
}

/* The content as mailbox files have it, once for all recipients. */
int job_mbox_content(struct job *j)
{
	if (j->mbox_fd >= 0)
		return 0;
	j->mbox_fd = memfd_create("mbox", MFD_CLOEXEC);
	if (j->mbox_fd < 0)
		return err_errno();
	int err = job_copy_body(j, COPY_QUOTE | COPY_BLANK, SV("\n"), j->mbox_fd, &j->mbox_len);

	if (err != 0)
		io_close(&j->mbox_fd);
	return err;
}

/* ---- recipients ---- */

void rcpt_set_verdict(struct rcpt_job *r, const uint8_t dsn[3], struct sv text)
{
	const char *copy = arena_strndup(&r->job->arena, text.p, text.len);

	r->verdict = (struct verdict){ .text = copy != NULL ? (struct sv){ copy, text.len }
							    : SV("no memory for the reason"),
				       .mta = "none" };
	memcpy(r->verdict.dsn, dsn, 3);
	r->done_us = clock_now_wall().us;
}

static void set_result(struct rcpt_job *r, uint8_t d0, uint8_t d1, uint8_t d2, const char *text)
{
	rcpt_set_verdict(r, (const uint8_t[]){ d0, d1, d2 }, sv_from(text));
}

void rcpt_done(struct rcpt_job *r)
{
	struct job *j = r->job;

	r->done_us = clock_wall().us;
	if (--j->busy == 0)
		job_finish(j);
}

static void delivery_done(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct rcpt_job *r = ctx;

	rcpt_set_verdict(r, res->dsn, sv_from(res->text));
	r->verdict.unsure = res->unsure != 0;
	r->busy = false;
	rcpt_done(r);
}

static void start_rcpt(struct rcpt_job *r)
{
	struct job *j = r->job;
	struct target *t = &r->target;

	if (!t->found) {
		set_result(r, t->dsn[0], t->dsn[1], t->dsn[2], t->text);
		return;
	}
	if ((j->env.flags & ENVF_PROBE) != 0) {
		set_result(r, 2, 0, 0, t->is_mbox ? "delivers to mailbox" : "delivers to maildir");
		return;
	}
	rcpt_make_header(r, t->is_mbox, r->rcpt->addr, &r->header);
	if (t->size_limit > 0 && j->content_len + r->header.len > t->size_limit) {
		set_result(r, 5, 2, 2, "message is larger than the mailbox size limit");
		return;
	}
	if (t->is_mbox && job_mbox_content(j) != 0) {
		set_result(r, 4, 3, 0, "cannot prepare the message");
		return;
	}
	r->delivery = (struct delivery){ .uid = t->uid,
					 .gid = t->gid,
					 .base = t->base,
					 .path = t->path,
					 .header = buf_sv(&r->header),
					 .kind = t->is_mbox ? AGENT_MBOX : AGENT_MAILDIR,
					 .mbox = t->mbox,
					 .more_gid = t->more_gid,
					 .user = t->user,
					 .content_fd = t->is_mbox ? j->mbox_fd : j->content_fd,
					 .content_len = t->is_mbox ? j->mbox_len : j->content_len,
					 .done = delivery_done,
					 .ctx = r };
	r->busy = true;
	j->busy++;
}

static void find_targets(void *ctx);

/* Where the recipients' mail is put. False: remote tables are asked, and find_targets() goes on
 * when they have answered. */
static bool targets_are_found(struct job *j)
{
	bool missing = true;

	if (j->memo == NULL && map_remote_is_used())
		j->memo = map_memo_new();
	while (missing) {
		if (j->memo != NULL)
			map_memo_enter(j->memo);
		for (size_t i = 0; i < j->rcpt_count; i++)
			target_find(j->l->targets, j->transport, j->rcpts[i].rcpt->addr,
				    &j->rcpts[i].target);
		missing = j->memo != NULL && map_memo_leave();
		if (missing && tables_fetch(j->l->tables, j->memo, find_targets, j) != NULL)
			return false;
	}
	map_memo_free(&j->memo);
	return true;
}

/* local(8): recipients become other things, each by itself. */
static void expand_all(struct job *j)
{
	j->expanded = true;
	j->busy = j->rcpt_count + 1; /* one for this loop */
	for (size_t i = 0; i < j->rcpt_count; i++)
		expand_start(&j->rcpts[i]);
	if (--j->busy == 0)
		job_finish(j);
}

static void start_all(struct job *j, int err)
{
	for (size_t i = 0; i < j->rcpt_count; i++) {
		if (err != 0)
			set_result(&j->rcpts[i], 4, 3, 0, "cannot read the queued message");
		else
			start_rcpt(&j->rcpts[i]);
	}
	if (j->busy == 0) {
		job_finish(j);
		return;
	}
	/* the last callback frees the job, but never from within pool_submit() */
	for (size_t i = 0; i < j->rcpt_count; i++) {
		if (j->rcpts[i].busy)
			pool_submit(j->l->pool, &j->rcpts[i].delivery);
	}
}

static void find_targets(void *ctx)
{
	struct job *j = ctx;

	if (targets_are_found(j))
		start_all(j, 0);
}

static void pick_rcpts(struct job *j)
{
	uint64_t left = j->p.ref.mask;

	j->rcpts = xcalloc((size_t)__builtin_popcountll(left), sizeof(*j->rcpts));
	for (; left != 0; left &= left - 1) {
		unsigned bit = (unsigned)__builtin_ctzll(left);
		struct rcpt_job *r = &j->rcpts[j->rcpt_count];

		if ((uint64_t)j->p.ref.rcpt_first + bit >= j->env.rcpt_count)
			break;
		r->job = j;
		r->bit = bit;
		r->rcpt = &j->env.rcpts[j->p.ref.rcpt_first + bit];
		j->rcpt_count++;
	}
	/* there is one recipient then */
	if (j->rcpt_count > 0)
		j->env.sender = verp_sender(&j->env, j->rcpts[0].rcpt, &j->arena);
}

/* ---- the start ---- */

static int read_record(struct job *j)
{
	struct local *l = j->l;
	int err = spool_read_head(l->reader, j->id, j->p.ref.place, true, &j->hdr, &j->env_copy);

	if (err == 0)
		err = env_decode(buf_sv(&j->env_copy), RCPTS_MAX, &j->arena, &j->env);
	return err;
}

/* True: the journal has it, and the delivery may be made. With a full disk mail goes on. */
static bool journal_start(struct job *j)
{
	struct outcome o = { .kind = OUTCOME_STARTED,
			     .qid = j->id,
			     .rcpt_first = j->p.ref.rcpt_first,
			     .mask = j->p.ref.mask,
			     .warrant = j->p.warrant,
			     .when_us = j->start_us,
			     .transport = sv_from(j->transport->name),
			     .nexthop = sv_from(j->nexthop) };
	struct proto_jref ref;

	struct journal_writer *w = j->l->journal;
	int has = j->started_at == 0 ? E_IO : journal_has(w, j->started_at, j->l->record_sync);

	if (has != E_IO)
		return has == 1;
	int err = journal_append(w, &o, &ref);

	if (err == 0)
		j->started_at = journal_position(w);
	else if (err == E_NOSPC)
		counter_add(j->l->w->counters, CTR_deliver_unrecorded, 1);
	return err == E_NOSPC || (err != 0 && err != E_AGAIN && !j->l->record_sync);
}

static void probe_pipe(struct job *j)
{
	for (size_t i = 0; i < j->rcpt_count; i++)
		set_result(&j->rcpts[i], 2, 0, 0, "delivers to command");
	job_finish(j);
}

static void begin(struct job *j)
{
	int err;

	j->waiting = false;
	j->l->waiting--;
	histogram_add(j->l->w->counters, HIS_deliver_record_wait,
		      (uint64_t)(clock_mono_us_raw() - j->waits_us));
	pick_rcpts(j);
	err = make_content(j);
	if (err == 0 && j->transport->kind == TRANSPORT_PIPE && (j->env.flags & ENVF_PROBE) != 0)
		probe_pipe(j);
	else if (err == 0 && j->transport->kind == TRANSPORT_PIPE)
		pipe_start(j);
	else if (err == 0 && j->transport->kind == TRANSPORT_LOCAL)
		expand_all(j);
	else if (err != 0 || targets_are_found(j))
		start_all(j, err);
}

void job_retry(struct local *l)
{
	struct job *next;

	for (struct job *j = l->jobs; j != NULL; j = next) {
		next = j->next;
		if (j->finished)
			job_report(j);
		else if (j->waiting && journal_start(j))
			begin(j);
	}
}

/* The record cannot be read at all: all recipients wait; the supervisor will have it loaded, which
 * finds out what is wrong with it. */
static void defer_all(struct job *j, int err)
{
	char id[QID_TEXT_SIZE];
	struct proto_result r = { .kind = PROTO_RESULT,
				  .health = JOB_HEALTH_NONE,
				  .word = j->p.ref.word,
				  .entry = j->p.ref.entry,
				  .deferred = j->p.ref.mask };
	struct outcome_reason reason = { .mask = j->p.ref.mask,
					 .dsn = { 4, 3, 0 },
					 .mta = SV("none"),
					 .text = SV("cannot read the queued message") };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = j->id,
			     .rcpt_first = j->p.ref.rcpt_first,
			     .mask = j->p.ref.mask,
			     .warrant = j->p.warrant,
			     .deferred = j->p.ref.mask,
			     .when_us = j->start_us,
			     .reasons = &reason,
			     .reason_count = 1 };

	journal_append(j->l->journal, &o, &r.jref);
	log_warn("%s: cannot read the queued message: %s", qid_format(j->id, id), err_str(err));
	worker_send(j->l->w, &j->l->w->super, &r, sizeof(r));
	job_free(j);
}

void job_start(struct local *l, const void *rec, size_t len)
{
	struct job *j = xcalloc(1, sizeof(*j));
	int err;

	if (len < sizeof(j->p))
		die("supervisor ring: job record of %zu bytes", len);
	memcpy(&j->p, rec, sizeof(j->p));
	if (len - sizeof(j->p) < j->p.nexthop_len || j->p.ref.mask == 0)
		die("supervisor ring: damaged job record");
	str_copy(j->nexthop, sizeof(j->nexthop),
		 (struct sv){ (const char *)rec + sizeof(j->p), j->p.nexthop_len });
	j->l = l;
	*l->jobs_tail = j;
	l->jobs_tail = &j->next;
	l->job_count++;
	j->content_fd = j->pipe.input_fd = j->mbox_fd = -1;
	j->id = (struct qid){ .time_us = j->p.ref.qid.time_us, .life = j->p.ref.qid.life };
	j->start_us = clock_now_wall().us;
	arena_init(&j->arena, ARENA_CHUNK, ARENA_LIMIT);
	counter_add(l->w->counters, CTR_deliver_jobs, 1);
	if (j->p.transport < conf_transport_count(l->w->conf))
		j->transport = conf_transport(l->w->conf, j->p.transport);
	err = j->transport == NULL ? E_CONFIG : read_record(j);
	if (err != 0) {
		defer_all(j, err);
		return;
	}
	j->waiting = true;
	j->waits_us = clock_mono_us_raw();
	l->waiting++;
	journal_start(j);
}
