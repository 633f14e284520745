/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Queue table: slots, lists, the hash of queue ids and the moves; see shm/qtab.h. Called by the
 * scheduler. The checker and the readers are in shm/qtab_check.c.
 */
#include "shm/qtab.h"

#include <sys/mman.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/order.h"
#include "shm/qtab_private.h"

_Static_assert(sizeof(struct qmsg) == 36, "memory per deferred message");
_Static_assert(sizeof(struct qentry) == 48, "memory per deferred message");
_Static_assert(sizeof(struct qmsg) + sizeof(struct qentry) + 4 + 4 <= 100,
	       "with its bucket and its place on the retry wheel");
_Static_assert(sizeof(struct qtab_shm) == 64, "one cache line");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "words are shared between processes");

#define MSG_OFF       (sizeof(struct shm_header) + sizeof(struct qtab_shm))
#define FIRST_BUCKETS 64u
#define CAP_MAX       (1u << 30)

const char *const qstate_names[QS_COUNT] = {
	[QS_FREE] = "free",           [QS_FRESH] = "fresh", [QS_LOAD] = "load",
	[QS_LOADING] = "loading",     [QS_READY] = "ready", [QS_BUSY] = "busy",
	[QS_DEFERRED] = "deferred",   [QS_HOLD] = "hold",   [QS_NOTIFY] = "notify",
	[QS_NOTIFYING] = "notifying",
};

#define MOVE(a, b, has_owner, by)                                                                  \
	{                                                                                          \
		.from = QS_##a, .to = QS_##b, .owned = (has_owner), .who = (by)                    \
	}

const struct qmove qtab_moves[] = {
	MOVE(FREE, FRESH, 0, "a message arrives, is recovered, or an entry is divided"),

	MOVE(FRESH, LOAD, 0, "recovered from disk: recipients are not known here"),
	MOVE(FRESH, READY, 0, "resolved already"),
	MOVE(FRESH, HOLD, 0, "to be held from the start"),
	MOVE(FRESH, DEFERRED, 0, "destination cannot be tried now, or recovered as deferred"),
	MOVE(FRESH, NOTIFY, 0, "failed when it was resolved, or recovered as failed"),
	MOVE(FRESH, FREE, 0, "announcement turned out wrong or empty"),

	MOVE(LOAD, LOADING, 1, "sent to a rewrite worker"),
	MOVE(LOAD, HOLD, 0, "operator holds it"),
	MOVE(LOAD, FREE, 0, "operator deletes it"),

	MOVE(LOADING, READY, 0, "rewrite worker resolved it"),
	MOVE(LOADING, HOLD, 0, "operator held it meanwhile"),
	MOVE(LOADING, DEFERRED, 0, "rewrite worker could not resolve it now"),
	MOVE(LOADING, NOTIFY, 0, "rewrite worker found it undeliverable"),
	MOVE(LOADING, FREE, 0, "divided completely, damaged, or deleted meanwhile"),
	MOVE(LOADING, LOAD, 0, "rewrite worker died or gave it back"),

	MOVE(READY, BUSY, 1, "job for a deliver or local worker"),
	MOVE(READY, HOLD, 0, "operator holds it"),
	MOVE(READY, LOAD, 0, "operator requeues it, or its transport is gone"),
	MOVE(READY, DEFERRED, 0, "destination suspended"),
	MOVE(READY, NOTIFY, 0, "too old"),
	MOVE(READY, FREE, 0, "operator deletes it"),

	MOVE(BUSY, FREE, 0, "all delivered"),
	MOVE(BUSY, DEFERRED, 0, "some are to be tried again"),
	MOVE(BUSY, NOTIFY, 0, "some failed for good"),
	MOVE(BUSY, READY, 0, "worker died or gave it back"),
	MOVE(BUSY, HOLD, 0, "operator held it meanwhile"),

	MOVE(DEFERRED, LOAD, 0, "due, flushed or requeued"),
	MOVE(DEFERRED, HOLD, 0, "operator holds it"),
	MOVE(DEFERRED, NOTIFY, 0, "too old"),
	MOVE(DEFERRED, FREE, 0, "operator deletes it"),
	MOVE(DEFERRED, READY, 0, "due and still resolved"),

	MOVE(HOLD, LOAD, 0, "operator releases it"),
	MOVE(HOLD, FREE, 0, "operator deletes it"),
	MOVE(HOLD, READY, 0, "operator releases it, still resolved"),
	MOVE(HOLD, NOTIFY, 0, "failed recipients of a held message"),

	MOVE(NOTIFY, NOTIFYING, 1, "sent to a rewrite worker"),
	MOVE(NOTIFY, FREE, 0, "nobody to tell, or deleted"),
	MOVE(NOTIFY, HOLD, 0, "operator holds it"),

	MOVE(NOTIFYING, FREE, 0, "notification committed"),
	MOVE(NOTIFYING, DEFERRED, 0, "notified; others are to be tried again"),
	MOVE(NOTIFYING, NOTIFY, 0, "rewrite worker died or could not"),
	MOVE(NOTIFYING, HOLD, 0, "operator held it meanwhile"),
	MOVE(NOTIFYING, LOAD, 0, "notified; others are to be resolved again"),
};
const unsigned qtab_move_count = ARRAY_LEN(qtab_moves);

