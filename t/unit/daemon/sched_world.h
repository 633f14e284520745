/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A world for scheduler tests: configuration from text, tables in memory, time that the test moves,
 * and workers played by the test: what the scheduler sends is kept in `sent`, answers are made with
 * the helpers below. Nothing runs but what the test calls.
 */
#ifndef PH_T_SCHED_WORLD_H
#define PH_T_SCHED_WORLD_H

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/sched.h"
#include "daemon/sched_int.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "t/unit/tap.h"

#define W_START_MS 1700000000000LL
#define W_SENT_MAX 200000

struct sent_rec {
	enum worker_class class_id;
	unsigned slot;
	size_t len;
	union {
		uint32_t kind;
		struct proto_job job;
		struct proto_load load;
		struct proto_bounce bounce;
		struct proto_copy copy;
		struct proto_file file;
		char bytes[512];
	} u;
};

struct world {
	char dir[64];
	struct conf *conf;
	struct qtab q;
	struct dtab d;
	struct board_shm board;
	struct shm_region counters_region;
	struct counters_shm *counters;
	struct sched *s;
	struct sent_rec *sent;
	size_t sent_count, sent_read; /* test reads from sent_read on */
	bool ring_full;
	uint64_t next_us;
	char log[65536];
	size_t log_len;
	const char *reason;
};

static void world_sink(void *ctx, enum log_level level UNUSED, const char *program UNUSED,
		       const char *text, size_t len)
{
	struct world *w = ctx;

	if (w->log_len + len + 2 < sizeof(w->log)) {
		memcpy(w->log + w->log_len, text, len);
		w->log_len += len;
		w->log[w->log_len++] = '\n';
		w->log[w->log_len] = '\0';
	}
}

static int world_send(void *ctx, enum worker_class class_id, unsigned slot, const void *rec,
		      size_t len)
{
	struct world *w = ctx;

	if (w->ring_full)
		return E_AGAIN;
	if (w->sent_count == W_SENT_MAX || len > sizeof(w->sent[0].u))
		bug("test: too much was sent");
	struct sent_rec *r = &w->sent[w->sent_count++];

	r->class_id = class_id;
	r->slot = slot;
	r->len = len;
	memcpy(&r->u, rec, len);
	return 0;
}

static bool world_reason(void *ctx, struct proto_jref ref UNUSED, char *out, size_t out_size)
{
	struct world *w = ctx;

	if (w->reason == NULL)
		return false;
	snprintf(out, out_size, "%s", w->reason);
	return true;
}

static void world_file(const char *dir, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0)
		bug("test: cannot write %s", path);
}

static const char world_master[] = "smtp unix - - n - - smtp\n"
				   "slow unix - - n - 3 smtp\n"
				   "lmtp unix - - n - - lmtp\n"
				   "virtual unix - n n - - virtual\n";

static struct conf *world_conf(struct world *w, const char *main_cf, const char *master_cf)
{
	struct conf_diag diag;
	struct conf *conf = NULL;

	conf_diag_init(&diag);
	world_file(w->dir, "main.cf", main_cf);
	world_file(w->dir, "master.cf", master_cf);
	if (conf_load_dir(w->dir, &conf, &diag) != 0)
		bug("test: configuration: %s", buf_cstr(&diag.text));
	conf_diag_fini(&diag);
	return conf;
}

__attribute__((unused)) static void world_init_sized(struct world *w, const char *main_cf,
						     uint32_t cap, uint32_t dests,
						     struct files *files)
{
	memset(w, 0, sizeof(*w));
	snprintf(w->dir, sizeof(w->dir), "/tmp/sched_test.XXXXXX");
	if (mkdtemp(w->dir) == NULL)
		bug("test: mkdtemp");
	log_set_sink(world_sink, w);
	clock_fake_set(W_START_MS);
	clock_tick();
	w->conf = world_conf(w, main_cf, world_master);
	w->sent = xcalloc(W_SENT_MAX, sizeof(*w->sent));
	if (qtab_create(cap, cap, &w->q) != 0 || dtab_create(dests, &w->d) != 0 ||
	    counters_create("test", 1, &w->counters_region) != 0)
		bug("test: tables");
	w->counters = counters_of(&w->counters_region);
	struct sched_setup setup = { .conf = w->conf,
				     .generation = 1,
				     .qtab = &w->q,
				     .dtab = &w->d,
				     .board = &w->board,
				     .counters = w->counters,
				     .files = files,
				     .ops = { world_send, world_reason, w } };

	if (sched_new(&setup, &w->s) != 0)
		bug("test: sched_new");
	w->next_us = (uint64_t)W_START_MS * 1000;
}

__attribute__((unused)) static void world_init(struct world *w, const char *main_cf)
{
	world_init_sized(w, main_cf, 65536, 4096, NULL);
}

static void world_remove_files(const struct world *w)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/main.cf", w->dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/master.cf", w->dir);
	unlink(path);
	rmdir(w->dir);
}

