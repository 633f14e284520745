/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Parameters of one remote table: a file of "name = value" lines (ldap_table(5) and its kin), or,
 * where the table's name is no path, main.cf parameters that begin with NAME_.
 */
#ifndef PH_WORKERS_LOOKUP_OPTIONS_H
#define PH_WORKERS_LOOKUP_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"

struct options;

/* `spec` is for diagnostics. A file that cannot be read is an error (negated errno value). */
int options_open(const struct conf *c, const char *spec, const char *name, struct options **o_r,
		 struct conf_diag *d);
void options_free(struct options **o);
/* The value, or `def`. */
const char *options_get(const struct options *o, const char *name, const char *def);
/* Values that do not parse are complained about, and the default is taken. */
int64_t options_int(struct options *o, const char *name, int64_t def, int64_t min, int64_t max);
bool options_bool(struct options *o, const char *name, bool def);
PRINTF_LIKE(2, 3) void options_complain(struct options *o, const char *fmt, ...);
bool options_are_bad(const struct options *o); /* something was complained about */

#endif