const uint8_t qtab_on_death[QS_COUNT] = {
	[QS_FREE] = QS_COUNT,       [QS_FRESH] = QS_COUNT, [QS_LOAD] = QS_COUNT,
	[QS_LOADING] = QS_LOAD,     [QS_READY] = QS_COUNT, [QS_BUSY] = QS_READY,
	[QS_DEFERRED] = QS_COUNT,   [QS_HOLD] = QS_COUNT,  [QS_NOTIFY] = QS_COUNT,
	[QS_NOTIFYING] = QS_NOTIFY,
};

/* The table above as bits, for speed. */
static uint16_t legal_to[QS_COUNT];
static uint16_t owned_states;

__attribute__((constructor)) static void read_moves(void)
{
	for (unsigned i = 0; i < qtab_move_count; i++) {
		legal_to[qtab_moves[i].from] |= (uint16_t)(1u << qtab_moves[i].to);
		if (qtab_moves[i].owned)
			owned_states |= (uint16_t)(1u << qtab_moves[i].to);
	}
}

bool qstate_is_owned(enum qstate s)
{
	return (unsigned)s < QS_COUNT && (owned_states >> s & 1) != 0;
}

bool qtab_move_is_legal(enum qstate from, enum qstate to)
{
	return (unsigned)from < QS_COUNT && (unsigned)to < QS_COUNT &&
	       (legal_to[from] >> to & 1) != 0;
}

/* ---- the region ---- */

static uint64_t entry_off_of(uint32_t msg_cap)
{
	return align_up(MSG_OFF + (size_t)msg_cap * sizeof(struct qmsg), 64);
}

static void set_places(struct qtab *t, uint32_t msg_cap, uint32_t entry_cap)
{
	char *base = t->region.base;

	t->shm = (void *)(base + sizeof(struct shm_header));
	t->msgs = (void *)(base + MSG_OFF);
	t->entries = (void *)(base + entry_off_of(msg_cap));
	t->msg_cap = msg_cap;
	t->entry_cap = entry_cap;
	t->tail_msg = QTAB_NONE;
	t->tail_entry = QTAB_NONE;
}

