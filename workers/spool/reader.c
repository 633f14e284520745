/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading records by their place; see spool.h. Used by rewrite (load, bounce, copy), deliver and
 * local workers. What stands on disk is input: every length is checked against the place, and the
 * place against nothing but arithmetic and the file's end.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/fdcache.h"

#define FIRST_READ 2048u  /* header and most envelopes in one call */
#define WHOLE_READ 65536u /* records to be verified: most of them in one call */

struct spool_reader {
	struct spool_fdcache *files;
	char bytes[WHOLE_READ];      /* the beginning of the record at hand, then its pieces */
	char ahead[SPOOL_AHEAD_MAX]; /* see spool_reader_ahead() */
	uint32_t ahead_seg;
	uint64_t ahead_off;
	size_t ahead_len; /* 0 = nothing */
	const char *at;   /* the beginning of the record at hand: in `bytes` or in `ahead` */
	size_t whole;     /* bytes of a verified record that is there as a whole; or 0 */
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

void spool_look_end(struct spool_look *look)
{
	io_close(&look->fd);
	look->seg = 0;
}

static int look_open(const struct spool_dirs *d, uint32_t seg, struct spool_look *look)
{
	char name[SPOOL_NAME_SIZE];
	struct stat st;

	spool_look_end(look);
	/* never wait for it: it could be a pipe */
	int fd = openat(d->seg, spool_name(seg, "seg", name),
			O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EIO
			       ? err_errno()
			       : E_CORRUPT;
	int err = fstat(fd, &st) < 0 ? err_errno() : S_ISREG(st.st_mode) ? 0 : E_CORRUPT;

	*look = (struct spool_look){ seg, fd };
	if (err != 0)
		spool_look_end(look);
	return err;
}

static int look_at(int fd, struct qid id, struct proto_place place)
{
	struct spool_record h;
	int err = io_pread_all(fd, &h, sizeof(h), (off_t)place.off8 * SPOOL_ALIGN);

	if (err == 0 && (h.magic != SPOOL_RECORD_MAGIC || h.seg != place.seg ||
			 h.qid_us != id.time_us || h.qid_life != id.life))
		err = E_CORRUPT;
	return err == E_EOF ? E_CORRUPT : err;
}

int spool_record_is_there(const struct spool_dirs *d, struct spool_look *look, struct qid id,
			  struct proto_place place)
{
	struct spool_look once = SPOOL_LOOK_INIT;
	int err = E_CORRUPT;

	if (look == NULL)
		look = &once;
	if (look->fd >= 0 && look->seg == place.seg)
		err = look_at(look->fd, id, place);
	if (err == E_CORRUPT) { /* also a file that has taken the place of the one that is open */
		err = look_open(d, place.seg, look);
		if (err == 0)
			err = look_at(look->fd, id, place);
	}
	spool_look_end(&once);
	return err;
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

void spool_reader_ahead(struct spool_reader *r, uint32_t seg, uint64_t off, size_t len)
{
	const uint64_t *nonce;
	int fd;

	r->ahead_len = 0;
	if (len > sizeof(r->ahead) || spool_fdcache_get(r->files, seg, &fd, &nonce) != 0 ||
	    read_at(fd, r->ahead, len, off) != 0)
		return;
	r->ahead_seg = seg;
	r->ahead_off = off;
	r->ahead_len = len;
}

/* Where a record lies as a whole in what was read ahead, or NULL. */
static const char *find_ahead(const struct spool_reader *r, struct proto_place place, uint64_t off)
{
	if (place.len > r->ahead_len || place.seg != r->ahead_seg || off < r->ahead_off ||
	    off - r->ahead_off > r->ahead_len - place.len)
		return NULL;
	return r->ahead + (off - r->ahead_off);
}

/* `first` bytes of the record are at r->at, and are gone when there are more. */
static int verify_body(struct spool_reader *r, int fd, const struct spool_record *h, uint64_t off,
		       size_t first)
{
	uint64_t left = h->env_len + h->content_len, pos = off + sizeof(*h);
	size_t n = (size_t)u64_min(left, first - sizeof(*h));
	uint32_t crc = crc32c(0, r->at + sizeof(*h), n);
	int err = 0;

	while ((left -= n) > 0 && err == 0) {
		pos += n;
		n = (size_t)u64_min(left, WHOLE_READ);
		err = read_at(fd, r->bytes, n, pos);
		if (err == 0)
			crc = crc32c(crc, r->bytes, n);
	}
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

/* The envelope from r->at when the first `have` bytes of the record are there, else from disk.
 */
static int read_envelope(struct spool_reader *r, int fd, const struct spool_record *h,
			 struct proto_place place, size_t have, struct buf *envelope)
{
	uint64_t pos = envelope_pos(h, place);
	uint64_t at = pos - (uint64_t)place.off8 * SPOOL_ALIGN;
	char *out = buf_reserve(envelope, h->env_len);
	int err = 0;

	if (out == NULL)
		return E_LIMIT;
	if (at + h->env_len <= have)
		memcpy(out, r->at + at, h->env_len);
	else
		err = read_at(fd, out, h->env_len, pos);
	if (err == 0) {
		envelope->len += h->env_len;
		out[h->env_len] = '\0';
	}
	return err;
}

static int read_head(struct spool_reader *r, int fd, const uint64_t *nonce, struct qid id,
		     struct proto_place place, bool verify, struct spool_record *h,
		     struct buf *envelope)
{
	uint64_t off = (uint64_t)place.off8 * SPOOL_ALIGN;
	size_t first = size_min(place.len, verify ? WHOLE_READ : FIRST_READ);
	int err = 0;

	r->whole = 0;
	if (place.len < sizeof(*h))
		return E_CORRUPT;
	r->at = first == place.len ? find_ahead(r, place, off) : NULL;
	if (r->at == NULL) {
		r->at = r->bytes;
		err = read_at(fd, r->bytes, first, off);
	}
	if (err != 0)
		return err;
	memcpy(h, r->at, sizeof(*h));
	err = check_header(h, id, place, nonce);
	if (err == 0 && verify)
		err = verify_body(r, fd, h, off, first);
	if (err == 0 && verify && first == place.len)
		r->whole = first;
	if (err != 0 || envelope == NULL)
		return err;
	/* what was verified in pieces is no longer there */
	return read_envelope(r, fd, h, place, verify && first < place.len ? 0 : first, envelope);
}

int spool_read_head(struct spool_reader *r, struct qid id, struct proto_place place, bool verify,
		    struct spool_record *hdr_r, struct buf *envelope)
{
	const uint64_t *nonce;
	int fd;

	for (int attempt = 0;; attempt++) {
		int err = spool_fdcache_get(r->files, place.seg, &fd, &nonce);

		if (err == 0)
			err = read_head(r, fd, nonce, id, place, verify, hdr_r, envelope);
		if (err != E_CORRUPT || attempt > 0)
			return err;
		/* the cached file may be recycled meanwhile: ask the name once more */
		spool_fdcache_drop(r->files, place.seg);
		r->ahead_len = 0;
	}
}

bool spool_reader_has_content(const struct spool_reader *r, const struct spool_record *hdr,
			      struct proto_place place, struct sv *content_r)
{
	uint64_t at = spool_content_pos(hdr, place) - (uint64_t)place.off8 * SPOOL_ALIGN;

	if (r->whole != place.len)
		return false;
	*content_r = (struct sv){ r->at + at, (size_t)hdr->content_len };
	return true;
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

/* Sums what stands on disk before byte `end` of envelope and content. */
static int check_disk(struct spool_reader *r, uint32_t seg, uint64_t body, uint64_t end,
		      struct spool_check *check)
{
	int err = 0, fd;

	if (check->pos < end)
		err = spool_reader_fd(r, seg, &fd);
	r->whole = 0;
	while (check->pos < end && err == 0) {
		size_t n = (size_t)u64_min(end - check->pos, WHOLE_READ);

		err = read_at(fd, r->bytes, n, body + check->pos);
		if (err == 0) {
			check->crc = crc32c(check->crc, r->bytes, n);
			check->pos += n;
		}
	}
	return err;
}

int spool_check_content(struct spool_reader *r, const struct spool_record *hdr,
			struct proto_place place, uint64_t off, const char *data, size_t len,
			struct spool_check *check)
{
	uint64_t body = (uint64_t)place.off8 * SPOOL_ALIGN + sizeof(*hdr);
	uint64_t all = (uint64_t)hdr->env_len + hdr->content_len;
	uint64_t from = spool_content_pos(hdr, place) - body + off;
	int err;

	if (off > hdr->content_len || len > hdr->content_len - off)
		return E_CORRUPT;
	err = check_disk(r, place.seg, body, from, check);
	if (err != 0)
		return err;
	if (check->pos < from + len) {
		size_t known = (size_t)(check->pos - from);

		check->crc = crc32c(check->crc, data + known, len - known);
		check->pos = from + len;
	}
	if (off + len < hdr->content_len)
		return 0;
	err = check_disk(r, place.seg, body, all, check);
	return err == 0 && !spool_record_crc_ok(hdr, check->crc) ? E_CORRUPT : err;
}
