/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Questions to lists in the DNS and patterns of their answers ("127.0.0.[2..4;8]"): for
 * restrictions (rbl.c) and for postscreen, which refuses a bad pattern when it reads its
 * configuration.
 */
#include "policy/rbl_pattern.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/str.h"

bool rbl_name_of_addr(const char *addr, const char *list, char *out, size_t size)
{
	struct in6_addr v6;
	struct in_addr v4;
	size_t n = 0;
	int rest;

	if (list[0] == '\0')
		return false;
	if (inet_pton(AF_INET, addr, &v4) == 1) {
		const unsigned char *b = (const unsigned char *)&v4;

		rest = snprintf(out, size, "%u.%u.%u.%u.%s", b[3], b[2], b[1], b[0], list);
		return rest > 0 && (size_t)rest < size;
	}
	if (inet_pton(AF_INET6, addr, &v6) != 1)
		return false;
	for (int i = 15; i >= 0 && n + 4 < size; i--)
		n += (size_t)snprintf(out + n, size - n, "%x.%x.", v6.s6_addr[i] & 15,
				      v6.s6_addr[i] >> 4);
	rest = snprintf(out + n, size - n, "%s", list);
	return rest > 0 && (size_t)rest < size - n;
}

/* One part of a pattern, "127", "[2..4;8]" or "4"; false when it does not match. */
static bool octet_matches(const char **at, unsigned octet)
{
	const char *p = *at;
	bool set = *p == '[', hit = false;

	p += set;
	for (;;) {
		char *end;
		unsigned long low = strtoul(p, &end, 10), high = low;

		if (end == p)
			return false;
		p = end;
		if (set && p[0] == '.' && p[1] == '.') {
			high = strtoul(p + 2, &end, 10);
			p = end;
		}
		hit = hit || (octet >= low && octet <= high);
		if (!set || *p != ';')
			break;
		p++;
	}
	if (set && *p++ != ']')
		return false;
	*at = p;
	return hit;
}

bool rbl_answer_matches(const char *pattern, uint32_t a)
{
	for (int shift = 24; shift >= 0; shift -= 8) {
		if (!octet_matches(&pattern, (a >> shift) & 255))
			return false;
		if (shift > 0 && *pattern++ != '.')
			return false;
	}
	return *pattern == '\0';
}

/* 0 to 255 in at most three digits. */
static bool take_octet(const char **at, unsigned *value_r)
{
	const char *p = *at;

	*value_r = 0;
	while (ascii_is_digit(*p) && p - *at < 3)
		*value_r = *value_r * 10 + (unsigned)(*p++ - '0');
	if (p == *at || *value_r > 255)
		return false;
	*at = p;
	return true;
}

static bool take_part(const char **at)
{
	unsigned low, high;

	if (**at != '[')
		return take_octet(at, &low);
	do {
		++*at;
		if (!take_octet(at, &low))
			return false;
		if ((*at)[0] != '.' || (*at)[1] != '.')
			continue;
		*at += 2;
		if (!take_octet(at, &high) || high < low)
			return false;
	} while (**at == ';');
	return *(*at)++ == ']';
}

bool rbl_pattern_is_valid(const char *pattern)
{
	for (int part = 0; part < 4; part++) {
		if ((part > 0 && *pattern++ != '.') || !take_part(&pattern))
			return false;
	}
	return *pattern == '\0';
}
