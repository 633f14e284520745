/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Queue table: messages and queue entries, in one region that only the supervisor maps writable
 * (stats and the checker map it read-only). A taken-over worker therefore cannot touch it: workers
 * act through their rings, and the supervisor applies what they say by a compare-and-swap from the
 * exact word they were given (shm/proto.h, fencing).
 *
 * A message slot says where one message is on disk. A queue entry is up to 64 recipients of one
 * message for one destination: what is scheduled, delivered, deferred. Together at most 100 bytes
 * for a deferred message with one entry (with the 4-byte bucket and the 4-byte retry wheel place).
 *
 * Entry word: { state:8 | life:24 | seq:32 }. life is the worker life that holds the entry now (0 =
 * the supervisor), seq grows with every move. All moves go through qtab_entry_move(), which looks
 * the move up in qtab_moves[] - the one list of legal moves that code, checker, model
 * (t/model/moves.pml) and doc/shm-layout.md share. seq goes on when a slot is used again, so a word
 * names one stay of one entry in one state for 2^32 moves of the slot.
 *
 * Readers (stats, the checker) use qtab_entry_read(): the payload belongs to the word when the word
 * is the same before and after. Q1 is the release that publishes a word, Q2 the acquire that reads
 * it; Q3 keeps payload stores behind the move that took the entry, Q4 keeps the reader's second
 * look at the word behind its reading of the payload.
 */
#ifndef PH_SHM_QTAB_H
#define PH_SHM_QTAB_H

#include <stdatomic.h>
#include <stdbool.h>

#include "lib/qid.h"
#include "shm/region.h"

#define QTAB_NONE     UINT32_MAX
#define QTAB_LIFE_MAX 0xffffffu

enum qstate {
	QS_FREE,      /* not in use; on the free list */
	QS_FRESH,     /* allocated, payload being written by the supervisor */
	QS_LOAD,      /* waits to be resolved by a rewrite worker (recovered, due or requeued) */
	QS_LOADING,   /* with a rewrite worker (life) */
	QS_READY,     /* on its destination's list */
	QS_BUSY,      /* with a deliver or local worker (life) */
	QS_DEFERRED,  /* on the retry wheel */
	QS_HOLD,      /* operator or policy said so */
	QS_NOTIFY,    /* waits for a rewrite worker to make a notification */
	QS_NOTIFYING, /* with a rewrite worker (life) */
	QS_COUNT
};

struct qmove {
	uint8_t from; /* enum qstate */
	uint8_t to;
	uint8_t owned; /* 1: the word must carry a worker life afterwards, 0: must be 0 */
	const char *who;
};
extern const struct qmove qtab_moves[];
extern const unsigned qtab_move_count;
extern const char *const qstate_names[QS_COUNT];
/* What becomes of an entry whose owner died: indexed by state, QS_COUNT = nothing (not owned). */
extern const uint8_t qtab_on_death[QS_COUNT];

/* States whose words carry a worker life. */
bool qstate_is_owned(enum qstate s);
bool qtab_move_is_legal(enum qstate from, enum qstate to);

struct qmsg { /* 36 bytes */
	uint32_t qid_us_lo;
	uint32_t qid_us_hi;
	uint32_t qid_life; /* 0 = slot is free */
	uint32_t seg;
	uint32_t off8;
	uint32_t len;
	uint32_t first_entry; /* list through qentry.sibling; next free slot when free */
	uint32_t hash_next;
	uint32_t flags; /* low 16: MSGF_* of shm/proto.h; high 16: sequence, fence for copies */
};

struct qentry { /* 48 bytes */
	_Atomic uint64_t word;
	uint64_t mask; /* recipients still to be dealt with; bit 0 = rcpt_first */
	uint32_t msg;
	uint32_t dest; /* destination table row, QTAB_NONE = not resolved */
	uint32_t rcpt_first;
	uint32_t sibling;   /* next entry of the same message, QTAB_NONE = last */
	uint32_t list_next; /* destination's list (ready or deferred), or the free list; */
	uint32_t list_prev; /* both belong to the scheduler while the entry is not free */
	uint32_t due_s;     /* queue time. Deferred: of the next try; ready: when it became ready */
	uint32_t jref;      /* packed place of the last outcome (the scheduler's), 0 = none */
};

struct qtab_shm { /* behind shm_header; arrays follow at the offsets */
	uint32_t msg_cap;
	uint32_t entry_cap;
	uint64_t msg_off;
	uint64_t entry_off;
	_Atomic uint32_t msg_used; /* slots ever handed out (high-water mark), for readers */
	_Atomic uint32_t entry_used;
	_Atomic uint32_t msg_live;
	_Atomic uint32_t entry_live;
	uint32_t msg_free; /* free list heads */
	uint32_t entry_free;
	uint32_t spare[4];
};

