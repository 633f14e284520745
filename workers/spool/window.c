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
	/* What is reserved and was never written is a hole for SEEK_DATA only as long as no page of
	 * it is in memory: read ahead, all of it would be read. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
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

/* Is all that the window holds from pos on zero? Then this is where it ends, else pos. */
static uint64_t behind_zeroes(const struct spool_window *w, uint64_t pos)
{
	if (pos < w->off || pos - w->off >= w->len)
		return pos;
	for (size_t i = (size_t)(pos - w->off); i < w->len; i++) {
		if (w->buf[i] != 0)
			return pos;
	}
	return w->off + w->len;
}

uint64_t spool_window_data(struct spool_window *w, uint64_t pos, uint64_t end)
{
	/* the page that pos stands on was read just now and therefore is no hole */
	uint64_t from = behind_zeroes(w, pos);
	off_t at = lseek(w->fd, (off_t)from, SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? end : pos;
	if ((uint64_t)at <= from)
		return pos;
	return u64_min((uint64_t)at, end);
}

bool spool_window_is_zero(struct spool_window *w, uint64_t pos)
{
	while (pos < w->size) {
		size_t have;

		if (spool_window_at(w, pos, 1, &have) == NULL)
			return true; /* the file became shorter */
		if (behind_zeroes(w, pos) != w->off + w->len)
			return false;
		pos = spool_window_data(w, pos + have, w->size);
	}
	return true;
}
