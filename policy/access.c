/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * access(5): what a table's answer asks for. The actions are a const table; an answer that is none
 * of them is a list of restrictions. Also the check_*_access restrictions with their search order.
 */
#include <stdio.h>

#include "lib/log.h"
#include "lib/mailaddr.h"
#include "policy/policy_int.h"

struct access {
	struct policy_run *r;
	const char *table; /* for diagnostics */
	const char *value; /* whole answer */
	const char *text;  /* behind the action word */
	const char *datum; /* key, for diagnostics */
	const char *reply_name;
	const char *reply_class;
	bool doubtful;
};

/* ---- status codes ---- */

/* An address status ("x.1.y") that suits what is being refused: Postfix's mapping. */
const char *policy_fix_dsn(const char *dsn, const char *reply_class, char out[12])
{
	static const struct {
		char digit;
		const char *sender, *rcpt;
	} map[] = {
		{ '1', "1.0", "1.1" }, { '2', "1.8", "1.2" }, { '3', "1.7", "1.3" },
		{ '4', "1.0", "1.4" }, { '5', "1.0", "1.5" }, { '6', "1.0", "1.6" },
		{ '7', "1.7", "1.3" }, { '8', "1.8", "1.2" },
	};
	const char *tail = "1.0";

	snprintf(out, 12, "%s", dsn);
	if (strncmp(dsn + 1, ".1.", 3) != 0)
		return out;
	if (reply_class != policy_class_sender && reply_class != policy_class_rcpt) {
		snprintf(out, 12, "%c.0.0", dsn[0]);
		return out;
	}
	for (size_t i = 0; i < ARRAY_LEN(map); i++) {
		if (dsn[4] == map[i].digit && dsn[5] == '\0')
			tail = reply_class == policy_class_sender ? map[i].sender : map[i].rcpt;
	}
	snprintf(out, 12, "%c.%s", dsn[0], tail);
	return out;
}

/* "5.7.1 text": a status in front of the text replaces the default. Returns the rest. */
const char *policy_split_dsn(const char *text, const char *dflt, char dsn[12])
{
	size_t i = 1;

	snprintf(dsn, 12, "%s", dflt);
	if (text[0] != '2' && text[0] != '4' && text[0] != '5')
		return text;
	for (int part = 0; part < 2; part++) {
		size_t digits = 0;

		if (text[i] != '.')
			return text;
		i++;
		while (digits < 4 && ascii_is_digit(text[i + digits]))
			digits++;
		if (digits == 0 || digits > 3)
			return text;
		i += digits;
	}
	if (text[i] != '\0' && !ascii_is_space(text[i]))
		return text;
	snprintf(dsn, 12, "%.*s", (int)i, text);
	while (ascii_is_space(text[i]))
		i++;
	return text + i;
}

/* ---- actions ---- */

static enum policy_verdict refuse(const struct access *a, int64_t code, const char *dflt_dsn)
{
	char dsn[12], fixed[12];
	const char *text = policy_split_dsn(a->text, dflt_dsn, dsn);

	return policy_reject(a->r, code, policy_fix_dsn(dsn, a->reply_class, fixed),
			     "<%s>: %s rejected: %s", a->reply_name, a->reply_class,
			     *text != '\0' ? text : "Access denied");
}

static enum policy_verdict act_dunno(const struct access *a UNUSED)
{
	return POLICY_DUNNO;
}

/* "OK" and its kin, for smtpd_log_access_permit_actions by the word that the table has. */
static enum policy_verdict permit(const struct access *a)
{
	char name[POLICY_REPLY_SIZE];
	char action[40];

	str_copy(action, sizeof(action),
		 (struct sv){ a->value, size_min(strcspn(a->value, " \t"), sizeof(action) - 1) });
	snprintf(name, sizeof(name), "%s from %s", a->reply_name, a->table);
	return policy_permit(a->r, action, a->reply_class, name);
}

