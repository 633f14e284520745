/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Envelope encoding; see workers/mail/envelope.h. Called by smtp-in (encode), rewrite (both) and
 * whoever reads records back. A recipient is one ENV_RCPT field and the ENV_RCPT_* fields behind
 * it.
 */
#include "workers/mail/envelope.h"

#include <string.h>

#include "lib/err.h"

enum env_tag { /* on disk: never renumber, only add */
	       ENV_SENDER = 1,
	       ENV_ENVID = 2,
	       ENV_CLIENT_NAME = 3,
	       ENV_CLIENT_ADDR = 4,
	       ENV_CLIENT_PORT = 5,
	       ENV_HELO = 6,
	       ENV_PROTO = 7,
	       ENV_SASL_METHOD = 8,
	       ENV_SASL_USER = 9,
	       ENV_SASL_SENDER = 10,
	       ENV_FILTER = 11,
	       ENV_REDIRECT = 12,
	       ENV_BOUNCE_OF = 13,
	       ENV_RET = 14,
	       ENV_BODY = 15,
	       ENV_FLAGS = 16,
	       ENV_ARRIVAL_US = 17,
	       ENV_SIZE_HINT = 18,
	       ENV_PREPEND = 19,
	       ENV_FULL_NAME = 20,
	       ENV_LONGEST = 21,
	       ENV_VERP = 22,
	       ENV_CLEANUP = 23,
	       ENV_LOG_IDENT = 24,
	       ENV_VERIFY = 25,
	       ENV_RCPT = 32,
	       ENV_RCPT_ORIG = 33,
	       ENV_RCPT_ORCPT = 34,
	       ENV_RCPT_NOTIFY = 35,
};

#define FIELD_HEAD  5u
#define MAX_PREPEND 1000u

/* The text fields of struct envelope, by tag. */
static const struct {
	uint8_t tag;
	size_t offset;
} text_fields[] = {
	{ ENV_SENDER, offsetof(struct envelope, sender) },
	{ ENV_ENVID, offsetof(struct envelope, envid) },
	{ ENV_CLIENT_NAME, offsetof(struct envelope, client_name) },
	{ ENV_CLIENT_ADDR, offsetof(struct envelope, client_addr) },
	{ ENV_CLIENT_PORT, offsetof(struct envelope, client_port) },
	{ ENV_HELO, offsetof(struct envelope, helo) },
	{ ENV_PROTO, offsetof(struct envelope, proto) },
	{ ENV_SASL_METHOD, offsetof(struct envelope, sasl_method) },
	{ ENV_SASL_USER, offsetof(struct envelope, sasl_user) },
	{ ENV_SASL_SENDER, offsetof(struct envelope, sasl_sender) },
	{ ENV_FILTER, offsetof(struct envelope, filter) },
	{ ENV_REDIRECT, offsetof(struct envelope, redirect) },
	{ ENV_BOUNCE_OF, offsetof(struct envelope, bounce_of) },
	{ ENV_FULL_NAME, offsetof(struct envelope, full_name) },
	{ ENV_VERP, offsetof(struct envelope, verp) },
	{ ENV_CLEANUP, offsetof(struct envelope, cleanup) },
	{ ENV_LOG_IDENT, offsetof(struct envelope, log_ident) },
	{ ENV_VERIFY, offsetof(struct envelope, verify) },
};

static struct sv *text_of(struct envelope *e, size_t i)
{
	return (struct sv *)(void *)((char *)e + text_fields[i].offset);
}

static bool put_field(struct buf *out, uint8_t tag, struct sv value)
{
	if (value.len > UINT32_MAX)
		return false;
	uint32_t len = (uint32_t)value.len;
	unsigned char head[FIELD_HEAD] = { tag, len & 0xff, (len >> 8) & 0xff, (len >> 16) & 0xff,
					   len >> 24 };

	return buf_add(out, head, sizeof(head)) && buf_add_sv(out, value);
}

static bool put_text(struct buf *out, uint8_t tag, struct sv value)
{
	return value.len == 0 || put_field(out, tag, value);
}

/* Numbers: as many little-endian bytes as needed; 0 is not written. */
static bool put_number(struct buf *out, uint8_t tag, uint64_t value)
{
	char bytes[8];
	size_t n = 0;

	for (; value != 0; value >>= 8)
		bytes[n++] = (char)(value & 0xff);
	return n == 0 || put_field(out, tag, (struct sv){ bytes, n });
}

