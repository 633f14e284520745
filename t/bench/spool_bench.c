/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the spool costs on this disk. Not a test.
 *   spool_bench commit [-s SESSIONS] [-k KIB] [-n MESSAGES] [-l LANES] [-i INLINE] [-r]
 *     SESSIONS closed-loop clients: each hands in its next message when the last one is committed
 *     -r: overwrite segments left by an earlier run instead of making new ones
 *   spool_bench scan [-n RECORDS]
 *     recovery of segments full of small records, by index and without
 * Works in ./spool-bench, which stays (remove it yourself).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/util.h"
#include "shm/counters.h"
#include "workers/spool/spool.h"

#define SEGMENT_BYTES (64u << 20)
#define MAX_SPARES    64

struct bench {
	struct spool_dirs dirs;
	struct loop *loop;
	struct spool_writer *w;
	struct shm_region counters;
	uint32_t next_number;
	unsigned needs;
	uint32_t spares[MAX_SPARES];
	unsigned spare_count;
	unsigned done, in_flight;
	int64_t begun_us[4096];
	unsigned latency_count;
	int64_t *latency_us;
};

static void committed(void *ctx, void *cookie, int err, const struct proto_place *place UNUSED)
{
	struct bench *b = ctx;

	if (err != 0)
		die("commit: %s", err_str(err));
	b->latency_us[b->done++] =
		clock_mono_us_raw() - b->begun_us[(uintptr_t)cookie % ARRAY_LEN(b->begun_us)];
	b->in_flight--;
}

static void need_file(void *ctx)
{
	((struct bench *)ctx)->needs++;
}

static void closed_file(void *ctx UNUSED, uint32_t number UNUSED, uint64_t bytes UNUSED)
{
}

static void turn(struct bench *b, int wait_ms)
{
	unsigned before = b->done;

	for (; b->needs > 0; b->needs--)
		spool_writer_grant(b->w, b->next_number++,
				   b->spare_count > 0 ? b->spares[--b->spare_count] : 0);
	if (!spool_writer_poll(b->w) &&
	    b->done == before) /* what was appended since the last turn */
		loop_turn(b->loop, wait_ms);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static int64_t cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec +
	       u.ru_stime.tv_usec;
}

static void start(struct bench *b, const char *dir, const struct spool_writer_conf *conf,
		  bool reuse)
{
	struct spool_writer_ops ops = { committed, need_file, closed_file, b };
	struct spool_writer_conf c = *conf;
	uint32_t *list;
	size_t count;

	if (spool_dirs_open(dir, true, &b->dirs) != 0 ||
	    counters_create("bench", 1, &b->counters) != 0)
		die("%s: cannot open", dir);
	if (spool_list(&b->dirs, SPOOL_SEGMENT, &list, &count) != 0)
		die("list");
	b->next_number = 1;
	for (size_t i = 0; i < count; i++) {
		bool kept;

		b->next_number = list[i] + 1;
		spool_segment_retire(&b->dirs, list[i], reuse ? MAX_SPARES : 0, &kept);
		if (kept)
			b->spares[b->spare_count++] = list[i];
	}
	free(list);
	c.counters = counters_of(&b->counters);
	b->loop = loop_new();
	if (spool_writer_new(&c, &ops, &b->dirs, b->loop, &b->w) != 0)
		die("writer");
	loop_add_hook(b->loop, spool_writer_poll, b->w);
	for (int i = 0; i < 200; i++)
		turn(b, 1);
}

static void load(struct bench *b, unsigned sessions, size_t bytes, unsigned messages)
{
	char *content = xcalloc(1, bytes);
	unsigned sent = 0;

	memset(content, 'x', bytes);
	b->done = 0;
	b->latency_us = xcalloc(messages, sizeof(*b->latency_us));
	while (b->done < messages) {
		bool full = false;

		while (sent < messages && b->in_flight < sessions && !full) {
			struct spool_record h = { .qid_us = 1700000000000000u + sent,
						  .qid_life = 1,
						  .rcpt_count = 1 };
			struct spool_iov iov = { content, bytes };

			b->begun_us[sent % ARRAY_LEN(b->begun_us)] = clock_mono_us_raw();
			full = spool_writer_append(b->w, &h, SV("envelope"), &iov, 1,
						   (void *)(uintptr_t)sent) != 0;
			if (!full) {
				sent++;
				b->in_flight++;
			}
		}
		turn(b, 100);
	}
	free(content);
}

