/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Asking the lookup worker; see workers/tables/client.h.
 *
 * A fetch asks for what its memo lacks in the order of the memo, a window of it at a time, so that
 * a message with a thousand recipients leaves room for others; a table has a window, too. A
 * question's number on the wire is its slot plus a generation: a late answer never hits a new
 * question.
 */
#include "workers/tables/client.h"

#include <stdlib.h>
#include <string.h>

#include "conf/verify_use.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"

#define FETCH_WINDOW 64u
#define TABLE_WINDOW 64u /* one that hangs leaves room for the others */
#define VERIFY_WINDOW                                                                              \
	256u         /* probes take their time; the worker answers before so many wait             \
			(VERIFY_WAITERS_MAX) */
#define SENDS_MAX 2u /* a question that has ended two lookup workers is asked no more */
#define REPORT_MS 60000

struct tables_fetch { /* in one list, oldest first */
	struct tables_fetch *next, *prev;
	struct tables_client *client;
	struct map_memo *memo;
	tables_fn fn;
	void *ctx;
	int64_t until_ms;
	size_t total, asked, answered;
	unsigned under_way;
};

enum server { SERVER_LOOKUP, SERVER_VERIFY, SERVER_COUNT };

struct table { /* as the configuration names it; there are few */
	struct table *next;
	unsigned under_way;
	enum server server;
	char spec[];
};

struct question {
	struct table *table;
	struct tables_fetch *fetch; /* NULL: the slot is free, or nobody waits for the answer */
	size_t index;
	uint32_t id;
	unsigned sends;
	bool used, sent;
};

struct tables_client {
	int64_t timeout_ms;
	struct counters_shm *counters;
	struct link *links[SERVER_COUNT];
	struct tables_fetch list; /* head */
	struct table *tables;
	struct question slots[PROTO_TABLE_ASKED_MAX];
	unsigned free_count;
	uint32_t generation;
	bool unsent; /* some question found the ring full */
	int64_t next_report_ms;
};

struct tables_client *tables_client_new(int64_t timeout_ms, struct counters_shm *counters)
{
	struct tables_client *c = xcalloc(1, sizeof(*c));

	c->timeout_ms = timeout_ms;
	c->counters = counters;
	c->list.next = c->list.prev = &c->list;
	c->free_count = PROTO_TABLE_ASKED_MAX;
	return c;
}

static void count(struct tables_client *c, enum counter_id id, uint64_t n)
{
	if (c->counters != NULL && n > 0)
		counter_add(c->counters, id, n);
}

static void slot_free(struct tables_client *c, struct question *q)
{
	q->table->under_way--;
	*q = (struct question){ 0 };
	c->free_count++;
}

static void fetch_unlink(struct tables_fetch *f)
{
	f->prev->next = f->next;
	f->next->prev = f->prev;
}

/* Its questions stay in their slots until they are answered: the worker counts them, too. */
void tables_cancel(struct tables_fetch *f)
{
	struct tables_client *c = f->client;

	for (size_t i = 0; i < PROTO_TABLE_ASKED_MAX; i++) {
		struct question *q = &c->slots[i];

		if (q->used && q->fetch == f) {
			q->fetch = NULL;
			if (!q->sent)
				slot_free(c, q);
		}
	}
	for (size_t i = 0; i < f->total; i++)
		map_memo_answer(f->memo, i, MAP_ERROR, SV(""));
	map_memo_answered(f->memo);
	fetch_unlink(f);
	free(f);
}

void tables_client_free(struct tables_client **cp)
{
	struct tables_client *c;

	TAKE(c, *cp);
	if (c == NULL)
		return;
	while (c->list.next != &c->list)
		tables_cancel(c->list.next);
	while (c->tables != NULL) {
		struct table *t = c->tables;

		c->tables = t->next;
		free(t);
	}
	free(c);
}

/* ---- asking ---- */

static void answer(struct tables_fetch *f, size_t index, enum map_status status, struct sv value)
{
	count(f->client, CTR_table_failures, status == MAP_ERROR);
	map_memo_answer(f->memo, index, status, value);
	f->answered++;
}

static struct table *table_of(struct tables_client *c, const char *spec)
{
	struct table *t = c->tables;

