/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Restrictions about the hosts that serve a name: check_*_a_access, check_*_mx_access and
 * check_*_ns_access look their names and addresses up in an access table. What the DNS does not say
 * is logged and restricts nobody.
 */
#include <string.h>

#include "conf/map_remote.h"
#include "lib/idn.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "policy/policy_int.h"

#define T_A  1
#define T_NS 2
#define T_MX 15

/* ---- check_*_{a,mx,ns}_access ---- */

enum { ASK_HOSTS, HOSTS_ASKED, SEARCH_NAME, SEARCH_ADDRS };

struct subject {
	const char *what; /* a name or a mail address; NULL = nothing to look up */
	struct access_about about;
	uint16_t rrtype;
};

static const char *full(const char *s)
{
	return s != NULL && s[0] != '\0' ? s : NULL;
}

/* Who is looked up stands in the restriction's name, and so does what is asked for. */
static struct subject subject_of(const struct policy_run *r, const char *restriction)
{
	const struct policy_view *v = r->view;
	const struct {
		const char *prefix, *what, *reply_name, *reply_class;
	} subjects[] = {
		{ "check_client_", policy_known(v->client_name), v->namaddr, policy_class_client },
		{ "check_reverse_", policy_known(v->reverse_name), v->reverse_name,
		  policy_class_reverse },
		{ "check_helo_", v->helo, v->helo, policy_class_helo },
		{ "check_sender_", full(v->sender), v->sender, policy_class_sender },
		{ "check_recipient_", full(v->recipient), v->recipient, policy_class_rcpt },
	};
	struct subject s = { .rrtype = T_A };

	for (size_t i = 0; i < ARRAY_LEN(subjects); i++) {
		if (strncmp(restriction, subjects[i].prefix, strlen(subjects[i].prefix)) != 0)
			continue;
		s.what = subjects[i].what;
		s.about = (struct access_about){ subjects[i].reply_name, subjects[i].reply_class };
	}
	if (strstr(restriction, "_mx_access") != NULL)
		s.rrtype = T_MX;
	else if (strstr(restriction, "_ns_access") != NULL)
		s.rrtype = T_NS;
	return s;
}

static const char *type_name(uint16_t rrtype)
{
	return rrtype == T_MX ? "MX" : rrtype == T_NS ? "NS" : "A";
}

/* An address literal is its own mail server, and has no name server. */
static enum policy_verdict literal_access(struct policy_run *r, const struct policy_item *it,
					  const struct subject *s, const char *literal)
{
	enum policy_verdict v = POLICY_DUNNO;
	char text[INET6_ADDRSTRLEN];
	struct sv addr;

	if (s->rrtype != T_NS && mail_literal_parse(sv_from(literal), &addr) &&
	    str_copy(text, sizeof(text), addr))
		policy_access_addr(r, it, &s->about, text, &v);
	return v;
}

static void begin(struct policy_run *r, const struct subject *s, const char *domain)
{
	struct policy_look *l = r->look;
	char ascii[MAIL_HOSTNAME_MAX_BYTES + 1];

	if (idn_to_ascii(domain, r->pc->p->enable_idna2003_compatibility, ascii, sizeof(ascii)))
		domain = arena_strdup(&l->arena, ascii);
	bool numeric = mail_hostaddr_is_valid(sv_from(domain));

	l->domain = domain;
	l->step = numeric || s->rrtype == T_A ? SEARCH_NAME : ASK_HOSTS;
	if (l->step == SEARCH_NAME && s->rrtype != T_NS)
		policy_look_add_host(l, domain, 0);
}

/* The domain above; false when there is none. */
static bool go_up(struct policy_look *l)
{
	const char *dot = strchr(l->domain, '.');

	if (dot == NULL || dot[1] == '\0')
		return false;
	l->domain = dot + 1;
	return true;
}

/* NEED: there is a question. Else the hosts are known, perhaps none. */
static enum policy_verdict find_hosts(struct policy_run *r, const struct subject *s)
{
	struct policy_look *l = r->look;

