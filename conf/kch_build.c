/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writing compiled tables; see conf/kch_build.h. Called by conf/postmap.c. */
#include "conf/kch_build.h"

#include <fcntl.h>
#include <kclangc.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

struct kch_build {
	KCDB *db;
	char *path;     /* NAME.kch */
	char *tmp_path; /* NAME.PID.tmp.kch */
	int tmp_fd;
	int lock_fd; /* the present table, when it is kept */
	int err;     /* of an add */
};

static int fail(char **why_r, int err, const char *what, const char *path, const char *detail)
{
	*why_r = xasprintf("%s %s: %s", what, path, detail);
	return err;
}

void kch_build_abort(struct kch_build **bp)
{
	struct kch_build *b;

	TAKE(b, *bp);
	if (b == NULL)
		return;
	if (b->db != NULL) {
		kcdbclose(b->db);
		kcdbdel(b->db);
	}
	if (b->tmp_fd >= 0)
		unlink(b->tmp_path);
	io_close(&b->tmp_fd);
	io_close(&b->lock_fd);
	free(b->path);
	free(b->tmp_path);
	free(b);
}

/* Lock the file that the path names; another writer may have renamed a new one there meanwhile. */
static int lock_present(const char *path, int *fd_r)
{
	struct stat here, there;

	for (;;) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			return err_errno();
		if (flock(fd, LOCK_EX) < 0 || fstat(fd, &here) < 0) {
			int err = err_errno();

			close(fd);
			return err;
		}
		if (stat(path, &there) == 0 && here.st_dev == there.st_dev &&
		    here.st_ino == there.st_ino) {
			*fd_r = fd;
			return 0;
		}
		close(fd);
	}
}

/* The file is made here and not by the library: exclusively, and with the final rights. */
static int make_tmp(struct kch_build *b, size_t expected, mode_t mode, char **why_r)
{
	unlink(b->tmp_path); /* left by a dead process that had our number */
	b->tmp_fd = open(b->tmp_path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (b->tmp_fd < 0 || fchmod(b->tmp_fd, mode) < 0)
		return fail(why_r, err_errno(), "create", b->tmp_path, strerror(errno));
	char *spec = xasprintf("%s#bnum=%zu", b->tmp_path, size_max(64, expected * 2));

	b->db = kcdbnew();
	bool open_ok = kcdbopen(b->db, spec, KCOWRITER | KCOTRYLOCK);

	free(spec);
	return open_ok ? 0 : fail(why_r, E_IO, "open", b->tmp_path, kcdbemsg(b->db));
}

static bool copy_one(void *ctx, struct sv key, struct sv value)
{
	return kch_build_add(ctx, key, value, KCH_DUP_REPLACE) == 1;
}

int kch_build_begin(const char *name, size_t expected, mode_t mode, bool keep_old,
		    struct kch_build **b_r, char **why_r)
{
	struct kch_build *b = xcalloc(1, sizeof(*b));
	struct stat st;
	int err = 0;

	*b_r = NULL;
	*why_r = NULL;
	b->tmp_fd = b->lock_fd = -1;
	b->path = xasprintf("%s.kch", name);
	b->tmp_path = xasprintf("%s.%ld.tmp.kch", name, (long)getpid());
	if (strchr(name, '#') != NULL || name[0] == '\0')
		err = fail(why_r, E_INVAL, "create", b->path, "not a usable file name");
	if (err == 0 && keep_old) {
		err = lock_present(b->path, &b->lock_fd);
		if (err == E_NOENT)
			err = 0;
		else if (err < 0)
			fail(why_r, err, "open", b->path, err_str(err));
		else if (fstat(b->lock_fd, &st) == 0)
			mode = st.st_mode & 07777;
	}
	if (err == 0)
		err = make_tmp(b, expected, mode, why_r);
	if (err == 0 && b->lock_fd >= 0) {
		err = kch_each(name, copy_one, b, why_r);
		if (err == 0 && b->err < 0)
			err = fail(why_r, b->err, "write", b->tmp_path, err_str(b->err));
	}
	if (err < 0)
		kch_build_abort(&b);
	*b_r = b;
	return err;
}

int kch_build_add(struct kch_build *b, struct sv key, struct sv value, enum kch_dup dup)
{
	int32_t ok = dup == KCH_DUP_REPLACE ? kcdbset(b->db, key.p, key.len, value.p, value.len)
					    : kcdbadd(b->db, key.p, key.len, value.p, value.len);

	if (ok)
		return 1;
	if (kcdbecode(b->db) == KCEDUPREC)
		return 0;
	b->err = E_IO;
	return E_IO;
}

int kch_build_remove(struct kch_build *b, struct sv key)
{
	if (kcdbremove(b->db, key.p, key.len))
		return 1;
	if (kcdbecode(b->db) == KCENOREC)
		return 0;
	b->err = E_IO;
	return E_IO;
}

static int sync_dir(const char *path)
{
	char *copy = xstrdup(path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) < 0 ? err_errno() : 0;

	free(copy);
	io_close(&fd);
	return err;
}

int kch_build_commit(struct kch_build **bp, char **why_r)
{
	struct kch_build *b = *bp;
	int err = b->err;

	*why_r = NULL;
	if (err < 0 || !kcdbclose(b->db))
		err = fail(why_r, E_IO, "write", b->tmp_path, kcdbemsg(b->db));
	else if (fsync(b->tmp_fd) < 0)
		err = fail(why_r, err_errno(), "sync", b->tmp_path, strerror(errno));
	else if (rename(b->tmp_path, b->path) < 0)
		err = fail(why_r, err_errno(), "rename to", b->path, strerror(errno));
	else {
		io_close(&b->tmp_fd); /* the name is gone: nothing to unlink */
		err = sync_dir(b->path);
		if (err < 0)
			fail(why_r, err, "sync the directory of", b->path, err_str(err));
	}
	kch_build_abort(bp);
	return err;
}

int kch_each(const char *name, kch_each_fn fn, void *ctx, char **why_r)
{
	char *path = xasprintf("%s.kch", name);
	KCDB *db = kcdbnew();
	int err = 0;
	size_t key_len, value_len;
	const char *value;
	char *key;

	*why_r = NULL;
	if (strchr(name, '#') != NULL || !kcdbopen(db, path, KCOREADER | KCONOREPAIR | KCONOLOCK)) {
		err = fail(why_r, E_IO, "open", path, kcdbemsg(db));
	} else {
		KCCUR *cur = kcdbcursor(db);
		bool more = kccurjump(cur) != 0;

		while (more && (key = kccurget(cur, &key_len, &value, &value_len, 1)) != NULL) {
			more = fn(ctx, (struct sv){ key, key_len },
				  (struct sv){ value, value_len });
			kcfree(key);
		}
		if (more && kcdbecode(db) != KCENOREC)
			err = fail(why_r, E_CORRUPT, "read", path, kcdbemsg(db));
		kccurdel(cur);
		kcdbclose(db);
	}
	kcdbdel(db);
	free(path);
	return err;
}