int qtab_create(uint32_t msg_cap, uint32_t entry_cap, struct qtab *t)
{
	*t = (struct qtab){ .region = SHM_REGION_INIT };
	if (msg_cap == 0 || msg_cap > CAP_MAX || entry_cap == 0 || entry_cap > CAP_MAX)
		return E_INVAL;
	uint64_t entry_off = entry_off_of(msg_cap);
	int err = shm_region_create("posthaste-qtab", SHM_KIND_QTAB,
				    entry_off + (size_t)entry_cap * sizeof(struct qentry), 0, 0,
				    &t->region);

	if (err != 0)
		return err;
	/* Reserved as a whole, used page by page: growing never copies. */
	t->bucket_cap = msg_cap < FIRST_BUCKETS ? FIRST_BUCKETS : msg_cap;
	void *buckets = mmap(NULL, (size_t)t->bucket_cap * sizeof(uint32_t), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (buckets == MAP_FAILED) {
		err = err_errno();
		shm_region_close(&t->region);
		return err;
	}
	t->buckets = buckets;
	t->bucket_count = FIRST_BUCKETS;
	set_places(t, msg_cap, entry_cap);
	t->shm->msg_cap = msg_cap;
	t->shm->entry_cap = entry_cap;
	t->shm->msg_off = MSG_OFF;
	t->shm->entry_off = entry_off;
	t->shm->msg_free = QTAB_NONE;
	t->shm->entry_free = QTAB_NONE;
	FAULT_POINT(QTAB_INIT);
	return 0;
}

void qtab_fini(struct qtab *t)
{
	if (t->buckets != NULL)
		munmap(t->buckets, (size_t)t->bucket_cap * sizeof(uint32_t));
	shm_region_close(&t->region);
	*t = (struct qtab){ .region = SHM_REGION_INIT };
}

int qtab_view(struct shm_region *r, struct qtab *t)
{
	struct qtab_shm copy;
	int err = r->base != NULL && r->size >= MSG_OFF
			  ? shm_header_check(r->base, r->size, SHM_KIND_QTAB)
			  : E_CORRUPT;

	*t = (struct qtab){ .region = SHM_REGION_INIT };
	if (err == 0) {
		memcpy(&copy, (const char *)r->base + sizeof(struct shm_header), sizeof(copy));
		if (copy.msg_cap == 0 || copy.msg_cap > CAP_MAX || copy.entry_cap == 0 ||
		    copy.entry_cap > CAP_MAX || copy.msg_off != MSG_OFF ||
		    copy.entry_off != entry_off_of(copy.msg_cap) || copy.entry_off > r->size ||
		    (r->size - copy.entry_off) / sizeof(struct qentry) < copy.entry_cap)
			err = E_CORRUPT;
	}
	if (err != 0) {
		shm_region_close(r);
		return err;
	}
	t->region = *r;
	*r = SHM_REGION_INIT;
	set_places(t, copy.msg_cap, copy.entry_cap);
	return 0;
}

static inline void count_up(_Atomic uint32_t *n)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	FAULT_POINT(QTAB_COUNT);
}

static inline void count_down(_Atomic uint32_t *n)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) - 1,
			      memory_order_relaxed);
	FAULT_POINT(QTAB_COUNT);
}

/* ---- linear hashing: one bucket is divided for each message beyond one per bucket ---- */

struct qid qtab_msg_qid(const struct qmsg *m)
{
	return (struct qid){ .time_us = (uint64_t)m->qid_us_hi << 32 | m->qid_us_lo,
			     .life = m->qid_life };
}

/* buckets[] holds slot + 1, so that untouched pages are empty buckets */
static uint32_t bucket_first(const struct qtab *t, uint32_t bucket)
{
	return t->buckets[bucket] == 0 ? QTAB_NONE : t->buckets[bucket] - 1;
}

static void bucket_push(struct qtab *t, uint32_t bucket, uint32_t msg)
{
	t->msgs[msg].hash_next = bucket_first(t, bucket);
	FAULT_POINT(QTAB_HASH_NEXT);
	t->buckets[bucket] = msg + 1;
}

