/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Configuration load: texts of restriction lists become arrays of {row, argument}, tables and match
 * lists are opened, and what could make an open relay is refused. Nothing is looked up by name
 * after this, but for lists that an access table names.
 */
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/log.h"
#include "policy/policy_int.h"

#define MAX_DYNAMIC 1000u

static const struct {
	const char *name;
	size_t offset; /* of its text in struct params */
} list_params[LIST_COUNT] = {
	[LIST_CLIENT] = { "smtpd_client_restrictions",
			  offsetof(struct params, smtpd_client_restrictions) },
	[LIST_HELO] = { "smtpd_helo_restrictions",
			offsetof(struct params, smtpd_helo_restrictions) },
	[LIST_SENDER] = { "smtpd_sender_restrictions",
			  offsetof(struct params, smtpd_sender_restrictions) },
	[LIST_RELAY] = { "smtpd_relay_restrictions",
			 offsetof(struct params, smtpd_relay_restrictions) },
	[LIST_RCPT] = { "smtpd_recipient_restrictions",
			offsetof(struct params, smtpd_recipient_restrictions) },
	[LIST_DATA] = { "smtpd_data_restrictions",
			offsetof(struct params, smtpd_data_restrictions) },
	[LIST_EOD] = { "smtpd_end_of_data_restrictions",
		       offsetof(struct params, smtpd_end_of_data_restrictions) },
	[LIST_ETRN] = { "smtpd_etrn_restrictions",
			offsetof(struct params, smtpd_etrn_restrictions) },
};

struct compiler {
	struct policy_conf *pc;
	const char *param; /* named in diagnostics */
	struct conf_diag *d;
	struct policy_lst *out;
	unsigned list_bit; /* 0 inside a class */
	unsigned errors;
	bool no_tables; /* inside an access table */
};

