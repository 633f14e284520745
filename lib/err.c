/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Error code texts. Called from everywhere; depends on nothing. */
#include "lib/err.h"

#include <string.h>

#include "lib/util.h"

static const struct {
	int code;
	const char *text;
} own_errors[] = {
	{ E_OK, "success" },
	{ E_SYNTAX, "syntax error" },
	{ E_LIMIT, "limit reached" },
	{ E_CORRUPT, "data is damaged" },
	{ E_VERSION, "unknown format version" },
	{ E_EOF, "end of data" },
	{ E_STATE, "not allowed in this state" },
	{ E_STALE, "stale owner or sequence" },
	{ E_CONFIG, "not allowed by the configuration" },
	{ E_PEER, "protocol violation by the other side" },
};

int err_errno(void)
{
	return errno > 0 ? -errno : E_IO;
}

const char *err_str(int err)
{
	for (size_t i = 0; i < ARRAY_LEN(own_errors); i++) {
		if (own_errors[i].code == err)
			return own_errors[i].text;
	}
	if (err < 0 && err > -4096) {
		const char *text = strerrordesc_np(-err);

		if (text != NULL)
			return text;
	}
	return "unknown error";
}
