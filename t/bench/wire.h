/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A connection of t/bench/load or t/bench/sink, in plain text or with TLS. The socket does not
 * block. Without TLS nothing is copied.
 */
#ifndef PH_T_BENCH_WIRE_H
#define PH_T_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/buf.h"

struct tls;
struct tls_ctx;

struct wire {
	int fd;
	struct tls *t; /* NULL: plain text */
	bool secured;  /* the handshake is done */
};

/* Once for the process: PEM file with key and certificate of a server; NULL: a client, which takes
 * any certificate. Ends the program when that fails. */
struct tls_ctx *wire_ctx(const char *pem_file);

void wire_start_tls(struct wire *w, struct tls_ctx *ctx);
/* To the end of `in`: > 0 bytes; 0: closed or broken; -1: nothing now (a handshake goes on, too).
 */
int wire_read(struct wire *w, struct buf *in);
/* From `*off` of `out` on, which is emptied: 1: all is out; 0: the socket is full; -1: broken. */
int wire_write(struct wire *w, struct buf *out, size_t *off);
void wire_end(struct wire *w); /* frees what TLS took; the socket is the caller's */

#endif
