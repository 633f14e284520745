/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS policy by destination: levels, entries of the table, keys, old parameters. */
#include "workers/deliver/tlspolicy.h"

#include "conf/map_remote.h"
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

static void is_level(const char *nexthop, enum site_level want, const char *name)
{
	struct tls_site *s = tls_policy_get(policy, sv_from(nexthop));

	is_str(site_level_name(s->level), site_level_name(want), "%s", name);
	if (s->level == SITE_INVALID)
		is_str(s->why, "client TLS configuration problem", "... and the mail waits for it");
	tls_site_unref(&s);
}

static void test_levels(void)
{
	static const struct {
		const char *level;
		enum site_level want;
	} rows[] = {
		{ "none", SITE_NONE },
		{ "may", SITE_MAY },
		{ "encrypt", SITE_ENCRYPT },
		{ "dane", SITE_DANE },
		{ "VERIFY", SITE_VERIFY },
		{ "secure", SITE_SECURE },
		{ "dane-only", SITE_DANE_ONLY },
		{ "fingerprint", SITE_FINGERPRINT },
		{ "half-dane", SITE_INVALID },
		{ "plain", SITE_INVALID },
		{ "", SITE_INVALID },
	};
	static const struct {
		const char *main_cf;
		enum site_level want;
	} general[] = {
		{ "", SITE_NONE },
		{ "smtp_tls_security_level = verify\n", SITE_VERIFY },
		{ "smtp_tls_security_level = sure\n", SITE_INVALID },
		{ "smtp_use_tls = yes\n", SITE_MAY },
		{ "smtp_enforce_tls = yes\n", SITE_VERIFY },
		{ "smtp_enforce_tls = yes\nsmtp_tls_enforce_peername = no\n", SITE_ENCRYPT },
		{ "smtp_enforce_tls = yes\nsmtp_tls_security_level = may\n", SITE_MAY },
	};
	char text[400];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "smtp_tls_policy_maps = inline:{{x.test=%s}}\n",
			 rows[i].level);
		is_int(open_policy(text, "smtp"), 0, "'%s'", rows[i].level);
		is_level("x.test", rows[i].want, "as an entry");
		is_level("y.test", SITE_NONE, "for that alone");
		close_policy();
	}
	for (size_t i = 0; i < ARRAY_LEN(general); i++) {
		open_policy(general[i].main_cf, "smtp");
		is_level("example.com", general[i].want, general[i].main_cf);
		close_policy();
	}
	is_int(open_policy("smtp_tls_security_level = encrypt\n", "error"), 0, "no network");
	ok(policy == NULL, "no policy");
	close_policy();
	open_policy("", "smtp");
	ok(!policy->used, "nothing is set: TLS costs nothing");
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
	is_level("bank.test", SITE_ENCRYPT, "the name itself");
	is_level("BANK.test", SITE_ENCRYPT, "in any case");
	is_level("a.b.bank.test", SITE_SECURE, "a parent");
	is_level("open.bank.test", SITE_NONE, "its own entry first");
	is_level("x.open.bank.test", SITE_SECURE, "which is not its subdomains'");
	is_level("notbank.test", SITE_NONE, "another name");
	is_level("example.org", SITE_ENCRYPT, "a whole top-level domain");
	is_level("org", SITE_NONE, "but not that name");
	is_level("[bank.test]", SITE_NONE, "brackets make another key");
	is_level("bank.test:25", SITE_NONE, "a port too");
	is_level("[mail.bank.test]", SITE_NONE, "no parents for those");
	is_level("[relay.test]", SITE_VERIFY, "brackets as written");
	is_level("[relay.test]:587", SITE_MAY, "brackets and port as written");
	is_level("[relay.test]:25", SITE_NONE, "another port");
	is_level("port.test:26", SITE_ENCRYPT, "port without brackets");
	is_level("inet:port.test:26", SITE_ENCRYPT, "inet:");
	is_level("[192.0.2.1]", SITE_ENCRYPT, "an address");
	is_level("unix:/sock", SITE_ENCRYPT, "a socket's path");
	is_level("", SITE_NONE, "nothing");
	close_policy();
}

