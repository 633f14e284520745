/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Log line shapes: the file's and syslog's. Called by the log worker and its tests. */
#ifndef PH_WORKERS_LOG_FORMAT_H
#define PH_WORKERS_LOG_FORMAT_H

#include "lib/buf.h"
#include "lib/log.h"

struct log_line {
	int64_t wall_us;
	uint32_t pid;
	enum log_level level;
	struct sv program, text;
};

/* "Nov  3 07:08:09 HOST PROGRAM[PID]: TEXT\n" in local time, as postlogd writes it. */
void log_format_file(const struct log_line *l, const char *host, struct buf *out);
/* "<PRI>Nov  3 07:08:09 PROGRAM[PID]: TEXT" (RFC 3164 as local syslog daemons read it);
 * `facility` is the number, e.g. 2 for mail. */
void log_format_syslog(const struct log_line *l, unsigned facility, struct buf *out);
/* One JSON object per line: time (RFC 3339, UTC), host, program, pid, level, text, and queue_id
 * when the text begins with one. */
void log_format_json(const struct log_line *l, const char *host, struct buf *out);
/* Facility number of a syslog_facility name; -1 when unknown. */
int log_facility(const char *name);

#endif
