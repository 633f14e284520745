/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tests of postscreen before the greeting, and what follows from all of them; see
 * workers/smtp_in/screen.h. Log lines and replies are Postfix's. */
#include "workers/smtp_in/screen.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"
#include "policy/rbl_pattern.h"
#include "shm/counters.h"
#include "workers/common/deliverlog.h"
#include "workers/smtp_in/session.h"

#define RECALL_MS   2000 /* then a client counts as a new one */
#define SHOWN_BYTES 100u /* of what a client sent */
#define SHOWN_LEN   100  /* of that when it is escaped */
#define DNSBL_NAME  512
#define NO_TTL      (-1)
#define EARLY_BITS  (SCREEN_BIT(SCREEN_PREGREET) | SCREEN_BIT(SCREEN_DNSBL))
/* Failures that are no test's, in tests.failed. */
#define FAILED_LIST  SCREEN_BIT(SCREEN_TEST_COUNT)     /* the access list */
#define FAILED_VETO  SCREEN_BIT(SCREEN_TEST_COUNT + 1) /* postscreen_allowlist_interfaces */
#define FAILED_TESTS (SCREEN_BIT(SCREEN_TEST_COUNT) - 1)

enum screen_state { SCREEN_LOOK, SCREEN_RECALL, SCREEN_EARLY, SCREEN_TALK, SCREEN_OVER };

/* One client address: all its connections that are under test share what it has passed. */
struct tested {
	unsigned open;
	unsigned called_new;
	int64_t expires_s[SCREEN_TEST_COUNT];
};

struct screen_clients {
	struct strmap *by_addr;
	unsigned count;
	const bool *stress;
};

struct dnsbl {          /* a client's score */
	void **queries; /* per list; NULL = none under way */
	unsigned pending;
	bool asking, late;
	int total, best_weight;
	const char *best; /* list that contributed most */
	int64_t fail_ttl_s, pass_ttl_s, ttl_s;
	int64_t deadline_ms, ready_ms; /* INT64_MAX = none */
};

struct screen {
	const struct screen_conf *k;
	const struct screen_ops *ops;
	void *owner;
	struct screen_clients *clients;
	struct tested *tested;
	char addr[46], port[8], server_addr[46], server_port[8];
	enum screen_state state;
	enum screen_verdict verdict;
	struct screen_tests tests;
	unsigned done; /* early tests that are decided */
	bool is_new, stays, collected;
	bool gone;               /* the client has hung up */
	const char *phase;       /* for the log */
	const char *final_reply; /* NULL = the usual one */
	char *rcpt_reply;        /* heap; NULL = the usual one */
	char *drop_reply;        /* heap */
	int64_t start_ms, deadline_ms;
	struct map_memo *memo;
	void *tables_query;
	struct dnsbl dnsbl;
	struct screentalk *talk;
	struct buf out;
};

/* ---- clients ---- */

struct screen_clients *screen_clients_new(const bool *stress)
{
	struct screen_clients *c = xcalloc(1, sizeof(*c));

	c->by_addr = strmap_new();
	c->stress = stress;
	return c;
}

void screen_clients_free(struct screen_clients **cp)
{
	struct screen_clients *c;

	TAKE(c, *cp);
	if (c == NULL)
		return;
	ASSERT(c->count == 0);
	strmap_free(&c->by_addr);
	free(c);
}

unsigned screen_clients_count(const struct screen_clients *c)
{
	return c->count;
}

static struct tested *tested_open(struct screen_clients *c, const char *addr)
{
	struct tested *t = strmap_get(c->by_addr, sv_from(addr));

	c->count++;
	gauge_set(session_counters, GAU_screen_testing, c->count);
	if (t == NULL) {
		t = xcalloc(1, sizeof(*t));
		for (unsigned i = 0; i < SCREEN_TEST_COUNT; i++)
			t->expires_s[i] = -1; /* it is not known yet */
		strmap_put(c->by_addr, sv_from(addr), t);
	}
	t->open++;
	return t;
}

static void tested_close(struct screen_clients *c, struct tested *t, const char *addr)
{
	ASSERT(c->count > 0 && t->open > 0);
	c->count--;
	gauge_set(session_counters, GAU_screen_testing, c->count);
	if (--t->open > 0)
		return;
	strmap_remove(c->by_addr, sv_from(addr));
	free(t);
}

