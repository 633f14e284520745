/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading records by their place; see spool.h. Used by rewrite (load, bounce, copy), deliver and
 * local workers. What stands on disk is input: every length is checked against the place, and the
 * place against nothing but arithmetic and the file's end.
 */
#include <stdlib.h>

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/fdcache.h"

#define FIRST_READ   2048u /* header and most envelopes in one call */
#define VERIFY_CHUNK 65536u

struct spool_reader {
	struct spool_fdcache *files;
};

struct spool_reader *spool_reader_new(const struct spool_dirs *dirs, unsigned max_open)
{
	struct spool_reader *r = xcalloc(1, sizeof(*r));

	r->files = spool_fdcache_new(dirs->seg, "seg", SPOOL_SEGMENT_MAGIC, max_open);
	return r;
}

void spool_reader_free(struct spool_reader **r)
{
	if (*r == NULL)
		return;
	spool_fdcache_free(&(*r)->files);
	free(*r);
	*r = NULL;
}

int spool_reader_fd(struct spool_reader *r, uint32_t seg, int *fd_r)
{
	const uint64_t *nonce;

	return spool_fdcache_get(r->files, seg, fd_r, &nonce);
}

uint64_t spool_content_pos(const struct spool_record *hdr, struct proto_place place)
{
	uint64_t pos = (uint64_t)place.off8 * SPOOL_ALIGN + sizeof(*hdr);

	return (hdr->flags & SPOOL_ENV_LAST) != 0 ? pos : pos + hdr->env_len;
}

static uint64_t envelope_pos(const struct spool_record *hdr, struct proto_place place)
{
	uint64_t pos = (uint64_t)place.off8 * SPOOL_ALIGN + sizeof(*hdr);

	return (hdr->flags & SPOOL_ENV_LAST) != 0 ? pos + hdr->content_len : pos;
}

/* A file that ends too early is damage, not an end. */
static int read_at(int fd, void *out, size_t len, uint64_t pos)
{
	int err = io_pread_all(fd, out, len, (off_t)pos);

	return err == E_EOF ? E_CORRUPT : err;
}

static int verify_body(int fd, const struct spool_record *h, uint64_t pos)
{
	char *chunk = xmalloc(VERIFY_CHUNK);
	uint64_t left = h->env_len + h->content_len;
	uint32_t crc = 0;
	int err = 0;

	while (left > 0 && err == 0) {
		size_t n = (size_t)u64_min(left, VERIFY_CHUNK);

		err = read_at(fd, chunk, n, pos);
		crc = crc32c(crc, chunk, n);
		pos += n;
		left -= n;
	}
	free(chunk);
	if (err == 0 && !spool_record_crc_ok(h, crc))
		err = E_CORRUPT;
	return err;
}

static int check_header(const struct spool_record *h, struct qid id, struct proto_place place,
			const uint64_t *nonce)
{
	uint64_t bytes;

	if (!spool_record_plausible(h, place.seg, nonce, 0, place.len, &bytes) ||
	    bytes != place.len || h->qid_us != id.time_us || h->qid_life != id.life)
		return E_CORRUPT;
	return 0;
}

static int read_head(int fd, const uint64_t *nonce, struct qid id, struct proto_place place,
		     bool verify, struct spool_record *h, struct buf *envelope)
{
	uint64_t off = (uint64_t)place.off8 * SPOOL_ALIGN;
	size_t first = place.len < FIRST_READ ? place.len : FIRST_READ;
	char tmp[FIRST_READ];

	if (place.len < sizeof(*h))
		return E_CORRUPT;
	int err = read_at(fd, tmp, first, off);

	if (err != 0)
		return err;
	memcpy(h, tmp, sizeof(*h));
	err = check_header(h, id, place, nonce);
	if (err == 0 && verify)
		err = verify_body(fd, h, off + sizeof(*h));
	if (err != 0 || envelope == NULL)
		return err;
	char *out = buf_reserve(envelope, h->env_len);

	if (out == NULL)
		return E_LIMIT;
	if ((h->flags & SPOOL_ENV_LAST) == 0 && sizeof(*h) + h->env_len <= first)
		memcpy(out, tmp + sizeof(*h), h->env_len);
	else
		err = read_at(fd, out, h->env_len, envelope_pos(h, place));
	if (err == 0) {
		envelope->len += h->env_len;
		out[h->env_len] = '\0';
	}
	return err;
}

int spool_read_head(struct spool_reader *r, struct qid id, struct proto_place place, bool verify,
		    struct spool_record *hdr_r, struct buf *envelope)
{
	const uint64_t *nonce;
	int fd;

	for (int attempt = 0;; attempt++) {
		int err = spool_fdcache_get(r->files, place.seg, &fd, &nonce);

		if (err == 0)
			err = read_head(fd, nonce, id, place, verify, hdr_r, envelope);
		if (err != E_CORRUPT || attempt > 0)
			return err;
		/* the cached file may be recycled meanwhile: ask the name once more */
		spool_fdcache_drop(r->files, place.seg);
	}
}

int spool_read_content(struct spool_reader *r, const struct spool_record *hdr,
		       struct proto_place place, uint64_t off, size_t len, struct buf *out)
{
	int fd;
	int err = spool_reader_fd(r, place.seg, &fd);

	if (err != 0)
		return err;
	if (off > hdr->content_len || len > hdr->content_len - off ||
	    spool_record_bytes(hdr->env_len, hdr->content_len) != place.len)
		return E_CORRUPT;
	char *p = buf_reserve(out, len);

	if (p == NULL)
		return E_LIMIT;
	err = read_at(fd, p, len, spool_content_pos(hdr, place) + off);
	if (err == 0) {
		out->len += len;
		p[len] = '\0';
	}
	return err;
}
