/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Restrictions about the hosts that serve a domain: what is asked, what is looked up, who gets in.
 */
#include "t/unit/policy/bench.h"

enum { A = 1, NS = 2, MX = 15, AAAA = 28 };

static const struct bench_rrset zone[] = {
	{ "x.test", MX, "20:b.mail.test 10:a.mail.test" },
	{ "x.test", NS, "ns.dns.test" },
	{ "x.test", A, "192.0.2.80" },
	{ "a.mail.test", A, "192.0.2.10 192.0.2.11" },
	{ "a.mail.test", AAAA, "2001:db8::10" },
	{ "b.mail.test", A, "TEMP" },
	{ "b.mail.test", AAAA, "2001:db8::20" },
	{ "ns.dns.test", A, "192.0.2.53" },
	{ "sub.x.test", A, "192.0.2.81" },
	{ "deep.sub.x.test", A, "192.0.2.82" },
	{ "null.test", MX, "NULL" },
	{ "temp.test", MX, "TEMP" },
	{ "temp.test", NS, "TEMP" },
	{ "temp.test", A, "TEMP" },
	{ "number.test", MX, "10:192.0.2.99" },
	{ "xn--bcher-kva.test", A, "192.0.2.66" },
	{ "gone.test", MX, "10:nowhere.test" },
	{ "mail.client.test", A, "192.0.2.1" },
	{ "mail.client.test", MX, "10:a.mail.test" },
	{ "helo.client.test", AAAA, "2001:db8::66" },
	{ NULL, 0, NULL },
};

