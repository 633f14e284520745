/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Forbidden actions of a taken-over process, files and sockets; see evil_probe.inc and evil.h.
 * Those on processes and the kernel are in evil_probe_proc.c. Nothing of this is in a build for
 * use. */
#include "workers/common/evil.h"

#ifdef PH_FAULT_POINTS

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/util.h"
#include "workers/common/evil_int.h"

static const struct {
	const char *name;
	evil_action_fn *act;
} actions[] = {
#define PROBE(name, text) { #name, evil_do_##name },
#include "workers/common/evil_probe.inc"
#undef PROBE
};
static_assert(ARRAY_LEN(actions) <= EVIL_ACTIONS_MAX, "the page has room for all");

void evil_probe(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(actions); i++) {
		if (evil.page->wanted[i] == 0)
			continue;
		atomic_store(&evil.page->result[i], EVIL_STARTED);
		int err = actions[i].act();

		atomic_store(&evil.page->result[i], err == 0 ? EVIL_PERMITTED : err);
		atomic_fetch_add(&evil.page->acts, 1);
	}
	atomic_store(&evil.page->done, 1);
}

const char *evil_path(enum evil_text which, const char *below)
{
	static char path[2][2 * EVIL_TEXT_SIZE];
	static unsigned turn;
	char *p = path[turn++ % 2];

	snprintf(p, sizeof(path[0]), "%.*s%s", EVIL_TEXT_SIZE - 1, evil.page->text[which], below);
	return p;
}

int evil_result(long rc)
{
	return rc >= 0 ? 0 : errno > 0 ? -errno : -EIO;
}

/* ---- reading ---- */

/* Opening alone may be possible and worth nothing: a byte must come. */
static int reads(const char *path)
{
	char c;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, &c, 1);
	int err = n == 1 ? 0 : n == 0 ? -ENODATA : -errno;

	close(fd);
	return err;
}

int evil_do_read_passwd(void)
{
	return reads("/etc/passwd");
}

int evil_do_read_shadow(void)
{
	return reads("/etc/shadow");
}

int evil_do_read_key(void)
{
	return reads(evil_path(EVIL_KEY, ""));
}

int evil_do_read_mailbox(void)
{
	return reads(evil_path(EVIL_MAILBOX, ""));
}

int evil_do_read_conf(void)
{
	return reads(evil_path(EVIL_CONF, "/main.cf"));
}

int evil_do_read_secret(void)
{
	return reads(evil_path(EVIL_SPOOL, "/state"));
}

int evil_do_read_segment(void)
{
	return reads(evil_path(EVIL_SPOOL, "/seg/probe"));
}

