/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Destinations: feedback, death and revival, limits, rates, fairness, shares, reload. */
#include "t/unit/daemon/sched_world.h"

#define RW 100
#define DW 200

static void begin(struct world *w, const char *main_cf)
{
	world_init(w, main_cf);
	world_up(w, CLASS_REWRITE, 0, RW);
	world_up(w, CLASS_DELIVER, 0, DW);
	w_dest(w, RW, 0, "smtp", "a.example");
	w_dest(w, RW, 1, "smtp", "b.example");
}

/* ---- the arithmetic, against Postfix's numbers ---- */

static struct window_conf wconf(uint32_t initial, uint32_t limit, const char *fb)
{
	struct window_conf c = { .initial = initial, .limit = limit, .cohort_limit = 1 };

	if (feedback_parse(fb, &c.up) != 0 || feedback_parse(fb, &c.down) != 0)
		bug("test: feedback");
	return c;
}

static int failures_to_death(uint32_t window, const char *fb)
{
	struct window_conf c = wconf(5, 20, fb);
	struct window w = { .size = window };
	int n = 1;

	while (!window_bad(&w, &c) && n < 1000)
		n++;
	return n;
}

static int good_to_full(const char *fb)
{
	struct window_conf c = wconf(5, 20, fb);
	struct window w;
	int n = 0;

	for (window_reset(&w, &c); w.size < 20 && n < 10000; n++)
		window_good(&w, &c, w.size);
	return n;
}

static void test_feedback(void)
{
	struct feedback fb;

	is_int(failures_to_death(5, "1"), 3, "a fresh destination dies of 3 failures");
	is_int(failures_to_death(10, "1"), 7, "window 10: of 7");
	is_int(failures_to_death(20, "1"), 13, "window 20: of 13");
	is_int(failures_to_death(5, "1/concurrency"), 5, "1/concurrency, window 5: of 5");
	is_int(failures_to_death(10, "1/concurrency"), 10, "window 10: of 10");
	is_int(failures_to_death(20, "1/concurrency"), 20, "window 20: of 20");
	is_int(good_to_full("1"), 15, "from 5 to 20 in 15 good deliveries");
	is_int(good_to_full("1/concurrency"), 180, "with 1/concurrency in 180");
	int root = good_to_full("1/sqrt_concurrency");

	ok(root > 15 && root < 180, "with 1/sqrt_concurrency in between: %d", root);
	struct window_conf c = wconf(5, 20, "1");
	struct window w = { .size = 10 };

	window_good(&w, &c, 3);
	is_int(w.size, 10, "a window that is not made use of does not grow");
	c.cohort_limit = 0;
	for (int i = 0; i < 1000; i++)
		window_bad(&w, &c);
	is_int(w.size, 1, "without a cohort limit nothing dies");
	is_int(feedback_parse("0.5/concurrency", &fb), 0, "a factor can be given");
	is_int(feedback_parse("0", &fb), E_SYNTAX, "0 cannot");
	is_int(feedback_parse("1/x", &fb), E_SYNTAX, "nor another unit");
	is_int(feedback_parse("2", &fb), E_SYNTAX, "nor more than 1");
	is_int(feedback_parse("", &fb), E_SYNTAX, "nor nothing");
}

/* ---- death ---- */

