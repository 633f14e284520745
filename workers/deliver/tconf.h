/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What one transport's deliveries are done with: the smtp_ or lmtp_ parameters of its master.cf
 * service, picked once at start. Also the addresses that are our own, for loop detection.
 */
#ifndef PH_WORKERS_DELIVER_TCONF_H
#define PH_WORKERS_DELIVER_TCONF_H

#include <netinet/in.h>

#include "conf/conf.h"
#include "conf/map.h"
#include "workers/deliver/client.h"

union net_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

struct tconf {
	const char *name; /* of the transport */
	enum transport_kind kind;
	const char *program; /* log tag: smtp, lmtp, error, discard */
	bool retry;          /* TRANSPORT_ERROR: defer instead of bounce */
	struct client_conf client;
	uint16_t port;
	bool mx;                  /* look for MX records */
	bool randomize;           /* smtp_randomize_addresses */
	bool defer_no_mx_address; /* smtp_defer_if_no_mx_address_found */
	bool ignore_mx_error;     /* ignore_mx_lookup_error */
	bool assume_final;   /* lmtp_assume_final or flags=X: what is sent is delivered, not relayed
			      */
	bool want4, want6;   /* inet_protocols */
	bool idna2003;       /* enable_idna2003_compatibility */
	const char *service; /* smtp_tcp_port as written */
	struct matchlist *srv; /* use_srv_lookup: services; NULL = the DNS is not asked for any */
	bool srv_fallback;     /* allow_srv_lookup_fallback */
	bool srv_ignore_error; /* ignore_srv_lookup_error */
	int preference;        /* enum conf_address_preference */
	int64_t mx_address_limit, mx_session_limit;
	bool balance;        /* smtp_balance_inet_protocols: the limit leaves some of each family */
	const char *best_mx; /* best_mx_transport; "": mail that comes back bounces */
	const char *fallback_relay;
	const char *queue_directory;   /* relative LMTP socket paths start here */
	int64_t idle_ms;               /* smtp_connection_cache_time_limit */
	int64_t reuse_ms;              /* smtp_connection_reuse_time_limit */
	int64_t reuse_count;           /* smtp_connection_reuse_count_limit, 0 = none */
	int64_t min_data_rate;         /* bytes/s, with smtp_per_request_deadline; else 0 */
	bool cache;                    /* idle connections are kept */
	struct tls_policy *tls;        /* tlspolicy.h; NULL: no network */
	struct tls_client *tls_client; /* tlsclient.h; NULL: mail travels in the clear */
	struct login_conf *login;      /* login.h; NULL: nobody logs in */
	int64_t min_backoff_ms;        /* minimal_backoff_time */
	struct status_filter *status;  /* workers/common/statusfilter.h */
	struct map_list *reply_filter; /* smtp_reply_filter */
	struct map_list *dns_filter;   /* smtp_dns_reply_filter */
	struct map_list *discard_maps; /* smtp_discard_ehlo_keyword_address_maps */
	struct map_list *pix_maps;     /* smtp_pix_workaround_maps */
	const char *pix_words;         /* smtp_pix_workarounds */
	int64_t pix_delay_ms, pix_threshold_ms;
	unsigned notify; /* notify_classes: CLIENT_TROUBLE_* */
	const char *double_bounce, *myorigin;
	struct matchlist *debug_peers; /* debug_peer_list; NULL: empty */
	struct convert_conf *convert;  /* convert.h: how content is changed on its way out */
	unsigned head_flags;           /* flags= of its line: HEAD_* of headflags.h */
	bool bind4_set, bind6_set;
	bool send_xforward; /* smtp_send_xforward_command */
	bool bind_enforce;  /* smtp_bind_address_enforce: defer rather than use another address */
	union net_addr bind4, bind6;
};

void tconf_load(struct tconf *t, const struct conf *c, const struct conf_transport *ct);

struct own_addrs {
	union net_addr *list;
	size_t count, cap;
};

/* inet_interfaces ("all" = every interface of the machine) and proxy_interfaces. Names in them are
 * looked up, so call it before the sandbox closes. */
void own_addrs_load(struct own_addrs *o, const struct params *p);
void own_addrs_fini(struct own_addrs *o);
bool own_addrs_has(const struct own_addrs *o, const union net_addr *a); /* ports do not count */
bool net_addr_parse(const char *text, uint16_t port, union net_addr *a);
bool net_addr_eq(const union net_addr *a, const union net_addr *b);
socklen_t net_addr_len(const union net_addr *a);
void net_addr_text(const union net_addr *a, char *out, size_t size);

#endif
