/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What stands in the spool's files besides struct spool_record (spool.h); doc/spool-format.md has
 * it by byte. Private to workers/spool. All integers are little endian.
 *
 * Every file begins with struct spool_file_head and draws a random 64-bit nonce. Records, rows and
 * outcomes repeat number and nonce under their checksum. The number keeps what an overwritten
 * segment held before from passing for new; the nonce, which no correspondent can know, keeps bytes
 * *inside* a message or a reply text from passing for a record when recovery looks for the next
 * one.
 */
#ifndef PH_WORKERS_SPOOL_FORMAT_H
#define PH_WORKERS_SPOOL_FORMAT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "workers/spool/spool.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "spool files are little endian");

#define SPOOL_FORMAT_VERSION 1u
#define SPOOL_SEGMENT_MAGIC  0x47455350u /* "PSEG" */
#define SPOOL_INDEX_MAGIC    0x58444950u /* "PIDX" */
#define SPOOL_JOURNAL_MAGIC  0x4c4e4a50u /* "PJNL" */
#define SPOOL_ROW_MAGIC      0x574f5250u /* "PROW" */
#define SPOOL_CLOSE_MAGIC    0x4f4c4350u /* "PCLO" */
#define SPOOL_OUTCOME_MAGIC  0x54554f50u /* "POUT" */

/* Commits begin on a page: a page that holds an acknowledged record is never written again. */
#define SPOOL_PAGE      4096u
#define SPOOL_FIRST_OFF SPOOL_PAGE /* of the first record */
#define SPOOL_OFF_MAX   ((uint64_t)UINT32_MAX * SPOOL_ALIGN)
#define SPOOL_NAME_SIZE 16 /* NNNNNNNN.seg */

struct spool_file_head { /* 64 bytes at offset 0 of segment, index and journal */
	uint32_t magic;
	uint32_t crc; /* of these 64 bytes, with 0 here */
	uint32_t version;
	uint32_t number;
	uint64_t nonce;
	int64_t created_us;
	uint64_t life; /* journals: to whom it was granted, 0 = the supervisor */
	uint64_t code; /* journals: workers/spool/warrant.h */
	uint64_t spare[2];
};

struct spool_row {      /* 64 bytes: row k of an index is at 64 * (k + 1) */
	uint32_t magic; /* SPOOL_ROW_MAGIC, or SPOOL_CLOSE_MAGIC: no record beyond those listed */
	uint32_t crc;
	uint64_t nonce;
	uint64_t qid_us;
	uint32_t qid_life;
	uint32_t off8; /* close: end of the used part */
	uint32_t len;
	uint32_t rcpt_count;
	uint32_t flags;
	uint32_t size;
	int64_t commit_us;
	uint32_t row; /* its own number: a displaced row is not valid */
	uint32_t spare;
};

struct spool_outcome { /* 64 bytes, at a multiple of 16; variable parts follow */
	uint32_t magic;
	uint32_t crc; /* of the whole record with 0 here */
	uint32_t len; /* whole record with padding, multiple of 16 */
	uint32_t journal;
	uint64_t nonce;
	uint8_t kind;
	uint8_t reason_count;
	uint16_t transport_len;
	uint16_t nexthop_len;
	uint8_t masks;  /* 1: sent, deferred, bounced follow (8 bytes each); 2: and report; and
			   SPOOL_WARRANTED: before them, struct proto_warrant */
	uint8_t unsure; /* 1: those deferred may have it all the same */
	uint64_t qid_us;
	uint32_t qid_life;
	uint32_t rcpt_first;
	uint64_t mask;
	int64_t when_us;
};

struct spool_reason { /* 24 bytes each, behind transport and nexthop; then its three texts */
	uint64_t mask;
	uint8_t dsn[3];
	uint8_t pad;
	uint16_t mta_len;
	uint16_t text_len;
	uint16_t diag_len;
	uint16_t pad2[3];
};

static_assert(sizeof(struct spool_record) == 64, "record header");
static_assert(sizeof(struct spool_file_head) == 64, "file head");
static_assert(sizeof(struct spool_row) == 64, "index row");
static_assert(sizeof(struct spool_outcome) == 64, "outcome");
static_assert(sizeof(struct spool_reason) == 24, "reason");

#define SPOOL_WARRANTED     0x80u
#define SPOOL_OUTCOME_ALIGN 16u
#define SPOOL_OUTCOME_MAX   (1u << 20) /* longest outcome record */
#define SPOOL_REASON_MAX    64u

/* The numbers of files NNNNNNNN.suffix, ascending, malloc'd. */
int spool_list_dir(int dirfd, const char *suffix, uint32_t **numbers_r, size_t *count_r);
/* NNNNNNNN.seg, .idx, .jnl */
const char *spool_name(uint32_t number, const char *suffix, char out[SPOOL_NAME_SIZE]);
/* The number, false when it is not such a name. */
bool spool_name_parse(const char *name, const char *suffix, uint32_t *number_r);

void spool_head_fill(struct spool_file_head *h, uint32_t magic, uint32_t number, uint64_t nonce,
		     int64_t created_us);
/* Names the owner of a journal. */
void spool_head_own(struct spool_file_head *h, struct journal_owner owner);
bool spool_head_ok(const struct spool_file_head *h, uint32_t magic, uint32_t number);

/* Bytes of a record with its padding; 0 when it cannot be a record (too long). */
uint64_t spool_record_bytes(uint64_t env_len, uint64_t content_len);
/* Finishes the header: `body_crc` is the CRC32C of envelope and content in file order; the header
 * (crc 0) is added behind them, so that a stream can be summed while it arrives. */
void spool_record_seal(struct spool_record *h, uint32_t body_crc);
/* Could this be the header of a record of segment `seg` with this nonce, at `off`, with all of it
 * before `end`? Sets its bytes. Says nothing about the checksum. */
bool spool_record_plausible(const struct spool_record *h, uint32_t seg, const uint64_t *nonce,
			    uint64_t off, uint64_t end, uint64_t *bytes_r);
bool spool_record_crc_ok(const struct spool_record *h, uint32_t body_crc);

void spool_row_seal(struct spool_row *r);
bool spool_row_ok(const struct spool_row *r, uint64_t nonce, uint32_t row);

#endif
