/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Segment files under the writer; see segment.h. */
#include "workers/spool/segment.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/rand.h"
#include "lib/util.h"

static int write_zeroes(int fd, uint64_t from, uint64_t to)
{
	static const char zeroes[65536];

	while (from < to) {
		size_t n = (size_t)u64_min(to - from, sizeof(zeroes));
		int err = io_pwrite_all(fd, zeroes, n, (off_t)from);

		if (err != 0)
			return err;
		from += n;
	}
	return 0;
}

uint64_t spool_reserve_size(int fd, uint64_t want)
{
	struct statvfs vfs;

	if (fstatvfs(fd, &vfs) < 0)
		return want;
	uint64_t part = (uint64_t)vfs.f_bavail * vfs.f_frsize / SPOOL_RESERVE_PART;

	part = align_up(u64_max(part, SPOOL_RESERVE_MIN), SPOOL_PAGE);
	return u64_min(want, part);
}

int spool_reserve(int fd, uint64_t from, uint64_t to)
{
	int rc;

	if (to <= from)
		return 0;
	do {
		rc = fallocate(fd, 0, (off_t)from, (off_t)(to - from));
	} while (rc < 0 && errno == EINTR);
	if (rc == 0)
		return 0;
	if (errno == EOPNOTSUPP || errno == ENOSYS)
		return write_zeroes(fd, from, to);
	return errno == EDQUOT ? E_NOSPC : err_errno();
}

/*
 * Spare/`recycle` under its new name; -1: there is none. A rename that a power cut left half done
 * can leave a file with two names. Only one whose head has the number of its name is overwritten:
 * the other name of a file that is in use again shows the number of that use.
 */
