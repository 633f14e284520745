/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * XCLIENT and XFORWARD (Postfix's XCLIENT_README, XFORWARD_README): a proxy or content filter that
 * the operator trusts says whose session this is. XCLIENT changes what the session is for
 * everything, and it begins anew with the greeting; XFORWARD changes what one message's log lines
 * and the next hops get. Nobody else's word counts, and what is said is bounded and cleaned.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/mail/address.h"
#include "workers/mail/xtext.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/sessmilter.h"

#define VALUE_MAX    255u
#define PROTOCOL_MAX 64u
#define UNAVAILABLE  "[UNAVAILABLE]"
#define TEMPORARY    "[TEMPUNAVAIL]"

/* ---- what both have in common ---- */

struct x_command {
	const char *verb;
	bool (*set)(struct session *s, void *into, const char *name, char *value);
};

static bool bad_value(struct session *s, const char *name, const char *value)
{
	session_reply(s, "501 5.5.4 Bad %s syntax: %s", name, value);
	return false;
}

static bool is_unavailable(const char *value)
{
	return str_eq_nocase(value, UNAVAILABLE);
}

/* One "NAME=value"; the value is xtext, or was meant so. */
static bool take_attribute(struct session *s, const struct x_command *x, void *into, struct sv word)
{
	struct buf value = BUF_INIT;
	char name[32];
	const char *equals = memchr(word.p, '=', word.len);
	bool good = false;

	if (equals == NULL || equals + 1 == word.p + word.len) {
		session_reply(s, "501 5.5.4 Error: attribute=value expected");
		return false;
	}
	struct sv raw = { equals + 1, word.len - (size_t)(equals - word.p) - 1 };

	if (raw.len > VALUE_MAX) {
		session_reply(s, "501 5.5.4 Error: attribute value too long");
		return false;
	}
	if (!mail_xtext_decode(raw, &value) || memchr(value.p, '\0', value.len) != NULL) {
		buf_reset(&value);
		buf_add_sv(&value, raw);
	}
	char *text = xstrdup(buf_cstr(&value));

	str_make_printable(text, strlen(text));
	if (str_copy(name, sizeof(name), (struct sv){ word.p, (size_t)(equals - word.p) }))
		good = x->set(s, into, name, text);
	else
		session_reply(s, "501 5.5.4 Bad %s attribute name: %.100s", x->verb, word.p);
	free(text);
	buf_fini(&value);
	return good;
}

static bool may_begin(struct session *s, const struct x_command *x, struct sv args, bool allowed)
{
	if (s->tx != NULL) {
		session_reply(s, "503 5.5.1 Error: MAIL transaction in progress");
		return false;
	}
	if (args.len == 0) {
		session_reply(s, "501 5.5.4 Syntax: %s attribute=value...", x->verb);
		return false;
	}
	if (!allowed)
		session_reply(s, "550 5.7.0 Error: insufficient authorization");
	return allowed;
}

static bool take_attributes(struct session *s, const struct x_command *x, void *into,
			    struct sv args)
{
	while (args.len > 0) {
		size_t n = 0;

		while (n < args.len && !ascii_is_space(args.p[n]))
			n++;
		if (!take_attribute(s, x, into, (struct sv){ args.p, n }))
			return false;
		args = sv_trim((struct sv){ args.p + n, args.len - n });
	}
	return true;
}

static void set_text(char **field, const char *value)
{
	free(*field);
	*field = value != NULL ? xstrdup(value) : NULL;
}

/* "IPv6:..." or an IPv4 address, in the form that we write addresses; IPv4-mapped as IPv4. */
static bool read_address(char *value, char out[46])
{
	unsigned char addr[16];

	cmd_neuter(value);
	if (inet_pton(AF_INET, value, addr) == 1)
		return inet_ntop(AF_INET, addr, out, 46) != NULL;
	if (!str_starts_nocase(value, "IPv6:") || inet_pton(AF_INET6, value + 5, addr) != 1)
		return false;
	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)(const void *)addr))
		return inet_ntop(AF_INET, addr + 12, out, 46) != NULL;
	return inet_ntop(AF_INET6, addr, out, 46) != NULL;
}

