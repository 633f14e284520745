/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tells comsat(8), where there is one, that a user has new mail: a datagram "user@offset" to the
 * port `biff` of this machine for each message that local(8) puts into a mailbox file (parameter
 * `biff`). Nobody waits for it, and nobody hears when it is lost.
 */
#ifndef PH_WORKERS_LOCAL_BIFF_H
#define PH_WORKERS_LOCAL_BIFF_H

#include <stdint.h>

/* The socket, before the worker gives up its rights; -1 when there is none to be had. */
int biff_open(void);
/* fd may be -1. */
void biff_tell(int fd, const char *user, uint64_t offset);

#endif
