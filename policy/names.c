/* SPDX-License-Identifier: GPL-3.0-or-later */
/* $names in texts for clients; see policy/names.h. */
#include "policy/names.h"

#include <time.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"

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
static const char *address_part(struct policy_names *n, struct sv name, struct sv what,
				struct sv addr)
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

static const char *localtime_text(struct policy_names *n)
{
	time_t now = (time_t)(clock_now_wall().us / 1000000);
	char text[40] = "";
	struct tm tm;

	if (localtime_r(&now, &tm) != NULL)
		strftime(text, sizeof(text), "%b %d %H:%M:%S", &tm);
	buf_add_str(&n->value, text);
	return buf_cstr(&n->value);
}

static const char *raw_value(struct policy_names *n, struct sv name)
{
	const struct {
		struct sv name;
		const char *value;
	} names[] = {
		{ SV("server_name"), n->server_name },
		{ SV("client"), n->client },
		{ SV("client_address"), n->client_address },
		{ SV("client_port"), n->client_port },
		{ SV("client_name"), n->client_name },
		{ SV("reverse_client_name"), n->reverse_client_name },
		{ SV("helo_name"), n->helo_name },
	};
	const char *part;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (sv_eq(name, names[i].name))
			return names[i].value != NULL ? names[i].value : "";
	}
	if (sv_eq(name, SV("localtime")))
		return localtime_text(n);
	part = address_part(n, name, SV("sender"), n->sender);
	if (part == NULL)
		part = address_part(n, name, SV("recipient"), n->recipient);
	if (part == NULL)
		log_warn("unknown macro name \"%.*s\" in expansion request", (int)name.len, name.p);
	return part;
}

static const char *clean(struct policy_names *n)
{
	for (size_t i = 0; i < n->value.len; i++) {
		if (!is_allowed(n->filter, n->value.p[i]))
			n->value.p[i] = '_';
	}
	return buf_cstr(&n->value);
}

const char *policy_names_clean(struct policy_names *n, const char *value)
{
	buf_reset(&n->value);
	buf_add_str(&n->value, value);
	return clean(n);
}

const char *policy_names_get(struct policy_names *n, struct sv name)
{
	const char *value;

	buf_reset(&n->value);
	value = raw_value(n, name);
	if (value == NULL)
		return NULL;
	if (value != n->value.p)
		buf_add_str(&n->value, value);
	return clean(n);
}
