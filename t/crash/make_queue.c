/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * make_queue: fills the spool of a stopped instance with deferred messages, through the product's
 * own spool code. Each is what t/bench/load sends (the sink judges it) and has one attempt behind
 * it that failed. Started by t/crash/10-big-queue.t; run it as the owner of the spool.
 *
 *   usage: make_queue [-n MESSAGES] [-u DUE] [-l BYTES] [-t PREFIX] NEXTHOP QUEUE_DIRECTORY
 *
 * The last DUE of them are due at the next start, the others between 100 and 3900 seconds from now.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "workers/mail/envelope.h"
#include "workers/spool/warrant.h"

#define MAX_BACKOFF_S 4000
#define AGE_S         40000 /* so old that every retry waits for the longest time */

static struct {
	unsigned count, due, body_len;
	const char *prefix;
	struct sv nexthop;
	struct spool_dirs dirs;
	struct spool_state *state;
	struct loop *loop;
	struct spool_writer *w;
	struct journal_writer *j;
	unsigned seg_needs, jnl_needs, committed;
	uint32_t life;
	int64_t now_us;
	char *body;
	struct buf env, content;
	struct arena arena;
	struct warrant_key key;
} g = { .count = 1000, .due = 10, .body_len = 500, .prefix = "big" };

static void on_commit(void *ctx UNUSED, void *cookie UNUSED, int err,
		      const struct proto_place *place UNUSED)
{
	if (err != 0)
		die("commit: %s", err_str(err));
	g.committed++;
}

static void need_segment(void *ctx UNUSED)
{
	g.seg_needs++;
}

static void need_journal(void *ctx UNUSED)
{
	g.jnl_needs++;
}

static void closed(void *ctx UNUSED, uint32_t number UNUSED, uint64_t bytes UNUSED)
{
}

static uint32_t next_file(void)
{
	uint32_t n;
	int err = spool_state_next_file(g.state, &n);

	if (err != 0)
		die("state: %s", err_str(err));
	return n;
}

static void grant_journal(void)
{
	uint32_t number = next_file();

	journal_writer_grant(
		g.j, number,
		(struct journal_owner){ g.life, warrant_file_code(&g.key, number, g.life) });
}

/* The leave that the supervisor of this spool would have given. */
static struct proto_warrant warrant_for(const struct outcome *o, unsigned i)
{
	struct warrant_of of = { .life = g.life,
				 .kind = o->kind,
				 .mask = o->mask,
				 .order = ((uint64_t)g.life << WARRANT_LIFE_SHIFT) + i + 1,
				 .qid = o->qid };

	return (struct proto_warrant){ of.order, warrant_code(&g.key, &of) };
}

static void turn(int wait_ms)
{
	for (; g.seg_needs > 0; g.seg_needs--)
		spool_writer_grant(g.w, next_file(), 0);
	for (; g.jnl_needs > 0; g.jnl_needs--)
		grant_journal();
	loop_turn(g.loop, wait_ms);
}

static struct qid qid_of(unsigned i)
{
	return (struct qid){ (uint64_t)(g.now_us - (int64_t)AGE_S * 1000000) + i * 1000u, g.life };
}

static void make_message(unsigned i)
{
	struct envelope e = { .sender = SV("sender@load.test"),
			      .client_name = SV("localhost"),
			      .client_addr = SV("127.0.0.1"),
			      .client_port = SV("40000"),
			      .helo = SV("load.test"),
			      .proto = SV("ESMTP"),
			      .arrival_us = (int64_t)qid_of(i).time_us };
	char rcpt[128], tail[64];
	int n = snprintf(tail, sizeof(tail), "end of %s-%u\r\n", g.prefix, i);

	snprintf(rcpt, sizeof(rcpt), "r0.%s-%u@sink.test", g.prefix, i);
	arena_reset(&g.arena);
	buf_reset(&g.env);
	buf_reset(&g.content);
	env_add_rcpt(&e, &g.arena, &(struct env_rcpt){ .addr = sv_from(rcpt) });
	env_encode(&e, &g.env);
	buf_printf(&g.content,
		   "From: <sender@load.test>\r\nTo: undisclosed\r\nSubject: load\r\n"
		   "Message-ID: <%s-%u@load.test>\r\nX-Load-Id: %s-%u\r\nX-Load-Crc: %08x\r\n\r\n",
		   g.prefix, i, g.prefix, i,
		   crc32c(crc32c(0, g.body, g.body_len), tail, (size_t)n));
	buf_add(&g.content, g.body, g.body_len);
	buf_add(&g.content, tail, (size_t)n);
}