	while (t != NULL && strcmp(t->spec, spec) != 0)
		t = t->next;
	if (t == NULL) {
		t = xcalloc(1, sizeof(*t) + strlen(spec) + 1);
		strcpy(t->spec, spec);
		t->server = strcmp(spec, VERIFY_SPEC) == 0 ? SERVER_VERIFY : SERVER_LOOKUP;
		t->next = c->tables;
		c->tables = t;
	}
	return t;
}

static bool can_be_asked(const char *spec, struct sv key)
{
	return strlen(spec) <= PROTO_TABLE_SPEC_MAX && key.len <= PROTO_TABLE_KEY_MAX;
}

static void question_send(struct tables_client *c, struct question *q)
{
	struct proto_table_query *rec;
	const char *spec;
	struct sv key;

	struct link *l = c->links[q->table->server];

	if (l == NULL || !link_is_attached(l))
		return;
	map_memo_missing(q->fetch->memo, q->index, &spec, &key);
	size_t spec_len = strlen(spec);

	rec = ring_reserve(&l->out, sizeof(*rec) + spec_len + key.len);
	if (rec == NULL) {
		c->unsent = true;
		return;
	}
	*rec = (struct proto_table_query){ .kind = PROTO_TABLE_QUERY,
					   .id = q->id,
					   .spec_len = (uint16_t)spec_len,
					   .key_len = (uint16_t)key.len };
	memcpy(rec + 1, spec, spec_len);
	memcpy((char *)(rec + 1) + spec_len, key.p, key.len);
	ring_commit(&l->out);
	q->sent = true;
	q->sends++;
}

/* False: its table has enough to do. */
static bool ask_next(struct tables_client *c, struct tables_fetch *f)
{
	size_t index = f->asked, slot = 0;
	const char *spec;
	struct sv key;

	map_memo_missing(f->memo, index, &spec, &key);
	struct table *t = table_of(c, spec);

	if (t->under_way >= (t->server == SERVER_VERIFY ? VERIFY_WINDOW : TABLE_WINDOW))
		return false;
	f->asked++;
	if (!can_be_asked(spec, key)) {
		answer(f, index, MAP_NOT_FOUND, SV("")); /* no table has a key like that */
		return true;
	}
	while (c->slots[slot].used)
		slot++;
	struct question *q = &c->slots[slot];

	c->free_count--;
	c->generation++;
	t->under_way++;
	*q = (struct question){ .table = t, .fetch = f, .index = index, .used = true };
	q->id = (uint32_t)(c->generation * PROTO_TABLE_ASKED_MAX) | (uint32_t)slot;
	f->under_way++;
	count(c, CTR_table_queries, 1);
	question_send(c, q);
	return true;
}

/* Ask as much as may be under way. */
static void pump(struct tables_client *c)
{
	if (c->unsent) {
		c->unsent = false;
		for (size_t i = 0; i < PROTO_TABLE_ASKED_MAX && !c->unsent; i++) {
			struct question *q = &c->slots[i];

			if (q->fetch != NULL && !q->sent)
				question_send(c, q);
		}
	}
	for (struct tables_fetch *f = c->list.next; f != &c->list; f = f->next) {
		while (f->asked < f->total && f->under_way < FETCH_WINDOW && c->free_count > 0 &&
		       ask_next(c, f))
			;
	}
}

static void finish(struct tables_fetch *f)
{
	tables_fn fn = f->fn;
	void *ctx = f->ctx;

	map_memo_answered(f->memo);
	fetch_unlink(f);
	free(f);
	fn(ctx);
}

struct tables_fetch *tables_fetch(struct tables_client *c, struct map_memo *memo, tables_fn fn,
				  void *ctx)
{
	return tables_fetch_within(c, memo, 0, fn, ctx);
}

struct tables_fetch *tables_fetch_within(struct tables_client *c, struct map_memo *memo,
					 int64_t timeout_ms, tables_fn fn, void *ctx)
{
	struct tables_fetch *f = xcalloc(1, sizeof(*f));
	int64_t time_ms = timeout_ms > c->timeout_ms ? timeout_ms : c->timeout_ms;

	*f = (struct tables_fetch){ .client = c,
				    .memo = memo,
				    .fn = fn,
				    .ctx = ctx,
				    .until_ms = clock_now().ms + time_ms,
				    .total = map_memo_missing_count(memo) };
	f->prev = c->list.prev;
	f->next = &c->list;
	f->prev->next = f;
	c->list.prev = f;
	pump(c);
	if (f->answered < f->total)
		return f;
	map_memo_answered(memo);
	fetch_unlink(f);
	free(f);
	return NULL;
}

