/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ldap_table(5): a search, and further searches for what attributes with names or URLs of other
 * entries say. Listed in workers/lookup/table.c. */
#include <ldap.h>
#include <sasl/sasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/time.h>

#include "lib/err.h"
#include "lib/util.h"
#include "workers/lookup/table.h"

#define ATTRS_MAX 64

enum bind { BIND_NONE, BIND_SIMPLE, BIND_SASL };
enum attr_kind { ATTR_RESULT, ATTR_SPECIAL, ATTR_TERMINAL, ATTR_LEAF, ATTR_KINDS };

struct ldap_conf {
	char *uris, *base, *filter, *bind_dn, *bind_pw;
	char *attrs[ATTRS_MAX + 1]; /* all kinds, NULL at the end: what the server is asked for */
	enum attr_kind kinds[ATTRS_MAX];
	size_t attr_count;
	char *tls_files[5]; /* ca_cert_file, ca_cert_dir, cert, key, random_file */
	struct {
		char *mechs, *realm, *authz_id;
		int minssf;
	} sasl;
	char *tls_ciphers;
	int scope, deref, version, timeout_s, recursion_limit, size_limit, tls_require;
	enum bind bind;
	bool referrals, start_tls;
};

struct connection {
	const struct ldap_conf *conf;
	LDAP *ld;
};

/* One question. */
struct question {
	const struct table *t;
	struct connection *c;
	struct sv key;
	struct table_answer *a;
	int depth;
	int err; /* LDAP_*; what went wrong with the connection or a search */
};

/* ---- parameters ---- */

static const struct {
	const char *name, *def;
} attr_params[ATTR_KINDS] = {
	[ATTR_RESULT] = { "result_attribute", "maildrop" },
	[ATTR_SPECIAL] = { "special_result_attribute", "" },
	[ATTR_TERMINAL] = { "terminal_result_attribute", "" },
	[ATTR_LEAF] = { "leaf_result_attribute", "" },
};

static const struct {
	const char *name;
	int option;
} tls_params[] = {
	{ "tls_ca_cert_file", LDAP_OPT_X_TLS_CACERTFILE },
	{ "tls_ca_cert_dir", LDAP_OPT_X_TLS_CACERTDIR },
	{ "tls_cert", LDAP_OPT_X_TLS_CERTFILE },
	{ "tls_key", LDAP_OPT_X_TLS_KEYFILE },
	{ "tls_random_file", LDAP_OPT_X_TLS_RANDOM_FILE },
};

static const char *value_of(struct options *o, const char *name, const char *def)
{
	const char *text = options_get(o, name, "");

	return *text != '\0' ? text : def;
}

static struct sv next_word(const char **list)
{
	const char *p = *list + strspn(*list, ", \t\r\n");
	struct sv word = { p, strcspn(p, ", \t\r\n") };

	*list = p + word.len;
	return word;
}

static void take_attributes(struct options *o, struct ldap_conf *l)
{
	for (int kind = 0; kind < ATTR_KINDS; kind++) {
		const char *list = options_get(o, attr_params[kind].name, NULL);

		if (list == NULL || (list[0] == '\0' && kind == ATTR_RESULT))
			list = attr_params[kind].def;
		for (struct sv w = next_word(&list); w.len > 0; w = next_word(&list)) {
			if (l->attr_count == ATTRS_MAX) {
				options_complain(o, "more than %d attributes", ATTRS_MAX);
				return;
			}
			l->kinds[l->attr_count] = (enum attr_kind)kind;
			l->attrs[l->attr_count++] = xstrndup(w.p, w.len);
		}
	}
}

/* Hosts become URIs; the library tries one after the other. */
static char *uris_of(struct options *o)
{
	const char *list = value_of(o, "server_host", "localhost");
	int port = (int)options_int(o, "server_port", LDAP_PORT, 1, 65535);
	struct buf b = BUF_INIT;

	for (struct sv w = next_word(&list); w.len > 0; w = next_word(&list)) {
		bool is_uri = memmem(w.p, w.len, "://", 3) != NULL;
		bool has_port = memchr(w.p, ':', w.len) != NULL;

		buf_printf(&b, "%s%s%.*s", b.len > 0 ? " " : "", is_uri ? "" : "ldap://",
			   (int)w.len, w.p);
		if (!is_uri && !has_port)
			buf_printf(&b, ":%d", port);
	}
	char *uris = xstrdup(buf_cstr(&b));

	buf_fini(&b);
	return uris;
}

