/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Counts per client; see workers/smtp_in/limits.h. */
#include "workers/smtp_in/limits.h"

#include <netinet/in.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"

#define MAX_CLIENTS 200000u /* remembered without a connection, at most */

struct client {
	unsigned char key[17]; /* 4 or 6, address */
	unsigned open;
	unsigned rates[RATE_COUNT];
	int64_t window_ms[RATE_COUNT]; /* when the time unit began */
};

struct limits {
	struct strmap *clients;
	int64_t unit_ms;
	unsigned prefix4, prefix6;
};

struct limits *limits_new(const struct params *p)
{
	struct limits *l = xcalloc(1, sizeof(*l));

	l->clients = strmap_new();
	l->unit_ms = p->anvil_rate_time_unit;
	l->prefix4 = (unsigned)p->smtpd_client_ipv4_prefix_length;
	l->prefix6 = (unsigned)p->smtpd_client_ipv6_prefix_length;
	return l;
}

static void free_all(struct limits *l)
{
	size_t pos = 0;
	struct sv key;
	void *value;

	while (strmap_next(l->clients, &pos, &key, &value))
		free(value);
	strmap_free(&l->clients);
}

void limits_free(struct limits **lp)
{
	if (*lp == NULL)
		return;
	free_all(*lp);
	free(*lp);
	*lp = NULL;
}

static void mask(unsigned char *bytes, unsigned len, unsigned prefix)
{
	for (unsigned i = 0; i < len; i++) {
		unsigned bits = prefix > i * 8 ? prefix - i * 8 : 0;

		if (bits < 8)
			bytes[i] &= (unsigned char)(0xff << (8 - bits));
	}
}

static void make_key(const struct limits *l, const struct sockaddr *sa, unsigned char key[17])
{
	const struct sockaddr_in *v4 = (const void *)sa;
	const struct sockaddr_in6 *v6 = (const void *)sa;

	memset(key, 0, 17);
	if (sa->sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) {
		key[0] = 6;
		memcpy(key + 1, &v6->sin6_addr, 16);
		mask(key + 1, 16, l->prefix6);
		return;
	}
	key[0] = 4;
	if (sa->sa_family == AF_INET)
		memcpy(key + 1, &v4->sin_addr, 4);
	else if (sa->sa_family == AF_INET6)
		memcpy(key + 1, &v6->sin6_addr.s6_addr[12], 4);
	mask(key + 1, 4, l->prefix4);
}

static bool is_quiet(const struct limits *l, const struct client *c)
{
	if (c->open > 0)
		return false;
	for (unsigned i = 0; i < RATE_COUNT; i++) {
		if (c->rates[i] > 0 && clock_now().ms - c->window_ms[i] < l->unit_ms)
			return false;
	}
	return true;
}

static void forget(struct limits *l, struct client *c)
{
	strmap_remove(l->clients, (struct sv){ (const char *)c->key, sizeof(c->key) });
	free(c);
}

struct client *limits_connect(struct limits *l, const struct sockaddr *sa)
{
	unsigned char key[17];

	make_key(l, sa, key);
	struct sv k = { (const char *)key, sizeof(key) };
	struct client *c = strmap_get(l->clients, k);

	if (c == NULL) {
		c = xcalloc(1, sizeof(*c));
		memcpy(c->key, key, sizeof(key));
		strmap_put(l->clients, k, c);
	}
	c->open++;
	return c;
}

void limits_disconnect(struct limits *l, struct client *c)
{
	ASSERT(c->open > 0);
	c->open--;
	if (is_quiet(l, c) || (c->open == 0 && strmap_count(l->clients) > MAX_CLIENTS))
		forget(l, c);
}

unsigned limits_open(const struct client *c)
{
	return c->open;
}

unsigned limits_count(struct limits *l, struct client *c, enum client_rate kind)
{
	int64_t now = clock_now().ms;

	if (now - c->window_ms[kind] >= l->unit_ms) {
		c->window_ms[kind] = now;
		c->rates[kind] = 0;
	}
	return ++c->rates[kind];
}

void limits_sweep(struct limits *l)
{
	struct client *quiet[256];
	size_t n = 0, pos = 0;
	struct sv key;
	void *value;

	while (n < ARRAY_LEN(quiet) && strmap_next(l->clients, &pos, &key, &value)) {
		if (is_quiet(l, value))
			quiet[n++] = value;
	}
	while (n > 0)
		forget(l, quiet[--n]);
}
