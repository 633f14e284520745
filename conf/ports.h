/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ports by name without /etc/services: known_tcp_ports. One table for the process, filled when a
 * configuration is loaded; asked wherever a service is named: listeners, next hops, milters,
 * filters, tables.
 */
#ifndef PH_CONF_PORTS_H
#define PH_CONF_PORTS_H

#include <stdint.h>

#include "lib/str.h"

struct conf_diag;

/* Takes the place of the table: "name=port, name=name=port". What cannot be read is told in d, as a
 * warning, and left out. */
void ports_know(const char *text, struct conf_diag *d);
/* The port of a name in the table, as digits; any other text as it is. Valid until the table
 * changes. */
const char *ports_known(const char *service);
/* A number, a name of the table, or of the system's services. E_SYNTAX: none of these. */
int ports_find(struct sv text, uint16_t *port_r);

#endif