static int word_of(struct options *o, const char *name, const char *const *words, int def)
{
	const char *text = options_get(o, name, "");

	for (int i = 0; words[i] != NULL; i++) {
		if (str_eq_nocase(text, words[i]))
			return i;
	}
	if (*text != '\0')
		options_complain(o, "%s: cannot be %.60s", name, text);
	return def;
}

static void take_tls(struct options *o, struct ldap_conf *l)
{
	l->start_tls = options_bool(o, "start_tls", false);
	l->tls_require = options_bool(o, "tls_require_cert", false) ? LDAP_OPT_X_TLS_DEMAND
								    : LDAP_OPT_X_TLS_NEVER;
	for (size_t i = 0; i < ARRAY_LEN(tls_params); i++)
		l->tls_files[i] = xstrdup(options_get(o, tls_params[i].name, ""));
	l->tls_ciphers = xstrdup(options_get(o, "tls_cipher_suite", ""));
}

static void take_searching(struct options *o, struct ldap_conf *l)
{
	static const char *const scopes[] = { "base", "one", "sub", NULL };
	static const int scope_values[] = { LDAP_SCOPE_BASE, LDAP_SCOPE_ONELEVEL,
					    LDAP_SCOPE_SUBTREE };

	l->uris = uris_of(o);
	l->base = xstrdup(options_get(o, "search_base", ""));
	l->filter = xstrdup(value_of(o, "query_filter", "(mailacceptinggeneralid=%s)"));
	l->scope = scope_values[word_of(o, "scope", scopes, 2)];
	l->deref = (int)options_int(o, "dereference", 0, 0, 3);
	l->version = (int)options_int(o, "version", 3, 2, 3);
	l->timeout_s = (int)options_int(o, "timeout", 10, 1, 100);
	l->recursion_limit = (int)options_int(o, "recursion_limit", 1000, 1, 1000000);
	l->size_limit = (int)options_int(o, "size_limit", 0, 0, INT32_MAX);
	l->referrals = options_bool(o, "chase_referrals", false);
	if (template_check(l->base) != NULL)
		options_complain(o, "search_base: %s", template_check(l->base));
	if (template_check(l->filter) != NULL)
		options_complain(o, "query_filter: %s", template_check(l->filter));
}

static void take_bind(struct options *o, struct ldap_conf *l)
{
	static const char *const words[] = { "no", "yes", "none", "simple", "sasl", NULL };
	static const enum bind binds[] = { BIND_NONE, BIND_SIMPLE, BIND_NONE, BIND_SIMPLE,
					   BIND_SASL };
	char **mechanisms;

	l->bind = binds[word_of(o, "bind", words, 1)];
	l->bind_dn = xstrdup(options_get(o, "bind_dn", ""));
	l->bind_pw = xstrdup(options_get(o, "bind_pw", ""));
	l->sasl.mechs = xstrdup(options_get(o, "sasl_mechs", ""));
	l->sasl.realm = xstrdup(options_get(o, "sasl_realm", ""));
	l->sasl.authz_id = xstrdup(options_get(o, "sasl_authz_id", ""));
	l->sasl.minssf = (int)options_int(o, "sasl_minssf", 0, 0, 4096);
	/* plug-ins are loaded now or never */
	if (l->bind == BIND_SASL &&
	    ldap_get_option(NULL, LDAP_OPT_X_SASL_MECHLIST, &mechanisms) != LDAP_OPT_SUCCESS)
		options_complain(o, "bind = sasl: the SASL library does not work");
}

