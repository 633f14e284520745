/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Addresses on their way out; see workers/deliver/generic.h. */
#include "workers/deliver/generic.h"

#include <stdlib.h>

#include "conf/map.h"
#include "conf/map_remote.h"
#include "lib/buf.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/mail/addr.h"

struct generic {
	const char *param; /* for the log */
	struct map_list *maps;
	struct matchlist *local; /* mydestination: their users may stand in tables without domain */
	struct addr_rules rules;
	const char *delimiters;
	bool propagate;
	struct buf value, one;
};

int generic_open(const struct conf *c, const struct conf_transport *ct, struct generic **g_r,
		 struct conf_diag *d)
{
	const struct params *p = ct->params;
	bool lmtp = ct->kind == TRANSPORT_LMTP;
	const char *maps = lmtp ? p->lmtp_generic_maps : p->smtp_generic_maps;
	struct generic *g;
	int err;

	*g_r = NULL;
	if (ct->kind != TRANSPORT_SMTP && !lmtp)
		return 0;
	g = xcalloc(1, sizeof(*g));
	g->param = lmtp ? "lmtp_generic_maps" : "smtp_generic_maps";
	g->rules = (struct addr_rules){ .myorigin = sv_from(p->myorigin),
					.mydomain = sv_from(p->mydomain),
					.append_at_myorigin = p->append_at_myorigin,
					.append_dot_mydomain = p->append_dot_mydomain,
					.swap_bangpath = p->swap_bangpath,
					.allow_percent_hack = p->allow_percent_hack };
	g->delimiters = p->recipient_delimiter;
	g->propagate = matchlist_word_in(p->propagate_unmatched_extensions, "generic");
	err = map_list_open(c, maps, g->param, &g->maps, d);
	if (err == 0 && !map_list_is_empty(g->maps)) {
		err = matchlist_open(c, p->mydestination, "mydestination", MATCHLIST_DOMAIN,
				     &g->local, d);
		*g_r = g;
		if (err == 0)
			return 0;
	}
	generic_close(&g);
	*g_r = NULL;
	return err;
}

void generic_close(struct generic **gp)
{
	struct generic *g = *gp;

	if (g == NULL)
		return;
	map_list_close(&g->maps);
	matchlist_close(&g->local);
	buf_fini(&g->value);
	buf_fini(&g->one);
	free(g);
	*gp = NULL;
}

bool generic_is_remote(const struct generic *g)
{
	return map_list_is_remote(g->maps) || matchlist_is_remote(g->local);
}

static int table_error(const struct generic *g, struct sv addr)
{
	if (!map_memo_is_missing())
		log_warn("%s map lookup problem for %.*s", g->param, (int)addr.len, addr.p);
	return E_AGAIN;
}

/* It becomes part of a command. */
static bool has_control(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)s.p[i] < ' ' || s.p[i] == 127)
			return true;
	}
	return false;
}

int generic_apply(struct generic *g, struct sv addr, struct arena *a, struct sv *out)
{
	struct sv local, domain, ext = { "", 0 };
	enum map_status st;
	bool more;
	int bare;

	*out = addr;
	if (addr.len == 0)
		return 0;
	mail_addr_split(addr, &local, &domain);
	bare = sv_eq_nocase(domain, g->rules.myorigin) ? 1 : matchlist_has_domain(g->local, domain);
	if (bare < 0)
		return table_error(g, addr);
	st = map_list_get_addr(g->maps, addr, g->delimiters, bare > 0, &g->value, &ext);
	if (st == MAP_ERROR)
		return table_error(g, addr);
	if (st == MAP_NOT_FOUND || !addr_first_of(buf_sv(&g->value), &g->one, &more))
		return 0;
	if (more)
		log_warn("multi-valued %s result for %.*s", g->param, (int)addr.len, addr.p);
	if (!g->propagate)
		ext.len = 0;
	if (addr_of_table(&g->rules, buf_sv(&g->one), addr, ext, a, out) < 0)
		return E_LIMIT;
	if (out->len > MAIL_ADDR_MAX_BYTES || has_control(*out)) {
		log_warn("%s entry for %.*s is no address, not used", g->param, (int)addr.len,
			 addr.p);
		*out = addr;
	}
	return 0;
}
