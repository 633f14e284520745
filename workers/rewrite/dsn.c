/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delivery status notification text; see workers/rewrite/dsn.h. Called by notify.c. */
#include "workers/rewrite/dsn.h"

#include <string.h>

#include "lib/mailaddr.h"
#include "workers/mail/date.h"
#include "workers/rewrite/header.h"
#include "workers/spool/spool.h"

#define WRAP_COLUMN    78u
#define TEXT_MAX       2000u /* of one reason */
#define MESSAGE_ID_MAX 900u

struct kind_words {
	const char *action;
	const char *part; /* what the third part is called */
};

static const struct kind_words kinds[] = {
	[BOUNCE_FAILURE] = { .action = "failed", .part = "Undelivered Message" },
	[BOUNCE_EXPIRED] = { .action = "failed", .part = "Undelivered Message" },
	[BOUNCE_FORCED] = { .action = "failed", .part = "Undelivered Message" },
	[BOUNCE_DELAY] = { .action = "delayed", .part = "Delayed Message" },
	[BOUNCE_SUCCESS] = { .action = "delivered", .part = "Message" },
};

/* ---- small pieces ---- */

/* Text that came from elsewhere: no control characters, 8-bit only where the message may have it.
 */
static void add_clean(struct buf *out, struct sv s, bool utf8)
{
	bool keep8 = utf8 && str_is_utf8(s.p, s.len);

	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		buf_add_c(out, c < ' ' || c == 127 || (c > 127 && !keep8) ? '?' : (char)c);
	}
}

static void add_addr(struct buf *out, struct sv addr, bool utf8)
{
	struct buf quoted = BUF_INIT;

	mail_addr_quote(addr, &quoted);
	add_clean(out, buf_sv(&quoted), utf8);
	buf_fini(&quoted);
}

static bool is_utf8_mail(const struct dsn_facts *f)
{
	return (f->env->flags & ENVF_SMTPUTF8) != 0;
}

static void add_date(struct buf *out, const char *name, int64_t at_s)
{
	buf_add_str(out, name);
	buf_add_str(out, ": ");
	mail_date_add(at_s, out);
	buf_add_str(out, "\r\n");
}

/* A long text over several lines, broken at spaces; `indent` starts each one but the first. A word
 * longer than a line is broken where it must be: SMTP lines end at 998. */
static void add_wrapped(struct buf *out, struct sv s, size_t column, const char *indent, bool utf8)
{
	s.len = size_min(s.len, TEXT_MAX);
	while (s.len > 0) {
		size_t word = 0, skip;

		while (word < s.len && s.p[word] != ' ')
			word++;
		word = size_min(word, 500);
		skip = word;
		while (skip < s.len && s.p[skip] == ' ')
			skip++;
		if (column + 1 + word > WRAP_COLUMN && column > strlen(indent)) {
			buf_add_str(out, "\r\n");
			buf_add_str(out, indent);
			column = strlen(indent);
		} else if (word > 0) {
			buf_add_c(out, ' ');
			column++;
		}
		add_clean(out, (struct sv){ s.p, word }, utf8);
		column += word;
		s.p += skip;
		s.len -= skip;
	}
	buf_add_str(out, "\r\n");
}

/* The Message-Id of the original: one word in <> on its line, or nothing. */
static struct sv original_id(const struct dsn_facts *f)
{
	struct sv rest = dsn_headers_of(f->original, f->original.len);

	while (rest.len > 0) {
		struct sv line = sv_trim(sv_next_part(&rest, '\n'));
		const char *colon = line.len > 0 ? memchr(line.p, ':', line.len) : NULL;

		if (colon == NULL || !sv_eq_nocase((struct sv){ line.p, (size_t)(colon - line.p) },
						   SV("Message-Id")))
			continue;
		struct sv id =
			sv_trim((struct sv){ colon + 1, line.len - (size_t)(colon + 1 - line.p) });

		if (id.len > 2 && id.len <= MESSAGE_ID_MAX && id.p[0] == '<' &&
		    memchr(id.p, '>', id.len) == id.p + id.len - 1 &&
		    memchr(id.p, ' ', id.len) == NULL && memchr(id.p, '\t', id.len) == NULL)
			return id;
		break;
	}
	return SV("");
}

