/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Envelope: sender, recipients with their DSN parameters, and where the message came from. One
 * encoding serves the way from smtp-in to rewrite and the record on disk (workers/spool/record.h):
 * a sequence of fields { uint8_t tag; uint32_t length (little endian); bytes }. Unknown tags are
 * skipped, so later versions can add some. Decoding takes bytes from anywhere: it never trusts a
 * length, and refuses NUL, CR and LF in every value.
 */
#ifndef PH_WORKERS_MAIL_ENVELOPE_H
#define PH_WORKERS_MAIL_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/str.h"
#include "shm/proto.h"

enum { /* RFC 3461 NOTIFY; 0 = not given */
       NOTIFY_NEVER = 1,
       NOTIFY_SUCCESS = 2,
       NOTIFY_FAILURE = 4,
       NOTIFY_DELAY = 8,
};
enum dsn_ret { DSN_RET_NONE, DSN_RET_FULL, DSN_RET_HDRS };
enum body_type { BODY_UNKNOWN, BODY_7BIT, BODY_8BIT };

enum {
	ENVF_SMTPUTF8 = 1,
	ENVF_LOCAL_CLIENT = 2,       /* local_header_rewrite_clients matched: complete headers */
	ENVF_HOLD = 4,               /* policy said HOLD */
	ENVF_DISCARD = 8,            /* policy said DISCARD: acknowledge and drop */
	ENVF_INTERNAL = 16,          /* bounce, notification */
	ENVF_NO_RECIPIENT_MAPS = 32, /* receive_override_options no_address_mappings */
	ENVF_NO_CHECKS = 64,         /* receive_override_options no_header_body_checks */
	ENVF_PROBE = 128,            /* sendmail -bv: find out, deliver nothing, report */
	ENVF_REPORT = 256,           /* sendmail -v: report deliveries, whatever NOTIFY says */
	ENVF_NO_MILTERS = 512,       /* receive_override_options no_milters */
};

struct env_rcpt {
	struct sv addr;      /* as it is to be delivered; no angle brackets */
	struct sv orig_addr; /* as received, empty when the same (X-Original-To, log orig_to=) */
	struct sv orcpt;     /* "rfc822;user@dom", decoded from xtext; empty = none */
	uint8_t notify;      /* NOTIFY_* */
};

struct envelope {
	struct sv sender;                                             /* "" = null sender */
	struct sv envid;                                              /* decoded */
	struct sv client_name, client_addr, client_port, helo, proto; /* proto: "SMTP" or "ESMTP" */
	struct sv sasl_method, sasl_user, sasl_sender;
	struct sv filter;    /* FILTER transport:nexthop from policy; empty = none */
	struct sv cleanup;   /* cleanup_service_name: whose checks apply; empty = "cleanup" */
	struct sv redirect;  /* REDIRECT address */
	struct sv log_ident; /* XFORWARD IDENT: the id that another system knows it by; empty = none
			      */
	struct sv full_name; /* of a local sender, for a From header that is missing */
	struct sv bounce_of; /* for notifications: "QID first mask kind order life code" (the last
				three: workers/spool/warrant.h) of the original, for
				recovery */
	struct sv verify;    /* a probe of the verify worker: the address it is about */
	struct sv verp;      /* two delimiters: workers/mail/verp.h; empty = the sender as it is */
	uint8_t ret;         /* enum dsn_ret */
	uint8_t body;        /* enum body_type */
	uint32_t flags;      /* ENVF_* */
	int64_t arrival_us;  /* wall time of the message's first command */
	uint64_t size_hint;  /* MAIL SIZE=, 0 = none */
	uint64_t longest;    /* bytes of the content's longest line, or a few more; 0 = not known */
	struct env_rcpt *rcpts;
	size_t rcpt_count;
	size_t rcpt_cap;    /* used by env_add_rcpt */
	struct sv *prepend; /* PREPEND headers from policy, "Name: value" */
	size_t prepend_count;
};

/* Append the encoding. E_LIMIT when out is limited and full. */
int env_encode(const struct envelope *e, struct buf *out);
/* Decode: the views point into `data`; the arrays are in the arena. E_SYNTAX on damage, E_LIMIT
 * when the arena is full or there are more than max_rcpts recipients. */
int env_decode(struct sv data, size_t max_rcpts, struct arena *arena, struct envelope *e);
/* Arena-backed growth. E_LIMIT when the arena is full. */
int env_add_rcpt(struct envelope *e, struct arena *arena, const struct env_rcpt *r);
/* confirm_delay_cleared: the sender heard of a delay, and is to hear of its end. `msg_flags` are
 * those that the supervisor tells (MSGF_*). */
static inline bool env_tells_cleared(uint32_t msg_flags, uint8_t notify)
{
	return (msg_flags & MSGF_DELAY_WARNED) != 0 &&
	       (notify == 0 || (notify & NOTIFY_DELAY) != 0);
}

/* "SUCCESS,DELAY" (RFC 3461 4.1) to NOTIFY_* bits; 0: it is not well-formed. */
unsigned env_notify_parse(struct sv v);

#endif
