/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A recycled segment knows how far it was written: beyond that a commit needs its second sync. */
#include "t/unit/workers/spool/support.h"
#include "workers/spool/segment.h"

#define DATA_BYTES (100u << 10)

static void fill(int fd)
{
	static char data[DATA_BYTES];

	memset(data, 'x', sizeof(data));
	if (io_pwrite_all(fd, data, sizeof(data), SPOOL_FIRST_OFF) != 0 || fsync(fd) < 0)
		die("write");
}

/* As a scan or a reader with read-ahead does: pages of reserved space come into memory. */
static void read_all(int dir, const char *name)
{
	static char data[SEG_BYTES];
	int fd = openat(dir, name, O_RDONLY);

	is_int(pread(fd, data, sizeof(data), 0), SEG_BYTES, "all of it is read");
	close(fd);
}

int main(void)
{
	struct spool_dirs dirs;
	struct spool_segment *s;
	char path[] = "spool-test-XXXXXX"; /* on a disk: memory has no extents */
	uint64_t expect = align_up(SPOOL_FIRST_OFF + DATA_BYTES, 4096);

	if (mkdtemp(path) == NULL || spool_dirs_open(path, true, &dirs) != 0)
		die("no directory for the test");
	is_int(spool_segment_make(&dirs, 1, 0, SEG_BYTES, 1, &s), 0, "a fresh segment");
	is_int((long)s->written_end, 0, "nothing was written before");
	fill(s->fd);
	s->tail = SEG_BYTES; /* a crash leaves the reserved space */
	spool_segment_close(&s);
	is_int(renameat(dirs.seg, "00000001.seg", dirs.spare, "00000001.seg"), 0, "retired");
	read_all(dirs.spare, "00000001.seg");
	is_int(spool_segment_make(&dirs, 2, 1, SEG_BYTES, 1, &s), 0, "used again");
	/* 0 where the file system does not tell */
	ok(s->written_end == 0 || s->written_end == expect,
	   "written up to %u, as the disk has it (0 or %u)", (unsigned)s->written_end,
	   (unsigned)expect);
	spool_segment_close(&s);
	is_int(spool_segment_make(&dirs, 3, 77, SEG_BYTES, 1, &s), 0, "a spare that is gone");
	is_int((long)s->written_end, 0, "gives a fresh one");
	spool_segment_close(&s);
	spool_dirs_close(&dirs);
	fx_remove_dir(AT_FDCWD, path);
	return tap_done();
}