static enum policy_verdict act_ok(const struct access *a)
{
	return a->doubtful ? POLICY_DUNNO : permit(a);
}

static enum policy_verdict act_reject(const struct access *a)
{
	return refuse(a, a->r->pc->p->access_map_reject_code, "5.7.1");
}

static enum policy_verdict act_defer(const struct access *a)
{
	return refuse(a, a->r->pc->p->access_map_defer_code, "4.7.1");
}

static enum policy_verdict act_defer_if_permit(const struct access *a)
{
	char dsn[12], fixed[12];
	const char *text = policy_split_dsn(a->text, "4.7.1", dsn);

	return policy_defer_if_permit(a->r, a->r->pc->p->access_map_defer_code,
				      policy_fix_dsn(dsn, a->reply_class, fixed),
				      "<%s>: %s rejected: %s", a->reply_name, a->reply_class,
				      *text != '\0' ? text : "Service unavailable");
}

static enum policy_verdict act_defer_if_reject(const struct access *a)
{
	char dsn[12], fixed[12];
	const char *text = policy_split_dsn(a->text, "4.7.1", dsn);

	policy_defer_if_reject(a->r, a->r->pc->p->access_map_defer_code,
			       policy_fix_dsn(dsn, a->reply_class, fixed), "<%s>: %s rejected: %s",
			       a->reply_name, a->reply_class,
			       *text != '\0' ? text : "Service unavailable");
	return POLICY_DUNNO;
}

static enum policy_verdict act_info(const struct access *a)
{
	a->r->log(a->r->log_ctx, "info", a->text);
	return POLICY_DUNNO;
}

static enum policy_verdict act_warn(const struct access *a)
{
	a->r->log(a->r->log_ctx, "warn", a->text);
	return POLICY_DUNNO;
}

static enum policy_verdict act_hangup(const struct access *a)
{
	a->r->log(a->r->log_ctx, "hangup", a->text);
	a->r->hangup = true;
	snprintf(a->r->reply, sizeof(a->r->reply), "421 4.7.0 Service unavailable");
	return POLICY_DEFER;
}

/* Effects on a message need one: not before MAIL, not in ETRN. */
static bool has_message(const struct access *a, const char *action)
{
	const struct params *p = a->r->pc->p;
	bool early = a->r->event == POLICY_ON_CONNECT || a->r->event == POLICY_ON_HELO ||
		     a->r->event == POLICY_ON_ETRN;

	if (early)
		log_warn("access table %s: action %s is not available here%s", a->table, action,
			 p->smtpd_delay_reject ? "" : " with smtpd_delay_reject = no");
	return !early;
}

/* What is done with a message behind its acceptance: not by us when a filter has it first. */
static bool has_own_message(const struct access *a, const char *action)
{
	if (a->r->pc->p->smtpd_proxy_filter[0] != '\0') {
		log_warn("access table %s: with smtpd_proxy_filter specified, action %s is "
			 "unavailable",
			 a->table, action);
		return false;
	}
	return has_message(a, action);
}

static void log_effect(const struct access *a, const char *action, const char *what)
{
	char text[POLICY_REPLY_SIZE];

	snprintf(text, sizeof(text), "<%s>: %s %s", a->reply_name, a->reply_class, what);
	str_make_printable(text, strlen(text));
	a->r->log(a->r->log_ctx, action, text);
}

static void log_trigger(const struct access *a, const char *action, const char *verb)
{
	char text[POLICY_REPLY_SIZE];

	snprintf(text, sizeof(text), "triggers %s %s", verb, a->text);
	log_effect(a, action, text);
}

static enum policy_verdict act_hold(const struct access *a)
{
	if (!has_own_message(a, "HOLD") || a->r->state->effects.hold)
		return POLICY_DUNNO;
	log_effect(a, "hold", *a->text != '\0' ? a->text : "triggers HOLD action");
	a->r->state->effects.hold = true;
	return POLICY_DUNNO;
}

