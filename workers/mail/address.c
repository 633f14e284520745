/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMTP paths; see workers/mail/address.h. Called by smtp-in for MAIL, RCPT and VRFY, and by
 * rewrite. */
#include "workers/mail/address.h"

#include <string.h>

#include "lib/err.h"

static bool is_wsp(char c)
{
	return c == ' ' || c == '\t';
}

static struct sv skip_wsp(struct sv s)
{
	while (s.len > 0 && is_wsp(s.p[0])) {
		s.p++;
		s.len--;
	}
	return s;
}

/* Index of the first `stop` (or white space when stop is ' ') outside quotes and brackets. */
static size_t find_end(struct sv s, char stop)
{
	bool quoted = false;

	for (size_t i = 0; i < s.len; i++) {
		char c = s.p[i];

		if (c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (stop == ' ' ? is_wsp(c) : c == stop))
			return i;
	}
	return s.len;
}

/* Drop "@a,@b:" in front of an address. */
static int strip_route(struct sv *path)
{
	if (path->len == 0 || path->p[0] != '@')
		return 0;
	for (size_t i = 0; i < path->len; i++) {
		if (path->p[i] == ':') {
			*path = (struct sv){ path->p + i + 1, path->len - i - 1 };
			return 0;
		}
		if (path->p[i] == '[') { /* a literal may hold colons */
			const char *close = memchr(path->p + i, ']', path->len - i);

			if (close == NULL)
				return E_SYNTAX;
			i = (size_t)(close - path->p);
		}
	}
	return E_SYNTAX;
}

/* Append the local part; *len_r: bytes of it in the external form. */
static int parse_local(struct sv s, struct buf *out, size_t *len_r)
{
	bool quoted = false;
	size_t i = 0;

	for (; i < s.len; i++) {
		char c = s.p[i];

		if (c == '"') {
			quoted = !quoted;
			continue;
		}
		if (c == '@' && !quoted)
			break;
		if (c == '\\') {
			if (++i == s.len)
				return E_SYNTAX;
			c = s.p[i];
		} else if (!quoted && strchr(" \t()<>[]:;,", c) != NULL) {
			return E_SYNTAX; /* the terminator of strchr's set catches NUL, too */
		}
		if ((unsigned char)c < ' ' || c == 0x7f)
			return E_SYNTAX;
		if (!buf_add_c(out, c))
			return E_LIMIT;
	}
	*len_r = i;
	return quoted || out->len == 0 ? E_SYNTAX : 0; /* "" is not the null address */
}

static int parse_domain(struct sv domain, unsigned flags, struct buf *out)
{
	struct sv addr;

	if (domain.len > 1 && domain.p[domain.len - 1] == '.')
		domain.len--;
	if (!mail_hostname_is_valid(domain) && !mail_literal_parse(domain, &addr) &&
	    ((flags & MAIL_PATH_NUMERIC) == 0 || !mail_hostaddr_is_valid(domain)))
		return E_SYNTAX;
	return buf_add_c(out, '@') && buf_add_sv(out, domain) ? 0 : E_LIMIT;
}

static int parse_mailbox(struct sv path, unsigned flags, struct buf *out)
{
	size_t local_len;

	if (path.len == 0)
		return 0;
	int err = strip_route(&path);

	if (err < 0)
		return err;
	if (!str_is_utf8(path.p, path.len))
		return E_SYNTAX;
	err = parse_local(path, out, &local_len);
	if (err < 0)
		return err;
	if (local_len == path.len) /* a lone "a@b" in quotes must not become the address a@b */
		return memchr(out->p, '@', out->len) == NULL ? 0 : E_SYNTAX;
	return parse_domain((struct sv){ path.p + local_len + 1, path.len - local_len - 1 }, flags,
			    out);
}

int mail_addr_parse_path(struct sv text, unsigned flags, struct buf *addr, struct sv *rest_r)
{
	bool strict = (flags & MAIL_PATH_STRICT) != 0;
	struct buf mine;
	struct sv path;

	text = skip_wsp(text);
	bool angle = text.len > 0 && text.p[0] == '<';

	if (text.len == 0 || (strict && !angle))
		return E_SYNTAX;
	if (angle) {
		text = (struct sv){ text.p + 1, text.len - 1 };
		path.len = find_end(text, '>');
		if (path.len == text.len)
			return E_SYNTAX;
	} else {
		path.len = find_end(text, ' ');
	}
	path.p = text.p;
	size_t used = path.len + (angle ? 1 : 0);
	struct sv rest = { text.p + used, text.len - used };

	if (rest.len > 0 && !is_wsp(rest.p[0]))
		return E_SYNTAX;
	if (!strict)
		path = sv_trim(path);
	buf_init(&mine, MAIL_ADDR_MAX_BYTES);
	int err = parse_mailbox(path, flags, &mine);

	if (err == 0 && !buf_add_sv(addr, buf_sv(&mine)))
		err = E_LIMIT;
	buf_fini(&mine);
	*rest_r = sv_trim(rest);
	return err;
}

bool mail_addr_crack(struct sv internal, bool bangpath, bool percent, struct buf *out)
{
	struct sv user, site;
	const char *mark;

	if (internal.len == 0 || memchr(internal.p, '@', internal.len) != NULL)
		return false;
	if (bangpath && (mark = memchr(internal.p, '!', internal.len)) != NULL) {
		site = (struct sv){ internal.p, (size_t)(mark - internal.p) };
		user = (struct sv){ mark + 1, internal.len - site.len - 1 };
	} else if (percent && (mark = memrchr(internal.p, '%', internal.len)) != NULL) {
		user = (struct sv){ internal.p, (size_t)(mark - internal.p) };
		site = (struct sv){ mark + 1, internal.len - user.len - 1 };
	} else {
		return false;
	}
	if (user.len == 0 || !mail_hostname_is_valid(site))
		return false;
	return buf_add_sv(out, user) && buf_add_c(out, '@') && buf_add_sv(out, site);
}