static void complain(struct compiler *c, bool is_error, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void complain(struct compiler *c, bool is_error, const char *fmt, ...)
{
	struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	if (c->d != NULL) {
		const char *file;
		unsigned line;

		conf_where(c->pc->conf, c->pc->service, c->param, &file, &line);
		conf_diag_add(c->d, is_error, file, line, "parameter %s: %s", c->param,
			      buf_cstr(&text));
	} else {
		log_warn("%s: %s", c->param, buf_cstr(&text));
	}
	if (is_error)
		c->errors++;
	buf_fini(&text);
}

/* Next word: separated by blanks or commas, {groups} kept whole. */
static bool next_word(const char **at, struct sv *word)
{
	const char *p = *at;
	unsigned depth = 0;

	while (*p != '\0' && (ascii_is_space(*p) || *p == ','))
		p++;
	const char *start = p;

	for (; *p != '\0'; p++) {
		if (*p == '{')
			depth++;
		else if (*p == '}' && depth > 0)
			depth--;
		else if (depth == 0 && (ascii_is_space(*p) || *p == ','))
			break;
	}
	*at = p;
	*word = (struct sv){ start, (size_t)(p - start) };
	return word->len > 0;
}

static struct policy_item *add_item(struct policy_lst *l)
{
	l->items = xrealloc(l->items, (l->count + 1) * sizeof(*l->items));
	l->items[l->count] = (struct policy_item){ 0 };
	return &l->items[l->count++];
}

static void open_map(struct compiler *c, const char *spec, struct map **map_r)
{
	unsigned before = c->d != NULL ? c->d->errors : 0;
	struct conf_diag own;
	struct conf_diag *d = c->d;

	if (c->no_tables) {
		complain(c, true,
			 "lookup table \"%s\" inside an access table; define a "
			 "restriction class and name it instead",
			 spec);
		return;
	}
	if (d == NULL) {
		conf_diag_init(&own);
		d = &own;
	}
	if (map_open(c->pc->conf, spec, map_r, d) != 0) {
		if (d->errors == before)
			complain(c, true, "cannot open table \"%s\"", spec);
		else
			c->errors++;
	}
	if (d == &own)
		conf_diag_fini(&own);
}

/* Without the braces around it; false when there are none. */
static bool take_braces(struct sv *s)
{
	if (s->len < 2 || s->p[0] != '{' || s->p[s->len - 1] != '}')
		return false;
	*s = sv_trim((struct sv){ s->p + 1, s->len - 2 });
	return true;
}

/* "search_order = NAME, ...": what a certificate is looked up by, two bits each, first lowest. */
static bool read_search_order(struct sv text, unsigned *order_r)
{
	const char *equals = text.len > 0 ? memchr(text.p, '=', text.len) : NULL;
	unsigned shift = 0;
	bool good =
		equals != NULL && sv_eq(sv_trim((struct sv){ text.p, (size_t)(equals - text.p) }),
					SV("search_order"));
	char *list = good ? xstrndup(equals + 1, text.len - (size_t)(equals + 1 - text.p)) : NULL;
	const char *at = list;
	struct sv word;

	*order_r = 0;
	while (good && next_word(&at, &word)) {
		unsigned by = sv_eq_nocase(word, SV("cert_fingerprint"))     ? POLICY_BY_CERT
			      : sv_eq_nocase(word, SV("pubkey_fingerprint")) ? POLICY_BY_KEY
									     : 0;

		good = by != 0 && shift < 8;
		*order_r |= by << shift;
		shift += 2;
	}
	free(list);
	return good && shift > 0;
}

/* "{ type:table, { search_order = ... } }" */
static void read_cert_table(struct compiler *c, struct policy_item *it, struct sv word)
{
	char *inner = take_braces(&word) ? xstrndup(word.p, word.len) : NULL;
	const char *at = inner;
	struct sv spec = { "", 0 }, options;
	bool good = inner != NULL && next_word(&at, &spec);

	if (good && next_word(&at, &options))
		good = take_braces(&options) && read_search_order(options, &it->number) &&
		       !next_word(&at, &options);
	if (!good || memchr(spec.p, ':', spec.len) == NULL) {
		complain(c, true,
			 "restriction \"%s\" must be followed by type:table or { type:table, { "
			 "search_order = cert_fingerprint, pubkey_fingerprint } }, not \"%s\"",
			 it->row->name, it->text);
	} else {
		free(it->text);
		it->text = xstrndup(spec.p, spec.len);
		open_map(c, it->text, &it->map);
	}
	free(inner);
}

static void read_service(struct compiler *c, struct policy_item *it)
{
	char why[POLICY_SPEC_WHY_SIZE];

	if (c->no_tables)
		complain(c, true, "policy service \"%s\" inside an access table", it->text);
	else if (policy_spec_parse(c->pc->p, sv_from(it->text), &it->service, why) != 0)
		complain(c, true, "%s", why);
	else
		map_remote_will_ask();
}

static void read_argument(struct compiler *c, struct policy_item *it, const char **at)
{
	struct sv word;
	uint64_t n;

	if (it->row->fn == rs_unverified_sender || it->row->fn == rs_unverified_recipient)
		map_remote_will_ask();
	if (it->row->arg == ARG_NONE)
		return;
	if (!next_word(at, &word)) {
		complain(c, true, "restriction \"%s\" needs an argument", it->row->name);
		return;
	}
	it->text = xstrndup(word.p, word.len);
	if (it->row->arg == ARG_NUMBER) {
		if (str_to_u64(word, 86400, &n) != 0)
			complain(c, true,
				 "restriction \"%s\" must be followed by a number, not \"%s\"",
				 it->row->name, it->text);
		else
			it->number = (unsigned)n;
	} else if (it->row->fn == rs_ccert_access && word.p[0] == '{') {
		read_cert_table(c, it, word);
	} else if (it->row->arg == ARG_MAP) {
		if (memchr(word.p, ':', word.len) == NULL)
			complain(c, true,
				 "restriction \"%s\" must be followed by type:table, not \"%s\"",
				 it->row->name, it->text);
		else if (it->row->fn != NULL)
			open_map(c, it->text, &it->map);
	} else if (it->row->arg == ARG_SERVICE) {
		read_service(c, it);
	}
}

static struct policy_class *find_class(struct policy_conf *pc, struct sv name)
{
	for (struct policy_class *k = pc->classes; k != NULL; k = k->next) {
		if (sv_eq(name, sv_from(k->name)))
			return k;
	}
	return NULL;
}

static void compile_text(struct compiler *c, const char *text);

static const char *service_value(const struct policy_conf *pc, const char *name)
{
	return pc->service != NULL ? conf_service_get(pc->conf, pc->service, name)
				   : conf_get(pc->conf, name);
}

static void use_class(struct compiler *c, struct policy_class *k)
{
	if (k->busy) {
		complain(c, true, "restriction class \"%s\" contains itself", k->name);
		return;
	}
	if (k->bad)
		complain(c, true, "restriction class \"%s\" has errors", k->name);
	if (k->ready)
		return;
	const char *text = service_value(c->pc, k->name);

	if (text == NULL) {
		complain(c, true, "restriction class \"%s\" needs a definition", k->name);
		return;
	}
	struct policy_lst l = { 0 };
	struct compiler inner = *c;

	inner.param = k->name;
	inner.out = &l;
	inner.list_bit = 0;
	inner.errors = 0;
	k->busy = true;
	compile_text(&inner, text);
	k->busy = false;
	k->ready = true;
	k->bad = inner.errors > 0;
	k->items = l.items;
	k->count = l.count;
	c->errors += inner.errors;
}

static void check_row(struct compiler *c, const struct restriction *row)
{
	if (row->removed)
		complain(c, true, "support for restriction \"%s\" has been removed", row->name);
	if (c->list_bit != 0 && (row->lists & c->list_bit) == 0 &&
	    (!c->pc->p->smtpd_delay_reject || c->list_bit == IN_ETRN))
		complain(c, false, "restriction \"%s\" has no effect here%s", row->name,
			 c->list_bit == IN_ETRN ? "" : " with smtpd_delay_reject = no");
}

static void compile_word(struct compiler *c, struct sv word, const char **at)
{
	const struct restriction *row = restriction_find(word);
	struct policy_class *k;

	if (row != NULL) {
		struct policy_item *it = add_item(c->out);

		it->row = row;
		check_row(c, row);
		read_argument(c, it, at);
	} else if ((k = find_class(c->pc, word)) != NULL) {
		use_class(c, k);
		add_item(c->out)->cls = k;
	} else if (memchr(word.p, ':', word.len) != NULL) {
		struct policy_item *it = add_item(c->out);

		it->text = xstrndup(word.p, word.len);
		if (c->list_bit == IN_DATA || c->list_bit == IN_EOD)
			complain(c, true,
				 "specify one of (check_client_access, "
				 "check_reverse_client_hostname_access, check_helo_access, "
				 "check_sender_access, check_recipient_access) before \"%s\"",
				 it->text);
		else
			open_map(c, it->text, &it->map);
	} else {
		complain(c, true, "unknown smtpd restriction: \"%.*s\"", (int)word.len, word.p);
	}
}

static void compile_text(struct compiler *c, const char *text)
{
	const struct restriction *end = NULL;
	struct sv word;

	while (next_word(&text, &word)) {
		if (end != NULL) {
			complain(c, false, "restriction `%.*s' after `%s' is ignored",
				 (int)word.len, word.p, end->name);
			end = NULL;
		}
		unsigned before = c->out->count;

		compile_word(c, word, &text);
		if (c->out->count > before) {
			const struct restriction *row = c->out->items[before].row;

			if (row != NULL && row->ends_list &&
			    !(before > 0 && c->out->items[before - 1].row != NULL &&
			      c->out->items[before - 1].row->warn_next))
				end = row;
		}
	}
}

void policy_items_free(struct policy_item *items, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		map_close(&items[i].map);
		policy_spec_free(&items[i].service);
		free(items[i].text);
	}
	free(items);
}

