/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by the files of policy/: table rows, compiled items, what the restrictions call. */
#ifndef PH_POLICY_POLICY_INT_H
#define PH_POLICY_POLICY_INT_H

#include <netinet/in.h>

#include "conf/map.h"
#include "conf/policy_spec.h"
#include "lib/hash.h"
#include "policy/own_addr.h"
#include "policy/policy.h"

/* A table row pushed a nested list: the walk goes on there. Never leaves policy/. */
#define POLICY_PUSHED ((enum policy_verdict)100)

enum policy_list {
	LIST_CLIENT,
	LIST_HELO,
	LIST_SENDER,
	LIST_RELAY,
	LIST_RCPT,
	LIST_DATA,
	LIST_EOD,
	LIST_ETRN,
	LIST_COUNT
};

enum { /* bits for struct restriction.lists */
       IN_CLIENT = 1 << LIST_CLIENT,
       IN_HELO = 1 << LIST_HELO,
       IN_SENDER = 1 << LIST_SENDER,
       IN_RELAY = 1 << LIST_RELAY,
       IN_RCPT = 1 << LIST_RCPT,
       IN_DATA = 1 << LIST_DATA,
       IN_EOD = 1 << LIST_EOD,
       IN_ETRN = 1 << LIST_ETRN,
       IN_ANY = (1 << LIST_COUNT) - 1,
       FROM_HELO = IN_ANY & ~IN_CLIENT,
       FROM_SENDER = IN_SENDER | IN_RELAY | IN_RCPT | IN_DATA | IN_EOD,
       FROM_RCPT = IN_RELAY | IN_RCPT | IN_DATA | IN_EOD,
};

enum policy_arg { ARG_NONE, ARG_MAP, ARG_NUMBER, ARG_TEXT, ARG_SERVICE };

typedef enum policy_verdict (*restriction_fn)(struct policy_run *r, const struct policy_item *it);

struct restriction {
	const char *name;
	const char *alias; /* older name, NULL = none */
	restriction_fn fn; /* NULL: a removed one, or warn_next */
	const char *text;  /* one line for the manual */
	enum policy_arg arg;
	unsigned lists;    /* where its facts exist when smtpd_delay_reject = no */
	bool guards_relay; /* counts as protection against open relaying */
	bool warn_next;    /* warn_if_reject */
	bool ends_list;    /* what follows is never reached */
	bool removed;      /* an error, as Postfix has dropped it */
};

extern const struct restriction restriction_table[];
extern const unsigned restriction_count;
/* NULL when there is no such row. Names compare without case. */
const struct restriction *restriction_find(struct sv name);

struct policy_class {
	char *name;
	struct policy_item *items;
	unsigned count;
	bool busy; /* being compiled: a use now is a cycle */
	bool ready;
	bool bad; /* ready, but not to be used */
	struct policy_class *next;
};

enum { POLICY_BY_CERT = 1, POLICY_BY_KEY = 2 }; /* search_order of check_ccert_access */

struct policy_item { /* exactly one of row, cls is set; a bare type:table has only map */
	const struct restriction *row;
	const struct policy_class *cls;
	struct map *map;
	struct policy_spec *service;
	unsigned number; /* of check_ccert_access: the search order, 0 = the usual one */
	char *text;      /* argument as written */
};

struct policy_lst {
	struct policy_item *items;
	unsigned count;
};

struct policy_conf {
	const struct conf *conf;
	const struct conf_service *service;
	const struct params *p;
	struct policy_lst lists[LIST_COUNT];
	struct policy_class *classes;
	struct strmap *dynamic; /* restriction lists found in access tables, compiled once */
	uint8_t plans[POLICY_EVENT_COUNT][12];

