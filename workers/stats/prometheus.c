/* SPDX-License-Identifier: GPL-3.0-or-later */
/* /metrics: the snapshot in the Prometheus text format 0.0.4. Field reference: doc/statistics.md.
 */
#include <string.h>

#include "workers/stats/snapshot.h"

static void head(struct buf *out, const char *name, const char *unit, const char *type,
		 const char *help)
{
	buf_printf(out, "# HELP posthaste_%s%s%s %s\n# TYPE posthaste_%s%s%s %s\n", name,
		   unit[0] == '\0' ? "" : "_", unit, help, name, unit[0] == '\0' ? "" : "_", unit,
		   type);
}

static void one_gauge(struct buf *out, const char *name, const char *help, uint64_t v)
{
	head(out, name, "", "gauge", help);
	buf_printf(out, "posthaste_%s %llu\n", name, (unsigned long long)v);
}

static void board_gauge(struct buf *out, const char *name, const char *help,
			const _Atomic uint64_t *v)
{
	one_gauge(out, name, help, atomic_load_explicit(v, memory_order_relaxed));
}

static void histogram(struct buf *out, const struct snapshot *s, unsigned id)
{
	const struct snap_histogram *h = &s->histogram[id];
	const struct counter_desc *d = &histogram_descs[id];
	uint64_t seen = 0;

	head(out, d->name, d->unit, "histogram", d->help);
	/* every fourth bound: powers of two, so that the series stay few and never change */
	for (unsigned b = 0; b < COUNTER_BUCKETS - 1; b++) {
		seen += h->bucket[b];
		if (b % 4 == 3)
			buf_printf(out, "posthaste_%s_%s_bucket{le=\"%llu\"} %llu\n", d->name,
				   d->unit, (unsigned long long)counter_bucket_bound(b),
				   (unsigned long long)seen);
	}
	seen += h->bucket[COUNTER_BUCKETS - 1];
	buf_printf(out,
		   "posthaste_%s_%s_bucket{le=\"+Inf\"} %llu\nposthaste_%s_%s_sum %llu\n"
		   "posthaste_%s_%s_count %llu\n",
		   d->name, d->unit, (unsigned long long)seen, d->name, d->unit,
		   (unsigned long long)h->sum, d->name, d->unit, (unsigned long long)seen);
}

static void label(struct buf *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size && text[i] != '\0'; i++) {
		if (text[i] == '"' || text[i] == '\\')
			buf_add_c(out, '\\');
		if ((unsigned char)text[i] >= ' ')
			buf_add_c(out, text[i]);
	}
}

static void dest_series(struct buf *out, const struct snapshot *s, const struct conf *conf,
			const char *name, uint64_t (*value)(const struct drow *d))
{
	for (unsigned i = 0; i < s->dest_count; i++) {
		const struct drow *d = &s->dests[i].d;

		buf_printf(out, "posthaste_destination_%s{transport=\"%s\",nexthop=\"", name,
			   d->transport < conf_transport_count(conf)
				   ? conf_transport(conf, d->transport)->name
				   : "?");
		label(out, d->nexthop, sizeof(d->nexthop));
		buf_printf(out, "\"} %llu\n", (unsigned long long)value(d));
	}
}

static uint64_t dest_queued(const struct drow *d)
{
	return (uint64_t)d->ready + d->busy + d->deferred;
}

static uint64_t dest_window(const struct drow *d)
{
	return d->window;
}

static uint64_t dest_suspended(const struct drow *d)
{
	return d->suspend_until_s != 0;
}

void snapshot_prometheus(const struct snapshot *s, const struct board_shm *b,
			 const struct conf *conf, struct buf *out)
{
	for (unsigned i = 0; i < CTR_COUNT; i++) {
		head(out, counter_descs[i].name, "total", "counter", counter_descs[i].help);
		buf_printf(out, "posthaste_%s_total %llu\n", counter_descs[i].name,
			   (unsigned long long)s->counter[i]);
	}
	for (unsigned i = 0; i < GAU_COUNT; i++)
		one_gauge(out, gauge_descs[i].name, gauge_descs[i].help, s->gauge[i]);
	board_gauge(out, "queue_messages", "Messages in the queue", &b->messages);
	board_gauge(out, "queue_ready", "Queue entries waiting for delivery", &b->entries_ready);
	board_gauge(out, "queue_busy", "Queue entries in delivery", &b->entries_busy);
	board_gauge(out, "queue_deferred", "Queue entries waiting for their next try",
		    &b->entries_deferred);
	board_gauge(out, "queue_held", "Queue entries on hold", &b->entries_held);
	board_gauge(out, "queue_loading", "Queue entries waiting to be resolved",
		    &b->entries_loading);
	board_gauge(out, "queue_in_doubt", "Messages with a delivery of unknown outcome",
		    &b->in_doubt);
	board_gauge(out, "queue_damaged", "Damaged records kept in corrupt/", &b->damaged);
	board_gauge(out, "spool_segments", "Segment files", &b->segments);
	board_gauge(out, "spool_segment_bytes", "Bytes in segment files", &b->segment_bytes);
	board_gauge(out, "spool_journals", "Journal files", &b->journals);
	board_gauge(out, "spool_journal_bytes", "Bytes in journal files", &b->journal_bytes);
	board_gauge(out, "spool_free_bytes", "Free bytes of the queue file system",
		    &b->spool_free_bytes);
	board_gauge(out, "workers_alive", "Worker processes serving", &b->workers_alive);
	board_gauge(out, "start_time_seconds", "Wall clock of the start", &b->start_wall_s);
	one_gauge(out, "destinations", "Destinations known", s->dest_rows);
	one_gauge(out, "destinations_suspended", "Destinations not tried for now", s->suspended);
	for (unsigned i = 0; i < HIS_COUNT; i++)
		histogram(out, s, i);
	head(out, "destination_queued", "", "gauge", "Entries queued for the busiest destinations");
	dest_series(out, s, conf, "queued", dest_queued);
	head(out, "destination_window", "", "gauge", "Deliveries allowed at once");
	dest_series(out, s, conf, "window", dest_window);
	head(out, "destination_suspended", "", "gauge", "1 = not tried for now");
	dest_series(out, s, conf, "suspended", dest_suspended);
}