static enum policy_verdict act_discard(const struct access *a)
{
	if (!has_own_message(a, "DISCARD"))
		return POLICY_DUNNO;
	log_effect(a, "discard", *a->text != '\0' ? a->text : "triggers DISCARD action");
	a->r->state->effects.discard = true;
	return permit(a);
}

static bool needs(const struct access *a, char c, const char *want, const char *action)
{
	if (strchr(a->text, c) != NULL)
		return true;
	log_warn("access table %s entry \"%s\": %s requires %s", a->table, a->datum, action, want);
	return false;
}

static enum policy_verdict act_filter(const struct access *a)
{
	if (!has_own_message(a, "FILTER") || !needs(a, ':', "transport:destination", "FILTER"))
		return POLICY_DUNNO;
	log_trigger(a, "filter", "FILTER");
	a->r->state->effects.filter = arena_strdup(a->r->arena, a->text);
	return POLICY_DUNNO;
}

static enum policy_verdict act_redirect(const struct access *a)
{
	if (!has_own_message(a, "REDIRECT") || !needs(a, '@', "a user@domain target", "REDIRECT"))
		return POLICY_DUNNO;
	log_trigger(a, "redirect", "REDIRECT");
	a->r->state->effects.redirect = arena_strdup(a->r->arena, a->text);
	return POLICY_DUNNO;
}

/* Append unless it is there: delayed lists are walked again for every recipient. */
static bool add_text(const struct access *a, struct policy_text **at)
{
	for (; *at != NULL; at = &(*at)->next) {
		if (strcmp((*at)->text, a->text) == 0)
			return false;
	}
	struct policy_text *t = arena_alloc(a->r->arena, sizeof(*t));
	char *copy = arena_strdup(a->r->arena, a->text);

	if (t == NULL || copy == NULL)
		return false; /* the arena is full and says so: the command is refused */
	*t = (struct policy_text){ NULL, copy };
	*at = t;
	return true;
}

static enum policy_verdict act_bcc(const struct access *a)
{
	if (has_own_message(a, "BCC") && needs(a, '@', "a user@domain target", "BCC")) {
		log_trigger(a, "bcc", "BCC");
		add_text(a, &a->r->state->effects.bcc);
	}
	return POLICY_DUNNO;
}

/* "Name: text" with a name of printable ASCII. */
static bool is_header(const char *s)
{
	size_t n = 0;

	while (s[n] > ' ' && s[n] < 127 && s[n] != ':')
		n++;
	return n > 0 && s[n] == ':';
}

static enum policy_verdict act_prepend(const struct access *a)
{
	if (!has_message(a, "PREPEND"))
		return POLICY_DUNNO;
	if (a->r->event == POLICY_ON_EOD)
		log_warn("access table %s: action PREPEND must be used before "
			 "smtpd_end_of_data_restrictions",
			 a->table);
	else if (!is_header(a->text) || strpbrk(a->text, "\r\n") != NULL)
		log_warn("access table %s entry \"%s\" requires header: text", a->table, a->datum);
	else
		add_text(a, &a->r->state->effects.prepend);
	return POLICY_DUNNO;
}

static const struct {
	const char *word;
	enum policy_verdict (*act)(const struct access *a);
} actions[] = {
	{ "DUNNO", act_dunno },
	{ "OK", act_ok },
	{ "RELAY", act_ok },
	{ "REJECT", act_reject },
	{ "DEFER", act_defer },
	{ "DEFER_IF_PERMIT", act_defer_if_permit },
	{ "DEFER_IF_REJECT", act_defer_if_reject },
	{ "HOLD", act_hold },
	{ "DISCARD", act_discard },
	{ "FILTER", act_filter },
	{ "REDIRECT", act_redirect },
	{ "BCC", act_bcc },
	{ "PREPEND", act_prepend },
	{ "INFO", act_info },
	{ "WARN", act_warn },
	{ "HANGUP", act_hangup },
};

static enum policy_verdict nested_list(const struct access *a)
{
	const struct policy_lst *l;

