/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recovery of one segment: every committed record in it, whatever a crash or a bad sector left.
 * Called by the supervisor at start and after the death of a rewrite worker, and by postcat.
 *
 * The index tells as far as it goes; rows are written after their commit, so a valid row is a
 * committed record. What rows do not account for is read from the segment itself, in steps of 8
 * bytes, for headers with the segment's number and nonce and a right checksum: bytes of a message
 * cannot contain such a header, so it does no harm to look inside damaged records. A header of
 * which anything is left that only we can have written is a damaged record.
 */
#include <stdlib.h>
#include <unistd.h>

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/mail/envelope.h"
#include "workers/spool/scan_int.h"

#define ENVELOPE_MAX (64u << 20)
#define RCPTS_MAX    1000000u

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

static int emit(struct scan *s, struct spool_found *f)
{
	scan_tell_damage(s, (uint64_t)f->place.off8 * SPOOL_ALIGN);
	s->stats->records++;
	f->place.seg = s->seg;
	f->flags &= ~SPOOL_ENV_LAST;
	return s->fn(s->ctx, f);
}

static bool header_at(struct scan *s, uint64_t at, uint64_t end, struct spool_record *h,
		      uint64_t *bytes_r);
static bool crc_ok(struct scan *s, const struct spool_record *h, uint64_t off);

/* A row is a promise that the record was written, not that it is sound: what a notification says
 * about other messages is believed only when it is. */