static void rows_by_type(void)
{
#define SENDER_BAD "554 5.7.1 <s@x.test>: Sender address rejected: bad"
	static const struct {
		const char *restriction, *want, *asked;
	} rows[] = {
		{ "check_sender_mx_access inline:{{b.mail.test=REJECT bad}}", SENDER_BAD,
		  "x.test/15 " },
		{ "check_sender_mx_access inline:{{mail.test=REJECT bad}}", SENDER_BAD,
		  "x.test/15 " },
		{ "check_sender_mx_access inline:{{192.0.2=REJECT bad}}", SENDER_BAD,
		  "x.test/15 b.mail.test/1 b.mail.test/28 a.mail.test/1 a.mail.test/28 " },
		{ "check_sender_mx_access inline:{{2001:db8::20=REJECT bad}}", SENDER_BAD,
		  "x.test/15 b.mail.test/1 b.mail.test/28 " },
		{ "check_sender_mx_access cidr:{{192.0.2.11 REJECT bad}}", SENDER_BAD,
		  "x.test/15 b.mail.test/1 b.mail.test/28 a.mail.test/1 a.mail.test/28 " },
		{ "check_sender_mx_access inline:{{x.test=REJECT bad}}", "OK", NULL },
		{ "check_sender_ns_access inline:{{ns.dns.test=REJECT bad}}", SENDER_BAD,
		  "x.test/2 " },
		{ "check_sender_ns_access inline:{{192.0.2.53=REJECT bad}}", SENDER_BAD,
		  "x.test/2 ns.dns.test/1 ns.dns.test/28 " },
		{ "check_sender_a_access inline:{{192.0.2.80=REJECT bad}}", SENDER_BAD,
		  "x.test/1 x.test/28 " },
		{ "check_sender_a_access inline:{{x.test=REJECT bad}}", "OK",
		  "x.test/1 x.test/28 " },
		{ "check_sender_a_access inline:{{192.0.2.80=DUNNO}}, reject",
		  "554 5.7.1 <u@local.test>: Recipient address rejected: Access denied", NULL },
		/* a permit is a mistake, however it comes about */
		{ "check_sender_a_access inline:{{192.0.2.80=OK}}",
		  "451 4.3.5 Server configuration error", NULL },
		{ "check_sender_mx_access inline:{{mail.test=permit}}",
		  "451 4.3.5 Server configuration error", NULL },
		{ "check_sender_mx_access inline:{{mail.test=lax}}\n"
		  "smtpd_restriction_classes = lax\nlax = permit",
		  "451 4.3.5 Server configuration error", NULL },
		{ "check_reverse_client_hostname_access inline:{{mail.client.test=OK}}",
		  "451 4.3.5 Server configuration error", NULL },
		{ "check_sender_mx_access inline:{{mail.test=DISCARD}}", "OK", NULL },
		{ "check_client_a_access inline:{{192.0.2.1=REJECT bad}}",
		  "554 5.7.1 <mail.client.test[192.0.2.1]>: Client host rejected: bad",
		  "mail.client.test/1 mail.client.test/28 " },
		{ "check_client_mx_access inline:{{a.mail.test=REJECT bad}}",
		  "554 5.7.1 <mail.client.test[192.0.2.1]>: Client host rejected: bad", NULL },
		{ "check_reverse_client_hostname_a_access inline:{{192.0.2.1=REJECT bad}}",
		  "554 5.7.1 <mail.client.test>: Unverified Client host rejected: bad", NULL },
		{ "check_reverse_client_hostname_mx_access inline:{{192.0.2.10=REJECT bad}}",
		  "554 5.7.1 <mail.client.test>: Unverified Client host rejected: bad", NULL },
		{ "check_helo_a_access inline:{{2001:db8::66=REJECT bad}}",
		  "554 5.7.1 <helo.client.test>: Helo command rejected: bad", NULL },
		{ "check_helo_a_access inline:{{2001:db8::66=REJECT bad}}\ninet_protocols = ipv4",
		  "OK", "helo.client.test/1 " },
		{ "check_helo_mx_access inline:{{helo.client.test=REJECT bad}}",
		  "554 5.7.1 <helo.client.test>: Helo command rejected: bad",
		  "helo.client.test/15 " },
		{ "check_helo_ns_access inline:{{ns.dns.test=REJECT bad}}", "OK",
		  "helo.client.test/2 client.test/2 test/2 " },
		{ "check_recipient_mx_access inline:{{local.test=450 4.1.7 later}}",
		  "450 4.1.3 <u@local.test>: Recipient address rejected: later", "local.test/15 " },
		{ "warn_if_reject check_sender_mx_access inline:{{mail.test=REJECT bad}}", "OK",
		  NULL },
		{ "check_sender_mx_access fail:x",
		  "451 4.3.5 <s@x.test>: Sender address rejected: Server configuration error",
		  NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		char conf[400];

		snprintf(conf, sizeof(conf),
			 "inet_protocols = all\nsmtpd_recipient_restrictions = %s",
			 rows[i].restriction);
		bench_open(&b, conf);
		b.zone = zone;
		is_str(ask(&b, POLICY_ON_RCPT), rows[i].want, "%s", rows[i].restriction);
		if (rows[i].asked != NULL)
			is_str(b.asked, rows[i].asked, "... and its questions");
		bench_close(&b);
	}
}

static void rows_by_sender(void)
{
	static const struct {
		const char *sender, *kind, *key, *asked;
		bool refused;
		const char *warning;
	} rows[] = {
		{ "s@sub.x.test", "mx", "sub.x.test", "sub.x.test/15 ", true, NULL },
		{ "s@sub.x.test", "mx", "192.0.2.81", NULL, true, NULL },
		{ "s@deep.sub.x.test", "ns", "ns.dns.test",
		  "deep.sub.x.test/2 sub.x.test/2 x.test/2 ", true, NULL },
		{ "s@nobody.example", "ns", "ns.dns.test", "nobody.example/2 example/2 ", false,
		  "Unable to look up NS host for s@nobody.example: Host not found" },
		{ "s@null.test", "mx", "null.test", "null.test/15 ", false, NULL },
		{ "s@temp.test", "mx", "temp.test", "temp.test/15 ", false,
		  "Unable to look up MX host for temp.test: Host not found, try again" },
		{ "s@temp.test", "ns", "test", "temp.test/2 ", false,
		  "Unable to look up NS host for temp.test: Host not found, try again" },
		{ "s@temp.test", "a", "192.0.2.80", "temp.test/1 temp.test/28 ", false, NULL },
		{ "s@gone.test", "mx", "x.test", "gone.test/15 nowhere.test/1 nowhere.test/28 ",
		  false,
		  "Unable to look up MX host nowhere.test for Sender address s@gone.test: Name "
		  "or service not known" },
		{ "s@number.test", "mx", "192.0.2.99", "number.test/15 ", true, NULL },
		{ "s@[192.0.2.7]", "mx", "192.0.2.7", "", true, NULL },
		{ "s@[192.0.2.7]", "a", "192.0.2", "", true, NULL },
		{ "s@[192.0.2.7]", "ns", "192.0.2.7", "", false, NULL },
		{ "s@[IPv6:2001:db8::7]", "mx", "2001:db8::7", "", true, NULL },
		{ "s@[nonsense]", "mx", "nonsense", "", false, NULL },
		{ "s@192.0.2.7", "a", "192.0.2.7", "", true, NULL },
		{ "s@192.0.2.7", "ns", "192.0.2.7", "", false, NULL },
		{ "s@b\xc3\xbc"
		  "cher.test",
		  "a", "192.0.2.66", "xn--bcher-kva.test/1 xn--bcher-kva.test/28 ", true, NULL },
		{ "s@b\xc3\xbc"
		  "cher.test",
		  "mx", "xn--bcher-kva.test", "xn--bcher-kva.test/15 ", true, NULL },
		{ "", "a", "192.0.2.80", "", false, NULL },
		{ "local-part", "a", "192.0.2.80", "local-part/1 local-part/28 ", false, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		char conf[300];

		snprintf(conf, sizeof(conf),
			 "inet_protocols = all\nsmtpd_recipient_restrictions = "
			 "check_sender_%s_access inline:{{%s=REJECT}}",
			 rows[i].kind, rows[i].key);
		bench_open(&b, conf);
		b.zone = zone;
		b.v.sender = rows[i].sender;
		buf_reset(&b.f.log);
		ok((strcmp(ask(&b, POLICY_ON_RCPT), "OK") != 0) == rows[i].refused, "<%s> %s %s",
		   rows[i].sender, rows[i].kind, rows[i].key);
		if (rows[i].asked != NULL)
			is_str(b.asked, rows[i].asked, "... and its questions");
		if (rows[i].warning != NULL)
			ok(strstr(buf_cstr(&b.f.log), rows[i].warning) != NULL, "... logged");
		bench_close(&b);
	}
}

/* What a hostile zone can make us do has an end. */
static void many_hosts(void)
{
	struct buf hosts = BUF_INIT, addrs = BUF_INIT;
	struct bench b;

	for (unsigned i = 0; i < 150; i++) {
		buf_printf(&hosts, "10:h%u.test ", i);
		buf_printf(&addrs, "10.0.0.%u ", i);
	}
	const struct bench_rrset many[] = {
		{ "x.test", MX, buf_cstr(&hosts) },
		{ "h0.test", A, "192.0.2.1" },
		{ "h1.test", A, buf_cstr(&addrs) },
		{ "h99.test", A, "192.0.2.77" },
		{ NULL, 0, NULL },
	};

	bench_open(&b, "smtpd_recipient_restrictions = check_sender_mx_access "
		       "inline:{{h120.test=REJECT}}");
	b.zone = &many[0];
	is_str(ask(&b, POLICY_ON_RCPT), "OK", "no more than 100 hosts");
	ok(strstr(b.f.log.p,
		  "server address count limit (100) exceeded for Sender address s@x.test") != NULL,
	   "nor more addresses");
	ok(strstr(b.asked, "h2.test") == NULL, "and nothing is asked behind them");
	bench_close(&b);
	buf_fini(&hosts);
	buf_fini(&addrs);
}

static void mx_backup(void)
{
	static const struct bench_rrset domains[] = {
		{ "backup.test", MX, "20:me.test 10:first.test 30:worse.test" },
		{ "named.test", MX, "10:first.test 20:local.test" },
		{ "first-too.test", MX, "10:first.test 10:me.test 20:me.test" },
		{ "none.test", MX, "10:first.test 20:worse.test" },
		{ "two.test", MX, "10:first.test 10:worse.test 20:me.test" },
		{ "temp.test", MX, "TEMP" },
		{ "null.test", MX, "NULL" },
		{ "lost.test", MX, "10:nowhere.test 20:me.test" },
		{ "first.test", A, "192.0.2.1" },
		{ "me.test", A, "127.0.0.1" },
		{ "worse.test", A, "198.51.100.1" },
		{ NULL, 0, NULL },
	};
	static const struct {
		const char *rcpt, *networks, *want, *asked;
	} rows[] = {
		{ "u@local.test", "", "OK", "" },
		{ "u@backup.test", "", "OK",
		  "backup.test/15 first.test/1 first.test/28 me.test/1 me.test/28 " },
		{ "u@named.test", "", "OK", "named.test/15 first.test/1 first.test/28 " },
		{ "u@first-too.test", "", "554 5.7.1", NULL },
		{ "u@none.test", "", "554 5.7.1", NULL },
		{ "u@temp.test", "",
		  "450 4.4.4 <u@temp.test>: Recipient address rejected: Unable to look up mail "
		  "exchanger information: Host not found, try again",
		  "temp.test/15 " },
		{ "u@null.test", "", "554 5.7.1", "null.test/15 " },
		{ "u@gone.test", "", "554 5.7.1", "gone.test/15 " },
		{ "u@lost.test", "", "OK", NULL },
		{ "u@lost.test", "192.0.2.0/24",
		  "450 4.4.4 <u@lost.test>: Recipient address rejected: Unable to look up mail "
		  "exchanger host nowhere.test: Name or service not known",
		  NULL },
		{ "u@backup.test", "192.0.2.0/24", "OK", NULL },
		{ "u@backup.test", "198.51.100.0/24", "554 5.7.1", NULL },
		{ "u@two.test", "192.0.2.0/24", "554 5.7.1", NULL },
		{ "u@two.test", "192.0.2.0/24, 198.51.100.0/24", "OK", NULL },
		{ "u@backup.test", "fail:x",
		  "450 4.4.4 <u@backup.test>: Recipient address rejected: "
		  "Unable to verify host first.test as mail exchanger",
		  NULL },
		{ "u@[192.0.2.1]", "", "554 5.7.1", "" },
		{ "u%backup.test@local.test", "", "OK", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		char conf[300];

		snprintf(conf, sizeof(conf),
			 "inet_protocols = all\npermit_mx_backup_networks = %s\n"
			 "smtpd_relay_restrictions = permit_mx_backup, reject",
			 rows[i].networks);
		bench_open(&b, conf);
		b.zone = domains;
		b.v.recipient = rows[i].rcpt;
		const char *got = ask(&b, POLICY_ON_RCPT);

		ok(strncmp(got, rows[i].want, strlen(rows[i].want)) == 0, "%s, networks %s: %s",
		   rows[i].rcpt, rows[i].networks, got);
		if (rows[i].asked != NULL)
			is_str(b.asked, rows[i].asked, "... and its questions");
		bench_close(&b);
	}
}

/* Tables that answer later: what was asked of the DNS in between is neither lost nor forgotten. */
static void remote_tables(void)
{
	static const struct bench_rrset domains[] = {
		{ "backup.test", MX, "10:first.test 20:ours.test" },
		{ "loop.test", MX, "10:ours.test 20:first.test" },
		{ "x.test", MX, "10:first.test" },
		{ "first.test", A, "192.0.2.1" },
		{ NULL, 0, NULL },
	};
	static const struct {
		const char *conf, *rcpt, *key, *value, *want;
	} rows[] = {
		{ "mydestination = tcp:127.0.0.1:9\nsmtpd_relay_restrictions = permit_mx_backup, "
		  "reject",
		  "u@backup.test", "ours.test", "x", "OK" },
		{ "mydestination = tcp:127.0.0.1:9\nsmtpd_relay_restrictions = permit_mx_backup, "
		  "reject",
		  "u@loop.test", "ours.test", "x",
		  "554 5.7.1 <u@loop.test>: Recipient address rejected: Access denied" },
		{ "smtpd_recipient_restrictions = check_sender_mx_access tcp:127.0.0.1:9",
		  "u@local.test", "192.0.2.1", "REJECT bad",
		  "554 5.7.1 <s@x.test>: Sender address rejected: bad" },
		{ "smtpd_recipient_restrictions = check_sender_mx_access tcp:127.0.0.1:9",
		  "u@local.test", "first.test", "OK", "451 4.3.5 Server configuration error" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		enum policy_verdict v;
		bool begun = false;

		bench_open(&b, rows[i].conf);
		b.zone = domains;
		b.v.recipient = rows[i].rcpt;
		b.f.table_key = rows[i].key;
		b.f.table_value = rows[i].value;
		b.f.memo = map_memo_new();
		do {
			map_memo_enter(b.f.memo);
			v = begun ? policy_resume(&b.run) : policy_start(&b.run, POLICY_ON_RCPT);
			map_memo_leave();
			begun = true;
			if (v == POLICY_NEED && b.run.need.kind == POLICY_NEED_DNS)
				bench_answer(&b);
			else if (v == POLICY_NEED)
				fake_tables_answer(&b.f);
		} while (v == POLICY_NEED);
		is_str(v == POLICY_PERMIT ? "OK" : b.run.reply, rows[i].want, "%s, %s",
		       rows[i].conf, rows[i].rcpt);
		map_memo_free(&b.f.memo);
		bench_close(&b);
	}
}

static void names_in_utf8(void)
{
	for (int old = 0; old < 2; old++) {
		struct bench b;
		char conf[200];

		snprintf(conf, sizeof(conf),
			 "enable_idna2003_compatibility = %s\nsmtpd_recipient_restrictions = "
			 "reject_unknown_sender_domain",
			 old ? "yes" : "no");
		bench_open(&b, conf);
		b.zone = zone;
		b.v.sender = "s@fa\xc3\x9f.test";
		ask(&b, POLICY_ON_RCPT);
		is_str(b.asked,
		       old ? "fass.test/15 fass.test/1 fass.test/28 "
			   : "xn--fa-hia.test/15 xn--fa-hia.test/1 xn--fa-hia.test/28 ",
		       "a name in UTF-8, by IDNA%d", old ? 2003 : 2008);
		bench_close(&b);
	}
}

/* A session that ends while its question is out. */
static void abandoned(void)
{
	struct bench b;

	bench_open(&b, "smtpd_recipient_restrictions = check_sender_mx_access "
		       "inline:{{h120.test=REJECT}}");
	ok(policy_start(&b.run, POLICY_ON_RCPT) == POLICY_NEED, "a question");
	policy_abandon(&b.run);
	ok(b.run.look == NULL, "nothing stays");
	bench_close(&b);
}

int main(void)
{
	rows_by_type();
	rows_by_sender();
	many_hosts();
	mx_backup();
	remote_tables();
	names_in_utf8();
	abandoned();
	return tap_done();
}
