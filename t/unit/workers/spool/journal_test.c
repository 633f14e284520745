/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The outcome journal: round trip, window, change of file, what readers see. */
#include "t/unit/workers/spool/support.h"
#include "workers/spool/outcome.h"

struct jfixture {
	struct fixture f;
	struct journal_writer *j;
	struct journal_conf conf;
};

static void j_init_paced(struct jfixture *t, int64_t window_ms, uint64_t bytes, int64_t pace_us)
{
	memset(t, 0, sizeof(*t));
	fx_init(&t->f, 0, 0);
	t->conf = (struct journal_conf){ .sync_window_ms = window_ms,
					 .pace_us = pace_us,
					 .file_bytes = bytes,
					 .counters = counters_of(&t->f.counters),
					 .need_file = fx_need,
					 .closed_file = fx_closed,
					 .ctx = &t->f };
	if (journal_writer_new(&t->conf, &t->f.dirs, t->f.loop, &t->j) != 0)
		die("no journal");
	loop_add_hook(t->f.loop, journal_writer_poll, t->j);
}

static void j_init(struct jfixture *t, int64_t window_ms, uint64_t bytes)
{
	j_init_paced(t, window_ms, bytes, 0);
}

static void j_turns(struct jfixture *t, int n)
{
	while (n-- > 0) {
		while (t->f.needs > 0) {
			t->f.needs--;
			journal_writer_grant(t->j, t->f.next_number++,
					     (struct journal_owner){ 0, 0 });
		}
		loop_turn(t->f.loop, 2);
	}
}

static void j_fini(struct jfixture *t)
{
	journal_writer_free(&t->j);
	fx_fini(&t->f);
}

static uint64_t counter(struct jfixture *t, enum counter_id id)
{
	return atomic_load(&counters_of(&t->f.counters)->counter[id]);
}

static uint64_t at_risk(struct jfixture *t)
{
	return atomic_load(&counters_of(&t->f.counters)->gauge[GAU_journal_outcomes_at_risk]);
}

static struct outcome sample(struct outcome_reason *reasons)
{
	reasons[0] = (struct outcome_reason){ .mask = 2,
					      .dsn = { 4, 2, 0 },
					      .mta = SV("mx.example[10.0.0.1]"),
					      .text = SV("host mx said: 450 4.2.0 busy"),
					      .diag = SV("450 4.2.0 busy") };
	reasons[1] = (struct outcome_reason){ .mask = 4, .dsn = { 5, 1, 1 }, .mta = SV("none") };
	return (struct outcome){ .kind = OUTCOME_RESULT,
				 .qid = { 1234567, 9 },
				 .rcpt_first = 64,
				 .mask = 7,
				 .sent = 1,
				 .deferred = 2,
				 .bounced = 4,
				 .when_us = 42,
				 .transport = SV("smtp"),
				 .nexthop = SV("[mx.example]:25"),
				 .reasons = reasons,
				 .reason_count = 2 };
}

