/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Spool file bookkeeping; see daemon/files.h. Called by the scheduler and by recovery. */
#include "daemon/files.h"

#include "daemon/files_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/rand.h"
#include "workers/spool/format.h"

/* ---- ordered lists; each element begins with its number ---- */

static uint32_t number_at(const struct flist *l, size_t i)
{
	return *(const uint32_t *)l->p[i];
}

static size_t list_place(const struct flist *l, uint32_t number)
{
	size_t lo = 0, hi = l->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (number_at(l, mid) < number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void *list_find(const struct flist *l, uint32_t number)
{
	size_t i = list_place(l, number);

	return i < l->count && number_at(l, i) == number ? l->p[i] : NULL;
}

static void list_add(struct flist *l, void *item)
{
	size_t i = list_place(l, *(const uint32_t *)item);

	if (l->count == l->cap) {
		l->cap = l->cap == 0 ? 64 : l->cap * 2;
		l->p = xrealloc(l->p, l->cap * sizeof(*l->p));
	}
	memmove(l->p + i + 1, l->p + i, (l->count - i) * sizeof(*l->p));
	l->p[i] = item;
	l->count++;
}

static void list_remove(struct flist *l, uint32_t number)
{
	size_t i = list_place(l, number);

	free(l->p[i]);
	memmove(l->p + i, l->p + i + 1, (l->count - i - 1) * sizeof(*l->p));
	l->count--;
}

static void list_fini(struct flist *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->p[i]);
	free(l->p);
}

struct fseg *files_seg_find(struct files *f, uint32_t number)
{
	if (f->last_seg != NULL && f->last_seg->number == number)
		return f->last_seg;
	struct fseg *seg = list_find(&f->segs, number);

	if (seg != NULL)
		f->last_seg = seg;
	return seg;
}

struct fjnl *files_jnl_find(struct files *f, uint32_t number)
{
	return list_find(&f->jnls, number);
}

static struct fseg *add_seg(struct files *f, uint32_t number, uint32_t life)
{
	struct fseg *seg = xcalloc(1, sizeof(*seg));

	seg->number = number;
	seg->life = life;
	list_add(&f->segs, seg);
	return seg;
}

static struct fjnl *add_jnl(struct files *f, uint32_t number, uint32_t life)
{
	struct fjnl *j = xcalloc(1, sizeof(*j));

	j->number = number;
	j->life = life;
	list_add(&f->jnls, j);
	return j;
}

/* ---- life ---- */

static void find_spares(struct files *f)
{
	size_t count = 0;

	if (spool_list_spares(f->su.dirs, &f->spares, &count) == 0)
		f->spare_count = f->spare_cap = count;
}

int files_new(const struct files_setup *setup, struct files **f_r)
{
	struct files *f = xcalloc(1, sizeof(*f));

	f->su = *setup;
	f->look = SPOOL_LOOK_INIT;
	f->order = (uint64_t)setup->life << WARRANT_LIFE_SHIFT;
	f->spare_max = (unsigned)setup->params->spool_spare_segments;
	find_spares(f);
	int err = files_thread_start(f);

	if (err == 0)
		err = files_marks_new(f);
	if (err != 0) {
		free(f);
		return err;
	}
	*f_r = f;
	return 0;
}

void files_free(struct files **fp)
{
	struct files *f = *fp;

	if (f == NULL)
		return;
	*fp = NULL;
	files_marks_free(f);
	files_thread_stop(f);
	spool_look_end(&f->look);
	files_search_free(f);
	list_fini(&f->segs);
	list_fini(&f->jnls);
	free(f->spares);
	free(f->copy_ids);
	free(f);
}

struct loop *files_loop(const struct files *f)
{
	return f->su.loop;
}

void files_reload(struct files *f, const struct params *params)
{
	f->su.params = params;
	f->spare_max = (unsigned)params->spool_spare_segments;
}

/* ---- writers ---- */

static unsigned open_files(const struct files *f, uint32_t life, uint32_t kind)
{
	const struct flist *l = kind == SPOOL_SEGMENT ? &f->segs : &f->jnls;
	unsigned n = 0;

	/* open ones are the newest: look back as far as the limit needs */
	for (size_t i = l->count; i-- > 0 && l->count - i < 4096;) {
		if (kind == SPOOL_SEGMENT) {
			const struct fseg *seg = l->p[i];

			n += seg->life == life && !seg->closed;
		} else {
			const struct fjnl *j = l->p[i];

			n += j->life == life && !j->closed;
		}
	}
	return n;
}

static void saw_number(struct files *f, uint32_t number)
{
	if (number > f->newest)
		f->newest = number;
}

int files_grant(struct files *f, uint32_t life, uint32_t file_kind, struct proto_file *grant_r)
{
	uint32_t number;

	if (file_kind != SPOOL_SEGMENT && file_kind != SPOOL_JOURNAL)
		return E_INVAL;
	if (open_files(f, life, file_kind) >= OPEN_FILES_MAX)
		return E_LIMIT;
	int err = spool_state_next_file(f->su.state, &number);

	if (err != 0)
		return err;
	saw_number(f, number);
	*grant_r = (struct proto_file){ .kind = PROTO_FILE_GRANT,
					.file_kind = file_kind,
					.number = number };
	if (file_kind == SPOOL_JOURNAL) {
		if (f->su.key != NULL)
			grant_r->code = warrant_file_code(f->su.key, number, life);
		add_jnl(f, number, life);
		return 0;
	}
	add_seg(f, number, life)->bytes = (uint64_t)f->su.params->spool_segment_size;
	if (f->spare_count > 0)
		grant_r->recycle = f->spares[--f->spare_count];
	return 0;
}

static void close_seg(struct fseg *seg, uint64_t bytes)
{
	seg->closed = true;
	seg->closed_ms = clock_now().ms;
	if (bytes != UINT64_MAX)
		seg->bytes = bytes;
}

static void close_jnl(struct files *f, struct fjnl *j, uint64_t bytes)
{
	j->closed = true;
	j->closed_at = f->newest;
	if (bytes != UINT64_MAX)
		j->bytes = bytes;
}

int files_closed(struct files *f, uint32_t life, const struct proto_file *c)
{
	if (c->file_kind == SPOOL_SEGMENT) {
		struct fseg *seg = files_seg_find(f, c->number);

		if (seg == NULL || seg->life != life || seg->closed)
			return E_PEER;
		close_seg(seg, c->bytes);
		return 0;
	}
	struct fjnl *j = c->file_kind == SPOOL_JOURNAL ? files_jnl_find(f, c->number) : NULL;

	if (j == NULL || j->life != life || j->closed)
		return E_PEER;
	close_jnl(f, j, c->bytes);
	return 0;
}

void files_life_gone(struct files *f, uint32_t life)
{
	for (size_t i = 0; i < f->segs.count; i++) {
		struct fseg *seg = f->segs.p[i];

		if (seg->life != life)
			continue;
		seg->orphan = !seg->leaving;
		if (!seg->closed)
			close_seg(seg, UINT64_MAX);
	}
	for (size_t i = 0; i < f->jnls.count; i++) {
		struct fjnl *j = f->jnls.p[i];

		if (j->life == life && !j->closed)
			close_jnl(f, j, UINT64_MAX);
	}
}

int files_found(struct files *f, enum spool_file_kind kind, uint32_t number)
{
	saw_number(f, number);
	if (kind == SPOOL_SEGMENT) {
		struct fseg *seg = add_seg(f, number, 0);

		seg->unsearched = true;
		close_seg(seg, 0);
	} else {
		add_jnl(f, number, 0)->closed = true;
	}
	return 0;
}

void files_found_bytes(struct files *f, uint32_t seg, uint64_t bytes)
{
	struct fseg *s = files_seg_find(f, seg);

	if (s != NULL && bytes > s->bytes)
		s->bytes = bytes;
}

void files_recovered(struct files *f)
{
	for (size_t i = 0; i < f->jnls.count; i++) {
		struct fjnl *j = f->jnls.p[i];

		if (j->closed && j->closed_at == 0)
			j->closed_at = f->newest;
	}
	f->recovered = true;
	f->search_ms = clock_now().ms + SEARCH_FIRST_MS;
	f->search_live_ms = clock_now().ms + SEARCH_LIVE_MS;
}

void files_each_orphan(struct files *f, files_orphan_fn fn, void *ctx)
{
	for (size_t i = 0; i < f->segs.count; i++) {
		struct fseg *seg = f->segs.p[i];
		struct files_orphan o = { .seg = seg->number,
					  .life = seg->life,
					  .known_end = seg->known_end,
					  .again = seg->looked };

		if (!seg->orphan)
			continue;
		seg->looked = true;
		if (!fn(ctx, &o))
			continue;
		seg->orphan = false;
		seg->life = 0;
	}
}

/* ---- messages ---- */

int files_msg_add(struct files *f, uint32_t life, const struct proto_place *place)
{
	struct fseg *seg = files_seg_find(f, place->seg);
	uint64_t end = (uint64_t)place->off8 * 8 + place->len;

	if (seg == NULL)
		return life == 0 ? E_NOENT : E_PEER;
	if (life != 0 && (seg->life != life || seg->leaving || place->len == 0))
		return E_PEER;
	seg->live++;
	seg->live_bytes += place->len;
	if (end > seg->known_end)
		seg->known_end = end;
	if (end > seg->bytes)
		seg->bytes = end;
	return 0;
}

int files_seen(struct files *f, uint32_t life, const struct proto_place *place)
{
	struct fseg *seg = files_seg_find(f, place->seg);
	uint64_t end = (uint64_t)place->off8 * 8 + place->len;

	if (seg == NULL || seg->life != life || seg->leaving || place->len == 0)
		return E_PEER;
	seg->known_end = u64_max(seg->known_end, end);
	seg->bytes = u64_max(seg->bytes, end);
	return 0;
}

bool files_msg_is_there(struct files *f, struct qid id, const struct proto_place *place)
{
	if (!f->su.verify || rand_below(FILES_SAMPLE) != 0)
		return true;
	/* a disk that fails is not the worker's lie; who delivers reads the record again */
	return spool_record_is_there(f->su.dirs, &f->look, id, *place) != E_CORRUPT;
}

void files_msg_del(struct files *f, uint32_t number, uint32_t len)
{
	struct fseg *seg = files_seg_find(f, number);

	ASSERT(seg != NULL && seg->live > 0);
	seg->live--;
	seg->live_bytes -= len;
}

void files_pin(struct files *f, uint32_t number)
{
	struct fseg *seg = files_seg_find(f, number);

	if (seg != NULL)
		seg->pinned = true;
}

/* ---- outcome places ---- */

static uint32_t slot_of(struct files *f, struct fjnl *j)
{
	for (uint32_t i = 1; j->slot == 0 && i < JREF_SLOTS; i++) {
		if (f->slots[i] == NULL) {
			f->slots[i] = j;
			j->slot = i;
		}
	}
	return j->slot;
}

int files_jref_take(struct files *f, uint32_t life, struct proto_jref ref, uint32_t *packed_r)
{
	struct fjnl *j = ref.journal == 0 ? NULL : files_jnl_find(f, ref.journal);

	*packed_r = 0;
	if (ref.journal == 0)
		return 0;
	if (j == NULL || (life != 0 && j->life != life))
		return life == 0 ? 0 : E_PEER;
	if (ref.off16 >> JREF_OFF_BITS != 0 || slot_of(f, j) == 0)
		return 0;
	j->refs++;
	*packed_r = j->slot << JREF_OFF_BITS | ref.off16;
	return 0;
}

void files_jref_dup(struct files *f, uint32_t packed)
{
	f->slots[packed >> JREF_OFF_BITS]->refs++;
}

void files_jref_drop(struct files *f, uint32_t packed)
{
	struct fjnl *j = f->slots[packed >> JREF_OFF_BITS];

	ASSERT(j != NULL && j->refs > 0);
	if (--j->refs == 0) {
		f->slots[j->slot] = NULL;
		j->slot = 0;
	}
}

struct proto_jref files_jref_unpack(const struct files *f, uint32_t packed)
{
	const struct fjnl *j = f->slots[packed >> JREF_OFF_BITS];

	if (packed == 0 || j == NULL)
		return (struct proto_jref){ 0, 0 };
	return (struct proto_jref){ j->number, packed & ((1u << JREF_OFF_BITS) - 1) };
}

/* ---- what can go ---- */

static bool seg_is_dead(const struct fseg *seg, int64_t now)
{
	return seg->closed && seg->live == 0 && !seg->orphan && !seg->leaving && !seg->pinned &&
	       !seg->unsearched && (seg->life == 0 || now - seg->closed_ms >= SETTLE_MS);
}

static void retire_dead(struct files *f, int64_t now)
{
	for (size_t i = 0; i < f->segs.count && f->jobs_out < 16; i++) {
		struct fseg *seg = f->segs.p[i];

		if (seg == f->copying || !seg_is_dead(seg, now))
			continue;
		/* what is left of messages that were copied out of it must be on disk before */
		if (files_mark_sync(f) != 0)
			return;
		seg->leaving = true;
		files_thread_give(f, FJOB_RETIRE, seg->number);
	}
}

void files_drop_spares(struct files *f)
{
	while (f->spare_count > 0 && f->jobs_out < 16)
		files_thread_give(f, FJOB_DROP_SPARE, f->spares[--f->spare_count]);
}

/* The oldest segment whose records need journals; UINT32_MAX when none does. */
static uint32_t oldest_needed(const struct files *f)
{
	for (size_t i = 0; i < f->segs.count; i++) {
		const struct fseg *seg = f->segs.p[i];

		if (seg->known_end > 0 || seg->closed)
			return seg->number;
	}
	return UINT32_MAX;
}

static void remove_journals(struct files *f)
{
	uint32_t oldest = oldest_needed(f);

	for (size_t i = 0; i < f->jnls.count && f->jobs_out < 16; i++) {
		struct fjnl *j = f->jnls.p[i];

		if (!j->closed || j->leaving || j->refs > 0 || j->closed_at >= oldest)
			continue;
		j->leaving = true;
		files_thread_give(f, FJOB_REMOVE_JOURNAL, j->number);
	}
}

/* ---- copy-forward ---- */

static void choose_copy(struct files *f, int64_t now)
{
	for (size_t i = 0; f->copying == NULL && i < f->segs.count; i++) {
		struct fseg *seg = f->segs.p[i];

		if (!seg->closed || seg->orphan || seg->leaving || seg->pinned || seg->live == 0 ||
		    seg->live_bytes * 4 >= seg->bytes || now < seg->copy_not_before_ms ||
		    now - seg->closed_ms < COPY_AGE_MS)
			continue;
		f->copying = seg;
		f->scanning = true;
		files_thread_give(f, FJOB_SCAN, seg->number);
	}
}

static void copy_over(struct files *f)
{
	if (f->copying == NULL || f->scanning || f->copy_pos < f->copy_count || f->copy_out > 0)
		return;
	f->copying->copy_not_before_ms = clock_now().ms + COPY_AGAIN_MS;
	f->copying = NULL;
	free(f->copy_ids);
	f->copy_ids = NULL;
	f->copy_count = f->copy_pos = 0;
}

bool files_copy_next(struct files *f, struct qid *id_r, uint32_t *seg_r)
{
	if (f->copying == NULL || f->scanning || f->copy_pos >= f->copy_count)
		return false;
	*id_r = f->copy_ids[f->copy_pos++];
	*seg_r = f->copying->number;
	f->copy_out++;
	return true;
}

void files_copy_ended(struct files *f, uint32_t seg)
{
	ASSERT(f->copying != NULL && f->copying->number == seg && f->copy_out > 0);
	f->copy_out--;
	copy_over(f);
}

/* ---- time ---- */

static void retired(struct files *f, const struct fjob *j)
{
	if (j->err != 0)
		log_warn("segment %08x cannot be removed: %s", j->number, err_str(j->err));
	if (f->last_seg != NULL && f->last_seg->number == j->number)
		f->last_seg = NULL;
	if (f->look.seg == j->number)
		spool_look_end(&f->look);
	list_remove(&f->segs, j->number);
	if (j->err != 0 || !j->kept)
		return;
	if (f->spare_count == f->spare_cap) {
		f->spare_cap = f->spare_cap == 0 ? 16 : f->spare_cap * 2;
		f->spares = xrealloc(f->spares, f->spare_cap * sizeof(*f->spares));
	}
	f->spares[f->spare_count++] = j->number;
}

static void finish(struct files *f, struct fjob *j)
{
	f->jobs_out--;
	if (j->kind == FJOB_RETIRE) {
		retired(f, j);
	} else if (j->kind == FJOB_REMOVE_JOURNAL) {
		if (j->err != 0)
			log_warn("journal %08x cannot be removed: %s", j->number, err_str(j->err));
		list_remove(&f->jnls, j->number);
	} else if (j->kind == FJOB_DROP_SPARE) {
		if (j->err != 0)
			log_warn("spare segment %08x cannot be removed: %s", j->number,
				 err_str(j->err));
	} else if (j->kind == FJOB_SEARCH) {
		files_search_finished(f, j);
	} else if (j->kind == FJOB_SCAN) {
		f->scanning = false;
		TAKE(f->copy_ids, j->ids);
		f->copy_count = j->id_count;
		f->copy_pos = 0;
		copy_over(f);
	}
	free(j->ids);
	free(j);
}

static void gauges(struct files *f)
{
	struct board_shm *b = f->su.board;
	uint64_t seg_bytes = 0, jnl_bytes = 0;

	for (size_t i = 0; i < f->segs.count; i++)
		seg_bytes += ((const struct fseg *)f->segs.p[i])->bytes;
	for (size_t i = 0; i < f->jnls.count; i++)
		jnl_bytes += ((const struct fjnl *)f->jnls.p[i])->bytes;
	board_set(&b->segments, f->segs.count);
	board_set(&b->segment_bytes, seg_bytes);
	board_set(&b->journals, f->jnls.count);
	board_set(&b->journal_bytes, jnl_bytes);
}

bool files_turn(struct files *f)
{
	return f->marks != NULL && journal_writer_poll(f->marks);
}

void files_tick(struct files *f)
{
	int64_t now = clock_now().ms;

	for (struct fjob *j = files_thread_done(f), *next; j != NULL; j = next) {
		next = j->next;
		finish(f, j);
	}
	if (f->recovered)
		files_search_next(f, now);
	if (now < f->next_look_ms)
		return;
	f->next_look_ms = now + LOOK_MS;
	files_marks_tick(f);
	gauges(f);
	if (!f->recovered)
		return;
	retire_dead(f, now);
	remove_journals(f);
	choose_copy(f, now);
}
