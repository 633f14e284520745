/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Batches on their way to the disk; see writer.h. A record may be acknowledged only when
 * spool_commit_deliver() calls back with 0, and that happens only after pwrite and fdatasync of its
 * batch both succeeded. An fdatasync that failed is never tried again (the kernel has marked the
 * pages clean: the second one would succeed without the data); its segment takes nothing more.
 */
#include <stdlib.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/counters.h"
#include "workers/spool/writer.h"

static struct batch *batch_take(struct spool_writer *w)
{
	struct batch *b = w->free_batches;

	if (b == NULL)
		return xcalloc(1, sizeof(*b));
	w->free_batches = b->next;
	b->next = NULL;
	return b;
}

static void batch_release(struct spool_writer *w, struct batch *b)
{
	spool_segment_unref(w, &b->seg);
	buf_reset(&b->buf);
	b->count = 0;
	b->bytes = 0;
	b->end = 0;
	b->err = 0;
	b->took_us = 0;
	b->synced = false;
	b->next = w->free_batches;
	w->free_batches = b;
}

struct batch *spool_batch_open(struct spool_writer *w, struct spool_segment *seg)
{
	struct batch *b = w->tail;

	if (b != NULL && b->state == BATCH_OPEN && b->seg == seg)
		return b;
	b = batch_take(w);
	b->state = BATCH_OPEN;
	b->seg = seg;
	seg->refs++;
	/* an earlier batch may still gather on the page where the used part ends */
	seg->tail = align_up(seg->tail, SPOOL_PAGE);
	b->buf_off = seg->tail;
	b->sync = w->conf.sync;
	if (w->tail != NULL)
		w->tail->next = b;
	else
		w->head = b;
	w->tail = b;
	return b;
}

void spool_batch_note(struct spool_writer *w, struct batch *b, const struct spool_record *h,
		      uint64_t off, uint64_t bytes, void *cookie)
{
	if (b->count == b->cap) {
		b->cap = b->cap == 0 ? 64 : b->cap * 2;
		b->records = xrealloc(b->records, b->cap * sizeof(*b->records));
		b->rows = xrealloc(b->rows, b->cap * sizeof(*b->rows));
	}
	struct proto_place place = { .seg = b->seg->number,
				     .off8 = (uint32_t)(off / SPOOL_ALIGN),
				     .len = (uint32_t)bytes };

	b->records[b->count] = (struct batch_record){ cookie, place };
	b->rows[b->count] = (struct spool_row){ .magic = SPOOL_ROW_MAGIC,
						.nonce = h->nonce,
						.qid_us = h->qid_us,
						.qid_life = h->qid_life,
						.off8 = place.off8,
						.len = place.len,
						.rcpt_count = h->rcpt_count,
						.flags = h->flags,
						.size = h->size,
						.commit_us = h->commit_us };
	b->count++;
	b->bytes += bytes;
	b->end = u64_max(b->end, off + bytes);
	w->at_risk += bytes;
}

int spool_batch_flush(struct batch *b)
{
	size_t pad = align_up(b->buf_off + b->buf.len, SPOOL_PAGE) - (b->buf_off + b->buf.len);
	char *place = buf_reserve(&b->buf, pad);

	memset(place, 0, pad);
	b->buf.len += pad;
	if (b->buf.len == 0)
		return 0;
	int err = io_pwrite_all(b->seg->fd, b->buf.p, b->buf.len, (off_t)b->buf_off);

	b->buf_off += b->buf.len;
	buf_reset(&b->buf);
	return err;
}

/* The batch that gathers at the end of the segment's used part, if any. */
static struct batch *batch_at_tail(struct spool_writer *w, struct spool_segment *seg)
{
	struct batch *found = NULL;

	for (struct batch *b = w->head; b != NULL; b = b->next) {
		if (b->seg == seg && b->state == BATCH_OPEN && b->buf.len > 0)
			found = b;
	}
	return found;
}

int spool_writer_flush_tail(struct spool_writer *w, struct spool_segment *seg)
{
	struct batch *b = batch_at_tail(w, seg);
	int err = b == NULL ? 0 : spool_batch_flush(b);

	seg->tail = align_up(seg->tail, SPOOL_PAGE);
	if (err != 0 && b->err == 0)
		b->err = err; /* what it gathered is not on disk: it can only fail now */
	return err;
}

/*
 * Write what is gathered and make it durable.
 *
 * Space that was only reserved becomes written extents through the file system's log. When the file
 * system is shut down at that moment (an error of the disk, an abort of the log), ext4 and xfs can
 * let the fdatasync under way succeed although those extents will read as zeroes: measured, one cut
 * in ten to twenty. A second fdatasync begins after the shutdown, and fails. Where everything was
 * written in a former life (recycled segments) the log has no part in it, and one is enough.
 */
