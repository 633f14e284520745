/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A new index for a segment whose old one has hidden records (spool_scan_hidden). Nothing depends
 * on it but that the next start need not search again. Called by the supervisor's helper thread.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/scan_int.h"

struct mend {
	struct spool_row *rows;
	size_t count;
	uint64_t end; /* of the last record */
};

static struct spool_row row_of(const struct spool_found *f, bool env_last)
{
	return (struct spool_row){ .magic = SPOOL_ROW_MAGIC,
				   .qid_us = f->qid.time_us,
				   .qid_life = f->qid.life,
				   .off8 = f->place.off8,
				   .len = f->place.len,
				   .rcpt_count = f->rcpt_count,
				   .flags = f->flags | (env_last ? SPOOL_ENV_LAST : 0),
				   .size = f->size,
				   .commit_us = f->commit_us };
}

struct hidden { /* ascending, and a cursor that follows the rows */
	const struct spool_found *list;
	size_t count, next;
	struct qid *ids; /* sorted */
};

static int by_id(const void *a, const void *b)
{
	const struct qid *x = a, *y = b;

	if (x->time_us != y->time_us)
		return x->time_us < y->time_us ? -1 : 1;
	return x->life < y->life ? -1 : x->life > y->life;
}

static void sort_ids(struct hidden *h)
{
	h->ids = xcalloc(h->count + 1, sizeof(*h->ids));
	for (size_t i = 0; i < h->count; i++)
		h->ids[i] = h->list[i].qid;
	qsort(h->ids, h->count, sizeof(*h->ids), by_id);
}

static bool is_named(const struct spool_row *r, const struct hidden *h)
{
	struct qid id = { r->qid_us, r->qid_life };

	return bsearch(&id, h->ids, h->count, sizeof(id), by_id) != NULL;
}

static bool overlaps(const struct spool_row *r, struct hidden *h)
{
	uint64_t from = row_off(r), to = from + r->len;

	for (; h->next < h->count; h->next++) {
		const struct proto_place *p = &h->list[h->next].place;
		uint64_t at = (uint64_t)p->off8 * SPOOL_ALIGN;

		if (at + p->len > from)
			return at < to;
	}
	return false;
}

static bool env_is_last(struct scan *s, const struct spool_found *f)
{
	struct spool_record h;

	return io_pread_all(s->win.fd, &h, sizeof(h), (off_t)f->place.off8 * SPOOL_ALIGN) == 0 &&
	       (h.flags & SPOOL_ENV_LAST) != 0;
}

static int by_offset(const void *a, const void *b)
{
	uint32_t x = ((const struct spool_row *)a)->off8, y = ((const struct spool_row *)b)->off8;

	return x < y ? -1 : x > y;
}

/* Rows that agree stay, and those of damaged records: the row is all that is left of them. */
static void collect(struct scan *s, const struct spool_found *hidden, size_t count, struct mend *m)
{
	struct hidden h = { hidden, count, 0, NULL };

	sort_ids(&h);
	m->rows = xcalloc(s->row_count + count + 1, sizeof(*m->rows));
	for (size_t i = 0; i < s->row_count; i++) {
		const struct spool_row *r = &s->rows[i];

		if (scan_row_agrees(s, r) || (!overlaps(r, &h) && !is_named(r, &h)))
			m->rows[m->count++] = *r;
	}
	free(h.ids);
	for (size_t i = 0; i < count; i++)
		m->rows[m->count++] = row_of(&hidden[i], env_is_last(s, &hidden[i]));
	qsort(m->rows, m->count, sizeof(*m->rows), by_offset);
	if (m->count > 0)
		m->end = row_off(&m->rows[m->count - 1]) + m->rows[m->count - 1].len;
	m->rows[m->count++] = (struct spool_row){ .magic = SPOOL_CLOSE_MAGIC,
						  .off8 = (uint32_t)(m->end / SPOOL_ALIGN) };
	for (size_t k = 0; k < m->count; k++) {
		m->rows[k].nonce = s->nonce;
		m->rows[k].row = (uint32_t)k;
		spool_row_seal(&m->rows[k]);
	}
}

static int write_index(const struct spool_dirs *d, const struct scan *s, const struct mend *m)
{
	char name[SPOOL_NAME_SIZE], fresh[SPOOL_NAME_SIZE + 4];
	struct spool_file_head head;

	snprintf(fresh, sizeof(fresh), "%s.new", spool_name(s->seg, "idx", name));
	int fd = openat(d->seg, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_errno();
	spool_head_fill(&head, SPOOL_INDEX_MAGIC, s->seg, s->nonce, 0);
	int err = io_pwrite_all(fd, &head, sizeof(head), 0);

	if (err == 0)
		err = io_pwrite_all(fd, m->rows, m->count * sizeof(*m->rows), sizeof(head));
	/* the old one must not be gone before this one is there */
	if (err == 0 && fdatasync(fd) < 0)
		err = err_errno();
	close(fd);
	if (err == 0 && renameat(d->seg, fresh, d->seg, name) < 0)
		err = err_errno();
	if (err != 0)
		unlinkat(d->seg, fresh, 0);
	return err;
}

int spool_index_mend(const struct spool_dirs *d, uint32_t seg, const struct spool_found *hidden,
		     size_t count)
{
	struct spool_scan_stats own = { 0 };
	struct mend m = { 0 };
	struct scan s;
	int err = scan_open(&s, d, seg, NULL, NULL);

	if (err != 0)
		return err;
	s.stats = &own;
	scan_load_index(&s);
	if (s.have_nonce) {
		collect(&s, hidden, count, &m);
		err = write_index(d, &s, &m);
	}
	free(m.rows);
	scan_close(&s);
	return err;
}
