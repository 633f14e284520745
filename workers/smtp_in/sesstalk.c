/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Transcripts for the postmaster; see workers/smtp_in/sesstalk.h. */
#include "workers/smtp_in/sesstalk.h"

#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "workers/mail/transcript.h"
#include "workers/smtp_in/session.h"

#define TALK_BYTES   16384u /* beyond, what is oldest goes */
#define LOGGED_BYTES 900u
#define WRAP_COLUMN  78u
#define WRAP_INDENT  4u
/* without one of these a transcript begins with the first error */
#define WHOLE (TROUBLE_BOUNCE | TROUBLE_DATA | TROUBLE_POLICY | TROUBLE_PROTOCOL)

struct talk {
	struct buf text; /* "In:  ...\n" */
	unsigned lines, trouble;
	bool cut;           /* the beginning is gone */
	const char *reason; /* why it was cut off; NULL = it was not */
};

/* ---- classes ---- */

unsigned session_talk_classes(const char *text)
{
	static const struct {
		const char *word;
		unsigned bit;
	} words[] = {
		{ "bounce", TROUBLE_BOUNCE },     { "data", TROUBLE_DATA },
		{ "policy", TROUBLE_POLICY },     { "protocol", TROUBLE_PROTOCOL },
		{ "resource", TROUBLE_RESOURCE }, { "software", TROUBLE_SOFTWARE },
	};
	unsigned mask = 0;

	for (size_t n; text += strspn(text, ", \t\r\n"), *text != '\0'; text += n) {
		n = strcspn(text, ", \t\r\n");
		for (size_t i = 0; i < ARRAY_LEN(words); i++) {
			if (sv_eq_nocase((struct sv){ text, n }, sv_from(words[i].word)))
				mask |= words[i].bit;
		}
	}
	return mask;
}

/* The first row that fits: how the reply begins, and what it has in it. */
static const struct {
	const char *begin, *has;
	unsigned kind;
} replies[] = {
	{ "554 5.5.1 Error: no valid recipients", "", 0 }, /* pipelined: no mistake of the client */
	{ "", "User unknown in ", TROUBLE_BOUNCE },
	{ "451 4.3.", " rejected: ", TROUBLE_SOFTWARE },
	{ "", " rejected: ", TROUBLE_POLICY },
	{ "552 5.3.4 Error: message file too big", "", TROUBLE_BOUNCE },
	{ "554 5.4.0 Error: too many hops", "", TROUBLE_BOUNCE },
	{ "452 4.3.1", "", TROUBLE_RESOURCE },
	{ "451 4.3.0", "queue file write error", TROUBLE_RESOURCE },
	{ "451 4.3.", "", TROUBLE_SOFTWARE },
	{ "421 4.3.0", "local data error", TROUBLE_DATA },
	{ "421 4.7.0", "too many errors", TROUBLE_PROTOCOL },
	{ "421 4.4.2", "", 0 }, /* told as the reason */
	{ "421 4.3.2", "", 0 },
	{ "221 2.7.0 Error", "", TROUBLE_PROTOCOL },
	{ "500", "", TROUBLE_PROTOCOL },
	{ "501", "", TROUBLE_PROTOCOL },
	{ "502", "", TROUBLE_PROTOCOL },
	{ "503 5.7.0 Error: access denied", "", TROUBLE_POLICY },
	{ "503", "", TROUBLE_PROTOCOL },
	{ "504", "", TROUBLE_PROTOCOL },
	{ "521", "", TROUBLE_PROTOCOL },
	{ "554 5.5.0 Error", "", TROUBLE_PROTOCOL },
	{ "555", "", TROUBLE_PROTOCOL },
	{ "4", "", TROUBLE_POLICY },
	{ "5", "", TROUBLE_POLICY },
};

unsigned session_talk_kind(const char *reply)
{
	for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
		if (strncmp(reply, replies[i].begin, strlen(replies[i].begin)) == 0 &&
		    strstr(reply, replies[i].has) != NULL)
			return replies[i].kind;
	}
	return 0;
}

/* ---- what is said ---- */

void session_talk_begin(struct session *s)
{
	if (s->talk == NULL && (s->listener->notify_mask & WHOLE) != 0 && s->ops->notice != NULL)
		s->talk = xcalloc(1, sizeof(*s->talk));
}

static void forget(struct talk *t)
{
	buf_fini(&t->text);
	t->lines = t->trouble = 0;
	t->cut = false;
}

/* The older half, in whole lines. */
static void cut(struct talk *t)
{
	char *nl = memchr(t->text.p + t->text.len / 2, '\n', t->text.len - t->text.len / 2);

	buf_consume(&t->text, nl != NULL ? (size_t)(nl + 1 - t->text.p) : t->text.len);
	t->cut = true;
}