static void test_round_trip(void)
{
	struct jfixture t;
	struct outcome_reason reasons[64], got_reasons[64];
	struct outcome o = sample(reasons), got;
	struct outcome started = { .kind = OUTCOME_STARTED, .qid = { 5, 6 }, .mask = 1 };
	struct proto_jref ref, ref2;
	struct buf mem = BUF_INIT;

	j_init(&t, 10, 1 << 20);
	is_int(journal_append(t.j, &o, &ref), E_AGAIN, "no file yet");
	j_turns(&t, 100);
	is_int(journal_append(t.j, &o, &ref), 0, "appended");
	is_int(journal_append(t.j, &started, &ref2), 0, "a start");
	ok(ref.journal == 1 && ref.off16 == 4 && ref2.off16 > ref.off16, "references grow");
	loop_turn(t.f.loop, 0);
	struct journal_reader *r = journal_reader_new(&t.f.dirs, 2);

	is_int(journal_read(r, ref, &mem, &got, got_reasons), 0, "read back after the turn");
	ok(got.kind == OUTCOME_RESULT && got.qid.time_us == 1234567 && got.qid.life == 9 &&
		   got.rcpt_first == 64 && got.mask == 7 && got.sent == 1 && got.deferred == 2 &&
		   got.bounced == 4 && got.when_us == 42,
	   "numbers");
	ok(sv_eq_str(got.transport, "smtp") && sv_eq_str(got.nexthop, "[mx.example]:25"), "names");
	is_int(got.reason_count, 2, "reasons");
	ok(got.reasons[0].mask == 2 && got.reasons[0].dsn[0] == 4 &&
		   sv_eq(got.reasons[0].mta, reasons[0].mta) &&
		   sv_eq(got.reasons[0].text, reasons[0].text) &&
		   sv_eq(got.reasons[0].diag, reasons[0].diag),
	   "the first in full");
	ok(got.reasons[1].dsn[2] == 1 && got.reasons[1].text.len == 0, "the second");
	buf_reset(&mem);
	is_int(journal_read(r, ref2, &mem, &got, got_reasons), 0, "the start");
	ok(got.kind == OUTCOME_STARTED && got.mask == 1 && got.sent == 0, "is short");
	ref2.off16++;
	is_int(journal_read(r, ref2, &mem, &got, got_reasons), E_CORRUPT, "a wrong reference");
	ref2.off16 = UINT32_MAX;
	is_int(journal_read(r, ref2, &mem, &got, got_reasons), E_CORRUPT, "beyond the end");
	ref2.journal = 77;
	is_int(journal_read(r, ref2, &mem, &got, got_reasons), E_NOENT, "no such journal");
	journal_reader_free(&r);
	buf_fini(&mem);
	j_fini(&t);
}

static void test_window(void)
{
	struct jfixture t;
	struct outcome o = { .kind = OUTCOME_STARTED, .qid = { 5, 6 }, .mask = 1 };
	struct proto_jref ref;

	clock_fake_set(1700000000000);
	j_init(&t, 60000, 1 << 20);
	j_turns(&t, 100);
	journal_append(t.j, &o, &ref);
	journal_append(t.j, &o, &ref);
	j_turns(&t, 3);
	is_int(at_risk(&t), 2, "inside the window both are at risk");
	is_int(counter(&t, CTR_journal_syncs), 0, "and nothing was synced");
	clock_fake_advance(60001);
	j_turns(&t, 20);
	is_int(at_risk(&t), 0, "behind it they are safe");
	is_int(counter(&t, CTR_journal_syncs), 1, "by one sync");
	journal_append(t.j, &o, &ref);
	is_int(journal_sync(t.j), 0, "an explicit sync");
	is_int(at_risk(&t), 0, "leaves nothing at risk");
	is_int(counter(&t, CTR_journal_records), 3, "records counted");
	j_fini(&t);
	clock_fake_off();
}

/* Who waits for an outcome to be durable gets its sync at once; nobody waiting, none comes. */
static void test_position(void)
{
	struct outcome_reason reasons[2];
	struct outcome o = sample(reasons);
	struct proto_jref ref;
	struct jfixture t;
	int err;

	j_init(&t, 3600000, 1 << 20);
	for (int i = 0; (err = journal_append(t.j, &o, &ref)) == E_AGAIN && i < 1000; i++)
		j_turns(&t, 1);
	is_int(err, 0, "appended");
	is_int(journal_position(t.j), 1, "the first one");
	is_int(journal_has(t.j, 1, false), 0, "in memory: not even written");
	j_turns(&t, 20);
	is_int(journal_has(t.j, 1, false), 1, "after the turn it is written");
	is_int(counter(&t, CTR_journal_syncs), 0, "the window is long: no sync");
	is_int(journal_has(t.j, 1, true), 0, "not durable, and somebody waits");
	for (int i = 0; i < 1000 && journal_has(t.j, 1, true) == 0; i++)
		j_turns(&t, 1);
	is_int(journal_has(t.j, 1, true), 1, "now it is durable");
	is_int(journal_append(t.j, &o, &ref), 0, "appended");
	is_int(journal_has(t.j, 1, true), 1, "what was durable stays so");
	is_int(journal_has(t.j, 2, true), 0, "the next one is not");
	is_int(journal_sync(t.j), 0, "a sync now");
	is_int(journal_has(t.j, 2, true), 1, "and it is");
	j_fini(&t);
}

