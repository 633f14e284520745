/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Restrictions: verdicts, replies and effects by configuration, and what must not compile. */
#include "t/unit/policy/bench.h"

/* One list, one client, one question. */
static void check(const char *title, const char *main_cf, const char *want)
{
	struct bench b;

	bench_open(&b, main_cf);
	is_str(ask(&b, POLICY_ON_RCPT), want, "%s", title);
	bench_close(&b);
}

#define RCPT_REJECT "<u@local.test>: Recipient address rejected: "

static void test_fixed(void)
{
	check("empty lists permit local", "", "OK");
	check("reject", "smtpd_recipient_restrictions = reject",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("defer", "smtpd_recipient_restrictions = defer",
	      "450 4.3.2 " RCPT_REJECT "Try again later");
	check("permit ends the list", "smtpd_recipient_restrictions = permit, reject", "OK");
	check("a permit in one list does not skip another",
	      "smtpd_relay_restrictions = permit\nsmtpd_recipient_restrictions = reject",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("defer_if_permit", "smtpd_recipient_restrictions = defer_if_permit",
	      "450 4.7.0 " RCPT_REJECT "defer_if_permit requested");
	check("defer_if_permit, then reject",
	      "smtpd_recipient_restrictions = defer_if_permit, reject",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("defer_if_reject, then reject",
	      "smtpd_recipient_restrictions = defer_if_reject, reject",
	      "450 4.7.0 " RCPT_REJECT "defer_if_reject requested");
	check("defer_if_reject, then permit",
	      "smtpd_recipient_restrictions = defer_if_reject, permit", "OK");
	check("defer_if_reject of one list does not reach the next",
	      "smtpd_relay_restrictions = defer_if_reject, defer_unauth_destination\n"
	      "smtpd_recipient_restrictions = reject",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("soft_bounce", "soft_bounce = yes\nsmtpd_recipient_restrictions = reject",
	      "454 4.7.1 " RCPT_REJECT "Access denied");
	check("codes", "reject_code = 521\nsmtpd_recipient_restrictions = reject",
	      "521 5.7.1 " RCPT_REJECT "Access denied");
	check("names without case", "smtpd_recipient_restrictions = ReJeCt",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("sleep", "smtpd_recipient_restrictions = sleep 3, reject",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
}

/* What an address resolves to: "class address", "bad" when it is none. */
static void resolves(const char *main_cf, const char *addr, const char *want)
{
	static const char *const classes[] = { [ADDR_LOCAL] = "local",
					       [ADDR_VIRTUAL_ALIAS] = "alias",
					       [ADDR_VIRTUAL_MAILBOX] = "box",
					       [ADDR_RELAY] = "relay",
					       [ADDR_DEFAULT] = "far" };
	struct addr_resolved r = { 0 };
	struct buf text = BUF_INIT;
	struct bench b;

	bench_open(&b, main_cf);
	policy_resolve(b.f.listener.policy, addr, &r);
	buf_printf(&text, "%s %s", r.invalid ? "bad" : classes[r.class_id], buf_cstr(&r.addr));
	is_str(buf_cstr(&text), want, "%s with %s", addr, *main_cf != '\0' ? main_cf : "defaults");
	buf_fini(&text);
	buf_fini(&r.addr);
	bench_close(&b);
}

static void cert_access(const char *argument, const char *want)
{
	static const struct policy_tls tls = { .has_cert = true,
					       .subject = "",
					       .issuer = "",
					       .fingerprint = "C1",
					       .key_fingerprint = "K1" };
	struct buf text = BUF_INIT;
	struct bench b;

	buf_printf(&text, "smtpd_recipient_restrictions = check_ccert_access %s, reject", argument);
	bench_open(&b, buf_cstr(&text));
	b.v.tls = &tls;
	is_str(ask(&b, POLICY_ON_RCPT), want, "%s", argument);
	bench_close(&b);
	buf_fini(&text);
}

static void test_ccert(void)
{
	static const char denied[] = "554 5.7.1 " RCPT_REJECT "Access denied";
	cert_access("inline:{C1=OK}", "OK");
	cert_access("inline:{K1=OK}", "OK");
	cert_access("{ inline:{K1=OK} }", "OK");
	cert_access("{ inline:{K1=OK}, { search_order = cert_fingerprint } }", denied);
	cert_access("{ inline:{C1=OK} { search_order = pubkey_fingerprint } }", denied);
	cert_access("{ inline:{{C1=OK},{K1=REJECT}}, { search_order = pubkey_fingerprint, "
		    "cert_fingerprint } }",
		    "554 5.7.1 <mail.client.test[192.0.2.1]>: Client certificate rejected: "
		    "Access denied");
	cert_access("{ inline:{{C1=OK},{K1=REJECT}}, { search_order = cert_fingerprint "
		    "pubkey_fingerprint } }",
		    "OK");
}

static void test_resolve(void)
{
	static const char numeric[] = "resolve_numeric_domain = yes",
			  opaque[] = "resolve_dequoted_address = no";

	resolves("", "u@192.0.2.1", "bad u@192.0.2.1");
	resolves(numeric, "u@192.0.2.1", "far u@[192.0.2.1]");
	resolves(numeric, "u@127.0.0.1", "local u@[127.0.0.1]");
	resolves(numeric, "u@2001:db8::1", "far u@[IPv6:2001:db8::1]");
	resolves(numeric, "u@192.0.2", "bad u@192.0.2");
	resolves("", "a b%far.test@local.test", "far a b@far.test");
	resolves(opaque, "v@far.test@local.test", "local v@far.test@local.test");
	resolves(opaque, "a b%far.test@local.test", "local a b%far.test@local.test");
	resolves(opaque, "v%far.test@local.test", "far v@far.test");
	resolves(opaque, "v@far.test@elsewhere.test", "far v@far.test@elsewhere.test");
}

static void test_warn(void)
{
	struct bench b;

	bench_open(&b, "smtpd_recipient_restrictions = warn_if_reject reject, check_client_access "
		       "inline:{mail.client.test=OK}, reject");
	is_str(ask(&b, POLICY_ON_RCPT), "OK", "warn_if_reject only warns");
	is_str(b.log, "reject_warning: 554 5.7.1 " RCPT_REJECT "Access denied\n", "and logs");
	bench_close(&b);
	check("for one restriction only",
	      "smtpd_recipient_restrictions = warn_if_reject reject, reject",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("not for defer_if_permit",
	      "smtpd_recipient_restrictions = warn_if_reject defer_if_permit, "
	      "reject_unauth_destination",
	      "OK");
}

static void test_classes(void)
{
	check("class",
	      "smtpd_restriction_classes = strict\nstrict = reject\n"
	      "smtpd_recipient_restrictions = strict, permit",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("class that permits ends the outer list",
	      "smtpd_restriction_classes = lax\nlax = permit\n"
	      "smtpd_recipient_restrictions = lax, reject",
	      "OK");
	check("class without an opinion",
	      "smtpd_restriction_classes = lax\nlax = permit_mynetworks\n"
	      "smtpd_recipient_restrictions = lax, reject",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("class from an access table",
	      "smtpd_restriction_classes = strict\nstrict = reject\n"
	      "smtpd_recipient_restrictions = check_recipient_access inline:{local.test=strict}",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("class with a table, that only an access table names",
	      "smtpd_restriction_classes = strict\nstrict = check_sender_access "
	      "inline:{x.test=REJECT}\n"
	      "smtpd_recipient_restrictions = check_recipient_access inline:{local.test=strict}",
	      "554 5.7.1 <s@x.test>: Sender address rejected: Access denied");
	check("class with an error, that only an access table names",
	      "smtpd_restriction_classes = odd, outer\nodd = reject_nobody, permit\nouter = odd\n"
	      "smtpd_recipient_restrictions = check_recipient_access inline:{local.test=outer}, "
	      "permit",
	      "451 4.3.5 Server configuration error");
	check("list in an access table",
	      "smtpd_recipient_restrictions = check_recipient_access "
	      "inline:{ {local.test = permit_mynetworks, reject} }",
	      "554 5.7.1 " RCPT_REJECT "Access denied");
	check("table in an access table",
	      "smtpd_recipient_restrictions = check_recipient_access "
	      "inline:{ {local.test = check_sender_access static:OK} }",
	      "451 4.3.5 Server configuration error");
	check("nonsense in an access table",
	      "smtpd_recipient_restrictions = check_recipient_access inline:{local.test=florp}",
	      "451 4.3.5 Server configuration error");
	check("bare table in a class looks up what its list does",
	      "smtpd_restriction_classes = c\nc = inline:{s@x.test=REJECT}\n"
	      "smtpd_sender_restrictions = c",
	      "554 5.7.1 <s@x.test>: Sender address rejected: Access denied");
}

static void test_actions(void)
{
	static const struct {
		const char *action, *want;
	} rows[] = {
		{ "OK", "OK" },
		{ "relay", "OK" },
		{ "1234", "OK" },
		{ "DUNNO", "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "INFO some text", "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "REJECT", "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "REJECT go away", "554 5.7.1 " RCPT_REJECT "go away" },
		{ "REJECT 5.7.9 go away", "554 5.7.9 " RCPT_REJECT "go away" },
		{ "REJECT 5.1.7 bad", "554 5.1.3 " RCPT_REJECT "bad" },
		{ "DEFER later", "450 4.7.1 " RCPT_REJECT "later" },
		{ "521 gone", "521 5.7.1 " RCPT_REJECT "gone" },
		{ "450 4.2.2 full", "450 4.2.2 " RCPT_REJECT "full" },
		{ "DEFER_IF_PERMIT", "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "DEFER_IF_REJECT maybe", "450 4.7.1 " RCPT_REJECT "maybe" },
		{ "DISCARD", "OK" },
		{ "permit", "OK" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char conf[300];

		snprintf(conf, sizeof(conf),
			 "smtpd_recipient_restrictions = check_recipient_access "
			 "inline:{ {local.test = %s} }, reject",
			 rows[i].action);
		check(rows[i].action, conf, rows[i].want);
	}
}

static void test_effects(void)
{
	struct bench b;

	bench_open(&b, "smtpd_recipient_restrictions = "
		       "check_recipient_access inline:{ {local.test = HOLD} }, "
		       "check_sender_access inline:{ {x.test = FILTER smtp:[f]} }, "
		       "check_client_access inline:{ {192.0.2 = REDIRECT r@x.test} }, "
		       "check_helo_access inline:{ {client.test = BCC b@x.test} }, "
		       "check_helo_access inline:{ {helo.client.test = PREPEND X-A: b} }, "
		       "check_helo_access inline:{ {helo.client.test = PREPEND no header} }, "
		       "check_helo_access inline:{ {helo.client.test = FILTER nothing} }");
	is_str(ask(&b, POLICY_ON_RCPT), "OK", "effects do not refuse");
	ask(&b, POLICY_ON_RCPT);
	ok(b.st.effects.hold, "hold");
	is_str(b.st.effects.filter, "smtp:[f]", "filter");
	is_str(b.st.effects.redirect, "r@x.test", "redirect, by network");
	ok(b.st.effects.bcc != NULL && b.st.effects.bcc->next == NULL &&
		   strcmp(b.st.effects.bcc->text, "b@x.test") == 0,
	   "bcc, by parent domain, once");
	ok(b.st.effects.prepend != NULL && b.st.effects.prepend->next == NULL &&
		   strcmp(b.st.effects.prepend->text, "X-A: b") == 0,
	   "prepend, once, headers only");
	ok(strstr(buf_cstr(&b.f.log), "requires header: text") != NULL, "and a complaint");
	policy_state_reset_tx(&b.st);
	ok(!b.st.effects.hold && b.st.effects.bcc == NULL, "they end with the transaction");
	bench_close(&b);

	bench_open(&b, "smtpd_delay_reject = no\nsmtpd_helo_restrictions = check_helo_access "
		       "inline:{ {client.test = HOLD} }");
	is_str(ask(&b, POLICY_ON_HELO), "OK", "no message to hold yet");
	ok(!b.st.effects.hold, "so nothing is held");
	bench_close(&b);
}

static void test_keys(void)
{
	static const struct {
		const char *list, *key, *want;
	} rows[] = {
		{ "recipient", "u@local.test", "554" },
		{ "recipient", "local.test", "554" },
		{ "recipient", "test", "554" },
		{ "recipient", "u@", "554" },
		{ "recipient", "other@local.test", "OK" },
		{ "recipient", "ocal.test", "OK" },
		{ "sender", "s@x.test", "554" },
		{ "sender", "x.test", "554" },
		{ "client", "192.0.2.1", "554" },
		{ "client", "192.0", "554" },
		{ "client", "192.0.2.", "OK" },
		{ "client", "client.test", "554" },
		{ "client", "192.0.2.11", "OK" },
		{ "helo", "helo.client.test", "554" },
		{ "helo", "test", "554" },
		{ "helo", "elo.client.test", "OK" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		char conf[200];

		snprintf(conf, sizeof(conf),
			 "smtpd_recipient_restrictions = check_%s_access inline:{%s=REJECT}",
			 rows[i].list, rows[i].key);
		bench_open(&b, conf);
		const char *got = ask(&b, POLICY_ON_RCPT);

		ok(strncmp(got, rows[i].want, strlen(rows[i].want)) == 0, "check_%s_access %s: %s",
		   rows[i].list, rows[i].key, got);
		bench_close(&b);
	}
	check("null sender", "smtpd_sender_restrictions = check_sender_access inline:{<>=REJECT}",
	      "OK");
	struct bench b;

	bench_open(&b, "smtpd_sender_restrictions = check_sender_access inline:{<>=REJECT}");
	b.v.sender = "";
	is_str(ask(&b, POLICY_ON_RCPT), "554 5.7.1 <>: Sender address rejected: Access denied",
	       "null sender is looked up as <>");
	bench_close(&b);
	bench_open(&b, "recipient_delimiter = +\nsmtpd_recipient_restrictions = "
		       "check_recipient_access inline:{u@local.test=REJECT}");
	b.v.recipient = "u+ext@local.test";
	is_str(ask(&b, POLICY_ON_RCPT),
	       "554 5.7.1 <u+ext@local.test>: Recipient address rejected: Access denied",
	       "without the extension");
	bench_close(&b);
	check("a dead table defers, whatever it would have said",
	      "smtpd_recipient_restrictions = check_recipient_access fail:test, permit",
	      "451 4.3.5 " RCPT_REJECT "Server configuration error");
	check("a table whose file is missing defers",
	      "smtpd_recipient_restrictions = check_recipient_access texthash:/nonexistent/file",
	      "451 4.3.5 " RCPT_REJECT "Server configuration error");
	check("dead mynetworks defers",
	      "mynetworks = fail:test\nsmtpd_recipient_restrictions = permit_mynetworks, permit",
	      "451 4.3.0 <192.0.2.1>: Temporary lookup failure");
}

static void test_names(void)
{
	static const struct {
		const char *restriction, *helo, *sender, *want;
	} rows[] = {
		{ "reject_invalid_helo_hostname", "ok.test", "", "OK" },
		{ "reject_invalid_helo_hostname", "ok.test.", "", "OK" },
		{ "reject_invalid_helo_hostname", "1.2.3.4", "", "OK" },
		{ "reject_invalid_helo_hostname", "[1.2.3.4]", "", "OK" },
		{ "reject_invalid_helo_hostname", "[IPv6:::1]", "", "OK" },
		{ "reject_invalid_helo_hostname", "[1.2.3]", "",
		  "501 5.5.2 <[1.2.3]>: Helo command rejected: invalid ip address" },
		{ "reject_invalid_hostname", "a..b", "",
		  "501 5.5.2 <a..b>: Helo command rejected: Invalid name" },
		{ "reject_non_fqdn_helo_hostname", "plain", "",
		  "504 5.5.2 <plain>: Helo command rejected: need fully-qualified hostname" },
		{ "reject_non_fqdn_helo_hostname", "a.test", "", "OK" },
		{ "reject_non_fqdn_sender", "h", "", "OK" },
		{ "reject_non_fqdn_sender", "h", "a@[1.2.3.4]", "OK" },
		{ "reject_non_fqdn_sender", "h", "a@b.test", "OK" },
		{ "reject_non_fqdn_sender", "h", "a@b",
		  "504 5.5.2 <a@b>: Sender address rejected: need fully-qualified address" },
		{ "reject_non_fqdn_sender", "h", "a",
		  "504 5.5.2 <a>: Sender address rejected: need fully-qualified address" },
		{ "reject_unlisted_sender", "h", "nobody@alias.test",
		  "550 5.1.0 <nobody@alias.test>: Sender address rejected: User unknown in virtual "
		  "alias table" },
		{ "reject_unlisted_sender", "h", "someone@elsewhere.test", "OK" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		char conf[200];

		snprintf(conf, sizeof(conf),
			 "virtual_alias_domains = alias.test\nsmtpd_recipient_restrictions = %s",
			 rows[i].restriction);
		bench_open(&b, conf);
		b.v.helo = rows[i].helo;
		b.v.sender = rows[i].sender;
		is_str(ask(&b, POLICY_ON_RCPT), rows[i].want, "%s %s %s", rows[i].restriction,
		       rows[i].helo, rows[i].sender);
		bench_close(&b);
	}
}

/* Lists in the DNS: what is asked, and what the client hears. */
static void test_rbl(void)
{
	static const struct {
		const char *conf, *addr, *txt;
		enum policy_dns_status dns;
		const char *asked, *want;
	} rows[] = {
		{ "reject_rbl_client bl.test", "2001:db8::12", "", POLICY_DNS_NONE,
		  "2.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test", "OK" },
		{ "reject_rbl_client bl.test", "192.0.2.1", "see http://bl.test/ \001",
		  POLICY_DNS_OK, "1.2.0.192.bl.test",
		  "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.test; "
		  "see "
		  "http://bl.test/ _" },
		{ "reject_rbl_client bl.test=127.0.0.2", "192.0.2.1", "", POLICY_DNS_OK,
		  "1.2.0.192.bl.test",
		  "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.test" },
		{ "reject_rhsbl_client bl.test", "192.0.2.1", "", POLICY_DNS_OK,
		  "mail.client.test.bl.test",
		  "554 5.7.1 Service unavailable; Client host [mail.client.test] blocked using "
		  "bl.test" },
		{ "reject_rhsbl_reverse_client bl.test", "192.0.2.1", "", POLICY_DNS_OK,
		  "mail.client.test.bl.test",
		  "554 5.7.1 Service unavailable; Unverified Client host [mail.client.test] "
		  "blocked "
		  "using bl.test" },
		{ "reject_rhsbl_helo bl.test", "192.0.2.1", "", POLICY_DNS_OK,
		  "helo.client.test.bl.test",
		  "554 5.7.1 Service unavailable; Helo command [helo.client.test] blocked using "
		  "bl.test" },
		{ "reject_rhsbl_sender bl.test", "192.0.2.1", "", POLICY_DNS_OK, "x.test.bl.test",
		  "554 5.7.1 Service unavailable; Sender address [s@x.test] blocked using "
		  "bl.test" },
		{ "reject_rhsbl_recipient bl.test", "192.0.2.1", "", POLICY_DNS_OK,
		  "local.test.bl.test",
		  "554 5.7.1 Service unavailable; Recipient address [u@local.test] blocked using "
		  "bl.test" },
		{ "reject_rhsbl_sender bl.test", "192.0.2.1", "", POLICY_DNS_TEMP, "x.test.bl.test",
		  "OK" },
		{ "permit_dnswl_client wl.test, reject", "192.0.2.1", "", POLICY_DNS_OK,
		  "1.2.0.192.wl.test", "OK" },
		{ "permit_dnswl_client wl.test=127.0.1.2, reject", "192.0.2.1", "", POLICY_DNS_OK,
		  "1.2.0.192.wl.test", "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "permit_dnswl_client wl.test, reject", "192.0.2.1", "", POLICY_DNS_NONE,
		  "1.2.0.192.wl.test", "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "permit_dnswl_client wl.test, reject", "192.0.2.1", "", POLICY_DNS_TEMP,
		  "1.2.0.192.wl.test",
		  "450 4.7.1 <192.0.2.1>: Client host rejected: Service unavailable" },
		{ "permit_rhswl_client wl.test, reject", "192.0.2.1", "", POLICY_DNS_OK,
		  "mail.client.test.wl.test", "OK" },
		{ "reject_rbl_client bl.test\ndefault_rbl_reply = $rbl_code $rbl_what|$rbl_class|"
		  "$rbl_domain|$rbl_txt|$client_name|$helo_name|$sender_domain|$recipient",
		  "192.0.2.1", "why", POLICY_DNS_OK, "1.2.0.192.bl.test",
		  "554 5.7.1 192.0.2.1|Client "
		  "host|bl.test|why|mail.client.test|helo.client.test|x.test|"
		  "u@local.test" },
		{ "reject_rbl_client bl.test\nmaps_rbl_reject_code = 450", "192.0.2.1", "",
		  POLICY_DNS_OK, "1.2.0.192.bl.test",
		  "450 4.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.test" },
		{ "reject_rbl_client bl.test=127.0.0.2\nrbl_reply_maps = "
		  "inline:{{bl.test=$$rbl_code 5.7.9 "
		  "go to $${rbl_domain}$${rbl_reason?, $$rbl_reason}}}",
		  "192.0.2.1", "", POLICY_DNS_OK, "1.2.0.192.bl.test", "554 5.7.9 go to bl.test" },
		{ "reject_rbl_client bl.test\nrbl_reply_maps = static:nonsense", "192.0.2.1", "",
		  POLICY_DNS_OK, "1.2.0.192.bl.test", "450 4.7.1 Service unavailable" },
		{ "reject_rbl_client bl.test\nrbl_reply_maps = static:521", "192.0.2.1", "",
		  POLICY_DNS_OK, "1.2.0.192.bl.test", "450 4.7.1 Service unavailable" },
		{ "reject_rbl_client bl.test\nrbl_reply_maps = fail:x", "192.0.2.1", "",
		  POLICY_DNS_OK, "1.2.0.192.bl.test", "451 4.3.5 Server configuration error" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		char conf[400];

		snprintf(conf, sizeof(conf), "smtpd_recipient_restrictions = %s", rows[i].conf);
		bench_open(&b, conf);
		b.v.client_addr = rows[i].addr;
		b.f.dns = (struct policy_dns){ .status = rows[i].dns,
					       .a_count = 1,
					       .a = { 0x7f000002 } };
		snprintf(b.f.dns.txt, sizeof(b.f.dns.txt), "%s", rows[i].txt);
		is_str(ask(&b, POLICY_ON_RCPT), rows[i].want, "%s", rows[i].conf);
		is_str(b.run.need.name, rows[i].asked, "and what was asked for");
		bench_close(&b);
	}
	static const struct {
		const char *conf, *helo, *sender, *rcpt, *client;
	} not_asked[] = {
		{ "reject_rhsbl_helo bl.test", "[192.0.2.1]", "s@x.test", "u@local.test",
		  "a.test" },
		{ "reject_rhsbl_helo bl.test", "192.0.2.1", "s@x.test", "u@local.test", "a.test" },
		{ "reject_rhsbl_helo bl.test", "a..b", "s@x.test", "u@local.test", "a.test" },
		{ "reject_rhsbl_sender bl.test", "x", "", "u@local.test", "a.test" },
		{ "reject_rhsbl_sender bl.test", "x", "s@[192.0.2.1]", "u@local.test", "a.test" },
		{ "reject_rhsbl_client bl.test", "x", "s@x.test", "u@local.test", "unknown" },
		/* a list must not make a relay of us */
		{ "permit_dnswl_client wl.test, reject_unauth_destination", "x", "s@x.test",
		  "u@foreign.test", "a.test" },
	};
	for (size_t i = 0; i < ARRAY_LEN(not_asked); i++) {
		struct bench b;
		char conf[200];

		snprintf(conf, sizeof(conf), "smtpd_recipient_restrictions = %s",
			 not_asked[i].conf);
		bench_open(&b, conf);
		b.v.helo = not_asked[i].helo;
		b.v.sender = not_asked[i].sender;
		b.v.recipient = not_asked[i].rcpt;
		b.v.client_name = not_asked[i].client;
		b.f.dns = (struct policy_dns){ .status = POLICY_DNS_OK,
					       .a_count = 1,
					       .a = { 0x7f000002 } };
		b.run.need.name[0] = '\0';
		ask(&b, POLICY_ON_RCPT);
		is_str(b.run.need.name, "", "nothing to ask: %s", not_asked[i].conf);
		bench_close(&b);
	}
}

static void test_log_permit(void)
{
	static const struct {
		const char *conf, *log;
	} rows[] = {
		{ "smtpd_recipient_restrictions = permit\nsmtpd_log_access_permit_actions = permit",
		  "permit: action=permit for Recipient address=u@local.test\n" },
		{ "smtpd_recipient_restrictions = permit\nsmtpd_log_access_permit_actions = OK",
		  "" },
		{ "smtpd_recipient_restrictions = permit_mynetworks\nsmtpd_relay_restrictions = "
		  "reject_unauth_destination\nmynetworks = 192.0.2.0/24\n"
		  "smtpd_log_access_permit_actions = static:all",
		  "permit: action=permit_mynetworks for Client "
		  "host=mail.client.test[192.0.2.1]\n" },
		{ "smtpd_recipient_restrictions = defer_if_permit, permit\n"
		  "smtpd_log_access_permit_actions = static:all",
		  "reject: 450 4.7.0 " RCPT_REJECT "defer_if_permit requested\n" },
		{ "smtpd_recipient_restrictions = permit_auth_destination\n"
		  "smtpd_log_access_permit_actions = static:all",
		  "permit: action=permit_auth_destination for Recipient address=u@local.test\n" },
		{ "smtpd_recipient_restrictions = check_sender_access inline:{x.test=ok}\n"
		  "smtpd_log_access_permit_actions = OK",
		  "permit: action=ok for Sender address=s@x.test from inline:{x.test=ok}\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;

		bench_open(&b, rows[i].conf);
		ask(&b, POLICY_ON_RCPT);
		is_str(b.log, rows[i].log, "%s", rows[i].conf);
		bench_close(&b);
	}
}

static void test_dns(void)
{
	static const struct {
		const char *restriction;
		enum policy_dns_status dns;
		const char *want;
	} rows[] = {
		{ "reject_unknown_sender_domain", POLICY_DNS_OK, "OK" },
		{ "reject_unknown_sender_domain", POLICY_DNS_NONE,
		  "450 4.1.8 <s@x.test>: Sender address rejected: Domain not found" },
		{ "reject_unknown_sender_domain", POLICY_DNS_TEMP,
		  "450 4.1.8 <s@x.test>: Sender address rejected: Domain not found" },
		{ "reject_unknown_sender_domain", POLICY_DNS_NULLMX,
		  "550 5.7.27 <s@x.test>: Sender address rejected: Domain x.test does not accept "
		  "mail "
		  "(nullMX)" },
		{ "reject_unknown_sender_domain, reject", POLICY_DNS_TEMP,
		  "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "reject_unknown_sender_domain, reject\nreject_tempfail_action = defer",
		  POLICY_DNS_TEMP,
		  "450 4.1.8 <s@x.test>: Sender address rejected: Domain not found" },
		{ "reject_unknown_sender_domain, reject\nunknown_address_tempfail_action = defer",
		  POLICY_DNS_TEMP,
		  "450 4.1.8 <s@x.test>: Sender address rejected: Domain not found" },
		{ "reject_unknown_helo_hostname, reject\n"
		  "unknown_helo_hostname_tempfail_action = defer",
		  POLICY_DNS_TEMP,
		  "450 4.7.1 <helo.client.test>: Helo command rejected: Host not found" },
		{ "reject_unknown_helo_hostname, reject\nreject_tempfail_action = defer\n"
		  "unknown_helo_hostname_tempfail_action = defer_if_permit",
		  POLICY_DNS_TEMP, "554 5.7.1 " RCPT_REJECT "Access denied" },
		{ "reject_unknown_recipient_domain", POLICY_DNS_NONE, "OK" },
		{ "reject_unknown_helo_hostname", POLICY_DNS_NULLMX, "OK" },
		{ "reject_unknown_helo_hostname", POLICY_DNS_NONE,
		  "450 4.7.1 <helo.client.test>: Helo command rejected: Host not found" },
		{ "reject_rbl_client bl.test", POLICY_DNS_NONE, "OK" },
		{ "reject_rbl_client bl.test", POLICY_DNS_TEMP, "OK" },
		{ "reject_rbl_client bl.test", POLICY_DNS_OK,
		  "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.test" },
		{ "reject_rbl_client bl.test=127.0.0.[3;7..9]", POLICY_DNS_OK, "OK" },
		{ "reject_rbl_client bl.test=127.0.0.[1..4]", POLICY_DNS_OK,
		  "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.test" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct bench b;
		char conf[200];

		snprintf(conf, sizeof(conf), "smtpd_recipient_restrictions = %s",
			 rows[i].restriction);
		bench_open(&b, conf);
		b.f.dns = (struct policy_dns){ .status = rows[i].dns,
					       .a_count = 1,
					       .a = { 0x7f000002 } };
		is_str(ask(&b, POLICY_ON_RCPT), rows[i].want, "%s, answer %d", rows[i].restriction,
		       rows[i].dns);
		bench_close(&b);
	}
	struct bench b;

	bench_open(&b, "smtpd_recipient_restrictions = reject_unknown_client_hostname");
	b.v.name_status = POLICY_NAME_TEMP;
	is_str(ask(&b, POLICY_ON_RCPT),
	       "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
	       "unknown client");
	bench_close(&b);
}

static void test_delay(void)
{
	static const char lists[] = "smtpd_client_restrictions = check_client_access "
				    "inline:{192.0.2.1=REJECT}\n";
	struct bench b;
	char conf[300];

	bench_open(&b, lists);
	is_str(ask(&b, POLICY_ON_CONNECT), "OK", "delayed: not at connect");
	is_str(ask(&b, POLICY_ON_RCPT),
	       "554 5.7.1 <mail.client.test[192.0.2.1]>: Client host rejected: Access denied",
	       "delayed: at RCPT");
	b.v.recipient = "postmaster";
	is_str(ask(&b, POLICY_ON_RCPT), "OK", "postmaster can be reached");
	bench_close(&b);
	snprintf(conf, sizeof(conf), "smtpd_delay_reject = no\n%s", lists);
	bench_open(&b, conf);
	is_str(ask(&b, POLICY_ON_CONNECT),
	       "554 5.7.1 <mail.client.test[192.0.2.1]>: Client host rejected: Access denied",
	       "not delayed: at connect");
	is_str(ask(&b, POLICY_ON_RCPT), "OK", "not delayed: not at RCPT");
	bench_close(&b);
	bench_open(&b, "smtpd_client_restrictions = defer_if_permit\n");
	is_str(ask(&b, POLICY_ON_RCPT),
	       "450 4.7.0 <mail.client.test[192.0.2.1]>: Client host rejected: defer_if_permit "
	       "requested",
	       "a deferral of the client stage reaches RCPT");
	bench_close(&b);
}

static void test_data(void)
{
	struct bench b;

	bench_open(&b, "smtpd_data_restrictions = reject_multi_recipient_bounce\n");
	b.v.sender = "";
	b.v.rcpt_count = 1;
	is_str(ask(&b, POLICY_ON_DATA), "OK", "a bounce with one recipient");
	b.v.rcpt_count = 2;
	is_str(ask(&b, POLICY_ON_DATA),
	       "550 5.5.3 <DATA>: Data command rejected: Multi-recipient bounce", "with two");
	bench_close(&b);
}

static void test_listed(void)
{
	static const char conf[] = "local_recipient_maps = inline:{known=x}\n"
				   "virtual_alias_domains = alias.test\n"
				   "virtual_alias_maps = inline:{a@alias.test=known}\n"
				   "virtual_mailbox_domains = box.test\n"
				   "virtual_mailbox_maps = inline:{b@box.test=b/}\n"
				   "relay_domains = relay.test\n"
				   "relay_recipient_maps = inline:{r@relay.test=x}\n";
	static const struct {
		const char *rcpt, *want;
	} rows[] = {
		{ "known@local.test", "OK" },
		{ "postmaster@local.test", "OK" },
		{ "double-bounce@local.test", "OK" },
		{ "nobody@local.test",
		  "550 5.1.1 <nobody@local.test>: Recipient address rejected: User "
		  "unknown in local recipient table" },
		{ "a@alias.test", "OK" },
		{ "no@alias.test",
		  "550 5.1.1 <no@alias.test>: Recipient address rejected: User unknown "
		  "in virtual alias table" },
		{ "b@box.test", "OK" },
		{ "no@box.test",
		  "550 5.1.1 <no@box.test>: Recipient address rejected: User unknown in "
		  "virtual mailbox table" },
		{ "r@relay.test", "OK" },
		{ "no@relay.test",
		  "550 5.1.1 <no@relay.test>: Recipient address rejected: User unknown "
		  "in relay recipient table" },
	};
	struct bench b;

	bench_open(&b, conf);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		b.v.recipient = rows[i].rcpt;
		is_str(ask(&b, POLICY_ON_RCPT), rows[i].want, "listed: %s", rows[i].rcpt);
	}
	bench_close(&b);
	check("off",
	      "local_recipient_maps = inline:{known=x}\nsmtpd_reject_unlisted_recipient = no",
	      "OK");
	check("without the table's name",
	      "local_recipient_maps = inline:{known=x}\nshow_user_unknown_table_name = no",
	      "550 5.1.1 " RCPT_REJECT "User unknown");
	check("dead table", "local_recipient_maps = fail:x",
	      "451 4.3.0 <u@local.test>: Temporary lookup failure");
}

/* ---- configuration ---- */

static void test_bad_conf(void)
{
	static const struct {
		const char *conf, *complaint;
	} rows[] = {
		{ "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = permit_mynetworks",
		  "specify at least one working instance of" },
		{ "smtpd_relay_restrictions = permit, reject_unauth_destination",
		  "specify at least one working instance of" },
		{ "smtpd_relay_restrictions = warn_if_reject reject_unauth_destination",
		  "specify at least one working instance of" },
		{ "smtpd_recipient_restrictions = florp",
		  "main.cf, line 9: parameter smtpd_recipient_restrictions: unknown smtpd "
		  "restriction: \"florp\"" },
		{ "smtpd_recipient_restrictions = check_relay_domains", "has been removed" },
		{ "smtpd_recipient_restrictions = check_client_access", "needs an argument" },
		{ "smtpd_recipient_restrictions = check_client_access reject",
		  "must be followed by type:table" },
		{ "smtpd_recipient_restrictions = check_ccert_access { static:x, { search_order = "
		  "subject_cn } }",
		  "must be followed by type:table or {" },
		{ "smtpd_recipient_restrictions = check_ccert_access { static:x, { order = "
		  "cert_fingerprint } }",
		  "must be followed by type:table or {" },
		{ "smtpd_recipient_restrictions = check_ccert_access { }",
		  "must be followed by type:table or {" },
		{ "smtpd_recipient_restrictions = check_ccert_access {",
		  "must be followed by type:table or {" },
		{ "smtpd_recipient_restrictions = sleep x", "must be followed by a number" },
		{ "smtpd_recipient_restrictions = check_client_access nosuch:/x", "nosuch" },
		{ "smtpd_data_restrictions = static:x", "specify one of" },
		{ "smtpd_restriction_classes = c\nsmtpd_recipient_restrictions = c",
		  "needs a definition" },
		{ "smtpd_restriction_classes = c, d\nc = d\nd = c\nsmtpd_recipient_restrictions = "
		  "c",
		  "contains itself" },
		{ "smtpd_restriction_classes = permit", "is the name of a restriction" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf_diag d;
		struct fake f;

		conf_diag_init(&d);
		int err = fake_conf(&f, rows[i].conf, &d);

		ok(err != 0 && d.errors > 0 && strstr(buf_cstr(&d.text), rows[i].complaint) != NULL,
		   "refused: %s", rows[i].complaint);
		if (strstr(buf_cstr(&d.text), rows[i].complaint) == NULL)
			printf("# %s: %s\n", rows[i].conf, buf_cstr(&d.text));
		conf_diag_fini(&d);
		fake_fini(&f);
	}
	static const char *const good[] = {
		"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions = "
		"reject_unauth_destination",
		"smtpd_restriction_classes = c\nc = defer_unauth_destination\n"
		"smtpd_relay_restrictions = permit_mynetworks, c",
		"smtpd_client_restrictions = reject_rhsbl_client x.test",
		"smtpd_recipient_restrictions = permit_dnswl_client x.test, reject",
		"smtpd_restriction_classes = c, d\nc = d\nd = c",
	};

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		struct conf_diag d;
		struct fake f;

		conf_diag_init(&d);
		is_int(fake_conf(&f, good[i], &d), 0, "accepted: list %zu", i);
		conf_diag_fini(&d);
		fake_fini(&f);
	}
}

/* doc/restrictions.md has every name, and the removed ones in a part of their own. */
static void test_doc(void)
{
	struct buf doc = BUF_INIT;

	is_int(io_read_file(TOP_SRCDIR "/doc/restrictions.md", 1 << 20, &doc), 0, "document");
	const char *split = strstr(buf_cstr(&doc), "## Removed from Postfix");

	ok(split != NULL, "its second part");
	for (unsigned i = 0; i < restriction_count && split != NULL; i++) {
		const struct restriction *r = &restriction_table[i];
		bool acts = r->fn != NULL || r->warn_next;
		char row[100];
		const char *at;

		snprintf(row, sizeof(row), "%s%s%s", acts ? "\n| " : "", r->name, acts ? " |" : "");
		at = acts ? strstr(doc.p, row) : strstr(split, row);
		ok(at != NULL && (at < split) == acts, "%s is documented", r->name);
	}
	buf_fini(&doc);
}

static void test_table(void)
{
	for (unsigned i = 0; i < restriction_count; i++) {
		const struct restriction *r = &restriction_table[i];

		ok(restriction_find(sv_from(r->name)) == r, "%s is found under its name", r->name);
		if (r->fn != NULL && r->text == NULL)
			ok(false, "%s has a text", r->name);
	}
}

int main(void)
{
	clock_fake_set(1000000);
	test_fixed();
	test_resolve();
	test_ccert();
	test_warn();
	test_classes();
	test_actions();
	test_effects();
	test_keys();
	test_names();
	test_dns();
	test_rbl();
	test_log_permit();
	test_delay();
	test_data();
	test_listed();
	test_bad_conf();
	test_table();
	test_doc();
	return tap_done();
}