/* ---- beginning and end ---- */

struct screen *screen_new(const struct screen_conf *k, struct screen_clients *clients,
			  const struct screen_ops *ops, void *owner, const struct screen_peer *peer)
{
	struct screen *s = xcalloc(1, sizeof(*s));

	s->k = k;
	s->ops = ops;
	s->owner = owner;
	s->clients = clients;
	str_copy(s->addr, sizeof(s->addr), sv_from(peer->addr));
	str_copy(s->port, sizeof(s->port), sv_from(peer->port));
	str_copy(s->server_addr, sizeof(s->server_addr), sv_from(peer->server_addr));
	str_copy(s->server_port, sizeof(s->server_port), sv_from(peer->server_port));
	s->tested = tested_open(clients, s->addr);
	s->tests.expires_s = s->tested->expires_s;
	s->start_ms = clock_now().ms;
	s->deadline_ms = INT64_MAX;
	s->dnsbl.deadline_ms = s->dnsbl.ready_ms = INT64_MAX;
	s->phase = "";
	return s;
}

static void dnsbl_end(struct screen *s)
{
	for (unsigned i = 0; s->dnsbl.queries != NULL && i < s->k->list_count; i++) {
		if (s->dnsbl.queries[i] != NULL)
			s->ops->dns_cancel(s->ops->ctx, s->dnsbl.queries[i]);
	}
	free(s->dnsbl.queries);
	s->dnsbl.queries = NULL;
	s->dnsbl.pending = 0;
}

void screen_free(struct screen **sp)
{
	struct screen *s;

	TAKE(s, *sp);
	if (s == NULL)
		return;
	if (s->tables_query != NULL)
		s->ops->tables_cancel(s->ops->ctx, s->tables_query);
	map_memo_free(&s->memo);
	dnsbl_end(s);
	screentalk_free(&s->talk);
	tested_close(s->clients, s->tested, s->addr);
	free(s->rcpt_reply);
	free(s->drop_reply);
	buf_fini(&s->out);
	free(s);
}

void *screen_owner(const struct screen *s)
{
	return s->owner;
}

static void count(enum counter_id id)
{
	counter_add(session_counters, id, 1);
}

/* `text` without CRLF. */
static void say(struct screen *s, const char *text)
{
	struct buf line = BUF_INIT;

	screentalk_refusal(&s->k->talk, s->addr, s->port, text, &line);
	buf_add_sv(&s->out, buf_sv(&line));
	buf_fini(&line);
}

static void log_pass(struct screen *s)
{
	if (s->tests.passed == 0 || s->tests.passed != s->tests.todo)
		return;
	bool old = !s->is_new || s->tested->called_new++ > 0;

	count(CTR_screen_passed);
	log_info("PASS %s [%s]:%s", old ? "OLD" : "NEW", s->addr, s->port);
}

/* A test that is off is no reason to call a client new when it is switched on. */
static void remember(struct screen *s)
{
	for (unsigned i = 0; i < SCREEN_TEST_COUNT; i++) {
		int64_t *at = &s->tests.expires_s[i];

		if ((s->k->enabled & SCREEN_BIT(i)) == 0 && *at == SCREEN_NEVER_PASSED)
			*at = SCREEN_NOT_TESTED;
	}
	if (s->k->has_cache)
		s->ops->remember(s->ops->ctx, s, s->tests.expires_s);
}

/* All that is to be found out is known. */
static void conclude(struct screen *s)
{
	dnsbl_end(s);
	s->state = SCREEN_OVER;
	s->deadline_ms = s->dnsbl.deadline_ms = s->dnsbl.ready_ms = INT64_MAX;
	if (s->tests.failed != 0)
		s->tests.passed = 0;
	log_pass(s);
	if (s->tests.passed != 0)
		remember(s);
	if (!s->stays) {
		s->verdict = SCREEN_PASSES;
		return;
	}
	if (!s->gone && s->talk == NULL)
		say(s, s->final_reply != NULL ? s->final_reply
					      : "421 4.3.2 Service currently unavailable");
	log_info("DISCONNECT [%s]:%s", s->addr, s->port);
	s->verdict = SCREEN_ENDS;
}

static void drop(struct screen *s, const char *reply)
{
	s->stays = true;
	s->final_reply = reply;
	conclude(s);
}

