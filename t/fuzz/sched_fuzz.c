/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The scheduler under any order of events: the input is a program of announcements, answers (right,
 * wrong and late ones), raw records, deaths of workers, operator commands and passing time.
 * Whatever happens, the tables stay sound, nothing is counted wrongly, and in the end everything
 * can be deleted and is gone.
 */
#include "t/unit/daemon/sched_world.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX 256

static struct world w;
static struct sent_rec out[OUT_MAX]; /* what workers were given; old ones are overwritten */
static unsigned out_count;
static uint32_t lives[3]; /* rewrite, deliver, deliver */

struct in {
	const uint8_t *p;
	size_t left;
};

static uint32_t byte(struct in *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->p++;
}

static uint64_t mask(struct in *in)
{
	uint64_t m = byte(in);

	/* mostly small masks, sometimes wide ones */
	return m & 0x80 ? m << (byte(in) % 57) : m;
}

static int keep(void *ctx UNUSED, enum worker_class class_id, unsigned slot, const void *rec,
		size_t len)
{
	struct sent_rec *r = &out[out_count++ % OUT_MAX];

	if (out_count % 61 == 60)
		return E_AGAIN; /* full rings happen */
	r->class_id = class_id;
	r->slot = slot;
	r->len = len;
	memcpy(&r->u, rec, len);
	return 0;
}

static void up(unsigned i)
{
	enum worker_class c = i == 0 ? CLASS_REWRITE : CLASS_DELIVER;

	lives[i] += 3;
	if (sched_worker_up(w.s, c, i == 2, lives[i], 1) != 0)
		bug("worker up");
	if (i > 0)
		return;
	w_dest(&w, lives[0], 0, "smtp", "a.example");
	w_dest(&w, lives[0], 1, "slow", "b.example");
	w_dest(&w, lives[0], 2, "virtual", "c.example");
	w_dest(&w, lives[0], 3, "nowhere", "d.example");
}

static void gone(unsigned i)
{
	sched_worker_gone(w.s, i == 0 ? CLASS_REWRITE : CLASS_DELIVER, i == 2, lives[i]);
}

static void announce(struct in *in, uint32_t kind)
{
	struct {
		union {
			struct proto_new n;
			struct proto_new_more m;
		} h;
		struct proto_entry e[4];
	} r;
	char rec[sizeof(r)];
	uint32_t count = byte(in) % 4 + 1;
	size_t head = kind == PROTO_NEW ? sizeof(r.h.n) : sizeof(r.h.m);

	memset(&r, 0, sizeof(r));
	if (kind == PROTO_NEW) {
		uint32_t more = byte(in);

		r.h.n = (struct proto_new){ .kind = kind,
					    .flags = byte(in) * 257,
					    .qid = { .time_us = 1000 + byte(in), .life = 5 },
					    .place = { .seg = 1, .len = 8 },
					    .rcpt_count = byte(in) * 2,
					    .entry_total = count + (more & 0x80 ? more & 3 : 0),
					    .entry_count = count };
	} else {
		r.h.m = (struct proto_new_more){ .kind = kind,
						 .entry_count = count,
						 .qid = { .time_us = 1000 + byte(in), .life = 5 } };
	}
	for (uint32_t i = 0; i < count; i++)
		r.e[i] = (struct proto_entry){ .rcpt_first = byte(in),
					       .dest = byte(in) % 5,
					       .mask = mask(in) };
	memcpy(rec, &r.h, head);
	memcpy(rec + head, r.e, count * sizeof(r.e[0]));
	sched_input(w.s, CLASS_REWRITE, 0, lives[0], rec, head + count * sizeof(r.e[0]));
}

static void answer_job(struct in *in, const struct sent_rec *o, uint64_t all)
{
	uint64_t a = mask(in) & all, b = mask(in) & all & ~a;
	struct proto_result r = { .kind = PROTO_RESULT,
				  .health = byte(in) % 4,
				  .word = o->u.job.ref.word,
				  .entry = o->u.job.ref.entry,
				  .sent = a,
				  .deferred = b,
				  .bounced = all & ~a & ~b,
				  .report = a & mask(in) };

	sched_input(w.s, o->class_id, o->slot, lives[1 + o->slot], &r, sizeof(r));
}

static void answer_load(struct in *in, const struct sent_rec *o)
{
	struct loaded_rec r = { .l = { .kind = PROTO_LOADED,
				       .status = byte(in) % 8 < 6 ? LOAD_OK : byte(in) % 4,
				       .word = o->u.load.ref.word,
				       .entry = o->u.load.ref.entry } };
	uint64_t left = o->u.load.ref.mask;

	while (left != 0 && r.l.entry_count < 3) {
		uint64_t part = r.l.entry_count == 2 ? left : left & (mask(in) | (left & -left));

		r.e[r.l.entry_count++] = (struct proto_entry){
			.rcpt_first = o->u.load.ref.rcpt_first, .dest = byte(in) % 5, .mask = part
		};
		left &= ~part;
	}
	sched_input(w.s, CLASS_REWRITE, 0, lives[0], &r,
		    sizeof(r.l) + r.l.entry_count * sizeof(r.e[0]));
}

