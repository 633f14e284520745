/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS policy by destination; see workers/deliver/tlspolicy.h. */
#include "workers/deliver/tlspolicy.h"

#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

static const struct tls_level {
	const char *name;
	enum tls_need need;
	bool dane; /* mandatory where the server publishes keys, and that takes DNSSEC */
} levels[] = {
	{ "none", TLS_NOT_NEEDED, false },  { "may", TLS_NOT_NEEDED, false },
	{ "encrypt", TLS_NEEDED, false },   { "fingerprint", TLS_NEEDED, false },
	{ "verify", TLS_NEEDED, false },    { "secure", TLS_NEEDED, false },
	{ "dane-only", TLS_NEEDED, false }, { "dane", TLS_NOT_NEEDED, true },
	{ "half-dane", TLS_NEEDED, true },  { "halfdane", TLS_NEEDED, true },
};

static const struct tls_level *find_level(struct sv word)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (sv_eq_nocase(word, sv_from(levels[i].name)))
			return &levels[i];
	}
	return NULL;
}

/* The first word; the rest of an entry says how a server is verified. */
static struct sv first_word(struct sv s)
{
	static const char separators[] = ", \t\r\n";
	size_t from = 0, to;

	while (from < s.len && memchr(separators, s.p[from], 5) != NULL)
		from++;
	for (to = from; to < s.len && memchr(separators, s.p[to], 5) == NULL;)
		to++;
	return (struct sv){ s.p + from, to - from };
}

/* The level of the whole transport. DANE is no reason to hold up all mail: most sites have none. */
static enum tls_need general_need(const char *param, const char *level, bool enforce)
{
	const struct tls_level *l = find_level(sv_from(level));

	if (*level == '\0')
		return enforce ? TLS_NEEDED : TLS_NOT_NEEDED;
	if (l == NULL) {
		log_warn("%s: invalid security level \"%s\"", param, level);
		return TLS_UNKNOWN;
	}
	return l->dane ? TLS_NOT_NEEDED : l->need;
}

int tls_policy_open(const struct conf *c, const struct conf_transport *ct, struct tls_policy **p_r,
		    struct conf_diag *d)
{
	const struct params *p = ct->params;
	bool lmtp = ct->kind == TRANSPORT_LMTP;
	const char *maps = lmtp ? p->lmtp_tls_policy_maps : p->smtp_tls_policy_maps;
	const char *dns = lmtp ? p->lmtp_dns_support_level : p->smtp_dns_support_level;
	struct tls_policy *t = xcalloc(1, sizeof(*t));

	*p_r = t;
	t->param = lmtp ? "lmtp_tls_policy_maps" : "smtp_tls_policy_maps";
	t->dnssec = str_eq_nocase(dns, "dnssec");
	if (ct->kind != TRANSPORT_SMTP && !lmtp)
		return 0;
	t->general = lmtp ? general_need("lmtp_tls_security_level", p->lmtp_tls_security_level,
					 p->lmtp_enforce_tls)
			  : general_need("smtp_tls_security_level", p->smtp_tls_security_level,
					 p->smtp_enforce_tls);
	return map_list_open(c, maps, t->param, &t->maps, d);
}

void tls_policy_close(struct tls_policy **p)
{
	if (*p == NULL)
		return;
	map_list_close(&(*p)->maps);
	free(*p);
	*p = NULL;
}

static enum tls_need need_of_entry(const struct tls_policy *p, struct sv key, struct sv value)
{
	struct sv word = first_word(value);
	const struct tls_level *l = find_level(word);

	if (l == NULL) {
		log_warn("%s, next-hop destination \"%.*s\": invalid security level \"%.*s\"",
			 p->param, (int)key.len, key.p, (int)word.len, word.p);
		return TLS_UNKNOWN;
	}
	return l->dane && p->dnssec ? TLS_NEEDED : l->need;
}

/* The next hop as tables know it: without the words that only tell the address family. */
static struct sv policy_key(struct sv nexthop)
{
	static const char *const prefixes[] = { "unix:", "inet:" };

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		size_t len = strlen(prefixes[i]);

		if (nexthop.len > len &&
		    sv_eq_nocase((struct sv){ nexthop.p, len }, (struct sv){ prefixes[i], len }))
			return (struct sv){ nexthop.p + len, nexthop.len - len };
	}
	return nexthop;
}

enum tls_need tls_policy_get(const struct tls_policy *p, struct sv nexthop)
{
	struct sv key = policy_key(nexthop);
	bool parents = mail_hostname_is_valid(key);
	enum tls_need need = p->general;
	struct buf value = BUF_INIT;
	const char *dot;

	while (p->maps != NULL) {
		enum map_status status = map_list_get(p->maps, key, &value);

		if (status == MAP_FOUND) {
			need = need_of_entry(p, key, buf_sv(&value));
			break;
		}
		if (status == MAP_ERROR) {
			log_warn("%s, next-hop destination \"%.*s\": policy table lookup error",
				 p->param, (int)key.len, key.p);
			need = TLS_UNKNOWN;
			break;
		}
		dot = parents && key.len > 1 ? memchr(key.p + 1, '.', key.len - 1) : NULL;
		if (dot == NULL)
			break;
		key = (struct sv){ dot, key.len - (size_t)(dot - key.p) };
	}
	buf_fini(&value);
	return need;
}