/* With a pace, the first who waits is served at once, the next not before the time is over. */
static void test_pace(void)
{
	struct outcome_reason reasons[2];
	struct outcome o = sample(reasons);
	struct proto_jref ref;
	struct jfixture t;

	j_init_paced(&t, 3600000, 1 << 20, (int64_t)3600 * 1000000);
	for (int i = 0; journal_append(t.j, &o, &ref) == E_AGAIN && i < 1000; i++)
		j_turns(&t, 1);
	for (int i = 0; i < 1000 && journal_has(t.j, 1, true) == 0; i++)
		j_turns(&t, 1);
	is_int(journal_has(t.j, 1, true), 1, "the first one is synced for who waits");
	is_int(journal_append(t.j, &o, &ref), 0, "another");
	for (int i = 0; i < 20; i++) {
		journal_has(t.j, 2, true);
		j_turns(&t, 1);
	}
	is_int(journal_has(t.j, 2, true), 0, "which waits for its time");
	is_int(journal_has(t.j, 2, false), 1, "though it is written");
	is_int(counter(&t, CTR_journal_syncs), 1, "one sync so far");
	j_fini(&t);
}

static void test_rotation(void)
{
	struct jfixture t;
	struct outcome_reason reasons[64], got_reasons[64];
	struct outcome o = sample(reasons), got;
	struct proto_jref refs[2000];
	struct buf mem = BUF_INIT;
	unsigned n = 0, good = 0;

	j_init(&t, 0, 65536);
	for (int tries = 0; n < 2000 && tries < 20000; tries++) {
		o.when_us = n;
		if (journal_append(t.j, &o, &refs[n]) == 0)
			n++;
		if (tries % 16 == 0)
			j_turns(&t, 1);
	}
	is_int(n, 2000, "all appended");
	is_int(journal_sync(t.j), 0, "synced");
	ok(refs[1999].journal > 4, "over several files");
	ok(t.f.closed_count >= 3, "full ones were closed");
	struct journal_reader *r = journal_reader_new(&t.f.dirs, 2);

	for (unsigned i = 0; i < n; i++) {
		buf_reset(&mem);
		good += journal_read(r, refs[i], &mem, &got, got_reasons) == 0 && got.when_us == i;
	}
	is_int(good, 2000, "all read back");
	journal_reader_free(&r);
	buf_fini(&mem);
	j_fini(&t);
}

static void test_starved(void)
{
	struct jfixture t;
	struct outcome_reason reasons[64];
	struct outcome o = sample(reasons);
	struct proto_jref ref;
	int err = 0;
	unsigned n = 0;

	j_init(&t, 0, 65536);
	j_turns(&t, 100);
	for (n = 0; n < 10000 && err == 0; n++) {
		err = journal_append(t.j, &o, &ref);
		loop_turn(t.f.loop, 0); /* no grants */
	}
	is_int(err, E_AGAIN, "without a next file it ends some time");
	ok((uint64_t)ref.off16 * 16 <= 2 * 65536 + 1024, "at twice the size");
	j_turns(&t, 100);
	is_int(journal_append(t.j, &o, &ref), 0, "and goes on when granted");
	is_int(ref.journal, 2, "in the next one");
	j_fini(&t);
}

int main(void)
{
	clock_init();
	test_round_trip();
	test_window();
	test_position();
	test_pace();
	test_rotation();
	test_starved();
	return tap_done();
}
