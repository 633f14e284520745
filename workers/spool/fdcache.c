/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Descriptor cache of the segment and journal readers; see fdcache.h. */
#include "workers/spool/fdcache.h"

#include <fcntl.h>
#include <stdlib.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

struct entry {
	uint32_t number; /* 0 = free */
	int fd;
	uint64_t used; /* clock of the last use */
	bool have_nonce;
	uint64_t nonce;
};

struct spool_fdcache {
	int dirfd;
	const char *suffix;
	uint32_t magic;
	uint64_t clock;
	unsigned max_open;
	struct entry entries[];
};

struct spool_fdcache *spool_fdcache_new(int dirfd, const char *suffix, uint32_t magic,
					unsigned max_open)
{
	if (max_open == 0)
		max_open = 1;
	struct spool_fdcache *c = xcalloc(1, sizeof(*c) + max_open * sizeof(c->entries[0]));

	c->dirfd = dirfd;
	c->suffix = suffix;
	c->magic = magic;
	c->max_open = max_open;
	for (unsigned i = 0; i < max_open; i++)
		c->entries[i].fd = -1;
	return c;
}

void spool_fdcache_free(struct spool_fdcache **cp)
{
	struct spool_fdcache *c = *cp;

	if (c == NULL)
		return;
	for (unsigned i = 0; i < c->max_open; i++)
		io_close(&c->entries[i].fd);
	free(c);
	*cp = NULL;
}

static int entry_open(struct spool_fdcache *c, struct entry *e, uint32_t number)
{
	char name[SPOOL_NAME_SIZE];
	struct spool_file_head head;

	io_close(&e->fd);
	e->number = 0;
	e->fd = openat(c->dirfd, spool_name(number, c->suffix, name),
		       O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (e->fd < 0)
		return err_errno();
	e->have_nonce = io_pread_all(e->fd, &head, sizeof(head), 0) == 0 &&
			spool_head_ok(&head, c->magic, number);
	e->nonce = e->have_nonce ? head.nonce : 0;
	e->number = number;
	return 0;
}

int spool_fdcache_get(struct spool_fdcache *c, uint32_t number, int *fd_r, const uint64_t **nonce_r)
{
	struct entry *e = NULL;

	if (number == 0)
		return E_NOENT;
	for (unsigned i = 0; i < c->max_open && e == NULL; i++) {
		if (c->entries[i].number == number)
			e = &c->entries[i];
	}
	if (e == NULL) {
		e = &c->entries[0];
		for (unsigned i = 1; i < c->max_open; i++) {
			if (c->entries[i].used < e->used)
				e = &c->entries[i];
		}
		int err = entry_open(c, e, number);

		if (err != 0) {
			e->used = 0;
			return err;
		}
	}
	e->used = ++c->clock;
	*fd_r = e->fd;
	*nonce_r = e->have_nonce ? &e->nonce : NULL;
	return 0;
}

void spool_fdcache_drop(struct spool_fdcache *c, uint32_t number)
{
	for (unsigned i = 0; i < c->max_open; i++) {
		if (c->entries[i].number == number) {
			io_close(&c->entries[i].fd);
			c->entries[i].number = 0;
			c->entries[i].used = 0;
		}
	}
}
