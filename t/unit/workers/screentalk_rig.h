/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A dialogue of postscreen from memory, with what it logged. Times are those of a fake clock. */
#ifndef PH_T_UNIT_WORKERS_SCREENTALK_RIG_H
#define PH_T_UNIT_WORKERS_SCREENTALK_RIG_H

#include "conf/conf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/smtp_in/screentalk.h"

#define TALK_NOW_S 1700000000

struct talk_rig {
	struct screentalk_conf k;
	struct screentalk *t;
	struct screen_tests tests;
	int64_t expires_s[SCREEN_TEST_COUNT];
	struct screentalk_client client;
	bool stress;
	struct buf log; /* a line each */
};

static void talk_log(void *ctx, enum log_level level, const char *program, const char *text,
		     size_t len)
{
	struct talk_rig *r = ctx;
	const char *slash = strrchr(program, '/');

	(void)level;
	buf_add_str(&r->log, slash != NULL ? slash + 1 : program);
	buf_add_str(&r->log, ": ");
	buf_add(&r->log, text, len);
	buf_add_c(&r->log, '\n');
}

/* What postconf shows as defaults. `change` (may be NULL) is called before the tables are opened.
 */
__attribute__((unused)) static int talk_init(struct talk_rig *r, const struct conf *c,
					     void (*change)(struct screentalk_conf *k))
{
	struct conf_diag d;

	*r = (struct talk_rig){ .tests.expires_s = NULL };
	clock_fake_set((int64_t)TALK_NOW_S * 1000);
	log_set_sink(talk_log, r);
	r->k = (struct screentalk_conf){
		.hostname = "mx.example.org",
		.banner = "mx.example.org ESMTP Postfix",
		.command_filter = "",
		.forbidden_commands = "CONNECT GET POST regexp:{{/^[^A-Z]/ Bogus}}",
		.discard_ehlo_keywords = "",
		.discard_ehlo_keyword_address_maps = "",
		.expansion_filter = conf_params(c)->smtpd_expansion_filter,
		.reject_footer = "",
		.reject_footer_maps = "",
		.smtputf8 = true,
		.message_size_limit = 10240000,
		.command_count_limit = 20,
		.line_length_limit = 2048,
		.command_time_ms = 300000,
		.stress_time_ms = 10000,
		.starttls_time_ms = 100000,
		.tests = { [SCREEN_PIPELINING] = { SCREEN_ENFORCE, 30 * 86400 },
			   [SCREEN_NON_SMTP] = { SCREEN_DROP, 29 * 86400 },
			   [SCREEN_BARE_NEWLINE] = { SCREEN_IGNORE, 28 * 86400 } },
		.min_ttl_s = 60,
		.log_name = "postscreen",
		.service_name = "smtp",
	};
	if (change != NULL)
		change(&r->k);
	conf_diag_init(&d);
	int err = screentalk_conf_open(&r->k, c, &d);

	if (err != 0)
		buf_add_sv(&r->log, buf_sv(&d.text));
	conf_diag_fini(&d);
	return err;
}

/* All three tests are to be made. */
__attribute__((unused)) static void talk_begin(struct talk_rig *r)
{
	screentalk_free(&r->t);
	buf_reset(&r->log);
	memset(r->expires_s, 0, sizeof(r->expires_s));
	r->tests = (struct screen_tests){ .todo = SCREEN_DIALOGUE_BITS, .expires_s = r->expires_s };
	r->stress = false;
	r->client = (struct screentalk_client){
		.addr = "192.0.2.7", .port = "4321", .tests = &r->tests, .stress = &r->stress
	};
}

__attribute__((unused)) static void talk_start(struct talk_rig *r)
{
	r->t = screentalk_new(&r->k, &r->client);
}

__attribute__((unused)) static void talk_fini(struct talk_rig *r)
{
	screentalk_free(&r->t);
	screentalk_conf_fini(&r->k);
	log_set_sink(NULL, NULL);
	buf_fini(&r->log);
	clock_fake_off();
}

#endif
