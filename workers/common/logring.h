/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Log ring: the way of a log line from any process to the log worker. One ring per worker life in a
 * region of kind SHM_KIND_LOG. When it is full the line is counted and dropped: mail never waits
 * for a log. The log worker wakes itself often while lines come and asks to be woken only when
 * idle.
 */
#ifndef PH_WORKERS_COMMON_LOGRING_H
#define PH_WORKERS_COMMON_LOGRING_H

#include "lib/log.h"
#include "shm/counters.h"
#include "shm/region.h"
#include "shm/ring.h"

struct logring_record { /* then program_len bytes, then text */
	int64_t wall_us;
	uint32_t pid;
	uint8_t level; /* enum log_level */
	uint8_t program_len;
	uint16_t text_len;
};

struct logring {
	struct shm_region region;
	struct ring_prod prod;
	struct counters_shm *counters; /* NULL: drops are not counted */
	uint64_t dropped;
	uint32_t pid;
};

int logring_create(const char *name, uint32_t ring_bytes, uint32_t life, struct shm_region *r);
/* Take the region over and make it the sink of this process. wake_fd: the log worker's eventfd. */
int logring_install(struct logring *l, struct shm_region *r, int wake_fd,
		    struct counters_shm *counters);
void logring_flush(struct logring *l); /* publish; once per turn and before an exit */
/* For the supervisor, before another log worker gets the ring: the last one may have been taken
 * over and have written over what does not change (header, size), or left positions that make no
 * sense. */
int logring_mend(int fd, uint32_t life);
/* The ring's place in a mapped region, for the log worker. */
void *logring_mem(const struct shm_region *r, size_t *len_r);

#endif
