/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a 4xx or 5xx reply is turned into before the client gets it: smtpd_reject_filter_maps,
 * smtpd_reject_footer(_maps), soft_bounce, in this order; and how replies are said.
 */
#include "workers/smtp_in/refusal.h"

#include <stdarg.h>

#include "lib/log.h"
#include "policy/names.h"
#include "workers/smtp/reply.h"
#include "workers/smtp_in/sesstalk.h"

static const char *lookup(void *ctx, struct sv name)
{
	return policy_names_get(ctx, name);
}

static struct policy_names names_of(const struct session *s)
{
	bool rcpt = s->pending.cmd == &smtp_cmds[CMD_RCPT];

	return (struct policy_names){
		.filter = s->listener->p->smtpd_expansion_filter,
		.server_name = s->listener->p->myhostname,
		.client = s->namaddr,
		.client_address = s->addr,
		.client_port = s->port,
		.client_name = s->name,
		.reverse_client_name = s->reverse_name,
		.helo_name = s->helo,
		.sender = s->tx != NULL ? sv_from(s->tx->sender) : SV(""),
		.recipient = rcpt ? buf_sv(&s->pending.addr) : SV(""),
	};
}

/* ---- reject filter ---- */

static bool is_refusal(struct sv s)
{
	return s.len >= 3 && (s.p[0] == '4' || s.p[0] == '5') && ascii_is_digit(s.p[1]) &&
	       ascii_is_digit(s.p[2]) && (s.len == 3 || s.p[3] == ' ' || s.p[3] == '-');
}

static void filter(struct session *s, struct buf *reply)
{
	struct buf value = BUF_INIT;
	struct sv to;

	if (map_list_get(s->listener->reject_filter_maps, buf_sv(reply), &value) == MAP_FOUND) {
		to = buf_sv(&value);
		if (!is_refusal(to) ||
		    (to.len > 4 && ascii_is_digit(to.p[4]) && to.p[4] != to.p[0])) {
			log_warn("%s: ignoring invalid reject filter result: %.*s", session_qid(s),
				 (int)to.len, to.p);
		} else {
			log_info("%s: reply filter in: %s", session_qid(s), buf_cstr(reply));
			log_info("%s: reply filter out: %.*s", session_qid(s), (int)to.len, to.p);
			buf_reset(reply);
			buf_add_sv(reply, to);
			str_make_printable(reply->p, reply->len);
		}
	}
	buf_fini(&value);
}

/* ---- footer ---- */

void refusal_add_footer(struct buf *reply, struct sv template,
			const char *(*lookup_fn)(void *ctx, struct sv name), void *ctx)
{
	struct buf out = BUF_INIT, line = BUF_INIT;
	uint8_t dsn[3];
	size_t dsn_len = reply->len > 4
				 ? smtp_dsn_parse((struct sv){ reply->p + 4, reply->len - 4 }, dsn)
				 : 0;
	bool first = true, good = true;

	buf_add_sv(&out, buf_sv(reply));
	while (good) {
		const char *nl = memmem(template.p, template.len, "\\n", 2);
		size_t len = nl == NULL ? template.len : (size_t)(nl - template.p);
		struct sv text = { template.p, len };

		if (first && text.len >= 2 && memcmp(text.p, "\\c", 2) == 0) {
			text = (struct sv){ text.p + 2, text.len - 2 };
		} else {
			buf_add_str(&out, "\r\n");
			buf_add(&out, reply->p, 3);
			buf_add_c(&out, nl != NULL ? '-' : ' ');
			if (dsn_len > 0) {
				buf_add(&out, reply->p + 4, dsn_len);
				buf_add_c(&out, ' ');
			}
			out.p[3] = '-';
		}
		buf_reset(&line);
		good = conf_expand_with(text, lookup_fn, ctx, &line) == 0;
		if (line.len > 0)
			str_make_printable(line.p, line.len);
		buf_add_sv(&out, buf_sv(&line));
		first = false;
		if (nl == NULL)
			break;
		template = (struct sv){ nl + 2, template.len - len - 2 };
	}
	if (good) {
		buf_reset(reply);
		buf_add_sv(reply, buf_sv(&out));
	}
	buf_fini(&line);
	buf_fini(&out);
}

