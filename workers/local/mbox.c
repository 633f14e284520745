/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mailbox files; see workers/local/mbox.h. Called by agent.c.
 *
 * A message is appended and synced before it counts. What a power cut leaves of one that was being
 * written stays in the file, as with every mail system; the next one begins on a line of its own,
 * so that readers of mail find it.
 */
#include "workers/local/mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"

#define FILE_MODE 0600
#define COPY_SIZE 65536
#define REOPENS   5 /* a reader of mail puts another file in its place */

struct mbox {
	const struct mbox_job *job;
	int dir, fd;
	bool created, has_dot_lock;
	char name[NAME_MAX + 1], lock[NAME_MAX + 1];
	const char *what; /* what failed */
	char lock_what[256];
	char why[64]; /* or what is wrong with the file, in words of its own */
};

int mbox_parse_locks(const char *text, uint32_t *flags_r)
{
	static const struct {
		const char *word;
		uint32_t flag;
	} words[] = { { "fcntl", MBOX_LOCK_FCNTL },
		      { "flock", MBOX_LOCK_FLOCK },
		      { "dotlock", MBOX_LOCK_DOT } };

	for (*flags_r = 0; *text != '\0';) {
		size_t n = strcspn(text, ", \t\r\n"), i = 0;

		while (i < ARRAY_LEN(words) && !sv_eq_str((struct sv){ text, n }, words[i].word))
			i++;
		if (n > 0 && i == ARRAY_LEN(words))
			return E_SYNTAX;
		if (n > 0)
			*flags_r |= words[i].flag;
		text += n + (text[n] != '\0');
	}
	return 0;
}

/* ---- finding the file ---- */