int policy_compile(struct policy_conf *pc, const char *param, const char *text,
		   struct policy_lst *out, struct conf_diag *d)
{
	struct compiler c = { .pc = pc, .param = param, .d = d, .out = out };

	*out = (struct policy_lst){ 0 };
	for (unsigned i = 0; i < LIST_COUNT; i++) {
		if (strcmp(param, list_params[i].name) == 0)
			c.list_bit = 1u << i;
	}
	compile_text(&c, text);
	return c.errors == 0 ? 0 : E_CONFIG;
}

const struct policy_lst *policy_dynamic(struct policy_conf *pc, const char *text)
{
	struct policy_lst *l = strmap_get(pc->dynamic, sv_from(text));

	if (l != NULL || strmap_count(pc->dynamic) >= MAX_DYNAMIC)
		return l;
	struct compiler c = { .pc = pc, .param = "access table", .no_tables = true };

	l = xcalloc(1, sizeof(*l));
	c.out = l;
	compile_text(&c, text);
	if (c.errors > 0) {
		policy_items_free(l->items, l->count);
		free(l);
		return NULL;
	}
	strmap_put(pc->dynamic, sv_from(text), l);
	return l;
}

/* Does the list hold something that stops open relaying and is reached? */
static bool guards_relay(const struct policy_item *items, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct restriction *row = items[i].row;

		if (row != NULL && row->warn_next) {
			i++;
			continue;
		}
		if (row != NULL && row->guards_relay)
			return true;
		if (row != NULL && row->ends_list)
			return false;
		if (items[i].cls != NULL && guards_relay(items[i].cls->items, items[i].cls->count))
			return true;
	}
	return false;
}

