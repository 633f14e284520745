/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sender of address probes (address_verify_sender, address_verify_sender_ttl): who sends probes
 * makes it, and the SMTP server knows it again, because whoever probes us back must not be refused.
 * With a ttl the local part ends with a number of the time, of which the one before and the one
 * after are good, too.
 */
#ifndef PH_WORKERS_MAIL_PROBEADDR_H
#define PH_WORKERS_MAIL_PROBEADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/buf.h"

struct probe_addr {         /* views into the configuration */
	const char *sender; /* address_verify_sender; "" and "<>" = the null sender */
	const char *myorigin;
	int64_t ttl_s; /* 0 = the same for ever */
};

/* The sender of a probe at this time, complete. Appended. */
void probe_addr_make(const struct probe_addr *a, int64_t now_s, struct buf *out);
/* Is `addr` such a sender, now? Then `out` gets it without the number (appended). */
bool probe_addr_match(const struct probe_addr *a, struct sv addr, int64_t now_s, struct buf *out);

#endif
