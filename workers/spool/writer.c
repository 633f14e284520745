/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The segment writer of a rewrite worker: where records go. See spool.h, writer.h. */
#include "workers/spool/writer.h"

#include <stdlib.h>

#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"

#define SEGMENT_BYTES_MIN (64u << 10)

int spool_writer_new(const struct spool_writer_conf *conf, const struct spool_writer_ops *ops,
		     const struct spool_dirs *dirs, struct loop *loop, struct spool_writer **w_r)
{
	struct spool_writer *w = xcalloc(1, sizeof(*w));

	w->conf = *conf;
	w->conf.segment_bytes = align_up(conf->segment_bytes, SPOOL_PAGE);
	if (w->conf.segment_bytes < SEGMENT_BYTES_MIN)
		w->conf.segment_bytes = SEGMENT_BYTES_MIN;
	if (w->conf.segment_bytes > UINT32_MAX)
		w->conf.segment_bytes = 1u << 31;
	w->ops = *ops;
	w->dirs = dirs;
	w->lanes = conf->max_syncs >= 2 ? MAX_LANES : 1;
	w->lanes_wanted = 1;
	if (!conf->sync)
		log_warn("the spool is not synced: acknowledged messages can be lost");
	/* one more for making segments */
	int err = spool_hold(dirs, false);

	if (err == 0)
		err = spool_crew_new(w->lanes + 1, loop, &w->crew);
	if (err != 0) {
		free(w);
		return err;
	}
	*w_r = w;
	return 0;
}

/* ---- segments ---- */

void spool_segment_unref(struct spool_writer *w, struct spool_segment **segp)
{
	struct spool_segment *seg = *segp;

	*segp = NULL;
	if (seg == NULL || --seg->refs > 0)
		return;
	uint32_t number = seg->number;
	uint64_t bytes = seg->tail;

	spool_segment_close(&seg);
	w->ops.closed_file(w->ops.ctx, number, bytes);
}

void spool_writer_detach(struct spool_writer *w, struct spool_segment *seg)
{
	for (unsigned i = 0; i < w->lanes; i++) {
		if (w->lane[i] == seg)
			spool_segment_unref(w, &w->lane[i]);
	}
}

static unsigned wanted_segments(const struct spool_writer *w)
{
	unsigned n = 0;
	bool ahead = w->starved;

	for (unsigned i = 0; i < w->lanes_wanted; i++) {
		if (w->lane[i] == NULL)
			n++;
		else if (w->lane[i]->tail > w->lane[i]->size / 2)
			ahead = true;
	}
	if (n == 0 && ahead)
		n = 1;
	return n;
}

void spool_writer_request(struct spool_writer *w)
{
	unsigned want = wanted_segments(w);
	unsigned have = w->ready_count + w->granted_count + w->prep.busy + w->requested;

	if (w->prep_err != 0 && clock_now().ms < w->prep_retry_at.ms)
		return;
	for (; have < want; have++) {
		w->requested++;
		w->ops.need_file(w->ops.ctx);
	}
}

static void prep_run(struct spool_job *job)
{
	struct prep *p = container_of(job, struct prep, job);

	p->err = spool_segment_make(p->dirs, p->number, p->recycle, p->bytes, p->created_us,
				    &p->seg);
}

static void prep_start(struct spool_writer *w)
{
	if (w->prep.busy || w->granted_count == 0)
		return;
	w->prep = (struct prep){ .job.run = prep_run,
				 .dirs = w->dirs,
				 .number = w->granted[0].number,
				 .recycle = w->granted[0].recycle,
				 .bytes = w->conf.segment_bytes,
				 .created_us = clock_now_wall().us,
				 .busy = true };
	w->granted_count--;
	memmove(w->granted, w->granted + 1, w->granted_count * sizeof(w->granted[0]));
	spool_crew_submit(w->crew, &w->prep.job);
}

static void prep_finished(struct spool_writer *w)
{
	struct prep *p = &w->prep;

	p->busy = false;
	if (p->err == 0) {
		w->ready[w->ready_count++] = p->seg;
		w->prep_err = 0;
		w->starved = false;
	} else {
		log_error("segment %08x: cannot make it: %s; messages are deferred", p->number,
			  err_str(p->err));
		w->prep_err = p->err;
		w->prep_retry_at = (struct mono_ms){ clock_now().ms + PREP_RETRY_MS };
		w->ops.closed_file(w->ops.ctx, p->number, 0);
	}
	prep_start(w);
}

void spool_writer_grant(struct spool_writer *w, uint32_t number, uint32_t recycle)
{
	if (w->requested > 0)
		w->requested--;
	if (w->granted_count + w->ready_count + w->prep.busy >= MAX_READY) {
		w->ops.closed_file(w->ops.ctx, number, 0); /* not asked for */
		return;
	}
	w->granted[w->granted_count].number = number;
	w->granted[w->granted_count++].recycle = recycle;
	prep_start(w);
}