static bool read_port(const char *value)
{
	size_t n = strlen(value);

	return n > 0 && n <= 5 && strspn(value, "0123456789") == n;
}

static bool is_hostname(const char *value)
{
	return mail_hostname_is_valid(sv_from(value));
}

/* ---- XCLIENT ---- */

struct new_client { /* what is to be changed; applied when all of it is good */
	char *name, *reverse_name, *helo;
	char addr[46], port[8], server_addr[46], server_port[8];
	enum policy_name_status name_status, reverse_status;
	char *login;
	bool got_name, got_reverse, got_helo, got_proto, esmtp;
};

static bool set_host(struct session *s, const char *attribute, const char *value, char **name,
		     enum policy_name_status *status)
{
	*status = is_unavailable(value)             ? POLICY_NAME_PERM
		  : str_eq_nocase(value, TEMPORARY) ? POLICY_NAME_TEMP
						    : POLICY_NAME_OK;
	if (*status == POLICY_NAME_OK && !is_hostname(value))
		return bad_value(s, attribute, value);
	set_text(name, *status == POLICY_NAME_OK ? value : "unknown");
	return true;
}

static bool x_name(struct session *s, struct new_client *c, char *value)
{
	if (!set_host(s, "NAME", value, &c->name, &c->name_status))
		return false;
	c->got_name = true;
	if (c->name_status == POLICY_NAME_OK) {
		set_text(&c->reverse_name, value);
		c->reverse_status = POLICY_NAME_OK;
		c->got_reverse = true;
	}
	return true;
}

static bool x_reverse(struct session *s, struct new_client *c, char *value)
{
	c->got_reverse = true;
	return set_host(s, "REVERSE_NAME", value, &c->reverse_name, &c->reverse_status);
}

static bool set_addr(struct session *s, const char *attribute, char *value, char addr[46])
{
	if (is_unavailable(value))
		snprintf(addr, 46, "unknown");
	else if (!read_address(value, addr))
		return bad_value(s, attribute, value);
	return true;
}

static bool set_port(struct session *s, const char *attribute, const char *value, char port[8])
{
	if (!is_unavailable(value) && !read_port(value))
		return bad_value(s, attribute, value);
	snprintf(port, 8, "%s", is_unavailable(value) ? "unknown" : value);
	return true;
}

static bool x_addr(struct session *s, struct new_client *c, char *value)
{
	return set_addr(s, "ADDR", value, c->addr);
}

static bool x_port(struct session *s, struct new_client *c, char *value)
{
	return set_port(s, "PORT", value, c->port);
}

static bool x_destaddr(struct session *s, struct new_client *c, char *value)
{
	return set_addr(s, "DESTADDR", value, c->server_addr);
}

static bool x_destport(struct session *s, struct new_client *c, char *value)
{
	return set_port(s, "DESTPORT", value, c->server_port);
}

static bool x_helo(struct session *s UNUSED, struct new_client *c, char *value)
{
	bool none = is_unavailable(value);

	cmd_neuter(value);
	set_text(&c->helo, none ? NULL : value);
	c->got_helo = true;
	return true;
}

static bool x_proto(struct session *s, struct new_client *c, char *value)
{
	c->esmtp = str_eq_nocase(value, "ESMTP");
	c->got_proto = c->esmtp || str_eq_nocase(value, "SMTP");
	return c->got_proto || bad_value(s, "PROTO", value);
}

static bool x_login(struct session *s UNUSED, struct new_client *c, char *value)
{
	set_text(&c->login, is_unavailable(value) ? NULL : value);
	return true;
}