static void test_override(void)
{
	open_policy("smtp_tls_security_level = encrypt\n"
		    "smtp_tls_policy_maps = inline:{{free.test=none}, {odd.test=,}}\n",
		    "smtp");
	is_level("free.test", SITE_NONE, "an entry can be milder");
	is_level("other.test", SITE_ENCRYPT, "others have the general level");
	is_level("odd.test", SITE_INVALID, "an entry without a level");
	close_policy();
	open_policy("smtp_tls_policy_maps = texthash:/does/not/exist\n", "smtp");
	is_level("any.test", SITE_INVALID, "a table that cannot be asked");
	close_policy();
	open_policy("lmtp_tls_policy_maps = static:encrypt\n", "lmtp");
	is_level("any.test", SITE_ENCRYPT, "LMTP's table");
	close_policy();
	open_policy("lmtp_tls_policy_maps = static:encrypt\n", "smtp");
	is_level("any.test", SITE_NONE, "is LMTP's alone");
	close_policy();
}

static struct tls_site *get_entry(const char *entry)
{
	char text[1000];

	snprintf(text, sizeof(text), "smtp_tls_policy_maps = inline:{{x.test=%s}}\n", entry);
	open_policy(text, "smtp");
	return tls_policy_get(policy, SV("x.test"));
}

static void test_attributes(void)
{
	struct tls_site *s = get_entry("secure match=a.test:.b.test match=c.test ciphers=high "
				       "protocols=>=TLSv1.2 exclude=aNULL servername=sni.test "
				       "connection_reuse=no enable_rpk=yes");

	is_int(s->level, SITE_SECURE, "level");
	is_int(s->match_count, 3, "names");
	ok(sv_eq_str(s->match[1], ".b.test") && sv_eq_str(s->match[2], "c.test"), "in order");
	is_str(s->grade, "high", "ciphers");
	is_str(s->protocols, ">=TLSv1.2", "protocols");
	is_str(s->exclude, "aNULL", "exclude");
	is_str(s->servername, "sni.test", "servername");
	ok(s->no_reuse, "connection_reuse");
	tls_site_unref(&s);
	close_policy();

	s = get_entry("encrypt, { protocols = TLSv1.2 TLSv1.3 }, {exclude=}");
	is_int(s->level, SITE_ENCRYPT, "commas and braces");
	is_str(s->protocols, "TLSv1.2 TLSv1.3", "a value with spaces");
	is_str(s->exclude, "", "an empty one");
	ok(!s->no_reuse, "connections are kept");
	tls_site_unref(&s);
	close_policy();

	s = get_entry("fingerprint match=AA:BB|CC:DD match=EE:FF");
	is_int(s->match_count, 3, "fingerprints have colons in them");
	ok(sv_eq_str(s->match[0], "AA:BB"), "... and bars between them");
	tls_site_unref(&s);
	close_policy();

	s = get_entry("none match=x");
	is_int(s->level, SITE_NONE, "attributes are ignored where there is no TLS");
	tls_site_unref(&s);
	close_policy();
}

static void test_bad_attributes(void)
{
	static const char *const bad[] = {
		"encrypt match=x.test",
		"may match=x.test",
		"dane match=x.test",
		"secure match=",
		"secure match",
		"secure =x",
		"secure {}",
		"secure ciphers=",
		"secure ciphers=high ciphers=low",
		"secure protocols=TLSv1 protocols=TLSv1",
		"secure exclude=a exclude=b",
		"secure servername=a.test servername=b.test",
		"secure servername=not_a..name",
		"secure servername=",
		"encrypt tafile=/x",
		"secure tafile=",
		"secure tafile=/etc/cert.pem",
		"secure connection_reuse=perhaps",
		"secure enable_rpk=1",
		"secure cipher=high",
		"secure policy_ttl=5",
		"secure mx_host_pattern=a.test",
		"secure policy_type=sts policy_type=sts",
		"secure policy_type=stss",
		"secure policy_type=sts policy_ttl=x",
		"secure policy_type=sts policy_ttl=1 policy_ttl=1",
		"secure policy_type=sts policy_domain=..",
		"secure policy_type=sts policy_failure=odd",
		"\xff\xfe",
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct tls_site *s = get_entry(bad[i]);

		is_int(s->level, SITE_INVALID, "%s", bad[i]);
		tls_site_unref(&s);
		close_policy();
	}
}

