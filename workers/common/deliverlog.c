/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delivery log lines; see workers/common/deliverlog.h. */
#include "workers/common/deliverlog.h"

#include <inttypes.h>

#include "lib/log.h"

#define LINE_MAX_BYTES 4000u

void deliver_delay_format(struct buf *out, int64_t us)
{
	int64_t centi;

	if (us < 0)
		us = 0;
	if (us >= 9950000) {
		buf_printf(out, "%" PRId64, (us + 500000) / 1000000);
		return;
	}
	/* two significant digits: tenths from one second on, hundredths below */
	centi = us >= 995000 ? (us + 50000) / 100000 * 10 : (us + 5000) / 10000;
	if (centi % 100 == 0)
		buf_printf(out, "%" PRId64, centi / 100);
	else if (centi % 10 == 0)
		buf_printf(out, "%" PRId64 ".%" PRId64, centi / 100, centi % 100 / 10);
	else
		buf_printf(out, "%" PRId64 ".%02" PRId64, centi / 100, centi % 100);
}

static void add_delays(struct buf *b, const struct deliver_delays *d)
{
	const int64_t parts[] = { d->a_us, d->b_us, d->c_us, d->d_us };
	int64_t total = 0;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		total += parts[i] > 0 ? parts[i] : 0;
	buf_add_str(b, ", delay=");
	deliver_delay_format(b, total);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		buf_add_str(b, i == 0 ? ", delays=" : "/");
		deliver_delay_format(b, parts[i]);
	}
}

void deliver_log(const struct deliver_log_line *l)
{
	static struct buf b; /* keeps its memory from line to line */
	char id[QID_TEXT_SIZE];

	buf_reset(&b);
	buf_add_str(&b, qid_format(l->qid, id));
	buf_add_str(&b, ": to=<");
	buf_add_sv(&b, l->to);
	buf_add_c(&b, '>');
	if (l->orig_to.len > 0 && !sv_eq(l->orig_to, l->to)) {
		buf_add_str(&b, ", orig_to=<");
		buf_add_sv(&b, l->orig_to);
		buf_add_c(&b, '>');
	}
	buf_add_str(&b, ", relay=");
	buf_add_sv(&b, l->relay.len > 0 ? l->relay : SV("none"));
	if (l->conn_use > 1)
		buf_printf(&b, ", conn_use=%u", l->conn_use);
	add_delays(&b, &l->delays);
	buf_printf(&b, ", dsn=%u.%u.%u, status=%s (", l->dsn[0], l->dsn[1], l->dsn[2], l->status);
	buf_add(&b, l->text.p, size_min(l->text.len, LINE_MAX_BYTES));
	buf_add_c(&b, ')');
	log_as(l->program, LOG_LEVEL_INFO, "%s", buf_cstr(&b));
}
