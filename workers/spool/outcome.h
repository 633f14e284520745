/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Outcome records: encoding for the journal writer, decoding for reader, recovery and postcat. */
#ifndef PH_WORKERS_SPOOL_OUTCOME_H
#define PH_WORKERS_SPOOL_OUTCOME_H

#include "workers/spool/format.h"

/* Appends one record; texts longer than 65535 bytes are cut. E_INVAL: too many reasons. */
int spool_outcome_encode(const struct outcome *o, uint32_t journal, uint64_t nonce,
			 struct buf *out);
/* Could it be a record of this journal that ends within `room` bytes? */
bool spool_outcome_plausible(const struct spool_outcome *h, uint32_t journal, const uint64_t *nonce,
			     uint64_t room);
/* `rec` is a whole record of rec->len bytes, 8-aligned. Views point into it. E_CORRUPT. */
int spool_outcome_decode(struct sv rec, struct outcome *o, struct outcome_reason reasons[64]);

#endif