struct qtab {
	struct shm_region region;
	struct qtab_shm *shm;
	struct qmsg *msgs;
	struct qentry *entries;
	uint32_t *buckets; /* private: linear hashing of queue ids, grows one bucket at a time */
	uint32_t bucket_count;
	uint32_t bucket_cap;
	uint32_t msg_cap; /* private copies: the ones in the region are only checked */
	uint32_t entry_cap;
	uint32_t tail_msg; /* the message that got entries last, and its last entry: entries of one
			    */
	uint32_t tail_entry; /* message are listed in the order they were added */
};

/* Sparse: memory is used as slots are. */
int qtab_create(uint32_t msg_cap, uint32_t entry_cap, struct qtab *t);
void qtab_fini(struct qtab *t);

/* Messages. alloc: E_NOSPC when full, E_EXIST when the id is there already, E_INVAL for an id that
 * cannot be. A new message is zero but for its id, its sequence and an empty list. */
int qtab_msg_alloc(struct qtab *t, struct qid id, uint32_t *msg_r);
/* So many are about to come: the hash of an empty table is made for them at once, which spares
 * moving each one when it grows. Without effect on a table with messages. */
void qtab_reserve(struct qtab *t, uint32_t messages);
void qtab_msg_free(struct qtab *t, uint32_t msg);            /* its entries must be gone */
uint32_t qtab_msg_find(const struct qtab *t, struct qid id); /* QTAB_NONE when absent */
/* It will be looked for soon; sooner, after a while (what the first one fetched is used). */
void qtab_prefetch(const struct qtab *t, struct qid id);
void qtab_prefetch_more(const struct qtab *t, struct qid id);
struct qid qtab_msg_qid(const struct qmsg *m);

/* Entries. alloc leaves the entry in QS_FRESH, empty (mask 0, no destination, on no list), and
 * links it to its message. E_NOSPC. The caller sets the mask before it moves the entry on. */
int qtab_entry_alloc(struct qtab *t, uint32_t msg, uint32_t *entry_r);
/* From QS_FRESH or any state that the table lets go to QS_FREE; unlinks it from the message. The
 * caller has taken it off its own lists. Costs a walk over the message's entries before this one.
 * Errors as qtab_entry_move(). */
int qtab_entry_free(struct qtab *t, uint32_t entry, uint64_t word);
/* The only way to change a word: CAS from exactly `word` to {to, life, seq + 1}. E_STATE when the
 * table has no such move (QS_FREE is reached and left by free and alloc only) or when `life` does
 * not fit the state; E_STALE when the word is another one by now or there is no such entry, so that
 * entry numbers and words from a worker can be passed in unchecked. *new_r may be NULL. */
int qtab_entry_move(struct qtab *t, uint32_t entry, uint64_t word, enum qstate to, uint32_t life,
		    uint64_t *new_r);
/* 0 (a free word) when there is no such entry. */
uint64_t qtab_entry_word(const struct qtab *t, uint32_t entry);
/* Slots ever handed out, clamped to what is mapped. */
uint32_t qtab_msg_used(const struct qtab *t);
uint32_t qtab_entry_used(const struct qtab *t);

/* For readers beside the running supervisor: copies without the list fields. False when there is no
 * such entry or it kept moving. The payload is that of the word, except for what the supervisor
 * changes in place (a mask that shrinks); the message is {0} when it went away meanwhile. */
struct qentry_copy {
	uint64_t word;
	uint64_t mask;
	uint32_t msg;
	uint32_t dest;
	uint32_t rcpt_first;
	uint32_t due_s;
	struct qid qid;
};
bool qtab_entry_read(const struct qtab *t, uint32_t entry, struct qentry_copy *out);

static inline enum qstate qword_state(uint64_t w)
{
	return (enum qstate)(w >> 56);
}
static inline uint32_t qword_life(uint64_t w)
{
	return (uint32_t)(w >> 32) & 0xffffff;
}
static inline uint32_t qword_seq(uint64_t w)
{
	return (uint32_t)w;
}
static inline uint64_t qword_make(enum qstate s, uint32_t life, uint32_t seq)
{
	return (uint64_t)s << 56 | (uint64_t)(life & 0xffffff) << 32 | seq;
}

/* Recovery after the worker `life` has been reaped: every entry it held goes where qtab_on_death
 * says; `fn` is told each (entry, old state). Bounded by what the caller lists: the scheduler keeps
 * the entries each life holds, this scan over the whole table is for the checker and for rebuilds.
 * Idempotent. Returns the number of entries moved. */
typedef void (*qtab_recover_fn)(void *ctx, uint32_t entry, enum qstate was);
uint32_t qtab_recover_life(struct qtab *t, uint32_t life, qtab_recover_fn fn, void *ctx);

/* Checker for a table at rest or read-only snapshot: 0, or E_CORRUPT with the first broken
 * invariant in `why`. Shipped: `posthaste check-shm`, tests and fuzz targets call it. */
int qtab_check(const struct qtab *t, char *why, size_t why_size);
/* Map a received region read-only for stats and checks; validates the header only. */
int qtab_view(struct shm_region *r, struct qtab *t);

#endif
