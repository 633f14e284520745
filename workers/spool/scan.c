/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recovery of one segment: every committed record in it, whatever a crash or a bad sector left.
 * Called by the supervisor at start and after the death of a rewrite worker, and by postcat.
 *
 * The index tells as far as it goes; rows are written after their commit, so a valid row is a
 * committed record. What rows do not account for is read from the segment itself, in steps of 8
 * bytes, for headers with the segment's number and nonce and a right checksum: bytes of a message
 * cannot contain such a header, so it does no harm to look inside damaged records.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/arena.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/mail/envelope.h"
#include "workers/spool/format.h"
#include "workers/spool/window.h"

#define PENDING_MAX  64
#define ENVELOPE_MAX (64u << 20)
#define RCPTS_MAX    1000000u

struct damaged { /* a header of ours whose record fails its checksum */
	struct qid qid;
	struct proto_place place;
};

struct scan {
	const struct spool_dirs *dirs;
	uint32_t seg;
	struct spool_window win;
	bool have_nonce;
	uint64_t nonce;
	struct spool_row *rows; /* of records, by offset once loaded */
	size_t row_count;
	bool rows_whole;     /* no row is missing before the last one read */
	bool closed;         /* ... and the close row says that no record is beyond them */
	uint64_t crc_budget; /* bytes that may still be summed in vain */
	struct damaged
		pending[PENDING_MAX]; /* damage, or the torn tail: the next valid record tells */
	size_t pending_count;
	uint64_t lost; /* pending losses without a readable header */
	struct arena arena;
	struct buf env;
	spool_found_fn fn;
	void *ctx;
	struct spool_scan_stats *stats;
};

/* ---- index ---- */

static int row_by_offset(const void *a, const void *b)
{
	uint32_t x = ((const struct spool_row *)a)->off8, y = ((const struct spool_row *)b)->off8;

	return x < y ? -1 : x > y;
}

static uint64_t row_off(const struct spool_row *r)
{
	return (uint64_t)r->off8 * SPOOL_ALIGN;
}

static bool row_in_file(const struct scan *s, const struct spool_row *r)
{
	uint64_t off = row_off(r);

	return r->len >= sizeof(struct spool_record) && r->len % SPOOL_ALIGN == 0 &&
	       off >= SPOOL_FIRST_OFF && off <= s->win.size && r->len <= s->win.size - off;
}

static void take_rows(struct scan *s, struct spool_row *rows, size_t count)
{
	size_t last = 0; /* one behind the last good row */

	s->rows_whole = true;
	for (size_t k = 0; k < count; k++) {
		if (!spool_row_ok(&rows[k], s->nonce, (uint32_t)k))
			continue;
		if (rows[k].magic == SPOOL_CLOSE_MAGIC) {
			s->closed = last == k && s->row_count == k;
			break;
		}
		if (last != k || !row_in_file(s, &rows[k]))
			s->rows_whole = false;
		last = k + 1;
		if (row_in_file(s, &rows[k]))
			rows[s->row_count++] = rows[k];
	}
	if (!s->rows_whole)
		s->closed = false;
}

/* Rows are in order of commit: nearly that of offsets, but for streams. Overlaps cannot be ours. */
static void sort_rows(struct scan *s)
{
	bool sorted = true;
	size_t n = 0;

	for (size_t i = 1; i < s->row_count && sorted; i++)
		sorted = s->rows[i - 1].off8 < s->rows[i].off8;
	if (!sorted)
		qsort(s->rows, s->row_count, sizeof(*s->rows), row_by_offset);
	for (size_t i = 0; i < s->row_count; i++) {
		if (n > 0 && row_off(&s->rows[n - 1]) + s->rows[n - 1].len > row_off(&s->rows[i])) {
			s->rows_whole = s->closed = false;
			continue;
		}
		s->rows[n++] = s->rows[i];
	}
	s->row_count = n;
}

