/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Per-listener configuration of postscreen; see workers/smtp_in/screenconf.h. */
#include "workers/smtp_in/screenconf.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "conf/map_text.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "policy/rbl_pattern.h"
#include "workers/smtp_in/listentls.h"

#define SEPARATORS ", \t\r\n"
#define LISTS_MAX  64u
#define WEIGHT_MAX 1000000

/* Words of the parameters ..._action, in the order of their rows. */
static const enum screen_action actions[] = { SCREEN_IGNORE, SCREEN_ENFORCE, SCREEN_DROP,
					      SCREEN_IGNORE /* "continue", an old word */ };

enum rule_kind { RULE_PERMIT, RULE_REJECT, RULE_DUNNO, RULE_MYNETWORKS, RULE_TABLE };

struct screen_rule {
	enum rule_kind kind;
	struct map *table;
};

static const struct {
	const char *word;
	enum rule_kind kind;
} rule_words[] = {
	{ "permit", RULE_PERMIT },
	{ "reject", RULE_REJECT },
	{ "dunno", RULE_DUNNO },
	{ "permit_mynetworks", RULE_MYNETWORKS },
};

/* ---- access list ---- */

static int find_rule(struct sv word)
{
	for (size_t i = 0; i < ARRAY_LEN(rule_words); i++) {
		if (sv_eq_nocase(word, sv_from(rule_words[i].word)))
			return (int)rule_words[i].kind;
	}
	return -1;
}

static int add_rule(struct screen_conf *k, const struct conf *c, struct sv word,
		    struct conf_diag *d)
{
	struct screen_rule rule = { 0 };
	int kind = find_rule(word), err = 0;

	if (kind >= 0) {
		rule.kind = (enum rule_kind)kind;
	} else if (memchr(word.p, ':', word.len) != NULL) {
		char *spec = xstrndup(word.p, word.len);

		rule.kind = RULE_TABLE;
		err = map_open(c, spec, &rule.table, d);
		free(spec);
	} else {
		conf_diag_add(d, false, NULL, 0,
			      "parameter postscreen_access_list: unknown command \"%.*s\": the "
			      "rest of the list is passed over",
			      (int)word.len, word.p);
		rule.kind = RULE_DUNNO;
	}
	if (err != 0)
		return E_CONFIG;
	k->rules = xrealloc(k->rules, (k->rule_count + 1) * sizeof(*k->rules));
	k->rules[k->rule_count++] = rule;
	return 0;
}

static int read_access(struct screen_conf *k, const struct conf *c, struct conf_diag *d)
{
	struct sv text = sv_from(k->p->postscreen_access_list), item;
	bool group;
	int status = 0;

	while (map_item_next(&text, &item, &group) > 0) {
		int err = add_rule(k, c, item, d);

		status = err != 0 ? err : status;
	}
	return status;
}

static enum screen_access in_mynetworks(const struct screen_conf *k, const char *addr)
{
	int match = matchlist_has_ip(k->mynetworks, addr);

	if (match >= 0)
		return match > 0 ? SCREEN_ACCESS_PERMIT : SCREEN_ACCESS_DUNNO;
	if (!map_memo_is_missing())
		log_warn("postscreen_access_list: permit_mynetworks: mynetworks lookup error -- "
			 "ignoring the remainder of this access list");
	return SCREEN_ACCESS_ERROR;
}

/* What a table has to say: words of the list, but no tables. */
static enum screen_access by_value(const struct screen_conf *k, const char *addr, const char *spec,
				   const char *value)
{
	static const enum screen_access plain[] = {
		[RULE_PERMIT] = SCREEN_ACCESS_PERMIT,
		[RULE_REJECT] = SCREEN_ACCESS_REJECT,
		[RULE_DUNNO] = SCREEN_ACCESS_DUNNO,
	};

	while (*(value += strspn(value, SEPARATORS)) != '\0') {
		size_t n = strcspn(value, SEPARATORS);
		int kind = find_rule((struct sv){ value, n });

		if (kind < 0) {
			log_warn("%s: unknown command: %.*s -- ignoring the remainder of this "
				 "access list",
				 spec, (int)size_min(n, 100), value);
			return SCREEN_ACCESS_ERROR;
		}
		if (kind != RULE_MYNETWORKS)
			return plain[kind];
		enum screen_access a = in_mynetworks(k, addr);

		if (a != SCREEN_ACCESS_DUNNO)
			return a;
		value += n;
	}
	return SCREEN_ACCESS_DUNNO;
}

