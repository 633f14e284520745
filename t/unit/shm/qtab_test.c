/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queue table: the moves, slots, the hash, recovery, and a checker that finds each kind of damage.
 */
#include <stdlib.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/util.h"
#include "shm/qtab.h"
#include "t/unit/tap.h"

static struct qtab t;
static char why[200];

static struct qid id_of(uint32_t n)
{
	return (struct qid){ .time_us = 1700000000000000u + n, .life = 1 + n % 1000 };
}

static void fresh(uint32_t msgs, uint32_t entries)
{
	qtab_fini(&t);
	if (qtab_create(msgs, entries, &t) != 0)
		ok(false, "create");
}

static bool is_sound(void)
{
	if (qtab_check(&t, why, sizeof(why)) == 0)
		return true;
	printf("# %s\n", why);
	return false;
}

/* One message with one entry, brought into state s by hand. */
static uint64_t make_state(enum qstate s, uint32_t *msg_r, uint32_t *entry_r)
{
	fresh(8, 8);
	qtab_msg_alloc(&t, id_of(1), msg_r);
	qtab_entry_alloc(&t, *msg_r, entry_r);
	t.entries[*entry_r].mask = 1;
	t.entries[*entry_r].dest = 0;
	uint64_t word = qword_make(s, qstate_is_owned(s) ? 77 : 0, 100);

	atomic_store(&t.entries[*entry_r].word, word);
	return word;
}

static void moves_table(void)
{
	unsigned bad = 0, owned_seen[QS_COUNT] = { 0 };

	for (unsigned i = 0; i < qtab_move_count; i++) {
		const struct qmove *m = &qtab_moves[i];

		bad += m->from >= QS_COUNT || m->to >= QS_COUNT || m->from == m->to ||
		       m->who == NULL;
		bad += m->owned != qstate_is_owned((enum qstate)m->to);
		owned_seen[m->to] |= 1u << m->owned;
		for (unsigned j = 0; j < i; j++)
			bad += qtab_moves[j].from == m->from && qtab_moves[j].to == m->to;
	}
	is_int(bad, 0, "rows are sane and none is there twice");
	for (unsigned s = 0; s < QS_COUNT; s++) {
		bad += owned_seen[s] != 1 && owned_seen[s] != 2;
		bad += qstate_names[s] == NULL;
		bad += qstate_is_owned((enum qstate)s) != (qtab_on_death[s] != QS_COUNT);
		if (qtab_on_death[s] != QS_COUNT)
			bad += !qtab_move_is_legal((enum qstate)s, (enum qstate)qtab_on_death[s]);
	}
	is_int(bad, 0, "each state is owned or not, can be reached, and death has a way out of it");
	ok(!qtab_move_is_legal(QS_COUNT, QS_FREE) && !qtab_move_is_legal(QS_FREE, QS_COUNT),
	   "no moves from or to nowhere");
}

static void every_move(void)
{
	unsigned bad = 0, legal = 0;
	uint32_t msg, entry;

	for (unsigned from = 0; from < QS_COUNT; from++)
		for (unsigned to = 0; to < QS_COUNT; to++) {
			uint64_t word = make_state((enum qstate)from, &msg, &entry), next = 0;
			uint32_t life = qstate_is_owned((enum qstate)to) ? 5 : 0;
			bool may = qtab_move_is_legal((enum qstate)from, (enum qstate)to);
			int want = may && to != QS_FREE && to != QS_FRESH ? 0 : E_STATE;
			int err = qtab_entry_move(&t, entry, word, (enum qstate)to, life, &next);

			bad += err != want;
			if (err == 0) {
				legal++;
				bad += next != qword_make((enum qstate)to, life, 101);
				bad += qtab_entry_word(&t, entry) != next || !is_sound();
				bad += qtab_entry_move(&t, entry, word, (enum qstate)to, life,
						       NULL) != E_STALE;
			} else {
				bad += qtab_entry_word(&t, entry) != word;
			}
			if (err != 0 || from == QS_FREE)
				continue;
			word = make_state((enum qstate)from, &msg, &entry);
			bad += qtab_entry_move(&t, entry, word, (enum qstate)to, life == 0 ? 5 : 0,
					       NULL) != E_STATE;
		}
	is_int(bad, 0, "every pair of states: %u moves are allowed, all others refused", legal);
	for (unsigned from = 0; from < QS_COUNT; from++) {
		uint64_t word = make_state((enum qstate)from, &msg, &entry);
		bool may = qtab_move_is_legal((enum qstate)from, QS_FREE);

		bad += qtab_entry_free(&t, entry, word + 1) != (may ? E_STALE : E_STATE);
		bad += qtab_entry_free(&t, entry, word) != (may ? 0 : E_STATE);
		bad += may && !is_sound();
	}
	is_int(bad, 0, "and so is freeing");
	is_int(qtab_entry_move(&t, 8, 0, QS_LOAD, 0, NULL), E_STALE,
	       "an entry number outside the table");
	is_int(qtab_entry_free(&t, QTAB_NONE, 0), E_STALE, "for freeing");
	is_int(qtab_entry_word(&t, 8), 0, "has a free word");
	uint64_t word = make_state(QS_READY, &msg, &entry);

	is_int(qtab_entry_move(&t, entry, word, QS_BUSY, QTAB_LIFE_MAX + 1, NULL), E_STATE,
	       "a life of 25 bits");
	is_int(qtab_entry_move(&t, entry, qword_make((enum qstate)200, 0, 1), QS_LOAD, 0, NULL),
	       E_STATE, "a word from nowhere");
	word = qword_make(QS_READY, 0, UINT32_MAX);
	atomic_store(&t.entries[entry].word, word);
	is_int(qtab_entry_move(&t, entry, word, QS_BUSY, 3, &word), 0, "the last sequence number");
	ok(word == qword_make(QS_BUSY, 3, 0), "is followed by 0 and touches nothing else");
}

