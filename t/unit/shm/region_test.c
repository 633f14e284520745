/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Regions: what is created maps; what is not sealed, not ours or damaged does not. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/err.h"
#include "shm/region.h"
#include "t/unit/tap.h"

static int memfd_with(size_t size, const void *head, size_t head_len, bool sealed)
{
	int fd = memfd_create("test", MFD_ALLOW_SEALING);

	if (ftruncate(fd, (off_t)size) != 0 || pwrite(fd, head, head_len, 0) != (ssize_t)head_len)
		return -1;
	if (sealed)
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return fd;
}

static bool is_closed(int fd)
{
	return fcntl(fd, F_GETFD) < 0;
}

static void round_trip(void)
{
	struct shm_region a, b;

	is_int(shm_region_create("t", SHM_KIND_LINK, 8192, 5, 6, &a), 0, "create");
	is_int(a.size, 8192, "size");
	int fd = dup(a.fd);

	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &b), 0, "map");
	const struct shm_header *h = b.base;

	ok(h->life == 5 && h->peer_life == 6, "lives are in the header");
	((char *)a.base)[100] = 'x';
	is_int(((char *)b.base)[100], 'x', "both see one memory");
	ok(ftruncate(a.fd, 4096) < 0 && ftruncate(a.fd, 16384) < 0, "the size is fixed");
	shm_region_forget_fd(&a);
	ok(a.fd == -1 && a.base != NULL, "descriptor dropped, mapping kept");
	shm_region_close(&a);
	shm_region_close(&a);
	shm_region_close(&b);
	ok(a.base == NULL && is_closed(fd), "closed twice without harm");
	is_int(shm_region_create("t", SHM_KIND_LINK, 8, 0, 0, &a), E_INVAL, "too small to create");
}

static void one_writer_kinds(void)
{
	struct shm_region a, b;

	is_int(shm_region_create("t", SHM_KIND_BOARD, 4096, 0, 0, &a), 0, "create a board");
	ok(shm_region_map(dup(a.fd), SHM_KIND_BOARD, true, &b) < 0, "nobody else maps it writable");
	is_int(shm_region_map(dup(a.fd), SHM_KIND_BOARD, false, &b), 0, "reading is allowed");
	ok(mprotect(b.base, b.size, PROT_READ | PROT_WRITE) < 0,
	   "and cannot be turned into writing");
	((char *)a.base)[64] = 7;
	is_int(((const char *)b.base)[64], 7, "the creator still writes");
	shm_region_close(&a);
	shm_region_close(&b);

	is_int(shm_region_create("t", SHM_KIND_BLOCKS, 4096, 9, 0, &a), 0, "create blocks");
	int ro = shm_region_readonly_fd(&a);

	ok(ro >= 0, "read-only descriptor");
	ok(shm_region_map(ro, SHM_KIND_BLOCKS, true, &b) < 0, "it does not map writable");
	is_int(shm_region_map(shm_region_readonly_fd(&a), SHM_KIND_BLOCKS, false, &b), 0,
	       "it maps read-only");
	shm_region_close(&a);
	shm_region_close(&b);
}

/* A worker's own region: once it has it, no reader makes itself a writer, whatever it opens. */
static void frozen(void)
{
	struct shm_region a, b;
	char path[40];

	is_int(shm_region_create("t", SHM_KIND_BLOCKS, 8192, 1, 0, &a), 0, "create blocks");
	is_int(shm_region_map(dup(a.fd), SHM_KIND_BLOCKS, true, &b), 0, "the worker maps them");
	is_int(shm_region_freeze(&a), 0, "frozen");
	((char *)b.base)[100] = 'y';
	is_int(((char *)a.base)[100], 'y', "the worker goes on writing");
	int ro = shm_region_readonly_fd(&a);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", ro);
	int rw = open(path, O_RDWR);

	ok(rw >= 0, "a reader opens its descriptor anew for writing");
	ok(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0) == MAP_FAILED,
	   "it maps nothing");
	ok(pwrite(rw, "x", 1, 200) < 0, "it writes nothing");
	ok(fallocate(rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0,
	   "it punches no holes");
	struct shm_region c;

	is_int(shm_region_map(ro, SHM_KIND_BLOCKS, false, &c), 0, "reading is allowed");
	close(rw);
	shm_region_close(&a);
	shm_region_close(&b);
	shm_region_close(&c);
}

static void refusals(void)
{
	struct shm_header good = { .magic = SHM_MAGIC,
				   .layout_version = SHM_LAYOUT_VERSION,
				   .kind = SHM_KIND_LINK,
				   .size_bytes = 4096,
				   .build_id = shm_build_id() };
	struct shm_region r;
	int fd = memfd_with(4096, &good, sizeof(good), true);

	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &r), 0, "a hand-made good one maps");
	shm_region_close(&r);
	fd = memfd_with(4096, &good, sizeof(good), false);
	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &r), E_CORRUPT, "not sealed");
	ok(is_closed(fd) && r.base == NULL, "the descriptor of a refused region is closed");
	fd = memfd_with(4096, &good, sizeof(good), true);
	is_int(shm_region_map(fd, SHM_KIND_QTAB, true, &r), E_CORRUPT, "another kind");
	fd = memfd_with(8192, &good, sizeof(good), true);
	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &r), E_CORRUPT, "size differs");
	fd = memfd_with(10, &good, 10, true);
	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &r), E_CORRUPT, "no room for a header");
	struct shm_header bad = good;

	bad.magic++;
	fd = memfd_with(4096, &bad, sizeof(bad), true);
	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &r), E_CORRUPT, "magic");
	bad = good;
	bad.layout_version++;
	fd = memfd_with(4096, &bad, sizeof(bad), true);
	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &r), E_VERSION, "layout version");
	bad = good;
	bad.build_id++;
	fd = memfd_with(4096, &bad, sizeof(bad), true);
	is_int(shm_region_map(fd, SHM_KIND_LINK, true, &r), E_VERSION, "another build");
	int p[2];

	is_int(pipe(p), 0, "a pipe");
	ok(shm_region_map(p[0], SHM_KIND_LINK, false, &r) < 0, "is not a region");
	ok(is_closed(p[0]), "and is closed");
	close(p[1]);
	ok(shm_region_map(-1, SHM_KIND_LINK, false, &r) < 0, "nor is no descriptor");
}

int main(void)
{
	round_trip();
	one_writer_kinds();
	frozen();
	refusals();
	return tap_done();
}
