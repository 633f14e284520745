/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Taking a snapshot; see workers/stats/snapshot.h. */
#include "workers/stats/snapshot.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"

#define FOLD_TRIES 1000

const char *const snapshot_class_names[CLASS_COUNT] = {
	[CLASS_SUPERVISOR] = "supervisor",
	[CLASS_LOG] = "log",
	[CLASS_RESOLVER] = "resolver",
	[CLASS_REWRITE] = "rewrite",
	[CLASS_SMTP_IN] = "smtp_in",
	[CLASS_DELIVER] = "deliver",
	[CLASS_LOCAL] = "local",
	[CLASS_STATS] = "stats",
	[CLASS_PICKUP] = "pickup",
	[CLASS_LOOKUP] = "lookup",
	[CLASS_SHOWQ] = "showq",
	[CLASS_SPAWN] = "spawn",
	[CLASS_AUTH] = "auth",
	[CLASS_VERIFY] = "verify",
	[CLASS_SASL_CLIENT] = "saslclient",
};

static uint64_t get(const _Atomic uint64_t *v)
{
	return atomic_load_explicit(v, memory_order_relaxed);
}

static void add_page(struct snapshot *s, const struct page *p)
{
	const struct counters_shm *c = counters_of(&p->region);

	if (atomic_load_explicit(&c->folded, memory_order_relaxed) != 0)
		return;
	s->workers[p->class_id]++;
	for (unsigned i = 0; i < CTR_COUNT; i++)
		s->counter[i] += get(&c->counter[i]);
	for (unsigned i = 0; i < GAU_COUNT; i++)
		s->gauge[i] += get(&c->gauge[i]);
	for (unsigned i = 0; i < HIS_COUNT; i++) {
		s->histogram[i].count += get(&c->histogram[i].count);
		s->histogram[i].sum += get(&c->histogram[i].sum);
		for (unsigned b = 0; b < COUNTER_BUCKETS; b++)
			s->histogram[i].bucket[b] += get(&c->histogram[i].bucket[b]);
	}
}

/* A worker may end while we sum: the supervisor's fold must not be seen half. */
static void sum_pages(const struct snapshot_sources *src, struct snapshot *s)
{
	for (unsigned tries = 0; tries < FOLD_TRIES; tries++) {
		uint64_t before = atomic_load_explicit(&src->board->fold_seq, memory_order_seq_cst);

		if (before & 1) {
			sched_yield();
			continue;
		}
		memset(s->counter, 0, sizeof(s->counter));
		memset(s->gauge, 0, sizeof(s->gauge));
		memset(s->histogram, 0, sizeof(s->histogram));
		memset(s->workers, 0, sizeof(s->workers));
		for (size_t i = 0; i < SNAPSHOT_MAX_PAGES; i++) {
			if (src->pages[i].used)
				add_page(s, &src->pages[i]);
		}
		atomic_thread_fence(memory_order_seq_cst);
		if (atomic_load_explicit(&src->board->fold_seq, memory_order_seq_cst) == before)
			return;
	}
}

/* Sort key: what waits first, then what went. */
struct candidate {
	uint64_t queued, sent;
	uint32_t row;
};

static bool less(const struct candidate *a, const struct candidate *b)
{
	return a->queued != b->queued ? a->queued < b->queued : a->sent < b->sent;
}

static void sift_down(struct candidate *heap, unsigned n, unsigned i)
{
	for (;;) {
		unsigned small = i, l = 2 * i + 1, r = l + 1;

		if (l < n && less(&heap[l], &heap[small]))
			small = l;
		if (r < n && less(&heap[r], &heap[small]))
			small = r;
		if (small == i)
			return;
		struct candidate t = heap[i];

		heap[i] = heap[small];
		heap[small] = t;
		i = small;
	}
}

/* Keep the `top` largest in a min-heap: one pass over the rows, most of them one comparison. */
static unsigned offer(struct candidate *heap, unsigned n, unsigned top, struct candidate c)
{
	if (n < top) {
		unsigned i = n;

		heap[n] = c;
		while (i > 0 && less(&heap[i], &heap[(i - 1) / 2])) {
			struct candidate t = heap[i];

			heap[i] = heap[(i - 1) / 2];
			heap[(i - 1) / 2] = t;
			i = (i - 1) / 2;
		}
		return n + 1;
	}
	if (top > 0 && less(&heap[0], &c)) {
		heap[0] = c;
		sift_down(heap, n, 0);
	}
	return n;
}

static int by_weight(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;

	return less(x, y) ? 1 : less(y, x) ? -1 : 0;
}

static void scan_dests(const struct snapshot_sources *src, unsigned top, struct snapshot *s)
{
	static struct candidate heap[SNAPSHOT_TOP_MAX];
	uint32_t used = atomic_load_explicit(&src->dtab.shm->used, memory_order_acquire);
	unsigned n = 0;

	if (used > src->dtab.shm->cap)
		used = src->dtab.shm->cap;
	for (uint32_t i = 0; i < used; i++) {
		const struct drow *d = &src->dtab.rows[i];

		/* a glance without the row's lock: the chosen ones are copied properly below */
		if (!d->in_use)
			continue;
		s->dest_rows++;
		s->rows_ready += d->ready;
		s->rows_busy += d->busy;
		s->rows_deferred += d->deferred;
		s->suspended += d->suspend_until_s != 0;
		n = offer(heap, n, top,
			  (struct candidate){ (uint64_t)d->ready + d->busy + d->deferred, d->sent,
					      i });
	}
	qsort(heap, n, sizeof(*heap), by_weight);
	for (unsigned i = 0; i < n; i++) {
		struct snap_dest *out = &s->dests[s->dest_count];

		out->row = heap[i].row;
		if (dtab_read(&src->dtab, heap[i].row, &out->d))
			s->dest_count++;
	}
}

void snapshot_take(const struct snapshot_sources *src, unsigned top, struct snapshot *s)
{
	struct snap_dest *dests = s->dests;

	memset(s, 0, sizeof(*s));
	s->dests = dests != NULL ? dests : xcalloc(SNAPSHOT_TOP_MAX, sizeof(*dests));
	s->wall_s = clock_wall_s();
	sum_pages(src, s);
	if (src->have_dtab)
		scan_dests(src, top > SNAPSHOT_TOP_MAX ? SNAPSHOT_TOP_MAX : top, s);
}

void snapshot_fini(struct snapshot *s)
{
	free(s->dests);
	s->dests = NULL;
}

uint64_t snap_quantile(const struct snap_histogram *h, double share)
{
	uint64_t total = 0, seen = 0;

	for (unsigned b = 0; b < COUNTER_BUCKETS; b++)
		total += h->bucket[b];
	for (unsigned b = 0; b < COUNTER_BUCKETS; b++) {
		seen += h->bucket[b];
		if (seen > 0 && (double)seen >= (double)total * share)
			return counter_bucket_bound(b);
	}
	return 0;
}
