/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Records written while their content arrives (spool.h: spool_stream_*). The space is reserved at
 * the end of a segment; content goes to its place from behind the header on, then the envelope, and
 * the header last. Until then nothing at that place can pass for a record.
 */
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/writer.h"

#define STREAM_CHUNK (256u << 10)

struct spool_stream {
	struct spool_writer *w;
	struct spool_segment *seg;
	uint64_t off;      /* of the record */
	uint64_t reserved; /* bytes from there */
	uint64_t max;      /* of content and envelope, as asked for */
	uint64_t content_len;
	uint32_t crc;
	int err;        /* a write failed: it can only be aborted */
	struct buf buf; /* content not written yet: the last bytes of content_len */
};

int spool_stream_open(struct spool_writer *w, uint64_t max_bytes, struct spool_stream **s_r)
{
	struct spool_segment *seg;
	uint64_t bytes = spool_record_bytes(0, max_bytes);

	if (bytes == 0)
		return E_LIMIT;
	bytes = align_up(bytes, SPOOL_PAGE); /* what follows begins on a page */
	int err = spool_writer_room(w, bytes, &seg);

	if (err != 0)
		return err;
	err = spool_writer_flush_tail(w, seg);
	if (err != 0) {
		spool_segment_unref(w, &seg);
		return err;
	}
	struct spool_stream *s = xcalloc(1, sizeof(*s));

	s->w = w;
	s->seg = seg;
	s->off = seg->tail;
	s->reserved = bytes;
	s->max = max_bytes;
	seg->tail += bytes;
	*s_r = s;
	return 0;
}

static int write_out(struct spool_stream *s)
{
	uint64_t at = s->off + sizeof(struct spool_record) + s->content_len - s->buf.len;

	if (s->err == 0 && s->buf.len > 0)
		s->err = io_pwrite_all(s->seg->fd, s->buf.p, s->buf.len, (off_t)at);
	buf_reset(&s->buf);
	return s->err;
}

int spool_stream_add(struct spool_stream *s, const void *data, size_t len)
{
	if (s->seg->failed)
		s->err = E_IO;
	else if (len > s->max - s->content_len)
		s->err = E_LIMIT;
	if (s->err != 0)
		return s->err;
	/* sum the private copy: `data` may be shared memory */
	buf_add(&s->buf, data, len);
	s->crc = crc32c(s->crc, s->buf.p + s->buf.len - len, len);
	s->content_len += len;
	return s->buf.len >= STREAM_CHUNK ? write_out(s) : 0;
}

/* Give back the unused end of the reservation when nothing was put behind it. */
static void shrink(struct spool_stream *s, uint64_t bytes)
{
	if (s->seg->tail == s->off + s->reserved)
		s->seg->tail = align_up(s->off + bytes, SPOOL_PAGE);
}

static int write_record(struct spool_stream *s, struct spool_record *h, struct sv env)
{
	uint64_t env_at = s->off + sizeof(*h) + s->content_len;
	int err = write_out(s);

	h->seg = s->seg->number;
	h->nonce = s->seg->nonce;
	h->env_len = (uint32_t)env.len;
	h->content_len = s->content_len;
	h->flags |= SPOOL_ENV_LAST;
	h->commit_us = clock_now_wall().us;
	spool_record_seal(h, crc32c(s->crc, env.p, env.len));
	if (err == 0)
		err = io_pwrite_all(s->seg->fd, env.p, env.len, (off_t)env_at);
	if (err == 0)
		err = io_pwrite_all(s->seg->fd, h, sizeof(*h), (off_t)s->off);
	return err;
}

int spool_stream_commit(struct spool_stream **sp, const struct spool_record *hdr,
			struct sv envelope, void *cookie)
{
	struct spool_stream *s = *sp;
	struct spool_record h = *hdr;
	uint64_t bytes = spool_record_bytes(envelope.len, s->content_len);
	int err = 0;

	if (s->seg->failed)
		err = E_IO;
	else if (bytes == 0 || envelope.len > s->max - s->content_len)
		err = E_LIMIT;
	if (err == 0)
		err = write_record(s, &h, envelope);
	if (err != 0) {
		spool_stream_abort(sp);
		return err;
	}
	shrink(s, bytes);
	spool_batch_note(s->w, spool_batch_open(s->w, s->seg), &h, s->off, bytes, cookie);
	spool_segment_unref(s->w, &s->seg);
	buf_fini(&s->buf);
	free(s);
	*sp = NULL;
	return 0;
}

void spool_stream_abort(struct spool_stream **sp)
{
	struct spool_stream *s = *sp;

	if (s == NULL)
		return;
	static const char zeroes[sizeof(struct spool_record)];

	/* a header of ours may stand there when the commit failed half-way */
	if (io_pwrite_all(s->seg->fd, zeroes, sizeof(zeroes), (off_t)s->off) == 0)
		shrink(s, 0);
	spool_segment_unref(s->w, &s->seg);
	buf_fini(&s->buf);
	free(s);
	*sp = NULL;
}