static int ldap_table_open(struct table *t)
{
	struct ldap_conf *l = xcalloc(1, sizeof(*l));
	struct options *o = t->options;
	int version;

	t->source_state = l;
	/* the library reads its own configuration at its first use */
	ldap_get_option(NULL, LDAP_OPT_PROTOCOL_VERSION, &version);
	take_searching(o, l);
	take_attributes(o, l);
	take_tls(o, l);
	take_bind(o, l);
	return options_are_bad(o) ? E_CONFIG : 0;
}

static void ldap_table_close(struct table *t)
{
	struct ldap_conf *l = t->source_state;

	for (size_t i = 0; i < l->attr_count; i++)
		free(l->attrs[i]);
	for (size_t i = 0; i < ARRAY_LEN(l->tls_files); i++)
		free(l->tls_files[i]);
	if (l->bind_pw != NULL)
		explicit_bzero(l->bind_pw, strlen(l->bind_pw));
	free(l->uris);
	free(l->base);
	free(l->filter);
	free(l->bind_dn);
	free(l->bind_pw);
	free(l->sasl.mechs);
	free(l->sasl.realm);
	free(l->sasl.authz_id);
	free(l->tls_ciphers);
	free(l);
}

static void ldap_directories(const struct table *t, void (*fn)(void *ctx, const char *path),
			     void *ctx)
{
	const struct ldap_conf *l = t->source_state;

	for (size_t i = 0; i < ARRAY_LEN(l->tls_files); i++) {
		if (l->tls_files[i][0] == '/')
			fn(ctx, l->tls_files[i]);
	}
}

/* ---- connection ---- */

static void *ldap_table_connect(const struct table *t)
{
	struct connection *c = xcalloc(1, sizeof(*c));

	c->conf = t->source_state;
	return c;
}

static void drop(struct connection *c)
{
	if (c->ld != NULL)
		ldap_unbind_ext(c->ld, NULL, NULL);
	c->ld = NULL;
}

static void ldap_table_disconnect(void *connection)
{
	drop(connection);
	free(connection);
}

static void set_tls(const struct ldap_conf *l, LDAP *ld)
{
	const int zero = 0;

	for (size_t i = 0; i < ARRAY_LEN(tls_params); i++) {
		if (l->tls_files[i][0] != '\0')
			ldap_set_option(ld, tls_params[i].option, l->tls_files[i]);
	}
	if (l->tls_ciphers[0] != '\0')
		ldap_set_option(ld, LDAP_OPT_X_TLS_CIPHER_SUITE, l->tls_ciphers);
	ldap_set_option(ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &l->tls_require);
	ldap_set_option(ld, LDAP_OPT_X_TLS_NEWCTX, &zero);
}

static int bind_simple(const struct ldap_conf *l, LDAP *ld)
{
	struct berval password = { strlen(l->bind_pw), l->bind_pw };

	return ldap_sasl_bind_s(ld, l->bind_dn, LDAP_SASL_SIMPLE, &password, NULL, NULL, NULL);
}

static int interact(LDAP *ld UNUSED, unsigned flags UNUSED, void *defaults, void *questions)
{
	const struct ldap_conf *l = defaults;

	for (sasl_interact_t *q = questions; q->id != SASL_CB_LIST_END; q++) {
		const char *answer = q->id == SASL_CB_GETREALM   ? l->sasl.realm
				     : q->id == SASL_CB_AUTHNAME ? l->bind_dn
				     : q->id == SASL_CB_USER     ? l->sasl.authz_id
				     : q->id == SASL_CB_PASS     ? l->bind_pw
				     : q->defresult != NULL      ? q->defresult
								 : "";

		q->result = answer;
		q->len = (unsigned)strlen(answer);
	}
	return LDAP_SUCCESS;
}

/* Who it is the mechanism says, not a name in the directory. */
static int bind_sasl(const struct ldap_conf *l, LDAP *ld)
{
	char properties[32];
	int rc;

	snprintf(properties, sizeof(properties), "minssf=%d", l->sasl.minssf);
	rc = ldap_set_option(ld, LDAP_OPT_X_SASL_SECPROPS, properties);
	if (rc != LDAP_OPT_SUCCESS)
		return rc;
	return ldap_sasl_interactive_bind_s(ld, NULL,
					    l->sasl.mechs[0] != '\0' ? l->sasl.mechs : NULL, NULL,
					    NULL, LDAP_SASL_QUIET, interact, (void *)(uintptr_t)l);
}

