/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lists of aliases and .forward files; see workers/local/alias.h. */
#include "workers/local/alias.h"

#include <string.h>

#include "lib/mailaddr.h"

static const char include_word[] = ":include:";

/* Cut one element off; quotes and parentheses keep what is inside together. */
static struct sv cut(struct sv *rest)
{
	struct sv s = *rest;
	size_t i = 0, depth = 0;
	bool quoted = false;

	for (; i < s.len; i++) {
		char c = s.p[i];

		if (c == '\n' || (c == ',' && !quoted && depth == 0))
			break;
		if (c == '\\' && i + 1 < s.len && s.p[i + 1] != '\n')
			i++;
		else if (c == '"' && depth == 0)
			quoted = !quoted;
		else if (c == '(' && !quoted)
			depth++;
		else if (c == ')' && depth > 0)
			depth--;
	}
	i = size_min(i, s.len);
	rest->p += size_min(i + 1, s.len);
	rest->len -= size_min(i + 1, s.len);
	return sv_trim((struct sv){ s.p, i });
}

static struct sv drop_comment(struct sv s)
{
	bool quoted = false;

	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '\\')
			i++;
		else if (s.p[i] == '"')
			quoted = !quoted;
		else if (s.p[i] == '(' && !quoted)
			return sv_trim((struct sv){ s.p, i });
	}
	return s;
}

/* Without the quotes around it and the backslashes inside; s.p[0] is a quote. The bytes used. */
static size_t add_unquoted(struct sv s, struct buf *out)
{
	size_t i = 1;

	for (; i < s.len && s.p[i] != '"'; i++) {
		if (s.p[i] == '\\' && i + 1 < s.len)
			i++;
		buf_add_c(out, s.p[i]);
	}
	return size_min(i + 1, s.len);
}

static struct sv inside_brackets(struct sv s)
{
	const char *open = memchr(s.p, '<', s.len), *close;

	if (open == NULL || s.p[0] == '"')
		return s;
	close = memchr(open, '>', s.len - (size_t)(open - s.p));
	return close == NULL ? s : sv_trim((struct sv){ open + 1, (size_t)(close - open) - 1 });
}

static enum alias_kind kind_of(struct sv s)
{
	if (s.p[0] == '|')
		return ALIAS_COMMAND;
	if (s.p[0] == '/')
		return ALIAS_FILE;
	return s.len > sizeof(include_word) - 1 && str_starts_nocase(s.p, include_word)
		       ? ALIAS_INCLUDE
		       : ALIAS_ADDRESS;
}

/* |"command" and "|command" are the same. */
static void add_text(struct sv s, struct buf *out)
{
	size_t used = 0;

	if (s.p[0] == '"') {
		used = add_unquoted(s, out);
	} else if (s.p[0] == '|' && s.len > 1 && s.p[1] == '"') {
		buf_add_c(out, '|');
		used = 1 + add_unquoted((struct sv){ s.p + 1, s.len - 1 }, out);
	}
	buf_add_sv(out, (struct sv){ s.p + used, s.len - used });
}

bool alias_next(struct sv *rest, enum alias_kind *kind_r, struct buf *out)
{
	while (rest->len > 0) {
		struct sv s = *rest;

		while (s.len > 0 && (*s.p == ' ' || *s.p == '\t')) {
			s.p++;
			s.len--;
		}
		if (s.len > 0 && *s.p == '#') { /* up to the line's end */
			const char *nl = memchr(s.p, '\n', s.len);
			size_t n = nl == NULL ? s.len : (size_t)(nl - s.p) + 1;

			*rest = (struct sv){ s.p + n, s.len - n };
			continue;
		}
		s = inside_brackets(drop_comment(cut(rest)));
		if (s.len == 0)
			continue;
		buf_reset(out);
		add_text(s, out);
		if (out->len == 0)
			continue;
		*kind_r = kind_of(buf_sv(out));
		if (*kind_r == ALIAS_COMMAND)
			buf_consume(out, 1);
		else if (*kind_r == ALIAS_INCLUDE)
			buf_consume(out, sizeof(include_word) - 1);
		struct sv text = sv_trim(buf_sv(out));

		if (text.len == 0 || memchr(text.p, '\0', text.len) != NULL)
			continue;
		memmove(out->p, text.p, text.len);
		out->len = text.len;
		out->p[out->len] = '\0';
		return true;
	}
	return false;
}

bool alias_address_ok(struct sv addr)
{
	struct sv local, domain;

	if (addr.len == 0 || addr.len > MAIL_ADDR_MAX_BYTES || !str_is_utf8(addr.p, addr.len))
		return false;
	for (size_t i = 0; i < addr.len; i++) {
		if ((unsigned char)addr.p[i] < ' ' || addr.p[i] == 0x7f)
			return false;
	}
	if (!mail_addr_split(addr, &local, &domain))
		return true;
	return local.len > 0 && (mail_hostname_is_valid(domain) || domain.p[0] == '[');
}
