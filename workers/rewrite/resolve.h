/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From a recipient to (transport, next hop), as Postfix's trivial-rewrite does: the address class
 * of the domain decides (local, virtual alias, virtual mailbox, relay, default, in this order),
 * then relayhost for what leaves this host, then transport_maps on top, then relocated_maps. Called
 * by rewrite for new mail and again whenever a deferred recipient is due.
 */
#ifndef PH_WORKERS_REWRITE_RESOLVE_H
#define PH_WORKERS_REWRITE_RESOLVE_H

#include <stdbool.h>

#include "conf/conf.h"
#include "lib/arena.h"
#include "lib/str.h"

enum addr_class {
	ADDR_CLASS_LOCAL,
	ADDR_CLASS_VIRTUAL_ALIAS,
	ADDR_CLASS_VIRTUAL_MAILBOX,
	ADDR_CLASS_RELAY,
	ADDR_CLASS_DEFAULT
};

struct route {
	struct sv transport; /* a transport of master.cf */
	struct sv nexthop;   /* of error and retry: "x.y.z text" */
	enum addr_class class_id;
};

struct resolver;

/* Opens all tables. p: the parameters of a service, or those of main.cf; they and `c` must outlive
 * it. Problems go to `d`. */
int resolver_open(const struct conf *c, const struct params *p, struct resolver **r_r,
		  struct conf_diag *d);
void resolver_close(struct resolver **r);

/*
 * `rcpt` is complete and in internal form. `filter` ("transport:nexthop", or empty) overrides all.
 * Views in the result point into the configuration, the arguments or the arena. A table that cannot
 * be asked gives the route "retry" with the reason: such mail is kept and tried again. E_LIMIT when
 * the arena is full, else 0.
 */
int resolve(struct resolver *r, struct sv sender, struct sv rcpt, struct sv filter, struct arena *a,
	    struct route *route_r);

/* What is resolved from now on was asked for by a flush: defer_transports does not apply to it. */
void resolver_flush(struct resolver *r, bool flush);
/* ... or is at its best MX host: best_mx_transport of its transport takes it. */
void resolver_best_mx(struct resolver *r, bool best_mx);

/* Is the domain one of ours in the sense of the local class ($mydestination, our own [address])?
 * 1, 0, or negative when a table could not be asked. */
int resolver_is_local(struct resolver *r, struct sv domain);
/* Is a bare user name a key for an address of this domain? Postfix: when it is $myorigin or local.
 * As above. */
int resolver_has_bare_key(struct resolver *r, struct sv domain);
/* Does mydestination, which both ask, have a remote table (conf/map_remote.h)? */
bool resolver_local_is_remote(const struct resolver *r);

#endif
