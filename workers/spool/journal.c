/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The outcome journal of a delivery, rewrite or supervisor process; see spool.h. Outcomes gather in
 * memory for a turn, go out with one write, and are synced by a thread when the oldest has waited
 * for the window: a crash can repeat deliveries of one window, never more. A journal whose write or
 * sync failed gets nothing more; the next file takes over.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/rand.h"
#include "lib/util.h"
#include "shm/counters.h"
#include "workers/spool/crew.h"
#include "workers/spool/outcome.h"
#include "workers/spool/segment.h"

#define BUFFER_BYTES   (1u << 20)
#define FILE_BYTES_MIN (64u << 10)
#define PREP_RETRY_MS  1000
#define ZERO_AHEAD     (256u << 10)

struct journal_file {
	uint32_t number;
	struct journal_owner owner;
	int fd;
	uint64_t nonce;
	uint64_t end;      /* of what was appended, the buffer included */
	uint64_t unsynced; /* outcomes */
	uint64_t last;     /* number of the newest one */
	uint64_t zeroed;   /* up to here it was written once, with zeroes */
	uint64_t solid;    /* ... and a sync after that succeeded */
	bool failed;
};

struct journal_prep {
	struct spool_job job;
	struct journal_file *file;
	const struct spool_dirs *dirs;
	uint64_t bytes;
	int64_t created_us;
	int err;
};

struct journal_syncing {
	struct spool_job job;
	struct journal_file *file; /* NULL when none is under way */
	uint64_t outcomes;
	uint64_t last, zeroed; /* of the file, when it began */
	unsigned times;
	int err;
};

struct journal_writer {
	struct journal_conf conf;
	const struct spool_dirs *dirs;
	struct spool_crew *crew;
	struct loop_timer timer;
	struct journal_file *cur, *next, *old; /* old: to be synced and closed */
	struct buf buf;                        /* goes to cur->end - buf.len */
	struct mono_ms oldest;                 /* of cur's unsynced outcomes */
	struct journal_prep prep;
	struct journal_syncing syncing;
	uint64_t appended, written, durable; /* outcomes, by number */
	uint64_t lost_from, lost_to;         /* those of files that failed */
	bool wanted;                         /* somebody waits for the sync */
	int64_t began_us;                    /* the last sync; monotonic */
	bool requested;
	int prep_err;
	struct mono_ms prep_retry_at;
};

/* ---- files ---- */

/* A local worker writes as root, but recovery reads as mail_owner, to whom the directory belongs.
 */
static void give_to_owner(int dirfd, int fd)
{
	struct stat st;

	if (geteuid() == 0 && fstat(dirfd, &st) == 0 && st.st_uid != 0 &&
	    fchown(fd, st.st_uid, st.st_gid) < 0)
		log_warn("journal: cannot give it to its owner: %s", err_str(err_errno()));
}

static int file_make(struct journal_prep *p)
{
	struct journal_file *f = p->file;
	struct spool_file_head head;
	char name[SPOOL_NAME_SIZE];

	f->fd = openat(p->dirs->journal, spool_name(f->number, "jnl", name),
		       O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->fd < 0)
		return err_errno();
	give_to_owner(p->dirs->journal, f->fd);
	spool_head_fill(&head, SPOOL_JOURNAL_MAGIC, f->number, f->nonce, p->created_us);
	spool_head_own(&head, f->owner);
	int err = spool_reserve(f->fd, 0, p->bytes);

	if (err == 0)
		err = io_pwrite_all(f->fd, &head, sizeof(head), 0);
	if (err == 0 && (fsync(f->fd) < 0 || fsync(p->dirs->journal) < 0))
		err = err_errno();
	if (err != 0) {
		unlinkat(p->dirs->journal, name, 0);
		io_close(&f->fd);
	}
	return err;
}

static void prep_run(struct spool_job *job)
{
	struct journal_prep *p = container_of(job, struct journal_prep, job);

	p->err = file_make(p);
}

static void sync_run(struct spool_job *job)
{
	struct journal_syncing *s = container_of(job, struct journal_syncing, job);

	for (unsigned i = 0; i < s->times && s->err == 0; i++) {
		if (fdatasync(s->file->fd) < 0)
			s->err = err_errno();
	}
}

