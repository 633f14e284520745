/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Base64 of RFC 4648 section 4, with padding and without line breaks. */
#ifndef PH_LIB_BASE64_H
#define PH_LIB_BASE64_H

#include "lib/buf.h"
#include "lib/str.h"

/* Append; false when the buffer's limit does not allow it. */
bool base64_encode(struct sv in, struct buf *out);
/* Append; E_SYNTAX when the text is none, and then an undefined part of it is appended. */
int base64_decode(struct sv in, struct buf *out);

#endif