static enum screen_access in_table(const struct screen_conf *k, const char *addr, struct map *table)
{
	struct buf value = BUF_INIT;
	enum screen_access a = SCREEN_ACCESS_DUNNO;

	switch (map_get(table, sv_from(addr), &value)) {
	case MAP_FOUND:
		a = by_value(k, addr, map_spec(table), buf_cstr(&value));
		break;
	case MAP_NOT_FOUND:
		break;
	case MAP_ERROR:
		if (!map_memo_is_missing())
			log_warn("postscreen_access_list: %s: table lookup error -- ignoring the "
				 "remainder of this access list",
				 map_spec(table));
		a = SCREEN_ACCESS_ERROR;
	}
	buf_fini(&value);
	return a;
}

enum screen_access screen_conf_access(const struct screen_conf *k, const char *addr)
{
	enum screen_access a = SCREEN_ACCESS_DUNNO;

	for (unsigned i = 0; i < k->rule_count && a == SCREEN_ACCESS_DUNNO; i++) {
		const struct screen_rule *rule = &k->rules[i];

		switch (rule->kind) {
		case RULE_PERMIT:
			return SCREEN_ACCESS_PERMIT;
		case RULE_REJECT:
			return SCREEN_ACCESS_REJECT;
		case RULE_DUNNO:
			return SCREEN_ACCESS_DUNNO;
		case RULE_MYNETWORKS:
			a = in_mynetworks(k, addr);
			break;
		case RULE_TABLE:
			a = in_table(k, addr, rule->table);
			break;
		}
	}
	return a;
}

bool screen_conf_may_pass(const struct screen_conf *k, const char *server_addr)
{
	return matchlist_has_ip(k->interfaces, server_addr) != 0; /* 0: surely not */
}

/* ---- lists in the DNS ---- */

static struct screen_list *find_list(struct screen_conf *k, const char *domain)
{
	for (unsigned i = 0; i < k->list_count; i++) {
		if (str_eq_nocase(k->lists[i].domain, domain))
			return &k->lists[i];
	}
	return NULL;
}

static int bad_site(struct conf_diag *d, const char *what, const char *site)
{
	conf_diag_add(d, true, NULL, 0, "parameter postscreen_dnsbl_sites: %s in \"%s\"", what,
		      site);
	return E_CONFIG;
}

static void add_filter(struct screen_conf *k, const char *domain, const char *pattern, int weight)
{
	struct screen_list *l = find_list(k, domain);

	if (l == NULL) {
		k->lists = xrealloc(k->lists, (k->list_count + 1) * sizeof(*k->lists));
		l = &k->lists[k->list_count++];
		*l = (struct screen_list){ .domain = xstrdup(domain) };
	}
	l->filters = xrealloc(l->filters, (l->filter_count + 1) * sizeof(*l->filters));
	l->filters[l->filter_count++] =
		(struct screen_filter){ .pattern = pattern != NULL ? xstrdup(pattern) : NULL,
					.weight = weight };
}

