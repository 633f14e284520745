/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delivery log lines; see workers/common/deliverlog.h. */
#include "workers/common/deliverlog.h"

#include "lib/log.h"
#include "lib/mailaddr.h"

#define LINE_MAX_BYTES 4000u

void deliver_delay_format(struct buf *out, int64_t us)
{
	uint64_t centi;

	if (us < 0)
		us = 0;
	if (us >= 9950000) {
		buf_add_uint(out, (uint64_t)(us + 500000) / 1000000);
		return;
	}
	/* two significant digits: tenths from one second on, hundredths below */
	centi = (uint64_t)(us >= 995000 ? (us + 50000) / 100000 * 10 : (us + 5000) / 10000);
	buf_add_uint(out, centi / 100);
	if (centi % 100 == 0)
		return;
	buf_add_c(out, '.');
	buf_add_uint(out, centi % 100 / 10);
	if (centi % 10 != 0)
		buf_add_uint(out, centi % 10);
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

static void add_dsn(struct buf *b, const uint8_t dsn[3])
{
	for (int i = 0; i < 3; i++) {
		buf_add_str(b, i == 0 ? ", dsn=" : ".");
		buf_add_uint(b, dsn[i]);
	}
}

void deliver_log(const struct deliver_log_line *l)
{
	static struct buf b; /* keeps its memory from line to line */
	char id[QID_TEXT_SIZE];

	buf_reset(&b);
	buf_add_str(&b, qid_format(l->qid, id));
	buf_add_str(&b, ": to=<");
	mail_addr_quote(l->to, &b);
	buf_add_c(&b, '>');
	if (l->orig_to.len > 0 && !sv_eq(l->orig_to, l->to)) {
		buf_add_str(&b, ", orig_to=<");
		mail_addr_quote(l->orig_to, &b);
		buf_add_c(&b, '>');
	}
	buf_add_str(&b, ", relay=");
	buf_add_sv(&b, l->relay.len > 0 ? l->relay : SV("none"));
	if (l->conn_use > 1) {
		buf_add_str(&b, ", conn_use=");
		buf_add_uint(&b, l->conn_use);
	}
	add_delays(&b, &l->delays);
	add_dsn(&b, l->dsn);
	buf_add_str(&b, ", status=");
	buf_add_str(&b, l->status);
	buf_add_str(&b, " (");
	buf_add(&b, l->text.p, size_min(l->text.len, LINE_MAX_BYTES));
	buf_add_c(&b, ')');
	log_text_as(l->program, b.p, b.len);
}
