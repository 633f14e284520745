/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is address verification (verify(8)) wanted, and where is its cache? Asked by the supervisor,
 * which starts the verify worker only then, by that worker and by rewrite.
 */
#ifndef PH_CONF_VERIFY_USE_H
#define PH_CONF_VERIFY_USE_H

#include <stdbool.h>

#include "conf/conf.h"

/* smtp-in asks the verify worker as it asks for remote tables (conf/map_remote.h), by this name.
 * The key is "MS ADDRESS", how long it may wait for a probe; the value "S text", S a digit. */
#define VERIFY_SPEC "verify:"

enum verify_status { VERIFY_OK, VERIFY_DEFER, VERIFY_BOUNCE, VERIFY_TODO }; /* as in Postfix */

/* May a restriction of some listener ask for it: by its name in a list or a class, or because an
 * access table may name it? */
bool verify_is_used(const struct conf *c);

/* The file of a table that is a cache, "proxy:btree:/DIR/NAME" and the like (xmalloc'd,
 * "/DIR/NAME.kch"); NULL with 0: none is named. E_CONFIG with *why_r (static) when it is no table
 * that can be written. */
int conf_cache_path(const char *spec, char **path_r, const char **why_r);
/* The file of address_verify_map (xmalloc'd, "NAME.kch"); NULL with 0: in memory only. E_CONFIG
 * with *why_r (static) when it is no table that can be written. */
int verify_cache_path(const struct params *p, char **path_r, const char **why_r);

#endif
