/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Noticing changed table files from outside the workers' sandboxes: the supervisor watches the
 * files of all tables that a configuration names, and replaces the workers when one has changed.
 * Watched are the tables in every parameter's value and in master.cf's overrides (NAME.kch for
 * compiled types), and the /files of well-known match lists.
 */
#ifndef PH_CONF_MAP_WATCH_H
#define PH_CONF_MAP_WATCH_H

#include <stddef.h>

#include "conf/conf.h"

struct map_watch;

/* Every remote table that the configuration names ("type:name"), perhaps more than once; policy
 * services, too (conf/policy_spec.h). */
typedef void (*map_spec_fn)(void *ctx, const char *spec);
void map_watch_remote(const struct conf *c, map_spec_fn fn, void *ctx);

struct map_watch *map_watch_new(const struct conf *c);
void map_watch_free(struct map_watch **w);
size_t map_watch_count(const struct map_watch *w);
/* One stat per file. Returns the path of a file that is another one than at the last report, or at
 * the start, and has been the same for two calls in a row (so that a file that is still being
 * written is left alone); NULL when there is none. A file that has vanished is no change, one that
 * has come is. */
const char *map_watch_poll(struct map_watch *w);

#endif
