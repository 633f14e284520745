/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The log worker: drains the log ring of every process into maillog_file (or syslog when that is
 * empty). While lines come it looks every few milliseconds and nobody wakes it; when none have come
 * for a while it asks to be woken. A log that cannot be written is counted and dropped here: rings
 * are drained whatever happens, so that no other process ever sees a full one for long.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "workers/common/logring.h"
#include "workers/common/worker.h"
#include "workers/log/budget.h"
#include "workers/log/format.h"
#include "workers/log/tags.h"

#define MAX_RINGS   400
#define POLL_MS     20
#define ROUNDS_MAX  16
#define IDLE_MS     500
#define OUT_BYTES   65536
#define REPORT_MS   10000
#define TEXT_MAX    2048 /* of a line; lib/log.c makes no longer ones */
#define BATCH_LINES 4096 /* lines of all rings that are put into order together */

struct source {
	bool used, damaged;
	enum worker_class class_id;
	unsigned slot;
	uint32_t life;
	struct shm_region region;
	struct ring_cons cons;
	struct log_budget budget;
};

/* A line of the present batch: its text lies in state.text. Lines of one message come from several
 * processes, so a batch is sorted by time before it is written. */
struct pending {
	int64_t wall_us;
	uint32_t order; /* keeps the order within a ring */
	uint32_t pid;
	uint32_t off;
	uint16_t text_len;
	uint8_t program_len;
	uint8_t level;
};

struct log_state {
	struct source sources[MAX_RINGS];
	unsigned high; /* places in use are below */
	int fd;        /* the file, or -1 */
	int syslog_fd;
	unsigned facility;
	bool json;
	char host[256];
	const char *syslog_name;
	struct pending pending[BATCH_LINES];
	unsigned pending_count;
	struct buf text; /* programs and texts of the pending lines */
	struct buf out;
	struct loop_timer poll;
	int64_t last_line_ms;
	bool idle, more; /* more: lines were left when the last look ended */
	int64_t rate;    /* log_rate_limit */
	uint64_t lost, lost_reported;
	int64_t next_report_ms, next_suppressed_ms;
	char rec[RING_RECORD_MAX];
};

static struct log_state state;

static void connect_syslog(struct log_state *s)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };

	s->syslog_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->syslog_fd >= 0 && connect(s->syslog_fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		io_close(&s->syslog_fd);
}

static int log_init(struct worker *w)
{
	struct log_state *s = &state;
	const char *path = w->params->maillog_file;
	int facility = log_facility(w->params->syslog_facility);

	w->state = s;
	s->fd = s->syslog_fd = -1;
	s->facility = facility < 0 ? 2 : (unsigned)facility;
	s->json = w->params->maillog_format == 1;
	s->rate = w->params->log_rate_limit;
	buf_init(&s->out, 0);
	s->syslog_name = w->params->syslog_name;
	snprintf(s->host, sizeof(s->host), "%s", w->params->myhostname);
	/* syslog shows the node name up to the first dot; so do we */
	s->host[strcspn(s->host, ".")] = '\0';
	if (w->check_only)
		return 0;
	if (path[0] == '\0') {
		connect_syslog(s);
		return 0;
	}
	if (strcmp(path, "/dev/stdout") == 0)
		s->fd = fcntl(1, F_DUPFD_CLOEXEC, 0);
	else
		s->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (s->fd < 0)
		die("maillog_file: open %s: %s", path, strerror(errno));
	return 0;
}

static void write_out(struct log_state *s)
{
	if (s->out.len == 0)
		return;
	int err = s->fd < 0 ? E_NOENT : io_write_all(s->fd, s->out.p, s->out.len);

	if (err != 0) {
		for (size_t i = 0; i < s->out.len; i++)
			s->lost += s->out.p[i] == '\n';
	}
	buf_reset(&s->out);
}