static void messages(void)
{
	uint32_t msg, other;

	fresh(3, 3);
	ok(is_sound(), "an empty table is sound");
	is_int(qtab_msg_find(&t, id_of(1)), QTAB_NONE, "and finds nothing");
	is_int(qtab_msg_alloc(&t, id_of(1), &msg), 0, "alloc");
	is_int(qtab_msg_alloc(&t, id_of(1), &other), E_EXIST, "the same id again");
	is_int(qtab_msg_alloc(&t, (struct qid){ 5, 0 }, &other), E_INVAL, "no id");
	is_int(qtab_msg_alloc(&t, (struct qid){ QID_MAX_TIME_US, 1 }, &other), E_INVAL,
	       "impossible time");
	is_int(qtab_msg_alloc(&t, (struct qid){ 5, 1 << 24 }, &other), E_INVAL, "impossible life");
	ok(qid_eq(qtab_msg_qid(&t.msgs[msg]), id_of(1)), "the id is kept");
	is_int(qtab_msg_find(&t, id_of(1)), msg, "and found");
	qtab_msg_alloc(&t, id_of(2), &other);
	qtab_msg_alloc(&t, id_of(3), &other);
	is_int(qtab_msg_alloc(&t, id_of(4), &other), E_NOSPC, "full");
	ok(is_sound(), "sound when full");
	uint32_t seq = t.msgs[msg].flags >> 16;

	t.msgs[msg].flags |= 0x1f;
	qtab_msg_free(&t, msg);
	ok(is_sound(), "sound after a free");
	is_int(qtab_msg_find(&t, id_of(1)), QTAB_NONE, "gone");
	is_int(qtab_msg_alloc(&t, id_of(9), &other), 0, "room again");
	is_int(other, msg, "the slot is used again");
	is_int(t.msgs[msg].flags, (seq + 1) << 16, "flags are cleared, the sequence goes on");
}

static void entries(void)
{
	uint32_t msg, e[4], n = 0;

	fresh(2, 4);
	qtab_msg_alloc(&t, id_of(1), &msg);
	for (int i = 0; i < 4; i++)
		is_int(qtab_entry_alloc(&t, msg, &e[i]), 0, "entry %d", i);
	is_int(qtab_entry_alloc(&t, msg, &n), E_NOSPC, "full");
	for (uint32_t i = t.msgs[msg].first_entry; i != QTAB_NONE; i = t.entries[i].sibling)
		is_int(i, e[n++], "listed in order");
	is_int(n, 4, "all");
	ok(is_sound(), "sound");
	static const int order[] = { 1, 3, 0, 2 };
	uint64_t word = 0;

	for (int i = 0; i < 4; i++) {
		word = qtab_entry_word(&t, e[order[i]]);
		is_int(qtab_entry_free(&t, e[order[i]], word), 0, "free entry %d", order[i]);
		ok(is_sound(), "sound");
	}
	is_int(t.msgs[msg].first_entry, QTAB_NONE, "the list is empty");
	is_int(qtab_entry_alloc(&t, msg, &n), 0, "use again");
	ok(qtab_entry_word(&t, n) > word &&
		   qword_seq(qtab_entry_word(&t, n)) == qword_seq(word) + 2,
	   "an old word never fits again");
	is_int(t.entries[n].mask, 0, "payload was reset");
	is_int(t.entries[n].dest, QTAB_NONE, "no destination");

	/* lists of two messages that grow in turns */
	uint32_t a, b;

	fresh(2, 100);
	qtab_msg_alloc(&t, id_of(1), &a);
	qtab_msg_alloc(&t, id_of(2), &b);
	for (int i = 0; i < 40; i++) {
		qtab_entry_alloc(&t, i % 3 ? a : b, &n);
		if (i % 4 == 3)
			qtab_entry_free(&t, n - (uint32_t)(i % 3),
					qtab_entry_word(&t, n - (uint32_t)(i % 3)));
	}
	for (uint32_t i = 0; i < 40; i++)
		if (qword_state(qtab_entry_word(&t, i)) == QS_FRESH)
			t.entries[i].mask = 1;
	ok(is_sound(), "two messages in turns");
}

