/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The header with which a proxy in front of us says who connected to it: haproxy's PROXY protocol,
 * versions 1 and 2. conn.c reads it before anything else of the connection.
 */
#ifndef PH_WORKERS_SMTP_IN_PROXY_H
#define PH_WORKERS_SMTP_IN_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define PROXY_HEADER_MAX 536u

struct proxy_header {
	bool is_own; /* the proxy's own connection (a health check): the addresses are the socket's
		      */
	struct sockaddr_storage client, server;
};

/* How many bytes the header has; 0: more must come first; E_PEER: it is none, *why_r says why. */
int proxy_header_parse(const char *data, size_t len, struct proxy_header *h, const char **why_r);

#endif
