/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is known of a client by its TLS handshake, and the log lines about it: for sessions
 * (sesstls.c) and for dialogues of postscreen (screentls.c). */
#ifndef PH_WORKERS_SMTP_IN_PEERTLS_H
#define PH_WORKERS_SMTP_IN_PEERTLS_H

#include <stdbool.h>

#include "workers/smtp_in/listentls.h"

struct peertls {
	struct tls_info info;
	bool has_cert, is_trusted;
	char *subject, *issuer, *fingerprint, *key_fingerprint; /* NULL without a certificate */
};

/* After the handshake. `log`: of listener_tls_log(); `namaddr`: who it is, in log lines. */
void peertls_look(struct peertls *p, const struct listener_tls *conf, struct tls *t,
		  const char *namaddr, unsigned log);
/* "BEGIN key-exchange X25519 server-signature ..." when there is something to say. */
void peertls_add_key_exchange(const struct tls_info *info, const char *begin, struct buf *out);
void peertls_fini(struct peertls *p);

#endif