static int add_classes(struct policy_conf *pc, struct conf_diag *d)
{
	const char *at = pc->p->smtpd_restriction_classes;
	struct sv word;
	int status = 0;

	while (next_word(&at, &word)) {
		if (restriction_find(word) != NULL) {
			conf_diag_add(
				d, true, NULL, 0,
				"parameter smtpd_restriction_classes: \"%.*s\" is the name of "
				"a restriction",
				(int)word.len, word.p);
			status = E_CONFIG;
			continue;
		}
		struct policy_class *k = xcalloc(1, sizeof(*k));

		k->name = xstrndup(word.p, word.len);
		k->next = pc->classes;
		pc->classes = k;
	}
	return status;
}

static int open_lists(struct policy_conf *pc, struct conf_diag *d)
{
	const struct params *p = pc->p;
	const struct {
		const char *name, *text;
		enum matchlist_kind kind;
		struct matchlist **list;
	} lists[] = {
		{ "mynetworks", p->mynetworks, MATCHLIST_ADDRESS, &pc->mynetworks },
		{ "mydestination", p->mydestination, MATCHLIST_DOMAIN, &pc->mydestination },
		{ "virtual_alias_domains", p->virtual_alias_domains, MATCHLIST_DOMAIN,
		  &pc->virtual_alias_domains },
		{ "virtual_mailbox_domains", p->virtual_mailbox_domains, MATCHLIST_DOMAIN,
		  &pc->virtual_mailbox_domains },
		{ "relay_domains", p->relay_domains, MATCHLIST_DOMAIN, &pc->relay_domains },
		{ "permit_mx_backup_networks", p->permit_mx_backup_networks, MATCHLIST_ADDRESS,
		  &pc->mx_backup_networks },
		{ "smtpd_log_access_permit_actions", p->smtpd_log_access_permit_actions,
		  MATCHLIST_STRING, &pc->log_permits },
	};
	const struct {
		const char *name, *text;
		struct map_list **list;
	} maps[] = {
		{ "local_recipient_maps", p->local_recipient_maps, &pc->local_recipient_maps },
		{ "virtual_alias_maps", p->virtual_alias_maps, &pc->virtual_alias_maps },
		{ "virtual_mailbox_maps", p->virtual_mailbox_maps, &pc->virtual_mailbox_maps },
		{ "relay_recipient_maps", p->relay_recipient_maps, &pc->relay_recipient_maps },
		{ "relay_clientcerts", p->relay_clientcerts, &pc->relay_clientcerts },
		{ "canonical_maps", p->canonical_maps, &pc->canonical_maps },
		{ "sender_canonical_maps", p->sender_canonical_maps, &pc->sender_canonical_maps },
		{ "recipient_canonical_maps", p->recipient_canonical_maps,
		  &pc->recipient_canonical_maps },
		{ "transport_maps", p->transport_maps, &pc->transport_maps },
		{ "relocated_maps", p->relocated_maps, &pc->relocated_maps },
		{ "rbl_reply_maps", p->rbl_reply_maps, &pc->rbl_reply_maps },
		{ "smtpd_sender_login_maps", p->smtpd_sender_login_maps, &pc->sender_login_maps },
	};
	int status = 0;

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		int err = matchlist_open(pc->conf, lists[i].text, lists[i].name, lists[i].kind,
					 lists[i].list, d);

		status = err != 0 ? err : status;
	}
	for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
		int err = map_list_open(pc->conf, maps[i].text, maps[i].name, maps[i].list, d);

		status = err != 0 ? err : status;
	}
	return status;
}

