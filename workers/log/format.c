/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Log line shapes; see workers/log/format.h. */
#include "workers/log/format.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/qid.h"

static const struct {
	const char *name;
	int number;
} facilities[] = {
	{ "kern", 0 },      { "user", 1 },    { "mail", 2 },    { "daemon", 3 },  { "auth", 4 },
	{ "syslog", 5 },    { "lpr", 6 },     { "news", 7 },    { "uucp", 8 },    { "cron", 9 },
	{ "authpriv", 10 }, { "ftp", 11 },    { "local0", 16 }, { "local1", 17 }, { "local2", 18 },
	{ "local3", 19 },   { "local4", 20 }, { "local5", 21 }, { "local6", 22 }, { "local7", 23 },
};

/* syslog severities of the ladder in lib/log.h */
static const unsigned severities[] = {
	[LOG_LEVEL_INFO] = 6,  [LOG_LEVEL_WARN] = 4,  [LOG_LEVEL_ERROR] = 3,
	[LOG_LEVEL_FATAL] = 2, [LOG_LEVEL_PANIC] = 2,
};

static const char *const level_names[] = {
	[LOG_LEVEL_INFO] = "info",   [LOG_LEVEL_WARN] = "warning", [LOG_LEVEL_ERROR] = "error",
	[LOG_LEVEL_FATAL] = "fatal", [LOG_LEVEL_PANIC] = "panic",
};

int log_facility(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(facilities); i++) {
		if (strcmp(facilities[i].name, name) == 0)
			return facilities[i].number;
	}
	return -1;
}

/* Seconds change rarely compared with lines: the text is kept. */
static const char *local_stamp(int64_t wall_us)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
					    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	static time_t last = -1;
	static char text[24];
	time_t now = (time_t)(wall_us / 1000000);
	struct tm tm;

	if (now == last)
		return text;
	last = now;
	localtime_r(&now, &tm);
	snprintf(text, sizeof(text), "%s %2d %02d:%02d:%02d", months[tm.tm_mon % 12],
		 tm.tm_mday % 100, tm.tm_hour % 100, tm.tm_min % 100, tm.tm_sec % 100);
	return text;
}

void log_format_file(const struct log_line *l, const char *host, struct buf *out)
{
	buf_add_str(out, local_stamp(l->wall_us));
	buf_add_c(out, ' ');
	buf_add_str(out, host);
	buf_add_c(out, ' ');
	buf_add_sv(out, l->program);
	buf_printf(out, "[%u]: ", l->pid);
	buf_add_sv(out, l->text);
	buf_add_c(out, '\n');
}

void log_format_syslog(const struct log_line *l, unsigned facility, struct buf *out)
{
	buf_printf(out, "<%u>%s %.*s[%u]: ", facility * 8 + severities[l->level],
		   local_stamp(l->wall_us), (int)l->program.len, l->program.p, l->pid);
	buf_add_sv(out, l->text);
}

static void add_json_string(struct buf *out, struct sv s)
{
	buf_add_c(out, '"');
	/* texts hold printable ASCII and UTF-8 only (lib/log.h), so two escapes are enough */
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '"' || s.p[i] == '\\')
			buf_add_c(out, '\\');
		buf_add_c(out, s.p[i]);
	}
	buf_add_c(out, '"');
}

void log_format_json(const struct log_line *l, const char *host, struct buf *out)
{
	time_t s = (time_t)(l->wall_us / 1000000);
	struct tm tm;
	struct qid id;
	const char *colon = memchr(l->text.p, ':', l->text.len);

	gmtime_r(&s, &tm);
	buf_printf(out,
		   "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ\",\"host\":", tm.tm_year + 1900,
		   tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		   (int)(l->wall_us % 1000000));
	add_json_string(out, sv_from(host));
	buf_add_str(out, ",\"program\":");
	add_json_string(out, l->program);
	buf_printf(out, ",\"pid\":%u,\"level\":\"%s\"", l->pid, level_names[l->level]);
	if (colon != NULL &&
	    qid_parse((struct sv){ l->text.p, (size_t)(colon - l->text.p) }, &id) == 0) {
		buf_add_str(out, ",\"queue_id\":");
		add_json_string(out, (struct sv){ l->text.p, (size_t)(colon - l->text.p) });
	}
	buf_add_str(out, ",\"text\":");
	add_json_string(out, l->text);
	buf_add_str(out, "}\n");
}