/* ---- answers ---- */

static enum map_status status_of(const struct proto_table_answer *h)
{
	return h->status == TABLE_FOUND       ? MAP_FOUND
	       : h->status == TABLE_NOT_FOUND ? MAP_NOT_FOUND
					      : MAP_ERROR;
}

static void question_answered(struct tables_client *c, struct question *q, enum map_status status,
			      struct sv value)
{
	struct tables_fetch *f = q->fetch;
	size_t index = q->index;

	slot_free(c, q);
	if (f == NULL)
		return;
	f->under_way--;
	answer(f, index, status, value);
	if (f->answered == f->total)
		finish(f);
}

static int input_from(struct tables_client *c, enum server server, const void *rec, size_t len)
{
	struct proto_table_answer h;

	if (len < sizeof(h))
		return E_PEER;
	memcpy(&h, rec, sizeof(h));
	struct sv value = { (const char *)rec + sizeof(h), len - sizeof(h) };

	if (h.status > TABLE_ERROR || h.value_len != value.len ||
	    value.len > PROTO_TABLE_VALUE_MAX || (value.len > 0 && h.status != TABLE_FOUND) ||
	    memchr(value.p, '\0', value.len) != NULL)
		return E_PEER;
	struct question *q = &c->slots[h.id % PROTO_TABLE_ASKED_MAX];

	if (q->used && q->sent && q->id == h.id && q->table->server == server)
		question_answered(c, q, status_of(&h), value);
	pump(c);
	return 0;
}

int tables_client_input(struct tables_client *c, const void *rec, size_t len)
{
	return input_from(c, SERVER_LOOKUP, rec, len);
}

int tables_client_verified(struct tables_client *c, const void *rec, size_t len)
{
	return input_from(c, SERVER_VERIFY, rec, len);
}

static void set_link(struct tables_client *c, enum server server, struct link *l)
{
	c->links[server] = l;
	for (size_t i = 0; i < PROTO_TABLE_ASKED_MAX; i++) {
		struct question *q = &c->slots[i];

		if (!q->used || q->table->server != server)
			continue;
		q->sent = false; /* the worker that had it is gone */
		if (q->fetch == NULL || q->sends >= SENDS_MAX)
			question_answered(c, q, MAP_ERROR, SV(""));
	}
	c->unsent = true;
	pump(c);
}

void tables_client_set_link(struct tables_client *c, struct link *l)
{
	set_link(c, SERVER_LOOKUP, l);
}

void tables_client_set_verify(struct tables_client *c, struct link *l)
{
	set_link(c, SERVER_VERIFY, l);
}

static void report(struct tables_client *c)
{
	if (clock_now().ms < c->next_report_ms)
		return;
	c->next_report_ms = clock_now().ms + REPORT_MS;
	log_warn("remote tables: no answer within %lld seconds", (long long)c->timeout_ms / 1000);
}

static void give_up(struct tables_fetch *f)
{
	struct tables_client *c = f->client;

	report(c);
	count(c, CTR_table_failures, f->total - f->answered);
	for (size_t i = 0; i < PROTO_TABLE_ASKED_MAX; i++) {
		struct question *q = &c->slots[i];

		if (q->fetch == f && !q->sent)
			slot_free(c, q);
		else if (q->fetch == f)
			q->fetch = NULL;
	}
	for (size_t i = 0; i < f->total; i++)
		map_memo_answer(f->memo, i, MAP_ERROR, SV(""));
	finish(f);
}

/* Whose time has come first; their times differ. */
static struct tables_fetch *find_late(struct tables_client *c)
{
	int64_t now = clock_now().ms;
	struct tables_fetch *f = c->list.next;

	while (f != &c->list && f->until_ms > now)
		f = f->next;
	return f != &c->list ? f : NULL;
}

void tables_client_tick(struct tables_client *c)
{
	struct tables_fetch *f;

	pump(c);
	/* the end of one may begin others, and end them */
	while ((f = find_late(c)) != NULL)
		give_up(f);
}
