/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Address resolution; see workers/rewrite/resolve.h. */
#include "workers/rewrite/resolve.h"

#include <string.h>

#include "conf/map.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/rewrite/ownaddr.h"

#define TRANSPORT_NAME_SIZE 128

struct resolver {
	const struct conf *conf;
	const struct params *p;
	struct ownaddr *own;
	struct matchlist *mydestination;
	struct matchlist *virtual_alias_domains;
	struct matchlist *virtual_mailbox_domains;
	struct matchlist *relay_domains;
	struct map_list *transport_maps;
	struct map_list *relocated_maps;
	struct map_list *sender_relayhost;
	struct map_list *sender_transport;
	bool transport_parents; /* transport_maps is in parent_domain_matches_subdomains */
	bool best_mx;           /* what is resolved is at its best MX host */
	bool flush;             /* what is resolved was asked for: defer_transports is for others */
	struct buf value;       /* of the table asked last */
};

/* ---- tables ---- */

struct list_desc {
	size_t offset;
	const char *name;
	size_t param; /* in struct params */
};

#define LIST(member, param)                                                                        \
	{                                                                                          \
		offsetof(struct resolver, member), #param, offsetof(struct params, param)          \
	}

static const struct list_desc match_descs[] = {
	LIST(mydestination, mydestination),
	LIST(virtual_alias_domains, virtual_alias_domains),
	LIST(virtual_mailbox_domains, virtual_mailbox_domains),
	LIST(relay_domains, relay_domains),
};

static const struct list_desc map_descs[] = {
	LIST(transport_maps, transport_maps),
	LIST(relocated_maps, relocated_maps),
	LIST(sender_relayhost, sender_dependent_relayhost_maps),
	LIST(sender_transport, sender_dependent_default_transport_maps),
};

static void *member(struct resolver *r, size_t offset)
{
	return (char *)r + offset;
}

static const char *param_of(const struct resolver *r, const struct list_desc *desc)
{
	return *(const char *const *)((const char *)r->p + desc->param);
}

static int open_lists(struct resolver *r, struct conf_diag *d)
{
	int err = 0;

	for (size_t i = 0; i < ARRAY_LEN(match_descs); i++) {
		int e = matchlist_open(r->conf, param_of(r, &match_descs[i]), match_descs[i].name,
				       MATCHLIST_DOMAIN, member(r, match_descs[i].offset), d);

		err = err == 0 ? e : err;
	}
	for (size_t i = 0; i < ARRAY_LEN(map_descs); i++) {
		int e = map_list_open(r->conf, param_of(r, &map_descs[i]), map_descs[i].name,
				      member(r, map_descs[i].offset), d);

		err = err == 0 ? e : err;
	}
	return err;
}

static bool list_has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; (p = strstr(p, word)) != NULL; p += len) {
		if ((p == list || strchr(", \t\r\n", p[-1]) != NULL) &&
		    (p[len] == '\0' || strchr(", \t\r\n", p[len]) != NULL))
			return true;
	}
	return false;
}

int resolver_open(const struct conf *c, const struct params *p, struct resolver **r_r,
		  struct conf_diag *d)
{
	struct resolver *r = xcalloc(1, sizeof(*r));
	int err;

	r->conf = c;
	r->p = p;
	r->transport_parents =
		list_has_word(r->p->parent_domain_matches_subdomains, "transport_maps");
	r->own = ownaddr_new(r->p->inet_interfaces, r->p->proxy_interfaces);
	err = open_lists(r, d);
	if (err < 0)
		resolver_close(&r);
	*r_r = r;
	return err;
}

void resolver_close(struct resolver **rp)
{
	struct resolver *r = *rp;

	if (r == NULL)
		return;
	for (size_t i = 0; i < ARRAY_LEN(match_descs); i++)
		matchlist_close(member(r, match_descs[i].offset));
	for (size_t i = 0; i < ARRAY_LEN(map_descs); i++)
		map_list_close(member(r, map_descs[i].offset));
	ownaddr_free(&r->own);
	buf_fini(&r->value);
	free(r);
	*rp = NULL;
}

/* ---- small pieces ---- */

static struct sv keep(struct arena *a, struct sv s)
{
	char *p = arena_strndup(a, s.p, s.len);

	return p != NULL ? (struct sv){ p, s.len } : (struct sv){ "", 0 };
}

/* "transport:nexthop" over what the route has; an empty part leaves its field, except that a
 * transport alone sets the next hop to `domain`. */
static void apply_spec(struct route *route, struct sv spec, struct sv domain)
{
	const char *colon = spec.len > 0 ? memchr(spec.p, ':', spec.len) : NULL;
	struct sv transport = { spec.p, colon != NULL ? (size_t)(colon - spec.p) : spec.len };
	struct sv nexthop = { "", 0 };

	if (colon != NULL)
		nexthop = sv_trim((struct sv){ colon + 1, spec.len - transport.len - 1 });
	transport = sv_trim(transport);
	if (transport.len > 0) {
		route->transport = transport;
		route->nexthop = domain;
	}
	if (nexthop.len > 0)
		route->nexthop = nexthop;
}

