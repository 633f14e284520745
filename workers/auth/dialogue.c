/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One login; see workers/auth/auth.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "workers/auth/auth.h"

struct dialogue *dialogue_new(const struct auth_service *service)
{
	struct dialogue *d = xcalloc(1, sizeof(*d));

	d->service = service;
	return d;
}

void dialogue_wipe(struct buf *b)
{
	if (b->p != NULL)
		explicit_bzero(b->p, b->cap);
	buf_reset(b);
}

void dialogue_free(struct dialogue *d)
{
	dialogue_wipe(&d->in);
	dialogue_wipe(&d->text);
	buf_fini(&d->in);
	buf_fini(&d->text);
	buf_fini(&d->user);
	buf_fini(&d->lines);
	free(d->callbacks);
	free(d);
}

/* Up to a NUL, which must be there. */
static bool next_string(struct sv *rest, struct sv *s)
{
	const char *end = rest->len > 0 ? memchr(rest->p, '\0', rest->len) : NULL;

	if (end == NULL)
		return false;
	*s = (struct sv){ rest->p, (size_t)(end - rest->p) };
	*rest = (struct sv){ end + 1, rest->len - s->len - 1 };
	return true;
}

/* Goes into other programs' lines: no blanks, no controls. */
static bool next_word(struct sv *rest, char *out, size_t size)
{
	struct sv s;

	if (!next_string(rest, &s) || !str_copy(out, size, s))
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 127)
			return false;
	}
	return true;
}

/* A buffer that moves leaves copies behind: the room is taken before the secret is written. */
static void take_input(struct dialogue *d, struct sv line)
{
	dialogue_wipe(&d->in);
	buf_reserve(&d->in, line.len + 1);
	buf_add_sv(&d->in, line);
	d->has_input = true;
}

int dialogue_take_start(struct dialogue *d, struct sv strings, unsigned flags)
{
	struct sv mechanism, initial;

	if (!next_string(&strings, &mechanism) || !next_string(&strings, &initial) ||
	    !next_word(&strings, d->client_addr, sizeof(d->client_addr)) ||
	    !next_word(&strings, d->client_port, sizeof(d->client_port)) ||
	    !next_word(&strings, d->server_addr, sizeof(d->server_addr)) ||
	    !next_word(&strings, d->server_port, sizeof(d->server_port)) || strings.len > 0)
		return E_PEER;
	/* one that does not fit is none that there is */
	if (!str_copy(d->mechanism, sizeof(d->mechanism), mechanism))
		d->mechanism[0] = '\0';
	d->encrypted = (flags & AUTH_TLS) != 0;
	if ((flags & AUTH_INITIAL) != 0)
		take_input(d, initial);
	return 0;
}

void dialogue_take_step(struct dialogue *d, struct sv line)
{
	take_input(d, line);
}

void dialogue_result(struct dialogue *d, enum auth_status status, const char *text)
{
	struct sv t = sv_from(text);

	d->status = status;
	dialogue_wipe(&d->text);
	if (t.len > PROTO_AUTH_TEXT_MAX / 2) {
		d->status = AUTH_TEMP;
		t = SV("Authentication backend error");
	}
	buf_add_sv(&d->text, t);
	if (d->text.len > 0)
		str_make_printable(d->text.p, d->text.len);
	dialogue_wipe(&d->in);
	d->has_input = false;
}

void dialogue_line(struct dialogue *d, const char *fmt, ...)
{
	struct buf line = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&line, fmt, ap);
	va_end(ap);
	if (line.len > 0)
		str_make_printable(line.p, line.len);
	if (d->lines.len + line.len + 1 <= AUTH_LINES_MAX) {
		buf_add_sv(&d->lines, buf_sv(&line));
		buf_add_c(&d->lines, '\n');
	}
	buf_fini(&line);
}

bool dialogue_is_base64(struct sv text)
{
	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (!ascii_is_alnum(c) && c != '+' && c != '/' && c != '=')
			return false;
	}
	return true;
}