static int recycle_file(const struct spool_dirs *d, uint32_t recycle, const char *name)
{
	char spare[SPOOL_NAME_SIZE];
	struct spool_file_head head;
	int fd = openat(d->spare, spool_name(recycle, "seg", spare),
			O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -1;
	if (io_pread_all(fd, &head, sizeof(head), 0) != 0 ||
	    !spool_head_ok(&head, SPOOL_SEGMENT_MAGIC, recycle))
		unlinkat(d->spare, spare, 0);
	else if (renameat2(d->spare, spare, d->seg, name, RENAME_NOREPLACE) == 0)
		return fd;
	close(fd);
	return -1;
}

static int open_file(const struct spool_dirs *d, uint32_t number, uint32_t recycle, int *fd_r)
{
	char name[SPOOL_NAME_SIZE];

	spool_name(number, "seg", name);
	/* A spare that is gone, or an occupied number, only costs the recycling. */
	*fd_r = recycle != 0 ? recycle_file(d, recycle, name) : -1;
	if (*fd_r < 0)
		*fd_r = openat(d->seg, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			       0600);
	return *fd_r < 0 ? err_errno() : 0;
}

#define EXTENTS_AT_ONCE 32u
#define NOT_WRITTEN     (FIEMAP_EXTENT_UNWRITTEN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN)

/* Extends *end_r over the written extents that follow it without a gap. True: there may be more. */
static bool add_written(int fd, uint64_t size, uint64_t *end_r)
{
	union {
		struct fiemap map;
		char room[sizeof(struct fiemap) + EXTENTS_AT_ONCE * sizeof(struct fiemap_extent)];
	} u = { .map = { .fm_start = *end_r,
			 .fm_length = size - *end_r,
			 .fm_extent_count = EXTENTS_AT_ONCE } };

	if (ioctl(fd, FS_IOC_FIEMAP, &u.map) < 0)
		return false;
	for (uint32_t i = 0; i < u.map.fm_mapped_extents; i++) {
		const struct fiemap_extent *e = &u.map.fm_extents[i];

		if (e->fe_logical > *end_r || (e->fe_flags & NOT_WRITTEN) != 0)
			return false;
		*end_r = e->fe_logical + e->fe_length;
		if ((e->fe_flags & FIEMAP_EXTENT_LAST) != 0)
			return false;
	}
	return u.map.fm_mapped_extents == EXTENTS_AT_ONCE && *end_r < size;
}

/*
 * The first byte of a recycled file that was reserved but never written; 0 where the file system
 * does not tell. From the extents on disk, not by SEEK_HOLE: that takes reserved space for data
 * when somebody has read it and its pages are in memory.
 */
static uint64_t find_written_end(const struct spool_segment *s)
{
	uint64_t end = 0;

	while (add_written(s->fd, s->size, &end))
		;
	return u64_min(end, s->size);
}

/* Size and head. Old bytes of a recycled file stay: nothing in them can pass for ours. */
static int prepare_file(struct spool_segment *s, uint64_t bytes)
{
	struct spool_file_head head;
	struct stat st;

	if (fstat(s->fd, &st) < 0)
		return err_errno();
	int err = 0;

	if ((uint64_t)st.st_size > bytes && ftruncate(s->fd, (off_t)bytes) < 0)
		err = err_errno();
	if ((uint64_t)st.st_size < bytes)
		bytes = u64_max((uint64_t)st.st_size, spool_reserve_size(s->fd, bytes));
	if (err == 0 && (uint64_t)st.st_size < bytes)
		err = spool_reserve(s->fd, (uint64_t)st.st_size, bytes);
	s->size = bytes;
	spool_head_fill(&head, SPOOL_SEGMENT_MAGIC, s->number, s->nonce, s->created_us);
	if (err == 0)
		err = io_pwrite_all(s->fd, &head, sizeof(head), 0);
	if (err == 0 && fsync(s->fd) < 0)
		err = err_errno();
	if (err == 0 && st.st_size > 0)
		s->written_end = find_written_end(s);
	return err;
}

static void open_index(const struct spool_dirs *d, struct spool_segment *s)
{
	char name[SPOOL_NAME_SIZE];
	struct spool_file_head head;

	spool_head_fill(&head, SPOOL_INDEX_MAGIC, s->number, s->nonce, s->created_us);
	s->idx_fd = openat(d->seg, spool_name(s->number, "idx", name),
			   O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->idx_fd >= 0 && io_pwrite_all(s->idx_fd, &head, sizeof(head), 0) != 0)
		io_close(&s->idx_fd);
}

int spool_segment_make(const struct spool_dirs *d, uint32_t number, uint32_t recycle,
		       uint64_t bytes, int64_t created_us, struct spool_segment **s_r)
{
	struct spool_segment *s = xcalloc(1, sizeof(*s));
	char name[SPOOL_NAME_SIZE];

	s->number = number;
	s->nonce = rand_u64();
	s->created_us = created_us;
	s->tail = SPOOL_FIRST_OFF;
	s->idx_fd = -1;
	int err = open_file(d, number, recycle, &s->fd);

	if (err == 0) {
		err = prepare_file(s, bytes);
		if (err == 0)
			open_index(d, s);
		if (err == 0 && (fsync(d->seg) < 0 || (recycle != 0 && fsync(d->spare) < 0)))
			err = err_errno();
		if (err != 0) {
			unlinkat(d->seg, spool_name(number, "seg", name), 0);
			unlinkat(d->seg, spool_name(number, "idx", name), 0);
		}
	}
	if (err != 0) {
		io_close(&s->fd);
		io_close(&s->idx_fd);
		free(s);
		return err;
	}
	*s_r = s;
	return 0;
}

int spool_segment_extend(struct spool_segment *s, uint64_t bytes)
{
	bytes = align_up(bytes, SPOOL_PAGE);
	if (bytes > SPOOL_OFF_MAX)
		return E_LIMIT;
	int err = spool_reserve(s->fd, s->size, bytes);

	if (err == 0)
		s->size = bytes;
	return err;
}

void spool_segment_rows(struct spool_segment *s, const struct spool_row *rows, size_t count)
{
	off_t at = (off_t)(((uint64_t)s->rows + 1) * sizeof(*rows));

	if (s->idx_fd >= 0 && io_pwrite_all(s->idx_fd, rows, count * sizeof(*rows), at) != 0)
		io_close(&s->idx_fd);
	s->rows += (uint32_t)count;
}

void spool_segment_close(struct spool_segment **sp)
{
	struct spool_segment *s = *sp;
	struct spool_row row = { .magic = SPOOL_CLOSE_MAGIC,
				 .nonce = s->nonce,
				 .off8 = (uint32_t)(s->tail / SPOOL_ALIGN),
				 .row = s->rows };

	spool_row_seal(&row);
	spool_segment_rows(s, &row, 1);
	io_close(&s->idx_fd);
	/* a short one (its writer ends) gives the rest back; nothing lies behind the tail */
	if (s->tail < s->size / 2 && ftruncate(s->fd, (off_t)s->tail) < 0)
		log_warn("segment %08x: cannot shorten: %s", s->number, err_str(err_errno()));
	io_close(&s->fd);
	free(s);
	*sp = NULL;
}