__attribute__((unused)) static void world_fini(struct world *w)
{
	char why[200] = "";

	ok(qtab_check(&w->q, why, sizeof(why)) == 0, "queue table is sound %s", why);
	ok(dtab_check(&w->d, why, sizeof(why)) == 0, "destination table is sound %s", why);
	sched_free(&w->s);
	qtab_fini(&w->q);
	dtab_fini(&w->d);
	shm_region_close(&w->counters_region);
	conf_free(&w->conf);
	free(w->sent);
	world_remove_files(w);
	log_set_sink(NULL, NULL);
	clock_fake_off();
}

__attribute__((unused)) static void world_up(struct world *w, enum worker_class class_id,
					     unsigned slot, uint32_t life)
{
	if (sched_worker_up(w->s, class_id, slot, life, 1) != 0)
		bug("test: worker up");
}

__attribute__((unused)) static void world_turn(struct world *w)
{
	for (int i = 0; i < 1000 && sched_turn(w->s); i++)
		;
}

/* Time passes; the scheduler notices. */
__attribute__((unused)) static void world_pass(struct world *w, int64_t ms)
{
	clock_fake_advance(ms);
	clock_tick();
	sched_tick(w->s);
	world_turn(w);
}

/* The next thing that was sent; NULL when there is none. */
__attribute__((unused)) static struct sent_rec *world_next(struct world *w)
{
	return w->sent_read < w->sent_count ? &w->sent[w->sent_read++] : NULL;
}

__attribute__((unused)) static size_t world_left(const struct world *w)
{
	return w->sent_count - w->sent_read;
}

__attribute__((unused)) static int w_dest(struct world *w, uint32_t life, uint32_t id,
					  const char *transport, const char *nexthop)
{
	char rec[600];
	struct proto_dest d = { .kind = PROTO_DEST,
				.local_id = id,
				.transport_len = (uint16_t)strlen(transport),
				.nexthop_len = (uint16_t)strlen(nexthop) };

	memcpy(rec, &d, sizeof(d));
	memcpy(rec + sizeof(d), transport, d.transport_len);
	memcpy(rec + sizeof(d) + d.transport_len, nexthop, d.nexthop_len);
	return sched_input(w->s, CLASS_REWRITE, 0, life, rec,
			   sizeof(d) + d.transport_len + d.nexthop_len);
}

struct new_rec {
	struct proto_new n;
	struct proto_entry e[2000];
};

/* A message of `count` entries with one recipient each for destination `dest`. */
__attribute__((unused)) static int w_new(struct world *w, uint32_t life, uint32_t flags,
					 uint32_t dest, unsigned count, struct qid *id_r)
{
	static struct new_rec r;
	struct qid id = { .time_us = ++w->next_us, .life = 7 };

	memset(&r.n, 0, sizeof(r.n));
	r.n.kind = PROTO_NEW;
	r.n.flags = flags;
	r.n.qid = (struct proto_qid){ .time_us = id.time_us, .life = id.life };
	r.n.place = (struct proto_place){ .seg = 1, .off8 = 0, .len = 1000 };
	r.n.rcpt_count = r.n.entry_total = r.n.entry_count = count;
	for (unsigned i = 0; i < count; i++)
		r.e[i] = (struct proto_entry){ .rcpt_first = i, .dest = dest, .mask = 1 };
	if (id_r != NULL)
		*id_r = id;
	return sched_input(w->s, CLASS_REWRITE, 0, life, &r, sizeof(r.n) + count * sizeof(r.e[0]));
}

__attribute__((unused)) static int w_result(struct world *w, const struct sent_rec *job,
					    uint32_t life, uint64_t sent, uint64_t deferred,
					    uint64_t bounced, uint32_t health)
{
	struct proto_result r = { .kind = PROTO_RESULT,
				  .health = health,
				  .word = job->u.job.ref.word,
				  .entry = job->u.job.ref.entry,
				  .sent = sent,
				  .deferred = deferred,
				  .bounced = bounced };

	return sched_input(w->s, job->class_id, job->slot, life, &r, sizeof(r));
}

struct loaded_rec {
	struct proto_loaded l;
	struct proto_entry e[64];
};

/* The rewrite worker resolves everything it was asked to `dest`. */
__attribute__((unused)) static int w_loaded(struct world *w, const struct sent_rec *load,
					    uint32_t life, uint32_t dest)
{
	struct loaded_rec r = { .l = { .kind = PROTO_LOADED,
				       .status = LOAD_OK,
				       .word = load->u.load.ref.word,
				       .entry = load->u.load.ref.entry,
				       .entry_count = 1 } };

	r.e[0] = (struct proto_entry){ .rcpt_first = load->u.load.ref.rcpt_first,
				       .dest = dest,
				       .mask = load->u.load.ref.mask };
	return sched_input(w->s, CLASS_REWRITE, load->slot, life, &r, sizeof(r.l) + sizeof(r.e[0]));
}

__attribute__((unused)) static int w_bounced(struct world *w, const struct sent_rec *b,
					     uint32_t life, uint32_t status)
{
	struct proto_bounced r = { .kind = PROTO_BOUNCED,
				   .status = status,
				   .word = b->u.bounce.ref.word,
				   .entry = b->u.bounce.ref.entry };

	return sched_input(w->s, CLASS_REWRITE, b->slot, life, &r, sizeof(r));
}

#endif
