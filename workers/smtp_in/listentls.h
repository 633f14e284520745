/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS of one listener: the smtpd_tls_* parameters of its service, with keys and authorities loaded.
 */
#ifndef PH_WORKERS_SMTP_IN_LISTENTLS_H
#define PH_WORKERS_SMTP_IN_LISTENTLS_H

#include "conf/conf.h"
#include "conf/map.h"
#include "conf/peermap.h"
#include "workers/tls/tls.h"

#define LISTENER_TLS_NAMES 64 /* of tls_server_sni_maps whose keys are kept */

struct listener_tls_name {
	char *name;
	uint32_t check; /* of the table's value */
	uint64_t used;
	struct tls_keys *keys;
};

struct listener_tls {
	bool enforce; /* smtpd_tls_security_level = encrypt */
	bool wrapper; /* smtpd_tls_wrappermode */
	bool ask_cert, require_cert;
	unsigned max_depth;
	unsigned log;             /* smtpd_tls_loglevel: TLS_LOG_* */
	struct peermap *log_maps; /* smtpd_tls_loglevel_maps */
	enum tls_purpose purpose; /* tls_trust_server_ccerts */
	const char *digest;       /* smtpd_tls_fingerprint_digest */
	struct tls_ctx *ctx;      /* NULL: there are no keys */
	struct tls_keys *keys;
	struct tls_trust *trust;
	struct map_list *sni_maps;
	struct listener_tls_name names[LISTENER_TLS_NAMES];
	uint64_t name_uses;
};

/* NULL in *t_r: no TLS here. Reads files. E_CONFIG with diagnostics. */
int listener_tls_new(const struct conf *c, const struct params *p, struct conf_diag *d,
		     struct listener_tls **t_r);
/* What is logged of a client: TLS_LOG_*. `name`: "" = it has none. */
unsigned listener_tls_log(const struct listener_tls *t, const char *name, const char *addr);
void listener_tls_free(struct listener_tls **t);
/* Keys of session tickets, for all listeners made later; before that, each has its own. */
void listener_tls_set_tickets(struct tls_tickets *tickets);

#endif