	if (strchr(a->value, ':') != NULL) {
		log_warn("access table %s has entry with lookup table: %s", a->table, a->value);
		log_warn("do not specify lookup tables inside SMTPD access maps; define a "
			 "restriction class and specify its name instead.");
		return policy_misconfigured(a->r);
	}
	l = policy_dynamic(a->r->pc, a->value);
	if (l == NULL) {
		log_warn("access table %s entry \"%s\" has a bad value: %s", a->table, a->datum,
			 a->value);
		return policy_misconfigured(a->r);
	}
	if (l->count == 0) {
		log_warn("access table %s entry \"%s\" has an empty value", a->table, a->datum);
		return act_ok(a);
	}
	return policy_push(a->r, l->items, l->count, a->reply_name, a->reply_class,
			   policy_top(a->r)->def_acl, a->doubtful);
}

enum policy_verdict policy_access_result(struct policy_run *r, const char *table, const char *value,
					 const char *datum, const char *reply_name,
					 const char *reply_class, bool doubtful)
{
	struct access a = { r, table, value, value, datum, reply_name, reply_class, doubtful };
	size_t word_len = strcspn(value, " \t");
	struct sv word = { value, word_len };
	char dsn[8] = "5.7.1";

	a.text = value + word_len;
	while (ascii_is_space(*a.text))
		a.text++;
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (sv_eq_nocase(word, sv_from(actions[i].word)))
			return actions[i].act(&a);
	}
	if (*value != '\0' && strspn(value, "0123456789") == strlen(value))
		return act_ok(&a);
	if (word_len == 3 && *a.text != '\0' && (value[0] == '4' || value[0] == '5') &&
	    ascii_is_digit(value[1]) && ascii_is_digit(value[2])) {
		dsn[0] = value[0];
		return refuse(&a, (value[0] - '0') * 100 + (value[1] - '0') * 10 + (value[2] - '0'),
			      dsn);
	}
	return nested_list(&a);
}

/* ---- searching ---- */

/* One search: where to look, what to call the thing in replies, and the first answer. */
struct search {
	struct policy_run *r;
	const struct policy_item *it;
	const char *datum;
	const char *reply_name;
	const char *reply_class;
	bool doubtful;
	enum policy_verdict v;
};

/* Tables of patterns see the whole thing once; partial keys are for indexed tables. */
static bool is_pattern_table(const struct map *m)
{
	const char *spec = map_spec(m);

	return strncmp(spec, "regexp:", 7) == 0 || strncmp(spec, "pcre:", 5) == 0 ||
	       strncmp(spec, "cidr:", 5) == 0 || !map_has_fixed_keys(m);
}

/* True when the search is over: found (s->v says what then) or the table failed. */
static bool try_key(struct search *s, struct sv key, bool partial)
{
	struct policy_conf *pc = s->r->pc;

	if (key.len == 0 || (partial && is_pattern_table(s->it->map)))
		return false;
	buf_reset(&pc->value);
	switch (map_get(s->it->map, key, &pc->value)) {
	case MAP_NOT_FOUND:
		return false;
	case MAP_ERROR:
		s->v = policy_trouble(s->r, 451, "4.3.5",
				      "<%s>: %s rejected: Server configuration error",
				      s->reply_name, s->reply_class);
		return true;
	case MAP_FOUND:
		break;
	}
	char *value = xstrdup(buf_cstr(&pc->value)); /* nested lookups use the buffer again */

	s->v = policy_access_result(s->r, map_spec(s->it->map), value, s->datum, s->reply_name,
				    s->reply_class, s->doubtful);
	free(value);
	return true;
}