/* ---- where an append goes ---- */

static bool fits(const struct spool_segment *seg, uint64_t bytes)
{
	uint64_t at = align_up(seg->tail, SPOOL_PAGE); /* it may begin a batch */

	return !seg->failed && at <= seg->size && bytes <= seg->size - at;
}

static struct spool_segment *take_ready(struct spool_writer *w)
{
	struct spool_segment *seg;

	if (w->ready_count == 0)
		return NULL;
	seg = w->ready[0];
	w->ready_count--;
	memmove(w->ready, w->ready + 1, w->ready_count * sizeof(w->ready[0]));
	return seg;
}

/* The lane to append to: where a batch gathers already, else one that is not syncing, else the one
 * whose sync began first. */
static unsigned pick_lane(struct spool_writer *w)
{
	struct batch *last = w->tail;

	for (unsigned i = 0; i < w->lanes; i++) {
		if (last != NULL && last->state == BATCH_OPEN && w->lane[i] == last->seg)
			return i;
	}
	for (unsigned i = 0; i < w->lanes_wanted; i++) {
		if (w->lane[i] != NULL && !w->lane[i]->in_flight)
			return i;
	}
	if (w->lanes_wanted < w->lanes && w->lane[0] != NULL)
		w->lanes_wanted++; /* two at once have work: use the second from now on */
	for (unsigned i = 0; i < w->lanes_wanted; i++) {
		if (w->lane[i] == NULL && w->ready_count > 0)
			return i;
	}
	for (struct batch *b = w->head; b != NULL; b = b->next) {
		for (unsigned i = 0; i < w->lanes; i++) {
			if (b->state == BATCH_RUNNING && w->lane[i] == b->seg)
				return i;
		}
	}
	return 0;
}

static int no_segment(struct spool_writer *w)
{
	w->starved = true;
	spool_writer_request(w);
	return w->prep_err != 0 ? w->prep_err : E_AGAIN;
}

/* A fresh segment with room for that; a small disk gave it less than its size. */
static int take_fresh(struct spool_writer *w, uint64_t bytes, struct spool_segment **seg_r)
{
	struct spool_segment *seg = take_ready(w);

	if (seg == NULL)
		return no_segment(w);
	int err = fits(seg, bytes) ? 0 : spool_segment_extend(seg, SPOOL_FIRST_OFF + bytes);

	if (err != 0) {
		w->ready[w->ready_count++] = seg;
		return err;
	}
	*seg_r = seg;
	return 0;
}

/* A record longer than a segment gets a segment of its own. */
static int own_segment(struct spool_writer *w, uint64_t bytes, struct spool_segment **seg_r)
{
	struct spool_segment *seg;
	int err = take_fresh(w, bytes, &seg);

	if (err != 0)
		return err;
	seg->refs++;
	*seg_r = seg;
	return 0;
}

int spool_writer_room(struct spool_writer *w, uint64_t bytes, struct spool_segment **seg_r)
{
	if (bytes > w->conf.segment_bytes - SPOOL_FIRST_OFF)
		return own_segment(w, bytes, seg_r);
	unsigned i = pick_lane(w);

	if (w->lane[i] == NULL || !fits(w->lane[i], bytes)) {
		struct spool_segment *seg;
		int err = take_fresh(w, bytes, &seg);

		if (err != 0)
			return err;
		spool_segment_unref(w, &w->lane[i]);
		w->lane[i] = seg;
		seg->refs++;
	}
	*seg_r = w->lane[i];
	(*seg_r)->refs++;
	spool_writer_request(w);
	return 0;
}

/* ---- append ---- */

static bool too_much(const struct spool_writer *w)
{
	const struct batch *b = w->tail;

	return w->at_risk > AT_RISK_MAX ||
	       (b != NULL && b->state == BATCH_OPEN &&
		(b->buf.len > BATCH_BYTES_MAX || b->count >= BATCH_RECORDS_MAX));
}

static void fill_header(struct spool_record *h, const struct spool_segment *seg, size_t env_len,
			uint64_t content_len)
{
	h->seg = seg->number;
	h->nonce = seg->nonce;
	h->env_len = (uint32_t)env_len;
	h->content_len = content_len;
	h->flags &= ~SPOOL_ENV_LAST;
	h->commit_us = clock_now_wall().us;
}

/* Into the open batch's memory. Copies once, sums the copy: the content may be shared memory that
 * somebody else can still write. */
