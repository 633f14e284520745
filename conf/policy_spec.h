/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Policy services as restriction lists name them: "inet:host:port", "unix:path", or
 * "{ inet:host:port, timeout=10s, default_action=DUNNO ... }". smtp-in reads them when it compiles
 * its lists (policy/compile.c); the lookup worker, which has the connections, finds all of them
 * with policy_spec_each(). The two agree on a text that says everything a connection needs.
 */
#ifndef PH_CONF_POLICY_SPEC_H
#define PH_CONF_POLICY_SPEC_H

#include "conf/conf.h"
#include "conf/map_watch.h"

#define POLICY_SPEC_WHY_SIZE 200

struct policy_spec {
	char *name;     /* as written, for log lines */
	char *endpoint; /* without "inet:" or "unix:", for log lines */
	char *remote;   /* "policy:..." for conf/map_remote.h */
	char *default_action, *context;
	int64_t longest_ms; /* so long an answer may take, with all tries */
};

/* What stands behind "policy:" in `remote`. */
struct policy_target {
	const char *where; /* "inet:host:port", "unix:/path"; a part of the text */
	int64_t timeout_ms, idle_ms, ttl_ms, retry_delay_ms;
	int64_t request_limit, try_limit; /* request_limit 0 = any number */
};

/* `p`: parameters of the service whose list it is. 0, or E_SYNTAX with the reason. */
int policy_spec_parse(const struct params *p, struct sv text, struct policy_spec **spec_r,
		      char why[POLICY_SPEC_WHY_SIZE]);
void policy_spec_free(struct policy_spec **spec);
/* E_SYNTAX: no such text. */
int policy_target_parse(const char *text, struct policy_target *out);
/* Every policy service of the configuration, as its `remote`; perhaps more than once. What does not
 * parse is left out. */
void policy_spec_each(const struct conf *c, map_spec_fn fn, void *ctx);

#endif
