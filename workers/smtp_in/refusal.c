/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a 4xx or 5xx reply is turned into before the client gets it: smtpd_reject_filter_maps,
 * smtpd_reject_footer(_maps), soft_bounce, in this order. Called by session_reply().
 */
#include "workers/smtp_in/refusal.h"

#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "workers/smtp/reply.h"

struct namer { /* looks up $names of a footer */
	const struct session *s;
	struct buf value;
};

/* ---- $names ---- */

/* smtpd_expansion_filter may have \t, \\ and \ooo. */
static bool is_allowed(const char *filter, char c)
{
	while (*filter != '\0') {
		char f = *filter++;

		if (f == '\\' && *filter >= '0' && *filter <= '7') {
			unsigned value = 0;

			for (int i = 0; i < 3 && *filter >= '0' && *filter <= '7'; i++)
				value = value * 8 + (unsigned)(*filter++ - '0');
			f = (char)value;
		} else if (f == '\\' && *filter != '\0') {
			f = *filter++;
			f = f == 't' ? '\t' : f == 'n' ? '\n' : f == 'r' ? '\r' : f;
		}
		if (f == c)
			return true;
	}
	return false;
}

/* "sender", "sender_name", "sender_domain" and the same of the recipient; NULL: none of them. */
static const char *address_part(struct namer *n, struct sv name, struct sv what, struct sv addr)
{
	struct sv rest = { name.p + what.len, name.len - size_min(name.len, what.len) };
	const char *at = addr.len > 0 ? memrchr(addr.p, '@', addr.len) : NULL;

	if (name.len < what.len || !sv_eq((struct sv){ name.p, what.len }, what))
		return NULL;
	if (rest.len == 0)
		buf_add_sv(&n->value, addr.len > 0 ? addr : SV("<>"));
	else if (sv_eq(rest, SV("_name")))
		buf_add_sv(&n->value, addr.len == 0 ? SV("<>")
				      : at != NULL  ? (struct sv){ addr.p, (size_t)(at - addr.p) }
						    : addr);
	else if (sv_eq(rest, SV("_domain")) && at != NULL)
		buf_add(&n->value, at + 1, addr.len - (size_t)(at + 1 - addr.p));
	else if (!sv_eq(rest, SV("_domain")))
		return NULL;
	return buf_cstr(&n->value);
}

static const char *localtime_text(struct namer *n)
{
	time_t now = (time_t)(clock_now_wall().us / 1000000);
	char text[40] = "";
	struct tm tm;

	if (localtime_r(&now, &tm) != NULL)
		strftime(text, sizeof(text), "%b %d %H:%M:%S", &tm);
	buf_add_str(&n->value, text);
	return buf_cstr(&n->value);
}

static const char *raw_value(struct namer *n, struct sv name)
{
	const struct session *s = n->s;
	const struct {
		struct sv name;
		const char *value;
	} names[] = {
		{ SV("server_name"), s->listener->p->myhostname },
		{ SV("client"), s->namaddr },
		{ SV("client_address"), s->addr },
		{ SV("client_port"), s->port },
		{ SV("client_name"), s->name },
		{ SV("reverse_client_name"), s->reverse_name },
		{ SV("helo_name"), s->helo },
	};
	bool rcpt = s->pending.cmd == &smtp_cmds[CMD_RCPT];
	struct sv sender = s->tx != NULL ? sv_from(s->tx->sender) : SV("");
	const char *part;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (sv_eq(name, names[i].name))
			return names[i].value != NULL ? names[i].value : "";
	}
	if (sv_eq(name, SV("localtime")))
		return localtime_text(n);
	part = address_part(n, name, SV("sender"), sender);
	if (part == NULL)
		part = address_part(n, name, SV("recipient"),
				    rcpt ? buf_sv(&s->pending.addr) : SV(""));
	if (part == NULL)
		log_warn("unknown macro name \"%.*s\" in expansion request", (int)name.len, name.p);
	return part;
}

static const char *lookup(void *ctx, struct sv name)
{
	struct namer *n = ctx;
	const char *value;

	buf_reset(&n->value);
	value = raw_value(n, name);
	if (value == NULL)
		return NULL;
	if (value != n->value.p)
		buf_add_str(&n->value, value);
	for (size_t i = 0; i < n->value.len; i++) {
		if (!is_allowed(n->s->listener->p->smtpd_expansion_filter, n->value.p[i]))
			n->value.p[i] = '_';
	}
	return buf_cstr(&n->value);
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

/* "\n" in the template begins a line, with the codes of the reply in front of it; "\c" at its
 * start goes on with the line of the reply. */
static void add_footer(struct session *s, struct buf *reply, struct sv template)
{
	struct namer n = { .s = s };
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
		good = conf_expand_with(text, lookup, &n, &line) == 0;
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
	buf_fini(&n.value);
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
	if (template.len > 0)
		add_footer(s, reply, template);
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