/* Whom it is told to will not be let through. */
static void enforce(struct screen *s, const char *rcpt_reply)
{
	free(s->rcpt_reply);
	s->rcpt_reply = xstrdup(rcpt_reply);
	s->stays = true;
}

static void add_since(struct screen *s, struct buf *out)
{
	deliver_delay_format(out, (clock_now().ms - s->start_ms) * 1000);
}

static void begin_phase(struct screen *s, const char *name)
{
	s->phase = name;
	s->start_ms = clock_now().ms;
}

static void hang_up(struct screen *s)
{
	struct buf since = BUF_INIT;

	s->gone = s->stays = true;
	add_since(s, &since);
	count(CTR_screen_hangups);
	log_info("HANGUP after %s from [%s]:%s in %s", buf_cstr(&since), s->addr, s->port,
		 s->phase);
	buf_fini(&since);
	conclude(s);
}

/* ---- the dialogue ---- */

static void follow_talk(struct screen *s)
{
	switch (screentalk_state(s->talk)) {
	case SCREENTALK_ON:
		break;
	case SCREENTALK_BYE:
		conclude(s);
		break;
	case SCREENTALK_HANGUP:
		hang_up(s);
		break;
	}
}

static void begin_talk(struct screen *s)
{
	const struct screentalk_client client = {
		.addr = s->addr,
		.port = s->port,
		.tests = &s->tests,
		.stress = s->clients->stress,
		.rcpt_reply = s->rcpt_reply,
	};

	dnsbl_end(s);
	begin_phase(s, "tests after SMTP handshake");
	count(CTR_screen_dialogues);
	s->stays = true;
	s->state = SCREEN_TALK;
	s->deadline_ms = INT64_MAX;
	s->talk = screentalk_new(&s->k->talk, &client);
	follow_talk(s);
}

static void go_on_from_early(struct screen *s)
{
	unsigned todo = s->tests.todo & SCREEN_DIALOGUE_BITS;

	if (s->stays || (s->tests.passed & SCREEN_DIALOGUE_BITS) != todo)
		begin_talk(s);
	else
		conclude(s);
}

/* ---- lists in the DNS ---- */

static void lower(int64_t *ttl_s, int64_t to)
{
	if (*ttl_s < 0 || *ttl_s > to)
		*ttl_s = to;
}

static bool filter_matches(const struct screen_filter *f, const uint32_t *addrs, size_t n)
{
	bool hit = f->pattern == NULL && n > 0;

	for (size_t i = 0; i < n && !hit; i++)
		hit = rbl_answer_matches(f->pattern, addrs[i]);
	return hit;
}

static void add_score(struct screen *s, unsigned list, const uint32_t *addrs, size_t n,
		      int64_t ttl_s)
{
	const struct screen_list *l = &s->k->lists[list];
	struct dnsbl *b = &s->dnsbl;

	for (unsigned i = 0; i < l->filter_count; i++) {
		const struct screen_filter *f = &l->filters[i];

		if (filter_matches(f, addrs, n)) {
			if (b->best == NULL || b->best_weight < f->weight) {
				b->best = l->domain;
				b->best_weight = f->weight;
			}
			b->total += f->weight;
		}
		lower((f->weight > 0) == (n > 0) ? &b->fail_ttl_s : &b->pass_ttl_s, ttl_s);
	}
}

static void log_listed(const struct screen *s, unsigned list, const uint32_t *addrs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t a = addrs[i];

		log_as(s->k->dnsblog_name, LOG_LEVEL_INFO,
		       "addr %s listed by domain %s as %u.%u.%u.%u", s->addr,
		       s->k->lists[list].domain, a >> 24, a >> 16 & 255, a >> 8 & 255, a & 255);
	}
}

static bool is_spared(const struct screen *s)
{
	int64_t least = s->k->p->postscreen_dnsbl_allowlist_threshold;

	return s->tests.failed == 0 && least < 0 && s->dnsbl.total <= least &&
	       s->dnsbl.total < s->k->p->postscreen_dnsbl_threshold;
}

