/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content through the conversion for a next hop: any cut gives the same, and the result is in wire
 * form with lines of the allowed length, so that nothing in it can end the message. */
#include <stdlib.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/convert.h"
#include "workers/rewrite/wire.h"
#include "workers/smtp/line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct convert_conf conf = {
	.program = "smtp",
	.downgrade = true,
	.piece_bytes = 600,
	.header_bytes = 300,
	.mime = { .nesting = 4, .boundary_bytes = 20 },
};

static void drop_line(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		      const char *text UNUSED, size_t len UNUSED)
{
}

static int run(struct sv content, size_t step, bool downgrade, struct buf *out)
{
	struct convert cv;
	int err;

	convert_begin(&cv, &conf, "QID", downgrade, out);
	for (size_t at = 0; at < content.len; at += step)
		convert_feed(&cv, (struct sv){ content.p + at, size_min(step, content.len - at) });
	convert_end(&cv);
	err = cv.err;
	convert_fini(&cv);
	return err;
}

static void check_wire(struct buf *out)
{
	struct wire w = { .mid_line = false };
	size_t len;

	ASSERT(wire_check(&w, out->p, out->len, &len) == 0 && len == out->len && wire_end(&w) == 0);
	/* a stuffed dot comes on top */
	ASSERT(conf.line_limit == 0 || w.longest <= conf.line_limit + 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf whole = BUF_INIT, cut = BUF_INIT;
	struct smtp_data d;
	char *content;
	size_t len, more;

	if (size < 2)
		return 0;
	log_set_sink(drop_line, NULL);
	conf.line_limit = data[0] & 0x7f;
	if (conf.line_limit < 10)
		conf.line_limit = 0;
	/* as it stands in the spool: whole lines in wire form */
	content = xmalloc(4 * size + 8);
	smtp_data_init_chunked(&d);
	smtp_data_scan(&d, (const char *)data + 2, size - 2, content, 4 * size, &len);
	smtp_data_end_chunks(&d);
	smtp_data_scan(&d, "", 0, content + len, 8, &more);
	struct sv text = { content, len + more };
	bool downgrade = (data[1] & 1) != 0;
	int err = run(text, size_max(text.len, 1), downgrade, &whole);

	ASSERT(run(text, 1 + (data[1] >> 1), downgrade, &cut) == err);
	if (err == 0) {
		ASSERT(sv_eq(buf_sv(&whole), buf_sv(&cut)));
		check_wire(&whole);
	}
	free(content);
	buf_fini(&whole);
	buf_fini(&cut);
	return 0;
}
