/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The addresses this mail system answers on: inet_interfaces (all, loopback-only, or a list) and
 * proxy_interfaces. Mail for user@[one of them] is local. Collected once, before the sandbox
 * closes.
 */
#ifndef PH_WORKERS_REWRITE_OWNADDR_H
#define PH_WORKERS_REWRITE_OWNADDR_H

#include <stdbool.h>

#include "lib/str.h"

struct ownaddr;

struct ownaddr *ownaddr_new(const char *inet_interfaces, const char *proxy_interfaces);
void ownaddr_free(struct ownaddr **o);
/* `addr`: text of an IPv4 or IPv6 address, any spelling, no brackets. */
bool ownaddr_has(const struct ownaddr *o, struct sv addr);

#endif
