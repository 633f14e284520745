/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dates of mail (RFC 5322 3.3), in local time. The zone is read once: call tzset() while the zone
 * file can still be reached. */
#ifndef PH_WORKERS_MAIL_DATE_H
#define PH_WORKERS_MAIL_DATE_H

#include <stdint.h>

#include "lib/buf.h"

/* "Mon, 02 Jan 2006 15:04:05 -0700 (MST)", as Postfix writes it. */
void mail_date_add(int64_t wall_s, struct buf *out);

#endif
