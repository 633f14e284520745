/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * blocklog: a disk in memory that keeps a log of all that is written to it. It mounts a file system
 * with one file, "disk" (raw /dev/fuse, no library); a loop device with direct I/O makes a block
 * device of it. Started by t/crash/02-block-replay.t as root; ended by SIGTERM.
 *
 *   usage: blocklog IMAGE MOUNTPOINT LOG
 *
 * IMAGE gives the size and the first content, and is not changed. A flush covers the writes that
 * were answered before it came, and no others: requests that are under way together are taken in
 * random order, flushes first, as a disk may.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"
#include "t/crash/blocklog.h"

#define FILE_NAME     "disk"
#define FILE_NODE     2u
#define MAX_WRITE     (256u << 10)
#define REQUEST_BYTES (MAX_WRITE + 4096u)
#define BATCH_MAX     32u

struct request {
	struct fuse_in_header *in;
	const void *arg; /* what stands behind the header */
};

static struct {
	int fuse;
	char *disk;
	uint64_t size;
	FILE *log;
	const char *mountpoint;
	uint64_t dice;
} g = { .dice = 88172645463325252u };

static volatile sig_atomic_t ended;

static void on_term(int sig UNUSED)
{
	ended = 1;
}

static unsigned below(unsigned n)
{
	g.dice ^= g.dice << 13;
	g.dice ^= g.dice >> 7;
	g.dice ^= g.dice << 17;
	return (unsigned)(g.dice % n);
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

static void put_log(enum block_kind kind, uint64_t off, uint64_t len, const void *data)
{
	struct block_entry e = { BLOCK_MAGIC, kind, off, len, clock_mono_us_raw() };

	if (fwrite(&e, sizeof(e), 1, g.log) != 1 ||
	    (data != NULL && fwrite(data, len, 1, g.log) != 1))
		die("log: %s", strerror(errno));
}

/* ---- requests ---- */

static void do_init(const struct request *r)
{
	const struct fuse_init_in *in = r->arg;
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION,
				     .minor = FUSE_KERNEL_MINOR_VERSION,
				     .max_readahead = in->max_readahead,
				     .flags = in->flags & (FUSE_ASYNC_DIO | FUSE_BIG_WRITES |
							   FUSE_MAX_PAGES | FUSE_ASYNC_READ),
				     .max_background = BATCH_MAX,
				     .congestion_threshold = BATCH_MAX,
				     .max_write = MAX_WRITE,
				     .max_pages = MAX_WRITE / 4096 };

	answer(r, 0, &out, sizeof(out));
}

static struct fuse_attr attr_of(uint64_t node)
{
	bool file = node == FILE_NODE;

	return (struct fuse_attr){ .ino = node,
				   .size = file ? g.size : 0,
				   .blocks = file ? g.size / 512 : 0,
				   .mode = file ? S_IFREG | 0600 : S_IFDIR | 0700,
				   .nlink = file ? 1 : 2,
				   .blksize = 4096 };
}

static void do_lookup(const struct request *r)
{
	struct fuse_entry_out out = { .nodeid = FILE_NODE,
				      .entry_valid = 3600,
				      .attr_valid = 3600,
				      .attr = attr_of(FILE_NODE) };

	if (strcmp(r->arg, FILE_NAME) != 0)
		answer(r, ENOENT, NULL, 0);
	else
		answer(r, 0, &out, sizeof(out));
}

static void do_getattr(const struct request *r)
{
	struct fuse_attr_out out = { .attr_valid = 3600, .attr = attr_of(r->in->nodeid) };

	answer(r, 0, &out, sizeof(out));
}

static void do_open(const struct request *r)
{
	struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };

	answer(r, 0, &out, sizeof(out));
}

static bool inside(uint64_t off, uint64_t len)
{
	return off <= g.size && len <= g.size - off;
}

static void do_read(const struct request *r)
{
	const struct fuse_read_in *in = r->arg;

	if (in->offset >= g.size)
		answer(r, 0, NULL, 0);
	else
		answer(r, 0, g.disk + in->offset, u64_min(in->size, g.size - in->offset));
}

static void do_write(const struct request *r)
{
	const struct fuse_write_in *in = r->arg;
	struct fuse_write_out out = { .size = in->size };

	if (!inside(in->offset, in->size) || in->size % 512 != 0) {
		answer(r, EFBIG, NULL, 0);
		return;
	}
	memcpy(g.disk + in->offset, in + 1, in->size);
	put_log(BLOCK_WRITE, in->offset, in->size, in + 1);
	answer(r, 0, &out, sizeof(out));
}

