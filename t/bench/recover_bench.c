/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How long a start takes with many deferred messages: makes a spool of them, then times recovery.
 * usage: recover_bench [MESSAGES]
 */
#include <sys/resource.h>

#include "daemon/recover.h"
#include "lib/rand.h"
#include "t/unit/daemon/sched_world.h"
#include "t/unit/workers/spool/support.h"

static void bench_log(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		      const char *text, size_t len)
{
	fprintf(stderr, "%.*s\n", (int)len, text);
}

static void make_records(struct fixture *f, unsigned n)
{
	struct envelope env = { .sender = SV("sender@example.com"),
				.arrival_us = 1700000000000000 };
	struct arena arena;
	struct buf text = BUF_INIT;
	char body[200];
	struct spool_iov iov = { body, sizeof(body) };

	memset(body, 'x', sizeof(body));
	arena_init(&arena, 4096, 0);
	env_add_rcpt(&env, &arena, &(struct env_rcpt){ .addr = SV("recipient@example.org") });
	env_encode(&env, &text);
	for (unsigned i = 0; i < n; i++) {
		struct spool_record h = {
			.qid_us = 1700000000000000u + i, .qid_life = 7, .rcpt_count = 1, .size = 200
		};

		while (spool_writer_append(f->w, &h, buf_sv(&text), &iov, 1, NULL) == E_AGAIN) {
			fx_grant(f);
			loop_turn(f->loop, 1);
		}
		if (i % 1000 == 0) {
			fx_grant(f);
			loop_turn(f->loop, 0);
		}
	}
	buf_fini(&text);
	arena_fini(&arena);
}

static void make_outcomes(struct fixture *f, unsigned n)
{
	struct outcome_reason reason = { .mask = 1,
					 .mta = SV("mx.example.org[192.0.2.1]"),
					 .text = SV("connect to mx.example.org[192.0.2.1]:25: "
						    "Connection timed out") };
	struct journal_conf jc = { .sync_window_ms = 3600000,
				   .file_bytes = 64 << 20,
				   .counters = counters_of(&f->counters),
				   .need_file = fx_need,
				   .closed_file = fx_closed,
				   .ctx = f };
	struct journal_writer *j;
	struct proto_jref ref;

	if (journal_writer_new(&jc, &f->dirs, f->loop, &j) != 0)
		die("no journal");
	for (unsigned i = 0; i < n; i++) {
		struct outcome o = { .kind = OUTCOME_RESULT,
				     .qid = { 1700000000000000u + i, 7 },
				     .mask = 1,
				     .deferred = 1,
				     .when_us =
					     W_START_MS * 1000 - 4600000000 - rand_below(100000000),
				     .transport = SV("smtp"),
				     .nexthop = SV("example.org"),
				     .reasons = &reason,
				     .reason_count = 1 };

		while (journal_append(j, &o, &ref) == E_AGAIN || i % 500 == 499) {
			while (f->needs > 0) {
				f->needs--;
				journal_writer_grant(j, f->next_number++,
						     (struct journal_owner){ 0, 0 });
			}
			loop_turn(f->loop, 0);
			journal_writer_poll(j);
			if (i % 500 == 499)
				break;
		}
	}
	journal_writer_free(&j);
}

/* Of this process, with its threads; other load does not count. */
static long long cpu_ms(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000LL +
	       (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000;
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? (unsigned)atoi(argv[1]) : 1000000;
	static struct fixture f;
	static struct world w;
	struct spool_state *state;
	struct files *files;

	fx_init(&f, 0, 0);
	struct spool_writer_ops ops = { fx_committed, fx_need, fx_closed, &f };

	f.conf = (struct spool_writer_conf){ .segment_bytes = 64 << 20,
					     .max_syncs = 1,
					     .counters = counters_of(&f.counters) };
	if (spool_writer_new(&f.conf, &ops, &f.dirs, f.loop, &f.w) != 0)
		die("no writer");
	loop_add_hook(f.loop, spool_writer_poll, f.w);
	make_records(&f, n);
	fx_end_writer(&f);
	f.needs = 0;
	make_outcomes(&f, n);

	world_init_sized(&w, "", n + n / 4, 4096, NULL);
	log_set_sink(bench_log, NULL);
	if (spool_state_open(&f.dirs, &state) != 0)
		die("no state");
	struct files_setup fs = { .dirs = &f.dirs,
				  .state = state,
				  .board = &w.board,
				  .params = conf_params(w.conf),
				  .counters = w.counters,
				  .loop = f.loop };

	if (files_new(&fs, &files) != 0)
		die("no files");
	w.s->su.files = files;
	int64_t start = clock_mono_us_raw();
	long long cpu = cpu_ms();

	if (recover_all(w.s, files, &f.dirs) != 0)
		die("recovery");
	int64_t took = clock_mono_us_raw() - start;

	printf("recovered %u of %u messages in %lld ms, %lld ms of processor time\n",
	       w.q.shm->msg_live, n, (long long)took / 1000, cpu_ms() - cpu);
	world_up(&w, CLASS_REWRITE, 0, 100);
	world_up(&w, CLASS_DELIVER, 0, 200);
	w_dest(&w, 100, 0, "smtp", "example.org");
	sched_tick(w.s);
	while (world_next(&w) == NULL)
		sched_turn(w.s);
	printf("first entry at a rewrite worker after %lld ms\n",
	       (long long)(clock_mono_us_raw() - start) / 1000);
	files_free(&files);
	spool_state_close(&state);
	world_fini(&w);
	fx_fini(&f);
	return 0;
}
