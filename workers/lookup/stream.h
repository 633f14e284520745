/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A connection to a table server, used by one thread, with one deadline per question. The sources
 * that speak a protocol of their own over sockets call it. */
#ifndef PH_WORKERS_LOOKUP_STREAM_H
#define PH_WORKERS_LOOKUP_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"

struct stream {
	int fd; /* -1: not connected */
	struct buf in;
	size_t used; /* of `in` */
	int64_t deadline_us;
	bool fresh; /* nothing has been read over this connection yet */
};

void stream_init(struct stream *s);
/* Ends what the server may still say; the next question connects anew. */
void stream_close(struct stream *s);
/* The time for the question that comes now. */
void stream_begin(struct stream *s, int64_t timeout_ms);
/* `where`: "inet:host:port", "unix:/path", "host:port", "/path"; `port` is for those without one,
 * may be NULL. 0 when it is connected already. Errors are negated errno values, E_CONFIG for a name
 * that is no address, E_NOENT for a host that is not known. */
int stream_connect(struct stream *s, const char *where, const char *port);
int stream_write(struct stream *s, struct sv data);
/* Up to a line feed, which goes, with a CR in front of it. E_LIMIT when it is longer; E_EOF. The
 * view holds until the next read. */
int stream_read_line(struct stream *s, size_t max, struct sv *line_r);
int stream_read(struct stream *s, size_t len, struct sv *data_r);
/* A netstring ("4:abcd,"). E_PEER when it is none. */
int stream_read_netstring(struct stream *s, size_t max, struct sv *data_r);
/* Does a failure mean no more than that the server had closed an idle connection? */
bool stream_was_idle(const struct stream *s, int err);

#endif
