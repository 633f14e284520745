/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What holds for all dialogues of one postscreen listener; see workers/smtp_in/screentalk.h. */
#include "lib/err.h"
#include "workers/smtp_in/listener.h"
#include "workers/smtp_in/listentls.h"
#include "workers/smtp_in/screentalk.h"

int screentalk_conf_open(struct screentalk_conf *k, const struct conf *c, struct conf_diag *d)
{
	struct sv unknown; /* words of other versions are passed over, as in Postfix */
	const struct {
		const char *name, *specs;
		struct map_list **list;
	} maps[] = {
		{ "postscreen_command_filter", k->command_filter, &k->filter_map },
		{ "postscreen_discard_ehlo_keyword_address_maps",
		  k->discard_ehlo_keyword_address_maps, &k->discard_maps },
		{ "postscreen_reject_footer_maps", k->reject_footer_maps, &k->footer_maps },
	};
	int status = matchlist_open(c, k->forbidden_commands, "postscreen_forbidden_commands",
				    MATCHLIST_STRING, &k->forbidden, d);

	k->discard_mask = listener_discard_mask(k->discard_ehlo_keywords, &unknown);
	for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
		int err = map_list_open(c, maps[i].specs, maps[i].name, maps[i].list, d);

		status = err != 0 ? err : status;
	}
	if (status != 0)
		screentalk_conf_fini(k);
	return status == 0 ? 0 : E_CONFIG;
}

void screentalk_conf_fini(struct screentalk_conf *k)
{
	map_list_close(&k->filter_map);
	map_list_close(&k->discard_maps);
	map_list_close(&k->footer_maps);
	matchlist_close(&k->forbidden);
	listener_tls_free(&k->tls);
}
