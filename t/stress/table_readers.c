/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The queue table and the destination table while their one writer works and two readers look on
 * through read-only mappings: what a reader is given is never a mixture. Built with --enable-tsan
 * it is the race check of both.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/util.h"
#include "shm/dtab.h"
#include "shm/qtab.h"
#include "t/unit/tap.h"

#define CAP     64u
#define READERS 2
#define RUN_US  800000

static struct qtab q;
static struct dtab d;
static atomic_bool stop;

struct reader {
	struct qtab q;
	struct dtab d;
	uint64_t read, missed, mixed, rows, row_missed, row_mixed;
};

static uint64_t mask_of(uint32_t n)
{
	return (n * 0x9e3779b97f4a7c15u) | 1;
}

/* ---- writer ---- */

static void fill(uint32_t e, uint32_t n)
{
	q.entries[e].mask = mask_of(n);
	q.entries[e].dest = n;
	q.entries[e].rcpt_first = ~n;
	q.entries[e].due_s = n ^ 0x5555;
}

static void step(uint32_t e, enum qstate to, uint32_t life)
{
	if (qtab_entry_move(&q, e, qtab_entry_word(&q, e), to, life, NULL) != 0)
		abort();
}

static void one_message(uint32_t n)
{
	uint32_t msg, e;

	if (qtab_msg_alloc(&q, (struct qid){ 1000 + n, 1 + n % 9 }, &msg) != 0)
		abort();
	for (uint32_t k = 0; k < 3; k++) {
		if (qtab_entry_alloc(&q, msg, &e) != 0)
			abort();
		fill(e, n);
		step(e, QS_READY, 0);
		step(e, QS_BUSY, 5);
	}
	while ((e = q.msgs[msg].first_entry) != QTAB_NONE) {
		step(e, QS_DEFERRED, 0);
		qtab_entry_free(&q, e, qtab_entry_word(&q, e));
	}
	qtab_msg_free(&q, msg);
}

static void one_row(uint32_t n)
{
	char name[40];
	uint32_t row;

	snprintf(name, sizeof(name), "host%u.example", n % 8);
	if (dtab_intern(&d, 1, sv_from(name), &row) != 0)
		abort();
	struct drow *r = dtab_begin(&d, row);

	r->window = n;
	r->busy = n + 1;
	r->sent = n + 2ull;
	r->last_used_s = n + 3;
	memset(r->suspend_reason, 'a' + (int)(n % 26), 50);
	dtab_end(&d, row);
	if (n % 5 == 0)
		dtab_free(&d, row);
}

static void *write_all(void *arg)
{
	int64_t until = clock_mono_us_raw() + RUN_US * tap_factor();
	uint32_t n = 1;

	for (; n % 64 != 0 || clock_mono_us_raw() < until; n++) {
		one_message(n);
		one_row(n);
	}
	atomic_store(&stop, true);
	*(uint32_t *)arg = n;
	return NULL;
}

/* ---- readers ---- */

static bool is_whole(const struct qentry_copy *c)
{
	enum qstate s = qword_state(c->word);

	if ((unsigned)s >= QS_COUNT || qstate_is_owned(s) != (qword_life(c->word) != 0))
		return false;
	/* free and fresh slots have no payload to speak of */
	if (s == QS_FREE || s == QS_FRESH)
		return true;
	return c->mask == mask_of(c->dest) && c->rcpt_first == ~c->dest &&
	       c->due_s == (c->dest ^ 0x5555) && c->qid.time_us == 1000ull + c->dest &&
	       c->qid.life == 1 + c->dest % 9;
}

static bool row_is_whole(const struct drow *r)
{
	if (r->window == 0) /* just interned */
		return r->busy == 0 && r->sent == 0;
	for (int i = 0; i < 50; i++)
		if (r->suspend_reason[i] != 'a' + (int)(r->window % 26))
			return false;
	return r->busy == r->window + 1 && r->sent == r->window + 2ull &&
	       r->last_used_s == r->window + 3ll && strncmp(r->nexthop, "host", 4) == 0;
}

static void *read_all(void *arg)
{
	struct reader *r = arg;
	struct qentry_copy c;
	struct drow row;

	while (!atomic_load(&stop)) {
		for (uint32_t i = 0; i < qtab_entry_used(&r->q); i++) {
			if (!qtab_entry_read(&r->q, i, &c)) {
				r->missed++;
				continue;
			}
			r->read++;
			r->mixed += !is_whole(&c);
		}
		for (uint32_t i = 0; i < dtab_used(&r->d); i++) {
			if (!dtab_read(&r->d, i, &row)) {
				r->row_missed++;
				continue;
			}
			r->rows++;
			r->row_mixed += !row_is_whole(&row);
		}
		sched_yield();
	}
	return NULL;
}

static void open_reader(struct reader *r)
{
	struct shm_region region;

	is_int(shm_region_map(dup(q.region.fd), SHM_KIND_QTAB, false, &region), 0,
	       "map the queue table");
	is_int(qtab_view(&region, &r->q), 0, "view it");
	is_int(shm_region_map(dup(d.region.fd), SHM_KIND_DTAB, false, &region), 0,
	       "map the destination table");
	is_int(dtab_view(&region, &r->d), 0, "view it");
}

int main(void)
{
	static struct reader readers[READERS];
	pthread_t writer, thread[READERS];
	uint32_t rounds = 0;
	char why[200];

	is_int(qtab_create(CAP, CAP, &q), 0, "queue table");
	is_int(dtab_create(CAP, &d), 0, "destination table");
	for (int i = 0; i < READERS; i++)
		open_reader(&readers[i]);
	pthread_create(&writer, NULL, write_all, &rounds);
	for (int i = 0; i < READERS; i++)
		pthread_create(&thread[i], NULL, read_all, &readers[i]);
	pthread_join(writer, NULL);
	for (int i = 0; i < READERS; i++) {
		struct reader *r = &readers[i];

		pthread_join(thread[i], NULL);
		printf("# reader %d: %llu entries and %llu rows, %llu and %llu looked away\n", i,
		       (unsigned long long)r->read, (unsigned long long)r->rows,
		       (unsigned long long)r->missed, (unsigned long long)r->row_missed);
		ok(r->read > 0 && r->rows > 0, "reader %d saw something", i);
		is_int(r->mixed, 0, "reader %d: no entry was a mixture", i);
		is_int(r->row_mixed, 0, "reader %d: no row was a mixture", i);
		qtab_fini(&r->q);
		dtab_fini(&r->d);
	}
	printf("# %u rounds written\n", rounds);
	is_int(qtab_check(&q, why, sizeof(why)), 0, "the queue table is sound");
	is_int(dtab_check(&d, why, sizeof(why)), 0, "the destination table is sound");
	qtab_fini(&q);
	dtab_fini(&d);
	return tap_done();
}