static int connect_server(struct connection *c)
{
	const struct ldap_conf *l = c->conf;
	const struct timeval timeout = { .tv_sec = l->timeout_s };
	int rc = ldap_initialize(&c->ld, l->uris);

	if (rc != LDAP_SUCCESS)
		return rc;
	ldap_set_option(c->ld, LDAP_OPT_PROTOCOL_VERSION, &l->version);
	ldap_set_option(c->ld, LDAP_OPT_NETWORK_TIMEOUT, &timeout);
	ldap_set_option(c->ld, LDAP_OPT_TIMEOUT, &timeout);
	ldap_set_option(c->ld, LDAP_OPT_DEREF, &l->deref);
	ldap_set_option(c->ld, LDAP_OPT_SIZELIMIT, &l->size_limit);
	ldap_set_option(c->ld, LDAP_OPT_REFERRALS, l->referrals ? LDAP_OPT_ON : LDAP_OPT_OFF);
	set_tls(l, c->ld);
	if (l->start_tls)
		rc = ldap_start_tls_s(c->ld, NULL, NULL);
	if (rc == LDAP_SUCCESS && l->bind == BIND_SIMPLE)
		rc = bind_simple(l, c->ld);
	if (rc == LDAP_SUCCESS && l->bind == BIND_SASL)
		rc = bind_sasl(l, c->ld);
	if (rc != LDAP_SUCCESS)
		drop(c);
	return rc;
}

/* ---- quoting ---- */

/* RFC 4515: in a filter. */
static bool quote_filter(void *ctx UNUSED, struct sv text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		if (strchr("*()\\", text.p[i]) != NULL)
			buf_printf(out, "\\%02x", (unsigned char)text.p[i]);
		else
			buf_add_c(out, text.p[i]);
	}
	return true;
}

/* RFC 4514: in a distinguished name. */
static bool quote_dn(void *ctx UNUSED, struct sv text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		bool edge = (i == 0 && (text.p[i] == ' ' || text.p[i] == '#')) ||
			    (i + 1 == text.len && text.p[i] == ' ');

		if (edge || strchr("\t\"+,;<>=\\", text.p[i]) != NULL)
			buf_printf(out, "\\%02x", (unsigned char)text.p[i]);
		else
			buf_add_c(out, text.p[i]);
	}
	return true;
}

/* ---- searching ---- */

static void take_entries(struct question *q, LDAPMessage *res);

static int search(struct question *q, const char *base, int scope, const char *filter,
		  LDAPMessage **res_r)
{
	struct timeval timeout = { .tv_sec = q->c->conf->timeout_s };

	return ldap_search_ext_s(q->c->ld, base, scope, filter,
				 (char **)(uintptr_t)q->c->conf->attrs, 0, NULL, NULL, &timeout,
				 q->c->conf->size_limit, res_r);
}

/* An entry that an attribute names: by its name, or by a URL. One that does not exist has no
 * results. */
static void follow(struct question *q, const char *value)
{
	LDAPURLDesc *url = NULL;
	LDAPMessage *res = NULL;
	int rc;

	if (q->depth >= q->c->conf->recursion_limit) {
		table_fail(q->a, "recursion_limit exceeded for key \"%.100s\"", q->key.p);
		q->a->about_key = true;
		return;
	}
	if (ldap_is_ldap_url(value) && ldap_url_parse(value, &url) == LDAP_URL_SUCCESS) {
		rc = search(q, url->lud_dn, url->lud_scope,
			    url->lud_filter != NULL ? url->lud_filter : "(objectclass=*)", &res);
		ldap_free_urldesc(url);
	} else {
		rc = search(q, value, LDAP_SCOPE_BASE, "(objectclass=*)", &res);
	}
	q->depth++;
	if (rc == LDAP_SUCCESS)
		take_entries(q, res);
	else if (rc != LDAP_NO_SUCH_OBJECT)
		q->err = rc;
	q->depth--;
	ldap_msgfree(res);
}

