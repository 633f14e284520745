/* SPDX-License-Identifier: GPL-3.0-or-later */
/* haproxy's PROXY protocol; see workers/smtp_in/proxy.h. */
#include "workers/smtp_in/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "lib/err.h"
#include "lib/str.h"
#include "lib/util.h"

#define V1_MAX_BYTES 107u /* with CR LF */
#define V2_FIXED     16u

static const char v1_start[] = "PROXY ";
static const char v2_start[] = "\r\n\r\n\0\r\nQUIT\n";
#define V2_START_LEN 12u

static int bad(const char **why_r, const char *why)
{
	*why_r = why;
	return E_PEER;
}

static void set_v4(struct sockaddr_storage *sa, const void *addr, uint16_t port_be)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = port_be };

	memcpy(&in.sin_addr, addr, sizeof(in.sin_addr));
	memset(sa, 0, sizeof(*sa));
	memcpy(sa, &in, sizeof(in));
}

static void set_v6(struct sockaddr_storage *sa, const void *addr, uint16_t port_be)
{
	struct sockaddr_in6 in = { .sin6_family = AF_INET6, .sin6_port = port_be };

	memcpy(&in.sin6_addr, addr, sizeof(in.sin6_addr));
	memset(sa, 0, sizeof(*sa));
	memcpy(sa, &in, sizeof(in));
}

/* ---- version 1: a line ---- */

static bool take_address(int family, struct sv addr, struct sv port, struct sockaddr_storage *sa)
{
	char text[INET6_ADDRSTRLEN];
	unsigned char bytes[16];
	uint64_t number;

	if (!str_copy(text, sizeof(text), addr) || inet_pton(family, text, bytes) != 1 ||
	    port.len > 5 || str_to_u64(port, 65535, &number) != 0)
		return false;
	if (family == AF_INET)
		set_v4(sa, bytes, htons((uint16_t)number));
	else
		set_v6(sa, bytes, htons((uint16_t)number));
	return true;
}

static int parse_v1(const char *data, size_t len, struct proxy_header *h, const char **why_r)
{
	const char *end = memmem(data, size_min(len, V1_MAX_BYTES), "\r\n", 2);
	struct sv word[5], rest;

	if (end == NULL)
		return len < V1_MAX_BYTES ? 0 : bad(why_r, "missing protocol header terminator");
	int used = (int)(end - data) + 2;

	rest = (struct sv){ data + sizeof(v1_start) - 1,
			    (size_t)(end - data) - (sizeof(v1_start) - 1) };
	word[0] = sv_next_part(&rest, ' ');
	if (sv_eq_str(word[0], "UNKNOWN")) {
		h->is_own = true;
		return used;
	}
	int family = sv_eq_str(word[0], "TCP4") ? AF_INET : AF_INET6;

	if (family == AF_INET6 && !sv_eq_str(word[0], "TCP6"))
		return bad(why_r, "bad or missing protocol type");
	for (unsigned i = 1; i < ARRAY_LEN(word); i++)
		word[i] = sv_next_part(&rest, ' ');
	if (!take_address(family, word[1], word[3], &h->client))
		return bad(why_r, "bad or missing client address or port");
	if (!take_address(family, word[2], word[4], &h->server) || rest.len > 0)
		return bad(why_r, "bad or missing server address or port");
	return used;
}

/* ---- version 2: bytes ---- */

static uint16_t port_at(const unsigned char *p)
{
	uint16_t port;

	memcpy(&port, p, sizeof(port));
	return port;
}

static int parse_v2(const unsigned char *p, size_t len, struct proxy_header *h, const char **why_r)
{
	if (len < V2_FIXED)
		return 0;
	size_t rest = (size_t)p[14] << 8 | p[15];

	if (p[12] >> 4 != 2)
		return bad(why_r, "unsupported protocol version");
	if (rest > PROXY_HEADER_MAX - V2_FIXED)
		return bad(why_r, "header too long");
	if (len < V2_FIXED + rest)
		return 0;
	unsigned command = p[12] & 15, kind = p[13];
	const unsigned char *a = p + V2_FIXED;

	if (command == 0) {
		h->is_own = true;
	} else if (command == 1 && kind == 0x11 && rest >= 12) {
		set_v4(&h->client, a, port_at(a + 8));
		set_v4(&h->server, a + 4, port_at(a + 10));
	} else if (command == 1 && kind == 0x21 && rest >= 36) {
		set_v6(&h->client, a, port_at(a + 32));
		set_v6(&h->server, a + 16, port_at(a + 34));
	} else {
		return bad(why_r, command > 1 ? "bad command in proxy header"
					      : "unsupported address family or transport");
	}
	return (int)(V2_FIXED + rest);
}

static bool begins_with(const char *data, size_t len, const char *start, size_t start_len)
{
	return memcmp(data, start, size_min(len, start_len)) == 0;
}

int proxy_header_parse(const char *data, size_t len, struct proxy_header *h, const char **why_r)
{
	*h = (struct proxy_header){ 0 };
	*why_r = "";
	if (len == 0)
		return 0;
	if (begins_with(data, len, v1_start, sizeof(v1_start) - 1))
		return len < sizeof(v1_start) ? 0 : parse_v1(data, len, h, why_r);
	if (begins_with(data, len, v2_start, V2_START_LEN))
		return parse_v2((const unsigned char *)data, len, h, why_r);
	return bad(why_r, "missing protocol header");
}