/* A good score stands for the other tests, also for those that are off now. */
static void spare_tests(struct screen *s)
{
	int64_t until_s = clock_wall_s() + s->dnsbl.ttl_s;

	for (unsigned i = 0; i < SCREEN_TEST_COUNT; i++) {
		unsigned bit = SCREEN_BIT(i);

		if (i == SCREEN_DNSBL)
			continue;
		if ((s->tests.todo & ~s->tests.passed & bit) != 0) {
			s->done |= bit;
			s->tests.passed |= bit;
		}
		if (s->tests.expires_s[i] < until_s)
			s->tests.expires_s[i] = until_s;
	}
}

/* The score as far as it is known by now. */
static void collect(struct screen *s)
{
	const struct params *p = s->k->p;
	struct dnsbl *b = &s->dnsbl;
	int64_t least_s = p->postscreen_dnsbl_min_ttl / 1000;
	int64_t most_s = p->postscreen_dnsbl_max_ttl / 1000;

	if (s->collected)
		return;
	s->collected = true;
	b->ttl_s = b->total > 0 ? b->fail_ttl_s : b->pass_ttl_s;
	b->ttl_s = b->ttl_s < least_s ? least_s : b->ttl_s;
	b->ttl_s = b->ttl_s > most_s ? most_s : b->ttl_s;
	if (is_spared(s))
		spare_tests(s);
}

/* False: that was the end of it. */
static bool judge_score(struct screen *s)
{
	struct buf reply = BUF_INIT, shown = BUF_INIT;
	const char *code = s->k->dnsbl == SCREEN_DROP ? "521" : "550";

	collect(s);
	if (s->dnsbl.total < s->k->p->postscreen_dnsbl_threshold) {
		s->tests.expires_s[SCREEN_DNSBL] = clock_wall_s() + s->dnsbl.ttl_s;
		s->tests.passed |= SCREEN_BIT(SCREEN_DNSBL);
		return true;
	}
	count(CTR_screen_listed);
	log_info("DNSBL rank %d for [%s]:%s", s->dnsbl.total, s->addr, s->port);
	screen_conf_shown(s->k, s->dnsbl.best, &shown);
	buf_printf(&reply, "%s 5.7.1 Service unavailable; client [%s] blocked using %s", code,
		   s->addr, buf_cstr(&shown));
	if (s->k->dnsbl != SCREEN_IGNORE)
		s->tests.failed |= SCREEN_BIT(SCREEN_DNSBL);
	if (s->k->dnsbl == SCREEN_ENFORCE)
		enforce(s, buf_cstr(&reply));
	if (s->k->dnsbl == SCREEN_DROP) {
		s->drop_reply = xstrdup(buf_cstr(&reply));
		drop(s, s->drop_reply);
	}
	buf_fini(&reply);
	buf_fini(&shown);
	return s->state != SCREEN_OVER;
}

static bool early_is_done(const struct screen *s)
{
	unsigned todo = s->tests.todo & EARLY_BITS;

	return (s->done & EARLY_BITS & todo) == todo;
}

/* Time is up, or all is known before. */
static void early_over(struct screen *s)
{
	unsigned pregreet = SCREEN_BIT(SCREEN_PREGREET);

	if ((s->tests.todo & pregreet) != 0 && ((s->tests.failed | s->done) & pregreet) == 0) {
		s->tests.expires_s[SCREEN_PREGREET] =
			clock_wall_s() + s->k->p->postscreen_greet_ttl / 1000;
		s->tests.passed |= pregreet;
	}
	if (s->k->pregreet == SCREEN_IGNORE)
		s->tests.failed &= ~pregreet; /* and it is tested again the next time */
	if ((s->tests.todo & SCREEN_BIT(SCREEN_DNSBL)) != 0 && !judge_score(s))
		return;
	go_on_from_early(s);
}

static void dnsbl_ready(struct screen *s)
{
	s->dnsbl.ready_ms = INT64_MAX;
	collect(s);
	s->done |= SCREEN_BIT(SCREEN_DNSBL);
	if (early_is_done(s))
		early_over(s);
}

static void dnsbl_received(struct screen *s)
{
	int64_t delay_ms = s->k->p->dnsblog_reply_delay;

	if (s->dnsbl.pending > 0 || s->dnsbl.asking || s->state != SCREEN_EARLY)
		return;
	if (delay_ms > 0)
		s->dnsbl.ready_ms = clock_now().ms + delay_ms;
	else
		dnsbl_ready(s);
}

