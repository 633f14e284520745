/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * $names in texts for clients: smtpd_reject_footer, default_rbl_reply and their tables. Values come
 * from the network; what smtpd_expansion_filter does not allow in them becomes "_". Called by rbl.c
 * and the SMTP server's refusal.c.
 */
#ifndef PH_POLICY_NAMES_H
#define PH_POLICY_NAMES_H

#include "lib/buf.h"
#include "lib/str.h"

struct policy_names {       /* NULL counts as "" */
	const char *filter; /* smtpd_expansion_filter */
	const char *server_name, *client, *client_address, *client_port, *client_name,
		*reverse_client_name, *helo_name;
	struct sv sender, recipient;
	struct buf value; /* the last one */
};

/* The value of a name, until the next call; NULL, with a warning, when there is no such name. */
const char *policy_names_get(struct policy_names *n, struct sv name);
/* The same for a value of the caller's. */
const char *policy_names_clean(struct policy_names *n, const char *value);

#endif
