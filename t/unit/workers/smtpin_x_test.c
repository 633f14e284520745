/* SPDX-License-Identifier: GPL-3.0-or-later */
/* XCLIENT and XFORWARD: who may, what is taken, what is refused, and what becomes of it. */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

#define TRUSTED                                                                                    \
	"smtpd_authorized_xclient_hosts = 192.0.2.1\nsmtpd_authorized_xforward_hosts = "           \
	"192.0.2.1\nsmtpd_banner = hi\n"

static void open_fake(struct fake *f, const char *more, const char *addr)
{
	char conf[800];

	snprintf(conf, sizeof(conf), TRUSTED "%s", more);
	fake_conf(f, conf, NULL);
	fake_connect(f, addr);
	fake_take(f);
}

static void test_trust(void)
{
	struct fake f;

	open_fake(&f, "", "192.0.2.1");
	const char *ehlo = fake_say(&f, "EHLO c.test\r\n");

	ok(strstr(ehlo, "250-XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR "
			"DESTPORT\r\n") &&
		   strstr(ehlo, "250-XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT\r\n"),
	   "announced to whom it is for");
	is_str(fake_say(&f, "XCLIENT ADDR=192.0.2.66\r\n"), "220 hi\r\n", "once");
	is_str(fake_say(&f, "XCLIENT ADDR=192.0.2.1\r\n"),
	       "550 5.7.0 Error: insufficient authorization\r\n",
	       "who has become another cannot go back");
	is_str(fake_say(&f, "XFORWARD ADDR=192.0.2.1\r\n"), "250 2.0.0 Ok\r\n",
	       "but may forward, as with Postfix");
	fake_fini(&f);
	open_fake(&f, "", "192.0.2.66");
	ehlo = fake_say(&f, "EHLO c.test\r\n");
	ok(strstr(ehlo, "XCLIENT") == NULL && strstr(ehlo, "XFORWARD") == NULL, "not to others");
	is_str(fake_say(&f, "XCLIENT ADDR=192.0.2.1\r\n"),
	       "550 5.7.0 Error: insufficient authorization\r\n", "others may not");
	is_str(fake_say(&f, "XFORWARD ADDR=192.0.2.1\r\n"),
	       "550 5.7.0 Error: insufficient authorization\r\n", "neither");
	is_str(f.s.addr, "192.0.2.66", "and nothing has changed");
	fake_fini(&f);
}

