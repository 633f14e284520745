/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lists that users keep; see workers/local/readfile.h. Called by agent.c. */
#include "workers/local/readfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"

static const char *unfit(const struct stat *st, bool own)
{
	if (!S_ISREG(st->st_mode))
		return "is not a regular file";
	if (own && st->st_uid != 0 && st->st_uid != geteuid())
		return "has a bad owner";
	if (st->st_mode & S_IWOTH)
		return "is world writable";
	return st->st_size > (off_t)READFILE_MAX ? "is too large" : NULL;
}

static int copy(int from, int to)
{
	char room[16384];
	size_t total = 0;

	for (;;) {
		ssize_t n = read(from, room, sizeof(room));

		if (n < 0)
			return err_errno();
		total += (size_t)n;
		if (n == 0)
			return 0;
		if (total > READFILE_MAX)
			return E_LIMIT;
		int err = io_write_all(to, room, (size_t)n);

		if (err != 0)
			return err;
	}
}

static void note_owner(const struct stat *st, struct maildir_result *r)
{
	r->owner = st->st_uid;
	r->has_owner = true;
}

void readfile_copy(const char *base, const char *path, bool own, int out, struct maildir_result *r)
{
	int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | (own ? O_NOFOLLOW : 0);
	int dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = dir < 0 ? -1 : openat(dir, path, flags);
	const char *why = NULL;
	struct stat st;
	int err = fd < 0 ? err_errno() : 0;

	*r = (struct maildir_result){ .dsn = { 2, 0, 0 } };
	if (err == -ENOTDIR)
		err = E_NOENT;
	if (fd < 0 && dir >= 0 && fstatat(dir, path, &st, 0) == 0)
		note_owner(&st, r);
	if (err == -ELOOP)
		why = "is not a regular file";
	else if (err == 0 && fstat(fd, &st) < 0)
		err = err_errno();
	else if (err == 0)
		why = unfit(&st, own);
	if (fd >= 0 && err == 0)
		note_owner(&st, r);
	if (err == 0 && why == NULL)
		err = copy(fd, out);
	io_close(&fd);
	io_close(&dir);
	r->err = why != NULL ? E_INVAL : err;
	if (r->err != 0)
		snprintf(r->text, sizeof(r->text), "file %.200s/%.200s %s", base, path,
			 why != NULL ? why : err_str(err));
}