void screen_dns_answer(struct screen *s, unsigned list, const uint32_t *addrs, size_t n,
		       int64_t ttl_s)
{
	log_speak_as(s->k->log_name);
	ASSERT(list < s->k->list_count);
	if (s->dnsbl.queries != NULL)
		s->dnsbl.queries[list] = NULL;
	log_listed(s, list, addrs, n);
	if (s->state != SCREEN_EARLY || s->dnsbl.late || s->collected)
		return;
	ASSERT(s->dnsbl.pending > 0);
	s->dnsbl.pending--;
	add_score(s, list, addrs, n, ttl_s);
	dnsbl_received(s);
}

static void ask_lists(struct screen *s)
{
	struct dnsbl *b = &s->dnsbl;
	char name[DNSBL_NAME];

	b->queries = xcalloc(s->k->list_count, sizeof(*b->queries));
	b->fail_ttl_s = b->pass_ttl_s = NO_TTL;
	b->deadline_ms = clock_now().ms + s->k->p->postscreen_dnsbl_timeout;
	b->asking = true;
	for (unsigned i = 0; i < s->k->list_count; i++) {
		if (!rbl_name_of_addr(s->addr, s->k->lists[i].domain, name, sizeof(name)))
			continue;
		b->pending++;
		void *query = s->ops->dns(s->ops->ctx, s, i, name);

		b->queries[i] = query;
	}
	b->asking = false;
	dnsbl_received(s);
}

/* Lists that have not answered by now are not waited for; the client sits out its time. */
static void dnsbl_late(struct screen *s)
{
	s->dnsbl.deadline_ms = INT64_MAX;
	if (s->dnsbl.pending == 0)
		return;
	s->dnsbl.late = true;
	for (unsigned i = 0; i < s->k->list_count; i++) {
		if (s->dnsbl.queries[i] != NULL)
			log_warn("dnsblog reply timeout %llds for %s",
				 (long long)(s->k->p->postscreen_dnsbl_timeout / 1000),
				 s->k->lists[i].domain);
	}
}

/* ---- before the greeting ---- */

static void begin_early(struct screen *s)
{
	bool stress = s->clients->stress != NULL && *s->clients->stress;

	begin_phase(s, "tests before SMTP handshake");
	s->state = SCREEN_EARLY;
	s->deadline_ms = s->start_ms + (stress ? s->k->stress_greet_wait_ms : s->k->greet_wait_ms);
	if ((s->tests.todo & SCREEN_BIT(SCREEN_PREGREET)) != 0)
		buf_add_str(&s->out, s->k->teaser);
	if ((s->tests.todo & SCREEN_BIT(SCREEN_DNSBL)) != 0)
		ask_lists(s);
}

static void add_escaped(struct sv text, struct buf *out)
{
	static const char letters[] = "abtnvfr"; /* from \a = 7 */

	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c >= 7 && c <= 13)
			buf_printf(out, "\\%c", letters[c - 7]);
		else if (c < ' ' || c > 126)
			buf_printf(out, "\\%03o", c);
		else
			buf_printf(out, c == '\\' ? "\\%c" : "%c", c);
	}
}

/* It speaks before its turn. */
static void pregreet(struct screen *s, const char *data, size_t len)
{
	unsigned bit = SCREEN_BIT(SCREEN_PREGREET);
	struct buf text = BUF_INIT, since = BUF_INIT;

	add_escaped((struct sv){ data, size_min(len, SHOWN_BYTES) }, &text);
	add_since(s, &since);
	count(CTR_screen_pregreets);
	log_info("PREGREET %zu after %s from [%s]:%s: %.*s", len, buf_cstr(&since), s->addr,
		 s->port, SHOWN_LEN, buf_cstr(&text));
	buf_fini(&text);
	buf_fini(&since);
	s->tests.failed |= bit;
	if (s->k->pregreet == SCREEN_DROP) {
		drop(s, "521 5.5.1 Protocol error");
		return;
	}
	if (s->k->pregreet == SCREEN_ENFORCE)
		enforce(s, "550 5.5.1 Protocol error");
	s->done |= bit;
	if (early_is_done(s))
		early_over(s);
}

/* ---- what is known of it ---- */

