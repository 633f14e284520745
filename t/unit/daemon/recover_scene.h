/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A spool made by hand and a supervisor that starts on it; the spool is real, the workers are
 * played by the test. Used by recover_test.c and files_test.c.
 */
#ifndef PH_T_RECOVER_SCENE_H
#define PH_T_RECOVER_SCENE_H

#include "daemon/files_int.h"
#include "daemon/recover.h"
#include "daemon/recover_int.h"
#include "t/unit/daemon/sched_world.h"
#include "t/unit/workers/spool/support.h"

#define RW     100
#define NOW_US ((int64_t)W_START_MS * 1000)

struct scene {
	struct fixture f; /* the spool and its former writers */
	struct journal_writer *j;
	struct world w; /* the new supervisor */
	struct spool_state *state;
	struct files *files;
	struct loop *loop; /* the supervisor's */
	unsigned n;
};

/* Message k of `rcpts` recipients. */
static struct qid msg_id(unsigned k)
{
	return (struct qid){ (uint64_t)NOW_US - 3600000000u + k, 7 };
}

static void add(struct scene *sc, unsigned k, uint32_t rcpts, uint32_t flags, const char *bounce_of)
{
	struct qid id = msg_id(k);
	struct spool_record h = { .qid_us = id.time_us,
				  .qid_life = id.life,
				  .rcpt_count = rcpts,
				  .flags = flags,
				  .size = 100 };
	struct envelope env = { .sender = SV("s@x"), .arrival_us = (int64_t)id.time_us };
	struct arena arena;
	struct buf text = BUF_INIT;
	char body[] = "Subject: x\r\n\r\nbody\r\n";
	struct spool_iov iov = { body, sizeof(body) - 1 };

	arena_init(&arena, 4096, 0);
	for (uint32_t i = 0; i < rcpts; i++)
		env_add_rcpt(&env, &arena, &(struct env_rcpt){ .addr = SV("r@y") });
	if (bounce_of != NULL)
		env.bounce_of = sv_from(bounce_of);
	env_encode(&env, &text);
	int err;

	while ((err = spool_writer_append(sc->f.w, &h, buf_sv(&text), &iov, 1, NULL)) == E_AGAIN)
		fx_turns(&sc->f, 1);
	if (err != 0)
		die("append: %s", err_str(err));
	if (!fx_wait(&sc->f, ++sc->n))
		die("no commit");
	buf_fini(&text);
	arena_fini(&arena);
}

static void journal_begin(struct scene *sc)
{
	struct journal_conf jc = { .sync_window_ms = 1000,
				   .file_bytes = 1 << 20,
				   .counters = counters_of(&sc->f.counters),
				   .need_file = fx_need,
				   .closed_file = fx_closed,
				   .ctx = &sc->f };

	if (journal_writer_new(&jc, &sc->f.dirs, sc->f.loop, &sc->j) != 0)
		die("no journal");
}

static void journal_end(struct scene *sc)
{
	journal_writer_free(&sc->j);
}

static void put(struct scene *sc, const struct outcome *o)
{
	struct proto_jref ref;
	int err;

	for (int i = 0; (err = journal_append(sc->j, o, &ref)) == E_AGAIN && i < 1000; i++) {
		while (sc->f.needs > 0) {
			sc->f.needs--;
			journal_writer_grant(sc->j, sc->f.next_number++,
					     (struct journal_owner){ 0, 0 });
		}
		loop_turn(sc->f.loop, 2);
		journal_writer_poll(sc->j);
	}
	if (err != 0)
		die("journal: %s", err_str(err));
}

/* The outcome of an attempt at recipients `mask` from `first` on, `ago_s` seconds ago. */
static void result(struct scene *sc, unsigned k, uint32_t first, uint64_t sent, uint64_t deferred,
		   uint64_t bounced, int64_t ago_s)
{
	struct outcome_reason reason = { .mask = deferred | bounced,
					 .mta = SV("mx.y[1.2.3.4]"),
					 .text = SV("host mx.y said: 450 no") };

	put(sc, &(struct outcome){ .kind = OUTCOME_RESULT,
				   .qid = msg_id(k),
				   .rcpt_first = first,
				   .mask = sent | deferred | bounced,
				   .sent = sent,
				   .deferred = deferred,
				   .bounced = bounced,
				   .when_us = NOW_US - ago_s * 1000000,
				   .transport = SV("smtp"),
				   .nexthop = SV("y.example"),
				   .reasons = &reason,
				   .reason_count = (deferred | bounced) != 0 });
}

static void begin(struct scene *sc)
{
	memset(sc, 0, sizeof(*sc));
	fx_init(&sc->f, 1, 0);
	journal_begin(sc);
}

static uint32_t table_size = 65536;
static const struct warrant_key *the_key; /* of the supervisors to come */

/* The old writers are gone; a supervisor starts. */
static void restart(struct scene *sc, const char *main_cf)
{
	struct files_setup fs;
	int err;

	if (sc->j != NULL)
		journal_end(sc);
	fx_end_writer(&sc->f);
	world_init_sized(&sc->w, main_cf, table_size, 1024, NULL);
	sc->loop = loop_new();
	err = spool_state_open(&sc->f.dirs, &sc->state);
	fs = (struct files_setup){ .dirs = &sc->f.dirs,
				   .state = sc->state,
				   .board = &sc->w.board,
				   .params = conf_params(sc->w.conf),
				   .counters = sc->w.counters,
				   .key = the_key,
				   .life = 300,
				   .loop = sc->loop };
	if (err == 0)
		err = files_new(&fs, &sc->files);
	sc->w.s->su.files = sc->files;
	if (err == 0)
		err = recover_all(sc->w.s, sc->files, &sc->f.dirs);
	is_int(err, 0, "recovery works");
}

static void end_supervisor(struct scene *sc)
{
	files_free(&sc->files);
	loop_free(&sc->loop);
	spool_state_close(&sc->state);
	world_fini(&sc->w);
}

static void finish(struct scene *sc)
{
	end_supervisor(sc);
	fx_fini(&sc->f);
}

/* ---- what is where ---- */

struct seen {
	unsigned entries;
	uint64_t by_state[QS_COUNT]; /* masks relative to recipient 0, for small messages */
	uint32_t flags, due_s;
	struct proto_jref jref;
};

static void see(void *ctx, const struct sched_item *it)
{
	struct seen *s = ctx;

	s->entries++;
	if (it->rcpt_first < 64)
		s->by_state[it->state] |= it->mask << it->rcpt_first;
	s->flags = it->msg_flags;
	s->due_s = it->state == QS_DEFERRED ? it->due_s : s->due_s;
	s->jref = it->jref;
}

static struct seen look(struct scene *sc, unsigned k)
{
	struct seen s = { 0 };

	sched_list_one(sc->w.s, msg_id(k), see, &s);
	return s;
}

#endif