static void footer(struct session *s, struct buf *reply)
{
	const struct listener *l = s->listener;
	struct buf found = BUF_INIT;
	struct sv template = sv_from(l->p->smtpd_reject_footer);

	if (map_list_get(l->reject_footer_maps, buf_sv(reply), &found) == MAP_FOUND)
		template = buf_sv(&found);
	if (template.len > 0) {
		struct policy_names n = names_of(s);

		refusal_add_footer(reply, template, lookup, &n);
		buf_fini(&n.value);
	}
	buf_fini(&found);
}

/* Every line: permanent becomes temporary. */
static void soften(struct buf *reply)
{
	for (size_t at = 0; at < reply->len;) {
		const char *nl = memchr(reply->p + at, '\n', reply->len - at);
		size_t end = nl != NULL ? (size_t)(nl + 1 - reply->p) : reply->len;

		if (reply->p[at] == '5')
			reply->p[at] = '4';
		if (end - at > 4 && reply->p[at + 4] == '5')
			reply->p[at + 4] = '4';
		at = end;
	}
}

bool refusal_is_changed(const struct session *s)
{
	const struct listener *l = s->listener;

	return l->p->soft_bounce || l->p->smtpd_reject_footer[0] != '\0' ||
	       !map_list_is_empty(l->reject_footer_maps) ||
	       !map_list_is_empty(l->reject_filter_maps);
}

void refusal_change(struct session *s, struct buf *reply)
{
	if (!is_refusal(buf_sv(reply)))
		return;
	filter(s, reply);
	footer(s, reply);
	if (s->listener->p->soft_bounce)
		soften(reply);
}

/* ---- replies ---- */

/* What s->out has from `at` on is a reply that the operator may want another way. */
static void change_refusal(struct session *s, size_t at)
{
	struct buf reply = BUF_INIT;

	buf_add(&reply, s->out.p + at, s->out.len - at);
	refusal_change(s, &reply);
	s->out.len = at;
	buf_add_sv(&s->out, buf_sv(&reply));
	buf_fini(&reply);
}

void session_reply(struct session *s, const char *fmt, ...)
{
	size_t at = s->out.len;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&s->out, fmt, ap);
	va_end(ap);
	char *text = s->out.p + at;

	str_make_printable(text, s->out.len - at);
	if ((text[0] == '4' || text[0] == '5') && refusal_is_changed(s)) {
		change_refusal(s, at);
		text = s->out.p + at;
	}
	if (strncmp(text, "421", 3) == 0 || strncmp(text, "521", 3) == 0)
		s->hangup = true;
	if (s->talk != NULL || s->verbose || text[0] >= '4')
		session_talk_out(s, (struct sv){ text, s->out.len - at });
	buf_add(&s->out, "\r\n", 2);
}

void session_reply_text(struct session *s, const char *text)
{
	size_t at = s->out.len;

	while (*text != '\0') {
		size_t n = strcspn(text, "\r\n"), from = s->out.len;

		buf_add(&s->out, text, n);
		str_make_printable(s->out.p + from, n);
		text += n + strspn(text + n, "\r\n");
		if (*text != '\0')
			buf_add(&s->out, "\r\n", 2);
	}
	if (refusal_is_changed(s))
		change_refusal(s, at);
	if (strncmp(s->out.p + at, "421", 3) == 0 || strncmp(s->out.p + at, "521", 3) == 0)
		s->hangup = true;
	if (s->talk != NULL || s->verbose || s->out.p[at] >= '4')
		session_talk_out(s, (struct sv){ s->out.p + at, s->out.len - at });
	buf_add(&s->out, "\r\n", 2);
}
