/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See workers/deliver/sasllink.h. */
#include "workers/deliver/sasllink.h"

#include <stdlib.h>
#include <string.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/worker.h"

#define GRACE_MS 10000 /* more than the worker takes to be there again */
#define LOST     "Connection lost to authentication server"

struct sasl_link {
	struct worker *w;
	struct worker_peer *peer;
	char *mechanisms;       /* of this life; NULL: not heard yet */
	struct sasl_asker list; /* head: who waits for something */
	uint32_t last;
};

struct sasl_link *sasl_link_new(struct worker *w)
{
	struct sasl_link *l = xcalloc(1, sizeof(*l));

	l->w = w;
	l->list.next = l->list.prev = &l->list;
	return l;
}

/* ---- who waits ---- */

static void enter(struct sasl_link *l, struct sasl_asker *a)
{
	if (a->next == NULL) {
		a->prev = l->list.prev;
		a->next = &l->list;
		a->prev->next = a;
		l->list.prev = a;
		a->until_ms = clock_now().ms + l->w->params->auth_timeout + GRACE_MS;
	}
}

static void leave(struct sasl_asker *a)
{
	if (a->next == NULL)
		return;
	a->prev->next = a->next;
	a->next->prev = a->prev;
	a->next = a->prev = NULL;
	a->waits = a->asked = false;
}

static void tell(struct sasl_asker *a, const struct sasl_said_text *t)
{
	leave(a);
	a->said(a->ctx, t);
}

static void fail(struct sasl_asker *a, const char *why)
{
	a->number = 0;
	tell(a, &(struct sasl_said_text){ .what = SASL_SAID_FAILED, .text = sv_from(why) });
}

/* The first in the list that is so; the list changes with every call of its owner. */
static struct sasl_asker *find(struct sasl_link *l,
			       bool (*is)(const struct sasl_asker *a, int64_t now_ms),
			       int64_t now_ms)
{
	for (struct sasl_asker *a = l->list.next; a != &l->list; a = a->next) {
		if (is(a, now_ms))
			return a;
	}
	return NULL;
}

static bool is_waiting(const struct sasl_asker *a, int64_t now_ms UNUSED)
{
	return a->waits;
}

static bool was_asked(const struct sasl_asker *a, int64_t now_ms UNUSED)
{
	return a->asked;
}

static bool is_late(const struct sasl_asker *a, int64_t now_ms)
{
	return a->until_ms <= now_ms;
}

void sasl_link_tick(struct sasl_link *l)
{
	int64_t now_ms = clock_now().ms;
	struct sasl_asker *a;

	while ((a = find(l, is_late, now_ms)) != NULL) {
		log_warn("SASL authentication: no answer of the saslclient worker");
		fail(a, LOST);
	}
}

/* ---- lives ---- */

void sasl_link_attach(struct sasl_link *l, struct worker_peer *peer)
{
	l->peer = peer;
}

/* A dialogue cannot go on with another; what was not begun waits. */
void sasl_link_detach(struct sasl_link *l, const struct worker_peer *peer)
{
	struct sasl_asker *a;

	if (l->peer != peer)
		return;
	l->peer = NULL;
	free(l->mechanisms);
	l->mechanisms = NULL;
	while ((a = find(l, was_asked, 0)) != NULL)
		fail(a, LOST);
}

static void on_mechanisms(struct sasl_link *l, struct sv words)
{
	struct sasl_asker *a;

	free(l->mechanisms);
	l->mechanisms = xstrndup(words.p, words.len);
	while ((a = find(l, is_waiting, 0)) != NULL) {
		a->waits = false;
		a->ask(a->ctx);
	}
}

/* ---- questions ---- */

static void ask(struct sasl_link *l, struct proto_sasl_ask h, const struct sv *strings,
		unsigned count)
{
	static char rec[sizeof(h) + PROTO_SASL_TEXT_MAX];
	size_t len = sizeof(h);

	for (unsigned i = 0; i < count; i++) {
		if (strings[i].len > 0)
			memcpy(rec + len, strings[i].p, strings[i].len);
		len += strings[i].len;
		rec[len++] = '\0';
	}
	h.kind = PROTO_SASL_ASK;
	h.text_len = (uint32_t)(len - sizeof(h));
	memcpy(rec, &h, sizeof(h));
	worker_send(l->w, l->peer->link, rec, len);
	explicit_bzero(rec, len);
}

static bool fits(const struct sv *strings, unsigned count)
{
	size_t len = 0;

	for (unsigned i = 0; i < count; i++) {
		if (strings[i].len > 0 && memchr(strings[i].p, '\0', strings[i].len) != NULL)
			return false;
		len += strings[i].len + 1;
	}
	return len <= PROTO_SASL_TEXT_MAX;
}

static uint32_t next_number(struct sasl_link *l)
{
	return ++l->last != 0 ? l->last : ++l->last;
}

static bool has_word(const char *words, struct sv word)
{
	for (; *words != '\0'; words += strspn(words, " ")) {
		struct sv w = { words, strcspn(words, " ") };

		if (sv_eq_nocase(w, word))
			return true;
		words += w.len;
	}
	return false;
}

