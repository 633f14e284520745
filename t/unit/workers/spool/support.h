/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A spool below a fresh directory, with a writer that plays supervisor to itself. For spool tests.
 */
#ifndef PH_T_SPOOL_SUPPORT_H
#define PH_T_SPOOL_SUPPORT_H

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/util.h"
#include "shm/counters.h"
#include "t/unit/tap.h"
#include "t/unit/workers/spool/flip.h"
#include "workers/mail/envelope.h"
#include "workers/spool/format.h"

#define SEG_BYTES (1u << 20)
#define MAX_DONE  4096

struct done {
	void *cookie;
	int err;
	struct proto_place place;
};

struct fixture {
	char path[64];
	struct spool_dirs dirs;
	struct loop *loop;
	struct spool_writer *w;
	struct spool_writer_conf conf;
	uint32_t next_number;
	uint32_t recycle; /* given with the next grant */
	unsigned needs;   /* asked for and not granted */
	struct {
		uint32_t number;
		uint64_t bytes;
	} closed[256];
	unsigned closed_count;
	struct done done[MAX_DONE];
	unsigned done_count;
	struct shm_region counters;
};

static char logged[65536];

__attribute__((unused)) static void log_sink(void *ctx UNUSED, enum log_level level UNUSED,
					     const char *program UNUSED, const char *text,
					     size_t len)
{
	size_t have = strlen(logged);

	snprintf(logged + have, sizeof(logged) - have, "%.*s\n", (int)len, text);
}

static void fx_committed(void *ctx, void *cookie, int err, const struct proto_place *place)
{
	struct fixture *f = ctx;

	if (f->done_count < MAX_DONE)
		f->done[f->done_count++] = (struct done){ cookie, err, *place };
}

static void fx_need(void *ctx)
{
	((struct fixture *)ctx)->needs++;
}

static void fx_closed(void *ctx, uint32_t number, uint64_t bytes)
{
	struct fixture *f = ctx;

	if (f->closed_count < ARRAY_LEN(f->closed)) {
		f->closed[f->closed_count].number = number;
		f->closed[f->closed_count++].bytes = bytes;
	}
}

__attribute__((unused)) static void fx_grant(struct fixture *f)
{
	while (f->needs > 0) {
		f->needs--;
		spool_writer_grant(f->w, f->next_number++, f->recycle);
		f->recycle = 0;
	}
}

#define FX_PATIENCE_US 60000000 /* for what a busy machine may be slow to do */

/* Turn until `count` appends are answered. */
__attribute__((unused)) static bool fx_wait(struct fixture *f, unsigned count)
{
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;

	while (f->done_count < count && clock_mono_us_raw() < end) {
		fx_grant(f);
		loop_turn(f->loop, 20);
	}
	return f->done_count == count;
}

__attribute__((unused)) static void fx_turns(struct fixture *f, int n)
{
	while (n-- > 0) {
		fx_grant(f);
		loop_turn(f->loop, 2);
	}
}

/* Turn until there is a segment to write to. */
__attribute__((unused)) static void fx_ready(struct fixture *f)
{
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;
	struct spool_stream *s;

	while (spool_stream_open(f->w, 8, &s) != 0) {
		if (clock_mono_us_raw() > end)
			die("no segment");
		fx_turns(f, 1);
	}
	spool_stream_abort(&s);
}

__attribute__((unused)) static void fx_writer(struct fixture *f, unsigned max_syncs,
					      unsigned inline_max)
{
	struct spool_writer_ops ops = { fx_committed, fx_need, fx_closed, f };

	f->conf.segment_bytes = SEG_BYTES;
	f->conf.sync = true;
	f->conf.max_syncs = max_syncs;
	f->conf.inline_max = inline_max;
	f->conf.counters = counters_of(&f->counters);
	int err = spool_writer_new(&f->conf, &ops, &f->dirs, f->loop, &f->w);

	if (err != 0)
		die("writer: %s", err_str(err));
	loop_add_hook(f->loop, spool_writer_poll, f->w);
}

__attribute__((unused)) static void fx_init(struct fixture *f, unsigned max_syncs,
					    unsigned inline_max)
{
	memset(f, 0, sizeof(*f));
	/* in memory where that is possible: t/crash has the real disks */
	snprintf(f->path, sizeof(f->path), "%s/spool-test-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm"
		 : access(".", W_OK) == 0      ? "."
					       : "/tmp");
	if (mkdtemp(f->path) == NULL || spool_dirs_open(f->path, true, &f->dirs) != 0)
		die("no directory for the test");
	if (counters_create("test", 1, &f->counters) != 0)
		die("no counters");
	f->next_number = 1;
	f->loop = loop_new();
	if (max_syncs > 0)
		fx_writer(f, max_syncs, inline_max);
	clock_tick();
}

__attribute__((unused)) static void fx_end_writer(struct fixture *f)
{
	spool_writer_free(&f->w);
	loop_free(&f->loop);
	f->loop = loop_new();
}

static void fx_remove_dir(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, e->d_name, 0) < 0)
			fx_remove_dir(fd, e->d_name);
	}
	if (d != NULL)
		closedir(d);
	unlinkat(at, name, AT_REMOVEDIR);
}

__attribute__((unused)) static void fx_fini(struct fixture *f)
{
	spool_writer_free(&f->w);
	loop_free(&f->loop);
	spool_dirs_close(&f->dirs);
	shm_region_close(&f->counters);
	fx_remove_dir(AT_FDCWD, f->path);
}

__attribute__((unused)) static struct spool_record fx_header(unsigned k)
{
	return (struct spool_record){
		.qid_us = 1700000000000000u + k, .qid_life = 7, .rcpt_count = 1, .size = k
	};
}

__attribute__((unused)) static struct qid fx_qid(unsigned k)
{
	return (struct qid){ 1700000000000000u + k, 7 };
}

/* Append message k with `len` bytes of content made from k; the cookie is k. */
__attribute__((unused)) static int fx_append(struct fixture *f, unsigned k, size_t len)
{
	struct spool_record h = fx_header(k);
	char env[32];
	char *content = xmalloc(len + 1);

	snprintf(env, sizeof(env), "envelope %u", k);
	memset(content, 'a' + (int)(k % 26), len);
	struct spool_iov iov[2] = { { content, len / 3 }, { content + len / 3, len - len / 3 } };
	int err = spool_writer_append(f->w, &h, sv_from(env), iov, 2, (void *)(uintptr_t)k);

	free(content);
	return err;
}

/* Reads message k back at `place` and compares everything. */
__attribute__((unused)) static bool fx_check(struct spool_reader *r, unsigned k, size_t len,
					     struct proto_place place)
{
	struct spool_record h;
	struct buf env = BUF_INIT, content = BUF_INIT;
	char want[32];
	bool good;

	snprintf(want, sizeof(want), "envelope %u", k);
	good = spool_read_head(r, fx_qid(k), place, true, &h, &env) == 0 &&
	       sv_eq_str(buf_sv(&env), want) && h.content_len == len &&
	       spool_read_content(r, &h, place, 0, len, &content) == 0 && content.len == len;
	for (size_t i = 0; good && i < len; i++)
		good = content.p[i] == 'a' + (char)(k % 26);
	buf_fini(&env);
	buf_fini(&content);
	return good;
}

#endif
