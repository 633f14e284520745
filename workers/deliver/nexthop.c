/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Parsing next hop text; see workers/deliver/nexthop.h. */
#include "workers/deliver/nexthop.h"

#include <string.h>

#include "conf/ports.h"
#include "lib/err.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

static bool take_prefix(struct sv *text, const char *prefix)
{
	size_t len = strlen(prefix);

	if (text->len < len || !sv_eq_nocase((struct sv){ text->p, len }, sv_from(prefix)))
		return false;
	text->p += len;
	text->len -= len;
	return true;
}

/* Splits "[host]:port", "host:port"; brackets are taken off. */
static int split_port(struct sv *text, struct sv *port_r, bool *bracket_r)
{
	const char *close;

	*port_r = (struct sv){ NULL, 0 };
	*bracket_r = text->len > 0 && text->p[0] == '[';
	if (*bracket_r) {
		close = memchr(text->p, ']', text->len);
		if (close == NULL)
			return E_SYNTAX;
		struct sv rest = { close + 1, text->len - (size_t)(close + 1 - text->p) };

		if (rest.len > 0 && (rest.p[0] != ':' || rest.len == 1))
			return E_SYNTAX;
		if (rest.len > 0)
			*port_r = (struct sv){ rest.p + 1, rest.len - 1 };
		*text = (struct sv){ text->p + 1, (size_t)(close - text->p) - 1 };
		return 0;
	}
	for (size_t i = text->len; i-- > 0;) {
		if (text->p[i] != ':')
			continue;
		if (memchr(text->p, ':', i) != NULL)
			break; /* a bare IPv6 address */
		*port_r = (struct sv){ text->p + i + 1, text->len - i - 1 };
		text->len = i;
		return port_r->len > 0 ? 0 : E_SYNTAX;
	}
	return 0;
}

static int parse_unix(struct sv path, struct nexthop_alt *alt)
{
	alt->kind = NEXTHOP_UNIX;
	if (path.len == 0 || path.len > 100 || memchr(path.p, '\0', path.len) != NULL ||
	    !str_copy(alt->host, sizeof(alt->host), path))
		return E_SYNTAX;
	return 0;
}

static int parse_one(struct sv text, bool mx, uint16_t default_port, struct nexthop_alt *alt)
{
	bool bracket;
	struct sv port;

	*alt = (struct nexthop_alt){ .kind = NEXTHOP_HOST, .port = default_port, .text = text };
	if (take_prefix(&text, "unix:"))
		return parse_unix(text, alt);
	take_prefix(&text, "inet:");
	if (split_port(&text, &port, &bracket) != 0)
		return E_SYNTAX;
	if (port.p != NULL && ports_find(port, &alt->port) != 0)
		return E_SYNTAX;
	take_prefix(&text, "ipv6:");
	if (text.len > 1 && text.p[text.len - 1] == '.')
		text.len--;
	if (!str_copy(alt->host, sizeof(alt->host), text))
		return E_SYNTAX;
	alt->literal = mail_hostaddr_is_valid(text);
	if (!alt->literal && !mail_hostname_is_valid(text))
		return E_SYNTAX;
	alt->mx = mx && !bracket && !alt->literal;
	alt->bracket = bracket;
	if (port.p != NULL && !str_copy(alt->service, sizeof(alt->service), port))
		return E_SYNTAX;
	return 0;
}

int nexthop_parse(struct sv text, bool mx, uint16_t default_port, struct nexthop *n)
{
	for (size_t at = 0; at < text.len;) {
		size_t from;
		int err;

		while (at < text.len && (text.p[at] == ',' || ascii_is_space(text.p[at])))
			at++;
		for (from = at; at < text.len && text.p[at] != ',' && !ascii_is_space(text.p[at]);)
			at++;
		if (at == from)
			break;
		if (n->count == NEXTHOP_ALT_MAX)
			return E_LIMIT;
		err = parse_one((struct sv){ text.p + from, at - from }, mx, default_port,
				&n->alts[n->count]);
		if (err != 0)
			return err;
		n->count++;
	}
	return n->count > 0 ? 0 : E_SYNTAX;
}
