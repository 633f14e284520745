/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The outcome journal of a delivery, rewrite or supervisor process; see spool.h. Outcomes gather in
 * memory for a turn, go out with one write, and are synced by a thread when the oldest has waited
 * for the window, or earlier when somebody waits or enough starts of deliveries have gathered: a
 * crash can repeat what was in hand, never more. Several syncs may be under way; what they cover
 * counts as durable in the order in which they began. A journal whose write or sync failed gets
 * nothing more; the next file takes over.
 */
#include <stdlib.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/counters.h"
#include "workers/spool/journal_file.h"
#include "workers/spool/outcome.h"

#define BUFFER_BYTES   (1u << 20)
#define FILE_BYTES_MIN (64u << 10)
#define PREP_RETRY_MS  1000
#define AVERAGE_OVER   8

struct journal_syncing {
	struct spool_job job;
	struct journal_file *file;
	int fd;
	uint64_t last, zeroed; /* of the file, when it began */
	int64_t began_us, took_us;
	unsigned times;
	bool finished;
	int err;
};

struct journal_writer {
	struct journal_conf conf;
	const struct spool_dirs *dirs;
	struct spool_crew *crew;
	struct loop_timer timer;
	struct journal_file *cur, *next, *old; /* old: to be synced and closed */
	struct buf buf;                        /* goes to cur->end - buf.len */
	struct mono_ms oldest;                 /* of cur's outcomes that no sync covers */
	uint32_t starts;                       /* among these */
	struct journal_prep prep;
	struct journal_syncing lanes[JOURNAL_LANES]; /* a ring, in the order of their beginning */
	unsigned lane_first, lane_count;
	uint64_t appended, written, durable; /* outcomes, by number */
	uint64_t lost_from, lost_to;         /* those of files that failed */
	bool wanted;                         /* somebody waits for what no sync covers */
	int64_t began_us;                    /* the last sync; monotonic */
	int64_t took_avg_us;
	bool requested;
	int prep_err;
	struct mono_ms prep_retry_at;
};

static void sync_run(struct spool_job *job)
{
	struct journal_syncing *s = container_of(job, struct journal_syncing, job);

	for (unsigned i = 0; i < s->times && s->err == 0; i++) {
		if (fdatasync(s->fd) < 0)
			s->err = err_errno();
	}
	s->took_us = clock_mono_us_raw() - s->began_us;
}

static void file_close(struct journal_writer *w, struct journal_file **fp)
{
	struct journal_file *f = *fp;

	*fp = NULL;
	if (f == NULL)
		return;
	/* give back what was reserved and not used */
	if (ftruncate(f->fds[0], (off_t)f->end) < 0)
		log_warn("journal %08x: cannot shorten: %s", f->number, err_str(err_errno()));
	w->conf.closed_file(w->conf.ctx, f->number, f->end);
	journal_file_free(&f);
}

static void file_failed(struct journal_writer *w, struct journal_file *f, const char *what, int err)
{
	if (w->lost_to <= w->durable)
		w->lost_from = w->durable + 1;
	w->lost_to = u64_max(w->lost_to, f->last);
	log_error("journal %08x: %s failed: %s; outcomes of the last moments may be repeated after "
		  "a crash",
		  f->number, what, err_str(err));
	f->failed = true;
}

static void request(struct journal_writer *w)
{
	bool want = w->cur == NULL || w->cur->failed || w->cur->end > w->cur->bytes / 4 * 3;

	if (!want || w->next != NULL || w->requested || w->prep.file != NULL)
		return;
	if (w->prep_err != 0 && clock_now().ms < w->prep_retry_at.ms)
		return;
	w->requested = true;
	w->conf.need_file(w->conf.ctx);
}

static void timer_fired(void *ctx UNUSED)
{
	/* the turn hook that follows looks at the clock */
}

static unsigned lanes(const struct journal_conf *conf)
{
	if (conf->lanes == 0)
		return 1;
	return conf->lanes < JOURNAL_LANES ? conf->lanes : JOURNAL_LANES;
}

