/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whose login is used for which server: keys and their order, values, options, mistakes. */
#include "workers/deliver/login.h"

#include "conf/sasl.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

#define ON "smtp_sasl_auth_enable = yes\n"

static struct conf *conf;
static struct login_conf *lc;

static int open_login(const char *main_cf, const char *transport)
{
	struct conf_diag d;
	int err;

	conf = test_conf(main_cf);
	if (conf == NULL)
		return E_CONFIG;
	conf_diag_init(&d);
	err = login_conf_open(conf, conf_transport_find(conf, transport), &lc, &d);
	conf_diag_fini(&d);
	return err;
}

static void close_login(void)
{
	login_conf_close(&lc);
	conf_free(&conf);
}

static void finds(const char *sender, const char *host, const char *nexthop, const char *want)
{
	struct buf user = BUF_INIT, password = BUF_INIT, got = BUF_INIT;
	enum map_status st = login_find(lc, sv_from(sender), host, nexthop, &user, &password);

	if (st == MAP_FOUND)
		buf_printf(&got, "%s %s", buf_cstr(&user), buf_cstr(&password));
	else
		buf_add_str(&got, st == MAP_ERROR ? "error" : "none");
	is_str(buf_cstr(&got), want, "<%s> to %s by %s", sender, host, nexthop);
	buf_fini(&user);
	buf_fini(&password);
	buf_fini(&got);
}

static void test_keys(void)
{
	static const char maps[] = ON
		"smtp_sasl_password_maps = inline:{ { mx.isp.test = host:1 }, "
		"{ [relay.test]:587 = hop:a:b }, { plain.test = alone }, { joe@own.test = joe:2 }, "
		"{ @own.test = all:3 }, { ann = bare:4 } }\n"
		"mydestination = own2.test\nrecipient_delimiter = +\n";
	char by_sender[1024];

	is_int(open_login(maps, "smtp"), 0, "by host and next hop");
	finds("joe@own.test", "mx.isp.test", "isp.test", "host 1");
	finds("", "MX.isp.test", "[relay.test]:587", "host 1");
	finds("", "other.test", "[relay.test]:587", "hop a:b");
	finds("", "other.test", "[relay.test]", "none");
	finds("", "relay.test", "relay.test:587", "none");
	finds("", "x.plain.test", "plain.test", "alone ");
	close_login();

	snprintf(by_sender, sizeof(by_sender), "%ssmtp_sender_dependent_authentication = yes\n",
		 maps);
	is_int(open_login(by_sender, "smtp"), 0, "by sender");
	ok(lc->by_sender, "... connections serve one");
	finds("joe@own.test", "mx.isp.test", "isp.test", "joe 2");
	finds("joe+x@own.test", "mx.isp.test", "isp.test", "joe 2");
	finds("eve@own.test", "mx.isp.test", "isp.test", "all 3");
	finds("ann@own2.test", "mx.isp.test", "isp.test", "bare 4");
	finds("ann@else.test", "mx.isp.test", "isp.test", "host 1");
	finds("", "mx.isp.test", "isp.test", "host 1");
	finds("ann@else.test", "no.test", "no.test", "none");
	close_login();

	is_int(open_login(ON "smtp_sasl_password_maps = hash:/nonexistent/passwd\n", "smtp"), 0,
	       "a table that is not there");
	finds("", "a.test", "b.test", "error");
	close_login();
	is_int(open_login(ON "smtp_sasl_password_maps = inline:{ { a.test = u|p:q } }\n"
			     "smtp_sasl_password_result_delimiter = |\n",
			  "smtp"),
	       0, "another delimiter");
	finds("", "a.test", "b.test", "u p:q");
	close_login();
}

static void test_params(void)
{
	static const char *const mistakes[] = {
		ON,
		ON "smtp_sasl_password_maps = static:u:p\nsmtp_sasl_type = dovecot\n",
		ON "smtp_sasl_password_maps = static:u:p\nsmtp_sasl_security_options = nothing\n",
		ON "smtp_sasl_password_maps = static:u:p\nsmtp_sasl_tls_security_options = x\n",
	};

	is_int(open_login("smtp_sasl_password_maps = static:u:p\n", "smtp"), 0, "not enabled");
	ok(lc == NULL, "... is nothing");
	close_login();
	is_int(open_login(ON "smtp_sasl_password_maps = static:u:p\n", "lmtp"), 0, "for SMTP");
	ok(lc == NULL, "... is not for LMTP");
	close_login();
	is_int(open_login("lmtp_sasl_auth_enable = yes\nlmtp_sasl_password_maps = static:u:p\n"
			  "lmtp_sender_dependent_authentication = yes\n"
			  "lmtp_sasl_auth_soft_bounce = no\n",
			  "lmtp"),
	       0, "LMTP has its own");
	ok(lc != NULL && !lc->by_sender && !lc->client.soft_bounce, "... parameters");
	close_login();
	is_int(open_login(ON "smtp_sasl_password_maps = static:u:p\n"
			     "smtp_sasl_tls_security_options = noanonymous\n"
			     "smtp_sasl_mechanism_filter = !plain, static:all\n",
			  "smtp"),
	       0, "options");
	ok(lc->client.options[CLIENT_IN_CLEAR] == (SASL_NO_PLAINTEXT | SASL_NO_ANONYMOUS) &&
		   lc->client.options[CLIENT_ENCRYPTED] == SASL_NO_ANONYMOUS &&
		   lc->client.options[CLIENT_VERIFIED] == SASL_NO_ANONYMOUS,
	   "... follow each other");
	ok(lc->client.soft_bounce && !lc->client.authzid && !lc->client.mail_auth, "... defaults");
	ok(!lc->client.passes(lc->client.ctx, SV("PLAIN")) &&
		   lc->client.passes(lc->client.ctx, SV("LOGIN")),
	   "... the filter");
	close_login();
	for (size_t i = 0; i < ARRAY_LEN(mistakes); i++) {
		is_int(open_login(mistakes[i], "smtp"), E_CONFIG, "mistake %zu", i);
		ok(lc == NULL, "... gives nothing");
		close_login();
	}
}

int main(void)
{
	test_keys();
	test_params();
	return tap_done();
}
