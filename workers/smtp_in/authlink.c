/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See workers/smtp_in/authlink.h. */
#include "workers/smtp_in/authlink.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/server.h"

#define PEERS_MAX 32u
#define OFFER_MAX 480u /* mechanisms that fit into a line of EHLO */

struct auth_links {
	struct worker_peer *peers[PEERS_MAX];
	unsigned open[PEERS_MAX]; /* dialogues */
	uint32_t last_dialogue;
	unsigned listener_count;
	char *(*offers)[2]; /* by listener; in the clear, encrypted */
};

struct auth_links *auth_links_new(const struct conf *c)
{
	struct auth_links *l = xcalloc(1, sizeof(*l));

	l->listener_count = conf_listener_count(c);
	l->offers = xcalloc(size_max(l->listener_count, 1), sizeof(*l->offers));
	return l;
}

static uint32_t index_of(const struct auth_links *l, const struct worker_peer *peer)
{
	uint32_t i = 0;

	while (i < PEERS_MAX && l->peers[i] != peer)
		i++;
	return i;
}

void auth_links_attach(struct server *sv, struct worker_peer *peer)
{
	struct auth_links *l = sv->auths;
	uint32_t i = index_of(l, NULL);

	if (i == PEERS_MAX) {
		log_warn("too many auth workers: one is not used");
		return;
	}
	l->peers[i] = peer;
	l->open[i] = 0;
}

void auth_links_detach(struct server *sv, struct worker_peer *peer)
{
	struct auth_links *l = sv->auths;
	uint32_t i = index_of(l, peer);

	if (i == PEERS_MAX)
		return;
	l->peers[i] = NULL;
	for (uint32_t n = 0; n < sv->conn_cap; n++) {
		struct conn *c = sv->conns[n];

		if (c == NULL || c->session.auth == NULL || c->session.auth->dialogue == 0 ||
		    c->session.auth->peer != i)
			continue;
		session_auth_lost(&c->session);
		conn_queue(c);
	}
}

/* ---- questions ---- */

/* The one with the fewest dialogues. */
static uint32_t choose(const struct auth_links *l)
{
	uint32_t best = PEERS_MAX;

	for (uint32_t i = 0; i < PEERS_MAX; i++) {
		if (l->peers[i] != NULL && l->open[i] < PROTO_AUTH_ASKED_MAX &&
		    (best == PEERS_MAX || l->open[i] < l->open[best]))
			best = i;
	}
	return best;
}

int auth_links_ask(void *ctx, struct session *s, enum auth_ask what, unsigned flags,
		   struct sv strings)
{
	static char rec[sizeof(struct proto_auth_ask) + PROTO_AUTH_TEXT_MAX];
	struct server *sv = ctx;
	struct auth_links *l = sv->auths;
	struct session_auth *a = s->auth;

	if (what == AUTH_START) {
		a->peer = choose(l);
		if (a->peer < PEERS_MAX) {
			a->dialogue =
				++l->last_dialogue != 0 ? l->last_dialogue : ++l->last_dialogue;
			l->open[a->peer]++;
		}
	}
	if (a->peer >= PEERS_MAX || l->peers[a->peer] == NULL || strings.len > PROTO_AUTH_TEXT_MAX)
		return E_CONFIG;
	struct proto_auth_ask h = { .kind = PROTO_AUTH_ASK,
				    .session = s->number,
				    .dialogue = a->dialogue,
				    .what = (uint16_t)what,
				    .flags = (uint16_t)flags,
				    .text_len = (uint32_t)strings.len };

	memcpy(rec, &h, sizeof(h));
	if (strings.len > 0)
		memcpy(rec + sizeof(h), strings.p, strings.len);
	worker_send(sv->worker, l->peers[a->peer]->link, rec, sizeof(h) + strings.len);
	explicit_bzero(rec + sizeof(h), strings.len);
	if (what == AUTH_CANCEL && l->open[a->peer] > 0)
		l->open[a->peer]--;
	return 0;
}

const char *auth_links_offer(void *ctx, const struct session *s, bool encrypted)
{
	const struct server *sv = ctx;

	return s->listener->index < sv->auths->listener_count
		       ? sv->auths->offers[s->listener->index][encrypted]
		       : NULL;
}

/* ---- answers ---- */

static bool next_string(struct sv *rest, struct sv *s)
{
	const char *end = rest->len > 0 ? memchr(rest->p, '\0', rest->len) : NULL;

	if (end == NULL)
		return false;
	*s = (struct sv){ rest->p, (size_t)(end - rest->p) };
	*rest = (struct sv){ end + 1, rest->len - s->len - 1 };
	return true;
}

static bool is_list(struct sv words)
{
	for (size_t i = 0; i < words.len; i++) {
		char c = words.p[i];

		if (!ascii_is_alnum(c) && c != '-' && c != '_' && c != ' ')
			return false;
	}
	return true;
}

/* One listener or several have that service's name. */
static int on_offer(struct server *sv, struct sv words, struct sv service, bool encrypted)
{
	struct auth_links *l = sv->auths;

	if (!is_list(words))
		return E_PEER;
	while (words.len > OFFER_MAX) {
		const char *blank = memrchr(words.p, ' ', words.len);

		words.len = blank != NULL ? (size_t)(blank - words.p) : 0;
	}
	for (unsigned i = 0; i < l->listener_count && i < sv->listener_count; i++) {
		if (!sv_eq_str(service, sv->listeners[i].service_name))
			continue;
		free(l->offers[i][encrypted]);
		l->offers[i][encrypted] = xstrndup(words.p, words.len);
	}
	for (uint32_t n = 0; n < sv->conn_cap; n++) {
		struct conn *c = sv->conns[n];

		if (c == NULL || c->session.wait != WAIT_AUTH ||
		    auth_links_offer(sv, &c->session, encrypted) == NULL)
			continue;
		session_auth_offered(&c->session);
		conn_queue(c);
	}
	return 0;
}

int auth_links_record(struct server *sv, struct worker_peer *peer, const void *rec, size_t len)
{
	struct auth_links *l = sv->auths;
	uint32_t i = index_of(l, peer);
	struct proto_auth_answer h;
	struct sv text, user, lines, rest;

	if (i == PEERS_MAX || len < sizeof(h))
		return E_PEER;
	memcpy(&h, rec, sizeof(h));
	rest = (struct sv){ (const char *)rec + sizeof(h), len - sizeof(h) };
	if (h.kind != PROTO_AUTH_ANSWER || h.status >= AUTH_STATUS_COUNT ||
	    h.text_len != rest.len || !next_string(&rest, &text) || !next_string(&rest, &user) ||
	    !next_string(&rest, &lines) || rest.len > 0)
		return E_PEER;
	if (h.status == AUTH_OFFER)
		return on_offer(sv, text, user, (h.flags & AUTH_TLS) != 0);
	struct conn *c = h.session < sv->conn_cap ? sv->conns[h.session] : NULL;

	/* the client may have gone, and its number may be another's by now */
	if (c == NULL || c->session.auth == NULL || h.dialogue == 0 ||
	    c->session.auth->dialogue != h.dialogue || c->session.auth->peer != i)
		return 0;
	if (h.status != AUTH_MORE && l->open[i] > 0)
		l->open[i]--;
	session_auth_answer(&c->session, (enum auth_status)h.status, text, user, lines);
	conn_queue(c);
	return 0;
}
