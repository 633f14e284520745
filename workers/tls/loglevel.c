/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How much of TLS is logged; see workers/tls/tls.h. */
#include <string.h>

#include "lib/log.h"
#include "workers/tls/tls.h"

#define LEVEL_2 (TLS_LOG_SUMMARY | TLS_LOG_VERBOSE)

/* What the library would dump, or cache, has no counterpart. */
static const struct {
	const char *word;
	unsigned bits;
} words[] = {
	{ "0", 0 },
	{ "none", 0 },
	{ "1", TLS_LOG_SUMMARY },
	{ "routine", TLS_LOG_SUMMARY },
	{ "2", LEVEL_2 },
	{ "debug", LEVEL_2 },
	{ "3", LEVEL_2 },
	{ "ssl-expert", LEVEL_2 },
	{ "4", LEVEL_2 },
	{ "ssl-developer", LEVEL_2 },
	{ "5", LEVEL_2 },
	{ "6", LEVEL_2 },
	{ "7", LEVEL_2 },
	{ "8", LEVEL_2 },
	{ "9", LEVEL_2 },
	{ "summary", TLS_LOG_SUMMARY },
	{ "untrusted", TLS_LOG_UNTRUSTED },
	{ "peercert", TLS_LOG_PEERCERT },
	{ "certmatch", TLS_LOG_CERTMATCH },
	{ "verbose", TLS_LOG_VERBOSE },
	{ "cache", 0 },
	{ "dane", 0 },
	{ "ssl-debug", 0 },
	{ "ssl-handshake-packet-dump", 0 },
	{ "ssl-session-packet-dump", 0 },
	{ "trace", 0 },
};

unsigned tls_log_parse(const char *param, const char *text)
{
	unsigned bits = 0;

	for (size_t n; text += strspn(text, ", \t\r\n"), *text != '\0'; text += n) {
		size_t i = 0;

		n = strcspn(text, ", \t\r\n");
		while (i < ARRAY_LEN(words) &&
		       !sv_eq_nocase((struct sv){ text, n }, sv_from(words[i].word)))
			i++;
		if (i == ARRAY_LEN(words)) {
			log_warn("unknown %s value \"%.*s\"", param, (int)n, text);
			return 0;
		}
		bits |= words[i].bits;
	}
	return bits;
}