/* Random work against a plain model of what must be there. */
static void random_work(void)
{
	enum { N = 5000 };
	static uint32_t where[N];
	unsigned seed = 7, bad = 0, live = 0;

	fresh(N, 2 * N);
	memset(where, 0xff, sizeof(where));
	for (unsigned i = 0; i < 60000; i++) {
		seed = seed * 1103515245 + 12345;
		uint32_t n = (seed >> 8) % N, e;

		if (where[n] == QTAB_NONE) {
			bad += qtab_msg_alloc(&t, id_of(n), &where[n]) != 0;
			for (uint32_t k = 0; k <= n % 3 && qtab_entry_alloc(&t, where[n], &e) == 0;
			     k++)
				t.entries[e].mask = n + 1;
			live++;
		} else {
			while ((e = t.msgs[where[n]].first_entry) != QTAB_NONE)
				bad += qtab_entry_free(&t, e, qtab_entry_word(&t, e)) != 0;
			qtab_msg_free(&t, where[n]);
			where[n] = QTAB_NONE;
			live--;
		}
		if (i % 5000 == 0)
			bad += !is_sound();
	}
	for (uint32_t n = 0; n < N; n++)
		bad += qtab_msg_find(&t, id_of(n)) != where[n];
	is_int(bad, 0, "60,000 random messages come and go");
	is_int(atomic_load(&t.shm->msg_live), live, "as many as the model has");
	ok(is_sound(), "sound at the end");
	ok(t.bucket_count > 1000, "the hash grew: %u buckets", t.bucket_count);
}

/* A table that was told how many come works as one that grew. */
static void reserved(void)
{
	enum { N = 3000 };
	uint32_t msg, bad = 0;

	fresh(2 * N, 2 * N);
	qtab_reserve(&t, N);
	is_int(t.bucket_count, N, "the hash is made for what is to come");
	for (uint32_t n = 0; n < 2 * N; n++)
		bad += qtab_msg_alloc(&t, id_of(n), &msg) != 0;
	for (uint32_t n = 0; n < 2 * N; n++)
		bad += qtab_msg_find(&t, id_of(n)) == QTAB_NONE;
	is_int(bad, 0, "all are found, beyond what was reserved, too");
	qtab_reserve(&t, UINT32_MAX);
	is_int(t.bucket_count, 2 * N, "no effect on a table with messages");
	fresh(2 * N, 2 * N);
	qtab_reserve(&t, UINT32_MAX);
	is_int(t.bucket_count, t.bucket_cap, "and never more than there is room for");
}

struct told {
	unsigned count;
	enum qstate was[3];
};

static void note(void *ctx, uint32_t entry, enum qstate was)
{
	struct told *told = ctx;

	if (told->count < 3)
		told->was[told->count] = was;
	told->count++;
	(void)entry;
}

static void recovery(void)
{
	static const enum qstate states[] = { QS_LOADING, QS_BUSY, QS_NOTIFYING };
	uint32_t msg, e[6];
	struct told told = { 0 };

	fresh(2, 8);
	qtab_msg_alloc(&t, id_of(1), &msg);
	for (int i = 0; i < 6; i++) {
		qtab_entry_alloc(&t, msg, &e[i]);
		t.entries[e[i]].mask = 1;
		t.entries[e[i]].dest = 1;
		atomic_store(&t.entries[e[i]].word, qword_make(states[i % 3], i < 3 ? 7 : 8, 1));
	}
	is_int(qtab_recover_life(&t, 0, note, &told), 0, "nobody has life 0");
	is_int(qtab_recover_life(&t, 9, note, &told), 0, "a life that holds nothing");
	is_int(qtab_recover_life(&t, 7, note, &told), 3, "what life 7 held");
	ok(told.count == 3 && told.was[0] == QS_LOADING && told.was[2] == QS_NOTIFYING, "is told");
	for (int i = 0; i < 3; i++) {
		uint64_t want = qword_make((enum qstate)qtab_on_death[states[i]], 0, 2);

		ok(qtab_entry_word(&t, e[i]) == want, "%s becomes %s", qstate_names[states[i]],
		   qstate_names[qtab_on_death[states[i]]]);
		is_int(qtab_entry_move(&t, e[i], qword_make(states[i], 7, 1), QS_HOLD, 0, NULL),
		       E_STALE, "a late answer of the dead one changes nothing");
		ok(qtab_entry_word(&t, e[i + 3]) == qword_make(states[i], 8, 1),
		   "life 8 keeps its own");
	}
	is_int(qtab_recover_life(&t, 7, note, &told), 0, "again: nothing left");
	ok(is_sound(), "sound");
}

