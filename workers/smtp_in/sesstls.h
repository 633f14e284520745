/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TLS of a session: STARTTLS, the handshake, and what is known of the client by it. The session
 * machine itself sees plain text only; between it and the socket (conn.c) is
 *
 *   session_tls_begin()    when the 220 is out, or at once with smtpd_tls_wrappermode
 *   session_tls_input()    what came from the socket; it gives plain text to session_input()
 *   session_tls_seal()     replies become records
 *   session_tls_out()      what is to be written
 */
#ifndef PH_WORKERS_SMTP_IN_SESSTLS_H
#define PH_WORKERS_SMTP_IN_SESSTLS_H

#include "workers/smtp_in/session.h"

struct smtp_cmd;

bool session_is_encrypted(const struct session *s);
/* For policy and milters; NULL = plain text. */
const struct policy_tls *session_tls_view(const struct session *s);
/* May the EHLO reply name STARTTLS? */
bool session_tls_is_offered(const struct session *s);
/* The command has to wait until there is TLS, or the client's certificate is not good enough: it
 * was refused. */
bool session_tls_refuses(struct session *s, const struct smtp_cmd *cmd);
/* "\t(using TLSv1.3 with cipher ...)" and so on, each with CRLF; nothing without TLS. */
void session_tls_received(const struct session *s, struct buf *out);

/* With smtpd_tls_wrappermode, before the greeting. True: it begins with a handshake. */
bool session_tls_wraps(struct session *s);
bool session_tls_is_due(const struct session *s); /* session_tls_begin() is to be called */
void session_tls_begin(struct session *s);
void session_tls_input(struct session *s, const char *data, size_t len);
void session_tls_seal(struct session *s);
struct buf *session_tls_out(struct session *s);
/* The last bytes; once. */
void session_tls_goodbye(struct session *s);
void session_tls_timeout(struct session *s);
void session_tls_free(struct session *s);
/* Input before the handshake: what was pipelined behind STARTTLS is thrown away. */
size_t session_tls_discard(struct session *s, const char *p, size_t len);

#endif