uint32_t qtab_bucket_of(const struct qtab *t, struct qid id)
{
	uint32_t full = 1u << (31 - __builtin_clz(t->bucket_count)); /* largest power of two */
	uint64_t h = qid_hash(id);
	uint32_t bucket = (uint32_t)h & (2 * full - 1);

	return bucket < t->bucket_count ? bucket : (uint32_t)h & (full - 1);
}

static void split_one(struct qtab *t)
{
	uint32_t full = 1u << (31 - __builtin_clz(t->bucket_count));
	uint32_t from = t->bucket_count - full;
	uint32_t msg = bucket_first(t, from);

	t->bucket_count++;
	t->buckets[from] = 0;
	while (msg != QTAB_NONE) {
		uint32_t next = t->msgs[msg].hash_next;

		bucket_push(t, qtab_bucket_of(t, qtab_msg_qid(&t->msgs[msg])), msg);
		FAULT_POINT(QTAB_SPLIT);
		msg = next;
	}
}

static uint32_t find_in(const struct qtab *t, uint32_t bucket, struct qid id)
{
	uint32_t msg = bucket_first(t, bucket);

	while (msg != QTAB_NONE && !qid_eq(qtab_msg_qid(&t->msgs[msg]), id))
		msg = t->msgs[msg].hash_next;
	return msg;
}

uint32_t qtab_msg_find(const struct qtab *t, struct qid id)
{
	if (id.life == 0 || t->buckets == NULL)
		return QTAB_NONE;
	return find_in(t, qtab_bucket_of(t, id), id);
}

void qtab_prefetch(const struct qtab *t, struct qid id)
{
	if (id.life != 0 && t->buckets != NULL)
		__builtin_prefetch(&t->buckets[qtab_bucket_of(t, id)], 1);
}

void qtab_prefetch_more(const struct qtab *t, struct qid id)
{
	if (id.life == 0 || t->buckets == NULL)
		return;
	uint32_t msg = bucket_first(t, qtab_bucket_of(t, id));

	if (msg != QTAB_NONE)
		__builtin_prefetch(&t->msgs[msg]);
}

static void hash_remove(struct qtab *t, uint32_t msg)
{
	uint32_t bucket = qtab_bucket_of(t, qtab_msg_qid(&t->msgs[msg]));
	uint32_t at = bucket_first(t, bucket);

	if (at == msg) {
		t->buckets[bucket] = t->msgs[msg].hash_next + 1; /* QTAB_NONE + 1 == 0 */
		return;
	}
	for (;;) {
		ASSERT(at != QTAB_NONE);
		uint32_t next = t->msgs[at].hash_next;

		if (next == msg)
			break;
		at = next;
	}
	t->msgs[at].hash_next = t->msgs[msg].hash_next;
	FAULT_POINT(QTAB_HASH_CUT);
}

/* ---- messages ---- */

void qtab_reserve(struct qtab *t, uint32_t messages)
{
	if (atomic_load_explicit(&t->shm->msg_live, memory_order_relaxed) != 0)
		return;
	if (messages > t->bucket_cap)
		messages = t->bucket_cap;
	if (messages > t->bucket_count)
		t->bucket_count = messages; /* all are zero: empty */
}

