/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Maildir delivery; see workers/local/maildir.h.
 *
 * Durability: fsync of the file, rename, fsync of new/. Shorter ways (ext4 and xfs carry
 * data and name in one journal commit when the file is synced after the rename) leave empty files
 * in new/ when the power goes in between, and readers of mail show those. The answer goes out after
 * that, so a mailbox never loses what the queue has let go of; a crash in between delivers twice,
 * which is the lesser evil.
 */
#include "workers/local/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"

#define DIR_MODE   0700
#define FILE_MODE  0600
#define NAME_TRIES 10

struct maildir {
	int root, tmp, new_; /* directory descriptors */
};

static void fail(struct maildir_result *r, int err, const char *what, const char *name)
{
	r->err = err;
	r->dsn[0] = 4;
	r->dsn[1] = 2;
	r->dsn[2] = err == E_NOSPC || err == -EDQUOT ? 2 : 0;
	snprintf(r->text, sizeof(r->text), "maildir delivery failed: %s %.120s: %s", what, name,
		 err_str(err));
}

/* ---- directories ---- */

static int open_dir_at(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_errno() : fd;
}

/* Open, or make and open. A fresh directory's parent is synced: the mail in it needs its name. */
static int make_dir_at(int at, const char *name)
{
	int fd = open_dir_at(at, name);

	if (fd != E_NOENT)
		return fd;
	if (mkdirat(at, name, DIR_MODE) < 0 && errno != EEXIST)
		return err_errno();
	if (fsync(at) < 0)
		return err_errno();
	return open_dir_at(at, name);
}

/* The directory base/path, every component a real directory. */
static int walk(const char *base, const char *path)
{
	int at = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (at < 0)
		return err_errno();
	while (*path != '\0') {
		size_t n = strcspn(path, "/");
		char name[NAME_MAX + 1];
		int next;

		if (n > 0) {
			if (!str_copy(name, sizeof(name), (struct sv){ path, n }) ||
			    strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
				io_close(&at);
				return E_INVAL;
			}
			next = make_dir_at(at, name);
			io_close(&at);
			if (next < 0)
				return next;
			at = next;
		}
		path += n + (path[n] == '/');
	}
	return at;
}

static void maildir_close(struct maildir *m)
{
	io_close(&m->root);
	io_close(&m->tmp);
	io_close(&m->new_);
}

static int maildir_open(const struct maildir_job *job, struct maildir *m)
{
	int cur;

	*m = (struct maildir){ .root = -1, .tmp = -1, .new_ = -1 };
	m->root = walk(job->base, job->path);
	if (m->root < 0)
		return m->root;
	m->tmp = make_dir_at(m->root, "tmp");
	m->new_ = m->tmp < 0 ? m->tmp : make_dir_at(m->root, "new");
	cur = m->new_ < 0 ? m->new_ : make_dir_at(m->root, "cur");
	if (cur < 0)
		return cur;
	io_close(&cur);
	return 0;
}

/* ---- the file ---- */

/* Host name as Maildir file names want it: no '/' and no ':'. */
static void safe_host(const char *host, char *out, size_t size)
{
	size_t n = 0;

	for (; *host != '\0' && n + 5 < size; host++) {
		if (*host == '/' || *host == ':')
			n += (size_t)snprintf(out + n, size - n, "\\%03o", (unsigned char)*host);
		else
			out[n++] = *host;
	}
	out[n] = '\0';
}

static int create_tmp(const struct maildir *m, const char *host, char *name, size_t size)
{
	static unsigned sequence;

	for (unsigned i = 0; i < NAME_TRIES; i++) {
		int64_t us = clock_wall().us;
		int fd;

		snprintf(name, size, "%lld.P%dQ%uM%lld.%s", (long long)(us / 1000000),
			 (int)getpid(), sequence++, (long long)(us % 1000000), host);
		fd = openat(m->tmp, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    FILE_MODE);
		if (fd >= 0 || errno != EEXIST)
			return fd >= 0 ? fd : err_errno();
	}
	return E_EXIST;
}

static int write_content(const struct maildir_job *job, int fd)
{
	off_t off = 0;
	int err = io_write_all(fd, job->header.p, job->header.len);

	while (err == 0 && (uint64_t)off < job->content_len) {
		ssize_t n = sendfile(fd, job->content_fd, &off,
				     (size_t)(job->content_len - (uint64_t)off));

		if (n < 0 && errno != EINTR)
			err = err_errno();
		else if (n == 0)
			err = E_EOF;
	}
	return err;
}

/* From tmp/ to new/ under the final name, which is returned. */
static int publish(const struct maildir *m, int fd, const char *tmp_name, const char *host,
		   char name[NAME_MAX + 1])
{
	struct stat st;
	int64_t us = clock_wall().us;

	if (fstat(fd, &st) < 0)
		return err_errno();
	snprintf(name, NAME_MAX + 1, "%lld.V%llxI%llxM%lld.%s", (long long)(us / 1000000),
		 (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
		 (long long)(us % 1000000), host);
	/* the name holds device and inode of a file that exists now: nobody else's can be equal */
	return renameat(m->tmp, tmp_name, m->new_, name) < 0 ? err_errno() : 0;
}

/*
 * The name in new/ is made durable. The one in tmp/ may come back after a power cut: nobody reads
 * it. When the file system shuts down meanwhile (its disk failed, or it ran into damage), xfs lets
 * the sync under way succeed with nothing on the disk. A file system that has shut down opens no
 * file, so one that still does was alive when the sync was done. A reader may have moved the file
 * on by now. For writing, because this process may not read what lies in mailboxes.
 */
static int make_durable(const struct maildir *m, const char *name)
{
	if (fsync(m->new_) < 0)
		return err_errno();
	int fd = openat(m->new_, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno();
	close(fd);
	return 0;
}

static int store(const struct maildir *m, const struct maildir_job *job, int fd,
		 const char *tmp_name, const char *host, const char **what, bool *seen)
{
	char name[NAME_MAX + 1];
	int err;

	*what = "write";
	err = write_content(job, fd);
	/* before the rename: what stands in new/ after a power cut must be whole */
	if (err == 0 && fsync(fd) < 0)
		err = err_errno();
	if (err != 0)
		return err;
	*what = "rename";
	err = publish(m, fd, tmp_name, host, name);
	if (err != 0)
		return err;
	*what = "sync";
	*seen = true;
	return make_durable(m, name);
}

void maildir_deliver(const struct maildir_job *job, struct maildir_result *r)
{
	struct maildir m;
	char tmp_name[NAME_MAX + 1], host[128];
	const char *what = "create";
	bool seen = false; /* under a name in new/ */
	int fd, err;

	*r = (struct maildir_result){ .dsn = { 2, 0, 0 } };
	snprintf(r->text, sizeof(r->text), "delivered to maildir");
	err = maildir_open(job, &m);
	if (err < 0) {
		fail(r, err, "open", job->path);
		maildir_close(&m);
		return;
	}
	safe_host(job->hostname, host, sizeof(host));
	fd = create_tmp(&m, host, tmp_name, sizeof(tmp_name));
	err = fd < 0 ? fd : store(&m, job, fd, tmp_name, host, &what, &seen);
	if (err < 0) {
		fail(r, err, what, job->path);
		r->unsure = seen;
		if (fd >= 0)
			unlinkat(m.tmp, tmp_name, 0);
	}
	io_close(&fd);
	maildir_close(&m);
}