	for (;;) {
		if (l->step == ASK_HOSTS) {
			l->step = HOSTS_ASKED;
			return policy_ask_dns(r, l->domain, s->rrtype);
		}
		bool none = r->dns.status == POLICY_DNS_NONE || r->dns.status == POLICY_DNS_INVALID;

		l->step = SEARCH_NAME;
		if (none && s->rrtype == T_MX) {
			policy_look_add_host(l, l->domain, 0);
		} else if (none && go_up(l)) {
			l->step = ASK_HOSTS;
			continue;
		} else if (none || r->dns.status == POLICY_DNS_TEMP) {
			log_warn("Unable to look up %s host for %s: %s", type_name(s->rrtype),
				 none ? s->what : l->domain,
				 policy_dns_text(r->dns.status, r->dns.nodata));
		}
		return POLICY_DUNNO;
	}
}

/* The addresses of the host going on. True when the search is over. */
static bool search_addrs(struct policy_run *r, const struct policy_item *it,
			 const struct subject *s, enum policy_verdict *v_r)
{
	struct policy_look *l = r->look;

	if (l->status != POLICY_DNS_OK && s->rrtype != T_A)
		log_warn("Unable to look up %s host %s for %s %s: %s", type_name(s->rrtype),
			 l->hosts[l->host].name, s->about.reply_class, s->about.reply_name,
			 policy_host_text(l->status, l->nodata));
	for (unsigned i = 0; i < l->addr_count; i++) {
		if (l->addr_total + i >= LOOK_MAX) {
			log_warn("%s server address count limit (%u) exceeded for %s %s -- "
				 "ignoring the remainder",
				 type_name(s->rrtype), LOOK_MAX, s->about.reply_class,
				 s->about.reply_name);
			return true;
		}
		if (policy_access_addr(r, it, &s->about, l->addrs[i], v_r))
			return true;
	}
	return map_memo_is_missing();
}

/* Names come before addresses, host by host. A walk that waits for a table comes back to the place
 * where it was. */
static enum policy_verdict search_hosts(struct policy_run *r, const struct policy_item *it,
					const struct subject *s)
{
	struct policy_look *l = r->look;
	enum policy_verdict v = POLICY_DUNNO;

	for (; l->host < l->host_count; policy_look_go(l, l->host + 1)) {
		const char *host = l->hosts[l->host].name;
		bool numeric = mail_hostaddr_is_valid(sv_from(host));

		if (l->step == SEARCH_NAME) {
			if (numeric ? policy_access_addr(r, it, &s->about, host, &v)
				    : s->rrtype != T_A &&
					      policy_access_name(r, it, &s->about, host, &v))
				return v;
			if (map_memo_is_missing())
				return v;
			l->step = SEARCH_ADDRS;
		}
		if (!numeric && !policy_look_addrs(r))
			return POLICY_NEED;
		if (!numeric && search_addrs(r, it, s, &v))
			return v;
		l->step = SEARCH_NAME;
	}
	return POLICY_DUNNO;
}

enum policy_verdict rs_server_access(struct policy_run *r, const struct policy_item *it)
{
	struct subject s = subject_of(r, it->row->name);
	enum policy_verdict v = POLICY_DUNNO;
	const char *at, *domain;
	bool fresh;

	if (s.what == NULL)
		return POLICY_DUNNO;
	at = strrchr(s.what, '@');
	domain = at != NULL ? at + 1 : s.what;
	if (domain[0] == '[') {
		v = literal_access(r, it, &s, domain);
	} else {
		policy_look(r, &fresh);
		if (fresh)
			begin(r, &s, domain);
		if (r->look->step <= HOSTS_ASKED)
			v = find_hosts(r, &s);
		if (v != POLICY_NEED)
			v = search_hosts(r, it, &s);
	}
	return policy_forbid_permit(r, it, v, s.what);
}
