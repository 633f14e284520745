/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Notices to the postmaster about sessions with servers (PROTO_NOTICE): what a delivery worker has
 * said and heard. Nobody waits for them: one that cannot be made is lost.
 */
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/mail/date.h"
#include "workers/mail/transcript.h"
#include "workers/rewrite/rewrite.h"

static void add_head(const struct rewrite *r, const struct proto_notice *n, struct sv peer,
		     const char *id, struct buf *out)
{
	const struct params *p = r->rules.p;
	int64_t now_s = clock_now_wall().us / 1000000;
	bool old = p->header_from_format == HEADER_FROM_OBSOLETE;

	buf_printf(out, "Received: by %s (%s)\r\n\tid %s; ", p->myhostname, p->mail_name, id);
	mail_date_add(now_s, out);
	buf_add_str(out, "\r\nDate: ");
	mail_date_add(now_s, out);
	buf_printf(out, "\r\nMessage-Id: <%s@%s>\r\n", id, p->myhostname);
	if (old)
		buf_printf(out,
			   "From: MAILER-DAEMON@%s (Mail Delivery System)\r\nTo: %s (Postmaster)",
			   p->myorigin, p->error_notice_recipient);
	else
		buf_printf(out,
			   "From: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: Postmaster <%s>",
			   p->myorigin, p->error_notice_recipient);
	buf_printf(out, "\r\nSubject: %s %s client: errors from %.*s\r\n\r\n", p->mail_name,
		   n->lmtp ? "LMTP" : "SMTP", (int)peer.len, peer.p);
	buf_printf(out,
		   "Unexpected response from %.*s.\r\n\r\nTranscript of session follows.\r\n\r\n",
		   (int)peer.len, peer.p);
}

static void make(struct rewrite *r, const struct proto_notice *n, struct sv peer, struct sv text)
{
	const struct params *p = r->rules.p;
	struct env_rcpt rcpt = { .addr = sv_from(p->error_notice_recipient),
				 .notify = NOTIFY_NEVER };
	struct envelope env = { .sender = sv_from(r->rules.double_bounce),
				.flags = ENVF_INTERNAL,
				.arrival_us = clock_now_wall().us,
				.rcpts = &rcpt,
				.rcpt_count = 1 };
	struct pending *pending = pending_new(r, PENDING_TOLD);
	struct qid qid = qid_make(&r->ids);
	struct buf out = BUF_INIT;
	char id[QID_TEXT_SIZE];

	pending->is_copy = true;
	add_head(r, n, peer, qid_format(qid, id), &out);
	while (text.len > 0)
		transcript_add(&out, sv_next_part(&text, '\n'));
	buf_add_str(&out, "\r\nFor other details, see the local mail logfile\r\n");
	if (ownmail_send(r, &env, qid, &out, pending) != 0)
		pending_drop(r, pending);
	buf_fini(&out);
}

/* Whoever wrote it, it is text, and goes to the postmaster alone. */
void notify_of_peer(struct rewrite *r, const void *rec, size_t len)
{
	struct proto_notice n;
	struct buf copy = BUF_INIT;

	if (len < sizeof(n))
		return;
	memcpy(&n, rec, sizeof(n));
	if (!proto_len_ok(len, sizeof(n), (size_t)n.peer_len + n.text_len, 1)) {
		log_warn("supervisor ring: malformed notice");
		return;
	}
	buf_add(&copy, (const char *)rec + sizeof(n), (size_t)n.peer_len + n.text_len);
	for (size_t i = 0; i < copy.len; i++) {
		if (copy.p[i] != '\n' || i < n.peer_len)
			str_make_printable(copy.p + i, 1);
	}
	make(r, &n, (struct sv){ copy.p, n.peer_len },
	     (struct sv){ copy.p + n.peer_len, n.text_len });
	buf_fini(&copy);
}
