/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What holds for all clients of one postscreen listener: parameters with the -o of its master.cf
 * line, access list, DNS lists. Made at start, read-only after; see screen.h for what is done with
 * it.
 */
#ifndef PH_WORKERS_SMTP_IN_SCREENCONF_H
#define PH_WORKERS_SMTP_IN_SCREENCONF_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/map.h"
#include "workers/smtp_in/screentalk.h"

struct screen_filter {
	char *pattern; /* NULL = any answer (policy/rbl_pattern.h) */
	int weight;    /* below zero: it speaks for the client */
};

/* One list in the DNS with all that postscreen_dnsbl_sites says of it. */
struct screen_list {
	char *domain;
	struct screen_filter *filters;
	unsigned filter_count;
};

enum screen_access {
	SCREEN_ACCESS_DUNNO,
	SCREEN_ACCESS_PERMIT,
	SCREEN_ACCESS_REJECT,
	SCREEN_ACCESS_ERROR, /* the rest of the list is passed over */
};

struct screen_rule;

struct screen_conf {
	const struct params *p;
	char *log_name, *dnsblog_name;
	char *teaser; /* first line of the greeting with CRLF; NULL = clients need not wait */
	int64_t greet_wait_ms, stress_greet_wait_ms;
	unsigned enabled; /* SCREEN_BIT()s of tests */
	enum screen_action denied, pregreet, dnsbl;
	bool has_cache;
	struct screen_rule *rules; /* postscreen_access_list */
	unsigned rule_count;
	struct matchlist *mynetworks, *interfaces;
	struct map_list *reply_map; /* names of lists for clients: domains may be secrets */
	struct screen_list *lists;
	unsigned list_count;
	struct screentalk_conf talk;
	struct params *tls_params; /* with postscreen_tls_... in the place of smtpd_tls_... */
	char *footer, *expansion_filter;
};

/* s: the line of postscreen. Problems go to d; E_CONFIG when there were errors. */
int screen_conf_new(const struct conf *c, const struct conf_service *s, struct conf_diag *d,
		    struct screen_conf **k_r);
void screen_conf_free(struct screen_conf **k);

/* Within a memo (conf/map_remote.h), and worth nothing when that lacks an answer. */
enum screen_access screen_conf_access(const struct screen_conf *k, const char *addr);
/* The name of a list that clients are told. */
void screen_conf_shown(const struct screen_conf *k, const char *domain, struct buf *out);
/* May a client pass at this address of ours? */
bool screen_conf_may_pass(const struct screen_conf *k, const char *server_addr);

#endif
