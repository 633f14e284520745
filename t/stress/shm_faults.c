/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Every crash point of shm/ (lib/fault.inc), at its first and at later passages, with -a at every
 * passage: a child dies there by SIGKILL, then the parent does what the supervisor does, lets the
 * checker look, and goes on with the structure. Always compiled with crash points
 * (PH_FAULT_POINTS), whatever configure was told.
 *
 *   rings    the living side drains: exactly what was published is there, and the ring goes on
 *   moves    a death in the middle of a recovery: run again, the rest is recovered, once each
 *   tables   they die with the supervisor (the disk is the truth); what is left is a snapshot that
 *            readers and the checker must survive, and in which every word is a legal one
 *   others   t/stress/fault_small.c
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/util.h"
#include "shm/dtab.h"
#include "shm/qtab.h"
#include "shm/ring.h"
#include "t/stress/fault_case.h"
#include "t/unit/tap.h"

#ifndef PH_FAULT_POINTS
#error "compile with -DPH_FAULT_POINTS"
#endif

#define RING 512u
#define CAP  200u

struct shared {
	_Atomic uint32_t put;       /* records below were committed */
	_Atomic uint32_t published; /* records below were published for sure */
	_Atomic uint32_t got;
	_Atomic uint32_t released;          /* records below were given back for sure */
	_Atomic uint32_t hits[FAULT_COUNT]; /* passages of one whole run */
	_Alignas(64) unsigned char ring[sizeof(struct ring_shm) + RING];
	_Alignas(64) unsigned char made[sizeof(struct ring_shm) + RING];
};

static struct shared *s;
static struct qtab q;
static struct dtab d;
static char why[200];
static bool reached[FAULT_COUNT];
static unsigned deaths;

/* Runs fn in a child that dies at the occurrence; false when it never got there. */
static bool dies_at(enum fault_id id, unsigned occurrence, void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fault_arm(id, occurrence);
		fn();
		for (unsigned i = 0; occurrence == 0 && i < FAULT_COUNT; i++)
			atomic_store(&s->hits[i], fault_hits((enum fault_id)i));
		_exit(0);
	}
	waitpid(pid, &status, 0);
	bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

	deaths += died;
	if (died)
		reached[id] = true;
	else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		ok(false, "%s:%u: ended with status %#x", fault_names[id], occurrence,
		   (unsigned)status);
	return died;
}

/* ---- rings ---- */

static size_t record_of(uint32_t n, uint32_t rec[16])
{
	for (int i = 0; i < 16; i++)
		rec[i] = n;
	return 4 + n % 60;
}

/* Puts up to count records, stops when the ring is full. */
static void put_some(struct ring_prod *p, unsigned count)
{
	uint32_t rec[16];

	for (unsigned i = 0; i < count; i++) {
		uint32_t n = atomic_load(&s->put);
		size_t len = record_of(n, rec);

		if (ring_put(p, rec, len) != 0) {
			ring_prod_wait(p, len);
			break;
		}
		atomic_store(&s->put, n + 1);
		if (i % 3 == 0) {
			ring_publish(p);
			atomic_store(&s->published, n + 1);
		}
	}
	ring_publish(p);
	atomic_store(&s->published, atomic_load(&s->put));
}

/* Takes up to count records; false when one is not the next one. */
static bool get_some(struct ring_cons *c, unsigned count)
{
	uint32_t got[16], want[16];
	size_t len;

	for (unsigned i = 0; i < count; i++) {
		uint32_t n = atomic_load(&s->got);
		int r = ring_get(c, got, sizeof(got), &len);

		if (r == 0) {
			ring_cons_sleep(c);
			break;
		}
		if (r != 1 || len != record_of(n, want) || memcmp(got, want, len) != 0)
			return false;
		atomic_store(&s->got, n + 1);
		if (i % 4 == 0) {
			ring_release(c);
			atomic_store(&s->released, n + 1);
		}
	}
	ring_release(c);
	atomic_store(&s->released, atomic_load(&s->got));
	return true;
}

/* Full and empty in turns, so that both sides come to wait. */
static void ring_work(void)
{
	struct ring_prod p;
	struct ring_cons c;

	if (ring_prod_attach(&p, s->ring, sizeof(s->ring), -1) != 0 ||
	    ring_cons_attach(&c, s->ring, sizeof(s->ring), -1) != 0)
		_exit(1);
	ring_init(s->made, RING);
	for (unsigned round = 0; round < 60; round++) {
		put_some(&p, 5 + round % 40);
		/* it has seen nothing of that yet, or is full in the middle of its work */
		if (!ring_cons_sleep(&c))
			ring_cons_awake(&c);
		if (!get_some(&c, 3 + round % 60))
			_exit(2);
		ring_prod_wait(&p, 4);
		ring_cons_sleep(&c);
		if (round % 2 == 0)
			ring_cons_awake(&c);
	}
	while (!ring_cons_is_empty(&c))
		if (!get_some(&c, 100))
			_exit(3);
}

