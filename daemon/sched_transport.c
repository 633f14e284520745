/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Transports of the present and of former configurations. The scheduler's own transport numbers
 * never change their meaning while it runs; a map per configuration generation says which index a
 * worker of that generation knows a transport by. Called at start, at reload, and for names that
 * rewrite workers use.
 */
#include "daemon/sched_int.h"
#include "lib/err.h"
#include "lib/log.h"

static const enum worker_class class_of_kind[] = {
	[TRANSPORT_SMTP] = CLASS_DELIVER,  [TRANSPORT_LMTP] = CLASS_DELIVER,
	[TRANSPORT_ERROR] = CLASS_DELIVER, [TRANSPORT_DISCARD] = CLASS_DELIVER,
	[TRANSPORT_VIRTUAL] = CLASS_LOCAL, [TRANSPORT_LOCAL] = CLASS_LOCAL,
	[TRANSPORT_PIPE] = CLASS_LOCAL,
};

static uint32_t positive(int64_t v)
{
	return v <= 0 ? 0 : v > 60000 ? 60000 : (uint32_t)v;
}

static void parse_feedback(const char *transport, const char *name, const char *text,
			   struct feedback *fb)
{
	*fb = (struct feedback){ 1.0, FEEDBACK_CONST };
	if (text != NULL && feedback_parse(text, fb) != 0)
		log_warn("transport %s: bad %s \"%s\", using \"1\"", transport, name, text);
}

static void fill(struct stransport *t, const struct conf_transport *ct)
{
	t->gone = false;
	t->class_id = class_of_kind[ct->kind];
	t->window.initial = positive(ct->initial_destination_concurrency);
	if (t->window.initial == 0)
		t->window.initial = 1;
	t->window.limit = positive(ct->destination_concurrency_limit);
	t->window.cohort_limit = (double)ct->destination_concurrency_failed_cohort_limit;
	parse_feedback(ct->name, "destination_concurrency_positive_feedback",
		       ct->destination_concurrency_positive_feedback, &t->window.up);
	parse_feedback(ct->name, "destination_concurrency_negative_feedback",
		       ct->destination_concurrency_negative_feedback, &t->window.down);
	t->rate_delay_ms = ct->destination_rate_delay_ms;
	t->transport_delay_ms = ct->transport_rate_delay_ms;
	t->maxproc = positive(ct->maxproc);
	if (t->rate_delay_ms > 0)
		t->window.initial = t->window.limit = 1;
	if (t->transport_delay_ms == 0)
		t->rate_locked = false;
}

uint32_t transport_find(const struct sched *s, struct sv name)
{
	for (uint32_t i = 0; i < s->transport_count; i++) {
		if (sv_eq_str(name, s->transports[i].name))
			return i;
	}
	return UINT32_MAX;
}

uint32_t transport_add(struct sched *s, struct sv name)
{
	if (s->transport_count == SCHED_TRANSPORTS)
		return UINT32_MAX;
	struct stransport *t = &s->transports[s->transport_count];

	memset(t, 0, sizeof(*t));
	t->name = xstrndup(name.p, name.len);
	t->gone = true;
	t->class_id = CLASS_DELIVER;
	t->window.initial = 1;
	t->active_head = UINT32_MAX;
	t->node.next = t->node.prev = UINT32_MAX;
	t->sched = s;
	return s->transport_count++;
}

static struct transport_map *fresh_map(struct sched *s, unsigned generation)
{
	struct transport_map *oldest = &s->maps[0];

	for (unsigned i = 0; i < SCHED_GENERATIONS; i++) {
		if (!s->maps[i].used) {
			oldest = &s->maps[i];
			break;
		}
		if (s->maps[i].generation < oldest->generation)
			oldest = &s->maps[i];
	}
	oldest->used = true;
	oldest->generation = generation;
	for (unsigned i = 0; i < SCHED_TRANSPORTS; i++)
		oldest->index[i] = UINT16_MAX;
	return oldest;
}

const struct transport_map *transport_map_of(const struct sched *s, unsigned generation)
{
	for (unsigned i = 0; i < SCHED_GENERATIONS; i++) {
		if (s->maps[i].used && s->maps[i].generation == generation)
			return &s->maps[i];
	}
	return NULL;
}

void dest_transports_load(struct sched *s, const struct conf *conf, unsigned generation)
{
	struct transport_map *map = fresh_map(s, generation);
	unsigned n = conf_transport_count(conf);

	for (unsigned i = 0; i < s->transport_count; i++) {
		struct stransport *t = &s->transports[i];

		ring_del(TRANSPORT_RING(s), &sched_pool(s, t->class_id)->active_head, i);
		t->gone = true;
	}
	for (unsigned i = 0; i < n && i < SCHED_TRANSPORTS; i++) {
		const struct conf_transport *ct = conf_transport(conf, i);
		uint32_t idx = transport_find(s, sv_from(ct->name));

		if (idx == UINT32_MAX)
			idx = transport_add(s, sv_from(ct->name));
		if (idx == UINT32_MAX) {
			log_error("more than %u transports: %s is not used", SCHED_TRANSPORTS,
				  ct->name);
			continue;
		}
		fill(&s->transports[idx], ct);
		map->index[idx] = (uint16_t)i;
	}
	for (uint32_t row = 0; row < s->dest_used; row++) {
		if (s->dests[row].in_use)
			dest_conf_changed(s, row);
	}
}
