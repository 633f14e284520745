/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What holds for all sessions of one listener: parameters with the -o of its master.cf line,
 * compiled restrictions, match lists, EHLO keywords. Made at start, read-only after.
 */
#ifndef PH_WORKERS_SMTP_IN_LISTENER_H
#define PH_WORKERS_SMTP_IN_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/map.h"
#include "policy/policy.h"

enum client_rate {
	RATE_CONNECTIONS,
	RATE_MESSAGES,
	RATE_RECIPIENTS,
	RATE_AUTHS,
	RATE_TLS_SESSIONS,
	RATE_COUNT
};

struct listener_tls;
struct screen_conf;

/* EHLO keywords in the order they are announced; bits of a discard mask. */
enum ehlo_keyword {
	EHLO_PIPELINING,
	EHLO_SIZE,
	EHLO_VRFY,
	EHLO_ETRN,
	EHLO_STARTTLS,
	EHLO_AUTH,
	EHLO_VERP,
	EHLO_XCLIENT,
	EHLO_XFORWARD,
	EHLO_ENHANCEDSTATUSCODES,
	EHLO_8BITMIME,
	EHLO_DSN,
	EHLO_SMTPUTF8,
	EHLO_CHUNKING,
	EHLO_REQUIRETLS,
	EHLO_SILENT_DISCARD, /* not a keyword: do not log what is discarded */
	EHLO_KEYWORD_COUNT
};

#define EHLO_LINE_SIZE 512

struct listener {
	const struct conf_service *service;
	const struct params *p;
	struct policy_conf *policy;
	char *service_name; /* as log lines show it */
	char *log_name;     /* "smtpd", with the syslog_name of the service if it has one */
	struct matchlist *bare_newline_exclusions, *limit_exceptions, *noop_commands,
		*forbidden_commands, *verp_clients, *xclient_hosts, *xforward_hosts,
		*sasl_exceptions;
	struct map_list *discard_maps;
	struct map_list *reject_filter_maps, *reject_footer_maps, *command_filter, *dns_filter;
	struct listener_tls *tls;         /* NULL = none */
	const struct screen_conf *screen; /* postscreen in front; NULL = none; the server's */
	uint32_t discard_mask;
	const char *stress;  /* "yes" while it is overloaded, else "" */
	const char *cleanup; /* cleanup_service_name, "" for the usual one */
	uint32_t env_flags;  /* ENVF_* that receive_override_options gives every message */
	unsigned index;      /* conf_listener() */
	bool sasl;           /* clients may log in */
	bool milters;        /* sessions may have some */
	struct matchlist *debug_peers; /* debug_peer_list */
	unsigned notify_mask;          /* notify_classes: TROUBLE_* */
	bool has_filter;               /* smtpd_proxy_filter */
	bool speed_adjust;             /* smtpd_proxy_options */
	bool qmqp;                     /* it speaks QMQP (qmqp.h) */
	bool borrowed;                 /* all but p belongs to another one */
};

/* Problems go to d. E_CONFIG when there were errors. */
int listener_init(struct listener *l, const struct conf *c, const struct conf_service *s,
		  struct conf_diag *d);
/* The same under stress. What it has in common with `normal` is not made twice when only numbers
 * differ, as with our defaults. */
int listener_init_stress(struct listener *l, const struct listener *normal, const struct conf *c,
			 struct conf_diag *d);
/* receive_override_options: what the rest of the way leaves out, as ENVF_* added to *flags_r. For
 * pickup, too. E_CONFIG with a diagnostic. */
int listener_overrides(const struct params *p, struct conf_diag *d, uint32_t *flags_r);
/* For one session of the user who runs us (sendmail -bs): no restrictions, `policy` is NULL. */
int listener_init_alone(struct listener *l, const struct conf *c, struct conf_diag *d);
void listener_fini(struct listener *l);
/* Mask of "silent-discard, dsn ..."; unknown words are returned in bad_r (first one, or empty). */
uint32_t listener_discard_mask(const char *words, struct sv *bad_r);
/* The keywords of a mask as log lines show them, each with a blank in front. */
void listener_discard_text(uint32_t mask, struct buf *out);
/* The text announced for a keyword, or false when it is not on offer. */
bool listener_ehlo_keyword(const struct listener *l, enum ehlo_keyword k, uint32_t discard,
			   char out[EHLO_LINE_SIZE]);

#endif