static bool put_rcpt(struct buf *out, const struct env_rcpt *r)
{
	return put_field(out, ENV_RCPT, r->addr) && put_text(out, ENV_RCPT_ORIG, r->orig_addr) &&
	       put_text(out, ENV_RCPT_ORCPT, r->orcpt) &&
	       put_number(out, ENV_RCPT_NOTIFY, r->notify);
}

int env_encode(const struct envelope *e, struct buf *out)
{
	bool ok = true;

	for (size_t i = 0; i < ARRAY_LEN(text_fields); i++) {
		const struct sv *value =
			(const struct sv *)(const void *)((const char *)e + text_fields[i].offset);

		ok = ok && put_text(out, text_fields[i].tag, *value);
	}
	ok = ok && put_number(out, ENV_RET, e->ret) && put_number(out, ENV_BODY, e->body) &&
	     put_number(out, ENV_FLAGS, e->flags) &&
	     put_number(out, ENV_ARRIVAL_US, (uint64_t)e->arrival_us) &&
	     put_number(out, ENV_SIZE_HINT, e->size_hint) &&
	     put_number(out, ENV_LONGEST, e->longest);
	for (size_t i = 0; ok && i < e->prepend_count; i++)
		ok = put_field(out, ENV_PREPEND, e->prepend[i]);
	for (size_t i = 0; ok && i < e->rcpt_count; i++)
		ok = put_rcpt(out, &e->rcpts[i]);
	return ok ? 0 : E_LIMIT;
}

struct field {
	uint8_t tag;
	struct sv value;
};

/* The next field of *rest; 1, 0 at the end, E_SYNTAX when it is cut off. */
static int next_field(struct sv *rest, struct field *f)
{
	const unsigned char *p = (const unsigned char *)rest->p;

	if (rest->len == 0)
		return 0;
	if (rest->len < FIELD_HEAD)
		return E_SYNTAX;
	size_t len = (size_t)p[1] | (size_t)p[2] << 8 | (size_t)p[3] << 16 | (size_t)p[4] << 24;

	if (len > rest->len - FIELD_HEAD)
		return E_SYNTAX;
	f->tag = p[0];
	f->value = (struct sv){ rest->p + FIELD_HEAD, len };
	rest->p += FIELD_HEAD + len;
	rest->len -= FIELD_HEAD + len;
	return 1;
}

static bool is_number_tag(uint8_t tag)
{
	return (tag >= ENV_RET && tag <= ENV_SIZE_HINT) || tag == ENV_LONGEST ||
	       tag == ENV_RCPT_NOTIFY;
}

static bool text_is_clean(struct sv s)
{
	return memchr(s.p, '\0', s.len) == NULL && memchr(s.p, '\r', s.len) == NULL &&
	       memchr(s.p, '\n', s.len) == NULL;
}

static int get_number(struct sv s, uint64_t max, uint64_t *value_r)
{
	uint64_t value = 0;

	if (s.len > 8)
		return E_SYNTAX;
	for (size_t i = s.len; i > 0; i--)
		value = value << 8 | (unsigned char)s.p[i - 1];
	*value_r = value;
	return value > max ? E_SYNTAX : 0;
}

/* First pass: every length and value is sound; count what repeats. */
static int check_fields(struct sv data, size_t *rcpts_r, size_t *prepends_r)
{
	struct field f;
	int more;

	*rcpts_r = *prepends_r = 0;
	while ((more = next_field(&data, &f)) > 0) {
		if (f.tag == ENV_RCPT)
			++*rcpts_r;
		else if (f.tag == ENV_PREPEND)
			++*prepends_r;
		else if (f.tag > ENV_RCPT && f.tag <= ENV_RCPT_NOTIFY && *rcpts_r == 0)
			return E_SYNTAX;
		if (!is_number_tag(f.tag) && f.value.len > 0 && !text_is_clean(f.value))
			return E_SYNTAX;
	}
	return more;
}