static void views(void)
{
	struct shm_region r;
	struct qtab v;
	struct qentry_copy c;
	uint32_t msg, entry;

	make_state(QS_DEFERRED, &msg, &entry);
	t.entries[entry].mask = 0xf0;
	t.entries[entry].due_s = 1234;
	is_int(shm_region_map(dup(t.region.fd), SHM_KIND_QTAB, true, &r), -EPERM,
	       "not writable for others");
	is_int(shm_region_map(dup(t.region.fd), SHM_KIND_QTAB, false, &r), 0, "readable");
	is_int(qtab_view(&r, &v), 0, "view");
	ok(qtab_entry_read(&v, entry, &c), "read an entry");
	ok(qword_state(c.word) == QS_DEFERRED && c.mask == 0xf0 && c.due_s == 1234, "as it is");
	ok(qid_eq(c.qid, id_of(1)), "with its message's id");
	ok(!qtab_entry_read(&v, 1, &c), "slots never used are not read");
	ok(!qtab_entry_read(&v, QTAB_NONE, &c), "nor is what is not there");
	is_int(qtab_check(&v, why, sizeof(why)), 0, "checker without a hash");
	is_int(qtab_msg_find(&v, id_of(1)), QTAB_NONE, "no search without a hash");
	qtab_fini(&v);
	shm_region_map(dup(t.region.fd), SHM_KIND_QTAB, false, &r);
	t.shm->entry_cap = 1000;
	is_int(qtab_view(&r, &v), E_CORRUPT, "more entries than memory");
	ok(r.base == NULL, "closed");
	r = SHM_REGION_INIT;
	is_int(qtab_view(&r, &v), E_CORRUPT, "no region");
}

/* Four messages with one entry each; entries 0..2 deferred, 3 freed, message 3 freed. */
static void sample(void)
{
	uint32_t msg, entry;

	fresh(8, 8);
	for (uint32_t i = 0; i < 4; i++) {
		qtab_msg_alloc(&t, id_of(i), &msg);
		qtab_entry_alloc(&t, msg, &entry);
		t.entries[entry].mask = 1;
		if (i < 3)
			qtab_entry_move(&t, entry, qtab_entry_word(&t, entry), QS_DEFERRED, 0,
					NULL);
	}
	qtab_entry_free(&t, 3, qtab_entry_word(&t, 3));
	qtab_msg_free(&t, 3);
}

enum place { IN_HEAD, IN_MSG, IN_ENTRY, IN_BUCKET };

#define HEAD(f)     IN_HEAD, 0, offsetof(struct qtab_shm, f), 4
#define MSG(i, f)   IN_MSG, i, offsetof(struct qmsg, f), 4
#define ENTRY(i, f) IN_ENTRY, i, offsetof(struct qentry, f), sizeof(((struct qentry *)NULL)->f)
#define WORD(s, l)                                                                                 \
	IN_ENTRY, 0, offsetof(struct qentry, word), 8, (uint64_t)(s) << 56 | (uint64_t)(l) << 32

