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
	void *ctx;
	struct spool_scan_stats *stats;
};

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
				     s->win.size - pos))
		return 0;
	p = spool_window_at(&s->win, pos, h.len, &have);
	if (p == NULL || spool_outcome_decode((struct sv){ p, h.len }, &o, reasons) != 0) {
		s->pending++;
		s->pending_bytes += h.len;
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

/* The next place from pos on where the magic number stands; the file's end when none does. */
static uint64_t find_magic(struct jscan *s, uint64_t pos)
{
	while (pos + sizeof(struct spool_outcome) <= s->win.size) {
		size_t have;
		const char *p = spool_window_at(&s->win, pos, sizeof(struct spool_outcome), &have);
		size_t i = 0;

		if (p == NULL)
			break;
		for (; i + sizeof(struct spool_outcome) <= have; i += SPOOL_OUTCOME_ALIGN) {
			uint32_t magic;

			memcpy(&magic, p + i, sizeof(magic));
			if (magic == SPOOL_OUTCOME_MAGIC)
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
		pos = find_magic(s, pos);
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
	struct spool_scan_stats own = { 0 };
	struct jscan s = { .journal = journal, .fn = fn, .ctx = ctx };
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
