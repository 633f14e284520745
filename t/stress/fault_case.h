/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What t/stress/shm_faults.c does with one structure; fault_small.c has the small ones. */
#ifndef PH_T_STRESS_FAULT_CASE_H
#define PH_T_STRESS_FAULT_CASE_H

#include <stdbool.h>
#include <stddef.h>

struct fault_case {
	const char *prefix; /* of the names of its points */
	void (*fresh)(void);
	void (*work)(void); /* in a child that dies, and in the parent when it goes on */
	bool (*survives)(void);
	bool goes_on;
};

extern const struct fault_case fault_small[];
extern const size_t fault_small_count;
int fault_small_setup(void);

#endif
