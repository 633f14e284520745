/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is said with a server, apart from what it means: smtp_reply_filter and
 * smtp_discard_ehlo_keyword_address_maps before the engine hears it, the log of it for
 * debug_peer_list, the transcript of it for the postmaster (notify_classes: protocol, data),
 * work-arounds for firewalls that reveal themselves by their greeting. Called by conn.c.
 */
#ifndef PH_WORKERS_DELIVER_CONNTALK_H
#define PH_WORKERS_DELIVER_CONNTALK_H

#include "workers/deliver/deliver.h"

/* The client is initialised. */
void conn_talk_begin(struct conn *c);
/* It carries mail of this job now. */
void conn_talk_of(struct conn *c, const struct job *j);
/* The session is over: the postmaster hears of it if there was trouble. */
void conn_talk_end(struct conn *c);
/* client_ops.pix */
unsigned conn_talk_pix(void *ctx);
/* n bytes of what the client has to say are out; before client_wrote(). */
void conn_talk_wrote(const struct conn *c, size_t n);
/* A line that is sent past the client. */
void conn_talk_said(const struct conn *c, struct sv line);
/* delay_dotcrlf: does the end of the message go into a packet of its own? */
bool conn_talk_splits(const struct conn *c);
/* ... and not now: conn.pause_until_ms says when. */
bool conn_talk_pauses(struct conn *c);
/* Replies may repeat what is secret. */
bool conn_talk_is_secret(const struct conn *c);

#endif
