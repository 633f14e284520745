/* SPDX-License-Identifier: GPL-3.0-or-later */
/* /stats: the snapshot as JSON. Field reference: doc/statistics.md. */
#include <jansson.h>

#include "workers/stats/snapshot.h"

static json_t *num(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

static json_t *board_num(const _Atomic uint64_t *v)
{
	return num(atomic_load_explicit(v, memory_order_relaxed));
}

static json_t *age(const _Atomic uint64_t *since_s, int64_t now_s)
{
	uint64_t since = atomic_load_explicit(since_s, memory_order_relaxed);

	return since == 0 || (int64_t)since > now_s ? num(0) : num((uint64_t)now_s - since);
}

/* {count, sum, p50, p90, p99, buckets: [[upper bound, count], ...]} without the empty ones. */
static json_t *histogram(const struct snapshot *s, enum histogram_id id)
{
	const struct snap_histogram *h = &s->histogram[id];
	json_t *o = json_object(), *buckets = json_array();

	json_object_set_new(o, "unit", json_string(histogram_descs[id].unit));
	json_object_set_new(o, "count", num(h->count));
	json_object_set_new(o, "sum", num(h->sum));
	json_object_set_new(o, "p50", num(snap_quantile(h, 0.50)));
	json_object_set_new(o, "p90", num(snap_quantile(h, 0.90)));
	json_object_set_new(o, "p99", num(snap_quantile(h, 0.99)));
	for (unsigned b = 0; b < COUNTER_BUCKETS; b++) {
		if (h->bucket[b] == 0)
			continue;
		json_t *pair = json_array();

		json_array_append_new(pair, num(counter_bucket_bound(b)));
		json_array_append_new(pair, num(h->bucket[b]));
		json_array_append_new(buckets, pair);
	}
	json_object_set_new(o, "buckets", buckets);
	return o;
}

static json_t *workers(const struct snapshot *s, const struct board_shm *b)
{
	json_t *o = json_object();

	for (unsigned c = 0; c < CLASS_COUNT; c++)
		json_object_set_new(o, snapshot_class_names[c], num(s->workers[c]));
	json_object_set_new(o, "alive", board_num(&b->workers_alive));
	json_object_set_new(o, "restarts", board_num(&b->worker_restarts));
	return o;
}

static json_t *queue(const struct snapshot *s, const struct board_shm *b)
{
	json_t *o = json_object();

	json_object_set_new(o, "messages", board_num(&b->messages));
	json_object_set_new(o, "ready", board_num(&b->entries_ready));
	json_object_set_new(o, "busy", board_num(&b->entries_busy));
	json_object_set_new(o, "deferred", board_num(&b->entries_deferred));
	json_object_set_new(o, "held", board_num(&b->entries_held));
	json_object_set_new(o, "loading", board_num(&b->entries_loading));
	json_object_set_new(o, "oldest_ready_age_s", age(&b->oldest_ready_wall_s, s->wall_s));
	json_object_set_new(o, "oldest_deferred_age_s", age(&b->oldest_deferred_wall_s, s->wall_s));
	json_object_set_new(o, "in_doubt", board_num(&b->in_doubt));
	json_object_set_new(o, "damaged", board_num(&b->damaged));
	json_object_set_new(
		o, "full",
		json_boolean(atomic_load_explicit(&b->queue_full, memory_order_relaxed)));
	return o;
}

static const char *transport_name(const struct conf *conf, unsigned index)
{
	return index < conf_transport_count(conf) ? conf_transport(conf, index)->name : "?";
}

static json_t *one_dest(const struct drow *d, const struct conf *conf)
{
	json_t *o = json_object();

	json_object_set_new(o, "transport", json_string(transport_name(conf, d->transport)));
	json_object_set_new(o, "nexthop",
			    json_stringn(d->nexthop, strnlen(d->nexthop, sizeof(d->nexthop))));
	json_object_set_new(o, "window", num(d->window));
	json_object_set_new(o, "busy", num(d->busy));
	json_object_set_new(o, "ready", num(d->ready));
	json_object_set_new(o, "deferred", num(d->deferred));
	json_object_set_new(o, "sent", num(d->sent));
	json_object_set_new(o, "deferrals", num(d->deferred_total));
	json_object_set_new(o, "bounced", num(d->bounced));
	json_object_set_new(o, "suspended_until",
			    json_integer(d->suspend_until_s > 0 ? d->suspend_until_s : 0));
	if (d->suspend_until_s > 0)
		json_object_set_new(
			o, "suspend_reason",
			json_stringn(d->suspend_reason,
				     strnlen(d->suspend_reason, sizeof(d->suspend_reason))));
	return o;
}

/* What all deliveries add up to, less what the listed destinations say: the sums reconcile also
 * when rows of idle destinations have been given up. */
static uint64_t rest(uint64_t total, uint64_t listed)
{
	return total > listed ? total - listed : 0;
}

static json_t *destinations(const struct snapshot *s, const struct conf *conf)
{
	json_t *o = json_object(), *top = json_array(), *other = json_object(),
	       *sum = json_object();
	struct drow l = { 0 };

	for (unsigned i = 0; i < s->dest_count; i++) {
		const struct drow *d = &s->dests[i].d;

		json_array_append_new(top, one_dest(d, conf));
		l.sent += d->sent;
		l.deferred_total += d->deferred_total;
		l.bounced += d->bounced;
		l.ready += d->ready;
		l.busy += d->busy;
		l.deferred += d->deferred;
	}
	uint64_t sent = u64_max(s->counter[CTR_deliver_sent], l.sent);
	uint64_t deferrals = u64_max(s->counter[CTR_deliver_deferred], l.deferred_total);
	uint64_t bounced = u64_max(s->counter[CTR_deliver_bounced], l.bounced);

	json_object_set_new(other, "sent", num(rest(sent, l.sent)));
	json_object_set_new(other, "deferrals", num(rest(deferrals, l.deferred_total)));
	json_object_set_new(other, "bounced", num(rest(bounced, l.bounced)));
	json_object_set_new(other, "ready", num(rest(s->rows_ready, l.ready)));
	json_object_set_new(other, "busy", num(rest(s->rows_busy, l.busy)));
	json_object_set_new(other, "deferred", num(rest(s->rows_deferred, l.deferred)));
	json_object_set_new(sum, "sent", num(sent));
	json_object_set_new(sum, "deferrals", num(deferrals));
	json_object_set_new(sum, "bounced", num(bounced));
	json_object_set_new(sum, "ready", num(u64_max(s->rows_ready, l.ready)));
	json_object_set_new(sum, "busy", num(u64_max(s->rows_busy, l.busy)));
	json_object_set_new(sum, "deferred", num(u64_max(s->rows_deferred, l.deferred)));
	json_object_set_new(o, "known", num(s->dest_rows));
	json_object_set_new(o, "suspended", num(s->suspended));
	json_object_set_new(o, "top", top);
	json_object_set_new(o, "other", other);
	json_object_set_new(o, "total", sum);
	return o;
}

static json_t *spool(const struct snapshot *s, const struct board_shm *b)
{
	json_t *o = json_object();

	json_object_set_new(o, "segments", board_num(&b->segments));
	json_object_set_new(o, "segment_bytes", board_num(&b->segment_bytes));
	json_object_set_new(o, "journals", board_num(&b->journals));
	json_object_set_new(o, "journal_bytes", board_num(&b->journal_bytes));
	json_object_set_new(o, "free_bytes", board_num(&b->spool_free_bytes));
	json_object_set_new(o, "total_bytes", board_num(&b->spool_total_bytes));
	json_object_set_new(
		o, "low", json_boolean(atomic_load_explicit(&b->spool_low, memory_order_relaxed)));
	json_object_set_new(o, "commits", num(s->counter[CTR_spool_commits]));
	json_object_set_new(o, "commit_errors", num(s->counter[CTR_spool_commit_errors]));
	json_object_set_new(o, "batch_size", histogram(s, HIS_spool_batch));
	json_object_set_new(o, "commit_latency", histogram(s, HIS_spool_commit));
	json_object_set_new(o, "bytes_at_risk", num(s->gauge[GAU_spool_bytes_at_risk]));
	json_object_set_new(o, "outcomes_at_risk", num(s->gauge[GAU_journal_outcomes_at_risk]));
	return o;
}

static json_t *delivery(const struct snapshot *s)
{
	json_t *o = json_object(), *delays = json_object();

	json_object_set_new(o, "sent", num(s->counter[CTR_deliver_sent]));
	json_object_set_new(o, "deferred", num(s->counter[CTR_deliver_deferred]));
	json_object_set_new(o, "bounced", num(s->counter[CTR_deliver_bounced]));
	json_object_set_new(o, "expired", num(s->counter[CTR_sched_expired]));
	json_object_set_new(o, "connections", num(s->gauge[GAU_deliver_connections]));
	json_object_set_new(o, "record_wait", histogram(s, HIS_deliver_record_wait));
	json_object_set_new(delays, "a", histogram(s, HIS_delay_a));
	json_object_set_new(delays, "b", histogram(s, HIS_delay_b));
	json_object_set_new(delays, "c", histogram(s, HIS_delay_c));
	json_object_set_new(delays, "d", histogram(s, HIS_delay_d));
	json_object_set_new(o, "delays", delays);
	return o;
}

static json_t *smtp(const struct snapshot *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "sessions", num(s->gauge[GAU_smtpd_sessions]));
	json_object_set_new(o, "connections", num(s->counter[CTR_smtpd_connections]));
	json_object_set_new(o, "messages", num(s->counter[CTR_smtpd_messages]));
	json_object_set_new(o, "recipients", num(s->counter[CTR_smtpd_recipients]));
	json_object_set_new(o, "rejects", num(s->counter[CTR_smtpd_rejects]));
	json_object_set_new(o, "bytes", num(s->counter[CTR_smtpd_bytes]));
	json_object_set_new(o, "accept_latency", histogram(s, HIS_smtpd_accept));
	return o;
}

