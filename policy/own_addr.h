/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Our own addresses: what inet_interfaces and proxy_interfaces stand for. Looked up once, at start
 * ("all" = the addresses of the machine's interfaces then). Used for permit_inet_interfaces and for
 * user@[address] being local.
 */
#ifndef PH_POLICY_OWN_ADDR_H
#define PH_POLICY_OWN_ADDR_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"

struct own_addr {
	int family; /* AF_INET or AF_INET6 */
	unsigned char bytes[16];
};

struct own_addrs {
	struct own_addr *list;
	size_t count;
};

void own_addrs_init(struct own_addrs *o, const struct params *p, struct conf_diag *d);
void own_addrs_fini(struct own_addrs *o);
bool own_addrs_has(const struct own_addrs *o, const char *addr_text);

#endif
