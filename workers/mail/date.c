/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dates; see workers/mail/date.h. Called by smtp-in (Received) and rewrite (Date, notifications).
 */
#include "workers/mail/date.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

struct date {
	int64_t wall_s;
	char text[96]; /* whatever the year */
	char zone[24]; /* " (CET)" */
};

static void make(int64_t wall_s, struct date *d)
{
	/* not strftime: names must not follow a locale */
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t t = (time_t)wall_s;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL)
		memset(&tm, 0, sizeof(tm));
	long off = tm.tm_gmtoff / 60, size = off < 0 ? -off : off;

	d->wall_s = wall_s;
	snprintf(d->text, sizeof(d->text), "%.3s, %02d %.3s %04d %02d:%02d:%02d %c%02ld%02ld",
		 days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon, tm.tm_year + 1900,
		 tm.tm_hour, tm.tm_min, tm.tm_sec, off < 0 ? '-' : '+', size / 60, size % 60);
	d->zone[0] = '\0';
	if (tm.tm_zone != NULL)
		snprintf(d->zone, sizeof(d->zone), " (%s)", tm.tm_zone);
}

void mail_date_add(int64_t wall_s, struct buf *out)
{
	/* much mail comes in one second */
	static _Thread_local struct date last = { .wall_s = INT64_MIN };

	if (wall_s != last.wall_s)
		make(wall_s, &last);
	buf_add_str(out, last.text);
	buf_add_str(out, last.zone);
}
