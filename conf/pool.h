/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How many processes of a worker class run: by a parameter, else by the processors of the machine.
 * Called by the supervisor's plan (daemon/procs.c) and by workers that share something out. */
#ifndef PH_CONF_POOL_H
#define PH_CONF_POOL_H

#include <stdint.h>

#define POOL_SMTP_IN_CORES 4u

/* `wanted`: the parameter, 0 = one for every `cores_each` processors. At least 1. Asks the system.
 */
unsigned pool_size(int64_t wanted, unsigned cores_each);

#endif
