/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Match lists: mynetworks, mydestination, relay_domains and their kin; see conf/map.h. Called by
 * policy, smtp-in and rewrite. Patterns are compiled at start; the first one that matches decides.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/map_impl.h"
#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

#define MAX_FILE_DEPTH 10u
#define DEFAULT_PARENT_LIST                                                                        \
	"debug_peer_list,fast_flush_domains,mynetworks,permit_mx_backup_networks,"                 \
	"qmqpd_authorized_clients,relay_domains,smtpd_access_maps"

enum pattern_kind { PAT_TEXT, PAT_NET, PAT_TABLE };

struct pattern {
	enum pattern_kind kind;
	bool negate;
	char *text; /* lower case */
	size_t len;
	struct map_cidr net;
	struct map *table;
};

struct matchlist {
	enum matchlist_kind kind;
	bool parents; /* parameter stands in parent_domain_matches_subdomains */
	struct pattern *patterns;
	size_t count, cap;
	char *param;
};

struct loader {
	struct matchlist *l;
	const struct conf *c;
	struct conf_diag *d;
	unsigned depth;
	int err;
};

static void load_error(struct loader *ld, int err, const char *file, unsigned lineno,
		       const char *what, struct sv pattern)
{
	char text[200];

	ld->err = err;
	if (ld->d == NULL)
		return;
	str_copy(text, sizeof(text), pattern);
	str_make_printable(text, strlen(text));
	conf_diag_add(ld->d, true, file, lineno, "%s: %s: \"%s\"", ld->l->param, what, text);
}

static struct pattern *push(struct matchlist *l, struct sv text, bool negate)
{
	if (l->count == l->cap) {
		l->cap = size_max(8, l->cap * 2);
		l->patterns = xrealloc(l->patterns, l->cap * sizeof(*l->patterns));
	}
	struct pattern *p = &l->patterns[l->count++];

	*p = (struct pattern){ .negate = negate,
			       .text = xstrndup(text.p, text.len),
			       .len = text.len };
	str_lower(p->text, p->len);
	return p;
}

static void load_items(struct loader *ld, struct sv items, bool negate, const char *file,
		       unsigned lineno);

static void load_file(struct loader *ld, struct sv name, bool negate)
{
	char *path = xstrndup(name.p, name.len);
	struct buf data = BUF_INIT;
	struct map_text t;
	struct sv line;
	int err = ld->depth >= MAX_FILE_DEPTH ? E_LIMIT
					      : io_read_file(path, MAP_TEXT_FILE_MAX, &data);

	if (err < 0) {
		load_error(ld, err, NULL, 0,
			   err == E_LIMIT ? "file too large or nested too deeply" : err_str(err),
			   name);
	} else {
		ld->depth++;
		map_text_init_file(&t, buf_sv(&data), path, ld->d);
		while (map_text_next(&t, &line))
			load_items(ld, line, negate, path, t.lineno);
		map_text_fini(&t);
		ld->depth--;
	}
	buf_fini(&data);
	free(path);
}

/* A network or an address; false when the text is neither. */
static bool load_net(struct loader *ld, struct sv text, bool negate, const char *file,
		     unsigned lineno)
{
	struct map_cidr net;
	char fixed[64], what[128];
	int err = map_cidr_parse(text, &net, fixed);

	if (err == E_INVAL) {
		snprintf(what, sizeof(what),
			 "non-null host address bits, perhaps you should use %s instead of", fixed);
		load_error(ld, E_CONFIG, file, lineno, what, text);
		return true;
	}
	if (err < 0)
		return false;
	struct pattern *p = push(ld->l, text, negate);

	p->kind = PAT_NET;
	p->net = net;
	return true;
}

static void load_table(struct loader *ld, struct sv spec, bool negate, const char *file,
		       unsigned lineno)
{
	char *text = xstrndup(spec.p, spec.len);
	const char *refusal = map_remote_refusal(ld->l->param);
	struct map *table;

	if (map_open(ld->c, text, &table, ld->d) < 0) {
		load_error(ld, E_CONFIG, file, lineno, "cannot use table", spec);
	} else if (map_is_remote(table) && refusal != NULL) {
		char what[200];

		snprintf(what, sizeof(what), "cannot use remote table (%s)", refusal);
		load_error(ld, E_CONFIG, file, lineno, what, spec);
		map_close(&table);
	} else {
		struct pattern *p = push(ld->l, spec, negate);

		p->kind = PAT_TABLE;
		p->table = table;
	}
	free(text);
}