static bool row_is_sound(struct scan *s, const struct spool_row *r)
{
	struct spool_record h;
	uint64_t bytes;

	if (!header_at(s, row_off(r), row_off(r) + r->len, &h, &bytes) || bytes != r->len)
		return false;
	s->crc_budget = r->len;
	return crc_ok(s, &h, row_off(r));
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
	if ((f.flags & MSGF_INTERNAL) != 0 && row_is_sound(s, r))
		read_bounce_of(s, &f);
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

	if ((f.flags & MSGF_INTERNAL) != 0)
		read_bounce_of(s, &f);
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

/* What a header must show for a closer look: its magic number or, if that is damaged, the nonce. */
static bool trace_of_header(const struct scan *s, const char *p)
{
	uint32_t magic;
	uint64_t nonce;

	memcpy(&magic, p + offsetof(struct spool_record, magic), sizeof(magic));
	memcpy(&nonce, p + offsetof(struct spool_record, nonce), sizeof(nonce));
	return magic == SPOOL_RECORD_MAGIC || (s->have_nonce && nonce == s->nonce);
}

/* The next place from pos on (8-aligned) where a header may stand; `end` when none does. */
static uint64_t find_header(struct scan *s, uint64_t pos, uint64_t end)
{
	while (pos + sizeof(struct spool_record) <= end) {
		size_t have;
		const char *p = spool_window_at(&s->win, pos, sizeof(struct spool_record), &have);

		if (p == NULL)
			return end;
		have = (size_t)u64_min(have, end - pos);
		for (size_t i = 0; i + sizeof(struct spool_record) <= have; i += SPOOL_ALIGN) {
			if (trace_of_header(s, p + i))
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

/* A header that cannot be right and yet is ours: the nonce tells, which nobody else knows; or all
 * but the nonce is right. Its lengths count only when what they say fits. */
static bool ruin_at(struct scan *s, uint64_t at, uint64_t end, struct spool_record *h,
		    uint64_t *bytes_r)
{
	size_t have;
	const char *p = spool_window_at(&s->win, at, sizeof(*h), &have);
	struct spool_record right;

	if (p == NULL || !s->have_nonce)
		return false;
	memcpy(h, p, sizeof(*h));
	right = *h;
	right.magic = SPOOL_RECORD_MAGIC;
	right.seg = s->seg;
	right.nonce = s->nonce;
	bool fits = spool_record_plausible(&right, s->seg, NULL, at, end, bytes_r);

	if (!fits)
		*bytes_r = 0;
	return h->nonce == s->nonce || (fits && h->seg == s->seg && crc_ok(s, &right, at));
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

	if (pos % SPOOL_PAGE == 0 || pos + SPOOL_ALIGN > end ||
	    header_at(s, pos, end, &h, &bytes) || ruin_at(s, pos, end, &h, &bytes))
		return false;
	p = spool_window_at(&s->win, pos, SPOOL_ALIGN, &have);
	return p != NULL && memcmp(p, zeroes, SPOOL_ALIGN) != 0;
}

/* Valid records that begin in [pos, end) and end before `limit`. */
static int scan_range(struct scan *s, uint64_t pos, uint64_t end, uint64_t limit)
{
	int err = 0;

	s->crc_budget = 4 * (end - pos);
	if (something_lost(s, pos, limit))
		scan_note_lost(s, pos);
	while (err == 0 && pos < end) {
		uint64_t at = find_header(s, pos, end), bytes;
		struct spool_record h;

		pos = at + SPOOL_ALIGN;
		if (at >= end)
			continue;
		if (!header_at(s, at, limit, &h, &bytes)) {
			if (ruin_at(s, at, limit, &h, &bytes))
				scan_note_damage(s, &h, at, bytes);
			continue;
		}
		if (!crc_ok(s, &h, at)) {
			scan_note_damage(s, &h, at, bytes);
			continue;
		}
		err = emit_record(s, &h, at, bytes);
		pos = at + bytes;
		if (something_lost(s, pos, limit))
			scan_note_lost(s, pos);
	}
	return err;
}

static int scan_all(struct scan *s, uint64_t from)
{
	uint64_t pos = u64_max(SPOOL_FIRST_OFF, align_up(from, SPOOL_ALIGN));
	int err = 0;

	for (size_t i = 0; i < s->row_count && err == 0; i++) {
		uint64_t off = row_off(&s->rows[i]);

		if (off < pos)
			continue;
		if (scan_gap_matters(s, pos, off))
			err = scan_range(s, pos, off, off);
		if (err == 0)
			err = emit_row(s, &s->rows[i]);
		pos = off + s->rows[i].len;
	}
	if (err == 0 && !s->closed && pos < s->win.size)
		err = scan_range(s, pos, s->win.size, s->win.size);
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

/* A file that came under a wrong name while the one of that name is there. */
static bool is_another(const struct scan *s, const struct spool_file_head *head)
{
	char name[SPOOL_NAME_SIZE];

	return spool_head_ok(head, SPOOL_SEGMENT_MAGIC, head->number) &&
	       faccessat(s->dirs->seg, spool_name(head->number, "seg", name), F_OK, 0) == 0;
}

/* False: the file is too short for a head. */
static bool read_nonce(struct scan *s, struct spool_file_head *head)
{
	size_t have;
	const char *p = spool_window_at(&s->win, 0, sizeof(*head), &have);

	if (p == NULL)
		return false;
	memcpy(head, p, sizeof(*head));
	s->have_nonce = spool_head_ok(head, SPOOL_SEGMENT_MAGIC, s->seg);
	s->nonce = head->nonce;
	return true;
}

static void find_nonce(struct scan *s)
{
	struct spool_file_head head;
	bool has_head = read_nonce(s, &head), by_head = s->have_nonce;

	scan_load_index(s);
	if (!s->have_nonce)
		nonce_from_first_record(s);
	if (by_head || s->win.size == 0)
		return;
	if (has_head && is_another(s, &head)) {
		log_error("segment %08x: this file is segment %08x, which is there, too: it stays "
			  "as it is",
			  s->seg, head.number);
		s->stats->unreadable++;
	} else {
		log_warn("segment %08x: its head is damaged", s->seg);
	}
	s->stats->damaged++;
}

/* Without a head and without a record it may still hold mail: it is not to be written over. One
 * that was being made when the last run ended is empty, or still has the head it had under its old
 * number. */
static void keep_unknown(struct scan *s)
{
	struct spool_file_head head;
	size_t have;
	const char *p = spool_window_at(&s->win, 0, sizeof(head), &have);

	if (s->have_nonce || s->stats->records > 0 || p == NULL)
		return;
	memcpy(&head, p, sizeof(head));
	if (spool_head_ok(&head, SPOOL_SEGMENT_MAGIC, head.number) ||
	    spool_window_is_zero(&s->win, SPOOL_FIRST_OFF))
		return;
	log_error("segment %08x: nothing in it can be told from noise: it stays as it is", s->seg);
	s->stats->unreadable++;
}

int scan_open(struct scan *s, const struct spool_dirs *d, uint32_t seg, spool_found_fn fn,
	      void *ctx)
{
	*s = (struct scan){ .dirs = d, .seg = seg, .fn = fn, .ctx = ctx };
	arena_init(&s->arena, 16384, ENVELOPE_MAX);
	return spool_window_open(&s->win, d->seg, seg, "seg");
}

void scan_close(struct scan *s)
{
	arena_fini(&s->arena);
	buf_fini(&s->env);
	free(s->rows);
	spool_window_close(&s->win);
}

int spool_scan_segment(const struct spool_dirs *d, uint32_t seg, uint64_t from, spool_found_fn fn,
		       void *ctx, struct spool_scan_stats *stats)
{
	struct spool_scan_stats own = { 0 };
	struct scan s;
	int err = scan_open(&s, d, seg, fn, ctx);

	if (err != 0)
		return err;
	s.stats = &own;
	find_nonce(&s);
	err = scan_all(&s, from);
	scan_tell_torn(&s);
	if (from == 0)
		keep_unknown(&s);
	if (s.win.err != 0) {
		log_error("segment %08x: parts cannot be read: %s", seg, err_str(s.win.err));
		own.damaged++;
		own.unreadable++;
	}
	scan_close(&s);
	if (stats != NULL) {
		stats->segments++;
		stats->records += own.records;
		stats->index_rows += own.index_rows;
		stats->damaged += own.damaged;
		stats->torn_bytes += own.torn_bytes;
		stats->unreadable += own.unreadable;
	}
	return err;
}

bool scan_row_agrees(struct scan *s, const struct spool_row *r)
{
	struct spool_record h;
	uint64_t bytes, end = row_off(r) + r->len;

	return header_at(s, row_off(r), end, &h, &bytes) && bytes == r->len &&
	       h.qid_us == r->qid_us && h.qid_life == r->qid_life &&
	       h.rcpt_count == r->rcpt_count && h.flags == r->flags;
}

int spool_scan_hidden(const struct spool_dirs *d, uint32_t seg, spool_found_fn fn, void *ctx)
{
	struct spool_dirs look_only = *d;
	struct spool_scan_stats own = { 0 };
	struct spool_file_head head;
	uint64_t pos = SPOOL_FIRST_OFF;
	struct scan s;
	int err = scan_open(&s, &look_only, seg, fn, ctx);

	if (err != 0)
		return err;
	look_only.corrupt = -1;
	s.stats = &own;
	read_nonce(&s, &head);
	scan_load_index(&s);
	for (size_t i = 0; i < s.row_count && err == 0; i++) {
		uint64_t off = row_off(&s.rows[i]), end = off + s.rows[i].len;

		if (pos < off && !scan_gap_matters(&s, pos, off))
			err = scan_range(&s, pos, off, off);
		if (err == 0 && !scan_row_agrees(&s, &s.rows[i]))
			err = scan_range(&s, off, end, s.win.size);
		pos = end;
	}
	if (err == 0 && s.closed && pos < s.win.size)
		err = scan_range(&s, pos, s.win.size, s.win.size);
	if (err == 0 && s.win.err != 0)
		err = E_IO;
	scan_close(&s);
	return err;
}
