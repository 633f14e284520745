/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading one outcome by its reference; see spool.h. Used by rewrite workers for notifications. */
#include <stdlib.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/fdcache.h"
#include "workers/spool/outcome.h"

struct journal_reader {
	struct spool_fdcache *files;
};

struct journal_reader *journal_reader_new(const struct spool_dirs *dirs, unsigned max_open)
{
	struct journal_reader *r = xcalloc(1, sizeof(*r));

	r->files = spool_fdcache_new(dirs->journal, "jnl", SPOOL_JOURNAL_MAGIC, max_open);
	return r;
}

void journal_reader_free(struct journal_reader **r)
{
	if (*r == NULL)
		return;
	spool_fdcache_free(&(*r)->files);
	free(*r);
	*r = NULL;
}

int journal_read(struct journal_reader *r, struct proto_jref ref, struct buf *mem,
		 struct outcome *o, struct outcome_reason reasons[64])
{
	uint64_t off = (uint64_t)ref.off16 * SPOOL_OUTCOME_ALIGN;
	const uint64_t *nonce;
	struct spool_outcome h;
	int fd;
	int err = spool_fdcache_get(r->files, ref.journal, &fd, &nonce);

	if (err == 0)
		err = io_pread_all(fd, &h, sizeof(h), (off_t)off);
	if (err != 0)
		return err == E_EOF ? E_CORRUPT : err;
	if (!spool_outcome_plausible(&h, ref.journal, nonce, SPOOL_OUTCOME_MAX))
		return E_CORRUPT;
	char *p = buf_reserve(mem, h.len);

	if (p == NULL)
		return E_LIMIT;
	err = io_pread_all(fd, p, h.len, (off_t)off);
	if (err != 0)
		return err == E_EOF ? E_CORRUPT : err;
	mem->len += h.len;
	return spool_outcome_decode((struct sv){ p, h.len }, o, reasons);
}
