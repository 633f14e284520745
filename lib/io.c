/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocking file helpers and descriptor passing; see lib/io.h. */
#include "lib/io.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/err.h"

#define MAX_FDS 16

int io_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return err_errno();
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_pwrite_all(int fd, const void *data, size_t len, off_t off)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, off);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return err_errno();
		}
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_pread_all(int fd, void *data, size_t len, off_t off)
{
	char *p = data;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, off);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return err_errno();
		}
		if (n == 0)
			return E_EOF;
		p += n;
		off += n;
		len -= (size_t)n;
	}
	return 0;
}

int io_read_to_buf(int fd, size_t limit, struct buf *out)
{
	for (;;) {
		char *place = buf_reserve(out, 65536);
		ssize_t n = read(fd, place, 65536);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return err_errno();
		}
		if (n == 0)
			return 0;
		out->len += (size_t)n;
		out->p[out->len] = '\0';
		if (out->len > limit)
			return E_LIMIT;
	}
}

int io_read_file(const char *path, size_t limit, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_errno();
	int err = io_read_to_buf(fd, limit, out);

	close(fd);
	return err;
}

void io_eventfd_drain(int fd)
{
	uint64_t count;
	struct iovec iov = { &count, sizeof(count) };

	/* RWF_NOWAIT: the flag of the description belongs to all who have it */
	if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) < 0 && errno == EOPNOTSUPP &&
	    read(fd, &count, sizeof(count)) < 0)
		return;
}

bool io_have_std(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int io_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno();
	return 0;
}

void io_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The name of a fresh directory is to last as long as what will be put into it. */
static int sync_parent(char *path)
{
	char *slash = strrchr(path, '/');

	if (slash != NULL)
		*slash = '\0';
	int fd = open(slash == NULL   ? "."
		      : slash == path ? "/"
				      : path,
		      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err = fd < 0 || fsync(fd) < 0 ? err_errno() : 0;

	if (slash != NULL)
		*slash = '/';
	io_close(&fd);
	return err;
}

int io_mkdir_p(const char *path, mode_t mode)
{
	char *copy = xstrdup(path);
	int err = 0;

	for (char *p = copy + 1; err == 0; p++) {
		if (*p != '/' && *p != '\0')
			continue;
		bool last = *p == '\0';

		*p = '\0';
		if (mkdir(copy, mode) == 0)
			err = sync_parent(copy);
		else if (errno != EEXIST)
			err = err_errno();
		if (last)
			break;
		*p = '/';
	}
	free(copy);
	return err;
}

int io_send_fds(int sock, const void *data, size_t len, const int *fds, size_t nfds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * MAX_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { (void *)(uintptr_t)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nfds > MAX_FDS)
		return E_INVAL;
	if (nfds > 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	for (;;) {
		if (sendmsg(sock, &msg, MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return err_errno();
	}
}

static void take_fds(struct msghdr *msg, int *fds, size_t *nfds)
{
	size_t room = *nfds;

	*nfds = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (*nfds < room)
				fds[(*nfds)++] = fd;
			else
				close(fd);
		}
	}
}

int io_recv_fds(int sock, void *data, size_t cap, size_t *len_r, int *fds, size_t *nfds)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * MAX_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec iov = { data, cap };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = control.buf,
			      .msg_controllen = sizeof(control.buf) };
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return err_errno();
	take_fds(&msg, fds, nfds);
	if (n == 0)
		return E_EOF;
	*len_r = (size_t)n;
	return 0;
}
