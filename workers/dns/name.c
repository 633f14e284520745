/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Domain names in text form: checking, and the reverse names of addresses. See workers/dns/dns.h.
 */
#include <stdio.h>
#include <string.h>

#include "workers/dns/dns.h"

static bool is_name_char(char c)
{
	/* '/' stands in RFC 2317 delegations, '_' in service labels and many real host names */
	return ascii_is_alnum(c) || c == '-' || c == '_' || c == '/';
}

bool dns_name_clean(struct sv name, char out[DNS_NAME_SIZE])
{
	size_t label = 0;

	if (name.len > 1 && name.p[name.len - 1] == '.')
		name.len--;
	if (name.len == 0 || name.len > 253)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		char c = name.p[i];

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else {
			if (!is_name_char(c) || ++label > 63)
				return false;
		}
		out[i] = ascii_lower(c);
	}
	out[name.len] = '\0';
	return label != 0;
}

void dns_reverse_name(const struct sockaddr *sa, char out[DNS_NAME_SIZE])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char b[16];

	out[0] = '\0';
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *sin = (const struct sockaddr_in *)(const void *)sa;

		memcpy(b, &sin->sin_addr, 4);
		snprintf(out, DNS_NAME_SIZE, "%u.%u.%u.%u.in-addr.arpa", b[3], b[2], b[1], b[0]);
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)(const void *)sa;

		memcpy(b, &sin6->sin6_addr, 16);
		for (unsigned i = 0; i < 16; i++) {
			out[4 * i] = hex[b[15 - i] & 15];
			out[4 * i + 1] = '.';
			out[4 * i + 2] = hex[b[15 - i] >> 4];
			out[4 * i + 3] = '.';
		}
		memcpy(out + 64, "ip6.arpa", 9);
	}
}