static void file_close(struct journal_writer *w, struct journal_file **fp)
{
	struct journal_file *f = *fp;

	*fp = NULL;
	if (f == NULL)
		return;
	/* give back what was reserved and not used */
	if (ftruncate(f->fd, (off_t)f->end) < 0)
		log_warn("journal %08x: cannot shorten: %s", f->number, err_str(err_errno()));
	io_close(&f->fd);
	w->conf.closed_file(w->conf.ctx, f->number, f->end);
	free(f);
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
	bool want = w->cur == NULL || w->cur->failed || w->cur->end > w->conf.file_bytes / 4 * 3;

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

int journal_writer_new(const struct journal_conf *conf, const struct spool_dirs *dirs,
		       struct loop *loop, struct journal_writer **w_r)
{
	struct journal_writer *w = xcalloc(1, sizeof(*w));
	int err = spool_hold(dirs, false);

	if (err == 0)
		err = spool_crew_new(1, loop, &w->crew);
	if (err != 0) {
		free(w);
		return err;
	}
	w->conf = *conf;
	w->conf.file_bytes = u64_max(conf->file_bytes, FILE_BYTES_MIN);
	w->dirs = dirs;
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
	w->prep.job.run = prep_run;
	w->prep.dirs = w->dirs;
	w->prep.bytes = w->conf.file_bytes;
	w->prep.created_us = clock_now_wall().us;
	w->prep.file = xcalloc(1, sizeof(*w->prep.file));
	w->prep.file->number = number;
	w->prep.file->owner = owner;
	w->prep.file->nonce = rand_u64();
	w->prep.file->end = sizeof(struct spool_file_head);
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
	free(f);
}

static int sync_finished(struct journal_writer *w)
{
	struct journal_syncing *s = &w->syncing;
	struct journal_file *f;

	TAKE(f, s->file);
	f->unsynced -= s->outcomes;
	if (s->err != 0) {
		file_failed(w, f, "fdatasync", s->err);
	} else {
		f->solid = s->zeroed;
		w->durable = u64_max(w->durable, s->last);
	}
	if (w->conf.counters != NULL)
		counter_add(w->conf.counters, CTR_journal_syncs, 1);
	return s->err;
}

static int take_finished(struct journal_writer *w)
{
	struct spool_job *job;
	int err = 0;

	while ((job = spool_crew_take(w->crew)) != NULL) {
		if (job == &w->prep.job)
			prep_finished(w);
		else
			err = sync_finished(w);
	}
	return err;
}

/* ---- writing ---- */

/*
 * What is only reserved becomes written through the file system's log: a sync costs more then, and
 * one that a shutdown of the file system overtakes can lie (commit.c), so it takes two. Zeroes run
 * ahead of the outcomes, and from the next sync on that space is like any other.
 */
static void zero_ahead(struct journal_writer *w, struct journal_file *f)
{
	static const char zeroes[ZERO_AHEAD];
	uint64_t from = f->zeroed, to = u64_min(f->end + 2 * ZERO_AHEAD, w->conf.file_bytes);

	if (f->failed || f->end + ZERO_AHEAD <= from || from >= to)
		return;
	if (from < f->end) /* nothing can be done for what is written already */
		from = align_up(f->end, SPOOL_PAGE);
	for (uint64_t n; from < to; from += n) {
		n = u64_min(to - from, sizeof(zeroes));
		if (io_pwrite_all(f->fd, zeroes, (size_t)n, (off_t)from) != 0)
			return; /* the sync of it will tell */
	}
	f->zeroed = to;
}

static int flush(struct journal_writer *w)
{
	struct journal_file *f = w->cur;

	if (f == NULL || w->buf.len == 0)
		return 0;
	zero_ahead(w, f);
	int err = f->failed ? E_IO
			    : io_pwrite_all(f->fd, w->buf.p, w->buf.len,
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
	bool full = w->cur == NULL || w->cur->failed || w->cur->end >= w->conf.file_bytes;

	if (!full || w->next == NULL || w->old != NULL)
		return;
	flush(w);
	TAKE(w->old, w->cur);
	TAKE(w->cur, w->next);
}

int journal_append(struct journal_writer *w, const struct outcome *o, struct proto_jref *ref_r)
{
	rotate(w);
	struct journal_file *f = w->cur;

	/* no successor in sight: go on up to twice the size, then refuse */
	if (f == NULL || f->failed || f->end >= 2 * w->conf.file_bytes) {
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
	if (f->unsynced++ == 0) {
		w->oldest = clock_now();
		loop_timer_set(&w->timer, w->conf.sync_window_ms);
	}
	if (w->conf.counters != NULL)
		counter_add(w->conf.counters, CTR_journal_records, 1);
	return w->buf.len >= BUFFER_BYTES ? flush(w) : 0;
}

static void sync_start(struct journal_writer *w, struct journal_file *f)
{
	w->syncing.job.run = sync_run;
	w->syncing.file = f;
	w->syncing.outcomes = f->unsynced;
	w->syncing.last = f->last;
	w->syncing.zeroed = f->zeroed;
	w->syncing.times = f->end <= f->solid ? 1 : 2;
	w->syncing.err = 0;
	w->began_us = clock_mono_us_raw();
	spool_crew_submit(w->crew, &w->syncing.job);
}

/* How long a sync that somebody waits for is put off still. */
static int64_t pace_left_us(const struct journal_writer *w)
{
	if (w->conf.pace_us == 0)
		return 0;
	return w->began_us + w->conf.pace_us - clock_mono_us_raw();
}

static void sync_what_is_due(struct journal_writer *w)
{
	if (w->syncing.file != NULL)
		return;
	if (w->old != NULL) {
		/* a failed sync is not repeated: the second one would lie */
		if (w->old->unsynced > 0 && !w->old->failed)
			sync_start(w, w->old);
		else
			file_close(w, &w->old);
		return;
	}
	struct journal_file *f = w->cur;

	if (f != NULL && !f->failed && f->unsynced > 0 &&
	    (mono_since_ms(w->oldest) >= w->conf.sync_window_ms ||
	     (w->wanted && pace_left_us(w) <= 0))) {
		w->oldest = clock_now(); /* of those that come from here on */
		w->wanted = false;
		sync_start(w, f);
	}
}

static void show_risk(const struct journal_writer *w)
{
	uint64_t n =
		(w->cur != NULL ? w->cur->unsynced : 0) + (w->old != NULL ? w->old->unsynced : 0);

	if (w->conf.counters != NULL)
		gauge_set(w->conf.counters, GAU_journal_outcomes_at_risk, n);
}

static void set_timer(struct journal_writer *w)
{
	/* what has failed is never due, and a timer that is over at once would keep the loop awake
	 */
	if (w->cur == NULL || w->cur->failed || w->cur->unsynced == 0 || w->syncing.file != NULL)
		return;
	int64_t ms = w->conf.sync_window_ms - mono_since_ms(w->oldest);

	if (w->cur->failed) {
		ms = PREP_RETRY_MS; /* it is not synced any more: its successor is due */
	} else if (w->wanted) {
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
	w->wanted |= durable;
	return 0;
}

int journal_sync(struct journal_writer *w)
{
	int err = 0;

	/* The kernel reports an error to one caller only: hear what the running sync was told. */
	while (w->syncing.file != NULL && err == 0) {
		spool_crew_wait(w->crew);
		err = take_finished(w);
	}
	if (err == 0)
		err = flush(w);
	for (int i = 0; i < 2 && err == 0; i++) {
		struct journal_file *f = i == 0 ? w->old : w->cur;

		if (f == NULL || f->unsynced == 0)
			continue;
		/* twice: what is behind f->solid was only reserved */
		for (int k = 0; k < 2; k++) {
			if (!f->failed && fdatasync(f->fd) < 0)
				file_failed(w, f, "fdatasync", err_errno());
		}
		if (f->failed) {
			err = E_IO;
		} else {
			f->unsynced = 0;
			f->solid = f->zeroed;
			w->durable = u64_max(w->durable, f->last);
		}
		if (w->conf.counters != NULL)
			counter_add(w->conf.counters, CTR_journal_syncs, 1);
	}
	show_risk(w);
	return err;
}

void journal_writer_free(struct journal_writer **wp)
{
	struct journal_writer *w = *wp;

	if (w == NULL)
		return;
	journal_sync(w);
	while (w->prep.file != NULL || w->syncing.file != NULL) {
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
