/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Log lines and the severity ladder; see lib/log.h. */
#include "lib/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/str.h"

#define LINE_MAX_BYTES 2000

static char program[64] = "posthaste";
static char syslog_name[48] = "postfix";
static const char *speaks_as; /* what `program` was made of */
static log_sink_fn sink_fn;
static void *sink_ctx;

static const char *const level_words[] = {
	[LOG_LEVEL_INFO] = "",         [LOG_LEVEL_WARN] = "warning: ",
	[LOG_LEVEL_ERROR] = "error: ", [LOG_LEVEL_FATAL] = "fatal: ",
	[LOG_LEVEL_PANIC] = "panic: ",
};

void log_set_program(const char *name)
{
	speaks_as = NULL;
	snprintf(program, sizeof(program), "%s", name);
}

const char *log_program(void)
{
	return program;
}

void log_set_sink(log_sink_fn sink, void *ctx)
{
	sink_fn = sink;
	sink_ctx = ctx;
}

void log_get_sink(log_sink_fn *sink_r, void **ctx_r)
{
	*sink_r = sink_fn;
	*ctx_r = sink_ctx;
}

void log_set_syslog_name(const char *name)
{
	snprintf(syslog_name, sizeof(syslog_name), "%s", name);
}

static void emit_line(enum log_level level, const char *prog, char *line, size_t used)
{
	str_make_printable(line, used);
	if (sink_fn != NULL)
		sink_fn(sink_ctx, level, prog, line, used);
	else
		fprintf(stderr, "%s[%d]: %.*s\n", prog, (int)getpid(), (int)used, line);
}

PRINTF_LIKE(3, 0)
static void emit(enum log_level level, const char *prog, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES];
	size_t used = strlen(level_words[level]);
	int n;

	memcpy(line, level_words[level], used);
	n = str_vformat(line + used, sizeof(line) - used, fmt, ap);
	if (n < 0)
		n = 0;
	used += size_min((size_t)n, sizeof(line) - used - 1);
	emit_line(level, prog, line, used);
}

#define EMIT(level, prog)                                                                          \
	do {                                                                                       \
		va_list ap;                                                                        \
		va_start(ap, fmt);                                                                 \
		emit((level), (prog), fmt, ap);                                                    \
		va_end(ap);                                                                        \
	} while (0)

void log_info(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_INFO, program);
}

void log_warn(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_WARN, program);
}

void log_error(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_ERROR, program);
}

/* "postfix/smtp": on the way of every message, so without a format. */
static const char *tag_of(const char *name, char *tag, size_t size)
{
	size_t n = strlen(syslog_name), m = size_min(strlen(name), size - n - 2);

	if (strchr(name, '/') != NULL)
		return name;
	memcpy(tag, syslog_name, n);
	tag[n] = '/';
	memcpy(tag + n + 1, name, m);
	tag[n + 1 + m] = '\0';
	return tag;
}

void log_speak_as(const char *name)
{
	char tag[sizeof(syslog_name) + 64];

	if (name == speaks_as)
		return;
	snprintf(program, sizeof(program), "%s", tag_of(name, tag, sizeof(tag)));
	speaks_as = name;
}

void log_as(const char *name, enum log_level level, const char *fmt, ...)
{
	char tag[sizeof(syslog_name) + 64];

	EMIT(level, tag_of(name, tag, sizeof(tag)));
}

static void emit_text(const char *tag, const char *text, size_t len)
{
	char line[LINE_MAX_BYTES];

	len = size_min(len, sizeof(line) - 1);
	memcpy(line, text, len);
	line[len] = '\0';
	emit_line(LOG_LEVEL_INFO, tag, line, len);
}

void log_text_as(const char *name, const char *text, size_t len)
{
	char tag[sizeof(syslog_name) + 64];

	emit_text(tag_of(name, tag, sizeof(tag)), text, len);
}

void log_text(const char *text, size_t len)
{
	emit_text(program, text, len);
}

void die(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_FATAL, program);
	exit(1);
}

void bug(const char *fmt, ...)
{
	EMIT(LOG_LEVEL_PANIC, program);
	abort();
}
