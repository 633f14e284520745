/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Corruption: a small spool is damaged in one way after the other, and recovery reads each copy.
 * With -a every byte of every file is changed in four ways, otherwise a sample (-s seed). Then
 * whole pages, lengths, exchanged and foreign files. Called by t/crash/08-corruption.t; prints TAP.
 * With -c every checksum is 0, when it is made and when it is checked: a control, which must fail.
 *
 * What must hold: a message whose record was not touched is there, with the recipients it had and
 * no others. One whose record was touched is there and sound to the last byte (the damage lay
 * beside it), or there and refused when it is read (then the worker that loads it keeps it and
 * names it), or not there, its bytes in corrupt/ and its place in the log. Damage to a journal
 * takes no recipient out of the queue, and names the message.
 */
#include <sys/wait.h>

#include "daemon/recover_int.h"
#include "t/crash/spool_flip.h"

#define BASE_US  1700000000000000u
#define HELD_BIT 64u

static struct params params = { .minimal_backoff_time = 300000, .maximal_backoff_time = 4000000 };
struct hiding {
	struct flip *t;
	struct fate *fates;
};

static unsigned long by_search; /* hidden by an index that lies */
static unsigned long damages, at_start, at_load, beside, unnamed, failures;

static bool blind;

uint32_t __real_crc32c(uint32_t crc, const void *data, size_t len);
uint32_t __wrap_crc32c(uint32_t crc, const void *data, size_t len);
uint32_t __wrap_crc32c(uint32_t crc, const void *data, size_t len)
{
	return blind ? 0 : __real_crc32c(crc, data, len);
}

/* ---- what recovery makes of it ---- */

static void take_plan(struct flip *t, struct fate *f, const struct rplan *plan)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct sched_found_entry *e = &plan->entries[i];

		for (unsigned b = 0; b < FLIP_RCPTS && e->rcpt_first == 0; b++)
			if (e->mask >> b & 1)
				f->state[b] = (uint8_t)e->state;
	}
	f->flags = plan->found.flags & MSGF_HOLD;
	f->place = plan->found.place;
	(void)t;
}

/* Is it to the last byte what was written? As the workers that load and deliver it ask. */
static void read_back(struct flip *t, unsigned k, struct fate *f)
{
	struct spool_record h;
	struct buf env = BUF_INIT, content = BUF_INIT;

	f->sound = spool_read_head(t->reader, flip_id(k), f->place, true, &h, &env) == 0;
	if (f->sound) {
		f->equal = sv_eq(buf_sv(&env), buf_sv(&t->msg[k].env)) &&
			   h.content_len == t->msg[k].content.len &&
			   spool_read_content(t->reader, &h, f->place, 0, (size_t)h.content_len,
					      &content) == 0 &&
			   sv_eq(buf_sv(&content), buf_sv(&t->msg[k].content));
	}
	buf_fini(&env);
	buf_fini(&content);
}

/* Recovery trusts valid rows; only a search over every byte finds what a row hides that lies. */
static int hidden(void *ctx, const struct spool_found *found)
{
	struct hiding *h = ctx;
	unsigned k = flip_number(found->qid);

	if (k >= FLIP_MSGS || !qid_eq(found->qid, flip_id(k)))
		h->t->strangers++;
	else if (h->fates[k].there)
		return 0;
	else {
		h->fates[k].there = true;
		h->fates[k].place = found->place;
		memcpy(h->fates[k].state, h->t->sound[k].state, sizeof(h->fates[k].state));
		h->fates[k].flags = h->t->sound[k].flags;
		read_back(h->t, k, &h->fates[k]);
		by_search++;
		h->t->report_late = h->t->report_late || k == FLIP_REPORT;
	}
	return 0;
}

static void find_hidden(struct flip *t, struct fate *fates)
{
	struct hiding h = { t, fates };
	uint32_t *numbers = NULL;
	size_t count = 0;

	spool_list(&t->f.dirs, SPOOL_SEGMENT, &numbers, &count);
	for (size_t i = 0; i < count; i++)
		spool_scan_hidden(&t->f.dirs, numbers[i], hidden, &h);
	free(numbers);
}

static int recover(struct flip *t, struct fate fates[FLIP_MSGS])
{
	struct qclock clock;
	struct recovery r = { .params = &params,
			      .clock = &clock,
			      .now_us = (int64_t)BASE_US + 7200000000 };
	struct rplan plan = { 0 };

	qclock_init(&clock, NULL, "");
	logged[0] = '\0';
	memset(fates, 0, FLIP_MSGS * sizeof(*fates));
	t->strangers = 0;
	t->report_late = false;
	t->reader = spool_reader_new(&t->f.dirs, 4);
	int err = recover_read(&r, NULL, &t->f.dirs);

	for (size_t i = 0; err == 0 && i < r.msg_count; i++) {
		unsigned k = flip_number(r.msgs[i].qid);

		if (k >= FLIP_MSGS || !qid_eq(r.msgs[i].qid, flip_id(k))) {
			t->strangers++;
			continue;
		}
		recover_plan(&r, &r.msgs[i], &plan);
		fates[k].there = true;
		fates[k].place = r.msgs[i].place;
		take_plan(t, &fates[k], &plan);
		read_back(t, k, &fates[k]);
	}
	find_hidden(t, fates);
	t->unreadable = r.stats.unreadable;
	recover_plan_fini(&plan);
	recover_read_fini(&r);
	spool_reader_free(&t->reader);
	return err;
}

/* ---- the verdict ---- */

static bool is_kept(const struct flip *t, unsigned k)
{
	char name[QID_TEXT_SIZE + 8], id[QID_TEXT_SIZE];

	qid_format(flip_id(k), id);
	if (faccessat(t->f.dirs.corrupt, id, F_OK, 0) == 0)
		return true;
	snprintf(name, sizeof(name), "%s.torn", id);
	return faccessat(t->f.dirs.corrupt, name, F_OK, 0) == 0;
}

