/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Text of delivery status notifications (RFC 3461-3464): a multipart/report with an explanation for
 * people, a message/delivery-status for programs, and the original message or its headers. A pure
 * function from facts to bytes in wire form.
 */
#ifndef PH_WORKERS_REWRITE_DSN_H
#define PH_WORKERS_REWRITE_DSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/bounce_text.h"
#include "lib/buf.h"
#include "lib/str.h"
#include "shm/proto.h"
#include "workers/mail/envelope.h"

struct dsn_rcpt { /* one recipient to report on */
	const struct env_rcpt *rcpt;
	uint8_t dsn[3];
	struct sv text; /* as logged */
	struct sv mta;  /* "host[ip]", "none" or empty */
	struct sv diag; /* the remote reply; empty = none */
};

enum dsn_audience {
	DSN_TO_SENDER,     /* the usual notification */
	DSN_TO_POSTMASTER, /* a copy for the postmaster: headers only */
	DSN_DOUBLE,        /* a notification that could not be delivered, for the postmaster */
};

struct dsn_facts {
	enum bounce_kind kind;
	enum dsn_audience audience;
	const struct bounce_text *text; /* dsn_text() */
	struct sv myhostname, myorigin, mail_name;
	bool threaded;      /* enable_threaded_bounces */
	bool obsolete_from; /* header_from_format: "address (Name)" */
	struct sv from;     /* address in the From header: MAILER-DAEMON@... */
	struct sv to;       /* address in the To header, internal form */
	struct sv qid;      /* of the notification */
	struct sv orig_qid;
	const struct envelope *env; /* of the original */
	int64_t now_s;
	int64_t arrival_s;
	int64_t retry_until_s; /* delay warnings: when we give up */
	const struct dsn_rcpt *rcpts;
	size_t rcpt_count;
	struct sv original; /* wire form, whole lines; all or the headers of it */
	bool original_full;
};

/* The words for a notification of mail with these ENVF_* flags. */
const struct bounce_text *dsn_text(const struct bounce_texts *texts, enum bounce_kind kind,
				   uint32_t env_flags);
void dsn_build(const struct dsn_facts *f, struct buf *out);

/* The header section of content in wire form, cut to whole lines of at most max bytes. */
struct sv dsn_headers_of(struct sv content, size_t max);

#endif