	struct own_addrs own;
	struct matchlist *mynetworks, *mydestination, *virtual_alias_domains,
		*virtual_mailbox_domains, *relay_domains;
	struct map_list *local_recipient_maps, *virtual_alias_maps, *virtual_mailbox_maps,
		*relay_recipient_maps, *canonical_maps, *sender_canonical_maps,
		*recipient_canonical_maps, *transport_maps, *relocated_maps, *relay_clientcerts;
	struct policy_item *rewrite_clients; /* local_header_rewrite_clients */
	unsigned rewrite_client_count;
	struct map_list *rbl_reply_maps, *sender_login_maps;
	struct matchlist *log_permits;        /* smtpd_log_access_permit_actions */
	struct matchlist *mx_backup_networks; /* permit_mx_backup_networks */
	bool access_parent;        /* smtpd_access_maps in parent_domain_matches_subdomains */
	bool transport_parents;    /* transport_maps there */
	bool skip_unlisted;        /* receive_override_options = no_unknown_recipient_checks */
	bool want4, want6;         /* inet_protocols */
	struct addr_resolved rcpt; /* scratch */
	struct buf value;          /* scratch: table answers */
	struct buf key;            /* scratch: table keys */
};

/* compile.c */
int policy_compile(struct policy_conf *pc, const char *param, const char *text,
		   struct policy_lst *out, struct conf_diag *d);
void policy_items_free(struct policy_item *items, unsigned count);
/* A list from an access table; NULL when it is not one (then the reason was logged). */
const struct policy_lst *policy_dynamic(struct policy_conf *pc, const char *text);

/* run.c */
void policy_plans_make(struct policy_conf *pc);

/* access.c: the text behind an enhanced status code, which goes to `dsn`; without one that is
 * `dflt`. */
const char *policy_split_dsn(const char *text, const char *dflt, char dsn[12]);

/* run.c: verdicts */
enum policy_verdict policy_reject(struct policy_run *r, int64_t code, const char *dsn,
				  const char *fmt, ...) PRINTF_LIKE(4, 5);
/* A permit, which smtpd_log_access_permit_actions may want in the log under that name. */
enum policy_verdict policy_permit(struct policy_run *r, const char *action, const char *reply_class,
				  const char *reply_name);
/* Trouble of ours: warn_if_reject does not soften it. */
enum policy_verdict policy_trouble(struct policy_run *r, int64_t code, const char *dsn,
				   const char *fmt, ...) PRINTF_LIKE(4, 5);
enum policy_verdict policy_defer_if_permit(struct policy_run *r, int64_t code, const char *dsn,
					   const char *fmt, ...) PRINTF_LIKE(4, 5);
/* 450, as a parameter ..._tempfail_action says. */
enum policy_verdict policy_tempfail(struct policy_run *r, int action, const char *dsn,
				    const char *fmt, ...) PRINTF_LIKE(4, 5);
void policy_defer_if_reject(struct policy_run *r, int64_t code, const char *dsn, const char *fmt,
			    ...) PRINTF_LIKE(4, 5);
enum policy_verdict policy_push(struct policy_run *r, const struct policy_item *items,
				unsigned count, const char *reply_name, const char *reply_class,
				int def_acl, bool doubtful);
enum policy_verdict policy_ask_dns(struct policy_run *r, const char *name, uint16_t rrtype);
enum policy_verdict policy_retry(struct policy_run *r, const char *what); /* 451 lookup failure */
enum policy_verdict policy_misconfigured(struct policy_run *r);           /* 451 4.3.5 */
const struct policy_frame *policy_top(const struct policy_run *r);

extern const char policy_class_client[], policy_class_helo[], policy_class_sender[],
	policy_class_rcpt[], policy_class_data[], policy_class_eod[], policy_class_etrn[],
	policy_class_reverse[], policy_class_login[];

/* access.c: searches the table of an access restriction for a host, by name (and parent domains)
 * or by address (and networks). True when the search is over: *v_r is the verdict. */
struct access_about {
	const char *reply_name, *reply_class;
};
bool policy_access_name(struct policy_run *r, const struct policy_item *it,
			const struct access_about *about, const char *name,
			enum policy_verdict *v_r);
bool policy_access_addr(struct policy_run *r, const struct policy_item *it,
			const struct access_about *about, const char *addr,
			enum policy_verdict *v_r);
