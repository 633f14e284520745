/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Images of a disk after a power cut; see t/crash/blockimage.h. */
#include "t/crash/blockimage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"
#include "t/crash/blocklog.h"

#define BLOCK  4096u
#define SECTOR 512u

#define FORGOTTEN 12u

/* What becomes of the writes that no flush covers. */
enum fate {
	FATE_NONE,    /* none is there */
	FATE_ALL,     /* all are there */
	FATE_HALF,    /* each is there or not */
	FATE_BUT_ONE, /* one is missing */
	FATE_ONE,     /* one is there */
	FATE_PREFIX,  /* those up to one, which is torn */
	FATE_TORN,    /* each is there, or not, or torn */
	FATE_COUNT
};

/* Numbers that depend on seed and image alone, so that an image can be made again. */
struct dice {
	uint64_t state;
};

static uint64_t roll(struct dice *d)
{
	uint64_t z = d->state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static size_t below(struct dice *d, size_t n)
{
	return n == 0 ? 0 : (size_t)(roll(d) % n);
}

static struct dice dice_of(const struct image_plan *p, uint64_t purpose)
{
	struct dice d = { p->seed * 1000003 + purpose };

	d.state ^= roll(&d) + p->number;
	roll(&d);
	return d;
}

/* ---- reading ---- */

static const char *map_file(const char *path, size_t *len_r)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		die("%s: cannot be read, or empty", path);
	const char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

	if (p == MAP_FAILED)
		die("%s: %s", path, strerror(errno));
	close(fd);
	*len_r = (size_t)st.st_size;
	return p;
}

static void read_log(struct images *m, const char *path)
{
	size_t cap = 0;

	m->log = map_file(path, &m->log_len);
	for (size_t at = 0; at + sizeof(struct block_entry) <= m->log_len;) {
		const struct block_entry *e = (const void *)(m->log + at);

		if (e->magic != BLOCK_MAGIC || e->off > m->size || e->len > m->size - e->off)
			die("%s: entry %zu is damaged", path, m->entry_count);
		at += sizeof(*e) + (e->kind == BLOCK_WRITE ? e->len : 0);
		if (at > m->log_len)
			break;
		if (m->entry_count == cap) {
			cap = cap == 0 ? 4096 : cap * 2;
			m->entries = xrealloc(m->entries, cap * sizeof(const void *));
		}
		m->entries[m->entry_count++] = e;
		m->flushes += e->kind == BLOCK_FLUSH;
	}
	if (m->flushes < 2)
		die("%s: nothing was flushed", path);
}

static void mark(struct images *m, uint64_t off, uint64_t len)
{
	for (uint64_t b = off / BLOCK; b * BLOCK < off + len; b++)
		m->live[b] = 1;
}

/* Blocks that are allocated in the file may be other than zero. */
static void mark_data(struct images *m, int fd)
{
	for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0;) {
		off_t end = lseek(fd, at, SEEK_HOLE);

		mark(m, (uint64_t)at, (uint64_t)(end - at));
		at = end;
	}
}

void images_open(struct images *m, const char *base, const char *log)
{
	struct stat st;
	int fd = open(base, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s: %s", base, strerror(errno));
	m->size = (size_t)st.st_size;
	m->model = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	m->dev_fd = memfd_create("image", MFD_CLOEXEC);
	if (m->dev_fd < 0 || ftruncate(m->dev_fd, (off_t)m->size) < 0)
		die("no memory file: %s", strerror(errno));
	m->dev = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->dev_fd, 0);
	if (m->model == MAP_FAILED || m->dev == MAP_FAILED)
		die("%s: %s", base, strerror(errno));
	m->live = xcalloc(m->size / BLOCK + 1, 1);
	mark_data(m, fd);
	close(fd);
	read_log(m, log);
}

/* ---- the cut ---- */

size_t images_cut(const struct images *m, const struct image_plan *p)
{
	struct dice d = dice_of(p, 1);
	/* one somewhere in each slice of the log */
	size_t from = m->entry_count * p->number / p->count;
	size_t to = m->entry_count * (p->number + 1) / p->count;

	size_t cut = from + 1 + below(&d, to - from);

	/* mostly when much is open: right before the next flush */
	if (below(&d, 4) != 0) {
		while (cut < m->entry_count && m->entries[cut]->kind != BLOCK_FLUSH)
			cut++;
	}
	return cut;
}

