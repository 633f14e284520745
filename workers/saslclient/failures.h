/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Logins that servers have refused with 535: smtp_sasl_auth_cache_name. A record is found under
 * "server;user", and holds a mark of the password, so that another password is tried at once. Used
 * by workers/saslclient/main.c.
 */
#ifndef PH_WORKERS_SASLCLIENT_FAILURES_H
#define PH_WORKERS_SASLCLIENT_FAILURES_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

struct failures;

/* param names it in the log; path: "NAME.kch", NULL = in memory. */
struct failures *failures_open(const char *param, const char *path);
void failures_close(struct failures **f);
/* True: this login was refused no more than age_s before now_s; the server's reply with its
 * enhanced code in front ("5.7.8 535 ...") is in *reply. */
bool failures_find(struct failures *f, struct sv server, struct sv user, struct sv mark,
		   int64_t age_s, int64_t now_s, struct buf *reply);
void failures_note(struct failures *f, struct sv server, struct sv user, struct sv mark,
		   struct sv reply, int64_t now_s);
/* Gives the system what was noted. */
void failures_write_out(struct failures *f);

#endif
