/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Destination numbers of this rewrite life (PROTO_DEST): a name is told to the supervisor once and
 * then called by its number. Bounded: when the table is full it is emptied and numbers start again,
 * which is allowed only while no uncommitted message holds one (names_room).
 */
#ifndef PH_WORKERS_REWRITE_NAMES_H
#define PH_WORKERS_REWRITE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"

struct names;

struct names *names_new(uint32_t cap);
void names_free(struct names **n);
/* Is there room for `count` more names? When not: empties the table if `may_empty`. */
bool names_room(struct names *n, size_t count, bool may_empty);
/* The number of a destination; *fresh_r: it has not been told yet. Call names_room() before. */
uint32_t names_id(struct names *n, struct sv transport, struct sv nexthop, bool *fresh_r);

#endif
