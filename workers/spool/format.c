/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names, heads and checksums of the spool's files; see format.h. Used by all of workers/spool. */
#include "workers/spool/format.h"

#include <stdio.h>
#include <string.h>

#include "lib/crc32c.h"
#include "lib/util.h"

const char *spool_name(uint32_t number, const char *suffix, char out[SPOOL_NAME_SIZE])
{
	snprintf(out, SPOOL_NAME_SIZE, "%08x.%s", number, suffix);
	return out;
}

bool spool_name_parse(const char *name, const char *suffix, uint32_t *number_r)
{
	uint32_t n = 0;

	if (strlen(name) != 9 + strlen(suffix) || name[8] != '.' || strcmp(name + 9, suffix) != 0)
		return false;
	for (int i = 0; i < 8; i++) {
		char c = name[i];

		if (c >= '0' && c <= '9')
			n = n << 4 | (uint32_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uint32_t)(c - 'a' + 10);
		else
			return false;
	}
	*number_r = n;
	return n != 0;
}

void spool_head_fill(struct spool_file_head *h, uint32_t magic, uint32_t number, uint64_t nonce,
		     int64_t created_us)
{
	*h = (struct spool_file_head){ .magic = magic,
				       .version = SPOOL_FORMAT_VERSION,
				       .number = number,
				       .nonce = nonce,
				       .created_us = created_us };
	h->crc = crc32c(0, h, sizeof(*h));
}

void spool_head_own(struct spool_file_head *h, struct journal_owner owner)
{
	h->life = owner.life;
	h->code = owner.code;
	h->crc = 0;
	h->crc = crc32c(0, h, sizeof(*h));
}

bool spool_head_ok(const struct spool_file_head *h, uint32_t magic, uint32_t number)
{
	struct spool_file_head c = *h;

	c.crc = 0;
	return h->magic == magic && h->number == number && h->version == SPOOL_FORMAT_VERSION &&
	       crc32c(0, &c, sizeof(c)) == h->crc;
}

uint64_t spool_record_bytes(uint64_t env_len, uint64_t content_len)
{
	uint64_t n = sizeof(struct spool_record);

	if (env_len > UINT32_MAX || content_len > UINT32_MAX)
		return 0;
	n = align_up(n + env_len + content_len, SPOOL_ALIGN);
	return n <= UINT32_MAX ? n : 0;
}

static uint32_t seal_crc(const struct spool_record *h, uint32_t body_crc)
{
	struct spool_record c = *h;

	c.crc = 0;
	return crc32c(body_crc, &c, sizeof(c));
}

void spool_record_seal(struct spool_record *h, uint32_t body_crc)
{
	h->magic = SPOOL_RECORD_MAGIC;
	h->crc = seal_crc(h, body_crc);
}

bool spool_record_crc_ok(const struct spool_record *h, uint32_t body_crc)
{
	return h->crc == seal_crc(h, body_crc);
}

bool spool_record_plausible(const struct spool_record *h, uint32_t seg, const uint64_t *nonce,
			    uint64_t off, uint64_t end, uint64_t *bytes_r)
{
	if (h->magic != SPOOL_RECORD_MAGIC || h->seg != seg)
		return false;
	if (nonce != NULL && h->nonce != *nonce)
		return false;
	*bytes_r = spool_record_bytes(h->env_len, h->content_len);
	return *bytes_r != 0 && off <= end && *bytes_r <= end - off;
}

void spool_row_seal(struct spool_row *r)
{
	r->crc = 0;
	r->crc = crc32c(0, r, sizeof(*r));
}

bool spool_row_ok(const struct spool_row *r, uint64_t nonce, uint32_t row)
{
	struct spool_row c = *r;

	c.crc = 0;
	return (r->magic == SPOOL_ROW_MAGIC || r->magic == SPOOL_CLOSE_MAGIC) &&
	       r->nonce == nonce && r->row == row && crc32c(0, &c, sizeof(c)) == r->crc;
}
