/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Board: what the supervisor tells every worker, one writer, mapped read-only elsewhere. Each field
 * stands alone (relaxed atomics; nothing is inferred from two of them together).
 */
#ifndef PH_SHM_BOARD_H
#define PH_SHM_BOARD_H

#include <stdatomic.h>

#include "lib/fault.h"
#include "shm/region.h"

struct board_shm { /* behind shm_header */
	_Atomic uint64_t
		spool_free_bytes; /* of the queue file system, refreshed about once a second */
	_Atomic uint64_t spool_total_bytes;
	_Atomic uint32_t spool_low;  /* 1: below queue_minfree; smtp-in answers 452 4.3.1 */
	_Atomic uint32_t queue_full; /* 1: the queue table has no room; smtp-in answers 452 4.3.1 */
	_Atomic uint32_t stopping;   /* 1: draining before stop */
	_Atomic uint32_t ready;      /* 1: mail is accepted (readyz) */
	_Atomic uint64_t start_wall_s; /* of this boot */
	_Atomic uint64_t generation;   /* configuration generation */
	_Atomic uint64_t beat_mono_s;  /* supervisor's last turn, clock_mono_us_raw(); healthz looks
					  at its age */
	_Atomic uint64_t fold_seq;     /* odd while a dead worker's counters are being folded */
	/* queue gauges, kept by the scheduler (messages unless said otherwise) */
	_Atomic uint64_t messages;
	_Atomic uint64_t entries_ready;
	_Atomic uint64_t entries_busy;
	_Atomic uint64_t entries_deferred;
	_Atomic uint64_t entries_held;
	_Atomic uint64_t entries_loading; /* waiting for a rewrite worker */
	_Atomic uint64_t
		oldest_ready_wall_s; /* arrival of the oldest, 0 = none; bounded-work estimate */
	_Atomic uint64_t oldest_deferred_wall_s;
	_Atomic uint64_t segments;
	_Atomic uint64_t segment_bytes;
	_Atomic uint64_t journals;
	_Atomic uint64_t journal_bytes;
	_Atomic uint64_t in_doubt; /* messages with a delivery whose outcome a crash has hidden */
	_Atomic uint64_t workers_alive;
	_Atomic uint64_t worker_restarts; /* since boot */
	_Atomic uint64_t damaged;         /* records kept in corrupt/ */
};

/* The supervisor's only ways to write. */
static inline void board_set(_Atomic uint64_t *field, uint64_t v)
{
	atomic_store_explicit(field, v, memory_order_relaxed);
	FAULT_POINT(BOARD_SET);
}
static inline void board_flag(_Atomic uint32_t *field, bool v)
{
	atomic_store_explicit(field, v, memory_order_relaxed);
	FAULT_POINT(BOARD_SET);
}
static inline void board_count(_Atomic uint64_t *field)
{
	board_set(field, atomic_load_explicit(field, memory_order_relaxed) + 1);
}
/* Around the folding of a dead worker's counters. */
static inline void board_fold_step(struct board_shm *b)
{
	atomic_fetch_add_explicit(&b->fold_seq, 1, memory_order_seq_cst);
	FAULT_POINT(BOARD_FOLD_SEQ);
}

#endif