static void add_thread(const struct dsn_facts *f, struct buf *out)
{
	struct sv id = f->threaded ? original_id(f) : SV("");

	for (unsigned i = 0; i < 2 && id.len > 0; i++) {
		buf_add_str(out, i == 0 ? "References: " : "In-Reply-To: ");
		add_clean(out, id, is_utf8_mail(f));
		buf_add_str(out, "\r\n");
	}
}

static void add_boundary(const struct dsn_facts *f, struct buf *out)
{
	buf_add_sv(out, f->qid);
	buf_printf(out, ".%lld/", (long long)f->now_s);
	buf_add_sv(out, f->myhostname);
}

static void add_separator(const struct dsn_facts *f, struct buf *out, bool last)
{
	buf_add_str(out, "\r\n--");
	add_boundary(f, out);
	buf_add_str(out, last ? "--\r\n" : "\r\n");
}

static bool is_8bit(const struct dsn_facts *f)
{
	return is_utf8_mail(f) || !str_is_ascii(f->original.p, f->original.len) ||
	       !str_is_ascii(f->text->expanded, strlen(f->text->expanded));
}

const struct bounce_text *dsn_text(const struct bounce_texts *texts, enum bounce_kind kind,
				   uint32_t env_flags)
{
	static const enum bounce_text_id ids[] = {
		[BOUNCE_FAILURE] = BOUNCE_TEXT_FAILURE, [BOUNCE_EXPIRED] = BOUNCE_TEXT_EXPIRED,
		[BOUNCE_FORCED] = BOUNCE_TEXT_EXPIRED,  [BOUNCE_DELAY] = BOUNCE_TEXT_DELAY,
		[BOUNCE_SUCCESS] = BOUNCE_TEXT_SUCCESS,
	};
	/* by sendmail -bv or -v */
	bool asked_for = kind == BOUNCE_SUCCESS && (env_flags & (ENVF_PROBE | ENVF_REPORT)) != 0;

	return &texts->text[asked_for ? BOUNCE_TEXT_VERIFY : ids[kind]];
}

/* ---- header ---- */

/* The display name as a phrase or as a comment; it has no control characters. */
static void add_from(const struct dsn_facts *f, struct buf *out)
{
	const char *name = f->text->from_name;
	bool quote = strpbrk(name, "()<>[]:;@\\,.\"") != NULL;

	buf_add_str(out, "From: ");
	if (*name == '\0') {
		add_addr(out, f->from, is_utf8_mail(f));
	} else if (f->obsolete_from) {
		add_addr(out, f->from, is_utf8_mail(f));
		buf_add_str(out, " (");
		for (const char *p = name; *p != '\0'; p++) {
			if (strchr("()\\", *p) == NULL)
				buf_add_c(out, *p);
		}
		buf_add_c(out, ')');
	} else {
		if (quote)
			buf_add_c(out, '"');
		for (const char *p = name; *p != '\0'; p++) {
			if (!quote || strchr("\\\"", *p) == NULL)
				buf_add_c(out, *p);
		}
		buf_add_str(out, quote ? "\" <" : " <");
		add_addr(out, f->from, is_utf8_mail(f));
		buf_add_c(out, '>');
	}
	buf_add_str(out, "\r\n");
}

