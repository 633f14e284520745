/* SPDX-License-Identifier: GPL-3.0-or-later */
/* haproxy's header: both versions, byte by byte, and whatever else may come. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/smtp_in/proxy.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static const char *text_of(const struct sockaddr_storage *sa)
{
	static char out[2][80];
	static unsigned turn;
	char addr[INET6_ADDRSTRLEN] = "?";
	const struct sockaddr_in *v4 = (const void *)sa;
	const struct sockaddr_in6 *v6 = (const void *)sa;
	unsigned port = 0;

	turn = !turn;
	if (sa->ss_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, addr, sizeof(addr));
		port = ntohs(v4->sin_port);
	} else if (sa->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, addr, sizeof(addr));
		port = ntohs(v6->sin6_port);
	}
	snprintf(out[turn], sizeof(out[turn]), "%s %u", addr, port);
	return out[turn];
}

/* Every part of a good header wants more; behind it anything may follow. */
static void check_good(const char *what, const char *data, size_t len, const char *client,
		       const char *server)
{
	char more[1000];
	struct proxy_header h;
	const char *why;
	size_t wants = 0;

	while (wants < len && proxy_header_parse(data, wants, &h, &why) == 0)
		wants++;
	is_int(wants, len, "%s: each part of it wants more", what);
	memcpy(more, data, len);
	memset(more + len, 'x', sizeof(more) - len);
	is_int(proxy_header_parse(more, PROXY_HEADER_MAX, &h, &why), (long long)len,
	       "%s: and no more than it has", what);
	ok(h.is_own == (client == NULL), "%s: whose it is", what);
	if (client != NULL) {
		is_str(text_of(&h.client), client, "%s: client", what);
		is_str(text_of(&h.server), server, "%s: server", what);
	}
}

static void test_v1(void)
{
	static const char *const bad[] = {
		"GET / HTTP/1.0\r\n",
		"PROXY\r\n",
		"PROXZ TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4\r\n",
		"PROXY TCP4 1.1.1.1\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 000001 2\r\n",
		"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4 ::1 ::2 1 2\r\n",
		"PROXY TCP6 1.1.1.1 ::2 1 2\r\n",
		"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
		("PROXY TCP6 "
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ::2 1 2\r\n"),
	};
	const char *one = "PROXY TCP4 192.0.2.1 198.51.100.2 65535 25\r\n";
	const char *two = "PROXY TCP6 2001:db8::1 ::1 1 0\r\n";
	struct proxy_header h;
	const char *why;

	check_good("TCP4", one, strlen(one), "192.0.2.1 65535", "198.51.100.2 25");
	check_good("TCP6", two, strlen(two), "2001:db8::1 1", "::1 0");
	check_good("UNKNOWN", "PROXY UNKNOWN\r\n", 15, NULL, NULL);
	check_good("UNKNOWN with words", "PROXY UNKNOWN a b\r\n", 19, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		int used = proxy_header_parse(bad[i], strlen(bad[i]), &h, &why);

		ok(used == E_PEER && *why != '\0', "%.60s: %s", bad[i], why);
	}
}

static void test_v2(void)
{
	static const char v4[] = SIGNATURE "\x21\x11\0\x0c\xc0\0\2\1\xc6\x33\x64\2\xff\xff\0\x19";
	static const char v6[] = SIGNATURE "\x21\x21\0\x26\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
					   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\1\0\2"
					   "xx";
	static const char local[] = SIGNATURE "\x20\0\0\3abc";
	static const struct {
		const char *data;
		size_t len;
	} bad[] = {
		{ SIGNATURE "\x11\x11\0\0", 16 },        /* version */
		{ SIGNATURE "\x22\x11\0\0", 16 },        /* command */
		{ SIGNATURE "\x21\x12\0\0", 16 },        /* datagrams */
		{ SIGNATURE "\x21\x31\0\0", 16 },        /* unix */
		{ SIGNATURE "\x21\x11\0\x0b", 16 + 11 }, /* too short for its addresses */
		{ SIGNATURE "\x21\x21\0\x0c", 16 + 12 },
		{ SIGNATURE "\x21\x11\xff\xff", 16 }, /* too long */
		{ "\r\n\r\n\0\r\nQUIX\n\x21\x11\0\x0c", 16 },
	};
	struct proxy_header h;
	const char *why;

	check_good("version 2, IPv4", v4, sizeof(v4) - 1, "192.0.2.1 65535", "198.51.100.2 25");
	check_good("version 2, IPv6 and more", v6, sizeof(v6) - 1, "2001:db8::1 1", "::1 2");
	check_good("version 2, local", local, sizeof(local) - 1, NULL, NULL);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char data[64] = { 0 };

		memcpy(data, bad[i].data, 16);
		int used = proxy_header_parse(data, bad[i].len, &h, &why);

		ok(used == E_PEER && *why != '\0', "version 2, bad %zu: %s", i + 1, why);
	}
}

int main(void)
{
	test_v1();
	test_v2();
	return tap_done();
}
