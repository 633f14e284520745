/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The lookup keys of `postmap -q - -b -h -m`: the headers and body lines of a message on a stream,
 * as header and body checks would see them.
 */
#ifndef PH_DAEMON_POSTMAP_MESSAGE_H
#define PH_DAEMON_POSTMAP_MESSAGE_H

#include <stdbool.h>
#include <stdio.h>

#include "lib/str.h"

struct message_keys {
	bool headers, body; /* which of them */
	bool mime;          /* also the headers of parts and of attached messages */
	/* A header may be folded: then it has newlines inside. Any true counts. */
	bool (*key)(void *ctx, struct sv key);
	void *ctx;
};

/* True when key() was true for any. */
bool message_keys_read(const struct message_keys *m, FILE *in);

#endif