static bool xclient_set(struct session *s, void *into, const char *name, char *value)
{
	static const struct {
		const char *name;
		bool (*set)(struct session *s, struct new_client *c, char *value);
	} attributes[] = {
		{ "NAME", x_name },         { "REVERSE_NAME", x_reverse },
		{ "ADDR", x_addr },         { "PORT", x_port },
		{ "HELO", x_helo },         { "PROTO", x_proto },
		{ "DESTADDR", x_destaddr }, { "DESTPORT", x_destport },
		{ "LOGIN", x_login },
	};

	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		if (str_eq_nocase(name, attributes[i].name))
			return attributes[i].set(s, into, value);
	}
	session_reply(s, "501 5.5.4 Bad XCLIENT attribute name: %s", name);
	return false;
}

static void new_client_fini(struct new_client *c)
{
	free(c->name);
	free(c->reverse_name);
	free(c->helo);
	free(c->login);
}

static void apply_client(struct session *s, struct new_client *c)
{
	/* session_name_known() forgets the old names before it looks at the new ones */
	if (!c->got_name)
		set_text(&c->name, s->name);
	if (!c->got_reverse)
		set_text(&c->reverse_name, s->reverse_name);
	if (c->addr[0] != '\0') {
		memcpy(s->addr, c->addr, sizeof(s->addr));
		s->is_ipv6 = strchr(s->addr, ':') != NULL;
	}
	if (c->port[0] != '\0')
		memcpy(s->port, c->port, sizeof(s->port));
	if (c->server_addr[0] != '\0')
		memcpy(s->server_addr, c->server_addr, sizeof(s->server_addr));
	if (c->server_port[0] != '\0')
		memcpy(s->server_port, c->server_port, sizeof(s->server_port));
	session_name_known(s, c->name, c->got_name ? c->name_status : s->name_status,
			   c->reverse_name, c->got_reverse ? c->reverse_status : s->reverse_status);
	set_text(&s->helo, c->got_helo ? c->helo : NULL);
	s->esmtp = c->got_proto && c->esmtp;
	session_auth_reset(s);
	if (c->login != NULL)
		session_auth_extern(s, c->login);
	if (s->ops->peer_changed != NULL)
		s->ops->peer_changed(s->ops->ctx, s);
}

bool cmd_xclient_check(struct session *s, struct sv args)
{
	static const struct x_command x = { "XCLIENT", xclient_set };
	struct new_client c = { 0 };
	bool good = may_begin(s, &x, args, s->xclient_allowed) && take_attributes(s, &x, &c, args);

	if (good)
		apply_client(s, &c);
	new_client_fini(&c);
	return good;
}

/* The session begins again: with what is checked of a client that connects, and the greeting. */
enum cmd_outcome cmd_xclient_apply(struct session *s)
{
	session_reset_tx(s);
	session_milter_end(s); /* they see another client, from the beginning */
	session_begin_again(s);
	return CMD_OK;
}

/* ---- XFORWARD ---- */

static bool f_name(struct session *s, struct forwarded *f, char *value)
{
	if (!is_unavailable(value)) {
		cmd_neuter(value);
		if (!is_hostname(value))
			return bad_value(s, "NAME", value);
	}
	set_text(&f->name, is_unavailable(value) ? "unknown" : value);
	f->has_client = true;
	return true;
}

static bool f_addr(struct session *s, struct forwarded *f, char *value)
{
	char addr[46];

	if (!set_addr(s, "ADDR", value, addr))
		return false;
	set_text(&f->addr, addr);
	f->has_client = true;
	return true;
}

static bool f_port(struct session *s, struct forwarded *f, char *value)
{
	char port[8];

	if (!set_port(s, "PORT", value, port))
		return false;
	set_text(&f->port, port);
	f->has_client = true;
	return true;
}

static bool f_helo(struct session *s UNUSED, struct forwarded *f, char *value)
{
	bool none = is_unavailable(value);

	cmd_neuter(value);
	set_text(&f->helo, none ? NULL : value);
	f->has_client = true;
	return true;
}