/* The name and its parents: "a.b.c", then ".b.c" or "b.c" ..., by access_parent. */
static bool search_domain(struct search *s, struct sv name, bool partial)
{
	bool numeric = mail_hostaddr_is_valid(name);

	while (name.len > 0) {
		if (try_key(s, name, partial))
			return true;
		const char *dot = name.len > 1 ? memchr(name.p + 1, '.', name.len - 1) : NULL;

		if (numeric || dot == NULL)
			return false;
		size_t skip = (size_t)(dot - name.p) + (s->r->pc->access_parent ? 1 : 0);

		name = (struct sv){ name.p + skip, name.len - skip };
		partial = true;
	}
	return false;
}

/* The address, then with its last parts cut off. */
static bool search_addr(struct search *s, const char *addr)
{
	struct sv key = sv_from(addr);
	char delim = strchr(addr, ':') != NULL ? ':' : '.';
	bool partial = false;

	for (;;) {
		if (try_key(s, key, partial))
			return true;
		const char *last = memrchr(key.p, delim, key.len);

		if (last == NULL)
			return false;
		key.len = (size_t)(last - key.p);
		partial = true;
	}
}

static bool key_sans_ext(struct buf *out, struct sv local, struct sv rest, const char *delims)
{
	struct sv base, ext;

	if (!mail_addr_split_ext(local, delims, &base, &ext))
		return false;
	buf_reset(out);
	return buf_add_sv(out, base) && buf_add_sv(out, rest);
}

/* user+ext@domain, user@domain, domain and parents, user+ext@, user@. */
static bool search_mail(struct search *s, const char *addr)
{
	const char *delims = s->r->pc->p->recipient_delimiter;
	const char *at = strrchr(addr, '@');
	struct buf key = BUF_INIT;
	bool over;

	if (at == NULL)
		return try_key(s, sv_from(addr), false);
	struct sv local = { addr, (size_t)(at - addr) };
	struct sv at_domain = sv_from(at);

	over = try_key(s, sv_from(addr), false) ||
	       (key_sans_ext(&key, local, at_domain, delims) && try_key(s, buf_sv(&key), true)) ||
	       search_domain(s, sv_from(at + 1), true) ||
	       try_key(s, (struct sv){ addr, local.len + 1 }, true) ||
	       (key_sans_ext(&key, local, SV("@"), delims) && try_key(s, buf_sv(&key), true));
	buf_fini(&key);
	return over;
}

static struct search search_for(struct policy_run *r, const struct policy_item *it,
				const char *name, const char *reply_class)
{
	return (struct search){ .r = r,
				.it = it,
				.datum = name,
				.reply_name = name,
				.reply_class = reply_class,
				.v = POLICY_DUNNO };
}

bool policy_access_name(struct policy_run *r, const struct policy_item *it,
			const struct access_about *about, const char *name,
			enum policy_verdict *v_r)
{
	struct search s = search_for(r, it, name, about->reply_class);
	bool over;

	s.reply_name = about->reply_name;
	over = search_domain(&s, sv_from(name), false);
	*v_r = s.v;
	return over;
}

bool policy_access_addr(struct policy_run *r, const struct policy_item *it,
			const struct access_about *about, const char *addr,
			enum policy_verdict *v_r)
{
	struct search s = search_for(r, it, addr, about->reply_class);
	bool over;

	s.reply_name = about->reply_name;
	over = search_addr(&s, addr);
	*v_r = s.v;
	return over;
}

enum policy_verdict policy_forbid_permit(struct policy_run *r, const struct policy_item *it,
					 enum policy_verdict v, const char *whom)
{
	if (v == POLICY_PUSHED)
		r->frames[r->depth - 1].no_permit = whom;
	if (v != POLICY_PERMIT || r->state->effects.discard)
		return v;
	log_warn("restriction %s returns OK for %s", it->row->name, whom);
	log_warn("this is not allowed for security reasons");
	log_warn("use DUNNO instead of OK if you want to make an exception");
	return policy_misconfigured(r);
}

/* ---- check_*_access ---- */

enum policy_verdict rs_client_access(struct policy_run *r, const struct policy_item *it)
{
	struct search s = search_for(r, it, r->view->namaddr, policy_class_client);

