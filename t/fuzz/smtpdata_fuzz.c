/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Content as a peer sends it: any cut gives the same, and the output is always wire form. */
#include "lib/buf.h"
#include "lib/log.h"
#include "workers/smtp/line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void scan(struct smtp_data *d, const char *in, size_t len, size_t in_step, size_t out_step,
		 struct buf *all, size_t *used_r)
{
	char room[64];
	size_t used = 0, n;

	while ((used < len || smtp_data_pending(d) > 0) && (!d->done || smtp_data_pending(d) > 0)) {
		used += smtp_data_scan(d, in + used, size_min(in_step, len - used), room, out_step,
				       &n);
		ASSERT(n <= out_step);
		buf_add(all, room, n);
	}
	*used_r = used;
}

static void check_wire(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '\n')
			ASSERT(i > 0 && s.p[i - 1] == '\r');
		if (s.p[i] == '\r')
			ASSERT(i + 1 < s.len && s.p[i + 1] == '\n');
		if (s.p[i] == '.' && (i == 0 || s.p[i - 1] == '\n'))
			ASSERT(i + 1 == s.len || s.p[i + 1] == '.');
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	struct buf whole = BUF_INIT, cut = BUF_INIT;
	struct smtp_data a, b;
	struct smtp_unwire u = { 0 };
	size_t used_a, used_b;
	unsigned mode = data[0] % 3;
	size_t in_step = data[1] % 7u + 1, out_step = data[2] % 9u + 1;
	const char *in = (const char *)data + 3;

	if (mode == 2) {
		smtp_data_init_chunked(&a);
		smtp_data_init_chunked(&b);
	} else {
		smtp_data_init(&a, mode == 0);
		smtp_data_init(&b, mode == 0);
	}
	scan(&a, in, size - 3, size, 64, &whole, &used_a);
	scan(&b, in, size - 3, in_step, out_step, &cut, &used_b);
	ASSERT(sv_eq(buf_sv(&whole), buf_sv(&cut)) && used_a == used_b && a.done == b.done);
	ASSERT(a.bare_lf == b.bare_lf && a.bare_cr == b.bare_cr && a.nul == b.nul);
	if (mode == 2) {
		smtp_data_end_chunks(&a);
		scan(&a, "", 0, 1, 64, &whole, &used_a);
	}
	if (a.done || mode != 2)
		check_wire(buf_sv(&whole));
	char *file = xmalloc(whole.len + 1);

	ASSERT(smtp_unwire(&u, buf_cstr(&whole), whole.len, file) <= whole.len);
	free(file);
	buf_fini(&whole);
	buf_fini(&cut);
	return 0;
}