static void add_header(const struct dsn_facts *f, struct buf *out)
{
	bool failure = f->kind != BOUNCE_DELAY && f->kind != BOUNCE_SUCCESS;
	const char *subject = f->audience == DSN_TO_SENDER ? f->text->subject
			      : f->audience == DSN_DOUBLE && failure
				      ? "Postmaster Notice: Undelivered Notification"
				      : f->text->postmaster_subject;

	buf_add_str(out, "Received: by ");
	buf_add_sv(out, f->myhostname);
	buf_add_str(out, " (");
	buf_add_sv(out, f->mail_name);
	buf_add_str(out, ")\r\n\tid ");
	buf_add_sv(out, f->qid);
	buf_add_str(out, "; ");
	mail_date_add(f->now_s, out);
	buf_add_str(out, "\r\n");
	add_date(out, "Date", f->now_s);
	add_from(f, out);
	buf_printf(out, "Subject: %s\r\n", subject);
	buf_add_str(out, "To: ");
	add_addr(out, f->to, is_utf8_mail(f));
	buf_add_str(out, "\r\n");
	add_thread(f, out);
	buf_printf(out, "Auto-Submitted: %s\r\n",
		   f->audience == DSN_TO_SENDER ? "auto-replied" : "auto-generated");
	buf_add_str(out, "MIME-Version: 1.0\r\n"
			 "Content-Type: multipart/report; report-type=delivery-status;\r\n"
			 "\tboundary=\"");
	add_boundary(f, out);
	buf_add_str(out, "\"\r\n");
	if (is_8bit(f))
		buf_add_str(out, "Content-Transfer-Encoding: 8bit\r\n");
	buf_add_str(out, "Message-Id: <");
	buf_add_sv(out, f->qid);
	buf_add_c(out, '@');
	buf_add_sv(out, f->myhostname);
	buf_add_str(out, ">\r\n\r\nThis is a MIME-encapsulated message.\r\n");
}

/* ---- part 1: for people ---- */

static void add_lines(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '\n')
			buf_add_str(out, "\r\n");
		else if (*text != '\r')
			buf_add_c(out, *text);
	}
}

static void add_notification(const struct dsn_facts *f, struct buf *out)
{
	bool utf8 = is_utf8_mail(f),
	     plain = str_is_ascii(f->text->expanded, strlen(f->text->expanded));

	add_separator(f, out, false);
	/* recipients may have UTF-8; then so has the whole, unless the words are of another set */
	buf_printf(out,
		   "Content-Description: Notification\r\nContent-Type: text/plain; charset=%s\r\n",
		   utf8 && plain ? "utf-8" : f->text->charset);
	if (utf8 || !plain)
		buf_add_str(out, "Content-Transfer-Encoding: 8bit\r\n");
	buf_add_str(out, "\r\n");
	add_lines(out, f->text->expanded);
	for (size_t i = 0; i < f->rcpt_count; i++) {
		const struct dsn_rcpt *r = &f->rcpts[i];
		size_t start;

		buf_add_str(out, "\r\n");
		start = out->len;
		buf_add_c(out, '<');
		add_addr(out, r->rcpt->addr, utf8);
		buf_add_c(out, '>');
		if (r->rcpt->orig_addr.len > 0) {
			buf_add_str(out, " (expanded from <");
			add_addr(out, r->rcpt->orig_addr, utf8);
			buf_add_str(out, ">)");
		}
		buf_add_c(out, ':');
		add_wrapped(out, r->text, out->len - start, "    ", utf8);
	}
}

/* ---- part 2: for programs ---- */

/* Not a mailbox or a command of ours. */
static bool is_host(struct sv mta)
{
	return mta.len > 0 && !sv_eq(mta, SV("none")) && !sv_eq(mta, SV(OUTCOME_MTA_COMMAND)) &&
	       !sv_eq(mta, SV(OUTCOME_MTA_RELAY));
}

static const char *action_of(const struct dsn_facts *f, const struct dsn_rcpt *r)
{
	if ((f->env->flags & ENVF_PROBE) != 0)
		return r->dsn[0] == 2 ? "deliverable" : "undeliverable";
	/* handed to a system that will not report by itself (RFC 3464 2.3.3) */
	if (f->kind == BOUNCE_SUCCESS && r->mta.len > 0 && !sv_eq(r->mta, SV("none")))
		return "relayed";
	return kinds[f->kind].action;
}

