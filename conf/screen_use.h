/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Is there a postscreen, and which clients does it remember where? Asked by the supervisor, which
 * starts the verify worker for its cache, too, and by that worker.
 */
#ifndef PH_CONF_SCREEN_USE_H
#define PH_CONF_SCREEN_USE_H

#include "conf/conf.h"

/* The parameters of the first postscreen of master.cf that has a cache, which all that have one
 * share; of the first when none has; NULL: there is none. */
const struct params *screen_params(const struct conf *c);
/* Has one of them a cache? */
bool screen_has_cache(const struct conf *c);

#endif
