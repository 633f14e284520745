/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Own addresses; see workers/rewrite/ownaddr.h. Called by resolve.c. */
#include "workers/rewrite/ownaddr.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/log.h"
#include "lib/util.h"

struct ownaddr {
	struct in6_addr *addrs; /* IPv4 as mapped */
	size_t count;
};

static bool parse(struct sv text, struct in6_addr *out)
{
	char s[INET6_ADDRSTRLEN];
	struct in_addr v4;

	if (!str_copy(s, sizeof(s), text))
		return false;
	if (inet_pton(AF_INET, s, &v4) == 1) {
		memset(out, 0, sizeof(*out));
		out->s6_addr[10] = out->s6_addr[11] = 0xff;
		memcpy(out->s6_addr + 12, &v4, 4);
		return true;
	}
	return inet_pton(AF_INET6, s, out) == 1;
}

static void add(struct ownaddr *o, const struct in6_addr *addr)
{
	o->addrs = xrealloc(o->addrs, (o->count + 1) * sizeof(*o->addrs));
	o->addrs[o->count++] = *addr;
}

static void add_sockaddr(struct ownaddr *o, const struct sockaddr *sa)
{
	struct in6_addr a = IN6ADDR_ANY_INIT;

	if (sa->sa_family == AF_INET) {
		a.s6_addr[10] = a.s6_addr[11] = 0xff;
		memcpy(a.s6_addr + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr,
		       4);
	} else if (sa->sa_family == AF_INET6) {
		a = ((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
	} else {
		return;
	}
	add(o, &a);
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;

		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	}
	return sa->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr);
}

static void add_interfaces(struct ownaddr *o, bool loopback_only)
{
	struct ifaddrs *list;

	if (getifaddrs(&list) != 0) {
		log_warn("cannot list the addresses of this host");
		return;
	}
	for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
		if (i->ifa_addr != NULL && (!loopback_only || is_loopback(i->ifa_addr)))
			add_sockaddr(o, i->ifa_addr);
	}
	freeifaddrs(list);
}

static void add_name(struct ownaddr *o, struct sv name)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;
	char host[NI_MAXHOST];
	struct in6_addr a;

	if (name.len > 2 && name.p[0] == '[' && name.p[name.len - 1] == ']')
		name = (struct sv){ name.p + 1, name.len - 2 };
	if (parse(name, &a)) {
		add(o, &a);
		return;
	}
	if (!str_copy(host, sizeof(host), name) || getaddrinfo(host, NULL, &hints, &list) != 0) {
		log_warn("inet_interfaces or proxy_interfaces: no address for %.*s", (int)name.len,
			 name.p);
		return;
	}
	for (struct addrinfo *i = list; i != NULL; i = i->ai_next)
		add_sockaddr(o, i->ai_addr);
	freeaddrinfo(list);
}

static void add_list(struct ownaddr *o, const char *text)
{
	for (;;) {
		size_t n;

		text += strspn(text, ", \t\r\n");
		n = strcspn(text, ", \t\r\n");
		if (n == 0)
			return;
		struct sv name = { text, n };

		if (sv_eq_nocase(name, SV("all")))
			add_interfaces(o, false);
		else if (sv_eq_nocase(name, SV("loopback-only")))
			add_interfaces(o, true);
		else
			add_name(o, name);
		text += n;
	}
}

struct ownaddr *ownaddr_new(const char *inet_interfaces, const char *proxy_interfaces)
{
	struct ownaddr *o = xcalloc(1, sizeof(*o));

	add_list(o, inet_interfaces);
	add_list(o, proxy_interfaces);
	return o;
}

void ownaddr_free(struct ownaddr **o)
{
	if (*o == NULL)
		return;
	free((*o)->addrs);
	free(*o);
	*o = NULL;
}

bool ownaddr_has(const struct ownaddr *o, struct sv addr)
{
	struct in6_addr a;

	if (!parse(addr, &a))
		return false;
	for (size_t i = 0; i < o->count; i++) {
		if (memcmp(&o->addrs[i], &a, sizeof(a)) == 0)
			return true;
	}
	return false;
}