static void bench_commit(struct bench *b, unsigned sessions, size_t bytes, unsigned messages)
{
	int64_t cpu = cpu_us(), t0 = clock_mono_us_raw();
	struct counters_shm *c = counters_of(&b->counters);
	uint64_t commits = atomic_load(&c->counter[CTR_spool_commits]);

	load(b, sessions, bytes, messages);
	int64_t took = clock_mono_us_raw() - t0;

	cpu = cpu_us() - cpu;
	commits = atomic_load(&c->counter[CTR_spool_commits]) - commits;
	qsort(b->latency_us, messages, sizeof(*b->latency_us), by_value);
	printf("sessions %u, %zu bytes: %.0f msg/s, %.1f msg/commit, %.0f commits/s, "
	       "latency p50 %lld p99 %lld us, CPU %.1f us/msg\n",
	       sessions, bytes, messages * 1e6 / (double)took,
	       (double)messages / (double)(commits ? commits : 1),
	       (double)commits * 1e6 / (double)took, (long long)b->latency_us[messages / 2],
	       (long long)b->latency_us[messages * 99ul / 100], (double)cpu / messages);
}

static int see(void *ctx, const struct spool_found *f)
{
	*(uint64_t *)ctx += f->place.len;
	return 0;
}

static void scan_all(struct bench *b, const char *what)
{
	struct spool_scan_stats stats = { 0 };
	uint64_t bytes = 0;
	uint32_t *list;
	size_t count;
	int64_t t0 = clock_mono_us_raw();

	if (spool_list(&b->dirs, SPOOL_SEGMENT, &list, &count) != 0)
		die("list");
	for (size_t i = 0; i < count; i++)
		spool_scan_segment(&b->dirs, list[i], 0, see, &bytes, &stats);
	free(list);
	printf("%s: %llu records of %llu bytes in %llu segments, %llu by index: %.3f s\n", what,
	       (unsigned long long)stats.records, (unsigned long long)bytes,
	       (unsigned long long)stats.segments, (unsigned long long)stats.index_rows,
	       (double)(clock_mono_us_raw() - t0) / 1e6);
}

static void bench_scan(struct bench *b, unsigned messages)
{
	load(b, 4000, 300, messages);
	spool_writer_free(&b->w);
	scan_all(b, "by index");
	if (system("rm -f ./spool-bench/seg/*.idx") != 0)
		die("rm");
	scan_all(b, "without");
}

int main(int argc, char **argv)
{
	static struct bench b;
	struct spool_writer_conf conf = { .segment_bytes = SEGMENT_BYTES,
					  .sync = true,
					  .max_syncs = 1 };
	unsigned sessions = 50, messages = 20000;
	size_t bytes = 4096;
	bool reuse = false;
	int c;

	if (argc < 2)
		return 2;
	while ((c = getopt(argc - 1, argv + 1, "s:k:n:l:i:r")) != -1) {
		unsigned long v = optarg != NULL ? strtoul(optarg, NULL, 10) : 0;

		if (c == 's')
			sessions = (unsigned)v;
		else if (c == 'k')
			bytes = v * 1024;
		else if (c == 'n')
			messages = (unsigned)v;
		else if (c == 'l')
			conf.max_syncs = (unsigned)v;
		else if (c == 'i')
			conf.inline_max = (unsigned)v;
		else if (c == 'r')
			reuse = true;
		else
			return 2;
	}
	clock_init();
	conf.sync = strcmp(argv[1], "scan") != 0;
	start(&b, "spool-bench", &conf, reuse);
	if (conf.sync)
		bench_commit(&b, sessions, bytes, messages);
	else
		bench_scan(&b, messages);
	spool_writer_free(&b.w);
	return 0;
}
