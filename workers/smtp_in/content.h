/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Content on its way to the rewrite workers: blocks of the shared region are filled in wire form
 * and handed over by PROTO_SUBMIT, small messages as a whole, larger ones in pieces. Implements the
 * content part of struct session_ops for the server.
 *
 * Room: a block belongs to a message that is being filled, or to a submitted chain until rewrite
 * gives it back. When none is free the session waits its turn (first come, first served) and its
 * client is not read from. So that waiting always ends, all messages that hold unsubmitted blocks
 * are handed over as far as they are when the region runs out: rewrite copies them and frees the
 * blocks, whatever their clients do.
 */
#ifndef PH_WORKERS_SMTP_IN_CONTENT_H
#define PH_WORKERS_SMTP_IN_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"
#include "shm/blocks.h"
#include "shm/proto.h"

struct session;

#define CONTENT_PIECE_BLOCKS 8u /* hand over after that many blocks (64 KiB) */

struct content { /* one message; zero-initialised is none */
	uint32_t tx;         /* 0 = none */
	uint32_t peer;       /* index of the rewrite peer */
	uint32_t first, last; /* chain that is being filled */
	uint32_t blocks;     /* in it */
	uint32_t used_bytes; /* of the last block */
	uint32_t env_len;    /* envelope bytes at its start */
	uint32_t data_len;   /* content bytes in it */
	bool began;          /* PROTO_SUBMIT with BEGIN was sent */
	bool ended;          /* END was sent: a verdict will come */
	bool lost;           /* the peer is gone */
	bool listed;         /* in the list of messages with unsubmitted blocks */
	bool waiting;        /* in the queue for room */
	struct content *list_prev, *list_next;
	struct content *wait_prev, *wait_next;
	struct session *session;
};

#endif
