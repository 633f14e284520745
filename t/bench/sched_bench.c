/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the scheduler costs: messages through PROTO_NEW, PROTO_JOB and PROTO_RESULT with workers
 * that answer at once, for one and for many destinations, and memory per deferred message. usage:
 * sched_bench [MESSAGES]
 */
#include <time.h>

#include "t/unit/daemon/sched_world.h"

#define RW    100
#define DW    200
#define BATCH 500

static struct proto_result answers[65536];
static size_t answer_count;

static int answer_send(void *ctx UNUSED, enum worker_class class_id UNUSED, unsigned slot UNUSED,
		       const void *rec, size_t len UNUSED)
{
	const struct proto_job *j = rec;

	if (answer_count == ARRAY_LEN(answers))
		return E_AGAIN;
	answers[answer_count++] = (struct proto_result){ .kind = PROTO_RESULT,
							 .word = j->ref.word,
							 .entry = j->ref.entry,
							 .sent = j->ref.mask };
	return 0;
}

static void quiet(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		  const char *text UNUSED, size_t len UNUSED)
{
}

static double cpu_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void new_message(struct world *w, uint32_t dest)
{
	struct {
		struct proto_new n;
		struct proto_entry e;
	} r = { .n = { .kind = PROTO_NEW,
		       .qid = { .time_us = ++w->next_us, .life = 7 },
		       .place = { .seg = 1, .len = 1000 },
		       .rcpt_count = 1,
		       .entry_total = 1,
		       .entry_count = 1 },
		.e = { .dest = dest, .mask = 1 } };

	if (sched_input(w->s, CLASS_REWRITE, 0, RW, &r, sizeof(r)) != 0)
		bug("bench: refused");
}

static void through(const char *what, unsigned messages, unsigned dests, bool log)
{
	static struct world w;
	char name[64];

	world_init_sized(&w, "deliver_connection_limit = 20000\n", 1u << 20, 16384, NULL);
	if (!log)
		log_set_sink(quiet, NULL);
	w.s->su.ops.send = answer_send;
	world_up(&w, CLASS_REWRITE, 0, RW);
	world_up(&w, CLASS_DELIVER, 0, DW);
	for (unsigned i = 0; i < dests; i++) {
		snprintf(name, sizeof(name), "mx%u.example.com", i);
		w_dest(&w, RW, i, "smtp", name);
	}
	double start = cpu_s();
	unsigned done = 0, made = 0;

	while (done < messages) {
		for (unsigned i = 0; i < BATCH && made < messages; i++, made++)
			new_message(&w, made % dests);
		sched_turn(w.s);
		for (size_t i = 0; i < answer_count; i++)
			sched_input(w.s, CLASS_DELIVER, 0, DW, &answers[i], sizeof(answers[i]));
		done += (unsigned)answer_count;
		answer_count = 0;
	}
	double used = cpu_s() - start;

	printf("%s: %u messages, %u destinations: %.0f ns per message\n", what, messages, dests,
	       used * 1e9 / messages);
	world_fini(&w);
}

static void deferred(unsigned messages)
{
	static struct world w;
	struct sched_found m = { .place = { .seg = 1, .len = 1000 } };
	struct sched_found_entry e = { .mask = 1, .state = QS_DEFERRED };

	world_init_sized(&w, "", messages + 1024, 4096, NULL);
	log_set_sink(quiet, NULL);
	double start = cpu_s();

	for (unsigned i = 0; i < messages; i++) {
		m.qid = (struct qid){ .time_us = ++w.next_us, .life = 7 };
		e.due_s = (uint32_t)(W_START_MS / 1000 + i % 4000);
		if (sched_add_found(w.s, &m, &e, 1) != 0)
			bug("bench: no room");
	}
	double used = cpu_s() - start;
	double bytes = (double)messages * (sizeof(struct qmsg) + sizeof(struct qentry)) +
		       (double)w.q.bucket_cap * sizeof(uint32_t) + (double)wheel_bytes(&w.s->wheel);

	printf("deferred: %u messages: %.1f bytes each, %.0f ns to add each\n", messages,
	       bytes / messages, used * 1e9 / messages);
	world_fini(&w);
}

int main(int argc, char **argv)
{
	unsigned messages = argc > 1 ? (unsigned)atoi(argv[1]) : 1000000;

	through("quiet log", messages, 1, false);
	through("quiet log", messages, 10000, false);
	through("log kept", messages / 10, 1, true);
	deferred(messages);
	return 0;
}