/* Something of this segment is in the log, with its place, and something in corrupt/: the header's
 * own id was hit. */
static bool is_told(const struct flip *t, const struct damage *d, unsigned k)
{
	char place[60];
	uint64_t n = 0;
	DIR *dir = fdopendir(openat(t->f.dirs.corrupt, ".", O_RDONLY | O_DIRECTORY));

	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(dir);
	snprintf(place, sizeof(place), " at %llu ",
		 (unsigned long long)t->msg[k].place.off8 * SPOOL_ALIGN);
	return n > 0 && strstr(logged, "segment 0000000") != NULL &&
	       (strstr(logged, place) != NULL || d->whole);
}

static bool same(const struct fate *a, const struct fate *b)
{
	return memcmp(a->state, b->state, sizeof(a->state)) == 0 && a->flags == b->flags;
}

static bool all_done(const struct fate *f)
{
	for (unsigned b = 0; b < FLIP_RCPTS; b++)
		if (f->state[b] != QS_FREE)
			return false;
	return true;
}

static const char *judge_record(struct flip *t, const struct damage *d, unsigned k,
				const struct fate *f)
{
	const struct fate *was = &t->sound[k];

	if (f->there && f->sound && !f->equal)
		return "other bytes than were written count as sound";
	if (!d->touches[k]) {
		if (!f->there)
			return "an untouched message is gone";
		if (!f->sound)
			return "an untouched message is called damaged";
		/* a notification that is gone tells of nobody any more */
		if (!same(f, was) &&
		    !(k == FLIP_REPORTED && (d->touches[FLIP_REPORT] || t->report_late)))
			return "an untouched message has other recipients";
		return NULL;
	}
	if (f->there && f->sound)
		beside++;
	else if (f->there)
		at_load++;
	else if (is_kept(t, k) || is_told(t, d, k) || t->unreadable > 0)
		at_start++;
	else if (all_done(was) || d->destroys)
		unnamed++;
	else
		return "a message is gone without a word";
	return f->there && f->sound && !same(f, was) ? "a whole message has other recipients"
						     : NULL;
}

static const char *judge_outcomes(const struct flip *t, const struct damage *d, unsigned k,
				  const struct fate *f)
{
	const struct fate *was = &t->sound[k];
	char id[QID_TEXT_SIZE];

	if (!f->there || !f->sound || !f->equal)
		return "damage to a journal makes a message disappear";
	if (same(f, was))
		return NULL;
	if (!d->touches[k])
		return "an untouched outcome counts otherwise";
	for (unsigned b = 0; b < FLIP_RCPTS; b++)
		if (was->state[b] != QS_FREE && f->state[b] == QS_FREE)
			return "a recipient is gone";
	if (was->flags & MSGF_HOLD && !(f->flags & MSGF_HOLD) && !d->cuts && !d->destroys)
		return "a held message is not held any more";
	if (strstr(logged, qid_format(flip_id(k), id)) == NULL && !d->cuts && !d->destroys)
		return "a message is tried again without a word";
	return NULL;
}

void flip_try(struct flip *t, const struct damage *d)
{
	struct fate f[FLIP_MSGS];
	const char *why = NULL;
	unsigned k = 0;
	int err = recover(t, f);

	damages++;
	if (err != 0)
		why = err_str(err);
	else if (t->strangers > 0 && !d->foreign)
		why = "a message that was never written";
	for (; why == NULL && k < FLIP_MSGS; k++)
		why = d->in_journal ? judge_outcomes(t, d, k, &f[k]) : judge_record(t, d, k, &f[k]);
	if (why != NULL && failures++ < 20 && !blind)
		printf("not ok - %s: message %u: %s\n# %.300s\n", d->what, k - 1, why, logged);
	flip_empty_corrupt(t);
}

/* ---- all damages ---- */

int main(int argc, char **argv)
{
	static struct flip t;
	struct fate again[FLIP_MSGS];
	int opt;

	t.seed = 1;
	while ((opt = getopt(argc, argv, "acs:")) != -1) {
		if (opt == 'a')
			t.all = true;
		else if (opt == 'c')
			t.blind = blind = true;
		else if (opt == 's')
			t.seed = (unsigned)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	clock_init();
	log_set_sink(log_sink, NULL);
	flip_make(&t);
	is_int(recover(&t, t.sound), 0, "the sound spool is read");
	is_int(t.strangers, 0, "it holds nothing else");
	recover(&t, again);
	ok(memcmp(again, t.sound, sizeof(again)) == 0, "and always in the same way");
	for (unsigned k = 0; k < FLIP_MSGS; k++)
		if (!t.sound[k].there || !t.sound[k].sound || !t.sound[k].equal)
			ok(false, "message %u is whole", k);
	ok(all_done(&t.sound[FLIP_REPORTED]), "what a notification tells of is done");
	flip_bytes(&t);
	if (blind) {
		printf("# passed %lu of %lu\n", failures, damages);
		ok(failures > damages / 100, "without checksums damage passes");
		fx_fini(&t.f);
		return tap_done();
	}
	flip_files(&t);
	is_int((long long)failures, 0, "%lu damages", damages);
	flip_texts(&t);
	is_int((long long)t.text_failures, 0, "%lu damages to state, clock and list",
	       t.text_damages);
	printf("# texts %lu\n", t.text_damages);
	printf("# damages %lu kept-at-start %lu kept-at-load %lu beside %lu unnamed %lu by-search "
	       "%lu\n",
	       damages, at_start, at_load, beside, unnamed, by_search);
	fx_fini(&t.f);
	return tap_done();
}
