/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Crash points for tests: FAULT_POINT(ID) dies by SIGKILL there when the environment variable
 * POSTHASTE_FAULT says "name:occurrence" (occurrence counts from 1). Compiled in by
 * ./configure --enable-fault-points only; otherwise it is nothing at all. Rows: lib/fault.inc.
 */
#ifndef PH_LIB_FAULT_H
#define PH_LIB_FAULT_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

enum fault_id {
#define FAULT(id, name) FAULT_##id,
#include "lib/fault.inc"
#undef FAULT
	FAULT_COUNT
};

extern const char *const fault_names[FAULT_COUNT];

/* Arm by hand (tests that fork); occurrence 0 disarms. Counting starts anew. */
void fault_arm(enum fault_id id, unsigned occurrence);
/* Times the point was passed since it was armed or the process began. */
unsigned fault_hits(enum fault_id id);
void fault_hit(enum fault_id id);

#ifdef PH_FAULT_POINTS
#define FAULT_POINT(id) fault_hit(FAULT_##id)
#else
#define FAULT_POINT(id) ((void)0)
#endif

#endif
