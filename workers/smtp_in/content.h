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
#include "shm/region.h"

struct content;

#define CONTENT_PIECE_BLOCKS 8u /* hand over after that many blocks (64 KiB) */
#define CONTENT_MAX_PEERS    64u

struct content {     /* one message; zero-initialised is none */
	uint32_t tx; /* 0 = none */
	uint32_t session_number;
	uint32_t peer; /* index of the rewrite peer */
	struct proto_qid qid;
	uint32_t first, last;                  /* chain that is being filled */
	uint32_t block_count;                  /* in it */
	uint32_t used_bytes;                   /* of the last block */
	uint32_t env_len;                      /* envelope bytes at its start */
	uint32_t data_len;                     /* content bytes in it */
	uint32_t begin_flags;                  /* SUBMIT_*, with BEGIN */
	bool began;                            /* PROTO_SUBMIT with BEGIN was sent */
	bool ended;                            /* END was sent: a verdict will come */
	bool listed;                           /* in the list of messages with unsubmitted blocks */
	bool waiting;                          /* in the queue for room */
	uint32_t need;                         /* blocks it waits for */
	struct content *prev, *next;           /* list */
	struct content *wait_prev, *wait_next; /* queue */
	void *owner;                           /* for content_ops->room */
};

struct content_ops {
	void (*send)(void *ctx, uint32_t peer, const struct proto_submit *rec);
	/* A peer returned what it does not have. */
	void (*accuse)(void *ctx, uint32_t peer, const char *why);
	/* Room for the message at the head of the queue. */
	void (*room)(void *ctx, void *owner);
	void *ctx;
};

struct content_pool {
	struct blocks blocks;
	const struct content_ops *ops;
	bool peers[CONTENT_MAX_PEERS]; /* attached rewrite peers */
	uint32_t peer_count;
	uint32_t last_tx;
	uint32_t *chain_tx; /* by first block of a submitted chain: its transaction, 0 = none */
	uint8_t *chain_peer;
	struct content *list;                  /* with unsubmitted blocks */
	struct content *wait_head, *wait_tail; /* for room, in order */
	struct content *granted;               /* whose turn it is now */
};

/* Takes the region over. */
int content_pool_init(struct content_pool *p, struct shm_region *blocks,
		      const struct content_ops *ops);
void content_pool_fini(struct content_pool *p);
int content_peer_add(struct content_pool *p, uint32_t peer); /* E_LIMIT */
/* The peer is gone: what it held is free. Its sessions are the caller's business. */
void content_peer_remove(struct content_pool *p, uint32_t peer);
bool content_has_peer(const struct content_pool *p);

/* 0; E_AGAIN: queued for room; E_CONFIG: no peer; E_LIMIT: envelope larger than the region takes.
 */
int content_begin(struct content_pool *p, struct content *c, void *owner, uint32_t session_number,
		  struct proto_qid qid, struct sv envelope, struct sv head);
/* The same to one certain peer (CONTENT_MAX_PEERS: any), with SUBMIT_* flags. */
int content_begin_at(struct content_pool *p, struct content *c, void *owner,
		     uint32_t session_number, struct proto_qid qid, struct sv envelope,
		     struct sv head, uint32_t peer, uint32_t flags);
/* The peer that a session's messages go to; CONTENT_MAX_PEERS: there is none. */
uint32_t content_peer_of(const struct content_pool *p, uint32_t session_number);
/* A place for at least one byte, or NULL: queued. */
char *content_room(struct content_pool *p, struct content *c, size_t *len_r);
void content_advance(struct content_pool *p, struct content *c, size_t len);
void content_end(struct content_pool *p, struct content *c);
/* Forget it, at any time. A message whose end was sent stays with its peer. */
void content_abort(struct content_pool *p, struct content *c);
/* PROTO_SUBMIT_FREE from a peer. */
void content_freed(struct content_pool *p, uint32_t peer, const struct proto_submit_free *rec);
/* Let waiting sessions go on, as far as there is room. Call once per turn. */
void content_serve_queue(struct content_pool *p);

#endif
