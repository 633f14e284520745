/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Queue table, read-only side: the checker and copies of slots while the supervisor goes on. Both
 * take every byte of the region for input: numbers are checked before they are followed, nothing is
 * walked twice, and sizes come from the private copies in struct qtab.
 */
#include <stdarg.h>
#include <stdio.h>

#include "lib/err.h"
#include "lib/util.h"
#include "shm/order.h"
#include "shm/qtab.h"
#include "shm/qtab_private.h"

uint32_t qtab_msg_used(const struct qtab *t)
{
	uint32_t used = atomic_load_explicit(&t->shm->msg_used, memory_order_relaxed);

	return used < t->msg_cap ? used : t->msg_cap;
}

uint32_t qtab_entry_used(const struct qtab *t)
{
	uint32_t used = atomic_load_explicit(&t->shm->entry_used, memory_order_relaxed);

	return used < t->entry_cap ? used : t->entry_cap;
}

bool qtab_entry_read(const struct qtab *t, uint32_t entry, struct qentry_copy *out)
{
	struct qentry e = { 0 };
	struct qmsg m;

	if (entry >= qtab_entry_used(t))
		return false;
	const struct qentry *from = &t->entries[entry];

	for (unsigned tries = 0; tries < 64; tries++) {
		/* Q2, partner Q1 */
		uint64_t word = atomic_load_explicit(&from->word, memory_order_acquire);

		shm_copy_racing(&e.mask, &from->mask,
				(sizeof(e) - offsetof(struct qentry, mask)) / 4);
		m = (struct qmsg){ 0 };
		if (e.msg < qtab_msg_used(t))
			shm_copy_racing(&m, &t->msgs[e.msg], sizeof(m) / 4);
		/* Q4, partner Q3: the word again, after the payload */
		shm_fence_acquire();
		if (atomic_load_explicit(&from->word, memory_order_relaxed) != word)
			continue;
		*out = (struct qentry_copy){
			.word = word,
			.mask = e.mask,
			.msg = e.msg,
			.dest = e.dest,
			.rcpt_first = e.rcpt_first,
			.due_s = e.due_s,
			.qid = qtab_msg_qid(&m),
		};
		return true;
	}
	return false;
}

/* ---- checker ---- */

struct checker {
	const struct qtab *t;
	uint32_t msg_used, entry_used;
	uint8_t *msg_seen; /* a bit per SEEN_* */
	uint8_t *entry_seen;
	char *why;
	size_t why_size;
};

enum { SEEN_FREE = 1, SEEN_LISTED = 2, SEEN_HASHED = 4 };

PRINTF_LIKE(2, 3) static int broken(struct checker *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, c->why_size, fmt, ap);
	va_end(ap);
	return E_CORRUPT;
}

/* First sight of a slot; false when it was met before, so no loop is walked twice. */
static bool mark(uint8_t *seen, uint32_t i, uint8_t bit)
{
	if (seen[i] & bit)
		return false;
	seen[i] |= bit;
	return true;
}

static int check_header(struct checker *c)
{
	const struct qtab_shm *shm = c->t->shm;

	if (shm->msg_cap != c->t->msg_cap || shm->entry_cap != c->t->entry_cap)
		return broken(c, "qtab: capacity changed");
	if (atomic_load(&shm->msg_used) > c->t->msg_cap ||
	    atomic_load(&shm->entry_used) > c->t->entry_cap)
		return broken(c, "qtab: more slots used than there are");
	return 0;
}

static int check_free_lists(struct checker *c)
{
	const struct qtab *t = c->t;

	for (uint32_t i = t->shm->msg_free; i != QTAB_NONE; i = t->msgs[i].first_entry) {
		if (i >= c->msg_used)
			return broken(c, "qtab: message free list leads to %u", i);
		if (!mark(c->msg_seen, i, SEEN_FREE))
			return broken(c, "qtab: message %u is twice on the free list", i);
		if (t->msgs[i].qid_life != 0)
			return broken(c, "qtab: message %u is live and on the free list", i);
	}
	for (uint32_t i = t->shm->entry_free; i != QTAB_NONE; i = t->entries[i].list_next) {
		if (i >= c->entry_used)
			return broken(c, "qtab: entry free list leads to %u", i);
		if (!mark(c->entry_seen, i, SEEN_FREE))
			return broken(c, "qtab: entry %u is twice on the free list", i);
		if (qword_state(qtab_entry_word(t, i)) != QS_FREE)
			return broken(c, "qtab: entry %u is live and on the free list", i);
	}
	return 0;
}

static int check_siblings(struct checker *c, uint32_t msg)
{
	const struct qtab *t = c->t;

	for (uint32_t i = t->msgs[msg].first_entry; i != QTAB_NONE; i = t->entries[i].sibling) {
		if (i >= c->entry_used)
			return broken(c, "qtab: message %u lists entry %u", msg, i);
		if (!mark(c->entry_seen, i, SEEN_LISTED))
			return broken(c, "qtab: entry %u is listed twice", i);
		if (t->entries[i].msg != msg)
			return broken(c, "qtab: message %u lists entry %u of message %u", msg, i,
				      t->entries[i].msg);
		if (c->entry_seen[i] & SEEN_FREE)
			return broken(c, "qtab: message %u lists free entry %u", msg, i);
	}
	return 0;
}

