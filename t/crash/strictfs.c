/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * strictfs: a file system in memory that keeps through a power cut exactly what POSIX promises: of
 * a file what was synced, of a directory the names that were there when it was synced. ext4 and xfs
 * keep more, by the order of their logs, and so hide a sync that is missing. FUSE without a
 * library, as in blocklog.c. Started by t/crash/lib/Disk.pm (fs => 'strict'), as root; ended by
 * SIGTERM.
 *
 *   usage: strictfs [-r] [-s SEED] MOUNTPOINT
 *
 * The shutdown ioctl of ext4 and xfs, on any directory, cuts the power: every request fails from
 * then on. When it is unmounted it mounts itself again, with what the cut has left; with -r of the
 * rest a random part is there, too, after every second cut. An unmount without a cut loses nothing.
 * The ioctl _IO('X', 126): all as it is now is durable, what a test has prepared.
 */
#include "t/crash/strictfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"

#define SHUTDOWN_IOCTL 0x8004587d
#define SETTLE_IOCTL   0x587e
#define MAX_WRITE      (128u << 10)
#define REQUEST_BYTES  (MAX_WRITE + 4096u)
#define VALID_S        3600u

struct request {
	struct fuse_in_header *in;
	const void *arg;
	struct strict_node *node; /* of in->nodeid; may be NULL */
};

static struct {
	int fuse;
	const char *mountpoint;
	bool some, dead;
	unsigned cuts;
} g = { .fuse = -1 };

static volatile sig_atomic_t ended;

static void on_signal(int sig UNUSED)
{
	ended = 1;
}

static void answer(const struct request *r, int err, const void *data, size_t len)
{
	struct fuse_out_header out = { .len = (uint32_t)(sizeof(out) + (err == 0 ? len : 0)),
				       .error = -err,
				       .unique = r->in->unique };
	struct iovec iov[2] = { { &out, sizeof(out) }, { (void *)(uintptr_t)data, len } };

	/* ENOENT: the request was interrupted meanwhile */
	if (writev(g.fuse, iov, err == 0 && len > 0 ? 2 : 1) < 0 && errno != ENOENT)
		log_warn("answer: %s", strerror(errno));
}

/* ---- nodes and names ---- */

static struct fuse_attr attr_of(uint64_t node)
{
	const struct strict_node *n = tree_node(node);
	uint64_t s = (uint64_t)(n->now.mtime_us / 1000000);
	uint32_t ns = (uint32_t)(n->now.mtime_us % 1000000) * 1000;

	return (struct fuse_attr){ .ino = node,
				   .size = n->now.size,
				   .blocks = (n->now.size + 511) / 512,
				   .atime = s,
				   .mtime = s,
				   .ctime = s,
				   .atimensec = ns,
				   .mtimensec = ns,
				   .ctimensec = ns,
				   .mode = n->now.mode,
				   .nlink = S_ISDIR(n->now.mode) ? 2 : 1,
				   .uid = n->now.uid,
				   .gid = n->now.gid,
				   .blksize = STRICT_PAGE };
}

static struct fuse_entry_out entry_of(uint64_t node)
{
	return (struct fuse_entry_out){
		.nodeid = node, .entry_valid = VALID_S, .attr_valid = VALID_S, .attr = attr_of(node)
	};
}

static void do_init(const struct request *r)
{
	const struct fuse_init_in *in = r->arg;
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION,
				     .minor = FUSE_KERNEL_MINOR_VERSION,
				     .max_readahead = in->max_readahead,
				     .flags = in->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES |
							   FUSE_ASYNC_READ | FUSE_HAS_IOCTL_DIR),
				     .max_background = 32,
				     .congestion_threshold = 32,
				     .max_write = MAX_WRITE,
				     .max_pages = MAX_WRITE / 4096 };

	answer(r, 0, &out, sizeof(out));
}

static void answer_entry(const struct request *r, int err, uint64_t node)
{
	struct fuse_entry_out out = { 0 };

	if (err == 0)
		out = entry_of(node);
	answer(r, err, &out, sizeof(out));
}

static void do_lookup(const struct request *r)
{
	uint64_t node = 0;
	int err = tree_lookup(r->in->nodeid, r->arg, &node);

	answer_entry(r, err, node);
}

static void do_getattr(const struct request *r)
{
	struct fuse_attr_out out = { .attr_valid = VALID_S, .attr = attr_of(r->in->nodeid) };

	answer(r, 0, &out, sizeof(out));
}

static void do_setattr(const struct request *r)
{
	const struct fuse_setattr_in *in = r->arg;
	struct strict_meta *m = &r->node->now;

	if ((in->valid & FATTR_MODE) != 0)
		m->mode = (m->mode & S_IFMT) | (in->mode & 07777);
	if ((in->valid & FATTR_UID) != 0)
		m->uid = in->uid;
	if ((in->valid & FATTR_GID) != 0)
		m->gid = in->gid;
	if ((in->valid & FATTR_SIZE) != 0)
		tree_resize(r->node, in->size);
	if ((in->valid & FATTR_MTIME) != 0)
		m->mtime_us = (in->valid & FATTR_MTIME_NOW) != 0
				      ? clock_wall().us
				      : (int64_t)in->mtime * 1000000 + in->mtimensec / 1000;
	do_getattr(r);
}

