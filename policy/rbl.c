/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lists in the DNS of addresses (reject_rbl_client, permit_dnswl_client) and of names
 * (reject_rhsbl_..., permit_rhswl_client), and the replies to those that they name:
 * default_rbl_reply, rbl_reply_maps. A list that does not answer refuses nobody.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lib/log.h"
#include "policy/names.h"
#include "policy/policy_int.h"
#include "policy/rbl_pattern.h"

#define LIST_SIZE 256
#define T_A       1
#define T_TXT     16

enum { ASK_ADDRESS, ASK_TEXT, TEXT_IS_THERE }; /* phases of a walk's entry */

struct rbl_hit { /* for the reply */
	struct policy_run *r;
	struct policy_names names;
	const char *domain, *what, *class;
};

/* ---- questions ---- */

/* "domain=pattern": the domain into list; the pattern, or NULL. */
static const char *split_list(const char *text, char list[LIST_SIZE])
{
	const char *eq = strchr(text, '=');
	size_t len = eq != NULL ? (size_t)(eq - text) : strlen(text);

	if (!str_copy(list, LIST_SIZE, (struct sv){ text, len }))
		list[0] = '\0';
	return eq != NULL ? eq + 1 : NULL;
}

static bool is_number(const char *s)
{
	return s[0] != '\0' && s[strspn(s, "0123456789")] == '\0';
}

/* A name, or an address's domain. Not literals, nor what ends like an address. */
static bool name_of_domain(const char *what, const char *list, char *out, size_t size)
{
	const char *at = strrchr(what, '@'), *domain = at != NULL ? at + 1 : what, *dot;
	int n;

	if (list[0] == '\0' || domain[0] == '\0' || domain[0] == '[')
		return false;
	dot = strrchr(domain, '.');
	if (is_number(dot != NULL ? dot + 1 : domain) ||
	    !policy_valid_hostname(sv_from(domain), false))
		return false;
	n = snprintf(out, size, "%s.%s", domain, list);
	return n > 0 && (size_t)n < size;
}

/* ---- answers ---- */

static bool is_listed(const struct policy_dns *dns, const char *pattern)
{
	bool hit = pattern == NULL;

	for (uint32_t i = 0; !hit && i < dns->a_count; i++)
		hit = rbl_answer_matches(pattern, dns->a[i]);
	return hit && dns->status == POLICY_DNS_OK;
}

/* ---- replies ---- */

static const char *name_value(void *ctx, struct sv name)
{
	struct rbl_hit *h = ctx;
	char code[24];

	snprintf(code, sizeof(code), "%lld", (long long)h->r->pc->p->maps_rbl_reject_code);
	const struct {
		struct sv name;
		const char *value;
	} names[] = {
		{ SV("rbl_code"), code },
		{ SV("rbl_domain"), h->domain },
		{ SV("rbl_reason"), h->r->dns.txt },
		{ SV("rbl_txt"), h->r->dns.txt },
		{ SV("rbl_what"), h->what },
		{ SV("rbl_class"), h->class },
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (sv_eq(name, names[i].name))
			return policy_names_clean(&h->names, names[i].value);
	}
	return policy_names_get(&h->names, name);
}

/* The template for a list, by its name with and without the pattern. */
static enum map_status find_template(struct policy_run *r, const char *text, const char *domain,
				     struct buf *out)
{
	enum map_status st = map_list_get(r->pc->rbl_reply_maps, sv_from(text), out);

	if (st == MAP_NOT_FOUND && strcmp(text, domain) != 0)
		st = map_list_get(r->pc->rbl_reply_maps, sv_from(domain), out);
	return st;
}

static bool is_reply(const char *s)
{
	return (s[0] == '4' || s[0] == '5') && ascii_is_digit(s[1]) && ascii_is_digit(s[2]) &&
	       s[3] == ' ';
}

static enum policy_verdict reply_with(struct rbl_hit *h, const char *text)
{
	char dsn[12], fixed[12];

	if (!is_reply(text)) {
		log_warn("rbl response code configuration error: %.200s", text);
		return policy_reject(h->r, 450, "4.7.1", "Service unavailable");
	}
	const char *rest = policy_split_dsn(text + 4, "4.7.1", dsn);

	return policy_reject(h->r, strtol(text, NULL, 10), policy_fix_dsn(dsn, h->class, fixed),
			     "%s", *rest != '\0' ? rest : "Service unavailable");
}

