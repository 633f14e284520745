/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recovery of one outcome journal; the same way as scan.c. Called by the supervisor at start. */
#include <fcntl.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/spool/outcome.h"
#include "workers/spool/window.h"

struct jscan {
	uint32_t journal;
	struct spool_window win;
	bool have_nonce;
	uint64_t nonce;
	uint64_t pending; /* damaged records, or the torn tail: the next valid one tells */
	uint64_t pending_bytes;
	outcome_found_fn fn;
	outcome_damaged_fn damaged;
	void *ctx;
	struct spool_scan_stats *stats;
};

/* An outcome that is ours and not whole. What its message was is told at once, also at the torn
 * end: who hears of it only becomes more careful with that message. */
static void note_damage(struct jscan *s, const struct spool_outcome *h, uint64_t pos,
			uint64_t bytes)
{
	s->pending++;
	s->pending_bytes += bytes;
	if (s->damaged != NULL)
		s->damaged(
			s->ctx, (struct qid){ h->qid_us, h->qid_life }, h->kind,
			(struct proto_jref){ s->journal, (uint32_t)(pos / SPOOL_OUTCOME_ALIGN) });
}

/* Not plausible, and yet ours: the nonce tells, which nobody else knows; or all else is right. */
static void look_for_ruin(struct jscan *s, uint64_t pos, struct spool_outcome h)
{
	size_t have;

	if (!s->have_nonce)
		return;
	if (h.nonce == s->nonce) {
		note_damage(s, &h, pos, sizeof(h));
		return;
	}
	h.nonce = s->nonce;
	if (!spool_outcome_plausible(&h, s->journal, NULL, s->win.size - pos))
		return;
	const char *p = spool_window_at(&s->win, pos, h.len, &have);
	struct buf right = BUF_INIT;
	struct outcome o;
	struct outcome_reason reasons[SPOOL_REASON_MAX];

	if (p == NULL)
		return;
	buf_add(&right, &h, sizeof(h));
	buf_add(&right, p + sizeof(h), h.len - sizeof(h));
	if (spool_outcome_decode(buf_sv(&right), &o, reasons) == 0)
		note_damage(s, &h, pos, h.len);
	buf_fini(&right);
}

/* One record at pos: its bytes, 0 when there is none. Sets *err from the callback. */
static uint64_t try_record(struct jscan *s, uint64_t pos, int *err)
{
	struct spool_outcome h;
	struct outcome o;
	struct outcome_reason reasons[SPOOL_REASON_MAX];
	size_t have;
	const char *p = spool_window_at(&s->win, pos, sizeof(h), &have);

	if (p == NULL)
		return 0;
	memcpy(&h, p, sizeof(h));
	if (!spool_outcome_plausible(&h, s->journal, s->have_nonce ? &s->nonce : NULL,
				     s->win.size - pos)) {
		look_for_ruin(s, pos, h);
		return 0;
	}
	p = spool_window_at(&s->win, pos, h.len, &have);
	if (p == NULL || spool_outcome_decode((struct sv){ p, h.len }, &o, reasons) != 0) {
		note_damage(s, &h, pos, h.len);
		return 0;
	}
	if (s->pending > 0)
		log_warn("journal %08x: %llu damaged outcomes", s->journal,
			 (unsigned long long)s->pending);
	s->stats->damaged += s->pending;
	s->pending = s->pending_bytes = 0;
	s->stats->outcomes++;
	s->nonce = h.nonce;
	s->have_nonce = true;
	struct proto_jref ref = { s->journal, (uint32_t)(pos / SPOOL_OUTCOME_ALIGN) };

	*err = s->fn(s->ctx, &o, ref);
	return h.len;
}

static bool trace_of_outcome(const struct jscan *s, const char *p)
{
	uint32_t magic;
	uint64_t nonce;

	memcpy(&magic, p + offsetof(struct spool_outcome, magic), sizeof(magic));
	memcpy(&nonce, p + offsetof(struct spool_outcome, nonce), sizeof(nonce));
	return magic == SPOOL_OUTCOME_MAGIC || (s->have_nonce && nonce == s->nonce);
}

/* The next place from pos on where an outcome may stand; the file's end when none does. */
static uint64_t find_outcome(struct jscan *s, uint64_t pos)
{
	while (pos + sizeof(struct spool_outcome) <= s->win.size) {
		size_t have;
		const char *p = spool_window_at(&s->win, pos, sizeof(struct spool_outcome), &have);
		size_t i = 0;

		if (p == NULL)
			break;
		for (; i + sizeof(struct spool_outcome) <= have; i += SPOOL_OUTCOME_ALIGN) {
			if (trace_of_outcome(s, p + i))
				return pos + i;
		}
		pos = align_up(spool_window_data(&s->win, pos + i, s->win.size),
			       SPOOL_OUTCOME_ALIGN);
	}
	return s->win.size;
}

static int scan_all(struct jscan *s)
{
	uint64_t pos = sizeof(struct spool_file_head);
	int err = 0;

	while (err == 0) {
		pos = find_outcome(s, pos);
		if (pos >= s->win.size)
			return 0;
		uint64_t bytes = try_record(s, pos, &err);

		pos += bytes != 0 ? bytes : SPOOL_OUTCOME_ALIGN;
	}
	return err;
}

int spool_scan_journal(const struct spool_dirs *d, uint32_t journal, outcome_found_fn fn, void *ctx,
		       struct spool_scan_stats *stats)
{
	return spool_scan_journal_all(d, journal, fn, NULL, ctx, stats);
}

int spool_scan_journal_all(const struct spool_dirs *d, uint32_t journal, outcome_found_fn fn,
			   outcome_damaged_fn damaged, void *ctx, struct spool_scan_stats *stats)
{
	struct spool_scan_stats own = { 0 };
	struct jscan s = { .journal = journal, .fn = fn, .damaged = damaged, .ctx = ctx };
	struct spool_file_head head;
	size_t have;
	int err = spool_window_open(&s.win, d->journal, journal, "jnl");

	if (err != 0)
		return err;
	s.stats = stats != NULL ? stats : &own;
	s.stats->journals++;
	const char *p = spool_window_at(&s.win, 0, sizeof(head), &have);

	if (p != NULL) {
		memcpy(&head, p, sizeof(head));
		s.have_nonce = spool_head_ok(&head, SPOOL_JOURNAL_MAGIC, journal);
		s.nonce = head.nonce;
	}
	err = scan_all(&s);
	s.stats->torn_bytes += s.pending_bytes;
	if (s.win.err != 0) {
		log_error("journal %08x: parts cannot be read: %s", journal, err_str(s.win.err));
		s.stats->damaged++;
	}
	spool_window_close(&s.win);
	return err;
}