static int make(const struct request *r, const char *name, mode_t mode, uint64_t *node_r)
{
	struct strict_meta meta = { .mode = mode, .uid = r->in->uid, .gid = r->in->gid };

	return tree_make(r->in->nodeid, name, &meta, node_r);
}

static void do_mkdir(const struct request *r)
{
	const struct fuse_mkdir_in *in = r->arg;
	uint64_t node = 0;
	int err = make(r, (const char *)(in + 1), S_IFDIR | (in->mode & 07777), &node);

	answer_entry(r, err, node);
}

static void do_mknod(const struct request *r)
{
	const struct fuse_mknod_in *in = r->arg;
	uint64_t node = 0;
	int err = make(r, (const char *)(in + 1), in->mode, &node);

	answer_entry(r, err, node);
}

static void do_create(const struct request *r)
{
	const struct fuse_create_in *in = r->arg;
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = { 0 };
	uint64_t node = 0;
	int err = make(r, (const char *)(in + 1), S_IFREG | (in->mode & 07777), &node);

	if (err == 0)
		out.entry = entry_of(node);
	answer(r, err, &out, sizeof(out));
}

static void do_unlink(const struct request *r)
{
	answer(r, tree_remove(r->in->nodeid, r->arg, r->in->opcode == FUSE_RMDIR), NULL, 0);
}

static void do_rename(const struct request *r)
{
	const struct fuse_rename_in *in = r->arg;
	const struct fuse_rename2_in *in2 = r->arg;
	bool two = r->in->opcode == FUSE_RENAME2;
	const char *name = two ? (const char *)(in2 + 1) : (const char *)(in + 1);
	unsigned flags = two ? in2->flags : 0;

	if ((flags & ~1u) != 0) /* RENAME_NOREPLACE */
		answer(r, EINVAL, NULL, 0);
	else
		answer(r,
		       tree_rename(r->in->nodeid, name, in->newdir, name + strlen(name) + 1,
				   flags != 0),
		       NULL, 0);
}

static void do_readdir(const struct request *r)
{
	const struct fuse_read_in *in = r->arg;
	static char out[MAX_WRITE];
	size_t len = 0, room = u64_min(in->size, sizeof(out));

	for (unsigned i = 0; i < r->node->names.count; i++) {
		const struct strict_name *e = &r->node->names.v[i];
		size_t n = strlen(e->name);
		struct fuse_dirent d = { .ino = e->node,
					 .off = e->cookie,
					 .namelen = (uint32_t)n,
					 .type = tree_node(e->node)->now.mode >> 12 };

		if (e->cookie <= in->offset)
			continue;
		if (len + FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + n) > room)
			break;
		memset(out + len, 0, FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + n));
		memcpy(out + len, &d, FUSE_NAME_OFFSET);
		memcpy(out + len + FUSE_NAME_OFFSET, e->name, n);
		len += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + n);
	}
	answer(r, 0, out, len);
}

/* ---- content ---- */

static void do_open(const struct request *r)
{
	struct fuse_open_out out = { 0 };

	answer(r, 0, &out, sizeof(out));
}

static void do_read(const struct request *r)
{
	const struct fuse_read_in *in = r->arg;
	uint64_t size = r->node->now.size;

	if (in->offset >= size)
		answer(r, 0, NULL, 0);
	else
		answer(r, 0, r->node->data + in->offset, u64_min(in->size, size - in->offset));
}

static void do_write(const struct request *r)
{
	const struct fuse_write_in *in = r->arg;
	struct fuse_write_out out = { .size = in->size };

	tree_write(r->node, in->offset, (const char *)(in + 1), in->size);
	answer(r, 0, &out, sizeof(out));
}

static void do_fallocate(const struct request *r)
{
	const struct fuse_fallocate_in *in = r->arg;

	if (in->mode != 0) {
		answer(r, EOPNOTSUPP, NULL, 0);
		return;
	}
	if (r->node->now.size < in->offset + in->length)
		tree_resize(r->node, in->offset + in->length);
	answer(r, 0, NULL, 0);
}

static void do_sync(const struct request *r)
{
	tree_sync(r->node);
	answer(r, 0, NULL, 0);
}

static void do_statfs(const struct request *r)
{
	struct fuse_statfs_out out = { .st = { .blocks = 1u << 20,
					       .bfree = 1u << 19,
					       .bavail = 1u << 19,
					       .files = 1u << 20,
					       .ffree = 1u << 19,
					       .bsize = STRICT_PAGE,
					       .namelen = 255,
					       .frsize = STRICT_PAGE } };

	answer(r, 0, &out, sizeof(out));
}

static void do_ioctl(const struct request *r)
{
	const struct fuse_ioctl_in *in = r->arg;
	struct fuse_ioctl_out out = { 0 };

	if (in->cmd == SETTLE_IOCTL)
		tree_settle();
	else if (in->cmd == SHUTDOWN_IOCTL)
		g.dead = true;
	else
		out.result = -ENOTTY;
	answer(r, 0, &out, sizeof(out));
}

