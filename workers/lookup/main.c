/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The lookup worker: asks remote tables, and policy services, for the others (smtp-in, rewrite,
 * local), which may not wait. It answers for the tables that the configuration names and for no
 * others; who asks may have been taken over. Their parameter files are read in init(), the sandbox
 * follows. Started as "lookup -q TYPE:NAME" it asks one table for postmap -q (query.c).
 */
#include <stdlib.h>
#include <string.h>

#include "conf/map_watch.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/proto.h"
#include "workers/common/landlock.h"
#include "workers/common/worker.h"
#include "workers/lookup/crew.h"
#include "workers/lookup/query.h"

#define TICK_MS 1000

struct asker {
	struct asker *next;
	struct worker_peer *peer; /* NULL: gone, and its jobs are not all done */
	unsigned jobs;
};

struct known {
	struct known *next;
	struct table
		*table; /* NULL: it could not be opened, and is an error until the next reload */
	struct crew_table *crew;
	char *spec;
	bool out; /* does not answer, and the log says so */
};

struct lookup {
	struct worker *w;
	struct crew *crew;
	struct known *tables;
	struct asker *askers;
	struct loop_timer tick;
	int init_err;
	char rec[sizeof(struct proto_table_answer) + PROTO_TABLE_VALUE_MAX];
};

static struct lookup the_lookup;

static struct known *find(const struct lookup *l, struct sv spec)
{
	struct known *k = l->tables;

	while (k != NULL && !sv_eq(spec, sv_from(k->spec)))
		k = k->next;
	return k;
}

/* ---- answers ---- */

static void send_answer(struct lookup *l, const struct asker *a, uint32_t id,
			enum table_status status, struct sv value)
{
	struct proto_table_answer h = { .kind = PROTO_TABLE_ANSWER,
					.id = id,
					.status = (uint16_t)status,
					.value_len = (uint32_t)value.len };

	memcpy(l->rec, &h, sizeof(h));
	memcpy(l->rec + sizeof(h), value.p, value.len);
	worker_send(l->w, a->peer->link, l->rec, sizeof(h) + value.len);
}

static void note_health(struct lookup *l, struct known *k, const struct table_answer *a)
{
	if (a->status == MAP_ERROR && a->about_key) {
		log_warn("table %s: lookup error: %s", k->spec, a->why);
	} else if (a->status == MAP_ERROR && !k->out) {
		k->out = true;
		counter_add(l->w->counters, CTR_table_outages, 1);
		log_warn("table %s: lookup error: %s", k->spec, a->why);
	} else if (a->status != MAP_ERROR && k->out) {
		k->out = false;
		log_info("table %s: answers again", k->spec);
	}
}

static void asker_free(struct lookup *l, struct asker *a)
{
	struct asker **at = &l->askers;

	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	free(a);
}

static void job_done(void *ctx, struct crew_job *job)
{
	struct lookup *l = ctx;
	struct asker *a = job->asker;
	struct known *k = l->tables;

	while (k->crew != job->table)
		k = k->next;
	note_health(l, k, &job->answer);
	if (k->table->source == &source_policy) {
		counter_add(l->w->counters, CTR_policy_requests, 1);
		counter_add(l->w->counters, CTR_policy_failures,
			    job->answer.troubled || job->answer.status != MAP_FOUND);
	}
	a->jobs--;
	if (a->peer == NULL && a->jobs == 0)
		asker_free(l, a);
	else if (a->peer != NULL && job->answer.status == MAP_FOUND)
		send_answer(l, a, job->id, TABLE_FOUND, buf_sv(&job->answer.value));
	else if (a->peer != NULL)
		send_answer(l, a, job->id,
			    job->answer.status == MAP_ERROR ? TABLE_ERROR : TABLE_NOT_FOUND,
			    SV(""));
	crew_job_free(job);
}

/* ---- questions ---- */

static void ask(struct lookup *l, struct asker *a, uint32_t id, struct known *k, struct sv key)
{
	int admitted = k != NULL && k->table != NULL ? table_admits(k->table, key) : E_CONFIG;

	if (admitted <= 0) {
		send_answer(l, a, id, admitted < 0 ? TABLE_ERROR : TABLE_NOT_FOUND, SV(""));
		return;
	}
	a->jobs++;
	crew_ask(l->crew, k->crew, crew_job_new(a, id, key));
}

