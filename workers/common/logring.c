/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Log rings; see workers/common/logring.h. Called by the worker frame and the supervisor. */
#include "workers/common/logring.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"

int logring_create(const char *name, uint32_t ring_data, uint32_t life, struct shm_region *r)
{
	int err = shm_region_create(name, SHM_KIND_LOG,
				    sizeof(struct shm_header) + ring_bytes(ring_data), life, 0, r);

	if (err == 0)
		ring_init((char *)r->base + sizeof(struct shm_header), ring_data);
	return err;
}

int logring_mend(int fd, uint32_t life)
{
	struct stat st;
	size_t head = sizeof(struct shm_header) + sizeof(struct ring_shm);

	if (fstat(fd, &st) < 0)
		return err_errno();
	if (st.st_size <= (off_t)head)
		return E_CORRUPT;
	void *base = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return err_errno();
	shm_header_write(base, SHM_KIND_LOG, (size_t)st.st_size, life, 0);
	ring_mend((char *)base + sizeof(struct shm_header), (uint32_t)((size_t)st.st_size - head));
	munmap(base, (size_t)st.st_size);
	return 0;
}

void *logring_mem(const struct shm_region *r, size_t *len_r)
{
	*len_r = r->size - sizeof(struct shm_header);
	return (char *)r->base + sizeof(struct shm_header);
}

static void sink(void *ctx, enum log_level level, const char *program, const char *text,
		 size_t text_len)
{
	struct logring *l = ctx;
	size_t program_len = size_min(strlen(program), UINT8_MAX);
	struct logring_record rec = {
		.wall_us = clock_wall().us,
		.pid = l->pid,
		.level = (uint8_t)level,
		.program_len = (uint8_t)program_len,
		.text_len = (uint16_t)text_len,
	};
	char *p = ring_reserve(&l->prod, sizeof(rec) + program_len + text_len);

	if (p == NULL) {
		l->dropped++;
		if (l->counters != NULL)
			counter_add(l->counters, CTR_log_dropped, 1);
		return;
	}
	memcpy(p, &rec, sizeof(rec));
	memcpy(p + sizeof(rec), program, program_len);
	memcpy(p + sizeof(rec) + program_len, text, text_len);
	ring_commit(&l->prod);
	if (l->counters != NULL)
		counter_add(l->counters, CTR_log_lines, 1);
	if (level >= LOG_LEVEL_FATAL)
		logring_flush(l);
}

int logring_install(struct logring *l, struct shm_region *r, int wake_fd,
		    struct counters_shm *counters)
{
	size_t len;
	void *mem = logring_mem(r, &len);
	int err = ring_prod_attach(&l->prod, mem, len, wake_fd);

	if (err != 0)
		return err;
	l->region = *r;
	*r = SHM_REGION_INIT;
	l->counters = counters;
	l->pid = (uint32_t)getpid();
	log_set_sink(sink, l);
	return 0;
}

void logring_flush(struct logring *l)
{
	if (l->prod.shm != NULL)
		ring_publish(&l->prod);
}
