/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What client and server have said, for the postmaster: when a session had errors of a kind that
 * notify_classes names, a notice with the transcript goes to error_notice_recipient (for mail that
 * was refused for good as it cannot be delivered: bounce_notice_recipient), as from Postfix. What
 * is said with a client of debug_peer_list goes to the log as well. A session that nobody wants to
 * hear of has none of this.
 */
#ifndef PH_WORKERS_SMTP_IN_SESSTALK_H
#define PH_WORKERS_SMTP_IN_SESSTALK_H

#include "lib/str.h"

struct session;

enum { /* notify_classes, as far as they are about sessions */
       TROUBLE_BOUNCE = 1,
       TROUBLE_DATA = 2,
       TROUBLE_POLICY = 4,
       TROUBLE_PROTOCOL = 8,
       TROUBLE_RESOURCE = 16,
       TROUBLE_SOFTWARE = 32,
};

/* Bits of notify_classes; words that are not about sessions are passed over. */
unsigned session_talk_classes(const char *text);
/* Of which kind is the error that this reply tells? 0 = none. */
unsigned session_talk_kind(const char *reply);

/* The client is known: keep what is said from now on, if somebody wants it. */
void session_talk_begin(struct session *s);
void session_talk_in(struct session *s, struct sv line);
void session_talk_out(struct session *s, struct sv reply);
/* A message is through: what went wrong before it is forgotten when it was accepted. */
void session_talk_message(struct session *s, bool good);
/* The session is cut off; `reason` is a constant. */
void session_talk_reason(struct session *s, const char *reason);
/* The session is over. */
void session_talk_end(struct session *s);

#endif
