/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The segment writer: appends, group commit, two commits in flight, streams, full segments. */
#include "t/unit/workers/spool/support.h"

static bool in_order(const struct fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (f->done[i].cookie != (void *)(uintptr_t)i || f->done[i].err != 0)
			return false;
	}
	return true;
}

static void test_basic(unsigned max_syncs, unsigned inline_max)
{
	struct fixture f;

	fx_init(&f, max_syncs, inline_max);
	is_int(fx_append(&f, 0, 10), E_AGAIN, "no segment yet");
	fx_ready(&f);
	unsigned sent = 0;

	for (int tries = 0; sent < 600 && tries < 4000; tries++) {
		int err = 0;

		for (unsigned n = 0; n < 7 && sent < 600 && err == 0; n++) {
			err = fx_append(&f, sent, sent * 37 % 9000);
			if (err == 0)
				sent++;
		}
		fx_grant(&f);
		loop_turn(f.loop, err == 0 ? 0 : 5);
	}
	is_int(sent, 600, "all taken (%u syncs, inline %u)", max_syncs, inline_max);
	ok(fx_wait(&f, 600), "all answered");
	ok(in_order(&f, 600), "in append order, without error");
	ok(f.closed_count >= 1, "full segments were closed");
	struct spool_reader *r = spool_reader_new(&f.dirs, 2);
	unsigned good = 0;

	for (unsigned k = 0; k < 600; k++)
		good += fx_check(r, k, k * 37 % 9000, f.done[k].place);
	is_int(good, 600, "every record reads back");
	struct proto_place wrong = f.done[5].place;
	struct spool_record h;

	is_int(spool_read_head(r, fx_qid(6), wrong, false, &h, NULL), E_CORRUPT, "another id");
	wrong.off8++;
	is_int(spool_read_head(r, fx_qid(5), wrong, false, &h, NULL), E_CORRUPT, "another offset");
	wrong = f.done[5].place;
	wrong.len += 8;
	is_int(spool_read_head(r, fx_qid(5), wrong, false, &h, NULL), E_CORRUPT, "another length");
	wrong.len = 8;
	is_int(spool_read_head(r, fx_qid(5), wrong, false, &h, NULL), E_CORRUPT, "too short");
	wrong.seg = 999;
	is_int(spool_read_head(r, fx_qid(5), wrong, false, &h, NULL), E_NOENT, "no such segment");
	uint64_t commits = atomic_load(&counters_of(&f.counters)->counter[CTR_spool_commits]);

	ok(commits > 0 && commits < 600, "fewer commits (%d) than messages", (int)commits);
	is_int(atomic_load(&counters_of(&f.counters)->gauge[GAU_spool_bytes_at_risk]), 0,
	       "nothing at risk any more");
	spool_reader_free(&r);
	fx_fini(&f);
}

static void test_large(void)
{
	struct fixture f;

	fx_init(&f, 1, 0);
	fx_ready(&f);
	is_int(fx_append(&f, 0, 100), 0, "small");
	is_int(fx_append(&f, 1, 300000), 0, "beyond the direct size");
	is_int(fx_append(&f, 2, 100), 0, "small behind it");
	while (fx_append(&f, 3, 3u << 20) == E_AGAIN)
		fx_turns(&f, 1);
	ok(fx_wait(&f, 4), "all answered");
	ok(in_order(&f, 4), "in order");
	struct spool_reader *r = spool_reader_new(&f.dirs, 4);

	ok(fx_check(r, 0, 100, f.done[0].place) && fx_check(r, 1, 300000, f.done[1].place) &&
		   fx_check(r, 2, 100, f.done[2].place),
	   "they read back");
	ok(fx_check(r, 3, 3u << 20, f.done[3].place), "one larger than a segment too");
	ok(f.done[3].place.seg != f.done[0].place.seg, "it has its own segment");
	is_int(f.closed_count, 1, "which is closed at once");
	spool_reader_free(&r);
	fx_fini(&f);
}

