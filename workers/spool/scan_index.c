/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The index of a segment, for its scan (scan.c). It is there for speed: a row that is not sound is
 * no row, and a row hides nothing but its own record.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/scan_int.h"

static int row_by_offset(const void *a, const void *b)
{
	uint32_t x = ((const struct spool_row *)a)->off8, y = ((const struct spool_row *)b)->off8;

	return x < y ? -1 : x > y;
}

static bool row_in_file(const struct scan *s, const struct spool_row *r)
{
	uint64_t off = row_off(r);

	return r->len >= sizeof(struct spool_record) && r->len % SPOOL_ALIGN == 0 &&
	       off >= SPOOL_FIRST_OFF && off <= s->win.size && r->len <= s->win.size - off;
}

static void take_rows(struct scan *s, struct spool_row *rows, size_t count)
{
	size_t last = 0; /* one behind the last good row */

	s->rows_whole = true;
	for (size_t k = 0; k < count; k++) {
		if (!spool_row_ok(&rows[k], s->nonce, (uint32_t)k))
			continue;
		if (rows[k].magic == SPOOL_CLOSE_MAGIC) {
			s->closed = last == k && s->row_count == k;
			break;
		}
		if (last != k || !row_in_file(s, &rows[k]))
			s->rows_whole = false;
		last = k + 1;
		if (row_in_file(s, &rows[k]))
			rows[s->row_count++] = rows[k];
	}
	if (!s->rows_whole)
		s->closed = false;
}

/* Rows are in order of commit: nearly that of offsets, but for streams. Overlaps cannot be ours. */
static void sort_rows(struct scan *s)
{
	bool sorted = true;
	size_t n = 0;

	for (size_t i = 1; i < s->row_count && sorted; i++)
		sorted = s->rows[i - 1].off8 < s->rows[i].off8;
	if (!sorted)
		qsort(s->rows, s->row_count, sizeof(*s->rows), row_by_offset);
	for (size_t i = 0; i < s->row_count; i++) {
		if (n > 0 && row_off(&s->rows[n - 1]) + s->rows[n - 1].len > row_off(&s->rows[i])) {
			s->rows_whole = s->closed = false;
			continue;
		}
		s->rows[n++] = s->rows[i];
	}
	s->row_count = n;
}

void scan_load_index(struct scan *s)
{
	char name[SPOOL_NAME_SIZE];
	struct spool_file_head head;
	struct stat st;
	int fd = openat(s->dirs->seg, spool_name(s->seg, "idx", name),
			O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	bool good = fstat(fd, &st) == 0 && io_pread_all(fd, &head, sizeof(head), 0) == 0 &&
		    spool_head_ok(&head, SPOOL_INDEX_MAGIC, s->seg) &&
		    (!s->have_nonce || head.nonce == s->nonce);
	/* no more rows than records can stand in the file, and the close row */
	size_t count = good ? (size_t)st.st_size / sizeof(*s->rows) - 1 : 0;

	count = size_min(count, (size_t)(s->win.size / sizeof(struct spool_record)) + 1);
	if (count > 0) {
		s->nonce = head.nonce;
		s->have_nonce = true;
		s->rows = xmalloc(count * sizeof(*s->rows));
		if (io_pread_all(fd, s->rows, count * sizeof(*s->rows), sizeof(head)) == 0)
			take_rows(s, s->rows, count);
	}
	close(fd);
	sort_rows(s);
}

/* May the bytes between a record's end and the next indexed one hold a record without a row? A
 * fill-up to the page cannot, unless rows are missing; the space of a stream can. */
bool scan_gap_matters(const struct scan *s, uint64_t pos, uint64_t next)
{
	if (s->closed || pos >= next)
		return false;
	return !s->rows_whole || align_up(pos, SPOOL_PAGE) != next;
}
