/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Domain names in UTF-8, as the DNS has them (RFC 5891). Used by policy and by delivery. */
#ifndef PH_LIB_IDN_H
#define PH_LIB_IDN_H

#include <stdbool.h>
#include <stddef.h>

/* The A-label form of a name; ASCII names are copied. `transitional`: as IDNA2003 did
 * (enable_idna2003_compatibility). False when there is no such name, or no room. */
bool idn_to_ascii(const char *name, bool transitional, char *out, size_t size);

#endif