static void append_message(unsigned i)
{
	make_message(i);
	struct spool_record h = { .qid_us = qid_of(i).time_us,
				  .qid_life = g.life,
				  .rcpt_count = 1,
				  .size = (uint32_t)g.content.len };
	struct spool_iov iov = { g.content.p, g.content.len };
	int err;

	while ((err = spool_writer_append(g.w, &h, buf_sv(&g.env), &iov, 1, NULL)) == E_AGAIN)
		turn(1);
	if (err != 0)
		die("append: %s", err_str(err));
	if (i % 500 == 0)
		turn(0);
}

/* The attempt whose retry is due when it should be. */
static int64_t attempt_us(unsigned i)
{
	int64_t due_s = i >= g.count - g.due ? -600 : 100 + (int64_t)i * 3800 / g.count;

	return g.now_us + (due_s - MAX_BACKOFF_S) * 1000000;
}

static void append_outcome(unsigned i)
{
	struct outcome_reason reason = { .mask = 1,
					 .dsn = { 4, 4, 1 },
					 .mta = SV("none"),
					 .text = SV("connect to 127.0.0.1[127.0.0.1]:25: "
						    "Connection refused") };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = qid_of(i),
			     .mask = 1,
			     .deferred = 1,
			     .when_us = attempt_us(i),
			     .transport = SV("relay"),
			     .nexthop = g.nexthop,
			     .reasons = &reason,
			     .reason_count = 1 };
	struct proto_jref ref;
	int err;

	o.warrant = warrant_for(&o, i);
	while ((err = journal_append(g.j, &o, &ref)) == E_AGAIN)
		turn(1);
	if (err != 0)
		die("journal: %s", err_str(err));
	if (i % 500 == 0)
		turn(0);
}

static void open_spool(const char *dir)
{
	struct spool_writer_ops ops = { on_commit, need_segment, closed, NULL };
	struct spool_writer_conf conf = { .segment_bytes = 64 << 20, .max_syncs = 1 };
	struct journal_conf jconf = { .sync_window_ms = 1000,
				      .file_bytes = 64 << 20,
				      .need_file = need_journal,
				      .closed_file = closed };
	int err = spool_dirs_open(dir, false, &g.dirs);

	if (err == 0)
		err = spool_state_open(&g.dirs, &g.state);
	if (err == 0)
		err = spool_state_next_life(g.state, &g.life);
	if (err == 0)
		err = warrant_key_open(&g.dirs, true, spool_state_unused_file(g.state), &g.key);
	if (err == 0)
		err = spool_writer_new(&conf, &ops, &g.dirs, g.loop, &g.w);
	if (err == 0)
		err = journal_writer_new(&jconf, &g.dirs, g.loop, &g.j);
	if (err != 0)
		die("%s: %s", dir, err_str(err));
	loop_add_hook(g.loop, spool_writer_poll, g.w);
	loop_add_hook(g.loop, journal_writer_poll, g.j);
}

static void make_body(void)
{
	g.body = xmalloc(g.body_len + 2);
	for (size_t i = 0; i < g.body_len; i++)
		g.body[i] = (char)('a' + i % 26);
	for (size_t i = 70; i + 1 < g.body_len; i += 72)
		memcpy(g.body + i, "\r\n", 2);
	memcpy(g.body + g.body_len - 2, "\r\n", 2);
}

int main(int argc, char **argv)
{
	int opt;

	log_set_program("make_queue");
	while ((opt = getopt(argc, argv, "n:u:l:t:")) != -1) {
		if (opt == 'n')
			g.count = (unsigned)atoi(optarg);
		else if (opt == 'u')
			g.due = (unsigned)atoi(optarg);
		else if (opt == 'l')
			g.body_len = (unsigned)atoi(optarg);
		else if (opt == 't')
			g.prefix = optarg;
		else
			return 2;
	}
	if (argc - optind != 2 || g.body_len < 2)
		die("usage: make_queue [-n messages] [-u due] [-l bytes] [-t prefix] nexthop dir");
	clock_init();
	clock_tick();
	g.nexthop = sv_from(argv[optind]);
	g.now_us = clock_wall().us;
	arena_init(&g.arena, 4096, 0);
	g.loop = loop_new();
	make_body();
	open_spool(argv[optind + 1]);
	for (unsigned i = 0; i < g.count; i++)
		append_message(i);
	while (g.committed < g.count)
		turn(10);
	for (unsigned i = 0; i < g.count; i++)
		append_outcome(i);
	journal_sync(g.j);
	journal_writer_free(&g.j);
	spool_writer_free(&g.w);
	spool_state_close(&g.state);
	printf("%u messages\n", g.committed);
	return 0;
}