static void do_nothing(const struct request *r)
{
	answer(r, 0, NULL, 0);
}

static void no_answer(const struct request *r UNUSED)
{
}

static const struct {
	void (*fn)(const struct request *r);
	size_t arg_size;
	bool always; /* without a node, and on a dead disk */
} ops[] = {
	[FUSE_INIT] = { do_init, 16, true },
	[FUSE_LOOKUP] = { do_lookup, 1, false },
	[FUSE_FORGET] = { no_answer, 0, true },
	[FUSE_BATCH_FORGET] = { no_answer, 0, true },
	[FUSE_INTERRUPT] = { no_answer, 0, true },
	[FUSE_GETATTR] = { do_getattr, 0, false },
	[FUSE_SETATTR] = { do_setattr, sizeof(struct fuse_setattr_in), false },
	[FUSE_MKDIR] = { do_mkdir, sizeof(struct fuse_mkdir_in) + 1, false },
	[FUSE_MKNOD] = { do_mknod, sizeof(struct fuse_mknod_in) + 1, false },
	[FUSE_CREATE] = { do_create, sizeof(struct fuse_create_in) + 1, false },
	[FUSE_UNLINK] = { do_unlink, 1, false },
	[FUSE_RMDIR] = { do_unlink, 1, false },
	[FUSE_RENAME] = { do_rename, sizeof(struct fuse_rename_in) + 1, false },
	[FUSE_RENAME2] = { do_rename, sizeof(struct fuse_rename2_in) + 1, false },
	[FUSE_OPEN] = { do_open, 0, false },
	[FUSE_OPENDIR] = { do_open, 0, false },
	[FUSE_READDIR] = { do_readdir, sizeof(struct fuse_read_in), false },
	[FUSE_READ] = { do_read, sizeof(struct fuse_read_in), false },
	[FUSE_WRITE] = { do_write, sizeof(struct fuse_write_in), false },
	[FUSE_FALLOCATE] = { do_fallocate, sizeof(struct fuse_fallocate_in), false },
	[FUSE_FSYNC] = { do_sync, 0, false },
	[FUSE_FSYNCDIR] = { do_sync, 0, false },
	[FUSE_STATFS] = { do_statfs, 0, true },
	[FUSE_IOCTL] = { do_ioctl, sizeof(struct fuse_ioctl_in), false },
	[FUSE_FLUSH] = { do_nothing, 0, true },
	[FUSE_RELEASE] = { do_nothing, 0, true },
	[FUSE_RELEASEDIR] = { do_nothing, 0, true },
	[FUSE_DESTROY] = { do_nothing, 0, true },
};

static void serve(struct request *r)
{
	uint32_t op = r->in->opcode;

	r->node = tree_node(r->in->nodeid);
	if (op >= ARRAY_LEN(ops) || ops[op].fn == NULL ||
	    r->in->len - sizeof(*r->in) < ops[op].arg_size)
		answer(r, ENOSYS, NULL, 0);
	else if (!ops[op].always && (g.dead || r->node == NULL))
		answer(r, g.dead ? EIO : ESTALE, NULL, 0);
	else
		ops[op].fn(r);
}

/* ---- the loop ---- */

static void mount_it(void)
{
	char options[128];

	g.fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (g.fuse < 0)
		die("/dev/fuse: %s", strerror(errno));
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions",
		 g.fuse);
	if (mount("strictfs", g.mountpoint, "fuse.strictfs", MS_NOSUID | MS_NODEV, options) < 0)
		die("mount: %s", strerror(errno));
}

/* Until it is unmounted. */
static void run(void)
{
	static char buffer[REQUEST_BYTES];
	struct pollfd p = { .fd = g.fuse, .events = POLLIN };

	while (!ended) {
		if (poll(&p, 1, 1000) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		ssize_t len = read(g.fuse, buffer, sizeof(buffer));

		if (len < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOENT))
			continue;
		if (len < (ssize_t)sizeof(struct fuse_in_header))
			return;
		struct request r = { .in = (struct fuse_in_header *)(void *)buffer,
				     .arg = buffer + sizeof(struct fuse_in_header) };

		serve(&r);
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	uint64_t seed = 1;
	int opt;

	log_set_program("strictfs");
	while ((opt = getopt(argc, argv, "rs:")) != -1) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 10);
		else if (opt == 'r')
			g.some = true;
		else
			die("usage: strictfs [-r] [-s SEED] MOUNTPOINT");
	}
	if (optind + 1 != argc)
		die("usage: strictfs [-r] [-s SEED] MOUNTPOINT");
	g.mountpoint = argv[optind];
	sigaction(SIGTERM, &sa, NULL);
	tree_init(S_IFDIR | 0755, seed);
	while (!ended) {
		mount_it();
		run();
		close(g.fuse);
		if (g.dead)
			tree_cut(g.some && g.cuts++ % 2 != 0);
		else
			tree_settle();
		g.dead = false;
	}
	umount2(g.mountpoint, MNT_DETACH);
	return 0;
}
