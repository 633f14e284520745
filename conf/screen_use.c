/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Use of postscreen; see conf/screen_use.h. */
#include "conf/screen_use.h"

const struct params *screen_params(const struct conf *c)
{
	const struct params *first = NULL;

	for (unsigned i = 0; i < conf_listener_count(c); i++) {
		const struct conf_service *s = conf_listener(c, i)->screen;

		if (s != NULL && s->params->postscreen_cache_map[0] != '\0')
			return s->params;
		if (s != NULL && first == NULL)
			first = s->params;
	}
	return first;
}

bool screen_has_cache(const struct conf *c)
{
	const struct params *p = screen_params(c);

	return p != NULL && p->postscreen_cache_map[0] != '\0';
}
