/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file seen through a sliding buffer, for recovery scans: sequential reads, small looks ahead. */
#ifndef PH_WORKERS_SPOOL_WINDOW_H
#define PH_WORKERS_SPOOL_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPOOL_WINDOW_BYTES (1u << 20)

struct spool_window {
	int fd;
	uint64_t size; /* of the file, when it was opened */
	char *buf;     /* 2 * SPOOL_WINDOW_BYTES */
	uint64_t off;  /* of buf[0] */
	size_t len;
	int err; /* the last read that failed; its page counts as zeroes */
};

/* Opens the file NUMBER.extension of the directory `dir`, never through a link. An errno code. */
int spool_window_open(struct spool_window *w, int dir, uint32_t number, const char *extension);
void spool_window_close(struct spool_window *w);
/* `need` bytes (at most SPOOL_WINDOW_BYTES) at `pos`, 8-aligned when pos is; NULL when the file
 * ends before. Valid until the next call. *have_r: how many bytes can be looked at, >= need. */
const char *spool_window_at(struct spool_window *w, uint64_t pos, size_t need, size_t *have_r);
/* The first position >= pos that may hold data; `end` when only holes follow. */
uint64_t spool_window_data(struct spool_window *w, uint64_t pos, uint64_t end);
/* Is there nothing but zeroes from pos on? Moves the window. */
bool spool_window_is_zero(struct spool_window *w, uint64_t pos);

#endif
