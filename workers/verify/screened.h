/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The clients that have passed tests of postscreen, and until when each result counts:
 * postscreen_cache_map. Records are Postfix's, five times with ";" between them under the client's
 * address, so that postmap -s reads them. Owned by the verify worker; smtp-in workers ask and tell.
 * They are not trusted: no result can be made to last longer than the configuration lets it, and
 * none makes things worse for a client than that it is tested.
 */
#ifndef PH_WORKERS_VERIFY_SCREENED_H
#define PH_WORKERS_VERIFY_SCREENED_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "shm/proto.h"

struct screened;

/* path as in cache_open(); p: screen_params(). */
struct screened *screened_open(const char *path, const struct params *p);
void screened_close(struct screened **s);
/* False: nothing is known of it. */
bool screened_get(struct screened *s, const uint8_t addr[16],
		  int64_t expires_s[PROTO_SCREEN_TESTS]);
void screened_put(struct screened *s, const uint8_t addr[16],
		  const int64_t expires_s[PROTO_SCREEN_TESTS]);
/* About once a second. */
void screened_tick(struct screened *s);
uint64_t screened_count(const struct screened *s);

#endif