static bool wants_library(const struct sasl_link *l, struct sv offered,
			  bool (*own)(struct sv mechanism))
{
	while ((offered = sv_trim(offered)).len > 0) {
		struct sv word = { offered.p, 0 };

		while (word.len < offered.len && !ascii_is_space(word.p[word.len]))
			word.len++;
		offered = (struct sv){ word.p + word.len, offered.len - word.len };
		if (!own(word) && (l->mechanisms == NULL || has_word(l->mechanisms, word)))
			return true;
	}
	return false;
}

bool sasl_link_start(struct sasl_link *l, struct sasl_asker *a, const struct sasl_start *s,
		     bool (*own)(struct sv mechanism))
{
	const struct sv strings[] = { sv_from(s->service), sv_from(s->server), s->offered, s->user,
				      s->password };

	if (!fits(strings, ARRAY_LEN(strings)) || !wants_library(l, s->offered, own)) {
		leave(a); /* it may have waited until this was known */
		return false;
	}
	enter(l, a);
	if (l->mechanisms == NULL) {
		a->waits = true;
		return true;
	}
	a->asked = true;
	a->number = next_number(l);
	ask(l,
	    (struct proto_sasl_ask){ .what = SASL_ASK_START,
				     .dialogue = a->number,
				     .options = s->options,
				     .authzid = s->authzid },
	    strings, ARRAY_LEN(strings));
	return true;
}

void sasl_link_step(struct sasl_link *l, struct sasl_asker *a, struct sv challenge)
{
	enter(l, a);
	a->asked = true;
	/* a life that is gone: told by the next tick, for its owner does not expect it now */
	if (l->peer == NULL || a->number == 0 || !fits(&challenge, 1)) {
		a->until_ms = 0;
		return;
	}
	ask(l, (struct proto_sasl_ask){ .what = SASL_ASK_STEP, .dialogue = a->number }, &challenge,
	    1);
}

void sasl_link_find(struct sasl_link *l, struct sasl_asker *a, const struct sv strings[4],
		    int64_t age_s)
{
	enter(l, a);
	if (!fits(strings, 4)) {
		a->until_ms = 0;
		return;
	}
	if (l->mechanisms == NULL) {
		a->waits = true;
		return;
	}
	a->asked = true;
	a->number = next_number(l);
	ask(l,
	    (struct proto_sasl_ask){ .what = SASL_ASK_FIND, .dialogue = a->number, .age_s = age_s },
	    strings, 4);
}

void sasl_link_remember(struct sasl_link *l, const struct sv strings[5])
{
	if (l->peer != NULL && fits(strings, 5))
		ask(l, (struct proto_sasl_ask){ .what = SASL_ASK_REMEMBER }, strings, 5);
}

void sasl_link_end(struct sasl_link *l, struct sasl_asker *a)
{
	if (a->number != 0 && l->peer != NULL)
		ask(l, (struct proto_sasl_ask){ .what = SASL_ASK_END, .dialogue = a->number }, NULL,
		    0);
	a->number = 0;
	leave(a);
}

/* ---- answers ---- */

static bool take_strings(struct sv rest, struct sv s[3])
{
	for (unsigned i = 0; i < 3; i++) {
		const char *end = rest.len > 0 ? memchr(rest.p, '\0', rest.len) : NULL;

		if (end == NULL)
			return false;
		s[i] = (struct sv){ rest.p, (size_t)(end - rest.p) };
		rest = (struct sv){ end + 1, rest.len - s[i].len - 1 };
	}
	return rest.len == 0;
}

/* It goes to a server as it is: no other command may be in it. */
static bool is_word(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 127)
			return false;
	}
	return true;
}

int sasl_link_record(struct sasl_link *l, const void *rec, size_t len)
{
	struct proto_sasl_answer h;
	struct sv s[3];

	if (len < sizeof(h))
		return E_PEER;
	memcpy(&h, rec, sizeof(h));
	if (h.kind != PROTO_SASL_ANSWER || h.what >= SASL_SAID_COUNT ||
	    h.text_len != len - sizeof(h) ||
	    !take_strings((struct sv){ (const char *)rec + sizeof(h), h.text_len }, s) ||
	    ((h.what == SASL_SAID_MORE || h.what == SASL_SAID_DONE) &&
	     (!is_word(s[0]) || !is_word(s[1]))))
		return E_PEER;
	if (h.what == SASL_SAID_MECHS) {
		on_mechanisms(l, s[1]);
		return 0;
	}
	struct sasl_asker *a = l->list.next;

	while (a != &l->list && (a->number != h.dialogue || !a->asked))
		a = a->next;
	if (a == &l->list) /* nobody waits for it any more */
		return 0;
	if (h.what != SASL_SAID_MORE)
		a->number = 0;
	tell(a, &(struct sasl_said_text){ (enum sasl_said)h.what, s[0], s[1], s[2] });
	return 0;
}