static void test_dead(void)
{
	struct world w;
	struct drow row;
	struct sv why;

	begin(&w, "");
	w.reason = "connect to a.example[10.0.0.1]:25: Connection refused";
	for (int i = 0; i < 50; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	is_int(world_left(&w), 5, "as many jobs as the initial window");
	uint32_t dest = w.sent[0].u.job.dest;

	for (int i = 0; i < 3; i++)
		w_result(&w, world_next(&w), DW, 0, 1, 0, JOB_HEALTH_SITE);
	ok(w.s->dests[dest].dead, "three failures: dead");
	world_turn(&w);
	is_int(w.s->count[QS_READY], 0, "nothing waits for it any more");
	is_int(w.s->count[QS_DEFERRED], 48, "all that waited is deferred");
	is_int(world_left(&w), 2, "and nothing more was handed out");
	world_pass(&w, 100);
	ok(sched_is_suspended(w.s, dest, &why) && why.len > 0, "the reason is known");
	ok(dtab_read(&w.d, dest, &row) && row.window == 0 &&
		   row.suspend_until_s == W_START_MS / 1000 + 300,
	   "and the time until when, in the table");
	w_new(&w, RW, 0, 0, 1, NULL);
	w_new(&w, RW, 0, 1, 1, NULL);
	world_turn(&w);
	is_int(w.s->count[QS_DEFERRED], 49, "fresh mail for it is deferred at once");
	is_int(world_left(&w), 3, "mail for others goes out");
	w_result(&w, world_next(&w), DW, 1, 0, 0, JOB_HEALTH_NONE);
	world_next(&w);
	w_result(&w, world_next(&w), DW, 1, 0, 0, JOB_HEALTH_OK);
	size_t before = w.sent_count;

	world_pass(&w, 299000);
	is_int(w.sent_count, before, "no attempt while it is suspended");
	ok(w.s->dests[dest].dead, "still dead");
	world_pass(&w, 2000);
	ok(!w.s->dests[dest].dead, "until minimal_backoff_time is over");
	is_int(w.s->dests[dest].window.size, 5, "then it begins anew");
	world_fini(&w);
}

/* Due mail of a destination that is suspended waits without going through a rewrite worker. */
static void test_dead_due(void)
{
	struct world w;

	begin(&w, "minimal_backoff_time = 1000s\n");
	for (int i = 0; i < 5; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	w_result(&w, world_next(&w), DW, 0, 1, 0, JOB_HEALTH_OK);
	world_pass(&w, 900000);
	for (int i = 0; i < 4; i++)
		w_result(&w, world_next(&w), DW, 0, 1, 0, JOB_HEALTH_SITE);
	size_t before = w.sent_count;

	for (int i = 0; i < 300; i++)
		world_pass(&w, 1000);
	is_int(w.sent_count, before, "due, but its destination is dead");
	is_int(w.s->count[QS_DEFERRED], 5, "so it stays deferred");
	for (int i = 0; i < 1500; i++)
		world_pass(&w, 1000);
	ok(w.sent_count > before, "and is loaded when the suspension is over");
	world_fini(&w);
}

static void test_success_revives(void)
{
	struct world w;

	begin(&w, "");
	for (int i = 0; i < 5; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	uint32_t dest = w.sent[0].u.job.dest;

	for (int i = 0; i < 3; i++)
		w_result(&w, world_next(&w), DW, 0, 1, 0, JOB_HEALTH_SITE);
	ok(w.s->dests[dest].dead, "dead");
	w_result(&w, world_next(&w), DW, 1, 0, 0, JOB_HEALTH_OK);
	ok(!w.s->dests[dest].dead, "a delivery that was out and got through revives it");
	world_fini(&w);
}

/* One dead and one slow destination; a third gets its mail through undisturbed. */
static void test_no_delay_for_others(void)
{
	struct world w;
	unsigned done = 0;

	begin(&w, "");
	w_dest(&w, RW, 2, "smtp", "c.example");
	for (int i = 0; i < 2000; i++) {
		w_new(&w, RW, 0, 0, 1, NULL);
		w_new(&w, RW, 0, 1, 1, NULL);
	}
	for (int i = 0; i < 200; i++)
		w_new(&w, RW, 0, 2, 1, NULL);
	for (int turn = 0; turn < 60; turn++) {
		world_turn(&w);
		for (struct sent_rec *j; (j = world_next(&w)) != NULL;) {
			const char *name = j->u.bytes + sizeof(j->u.job);

			if (name[0] == 'a')
				w_result(&w, j, DW, 0, 1, 0, JOB_HEALTH_SITE);
			else if (name[0] == 'c')
				done += w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK) == 0;
			/* b never answers */
		}
	}
	is_int(done, 200, "all of the third one's mail is through");
	is_int(w.s->count[QS_BUSY], 5, "the slow one holds its window and no more");
	world_fini(&w);
}

/* ---- fairness ---- */

/* A big mailing of one message does not hold up small messages behind it. */
static void test_big_and_small(void)
{
	struct world w;
	struct qid small;
	unsigned before_small = 0;
	bool seen = false;

	begin(&w, "");
	w_new(&w, RW, 0, 0, 1000, NULL);
	w_new(&w, RW, 0, 0, 1, &small);
	world_turn(&w);
	for (struct sent_rec *j; !seen && (j = world_next(&w)) != NULL; world_turn(&w)) {
		seen = j->u.job.ref.qid.time_us == small.time_us;
		before_small += !seen;
		w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
	}
	ok(seen && before_small < 10, "the small message is not behind the big one: %u before it",
	   before_small);
	world_fini(&w);
}

/* A sender's thousand messages do not hold up another sender's one. */
static void test_flows(void)
{
	struct world w;
	struct qid other;
	unsigned before = 0;
	bool seen = false;

	begin(&w, "");
	for (int i = 0; i < 1000; i++)
		w_new(&w, RW, 3u << MSGF_FLOW_SHIFT, 0, 1, NULL);
	w_new(&w, RW, 5u << MSGF_FLOW_SHIFT, 0, 1, &other);
	world_turn(&w);
	for (struct sent_rec *j; !seen && (j = world_next(&w)) != NULL; world_turn(&w)) {
		seen = j->u.job.ref.qid.time_us == other.time_us;
		before += !seen;
		w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
	}
	ok(seen && before < 10, "senders take turns: %u before it", before);
	world_fini(&w);
}

/* When the workers are the bottleneck, destinations share them. */
static void test_round_robin(void)
{
	struct world w;
	unsigned got[8] = { 0 }, least = UINT32_MAX, most = 0;

	begin(&w, "deliver_connection_limit = 8\ninitial_destination_concurrency = 20\n");
	for (uint32_t d = 0; d < 8; d++) {
		char name[20];

		snprintf(name, sizeof(name), "%u.example", d);
		w_dest(&w, RW, d, "smtp", name);
		for (int i = 0; i < (d == 0 ? 2000 : 200); i++)
			w_new(&w, RW, 0, d, 1, NULL);
	}
	for (unsigned n = 0; n < 800; n++) {
		world_turn(&w);
		struct sent_rec *j = world_next(&w);

		if (j == NULL)
			break;
		got[j->u.bytes[sizeof(j->u.job)] - '0']++;
		w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
	}
	for (unsigned d = 0; d < 8; d++) {
		least = got[d] < least ? got[d] : least;
		most = got[d] > most ? got[d] : most;
	}
	ok(least > 60 && most < 150, "eight destinations get alike: %u to %u of 800", least, most);
	world_fini(&w);
}

/* ---- limits ---- */

static void test_window_limit(void)
{
	struct world w;
	unsigned out = 0, most = 0;

	begin(&w, "default_destination_concurrency_limit = 7\n");
	for (int i = 0; i < 500; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	for (int i = 0; i < 100; i++) {
		world_turn(&w);
		struct sent_rec *j = world_next(&w);

		most = j->u.job.window > most ? j->u.job.window : most;
		out = w.s->dests[j->u.job.dest].window.size;
		w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
	}
	is_int(out, 7, "the window grows to the limit");
	is_int(most, 7, "no worker is told more");
	ok(sched_outstanding(w.s) <= 7 * 5, "and queues a bounded number of jobs: %u",
	   (unsigned)sched_outstanding(w.s));
	world_fini(&w);
}

/* The connections of all workers together never exceed the window. */
static void test_shares(void)
{
	struct world w;
	unsigned windows[3] = { 0 };

	begin(&w, "");
	world_up(&w, CLASS_DELIVER, 1, 201);
	world_up(&w, CLASS_DELIVER, 2, 202);
	for (int i = 0; i < 3000; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	bool within = true;

	for (int i = 0; i < 400; i++) {
		world_turn(&w);
		struct sent_rec *j = world_next(&w);

		windows[j->slot] = j->u.job.window;
		within = within && windows[0] + windows[1] + windows[2] <=
					   w.s->dests[j->u.job.dest].window.size + 2;
		w_result(&w, j, 200 + j->slot, 1, 0, 0, JOB_HEALTH_OK);
	}
	ok(within, "the workers' shares stay within the window");
	is_int(windows[0] + windows[1] + windows[2], 20, "and make it up");
	world_fini(&w);
}

/* A quiet destination stays on one worker. */
static void test_affinity(void)
{
	struct world w;
	unsigned slots = 0;

	begin(&w, "");
	world_up(&w, CLASS_DELIVER, 1, 201);
	for (int i = 0; i < 50; i++) {
		w_new(&w, RW, 0, 0, 1, NULL);
		world_turn(&w);
		struct sent_rec *j = world_next(&w);

		slots |= 1u << j->slot;
		w_result(&w, j, 200 + j->slot, 1, 0, 0, JOB_HEALTH_OK);
	}
	ok(slots == 1 || slots == 2, "one message at a time goes to the same worker");
	world_fini(&w);
}

static void test_maxproc(void)
{
	struct world w;

	begin(&w, "");
	for (uint32_t d = 0; d < 10; d++) {
		char name[20];

		snprintf(name, sizeof(name), "%u.example", d);
		w_dest(&w, RW, d, "slow", name);
		for (int i = 0; i < 10; i++)
			w_new(&w, RW, 0, d, 1, NULL);
	}
	unsigned done = 0, most = 0;

	for (;;) {
		world_turn(&w);
		unsigned out = (unsigned)world_left(&w);

		most = out > most ? out : most;
		struct sent_rec *j = world_next(&w);

		if (j == NULL)
			break;
		done += w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_NONE) == 0;
	}
	is_int(most, 3, "a transport's maxproc bounds its deliveries");
	is_int(done, 100, "and all get through");
	world_fini(&w);
}

static void test_rate_delay(void)
{
	struct world w;
	unsigned jobs = 0;

	begin(&w, "smtp_destination_rate_delay = 1s\n");
	for (int i = 0; i < 20; i++)
		w_new(&w, RW, 0, 0, 1, NULL);
	w_new(&w, RW, 0, 1, 1, NULL);
	world_turn(&w);
	is_int(world_left(&w), 2, "one delivery at a time per destination");
	w_result(&w, world_next(&w), DW, 1, 0, 0, JOB_HEALTH_OK);
	w_result(&w, world_next(&w), DW, 1, 0, 0, JOB_HEALTH_OK);
	world_turn(&w);
	is_int(world_left(&w), 0, "then a pause");
	for (int i = 0; i < 100; i++) {
		world_pass(&w, 100);
		for (struct sent_rec *j; (j = world_next(&w)) != NULL; jobs++) {
			w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
			world_turn(&w);
		}
	}
	ok(jobs >= 9 && jobs <= 10, "ten seconds: %u deliveries", jobs);
	world_fini(&w);
}

static void test_transport_delay(void)
{
	struct world w;
	unsigned jobs = 0;

	begin(&w, "smtp_transport_rate_delay = 2s\n");
	for (int i = 0; i < 10; i++) {
		w_new(&w, RW, 0, 0, 1, NULL);
		w_new(&w, RW, 0, 1, 1, NULL);
	}
	world_turn(&w);
	for (int i = 0; i < 100; i++) {
		for (struct sent_rec *j; (j = world_next(&w)) != NULL; jobs++) {
			w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
			world_turn(&w);
		}
		world_pass(&w, 100);
	}
	ok(jobs >= 5 && jobs <= 6, "one delivery per two seconds for the whole transport: %u",
	   jobs);
	world_fini(&w);
}

/* ---- rows and configurations ---- */

static void test_rows_are_freed(void)
{
	struct world w;
	char name[40];

	world_init_sized(&w, "", 65536, 64, NULL);
	world_up(&w, CLASS_REWRITE, 0, RW);
	world_up(&w, CLASS_DELIVER, 0, DW);
	unsigned through = 0;

	for (uint32_t i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "%u.example", i);
		w_dest(&w, RW, i, "smtp", name);
		w_new(&w, RW, 0, i, 1, NULL);
		world_turn(&w);
		struct sent_rec *j = world_next(&w);

		if (j != NULL)
			through += w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK) == 0;
		world_turn(&w);
	}
	is_int(through, 1000, "a small table serves many destinations one after the other");
	w_new(&w, RW, 0, 0, 1, NULL);
	world_turn(&w);
	struct sent_rec *j = world_next(&w);

	ok(j != NULL && memcmp(j->u.bytes + sizeof(j->u.job), "0.example", 9) == 0,
	   "a worker's old number still means its name");
	w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
	for (uint32_t i = 0; i < 100; i++)
		w_new(&w, RW, 0, i, 1, NULL);
	is_int(w.s->count[QS_DEFERRED], 36, "when all rows are in use the rest waits");
	for (int i = 0; i < 10; i++) {
		world_turn(&w);
		while ((j = world_next(&w)) != NULL)
			w_result(&w, j, DW, 1, 0, 0, JOB_HEALTH_OK);
	}
	world_pass(&w, 61000);
	world_pass(&w, 61000);
	is_int(w.d.shm->live, 0, "unused rows are given up after a while");
	world_fini(&w);
}

static void test_reload(void)
{
	struct world w;

	begin(&w, "");
	w_dest(&w, RW, 2, "slow", "c.example");
	for (int i = 0; i < 10; i++) {
		w_new(&w, RW, 0, 0, 1, NULL);
		w_new(&w, RW, 0, 2, 1, NULL);
	}
	world_turn(&w);
	is_int(w.sent[0].u.job.transport, 0, "smtp is the first transport");
	struct conf *old = w.conf;

	/* slow is gone, smtp has another place */
	w.conf = world_conf(&w, "default_destination_concurrency_limit = 2\n",
			    "virtual unix - n n - - virtual\nsmtp unix - - n - - smtp\n");
	is_int(sched_reload(w.s, w.conf, 2), 0, "reload");
	conf_free(&old);
	world_up(&w, CLASS_DELIVER, 1, 201);
	is_int(sched_worker_up(w.s, CLASS_DELIVER, 1, 202, 2), E_INVAL, "the slot is taken");
	is_int(sched_worker_up(w.s, CLASS_DELIVER, 2, 202, 2), 0, "a worker of the new one");
	sched_worker_drain(w.s, CLASS_DELIVER, 0, DW);
	sched_worker_drain(w.s, CLASS_DELIVER, 1, 201);
	is_int(sched_worker_load(w.s, CLASS_DELIVER, 0), 8, "the old one still has its jobs");
	size_t mark = w.sent_count;

	world_turn(&w);
	unsigned loads = 0;

	for (size_t i = mark; i < w.sent_count; i++)
		loads += w.sent[i].u.kind == PROTO_LOAD;
	is_int(loads, 7, "mail that waited for the vanished transport is resolved again");
	for (size_t i = 0; i < mark; i++)
		w_result(&w, &w.sent[i], DW, 1, 0, 0, JOB_HEALTH_OK);
	is_int(sched_worker_load(w.s, CLASS_DELIVER, 0), 0, "until it has answered them");
	world_turn(&w);
	bool right = w.sent_count > mark;

	for (size_t i = mark; i < w.sent_count; i++) {
		if (w.sent[i].u.kind == PROTO_JOB)
			right = right && w.sent[i].slot == 2 && w.sent[i].u.job.transport == 1;
	}
	ok(right, "new jobs name the transport as the new worker knows it");
	ok(w.s->dests[w.sent[0].u.job.dest].window.size <= 2, "the new limit holds");
	is_int(w_dest(&w, RW, 3, "nosuch", "x"), 0, "a transport that does not exist");
	is_int(w_new(&w, RW, 0, 3, 1, NULL), 0, "can be named");
	ok(strstr(w.log, "nosuch") != NULL, "is warned about");
	ok(w.s->count[QS_DEFERRED] >= 1, "and its mail deferred");
	world_fini(&w);
}

int main(void)
{
	test_feedback();
	test_dead();
	test_dead_due();
	test_success_revives();
	test_no_delay_for_others();
	test_big_and_small();
	test_flows();
	test_round_robin();
	test_window_limit();
	test_shares();
	test_affinity();
	test_maxproc();
	test_rate_delay();
	test_transport_delay();
	test_rows_are_freed();
	test_reload();
	return tap_done();
}
