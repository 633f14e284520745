/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recovery of one outcome journal; the same way as scan.c. Called by the supervisor at start. */
#include <fcntl.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/spool/outcome.h"
#include "workers/spool/window.h"

#define REPAIR_MAX 4096u /* bytes of an outcome whose id is looked for */

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

/* What the head was before one byte of it was damaged: that with which all is right. It is good
 * enough to say which message suffers, and whether an operator had spoken; it is not taken for an
 * outcome. */
static struct spool_outcome repair(const struct jscan *s, uint64_t pos, struct spool_outcome h)
{
	struct outcome o;
	struct outcome_reason reasons[SPOOL_REASON_MAX];
	char rec[REPAIR_MAX];

	if (h.len > sizeof(rec) || h.len < sizeof(h) ||
	    io_pread_all(s->win.fd, rec, h.len, (off_t)pos) != 0)
		return h;
	for (size_t i = 0; i < sizeof(h); i++) {
		char was = rec[i];

		for (unsigned change = 1; change < 256; change++) {
			rec[i] = (char)((unsigned char)was ^ change);
			if (spool_outcome_decode((struct sv){ rec, h.len }, &o, reasons) != 0)
				continue;
			memcpy(&h, rec, sizeof(h));
			return h;
		}
		rec[i] = was;
	}
	return h;
}

/* An outcome that is ours and not whole. What its message was is told at once, also at the torn
 * end: who hears of it only becomes more careful with that message. */
static void note_damage(struct jscan *s, struct spool_outcome h, uint64_t pos)
{
	struct proto_jref ref = { s->journal, (uint32_t)(pos / SPOOL_OUTCOME_ALIGN) };

	s->pending++;
	s->pending_bytes += h.len <= s->win.size - pos ? h.len : sizeof(h);
	if (s->damaged == NULL)
		return;
	h = repair(s, pos, h);
	s->damaged(s->ctx, (struct qid){ h.qid_us, h.qid_life }, h.kind, ref);
}

/* Would it be whole if the nonce were ours? */
static bool is_right_with_nonce(struct jscan *s, uint64_t pos, struct spool_outcome h)
{
	struct outcome o;
	struct outcome_reason reasons[SPOOL_REASON_MAX];
	struct buf right = BUF_INIT;
	size_t have;

	h.nonce = s->nonce;
	if (!spool_outcome_plausible(&h, s->journal, NULL, s->win.size - pos))
		return false;
	const char *p = spool_window_at(&s->win, pos, h.len, &have);

	if (p == NULL)
		return false;
	buf_add(&right, &h, sizeof(h));
	buf_add(&right, p + sizeof(h), h.len - sizeof(h));
	bool good = spool_outcome_decode(buf_sv(&right), &o, reasons) == 0;

	buf_fini(&right);
	return good;
}

/* Not plausible, and yet ours: the nonce tells, which nobody else knows; or all else is right. */
static void look_for_ruin(struct jscan *s, uint64_t pos, struct spool_outcome h)
{
	if (!s->have_nonce)
		return;
	if (h.nonce == s->nonce || is_right_with_nonce(s, pos, h))
		note_damage(s, h, pos);
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
		note_damage(s, h, pos);
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

int spool_journal_owner(const struct spool_dirs *d, uint32_t journal, struct journal_owner *o_r)
{
	char name[SPOOL_NAME_SIZE];
	struct spool_file_head head;
	int fd = openat(d->journal, spool_name(journal, "jnl", name),
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_errno();
	int err = io_pread_all(fd, &head, sizeof(head), 0);

	close(fd);
	if (err == 0 && !spool_head_ok(&head, SPOOL_JOURNAL_MAGIC, journal))
		err = E_CORRUPT;
	if (err == 0)
		*o_r = (struct journal_owner){ (uint32_t)head.life, head.code };
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
	bool by_head = s.have_nonce;

	err = scan_all(&s);
	/* one that was being made when the last run ended is empty */
	if (p != NULL && !by_head &&
	    (s.have_nonce || !spool_window_is_zero(&s.win, sizeof(head)))) {
		log_warn("journal %08x: its head is damaged", journal);
		s.stats->damaged++;
	}
	s.stats->torn_bytes += s.pending_bytes;
	if (s.win.err != 0) {
		log_error("journal %08x: parts cannot be read: %s", journal, err_str(s.win.err));
		s.stats->damaged++;
	}
	spool_window_close(&s.win);
	return err;
}