int qtab_msg_alloc(struct qtab *t, struct qid id, uint32_t *msg_r)
{
	struct qtab_shm *shm = t->shm;
	uint32_t live = atomic_load_explicit(&shm->msg_live, memory_order_relaxed);
	uint32_t msg = shm->msg_free;

	if (id.life == 0 || id.life > QTAB_LIFE_MAX || id.time_us >= QID_MAX_TIME_US)
		return E_INVAL;
	if (qtab_msg_find(t, id) != QTAB_NONE)
		return E_EXIST;
	if (msg != QTAB_NONE) {
		shm->msg_free = t->msgs[msg].first_entry;
		FAULT_POINT(QTAB_MSG_POP);
	} else {
		msg = atomic_load_explicit(&shm->msg_used, memory_order_relaxed);
		if (msg >= t->msg_cap)
			return E_NOSPC;
		count_up(&shm->msg_used);
	}
	struct qmsg *m = &t->msgs[msg];

	*m = (struct qmsg){
		.qid_us_lo = (uint32_t)id.time_us,
		.qid_us_hi = (uint32_t)(id.time_us >> 32),
		.qid_life = id.life,
		.first_entry = QTAB_NONE,
		.hash_next = QTAB_NONE,
		.flags = (m->flags & 0xffff0000u) + 0x10000u,
	};
	FAULT_POINT(QTAB_MSG_FILL);
	if (live >= t->bucket_count && t->bucket_count < t->bucket_cap)
		split_one(t);
	bucket_push(t, qtab_bucket_of(t, id), msg);
	FAULT_POINT(QTAB_MSG_HASH);
	count_up(&shm->msg_live);
	*msg_r = msg;
	return 0;
}

void qtab_msg_free(struct qtab *t, uint32_t msg)
{
	ASSERT(msg < t->msg_cap);
	struct qmsg *m = &t->msgs[msg];

	ASSERT(m->qid_life != 0 && m->first_entry == QTAB_NONE);
	if (!FAULT_SKIPS(UNHASH))
		hash_remove(t, msg);
	FAULT_POINT(QTAB_MSG_UNHASH);
	m->qid_life = 0;
	m->first_entry = t->shm->msg_free;
	FAULT_POINT(QTAB_MSG_NEXT);
	t->shm->msg_free = msg;
	FAULT_POINT(QTAB_MSG_PUSH);
	count_down(&t->shm->msg_live);
	if (t->tail_msg == msg)
		t->tail_msg = QTAB_NONE;
}

/* ---- entries ---- */

uint64_t qtab_entry_word(const struct qtab *t, uint32_t entry)
{
	if (entry >= t->entry_cap)
		return 0;
	/* Q2, partner Q1 */
	return atomic_load_explicit(&t->entries[entry].word, memory_order_acquire);
}

static inline int change_word(struct qentry *e, uint64_t word, enum qstate to, uint32_t life,
			      uint64_t *new_r)
{
	uint64_t next = qword_make(to, life, qword_seq(word) + 1);

	/* Q1, partner Q2: payload written before the move belongs to the new word */
	if (!atomic_compare_exchange_strong_explicit(&e->word, &word, next, memory_order_acq_rel,
						     memory_order_relaxed))
		return E_STALE;
	/* Q3, partner Q4: payload written from now on is seen only together with this word */
	shm_fence_release();
	FAULT_POINT(QTAB_MOVE);
	if (new_r != NULL)
		*new_r = next;
	return 0;
}

int qtab_entry_move(struct qtab *t, uint32_t entry, uint64_t word, enum qstate to, uint32_t life,
		    uint64_t *new_r)
{
	if (entry >= t->entry_cap)
		return E_STALE;
	if (to == QS_FREE || to == QS_FRESH || !qtab_move_is_legal(qword_state(word), to))
		return E_STATE;
	if (life > QTAB_LIFE_MAX || qstate_is_owned(to) != (life != 0))
		return E_STATE;
	return change_word(&t->entries[entry], word, to, life, new_r);
}

/* Behind the last one when that is known, which it is while one message gets its entries; then they
 * are freed from the front of the list, too. */
static void link_sibling(struct qtab *t, uint32_t msg, uint32_t entry)
{
	struct qmsg *m = &t->msgs[msg];

	if (m->first_entry != QTAB_NONE && t->tail_msg == msg) {
		t->entries[t->tail_entry].sibling = entry;
		FAULT_POINT(QTAB_ENTRY_LINK);
	} else {
		bool last = m->first_entry == QTAB_NONE;

		t->entries[entry].sibling = m->first_entry;
		FAULT_POINT(QTAB_SIBLING);
		m->first_entry = entry;
		FAULT_POINT(QTAB_ENTRY_LINK);
		if (!last)
			return;
	}
	t->tail_msg = msg;
	t->tail_entry = entry;
}

