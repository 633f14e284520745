/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Put before shm/ring.c by the compiler's -include: its stores and loads order nothing any more. In
 * a build with ThreadSanitizer t/stress/ring_threads must then find a race; see
 * t/crash/14-models.t.
 */
#ifndef PH_T_STRESS_WEAK_ORDER_H
#define PH_T_STRESS_WEAK_ORDER_H

#include <stdatomic.h>

#define memory_order_acquire memory_order_relaxed
#define memory_order_release memory_order_relaxed
#define memory_order_seq_cst memory_order_relaxed

#endif
