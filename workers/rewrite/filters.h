/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which milters the configuration gives to whom. Read at the start of the rewrite worker; used by
 * filter.c. */
#ifndef PH_WORKERS_REWRITE_FILTERS_H
#define PH_WORKERS_REWRITE_FILTERS_H

#include "conf/map.h"
#include "lib/hash.h"
#include "workers/milter/client.h"
#include "workers/milter/spec.h"

struct filter_conf { /* of a listener, or of a cleanup service */
	const struct params *p;
	struct milter_list list;
	struct milter_macros macros;
	struct map_list *maps;  /* smtpd_milter_maps */
	struct strmap *of_maps; /* lists by what those say, read when they come */
	bool chroot;
	const char *name; /* of the cleanup service */
};

struct filters {
	struct filter_conf *listeners;
	unsigned listener_count;
	struct filter_conf
		*chains; /* non_smtpd_milters by cleanup service; the first is main.cf's */
	unsigned chain_count;
	struct milter_client *client; /* NULL: there are no milters */
	struct dns_client *dns;
	bool used;
};

/* Reads what the configuration says, with the rights of the start. 0 or E_CONFIG. */
int filters_open(const struct conf *c, struct filters *f, struct conf_diag *d);
void filters_close(struct filters *f);
/* The milters of a client; NULL: none. */
const struct milter_list *filters_of_client(const struct filters *f, unsigned listener,
					    const char *addr);
/* Those of mail that names a cleanup service and did not come by SMTP. */
const struct filter_conf *filters_of_mail(const struct filters *f, struct sv cleanup);

#endif
