/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Results of deliveries as tables and soft_bounce want them. */
#include "workers/common/statusfilter.h"

#include <string.h>

#include "lib/util.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static void quiet(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		  const char *text UNUSED, size_t len UNUSED)
{
}

static const char *apply(const struct status_filter *f, const char *in)
{
	static char out[200];
	uint8_t dsn[3] = { (uint8_t)(in[0] - '0'), (uint8_t)(in[2] - '0'), (uint8_t)(in[4] - '0') };
	struct sv text = sv_from(in + 6);
	struct buf mem = BUF_INIT;
	const char *status = status_filter_apply(f, dsn, &text, &mem);

	snprintf(out, sizeof(out), "%u.%u.%u %.*s (%s)", dsn[0], dsn[1], dsn[2], (int)text.len,
		 text.p, status);
	buf_fini(&mem);
	return out;
}

static struct status_filter *filter_of(const char *main_cf, const char *transport)
{
	static struct conf *conf; /* tables live as long as it does */
	struct status_filter *f = NULL;
	struct conf_diag d;

	conf_free(&conf);
	conf = test_conf(main_cf);
	conf_diag_init(&d);
	if (conf == NULL ||
	    status_filter_open(conf, conf_transport_find(conf, transport), &f, &d) != 0)
		printf("# %s", buf_cstr(&d.text));
	conf_diag_fini(&d);
	return f;
}

int main(void)
{
	static const char tables[] =
		"default_delivery_status_filter = pcre:{ {/^5.7.2/ 4.7.2 kept}, {/^4.2.1/ 5.2.1},"
		" {/^2.0.0 a/ 2.1.0 b}, {/^2.0.0 x/ 5.0.0 no}, {/^5.0.1/ words}, {/^5.0.2/ 2.0.0 "
		"y} }\n"
		"smtp_delivery_status_filter = pcre:{ {/^5/ 4.9.9 smtp} }\n";
	struct status_filter *f;

	log_set_sink(quiet, NULL);
	is_str(apply(NULL, "5.1.1 gone"), "5.1.1 gone (bounced)", "no filter");
	f = filter_of(tables, "error");
	is_str(apply(f, "5.7.2 no"), "4.7.2 kept (deferred)", "a failure becomes temporary");
	is_str(apply(f, "4.2.1 later"), "5.2.1  (bounced)", "or permanent");
	is_str(apply(f, "2.0.0 a"), "2.1.0 b (sent)", "a success has another text");
	is_str(apply(f, "2.0.0 x"), "2.0.0 x (sent)", "and is no failure");
	is_str(apply(f, "5.0.1 w"), "5.0.1 w (bounced)", "no code: nothing happens");
	is_str(apply(f, "5.0.2 w"), "5.0.2 w (bounced)", "a failure is no success");
	is_str(apply(f, "4.0.0 w"), "4.0.0 w (deferred)", "not in the table");
	status_filter_close(&f);
	f = filter_of(tables, "smtp");
	is_str(apply(f, "5.7.2 no"), "4.9.9 smtp (deferred)", "an agent's own table");
	status_filter_close(&f);
	f = filter_of("soft_bounce = yes\n", "smtp");
	is_str(apply(f, "5.7.2 no"), "4.7.2 no (SOFTBOUNCE)", "soft_bounce");
	is_str(apply(f, "2.0.0 ok"), "2.0.0 ok (sent)", "is for failures");
	status_filter_close(&f);
	f = filter_of("default_delivery_status_filter = hash:/no/such/file\n", "retry");
	is_str(apply(f, "4.0.0 w"), "4.0.0 w (deferred)", "a table that cannot be asked");
	status_filter_close(&f);
	return tap_done();
}