static bool has_word(const char *text, const char *want)
{
	struct sv word;

	while (next_word(&text, &word)) {
		if (sv_eq_nocase(word, sv_from(want)))
			return true;
	}
	return false;
}

/* Classes that only access tables name: their tables and policy services are opened now, as nothing
 * can be opened later. One with an error stays as it is, and is an error when it is named. */
static void compile_other_classes(struct policy_conf *pc)
{
	for (struct policy_class *k = pc->classes; k != NULL; k = k->next) {
		struct conf_diag d;
		struct policy_lst l = { 0 };
		struct compiler c = {
			.pc = pc, .param = "smtpd_restriction_classes", .d = &d, .out = &l
		};

		if (k->ready)
			continue;
		conf_diag_init(&d);
		use_class(&c, k);
		k->bad = k->bad || c.errors > 0;
		k->ready = true;
		conf_diag_fini(&d);
	}
}

static int compile_lists(struct policy_conf *pc, struct conf_diag *d)
{
	int status = 0;

	for (unsigned i = 0; i < LIST_COUNT; i++) {
		const char *text = *(const char *const *)(const void *)((const char *)pc->p +
									list_params[i].offset);
		int err = policy_compile(pc, list_params[i].name, text, &pc->lists[i], d);

		status = err != 0 ? err : status;
	}
	if (status == 0)
		compile_other_classes(pc);
	if (status == 0 &&
	    !guards_relay(pc->lists[LIST_RELAY].items, pc->lists[LIST_RELAY].count) &&
	    !guards_relay(pc->lists[LIST_RCPT].items, pc->lists[LIST_RCPT].count)) {
		conf_diag_add(d, true, NULL, 0,
			      "in parameter smtpd_relay_restrictions or "
			      "smtpd_recipient_restrictions, specify at least one working instance "
			      "of: reject_unauth_destination, defer_unauth_destination, reject, "
			      "defer or defer_if_permit");
		status = E_CONFIG;
	}
	return status;
}

/* local_header_rewrite_clients: a restriction list with a few names, and tables by address. */
static int compile_rewrite_clients(struct policy_conf *pc, struct conf_diag *d)
{
	static const char *const allowed[] = { "permit_inet_interfaces", "permit_mynetworks",
					       "permit_sasl_authenticated",
					       "permit_tls_clientcerts",
					       "permit_tls_all_clientcerts" };
	const char *at = pc->p->local_header_rewrite_clients;
	struct policy_lst l = { 0 };
	struct compiler c = {
		.pc = pc, .param = "local_header_rewrite_clients", .d = d, .out = &l
	};
	struct sv word;

	while (next_word(&at, &word)) {
		bool known = memchr(word.p, ':', word.len) != NULL;

		if (sv_eq_nocase(word, SV("check_address_map")))
			continue;
		for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
			known = known || sv_eq_nocase(word, sv_from(allowed[i]));
		if (known)
			compile_word(&c, word, &at);
		else
			complain(&c, false, "invalid request: %.*s", (int)word.len, word.p);
	}
	pc->rewrite_clients = l.items;
	pc->rewrite_client_count = l.count;
	return c.errors == 0 ? 0 : E_CONFIG;
}

