/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files of the maildrop directory; see workers/pickup/maildrop.h. Called by postdrop (writing) and
 * the pickup worker (reading). */
#include "workers/pickup/maildrop.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

#define MAGIC       "PHDROP1\n"
#define MAGIC_BYTES 8u
#define FLUSH_BYTES (128u << 10)
#define NAME_TRIES  100
/* Readable for mail_owner; the directory keeps everybody else out. Not writable, not even by its
 * owner: it is done. */
#define FILE_MODE 0444

static void put_u32(char *p, uint32_t v)
{
	for (unsigned i = 0; i < 4; i++)
		p[i] = (char)(v >> 8 * i & 0xff);
}

uint32_t maildrop_get_u32(const char *p)
{
	uint32_t v = 0;

	for (unsigned i = 4; i > 0; i--)
		v = v << 8 | (unsigned char)p[i - 1];
	return v;
}

int maildrop_open_dir(const char *queue_directory, const char *sub)
{
	char *path = xasprintf("%s/%s", queue_directory, sub);
	/* the group may write there, but not read */
	int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		fd = err_errno();
	free(path);
	return fd;
}

/* ---- writing ---- */

static int flush(struct maildrop_writer *w)
{
	int err = io_write_all(w->fd, w->out.p, w->out.len);

	buf_reset(&w->out);
	return err;
}

static int put(struct maildrop_writer *w, const char *data, size_t len)
{
	w->crc = crc32c(w->crc, data, len);
	buf_add(&w->out, data, len);
	return w->out.len >= FLUSH_BYTES ? flush(w) : 0;
}

int maildrop_create(struct maildrop_writer *w, int dir_fd, struct sv envelope)
{
	uint64_t stamp = (uint64_t)clock_wall().us;
	char head[MAILDROP_HEAD_BYTES] = "";

	*w = (struct maildrop_writer){ .dir_fd = dir_fd, .fd = -1 };
	for (unsigned i = 0; w->fd < 0 && i < NAME_TRIES; i++) {
		snprintf(w->tmp, sizeof(w->tmp), MAILDROP_TMP "%llx.%x",
			 (unsigned long long)stamp + i, (unsigned)getpid());
		w->fd = openat(dir_fd, w->tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			       FILE_MODE);
		if (w->fd < 0 && errno != EEXIST)
			return err_errno();
	}
	if (w->fd < 0)
		return E_EXIST;
	w->env_len = (uint32_t)envelope.len;
	/* the head is written last */
	buf_add(&w->out, head, sizeof(head));
	int err = put(w, envelope.p, envelope.len);

	if (err != 0)
		maildrop_abort(w);
	return err;
}

int maildrop_add(struct maildrop_writer *w, const char *data, size_t len)
{
	int err = put(w, data, len);

	w->content_len += len;
	if (err != 0)
		maildrop_abort(w);
	return err;
}

void maildrop_abort(struct maildrop_writer *w)
{
	if (w->fd >= 0)
		unlinkat(w->dir_fd, w->tmp, 0);
	io_close(&w->fd);
	buf_fini(&w->out);
}

static int write_head(const struct maildrop_writer *w)
{
	char head[MAILDROP_HEAD_BYTES] = MAGIC;

	put_u32(head + 8, w->env_len);
	put_u32(head + 12, w->crc);
	put_u32(head + 16, (uint32_t)(w->content_len & UINT32_MAX));
	put_u32(head + 20, (uint32_t)(w->content_len >> 32));
	put_u32(head + 28, crc32c(0, head, 28));
	return io_pwrite_all(w->fd, head, sizeof(head), 0);
}

/* The name must last. A set-gid program may write to the directory but not open it: then the whole
 * file system is synced, which is slower and as good. */
