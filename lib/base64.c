/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See lib/base64.h. Used by postmap -F. */
#include "lib/base64.h"

#include <stdint.h>
#include <string.h>

#include "lib/err.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool base64_encode(struct sv in, struct buf *out)
{
	bool ok = true;

	for (size_t i = 0; i < in.len && ok; i += 3) {
		size_t left = in.len - i;
		uint32_t n = (uint32_t)(unsigned char)in.p[i] << 16;

		if (left > 1)
			n |= (uint32_t)(unsigned char)in.p[i + 1] << 8;
		if (left > 2)
			n |= (unsigned char)in.p[i + 2];
		char four[4] = { digits[n >> 18], digits[n >> 12 & 63],
				 left > 1 ? digits[n >> 6 & 63] : '=',
				 left > 2 ? digits[n & 63] : '=' };

		ok = buf_add(out, four, sizeof(four));
	}
	return ok;
}

/* -1: none. */
static int digit(char c)
{
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

int base64_decode(struct sv in, struct buf *out)
{
	if (in.len % 4 != 0)
		return E_SYNTAX;
	for (size_t i = 0; i < in.len; i += 4) {
		bool last = i + 4 == in.len;
		size_t pad =
			!last ? 0
			      : (in.p[i + 3] == '=') + (in.p[i + 3] == '=' && in.p[i + 2] == '=');
		uint32_t n = 0;

		for (size_t k = 0; k < 4; k++) {
			int d = k < 4 - pad ? digit(in.p[i + k]) : 0;

			if (d < 0)
				return E_SYNTAX;
			n = n << 6 | (uint32_t)d;
		}
		/* bits that padding cuts off are zero in what an encoder made */
		if ((pad == 1 && (n & 0xff) != 0) || (pad == 2 && (n & 0xffff) != 0))
			return E_SYNTAX;
		char three[3] = { (char)(n >> 16), (char)(n >> 8), (char)n };

		if (!buf_add(out, three, 3 - pad))
			return E_LIMIT;
	}
	return 0;
}
