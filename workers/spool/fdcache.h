/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Open files by number, the least recently used one closed first. For the two readers. */
#ifndef PH_WORKERS_SPOOL_FDCACHE_H
#define PH_WORKERS_SPOOL_FDCACHE_H

#include "workers/spool/format.h"

struct spool_fdcache;

/* Files NUMBER.suffix in dirfd whose head has `magic`. */
struct spool_fdcache *spool_fdcache_new(int dirfd, const char *suffix, uint32_t magic,
					unsigned max_open);
void spool_fdcache_free(struct spool_fdcache **c);
/* The descriptor (valid until the next call) and the file's nonce, NULL when its head is damaged.
 */
int spool_fdcache_get(struct spool_fdcache *c, uint32_t number, int *fd_r,
		      const uint64_t **nonce_r);
/* Close it: what was read there did not fit (the file may have been recycled under us). */
void spool_fdcache_drop(struct spool_fdcache *c, uint32_t number);

#endif
