/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The auth workers of one smtp-in worker: which mechanisms they offer, and whose dialogue is with
 * which. For server.c; the sessions' side is workers/smtp_in/auth.h. */
#ifndef PH_WORKERS_SMTP_IN_AUTHLINK_H
#define PH_WORKERS_SMTP_IN_AUTHLINK_H

#include "workers/smtp_in/session.h"

struct server;
struct worker_peer;
struct auth_links;

struct auth_links *auth_links_new(const struct conf *c);
void auth_links_attach(struct server *sv, struct worker_peer *peer);
void auth_links_detach(struct server *sv, struct worker_peer *peer);
/* E_PEER: malformed. */
int auth_links_record(struct server *sv, struct worker_peer *peer, const void *rec, size_t len);

/* session_ops */
int auth_links_ask(void *ctx, struct session *s, enum auth_ask what, unsigned flags,
		   struct sv strings);
const char *auth_links_offer(void *ctx, const struct session *s, bool encrypted);

#endif
