/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delivery log lines and the figures of delays=. */
#include "workers/common/deliverlog.h"

#include "lib/log.h"
#include "t/unit/tap.h"

static char last[4096];

static void sink(void *ctx, enum log_level level, const char *program, const char *text, size_t len)
{
	(void)ctx;
	(void)level;
	snprintf(last, sizeof(last), "%s: %.*s", program, (int)len, text);
}

static const struct {
	int64_t us;
	const char *text;
} delays[] = {
	{ -5, "0" },        { 0, "0" },         { 4999, "0" },
	{ 5000, "0.01" },   { 34000, "0.03" },  { 100000, "0.1" },
	{ 254999, "0.25" }, { 994999, "0.99" }, { 995000, "1" },
	{ 1249999, "1.2" }, { 1250000, "1.3" }, { 9949999, "9.9" },
	{ 9950000, "10" },  { 59500000, "60" }, { 432000000000, "432000" },
};

int main(void)
{
	struct buf b = BUF_INIT;
	struct deliver_log_line l = {
		.program = "smtp",
		.qid = { .time_us = 1700000000000000, .life = 5 },
		.to = SV("bob@example.com"),
		.relay = SV("mx[192.0.2.1]:25"),
		.conn_use = 1,
		.delays = { 30000, 0, 12000000, 1500000 },
		.dsn = { 2, 0, 0 },
		.status = "sent",
		.text = SV("250 2.0.0 Ok"),
	};
	char want[512], id[QID_TEXT_SIZE];

	for (size_t i = 0; i < ARRAY_LEN(delays); i++) {
		buf_reset(&b);
		deliver_delay_format(&b, delays[i].us);
		is_str(buf_cstr(&b), delays[i].text, "%lld us", (long long)delays[i].us);
	}
	log_set_sink(sink, NULL);
	deliver_log(&l);
	snprintf(want, sizeof(want),
		 "postfix/smtp: %s: to=<bob@example.com>, relay=mx[192.0.2.1]:25, delay=14, "
		 "delays=0.03/0/12/1.5, dsn=2.0.0, status=sent (250 2.0.0 Ok)",
		 qid_format(l.qid, id));
	is_str(last, want, "plain line");
	l.orig_to = SV("alias@example.com");
	l.conn_use = 3;
	l.relay = SV("");
	deliver_log(&l);
	ok(strstr(last,
		  "to=<bob@example.com>, orig_to=<alias@example.com>, relay=none, conn_use=3, "),
	   "orig_to, no relay, connection reuse");
	l.orig_to = l.to;
	l.text = SV("bad\r\nNov 1 forged");
	deliver_log(&l);
	ok(strstr(last, "orig_to") == NULL, "equal orig_to is left out");
	ok(strstr(last, "(bad??Nov 1 forged)") != NULL, "no second line can be forged");
	buf_fini(&b);
	return tap_done();
}
