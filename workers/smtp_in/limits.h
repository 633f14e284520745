/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What each client does: connections open now, and events per anvil_rate_time_unit. Kept per worker
 * process; a client is its address cut to smtpd_client_ipv4/6_prefix_length.
 */
#ifndef PH_WORKERS_SMTP_IN_LIMITS_H
#define PH_WORKERS_SMTP_IN_LIMITS_H

#include <stdint.h>
#include <sys/socket.h>

#include "workers/smtp_in/listener.h"

struct limits;
struct client; /* alive while it has connections */

struct limits *limits_new(const struct params *p);
void limits_free(struct limits **l);
struct client *limits_connect(struct limits *l, const struct sockaddr *sa);
void limits_disconnect(struct limits *l, struct client *c);
unsigned limits_open(const struct client *c); /* connections now */
/* Count one more event; how many in the current time unit. */
unsigned limits_count(struct limits *l, struct client *c, enum client_rate kind);
/* Forget clients that are gone and quiet; call now and then. */
void limits_sweep(struct limits *l);

#endif