int journal_writer_new(const struct journal_conf *conf, const struct spool_dirs *dirs,
		       struct loop *loop, struct journal_writer **w_r)
{
	struct journal_writer *w = xcalloc(1, sizeof(*w));
	int err = spool_hold(dirs, false);

	if (err == 0)
		err = spool_crew_new(lanes(conf), loop, &w->crew);
	if (err != 0) {
		free(w);
		return err;
	}
	w->conf = *conf;
	w->conf.file_bytes = u64_max(conf->file_bytes, FILE_BYTES_MIN);
	w->dirs = dirs;
	w->conf.lanes = lanes(conf);
	w->began_us = clock_mono_us_raw() - conf->pace_us;
	loop_timer_init(loop, &w->timer, timer_fired, w);
	*w_r = w;
	return 0;
}

void journal_writer_grant(struct journal_writer *w, uint32_t number, struct journal_owner owner)
{
	w->requested = false;
	if (w->prep.file != NULL || w->next != NULL) {
		w->conf.closed_file(w->conf.ctx, number, 0); /* not asked for */
		return;
	}
	w->prep.job.run = journal_file_prepare;
	w->prep.dirs = w->dirs;
	w->prep.bytes = w->conf.file_bytes;
	w->prep.created_us = clock_now_wall().us;
	w->prep.file = journal_file_new(number, owner);
	spool_crew_submit(w->crew, &w->prep.job);
}

/* ---- finished jobs ---- */

static void prep_finished(struct journal_writer *w)
{
	struct journal_file *f;

	TAKE(f, w->prep.file);
	w->prep_err = w->prep.err;
	if (w->prep.err == 0) {
		w->next = f;
		return;
	}
	log_error("journal %08x: cannot make it: %s", f->number, err_str(w->prep.err));
	w->prep_retry_at = (struct mono_ms){ clock_now().ms + PREP_RETRY_MS };
	w->conf.closed_file(w->conf.ctx, f->number, 0);
	journal_file_free(&f);
}

static struct journal_syncing *lane(struct journal_writer *w, unsigned i)
{
	return &w->lanes[(w->lane_first + i) % JOURNAL_LANES];
}

/* The first one of those under way. */
static int sync_finished(struct journal_writer *w)
{
	struct journal_syncing *s = lane(w, 0);
	struct journal_file *f;

	TAKE(f, s->file);
	w->lane_first = (w->lane_first + 1) % JOURNAL_LANES;
	w->lane_count--;
	w->took_avg_us += (s->took_us - w->took_avg_us) / AVERAGE_OVER;
	if (w->conf.counters != NULL)
		counter_add(w->conf.counters, CTR_journal_syncs, 1);
	if (s->err != 0 && !f->failed)
		file_failed(w, f, "fdatasync", s->err);
	if (f->failed) /* one that began before has failed: what this one says is worth nothing */
		return E_IO;
	f->solid = u64_max(f->solid, s->zeroed);
	f->done = s->last;
	w->durable = u64_max(w->durable, s->last);
	return 0;
}

static int take_finished(struct journal_writer *w)
{
	struct spool_job *job;
	int err = 0;

	while ((job = spool_crew_take(w->crew)) != NULL) {
		if (job == &w->prep.job)
			prep_finished(w);
		else
			container_of(job, struct journal_syncing, job)->finished = true;
	}
	while (w->lane_count > 0 && lane(w, 0)->finished) {
		int e = sync_finished(w);

		err = err != 0 ? err : e;
	}
	return err;
}

/* ---- writing ---- */

static int flush(struct journal_writer *w)
{
	struct journal_file *f = w->cur;

	if (f == NULL || w->buf.len == 0)
		return 0;
	journal_file_zero_ahead(f);
	int err = f->failed ? E_IO
			    : io_pwrite_all(f->fds[0], w->buf.p, w->buf.len,
					    (off_t)(f->end - w->buf.len));

	buf_reset(&w->buf);
	if (err != 0 && !f->failed)
		file_failed(w, f, "write", err);
	if (err == 0)
		w->written = w->appended;
	return err;
}