int64_t images_when_us(const struct images *m, size_t cut)
{
	return cut < m->entry_count ? m->entries[cut]->when_us : INT64_MAX;
}

/* Entries before this one are durable at the cut. The control forgets the flushes of the last
 * FORGOTTEN writes that a flush covers. */
static size_t durable(const struct images *m, size_t cut)
{
	unsigned writes = 0;
	bool covered = false;

	for (size_t i = cut; i > 0; i--) {
		bool flush = m->entries[i - 1]->kind == BLOCK_FLUSH;

		if (flush && (!m->forgetful || writes >= FORGOTTEN))
			return i;
		covered |= flush;
		writes += covered && !flush;
	}
	return 0;
}

static void put(char *disk, const struct block_entry *e)
{
	if (e->kind == BLOCK_WRITE)
		memcpy(disk + e->off, e + 1, e->len);
	else if (e->kind == BLOCK_ZERO)
		memset(disk + e->off, 0, e->len);
}

static void put_torn(const struct images *m, const struct block_entry *e, struct dice *d)
{
	bool cut_off = below(d, 2) == 0; /* a beginning of it, or any sectors */
	size_t sectors = e->len / SECTOR, there = below(d, sectors + 1);
	size_t atom = m->whole_blocks ? BLOCK : SECTOR;
	bool put_it = false;

	for (size_t i = 0; i < sectors; i++) {
		char *to = m->dev + e->off + i * SECTOR;

		if (i == 0 || (e->off + i * SECTOR) % atom == 0)
			put_it = cut_off ? i < there : below(d, 2) != 0;
		if (!put_it)
			continue;
		if (e->kind == BLOCK_WRITE)
			memcpy(to, (const char *)(e + 1) + i * SECTOR, SECTOR);
		else
			memset(to, 0, SECTOR);
	}
}

enum part { PART_NONE, PART_WHOLE, PART_TORN };

static enum part part_of(enum fate fate, size_t k, size_t chosen, struct dice *d)
{
	switch (fate) {
	case FATE_ALL:
		return PART_WHOLE;
	case FATE_HALF:
		return below(d, 2) == 0 ? PART_NONE : PART_WHOLE;
	case FATE_BUT_ONE:
		return k == chosen ? PART_NONE : PART_WHOLE;
	case FATE_ONE:
		return k == chosen ? PART_WHOLE : PART_NONE;
	case FATE_PREFIX:
		return k < chosen ? PART_WHOLE : k == chosen ? PART_TORN : PART_NONE;
	case FATE_TORN:
		return (enum part)below(d, 3);
	default:
		return PART_NONE;
	}
}

static void put_open(struct images *m, size_t from, size_t cut, struct dice *d)
{
	enum fate fate = (enum fate)below(d, FATE_COUNT);
	size_t chosen = below(d, cut - from), k = 0;

	for (size_t i = from; i < cut; i++) {
		const struct block_entry *e = m->entries[i];

		if (e->kind == BLOCK_FLUSH) /* one that the control forgets */
			continue;
		enum part part = part_of(fate, k++, chosen, d);

		m->writes_open++;
		m->writes_dropped += part == PART_NONE;
		m->writes_torn += part == PART_TORN;
		if (part == PART_NONE)
			continue;
		mark(m, e->off, e->len);
		if (part == PART_WHOLE)
			put(m->dev, e);
		else
			put_torn(m, e, d);
	}
}

/* What the last image and its mounting left in dev is undone. */
static void restore(struct images *m)
{
	mark_data(m, m->dev_fd);
	for (size_t b = 0; b < m->size / BLOCK; b++) {
		if (m->live[b] && memcmp(m->dev + b * BLOCK, m->model + b * BLOCK, BLOCK) != 0)
			memcpy(m->dev + b * BLOCK, m->model + b * BLOCK, BLOCK);
	}
}

void images_make(struct images *m, const struct image_plan *p)
{
	size_t cut = images_cut(m, p), from = durable(m, cut);
	struct dice d = dice_of(p, 2);

	for (; m->applied < from; m->applied++) {
		const struct block_entry *e = m->entries[m->applied];

		mark(m, e->off, e->len);
		put(m->model, e);
	}
	restore(m);
	put_open(m, from, cut, &d);
}
