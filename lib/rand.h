/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Randomness from getrandom(2): works in an empty chroot, never falls back to anything weaker. */
#ifndef PH_LIB_RAND_H
#define PH_LIB_RAND_H

#include <stddef.h>
#include <stdint.h>

void rand_bytes(void *out, size_t len); /* dies if the kernel refuses */
uint64_t rand_u64(void);
/* Uniform in [0, bound), bound > 0; from a fast generator seeded by getrandom, for jitter and
 * shuffling only, never for secrets. */
uint32_t rand_below(uint32_t bound);

#endif