/* Make a file current that has room. */
static void rotate(struct journal_writer *w)
{
	bool full = w->cur == NULL || w->cur->failed || w->cur->end >= w->cur->bytes;

	if (!full || w->next == NULL || w->old != NULL)
		return;
	flush(w);
	TAKE(w->old, w->cur);
	TAKE(w->cur, w->next);
	w->cur->last = w->cur->asked = w->cur->done = w->appended;
	w->starts = 0;
}

int journal_append(struct journal_writer *w, const struct outcome *o, struct proto_jref *ref_r)
{
	rotate(w);
	struct journal_file *f = w->cur;

	/* no successor in sight: go on up to twice the size, then refuse */
	if (f == NULL || f->failed || f->end >= 2 * f->bytes) {
		request(w);
		return w->prep_err != 0 ? w->prep_err : E_AGAIN;
	}
	size_t before = w->buf.len;
	int err = spool_outcome_encode(o, f->number, f->nonce, &w->buf);

	if (err != 0)
		return err;
	*ref_r = (struct proto_jref){ f->number, (uint32_t)(f->end / SPOOL_OUTCOME_ALIGN) };
	f->end += w->buf.len - before;
	f->last = ++w->appended;
	if (f->last == f->asked + 1) {
		w->oldest = clock_now();
		loop_timer_set(&w->timer, w->conf.sync_window_ms);
	}
	w->starts += o->kind == OUTCOME_STARTED;
	if (w->conf.counters != NULL)
		counter_add(w->conf.counters, CTR_journal_records, 1);
	return w->buf.len >= BUFFER_BYTES ? flush(w) : 0;
}

static void sync_start(struct journal_writer *w, struct journal_file *f)
{
	unsigned at = (w->lane_first + w->lane_count++) % JOURNAL_LANES;
	struct journal_syncing *s = &w->lanes[at];

	w->began_us = clock_mono_us_raw();
	*s = (struct journal_syncing){ .job = { .run = sync_run },
				       .file = f,
				       .fd = f->fds[at],
				       .last = f->last,
				       .zeroed = f->zeroed,
				       .began_us = w->began_us,
				       .times = f->end <= f->solid ? 1 : 2 };
	f->asked = f->last;
	spool_crew_submit(w->crew, &s->job);
}

/* How long a sync that somebody waits for is put off still. On a slow disk those under way are
 * spread over the time that one takes. */
static int64_t pace_left_us(const struct journal_writer *w)
{
	if (w->conf.pace_us == 0 && w->lane_count == 0)
		return 0;
	int64_t pace_us = w->conf.pace_us, part_us = w->took_avg_us / w->conf.lanes;

	if (w->lane_count > 0 && part_us > pace_us)
		pace_us = part_us;
	return w->began_us + pace_us - clock_mono_us_raw();
}

static bool sync_is_due(const struct journal_writer *w)
{
	const struct journal_file *f = w->cur;

	if (f == NULL || f->failed || f->last == f->asked)
		return false;
	return mono_since_ms(w->oldest) >= w->conf.sync_window_ms ||
	       (w->conf.batch > 0 && w->starts >= w->conf.batch) ||
	       (w->wanted && pace_left_us(w) <= 0);
}

static bool is_syncing(struct journal_writer *w, const struct journal_file *f)
{
	for (unsigned i = 0; i < w->lane_count; i++) {
		if (lane(w, i)->file == f)
			return true;
	}
	return false;
}

/* A failed sync is not repeated: the second one would lie. */
static void finish_old(struct journal_writer *w)
{
	struct journal_file *f = w->old;

	if (!f->failed && f->asked < f->last && w->lane_count < w->conf.lanes)
		sync_start(w, f);
	if (!is_syncing(w, f) && (f->failed || f->done == f->last))
		file_close(w, &w->old);
}