static int batch_sync(const struct batch *b)
{
	int syncs = b->end > b->seg->written_end ? 2 : 1;

	for (int i = 0; i < syncs; i++) {
		if (fdatasync(b->seg->fd) < 0)
			return err_errno(); /* and never again on this file */
	}
	return 0;
}

/* In a thread, or in the loop for small batches. Touches the batch and, alone, its segment's files.
 */
void spool_batch_run(struct spool_job *job)
{
	struct batch *b = container_of(job, struct batch, job);
	int64_t t0 = clock_mono_us_raw();

	if (b->err == 0)
		b->err = spool_batch_flush(b);
	b->synced = b->err == 0 && b->sync;
	if (b->synced)
		b->err = batch_sync(b);
	b->took_us = clock_mono_us_raw() - t0;
	if (b->err != 0)
		return;
	for (size_t i = 0; i < b->count; i++) {
		b->rows[i].row = b->seg->rows + (uint32_t)i;
		spool_row_seal(&b->rows[i]);
	}
	spool_segment_rows(b->seg, b->rows, b->count);
}

static void count_commit(struct spool_writer *w, const struct batch *b)
{
	w->at_risk -= b->bytes;
	w->commit_avg_us += (b->took_us - w->commit_avg_us) / 8;
	if (w->conf.counters == NULL)
		return;
	if (b->synced)
		counter_add(w->conf.counters, CTR_spool_commits, 1);
	if (b->err != 0)
		counter_add(w->conf.counters, CTR_spool_commit_errors, 1);
	histogram_add(w->conf.counters, HIS_spool_batch, b->count);
	histogram_add(w->conf.counters, HIS_spool_commit, (uint64_t)b->took_us);
}

/* The senders are told 4xx and will come again: keep recovery from finding these too. Best effort.
 */
static void invalidate(const struct batch *b)
{
	static const char zeroes[sizeof(struct spool_record)];

	for (size_t i = 0; i < b->count; i++) {
		off_t off = (off_t)b->records[i].place.off8 * SPOOL_ALIGN;

		if (io_pwrite_all(b->seg->fd, zeroes, sizeof(zeroes), off) != 0)
			return;
	}
}

/* Nothing that waits for a segment with a failed commit may go on. */
static void segment_failed(struct spool_writer *w, struct spool_segment *seg, int err)
{
	if (!seg->failed)
		log_error("segment %08x: commit failed: %s; closing it, messages are deferred",
			  seg->number, err_str(err));
	seg->failed = true;
	spool_writer_detach(w, seg);
	for (struct batch *b = w->head; b != NULL; b = b->next) {
		if (b->seg != seg || b->state != BATCH_OPEN)
			continue;
		if (b->err == 0)
			b->err = err;
		b->state = BATCH_DONE;
		invalidate(b);
		count_commit(w, b);
	}
}

void spool_commit_finished(struct spool_writer *w, struct batch *b)
{
	b->seg->in_flight = false;
	w->running--;
	b->state = BATCH_DONE;
	count_commit(w, b);
	if (b->err != 0) {
		invalidate(b);
		segment_failed(w, b->seg, b->err);
	}
}

static bool commit_inline(const struct spool_writer *w, const struct batch *b)
{
	return w->running == 1 && b->next == NULL && b->count <= w->conf.inline_max &&
	       w->commit_avg_us < INLINE_COMMIT_US;
}

void spool_commit_start(struct spool_writer *w)
{
	for (struct batch *b = w->head; b != NULL && w->running < w->lanes; b = b->next) {
		if (b->state != BATCH_OPEN || b->seg->in_flight || b->count == 0)
			continue;
		/* the next batch of this segment begins on its own page */
		b->seg->tail = align_up(b->seg->tail, SPOOL_PAGE);
		b->state = BATCH_RUNNING;
		b->seg->in_flight = true;
		w->running++;
		if (commit_inline(w, b)) {
			spool_batch_run(&b->job);
			spool_commit_finished(w, b);
		} else {
			b->job.run = spool_batch_run;
			spool_crew_submit(w->crew, &b->job);
		}
	}
}

void spool_commit_deliver(struct spool_writer *w)
{
	while (w->head != NULL && w->head->state == BATCH_DONE) {
		struct batch *b = w->head;

		w->head = b->next;
		if (w->head == NULL)
			w->tail = NULL;
		for (size_t i = 0; i < b->count; i++)
			w->ops.committed(w->ops.ctx, b->records[i].cookie, b->err,
					 &b->records[i].place);
		batch_release(w, b);
	}
	if (w->conf.counters != NULL)
		gauge_set(w->conf.counters, GAU_spool_bytes_at_risk, w->at_risk);
}
