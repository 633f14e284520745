/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Envelopes of local users; see workers/pickup/dropenv.h. */
#include "workers/pickup/dropenv.h"

#include "lib/err.h"
#include "lib/mailaddr.h"
#include "workers/pickup/maildrop.h"

#define ENVID_MAX_BYTES 100u /* RFC 3461 */
#define ORCPT_MAX_BYTES 500u
#define NAME_MAX_BYTES  500u

static bool has_control(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < ' ' || c == 0x7f)
			return true;
	}
	return false;
}

bool dropenv_address_ok(struct sv addr, const char **why_r)
{
	*why_r = addr.len > MAIL_ADDR_MAX_BYTES   ? "address too long"
		 : has_control(addr)              ? "control character in an address"
		 : !str_is_utf8(addr.p, addr.len) ? "address is not UTF-8"
						  : NULL;
	return *why_r == NULL;
}

static bool text_ok(struct sv s, size_t max)
{
	return s.len <= max && !has_control(s) && str_is_utf8(s.p, s.len);
}

/* Which ones are allowed was asked where they were given; here it must be no more than a character.
 */
static bool verp_char_ok(char c)
{
	return c > ' ' && c < 127 && c != '@' && c != '<' && c != '>' && c != '"' && c != '\\';
}

static const char *judge(const struct envelope *e)
{
	const char *why;

	if (!dropenv_address_ok(e->sender, &why))
		return why;
	if (!text_ok(e->envid, ENVID_MAX_BYTES))
		return "bad envelope id";
	if (!text_ok(e->full_name, NAME_MAX_BYTES))
		return "bad full name";
	if (e->verp.len > 0 &&
	    (e->verp.len != 2 || !verp_char_ok(e->verp.p[0]) || !verp_char_ok(e->verp.p[1])))
		return "bad VERP delimiters";
	if (e->rcpt_count == 0)
		return "no recipients";
	for (size_t i = 0; i < e->rcpt_count; i++) {
		if (!dropenv_address_ok(e->rcpts[i].addr, &why))
			return why;
		if (e->rcpts[i].addr.len == 0)
			return "empty recipient address";
		if (!text_ok(e->rcpts[i].orcpt, ORCPT_MAX_BYTES))
			return "bad original recipient";
	}
	return NULL;
}

int dropenv_decode(struct sv data, struct arena *arena, struct envelope *e, const char **why_r)
{
	struct envelope in;
	int err = env_decode(data, MAILDROP_RCPT_MAX, arena, &in);

	if (err != 0) {
		*why_r = err == E_LIMIT ? "too many recipients" : "damaged envelope";
		return err;
	}
	for (size_t i = 0; i < in.rcpt_count; i++)
		in.rcpts[i].orig_addr = SV("");
	*e = (struct envelope){
		.sender = in.sender,
		.full_name = in.full_name,
		.envid = in.envid,
		.ret = in.ret,
		.body = in.body,
		.verp = in.verp,
		.flags = in.flags & (ENVF_SMTPUTF8 | ENVF_PROBE | ENVF_REPORT),
		.arrival_us = in.arrival_us,
		.rcpts = in.rcpts,
		.rcpt_count = in.rcpt_count,
		.rcpt_cap = in.rcpt_cap,
	};
	*why_r = judge(e);
	return *why_r == NULL ? 0 : E_SYNTAX;
}