static void lookup_from_peer(struct worker *w, struct worker_peer *peer, const void *rec,
			     size_t len)
{
	struct lookup *l = w->state;
	struct proto_table_query h;
	struct asker *a = l->askers;

	while (a != NULL && a->peer != peer)
		a = a->next;
	if (a == NULL || len < sizeof(h)) {
		worker_accuse(w, peer, "malformed question");
		return;
	}
	memcpy(&h, rec, sizeof(h));
	if (h.kind != PROTO_TABLE_QUERY || h.spec_len > PROTO_TABLE_SPEC_MAX ||
	    h.key_len > PROTO_TABLE_KEY_MAX || len != sizeof(h) + h.spec_len + h.key_len ||
	    a->jobs >= PROTO_TABLE_ASKED_MAX) {
		worker_accuse(w, peer, "malformed question, or too many");
		return;
	}
	struct sv spec = { (const char *)rec + sizeof(h), h.spec_len };

	ask(l, a, h.id, find(l, spec), (struct sv){ spec.p + spec.len, h.key_len });
}

/* ---- life ---- */

static void may_read(void *ctx UNUSED, const char *path)
{
	landlock_also_read(path);
}

static void open_one(void *ctx, const char *spec)
{
	struct lookup *l = ctx;
	struct conf_diag d;

	if (find(l, sv_from(spec)) != NULL)
		return;
	struct known *k = xcalloc(1, sizeof(*k));

	k->spec = xstrdup(spec);
	k->next = l->tables;
	l->tables = k;
	conf_diag_init(&d);
	int err = table_open(l->w->conf, spec, &k->table, &d);

	conf_diag_log(&d);
	conf_diag_fini(&d);
	/* a file that is missing may come; wrong parameters will not mend themselves */
	if (err < -4095)
		l->init_err = err;
	if (err == 0 && k->table->source->directories != NULL)
		k->table->source->directories(k->table, may_read, NULL);
}

static int lookup_init(struct worker *w)
{
	struct lookup *l = &the_lookup;

	l->w = w;
	w->state = l;
	map_watch_remote(w->conf, open_one, l);
	return w->check_only ? l->init_err : 0;
}

static void on_tick(void *ctx)
{
	struct lookup *l = ctx;

	crew_tick(l->crew);
	loop_timer_set(&l->tick, TICK_MS);
}

static int lookup_start(struct worker *w)
{
	struct lookup *l = w->state;
	int err = crew_new(w->loop, job_done, l, &l->crew);

	for (struct known *k = l->tables; k != NULL && err == 0; k = k->next) {
		if (k->table != NULL)
			err = crew_add(l->crew, k->table, (unsigned)w->params->lookup_connections,
				       &k->crew);
	}
	loop_timer_init(w->loop, &l->tick, on_tick, l);
	loop_timer_set(&l->tick, TICK_MS);
	return err;
}

static void lookup_attach(struct worker *w, struct worker_peer *peer)
{
	struct lookup *l = w->state;
	struct asker *a = xcalloc(1, sizeof(*a));

	a->peer = peer;
	a->next = l->askers;
	l->askers = a;
}

static void lookup_detach(struct worker *w, struct worker_peer *peer)
{
	struct lookup *l = w->state;
	struct asker *a = l->askers;

	while (a != NULL && a->peer != peer)
		a = a->next;
	if (a == NULL)
		return;
	a->peer = NULL;
	if (a->jobs == 0)
		asker_free(l, a);
}

static void lookup_drain(struct worker *w)
{
	/* who asks has a time-out, and asks the next life again */
	worker_exit(w);
}

static const struct worker_ops ops = {
	.class_id = CLASS_LOOKUP,
	.program = "proxymap",
	.init = lookup_init,
	.start = lookup_start,
	.attach = lookup_attach,
	.detach = lookup_detach,
	.from_peer = lookup_from_peer,
	.drain = lookup_drain,
};

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "-q") == 0)
		return query_main(argv[2], argv[3]);
	return worker_main(argc, argv, &ops);
}