static void route_retry(struct route *route, const char *why)
{
	route->transport = SV("retry");
	route->nexthop = sv_from(why);
}

int resolver_is_local(struct resolver *r, struct sv domain)
{
	struct sv addr;

	if (domain.len > 0 && domain.p[0] == '[' && mail_literal_parse(domain, &addr))
		return ownaddr_has(r->own, addr);
	return matchlist_has_domain(r->mydestination, domain);
}

bool resolver_local_is_remote(const struct resolver *r)
{
	return matchlist_is_remote(r->mydestination);
}

int resolver_has_bare_key(struct resolver *r, struct sv domain)
{
	return sv_eq_nocase(domain, sv_from(r->p->myorigin)) ? 1 : resolver_is_local(r, domain);
}

/* ---- class ---- */

static int find_class(struct resolver *r, struct sv domain, enum addr_class *class_r)
{
	const struct {
		struct matchlist *list;
		enum addr_class class_id;
	} tests[] = {
		{ r->virtual_alias_domains, ADDR_CLASS_VIRTUAL_ALIAS },
		{ r->virtual_mailbox_domains, ADDR_CLASS_VIRTUAL_MAILBOX },
		{ r->relay_domains, ADDR_CLASS_RELAY },
	};
	int hit = resolver_is_local(r, domain);

	*class_r = ADDR_CLASS_LOCAL;
	if (hit != 0)
		return hit < 0 ? hit : 0;
	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		hit = matchlist_has_domain(tests[i].list, domain);
		*class_r = tests[i].class_id;
		if (hit != 0)
			return hit < 0 ? hit : 0;
	}
	*class_r = ADDR_CLASS_DEFAULT;
	return 0;
}

/* A sender-dependent table: value in r->value. */
static enum map_status ask_sender(struct resolver *r, struct map_list *l, struct sv sender,
				  const char *empty_key)
{
	struct sv ext;
	enum map_status st;

	if (map_list_is_empty(l))
		return MAP_NOT_FOUND;
	buf_reset(&r->value);
	if (sender.len == 0)
		st = map_list_get(l, sv_from(empty_key), &r->value);
	else
		st = map_list_get_addr(l, sender, r->p->recipient_delimiter, false, &r->value,
				       &ext);
	if (st == MAP_FOUND && sv_eq_nocase(buf_sv(&r->value), SV("DUNNO")))
		st = MAP_NOT_FOUND;
	return st;
}

/* Next hop for what leaves this host. */
static bool set_relayhost(struct resolver *r, struct sv sender, struct arena *a,
			  struct route *route)
{
	switch (ask_sender(r, r->sender_relayhost, sender,
			   r->p->empty_address_relayhost_maps_lookup_key)) {
	case MAP_FOUND:
		route->nexthop = keep(a, buf_sv(&r->value));
		return true;
	case MAP_ERROR:
		return false;
	case MAP_NOT_FOUND:
		break;
	}
	if (r->p->relayhost[0] != '\0')
		route->nexthop = sv_from(r->p->relayhost);
	return true;
}

/* The default class: transport from default_transport or the sender's own one. */
static bool set_default(struct resolver *r, struct sv sender, struct arena *a, struct route *route)
{
	struct sv spec = sv_from(r->p->default_transport), relay;

	switch (ask_sender(r, r->sender_transport, sender,
			   r->p->empty_address_default_transport_maps_lookup_key)) {
	case MAP_FOUND:
		spec = keep(a, buf_sv(&r->value));
		break;
	case MAP_ERROR:
		return false;
	case MAP_NOT_FOUND:
		break;
	}
	if (!set_relayhost(r, sender, a, route))
		return false;
	relay = route->nexthop;
	apply_spec(route, spec, relay);
	return true;
}

static bool set_relay(struct resolver *r, struct sv sender, struct arena *a, struct route *route)
{
	struct sv relay;

	if (!set_relayhost(r, sender, a, route))
		return false;
	relay = route->nexthop;
	apply_spec(route, sv_from(r->p->relay_transport), relay);
	return true;
}

/* What the class alone says. False when a table could not be asked. */
static bool set_class_route(struct resolver *r, struct sv sender, struct sv domain, struct arena *a,
			    struct route *route)
{
	if (find_class(r, domain, &route->class_id) < 0)
		return false;
	route->nexthop = domain;
	switch (route->class_id) {
	case ADDR_CLASS_LOCAL:
		route->transport = SV("local");
		apply_spec(route, sv_from(r->p->local_transport), domain);
		return true;
	case ADDR_CLASS_VIRTUAL_ALIAS:
		route->transport = SV("error");
		route->nexthop = r->p->show_user_unknown_table_name
					 ? SV("5.1.1 User unknown in virtual alias table")
					 : SV("5.1.1 User unknown");
		return true;
	case ADDR_CLASS_VIRTUAL_MAILBOX:
		apply_spec(route, sv_from(r->p->virtual_transport), domain);
		return true;
	case ADDR_CLASS_RELAY:
		return set_relay(r, sender, a, route);
	case ADDR_CLASS_DEFAULT:
		break;
	}
	return set_default(r, sender, a, route);
}