static void load_one(struct loader *ld, struct sv item, bool negate, const char *file,
		     unsigned lineno)
{
	while (item.len > 0 && item.p[0] == '!') {
		negate = !negate;
		item = sv_trim((struct sv){ item.p + 1, item.len - 1 });
	}
	if (item.len == 0) {
		load_error(ld, E_SYNTAX, file, lineno, "no pattern after '!'", SV("!"));
		return;
	}
	if (item.p[0] == '/') {
		load_file(ld, item, negate);
		return;
	}
	bool address = ld->l->kind == MATCHLIST_ADDRESS;

	if (address && load_net(ld, item, negate, file, lineno))
		return;
	if (item.p[0] != '[' && memchr(item.p, ':', item.len) != NULL) {
		load_table(ld, item, negate, file, lineno);
		return;
	}
	if (address && (memchr(item.p, '/', item.len) != NULL || item.p[0] == '[')) {
		load_error(ld, E_SYNTAX, file, lineno, "bad network or address", item);
		return;
	}
	push(ld->l, item, negate);
}

static void load_items(struct loader *ld, struct sv items, bool negate, const char *file,
		       unsigned lineno)
{
	struct sv item;
	bool group;
	int more;

	while ((more = map_item_next(&items, &item, &group)) > 0) {
		/* "! pattern": the mark may stand alone */
		if (item.len == 1 && item.p[0] == '!') {
			bool invert = !negate;

			if (map_item_next(&items, &item, &group) <= 0)
				item = SV("");
			if (item.len == 0)
				load_error(ld, E_SYNTAX, file, lineno, "no pattern after '!'",
					   SV("!"));
			else
				load_one(ld, item, invert, file, lineno);
			continue;
		}
		load_one(ld, item, negate, file, lineno);
	}
	if (more < 0)
		load_error(ld, E_SYNTAX, file, lineno, "unbalanced braces", items);
}

bool matchlist_word_in(const char *list, const char *word)
{
	struct sv rest = sv_from(list), item;
	bool group;

	while (map_item_next(&rest, &item, &group) > 0) {
		if (sv_eq_nocase(item, sv_from(word)))
			return true;
	}
	return false;
}

int matchlist_open(const struct conf *c, const char *text, const char *param_name,
		   enum matchlist_kind kind, struct matchlist **l_r, struct conf_diag *d)
{
	const char *parents = c == NULL ? NULL : conf_get(c, "parent_domain_matches_subdomains");
	struct matchlist *l = xcalloc(1, sizeof(*l));
	struct loader ld = { .l = l, .c = c, .d = d };

	l->kind = kind;
	l->param = xstrdup(param_name);
	l->parents = matchlist_word_in(parents == NULL ? DEFAULT_PARENT_LIST : parents, param_name);
	load_items(&ld, sv_from(text), false, NULL, 0);
	if (ld.err < 0)
		matchlist_close(&l);
	*l_r = l;
	return ld.err;
}

void matchlist_close(struct matchlist **lp)
{
	struct matchlist *l;

	TAKE(l, *lp);
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->count; i++) {
		map_close(&l->patterns[i].table);
		free(l->patterns[i].text);
	}
	free(l->patterns);
	free(l->param);
	free(l);
}

bool matchlist_is_remote(const struct matchlist *l)
{
	for (size_t i = 0; l != NULL && i < l->count; i++) {
		if (l->patterns[i].kind == PAT_TABLE && map_is_remote(l->patterns[i].table))
			return true;
	}
	return false;
}

/* ---- matching: 1, 0, or E_AGAIN when a table could not be asked ---- */

static int ask_table(const struct pattern *p, struct sv key, struct buf *scratch)
{
	enum map_status status = map_get(p->table, key, scratch);

	return status == MAP_ERROR ? E_AGAIN : status == MAP_FOUND;
}

