/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Queue ids: Postfix's long form (enable_long_queue_ids), which never repeats.
 *   seconds in base 52, at least 6 characters; microseconds in base 52, 4 characters; 'z';
 *   a number in base 51. Postfix puts the inode there; here it is the number of the worker life
 *   that made the id, which the supervisor never hands out twice. Within one life the time part
 *   strictly increases (qid_make), so the pair is unique for ever.
 * Digits are 0-9, then consonants B-Z and b-z without vowels, as in Postfix's safe alphabet;
 * base 51 leaves out the last digit, which is 'z' the separator.
 */
#ifndef PH_LIB_QID_H
#define PH_LIB_QID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"

struct qid {
	uint64_t time_us; /* wall clock, microseconds since 1970; below 2^53 */
	uint32_t life;    /* worker life, 1 .. 2^24-1; 0 = no id */
};

#define QID_TEXT_SIZE   32 /* with the terminator; the longest id is well below */
#define QID_MAX_TIME_US ((uint64_t)1 << 53)

struct qid_source {
	uint32_t life;
	uint64_t last_us;
};

/* A fresh id: now, or one microsecond past the last one of this source. */
struct qid qid_make(struct qid_source *src);
/* Writes the text, returns out. */
const char *qid_format(struct qid id, char out[QID_TEXT_SIZE]);
/* E_SYNTAX when the text is not a long queue id that qid_format could have made. */
int qid_parse(struct sv text, struct qid *id_r);
bool qid_eq(struct qid a, struct qid b);
bool qid_is_set(struct qid id);
uint64_t qid_hash(struct qid id);

#endif