/* "domain[=filter][*weight]"; `site` is cut into pieces. */
static int add_site(struct screen_conf *k, char *site, struct conf_diag *d)
{
	char *whole = xstrdup(site), *star = strchr(site, '*'), *eq;
	int64_t weight = 1;
	int err = 0;

	if (star != NULL)
		*star++ = '\0';
	if ((eq = strchr(site, '=')) != NULL)
		*eq++ = '\0';
	if (star != NULL && (str_to_i64(sv_from(star), &weight) != 0 || weight > WEIGHT_MAX ||
			     weight < -WEIGHT_MAX))
		err = bad_site(d, "bad DNSBL weight factor", whole);
	else if (eq != NULL && !rbl_pattern_is_valid(eq))
		err = bad_site(d, "bad DNSBL filter syntax", whole);
	else if (!mail_hostname_is_valid(sv_from(site)))
		err = bad_site(d, "bad DNSBL domain name", whole);
	else if (find_list(k, site) == NULL && k->list_count == LISTS_MAX)
		err = bad_site(d, "too many DNSBL domains", whole);
	else
		add_filter(k, site, eq, (int)weight);
	free(whole);
	return err;
}

static int read_sites(struct screen_conf *k, struct conf_diag *d)
{
	char *text = xstrdup(k->p->postscreen_dnsbl_sites), *save;
	int status = 0;

	for (char *site = strtok_r(text, SEPARATORS, &save); site != NULL;
	     site = strtok_r(NULL, SEPARATORS, &save)) {
		int err = add_site(k, site, d);

		status = err != 0 ? err : status;
	}
	free(text);
	return status;
}

void screen_conf_shown(const struct screen_conf *k, const char *domain, struct buf *out)
{
	switch (map_list_get(k->reply_map, sv_from(domain), out)) {
	case MAP_FOUND:
		break;
	case MAP_NOT_FOUND:
		buf_reset(out);
		buf_add_str(out, domain);
		break;
	case MAP_ERROR: /* it may be a secret */
		buf_reset(out);
		buf_add_str(out, "a DNS list");
		break;
	}
}

/* ---- the dialogue ---- */

/* A value that is not expanded, but for one that is a parameter's name and nothing more. */
static char *raw_value(const struct conf *c, const struct conf_service *s, const char *value)
{
	size_t len = strlen(value);
	bool braces = len > 3 && value[1] == '{' && value[len - 1] == '}';
	const char *name = value + (braces ? 2 : 1);
	size_t name_len = value[0] == '$' ? len - (braces ? 3 : 1) : 0;
	const char *found = NULL;

	for (size_t i = 0; i < name_len; i++) {
		if (!ascii_is_alnum(name[i]) && name[i] != '_')
			name_len = 0;
	}
	if (name_len > 0) {
		char *copy = xstrndup(name, name_len);

		found = conf_service_get(c, s, copy);
		free(copy);
	}
	return xstrdup(found != NULL ? found : value);
}

/* Its TLS is that of the SMTP server with other parameters. */
static struct params *tls_params_of(const struct params *p)
{
	struct params *t = xmalloc(sizeof(*t));

	*t = *p;
	t->smtpd_tls_wrappermode = false;
	t->smtpd_use_tls = p->postscreen_use_tls;
	t->smtpd_enforce_tls = p->postscreen_enforce_tls;
	t->smtpd_tls_CAfile = p->postscreen_tls_CAfile;
	t->smtpd_tls_CApath = p->postscreen_tls_CApath;
	t->smtpd_tls_ask_ccert = p->postscreen_tls_ask_ccert;
	t->smtpd_tls_ccert_verifydepth = p->postscreen_tls_ccert_verifydepth;
	t->smtpd_tls_cert_file = p->postscreen_tls_cert_file;
	t->smtpd_tls_chain_files = p->postscreen_tls_chain_files;
	t->smtpd_tls_ciphers = p->postscreen_tls_ciphers;
	t->smtpd_tls_dcert_file = p->postscreen_tls_dcert_file;
	t->smtpd_tls_dkey_file = p->postscreen_tls_dkey_file;
	t->smtpd_tls_eccert_file = p->postscreen_tls_eccert_file;
	t->smtpd_tls_eckey_file = p->postscreen_tls_eckey_file;
	t->smtpd_tls_exclude_ciphers = p->postscreen_tls_exclude_ciphers;
	t->smtpd_tls_fingerprint_digest = p->postscreen_tls_fingerprint_digest;
	t->smtpd_tls_key_file = p->postscreen_tls_key_file;
	t->smtpd_tls_loglevel = p->postscreen_tls_loglevel;
	t->smtpd_tls_loglevel_maps = p->postscreen_tls_loglevel_maps;
	t->smtpd_tls_mandatory_ciphers = p->postscreen_tls_mandatory_ciphers;
	t->smtpd_tls_mandatory_exclude_ciphers = p->postscreen_tls_mandatory_exclude_ciphers;
	t->smtpd_tls_mandatory_protocols = p->postscreen_tls_mandatory_protocols;
	t->smtpd_tls_protocols = p->postscreen_tls_protocols;
	t->smtpd_tls_req_ccert = p->postscreen_tls_req_ccert;
	t->smtpd_tls_security_level = p->postscreen_tls_security_level;
	return t;
}

