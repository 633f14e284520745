/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The header section of one message, as Postfix's cleanup treats it: some headers are dropped,
 * addresses completed, missing headers added, Received headers counted, the Message-Id noted.
 * Bytes go in as they come, in wire form (checked before, workers/rewrite/wire.h); the result goes
 * to `out`, whose bytes are what the record starts with. Memory is one logical header at most
 * (header_size_limit; the excess of a longer one is discarded).
 */
#ifndef PH_WORKERS_REWRITE_HEADER_H
#define PH_WORKERS_REWRITE_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/str.h"
#include "workers/mail/addr.h"
#include "workers/rewrite/checks.h"
#include "workers/rewrite/mapping.h"

#define HEADER_DROP_MAX   64
#define HEADER_MSGID_SIZE 512

struct header_rules { /* from the configuration */
	struct addr_rules addr;
	struct sv myhostname;
	struct sv remote_domain; /* remote_header_rewrite_domain; empty = leave remote headers alone
				  */
	struct sv undisclosed;   /* undisclosed_recipients_header */
	bool always_add_missing; /* always_add_missing_headers */
	bool obsolete_from;      /* header_from_format */
	const char *name_charset; /* full_name_encoding_charset */
	size_t size_limit;        /* header_size_limit */
	unsigned hopcount_limit;
	struct sv drop[HEADER_DROP_MAX]; /* message_drop_headers */
	size_t drop_count;
	struct mapping *mapping; /* NULL = none; for addresses that are completed */
};

struct header_facts {  /* of the message */
	bool local;    /* local_header_rewrite_clients: complete and add */
	bool internal; /* made by us: leave alone */
	/* the envelope sender as it will be in the end, internal form; asked when a From is missing
	 */
	struct sv (*sender)(void *ctx);
	void *sender_ctx;
	struct sv full_name; /* for a From header that is missing; may be empty */
	struct sv qid;       /* text */
	int64_t arrival_s;
	const struct sv *prepend; /* "Name: value" lines to go in front */
	size_t prepend_count;
	bool no_mapping;          /* receive_override_options: no_address_mappings */
	struct arena *arena;      /* for mapped addresses */
	struct check_run *checks; /* header_checks; NULL = none for this message */
	/* not "": the empty line that ends the header was put there, in front of this line */
	struct sv bad_end;
};

struct header_state {
	const struct header_rules *rules;
	const struct header_facts *facts;
	struct buf *out;
	struct buf carry;     /* a logical header that is not complete yet */
	bool carry_is_header; /* its first line is known to be one */
	bool line_open;       /* carry ends within a line */
	bool done;            /* the header section is over; what follows is body */
	size_t section_bytes; /* of `out` that are header section, with its empty line, when done */
	bool complete, add;   /* complete addresses / add missing headers */
	struct addr_rules addr; /* as they are for this message */
	uint32_t seen;          /* bits of enum header_id */
	uint64_t longest;       /* bytes of the longest line that was changed or added here */
	unsigned received;
	bool too_many_hops;
	int map_error; /* E_AGAIN: a table could not be asked; E_LIMIT: the arena is full */
	char message_id[HEADER_MSGID_SIZE]; /* "" = none so far; truncated if absurd */
	char resent_message_id[HEADER_MSGID_SIZE];
};

/* `h` is zero or was used before (its carry buffer is kept). Rules, facts and out must live as long
 * as the message is in work. */
void header_begin(struct header_state *h, const struct header_rules *rules,
		  const struct header_facts *facts, struct buf *out);
/* Takes bytes; returns how many belong to the header section. Less than len: `done` is set and the
 * rest is body, to be put behind `out`. */
size_t header_feed(struct header_state *h, const char *data, size_t len);
/* The content has ended: adds what is missing if there was no body. */
void header_end(struct header_state *h);
void header_fini(struct header_state *h);

/* Parse a list of header names (commas, spaces) of message_drop_headers. */
void header_drop_list(const char *text, struct header_rules *rules);

#endif
