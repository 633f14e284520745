/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Time. The only place that reads a clock: everything else calls these, so that tests can move
 * time. Wall and monotonic time are different types and cannot be mixed.
 *
 * The seam: when the environment names a file in POSTHASTE_CLOCK, clock_init() maps it, and two
 * numbers in it (8 bytes each, signed, host order, milliseconds) count at each reading: the first
 * is added to all clocks, which is how tests let days pass; the second to the wall clock alone,
 * which is how they set it wrong. The variable survives exec into workers.
 */
#ifndef PH_LIB_CLOCK_H
#define PH_LIB_CLOCK_H

#include <stdint.h>

struct mono_ms {
	int64_t ms; /* since an arbitrary point; for intervals and time-outs */
};
struct wall_us {
	int64_t us; /* since 1970-01-01 UTC; for stamps that leave the process */
};

/* Reads the seam; call once at process start (calling again is harmless). */
void clock_init(void);

struct mono_ms clock_mono(void);
/* Monotonic microseconds for latency figures; not moved by the seam. */
int64_t clock_mono_us_raw(void);
struct wall_us clock_wall(void);
/* Wall seconds. */
int64_t clock_wall_s(void);
/* Milliseconds since the machine was started, those it was suspended included. Two readings can be
 * compared across processes while the machine's boot id is the same. */
int64_t clock_boot_ms(void);

/* The time as of the last clock_tick(); loops tick once per turn, so hot paths pay nothing. */
struct mono_ms clock_now(void);
struct wall_us clock_now_wall(void);
void clock_tick(void);

/* Unit tests: fix all clocks (in ms), then advance, or set the wall clock alone;
 * clock_fake_off() returns to real time. */
void clock_fake_set(int64_t wall_ms);
void clock_fake_advance(int64_t ms);
void clock_fake_jump(int64_t wall_ms);
void clock_fake_off(void);

static inline int64_t mono_since_ms(struct mono_ms start)
{
	return clock_now().ms - start.ms;
}

#endif
