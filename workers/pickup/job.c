/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One submitted message on its way from a file to a rewrite worker; see workers/pickup/pickup.h. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/mail/date.h"
#include "workers/pickup/dropenv.h"
#include "workers/pickup/pickup.h"

#define ARENA_CHUNK 4096u
#define ARENA_LIMIT (64u << 20)
#define RETRY_MS    60000 /* after a 4xx, as often as Postfix looks */
#define STUCK_MS    3600000
#define SIZE_SLACK  4096

static void job_free(struct job *j)
{
	struct pickup *p = j->p;

	content_abort(&p->pool, &j->content);
	io_close(&j->file.fd);
	arena_fini(&j->arena);
	buf_fini(&j->env_in);
	buf_fini(&j->env_out);
	buf_fini(&j->head);
	*j = (struct job){ .p = p, .number = j->number, .file.fd = -1 };
	p->active--;
}

/* ---- taking ---- */

/* It stays, for a human, where nobody else looks at it. */
static void set_aside(struct pickup *p, int dir_fd, const char *name, uid_t uid, const char *why)
{
	char as[NAME_MAX + 1], id[QID_TEXT_SIZE];

	pickup_complain(p, name, uid, why);
	counter_add(p->w->counters, CTR_pickup_damaged, 1);
	/* a name of our own: nobody's file replaces another's */
	snprintf(as, sizeof(as), "drop-%s-%.180s", qid_format(qid_make(&p->ids), id), name);
	if (renameat(dir_fd, name, p->corrupt_fd, as) < 0)
		pickup_later(p, name, STUCK_MS);
}

static uint64_t size_limit(const struct pickup *p)
{
	int64_t limit = p->w->params->message_size_limit;

	/* the limit may have been another one when it was submitted; rewrite judges */
	return limit > 0 ? 4 * (uint64_t)limit + SIZE_SLACK : UINT64_MAX / 2;
}

static const char *read_envelope(struct job *j)
{
	const char *why = "cannot be read";

	arena_init(&j->arena, ARENA_CHUNK, ARENA_LIMIT);
	if (maildrop_read_envelope(&j->file, &j->env_in) != 0)
		return why;
	j->crc = crc32c(0, j->env_in.p, j->env_in.len);
	return dropenv_decode(buf_sv(&j->env_in), &j->arena, &j->env, &why) == 0 ? NULL : why;
}

static struct job *free_job(struct pickup *p)
{
	for (unsigned i = 0; i < JOB_MAX; i++) {
		if (p->jobs[i].state == JOB_FREE)
			return &p->jobs[i];
	}
	return NULL;
}

bool job_take(struct pickup *p, int dir_fd, const char *name, const char *earlier)
{
	struct job *j = free_job(p);
	const char *why;
	int err;

	ASSERT(j != NULL);
	err = maildrop_open(dir_fd, name, size_limit(p), &j->file, &why);
	if (err == E_NOENT)
		return false;
	if (err == E_INVAL) {
		pickup_complain(p, name, (uid_t)-1, why);
		if (unlinkat(dir_fd, name, 0) < 0)
			pickup_later(p, name, STUCK_MS);
		return false;
	}
	if (err == E_PEER || err == E_CORRUPT) {
		set_aside(p, dir_fd, name, err == E_CORRUPT ? j->file.uid : (uid_t)-1, why);
		return false;
	}
	if (err != 0) {
		pickup_complain(p, name, (uid_t)-1, err_str(err));
		pickup_later(p, name, RETRY_MS);
		return false;
	}
	p->active++;
	j->state = JOB_TAKEN;
	why = read_envelope(j);
	j->qid = qid_make(&p->ids);
	qid_format(j->qid, j->id);
	if (why != NULL) {
		set_aside(p, dir_fd, name, j->file.uid, why);
		job_free(j);
		return false;
	}
	if (renameat(dir_fd, name, p->taken_fd, j->id) < 0) {
		if (errno != ENOENT)
			pickup_complain(p, name, j->file.uid, err_str(err_errno()));
		pickup_later(p, name, RETRY_MS);
		job_free(j);
		return false;
	}
	p->taken_unsynced = true;
	snprintf(j->name, sizeof(j->name), "%s", name);
	snprintf(j->earlier, sizeof(j->earlier), "%s", earlier);
	return true;
}

/* ---- handing over ---- */

