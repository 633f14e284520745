/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See daemon/postmap_message.h. */
#include "daemon/postmap_message.h"

#include <stdlib.h>

#include "lib/buf.h"
#include "workers/mail/mime.h"

/* What Postfix has unless the operator says otherwise. */
#define NESTING_LIMIT        100
#define BOUNDARY_LIMIT_BYTES 2048

struct reader {
	const struct message_keys *m;
	struct mime mime;
	struct buf header; /* logical, as far as it came */
	bool any;
};

static void header_done(struct reader *r)
{
	if (r->header.len == 0)
		return;
	mime_header(&r->mime, buf_sv(&r->header));
	if (r->m->headers && (r->mime.place == MIME_PRIMARY || r->m->mime))
		r->any = r->m->key(r->m->ctx, buf_sv(&r->header)) || r->any;
	buf_reset(&r->header);
}

static void body_line(struct reader *r, struct sv line)
{
	mime_line(&r->mime, line);
	if (r->m->body)
		r->any = r->m->key(r->m->ctx, line) || r->any;
}

static void header_line(struct reader *r, struct sv line)
{
	size_t name_len, colon;

	if (r->header.len > 0 && line.len > 0 && (line.p[0] == ' ' || line.p[0] == '\t')) {
		buf_add_c(&r->header, '\n');
		buf_add_sv(&r->header, line);
		return;
	}
	header_done(r);
	if (mime_header_name(line, &name_len, &colon) == MIME_NAME_YES) {
		buf_add_sv(&r->header, line);
		return;
	}
	mime_headers_end(&r->mime, line.len == 0);
	/* as Postfix's checks see it, there is always an empty line between */
	if (r->m->body)
		r->any = r->m->key(r->m->ctx, SV("")) || r->any;
	if (line.len > 0)
		body_line(r, line);
}

bool message_keys_read(const struct message_keys *m, FILE *in)
{
	struct mime_limits limits = { .nesting = NESTING_LIMIT,
				      .boundary_bytes = BOUNDARY_LIMIT_BYTES,
				      .disabled = !m->mime };
	struct reader r = { .m = m };
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	mime_begin(&r.mime, &limits);
	while ((len = getline(&line, &cap, in)) >= 0) {
		struct sv text = { line, (size_t)len };

		if (text.len > 0 && text.p[text.len - 1] == '\n')
			text.len--;
		if (r.mime.place == MIME_BODY)
			body_line(&r, text);
		else
			header_line(&r, text);
	}
	header_done(&r);
	mime_fini(&r.mime);
	buf_fini(&r.header);
	free(line);
	return r.any;
}
