/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How much one process may write into the log: log_rate_limit bytes a second, saved up for ten
 * seconds at most. An attacked or taken-over worker must neither fill the disk nor bury what the
 * others have to say. Called by the log worker for every line; unit test
 * t/unit/workers/logbudget_test.
 */
#ifndef PH_WORKERS_LOG_BUDGET_H
#define PH_WORKERS_LOG_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_BUDGET_SECONDS 10

struct log_budget { /* zeroed: full at the first call */
	int64_t left_bytes;
	int64_t filled_ms;   /* monotonic; 0 = never */
	uint64_t suppressed; /* lines that were not written, since it was last told */
};

/* Earn what the time since the last call is worth. rate: bytes per second, 0 = no limit. */
void log_budget_fill(struct log_budget *b, int64_t rate, int64_t now_ms);
/* May a line of so many bytes be written? False: it is counted. */
bool log_budget_take(struct log_budget *b, int64_t rate, size_t bytes);

#endif