/* The name, then, for tables with fixed keys, its parents: "b.c" or ".b.c" by the parent rule. */
static int table_has_domain(const struct matchlist *l, const struct pattern *p, struct sv name)
{
	struct buf scratch = BUF_INIT;
	int result = ask_table(p, name, &scratch);

	while (result == 0 && map_has_fixed_keys(p->table)) {
		const char *dot = name.len < 2 ? NULL : memchr(name.p + 1, '.', name.len - 1);

		if (dot == NULL)
			break;
		name = (struct sv){ dot, name.len - (size_t)(dot - name.p) };
		struct sv key = l->parents ? (struct sv){ name.p + 1, name.len - 1 } : name;

		if (key.len > 0)
			result = ask_table(p, key, &scratch);
	}
	buf_fini(&scratch);
	return result;
}

static bool text_has_domain(const struct matchlist *l, const struct pattern *p, struct sv name)
{
	struct sv text = { p->text, p->len };

	if (sv_eq_nocase(name, text))
		return true;
	if (name.len <= text.len)
		return false;
	struct sv tail = { name.p + name.len - text.len, text.len };

	if (!sv_eq_nocase(tail, text))
		return false;
	return l->parents ? tail.p[-1] == '.' : text.p[0] == '.';
}

static int pattern_has_domain(const struct matchlist *l, const struct pattern *p, struct sv name)
{
	switch (p->kind) {
	case PAT_TABLE:
		return table_has_domain(l, p, name);
	case PAT_TEXT:
		return text_has_domain(l, p, name);
	case PAT_NET:
		return 0;
	}
	return 0;
}

static int pattern_has_ip(const struct pattern *p, struct sv ip, const struct map_cidr *addr)
{
	struct buf scratch = BUF_INIT;
	int result = 0;

	if (p->kind == PAT_NET)
		result = map_cidr_match(&p->net, addr);
	else if (p->kind == PAT_TABLE)
		result = ask_table(p, ip, &scratch);
	buf_fini(&scratch);
	return result;
}

int matchlist_has_domain(struct matchlist *l, struct sv domain)
{
	for (size_t i = 0; l != NULL && i < l->count; i++) {
		int match = pattern_has_domain(l, &l->patterns[i], domain);

		if (match != 0)
			return match < 0 ? match : !l->patterns[i].negate;
	}
	return 0;
}

/* The form tables are asked with: IPv4-mapped addresses as IPv4. */
static struct sv plain_ip(const char *ip)
{
	if (str_starts_nocase(ip, "::ffff:") && strchr(ip, '.') != NULL)
		ip += 7;
	return sv_from(ip);
}

int matchlist_has_client(struct matchlist *l, struct sv name, const char *ip)
{
	struct map_cidr addr;
	struct sv text = plain_ip(ip);
	bool is_ip = map_cidr_parse_addr(text, &addr);

	for (size_t i = 0; l != NULL && i < l->count; i++) {
		const struct pattern *p = &l->patterns[i];
		int match = name.len > 0 ? pattern_has_domain(l, p, name) : 0;

		if (match == 0 && is_ip)
			match = pattern_has_ip(p, text, &addr);
		if (match != 0)
			return match < 0 ? match : !p->negate;
	}
	return 0;
}

int matchlist_has_ip(struct matchlist *l, const char *ip)
{
	return matchlist_has_client(l, SV(""), ip);
}

int matchlist_has_string(struct matchlist *l, struct sv s)
{
	struct buf scratch = BUF_INIT;
	int result = 0;

	for (size_t i = 0; l != NULL && i < l->count && result == 0; i++) {
		const struct pattern *p = &l->patterns[i];
		int match = p->kind == PAT_TABLE ? ask_table(p, s, &scratch)
						 : sv_eq_nocase((struct sv){ p->text, p->len }, s);

		if (match < 0)
			result = match;
		else if (match > 0) {
			buf_fini(&scratch);
			return !p->negate;
		}
	}
	buf_fini(&scratch);
	return result;
}