int policy_conf_new(const struct conf *c, const struct conf_service *s, struct policy_conf **pc_r,
		    struct conf_diag *d)
{
	struct policy_conf *pc = xcalloc(1, sizeof(*pc));

	*pc_r = NULL;
	pc->conf = c;
	pc->service = s;
	pc->p = s != NULL ? s->params : conf_params(c);
	pc->dynamic = strmap_new();
	pc->transport_parents = has_word(pc->p->parent_domain_matches_subdomains, "transport_maps");
	pc->access_parent = has_word(pc->p->parent_domain_matches_subdomains, "smtpd_access_maps");
	pc->skip_unlisted =
		has_word(pc->p->receive_override_options, "no_unknown_recipient_checks");
	pc->want6 = strstr(pc->p->inet_protocols, "ipv6") != NULL;
	pc->want4 = !pc->want6 || strstr(pc->p->inet_protocols, "ipv4") != NULL;
	if (strstr(pc->p->inet_protocols, "all") != NULL)
		pc->want4 = pc->want6 = true;
	own_addrs_init(&pc->own, pc->p, d);
	int err0 = add_classes(pc, d);
	int err = open_lists(pc, d);
	int err2 = compile_lists(pc, d);
	int err3 = compile_rewrite_clients(pc, d);

	if (err0 != 0 || err != 0 || err2 != 0 || err3 != 0) {
		policy_conf_free(&pc);
		return E_CONFIG;
	}
	policy_plans_make(pc);
	*pc_r = pc;
	return 0;
}

static void free_dynamic(struct policy_conf *pc)
{
	size_t pos = 0;
	struct sv key;
	void *value;

	while (strmap_next(pc->dynamic, &pos, &key, &value)) {
		struct policy_lst *l = value;

		policy_items_free(l->items, l->count);
		free(l);
	}
	strmap_free(&pc->dynamic);
}

void policy_conf_free(struct policy_conf **pcp)
{
	struct policy_conf *pc = *pcp;

	if (pc == NULL)
		return;
	for (unsigned i = 0; i < LIST_COUNT; i++)
		policy_items_free(pc->lists[i].items, pc->lists[i].count);
	policy_items_free(pc->rewrite_clients, pc->rewrite_client_count);
	free_dynamic(pc);
	while (pc->classes != NULL) {
		struct policy_class *next = pc->classes->next;

		policy_items_free(pc->classes->items, pc->classes->count);
		free(pc->classes->name);
		free(pc->classes);
		pc->classes = next;
	}
	matchlist_close(&pc->mynetworks);
	matchlist_close(&pc->log_permits);
	matchlist_close(&pc->mx_backup_networks);
	map_list_close(&pc->rbl_reply_maps);
	map_list_close(&pc->sender_login_maps);
	matchlist_close(&pc->mydestination);
	matchlist_close(&pc->virtual_alias_domains);
	matchlist_close(&pc->virtual_mailbox_domains);
	matchlist_close(&pc->relay_domains);
	map_list_close(&pc->local_recipient_maps);
	map_list_close(&pc->virtual_alias_maps);
	map_list_close(&pc->virtual_mailbox_maps);
	map_list_close(&pc->relay_recipient_maps);
	map_list_close(&pc->relay_clientcerts);
	map_list_close(&pc->canonical_maps);
	map_list_close(&pc->sender_canonical_maps);
	map_list_close(&pc->recipient_canonical_maps);
	map_list_close(&pc->transport_maps);
	map_list_close(&pc->relocated_maps);
	own_addrs_fini(&pc->own);
	buf_fini(&pc->rcpt.addr);
	buf_fini(&pc->value);
	buf_fini(&pc->key);
	free(pc);
	*pcp = NULL;
}
