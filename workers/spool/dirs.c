/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The spool's directories and file upkeep: open, list, retire, remove. Called by every spool user.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/spool/format.h"
#include "workers/spool/segment.h"

static int open_dir(int at, const char *name, bool create, int *fd_r)
{
	if (create && mkdirat(at, name, 0700) < 0 && errno != EEXIST)
		return err_errno();
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_errno();
	*fd_r = fd;
	return 0;
}

int spool_dirs_open(const char *queue_directory, bool create, struct spool_dirs *d)
{
	*d = (struct spool_dirs){ -1, -1, -1, -1, -1 };
	int err = create ? io_mkdir_p(queue_directory, 0700) : 0;

	if (err == 0)
		err = open_dir(AT_FDCWD, queue_directory, false, &d->root);
	if (err == 0)
		err = open_dir(d->root, "seg", create, &d->seg);
	if (err == 0)
		err = open_dir(d->root, "spare", create, &d->spare);
	if (err == 0)
		err = open_dir(d->root, "journal", create, &d->journal);
	if (err == 0)
		err = open_dir(d->root, "corrupt", create, &d->corrupt);
	/* The names of fresh directories must last as long as what is put into them: nothing is
	 * before the numbers for it are reserved, which syncs d->root (state.c). */
	if (err != 0)
		spool_dirs_close(d);
	return err;
}

void spool_dirs_close(struct spool_dirs *d)
{
	io_close(&d->root);
	io_close(&d->seg);
	io_close(&d->spare);
	io_close(&d->journal);
	io_close(&d->corrupt);
}

int spool_hold(const struct spool_dirs *d, bool alone)
{
	if (flock(d->root, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return E_AGAIN;
	log_warn("queue directory: cannot lock: %s", err_str(err_errno()));
	return 0; /* a file system without locks: as good as it gets */
}

#define ROOM_NAME "room"

bool spool_room_keep(const struct spool_dirs *d)
{
	struct stat st;
	int fd = openat(d->root, ROOM_NAME, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return false;
	bool kept = fstat(fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= SPOOL_ROOM_BYTES;

	if (!kept && spool_reserve_size(fd, SPOOL_ROOM_BYTES) == SPOOL_ROOM_BYTES)
		kept = spool_reserve(fd, 0, SPOOL_ROOM_BYTES) == 0;
	close(fd);
	if (!kept)
		unlinkat(d->root, ROOM_NAME, 0);
	return kept;
}

bool spool_room_give(const struct spool_dirs *d)
{
	return unlinkat(d->root, ROOM_NAME, 0) == 0;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

int spool_list_dir(int dirfd, const char *suffix, uint32_t **numbers_r, size_t *count_r)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint32_t *numbers = NULL;
	size_t count = 0, cap = 0;

	if (dir == NULL) {
		int err = err_errno();

		io_close(&fd);
		return err;
	}
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		uint32_t n;

		if (!spool_name_parse(e->d_name, suffix, &n))
			continue;
		if (count == cap) {
			cap = cap == 0 ? 64 : cap * 2;
			numbers = xrealloc(numbers, cap * sizeof(*numbers));
		}
		numbers[count++] = n;
	}
	closedir(dir);
	if (count > 0)
		qsort(numbers, count, sizeof(*numbers), by_number);
	*numbers_r = numbers;
	*count_r = count;
	return 0;
}

int spool_list(const struct spool_dirs *d, enum spool_file_kind kind, uint32_t **numbers_r,
	       size_t *count_r)
{
	if (kind == SPOOL_SEGMENT)
		return spool_list_dir(d->seg, "seg", numbers_r, count_r);
	return spool_list_dir(d->journal, "jnl", numbers_r, count_r);
}

int spool_list_spares(const struct spool_dirs *d, uint32_t **numbers_r, size_t *count_r)
{
	char name[SPOOL_NAME_SIZE];
	size_t kept = 0;
	int err = spool_list_dir(d->spare, "seg", numbers_r, count_r);

	if (err != 0)
		return err;
	for (size_t i = 0; i < *count_r; i++) {
		spool_name((*numbers_r)[i], "seg", name);
		if (faccessat(d->seg, name, F_OK, 0) == 0)
			unlinkat(d->spare, name, 0);
		else
			(*numbers_r)[kept++] = (*numbers_r)[i];
	}
	*count_r = kept;
	return 0;
}

int spool_segment_retire(const struct spool_dirs *d, uint32_t seg, unsigned spare_max, bool *kept_r)
{
	char name[SPOOL_NAME_SIZE], idx[SPOOL_NAME_SIZE];
	uint32_t *spare = NULL;
	size_t spares = 0;
	int err = spool_list_dir(d->spare, "seg", &spare, &spares);

	free(spare);
	spool_name(seg, "seg", name);
	/* the index goes first: without it the segment is merely slower to read */
	unlinkat(d->seg, spool_name(seg, "idx", idx), 0);
	*kept_r = err == 0 && spares < spare_max && renameat(d->seg, name, d->spare, name) == 0;
	if (!*kept_r && unlinkat(d->seg, name, 0) < 0)
		return err_errno();
	return 0;
}

int spool_spare_remove(const struct spool_dirs *d, uint32_t seg)
{
	char name[SPOOL_NAME_SIZE];

	return unlinkat(d->spare, spool_name(seg, "seg", name), 0) < 0 ? err_errno() : 0;
}

int spool_journal_remove(const struct spool_dirs *d, uint32_t journal)
{
	char name[SPOOL_NAME_SIZE];

	/* The journal says what happened to messages of segments that are gone. Were their removal
	 * still only in memory, a power cut would bring them back without their outcomes. */
	if (fsync(d->seg) < 0)
		return err_errno();
	if (unlinkat(d->journal, spool_name(journal, "jnl", name), 0) < 0)
		return err_errno();
	return 0;
}
