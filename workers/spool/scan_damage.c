/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the scan of a segment (scan.c) does with damage: bytes are kept in corrupt/, and the log
 * says which message they were, and where. Whether something is damage or the torn end of the last
 * commit before a power cut shows only at the next valid record: a later commit was written after
 * the earlier one was on disk. The torn end is kept, too, since nothing else tells it from damage
 * to the last message that was acknowledged.
 */
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/spool/scan_int.h"

#define LOST_MAX (16u << 20) /* bytes of one loss that are kept */

void scan_note_lost(struct scan *s, uint64_t off)
{
	if (s->lost++ == 0)
		s->lost_off = off;
}

static uint64_t begin_of(const struct damaged *d)
{
	return (uint64_t)d->place.off8 * SPOOL_ALIGN;
}

/* How many bytes damage i takes at most, when its header does not say. */
static uint32_t bytes_of(const struct scan *s, size_t i, uint64_t next)
{
	const struct damaged *d = &s->pending[i];
	uint64_t end = i + 1 < s->pending_count ? begin_of(&s->pending[i + 1]) : next;

	if (d->place.len != 0)
		return d->place.len;
	return (uint32_t)u64_min(end - begin_of(d), LOST_MAX);
}

static void keep(struct scan *s, size_t i, uint64_t next, bool torn)
{
	struct damaged *d = &s->pending[i];
	char text[QID_TEXT_SIZE];
	const char *name = qid_format(d->qid, text);

	d->place.len = bytes_of(s, i, next);
	int err = torn ? spool_quarantine_torn(s->dirs, d->qid, d->place)
		       : spool_quarantine(s->dirs, d->qid, d->place);

	if (err != 0)
		s->stats->unreadable++; /* the segment stays */
	log_warn("segment %08x: the record of %s at %llu is %s; %s%s%s", s->seg, name,
		 (unsigned long long)begin_of(d),
		 torn ? "incomplete and nothing follows it: torn when the last run ended, before "
			"it was "
			"acknowledged, or damaged"
		      : "damaged",
		 err == 0 ? "its bytes are in corrupt/" : "cannot keep its bytes: ",
		 err == 0 ? name : err_str(err), err == 0 && torn ? SPOOL_TORN_SUFFIX : "");
}

void scan_note_damage(struct scan *s, const struct spool_record *h, uint64_t off, uint64_t bytes)
{
	if (s->pending_count == SCAN_PENDING_MAX) {
		if (s->dirs->corrupt >= 0)
			keep(s, 0, s->win.size, true);
		memmove(s->pending, s->pending + 1, (SCAN_PENDING_MAX - 1) * sizeof(s->pending[0]));
		s->pending_count--;
	}
	s->pending[s->pending_count++] = (struct damaged){
		{ h->qid_us, h->qid_life },
		{ .seg = s->seg, .off8 = (uint32_t)(off / SPOOL_ALIGN), .len = (uint32_t)bytes }
	};
}

void scan_tell_damage(struct scan *s, uint64_t next)
{
	bool look_only = s->dirs->corrupt < 0;

	for (size_t i = 0; i < s->pending_count && !look_only; i++)
		keep(s, i, next, false);
	if (s->lost > 0 && !look_only) {
		uint32_t len = (uint32_t)u64_min(next - s->lost_off, LOST_MAX);
		struct proto_place place = { .seg = s->seg,
					     .off8 = (uint32_t)(s->lost_off / SPOOL_ALIGN),
					     .len = len };
		char name[SPOOL_BYTES_NAME_SIZE];
		int err = spool_quarantine_bytes(s->dirs, place);

		if (err != 0)
			s->stats->unreadable++;
		log_warn("segment %08x: at %llu stand bytes of a record without a readable header; "
			 "%s%s",
			 s->seg, (unsigned long long)s->lost_off,
			 err == 0 ? "they are in corrupt/" : "cannot keep them: ",
			 err == 0 ? spool_bytes_name(place, name) : err_str(err));
	}
	s->stats->damaged += s->pending_count + s->lost;
	s->pending_count = 0;
	s->lost = 0;
}

void scan_tell_torn(struct scan *s)
{
	for (size_t i = 0; i < s->pending_count; i++) {
		if (s->dirs->corrupt >= 0)
			keep(s, i, s->win.size, true);
		s->stats->torn_bytes += s->pending[i].place.len;
	}
	s->pending_count = 0;
	s->lost = 0;
}
