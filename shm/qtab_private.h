/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What shm/qtab.c and its checker share. */
#ifndef PH_SHM_QTAB_PRIVATE_H
#define PH_SHM_QTAB_PRIVATE_H

#include "shm/qtab.h"

/* Bucket of a queue id now; the table needs its private hash. */
uint32_t qtab_bucket_of(const struct qtab *t, struct qid id);

#endif