static void log_taken(const struct job *j)
{
	struct buf sender = BUF_INIT;

	mail_addr_quote(j->env.sender, &sender);
	if (j->earlier[0] != '\0') {
		log_info("%s: uid=%u from=<%s> orig_id=%s", j->id, (unsigned)j->file.uid,
			 buf_cstr(&sender), j->earlier);
		log_warn("%s: submission %s was interrupted and its outcome is not known: this "
			 "may be a second copy",
			 j->id, j->earlier);
		counter_add(j->p->w->counters, CTR_pickup_in_doubt, 1);
	} else {
		log_info("%s: uid=%u from=<%s>", j->id, (unsigned)j->file.uid, buf_cstr(&sender));
	}
	buf_fini(&sender);
}

static void make_parts(struct job *j)
{
	const struct params *p = j->p->w->params;
	struct envelope e = j->env;

	e.flags |= ENVF_LOCAL_CLIENT | j->p->envelope_flags;
	e.filter = sv_from(j->p->filter);
	e.cleanup = sv_from(j->p->cleanup);
	if (e.arrival_us <= 0 || e.arrival_us > clock_now_wall().us)
		e.arrival_us = clock_now_wall().us;
	buf_reset(&j->env_out);
	buf_reset(&j->head);
	env_encode(&e, &j->env_out);
	buf_printf(&j->head, "Received: by %s (%s, from userid %u)\r\n\tid %s; ", p->myhostname,
		   p->mail_name, (unsigned)j->file.uid, j->id);
	mail_date_add(clock_now_wall().us / 1000000, &j->head);
	buf_add_str(&j->head, "\r\n");
	smtp_data_init_chunked(&j->scan);
	j->off = 0;
	j->read_all = false;
	j->crc = crc32c(0, j->env_in.p, j->env_in.len);
}

/* The file is not what it said: not submitted, and kept. */
static void spoiled(struct job *j, const char *why)
{
	content_abort(&j->p->pool, &j->content);
	set_aside(j->p, j->p->taken_fd, j->id, j->file.uid, why);
	job_free(j);
}

/* Fill one stretch of room from the file. False when nothing more can be done now. */
static bool fill(struct job *j)
{
	struct pickup *p = j->p;
	size_t room_len, used, written;
	char *room = content_room(&p->pool, &j->content, &room_len);

	if (room == NULL)
		return false;
	/* most lines grow by one byte: what does not fit is read again */
	ssize_t n = maildrop_read_content(&j->file, j->off, p->read_buf,
					  size_min(room_len, sizeof(p->read_buf)));

	if (n < 0) {
		spoiled(j, n == E_CORRUPT ? "not of the length it says" : err_str((int)n));
		return false;
	}
	if (n == 0 && !j->read_all) {
		j->read_all = true;
		smtp_data_end_chunks(&j->scan);
	}
	used = smtp_data_scan(&j->scan, p->read_buf, (size_t)n, room, room_len, &written);
	j->crc = crc32c(j->crc, p->read_buf, used);
	j->off += used;
	content_advance(&p->pool, &j->content, written);
	return true;
}

static void feed(struct job *j)
{
	struct pickup *p = j->p;

	while (j->state == JOB_SENDING && (!j->read_all || smtp_data_pending(&j->scan) > 0)) {
		if (!fill(j))
			return;
	}
	if (j->state != JOB_SENDING)
		return;
	if (j->crc != j->file.crc) {
		spoiled(j, "checksum does not match");
		return;
	}
	j->state = JOB_SENT;
	content_end(&p->pool, &j->content);
}

static struct proto_qid proto_id(struct qid id)
{
	return (struct proto_qid){ .time_us = id.time_us, .life = id.life };
}

void job_begin(struct job *j)
{
	struct pickup *p = j->p;

	if (j->content.tx == 0 && content_has_peer(&p->pool)) {
		log_taken(j);
		make_parts(j);
	}
	int err = content_begin(&p->pool, &j->content, j, j->number, proto_id(j->qid),
				buf_sv(&j->env_out), buf_sv(&j->head));

	if (err == E_LIMIT) {
		spoiled(j, "envelope too large");
	} else if (err == 0) {
		j->state = JOB_SENDING;
		feed(j);
	}
}

/* ---- verdicts ---- */

static void removed(struct job *j)
{
	if (unlinkat(j->p->taken_fd, j->id, 0) < 0)
		log_warn("%s: cannot be removed from %s: %s", j->id, MAILDROP_TAKEN_DIR,
			 err_str(err_errno()));
	j->p->removed_unsynced = true;
	job_free(j);
}