int qtab_entry_alloc(struct qtab *t, uint32_t msg, uint32_t *entry_r)
{
	struct qtab_shm *shm = t->shm;
	uint32_t entry = shm->entry_free;

	ASSERT(msg < t->msg_cap && t->msgs[msg].qid_life != 0);
	if (entry != QTAB_NONE) {
		shm->entry_free = t->entries[entry].list_next;
		FAULT_POINT(QTAB_ENTRY_POP);
	} else {
		entry = atomic_load_explicit(&shm->entry_used, memory_order_relaxed);
		if (entry >= t->entry_cap)
			return E_NOSPC;
		count_up(&shm->entry_used);
	}
	struct qentry *e = &t->entries[entry];
	uint64_t word = atomic_load_explicit(&e->word, memory_order_relaxed);

	ASSERT(qword_state(word) == QS_FREE);
	int err = change_word(e, word, QS_FRESH, 0, NULL);

	ASSERT(err == 0); /* we are the only writer */
	FAULT_POINT(QTAB_ENTRY_FRESH);
	e->mask = 0;
	e->msg = msg;
	e->dest = QTAB_NONE;
	e->rcpt_first = 0;
	e->sibling = QTAB_NONE;
	e->list_next = QTAB_NONE;
	e->list_prev = QTAB_NONE;
	e->due_s = 0;
	e->jref = 0;
	FAULT_POINT(QTAB_ENTRY_FILL);
	link_sibling(t, msg, entry);
	count_up(&shm->entry_live);
	*entry_r = entry;
	return 0;
}

static void unlink_sibling(struct qtab *t, uint32_t entry)
{
	struct qentry *e = &t->entries[entry];
	uint32_t *at = &t->msgs[e->msg].first_entry;
	uint32_t before = QTAB_NONE;

	while (*at != entry) {
		ASSERT(*at != QTAB_NONE);
		before = *at;
		at = &t->entries[before].sibling;
	}
	*at = e->sibling;
	FAULT_POINT(QTAB_ENTRY_UNLINK);
	if (t->tail_msg == e->msg && t->tail_entry == entry) {
		t->tail_entry = before;
		if (before == QTAB_NONE)
			t->tail_msg = QTAB_NONE;
	}
}

int qtab_entry_free(struct qtab *t, uint32_t entry, uint64_t word)
{
	if (entry >= t->entry_cap)
		return E_STALE;
	if (!qtab_move_is_legal(qword_state(word), QS_FREE))
		return E_STATE;
	struct qentry *e = &t->entries[entry];
	int err = change_word(e, word, QS_FREE, 0, NULL);

	if (err != 0)
		return err;
	unlink_sibling(t, entry);
	e->list_next = t->shm->entry_free;
	FAULT_POINT(QTAB_ENTRY_NEXT);
	t->shm->entry_free = entry;
	FAULT_POINT(QTAB_ENTRY_PUSH);
	count_down(&t->shm->entry_live);
	return 0;
}

uint32_t qtab_recover_life(struct qtab *t, uint32_t life, qtab_recover_fn fn, void *ctx)
{
	uint32_t used = qtab_entry_used(t), moved = 0;

	if (life == 0)
		return 0;
	for (uint32_t i = 0; i < used; i++) {
		uint64_t word = qtab_entry_word(t, i);
		enum qstate was = qword_state(word);

		if (qword_life(word) != life || !qstate_is_owned(was))
			continue;
		if (qtab_entry_move(t, i, word, (enum qstate)qtab_on_death[was], 0, NULL) != 0)
			continue;
		FAULT_POINT(QTAB_RECOVER);
		moved++;
		if (fn != NULL)
			fn(ctx, i, was);
	}
	return moved;
}
