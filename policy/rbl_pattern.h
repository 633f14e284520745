/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lists in the DNS: what they are asked, and what their answers are compared with. */
#ifndef PH_POLICY_RBL_PATTERN_H
#define PH_POLICY_RBL_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "d.c.b.a.LIST"; IPv6 by nibbles. False: no address, no list, or no room. */
bool rbl_name_of_addr(const char *addr, const char *list, char *out, size_t size);
/* Does an answer (host order) match "127.0.0.[2..4;8]"? */
bool rbl_answer_matches(const char *pattern, uint32_t a);
bool rbl_pattern_is_valid(const char *pattern);

#endif