static void put_line(struct log_state *s, const struct log_line *l)
{
	if (s->fd >= 0) {
		if (s->json)
			log_format_json(l, s->host, &s->out);
		else
			log_format_file(l, s->host, &s->out);
		if (s->out.len >= OUT_BYTES)
			write_out(s);
		return;
	}
	if (s->syslog_fd >= 0) {
		log_format_syslog(l, s->facility, &s->out);
		if (send(s->syslog_fd, s->out.p, s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			s->lost++;
		buf_reset(&s->out);
	} else {
		s->lost++;
	}
}

/* The record comes from another process: lengths are checked before use. */
static void take_record(struct log_state *s, struct source *src, size_t len)
{
	struct logring_record rec;
	char tag[100];

	if (len < sizeof(rec))
		return;
	memcpy(&rec, s->rec, sizeof(rec));
	if (len != sizeof(rec) + rec.program_len + rec.text_len || rec.level > LOG_LEVEL_PANIC)
		return;
	rec.text_len = (uint16_t)size_min(rec.text_len, TEXT_MAX);
	/* the supervisor hears no strangers, and says what becomes of those that do */
	if (src->class_id != CLASS_SUPERVISOR &&
	    !log_budget_take(&src->budget, s->rate, (size_t)rec.program_len + rec.text_len))
		return;
	str_make_printable(s->rec + sizeof(rec), (size_t)rec.program_len + rec.text_len);
	struct sv program = { s->rec + sizeof(rec), rec.program_len };
	struct sv text = { program.p + program.len, rec.text_len };

	/* a worker writes in its own name only */
	if (!log_tag_ok(src->class_id, program)) {
		snprintf(tag, sizeof(tag), "%.60s/%s", s->syslog_name, log_tag_of(src->class_id));
		program = sv_from(tag);
	}
	unsigned n = s->pending_count++;

	s->pending[n] = (struct pending){ .wall_us = rec.wall_us,
					  .order = n,
					  .pid = rec.pid,
					  .off = (uint32_t)s->text.len,
					  .text_len = rec.text_len,
					  .program_len = (uint8_t)program.len,
					  .level = rec.level };
	buf_add_sv(&s->text, program);
	buf_add_sv(&s->text, text);
}

static int by_time(const void *a, const void *b)
{
	const struct pending *x = a, *y = b;

	if (x->wall_us != y->wall_us)
		return x->wall_us < y->wall_us ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static void write_batch(struct log_state *s)
{
	qsort(s->pending, s->pending_count, sizeof(*s->pending), by_time);
	for (unsigned i = 0; i < s->pending_count; i++) {
		const struct pending *p = &s->pending[i];
		struct log_line l = { .wall_us = p->wall_us,
				      .pid = p->pid,
				      .level = (enum log_level)p->level,
				      .program = { s->text.p + p->off, p->program_len },
				      .text = { s->text.p + p->off + p->program_len,
						p->text_len } };

		put_line(s, &l);
	}
	s->pending_count = 0;
	buf_reset(&s->text);
	write_out(s);
}

/* Its writer is broken or taken over, or a log worker before us was. Nobody is ended for a log. */
static void skip_damage(struct log_state *s, struct source *src)
{
	if (!src->damaged)
		log_warn("log ring of a worker (class %d, life %u) was damaged: lines of it are "
			 "lost",
			 (int)src->class_id, src->life);
	src->damaged = true;
	s->lost++;
	ring_cons_skip(&src->cons);
}

static unsigned drain_source(struct log_state *s, struct source *src, unsigned limit)
{
	unsigned n = 0;
	size_t len;

	int got = 0;

	log_budget_fill(&src->budget, s->rate, clock_now().ms);
	while (n < limit && s->pending_count < BATCH_LINES &&
	       (got = ring_get(&src->cons, s->rec, sizeof(s->rec), &len)) == 1) {
		take_record(s, src, len);
		n++;
	}
	if (got < 0)
		skip_damage(s, src);
	ring_release(&src->cons);
	return n;
}

/* What a process had to say and did not get into the log. */
static void report_suppressed(struct worker *w, struct log_state *s, struct source *src)
{
	uint64_t n = src->budget.suppressed;

	if (n == 0)
		return;
	counter_add(w->counters, CTR_log_suppressed, n);
	log_warn("%llu log lines of %s/%s (slot %u, life %u) suppressed: more than log_rate_limit",
		 (unsigned long long)n, s->syslog_name, log_tag_of(src->class_id), src->slot,
		 src->life);
	src->budget.suppressed = 0;
}

static void report_all_suppressed(struct worker *w, struct log_state *s)
{
	if (clock_now().ms < s->next_suppressed_ms)
		return;
	s->next_suppressed_ms = clock_now().ms + REPORT_MS;
	for (unsigned i = 0; i < s->high; i++) {
		if (s->sources[i].used)
			report_suppressed(w, s, &s->sources[i]);
	}
}

static void report_losses(struct worker *w, struct log_state *s)
{
	if (s->lost == s->lost_reported || clock_now().ms < s->next_report_ms)
		return;
	counter_add(w->counters, CTR_log_dropped, s->lost - s->lost_reported);
	log_warn("%llu log lines could not be written",
		 (unsigned long long)(s->lost - s->lost_reported));
	s->lost_reported = s->lost;
	s->next_report_ms = clock_now().ms + REPORT_MS;
}

static void drain_all(struct worker *w)
{
	struct log_state *s = w->state;
	unsigned n, rounds = 0;

	/* a worker that writes without end must not keep us from our control socket */
	do {
		n = 0;
		for (unsigned i = 0; i < s->high; i++) {
			if (s->sources[i].used)
				n += drain_source(s, &s->sources[i], 1000);
		}
		if (n > 0)
			s->last_line_ms = clock_now().ms;
		write_batch(s);
	} while (n >= 1000 && ++rounds < ROUNDS_MAX);
	s->more = n >= 1000;
	report_losses(w, s);
	report_all_suppressed(w, s);
}

static bool owes_report(const struct log_state *s)
{
	for (unsigned i = 0; i < s->high; i++) {
		if (s->sources[i].used && s->sources[i].budget.suppressed > 0)
			return true;
	}
	return false;
}

static void poll_tick(void *ctx)
{
	struct worker *w = ctx;
	struct log_state *s = w->state;

	drain_all(w);
	s->idle = clock_now().ms - s->last_line_ms > IDLE_MS && !owes_report(s);
	if (!s->idle)
		loop_timer_set(&s->poll, s->more ? 0 : POLL_MS);
}

/* Going to sleep for good: ask to be woken by the first line. */
static bool log_presleep(void *ctx)
{
	struct worker *w = ctx;
	struct log_state *s = w->state;
	bool awake = false;

	if (!s->idle)
		return false;
	for (unsigned i = 0; i < s->high; i++) {
		if (s->sources[i].used && ring_cons_sleep(&s->sources[i].cons))
			awake = true;
	}
	return awake;
}

static bool log_turn(struct worker *w)
{
	struct log_state *s = w->state;

	if (!s->idle)
		return false;
	/* woken: back to looking by the clock */
	for (unsigned i = 0; i < s->high; i++) {
		if (s->sources[i].used)
			ring_cons_awake(&s->sources[i].cons);
	}
	s->idle = false;
	s->last_line_ms = clock_now().ms;
	loop_timer_set(&s->poll, 0);
	return false;
}

static int log_start(struct worker *w)
{
	struct log_state *s = w->state;

	loop_timer_init(w->loop, &s->poll, poll_tick, w);
	loop_timer_set(&s->poll, POLL_MS);
	loop_add_presleep(w->loop, log_presleep, w);
	return 0;
}

static void log_attach(struct worker *w, struct worker_peer *peer)
{
	struct log_state *s = w->state;
	size_t len;

	for (unsigned i = 0; i < MAX_RINGS; i++) {
		struct source *src = &s->sources[i];

		if (src->used)
			continue;
		void *mem = logring_mem(&peer->region, &len);

		if (ring_cons_attach(&src->cons, mem, len, -1) != 0)
			return;
		src->used = true;
		src->damaged = false;
		src->budget = (struct log_budget){ 0 };
		src->class_id = peer->class_id;
		src->slot = peer->slot;
		src->life = peer->life;
		src->region = peer->region;
		peer->region = SHM_REGION_INIT;
		if (i >= s->high)
			s->high = i + 1;
		return;
	}
}

static void log_detach(struct worker *w, struct worker_peer *peer)
{
	struct log_state *s = w->state;

	for (unsigned i = 0; i < s->high; i++) {
		struct source *src = &s->sources[i];

		if (!src->used || src->class_id != peer->class_id || src->slot != peer->slot ||
		    src->life != peer->life)
			continue;
		/* a whole ring, and no more: something that outlived the process may still write */
		for (size_t left = src->cons.size / 8, n = 1; n > 0 && left >= n; left -= n) {
			n = drain_source(s, src, 1000);
			write_batch(s);
		}
		report_suppressed(w, s, src);
		shm_region_close(&src->region);
		src->used = false;
	}
}

static void log_drain(struct worker *w)
{
	drain_all(w);
	worker_exit(w);
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_LOG,
		.program = "postlog",
		.init = log_init,
		.start = log_start,
		.attach = log_attach,
		.detach = log_detach,
		.turn = log_turn,
		.drain = log_drain,
	};

	return worker_main(argc, argv, &ops);
}