static int sync_name(const struct maildrop_writer *w)
{
	int dir = openat(w->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = dir >= 0 ? fsync(dir) : syncfs(w->fd);
	int err = rc < 0 ? err_errno() : 0;

	io_close(&dir);
	return err;
}

int maildrop_commit(struct maildrop_writer *w)
{
	struct stat st;
	int err = flush(w);

	if (err == 0)
		err = write_head(w);
	/* the mode again: it was made under the caller's umask */
	if (err == 0 && (fchmod(w->fd, FILE_MODE) < 0 || fsync(w->fd) < 0 || fstat(w->fd, &st) < 0))
		err = err_errno();
	if (err != 0) {
		maildrop_abort(w);
		return err;
	}
	/* no two files have one inode at one time */
	snprintf(w->name, sizeof(w->name), "%llx.%llx", (unsigned long long)clock_wall().us,
		 (unsigned long long)st.st_ino);
	if (renameat(w->dir_fd, w->tmp, w->dir_fd, w->name) < 0) {
		err = err_errno();
		maildrop_abort(w);
		return err;
	}
	err = sync_name(w);
	/* unless it was picked up already: then it will be sent, and the caller may try again */
	if (err != 0)
		unlinkat(w->dir_fd, w->name, 0);
	io_close(&w->fd);
	buf_fini(&w->out);
	return err;
}

/* ---- reading ---- */

static int check_head(const char *head, uint64_t size, uint64_t max_bytes, struct maildrop_file *f,
		      const char **why_r)
{
	if (memcmp(head, MAGIC, MAGIC_BYTES) != 0 ||
	    crc32c(0, head, 28) != maildrop_get_u32(head + 28)) {
		*why_r = "not a submitted message";
		return E_CORRUPT;
	}
	f->env_len = maildrop_get_u32(head + 8);
	f->crc = maildrop_get_u32(head + 12);
	f->content_len = (uint64_t)maildrop_get_u32(head + 20) << 32 | maildrop_get_u32(head + 16);
	if (f->env_len > MAILDROP_ENV_MAX) {
		*why_r = "envelope too large";
		return E_CORRUPT;
	}
	if (f->content_len > max_bytes) {
		*why_r = "message too large";
		return E_CORRUPT;
	}
	if (size != MAILDROP_HEAD_BYTES + (uint64_t)f->env_len + f->content_len) {
		*why_r = "not of the length it says";
		return E_CORRUPT;
	}
	return 0;
}

int maildrop_open(int dir_fd, const char *name, uint64_t max_bytes, struct maildrop_file *f,
		  const char **why_r)
{
	char head[MAILDROP_HEAD_BYTES];
	struct stat st;

	*why_r = "";
	f->fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (f->fd < 0 && (errno == ELOOP || errno == ENXIO)) {
		*why_r = "not a plain file";
		return E_INVAL;
	}
	if (f->fd < 0)
		return err_errno();
	int err = fstat(f->fd, &st) < 0 ? err_errno() : 0;

	if (err == 0 && !S_ISREG(st.st_mode)) {
		*why_r = "not a plain file";
		err = E_INVAL;
	} else if (err == 0 && st.st_nlink != 1) {
		*why_r = "a file with several names";
		err = E_PEER;
	} else if (err == 0 && (st.st_mode & 07222) != 0) {
		*why_r = "a file with the wrong mode";
		err = E_PEER;
	}
	f->uid = st.st_uid;
	f->mtime_s = st.st_mtime;
	if (err == 0) {
		err = io_pread_all(f->fd, head, sizeof(head), 0);
		if (err == E_EOF) {
			*why_r = "not of the length it says";
			err = E_CORRUPT;
		}
	}
	if (err == 0)
		err = check_head(head, (uint64_t)st.st_size, max_bytes, f, why_r);
	if (err != 0)
		io_close(&f->fd);
	return err;
}

int maildrop_read_envelope(const struct maildrop_file *f, struct buf *out)
{
	char *room = buf_reserve(out, f->env_len);
	int err =
		room == NULL ? E_LIMIT : io_pread_all(f->fd, room, f->env_len, MAILDROP_HEAD_BYTES);

	if (err == 0) {
		out->len += f->env_len;
		out->p[out->len] = '\0'; /* buffers always end with one */
	}
	return err == E_EOF ? E_CORRUPT : err;
}

ssize_t maildrop_read_content(const struct maildrop_file *f, uint64_t off, char *out, size_t len)
{
	ssize_t n;

	if (off >= f->content_len)
		return 0;
	len = (size_t)u64_min(len, f->content_len - off);
	do
		n = pread(f->fd, out, len, (off_t)(MAILDROP_HEAD_BYTES + f->env_len + off));
	while (n < 0 && errno == EINTR);
	return n < 0 ? err_errno() : n == 0 ? E_CORRUPT : n;
}

/* ---- the pipe ---- */

void maildrop_put_piece(struct buf *out, const char *data, size_t len)
{
	char head[4];

	put_u32(head, (uint32_t)len);
	buf_add(out, head, sizeof(head));
	buf_add(out, data, len);
}
