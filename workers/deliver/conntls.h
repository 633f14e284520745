/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * TLS on an outgoing connection. connect.c plans it for each server before it connects; conn.c
 * gives it what the socket says and what is to be sent once conn.encrypts is set. A connection
 * without TLS has none of this.
 */
#ifndef PH_WORKERS_DELIVER_CONNTLS_H
#define PH_WORKERS_DELIVER_CONNTLS_H

#include <sys/socket.h>
#include <sys/types.h>

#include "workers/deliver/dane.h"
#include "workers/deliver/deliver.h"
#include "workers/deliver/tlsclient.h"

/* c->host and c->relay lead to the server that is next: what does the policy want of it? False: no
 * mail goes there; the recipients of c->job know why. `dane`: its records; NULL: none are known. */
bool conn_tls_plan(struct conn *c, struct dane *dane);
/* The client is initialised: tells it what is wanted, and begins when TLS comes first. */
void conn_tls_attach(struct conn *c);
/* client_ops.starttls */
void conn_tls_start(void *ctx);
/* Goes on with the handshake, if one is under way. */
void conn_tls_step(struct conn *c);
/* Bytes from the socket. */
void conn_tls_input(struct conn *c, const char *data, size_t len);
/* The socket has failed during the handshake: what the log says of it. */
void conn_tls_lost(const struct conn *c, const char *why);
/* As sendmsg(): how much of the plain text was taken, all of it or nothing. */
ssize_t conn_tls_send(struct conn *c, const struct msghdr *msg);
/* 1: nothing waits for the socket; 0: something does; -1: the socket has failed. */
int conn_tls_flush(struct conn *c);
/* TLS has failed, and the mail may go to the same server without. */
bool conn_tls_may_go_plain(const struct conn *c);
/* smtp_tls_block_early_mail_reply: there is more to read than the server was asked for. */
bool conn_tls_is_early(const struct conn *c);
void conn_tls_close(struct conn *c);

#endif