/* ---- transport_maps ---- */

static bool set_transport_map(struct resolver *r, struct sv rcpt, struct sv domain, struct arena *a,
			      struct route *route)
{
	enum map_status st =
		map_list_get_transport(r->transport_maps, rcpt, r->p->recipient_delimiter,
				       r->transport_parents, &r->value);

	if (st == MAP_FOUND)
		apply_spec(route, keep(a, buf_sv(&r->value)), domain);
	return st != MAP_ERROR;
}

static bool set_relocated(struct resolver *r, struct sv rcpt, struct arena *a, struct route *route)
{
	struct sv ext;
	enum map_status st;
	const char *text;

	buf_reset(&r->value);
	st = map_list_get_addr(r->relocated_maps, rcpt, r->p->recipient_delimiter,
			       route->class_id == ADDR_CLASS_LOCAL, &r->value, &ext);
	if (st != MAP_FOUND)
		return st != MAP_ERROR;
	text = arena_printf(a, r->p->relocated_prefix_enable ? "5.1.6 User has moved to %s" : "%s",
			    buf_cstr(&r->value));
	route->transport = SV("error");
	route->nexthop = text != NULL ? sv_from(text) : SV("5.1.6 User has moved");
	return true;
}

/* ---- all together ---- */

static bool transport_exists(const struct resolver *r, struct sv name)
{
	char text[TRANSPORT_NAME_SIZE];

	return str_copy(text, sizeof(text), name) && conf_transport_find(r->conf, text) != NULL;
}

static void check_transport(const struct resolver *r, struct sv rcpt, struct route *route)
{
	if (transport_exists(r, route->transport))
		return;
	log_warn("connect to transport private/%.*s: no such transport in master.cf; mail for "
		 "<%.*s> waits",
		 (int)route->transport.len, route->transport.p, (int)rcpt.len, rcpt.p);
	route_retry(route, "4.3.0 mail transport unavailable");
}

void resolver_flush(struct resolver *r, bool flush)
{
	r->flush = flush;
}

void resolver_best_mx(struct resolver *r, bool best_mx)
{
	r->best_mx = best_mx;
}

/* Its client has found that the mail would come back to it. */
static void take_best_mx(const struct resolver *r, struct route *route)
{
	char name[TRANSPORT_NAME_SIZE];
	const struct conf_transport *t = str_copy(name, sizeof(name), route->transport)
						 ? conf_transport_find(r->conf, name)
						 : NULL;

	if (t != NULL && t->kind == TRANSPORT_SMTP)
		apply_spec(route, sv_from(t->params->best_mx_transport), route->nexthop);
}

static void hold_back(const struct resolver *r, struct route *route)
{
	char name[TRANSPORT_NAME_SIZE];
	const char *list = conf_params(r->conf)->defer_transports;

	if (list[0] != '\0' && !r->flush && str_copy(name, sizeof(name), route->transport) &&
	    list_has_word(list, name))
		route_retry(route, "4.3.2 deferred transport");
}

/* What the SMTP server refuses may still come from a table or from sendmail. */
static bool domain_is_valid(const struct resolver *r, struct sv domain)
{
	struct sv addr;

	if (domain.p[0] == '[')
		return mail_literal_parse(domain, &addr);
	return mail_hostname_is_valid(domain) &&
	       (r->p->smtputf8_enable || str_is_ascii(domain.p, domain.len));
}

int resolve(struct resolver *r, struct sv sender, struct sv rcpt, struct sv filter, struct arena *a,
	    struct route *route)
{
	struct sv local, domain;
	bool asked;

	*route = (struct route){ .class_id = ADDR_CLASS_DEFAULT };
	if (!mail_addr_split(rcpt, &local, &domain) || domain.len == 0)
		domain = sv_from(r->p->myorigin);
	asked = set_class_route(r, sender, domain, a, route);
	if (asked && filter.len > 0)
		apply_spec(route, filter,
			   r->p->default_filter_nexthop[0] != '\0'
				   ? sv_from(r->p->default_filter_nexthop)
				   : domain);
	if (asked && filter.len == 0 && !map_list_is_empty(r->transport_maps))
		asked = set_transport_map(r, rcpt, domain, a, route);
	if (asked && filter.len == 0 && !map_list_is_empty(r->relocated_maps))
		asked = set_relocated(r, rcpt, a, route);
	if ((!r->p->allow_min_user && rcpt.len > 0 && rcpt.p[0] == '-') ||
	    !domain_is_valid(r, domain)) {
		route->transport = SV("error");
		route->nexthop = SV("5.1.3 bad address syntax");
	}
	if (!asked) /* or not yet: then nobody looks at this route */
		route_retry(route, "4.3.0 Address lookup failure");
	else if (r->best_mx)
		take_best_mx(r, route);
	if (asked)
		check_transport(r, rcpt, route);
	hold_back(r, route);
	return a->full ? E_LIMIT : 0;
}
