/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How postcat shows a record: Postfix's shape, so that scripts which read it go on working. */
#include <stdlib.h>
#include <time.h>

#include "lib/arena.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/mail/envelope.h"
#include "workers/spool/postcat.h"

#define ENVELOPE_MAX (256u << 20)
#define RCPTS_MAX    10000000u
#define CHUNK        65536u
#define LINE_MAX     65536u /* longer ones are shown in pieces */

/* ---- envelope ---- */

static void show_time(FILE *out, const char *name, int64_t us)
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	char text[64];

	if (us > 0 && localtime_r(&s, &tm) != NULL &&
	    strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &tm) > 0)
		fprintf(out, "%s: %s\n", name, text);
}

static void show_attr(FILE *out, const char *name, struct sv value)
{
	if (value.len > 0)
		fprintf(out, "named_attribute: %s=%.*s\n", name, (int)value.len, value.p);
}

static void show_attr_number(FILE *out, const char *name, unsigned value)
{
	if (value != 0)
		fprintf(out, "named_attribute: %s=%u\n", name, value);
}

static void show_client(FILE *out, const struct envelope *e)
{
	static const struct {
		const char *name;
		size_t field;
	} attrs[] = {
		{ "log_client_name", offsetof(struct envelope, client_name) },
		{ "log_client_address", offsetof(struct envelope, client_addr) },
		{ "log_client_port", offsetof(struct envelope, client_port) },
		{ "log_helo_name", offsetof(struct envelope, helo) },
		{ "log_protocol_name", offsetof(struct envelope, proto) },
		{ "client_name", offsetof(struct envelope, client_name) },
		{ "client_address", offsetof(struct envelope, client_addr) },
		{ "client_port", offsetof(struct envelope, client_port) },
		{ "helo_name", offsetof(struct envelope, helo) },
		{ "protocol_name", offsetof(struct envelope, proto) },
		{ "sasl_method", offsetof(struct envelope, sasl_method) },
		{ "sasl_username", offsetof(struct envelope, sasl_user) },
		{ "sasl_sender", offsetof(struct envelope, sasl_sender) },
		{ "bounce_of", offsetof(struct envelope, bounce_of) },
	};

	for (size_t i = 0; i < ARRAY_LEN(attrs); i++)
		show_attr(out, attrs[i].name,
			  *(const struct sv *)(const void *)((const char *)e + attrs[i].field));
}

static void show_rcpt(FILE *out, const struct env_rcpt *r)
{
	show_attr(out, "dsn_orig_rcpt", r->orcpt);
	show_attr_number(out, "notify_flags", r->notify);
	struct sv orig = r->orig_addr.len > 0 ? r->orig_addr : r->addr;

	fprintf(out, "original_recipient: %.*s\n", (int)orig.len, orig.p);
	fprintf(out, "recipient: %.*s\n", (int)r->addr.len, r->addr.p);
}

static void show_envelope(const struct spool_record *h, const struct envelope *e,
			  uint64_t content_at, FILE *out)
{
	char id[QID_TEXT_SIZE];

	fprintf(out, "message_size: %15lu %15lu %15lu %15d %15lu %15d\n", (unsigned long)h->size,
		(unsigned long)content_at, (unsigned long)h->rcpt_count, 0, (unsigned long)h->size,
		(e->flags & ENVF_SMTPUTF8) != 0);
	show_time(out, "message_arrival_time", e->arrival_us);
	show_time(out, "create_time", h->commit_us);
	qid_format((struct qid){ h->qid_us, h->qid_life }, id);
	show_attr(out, "log_ident", sv_from(id));
	show_attr(out, "rewrite_context",
		  (e->flags & ENVF_LOCAL_CLIENT) != 0 ? SV("local") : SV("remote"));
	show_attr(out, "encoding",
		  e->body == BODY_8BIT   ? SV("8bit")
		  : e->body == BODY_7BIT ? SV("7bit")
					 : (struct sv){ NULL, 0 });
	show_attr(out, "envelope_id", e->envid);
	show_attr_number(out, "ret_flags", e->ret);
	fprintf(out, "sender: %.*s\n", (int)e->sender.len, e->sender.p);
	show_client(out, e);
	for (size_t i = 0; i < e->rcpt_count; i++)
		show_rcpt(out, &e->rcpts[i]);
}

/* ---- content ---- */

struct content {
	unsigned show;
	FILE *out;
	struct buf line;
	bool body;      /* the header has ended */
	bool continues; /* this is a further piece of a long line */
	bool any;       /* a header line was seen */
};

static bool is_header_line(const struct content *c)
{
	const char *p = c->line.p;
	size_t i = 0;

	if (c->any && c->line.len > 0 && (p[0] == ' ' || p[0] == '\t'))
		return true;
	while (i < c->line.len && p[i] > ' ' && p[i] < 127 && p[i] != ':')
		i++;
	return i > 0 && i < c->line.len && p[i] == ':';
}