static bool ring_survives(void)
{
	struct ring_cons c;
	uint32_t rec[16], want[16], n;
	size_t len;
	int r;

	if (ring_check(s->ring, sizeof(s->ring), why, sizeof(why)) != 0 ||
	    ring_cons_attach(&c, s->ring, sizeof(s->ring), -1) != 0)
		return false;
	n = atomic_load(&s->released);
	for (bool first = true; (r = ring_get(&c, rec, sizeof(rec), &len)) == 1; first = false) {
		/* given back, but not noted by the one who died */
		if (first && rec[0] > n && rec[0] <= atomic_load(&s->got))
			n = rec[0];
		if (rec[0] != n || len != record_of(n, want))
			return false;
		n++;
	}
	if (r == 0 && n < atomic_load(&s->got)) /* all given back, not noted */
		n = atomic_load(&s->got);
	if (r != 0 || n < atomic_load(&s->published) || n > atomic_load(&s->put))
		return false;
	ring_release(&c);
	atomic_store(&s->put, n);
	atomic_store(&s->published, n);
	atomic_store(&s->got, n);
	atomic_store(&s->released, n);
	return true;
}

static void fresh_ring(void)
{
	memset(s, 0, sizeof(*s));
	ring_init(s->ring, RING);
}

/* ---- queue table ---- */

static void finish_tables(void)
{
	qtab_fini(&q);
	dtab_fini(&d);
}

static void held_entries(void)
{
	static const enum qstate states[] = { QS_LOADING, QS_BUSY, QS_NOTIFYING };
	uint32_t msg, e;

	if (qtab_create(CAP, CAP, &q) != 0)
		abort();
	for (uint32_t i = 0; i < 30; i++) {
		qtab_msg_alloc(&q, (struct qid){ 100 + i, 1 }, &msg);
		for (uint32_t k = 0; k < 3; k++) {
			qtab_entry_alloc(&q, msg, &e);
			q.entries[e].mask = 1;
			q.entries[e].dest = 0;
			atomic_store(&q.entries[e].word,
				     qword_make(states[k], 7 + (i % 3 == 0), 1));
		}
	}
}

static void recover(void)
{
	qtab_recover_life(&q, 7, NULL, NULL);
}

static bool recovery_survives(uint32_t moved)
{
	if (qtab_check(&q, why, sizeof(why)) != 0)
		return false;
	uint32_t rest = qtab_recover_life(&q, 7, NULL, NULL);

	return rest == 60 - moved && qtab_recover_life(&q, 7, NULL, NULL) == 0 &&
	       qtab_recover_life(&q, 8, NULL, NULL) == 30 && qtab_check(&q, why, sizeof(why)) == 0;
}

static void move(uint32_t e, enum qstate to, uint32_t life)
{
	if (qtab_entry_move(&q, e, qtab_entry_word(&q, e), to, life, NULL) != 0)
		_exit(2);
}

/* Enough messages at once for the hash to grow, and every kind of step. */
static void qtab_work(void)
{
	uint32_t msg[90], e;

	for (uint32_t round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < 90; i++) {
			if (qtab_msg_alloc(&q, (struct qid){ 1000 + i, 2 }, &msg[i]) != 0)
				_exit(1);
			for (uint32_t k = 0; k <= i % 3; k++) {
				if (qtab_entry_alloc(&q, msg[i], &e) != 0)
					_exit(1);
				q.entries[e].mask = 1;
				q.entries[e].dest = 1;
				move(e, QS_READY, 0);
				move(e, QS_BUSY, 9);
				if (k == 1)
					move(e, QS_DEFERRED, 0);
			}
		}
		for (uint32_t i = 0; i < 90; i++) {
			while ((e = q.msgs[msg[i]].first_entry) != QTAB_NONE)
				if (qtab_entry_free(&q, e, qtab_entry_word(&q, e)) != 0)
					_exit(3);
			qtab_msg_free(&q, msg[i]);
		}
	}
}

static bool qtab_survives(void)
{
	struct shm_region r;
	struct qtab v;
	struct qentry_copy c;
	bool good = true;

	if (shm_region_map(dup(q.region.fd), SHM_KIND_QTAB, false, &r) != 0 ||
	    qtab_view(&r, &v) != 0)
		return false;
	why[0] = '\0';
	int err = qtab_check(&v, why, sizeof(why));

	good = err == 0 || (err == E_CORRUPT && why[0] != '\0');
	for (uint32_t i = 0; i < qtab_entry_used(&v); i++) {
		enum qstate state = qword_state(qtab_entry_word(&v, i));

		good = good && qtab_entry_read(&v, i, &c) && (unsigned)state < QS_COUNT &&
		       qstate_is_owned(state) == (qword_life(c.word) != 0);
	}
	qtab_fini(&v);
	return good;
}

/* ---- destination table ---- */