static bool f_proto(struct session *s, struct forwarded *f, char *value)
{
	bool none = is_unavailable(value);

	if (!none && strlen(value) > PROTOCOL_MAX)
		return bad_value(s, "PROTO", value);
	cmd_neuter(value);
	set_text(&f->proto, none ? "unknown" : value);
	f->has_client = true;
	return true;
}

static bool f_ident(struct session *s UNUSED, struct forwarded *f, char *value)
{
	bool none = is_unavailable(value);

	cmd_neuter(value);
	set_text(&f->ident, none ? NULL : value);
	return true;
}

static bool f_source(struct session *s, struct forwarded *f, char *value)
{
	f->is_local = is_unavailable(value) || str_eq_nocase(value, "LOCAL");
	f->has_source = f->is_local || str_eq_nocase(value, "REMOTE");
	return f->has_source || bad_value(s, "SOURCE", value);
}

static bool xforward_set(struct session *s, void *into, const char *name, char *value)
{
	static const struct {
		const char *name;
		bool (*set)(struct session *s, struct forwarded *f, char *value);
	} attributes[] = {
		{ "NAME", f_name },     { "ADDR", f_addr },   { "PORT", f_port },
		{ "HELO", f_helo },     { "PROTO", f_proto }, { "IDENT", f_ident },
		{ "SOURCE", f_source },
	};

	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		if (str_eq_nocase(name, attributes[i].name))
			return attributes[i].set(s, into, value);
	}
	session_reply(s, "501 5.5.4 Bad XFORWARD attribute name: %s", name);
	return false;
}

static struct forwarded *forwarded_new(void)
{
	struct forwarded *f = xcalloc(1, sizeof(*f));

	f->name = xstrdup("unknown");
	f->addr = xstrdup("unknown");
	f->port = xstrdup("unknown");
	f->proto = xstrdup("unknown");
	return f;
}

void cmd_forwarded_free(struct forwarded **fp)
{
	struct forwarded *f;

	TAKE(f, *fp);
	if (f == NULL)
		return;
	free(f->name);
	free(f->addr);
	free(f->port);
	free(f->helo);
	free(f->proto);
	free(f->ident);
	free(f);
}

bool cmd_xforward_check(struct session *s, struct sv args)
{
	static const struct x_command x = { "XFORWARD", xforward_set };

	if (!may_begin(s, &x, args, s->xforward_allowed))
		return false;
	if (s->forwarded == NULL)
		s->forwarded = forwarded_new();
	return take_attributes(s, &x, s->forwarded, args);
}

enum cmd_outcome cmd_xforward_apply(struct session *s)
{
	session_reply(s, "250 2.0.0 Ok");
	return CMD_OK;
}

void cmd_forwarded_log(const struct session *s, struct buf *line)
{
	const struct forwarded *f = s->forwarded;

	if (f == NULL)
		return;
	if (f->ident != NULL)
		buf_printf(line, ", orig_queue_id=%s", f->ident);
	if (!f->has_client)
		return;
	buf_printf(line, ", orig_client=%s", f->name);
	if (strcmp(f->addr, "unknown") != 0)
		buf_printf(line, "[%s]", f->addr);
	if (strcmp(f->addr, "unknown") != 0 && s->listener->p->smtpd_client_port_logging)
		buf_printf(line, ":%s", f->port);
}

void cmd_forwarded_envelope(const struct session *s, struct envelope *e)
{
	const struct forwarded *f = s->forwarded;

	if (f == NULL)
		return;
	if (f->ident != NULL)
		e->log_ident = sv_from(f->ident);
	if (f->has_source && f->is_local)
		e->flags |= ENVF_LOCAL_CLIENT;
	else if (f->has_source)
		e->flags &= ~(uint32_t)ENVF_LOCAL_CLIENT;
	if (!f->has_client)
		return;
	e->client_name = sv_from(f->name);
	e->client_addr = sv_from(f->addr);
	e->client_port = sv_from(f->port);
	e->proto = sv_from(f->proto);
	e->helo = f->helo != NULL ? sv_from(f->helo) : (struct sv){ "", 0 };
}