static void find_todo(struct screen *s, int64_t now_s)
{
	unsigned kept = s->tests.failed & ~FAILED_TESTS;

	s->tests.todo = s->tests.passed = 0;
	s->tests.failed = kept;
	s->is_new = false;
	for (unsigned i = 0; i < SCREEN_TEST_COUNT; i++) {
		int64_t at = s->tests.expires_s[i];

		s->is_new = s->is_new || at == SCREEN_NEVER_PASSED;
		if ((s->k->enabled & SCREEN_BIT(i)) != 0 && now_s > at)
			s->tests.todo |= SCREEN_BIT(i);
	}
}

static void test(struct screen *s)
{
	if ((s->tests.failed & FAILED_VETO) != 0) {
		s->stays = true;
		log_info("ALLOWLIST VETO [%s]:%s", s->addr, s->port);
	}
	if (s->clients->count > s->k->p->postscreen_pre_queue_limit) {
		count(CTR_screen_limited);
		log_info("reject: connect from [%s]:%s: all screening ports busy", s->addr,
			 s->port);
		drop(s, "421 4.3.2 All screening ports are busy");
	} else if ((s->tests.todo & EARLY_BITS) != 0) {
		begin_early(s);
	} else if ((s->tests.todo & SCREEN_DIALOGUE_BITS) != 0 || s->stays) {
		begin_talk(s);
	} else {
		conclude(s);
	}
}

bool screen_is_recalling(const struct screen *s)
{
	return s->state == SCREEN_RECALL;
}

void screen_recalled(struct screen *s, const int64_t expires_s[SCREEN_TEST_COUNT])
{
	if (s->state != SCREEN_RECALL)
		return;
	log_speak_as(s->k->log_name);
	s->deadline_ms = INT64_MAX;
	for (unsigned i = 0; i < SCREEN_TEST_COUNT; i++)
		s->tests.expires_s[i] = expires_s != NULL ? expires_s[i] : SCREEN_NEVER_PASSED;
	find_todo(s, expires_s != NULL ? clock_wall_s() : SCREEN_NEVER_PASSED + 1);
	if (expires_s == NULL || s->tests.todo != 0) {
		test(s);
		return;
	}
	count(CTR_screen_known);
	log_info("PASS OLD [%s]:%s", s->addr, s->port);
	conclude(s);
}

static void recall(struct screen *s)
{
	unsigned veto = s->tests.failed & FAILED_VETO;

	/* the veto comes after the cache */
	s->tests.failed &= ~FAILED_VETO;
	if (s->tests.failed == 0 && s->tested->open == 1 && s->k->has_cache) {
		s->tests.failed |= veto;
		s->state = SCREEN_RECALL;
		s->deadline_ms = clock_now().ms + RECALL_MS;
		s->ops->recall(s->ops->ctx, s);
		return;
	}
	s->tests.failed |= veto;
	if (s->tested->open > 1) {
		find_todo(s, clock_wall_s());
	} else {
		for (unsigned i = 0; i < SCREEN_TEST_COUNT; i++)
			s->tests.expires_s[i] = SCREEN_NEVER_PASSED;
		find_todo(s, SCREEN_NEVER_PASSED + 1);
	}
	test(s);
}

/* ---- access ---- */

/* False: that was the end of it. */
static bool denied(struct screen *s)
{
	count(CTR_screen_denied);
	log_info("DENYLISTED [%s]:%s", s->addr, s->port);
	switch (s->k->denied) {
	case SCREEN_DROP:
		s->tests.failed |= FAILED_LIST;
		drop(s, "521 5.3.2 Service currently unavailable");
		return false;
	case SCREEN_ENFORCE:
		s->tests.failed |= FAILED_LIST;
		enforce(s, "550 5.3.2 Service currently unavailable");
		break;
	case SCREEN_IGNORE:
		break;
	}
	return true;
}

static void look(struct screen *s);

static void looked(struct screen *s, enum screen_access access, bool veto)
{
	map_memo_free(&s->memo);
	if (access == SCREEN_ACCESS_PERMIT) {
		count(CTR_screen_allowed);
		log_info("ALLOWLISTED [%s]:%s", s->addr, s->port);
		conclude(s);
		return;
	}
	if (access == SCREEN_ACCESS_REJECT && !denied(s))
		return;
	if (veto)
		s->tests.failed |= FAILED_VETO;
	recall(s);
}

