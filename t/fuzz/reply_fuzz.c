/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a server answers, whole and byte by byte; replies from tables; parameters. */
#include "lib/err.h"
#include "lib/log.h"
#include "workers/smtp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int feed(struct smtp_reply_parser *p, const char *in, size_t len, size_t step,
		size_t *used_r)
{
	size_t used = 0, n;
	int result = 0;

	while (used < len && result == 0) {
		result = smtp_reply_parser_feed(p, in + used, size_min(step, len - used), &n);
		ASSERT(n > 0 && n <= step);
		used += n;
	}
	*used_r = used;
	return result;
}

static void check_text(const struct smtp_reply_parser *p)
{
	struct buf joined = BUF_INIT;
	struct sv line;
	size_t pos = 0;

	ASSERT(p->code >= 200 && p->code <= 599 && p->dsn[0] == p->code / 100);
	smtp_reply_parser_joined(p, 200, &joined);
	ASSERT(joined.len <= 200);
	for (size_t i = 0; i < joined.len; i++)
		ASSERT((unsigned char)joined.p[i] >= ' ');
	while (smtp_reply_parser_line(p, &pos, &line))
		ASSERT(line.len <= SMTP_REPLY_LINE_MAX);
	buf_fini(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sv in = { (const char *)data, size }, key, value, rest = in;
	struct smtp_reply_parser a, b;
	struct smtp_reply r;
	struct buf out = BUF_INIT;
	size_t used_a, used_b;
	bool has;

	smtp_reply_parser_init(&a);
	smtp_reply_parser_init(&b);
	int result = feed(&a, in.p, in.len, size + 1, &used_a);

	ASSERT(feed(&b, in.p, in.len, 1, &used_b) == result);
	if (result == 1) {
		ASSERT(used_a == used_b && a.code == b.code &&
		       sv_eq(buf_sv(&a.text), buf_sv(&b.text)));
		check_text(&a);
	}
	smtp_reply_parser_fini(&a);
	smtp_reply_parser_fini(&b);
	if (smtp_reply_parse(in, &r) == 0) {
		smtp_reply_write(&r, &out);
		ASSERT(memchr(out.p, '\n', out.len) == out.p + out.len - 1);
	}
	while (smtp_param_next(&rest, &key, &value, &has) == 1)
		ASSERT(key.len > 0 && (!has || value.len > 0));
	buf_fini(&out);
	return 0;
}
