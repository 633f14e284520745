/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS policy by destination; see workers/deliver/tlspolicy.h. */
#include "workers/deliver/tlspolicy.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

#define SITE_ARENA 512
#define SEPARATORS ", \t\r\n"

static const char config_problem[] = "client TLS configuration problem";

static const struct {
	const char *name;
	enum site_level level;
} levels[] = {
	{ "none", SITE_NONE },           { "may", SITE_MAY },
	{ "encrypt", SITE_ENCRYPT },     { "fingerprint", SITE_FINGERPRINT },
	{ "dane", SITE_DANE },           { "dane-only", SITE_DANE_ONLY },
	{ "verify", SITE_VERIFY },       { "secure", SITE_SECURE },
	{ "half-dane", SITE_HALF_DANE },
};

enum site_level site_level_parse(struct sv name)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (sv_eq_nocase(name, sv_from(levels[i].name)))
			return levels[i].level != SITE_HALF_DANE ? levels[i].level : SITE_INVALID;
	}
	return SITE_INVALID;
}

const char *site_level_name(enum site_level level)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (levels[i].level == level)
			return levels[i].name;
	}
	return "unknown";
}

/* ---- open ---- */

/* The level of the whole transport. */
static enum site_level general_level(const char *param, const char *level, bool use, bool enforce,
				     bool peername)
{
	enum site_level l = site_level_parse(sv_from(level));

	if (*level == '\0' && enforce)
		return peername ? SITE_VERIFY : SITE_ENCRYPT;
	if (*level == '\0')
		return use ? SITE_MAY : SITE_NONE;
	if (l == SITE_INVALID)
		log_warn("%s: invalid security level \"%s\"", param, level);
	return l;
}