static void load_index(struct scan *s)
{
	char name[SPOOL_NAME_SIZE];
	struct spool_file_head head;
	struct stat st;
	int fd = openat(s->dirs->seg, spool_name(s->seg, "idx", name),
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	bool good = fstat(fd, &st) == 0 && io_pread_all(fd, &head, sizeof(head), 0) == 0 &&
		    spool_head_ok(&head, SPOOL_INDEX_MAGIC, s->seg) &&
		    (!s->have_nonce || head.nonce == s->nonce);
	/* no more rows than records can stand in the file, and the close row */
	size_t count = good ? (size_t)st.st_size / sizeof(*s->rows) - 1 : 0;

	count = size_min(count, (size_t)(s->win.size / sizeof(struct spool_record)) + 1);
	if (count > 0) {
		s->nonce = head.nonce;
		s->have_nonce = true;
		s->rows = xmalloc(count * sizeof(*s->rows));
		if (io_pread_all(fd, s->rows, count * sizeof(*s->rows), sizeof(head)) == 0)
			take_rows(s, s->rows, count);
	}
	close(fd);
	sort_rows(s);
}

/* ---- what was found ---- */

/* The envelope of a notification names what it reports: recovery must not report it again. */
static void read_bounce_of(struct scan *s, struct spool_found *f)
{
	uint64_t pos = (uint64_t)f->place.off8 * SPOOL_ALIGN;
	struct spool_record h;
	struct envelope e;

	if (io_pread_all(s->win.fd, &h, sizeof(h), (off_t)pos) != 0 || h.env_len > ENVELOPE_MAX)
		return;
	pos += sizeof(h) + ((h.flags & SPOOL_ENV_LAST) != 0 ? h.content_len : 0);
	buf_reset(&s->env);
	char *p = buf_reserve(&s->env, h.env_len);

	if (io_pread_all(s->win.fd, p, h.env_len, (off_t)pos) != 0)
		return;
	arena_reset(&s->arena);
	if (env_decode((struct sv){ p, h.env_len }, RCPTS_MAX, &s->arena, &e) == 0)
		f->bounce_of = e.bounce_of;
}

static void count_pending(struct scan *s)
{
	bool look_only = s->dirs->corrupt < 0;

	for (size_t i = 0; i < s->pending_count && !look_only; i++) {
		struct damaged *d = &s->pending[i];
		char text[QID_TEXT_SIZE];
		int err = spool_quarantine(s->dirs, d->qid, d->place);

		log_warn("segment %08x: the record of %s at %llu is damaged%s%s", s->seg,
			 qid_format(d->qid, text), (unsigned long long)d->place.off8 * SPOOL_ALIGN,
			 err == 0 ? "; its bytes are in corrupt/" : "; cannot keep its bytes: ",
			 err == 0 ? "" : err_str(err));
	}
	if (s->lost > 0 && !look_only)
		log_warn("segment %08x: bytes without a readable header between records", s->seg);
	s->stats->damaged += s->pending_count + s->lost;
	s->pending_count = 0;
	s->lost = 0;
}

static int emit(struct scan *s, struct spool_found *f)
{
	count_pending(s);
	s->stats->records++;
	f->place.seg = s->seg;
	f->flags &= ~SPOOL_ENV_LAST;
	if ((f->flags & MSGF_INTERNAL) != 0)
		read_bounce_of(s, f);
	return s->fn(s->ctx, f);
}

static int emit_row(struct scan *s, const struct spool_row *r)
{
	struct spool_found f = { .qid = { r->qid_us, r->qid_life },
				 .place = { .off8 = r->off8, .len = r->len },
				 .rcpt_count = r->rcpt_count,
				 .flags = r->flags,
				 .size = r->size,
				 .commit_us = r->commit_us };

	s->stats->index_rows++;
	return emit(s, &f);
}

static int emit_record(struct scan *s, const struct spool_record *h, uint64_t off, uint64_t bytes)
{
	struct spool_found f = { .qid = { h->qid_us, h->qid_life },
				 .place = { .off8 = (uint32_t)(off / SPOOL_ALIGN),
					    .len = (uint32_t)bytes },
				 .rcpt_count = h->rcpt_count,
				 .flags = h->flags,
				 .size = h->size,
				 .commit_us = h->commit_us };

	return emit(s, &f);
}

/* ---- the segment itself ---- */

/* Sums what is wanted in vain are bounded: a file made to be slow costs a few readings of itself.
 */
static bool crc_ok(struct scan *s, const struct spool_record *h, uint64_t off)
{
	uint64_t left = h->env_len + h->content_len, pos = off + sizeof(*h);
	uint32_t crc = 0;

	if (left > s->crc_budget)
		return false;
	while (left > 0) {
		size_t have, n = (size_t)u64_min(left, SPOOL_WINDOW_BYTES);
		const char *p = spool_window_at(&s->win, pos, n, &have);

		if (p == NULL)
			return false;
		n = (size_t)u64_min(left, have);
		crc = crc32c(crc, p, n);
		pos += n;
		left -= n;
	}
	if (spool_record_crc_ok(h, crc))
		return true;
	s->crc_budget -= h->env_len + h->content_len;
	return false;
}

static void note_damage(struct scan *s, const struct spool_record *h, uint64_t off, uint64_t bytes)
{
	if (s->pending_count == PENDING_MAX)
		return;
	s->pending[s->pending_count++] = (struct damaged){
		{ h->qid_us, h->qid_life },
		{ .seg = s->seg, .off8 = (uint32_t)(off / SPOOL_ALIGN), .len = (uint32_t)bytes }
	};
}

/* The next place from pos on (8-aligned) where the magic number stands; `end` when none does. */
static uint64_t find_magic(struct scan *s, uint64_t pos, uint64_t end)
{
	while (pos + sizeof(struct spool_record) <= end) {
		size_t have;
		const char *p = spool_window_at(&s->win, pos, sizeof(struct spool_record), &have);

		if (p == NULL)
			return end;
		have = (size_t)u64_min(have, end - pos);
		for (size_t i = 0; i + sizeof(struct spool_record) <= have; i += SPOOL_ALIGN) {
			uint32_t magic;

			memcpy(&magic, p + i, sizeof(magic));
			if (magic == SPOOL_RECORD_MAGIC)
				return pos + i;
		}
		pos += (have - sizeof(struct spool_record)) / SPOOL_ALIGN * SPOOL_ALIGN +
		       SPOOL_ALIGN;
		pos = align_up(spool_window_data(&s->win, pos, end), SPOOL_ALIGN);
	}
	return end;
}

static bool header_at(struct scan *s, uint64_t at, uint64_t end, struct spool_record *h,
		      uint64_t *bytes_r)
{
	size_t have;
	const char *p = spool_window_at(&s->win, at, sizeof(*h), &have);

	if (p == NULL)
		return false;
	memcpy(h, p, sizeof(*h));
	return spool_record_plausible(h, s->seg, s->have_nonce ? &s->nonce : NULL, at, end,
				      bytes_r);
}

/* A batch ends in zeroes up to the next page, and streams begin on a page. So where a record ended
 * within a page, the next bytes are a header or zero, or something was lost. */
static bool something_lost(struct scan *s, uint64_t pos, uint64_t end)
{
	static const char zeroes[SPOOL_ALIGN];
	struct spool_record h;
	uint64_t bytes;
	size_t have;
	const char *p;

	if (pos % SPOOL_PAGE == 0 || pos + SPOOL_ALIGN > end || header_at(s, pos, end, &h, &bytes))
		return false;
	p = spool_window_at(&s->win, pos, SPOOL_ALIGN, &have);
	return p != NULL && memcmp(p, zeroes, SPOOL_ALIGN) != 0;
}

/* Valid records in [pos, end). */
static int scan_range(struct scan *s, uint64_t pos, uint64_t end)
{
	int err = 0;

	s->crc_budget = 4 * (end - pos);
	s->lost += something_lost(s, pos, end);
	while (err == 0 && pos < end) {
		uint64_t at = find_magic(s, pos, end), bytes;
		struct spool_record h;

		pos = at + SPOOL_ALIGN;
		if (at >= end || !header_at(s, at, end, &h, &bytes))
			continue;
		if (!crc_ok(s, &h, at)) {
			note_damage(s, &h, at, bytes);
			continue;
		}
		err = emit_record(s, &h, at, bytes);
		pos = at + bytes;
		s->lost += something_lost(s, pos, end);
	}
	return err;
}

/* May the bytes between a record's end and the next indexed one hold a record without a row? A
 * fill-up to the page cannot, unless rows are missing; the space of a stream can. */
static bool gap_matters(const struct scan *s, uint64_t pos, uint64_t next)
{
	if (s->closed || pos >= next)
		return false;
	return !s->rows_whole || align_up(pos, SPOOL_PAGE) != next;
}

static int scan_all(struct scan *s, uint64_t from)
{
	uint64_t pos = u64_max(SPOOL_FIRST_OFF, align_up(from, SPOOL_ALIGN));
	int err = 0;

	for (size_t i = 0; i < s->row_count && err == 0; i++) {
		uint64_t off = row_off(&s->rows[i]);

		if (off < pos)
			continue;
		if (gap_matters(s, pos, off))
			err = scan_range(s, pos, off);
		if (err == 0)
			err = emit_row(s, &s->rows[i]);
		pos = off + s->rows[i].len;
	}
	if (err == 0 && !s->closed && pos < s->win.size)
		err = scan_range(s, pos, s->win.size);
	return err;
}

/* Without head and index: the nonce of the record that must stand first. */
static void nonce_from_first_record(struct scan *s)
{
	size_t have;
	uint64_t bytes;
	struct spool_record h;
	const char *p = spool_window_at(&s->win, SPOOL_FIRST_OFF, sizeof(h), &have);

	if (p == NULL)
		return;
	memcpy(&h, p, sizeof(h));
	s->crc_budget = s->win.size;
	if (spool_record_plausible(&h, s->seg, NULL, SPOOL_FIRST_OFF, s->win.size, &bytes) &&
	    crc_ok(s, &h, SPOOL_FIRST_OFF)) {
		s->nonce = h.nonce;
		s->have_nonce = true;
	}
}

static void find_nonce(struct scan *s)
{
	struct spool_file_head head;
	size_t have;
	const char *p = spool_window_at(&s->win, 0, sizeof(head), &have);

	if (p != NULL) {
		memcpy(&head, p, sizeof(head));
		s->have_nonce = spool_head_ok(&head, SPOOL_SEGMENT_MAGIC, s->seg);
		s->nonce = head.nonce;
	}
	bool by_head = s->have_nonce;

	load_index(s);
	if (!s->have_nonce)
		nonce_from_first_record(s);
	if (!by_head && s->win.size > 0) {
		log_warn("segment %08x: its head is damaged", s->seg);
		s->stats->damaged++;
	}
}

int spool_scan_segment(const struct spool_dirs *d, uint32_t seg, uint64_t from, spool_found_fn fn,
		       void *ctx, struct spool_scan_stats *stats)
{
	struct spool_scan_stats own = { 0 };
	struct scan s = { .dirs = d, .seg = seg, .fn = fn, .ctx = ctx };
	int err = spool_window_open(&s.win, d->seg, seg, "seg");

	if (err != 0)
		return err;
	s.stats = stats != NULL ? stats : &own;
	s.stats->segments++;
	arena_init(&s.arena, 16384, ENVELOPE_MAX);
	find_nonce(&s);
	err = scan_all(&s, from);
	for (size_t i = 0; i < s.pending_count; i++)
		s.stats->torn_bytes += s.pending[i].place.len;
	if (s.win.err != 0) {
		log_error("segment %08x: parts cannot be read: %s", seg, err_str(s.win.err));
		s.stats->damaged++;
		s.stats->unreadable++;
	}
	arena_fini(&s.arena);
	buf_fini(&s.env);
	free(s.rows);
	spool_window_close(&s.win);
	return err;
}