static void sync_what_is_due(struct journal_writer *w)
{
	if (w->old != NULL)
		finish_old(w);
	/* its outcomes become durable after those of the file before */
	if (w->old != NULL && w->old->asked < w->old->last && !w->old->failed)
		return;
	if (w->lane_count < w->conf.lanes && sync_is_due(w)) {
		w->oldest = clock_now(); /* of those that come from here on */
		w->wanted = false;
		w->starts = 0;
		sync_start(w, w->cur);
	}
}

static uint64_t at_risk(const struct journal_file *f)
{
	return f != NULL ? f->last - f->done : 0;
}

static void show_risk(const struct journal_writer *w)
{
	if (w->conf.counters != NULL)
		gauge_set(w->conf.counters, GAU_journal_outcomes_at_risk,
			  at_risk(w->cur) + at_risk(w->old));
}

static void set_timer(struct journal_writer *w)
{
	/* what has failed is never due, and a timer that is over at once would keep the loop awake
	 */
	if (w->cur == NULL || w->cur->failed || w->cur->last == w->cur->asked ||
	    w->lane_count == w->conf.lanes)
		return;
	int64_t ms = w->conf.sync_window_ms - mono_since_ms(w->oldest);

	if (w->wanted) {
		int64_t pace_ms = (pace_left_us(w) + 999) / 1000;

		ms = pace_ms < ms ? pace_ms : ms;
	}
	loop_timer_set(&w->timer, ms);
}

bool journal_writer_poll(void *writer)
{
	struct journal_writer *w = writer;

	take_finished(w);
	flush(w);
	rotate(w);
	sync_what_is_due(w);
	set_timer(w);
	request(w);
	show_risk(w);
	return false;
}

int journal_writer_ready(struct journal_writer *w)
{
	journal_writer_poll(w);
	return w->cur != NULL || w->next != NULL ? 1 : w->prep_err;
}

uint64_t journal_position(const struct journal_writer *w)
{
	return w->appended;
}

int journal_has(struct journal_writer *w, uint64_t position, bool durable)
{
	if (position >= w->lost_from && position <= w->lost_to)
		return E_IO;
	if (position <= (durable ? w->durable : w->written))
		return 1;
	w->wanted |= durable && (w->cur == NULL || position > w->cur->asked);
	return 0;
}

int journal_sync(struct journal_writer *w)
{
	int err = 0;

	while (w->lane_count > 0 && err == 0) {
		spool_crew_wait(w->crew);
		err = take_finished(w);
	}
	if (err == 0)
		err = flush(w);
	for (int i = 0; i < 2 && err == 0; i++) {
		struct journal_file *f = i == 0 ? w->old : w->cur;

		if (f == NULL || f->done == f->last)
			continue;
		/* twice: what is behind f->solid was only reserved */
		for (int k = 0; k < 2; k++) {
			if (!f->failed && fdatasync(f->fds[0]) < 0)
				file_failed(w, f, "fdatasync", err_errno());
		}
		if (f->failed) {
			err = E_IO;
		} else {
			f->asked = f->done = f->last;
			f->solid = f->zeroed;
			w->durable = u64_max(w->durable, f->last);
		}
		if (w->conf.counters != NULL)
			counter_add(w->conf.counters, CTR_journal_syncs, 1);
	}
	w->starts = 0;
	w->wanted = false;
	show_risk(w);
	return err;
}

void journal_writer_free(struct journal_writer **wp)
{
	struct journal_writer *w = *wp;

	if (w == NULL)
		return;
	journal_sync(w);
	while (w->prep.file != NULL || w->lane_count > 0) {
		spool_crew_wait(w->crew);
		take_finished(w);
	}
	spool_crew_free(&w->crew);
	file_close(w, &w->old);
	file_close(w, &w->cur);
	file_close(w, &w->next);
	loop_timer_fini(&w->timer);
	buf_fini(&w->buf);
	free(w);
	*wp = NULL;
}