static int64_t min_ttl_s(const struct params *p)
{
	const int64_t ttls[] = { p->postscreen_greet_ttl, p->postscreen_dnsbl_min_ttl,
				 p->postscreen_pipelining_ttl, p->postscreen_non_smtp_command_ttl,
				 p->postscreen_bare_newline_ttl };
	int64_t least = ttls[0];

	for (size_t i = 1; i < ARRAY_LEN(ttls); i++)
		least = ttls[i] < least ? ttls[i] : least;
	return least / 1000;
}

static int read_talk(struct screen_conf *k, const struct conf *c, const struct conf_service *s,
		     struct conf_diag *d)
{
	const struct params *p = k->p;
	const struct conf_service *stress = conf_service_stress(s);

	k->footer = raw_value(c, s, p->postscreen_reject_footer);
	k->expansion_filter = raw_value(c, s, p->postscreen_expansion_filter);
	k->talk = (struct screentalk_conf){
		.hostname = p->myhostname,
		.banner = p->smtpd_banner,
		.command_filter = p->postscreen_command_filter,
		.forbidden_commands = p->postscreen_forbidden_commands,
		.discard_ehlo_keywords = p->postscreen_discard_ehlo_keywords,
		.discard_ehlo_keyword_address_maps =
			p->postscreen_discard_ehlo_keyword_address_maps,
		.expansion_filter = k->expansion_filter,
		.reject_footer = k->footer,
		.reject_footer_maps = p->postscreen_reject_footer_maps,
		.disable_vrfy = p->postscreen_disable_vrfy_command,
		.helo_required = p->postscreen_helo_required,
		.smtputf8 = p->smtputf8_enable,
		.soft_bounce = p->soft_bounce,
		.message_size_limit = p->message_size_limit,
		.command_count_limit = (unsigned)p->postscreen_command_count_limit,
		.line_length_limit = (size_t)p->line_length_limit,
		.command_time_ms = p->postscreen_command_time_limit,
		.stress_time_ms = stress != NULL ? stress->params->postscreen_command_time_limit
						 : p->postscreen_command_time_limit,
		.starttls_time_ms = p->postscreen_starttls_timeout,
		.tests = { [SCREEN_PIPELINING] = { actions[p->postscreen_pipelining_action],
						   p->postscreen_pipelining_ttl / 1000 },
			   [SCREEN_NON_SMTP] = { actions[p->postscreen_non_smtp_command_action],
						 p->postscreen_non_smtp_command_ttl / 1000 },
			   [SCREEN_BARE_NEWLINE] = { actions[p->postscreen_bare_newline_action],
						     p->postscreen_bare_newline_ttl / 1000 } },
		.min_ttl_s = min_ttl_s(p),
		.log_name = k->log_name,
		.service_name = s->name,
	};
	k->tls_params = tls_params_of(p);
	int err = listener_tls_new(c, k->tls_params, d, &k->talk.tls);

	return err != 0 ? err : screentalk_conf_open(&k->talk, c, d);
}

/* ---- all of it ---- */

