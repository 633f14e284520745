/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who logs in to which server: the smtp_sasl_ and lmtp_sasl_ parameters of a transport and their
 * tables. Called by main.c (tables are opened before the sandbox closes) and connlogin.c.
 */
#ifndef PH_WORKERS_DELIVER_LOGIN_H
#define PH_WORKERS_DELIVER_LOGIN_H

#include "conf/conf.h"
#include "conf/map.h"
#include "workers/deliver/client.h"

struct login_conf {
	struct client_login_conf client;
	const char *param; /* smtp_sasl_password_maps, for the log */
	bool by_sender;    /* smtp_sender_dependent_authentication: no connection is used twice */
	bool remote;       /* look-ups need a memo that is filled by another process */
	char delimiter;    /* smtp_sasl_password_result_delimiter */
	const char *cache; /* smtp_sasl_auth_cache_name; "": failures are not remembered */
	int64_t cache_age_s;
	const char *recipient_delimiter, *myorigin;
	struct map_list *maps;
	struct matchlist *local; /* mydestination: their users may stand in tables without domain */
	struct matchlist *filter; /* smtp_sasl_mechanism_filter; NULL: all pass */
};

/* NULL for a transport that never logs in. On errors adds to d and returns them. */
int login_conf_open(const struct conf *c, const struct conf_transport *ct, struct login_conf **lc_r,
		    struct conf_diag *d);
void login_conf_close(struct login_conf **lc);
/* Fills in user and password for mail of `sender` (internal form; may be empty) that goes to the
 * server `host` because of the next hop `nexthop`, as it is written. With remote tables call it
 * within a memo. MAP_NOT_FOUND: nobody logs in there. */
enum map_status login_find(const struct login_conf *lc, struct sv sender, const char *host,
			   const char *nexthop, struct buf *user, struct buf *password);

#endif
