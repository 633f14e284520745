/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See conf/pool.h. */
#include "conf/pool.h"

#include <unistd.h>

/* Asked once: the supervisor plans its processes in every turn, and this opens files. */
static unsigned cores(void)
{
	static long n;

	if (n == 0)
		n = sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : (unsigned)n;
}

/* A second process of a class pays only when cores are left over: measured, see doc/PERFORMANCE.md.
 */
unsigned pool_size(int64_t wanted, unsigned cores_each)
{
	if (wanted > 0)
		return wanted > 32 ? 32 : (unsigned)wanted;
	return cores() / cores_each > 1 ? cores() / cores_each : 1;
}