static void append_buffered(struct spool_writer *w, struct spool_segment *seg,
			    struct spool_record *h, struct sv env, const struct spool_iov *content,
			    size_t count, uint64_t bytes, void *cookie)
{
	struct batch *b = spool_batch_open(w, seg);
	char *start = buf_reserve(&b->buf, bytes);
	char *p = start + sizeof(*h);

	if (b->buf.len == 0)
		b->buf_off = seg->tail;
	memcpy(p, env.p, env.len);
	p += env.len;
	for (size_t i = 0; i < count; i++) {
		memcpy(p, content[i].p, content[i].len);
		p += content[i].len;
	}
	memset(p, 0, bytes - (size_t)(p - start));
	spool_record_seal(h, crc32c(0, start + sizeof(*h), (size_t)(p - start) - sizeof(*h)));
	memcpy(start, h, sizeof(*h));
	b->buf.len += bytes;
	uint64_t off = seg->tail;

	seg->tail += bytes;
	spool_batch_note(w, b, h, off, bytes, cookie);
}

/* A large one: straight to its place, the header last. */
static int append_direct(struct spool_writer *w, struct spool_segment *seg, struct spool_record *h,
			 struct sv env, const struct spool_iov *content, size_t count,
			 uint64_t bytes, void *cookie)
{
	int err = spool_writer_flush_tail(w, seg);
	uint64_t off = seg->tail, at = off + sizeof(*h);
	uint32_t crc = crc32c(0, env.p, env.len);

	if (err == 0)
		err = io_pwrite_all(seg->fd, env.p, env.len, (off_t)at);
	at += env.len;
	for (size_t i = 0; i < count && err == 0; i++) {
		crc = crc32c(crc, content[i].p, content[i].len);
		err = io_pwrite_all(seg->fd, content[i].p, content[i].len, (off_t)at);
		at += content[i].len;
	}
	spool_record_seal(h, crc);
	if (err == 0)
		err = io_pwrite_all(seg->fd, h, sizeof(*h), (off_t)off);
	if (err != 0)
		return err;
	seg->tail += bytes;
	spool_batch_note(w, spool_batch_open(w, seg), h, off, bytes, cookie);
	return 0;
}

int spool_writer_append(struct spool_writer *w, const struct spool_record *hdr, struct sv envelope,
			const struct spool_iov *content, size_t content_count, void *cookie)
{
	struct spool_record h = *hdr;
	struct spool_segment *seg;
	uint64_t content_len = 0, bytes;
	int err;

	for (size_t i = 0; i < content_count; i++)
		content_len += content[i].len;
	bytes = spool_record_bytes(envelope.len, content_len);
	if (bytes == 0)
		return E_LIMIT;
	if (too_much(w))
		return E_AGAIN;
	err = spool_writer_room(w, bytes, &seg);
	if (err != 0)
		return err;
	fill_header(&h, seg, envelope.len, content_len);
	if (bytes > DIRECT_BYTES)
		err = append_direct(w, seg, &h, envelope, content, content_count, bytes, cookie);
	else
		append_buffered(w, seg, &h, envelope, content, content_count, bytes, cookie);
	spool_segment_unref(w, &seg);
	return err;
}

/* ---- turn and end ---- */

static void take_finished(struct spool_writer *w)
{
	struct spool_job *job;

	while ((job = spool_crew_take(w->crew)) != NULL) {
		if (job == &w->prep.job)
			prep_finished(w);
		else
			spool_commit_finished(w, container_of(job, struct batch, job));
	}
}

static bool can_start(const struct spool_writer *w)
{
	for (const struct batch *b = w->head; b != NULL && w->running < w->lanes; b = b->next) {
		if (b->state == BATCH_OPEN && !b->seg->in_flight)
			return true;
	}
	return false;
}

bool spool_writer_poll(void *writer)
{
	struct spool_writer *w = writer;

	take_finished(w);
	spool_commit_start(w);
	spool_commit_deliver(w);
	spool_writer_request(w);
	return can_start(w); /* callbacks may have appended */
}

void spool_writer_free(struct spool_writer **wp)
{
	struct spool_writer *w = *wp;

	if (w == NULL)
		return;
	while (w->head != NULL || w->prep.busy) {
		w->granted_count = 0;
		take_finished(w);
		spool_commit_start(w);
		spool_commit_deliver(w);
		if (w->running > 0 || w->prep.busy)
			spool_crew_wait(w->crew);
	}
	for (unsigned i = 0; i < w->lanes; i++)
		spool_segment_unref(w, &w->lane[i]);
	while (w->ready_count > 0) {
		struct spool_segment *seg = w->ready[--w->ready_count];

		seg->refs = 1;
		spool_segment_unref(w, &seg);
	}
	spool_crew_free(&w->crew);
	while (w->free_batches != NULL) {
		struct batch *b = w->free_batches;

		w->free_batches = b->next;
		buf_fini(&b->buf);
		free(b->records);
		free(b->rows);
		free(b);
	}
	free(w);
	*wp = NULL;
}