/* Tables are asked, and again when answers of remote ones have come. */
static void look(struct screen *s)
{
	bool missing = true, veto = false;
	enum screen_access access = SCREEN_ACCESS_DUNNO;

	if (s->memo == NULL && map_remote_is_used())
		s->memo = map_memo_new();
	while (missing) {
		if (s->memo != NULL)
			map_memo_enter(s->memo);
		access = screen_conf_access(s->k, s->addr);
		veto = !screen_conf_may_pass(s->k, s->server_addr);
		missing = s->memo != NULL && map_memo_leave();
		if (!missing)
			break;
		s->tables_query = s->ops->tables(s->ops->ctx, s, s->memo);
		if (s->tables_query != NULL)
			return;
	}
	looked(s, access, veto);
}

void screen_tables_answered(struct screen *s)
{
	log_speak_as(s->k->log_name);
	s->tables_query = NULL;
	if (s->state == SCREEN_LOOK)
		look(s);
}

void screen_begin(struct screen *s)
{
	int64_t limit = s->k->p->postscreen_client_connection_count_limit;

	log_speak_as(s->k->log_name);
	count(CTR_screen_connections);
	log_info("CONNECT from [%s]:%s to [%s]:%s", s->addr, s->port, s->server_addr,
		 s->server_port);
	if (limit > 0 && s->tested->open > limit) {
		count(CTR_screen_limited);
		log_info("NOQUEUE: reject: CONNECT from [%s]:%s: too many connections", s->addr,
			 s->port);
		drop(s, "421 4.7.0 Error: too many connections");
		return;
	}
	look(s);
}

/* ---- what the process around it calls ---- */

void screen_tick(struct screen *s)
{
	int64_t now = clock_now().ms;

	log_speak_as(s->k->log_name);
	if (s->state == SCREEN_TALK) {
		screentalk_tick(s->talk);
		follow_talk(s);
	} else if (s->state == SCREEN_RECALL && now >= s->deadline_ms) {
		screen_recalled(s, NULL);
	} else if (s->state == SCREEN_EARLY && now >= s->deadline_ms) {
		early_over(s);
	} else if (s->state == SCREEN_EARLY && now >= s->dnsbl.ready_ms) {
		dnsbl_ready(s);
	} else if (s->state == SCREEN_EARLY && now >= s->dnsbl.deadline_ms) {
		dnsbl_late(s);
	}
}

int64_t screen_next_ms(const struct screen *s)
{
	int64_t at = s->deadline_ms;

	if (s->state == SCREEN_TALK)
		return screentalk_next_ms(s->talk);
	at = s->dnsbl.ready_ms < at ? s->dnsbl.ready_ms : at;
	return s->dnsbl.deadline_ms < at ? s->dnsbl.deadline_ms : at;
}

void screen_stop(struct screen *s)
{
	log_speak_as(s->k->log_name);
	if (s->state == SCREEN_OVER)
		return;
	if (s->talk != NULL) {
		screentalk_free(&s->talk);
		s->gone = true; /* it may be under TLS: nothing more is said */
	}
	s->tests.passed = 0;
	drop(s, "421 4.3.2 Service currently unavailable");
}

bool screen_peeks(const struct screen *s)
{
	unsigned bit = SCREEN_BIT(SCREEN_PREGREET);

	return s->state == SCREEN_EARLY && (s->tests.todo & bit) != 0 && (s->done & bit) == 0;
}

bool screen_reads(const struct screen *s)
{
	return s->state == SCREEN_TALK && s->out.len == 0 && screentalk_wants_input(s->talk) &&
	       screentalk_out(s->talk)->len == 0;
}

void screen_input(struct screen *s, const char *data, size_t len)
{
	log_speak_as(s->k->log_name);
	if (screen_peeks(s)) {
		pregreet(s, data, len);
	} else if (s->state == SCREEN_TALK) {
		screentalk_input(s->talk, data, len);
		follow_talk(s);
	}
}

void screen_hangup(struct screen *s)
{
	log_speak_as(s->k->log_name);
	if (s->state == SCREEN_OVER)
		return;
	if (s->talk != NULL) {
		screentalk_eof(s->talk);
		follow_talk(s);
	} else {
		hang_up(s);
	}
}

struct buf *screen_out(struct screen *s)
{
	if (s->talk != NULL && s->out.len == 0)
		return screentalk_out(s->talk);
	return &s->out;
}

enum screen_verdict screen_verdict(const struct screen *s)
{
	return s->verdict;
}