static void add_rcpt_status(const struct dsn_facts *f, const struct dsn_rcpt *r, struct buf *out)
{
	bool utf8 = is_utf8_mail(f);
	const char *type =
		utf8 && !str_is_ascii(r->rcpt->addr.p, r->rcpt->addr.len) ? "utf-8" : "rfc822";

	buf_printf(out, "\r\nFinal-Recipient: %s; ", type);
	add_addr(out, r->rcpt->addr, utf8);
	buf_add_str(out, "\r\nOriginal-Recipient: ");
	if (r->rcpt->orcpt.len > 0) {
		add_clean(out, r->rcpt->orcpt, utf8);
	} else {
		buf_printf(out, "%s;", type);
		add_addr(out, r->rcpt->orig_addr.len > 0 ? r->rcpt->orig_addr : r->rcpt->addr,
			 utf8);
	}
	buf_printf(out, "\r\nAction: %s\r\nStatus: %u.%u.%u\r\n", action_of(f, r), r->dsn[0],
		   r->dsn[1], r->dsn[2]);
	if (is_host(r->mta)) {
		const char *bracket = memchr(r->mta.p, '[', r->mta.len);
		size_t n = bracket != NULL && bracket > r->mta.p ? (size_t)(bracket - r->mta.p)
								 : r->mta.len;

		buf_add_str(out, "Remote-MTA: dns; ");
		add_clean(out, (struct sv){ r->mta.p, n }, false);
		buf_add_str(out, "\r\n");
	}
	if (r->diag.len > 0 || r->text.len > 0) {
		size_t start = out->len;

		buf_add_str(out, r->diag.len == 0  ? "Diagnostic-Code: X-Postfix;"
				 : is_host(r->mta) ? "Diagnostic-Code: smtp;"
						   : "Diagnostic-Code: x-unix;");
		add_wrapped(out, r->diag.len > 0 ? r->diag : r->text, out->len - start, "    ",
			    utf8);
	}
	if (f->kind == BOUNCE_DELAY && f->retry_until_s > 0)
		add_date(out, "Will-Retry-Until", f->retry_until_s);
}

static void add_status(const struct dsn_facts *f, struct buf *out)
{
	bool utf8 = is_utf8_mail(f);

	add_separator(f, out, false);
	buf_printf(out,
		   "Content-Description: Delivery report\r\n"
		   "Content-Type: message/%sdelivery-status\r\n\r\n"
		   "Reporting-MTA: dns; ",
		   utf8 ? "global-" : "");
	buf_add_sv(out, f->myhostname);
	if (f->env->envid.len > 0) {
		buf_add_str(out, "\r\nOriginal-Envelope-Id: ");
		add_clean(out, f->env->envid, false);
	}
	buf_add_str(out, "\r\nX-Postfix-Queue-ID: ");
	buf_add_sv(out, f->orig_qid);
	buf_add_str(out, "\r\nX-Postfix-Sender: rfc822; ");
	add_addr(out, f->env->sender, utf8);
	buf_add_str(out, "\r\n");
	add_date(out, "Arrival-Date", f->arrival_s);
	for (size_t i = 0; i < f->rcpt_count; i++)
		add_rcpt_status(f, &f->rcpts[i], out);
}

/* ---- part 3: the original ---- */

static void add_original(const struct dsn_facts *f, struct buf *out)
{
	bool utf8 = is_utf8_mail(f);

	add_separator(f, out, false);
	buf_printf(out, "Content-Description: %s%s\r\nContent-Type: %s\r\n", kinds[f->kind].part,
		   f->original_full ? "" : " Headers",
		   f->original_full ? (utf8 ? "message/global" : "message/rfc822")
				    : (utf8 ? "message/global-headers" : "text/rfc822-headers"));
	if (!str_is_ascii(f->original.p, f->original.len))
		buf_add_str(out, "Content-Transfer-Encoding: 8bit\r\n");
	buf_add_str(out, "\r\n");
	buf_add_sv(out, f->original);
}

void dsn_build(const struct dsn_facts *f, struct buf *out)
{
	add_header(f, out);
	add_notification(f, out);
	add_status(f, out);
	add_original(f, out);
	add_separator(f, out, true);
}

struct sv dsn_headers_of(struct sv content, size_t max)
{
	size_t pos = 0, limit = size_min(content.len, max);

	while (pos < limit) {
		const char *nl = memchr(content.p + pos, '\n', limit - pos);
		size_t next;

		if (nl == NULL)
			break;
		next = (size_t)(nl + 1 - content.p);
		if (next - pos == 2) /* the empty line */
			break;
		pos = next;
	}
	return (struct sv){ content.p, pos };
}
