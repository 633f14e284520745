/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Time. The only place that reads a clock: everything else calls these, so that tests can move
 * time. Wall and monotonic time are different types and cannot be mixed.
 *
 * The seam: when the environment names a file in POSTHASTE_CLOCK, clock_init() maps it and its
 * first 8 bytes (signed, host order, milliseconds) are added to both clocks at each reading.
 * End-to-end tests write there to let days pass; the variable survives exec into workers.
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

/* The time as of the last clock_tick(); loops tick once per turn, so hot paths pay nothing. */
struct mono_ms clock_now(void);
struct wall_us clock_now_wall(void);
void clock_tick(void);

/* Unit tests: fix both clocks (in ms), then advance; clock_fake_off() returns to real time. */
void clock_fake_set(int64_t wall_ms);
void clock_fake_advance(int64_t ms);
void clock_fake_off(void);

static inline int64_t mono_since_ms(struct mono_ms start)
{
	return clock_now().ms - start.ms;
}

#endif
