/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sliding buffer over a file; see window.h. */
#include "workers/spool/window.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/format.h"

#define WINDOW_PAGE 4096u

int spool_window_open(struct spool_window *w, int dir, uint32_t number, const char *extension)
{
	char name[SPOOL_NAME_SIZE];
	struct stat st;
	int fd =
		openat(dir, spool_name(number, extension, name), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_errno();

	*w = (struct spool_window){ .fd = fd };
	if (fstat(fd, &st) < 0) {
		int err = err_errno();

		io_close(&w->fd);
		return err;
	}
	w->size = (uint64_t)st.st_size;
	w->buf = xmalloc(2u * SPOOL_WINDOW_BYTES);
	return 0;
}

void spool_window_close(struct spool_window *w)
{
	io_close(&w->fd);
	free(w->buf);
	w->buf = NULL;
}

/* A page that cannot be read counts as zeroes: what is behind it may still be whole. */
static void fill(struct spool_window *w, uint64_t pos)
{
	size_t want = (size_t)u64_min(w->size - pos, 2u * SPOOL_WINDOW_BYTES);

	w->off = pos;
	w->len = 0;
	while (w->len < want) {
		ssize_t n = pread(w->fd, w->buf + w->len, want - w->len, (off_t)(pos + w->len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			uint64_t at = pos + w->len;

			w->err = err_errno();
			n = (ssize_t)u64_min(align_up(at + 1, WINDOW_PAGE) - at, want - w->len);
			memset(w->buf + w->len, 0, (size_t)n);
		}
		if (n == 0)
			return; /* the file became shorter */
		w->len += (size_t)n;
	}
}

const char *spool_window_at(struct spool_window *w, uint64_t pos, size_t need, size_t *have_r)
{
	if (pos >= w->size || need > w->size - pos)
		return NULL;
	if (pos < w->off || pos - w->off > w->len || need > w->len - (pos - w->off)) {
		fill(w, pos & ~(uint64_t)7);
		if (pos - w->off > w->len || need > w->len - (pos - w->off))
			return NULL;
	}
	*have_r = w->len - (size_t)(pos - w->off);
	return w->buf + (pos - w->off);
}

uint64_t spool_window_data(struct spool_window *w, uint64_t pos, uint64_t end)
{
	off_t at = lseek(w->fd, (off_t)pos, SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? end : pos;
	return u64_min(u64_max(pos, (uint64_t)at), end);
}