#define READ_FAMILY(prefix)                                                                        \
	do {                                                                                       \
		maps = p->prefix##_tls_policy_maps;                                                \
		per_site = p->prefix##_tls_per_site;                                               \
		dns = p->prefix##_dns_support_level;                                               \
		t->param = #prefix "_tls_policy_maps";                                             \
		t->per_site_param = #prefix "_tls_per_site";                                       \
		t->wrapper = p->prefix##_tls_wrappermode;                                          \
		t->general =                                                                       \
			general_level(#prefix "_tls_security_level",                               \
				      p->prefix##_tls_security_level, p->prefix##_use_tls,         \
				      p->prefix##_enforce_tls, p->prefix##_tls_enforce_peername);  \
	} while (0)

int tls_policy_open(const struct conf *c, const struct conf_transport *ct, struct tls_policy **p_r,
		    struct conf_diag *d)
{
	const struct params *p = ct->params;
	const char *maps, *per_site, *dns;
	struct tls_policy *t;
	int err;

	*p_r = NULL;
	if (ct->kind != TRANSPORT_SMTP && ct->kind != TRANSPORT_LMTP)
		return 0;
	*p_r = t = xcalloc(1, sizeof(*t));
	t->params = p;
	t->lmtp = ct->kind == TRANSPORT_LMTP;
	if (t->lmtp)
		READ_FAMILY(lmtp);
	else
		READ_FAMILY(smtp);
	t->dnssec = str_eq_nocase(dns, "dnssec") && (t->lmtp || !p->ignore_mx_lookup_error);
	err = map_list_open(c, maps, t->param, &t->maps, d);
	if (err == 0 && *maps == '\0')
		err = map_list_open(c, per_site, t->per_site_param, &t->per_site, d);
	else if (*per_site != '\0')
		log_warn("%s ignored when %s is not empty.", t->per_site_param, t->param);
	if (map_list_is_empty(t->maps))
		map_list_close(&t->maps);
	if (map_list_is_empty(t->per_site))
		map_list_close(&t->per_site);
	t->remote = t->maps != NULL && map_list_is_remote(t->maps);
	t->used = t->general != SITE_NONE || t->maps != NULL || t->per_site != NULL || t->wrapper;
	return err;
}

void tls_policy_close(struct tls_policy **p)
{
	if (*p == NULL)
		return;
	map_list_close(&(*p)->maps);
	map_list_close(&(*p)->per_site);
	free(*p);
	*p = NULL;
}

/* ---- sites ---- */

static struct tls_site *site_new(void)
{
	struct tls_site *s = xcalloc(1, sizeof(*s));

	s->refs = 1;
	s->level = SITE_NOT_FOUND;
	s->source = "";
	arena_init(&s->arena, SITE_ARENA, 0);
	return s;
}

struct tls_site *tls_site_ref(struct tls_site *s)
{
	s->refs++;
	return s;
}

void tls_site_unref(struct tls_site **sp)
{
	struct tls_site *s = *sp;

	*sp = NULL;
	if (s == NULL || --s->refs > 0)
		return;
	arena_fini(&s->arena);
	free(s);
}

bool tls_site_eq(const struct tls_site *a, const struct tls_site *b)
{
	return a->level == b->level && strcmp(a->source, b->source) == 0;
}

static void site_invalid(struct tls_site *s)
{
	static const uint8_t dsn[3] = { 4, 7, 5 };

	s->level = SITE_INVALID;
	s->why = config_problem;
	memcpy(s->dsn, dsn, 3);
}

/* ---- one entry of the table ---- */

struct entry { /* while it is read */
	const struct tls_policy *p;
	struct tls_site *s;
	struct sv key;
	bool has_ttl, has_type, has_domain, has_failure, has_strings;
};

static void complain(const struct entry *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void complain(const struct entry *e, const char *fmt, ...)
{
	struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	log_warn("%s, next-hop destination \"%.*s\": %s", e->p->param, (int)e->key.len, e->key.p,
		 buf_cstr(&text));
	buf_fini(&text);
}

/* The next word; one that begins with a brace goes to its end. False: no more. */
static bool next_word(struct sv *rest, struct sv *word_r)
{
	size_t from = 0, to, depth = 0;

	while (from < rest->len && memchr(SEPARATORS, rest->p[from], 5) != NULL)
		from++;
	for (to = from; to < rest->len; to++) {
		char ch = rest->p[to];

		if (depth == 0 && memchr(SEPARATORS, ch, 5) != NULL)
			break;
		depth += ch == '{';
		depth -= ch == '}' && depth > 0;
	}
	*word_r = (struct sv){ rest->p + from, to - from };
	*rest = (struct sv){ rest->p + to, rest->len - to };
	return word_r->len > 0;
}

/* "name=value" or "{ name = value }". NULL, or what is wrong with it. */
static const char *split_pair(struct sv word, struct sv *name_r, struct sv *value_r)
{
	const char *eq;

	if (word.p[0] == '{') {
		if (word.len < 2 || word.p[word.len - 1] != '}')
			return "missing '}'";
		word = sv_trim((struct sv){ word.p + 1, word.len - 2 });
	}
	eq = word.len > 0 ? memchr(word.p, '=', word.len) : NULL;
	if (eq == NULL)
		return "missing '=' after attribute name";
	*name_r = sv_trim((struct sv){ word.p, (size_t)(eq - word.p) });
	*value_r = sv_trim((struct sv){ eq + 1, word.len - (size_t)(eq + 1 - word.p) });
	return name_r->len == 0 ? "missing attribute name" : NULL;
}

static const char *keep(struct tls_site *s, struct sv v)
{
	return arena_strndup(&s->arena, v.p, v.len);
}

/* False: it is there already. */
static bool keep_once(const struct entry *e, struct sv name, struct sv value, const char **at)
{
	if (*at != NULL) {
		complain(e, "attribute \"%.*s\" is specified multiple times", (int)name.len,
			 name.p);
		return false;
	}
	*at = keep(e->s, value);
	return true;
}

static bool has_value(const struct entry *e, struct sv name, struct sv value)
{
	if (value.len > 0)
		return true;
	complain(e, "attribute \"%.*s\" has empty value", (int)name.len, name.p);
	return false;
}

static bool fits_level(const struct entry *e, struct sv name, bool fits)
{
	if (!fits)
		complain(e, "attribute \"%.*s\" invalid at security level \"%s\"", (int)name.len,
			 name.p, site_level_name(e->s->level));
	return fits;
}

static bool take_ciphers(struct entry *e, struct sv name, struct sv value)
{
	return has_value(e, name, value) && keep_once(e, name, value, &e->s->grade);
}

static bool take_protocols(struct entry *e, struct sv name, struct sv value)
{
	return keep_once(e, name, value, &e->s->protocols);
}

static bool take_exclude(struct entry *e, struct sv name, struct sv value)
{
	return keep_once(e, name, value, &e->s->exclude);
}

static bool take_servername(struct entry *e, struct sv name, struct sv value)
{
	if (!keep_once(e, name, value, &e->s->servername))
		return false;
	if (mail_hostname_is_valid(value))
		return true;
	complain(e, "\"%.*s=%.*s\" specifies an invalid hostname", (int)name.len, name.p,
		 (int)value.len, value.p);
	return false;
}

static bool add_to(const struct entry *e, struct sv name, struct sv value, struct sv *list,
		   unsigned *count)
{
	if (*count == SITE_MATCH_MAX) {
		complain(e, "attribute \"%.*s\" has too many values", (int)name.len, name.p);
		return false;
	}
	list[(*count)++] = (struct sv){ keep(e->s, value), value.len };
	return true;
}

static bool take_match(struct entry *e, struct sv name, struct sv value)
{
	enum site_level l = e->s->level;
	char separator = l == SITE_FINGERPRINT ? '|' : ':';

	if (!has_value(e, name, value) ||
	    !fits_level(e, name, l == SITE_FINGERPRINT || l >= SITE_VERIFY))
		return false;
	while (value.len > 0) {
		struct sv part = sv_next_part(&value, separator);

		if (part.len > 0 && !add_to(e, name, part, e->s->match, &e->s->match_count))
			return false;
	}
	return true;
}

/* A worker cannot open files any more: those of the parameter are the ones that it has. */
static bool take_tafile(struct entry *e, struct sv name, struct sv value)
{
	if (!fits_level(e, name, e->s->level >= SITE_VERIFY) || !has_value(e, name, value))
		return false;
	complain(e,
		 "attribute \"tafile\" is not supported: use %s_tls_trust_anchor_file of a "
		 "transport",
		 e->p->lmtp ? "lmtp" : "smtp");
	return false;
}

static bool read_yes(const struct entry *e, struct sv name, struct sv value, bool *yes)
{
	*yes = sv_eq_nocase(value, SV("yes"));
	if (*yes || sv_eq_nocase(value, SV("no")))
		return true;
	complain(e, "attribute \"%.*s\" has bad value: \"%.*s\"", (int)name.len, name.p,
		 (int)value.len, value.p);
	return false;
}

static bool take_reuse(struct entry *e, struct sv name, struct sv value)
{
	bool yes;

	if (!read_yes(e, name, value, &yes))
		return false;
	e->s->no_reuse = !yes;
	return true;
}

/* Raw public keys are not asked for; certificates do as well. */
static bool take_rpk(struct entry *e, struct sv name, struct sv value)
{
	bool yes;

	return read_yes(e, name, value, &yes);
}

/* What describes a policy for reports. */
static bool once(const struct entry *e, struct sv name, bool *had)
{
	if (*had)
		complain(e, "attribute \"%.*s\" is specified multiple times", (int)name.len,
			 name.p);
	return !*had && (*had = true);
}

static bool take_ttl(struct entry *e, struct sv name, struct sv value)
{
	uint64_t ttl;

	if (!once(e, name, &e->has_ttl))
		return false;
	if (str_to_u64(value, INT32_MAX, &ttl) == 0)
		return true;
	complain(e, "attribute \"%.*s\" has a malformed value: \"%.*s\"", (int)name.len, name.p,
		 (int)value.len, value.p);
	return false;
}

static bool one_of(const struct entry *e, struct sv name, struct sv value, const char *const *words)
{
	for (; *words != NULL; words++) {
		if (sv_eq_nocase(value, sv_from(*words)))
			return true;
	}
	complain(e, "attribute \"%.*s\" has an unexpected value: \"%.*s\"", (int)name.len, name.p,
		 (int)value.len, value.p);
	return false;
}

static bool take_type(struct entry *e, struct sv name, struct sv value)
{
	static const char *const types[] = { "sts", "no-policy-found", NULL };

	if (!once(e, name, &e->has_type) || !one_of(e, name, value, types))
		return false;
	e->s->sts = sv_eq_nocase(value, SV("sts"));
	return true;
}

static bool take_domain(struct entry *e, struct sv name, struct sv value)
{
	if (!once(e, name, &e->has_domain))
		return false;
	if (mail_hostname_is_valid(value))
		return true;
	complain(e, "attribute \"%.*s\" has a malformed value: \"%.*s\"", (int)name.len, name.p,
		 (int)value.len, value.p);
	return false;
}

static bool take_string(struct entry *e, struct sv name UNUSED, struct sv value UNUSED)
{
	e->has_strings = true;
	return true;
}

static bool take_pattern(struct entry *e, struct sv name, struct sv value)
{
	e->has_strings = true;
	return add_to(e, name, value, e->s->patterns, &e->s->pattern_count);
}

static bool take_failure(struct entry *e, struct sv name, struct sv value)
{
	static const char *const failures[] = { "sts-policy-fetch-error", "sts-policy-invalid",
						"sts-webpki-invalid", NULL };

	return once(e, name, &e->has_failure) && one_of(e, name, value, failures);
}

static const struct attribute {
	const char *name;
	bool (*take)(struct entry *e, struct sv name, struct sv value);
} attributes[] = {
	{ "ciphers", take_ciphers },        { "protocols", take_protocols },
	{ "servername", take_servername },  { "match", take_match },
	{ "exclude", take_exclude },        { "tafile", take_tafile },
	{ "connection_reuse", take_reuse }, { "enable_rpk", take_rpk },
	{ "policy_ttl", take_ttl },         { "policy_type", take_type },
	{ "policy_domain", take_domain },   { "policy_string", take_string },
	{ "policy_failure", take_failure }, { "mx_host_pattern", take_pattern },
};

static bool take_attribute(struct entry *e, struct sv word)
{
	struct sv name = { "", 0 }, value = { "", 0 };
	const char *wrong = split_pair(word, &name, &value);

	if (wrong != NULL) {
		complain(e, "malformed attribute/value pair \"%.*s\": %s", (int)word.len, word.p,
			 wrong);
		return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(attributes); i++) {
		if (sv_eq_nocase(name, sv_from(attributes[i].name)))
			return attributes[i].take(e, name, value);
	}
	complain(e, "invalid attribute name: \"%.*s\"", (int)name.len, name.p);
	return false;
}

/* Hosts are told by the policy's patterns: then their certificates must have their names. */
static void finish_sts(struct entry *e)
{
	struct tls_site *s = e->s;
	bool enforce = e->p->lmtp ? e->p->params->lmtp_tls_enforce_sts_mx_patterns
				  : e->p->params->smtp_tls_enforce_sts_mx_patterns;

	s->sts = s->sts && enforce && s->match_count > 0 && s->pattern_count > 0;
	if (!s->sts)
		return;
	s->match[0] = SV("hostname");
	s->match_count = 1;
}

/* False: the entry cannot be used, and the log says why. */
static bool read_entry(struct entry *e, struct sv value)
{
	struct sv word;

	if (!next_word(&value, &word)) {
		complain(e, "invalid empty policy");
		return false;
	}
	e->s->level = site_level_parse(word);
	if (e->s->level == SITE_INVALID) {
		complain(e, "invalid security level \"%.*s\"", (int)word.len, word.p);
		return false;
	}
	while (next_word(&value, &word)) {
		if (e->s->level == SITE_NONE)
			complain(e, "ignoring attribute \"%.*s\" with TLS disabled", (int)word.len,
				 word.p);
		else if (!take_attribute(e, word))
			return false;
	}
	if (!e->has_type && (e->has_ttl || e->has_strings || e->has_domain || e->has_failure)) {
		complain(e, "built-in policy has unexpected attribute policy_ttl, policy_domain, "
			    "policy_string, mx_host_pattern or policy_failure");
		return false;
	}
	finish_sts(e);
	return true;
}

/* ---- look-up ---- */

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

static void look_up(const struct tls_policy *p, struct tls_site *s, struct sv key)
{
	bool parents = mail_hostname_is_valid(key);
	struct buf value = BUF_INIT;
	const char *dot;

	for (;;) {
		struct entry e = { .p = p, .s = s, .key = key };
		enum map_status status = map_list_get(p->maps, key, &value);

		if (status == MAP_FOUND) {
			s->source = keep(s, buf_sv(&value));
			if (!read_entry(&e, buf_sv(&value)))
				site_invalid(s);
		}
		if (status == MAP_ERROR) {
			if (!map_memo_is_missing())
				complain(&e, "policy table lookup error");
			site_invalid(s);
		}
		dot = parents && key.len > 1 ? memchr(key.p + 1, '.', key.len - 1) : NULL;
		if (status != MAP_NOT_FOUND || dot == NULL)
			break;
		key = (struct sv){ dot, key.len - (size_t)(dot - key.p) };
	}
	buf_fini(&value);
}

/* ---- smtp_tls_per_site ---- */

/* What one entry makes of the level so far: none overrides may, else the stronger one counts. */
static enum site_level merge(enum site_level level, struct sv word)
{
	if (sv_eq_nocase(word, SV("NONE")))
		return level <= SITE_MAY ? SITE_NONE : level;
	if (sv_eq_nocase(word, SV("MAY")))
		return level < SITE_NONE ? SITE_MAY : level;
	if (sv_eq_nocase(word, SV("MUST_NOPEERMATCH")))
		return level < SITE_ENCRYPT ? SITE_ENCRYPT : level;
	if (sv_eq_nocase(word, SV("MUST")))
		return level < SITE_VERIFY ? SITE_VERIFY : level;
	return SITE_INVALID;
}

static enum site_level ask_per_site(const struct tls_policy *p, enum site_level level,
				    struct sv name, const char *kind, uint8_t dsn_r[3],
				    const char **why_r)
{
	static const uint8_t config[3] = { 4, 7, 5 }, lookup[3] = { 4, 3, 0 };
	struct buf value = BUF_INIT;
	enum map_status status = map_list_get(p->per_site, name, &value);

	if (status == MAP_FOUND) {
		level = merge(level, sv_trim(buf_sv(&value)));
		if (level == SITE_INVALID) {
			log_warn("%s: unknown TLS policy '%s' for %s %.*s", p->per_site_param,
				 buf_cstr(&value), kind, (int)name.len, name.p);
			memcpy(dsn_r, config, 3);
			*why_r = config_problem;
		}
	} else if (status == MAP_ERROR) {
		log_warn("%s: %s \"%.*s\": per-site table lookup error", p->per_site_param, kind,
			 (int)name.len, name.p);
		level = SITE_INVALID;
		memcpy(dsn_r, lookup, 3);
		*why_r = "Temporary lookup error";
	}
	buf_fini(&value);
	return level;
}

/* A general level above may is stronger than an entry that only allows TLS. */
static enum site_level with_general(const struct tls_policy *p, enum site_level level)
{
	if (level == SITE_NOT_FOUND || (level == SITE_MAY && p->general > SITE_MAY))
		return p->general;
	return level;
}

enum site_level tls_policy_host_level(const struct tls_policy *p, const struct tls_site *s,
				      const char *host, uint8_t dsn_r[3], const char **why_r)
{
	enum site_level level = s->level;

	if (p->per_site == NULL || level == SITE_INVALID)
		return level;
	return with_general(p,
			    ask_per_site(p, level, sv_from(host), "server hostname", dsn_r, why_r));
}

struct tls_site *tls_policy_get(const struct tls_policy *p, struct sv nexthop)
{
	struct sv key = policy_key(nexthop);
	struct tls_site *s = site_new();

	if (p->maps != NULL)
		look_up(p, s, key);
	else if (p->per_site != NULL)
		/* the server's name has its say before the general level */
		s->level = ask_per_site(p, s->level, key, "next-hop destination", s->dsn, &s->why);
	if (s->level == SITE_NOT_FOUND && p->per_site == NULL)
		s->level = p->general;
	if (s->level == SITE_INVALID && s->why == NULL)
		site_invalid(s);
	return s;
}

bool tls_site_has_mx(const struct tls_site *s, const char *host)
{
	const char *dot = strchr(host, '.');

	if (!s->sts)
		return true;
	for (unsigned i = 0; i < s->pattern_count; i++) {
		struct sv p = s->patterns[i];

		if (sv_eq_nocase(p, sv_from(host)))
			return true;
		if (p.len > 2 && p.p[0] == '*' && p.p[1] == '.' && dot != NULL && dot > host &&
		    sv_eq_nocase((struct sv){ p.p + 2, p.len - 2 }, sv_from(dot + 1)))
			return true;
	}
	return false;
}