/* As postfix-mta-sts-resolver and postfix-tlspol answer. */
static void test_sts(void)
{
	struct tls_site *s = get_entry("secure match=mx.a.test servername=hostname policy_type=sts "
				       "policy_domain=a.test policy_ttl=86400 "
				       "{ policy_string = version: STSv1 } "
				       "mx_host_pattern=mx.a.test mx_host_pattern=*.mx.a.test");

	is_int(s->level, SITE_SECURE, "a policy with its description");
	ok(s->match_count == 1 && sv_eq_str(s->match[0], "hostname"), "hosts have their own names");
	ok(tls_site_has_mx(s, "MX.a.test"), "a host by name");
	ok(tls_site_has_mx(s, "one.mx.a.test"), "by pattern");
	ok(!tls_site_has_mx(s, "a.one.mx.a.test"), "a star is one label");
	ok(!tls_site_has_mx(s, ".mx.a.test"), "and not none");
	ok(!tls_site_has_mx(s, "evil.test"), "another host");
	tls_site_unref(&s);
	close_policy();
	s = get_entry("secure match=a.test:.b.test servername=hostname");
	ok(tls_site_has_mx(s, "evil.test"), "without patterns the certificate decides");
	tls_site_unref(&s);
	close_policy();
}

static const char *host_level(const char *nexthop, const char *host)
{
	struct tls_site *s = tls_policy_get(policy, sv_from(nexthop));
	uint8_t dsn[3];
	const char *why;
	enum site_level l = tls_policy_host_level(policy, s, host, dsn, &why);

	tls_site_unref(&s);
	return site_level_name(l);
}

static void test_per_site(void)
{
	static const char table[] =
		"smtp_tls_per_site = inline:{{a.test=MAY}, {b.test=must}, {c.test=NONE},"
		" {d.test=MUST_NOPEERMATCH}, {e.test=ODD}, {mx.c.test=MUST}, {mx.b.test=NONE}}\n";
	char text[600];

	open_policy(table, "smtp");
	is_str(host_level("a.test", "mx.test"), "may", "may");
	is_str(host_level("b.test", "mx.test"), "verify", "must");
	is_str(host_level("c.test", "mx.test"), "none", "none");
	is_str(host_level("d.test", "mx.test"), "encrypt", "must_nopeermatch");
	is_str(host_level("e.test", "mx.test"), "unknown", "no such word");
	is_str(host_level("f.test", "mx.test"), "none", "no entry");
	is_str(host_level("c.test", "mx.c.test"), "verify", "the server's entry is stronger");
	is_str(host_level("b.test", "mx.b.test"), "verify", "... or weaker");
	is_str(host_level("f.test", "e.test"), "unknown", "a server's entry without sense");
	close_policy();
	snprintf(text, sizeof(text), "%ssmtp_tls_security_level = encrypt\n", table);
	open_policy(text, "smtp");
	is_str(host_level("a.test", "mx.test"), "encrypt", "may gives way to a general level");
	is_str(host_level("c.test", "mx.test"), "none", "none does not");
	is_str(host_level("f.test", "mx.test"), "encrypt", "no entry");
	close_policy();
	snprintf(text, sizeof(text), "%ssmtp_tls_policy_maps = static:may\n", table);
	open_policy(text, "smtp");
	is_str(host_level("b.test", "mx.test"), "may", "beside the newer table it does not count");
	close_policy();
}

static void test_remote(void)
{
	struct map_memo *memo = map_memo_new();
	struct tls_site *s;
	const char *spec;
	struct sv key;

	is_int(open_policy("smtp_tls_policy_maps = socketmap:inet:127.0.0.1:1:postfix\n", "smtp"),
	       0, "a remote table");
	ok(policy->remote, "is known as one");
	map_memo_enter(memo);
	s = tls_policy_get(policy, SV("sts.test"));
	ok(map_memo_leave(), "its answer is missing");
	tls_site_unref(&s);
	map_memo_missing(memo, 0, &spec, &key);
	ok(sv_eq_str(key, "sts.test"), "it is asked for the domain");
	map_memo_answer(memo, 0, MAP_FOUND, SV("secure match=mx.sts.test servername=hostname"));
	map_memo_answered(memo);
	map_memo_enter(memo);
	s = tls_policy_get(policy, SV("sts.test"));
	ok(!map_memo_leave(), "the answer is there");
	is_int(s->level, SITE_SECURE, "and counts");
	tls_site_unref(&s);
	map_memo_free(&memo);
	close_policy();
}

int main(void)
{
	test_levels();
	test_keys();
	test_override();
	test_attributes();
	test_bad_attributes();
	test_sts();
	test_per_site();
	test_remote();
	return tap_done();
}
