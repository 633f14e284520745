/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Our own addresses; see policy/own_addr.h. */
#include "policy/own_addr.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/str.h"
#include "lib/util.h"

static void add(struct own_addrs *o, int family, const void *bytes)
{
	struct own_addr a = { .family = family };

	memcpy(a.bytes, bytes, family == AF_INET ? 4 : 16);
	for (size_t i = 0; i < o->count; i++) {
		if (memcmp(&o->list[i], &a, sizeof(a)) == 0)
			return;
	}
	o->list = xrealloc(o->list, (o->count + 1) * sizeof(a));
	o->list[o->count++] = a;
}

static void add_sockaddr(struct own_addrs *o, const struct sockaddr *sa)
{
	if (sa == NULL)
		return;
	if (sa->sa_family == AF_INET)
		add(o, AF_INET, &((const struct sockaddr_in *)(const void *)sa)->sin_addr);
	else if (sa->sa_family == AF_INET6)
		add(o, AF_INET6, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

static void add_interfaces(struct own_addrs *o)
{
	struct ifaddrs *all;

	if (getifaddrs(&all) != 0)
		return;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next)
		add_sockaddr(o, i->ifa_addr);
	freeifaddrs(all);
}

static void add_loopback(struct own_addrs *o)
{
	static const unsigned char v4[4] = { 127, 0, 0, 1 };

	add(o, AF_INET, v4);
	add(o, AF_INET6, &in6addr_loopback);
}

static void add_named(struct own_addrs *o, const char *name, const char *param, struct conf_diag *d)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *res;
	int err = getaddrinfo(name, NULL, &hints, &res);

	if (err != 0) {
		conf_diag_add(d, false, NULL, 0, "%s: host %s: %s", param, name, gai_strerror(err));
		return;
	}
	for (const struct addrinfo *a = res; a != NULL; a = a->ai_next)
		add_sockaddr(o, a->ai_addr);
	freeaddrinfo(res);
}

static void add_list(struct own_addrs *o, const char *text, const char *param, struct conf_diag *d)
{
	char *copy = xstrdup(text);
	char *save = NULL;

	for (char *word = strtok_r(copy, ", \t\r\n", &save); word != NULL;
	     word = strtok_r(NULL, ", \t\r\n", &save)) {
		size_t len = strlen(word);

		if (str_eq_nocase(word, "all")) {
			add_interfaces(o);
			add_loopback(o);
		} else if (str_eq_nocase(word, "loopback-only")) {
			add_loopback(o);
		} else if (word[0] == '[' && word[len - 1] == ']') {
			word[len - 1] = '\0';
			add_named(o, word + 1, param, d);
		} else {
			add_named(o, word, param, d);
		}
	}
	free(copy);
}

void own_addrs_init(struct own_addrs *o, const struct params *p, struct conf_diag *d)
{
	*o = (struct own_addrs){ 0 };
	add_list(o, p->inet_interfaces, "inet_interfaces", d);
	add_list(o, p->proxy_interfaces, "proxy_interfaces", d);
}

void own_addrs_fini(struct own_addrs *o)
{
	free(o->list);
	*o = (struct own_addrs){ 0 };
}

bool own_addrs_has(const struct own_addrs *o, const char *addr_text)
{
	struct own_addr a = { .family = AF_INET };

	if (inet_pton(AF_INET, addr_text, a.bytes) != 1) {
		a = (struct own_addr){ .family = AF_INET6 };
		if (inet_pton(AF_INET6, addr_text, a.bytes) != 1)
			return false;
	}
	for (size_t i = 0; i < o->count; i++) {
		if (memcmp(&o->list[i], &a, sizeof(a)) == 0)
			return true;
	}
	return false;
}