static void add(struct talk *t, const char *direction, struct sv line)
{
	size_t at;

	buf_add_str(&t->text, direction);
	at = t->text.len;
	buf_add(&t->text, line.p, size_min(line.len, TALK_BYTES / 4));
	str_make_printable(t->text.p + at, t->text.len - at);
	buf_add_c(&t->text, '\n');
	t->lines++;
	if (t->text.len > TALK_BYTES)
		cut(t);
}

void session_talk_in(struct session *s, struct sv line)
{
	struct sv verb = sv_trim(line);

	/* a password may follow */
	if (verb.len > 4 && sv_eq_nocase((struct sv){ verb.p, 4 }, SV("AUTH")))
		line = SV("AUTH ***");
	if (s->verbose)
		log_info("< %s: %.*s", s->namaddr, (int)size_min(line.len, LOGGED_BYTES), line.p);
	if (s->talk != NULL)
		add(s->talk, "In:  ", line);
}

/* debug_peer_list */
static void log_reply(const struct session *s, struct sv reply)
{
	while (reply.len > 0) {
		struct sv line = sv_trim(sv_next_part(&reply, '\n'));

		log_info("> %s: %.*s", s->namaddr, (int)size_min(line.len, LOGGED_BYTES), line.p);
	}
}

void session_talk_out(struct session *s, struct sv reply)
{
	unsigned mask = s->listener->notify_mask, kind = 0;

	if (s->verbose)
		log_reply(s, reply);
	if (mask == 0 || s->ops->notice == NULL)
		return;
	if (reply.len > 0 && (reply.p[0] >= '4' || reply.p[0] == '2')) {
		char text[200];

		str_copy(text, sizeof(text), reply);
		kind = session_talk_kind(text) & mask;
	}
	if (kind != 0 && s->talk == NULL)
		s->talk = xcalloc(1, sizeof(*s->talk));
	if (s->talk == NULL)
		return;
	s->talk->trouble |= kind;
	while (reply.len > 0) {
		struct sv line = sv_next_part(&reply, '\n');

		if (line.len > 0 && line.p[line.len - 1] == '\r')
			line.len--;
		add(s->talk, "Out: ", line);
	}
}

/* ---- the notice ---- */

static void add_head(const struct session *s, struct buf *out)
{
	const struct params *p = s->listener->p;
	bool old = p->header_from_format == HEADER_FROM_OBSOLETE;

	if (old)
		buf_printf(out,
			   "From: MAILER-DAEMON@%s (Mail Delivery System)\r\nTo: %s (Postmaster)",
			   p->myorigin, p->error_notice_recipient);
	else
		buf_printf(out,
			   "From: Mail Delivery System <MAILER-DAEMON@%s>\r\nTo: Postmaster <%s>",
			   p->myorigin, p->error_notice_recipient);
	buf_printf(out, "\r\nSubject: %s SMTP server: errors from %s\r\n\r\n", p->mail_name,
		   s->namaddr);
}

static void send_notice(struct session *s)
{
	struct talk *t = s->talk;
	struct buf out = BUF_INIT;
	struct sv rest = buf_sv(&t->text);
	const struct params *p = s->listener->p;

	add_head(s, &out);
	buf_add_str(&out, "Transcript of session follows.\r\n\r\n");
	if (t->cut)
		buf_add_str(&out, " ...\r\n");
	while (rest.len > 0)
		transcript_add(&out, sv_next_part(&rest, '\n'));
	buf_add_str(&out, "\r\n");
	if (t->reason != NULL)
		buf_printf(&out, "Session aborted, reason: %s\r\n", t->reason);
	buf_add_str(&out, "\r\nFor other details, see the local mail logfile\r\n");
	s->ops->notice(s->ops->ctx, s,
		       (t->trouble & TROUBLE_BOUNCE) != 0 ? p->bounce_notice_recipient
							  : p->error_notice_recipient,
		       &out);
	buf_fini(&out);
}

void session_talk_message(struct session *s, bool good)
{
	struct talk *t = s->talk;

	if (t == NULL)
		return;
	if (good)
		t->trouble = 0;
	if (t->lines <= s->listener->p->smtpd_history_flush_threshold)
		return;
	if (t->trouble != 0)
		send_notice(s);
	forget(t);
}

void session_talk_reason(struct session *s, const char *reason)
{
	if (s->talk != NULL)
		s->talk->reason = reason;
}

void session_talk_end(struct session *s)
{
	if (s->talk == NULL)
		return;
	if (s->talk->trouble != 0 && s->greeted)
		send_notice(s);
	forget(s->talk);
	free(s->talk);
	s->talk = NULL;
}
