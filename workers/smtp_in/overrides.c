/* SPDX-License-Identifier: GPL-3.0-or-later */
/* receive_override_options, for listeners and for pickup, which needs nothing else of them. */
#include <string.h>

#include "lib/err.h"
#include "workers/mail/envelope.h"
#include "workers/smtp_in/listener.h"

int listener_overrides(const struct params *p, struct conf_diag *d, uint32_t *flags_r)
{
	static const struct {
		const char *word;
		uint32_t flags;
	} words[] = {
		{ "no_unknown_recipient_checks", 0 }, /* policy/compile.c */
		{ "no_address_mappings", ENVF_NO_RECIPIENT_MAPS },
		{ "no_header_body_checks", ENVF_NO_CHECKS },
		{ "no_milters", ENVF_NO_MILTERS },
	};
	const char *text = p->receive_override_options;

	for (size_t n; text += strspn(text, ", \t\r\n"), *text != '\0'; text += n) {
		size_t i = 0;

		n = strcspn(text, ", \t\r\n");
		while (i < ARRAY_LEN(words) &&
		       !sv_eq_nocase((struct sv){ text, n }, sv_from(words[i].word)))
			i++;
		if (i == ARRAY_LEN(words)) {
			conf_diag_add(d, true, NULL, 0,
				      "parameter receive_override_options: unknown option "
				      "\"%.*s\", expected no_unknown_recipient_checks, "
				      "no_address_mappings, no_header_body_checks or no_milters",
				      (int)n, text);
			return E_CONFIG;
		}
		*flags_r |= words[i].flags;
	}
	return 0;
}
