/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memos of remote tables, and the client that fills them, against a lookup worker that the test
 * plays: windows, time-outs, lives that end, answers that are wrong. */
#include "workers/tables/client.h"

#include <unistd.h>

#include "conf/map.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "t/unit/tap.h"

#define SPEC "socketmap:inet:x.test:1:t"

static struct map *table, *other;
static unsigned finished;

static void count(void *ctx UNUSED)
{
	finished++;
}

static enum map_status get(struct map *m, const char *key, struct buf *out)
{
	return map_get(m, sv_from(key), out);
}

static void test_memo(void)
{
	struct map_memo *memo = map_memo_new();
	struct buf out = BUF_INIT;
	const char *spec;
	struct sv key;

	is_int(get(table, "a", &out), MAP_ERROR, "without a memo nothing can be asked");
	ok(!map_memo_is_missing(), "and nothing is missing");
	map_memo_enter(memo);
	is_int(get(table, "a", &out), MAP_ERROR, "an answer that is not known");
	ok(map_memo_is_missing(), "is missing");
	get(table, "a", &out);
	get(other, "a", &out);
	get(table, "b", &out);
	ok(map_memo_leave(), "which leaving says");
	is_int(map_memo_missing_count(memo), 3, "each question stands there once");
	map_memo_missing(memo, 1, &spec, &key);
	ok(strcmp(spec, "tcp:x:1") == 0 && sv_eq(key, SV("a")), "by table and key");
	map_memo_answer(memo, 0, MAP_FOUND, SV("value"));
	map_memo_answer(memo, 0, MAP_NOT_FOUND, SV(""));
	map_memo_answer(memo, 1, MAP_NOT_FOUND, SV(""));
	map_memo_answer(memo, 2, MAP_ERROR, SV(""));
	map_memo_answered(memo);
	map_memo_enter(memo);
	is_int(get(table, "a", &out), MAP_FOUND, "found");
	is_str(buf_cstr(&out), "value", "the first answer holds");
	is_int(get(other, "a", &out), MAP_NOT_FOUND, "not found");
	is_int(get(table, "b", &out), MAP_ERROR, "an error");
	ok(!map_memo_leave(), "nothing is missing now");
	map_memo_free(&memo);
	buf_fini(&out);
}

/* A memo in which so many keys are missing. */
static struct map_memo *memo_with(struct map *m, unsigned keys)
{
	struct map_memo *memo = map_memo_new();
	struct buf out = BUF_INIT;
	char key[32];

	map_memo_enter(memo);
	for (unsigned i = 0; i < keys; i++) {
		snprintf(key, sizeof(key), "key%u", i);
		get(m, key, &out);
	}
	map_memo_leave();
	buf_fini(&out);
	return memo;
}

static enum map_status status_in(struct map_memo *memo, struct map *m, const char *key)
{
	struct buf out = BUF_INIT;

	map_memo_enter(memo);
	enum map_status s = get(m, key, &out);

	map_memo_leave();
	buf_fini(&out);
	return s;
}

static void link_pair(struct link *client, struct link *worker)
{
	struct shm_region r, r2;

	ASSERT(link_create("t", 1 << 17, 1 << 17, 1, 2, &r) == 0);
	ASSERT(shm_region_map(dup(r.fd), SHM_KIND_LINK, true, &r2) == 0);
	ASSERT(link_attach(client, &r, 0, -1) == 0 && link_attach(worker, &r2, 1, -1) == 0);
}

/* The next question: its id, 0 when there is none. */
static uint32_t next_question(struct link *client, struct link *worker, char key[64])
{
	unsigned char rec[600];
	struct proto_table_query q;
	size_t len = 0;

	link_flush(client);
	if (ring_get(&worker->in, rec, sizeof(rec), &len) != 1)
		return 0;
	memcpy(&q, rec, sizeof(q));
	ASSERT(len == sizeof(q) + q.spec_len + q.key_len && q.key_len < 64);
	memcpy(key, rec + sizeof(q) + q.spec_len, q.key_len);
	key[q.key_len] = '\0';
	return q.id;
}

static int answer(struct tables_client *c, uint32_t id, unsigned status, const char *value)
{
	char rec[200];
	struct proto_table_answer h = { .kind = PROTO_TABLE_ANSWER,
					.id = id,
					.status = (uint16_t)status,
					.value_len = (uint32_t)strlen(value) };

	memcpy(rec, &h, sizeof(h));
	memcpy(rec + sizeof(h), value, strlen(value));
	return tables_client_input(c, rec, sizeof(h) + strlen(value));
}