static int stream(struct fixture *f, unsigned k, size_t len, size_t max, bool commit)
{
	struct spool_stream *s;
	struct spool_record h = fx_header(k);
	char env[32], chunk[1000];
	int err = spool_stream_open(f->w, max, &s);

	if (err != 0)
		return err;
	memset(chunk, 'a' + (int)(k % 26), sizeof(chunk));
	for (size_t at = 0; at < len && err == 0; at += sizeof(chunk))
		err = spool_stream_add(s, chunk, size_min(sizeof(chunk), len - at));
	snprintf(env, sizeof(env), "envelope %u", k);
	if (err == 0 && commit)
		return spool_stream_commit(&s, &h, sv_from(env), (void *)(uintptr_t)k);
	spool_stream_abort(&s);
	return err;
}

static void test_streams(void)
{
	struct fixture f;
	struct spool_stream *s;

	fx_init(&f, 2, 0);
	fx_ready(&f);
	is_int(fx_append(&f, 0, 100), 0, "a record before");
	is_int(stream(&f, 1, 400000, 500000, true), 0, "a stream that stays below its bound");
	is_int(fx_append(&f, 2, 5000), 0, "a record behind");
	is_int(spool_stream_open(f.w, 100000, &s), 0, "a stream that stays open");
	is_int(fx_append(&f, 3, 777), 0, "a record behind its space");
	is_int(spool_stream_add(s, "zzzzz", 5), 0, "it goes on");
	is_int(stream(&f, 9, 1000, 900, true), E_LIMIT, "one beyond its bound");
	is_int(stream(&f, 9, 1000, 1000, true), E_LIMIT, "envelope counts too");
	is_int(stream(&f, 9, 1000, 5000, false), 0, "one aborted");
	ok(fx_wait(&f, 4), "the open stream holds nobody up");
	is_int(spool_stream_add(s, "zzzzz", 5), 0, "it goes on");
	struct spool_record h = fx_header(25);

	is_int(spool_stream_commit(&s, &h, SV("envelope 25"), (void *)4), 0, "and ends");
	ok(s == NULL, "the stream is gone");
	ok(fx_wait(&f, 5), "answered");
	ok(in_order(&f, 5), "in order of commit");
	struct spool_reader *r = spool_reader_new(&f.dirs, 4);

	ok(fx_check(r, 0, 100, f.done[0].place), "record 0");
	ok(fx_check(r, 1, 400000, f.done[1].place), "stream 1");
	ok(fx_check(r, 2, 5000, f.done[2].place), "record 2");
	ok(fx_check(r, 3, 777, f.done[3].place), "record 3");
	ok(fx_check(r, 25, 10, f.done[4].place), "stream 25");
	spool_reader_free(&r);
	fx_fini(&f);
}

/* A stream commits into a segment of which an earlier batch still gathers: the new batch must not
 * begin on the page the earlier one will fill up. */
static void test_two_open_batches(void)
{
	struct fixture f;
	struct spool_stream *a, *b;

	fx_init(&f, 2, 0);
	fx_ready(&f);
	is_int(spool_stream_open(f.w, 3000, &a), 0, "stream a");
	is_int(spool_stream_open(f.w, 3000, &b), 0, "stream b");
	struct spool_record h = fx_header(0);
	unsigned n = 0;

	for (int round = 0; round < 40; round++) {
		is_int(fx_append(&f, n, 50), 0, "record %u", n);
		n++;
		if (round == 10 || round == 20) {
			h = fx_header(n);
			spool_stream_commit(round == 10 ? &a : &b, &h, SV("x"),
					    (void *)(uintptr_t)n);
			n++;
		}
		if (round % 3 == 0)
			loop_turn(f.loop, 0);
	}
	ok(fx_wait(&f, n), "all answered");
	ok(in_order(&f, n), "in order");
	struct spool_reader *r = spool_reader_new(&f.dirs, 4);
	unsigned good = 0;

	for (unsigned k = 0; k < n; k++) {
		struct spool_record got;

		good += spool_read_head(r, fx_qid(k), f.done[k].place, true, &got, NULL) == 0;
	}
	is_int(good, n, "every record passes its checksum");
	spool_reader_free(&r);
	fx_fini(&f);
}

