/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * smtp_generic_maps and lmtp_generic_maps (generic(5)): addresses as the world outside knows them.
 * One step, when a message leaves: envelope (job.c) and the message's own headers (convert.c).
 */
#ifndef PH_WORKERS_DELIVER_GENERIC_H
#define PH_WORKERS_DELIVER_GENERIC_H

#include "conf/conf.h"
#include "lib/arena.h"
#include "lib/str.h"

struct generic;

/* NULL when the transport has no such maps. On errors adds to d and returns them. */
int generic_open(const struct conf *c, const struct conf_transport *ct, struct generic **g_r,
		 struct conf_diag *d);
void generic_close(struct generic **g);
/* Does it ask remote tables (conf/map_remote.h)? */
bool generic_is_remote(const struct generic *g);
/* `addr` is in internal form, the result, too: `addr` itself or in the arena. 0, E_AGAIN when a
 * table could not be asked (logged), E_LIMIT when the arena is full. */
int generic_apply(struct generic *g, struct sv addr, struct arena *a, struct sv *out);

#endif