/* The directory of the file, component by component below the base, and the file's name. */
static int open_dir(struct mbox *m)
{
	const char *path = m->job->path;

	m->dir = open(m->job->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (m->dir >= 0) {
		size_t n = strcspn(path, "/");

		if (n > 0 && (!str_copy(m->name, sizeof(m->name), (struct sv){ path, n }) ||
			      strcmp(m->name, ".") == 0 || strcmp(m->name, "..") == 0))
			return E_INVAL;
		path += n + (path[n] == '/');
		if (n == 0 && *path != '\0')
			continue;
		if (n == 0)
			return E_INVAL;
		if (*path == '\0')
			break;
		int next = openat(m->dir, m->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		int err = next < 0 ? err_errno() : 0;

		io_close(&m->dir);
		if (err != 0)
			return err;
		m->dir = next;
	}
	if (m->dir < 0)
		return err_errno();
	return snprintf(m->lock, sizeof(m->lock), "%s.lock", m->name) < (int)sizeof(m->lock)
		       ? 0
		       : -ENAMETOOLONG;
}

static void pause_ms(int64_t ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* ---- locks ---- */

static void remove_stale(const struct mbox *m)
{
	struct stat st;

	if (fstatat(m->dir, m->lock, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    clock_wall().us / 1000000 - st.st_ctime > m->job->conf.stale_s)
		unlinkat(m->dir, m->lock, 0);
}

static int lock_dot(struct mbox *m)
{
	const struct mbox_conf *c = &m->job->conf;
	int err = 0;

	if ((c->flags & MBOX_LOCK_DOT) == 0)
		return 0;
	snprintf(m->lock_what, sizeof(m->lock_what),
		 "unable to create lock file %.100s/%.100s.lock", m->job->base, m->job->path);
	m->what = m->lock_what;
	for (uint32_t i = 0; i < c->attempts; i++) {
		int fd = openat(m->dir, m->lock,
				O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);

		if (fd >= 0) {
			close(fd);
			m->has_dot_lock = true;
			return 0;
		}
		err = err_errno();
		if (err != E_EXIST)
			break;
		remove_stale(m);
		if (i + 1 < c->attempts)
			pause_ms(c->delay_ms);
	}
	return err != E_EXIST && (c->flags & MBOX_DOT_MAY_FAIL) != 0 ? 0 : err;
}

static bool try_kernel_locks(const struct mbox *m)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if ((m->job->conf.flags & MBOX_LOCK_FLOCK) != 0 && flock(m->fd, LOCK_EX | LOCK_NB) < 0)
		return false;
	return (m->job->conf.flags & MBOX_LOCK_FCNTL) == 0 || fcntl(m->fd, F_SETLK, &l) == 0;
}

static int lock_file(struct mbox *m)
{
	const struct mbox_conf *c = &m->job->conf;

	m->what = "unable to lock for exclusive access";
	for (uint32_t i = 0; i < c->attempts; i++) {
		if (try_kernel_locks(m))
			return 0;
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return err_errno();
		if (i + 1 < c->attempts)
			pause_ms(c->delay_ms);
	}
	return E_AGAIN;
}

/* ---- the file ---- */

static int open_file(struct mbox *m)
{
	int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

	m->what = "cannot open file";
	for (int i = 0; i < REOPENS; i++) {
		m->created = false;
		m->fd = openat(m->dir, m->name, flags);
		if (m->fd >= 0 || errno != ENOENT)
			break;
		m->fd = openat(m->dir, m->name, flags | O_CREAT | O_EXCL, FILE_MODE);
		m->created = m->fd >= 0;
		if (m->fd >= 0 || errno != EEXIST)
			break;
	}
	if (m->fd < 0 && errno == ELOOP) {
		snprintf(m->why, sizeof(m->why), "file is a symbolic link");
		return E_INVAL;
	}
	return m->fd < 0 ? err_errno() : 0;
}

/* Is it what mail may be put into? E_INVAL with the reason in `why` when it is not. */
static int check_file(struct mbox *m, const struct stat *st)
{
	if (!S_ISREG(st->st_mode))
		snprintf(m->why, sizeof(m->why), "destination is not a regular file");
	else if (st->st_nlink > 1)
		snprintf(m->why, sizeof(m->why), "file has %lu hard links",
			 (unsigned long)st->st_nlink);
	else if ((m->job->conf.flags & MBOX_STRICT_OWNER) != 0 && st->st_uid != geteuid())
		snprintf(m->why, sizeof(m->why), "destination is not owned by recipient");
	return m->why[0] == '\0' ? 0 : E_INVAL;
}

/* Opened, checked, locked, and still the file of that name. */
static int open_locked(struct mbox *m, struct stat *st)
{
	struct stat named;

	for (int i = 0; i < REOPENS; i++) {
		int err = open_file(m);

		if (err == 0 && fstat(m->fd, st) < 0)
			err = err_errno();
		if (err == 0)
			err = check_file(m, st);
		if (err == 0)
			err = lock_file(m);
		if (err != 0)
			return err;
		if (fstat(m->fd, st) == 0 && st->st_nlink == 1 &&
		    fstatat(m->dir, m->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		    named.st_ino == st->st_ino && named.st_dev == st->st_dev)
			return 0;
		io_close(&m->fd);
	}
	m->what = "keeps being replaced";
	return E_AGAIN;
}

/* ---- writing ---- */

static int end_last_line(const struct mbox *m, off_t size)
{
	char last;

	if (size == 0 || pread(m->fd, &last, 1, size - 1) != 1 || last == '\n')
		return 0;
	return io_write_all(m->fd, "\n\n", 2);
}

static int write_content(const struct mbox_job *job, int fd)
{
	static char room[COPY_SIZE];
	int err = 0;

	for (uint64_t off = 0; err == 0 && off < job->content_len;) {
		size_t n = (size_t)u64_min(sizeof(room), job->content_len - off);

		err = io_pread_all(job->content_fd, room, n, (off_t)off);
		if (err == 0)
			err = io_write_all(fd, room, n);
		off += n;
	}
	return err;
}

static int append(struct mbox *m, const struct stat *st, bool *seen)
{
	const struct mbox_job *job = m->job;
	uint64_t limit = job->conf.size_limit;
	int err;

	m->what = "error writing message";
	if (limit > 0 && (uint64_t)st->st_size + job->header.len + job->content_len > limit)
		return -EFBIG;
	err = end_last_line(m, st->st_size);
	if (err == 0)
		err = io_write_all(m->fd, job->header.p, job->header.len);
	if (err == 0)
		err = write_content(job, m->fd);
	if (err == 0) {
		*seen = true;
		if (fsync(m->fd) < 0 || (m->created && fsync(m->dir) < 0))
			err = err_errno();
	}
	if (err != 0 && ftruncate(m->fd, st->st_size) == 0 && fsync(m->fd) == 0)
		*seen = false;
	return err;
}

/* ---- the verdict ---- */

static void set_status(struct maildir_result *r, int err, uint32_t flags)
{
	static const struct {
		int err;
		uint8_t dsn[3];
	} statuses[] = {
		{ E_INVAL, { 5, 2, 0 } }, { -EFBIG, { 5, 2, 2 } },  { -EACCES, { 5, 2, 0 } },
		{ -EDQUOT, { 4, 2, 2 } }, { E_NOSPC, { 4, 3, 0 } }, { -EISDIR, { 5, 2, 0 } },
	};

	memcpy(r->dsn, (const uint8_t[]){ 4, 2, 0 }, 3);
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		if (statuses[i].err == err)
			memcpy(r->dsn, statuses[i].dsn, 3);
	}
	if ((flags & MBOX_VIRTUAL) != 0 && err != -EFBIG)
		memcpy(r->dsn, (const uint8_t[]){ 4, 2, 0 }, 3);
}

static void set_text(const struct mbox *m, int err, struct maildir_result *r)
{
	const struct mbox_job *job = m->job;
	bool slash = job->base[0] != '\0' && job->base[strlen(job->base) - 1] == '/';
	bool virtual = (job->conf.flags & MBOX_VIRTUAL) != 0;
	size_t n = (size_t)snprintf(
		r->text, sizeof(r->text), "%s %.120s%s%.120s%s%.80s%s",
		virtual ? "delivery failed to mailbox" : "cannot update mailbox", job->base,
		slash ? "" : "/", job->path, virtual ? "" : " for user ", virtual ? "" : job->user,
		virtual ? ": " : ". ");

	if (m->why[0] != '\0')
		snprintf(r->text + n, sizeof(r->text) - n, "%s", m->why);
	else
		snprintf(r->text + n, sizeof(r->text) - n, "%s: %s", m->what, err_str(err));
}

void mbox_deliver(const struct mbox_job *job, struct maildir_result *r)
{
	struct mbox m = { .job = job, .dir = -1, .fd = -1, .what = "cannot open file" };
	struct stat st;
	bool seen = false;
	int err = open_dir(&m);

	*r = (struct maildir_result){ .dsn = { 2, 0, 0 } };
	snprintf(r->text, sizeof(r->text), "delivered to mailbox");
	if (err == 0)
		err = lock_dot(&m);
	if (err == 0)
		err = open_locked(&m, &st);
	if (err == 0)
		err = append(&m, &st, &seen);
	io_close(&m.fd); /* with its locks */
	if (m.has_dot_lock)
		unlinkat(m.dir, m.lock, 0);
	io_close(&m.dir);
	if (err == 0) {
		r->offset = (uint64_t)st.st_size;
		return;
	}
	r->err = err;
	r->unsure = seen;
	set_status(r, err, job->conf.flags);
	set_text(&m, err, r);
}
