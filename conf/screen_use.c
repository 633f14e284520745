/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Use of postscreen; see conf/screen_use.h. */
#include "conf/screen_use.h"

const struct params *screen_params(const struct conf *c)
{
	for (unsigned i = 0; i < conf_listener_count(c); i++) {
		if (conf_listener(c, i)->screen != NULL)
			return conf_listener(c, i)->screen->params;
	}
	return NULL;
}

bool screen_has_cache(const struct conf *c)
{
	const struct params *p = screen_params(c);

	return p != NULL && p->postscreen_cache_map[0] != '\0';
}