void job_put_back(struct job *j, int64_t later_ms)
{
	struct pickup *p = j->p;

	if (later_ms > 0)
		pickup_later(p, j->name, later_ms);
	if (renameat(p->taken_fd, j->id, p->drop_fd, j->name) < 0)
		log_warn("%s: stays in %s until the next start: %s", j->id, MAILDROP_TAKEN_DIR,
			 err_str(err_errno()));
	job_free(j);
}

/* Submit it anew under another id. `doubt`: it may be in the spool under this one. */
static void again(struct job *j, bool doubt)
{
	struct pickup *p = j->p;
	char old[QID_TEXT_SIZE];

	content_abort(&p->pool, &j->content);
	memcpy(old, j->id, sizeof(old));
	if (doubt)
		memcpy(j->earlier, old, sizeof(old));
	j->qid = qid_make(&p->ids);
	qid_format(j->qid, j->id);
	if (renameat(p->taken_fd, old, p->taken_fd, j->id) < 0) {
		log_warn("%s: cannot be renamed: %s", old, err_str(err_errno()));
		job_free(j);
		return;
	}
	j->state = JOB_TAKEN;
	p->taken_unsynced = true;
}

static void report_begin(struct job *j)
{
	struct pickup *p = j->p;
	int err = content_begin(&p->pool, &j->content, j, j->number, proto_id(j->qid),
				buf_sv(&j->env_out), buf_sv(&j->head));

	if (err == 0) {
		j->state = JOB_REPORTED;
		content_end(&p->pool, &j->content);
	} else if (err == E_LIMIT) {
		spoiled(j, "refused, and its notification is too large");
	} else if (err == E_CONFIG) {
		job_put_back(j, RETRY_MS);
	}
}

/* Refused for good: the sender is told, by a message in its place. */
static void refuse(struct job *j, const uint8_t dsn[3], struct sv why)
{
	struct pickup *p = j->p;
	struct qid id = qid_make(&p->ids);
	char text[QID_TEXT_SIZE];
	struct env_rcpt to = { .addr = j->env.sender, .notify = NOTIFY_NEVER };
	struct envelope e = { .rcpts = &to,
			      .rcpt_count = 1,
			      .flags = ENVF_LOCAL_CLIENT,
			      .arrival_us = clock_now_wall().us };

	log_warn("%s: refused: %u.%u.%u %.*s", j->id, dsn[0], dsn[1], dsn[2], (int)why.len, why.p);
	counter_add(p->w->counters, CTR_pickup_refused, 1);
	content_abort(&p->pool, &j->content);
	if (j->env.sender.len == 0) {
		spoiled(j, "refused, and there is no sender to be told");
		return;
	}
	log_info("%s: sender non-delivery notification: %s", j->id, qid_format(id, text));
	buf_reset(&j->env_out);
	buf_reset(&j->head);
	env_encode(&e, &j->env_out);
	report_build(j, id, dsn, why, &j->head);
	j->qid = id; /* the file keeps its name: the message's id */
	j->state = JOB_REPORTING;
	report_begin(j);
}

void job_room(struct job *j)
{
	if (j->state == JOB_TAKEN)
		job_begin(j);
	else if (j->state == JOB_SENDING)
		feed(j);
	else if (j->state == JOB_REPORTING)
		report_begin(j);
}

void job_done(struct job *j, const struct proto_submit_done *d, struct sv text)
{
	struct pickup *p = j->p;
	bool report = j->state == JOB_REPORTED;

	/* a refusal may come before the end; an acknowledgement may not */
	if (j->state != JOB_SENDING && j->state != JOB_SENT && !report)
		return;
	if (d->verdict == SUBMIT_PERMFAIL && !report) {
		refuse(j, d->dsn, text);
	} else if (d->verdict == SUBMIT_PERMFAIL) {
		spoiled(j, "refused, and its notification, too");
	} else if (d->verdict == SUBMIT_TEMPFAIL || j->state == JOB_SENDING) {
		log_warn("%s: not taken now: %u.%u.%u %.*s", j->id, d->dsn[0], d->dsn[1], d->dsn[2],
			 (int)text.len, text.p);
		counter_add(p->w->counters, CTR_pickup_deferred, 1);
		job_put_back(j, RETRY_MS);
	} else {
		if (!report) {
			counter_add(p->w->counters, CTR_pickup_messages, 1);
			counter_add(p->w->counters, CTR_pickup_bytes, j->file.content_len);
		}
		removed(j);
	}
}

void job_lost(struct job *j)
{
	/* what was handed over whole may have been committed, and will be adopted then */
	if (j->state == JOB_SENDING || j->state == JOB_SENT)
		again(j, j->state == JOB_SENT);
	else if (j->state == JOB_REPORTED)
		again(j, false);
}