static void do_fallocate(const struct request *r)
{
	const struct fuse_fallocate_in *in = r->arg;

	if ((in->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0 ||
	    !inside(in->offset, in->length)) {
		answer(r, EOPNOTSUPP, NULL, 0);
		return;
	}
	memset(g.disk + in->offset, 0, in->length);
	put_log(BLOCK_ZERO, in->offset, in->length, NULL);
	answer(r, 0, NULL, 0);
}

/* Some take their time, as those of disks do: meanwhile other writes gather. */
static void do_fsync(const struct request *r)
{
	if (below(4) == 0)
		usleep(below(2000));
	put_log(BLOCK_FLUSH, 0, 0, NULL);
	answer(r, 0, NULL, 0);
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
} ops[] = {
	[FUSE_INIT] = { do_init, 16 },
	[FUSE_LOOKUP] = { do_lookup, 1 },
	[FUSE_FORGET] = { no_answer, 0 },
	[FUSE_BATCH_FORGET] = { no_answer, 0 },
	[FUSE_INTERRUPT] = { no_answer, 0 },
	[FUSE_GETATTR] = { do_getattr, 0 },
	[FUSE_OPEN] = { do_open, 0 },
	[FUSE_OPENDIR] = { do_open, 0 },
	[FUSE_READ] = { do_read, sizeof(struct fuse_read_in) },
	[FUSE_WRITE] = { do_write, sizeof(struct fuse_write_in) },
	[FUSE_FALLOCATE] = { do_fallocate, sizeof(struct fuse_fallocate_in) },
	[FUSE_FSYNC] = { do_fsync, 0 },
	[FUSE_FLUSH] = { do_nothing, 0 },
	[FUSE_RELEASE] = { do_nothing, 0 },
	[FUSE_RELEASEDIR] = { do_nothing, 0 },
	[FUSE_DESTROY] = { do_nothing, 0 },
};

static void serve(const struct request *r)
{
	uint32_t op = r->in->opcode;
	size_t arg = r->in->len - sizeof(*r->in);

	if (op >= ARRAY_LEN(ops) || ops[op].fn == NULL || arg < ops[op].arg_size)
		answer(r, ENOSYS, NULL, 0);
	else
		ops[op].fn(r);
}

/* ---- the loop ---- */

static char *buffers[BATCH_MAX];

/* All that is there now; false when the file system is unmounted. */
static bool gather(struct request *batch, unsigned *count_r)
{
	unsigned n = 0;

	*count_r = 0;
	while (n < BATCH_MAX) {
		ssize_t len = read(g.fuse, buffers[n], REQUEST_BYTES);

		if (len < 0 && errno == EAGAIN)
			break;
		if (len < 0 && (errno == EINTR || errno == ENOENT))
			continue;
		if (len < (ssize_t)sizeof(struct fuse_in_header))
			return false;
		batch[n].in = (struct fuse_in_header *)(void *)buffers[n];
		batch[n].arg = buffers[n] + sizeof(struct fuse_in_header);
		n++;
	}
	*count_r = n;
	return true;
}

static void shuffle(struct request *batch, unsigned count)
{
	for (unsigned i = count; i > 1; i--) {
		unsigned k = below(i);
		struct request r = batch[k];

		batch[k] = batch[i - 1];
		batch[i - 1] = r;
	}
}

static void run(void)
{
	struct request batch[BATCH_MAX];
	struct pollfd p = { .fd = g.fuse, .events = POLLIN };
	unsigned count;

	while (!ended) {
		if (poll(&p, 1, 1000) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		if (!gather(batch, &count))
			return;
		for (unsigned i = 0; i < count; i++) {
			if (batch[i].in->opcode == FUSE_FSYNC)
				serve(&batch[i]);
		}
		shuffle(batch, count);
		for (unsigned i = 0; i < count; i++) {
			if (batch[i].in->opcode != FUSE_FSYNC)
				serve(&batch[i]);
		}
	}
}

static void take_image(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s: %s", path, strerror(errno));
	g.size = (uint64_t)st.st_size;
	/* private: what is written stays in memory */
	g.disk = mmap(NULL, g.size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (g.disk == MAP_FAILED)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_term };
	char options[64];

	log_set_program("blocklog");
	if (argc != 4)
		die("usage: blocklog IMAGE MOUNTPOINT LOG");
	take_image(argv[1]);
	g.log = fopen(argv[3], "we");
	g.fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (g.log == NULL || g.fuse < 0)
		die("%s or /dev/fuse: %s", argv[3], strerror(errno));
	for (unsigned i = 0; i < BATCH_MAX; i++)
		buffers[i] = xmalloc(REQUEST_BYTES);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", g.fuse);
	if (mount("blocklog", argv[2], "fuse.blocklog", MS_NOSUID | MS_NODEV, options) < 0)
		die("mount: %s", strerror(errno));
	run();
	umount2(argv[2], MNT_DETACH);
	if (fclose(g.log) != 0)
		die("%s: %s", argv[3], strerror(errno));
	return 0;
}
