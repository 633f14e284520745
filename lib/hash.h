/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keyed hashing (SipHash-1-3, key from getrandom at start: no flooding) and a string map. */
#ifndef PH_LIB_HASH_H
#define PH_LIB_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"

uint64_t hash_bytes(const void *data, size_t len);
/* SipHash-2-4 under a key of the caller's: who does not know it cannot make the value. */
uint64_t hash_keyed(const uint64_t key[2], const void *data, size_t len);

/* Map from a byte string (copied) to a non-NULL pointer (not owned). Iteration is in insertion
 * order when nothing was removed. */
struct strmap;

struct strmap *strmap_new(void);
void strmap_free(struct strmap **map);
/* Replaces; returns the former value or NULL. */
void *strmap_put(struct strmap *map, struct sv key, void *value);
void *strmap_get(const struct strmap *map, struct sv key); /* NULL when absent */
void *strmap_remove(struct strmap *map, struct sv key);    /* the value, NULL when absent */
size_t strmap_count(const struct strmap *map);
/* *pos starts at 0; false at the end. Do not put or remove while iterating. */
bool strmap_next(const struct strmap *map, size_t *pos, struct sv *key_r, void **value_r);

#endif
