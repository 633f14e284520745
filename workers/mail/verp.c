/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Senders that name the recipient; see workers/mail/verp.h. */
#include "workers/mail/verp.h"

#include <string.h>

#include "lib/mailaddr.h"

const char *verp_check_delimiters(struct sv delimiters, const char *allowed)
{
	if (delimiters.len != 2)
		return "bad VERP delimiter character count";
	if (delimiters.p[0] == '\0' || strchr(allowed, delimiters.p[0]) == NULL)
		return "bad first VERP delimiter character";
	if (delimiters.p[1] == '\0' || strchr(allowed, delimiters.p[1]) == NULL)
		return "bad second VERP delimiter character";
	return NULL;
}

struct sv verp_sender(const struct envelope *e, const struct env_rcpt *r, struct arena *a)
{
	struct sv local, domain, user, site;
	struct buf b = BUF_INIT;
	char *copy = NULL;

	if (e->verp.len != 2 || e->sender.len == 0)
		return e->sender;
	mail_addr_split(e->sender, &local, &domain);
	mail_addr_split(r->orig_addr.len > 0 ? r->orig_addr : r->addr, &user, &site);
	buf_add_sv(&b, local);
	buf_add_c(&b, e->verp.p[0]);
	buf_add_sv(&b, user);
	if (site.len > 0) {
		buf_add_c(&b, e->verp.p[1]);
		buf_add_sv(&b, site);
	}
	if (domain.len > 0) {
		buf_add_c(&b, '@');
		buf_add_sv(&b, domain);
	}
	if (b.len <= MAIL_ADDR_MAX_BYTES)
		copy = arena_strndup(a, b.p, b.len);
	struct sv result = copy != NULL ? (struct sv){ copy, b.len } : e->sender;

	buf_fini(&b);
	return result;
}