static void test_syntax(void)
{
	static const struct {
		const char *say, *reply;
	} rows[] = {
		{ "XCLIENT", "501 5.5.4 Syntax: XCLIENT attribute=value..." },
		{ "XCLIENT NAME", "501 5.5.4 Error: attribute=value expected" },
		{ "XCLIENT NAME=", "501 5.5.4 Error: attribute=value expected" },
		{ "XCLIENT =x", "501 5.5.4 Bad XCLIENT attribute name: " },
		{ "XCLIENT COLOUR=red", "501 5.5.4 Bad XCLIENT attribute name: COLOUR" },
		{ "XCLIENT LOGINS=me", "501 5.5.4 Bad XCLIENT attribute name: LOGINS" },
		{ "XCLIENT NAME=a+20b", "501 5.5.4 Bad NAME syntax: a b" },
		{ "XCLIENT NAME=good.test REVERSE_NAME=-", "501 5.5.4 Bad REVERSE_NAME syntax: -" },
		{ "XCLIENT ADDR=300.1.1.1", "501 5.5.4 Bad ADDR syntax: 300.1.1.1" },
		{ "XCLIENT ADDR=2001:db8::1", "501 5.5.4 Bad ADDR syntax: 2001:db8::1" },
		{ "XCLIENT ADDR=1.2.3.4+0A", "501 5.5.4 Bad ADDR syntax: 1.2.3.4+0A" },
		{ "XCLIENT PORT=123456", "501 5.5.4 Bad PORT syntax: 123456" },
		{ "XCLIENT DESTPORT=x", "501 5.5.4 Bad DESTPORT syntax: x" },
		{ "XCLIENT PROTO=LMTP", "501 5.5.4 Bad PROTO syntax: LMTP" },
		{ "XFORWARD", "501 5.5.4 Syntax: XFORWARD attribute=value..." },
		{ "XFORWARD REVERSE_NAME=x.test",
		  "501 5.5.4 Bad XFORWARD attribute name: REVERSE_NAME" },
		{ "XFORWARD NAME=a+3Cb", "501 5.5.4 Bad NAME syntax: a?b" },
		{ "XFORWARD SOURCE=MOON", "501 5.5.4 Bad SOURCE syntax: MOON" },
		{ "XFORWARD ADDR=IPv6:2001:db8::1 PORT=[UNAVAILABLE] helo=x", "250 2.0.0 Ok" },
	};
	struct fake f;
	char line[600], want[600];

	open_fake(&f, "smtpd_hard_error_limit = 1000\nsmtpd_soft_error_limit = 1000\n",
		  "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(line, sizeof(line), "%s\r\n", rows[i].say);
		snprintf(want, sizeof(want), "%s\r\n", rows[i].reply);
		is_str(fake_say(&f, line), want, "%s", rows[i].say);
	}
	is_str(f.s.addr, "192.0.2.1", "a command with an error changes nothing");
	is_str(f.s.name, "client.test", "of what was good in it");
	snprintf(line, sizeof(line), "XCLIENT HELO=%0255d\r\n", 0);
	is_str(fake_say(&f, line), "220 hi\r\n", "255 bytes");
	fake_fini(&f);
	open_fake(&f, "", "192.0.2.1");
	snprintf(line, sizeof(line), "XCLIENT HELO=%0256d\r\n", 0);
	is_str(fake_say(&f, line), "501 5.5.4 Error: attribute value too long\r\n", "one more");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\n");
	is_str(fake_say(&f, "XCLIENT HELO=x\r\n"),
	       "503 5.5.1 Error: MAIL transaction in progress\r\n", "not within a transaction");
	is_str(fake_say(&f, "XFORWARD HELO=x\r\n"),
	       "503 5.5.1 Error: MAIL transaction in progress\r\n", "neither");
	fake_fini(&f);
}

static void test_xclient(void)
{
	struct fake f;

	open_fake(&f,
		  "smtpd_delay_reject = no\nsmtpd_client_restrictions = check_client_access "
		  "inline:{{bad.test=REJECT} {192.0.2.7=450 4.7.1 later}}\n",
		  "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	is_str(fake_say(&f, "XCLIENT NAME=spike.test ADDR=IPv6:2001:DB8::1 PORT=99 PROTO=ESMTP "
			    "HELO=h(x).test DESTADDR=198.51.100.1 DESTPORT=25\r\n"),
	       "220 hi\r\n", "the session begins again");
	is_str(f.s.namaddr, "spike.test[2001:db8::1]", "as another client's");
	ok(f.s.is_ipv6 && f.s.esmtp, "with its protocols");
	is_str(f.s.helo, "h?x?.test", "and its name, cleaned");
	is_str(f.s.reverse_name, "spike.test", "reverse name");
	is_str(f.s.server_addr, "198.51.100.1", "our address");
	is_str(f.s.port, "99", "port");
	ok(strncmp(fake_say(&f, "MAIL FROM:<a@x.test>\r\n"), "250", 3) == 0, "no HELO is needed");
	fake_say(&f, "RCPT TO:<u@local.test>\r\n");
	ok(strstr(buf_cstr(&f.log), "client=spike.test[2001:db8::1]\n") != NULL, "the log has it");
	fake_fini(&f);

	open_fake(&f,
		  "smtpd_delay_reject = no\nsmtpd_client_restrictions = check_client_access "
		  "inline:{{bad.test=REJECT} {192.0.2.7=450 4.7.1 later}}\n",
		  "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	is_str(fake_say(&f, "XCLIENT PORT=7\r\n"), "220 hi\r\n", "only a port");
	is_str(f.s.namaddr, "client.test[192.0.2.1]", "the names stay");
	is_str(f.s.reverse_name, "client.test", "both of them");
	fake_say(&f, "EHLO c.test\r\n");
	is_str(fake_say(&f, "XCLIENT NAME=bad.test ADDR=::1\r\n"),
	       "501 5.5.4 Bad ADDR syntax: ::1\r\n", "no such address");
	ok(strncmp(fake_say(&f, "XCLIENT NAME=bad.test\r\n"), "554 5.7.1 <bad.test[192.0.2.1]>",
		   30) == 0,
	   "what the restrictions say of that client");
	is_str(fake_say(&f, "XCLIENT NAME=good.test\r\n"),
	       "503 5.7.0 Error: access denied for bad.test[192.0.2.1]\r\n", "is final");
	fake_fini(&f);

	open_fake(&f, "", "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	ok(strncmp(fake_say(&f, "XCLIENT NAME=[TEMPUNAVAIL] ADDR=[UNAVAILABLE] "
				"PORT=[UNAVAILABLE]\r\nEHLO d.test\r\n"),
		   "220 hi\r\n250-mx.test\r\n250-PIPELINING\r\n", 37) == 0,
	   "the next command may follow at once");
	is_str(f.s.namaddr, "unknown[unknown]", "nobody");
	is_int(f.s.name_status, POLICY_NAME_TEMP, "for the moment");
	ok(f.s.esmtp, "EHLO");
	fake_fini(&f);
}