static int lists(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int evil_do_list_root(void)
{
	return lists("/");
}

int evil_do_list_spool(void)
{
	return lists(evil_path(EVIL_SPOOL, ""));
}

/* ---- making and changing ---- */

static int makes(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return -errno;
	close(fd);
	unlink(path);
	return 0;
}

int evil_do_make_tmp(void)
{
	return makes("/tmp/posthaste-probe");
}

int evil_do_make_mailbox(void)
{
	return makes(evil_path(EVIL_MAILBOX, ".probe"));
}

int evil_do_make_segment(void)
{
	return makes(evil_path(EVIL_SPOOL, "/seg/probe-new"));
}

int evil_do_make_journal(void)
{
	char below[40];

	/* not everybody who may make one may remove it */
	snprintf(below, sizeof(below), "/journal/probe-new%u", evil.who);
	return makes(evil_path(EVIL_SPOOL, below));
}

int evil_do_make_spool(void)
{
	return makes(evil_path(EVIL_SPOOL, "/probe-new"));
}

static int made(int rc, const char *path)
{
	int err = evil_result(rc);

	if (err == 0)
		unlink(path);
	return err;
}

int evil_do_make_symlink(void)
{
	const char *path = evil_path(EVIL_SPOOL, "/seg/probe-link");

	return made(symlink("/etc/passwd", path), path);
}

int evil_do_make_link(void)
{
	const char *path = evil_path(EVIL_SPOOL, "/seg/probe-hard");

	return made(link(evil_path(EVIL_SPOOL, "/seg/probe"), path), path);
}

int evil_do_make_fifo(void)
{
	const char *path = evil_path(EVIL_SPOOL, "/seg/probe-pipe");

	return made(mkfifo(path, 0600), path);
}

int evil_do_make_device(void)
{
	return made(mknod("/tmp/posthaste-probe-null", S_IFCHR | 0600, makedev(1, 3)),
		    "/tmp/posthaste-probe-null");
}

int evil_do_rename_spool(void)
{
	const char *from = evil_path(EVIL_SPOOL, "/probe"), *to = evil_path(EVIL_SPOOL, "/probe2");
	int err = evil_result(rename(from, to));

	if (err == 0)
		err = evil_result(rename(to, from));
	return err;
}

int evil_do_unlink_spool(void)
{
	return evil_result(unlink(evil_path(EVIL_SPOOL, "/probe-unlink")));
}

int evil_do_truncate_spool(void)
{
	return evil_result(truncate(evil_path(EVIL_SPOOL, "/probe"), 1));
}

int evil_do_chmod_spool(void)
{
	return evil_result(chmod(evil_path(EVIL_SPOOL, "/probe"), 0644));
}

int evil_do_chown_spool(void)
{
	return evil_result(chown(evil_path(EVIL_SPOOL, "/probe"), geteuid(), getegid()));
}

int evil_do_handle_open(void)
{
	struct {
		struct file_handle h;
		char room[MAX_HANDLE_SZ];
	} handle = { .h.handle_bytes = MAX_HANDLE_SZ };
	int mount_id;

	if (name_to_handle_at(AT_FDCWD, "/", &handle.h, &mount_id, 0) < 0)
		return -errno;
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = open_by_handle_at(root, &handle.h, O_RDONLY);
	int err = evil_result(fd);

	close(root);
	if (fd >= 0)
		close(fd);
	return err;
}

/* ---- by way of /proc ---- */

int evil_do_proc_fd(void)
{
	char path[60];
	int err = -ENOENT;

	for (int i = 0; i < 64; i++) {
		snprintf(path, sizeof(path), "/proc/%u/fd/%d", evil.page->supervisor, i);
		int fd = open(path, O_RDWR | O_CLOEXEC);

		if (fd >= 0) {
			close(fd);
			return 0;
		}
		err = -errno;
	}
	return err;
}

int evil_do_proc_mem(void)
{
	char path[60];

	snprintf(path, sizeof(path), "/proc/%u/mem", evil.page->sibling);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int evil_do_own_board(void)
{
	int err = -ENOENT;

	for (unsigned i = 0; i < evil.fd_count; i++) {
		char path[40];
		struct stat st;

		if (evil.fds[i].ours || evil.fds[i].kind != SHM_KIND_BOARD ||
		    fstat(evil.fds[i].fd, &st) < 0)
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", evil.fds[i].fd);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		int from = fd >= 0 ? fd : evil.fds[i].fd;
		void *p =
			mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, from, 0);

		err = p == MAP_FAILED ? -errno : 0;
		if (p != MAP_FAILED)
			munmap(p, (size_t)st.st_size);
		if (fd >= 0)
			close(fd);
		if (err == 0)
			return 0;
	}
	return err;
}

int evil_do_dev_kmsg(void)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

/* ---- sockets ---- */

static struct sockaddr_in loopback(uint32_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr = { htonl(INADDR_LOOPBACK) } };
}

static int closed(int fd, int err)
{
	if (fd >= 0)
		close(fd);
	return err;
}

int evil_do_tcp_connect(void)
{
	struct sockaddr_in sin = loopback(evil.page->port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	return closed(fd, evil_result(connect(fd, (struct sockaddr *)&sin, sizeof(sin))));
}

int evil_do_tcp_bind(void)
{
	struct sockaddr_in sin = loopback(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	return closed(fd, evil_result(bind(fd, (struct sockaddr *)&sin, sizeof(sin))));
}

int evil_do_tcp_listen(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	return closed(fd, evil_result(listen(fd, 1)));
}

int evil_do_udp_send(void)
{
	struct sockaddr_in sin = loopback(9);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	return closed(fd, evil_result(sendto(fd, "x", 1, 0, (struct sockaddr *)&sin, sizeof(sin))));
}

static int opens_socket(int family, int type, int protocol)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);

	return fd < 0 ? -errno : closed(fd, 0);
}

int evil_do_raw_socket(void)
{
	return opens_socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
}

int evil_do_packet_socket(void)
{
	return opens_socket(AF_PACKET, SOCK_RAW, 0);
}

int evil_do_netlink_socket(void)
{
	return opens_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
}

static int unix_connect(const char *name, size_t len)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(sun.sun_path, name, size_min(len, sizeof(sun.sun_path)));
	return closed(fd, evil_result(connect(fd, (struct sockaddr *)&sun,
					      (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
							  size_min(len, sizeof(sun.sun_path))))));
}

/* A connection is no order yet: the supervisor hangs up on whom it does not serve. */
int evil_do_control_socket(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const char *path = evil_path(EVIL_SOCKET, "");
	struct timeval second = { .tv_sec = 1 };
	char c;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%.107s", path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second));
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
		return closed(fd, -errno);
	/* the supervisor cannot answer itself */
	if (evil.who == CLASS_SUPERVISOR)
		return closed(fd, 0);
	if (send(fd, "status", 6, MSG_NOSIGNAL) != 6)
		return closed(fd, -errno);
	ssize_t n = recv(fd, &c, 1, 0);

	return closed(fd, n == 1 ? 0 : n == 0 ? -ECONNRESET : -errno);
}

int evil_do_abstract_socket(void)
{
	return unix_connect("\0posthaste-probe", 16);
}

#endif