static void test_fetch(void)
{
	struct link cl = { 0 }, wl = { 0 };
	struct tables_client *c = tables_client_new(30000, NULL);
	struct map_memo *memo = memo_with(table, 2);
	char key[64];

	clock_fake_set(1000000);
	link_pair(&cl, &wl);
	finished = 0;
	ok(tables_fetch(c, memo, count, NULL) != NULL, "a fetch without a link waits");
	tables_client_set_link(c, &cl);
	uint32_t a = next_question(&cl, &wl, key), b = next_question(&cl, &wl, key);

	ok(a != 0 && b != 0 && next_question(&cl, &wl, key) == 0, "two questions are asked");
	is_int(answer(c, a + 1, TABLE_FOUND, "x"), 0, "an answer that nobody asked for");
	is_int(answer(c, a, TABLE_FOUND, "one"), 0, "an answer");
	answer(c, a, TABLE_NOT_FOUND, "");
	is_int(finished, 0, "one of two");
	answer(c, b, TABLE_NOT_FOUND, "");
	is_int(finished, 1, "both: it is over");
	is_int(status_in(memo, table, "key0"), MAP_FOUND, "the first is found");
	is_int(status_in(memo, table, "key1"), MAP_NOT_FOUND, "the second is not");
	answer(c, b, TABLE_FOUND, "late");
	is_int(answer(c, b, 7, ""), E_PEER, "a status that does not exist");
	is_int(answer(c, b, TABLE_NOT_FOUND, "x"), E_PEER, "a value that was not found");
	is_int(tables_client_input(c, "abc", 3), E_PEER, "a short record");
	map_memo_free(&memo);
	tables_client_free(&c);
	link_detach(&cl);
	link_detach(&wl);
	clock_fake_off();
}

static void test_limits(void)
{
	struct link cl = { 0 }, wl = { 0 };
	struct tables_client *c = tables_client_new(30000, NULL);
	struct map_memo *many = memo_with(table, 200), *few = memo_with(other, 1),
			*cancelled = memo_with(other, 1);
	unsigned asked = 0;
	uint32_t ids[300], id;
	char key[64];

	clock_fake_set(1000000);
	link_pair(&cl, &wl);
	tables_client_set_link(c, &cl);
	finished = 0;
	tables_fetch(c, many, count, NULL);
	tables_fetch(c, few, count, NULL);
	struct tables_fetch *f = tables_fetch(c, cancelled, count, NULL);

	while ((id = next_question(&cl, &wl, key)) != 0)
		ids[asked++] = id;
	is_int(asked, 64 + 2, "a table has a window, and another one is asked all the same");
	tables_cancel(f);
	answer(c, ids[65], TABLE_FOUND, "too late");
	answer(c, ids[64], TABLE_FOUND, "x");
	is_int(finished, 1, "the one that needs little is over first");
	for (unsigned done = 0; done < 100; done++) {
		answer(c, ids[done % 64], TABLE_NOT_FOUND, "");
		ids[done % 64] = next_question(&cl, &wl, key);
	}
	is_int(finished, 1, "half of many is not all");
	clock_fake_advance(29999);
	tables_client_tick(c);
	is_int(finished, 1, "not before its time");
	clock_fake_advance(1);
	tables_client_tick(c);
	is_int(finished, 2, "a fetch ends with its time");
	is_int(status_in(many, table, "key3"), MAP_NOT_FOUND, "what is answered stays so");
	is_int(status_in(many, table, "key199"), MAP_ERROR, "what is not is an error");
	map_memo_free(&many);
	map_memo_free(&few);
	map_memo_free(&cancelled);
	tables_client_free(&c);
	link_detach(&cl);
	link_detach(&wl);
	clock_fake_off();
}

static void test_lives(void)
{
	struct link cl = { 0 }, wl = { 0 };
	struct tables_client *c = tables_client_new(30000, NULL);
	struct map_memo *memo = memo_with(table, 1);
	char key[64];

	clock_fake_set(1000000);
	finished = 0;
	for (unsigned life = 0; life < 2; life++) {
		link_pair(&cl, &wl);
		tables_client_set_link(c, &cl);
		if (life == 0)
			tables_fetch(c, memo, count, NULL);
		ok(next_question(&cl, &wl, key) != 0, "life %u is asked", life + 1);
		tables_client_set_link(c, NULL);
		link_detach(&cl);
		link_detach(&wl);
		cl = wl = (struct link){ 0 };
	}
	is_int(finished, 1, "a question that has ended two lives is asked no more");
	is_int(status_in(memo, table, "key0"), MAP_ERROR, "it is an error");
	map_memo_free(&memo);
	tables_client_free(&c);
	clock_fake_off();
}

static void no_log(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		   const char *text UNUSED, size_t len UNUSED)
{
}

int main(void)
{
	log_set_sink(no_log, NULL);
	ok(!map_remote_is_used(), "no remote table is open");
	ok(map_open(NULL, SPEC, &table, NULL) == 0 && map_open(NULL, "tcp:x:1", &other, NULL) == 0,
	   "two are");
	ok(map_remote_is_used() && map_is_remote(table), "which can be seen");
	test_memo();
	test_fetch();
	test_limits();
	test_lives();
	map_close(&table);
	map_close(&other);
	return tap_done();
}