static bool goes_on(const struct question *q)
{
	return q->err == LDAP_SUCCESS && q->a->status != MAP_ERROR;
}

static void take_values(struct question *q, struct berval **values, bool special)
{
	for (size_t i = 0; goes_on(q) && values[i] != NULL; i++) {
		if (special)
			follow(q, values[i]->bv_val);
		else
			table_add_result(q->t, q->a, q->key,
					 (struct sv){ values[i]->bv_val, values[i]->bv_len });
	}
}

/* Which kinds of attributes an entry has. */
static unsigned kinds_in(struct question *q, LDAPMessage *entry)
{
	const struct ldap_conf *l = q->c->conf;
	unsigned kinds = 0;

	for (size_t i = 0; i < l->attr_count; i++) {
		struct berval **values = ldap_get_values_len(q->c->ld, entry, l->attrs[i]);

		if (values != NULL && values[0] != NULL)
			kinds |= 1u << l->kinds[i];
		ldap_value_free_len(values);
	}
	return kinds;
}

/* Terminal attributes are all that counts of an entry that has them; leaf ones do not count in an
 * entry that points to others. */
static void take_entry(struct question *q, LDAPMessage *entry)
{
	const struct ldap_conf *l = q->c->conf;
	unsigned there = kinds_in(q, entry), use = ~0u;

	if (there & 1u << ATTR_TERMINAL)
		use = 1u << ATTR_TERMINAL;
	else if (there & 1u << ATTR_SPECIAL)
		use = ~(1u << ATTR_LEAF);
	for (size_t i = 0; goes_on(q) && i < l->attr_count; i++) {
		if ((use >> l->kinds[i] & 1) == 0)
			continue;
		struct berval **values = ldap_get_values_len(q->c->ld, entry, l->attrs[i]);

		if (values != NULL)
			take_values(q, values, l->kinds[i] == ATTR_SPECIAL);
		ldap_value_free_len(values);
	}
}

static void take_entries(struct question *q, LDAPMessage *res)
{
	for (LDAPMessage *e = ldap_first_entry(q->c->ld, res); e != NULL && goes_on(q);
	     e = ldap_next_entry(q->c->ld, e))
		take_entry(q, e);
}

static void run_query(struct question *q, const char *base, const char *filter)
{
	LDAPMessage *res = NULL;

	q->err = q->c->ld != NULL ? LDAP_SUCCESS : connect_server(q->c);
	if (q->err == LDAP_SUCCESS)
		q->err = search(q, base, q->c->conf->scope, filter, &res);
	if (q->err == LDAP_SUCCESS)
		take_entries(q, res);
	ldap_msgfree(res);
}

static void ldap_table_ask(const struct table *t, void *connection, struct sv key,
			   struct table_answer *a)
{
	struct connection *c = connection;
	struct question q = { .t = t, .c = c, .key = key, .a = a };
	struct buf base = BUF_INIT, filter = BUF_INIT;
	bool was_connected = c->ld != NULL;

	if (template_expand(c->conf->base, key, NULL, quote_dn, NULL, &base) &&
	    template_expand(c->conf->filter, key, NULL, quote_filter, NULL, &filter)) {
		run_query(&q, buf_cstr(&base), buf_cstr(&filter));
		if (was_connected && (q.err == LDAP_SERVER_DOWN || q.err == LDAP_UNAVAILABLE)) {
			drop(c); /* perhaps it was closed meanwhile: once more, anew */
			table_again(a);
			run_query(&q, buf_cstr(&base), buf_cstr(&filter));
		}
		if (q.err != LDAP_SUCCESS) {
			drop(c);
			table_fail(a, "%.100s: %s", c->conf->uris, ldap_err2string(q.err));
		}
	}
	buf_fini(&base);
	buf_fini(&filter);
}

const struct source source_ldap = {
	.type = "ldap",
	.open = ldap_table_open,
	.close = ldap_table_close,
	.connect = ldap_table_connect,
	.disconnect = ldap_table_disconnect,
	.ask = ldap_table_ask,
	.directories = ldap_directories,
};