static int set_number(struct envelope *e, struct env_rcpt *r, const struct field *f)
{
	static const uint64_t max[] = {
		[ENV_RET] = DSN_RET_HDRS,     [ENV_BODY] = BODY_8BIT,
		[ENV_FLAGS] = UINT32_MAX,     [ENV_ARRIVAL_US] = INT64_MAX,
		[ENV_SIZE_HINT] = UINT64_MAX, [ENV_LONGEST] = UINT64_MAX,
		[ENV_RCPT_NOTIFY] = 15,
	};
	uint64_t value;
	int err = get_number(f->value, max[f->tag], &value);

	if (err < 0)
		return err;
	switch (f->tag) {
	case ENV_RET:
		e->ret = (uint8_t)value;
		break;
	case ENV_BODY:
		e->body = (uint8_t)value;
		break;
	case ENV_FLAGS:
		e->flags = (uint32_t)value;
		break;
	case ENV_ARRIVAL_US:
		e->arrival_us = (int64_t)value;
		break;
	case ENV_SIZE_HINT:
		e->size_hint = value;
		break;
	case ENV_LONGEST:
		e->longest = value;
		break;
	case ENV_RCPT_NOTIFY:
		if ((value & NOTIFY_NEVER) != 0 && value != NOTIFY_NEVER)
			return E_SYNTAX;
		r->notify = (uint8_t)value;
		break;
	}
	return 0;
}

static int apply_field(struct envelope *e, const struct field *f)
{
	struct env_rcpt *r = e->rcpt_count > 0 ? &e->rcpts[e->rcpt_count - 1] : NULL;

	if (is_number_tag(f->tag))
		return set_number(e, r, f);
	switch (f->tag) {
	case ENV_PREPEND:
		e->prepend[e->prepend_count++] = f->value;
		return 0;
	case ENV_RCPT:
		e->rcpts[e->rcpt_count++] =
			(struct env_rcpt){ .addr = f->value, .orig_addr = SV(""), .orcpt = SV("") };
		return 0;
	case ENV_RCPT_ORIG:
		r->orig_addr = f->value;
		return 0;
	case ENV_RCPT_ORCPT:
		r->orcpt = f->value;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(text_fields); i++) {
		if (text_fields[i].tag == f->tag)
			*text_of(e, i) = f->value;
	}
	return 0;
}

int env_decode(struct sv data, size_t max_rcpts, struct arena *arena, struct envelope *e)
{
	size_t rcpts, prepends;
	struct field f;
	int err = check_fields(data, &rcpts, &prepends);

	*e = (struct envelope){ 0 };
	for (size_t i = 0; i < ARRAY_LEN(text_fields); i++)
		*text_of(e, i) = SV("");
	if (err < 0)
		return err;
	if (rcpts > max_rcpts || prepends > MAX_PREPEND)
		return E_LIMIT;
	e->rcpts = arena_alloc(arena, rcpts * sizeof(*e->rcpts));
	e->prepend = arena_alloc(arena, prepends * sizeof(*e->prepend));
	if (e->rcpts == NULL || e->prepend == NULL)
		return E_LIMIT;
	e->rcpt_cap = rcpts;
	while (err == 0 && next_field(&data, &f) > 0)
		err = apply_field(e, &f);
	return err;
}

int env_add_rcpt(struct envelope *e, struct arena *arena, const struct env_rcpt *r)
{
	if (e->rcpt_count == e->rcpt_cap) {
		/* doubling in an arena wastes at most as much again as the final array */
		size_t cap = size_max(4, e->rcpt_cap * 2);
		struct env_rcpt *grown = arena_alloc(arena, cap * sizeof(*grown));

		if (grown == NULL)
			return E_LIMIT;
		if (e->rcpt_count > 0)
			memcpy(grown, e->rcpts, e->rcpt_count * sizeof(*grown));
		e->rcpts = grown;
		e->rcpt_cap = cap;
	}
	e->rcpts[e->rcpt_count++] = *r;
	return 0;
}

unsigned env_notify_parse(struct sv v)
{
	static const struct {
		const char *word;
		unsigned bit;
	} words[] = { { "NEVER", NOTIFY_NEVER },
		      { "SUCCESS", NOTIFY_SUCCESS },
		      { "FAILURE", NOTIFY_FAILURE },
		      { "DELAY", NOTIFY_DELAY } };
	unsigned mask = 0;

	for (;;) {
		const char *comma = v.len > 0 ? memchr(v.p, ',', v.len) : NULL;
		struct sv word = { v.p, comma != NULL ? (size_t)(comma - v.p) : v.len };
		unsigned bit = 0;

		for (size_t i = 0; i < ARRAY_LEN(words); i++) {
			if (sv_eq_nocase(word, sv_from(words[i].word)))
				bit = words[i].bit;
		}
		if (bit == 0)
			return 0;
		mask |= bit;
		if (comma == NULL)
			break;
		v = (struct sv){ comma + 1, v.len - word.len - 1 };
	}
	return (mask & NOTIFY_NEVER) != 0 && mask != NOTIFY_NEVER ? 0 : mask;
}
