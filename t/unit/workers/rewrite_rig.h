/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The rewrite worker without its frame: real rules, spool and blocks in a temporary directory; what
 * it sends is caught. Used by the unit test and the fuzz target of submissions.
 */
#ifndef PH_T_REWRITE_RIG_H
#define PH_T_REWRITE_RIG_H

#include <stdlib.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/io.h"
#include "t/unit/workers/testconf.h"
#include "workers/rewrite/rewrite.h"

#define RIG_LIFE   77u
#define RIG_BLOCKS 256u
#define RIG_CAUGHT 512u

struct caught {
	bool to_super;
	size_t len;
	_Alignas(8) char rec[2048]; /* the beginning */
};

struct rig {
	struct worker w;
	struct rewrite r;
	struct conf *conf;
	struct worker_peer peer;
	struct link link;
	struct blocks blocks; /* the smtp-in worker's side */
	struct counters_shm counters;
	char dir[40];
	uint64_t segment_bytes; /* 0 = 1 MB */
	unsigned needs[3];
	uint32_t next_file;
	bool keep_blocks; /* blocks given back stay as they are */
	bool no_grant;    /* keep the spool without a segment */
	uint64_t spent;   /* turn_bytes of the peer when a turn begins */
	struct caught caught[RIG_CAUGHT];
	size_t count;
	unsigned accused;
	char accused_of[200];
};

static struct rig rig;

/* ---- in place of the frame ---- */

void worker_send(struct worker *w, struct link *to, const void *rec, size_t len)
{
	struct caught *c = &rig.caught[rig.count % RIG_CAUGHT];
	struct proto_submit_free f;

	if (len == sizeof(f) && !rig.keep_blocks) {
		memcpy(&f, rec, sizeof(f));
		if (f.kind == PROTO_SUBMIT_FREE)
			blocks_free_chain(&rig.blocks, f.first_block);
	}
	c->to_super = to == &w->super;
	c->len = len;
	memcpy(c->rec, rec, size_min(len, sizeof(c->rec)));
	rig.count++;
}

void worker_accuse(struct worker *w, const struct worker_peer *peer, const char *why)
{
	(void)w;
	(void)peer;
	rig.accused++;
	snprintf(rig.accused_of, sizeof(rig.accused_of), "%s", why);
}

static void rig_need_segment(void *ctx)
{
	(void)ctx;
	rig.needs[SPOOL_SEGMENT]++;
}

static void rig_need_journal(void *ctx)
{
	(void)ctx;
	rig.needs[SPOOL_JOURNAL]++;
}

static void rig_closed(void *ctx, uint32_t number, uint64_t bytes)
{
	(void)ctx;
	(void)number;
	(void)bytes;
}

/* ---- the spool ---- */

static int rig_open_spool(struct rewrite *r)
{
	struct spool_writer_conf wc = { .segment_bytes = rig.segment_bytes != 0 ? rig.segment_bytes
										: 1u << 20,
					.max_syncs = 1,
					.inline_max = 1 };
	struct spool_writer_ops ops = { .committed = commit_done,
					.need_file = rig_need_segment,
					.closed_file = rig_closed,
					.ctx = r };
	struct journal_conf jc = { .sync_window_ms = 1000,
				   .file_bytes = 1 << 20,
				   .need_file = rig_need_journal,
				   .closed_file = rig_closed,
				   .ctx = r };
	int err = spool_dirs_open(rig.dir, true, &r->dirs);

	if (err == 0)
		err = spool_writer_new(&wc, &ops, &r->dirs, rig.w.loop, &r->writer);
	if (err == 0)
		err = journal_writer_new(&jc, &r->dirs, rig.w.loop, &r->journal);
	if (err == 0) {
		r->reader = spool_reader_new(&r->dirs, 8);
		r->journal_reader = journal_reader_new(&r->dirs, 8);
	}
	return err;
}

/* One turn of the worker. */
static void rig_turn(int wait_ms)
{
	loop_turn(rig.w.loop, wait_ms);
	rig.r.progress = false;
	rig.peer.turn_bytes = rig.spent;
	while (!rig.no_grant && rig.needs[SPOOL_SEGMENT] > 0) {
		rig.needs[SPOOL_SEGMENT]--;
		spool_writer_grant(rig.r.writer, rig.next_file++, 0);
	}
	while (rig.needs[SPOOL_JOURNAL] > 0) {
		rig.needs[SPOOL_JOURNAL]--;
		journal_writer_grant(rig.r.journal, rig.next_file++,
				     (struct journal_owner){ 0, 0 });
	}
	notify_resume(&rig.r);
	submit_resume(&rig.r);
	spool_writer_poll(rig.r.writer);
	journal_writer_poll(rig.r.journal);
}

