/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Configuration: main.cf, master.cf and the parameter table (conf/params.inc).
 *
 * A process loads the configuration once, from the directory or from a snapshot: one file that
 * holds the text of both files as they were accepted, so that a worker restarted later runs the
 * configuration that was checked, not one that is being edited. Reload = a new snapshot.
 *
 * Values: struct params holds every parameter of params.inc, typed and expanded:
 *   P_STR   const char *   never NULL, expanded
 *   P_BOOL  bool
 *   P_INT   int64_t
 *   P_TIME  int64_t        milliseconds; names have no unit suffix, as in main.cf
 *   P_SIZE  int64_t        bytes
 *   P_ENUM  int            the row's enum words, numbered from 0 in their order
 * e.g. p->smtpd_recipient_limit, p->smtpd_timeout (ms), p->relayhost (string).
 *
 * Diagnostics name file and line, say what was expected, and are collected: all problems at once.
 */
#ifndef PH_CONF_CONF_H
#define PH_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

struct conf;

struct params {
#define PARAM(name, type, ...) PARAM_FIELD_##type(name)
#define PARAM_FIELD_STR(name)  const char *name;
#define PARAM_FIELD_BOOL(name) bool name;
#define PARAM_FIELD_INT(name)  int64_t name;
#define PARAM_FIELD_TIME(name) int64_t name;
#define PARAM_FIELD_SIZE(name) int64_t name;
#define PARAM_FIELD_ENUM(name) int name;
#include "conf/params.inc"
#undef PARAM
#undef PARAM_FIELD_STR
#undef PARAM_FIELD_BOOL
#undef PARAM_FIELD_INT
#undef PARAM_FIELD_TIME
#undef PARAM_FIELD_SIZE
#undef PARAM_FIELD_ENUM
};

/* Values of ENUM parameters, in the order of their rows' words. */
enum conf_bare_newline {
	BARE_NEWLINE_NO,
	BARE_NEWLINE_YES,
	BARE_NEWLINE_NORMALIZE,
	BARE_NEWLINE_REJECT,
	BARE_NEWLINE_NOTE
}; /* smtpd_forbid_bare_newline */
enum conf_address_preference {
	ADDRESS_PREFERENCE_ANY,
	ADDRESS_PREFERENCE_IPV4,
	ADDRESS_PREFERENCE_IPV6
}; /* {smtp,lmtp}_address_preference */
/* non_empty_end_of_header_action */
enum conf_unended { UNENDED_FIX, UNENDED_ADD, UNENDED_REJECT };
enum conf_header_from { HEADER_FROM_STANDARD, HEADER_FROM_OBSOLETE }; /* header_from_format */
enum conf_line_endings {
	LINE_ENDINGS_ALWAYS,
	LINE_ENDINGS_STRICT,
	LINE_ENDINGS_NEVER
};                                                               /* sendmail_fix_line_endings */
enum conf_tempfail { TEMPFAIL_DEFER, TEMPFAIL_DEFER_IF_PERMIT }; /* ..._tempfail_action */
enum conf_in_doubt { IN_DOUBT_RETRY, IN_DOUBT_HOLD };            /* in_doubt_action */

/* Problems found: errors make the configuration unusable, warnings do not. */
struct conf_diag {
	struct buf text; /* one "[warning: ]FILE, line N: message" (or "FILE: message") per line */
	unsigned errors;
	unsigned warnings;
};
void conf_diag_init(struct conf_diag *d);
void conf_diag_fini(struct conf_diag *d);
/* file may be NULL, line 0 = none. */
void conf_diag_add(struct conf_diag *d, bool is_error, const char *file, unsigned line,
		   const char *fmt, ...) PRINTF_LIKE(5, 6);

/* Every line to the log, with the severity it has. */
void conf_diag_log(const struct conf_diag *d);

/* Load and check. On errors *conf_r is NULL and the result E_CONFIG (or an errno code when a file
 * cannot be read); warnings alone give 0. A missing master.cf gives the built-in one. */
int conf_load_dir(const char *dir, struct conf **conf_r, struct conf_diag *d);
/* For `posthaste check`, which goes on to find more: errors are counted in d, defaults stand in the
 * place of bad values. Only a file that cannot be read leaves *conf_r NULL. */
int conf_load_dir_lenient(const char *dir, struct conf **conf_r, struct conf_diag *d);
int conf_load_snapshot_lenient(int fd, struct conf **conf_r, struct conf_diag *d);
int conf_load_snapshot(int fd, struct conf **conf_r, struct conf_diag *d);
/* Write the snapshot of a loaded configuration to a fresh memfd or file. */
int conf_write_snapshot(const struct conf *c, int fd);
void conf_free(struct conf **c);

const char *conf_dir(const struct conf *c);
const struct params *conf_params(const struct conf *c);
/* Expanded value of any name: table parameter, service parameter (smtp_destination_...) or one the
 * user made up; NULL when undefined. Valid as long as the conf. */
const char *conf_get(const struct conf *c, const char *name);
/* Expand $names in text with this configuration's values into out. E_SYNTAX on bad ${}. */
int conf_expand(const struct conf *c, const char *text, struct buf *out);
/* The same syntax with names of the caller's: `lookup` gives a value that lives until its next
 * call, NULL for a name that is not known (empty). E_SYNTAX, E_LIMIT: `out` has a part of the text.
 */
