/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Milters as the configuration names them: smtpd_milters, non_smtpd_milters and the values of
 * smtpd_milter_maps. Read at start, so that a mistake is found there; never changed after.
 *
 *	inet:host:port, inet6:host:port, unix:path, local:path
 *	{ address, connect_timeout = time, command_timeout = time, content_timeout = time,
 *	  default_action = word, protocol = version [no_header_reply] }
 */
#ifndef PH_WORKERS_MILTER_SPEC_H
#define PH_WORKERS_MILTER_SPEC_H

#include "conf/conf.h"
#include "workers/milter/codec.h"

enum milter_default { /* the words of milter_default_action, in its row's order */
		      MILTER_ON_ERROR_ACCEPT,
		      MILTER_ON_ERROR_REJECT,
		      MILTER_ON_ERROR_TEMPFAIL,
		      MILTER_ON_ERROR_QUARANTINE,
		      MILTER_ON_ERROR_SHUTDOWN,
};

struct milter_spec {
	char *name; /* as written: "inet:localhost:8891" */
	char *host; /* of inet: a name or an address; NULL = a socket with a path */
	char *path; /* absolute */
	uint16_t port;
	int64_t connect_ms, command_ms, content_ms;
	enum milter_default on_error;
	uint32_t version;
	uint32_t steps; /* of this version, offered to the milter */
};

struct milter_list {
	struct milter_spec *specs;
	size_t count;
};

/* One list. Relative paths are below the queue directory, and all paths when the service that asks
 * is said to be in a chroot. `param` is what problems are said of. E_CONFIG. */
int milter_list_parse(const struct params *p, const char *text, const char *param, bool chroot,
		      struct milter_list *l_r, struct conf_diag *d);
void milter_list_free(struct milter_list *l);
/* What a milter of an older version must not be sent. */
uint32_t milter_version_lacks(uint32_t version);

/* ---- macros ---- */

struct milter_macros { /* which ones are sent when: names of the configuration */
	const char *names[MILTER_STAGES];
	const char *defaults; /* milter_macro_defaults */
};

void milter_macros_of(const struct params *p, struct milter_macros *m_r);
/* `value`: of a name with its braces ("{client_addr}", "{i}"); NULL when it has none; must hold
 * until the next call. Appends name, NUL, value, NUL for each that has a value, or a default. */
void milter_macros_add(const char *names, const char *defaults,
		       const char *(*value)(void *ctx, const char *name), void *ctx,
		       struct buf *out);

#endif
