/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Remote tables for commands, which may wait: a child ("lookup -q", workers/lookup/query.h) asks
 * the table. Called by postmap. */
#ifndef PH_CONF_MAP_ASK_H
#define PH_CONF_MAP_ASK_H

#include "conf/conf.h"

/* From now on look-ups in remote tables are asked this way. */
void map_ask_install(const struct conf *c);

#endif