	if (!search_domain(&s, sv_from(r->view->client_name), false))
		search_addr(&s, r->view->client_addr);
	return s.v;
}

/* The certificate first, then the key in it; or as search_order says. */
enum policy_verdict rs_ccert_access(struct policy_run *r, const struct policy_item *it)
{
	const struct policy_tls *tls = r->view->tls;
	unsigned order = it->number != 0 ? it->number : POLICY_BY_CERT | POLICY_BY_KEY << 2;

	if (tls == NULL || !tls->has_cert)
		return POLICY_DUNNO;
	struct search s = search_for(r, it, r->view->namaddr, "Client certificate");

	for (; order != 0; order >>= 2) {
		s.datum = (order & 3) == POLICY_BY_CERT ? tls->fingerprint : tls->key_fingerprint;
		if (s.datum[0] != '\0' && try_key(&s, sv_from(s.datum), false))
			break;
	}
	return s.v;
}

/* Only for refusing: anybody can put anything into their reverse zone. */
enum policy_verdict rs_reverse_access(struct policy_run *r, const struct policy_item *it)
{
	struct search s = search_for(r, it, r->view->reverse_name, policy_class_reverse);

	if (!search_domain(&s, sv_from(r->view->reverse_name), false))
		search_addr(&s, r->view->client_addr);
	return policy_forbid_permit(r, it, s.v, r->view->reverse_name);
}

/* Exactly as it is: a login is not taken apart. */
enum policy_verdict rs_sasl_access(struct policy_run *r, const struct policy_item *it)
{
	const char *user = r->view->sasl_user;

	if (!r->pc->p->smtpd_sasl_auth_enable || user == NULL || user[0] == '\0')
		return POLICY_DUNNO;
	struct search s = search_for(r, it, user, policy_class_login);

	try_key(&s, sv_from(user), false);
	return s.v;
}

enum policy_verdict rs_helo_access(struct policy_run *r, const struct policy_item *it)
{
	if (r->view->helo == NULL)
		return POLICY_DUNNO;
	struct search s = search_for(r, it, r->view->helo, policy_class_helo);

	search_domain(&s, sv_from(r->view->helo), false);
	return s.v;
}

static enum policy_verdict mail_access(struct policy_run *r, const struct policy_item *it,
				       const char *addr, const char *reply_class)
{
	struct policy_conf *pc = r->pc;
	struct search s = search_for(r, it, addr, reply_class);

	policy_resolve(pc, addr, &pc->rcpt);
	if (pc->rcpt.tempfail)
		return policy_retry(r, addr);
	/* routed through us to somewhere else: a permit would make us a relay */
	s.doubtful = reply_class == policy_class_rcpt && pc->rcpt.routed &&
		     !pc->p->allow_untrusted_routing;
	char *key = xstrdup(buf_cstr(&pc->rcpt.addr));

	search_mail(&s, key);
	free(key);
	return s.v;
}

enum policy_verdict rs_sender_access(struct policy_run *r, const struct policy_item *it)
{
	if (r->view->sender == NULL)
		return POLICY_DUNNO;
	if (r->view->sender[0] != '\0')
		return mail_access(r, it, r->view->sender, policy_class_sender);
	struct search s = search_for(r, it, "", policy_class_sender);

	try_key(&s, sv_from(r->pc->p->smtpd_null_access_lookup_key), false);
	return s.v;
}

enum policy_verdict rs_recipient_access(struct policy_run *r, const struct policy_item *it)
{
	if (r->view->recipient == NULL)
		return POLICY_DUNNO;
	return mail_access(r, it, r->view->recipient, policy_class_rcpt);
}

enum policy_verdict rs_etrn_access(struct policy_run *r, const struct policy_item *it)
{
	if (r->view->etrn == NULL)
		return POLICY_DUNNO;
	struct search s = search_for(r, it, r->view->etrn, policy_class_etrn);

	search_domain(&s, sv_from(r->view->etrn), false);
	return s.v;
}
