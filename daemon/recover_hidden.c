/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages that a lying index had hidden from recovery (daemon/files.h): what the journals say
 * about them is read by the helper thread, then what is left of them comes into the queue. Called
 * by the supervisor's tick.
 */
#include <stdatomic.h>

#include "daemon/doubts.h"
#include "daemon/recover_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"

/* What ended a moment ago may not be in its journal yet. */
#define SETTLE_MS 2000

struct recover_hidden {
	enum { HIDDEN_NONE, HIDDEN_WAITING, HIDDEN_READING } step;
	struct recovery r;
	const struct spool_dirs *dirs;
	int64_t read_at_ms;
	bool pin;
	int err;
	_Atomic bool read;
};

static void read_outcomes(void *ctx)
{
	struct recover_hidden *h = ctx;

	h->err = recover_read_outcomes(&h->r, NULL, h->dirs);
	atomic_store_explicit(&h->read, true, memory_order_release);
}

/* A message that the queue has, but perhaps not with all its recipients, and perhaps at a place
 * where there is nothing. The place is mended here; for the rest its segment stays for the next
 * start, which reads the new index. False: a worker has it. */
static bool mend_known(struct recover_hidden *h, const struct spool_found *found,
		       struct proto_place place, struct sched *s)
{
	bool here = place.seg == found->place.seg;
	char text[QID_TEXT_SIZE];

	if (here && place.off8 == found->place.off8) {
		h->pin = true;
		return true;
	}
	if (!here || spool_record_is_there(h->dirs, NULL, found->qid, place) != E_CORRUPT)
		return true; /* two equal records */
	h->pin = true;
	int err = sched_move_found(s, found->qid, &found->place);

	if (err == 0)
		log_warn("%s: the index of segment %08x had a wrong place for it",
			 qid_format(found->qid, text), found->place.seg);
	return err != E_AGAIN;
}

static void begin(struct recover_hidden *h, const struct files_hidden *hidden, struct sched *s,
		  const struct warrant_key *key)
{
	struct buf reports = BUF_INIT;
	bool all = true;

	h->pin = false;
	h->r = (struct recovery){ .now_us = clock_wall().us, .key = key };
	for (size_t i = 0; i < hidden->count; i++) {
		const struct spool_found *found = &hidden->list[i];
		struct proto_place place;

		if (!sched_place_of(s, found->qid, &place))
			recover_add_record(&h->r, found, &reports);
		else
			all = mend_known(h, found, place, s) && all;
	}
	recover_apply_reports(&h->r, &reports);
	buf_fini(&reports);
	if (!all) { /* again when the workers have answered */
		recover_read_fini(&h->r);
		h->r = (struct recovery){ 0 };
		return;
	}
	h->read_at_ms = clock_now().ms + SETTLE_MS;
	h->step = HIDDEN_WAITING;
}

static unsigned adopt_all(struct recover_hidden *h, struct sched *s, uint32_t seg)
{
	struct rplan plan = { 0 };
	struct doubts doubts;
	char text[QID_TEXT_SIZE];
	unsigned adopted = 0;

	doubts_init(&doubts, h->dirs);
	h->r.params = sched_params(s);
	h->r.clock = sched_clock(s);
	for (size_t i = 0; i < h->r.msg_count; i++) {
		recover_plan(&h->r, &h->r.msgs[i], &plan);
		if (plan.count == 0)
			continue;
		recover_add_doubts(&h->r, &plan, &doubts);
		int err = sched_add_found(s, &plan.found, plan.entries, plan.count);

		if (err != 0) {
			h->pin = h->pin || err != E_EXIST;
			continue;
		}
		adopted++;
		log_info("%s: was hidden by the index of segment %08x, is in the queue again",
			 qid_format(plan.found.qid, text), seg);
	}
	doubts_write(&doubts);
	sched_count_doubts(s, doubts.count);
	sched_count_hidden(s, adopted);
	sched_count_forged(s, h->r.forged);
	recover_plan_fini(&plan);
	return adopted;
}

static void end(struct recover_hidden *h, struct sched *s, struct files *f)
{
	const struct files_hidden *hidden = files_hidden(f);
	uint32_t seg = hidden->seg;
	size_t count = hidden->count;
	unsigned adopted = h->err == 0 ? adopt_all(h, s, seg) : 0;

	if (h->err != 0) {
		log_error("segment %08x: what its index had hidden waits for the next start: %s",
			  seg, err_str(h->err));
		h->pin = true;
	}
	log_warn("segment %08x: its index had hidden %zu records; %u messages are in the queue "
		 "again, the others had ended or were there; the index is written anew",
		 seg, count, adopted);
	files_hidden_done(f, h->pin);
	recover_read_fini(&h->r);
	h->r = (struct recovery){ 0 };
	h->step = HIDDEN_NONE;
}

void recover_hidden_tick(struct recover_hidden **hp, struct sched *s, struct files *f,
			 const struct spool_dirs *dirs)
{
	const struct files_hidden *hidden = files_hidden(f);

	if (hidden == NULL)
		return;
	if (*hp == NULL)
		*hp = xcalloc(1, sizeof(**hp));
	struct recover_hidden *h = *hp;

	h->dirs = dirs;
	if (h->step == HIDDEN_NONE) {
		begin(h, hidden, s, files_key(f));
	} else if (h->step == HIDDEN_WAITING && clock_now().ms >= h->read_at_ms) {
		h->step = HIDDEN_READING;
		h->err = 0;
		atomic_store_explicit(&h->read, false, memory_order_relaxed);
		files_hidden_call(f, read_outcomes, h);
	} else if (h->step == HIDDEN_READING &&
		   atomic_load_explicit(&h->read, memory_order_acquire)) {
		end(h, s, f);
	}
}

void recover_hidden_free(struct recover_hidden **hp)
{
	if (*hp == NULL)
		return;
	recover_read_fini(&(*hp)->r);
	free(*hp);
	*hp = NULL;
}