/* Until nothing waits for the disk (or a second has passed). */
static void rig_settle(void)
{
	for (unsigned i = 0; i < 100; i++) {
		rig_turn(i > 0 && (rig.r.pending_count > 0 || rig.r.stalled) ? 10 : 0);
		if (rig.r.pending_count == 0 && rig.r.unjournaled.len == 0 && !rig.r.stalled &&
		    i > 0)
			return;
	}
}

/* ---- the smtp-in worker ---- */

static int rig_attach(uint32_t life)
{
	struct shm_region own = SHM_REGION_INIT, view = SHM_REGION_INIT;
	int err = blocks_create("rig", RIG_BLOCKS, life, &own), fd;

	if (err < 0)
		return err;
	fd = dup(own.fd);
	err = shm_region_map(fd, SHM_KIND_BLOCKS, false, &view);
	if (err == 0)
		err = blocks_attach(&rig.blocks, &own);
	rig.peer = (struct worker_peer){
		.class_id = CLASS_SMTP_IN, .life = life, .link = &rig.link, .blocks = view
	};
	if (err == 0)
		submit_attach(&rig.r, &rig.peer);
	return err;
}

static void rig_detach(void)
{
	submit_detach(&rig.r, &rig.peer);
	blocks_fini(&rig.blocks);
	rig.accused = 0;
	rig.accused_of[0] = '\0';
}

/* A chain that holds the bytes; BLOCK_NONE when there are none. */
static uint32_t rig_chain(const void *data, size_t len)
{
	uint32_t first = BLOCK_NONE, last = BLOCK_NONE;

	for (size_t at = 0; at < len; at += BLOCK_SIZE) {
		uint32_t b = blocks_alloc(&rig.blocks);

		if (b == BLOCK_NONE)
			return first;
		memcpy(blocks_data(&rig.blocks, b), (const char *)data + at,
		       size_min(len - at, BLOCK_SIZE));
		if (first == BLOCK_NONE)
			first = b;
		else
			blocks_link(&rig.blocks, last, b);
		last = b;
	}
	return first;
}

static void rig_submit(const struct proto_submit *s)
{
	submit_record(&rig.r, &rig.peer, s, sizeof(*s));
}

/* ---- all ---- */

static int rig_open(const char *main_cf)
{
	struct conf_diag d;
	int err;

	clock_init();
	clock_tick();
	snprintf(rig.dir, sizeof(rig.dir), "/tmp/ph_rig_XXXXXX");
	rig.conf = test_conf(main_cf);
	if (rig.conf == NULL || mkdtemp(rig.dir) == NULL)
		return E_CONFIG;
	rig.next_file = 1;
	rig.w.loop = loop_new();
	rig.w.conf = rig.conf;
	rig.w.params = conf_params(rig.conf);
	rig.w.counters = &rig.counters;
	rig.w.life = RIG_LIFE;
	rig.r.w = &rig.w;
	rig.r.ids.life = RIG_LIFE;
	rig.r.peer_memory = 64u << 20;
	rig.r.names = names_new(NAMES_MAX);
	commit_init(&rig.r);
	conf_diag_init(&d);
	err = rules_open(rig.conf, &rig.r.rules, &d);
	conf_diag_fini(&d);
	message_init(&rig.r.scratch, &rig.r.rules);
	arena_init(&rig.r.load_arena, 16384, 1 << 24);
	return err == 0 ? rig_open_spool(&rig.r) : err;
}

static void rig_close(void)
{
	char command[100];

	spool_writer_free(&rig.r.writer);
	journal_writer_free(&rig.r.journal);
	spool_reader_free(&rig.r.reader);
	journal_reader_free(&rig.r.journal_reader);
	spool_dirs_close(&rig.r.dirs);
	commit_fini(&rig.r);
	names_free(&rig.r.names);
	message_fini(&rig.r.scratch);
	arena_fini(&rig.r.load_arena);
	buf_fini(&rig.r.piece);
	buf_fini(&rig.r.env_buf);
	buf_fini(&rig.r.unjournaled);
	rules_close(&rig.r.rules);
	conf_free(&rig.conf);
	loop_free(&rig.w.loop);
	snprintf(command, sizeof(command), "rm -rf %s", rig.dir);
	if (system(command) != 0)
		printf("# cannot remove %s\n", rig.dir);
}

#endif
