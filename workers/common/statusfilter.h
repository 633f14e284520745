/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * default_delivery_status_filter and the agents' own: a table that sees each result as "4.4.1 text"
 * and may give another one; and soft_bounce. For all that deliver.
 */
#ifndef PH_WORKERS_COMMON_STATUSFILTER_H
#define PH_WORKERS_COMMON_STATUSFILTER_H

#include <stdint.h>

#include "conf/conf.h"
#include "lib/buf.h"
#include "lib/str.h"

struct status_filter;

/* The filter of a transport. On errors adds to d and returns them. */
int status_filter_open(const struct conf *c, const struct conf_transport *ct,
		       struct status_filter **f_r, struct conf_diag *d);
void status_filter_close(struct status_filter **f);
/*
 * The result as it is to be logged and to count: dsn and text are changed in place, a new text is
 * in `mem`. Success stays success and failure failure, 4 or 5. Returns the word for status=:
 * "sent", "deferred", "bounced", or "SOFTBOUNCE" for a failure that soft_bounce made temporary. f
 * may be NULL.
 */
const char *status_filter_apply(const struct status_filter *f, uint8_t dsn[3], struct sv *text,
				struct buf *mem);

#endif
