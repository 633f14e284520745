/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS policy by destination: which next hops may be sent to in the clear. */
#include "workers/deliver/tlspolicy.h"

#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static struct conf *conf;
static struct tls_policy *policy;

static int open_policy(const char *main_cf, const char *transport)
{
	struct conf_diag d;
	int err;

	conf = test_conf(main_cf);
	if (conf == NULL)
		return E_CONFIG;
	conf_diag_init(&d);
	err = tls_policy_open(conf, conf_transport_find(conf, transport), &policy, &d);
	conf_diag_fini(&d);
	return err;
}

static void close_policy(void)
{
	tls_policy_close(&policy);
	conf_free(&conf);
}

static void is_need(const char *nexthop, enum tls_need want, const char *name)
{
	is_int(tls_policy_get(policy, sv_from(nexthop)), want, "%s", name);
}

static void test_levels(void)
{
	static const struct {
		const char *level;
		enum tls_need need;
	} rows[] = {
		{ "none", TLS_NOT_NEEDED },  { "may", TLS_NOT_NEEDED },
		{ "encrypt", TLS_NEEDED },   { "dane", TLS_NOT_NEEDED },
		{ "VERIFY", TLS_NEEDED },    { "secure", TLS_NEEDED },
		{ "dane-only", TLS_NEEDED }, { "fingerprint", TLS_NEEDED },
		{ "half-dane", TLS_NEEDED }, { "plain", TLS_UNKNOWN },
	};
	char text[400];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		snprintf(text, sizeof(text), "smtp_tls_policy_maps = static:{%s match=x}\n",
			 rows[i].level);
		is_int(open_policy(text, "smtp"), 0, "%s", rows[i].level);
		is_need("example.com", rows[i].need, "as an entry");
		close_policy();
	}
	open_policy("smtp_tls_policy_maps = static:dane\nsmtp_dns_support_level = dnssec\n",
		    "smtp");
	is_need("example.com", TLS_NEEDED, "dane where DNSSEC is in use");
	close_policy();
	open_policy("smtp_tls_security_level = verify\n", "smtp");
	is_need("example.com", TLS_NEEDED, "general level");
	close_policy();
	open_policy("smtp_tls_security_level = dane\nsmtp_dns_support_level = dnssec\n", "smtp");
	is_need("example.com", TLS_NOT_NEEDED, "dane in general");
	close_policy();
	open_policy("smtp_tls_security_level = sure\n", "smtp");
	is_need("example.com", TLS_UNKNOWN, "a general level that does not exist");
	close_policy();
	open_policy("smtp_enforce_tls = yes\n", "smtp");
	is_need("example.com", TLS_NEEDED, "smtp_enforce_tls");
	close_policy();
	open_policy("smtp_tls_security_level = encrypt\n", "error");
	is_need("5.1.1 no such user", TLS_NOT_NEEDED, "transports without a network");
	close_policy();
}

static void test_keys(void)
{
	is_int(open_policy(
		       "smtp_tls_policy_maps = inline:{{bank.test=encrypt}, {.bank.test=secure},"
		       " {open.bank.test=none}, {[relay.test]=verify},"
		       " {[relay.test]:587=may}, {port.test:26=encrypt}, {.org=encrypt},"
		       " {[192.0.2.1]=encrypt}, {/sock=encrypt}}\n",
		       "smtp"),
	       0, "table");
	is_need("bank.test", TLS_NEEDED, "the name itself");
	is_need("BANK.test", TLS_NEEDED, "in any case");
	is_need("a.b.bank.test", TLS_NEEDED, "a parent");
	is_need("open.bank.test", TLS_NOT_NEEDED, "its own entry first");
	is_need("x.open.bank.test", TLS_NEEDED, "which is not its subdomains'");
	is_need("notbank.test", TLS_NOT_NEEDED, "another name");
	is_need("example.org", TLS_NEEDED, "a whole top-level domain");
	is_need("org", TLS_NOT_NEEDED, "but not that name");
	is_need("[bank.test]", TLS_NOT_NEEDED, "brackets make another key");
	is_need("bank.test:25", TLS_NOT_NEEDED, "a port too");
	is_need("[mail.bank.test]", TLS_NOT_NEEDED, "no parents for those");
	is_need("[relay.test]", TLS_NEEDED, "brackets as written");
	is_need("[relay.test]:587", TLS_NOT_NEEDED, "brackets and port as written");
	is_need("[relay.test]:25", TLS_NOT_NEEDED, "another port");
	is_need("port.test:26", TLS_NEEDED, "port without brackets");
	is_need("inet:port.test:26", TLS_NEEDED, "inet:");
	is_need("[192.0.2.1]", TLS_NEEDED, "an address");
	is_need("unix:/sock", TLS_NEEDED, "a socket's path");
	is_need("", TLS_NOT_NEEDED, "nothing");
	close_policy();
}

static void test_override(void)
{
	open_policy("smtp_tls_security_level = encrypt\n"
		    "smtp_tls_policy_maps = inline:{{free.test=none}, {odd.test=,}}\n",
		    "smtp");
	is_need("free.test", TLS_NOT_NEEDED, "an entry can be milder");
	is_need("other.test", TLS_NEEDED, "others have the general level");
	is_need("odd.test", TLS_UNKNOWN, "an entry without a level");
	close_policy();
	open_policy("smtp_tls_policy_maps = texthash:/does/not/exist\n", "smtp");
	is_need("any.test", TLS_UNKNOWN, "a table that cannot be asked");
	close_policy();
	open_policy("lmtp_tls_policy_maps = static:encrypt\n", "lmtp");
	is_need("any.test", TLS_NEEDED, "LMTP's table");
	close_policy();
	open_policy("lmtp_tls_policy_maps = static:encrypt\n", "smtp");
	is_need("any.test", TLS_NOT_NEEDED, "is LMTP's alone");
	close_policy();
}

int main(void)
{
	test_levels();
	test_keys();
	test_override();
	return tap_done();
}