static void send_one(struct fake *f)
{
	fake_say(f, "MAIL FROM:<a@x.test>\r\n");
	fake_say(f, "RCPT TO:<u@local.test>\r\n");
	fake_say(f, "DATA\r\n");
	fake_say(f, "x: y\r\n\r\nz\r\n.\r\n");
}

static void check_envelope(const struct fake *f, const char *what, const char *name,
			   const char *addr, const char *helo, const char *ident, bool local)
{
	struct envelope env;
	struct arena a;

	arena_init(&a, 1024, 1 << 20);
	ok(env_decode(buf_sv(&f->env), 100, &a, &env) == 0, "%s: an envelope", what);
	ok(sv_eq_str(env.client_name, name) && sv_eq_str(env.client_addr, addr) &&
		   sv_eq_str(env.helo, helo) && sv_eq_str(env.log_ident, ident) &&
		   ((env.flags & ENVF_LOCAL_CLIENT) != 0) == local,
	   "%s: %.*s[%.*s] %.*s %.*s %x", what, (int)env.client_name.len, env.client_name.p,
	   (int)env.client_addr.len, env.client_addr.p, (int)env.helo.len, env.helo.p,
	   (int)env.log_ident.len, env.log_ident.p, (unsigned)env.flags);
	arena_fini(&a);
}

static void test_xforward(void)
{
	struct fake f;

	open_fake(&f, "local_header_rewrite_clients =\n", "192.0.2.1");
	fake_say(&f, "EHLO c.test\r\n");
	fake_say(&f, "XFORWARD NAME=origin.test ADDR=198.51.100.9\r\n");
	is_str(fake_say(&f, "XFORWARD HELO=their+20helo IDENT=ABC123 SOURCE=LOCAL\r\n"),
	       "250 2.0.0 Ok\r\n", "in two commands");
	send_one(&f);
	check_envelope(&f, "forwarded", "origin.test", "198.51.100.9", "their?helo", "ABC123",
		       true);
	ok(strstr(buf_cstr(&f.log), "client=client.test[192.0.2.1], orig_queue_id=ABC123, "
				    "orig_client=origin.test[198.51.100.9]\n") != NULL,
	   "the log has both");
	ok(strstr(buf_cstr(&f.content), "client.test [192.0.2.1]") != NULL ||
		   strstr(buf_cstr(&f.content), "origin.test") == NULL,
	   "Received names whom we saw");
	send_one(&f);
	check_envelope(&f, "the next message", "client.test", "192.0.2.1", "c.test", "", false);
	fake_say(&f, "XFORWARD NAME=origin.test\r\n");
	fake_say(&f, "RSET\r\n");
	send_one(&f);
	check_envelope(&f, "after RSET", "client.test", "192.0.2.1", "c.test", "", false);
	fake_say(&f, "XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] IDENT=[UNAVAILABLE]\r\n");
	send_one(&f);
	check_envelope(&f, "nobody", "unknown", "unknown", "", "", false);
	fake_fini(&f);
}

int main(void)
{
	test_trust();
	test_syntax();
	test_xclient();
	test_xforward();
	return tap_done();
}