static void test_free_completes(void)
{
	struct fixture f;

	fx_init(&f, 1, 0);
	fx_ready(&f);
	for (unsigned k = 0; k < 20; k++)
		fx_append(&f, k, 100);
	spool_writer_free(&f.w);
	is_int(f.done_count, 20, "the end of the writer answers what was appended");
	ok(in_order(&f, 20), "with success");
	is_int(f.closed_count, 1, "and closes its segment");
	struct stat st;
	char name[128];

	snprintf(name, sizeof(name), "%s/seg/00000001.seg", f.path);
	ok(stat(name, &st) == 0 && st.st_size < 65536, "which gave its unused space back");
	fx_fini(&f);
}

/* What was verified in one read is there as a whole, and nothing else. */
static void test_content_at_hand(struct spool_reader *r, const struct fixture *f, const size_t *len,
				 unsigned count)
{
	unsigned good = 0, wrong = 0;

	for (unsigned k = 0; k < count; k++) {
		struct proto_place place = f->done[k].place;
		struct spool_record h;
		struct sv content;

		if (spool_read_head(r, fx_qid(k), place, true, &h, NULL) != 0)
			continue;
		bool has = spool_reader_has_content(r, &h, place, &content);

		if (has && content.len == len[k] && content.p[0] == 'a' + (char)(k % 26) &&
		    content.p[len[k] - 1] == content.p[0])
			good++;
		wrong += has != (place.len <= 65536);
		if (spool_read_head(r, fx_qid(k), place, false, &h, NULL) == 0)
			wrong += spool_reader_has_content(r, &h, place, &content);
	}
	ok(good > 0 && good < count, "%u of %u were read as a whole", good, count);
	is_int(wrong, 0, "nothing is there that was not read and verified");
}

/* Records around the size up to which one read takes them whole. */
static void test_read_sizes(void)
{
	struct fixture f;
	struct spool_record h;
	unsigned good = 0, found = 0, count = 0;
	size_t len[32];

	fx_init(&f, 2, 8);
	fx_turns(&f, 30);
	for (size_t n = 65536 - 74 - 9; n <= 65536 - 74 + 9; n++, count++) {
		len[count] = n;
		for (int tries = 0; fx_append(&f, count, n) == E_AGAIN && tries < 200; tries++)
			fx_turns(&f, 1);
	}
	for (size_t n = 131072 - 65; n <= 131072 - 63; n++, count++) {
		len[count] = n;
		for (int tries = 0; fx_append(&f, count, n) == E_AGAIN && tries < 200; tries++)
			fx_turns(&f, 1);
	}
	ok(fx_wait(&f, count), "records of %u sizes", count);
	struct spool_reader *r = spool_reader_new(&f.dirs, 2);

	for (unsigned k = 0; k < count; k++)
		good += fx_check(r, k, len[k], f.done[k].place);
	is_int(good, count, "read back");
	test_content_at_hand(r, &f, len, count);
	for (unsigned k = 0; k < count; k++) {
		uint64_t body = f.done[k].place.len - 64;
		/* first and last bytes, and those where one piece ends */
		uint64_t at[] = { 64, 74, 65535, 65536, 64 + 10 + len[k] - 1 };

		for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
			if (at[i] >= 64 + 10 + len[k] || at[i] >= 64 + body)
				continue;
			fx_flip(&f.dirs, f.done[k].place, at[i]);
			if (spool_read_head(r, fx_qid(k), f.done[k].place, true, &h, NULL) !=
			    E_CORRUPT)
				found++;
			fx_flip(&f.dirs, f.done[k].place, at[i]);
		}
	}
	is_int(found, 0, "any wrong byte is noticed");
	spool_reader_free(&r);
	fx_fini(&f);
}

int main(void)
{
	clock_init();
	test_basic(1, 0);
	test_basic(2, 0);
	test_basic(1, 8);
	test_large();
	test_read_sizes();
	test_streams();
	test_two_open_batches();
	test_free_completes();
	return tap_done();
}
