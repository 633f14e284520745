/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CRC32C; see lib/crc32c.h. Called by the spool for every record written or recovered. */
#include "lib/crc32c.h"

#include <stdbool.h>
#include <string.h>

#define POLY 0x82f63b78u

static uint32_t table[8][256];
/* What LANE bytes of zero make of each byte of a checksum. */
#define LANE 256u
static uint32_t lane_table[4][256];

static uint32_t by_table(uint32_t c, const unsigned char *p, size_t len);

/* Checksums are linear: 32 of single bits give all. */
static void make_lane_table(void)
{
	static const unsigned char zeroes[LANE];

	for (int t = 0; t < 4; t++) {
		uint32_t bit[8];

		for (int k = 0; k < 8; k++)
			bit[k] = by_table(1u << (8 * t + k), zeroes, LANE);
		for (uint32_t i = 0; i < 256; i++) {
			for (int k = 0; k < 8; k++)
				lane_table[t][i] ^= (i >> k & 1) != 0 ? bit[k] : 0;
		}
	}
}

__attribute__((constructor)) static void make_tables(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ (POLY & (0u - (c & 1)));
		table[0][i] = c;
	}
	for (int t = 1; t < 8; t++) {
		for (uint32_t i = 0; i < 256; i++)
			table[t][i] = (table[t - 1][i] >> 8) ^ table[0][table[t - 1][i] & 0xff];
	}
	make_lane_table();
}

static uint32_t by_table(uint32_t c, const unsigned char *p, size_t len)
{
	for (; len >= 8; len -= 8, p += 8) {
		uint32_t lo = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
				   (uint32_t)p[3] << 24);

		c = table[7][lo & 0xff] ^ table[6][(lo >> 8) & 0xff] ^ table[5][(lo >> 16) & 0xff] ^
		    table[4][lo >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^
		    table[0][p[7]];
	}
	for (; len > 0; len--, p++)
		c = (c >> 8) ^ table[0][(c ^ *p) & 0xff];
	return c;
}

#if defined(__x86_64__)
static inline uint64_t word_at(const unsigned char *p)
{
	uint64_t word;

	memcpy(&word, p, 8);
	return word;
}

static inline uint32_t over_lane(uint32_t c)
{
	return lane_table[0][c & 0xff] ^ lane_table[1][c >> 8 & 0xff] ^
	       lane_table[2][c >> 16 & 0xff] ^ lane_table[3][c >> 24];
}

/* The instruction takes three cycles, but can begin every cycle: three lanes side by side. */
__attribute__((target("sse4.2"))) static uint32_t by_lanes(uint32_t c, const unsigned char **pp,
							   size_t *lenp)
{
	const unsigned char *p = *pp;
	size_t len = *lenp;

	for (; len >= 3 * LANE; len -= 3 * LANE, p += 2 * LANE) {
		uint64_t a = c, b = 0, d = 0;

		for (const unsigned char *end = p + LANE; p < end; p += 8) {
			a = __builtin_ia32_crc32di(a, word_at(p));
			b = __builtin_ia32_crc32di(b, word_at(p + LANE));
			d = __builtin_ia32_crc32di(d, word_at(p + 2 * LANE));
		}
		c = over_lane(over_lane((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)d;
	}
	*pp = p;
	*lenp = len;
	return c;
}

__attribute__((target("sse4.2"))) static uint32_t by_sse42(uint32_t c, const unsigned char *p,
							   size_t len)
{
	if (len >= 3 * LANE)
		c = by_lanes(c, &p, &len);
	uint64_t c64 = c;

	for (; len >= 8; len -= 8, p += 8)
		c64 = __builtin_ia32_crc32di(c64, word_at(p));
	c = (uint32_t)c64;
	for (; len > 0; len--, p++)
		c = __builtin_ia32_crc32qi(c, *p);
	return c;
}

static bool have_sse42(void)
{
	static int known = -1;

	if (known < 0)
		known = __builtin_cpu_supports("sse4.2") != 0;
	return known != 0;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#if defined(__x86_64__)
	if (have_sse42())
		return ~by_sse42(~crc, data, len);
#endif
	return ~by_table(~crc, data, len);
}
