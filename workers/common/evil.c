/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a taken-over worker can do to shared memory and to its descriptors; see evil.h. The records
 * it makes up are in evil_records.c. Nothing of this is in a build for use. */
#include "workers/common/evil.h"

#ifdef PH_FAULT_POINTS

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/ctl.h"
#include "workers/common/evil_int.h"

#define MIXED_QUIET 5000

struct evil evil;

void evil_init(unsigned who)
{
	const char *path = getenv("POSTHASTE_EVIL");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	void *map = mmap(NULL, sizeof(struct evil_page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	if (map == MAP_FAILED)
		return;
	evil.page = map;
	evil.who = who;
}

void evil_saw_fd(int fd, enum shm_kind kind, bool ours)
{
	if (evil.page == NULL || evil.fd_count == EVIL_FDS)
		return;
	evil.fds[evil.fd_count++] = (struct evil_fd){ fcntl(fd, F_DUPFD_CLOEXEC, 0), kind, ours };
}

void evil_saw(const void *rec, size_t len)
{
	uint32_t kind = 0;
	struct evil_rec *r = &evil.recs[evil.rec_count % EVIL_RECS];

	if (evil.page == NULL || len > sizeof(r->bytes) || len < sizeof(kind))
		return;
	memcpy(r->bytes, rec, len);
	r->len = len;
	evil.rec_count++;
	memcpy(&kind, rec, sizeof(kind));
	if (kind == PROTO_FILE_GRANT && len >= sizeof(struct proto_file)) {
		struct proto_file f;

		memcpy(&f, rec, sizeof(f));
		evil.grant[f.file_kind == SPOOL_SEGMENT] = f.number;
	}
}

uint64_t evil_rand(void)
{
	evil.state ^= evil.state << 13;
	evil.state ^= evil.state >> 7;
	evil.state ^= evil.state << 17;
	return evil.state;
}

uint64_t evil_value(void)
{
	static const uint64_t chosen[] = {
		0,
		1,
		2,
		7,
		8,
		63,
		64,
		65,
		4095,
		4096,
		8191,
		8192,
		60000,
		65535,
		65536,
		0x7fffffff,
		0x80000000,
		0xfffffff8,
		0xfffffffe,
		0xffffffff,
		0x100000000,
		0x7fffffffffffffff,
		0x8000000000000000,
		0xfffffffffffffff8,
		UINT64_MAX,
	};
	uint64_t r = evil_rand();

	return r % 3 == 0 ? evil_rand() : chosen[evil_rand() % ARRAY_LEN(chosen)];
}

/* ---- regions ---- */

static void *map_for_writing(int fd, size_t *size_r)
{
	struct stat st;
	char path[40];

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof(struct shm_header))
		return MAP_FAILED;
	*size_r = (size_t)st.st_size;
	void *p = mmap(NULL, *size_r, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (p != MAP_FAILED)
		return p;
	/* a descriptor for reading may be opened anew for more */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fchmod(fd, 0666);
	int again = open(path, O_RDWR | O_CLOEXEC);

	if (again < 0)
		return MAP_FAILED;
	p = mmap(NULL, *size_r, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
	close(again);
	return p;
}

static void map_regions(void)
{
	for (unsigned i = 0; i < evil.fd_count; i++) {
		struct evil_region *r = &evil.regions[evil.region_count];
		const struct evil_fd *f = &evil.fds[i];

		r->base = map_for_writing(f->fd, &r->size);
		if (r->base == MAP_FAILED)
			continue;
		r->kind = f->kind;
		evil.region_count++;
		if (!f->ours) {
			atomic_fetch_add(&evil.page->breaches, 1);
			atomic_fetch_or(&evil.page->kinds, 1u << f->kind);
		}
	}
	atomic_store(&evil.page->regions, evil.region_count);
}

static struct evil_region *any_region(void)
{
	return evil.region_count == 0 ? NULL : &evil.regions[evil_rand() % evil.region_count];
}

static void scribble(void)
{
	struct evil_region *r = any_region();

	if (r == NULL)
		return;
	/* heads, ring positions and tables stand at the beginning: every other shot goes there */
	size_t reach = evil_rand() % 2 != 0 ? r->size : size_min(r->size, 1024);
	size_t at = evil_rand() % (reach - 8) & ~(size_t)7;
	size_t len = evil_rand() % 8 == 0 ? evil_rand() % 4096 : 8;

	for (; len >= 8 && at + 8 <= r->size; at += 8, len -= 8) {
		uint64_t v = evil_value();

		memcpy((char *)r->base + at, &v, 8);
	}
}

/* ---- chosen values ---- */

static void bend_ring(struct ring_shm *r)
{
	uint64_t head = atomic_load(&r->head), tail = atomic_load(&r->tail);
	uint64_t v[] = { head + 8,    head - 8,           head + r->data_size,
			 tail - 8,    tail + 8,           tail - r->data_size,
			 0,           UINT64_MAX & ~7ull, head + 1,
			 evil_value() };

	switch (evil_rand() % 7) {
	case 0:
		atomic_store(&r->head, v[evil_rand() % ARRAY_LEN(v)]);
		break;
	case 1:
		atomic_store(&r->tail, v[evil_rand() % ARRAY_LEN(v)]);
		break;
	case 2:
		r->data_size = (uint32_t)evil_value();
		break;
	case 3:
		atomic_store(&r->cons_sleep, (uint32_t)evil_value());
		break;
	case 4:
		atomic_store(&r->prod_wait, (uint32_t)evil_value());
		break;
	case 5: { /* the length of the record that is read next */
		uint32_t len = (uint32_t)evil_value();

		memcpy((char *)(r + 1) + (tail & 4095 & ~7ull), &len, sizeof(len));
		break;
	}
	default:
		r->magic ^= 1u << evil_rand() % 32;
	}
}

static void bend_blocks(struct evil_region *r)
{
	struct blocks_shm *b = (void *)((char *)r->base + sizeof(struct shm_header));
	uint32_t *next = (void *)(b + 1);
	uint32_t n = (uint32_t)((r->size - 4096) / BLOCK_SIZE),
		 i = (uint32_t)evil_rand() % (n / 2 + 1);

	switch (evil_rand() % 4) {
	case 0:
		next[i] = i; /* a loop */
		break;
	case 1:
		next[i] = (uint32_t)evil_value();
		break;
	case 2:
		b->count = (uint32_t)evil_value();
		break;
	default:
		b->data_off = evil_value();
	}
}

static void bend_counters(struct evil_region *r)
{
	struct counters_shm *c = (void *)((char *)r->base + sizeof(struct shm_header));

	atomic_store(&c->counter[evil_rand() % CTR_COUNT], evil_value());
	atomic_store(&c->gauge[evil_rand() % GAU_COUNT], evil_value());
	atomic_store(&c->histogram[evil_rand() % HIS_COUNT].sum, evil_value());
	atomic_store(&c->folded, (uint32_t)evil_value());
	c->class_id = (uint32_t)evil_value();
}

static void bend(void)
{
	struct evil_region *r = any_region();

	if (r == NULL)
		return;
	if (evil_rand() % 8 == 0) {
		struct shm_header *h = r->base;

		h->life = (uint32_t)evil_value();
		h->size_bytes = evil_value();
	} else if (r->kind == SHM_KIND_LINK) {
		struct link_shm *l = (void *)((char *)r->base + sizeof(struct shm_header));
		uint64_t off = sizeof(struct shm_header) + sizeof(*l);
		struct ring_shm *first = (void *)((char *)r->base + off);

		if (evil_rand() % 8 == 0)
			l->ring_off[evil_rand() % 2] = evil_value();
		else if (evil_rand() % 2 == 0)
			bend_ring(first);
		else if (first->data_size <= r->size / 2)
			bend_ring((void *)((char *)(first + 1) + first->data_size));
	} else if (r->kind == SHM_KIND_LOG) {
		bend_ring((void *)((char *)r->base + sizeof(struct shm_header)));
	} else if (r->kind == SHM_KIND_BLOCKS) {
		bend_blocks(r);
	} else if (r->kind == SHM_KIND_COUNTERS) {
		bend_counters(r);
	}
}

/* ---- descriptors ---- */

static void control(void)
{
	char packet[sizeof(struct ctl_msg) + CTL_TEXT_MAX];
	struct ctl_msg m = { .kind = (uint32_t)(evil_rand() % 12),
			     .class_id = (uint32_t)(evil_rand() % 10),
			     .slot = (uint32_t)(evil_rand() % 4),
			     .life = (uint32_t)(evil.b->w->life + evil_rand() % 32 - 16),
			     .text_len = (uint32_t)evil_value() };
	int fds[4] = { 0, 1, 2, evil.b->sock };
	size_t len = sizeof(m) + evil_rand() % CTL_TEXT_MAX;

	for (size_t i = sizeof(m); i < len; i++)
		packet[i] = (char)evil_rand();
	memcpy(packet, &m, sizeof(m));
	if (evil_rand() % 8 == 0)
		len = 1 + evil_rand() % sizeof(m);
	if (evil_rand() % 2 != 0 && evil.b->peer_count > 0) {
		const struct worker_peer *p = evil.b->peers[evil_rand() % evil.b->peer_count];

		if (p != NULL && evil.page->mode == EVIL_CONTROL) {
			m = (struct ctl_msg){ .kind = CTL_ACCUSE,
					      .class_id = p->class_id,
					      .slot = p->slot,
					      .life = p->life };
			memcpy(packet, &m, sizeof(m));
			len = sizeof(m);
		}
	}
	io_send_fds(evil.b->sock, packet, len, fds, evil_rand() % 5);
	if (evil.page->mode == EVIL_CONTROL && evil_rand() % 20000 == 0)
		close(evil.b->sock);
}

static void fill(int fd)
{
	uint64_t most = UINT64_MAX - 1, one = 1;
	int off = 0;

	if (evil_rand() % 2 == 0) {
		fcntl(fd, F_SETFL, 0);
		ioctl(fd, FIONBIO, &off);
	}
	/* only where it cannot block us */
	if (fcntl(fd, F_SETFL, O_NONBLOCK) == 0 || (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0) {
		if (write(fd, &most, sizeof(most)) < 0 && write(fd, &one, sizeof(one)) < 0)
			return;
	}
	if (evil_rand() % 2 == 0) {
		fcntl(fd, F_SETFL, 0);
		ioctl(fd, FIONBIO, &off);
	}
}

static void wake(void)
{
	size_t n = evil_rand() % (evil.b->peer_count + 2);

	if (n == 0)
		fill(evil.b->w->wake_fd);
	else if (n == 1)
		fill(evil.b->w->super.peer_wake_fd);
	else if (evil.b->peers[n - 2] != NULL)
		fill(evil.b->peers[n - 2]->link->peer_wake_fd);
}

static void log_lines(void)
{
	static const char *const names[] = { "smtpd", "qmgr", "master", "../../x", "\r\n\033[2J" };
	char text[200];

	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = (char)(1 + evil_rand() % 255);
	text[sizeof(text) - 1] = '\0';
	log_as(names[evil_rand() % ARRAY_LEN(names)], (enum log_level)(evil_rand() % 3),
	       "EVIL %s\nJan  1 00:00:00 mx postfix/qmgr[1]: forged", text);
	evil_flush_log();
}

/* ---- the loop ---- */

static void beat(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	atomic_store(&evil.b->w->counters->beat_s, (uint32_t)t.tv_sec);
}

static void one_act(enum evil_mode mode)
{
	static void (*const acts[])(void) = {
		[EVIL_SCRIBBLE] = scribble, [EVIL_CHOSEN] = bend, [EVIL_RECORDS] = evil_record,
		[EVIL_LIES] = evil_lie,     [EVIL_MUTE] = NULL,   [EVIL_SPIN] = NULL,
		[EVIL_CONTROL] = control,   [EVIL_WAKE] = wake,   [EVIL_LOG] = log_lines,
		[EVIL_MIXED] = NULL,        [EVIL_PROBE] = NULL,
	};

	if (acts[mode] != NULL)
		acts[mode]();
	atomic_fetch_add(&evil.page->acts, 1);
}

static void nap(long us)
{
	struct timespec t = { .tv_nsec = us * 1000 };

	nanosleep(&t, NULL);
}

static void go(enum evil_mode mode)
{
	/* what nobody is ended for at once comes first */
	static const enum evil_mode quiet[] = { EVIL_LIES, EVIL_WAKE, EVIL_LOG };

	/* what was handed over before it went bad is copied by then: not its victim any more */
	nap(300000);
	map_regions();
	for (uint64_t n = 0;; n++) {
		if (mode != EVIL_SPIN && n % 64 == 0)
			beat();
		one_act(mode != EVIL_MIXED ? mode
			: n < MIXED_QUIET  ? quiet[evil_rand() % ARRAY_LEN(quiet)]
					   : (enum evil_mode)(evil_rand() % (EVIL_LOG + 1)));
		if (mode != EVIL_SPIN && n % 64 == 63)
			nap(mode == EVIL_MUTE ? 100000 : 200);
	}
}

static bool our_turn(void)
{
	uint32_t one = 1;

	if (evil.page == NULL || atomic_load(&evil.page->armed) == 0 ||
	    evil.page->who != evil.who ||
	    !atomic_compare_exchange_strong(&evil.page->armed, &one, 0))
		return false;
	atomic_store(&evil.page->taken, (uint32_t)getpid());
	return true;
}

void evil_probe_turn(void)
{
	if (our_turn())
		evil_probe();
}

void evil_turn(const struct evil_body *b)
{
	if (!our_turn())
		return;
	evil.b = b;
	evil.state = evil.page->seed * 0x9e3779b97f4a7c15u + 1;
	if (evil.page->mode == EVIL_PROBE)
		evil_probe();
	else
		go((enum evil_mode)(evil.page->mode % EVIL_MODE_COUNT));
}

#endif
