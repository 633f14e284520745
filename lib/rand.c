/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Randomness; see lib/rand.h. */
#include "lib/rand.h"

#include <errno.h>
#include <sys/random.h>

#include "lib/log.h"

void rand_bytes(void *out, size_t len)
{
	char *p = out;

	while (len > 0) {
		ssize_t n = getrandom(p, len, 0);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			die("getrandom: %s", strerror(errno));
		}
		p += n;
		len -= (size_t)n;
	}
}

uint64_t rand_u64(void)
{
	uint64_t v;

	rand_bytes(&v, sizeof(v));
	return v;
}

uint32_t rand_below(uint32_t bound)
{
	static uint64_t state;

	/* splitmix64 steps; the modulo bias of a 64-bit value over a 32-bit bound is nil */
	if (state == 0)
		state = rand_u64() | 1;
	state += 0x9e3779b97f4a7c15u;
	uint64_t z = state;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return (uint32_t)(z % bound);
}