int conf_expand_with(struct sv text, const char *(*lookup)(void *ctx, struct sv name), void *ctx,
		     struct buf *out);

/* master.cf */
enum service_type { SERVICE_INET, SERVICE_UNIX, SERVICE_FIFO, SERVICE_PASS, SERVICE_UNIX_DGRAM };

struct conf_override {
	const char *name;
	const char *value;
};

struct conf_service {
	const char *name; /* first field: "smtp", "127.0.0.1:2525", "submission" */
	enum service_type type;
	const char *program; /* "smtpd", "smtp", "lmtp", "virtual", "local", "error", ... */
	bool is_private, unprivileged, chroot;
	int64_t wakeup_s; /* 0 = never */
	int64_t maxproc;  /* 0 = no limit; -1 = default_process_limit */
	unsigned line;
	unsigned arg_count;
	const char *const *args; /* after the program name, -o removed */
	unsigned override_count;
	const struct conf_override *overrides;
	const struct params *params; /* global parameters with this line's -o applied */
};

unsigned conf_service_count(const struct conf *c);
const struct conf_service *conf_service(const struct conf *c, unsigned index);
const struct conf_service *conf_service_find(const struct conf *c, const char *name,
					     enum service_type type);
/* The service under stress: with "-o stress=yes" behind the -o of its line, as Postfix's master
 * starts it when all its processes are busy. NULL when it is no inet or pass service of smtpd or
 * postscreen. */
const struct conf_service *conf_service_stress(const struct conf_service *s);
/* Does a value that the user wrote depend on $stress, and not only defaults of ours? */
bool conf_uses_stress(const struct conf *c);
/* Like conf_get, but with the -o overrides of a service in front. */
const char *conf_service_get(const struct conf *c, const struct conf_service *s, const char *name);
/* Where a value (a table parameter's or another's) was set, for diagnostics; false = it is a
 * default. s may be NULL. */
bool conf_where(const struct conf *c, const struct conf_service *s, const char *name,
		const char **file_r, unsigned *line_r);
/* Where a text stands in a value, as written or else as expanded, main.cf before master.cf; false =
 * nowhere. */
bool conf_where_text(const struct conf *c, const char *text, const char **file_r, unsigned *line_r);

/*
 * Transports: the unix services that deliver (smtp, relay, lmtp, virtual, local, pipe, error,
 * retry, discard programs). Index = position among them; stable within a configuration.
 */
enum transport_kind {
	TRANSPORT_SMTP,
	TRANSPORT_LMTP,
	TRANSPORT_VIRTUAL,
	TRANSPORT_LOCAL,
	TRANSPORT_PIPE,
	TRANSPORT_ERROR,
	TRANSPORT_DISCARD
};

struct conf_transport {
	const char *name;
	enum transport_kind kind;
	const struct conf_service *service;
	const struct params *params;
	const char *log_name; /* for log_as(): the program, with the service's syslog_name if it has
				 one */
	/* TRANSPORT_x values, falling back to the default_x parameters */
	int64_t destination_concurrency_limit;
	int64_t initial_destination_concurrency;
	int64_t destination_recipient_limit;
	int64_t destination_rate_delay_ms;
	int64_t transport_rate_delay_ms;
	int64_t command_time_limit_ms; /* pipe */
	int64_t destination_concurrency_failed_cohort_limit;
	const char
		*destination_concurrency_positive_feedback; /* as written, e.g. "1/concurrency" */
	const char *destination_concurrency_negative_feedback;
	/* Concurrent deliveries of the whole transport, 0 = no limit. "-" in master.cf is
	 * default_process_limit for commands, which are processes; for others when main.cf sets
	 * it, else no limit. */
	int64_t maxproc;
};

unsigned conf_transport_count(const struct conf *c);
const struct conf_transport *conf_transport(const struct conf *c, unsigned index);
const struct conf_transport *conf_transport_find(const struct conf *c, const char *name);

/* What a message that comes by a service with these parameters says of cleanup_service_name: ""
 * when it is the usual "cleanup". Valid as long as the parameters. */
const char *conf_cleanup_name(const struct params *p);

/* The name in the log of a program of a service with these parameters, for log_as() and its like:
 * "smtpd", or "postfix/submission/smtpd" where the service has a syslog_name of its own. To be
 * freed. */
char *conf_log_name(const struct conf *c, const struct params *p, const char *program);

/* Listeners: the inet services whose program is smtpd or postscreen. Host part resolved by the
 * privileged process at bind time; an empty host means the addresses of inet_interfaces. */
struct conf_listener {
	const struct conf_service *service; /* the smtpd that serves clients */
	const struct conf_service *screen;  /* the postscreen before it, or NULL */
	const char *host;                   /* "" = inet_interfaces; an address without brackets */
	const char *port;                   /* number or service name */
	/* of its line: connections to its before-queue filter; 0 = no limit */
	int64_t maxproc;
};
unsigned conf_listener_count(const struct conf *c);
const struct conf_listener *conf_listener(const struct conf *c, unsigned index);

#endif
