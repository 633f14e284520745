/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The budget of a log ring; see workers/log/budget.h. */
#include "workers/log/budget.h"

void log_budget_fill(struct log_budget *b, int64_t rate, int64_t now_ms)
{
	int64_t most = rate * LOG_BUDGET_SECONDS, passed = now_ms - b->filled_ms;

	if (b->filled_ms == 0 || passed >= LOG_BUDGET_SECONDS * 1000)
		b->left_bytes = most;
	else if (passed * rate >= 1000)
		b->left_bytes += rate * passed / 1000;
	else
		return; /* too soon to have earned a byte */
	if (b->left_bytes > most)
		b->left_bytes = most;
	b->filled_ms = now_ms;
}

bool log_budget_take(struct log_budget *b, int64_t rate, size_t bytes)
{
	if (rate == 0)
		return true;
	if (b->left_bytes <= 0) {
		b->suppressed++;
		return false;
	}
	b->left_bytes -= (int64_t)bytes; /* the last line may overdraw it */
	return true;
}
