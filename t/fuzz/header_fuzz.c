/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content through the header work of rewrite: any cut gives the same, and the result stays in wire
 * form, so that no header can become something else for the next host. */
#include "lib/err.h"
#include "lib/log.h"
#include "workers/rewrite/header.h"
#include "workers/rewrite/wire.h"
#include "workers/smtp/line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct header_rules rules = {
	.addr = { .myorigin = SV("origin.example"),
		  .mydomain = SV("example"),
		  .append_at_myorigin = true,
		  .append_dot_mydomain = true,
		  .swap_bangpath = true,
		  .allow_percent_hack = true },
	.myhostname = SV("host.example"),
	.undisclosed = SV("To: undisclosed-recipients:;"),
	.always_add_missing = true,
	.size_limit = 1000,
	.hopcount_limit = 50,
	.drop = { SV("bcc"), SV("return-path") },
	.drop_count = 2,
};

static struct sv sender(void *ctx)
{
	(void)ctx;
	return SV("s@example");
}

/* Header section and body together: where exactly one ends is not the same for every cut. */
static void run(struct sv content, size_t step, struct buf *out)
{
	static const struct header_facts facts = {
		.local = true, .sender = sender, .qid = SV("4dtest"), .arrival_s = 1700000000
	};
	struct header_state h = { .done = false };
	size_t used = 0;

	header_begin(&h, &rules, &facts, out);
	while (used < content.len && !h.done) {
		size_t n = size_min(step, content.len - used), got;

		got = header_feed(&h, content.p + used, n);
		ASSERT(got == n || (got < n && h.done));
		used += got;
	}
	header_end(&h);
	header_fini(&h);
	buf_add(out, content.p + used, content.len - used);
}

static void check_wire(struct buf *out)
{
	struct wire w = { .mid_line = false };
	size_t len;

	ASSERT(wire_check(&w, out->p, out->len, &len) == 0 && len == out->len);
	ASSERT(wire_end(&w) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct buf whole = BUF_INIT, cut = BUF_INIT;
	struct smtp_data d;
	char *content = xmalloc(4 * size + 8);
	size_t len, more;

	/* as smtp-in hands it over: whole lines in wire form */
	smtp_data_init_chunked(&d);
	smtp_data_scan(&d, (const char *)data + 1, size - 1, content, 4 * size, &len);
	smtp_data_end_chunks(&d);
	smtp_data_scan(&d, "", 0, content + len, 8, &more);
	struct sv text = { content, len + more };

	run(text, size_max(text.len, 1), &whole);
	run(text, data[0] % 13u + 1, &cut);
	ASSERT(sv_eq(buf_sv(&whole), buf_sv(&cut)));
	if (whole.len > 0)
		check_wire(&whole);
	free(content);
	buf_fini(&whole);
	buf_fini(&cut);
	return 0;
}