static const struct damage {
	const char *what;
	enum place place;
	uint32_t index;
	size_t offset, size;
	uint64_t value;
} damages[] = {
	{ "capacity", HEAD(msg_cap), 9 },
	{ "more messages used than there are", HEAD(msg_used), 9 },
	{ "more entries used than there are", HEAD(entry_used), UINT32_MAX },
	{ "message free list leads to a slot never used", HEAD(msg_free), 4 },
	{ "message free list in a circle", MSG(3, first_entry), 3 },
	{ "live message on the free list", HEAD(msg_free), 1 },
	{ "message free list is lost", HEAD(msg_free), QTAB_NONE },
	{ "entry free list leads to a slot never used", HEAD(entry_free), 7 },
	{ "entry free list in a circle", ENTRY(3, list_next), 3 },
	{ "live entry on the free list", HEAD(entry_free), 0 },
	{ "entry free list is lost", HEAD(entry_free), QTAB_NONE },
	{ "message lists an entry never used", MSG(0, first_entry), 5 },
	{ "message lists another one's entry", MSG(0, first_entry), 1 },
	{ "message lists a free entry", MSG(0, first_entry), 3 },
	{ "entries in a circle", ENTRY(1, sibling), 1 },
	{ "entry that no message lists", MSG(0, first_entry), QTAB_NONE },
	{ "entry of another message", ENTRY(2, msg), 7 },
	{ "state that is none", WORD(QS_COUNT, 0) },
	{ "state 255", WORD(255, 0) },
	{ "busy with nobody", WORD(QS_BUSY, 0) },
	{ "deferred with somebody", WORD(QS_DEFERRED, 5) },
	{ "free and listed", WORD(QS_FREE, 0) },
	{ "ready for no destination", WORD(QS_READY, 0) },
	{ "no recipients", ENTRY(0, mask), 0 },
	{ "too many messages counted", HEAD(msg_live), 4 },
	{ "too few entries counted", HEAD(entry_live), 2 },
	{ "life of 25 bits", MSG(1, qid_life), 1 << 24 },
	{ "impossible time", MSG(1, qid_us_hi), UINT32_MAX },
	{ "id that is not the hashed one", MSG(1, qid_us_lo), 12345 },
	{ "bucket leads outside", IN_BUCKET, 5, 0, 4, 100 },
	{ "chain in a circle", MSG(1, hash_next), 1 },
	{ "message freed by hand", MSG(2, qid_life), 0 },
};

static void do_damage(const struct damage *d)
{
	char *const bases[] = { [IN_HEAD] = (char *)t.shm,
				[IN_MSG] = (char *)&t.msgs[d->index],
				[IN_ENTRY] = (char *)&t.entries[d->index],
				[IN_BUCKET] = (char *)&t.buckets[d->index] };

	memcpy(bases[d->place] + d->offset, &d->value, d->size);
}

static void checker(void)
{
	for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
		sample();
		if (!is_sound())
			ok(false, "the sample is sound");
		do_damage(&damages[i]);
		why[0] = '\0';
		is_int(qtab_check(&t, why, sizeof(why)), E_CORRUPT, "%s: %s", damages[i].what, why);
		ok(strncmp(why, "qtab: ", 6) == 0, "says what it is");
	}
	sample();
	memset(t.buckets, 0, 64 * sizeof(uint32_t));
	is_int(qtab_check(&t, why, sizeof(why)), E_CORRUPT, "hash is lost: %s", why);
}

static void speed(void)
{
	enum { N = 100000 };
	uint32_t msg = 0, entry = 0;
	int64_t at = clock_mono_us_raw(), took[3];

	fresh(N, N);
	for (uint32_t i = 0; i < N; i++) {
		qtab_msg_alloc(&t, id_of(i), &msg);
		qtab_entry_alloc(&t, msg, &entry);
		t.entries[entry].mask = 1;
	}
	took[0] = clock_mono_us_raw() - at;
	at = clock_mono_us_raw();
	for (uint32_t i = 0; i < N; i++) {
		uint64_t w = qtab_entry_word(&t, i);

		qtab_entry_move(&t, i, w, QS_LOAD, 0, &w);
		qtab_entry_move(&t, i, w, QS_LOADING, 9, &w);
		qtab_entry_move(&t, i, w, QS_DEFERRED, 0, &w);
	}
	took[1] = clock_mono_us_raw() - at;
	at = clock_mono_us_raw();
	for (uint32_t i = 0; i < N; i++) {
		qtab_entry_free(&t, i, qtab_entry_word(&t, i));
		qtab_msg_free(&t, i);
	}
	took[2] = clock_mono_us_raw() - at;
	printf("# message + entry: alloc %lld ns, free %lld ns; move %lld ns\n",
	       (long long)(took[0] * 1000 / N), (long long)(took[2] * 1000 / N),
	       (long long)(took[1] * 1000 / N / 3));
	ok(is_sound(), "sound after %d messages", N);
	is_int(atomic_load(&t.shm->entry_live), 0, "and empty");
}

int main(void)
{
	moves_table();
	every_move();
	messages();
	entries();
	random_work();
	reserved();
	recovery();
	views();
	checker();
	speed();
	qtab_fini(&t);
	is_int(qtab_create(0, 5, &t), E_INVAL, "no table without messages");
	return tap_done();
}