static void dtab_work(void)
{
	char name[20];
	uint32_t row;

	for (unsigned n = 0; n < 200; n++) {
		snprintf(name, sizeof(name), "host%u", n % 30);
		if (dtab_intern(&d, 1, sv_from(name), &row) != 0)
			_exit(1);
		dtab_begin(&d, row)->sent++;
		dtab_end(&d, row);
		if (n % 3 == 0)
			dtab_free(&d, row);
	}
}

static bool dtab_survives(void)
{
	struct shm_region r;
	struct dtab v;
	struct drow row;
	unsigned unreadable = 0;

	if (shm_region_map(dup(d.region.fd), SHM_KIND_DTAB, false, &r) != 0 ||
	    dtab_view(&r, &v) != 0)
		return false;
	int err = dtab_check(&v, why, sizeof(why));

	for (uint32_t i = 0; i < dtab_used(&v); i++)
		unreadable += v.rows[i].in_use && !dtab_read(&v, i, &row);
	dtab_fini(&v);
	return (err == 0 || err == E_CORRUPT) && unreadable <= 1;
}

/* ---- all of them ---- */

/* The supervisor makes the tables, too. */
static void qtab_life(void)
{
	struct qtab own;

	if (qtab_create(CAP, CAP, &own) != 0)
		_exit(1);
	qtab_work();
}

static void dtab_life(void)
{
	struct dtab own;

	if (dtab_create(CAP, &own) != 0)
		_exit(1);
	dtab_work();
}

static void qtab_fresh(void)
{
	finish_tables();
	if (qtab_create(CAP, CAP, &q) != 0)
		abort();
}

static void dtab_fresh(void)
{
	finish_tables();
	if (dtab_create(CAP, &d) != 0)
		abort();
}

static const struct fault_case own_cases[] = {
	{ "ring-", fresh_ring, ring_work, ring_survives, true },
	{ "qtab-", qtab_fresh, qtab_life, qtab_survives, false },
	{ "dtab-", dtab_fresh, dtab_life, dtab_survives, false },
};

static const struct fault_case *case_of(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(own_cases); i++)
		if (strncmp(name, own_cases[i].prefix, strlen(own_cases[i].prefix)) == 0)
			return &own_cases[i];
	for (size_t i = 0; i < fault_small_count; i++)
		if (strncmp(name, fault_small[i].prefix, strlen(fault_small[i].prefix)) == 0)
			return &fault_small[i];
	return NULL;
}

static void one_death(const struct fault_case *fc, enum fault_id id, unsigned at)
{
	const char *name = fault_names[id];

	if (id == FAULT_QTAB_RECOVER || id == FAULT_QTAB_MOVE) {
		finish_tables();
		held_entries();
		if (dies_at(id, at, recover))
			ok(recovery_survives(at), "%s:%u: the next one recovers the rest", name,
			   at);
	}
	fc->fresh();
	if (!dies_at(id, at, fc->work))
		return;
	ok(fc->survives(), "%s:%u: what is left is sound", name, at);
	if (!fc->goes_on)
		return;
	fc->work();
	ok(fc->survives(), "%s:%u: and it goes on", name, at);
}

/* How often a whole run passes each point. */
static unsigned passages(const struct fault_case *fc, enum fault_id id)
{
	fc->fresh();
	dies_at(id, 0, fc->work);
	return id == FAULT_QTAB_RECOVER ? 60 : atomic_load(&s->hits[id]);
}

static void every_death(enum fault_id id, bool all)
{
	static const unsigned occurrences[] = { 1, 2, 3, 7, 20, 55 };
	const struct fault_case *fc = case_of(fault_names[id]);
	unsigned count = fc != NULL ? passages(fc, id) : 0;

	for (unsigned at = 1; all && at <= count; at++)
		one_death(fc, id, at);
	for (size_t i = 0; !all && i < ARRAY_LEN(occurrences) && occurrences[i] < count; i++)
		one_death(fc, id, occurrences[i]);
	if (!all && count > 0)
		one_death(fc, id, count);
	ok(reached[id], "%s was reached, %u times in a run", fault_names[id], count);
}

int main(int argc, char **argv)
{
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED || fault_small_setup() != 0)
		return 1;
	for (unsigned id = 0; id < FAULT_COUNT; id++)
		every_death((enum fault_id)id, argc > 1 && strcmp(argv[1], "-a") == 0);
	printf("# %d points, %u deaths\n", (int)FAULT_COUNT, deaths);
	fresh_ring();
	ring_work();
	is_int(atomic_load(&s->got), atomic_load(&s->put), "without a fault all %u records arrive",
	       atomic_load(&s->got));
	qtab_fresh();
	qtab_work();
	is_int(qtab_check(&q, why, sizeof(why)), 0, "the queue table is sound");
	dtab_fresh();
	dtab_work();
	is_int(dtab_check(&d, why, sizeof(why)), 0, "the destination table, too");
	finish_tables();
	return tap_done();
}
