/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A recycled segment knows how far it was written: beyond that a commit needs its second sync. A
 * file that a power cut left with two names is not overwritten while it is in use. */
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

static bool is_whole(int dir, const char *name, uint32_t number)
{
	struct spool_file_head head;
	char data[16] = "";
	int fd = openat(dir, name, O_RDONLY);
	bool good = io_pread_all(fd, &head, sizeof(head), 0) == 0 &&
		    spool_head_ok(&head, SPOOL_SEGMENT_MAGIC, number) &&
		    pread(fd, data, sizeof(data), SPOOL_FIRST_OFF) == (ssize_t)sizeof(data) &&
		    data[0] == 'x' && data[15] == 'x';

	close(fd);
	return good;
}

static void make_filled(const struct spool_dirs *d, uint32_t number, uint32_t recycle)
{
	struct spool_segment *s;

	is_int(spool_segment_make(d, number, recycle, SEG_BYTES, 1, &s), 0, "segment %u", number);
	fill(s->fd);
	s->tail = SEG_BYTES;
	spool_segment_close(&s);
}

static void test_two_names(const struct spool_dirs *d)
{
	struct spool_segment *s;
	uint32_t *spares;
	size_t count;

	/* in use as 20, its name as a spare still there */
	make_filled(d, 20, 0);
	is_int(linkat(d->seg, "00000014.seg", d->spare, "00000013.seg", 0), 0, "a second name");
	is_int(spool_segment_make(d, 21, 19, SEG_BYTES, 1, &s), 0, "used as a spare");
	spool_segment_close(&s);
	ok(is_whole(d->seg, "00000014.seg", 20), "what is in use is not overwritten");
	is_int(faccessat(d->spare, "00000013.seg", F_OK, 0), -1, "the other name is gone");

	/* retired, and the name in seg/ still there */
	is_int(linkat(d->seg, "00000014.seg", d->spare, "00000014.seg", 0), 0, "retired by half");
	is_int(spool_list_spares(d, &spares, &count), 0, "spares are listed");
	is_int((long)count, 0, "this is none");
	is_int(faccessat(d->spare, "00000014.seg", F_OK, 0), -1, "the name in spare/ is gone");
	ok(is_whole(d->seg, "00000014.seg", 20), "the segment is as it was");
	free(spares);
	is_int(renameat(d->seg, "00000014.seg", d->spare, "00000014.seg"), 0, "retired as a whole");
	is_int(spool_list_spares(d, &spares, &count), 0, "spares are listed");
	ok(count == 1 && spares[0] == 20, "it is one");
	free(spares);
}

/* Of a disk never more than a part; and what is kept for a start. */
static void test_room(const struct spool_dirs *d)
{
	struct stat st = { 0 };

	is_int((long)spool_reserve_size(d->root, 4096), 4096, "a little is reserved as asked");
	ok(spool_reserve_size(d->root, UINT64_MAX) < UINT64_MAX / SPOOL_RESERVE_PART,
	   "never all of a disk");
	ok(spool_room_keep(d) && fstatat(d->root, "room", &st, 0) == 0 &&
		   (uint64_t)st.st_blocks * 512 >= SPOOL_ROOM_BYTES,
	   "room is kept");
	ok(spool_room_keep(d), "once");
	ok(spool_room_give(d) && !spool_room_give(d), "and given, once");
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
	test_two_names(&dirs);
	test_room(&dirs);
	spool_dirs_close(&dirs);
	fx_remove_dir(AT_FDCWD, path);
	return tap_done();
}