static void end_piece(struct content *c, bool line_end)
{
	size_t skip = 0;

	if (!c->continues) {
		if (!c->body && !is_header_line(c))
			c->body = true;
		c->any = true;
		/* dot-stuffed on the wire and on disk */
		skip = c->line.len > 0 && c->line.p[0] == '.';
	}
	if (line_end && c->line.len > skip && c->line.p[c->line.len - 1] == '\r')
		c->line.len--;
	if ((c->show & (c->body ? SHOW_BODY : SHOW_HEADER)) != 0) {
		if (c->line.len > skip)
			fwrite(c->line.p + skip, 1, c->line.len - skip, c->out);
		if (line_end)
			fputc('\n', c->out);
	}
	buf_reset(&c->line);
	c->continues = !line_end;
}

static void show_bytes(struct content *c, const char *p, size_t len)
{
	while (len > 0) {
		const char *nl = memchr(p, '\n', len);
		size_t n = nl == NULL ? len : (size_t)(nl - p);
		size_t room = LINE_MAX - c->line.len;

		if (n > room) {
			buf_add(&c->line, p, room);
			end_piece(c, false);
			p += room;
			len -= room;
			continue;
		}
		buf_add(&c->line, p, n);
		p += n;
		len -= n;
		if (nl != NULL) {
			end_piece(c, true);
			p++;
			len--;
		}
	}
}

static int show_content(const struct postcat_source *src, uint64_t at, uint64_t len, unsigned show,
			FILE *out)
{
	struct content c = { .show = show, .out = out };
	char *chunk = xmalloc(CHUNK);
	int err = 0;

	while (len > 0 && err == 0) {
		size_t n = (size_t)u64_min(len, CHUNK);

		err = io_pread_all(src->fd, chunk, n, (off_t)at);
		if (err == 0)
			show_bytes(&c, chunk, n);
		at += n;
		len -= n;
	}
	if (c.line.len > 0)
		end_piece(&c, true);
	free(chunk);
	buf_fini(&c.line);
	return err == E_EOF ? E_CORRUPT : err;
}

/* ---- the whole ---- */

static int check_sum(const struct postcat_source *src, const struct spool_record *h)
{
	uint64_t at = src->off + sizeof(*h), left = h->env_len + h->content_len;
	char *chunk = xmalloc(CHUNK);
	uint32_t crc = 0;
	int err = 0;

	while (left > 0 && err == 0) {
		size_t n = (size_t)u64_min(left, CHUNK);

		err = io_pread_all(src->fd, chunk, n, (off_t)at);
		crc = crc32c(crc, chunk, n);
		at += n;
		left -= n;
	}
	free(chunk);
	return err == 0 && spool_record_crc_ok(h, crc) ? 0 : E_CORRUPT;
}

static int print_envelope(const struct postcat_source *src, const struct spool_record *h,
			  uint64_t env_at, uint64_t content_at, FILE *out)
{
	struct buf text = BUF_INIT;
	struct arena arena;
	struct envelope e;
	int err = h->env_len > ENVELOPE_MAX ? E_CORRUPT : 0;

	arena_init(&arena, 65536, ENVELOPE_MAX);
	if (err == 0) {
		char *p = buf_reserve(&text, h->env_len);

		err = io_pread_all(src->fd, p, h->env_len, (off_t)env_at);
		if (err == 0)
			err = env_decode((struct sv){ p, h->env_len }, RCPTS_MAX, &arena, &e);
	}
	if (err == 0)
		show_envelope(h, &e, content_at, out);
	arena_fini(&arena);
	buf_fini(&text);
	return err == 0 ? 0 : E_CORRUPT;
}

int postcat_print(const struct postcat_source *src, unsigned show, FILE *out)
{
	struct spool_record h;
	uint64_t bytes, body = src->off + sizeof(h);

	if (io_pread_all(src->fd, &h, sizeof(h), (off_t)src->off) != 0 ||
	    !spool_record_plausible(&h, h.seg, NULL, src->off, UINT64_MAX, &bytes))
		return E_CORRUPT;
	bool env_last = (h.flags & SPOOL_ENV_LAST) != 0;
	uint64_t env_at = env_last ? body + h.content_len : body;
	uint64_t content_at = env_last ? body : body + h.env_len;
	int result = check_sum(src, &h), err;

	if ((show & SHOW_ENVELOPE) != 0) {
		fprintf(out, "*** ENVELOPE RECORDS %s ***\n", src->name);
		err = print_envelope(src, &h, env_at, content_at, out);
		result = result != 0 ? result : err;
		fprintf(out, "*** MESSAGE CONTENTS %s ***\n", src->name);
	}
	if ((show & (SHOW_HEADER | SHOW_BODY)) != 0) {
		err = show_content(src, content_at, h.content_len, show, out);
		result = result != 0 ? result : err;
	}
	if ((show & SHOW_ENVELOPE) != 0 && (show & SHOW_BODY) != 0)
		fprintf(out, "*** HEADER EXTRACTED %s ***\n*** MESSAGE FILE END %s ***\n",
			src->name, src->name);
	return result;
}
