/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Printing a record as postcat(1) does. Used by postcat.c only. */
#ifndef PH_WORKERS_SPOOL_POSTCAT_H
#define PH_WORKERS_SPOOL_POSTCAT_H

#include <stdio.h>

#include "workers/spool/format.h"

enum { SHOW_ENVELOPE = 1, SHOW_HEADER = 2, SHOW_BODY = 4, SHOW_ALL = 7 };

struct postcat_source { /* one record somewhere in a file */
	int fd;
	uint64_t off;
	const char *name; /* for the marker lines */
};

/* Prints to `out`. E_CORRUPT when it is no record, or (after printing what can be read) when its
 * checksum does not hold. */
int postcat_print(const struct postcat_source *src, unsigned show, FILE *out);

#endif
