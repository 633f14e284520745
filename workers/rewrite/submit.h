/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of the submission code: smtp-in workers (submit.c) and their messages (submit_tx.c). */
#ifndef PH_WORKERS_REWRITE_SUBMIT_H
#define PH_WORKERS_REWRITE_SUBMIT_H

#include "lib/hash.h"
#include "workers/rewrite/idset.h"
#include "workers/rewrite/rewrite.h"

struct tx { /* a message that comes in several pieces */
	struct message m;
	const struct message_verdict *verdict; /* of message_finish(); NULL before */
	struct spool_stream *stream;
	uint64_t content_bytes; /* in the stream */
	size_t counted;         /* of the peer's memory */
	uint32_t session, number;
	struct rewrite *rewrite;
	struct peer *peer;
	bool closed;                /* all content is there, message_close() is behind it */
	bool ended;                 /* all content is there */
	struct proto_submit end;    /* the record that ended it, when it waits for remote tables */
	struct map_memo *memo;      /* their answers */
	struct tables_fetch *fetch; /* on their way */
	struct mono_ms asked_since;
	struct filter *filter;    /* the milters that see it now (workers/rewrite/filter.h) */
	void (*own)(struct tx *); /* a message of our own (ownmail.c), without a peer; else NULL */
	bool filtered, inspected; /* milters see it; have seen it */
	struct message_verdict filter_verdict;
	struct tx *older, *newer; /* of the peer's list */
	bool listed;
};

struct waiting {
	struct proto_submit s;
	bool stale; /* its id is too old to be told from a used one: 451 */
	bool fed;   /* the piece is taken already; only the end is left to do */
};

struct peer {
	struct peer *next;
	struct worker_peer *wp;
	struct blocks_view blocks;
	uint32_t life;
	struct idset ids;           /* queue ids it has used */
	struct strmap *txs;         /* open transactions by number */
	struct tx *oldest, *newest; /* those whose memory may be taken back */
	size_t memory;
	size_t filter_memory;   /* of transactions that milters see: those stay in memory */
	struct strmap *filters; /* sessions with milters by session number */
	struct waiting *queue;  /* ring of queue_cap */
	size_t queue_head, queue_len, queue_cap;
	bool accused;
};

static inline struct sv tx_key(const uint32_t *number)
{
	return (struct sv){ (const char *)number, sizeof(*number) };
}

/* ---- submit.c ---- */
/* The peer broke the rules: report it, hear it no more. */
void peer_accuse(struct rewrite *r, struct peer *peer, const char *why);
/* The blocks of a record have been copied. */
void peer_give_back(struct rewrite *r, struct peer *peer, const struct proto_submit *s);

/* Go on with a transaction that could not end because the spool had no room. */
void submit_again(struct rewrite *r, struct peer *peer, const struct proto_submit *end);

/* ---- submit_tx.c ---- */
struct tx *tx_open(struct rewrite *r, struct peer *peer, const struct proto_submit *s);
void tx_close(struct peer *peer, struct tx *tx);
/* The message is refused; what still comes of it is skipped. */
void tx_fail(struct tx *tx, const struct message_verdict *v);
/* One piece of its content. */
void tx_piece(struct rewrite *r, struct peer *peer, struct tx *tx, const struct proto_submit *s);
/* Its milters have seen it: tx->filter_verdict. */
void tx_filtered(struct tx *tx);
/* All pieces are in. E_AGAIN: try again with the same record. */
int tx_end(struct rewrite *r, struct peer *peer, struct tx *tx, const struct proto_submit *s);
/* A whole message in one piece. E_AGAIN: untouched, try again. */
int tx_one_piece(struct rewrite *r, struct peer *peer, const struct proto_submit *s);

#endif