char *snapshot_json(const struct snapshot *s, const struct board_shm *b, const struct conf *conf)
{
	json_t *o = json_object(), *counters = json_object(), *gauges = json_object();
	uint64_t start = atomic_load_explicit(&b->start_wall_s, memory_order_relaxed);

	json_object_set_new(o, "version", json_string(PH_VERSION));
	json_object_set_new(o, "time", json_integer(s->wall_s));
	json_object_set_new(o, "uptime_s",
			    num((int64_t)start < s->wall_s ? (uint64_t)s->wall_s - start : 0));
	json_object_set_new(o, "generation", board_num(&b->generation));
	json_object_set_new(o, "ready",
			    json_boolean(atomic_load_explicit(&b->ready, memory_order_relaxed)));
	json_object_set_new(o, "workers", workers(s, b));
	json_object_set_new(o, "smtp", smtp(s));
	json_object_set_new(o, "queue", queue(s, b));
	json_object_set_new(o, "delivery", delivery(s));
	json_object_set_new(o, "destinations", destinations(s, conf));
	json_object_set_new(o, "spool", spool(s, b));
	for (unsigned i = 0; i < CTR_COUNT; i++)
		json_object_set_new(counters, counter_descs[i].name, num(s->counter[i]));
	for (unsigned i = 0; i < GAU_COUNT; i++)
		json_object_set_new(gauges, gauge_descs[i].name, num(s->gauge[i]));
	json_object_set_new(o, "counters", counters);
	json_object_set_new(o, "gauges", gauges);
	char *text = json_dumps(o, JSON_COMPACT);

	json_decref(o);
	return text;
}