static enum policy_verdict refuse(struct policy_run *r, const char *text, const char *what,
				  const char *class_name)
{
	const struct policy_view *v = r->view;
	char domain[LIST_SIZE];
	struct buf template = BUF_INIT, reply = BUF_INIT;
	struct rbl_hit h = {
		.r = r,
		.names = { .filter = r->pc->p->smtpd_expansion_filter,
			   .server_name = r->pc->p->myhostname,
			   .client = v->namaddr,
			   .client_address = v->client_addr,
			   .client_name = v->client_name,
			   .reverse_client_name = v->reverse_name,
			   .helo_name = v->helo,
			   .sender = sv_from(v->sender != NULL ? v->sender : ""),
			   .recipient = sv_from(v->recipient != NULL ? v->recipient : "") },
		.domain = domain,
		.what = what,
		.class = class_name,
	};
	enum policy_verdict verdict;

	split_list(text, domain);
	enum map_status st = find_template(r, text, domain, &template);

	if (st == MAP_FOUND && conf_expand_with(buf_sv(&template), name_value, &h, &reply) != 0) {
		log_warn("bad rbl reply template for domain %s: %s", text, buf_cstr(&template));
		st = MAP_NOT_FOUND;
		buf_reset(&reply);
	}
	if (st == MAP_NOT_FOUND &&
	    conf_expand_with(sv_from(r->pc->p->default_rbl_reply), name_value, &h, &reply) != 0) {
		log_warn("bad default rbl reply template: %s", r->pc->p->default_rbl_reply);
		buf_reset(&reply);
	}
	verdict = st == MAP_ERROR ? policy_misconfigured(r) : reply_with(&h, buf_cstr(&reply));
	buf_fini(&h.names.value);
	buf_fini(&template);
	buf_fini(&reply);
	return verdict;
}

/* ---- restrictions ---- */

struct question {
	char name[LIST_SIZE];
	const char *pattern; /* of the answers that count; NULL = any */
};

/* What a list is asked about an address (`is_addr`) or a name; false: nothing. */
static bool make_question(const struct policy_item *it, const char *what, bool is_addr,
			  struct question *q)
{
	char list[LIST_SIZE];

	q->pattern = split_list(it->text, list);
	if (what == NULL)
		return false;
	return is_addr ? rbl_name_of_addr(what, list, q->name, sizeof(q->name))
		       : name_of_domain(what, list, q->name, sizeof(q->name));
}

static enum policy_verdict block(struct policy_run *r, const struct policy_item *it,
				 const char *what, bool is_addr, const char *class_name)
{
	struct question q;

	if (!make_question(it, what, is_addr, &q))
		return POLICY_DUNNO;
	if (r->phase == ASK_ADDRESS)
		return policy_ask_dns(r, q.name, T_A);
	if (r->phase == ASK_TEXT && r->dns.status == POLICY_DNS_TEMP)
		log_warn("%s: RBL lookup error", q.name);
	if (r->phase == ASK_TEXT && !is_listed(&r->dns, q.pattern))
		return POLICY_DUNNO;
	if (r->phase == ASK_TEXT)
		return policy_ask_dns(r, q.name, T_TXT);
	return refuse(r, it->text, what, class_name);
}

/* A list must not make a relay of us: not for recipients that are not ours. */
static enum policy_verdict welcome(struct policy_run *r, const struct policy_item *it,
				   const char *what, bool is_addr)
{
	struct question q;

	if (!make_question(it, what, is_addr, &q))
		return POLICY_DUNNO;
	if (r->phase == ASK_ADDRESS && r->event == POLICY_ON_RCPT && r->view->recipient != NULL) {
		int ours = policy_is_auth_dest(r->pc, r->view->recipient);

		if (ours < 0)
			return policy_retry(r, r->view->recipient);
		if (ours == 0)
			return POLICY_DUNNO;
	}
	if (r->phase == ASK_ADDRESS)
		return policy_ask_dns(r, q.name, T_A);
	if (r->dns.status == POLICY_DNS_TEMP) {
		policy_defer_if_reject(r, 450, "4.7.1", "<%s>: %s rejected: Service unavailable",
				       what, policy_class_client);
		return POLICY_DUNNO;
	}
	if (!is_listed(&r->dns, q.pattern))
		return POLICY_DUNNO;
	return policy_permit(r, it->row->name, policy_class_client, r->view->namaddr);
}

enum policy_verdict rs_rbl_client(struct policy_run *r, const struct policy_item *it)
{
	return block(r, it, r->view->client_addr, true, policy_class_client);
}

enum policy_verdict rs_rhsbl_client(struct policy_run *r, const struct policy_item *it)
{
	return block(r, it, policy_known(r->view->client_name), false, policy_class_client);
}

enum policy_verdict rs_rhsbl_reverse(struct policy_run *r, const struct policy_item *it)
{
	return block(r, it, policy_known(r->view->reverse_name), false, policy_class_reverse);
}

enum policy_verdict rs_rhsbl_helo(struct policy_run *r, const struct policy_item *it)
{
	return block(r, it, r->view->helo, false, policy_class_helo);
}

enum policy_verdict rs_rhsbl_sender(struct policy_run *r, const struct policy_item *it)
{
	return block(r, it, r->view->sender, false, policy_class_sender);
}

enum policy_verdict rs_rhsbl_rcpt(struct policy_run *r, const struct policy_item *it)
{
	return block(r, it, r->view->recipient, false, policy_class_rcpt);
}

enum policy_verdict rs_dnswl_client(struct policy_run *r, const struct policy_item *it)
{
	return welcome(r, it, r->view->client_addr, true);
}

enum policy_verdict rs_rhswl_client(struct policy_run *r, const struct policy_item *it)
{
	return welcome(r, it, policy_known(r->view->client_name), false);
}
