/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sealed memfds; see shm/region.h. The supervisor creates, every process maps. */
#include "shm/region.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/util.h"
#include "shm/blocks.h"
#include "shm/board.h"
#include "shm/counters.h"
#include "shm/dtab.h"
#include "shm/link.h"
#include "shm/proto.h"
#include "shm/qtab.h"
#include "shm/ring.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

_Static_assert(sizeof(struct shm_header) == 64, "the header is one cache line");

/* Everything whose size two processes must agree on. Field order within a size is not seen: a
 * change of meaning at equal size must raise SHM_LAYOUT_VERSION. */
static const uint32_t layout_sizes[] = {
	sizeof(struct shm_header),
	sizeof(struct ring_shm),
	sizeof(struct link_shm),
	sizeof(struct blocks_shm),
	BLOCK_SIZE,
	sizeof(struct board_shm),
	sizeof(struct counters_shm),
	CTR_COUNT,
	GAU_COUNT,
	HIS_COUNT,
	sizeof(struct qtab_shm),
	sizeof(struct qmsg),
	sizeof(struct qentry),
	QS_COUNT,
	sizeof(struct dtab_shm),
	sizeof(struct drow),
	PROTO_KIND_COUNT,
	sizeof(struct proto_submit),
	sizeof(struct proto_submit_done),
	sizeof(struct proto_entry),
	sizeof(struct proto_new),
	sizeof(struct proto_ref),
	sizeof(struct proto_loaded),
	sizeof(struct proto_bounce),
	sizeof(struct proto_copy),
	sizeof(struct proto_file),
	sizeof(struct proto_job),
	sizeof(struct proto_result),
	sizeof(struct proto_dns_query),
	sizeof(struct proto_dns_answer),
};

uint64_t shm_build_id(void)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (size_t i = 0; i < ARRAY_LEN(layout_sizes); i++)
		for (unsigned shift = 0; shift < 32; shift += 8) {
			h ^= layout_sizes[i] >> shift & 0xff;
			h *= 0x100000001b3u;
		}
	return h;
}

/* Kinds that nobody but their creator ever writes. */
static bool kind_is_private_to_writer(enum shm_kind kind)
{
	return kind == SHM_KIND_QTAB || kind == SHM_KIND_DTAB || kind == SHM_KIND_BOARD;
}

/* Kinds that one worker writes and others read: shm_region_freeze() follows when it has them. */
static bool kind_has_one_worker(enum shm_kind kind)
{
	return kind == SHM_KIND_BLOCKS || kind == SHM_KIND_COUNTERS;
}

static int seal(int fd, enum shm_kind kind)
{
	/* After this seal a process that got the descriptor cannot map it writable, whatever its
	 * open mode. Kernels before 5.1 do not know it; there only the mapping mode protects. */
	if (kind_is_private_to_writer(kind) && fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 &&
	    errno != EINVAL)
		return err_errno();
	int last = kind_has_one_worker(kind) ? 0 : F_SEAL_SEAL;

	return fcntl(fd, F_ADD_SEALS, SIZE_SEALS | last) < 0 ? err_errno() : 0;
}

int shm_region_freeze(const struct shm_region *r)
{
	if (fcntl(r->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0 && errno != EINVAL)
		return err_errno();
	return fcntl(r->fd, F_ADD_SEALS, F_SEAL_SEAL) < 0 ? err_errno() : 0;
}

void shm_header_write(void *base, enum shm_kind kind, size_t size, uint32_t life,
		      uint32_t peer_life)
{
	*(struct shm_header *)base = (struct shm_header){
		.magic = SHM_MAGIC,
		.layout_version = SHM_LAYOUT_VERSION,
		.kind = kind,
		.size_bytes = size,
		.life = life,
		.peer_life = peer_life,
		.build_id = shm_build_id(),
	};
	FAULT_POINT(REGION_HEADER);
}

int shm_region_create(const char *name, enum shm_kind kind, size_t size, uint32_t life,
		      uint32_t peer_life, struct shm_region *r)
{
	struct shm_region made = SHM_REGION_INIT;
	int err = 0;

	*r = made;
	if (size < sizeof(struct shm_header) || size > INT64_MAX)
		return E_INVAL;
	made.size = size;
	made.fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (made.fd < 0)
		return err_errno();
	if (ftruncate(made.fd, (off_t)size) < 0)
		err = err_errno();
	if (err == 0) {
		void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0);

		if (base == MAP_FAILED)
			err = err_errno();
		else
			made.base = base;
	}
	if (err == 0)
		err = seal(made.fd, kind);
	if (err != 0) {
		shm_region_close(&made);
		return err;
	}
	shm_header_write(made.base, kind, size, life, peer_life);
	*r = made;
	return 0;
}

int shm_header_check(const void *base, size_t size, enum shm_kind kind)
{
	struct shm_header h;

	if (size < sizeof(h))
		return E_CORRUPT;
	memcpy(&h, base, sizeof(h)); /* the single fetch */
	if (h.magic != SHM_MAGIC)
		return E_CORRUPT;
	if (h.layout_version != SHM_LAYOUT_VERSION || h.build_id != shm_build_id())
		return E_VERSION;
	return h.kind == (uint32_t)kind && h.size_bytes == size ? 0 : E_CORRUPT;
}

/* A descriptor whose size can change under us is refused before anything is mapped. */
static int check_fd(int fd, size_t *size_r)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return errno == EINVAL ? E_CORRUPT : err_errno();
	if ((seals & SIZE_SEALS) != SIZE_SEALS)
		return E_CORRUPT;
	if (fstat(fd, &st) < 0)
		return err_errno();
	if (st.st_size < (off_t)sizeof(struct shm_header))
		return E_CORRUPT;
	*size_r = (size_t)st.st_size;
	return 0;
}

int shm_region_map(int fd, enum shm_kind kind, bool writable, struct shm_region *r)
{
	struct shm_region got = { NULL, 0, fd };
	int err = check_fd(fd, &got.size);

	*r = SHM_REGION_INIT;
	if (err == 0) {
		int prot = PROT_READ | (writable ? PROT_WRITE : 0);
		void *base = mmap(NULL, got.size, prot, MAP_SHARED, fd, 0);

		if (base == MAP_FAILED)
			err = err_errno();
		else
			got.base = base;
	}
	if (err == 0)
		err = shm_header_check(got.base, got.size, kind);
	if (err != 0) {
		shm_region_close(&got);
		return err;
	}
	*r = got;
	return 0;
}

int shm_region_readonly_fd(const struct shm_region *r)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", r->fd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? err_errno() : fd;
}

void shm_region_close(struct shm_region *r)
{
	if (r->base != NULL)
		munmap(r->base, r->size);
	r->base = NULL;
	r->size = 0;
	io_close(&r->fd);
}

void shm_region_forget_fd(struct shm_region *r)
{
	io_close(&r->fd);
}
