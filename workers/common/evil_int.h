/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Shared by workers/common/evil.c and evil_records.c; see evil.h. */
#ifndef PH_WORKERS_COMMON_EVIL_INT_H
#define PH_WORKERS_COMMON_EVIL_INT_H

#include "shm/proto.h"
#include "workers/common/evil.h"

#define EVIL_FDS  600
#define EVIL_RECS 256

struct evil_fd {
	int fd;
	uint32_t kind; /* enum shm_kind */
	bool ours;     /* we are to write it */
};

struct evil_region {
	void *base;
	size_t size;
	uint32_t kind; /* enum shm_kind */
};

struct evil_rec {
	size_t len;
	char bytes[1024];
};

struct evil {
	struct evil_page *page;
	unsigned who;
	const struct evil_body *b;
	uint64_t state; /* of the generator */
	struct evil_fd fds[EVIL_FDS];
	unsigned fd_count;
	struct evil_region regions[EVIL_FDS];
	unsigned region_count;
	struct evil_rec recs[EVIL_RECS]; /* the latest that came and went */
	uint32_t rec_count;
	uint32_t grant[2]; /* newest number that was granted: journal, segment */
	uint32_t next;     /* place of the next announcement */
};

extern struct evil evil;

uint64_t evil_rand(void);
uint64_t evil_value(void); /* random, or one of those that hurt */
void evil_record(void);    /* one record of any kind to anybody */
void evil_lie(void);       /* one that is well formed and not true */
void evil_probe(void);     /* every action that is wanted */

/* ---- actions of the probe: 0 = it was permitted, else -errno ---- */

typedef int evil_action_fn(void);

#define PROBE(name, text) evil_action_fn evil_do_##name;
#include "workers/common/evil_probe.inc"
#undef PROBE

const char *evil_path(enum evil_text which, const char *below); /* static */
int evil_result(long rc);                                       /* -1 and errno */

#endif
