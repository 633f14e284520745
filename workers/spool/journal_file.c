/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The files of an outcome journal; see journal_file.h. */
#include "workers/spool/journal_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/rand.h"
#include "lib/util.h"
#include "workers/spool/segment.h"

#define ZERO_AHEAD (256u << 10)

struct journal_file *journal_file_new(uint32_t number, struct journal_owner owner)
{
	struct journal_file *f = xcalloc(1, sizeof(*f));

	f->number = number;
	f->owner = owner;
	f->nonce = rand_u64();
	f->end = sizeof(struct spool_file_head);
	for (unsigned i = 0; i < JOURNAL_LANES; i++)
		f->fds[i] = -1;
	return f;
}

static void close_all(struct journal_file *f)
{
	for (unsigned i = 0; i < JOURNAL_LANES; i++)
		io_close(&f->fds[i]);
}

void journal_file_free(struct journal_file **fp)
{
	struct journal_file *f = *fp;

	*fp = NULL;
	if (f == NULL)
		return;
	close_all(f);
	free(f);
}

/* A local worker writes as root, but recovery reads as mail_owner, to whom the directory belongs.
 */
static void give_to_owner(int dirfd, int fd)
{
	struct stat st;

	if (geteuid() == 0 && fstat(dirfd, &st) == 0 && st.st_uid != 0 &&
	    fchown(fd, st.st_uid, st.st_gid) < 0)
		log_warn("journal: cannot give it to its owner: %s", err_str(err_errno()));
}

static int open_lanes(struct journal_file *f, int dirfd, const char *name)
{
	for (unsigned i = 1; i < JOURNAL_LANES; i++) {
		f->fds[i] = openat(dirfd, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
		if (f->fds[i] < 0)
			return err_errno();
	}
	return 0;
}

static int file_make(struct journal_prep *p)
{
	struct journal_file *f = p->file;
	struct spool_file_head head;
	char name[SPOOL_NAME_SIZE];

	f->fds[0] = openat(p->dirs->journal, spool_name(f->number, "jnl", name),
			   O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->fds[0] < 0)
		return err_errno();
	give_to_owner(p->dirs->journal, f->fds[0]);
	spool_head_fill(&head, SPOOL_JOURNAL_MAGIC, f->number, f->nonce, p->created_us);
	spool_head_own(&head, f->owner);
	int err = open_lanes(f, p->dirs->journal, name);

	f->bytes = spool_reserve_size(f->fds[0], p->bytes);
	if (err == 0)
		err = spool_reserve(f->fds[0], 0, f->bytes);
	if (err == 0)
		err = io_pwrite_all(f->fds[0], &head, sizeof(head), 0);
	if (err == 0 && (fsync(f->fds[0]) < 0 || fsync(p->dirs->journal) < 0))
		err = err_errno();
	if (err != 0) {
		unlinkat(p->dirs->journal, name, 0);
		close_all(f);
	}
	return err;
}

void journal_file_prepare(struct spool_job *job)
{
	struct journal_prep *p = container_of(job, struct journal_prep, job);

	p->err = file_make(p);
}

/*
 * What is only reserved becomes written through the file system's log: a sync costs more then, and
 * one that a shutdown of the file system overtakes can lie (commit.c), so it takes two. Zeroes run
 * ahead of the outcomes, and from the next sync on that space is like any other.
 */
void journal_file_zero_ahead(struct journal_file *f)
{
	static const char zeroes[ZERO_AHEAD];
	uint64_t from = f->zeroed, to = u64_min(f->end + 2 * ZERO_AHEAD, f->bytes);

	if (f->failed || f->end + ZERO_AHEAD <= from || from >= to)
		return;
	if (from < f->end) /* nothing can be done for what is written already */
		from = align_up(f->end, SPOOL_PAGE);
	for (uint64_t n; from < to; from += n) {
		n = u64_min(to - from, sizeof(zeroes));
		if (io_pwrite_all(f->fds[0], zeroes, (size_t)n, (off_t)from) != 0)
			return; /* the sync of it will tell */
	}
	f->zeroed = to;
}
