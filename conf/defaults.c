/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Defaults that come from the machine: myhostname, mydomain, mynetworks. Found once, when the
 * directory is loaded; a snapshot carries them, so that all processes agree and none of them needs
 * the network interfaces later.
 */
#include "conf/conf_priv.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

const char *conf_default_myhostname(struct conf *c)
{
	char host[256];
	const struct main_entry *domain;

	if (c->myhostname != NULL)
		return c->myhostname;
	if (gethostname(host, sizeof(host)) != 0 || host[0] == 0)
		snprintf(host, sizeof(host), "localhost");
	host[sizeof(host) - 1] = 0;
	domain = strmap_get(c->entry_by_name, SV("mydomain"));
	if (strchr(host, '.') != NULL)
		c->myhostname = arena_strdup(&c->arena, host);
	else if (domain != NULL)
		c->myhostname = arena_printf(&c->arena, "%s.%s", host, domain->value);
	else
		c->myhostname = arena_printf(&c->arena, "%s.localdomain", host);
	return c->myhostname;
}

const char *conf_default_mydomain(struct conf *c)
{
	bool failed = false;
	const char *host, *dot;

	if (c->mydomain == NULL) {
		/* A host name that needs mydomain fails here as a loop, and was reported. */
		host = scope_get(&c->global, SV("myhostname"), &failed);
		dot = host != NULL ? strchr(host, '.') : NULL;
		c->mydomain = arena_strdup(&c->arena, dot != NULL ? dot + 1 : "localdomain");
	}
	return c->mydomain;
}

/* ---- mynetworks ---- */

struct networks {
	struct buf text;
	const char *style;
	bool v4, v6;
};

static unsigned mask_bits(const void *mask, size_t len)
{
	const unsigned char *p = mask;
	unsigned bits = 0;

	for (size_t i = 0; i < len; i++)
		bits += (unsigned)__builtin_popcount(p[i]);
	return bits;
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; *p != 0;) {
		size_t n = strcspn(p, ", \t\n");

		if (n == len && strncasecmp(p, word, len) == 0)
			return true;
		p += n + strspn(p + n, ", \t\n");
	}
	return false;
}

/* As in the days of classes: 10.x is a /8, 192.168.x a /24. */
static unsigned class_bits(unsigned char first)
{
	return first < 128 ? 8 : first < 192 ? 16 : first < 224 ? 24 : 32;
}

static void networks_add(struct networks *n, int family, const void *addr, unsigned bits)
{
	size_t len = family == AF_INET ? 4 : 16;
	unsigned char net[16];
	char text[INET6_ADDRSTRLEN], item[INET6_ADDRSTRLEN + 16];

	memcpy(net, addr, len);
	if (strcmp(n->style, "host") == 0)
		bits = (unsigned)len * 8;
	else if (strcmp(n->style, "class") == 0 && family == AF_INET)
		bits = class_bits(net[0]);
	for (unsigned i = 0; i < len * 8; i++) {
		if (i >= bits)
			net[i / 8] &= (unsigned char)~(0x80u >> (i % 8));
	}
	inet_ntop(family, net, text, sizeof(text));
	snprintf(item, sizeof(item), family == AF_INET ? "%s/%u" : "[%s]/%u", text, bits);
	if (has_word(buf_cstr(&n->text), item))
		return;
	if (n->text.len > 0)
		buf_add_c(&n->text, ' ');
	buf_add_str(&n->text, item);
}

static void networks_add_interface(struct networks *n, const struct ifaddrs *ifa)
{
	const struct sockaddr *sa = ifa->ifa_addr, *mask = ifa->ifa_netmask;

	if (sa == NULL || mask == NULL || !(ifa->ifa_flags & IFF_UP))
		return;
	if (sa->sa_family == AF_INET && n->v4) {
		const struct sockaddr_in *sin = (const void *)sa, *m = (const void *)mask;

		networks_add(n, AF_INET, &sin->sin_addr, mask_bits(&m->sin_addr, 4));
	} else if (sa->sa_family == AF_INET6 && n->v6) {
		const struct sockaddr_in6 *sin6 = (const void *)sa, *m = (const void *)mask;

		networks_add(n, AF_INET6, &sin6->sin6_addr, mask_bits(&m->sin6_addr, 16));
	}
}

/* One word of inet_interfaces that is an address. */
static void networks_add_word(struct networks *n, struct sv word)
{
	char text[64];
	unsigned char addr[16];

	if (word.len > 2 && word.p[0] == '[' && word.p[word.len - 1] == ']')
		word = (struct sv){ word.p + 1, word.len - 2 };
	if (!str_copy(text, sizeof(text), word))
		return;
	if (inet_pton(AF_INET, text, addr) == 1 && n->v4)
		networks_add(n, AF_INET, addr, addr[0] == 127 ? 8 : 32);
	else if (inet_pton(AF_INET6, text, addr) == 1 && n->v6)
		networks_add(n, AF_INET6, addr, 128);
}

static const char *global_text(struct conf *c, const char *name)
{
	bool failed = false;
	const char *value = scope_get(&c->global, sv_from(name), &failed);

	return value != NULL ? value : "";
}

static void networks_collect(struct networks *n, const char *interfaces)
{
	struct ifaddrs *list = NULL;

	if (has_word(interfaces, "all") && getifaddrs(&list) == 0) {
		for (struct ifaddrs *ifa = list; ifa != NULL; ifa = ifa->ifa_next)
			networks_add_interface(n, ifa);
		freeifaddrs(list);
	}
	if (has_word(interfaces, "loopback-only") || has_word(interfaces, "localhost")) {
		networks_add_word(n, SV("127.0.0.1"));
		networks_add_word(n, SV("::1"));
	}
	for (const char *p = interfaces; *p != 0;) {
		size_t len = strcspn(p, ", \t\n");

		networks_add_word(n, (struct sv){ p, len });
		p += len + strspn(p + len, ", \t\n");
	}
}

const char *conf_default_mynetworks(struct conf *c)
{
	const char *protocols = global_text(c, "inet_protocols");
	struct networks n = { .style = global_text(c, "mynetworks_style") };
	bool all = *protocols == 0 || has_word(protocols, "all");

	if (c->mynetworks != NULL)
		return c->mynetworks;
	n.v4 = all || has_word(protocols, "ipv4");
	n.v6 = all || has_word(protocols, "ipv6");
	networks_collect(&n, global_text(c, "inet_interfaces"));
	c->mynetworks = arena_strdup(&c->arena, buf_cstr(&n.text));
	buf_fini(&n.text);
	return c->mynetworks;
}
