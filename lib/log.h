/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Logging. Every line is "PROGRAM[PID]: [severity: ]text", PROGRAM being syslog_name/name as in
 * Postfix. The severity ladder has fixed meanings:
 *   log_info   normal operation, one line per event an operator may search for
 *   log_warn   something is wrong but service goes on ("warning: ")
 *   log_error  something was lost or refused because of us ("error: ")
 *   die()      the environment is broken and this process cannot do its work ("fatal: ")
 *   bug()      an invariant of ours is broken ("panic: "); aborts, the supervisor restarts us
 * die() and bug() do not return. Never use bug() for data that came from another process.
 *
 * Where lines go is the sink: stderr until log_set_sink(). Workers install the ring sink
 * (workers/common/logring.h), so that mail never waits for a log.
 * Texts are made safe before they leave: bytes outside printable ASCII become '?', except valid
 * UTF-8 (tables and SMTPUTF8 addresses are logged as they are). One call is always one line.
 */
#ifndef PH_LIB_LOG_H
#define PH_LIB_LOG_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/util.h"

enum log_level {
	LOG_LEVEL_INFO,
	LOG_LEVEL_WARN,
	LOG_LEVEL_ERROR,
	LOG_LEVEL_FATAL,
	LOG_LEVEL_PANIC
};

/* `program` e.g. "postfix/smtpd"; `text` has its severity word already and no newline. */
typedef void (*log_sink_fn)(void *ctx, enum log_level level, const char *program, const char *text,
			    size_t text_len);

/* Program tag of this process, copied (at most 63 bytes). Before the call it is "posthaste". */
void log_set_program(const char *program);
const char *log_program(void);
void log_set_sink(log_sink_fn sink, void *ctx);
/* The sink in force, to wrap it; NULL = stderr. */
void log_get_sink(log_sink_fn *sink_r, void **ctx_r);

void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* A line under another program name than the process's own: "postfix/qmgr" lines come from the
 * rewrite worker and the supervisor. `name` is the part after syslog_name, e.g. "qmgr". */
void log_as(const char *name, enum log_level level, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same and log_info() for text that is there already: lines that every message has. */
void log_text_as(const char *name, const char *text, size_t len);
void log_text(const char *text, size_t len);
/* From now on log_info() and its like speak as `name`, in the way of log_as(); for a process that
 * serves several services in turn. The text must stay as it is. */
void log_speak_as(const char *name);
/* The syslog_name prefix that log_as() uses; default "postfix". A name with a / has its own.
 * Copied.
 */
void log_set_syslog_name(const char *syslog_name);

void die(const char *fmt, ...) PRINTF_LIKE(1, 2) NORETURN;
void bug(const char *fmt, ...) PRINTF_LIKE(1, 2) NORETURN;

/* Always on. For state, never for input. */
#define ASSERT(cond)                                                                               \
	do {                                                                                       \
		if (!(cond))                                                                       \
			bug("%s:%d: assertion failed: %s", __FILE__, __LINE__, #cond);             \
	} while (0)

#endif