static void answer(struct in *in)
{
	unsigned have = out_count < OUT_MAX ? out_count : OUT_MAX;

	if (have == 0)
		return;
	const struct sent_rec *o = &out[byte(in) % have];

	if (o->u.kind == PROTO_JOB)
		answer_job(in, o, o->u.job.ref.mask);
	else if (o->u.kind == PROTO_LOAD)
		answer_load(in, o);
	else if (o->u.kind == PROTO_BOUNCE)
		w_bounced(&w, o, lives[0], byte(in) % 2);
}

static void raw(struct in *in)
{
	uint32_t rec[32] = { 0 };
	size_t len = byte(in) % sizeof(rec);

	for (size_t i = 0; i < len; i++)
		((uint8_t *)rec)[i] = (uint8_t)byte(in);
	rec[0] %= PROTO_KIND_COUNT;
	unsigned i = byte(in) % 3;

	sched_input(w.s, i == 0 ? CLASS_REWRITE : CLASS_DELIVER, i == 2, lives[i], rec, len);
}

static void command(struct in *in)
{
	struct sched_cmd_result r = { 0 };
	enum sched_cmd cmd = (enum sched_cmd)(byte(in) % SCHED_CMDS);
	uint32_t which = byte(in);

	if (which == 255)
		sched_cmd_all(w.s, cmd, NULL, NULL);
	else if (which == 254)
		sched_flush_site(w.s, SV("a.example"), NULL, NULL);
	else
		sched_cmd(w.s, cmd, (struct qid){ 1000 + which, 5 }, &r);
}

static void event(struct in *in)
{
	static const uint16_t waits_s[] = { 0, 1, 60, 400, 4000, 40000 };
	uint32_t what = byte(in) % 16;

	if (what < 3) {
		announce(in, PROTO_NEW);
	} else if (what < 8) {
		answer(in);
	} else if (what == 8) {
		announce(in, PROTO_NEW_MORE);
	} else if (what == 9) {
		raw(in);
	} else if (what == 10) {
		unsigned i = byte(in) % 3;

		gone(i);
		up(i);
	} else if (what == 11) {
		command(in);
	} else if (what == 12) {
		clock_fake_advance(waits_s[byte(in) % 6] * 1000LL);
		clock_tick();
		sched_tick(w.s);
	} else {
		sched_turn(w.s);
	}
}

static void check_counts(void)
{
	uint64_t sum = 0;

	for (unsigned i = QS_FRESH; i < QS_COUNT; i++)
		sum += w.s->count[i];
	ASSERT(sum == w.q.shm->entry_live);
	ASSERT(w.s->count[QS_BUSY] + w.s->count[QS_LOADING] + w.s->count[QS_NOTIFYING] ==
	       w.s->outstanding);
	ASSERT(w.s->count[QS_LOAD] == w.s->load_q.count);
	ASSERT(w.s->count[QS_HOLD] == w.s->hold_q.count);
	ASSERT(w.s->count[QS_NOTIFY] == w.s->notify_q.count);
}

static void begin(void)
{
	static bool once;

	if (!once) {
		snprintf(w.dir, sizeof(w.dir), "/tmp/sched_fuzz.XXXXXX");
		if (mkdtemp(w.dir) == NULL || counters_create("fuzz", 1, &w.counters_region) != 0)
			bug("fuzz: set-up");
		w.conf = world_conf(&w,
				    "delay_warning_time = 1h\nmaximal_queue_lifetime = 1d\n"
				    "slow_destination_rate_delay = 1s\n",
				    world_master);
		w.counters = counters_of(&w.counters_region);
		world_remove_files(&w);
		once = true;
	}
	log_set_sink(world_sink, &w);
	w.log_len = sizeof(w.log); /* nothing is kept */
	clock_fake_set(1000000000);
	clock_tick();
	if (qtab_create(200, 200, &w.q) != 0 || dtab_create(3, &w.d) != 0)
		bug("fuzz: tables");
	struct sched_setup setup = { .conf = w.conf,
				     .generation = 1,
				     .qtab = &w.q,
				     .dtab = &w.d,
				     .board = &w.board,
				     .counters = w.counters,
				     .ops = { keep, NULL, NULL } };

	if (sched_new(&setup, &w.s) != 0)
		bug("fuzz: scheduler");
	out_count = 0;
	lives[0] = 1;
	lives[1] = 2;
	lives[2] = 3;
	for (unsigned i = 0; i < 3; i++)
		up(i);
}

static void end(void)
{
	char why[200];

	check_counts();
	if (qtab_check(&w.q, why, sizeof(why)) != 0 || dtab_check(&w.d, why, sizeof(why)) != 0)
		bug("fuzz: %s", why);
	for (unsigned i = 0; i < 3; i++)
		gone(i);
	ASSERT(w.s->outstanding == 0);
	for (int i = 0; i < 3; i++) { /* another operation may be running still */
		sched_cmd_all(w.s, SCHED_DELETE, NULL, NULL);
		for (int k = 0; k < 100 && sched_turn(w.s); k++)
			;
	}
	ASSERT(w.q.shm->entry_live == 0 && w.q.shm->msg_live == 0);
	sched_free(&w.s);
	qtab_fini(&w.q);
	dtab_fini(&w.d);
	log_set_sink(NULL, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct in in = { data, size };

	begin();
	while (in.left > 0)
		event(&in);
	end();
	return 0;
}