/* What those who are judged have in their own hands must not let them through: a permit for
 * `whom` is a mistake of the table. */
enum policy_verdict policy_forbid_permit(struct policy_run *r, const struct policy_item *it,
					 enum policy_verdict v, const char *whom);

/* look.c: the hosts of a domain and their addresses, for entries that ask the DNS more than once */
#define LOOK_MAX 100u

struct look_host {
	uint16_t pref;
	const char *name;
};

struct policy_look { /* until the entry is done */
	struct arena arena;
	unsigned step;                          /* the entry's own */
	const char *domain;                     /* asked for */
	struct look_host hosts[LOOK_MAX];       /* in the answer's order */
	unsigned host_count, host;              /* all; the one going on */
	char addrs[LOOK_MAX][INET6_ADDRSTRLEN]; /* of that one */
	unsigned addr_count;
	unsigned addr_total;           /* of those before it */
	unsigned asked;                /* questions for its addresses */
	enum policy_dns_status status; /* of these: OK, TEMP, or NONE */
	bool nodata;
};
/* The look of the entry going on; *fresh_r when it begins. */
struct policy_look *policy_look(struct policy_run *r, bool *fresh_r);
void policy_look_end(struct policy_run *r);
void policy_look_add_host(struct policy_look *l, const char *name, uint16_t pref);
/* Go to a host. */
void policy_look_go(struct policy_look *l, unsigned host);
/* False: run->need has the next question for the host's addresses. */
bool policy_look_addrs(struct policy_run *r);
/* Postfix's words for what came of a question, and of those for a host's addresses. */
const char *policy_dns_text(enum policy_dns_status status, bool nodata);
const char *policy_host_text(enum policy_dns_status status, bool nodata);

/* check_dest.c. 1: ours to deliver or to relay; 0: not; negative: a table could not be asked. */
int policy_is_auth_dest(struct policy_conf *pc, const char *rcpt);

/* resolve.c */
bool policy_valid_hostname(struct sv name, bool utf8);
/* 1 local, 0 not, negative: a table could not be asked. */
int policy_is_local_domain(struct policy_conf *pc, struct sv domain);
/* A client's name; NULL when there is none. */
const char *policy_known(const char *name);

/* access.c: what an access(5) result asks for; `table` said it */
enum policy_verdict policy_access_result(struct policy_run *r, const char *table, const char *value,
					 const char *datum, const char *reply_name,
					 const char *reply_class, bool doubtful);
const char *policy_fix_dsn(const char *dsn, const char *reply_class, char out[12]);

/* restrictions, one function per row */
enum policy_verdict rs_permit(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_reject(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_defer(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_defer_if_permit(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_defer_if_reject(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_sleep(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unauth_pipelining(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_plaintext_session(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_mynetworks(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_inet_interfaces(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_sasl_authenticated(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_policy_service(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_tls_clientcerts(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_tls_all_clientcerts(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_ccert_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unknown_client(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unknown_reverse(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_rbl_client(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_rhsbl_client(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_rhsbl_reverse(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_rhsbl_helo(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_rhsbl_sender(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_rhsbl_rcpt(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_dnswl_client(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_rhswl_client(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_client_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_reverse_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_helo_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_sender_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_recipient_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_server_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_etrn_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_invalid_helo(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_non_fqdn_helo(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unknown_helo(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_non_fqdn_sender(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_non_fqdn_recipient(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unknown_sender(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unknown_recipient(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unlisted_sender(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unlisted_recipient(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_permit_auth_dest(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_reject_unauth_dest(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_defer_unauth_dest(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_mx_backup(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_sasl_access(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_login_mismatch(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_auth_login_mismatch(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_known_login_mismatch(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unauth_login_mismatch(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unverified_sender(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_unverified_recipient(struct policy_run *r, const struct policy_item *it);
enum policy_verdict rs_multi_bounce(struct policy_run *r, const struct policy_item *it);

#endif