static int check_messages(struct checker *c)
{
	uint32_t live = 0;

	for (uint32_t i = 0; i < c->msg_used; i++) {
		struct qid id = qtab_msg_qid(&c->t->msgs[i]);

		if (id.life == 0) {
			if (!(c->msg_seen[i] & SEEN_FREE))
				return broken(c, "qtab: free message %u is on no list", i);
			continue;
		}
		live++;
		if (id.life > QTAB_LIFE_MAX || id.time_us >= QID_MAX_TIME_US)
			return broken(c, "qtab: message %u has an impossible queue id", i);
		int err = check_siblings(c, i);

		if (err != 0)
			return err;
	}
	if (live != atomic_load(&c->t->shm->msg_live))
		return broken(c, "qtab: %u messages are live, %u are counted", live,
			      atomic_load(&c->t->shm->msg_live));
	return 0;
}

static int check_entry(struct checker *c, uint32_t i)
{
	const struct qentry *e = &c->t->entries[i];
	uint64_t word = qtab_entry_word(c->t, i);
	enum qstate s = qword_state(word);

	if ((unsigned)s >= QS_COUNT)
		return broken(c, "qtab: entry %u has no state: %u", i, (unsigned)s);
	if (qstate_is_owned(s) != (qword_life(word) != 0))
		return broken(c, "qtab: entry %u is %s with life %u", i, qstate_names[s],
			      qword_life(word));
	if (s == QS_FREE)
		return c->entry_seen[i] & SEEN_FREE
			       ? 0
			       : broken(c, "qtab: free entry %u is on no list", i);
	if (!(c->entry_seen[i] & SEEN_LISTED))
		return broken(c, "qtab: entry %u is %s and no message lists it", i,
			      qstate_names[s]);
	if (e->mask == 0 && s != QS_FRESH)
		return broken(c, "qtab: entry %u is %s for no recipient", i, qstate_names[s]);
	if ((s == QS_READY || s == QS_BUSY) && e->dest == QTAB_NONE)
		return broken(c, "qtab: entry %u is %s for no destination", i, qstate_names[s]);
	return 0;
}

static int check_entries(struct checker *c)
{
	uint32_t live = 0;

	for (uint32_t i = 0; i < c->entry_used; i++) {
		int err = check_entry(c, i);

		if (err != 0)
			return err;
		live += !(c->entry_seen[i] & SEEN_FREE);
	}
	if (live != atomic_load(&c->t->shm->entry_live))
		return broken(c, "qtab: %u entries are live, %u are counted", live,
			      atomic_load(&c->t->shm->entry_live));
	return 0;
}

/* The hash is the supervisor's own; a view has none. Every live message in its bucket, once, and no
 * id twice: then the search finds each. */
static int check_hash(struct checker *c)
{
	const struct qtab *t = c->t;
	uint32_t hashed = 0;

	if (t->buckets == NULL)
		return 0;
	for (uint32_t b = 0; b < t->bucket_count; b++) {
		uint32_t first = t->buckets[b] - 1; /* 0 is QTAB_NONE */

		for (uint32_t i = first; i != QTAB_NONE; i = t->msgs[i].hash_next) {
			struct qid id;

			if (i >= c->msg_used)
				return broken(c, "qtab: bucket %u leads to %u", b, i);
			if (!mark(c->msg_seen, i, SEEN_HASHED))
				return broken(c, "qtab: message %u is hashed twice", i);
			id = qtab_msg_qid(&t->msgs[i]);
			if (id.life == 0 || qtab_bucket_of(t, id) != b)
				return broken(c, "qtab: message %u is in bucket %u", i, b);
			hashed++;
			/* neighbours are enough: chains are short unless the table is broken */
			uint32_t next = t->msgs[i].hash_next;

			for (int n = 0; n < 32 && next < c->msg_used; n++) {
				if (qid_eq(qtab_msg_qid(&t->msgs[next]), id) && next != i)
					return broken(c, "qtab: messages %u and %u have one id", i,
						      next);
				next = t->msgs[next].hash_next;
			}
		}
	}
	if (hashed != atomic_load(&t->shm->msg_live))
		return broken(c, "qtab: %u messages are hashed, %u are live", hashed,
			      atomic_load(&t->shm->msg_live));
	return 0;
}

int qtab_check(const struct qtab *t, char *why, size_t why_size)
{
	struct checker c = { .t = t, .why = why, .why_size = why_size };
	int err = check_header(&c);

	if (err != 0)
		return err;
	c.msg_used = qtab_msg_used(t);
	c.entry_used = qtab_entry_used(t);
	c.msg_seen = xcalloc(c.msg_used + 1, 1);
	c.entry_seen = xcalloc(c.entry_used + 1, 1);
	static int (*const steps[])(struct checker *) = { check_free_lists, check_messages,
							  check_entries, check_hash };

	for (size_t i = 0; i < ARRAY_LEN(steps) && err == 0; i++)
		err = steps[i](&c);
	free(c.msg_seen);
	free(c.entry_seen);
	return err;
}
