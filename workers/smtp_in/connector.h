/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The process that connects to before-queue content filters (smtpd_proxy_filter) for a smtp-in
 * worker, which speaks with strangers and may open no sockets: the same program, exec'ed with "-c"
 * before the worker shuts itself in, when a listener has a filter. It reads the configuration
 * itself, so what it is asked for is the number of a listener, and what it gives is a connection
 * that is under way to that listener's filter: a worker that is taken over reaches no other place.
 * It shuts itself in as the lookup worker does. One SOCK_SEQPACKET socket as descriptor 3, whose
 * end is the end of the connector; requests are answered in their order.
 */
#ifndef PH_WORKERS_SMTP_IN_CONNECTOR_H
#define PH_WORKERS_SMTP_IN_CONNECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/str.h"

struct connector_request {
	uint32_t number;   /* comes back with the answer */
	uint16_t listener; /* conf_listener() */
	uint8_t stress;    /* its parameters under stress */
	uint8_t attempt;   /* which of the addresses of the host */
};

struct connector_answer { /* with one descriptor when error is 0 */
	uint32_t number;
	int32_t error; /* errno, negated; or E_* */
	uint8_t more;  /* there are addresses behind this one */
	uint8_t pad[7];
};

/* Takes "inet:host:port", "host:port", "[address]:port", "port" apart; an empty host is this one.
 * E_SYNTAX. */
int connector_split(const char *text, char host[256], char service[64]);
/* Is it a filter that can be reached: "unix:path" or one of the above? */
bool connector_is_address(const char *text);

/* Started by a worker that has not given up its rights. *fd_r is the socket. */
int connector_start(int *fd_r);
/* Argument behind "-c": none. */
int connector_main(void);

#endif