static void read_tests(struct screen_conf *k, const struct conf_service *s)
{
	const struct params *p = k->p;
	const struct conf_service *stress = conf_service_stress(s);

	if (p->postscreen_greet_banner[0] != '\0') {
		k->teaser = xasprintf("220-%s\r\n", p->postscreen_greet_banner);
		k->enabled |= SCREEN_BIT(SCREEN_PREGREET);
	}
	if (k->list_count > 0)
		k->enabled |= SCREEN_BIT(SCREEN_DNSBL);
	if (p->postscreen_pipelining_enable)
		k->enabled |= SCREEN_BIT(SCREEN_PIPELINING);
	if (p->postscreen_non_smtp_command_enable)
		k->enabled |= SCREEN_BIT(SCREEN_NON_SMTP);
	if (p->postscreen_bare_newline_enable)
		k->enabled |= SCREEN_BIT(SCREEN_BARE_NEWLINE);
	k->greet_wait_ms = p->postscreen_greet_wait;
	k->stress_greet_wait_ms =
		stress != NULL ? stress->params->postscreen_greet_wait : k->greet_wait_ms;
	k->denied = actions[p->postscreen_denylist_action];
	k->pregreet = actions[p->postscreen_greet_action];
	k->dnsbl = actions[p->postscreen_dnsbl_action];
	k->has_cache = p->postscreen_cache_map[0] != '\0';
}

static int check_values(const struct params *p, struct conf_diag *d)
{
	if (p->postscreen_upstream_proxy_protocol[0] != '\0' &&
	    strcmp(p->postscreen_upstream_proxy_protocol, "haproxy") != 0) {
		conf_diag_add(d, true, NULL, 0,
			      "parameter postscreen_upstream_proxy_protocol: unknown protocol "
			      "\"%s\", expected haproxy",
			      p->postscreen_upstream_proxy_protocol);
		return E_CONFIG;
	}
	return 0;
}

int screen_conf_new(const struct conf *c, const struct conf_service *s, struct conf_diag *d,
		    struct screen_conf **k_r)
{
	struct screen_conf *k = xcalloc(1, sizeof(*k));
	const struct params *p = s->params;

	k->p = p;
	k->log_name = conf_log_name(c, p, "postscreen");
	k->dnsblog_name = conf_log_name(c, p, "dnsblog");
	const int errors[] = {
		check_values(p, d),
		read_access(k, c, d),
		matchlist_open(c, p->mynetworks, "mynetworks", MATCHLIST_ADDRESS, &k->mynetworks,
			       d),
		matchlist_open(c, p->postscreen_allowlist_interfaces,
			       "postscreen_allowlist_interfaces", MATCHLIST_ADDRESS, &k->interfaces,
			       d),
		read_sites(k, d),
		map_list_open(c, p->postscreen_dnsbl_reply_map, "postscreen_dnsbl_reply_map",
			      &k->reply_map, d),
		read_talk(k, c, s, d),
	};

	read_tests(k, s);
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		if (errors[i] != 0) {
			screen_conf_free(&k);
			return E_CONFIG;
		}
	}
	*k_r = k;
	return 0;
}

static void free_lists(struct screen_conf *k)
{
	for (unsigned i = 0; i < k->list_count; i++) {
		struct screen_list *l = &k->lists[i];

		for (unsigned f = 0; f < l->filter_count; f++)
			free(l->filters[f].pattern);
		free(l->filters);
		free(l->domain);
	}
	free(k->lists);
}

void screen_conf_free(struct screen_conf **kp)
{
	struct screen_conf *k;

	TAKE(k, *kp);
	if (k == NULL)
		return;
	for (unsigned i = 0; i < k->rule_count; i++) {
		if (k->rules[i].table != NULL)
			map_close(&k->rules[i].table);
	}
	free(k->rules);
	free_lists(k);
	map_list_close(&k->reply_map);
	matchlist_close(&k->mynetworks);
	matchlist_close(&k->interfaces);
	screentalk_conf_fini(&k->talk);
	free(k->tls_params);
	free(k->footer);
	free(k->expansion_filter);
	free(k->teaser);
	free(k->log_name);
	free(k->dnsblog_name);
	free(k);
}
