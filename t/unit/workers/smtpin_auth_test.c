/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AUTH in a session: what is offered, the dialogue, its ends, and what a login changes. */
#include "t/unit/tap.h"

#include <string.h>

#include "t/unit/workers/smtpin_fake.h"

#define SASL "smtpd_sasl_auth_enable = yes\n"

static void begin(struct fake *f, const char *main_cf)
{
	char text[2000];

	snprintf(text, sizeof(text), SASL "%s", main_cf);
	fake_conf(f, text, NULL);
	f->listener.sasl = true; /* as for a service of master.cf */
	f->offer = "PLAIN LOGIN";
	fake_connect(f, "192.0.2.1");
	fake_take(f);
}

static void log_in(struct fake *f)
{
	f->auth_status = AUTH_DONE;
	f->auth_text = "";
	f->auth_user = "joe@test";
	is_str(fake_say(f, "AUTH PLAIN AGpvZQBzZWNyZXQ=\r\n"),
	       "235 2.7.0 Authentication successful\r\n", "logs in");
}

static bool logged(struct fake *f, const char *text)
{
	return strstr(buf_cstr(&f->log), text) != NULL;
}

static void test_offer(void)
{
	struct fake f;

	begin(&f, "broken_sasl_auth_clients = yes\n");
	const char *ehlo = fake_say(&f, "EHLO a.test\r\n");

	ok(strstr(ehlo, "250-ETRN\r\n250-AUTH PLAIN LOGIN\r\n250-AUTH=PLAIN LOGIN\r\n"
			"250-ENHANCED") != NULL,
	   "both forms");
	f.offer = "";
	ok(strstr(fake_say(&f, "EHLO a.test\r\n"), "AUTH") == NULL, "not when there are none");
	fake_fini(&f);
	begin(&f, "smtpd_sasl_exceptions_networks = !192.0.2.2, 192.0.2.0/24\n");
	ok(strstr(fake_say(&f, "EHLO a.test\r\n"), "AUTH") == NULL,
	   "not to smtpd_sasl_exceptions_networks");
	fake_connect(&f, "192.0.2.2");
	ok(strstr(fake_say(&f, "EHLO a.test\r\n"), "250-AUTH PLAIN LOGIN\r\n") != NULL,
	   "but to others");
	fake_fini(&f);
	begin(&f, "smtpd_tls_auth_only = yes\n");
	ok(strstr(fake_say(&f, "EHLO a.test\r\n"), "AUTH") == NULL, "not in the clear");
	is_str(fake_say(&f, "AUTH PLAIN\r\n"), "503 5.5.1 Error: authentication not enabled\r\n",
	       "and not taken");
	fake_fini(&f);
	begin(&f, "smtpd_discard_ehlo_keywords = auth, silent-discard\n");
	ok(strstr(fake_say(&f, "EHLO a.test\r\n"), "AUTH") == NULL, "not when it is discarded");
	is_str(fake_say(&f, "AUTH PLAIN\r\n"), "503 5.5.1 Error: authentication not enabled\r\n",
	       "and not taken");
	fake_fini(&f);
}

static void test_offer_waits(void)
{
	struct fake f;

	begin(&f, "");
	f.offer = NULL;
	is_str(fake_say(&f, "EHLO a.test\r\n"), "", "EHLO waits for the mechanisms");
	ok(f.s.wait == WAIT_AUTH && !session_wants_input(&f.s), "and nothing is read");
	f.offer = "PLAIN";
	session_auth_offered(&f.s);
	fake_settle(&f);
	ok(strstr(fake_take(&f), "250-AUTH PLAIN\r\n") != NULL, "and has them");
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	f.offer = NULL;
	fake_say(&f, "EHLO a.test\r\n");
	f.s.sleep_until_ms = 0;
	session_tick(&f.s);
	fake_settle(&f);
	const char *ehlo = fake_take(&f);

	ok(strstr(ehlo, "250-ETRN") != NULL && strstr(ehlo, "AUTH") == NULL,
	   "it does not wait for ever");
	is_int(f.s.counts_good[CMD_EHLO], 1, "one command");
	fake_fini(&f);
}

static void test_states(void)
{
	static const struct {
		const char *said, *reply;
	} rows[] = {
		{ "AUTH", "501 5.5.4 Syntax: AUTH mechanism" },
		{ "AUTH PLAIN a b", "501 5.5.4 Syntax: AUTH mechanism" },
		{ "MAIL FROM:<>", "250 2.1.0 Ok" },
		{ "AUTH PLAIN", "503 5.5.1 Error: MAIL transaction in progress" },
		{ "RSET", "250 2.0.0 Ok" },
	};
	struct fake f;
	char said[100], reply[200];

	begin(&f, "smtpd_helo_required = yes\n");
	is_str(fake_say(&f, "AUTH PLAIN\r\n"), "503 5.5.1 Error: send HELO/EHLO first\r\n",
	       "HELO first");
	fake_say(&f, "EHLO a.test\r\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(said, sizeof(said), "%s\r\n", rows[i].said);
		snprintf(reply, sizeof(reply), "%s\r\n", rows[i].reply);
		is_str(fake_say(&f, said), reply, "%s", rows[i].said);
	}
	log_in(&f);
	is_str(fake_say(&f, "AUTH PLAIN\r\n"), "503 5.5.1 Error: already authenticated\r\n",
	       "once");
	fake_say(&f, "EHLO a.test\r\n");
	is_str(fake_say(&f, "AUTH PLAIN\r\n"), "503 5.5.1 Error: already authenticated\r\n",
	       "EHLO does not log out");
	is_str(buf_cstr(&f.asked), "0i smtp|PLAIN|AGpvZQBzZWNyZXQ=|192.0.2.1|4321|||\n",
	       "and told what it needs");
	fake_fini(&f);
	fake_conf(&f, "", NULL);
	f.offer = "PLAIN";
	fake_connect(&f, "192.0.2.1");
	fake_take(&f);
	ok(strstr(fake_say(&f, "EHLO a.test\r\n"), "AUTH") == NULL, "not enabled: not offered");
	is_str(fake_say(&f, "AUTH PLAIN\r\n"), "503 5.5.1 Error: authentication not enabled\r\n",
	       "not taken");
	fake_fini(&f);
}

static void test_dialogue(void)
{
	struct fake f;

	begin(&f, "");
	fake_say(&f, "EHLO a.test\r\n");
	f.auth_status = AUTH_MORE;
	f.auth_text = "VXNlcm5hbWU6";
	is_str(fake_say(&f, "auth login\r\n"), "334 VXNlcm5hbWU6\r\n", "a challenge");
	f.auth_text = "";
	is_str(fake_say(&f, "am9l\r\n"), "334 \r\n", "an empty one");
	f.auth_status = AUTH_FAILED;
	f.auth_text = "authentication failure";
	f.auth_user = "joe";
	f.auth_lines = "SASL authentication failure: Password verification failed\n";
	is_str(fake_say(&f, "cHc=\r\n"),
	       "535 5.7.8 Error: authentication failed: authentication "
	       "failure\r\n",
	       "and no");
	is_str(buf_cstr(&f.asked), "0 smtp|login||192.0.2.1|4321|||\n1 am9l|\n1 cHc=|\n",
	       "lines go to the worker as they come");
	ok(logged(&f, "SASL authentication failure: Password verification failed\n"
		      "warning: client.test[192.0.2.1]: SASL login authentication failed: "
		      "authentication "
		      "failure, sasl_username=joe\n"),
	   "the log says so, and no secret");
	f.auth_lines = f.auth_user = NULL;
	f.auth_status = AUTH_TEMP;
	f.auth_text = "";
	is_str(fake_say(&f, "AUTH PLAIN x\r\n"),
	       "454 4.7.0 Temporary authentication failure: (reason unavailable)\r\n",
	       "a back end that is not well");
	ok(logged(&f, "SASL PLAIN authentication failed: (reason unavailable), "
		      "sasl_username=(unavailable)\n"),
	   "in the log, too");
	f.auth_status = AUTH_MORE;
	fake_say(&f, "AUTH LOGIN\r\n");
	is_str(fake_say(&f, "*\r\n"), "501 5.7.0 Authentication aborted\r\n",
	       "the client gives up");
	ok(logged(&f, "client.test[192.0.2.1]: SASL LOGIN authentication aborted\n"), "logged");
	ok(strstr(buf_cstr(&f.asked), "2 \n") != NULL, "and the worker is told");
	is_int(f.s.error_count, 3, "each counts as an error");
	log_in(&f);
	fake_fini(&f);
}

static void test_worker(void)
{
	struct fake f;

	begin(&f, "smtpd_sasl_response_limit = 12288\n");
	fake_say(&f, "EHLO a.test\r\n");
	f.auth_gone = true;
	is_str(fake_say(&f, "AUTH PLAIN x\r\n"),
	       "454 4.7.0 Temporary authentication failure: Connection lost to authentication "
	       "server\r\n",
	       "no worker");
	f.auth_gone = false;
	f.auth_hangs = true;
	is_str(fake_say(&f, "AUTH PLAIN x\r\nNOOP\r\n"), "", "it waits for the worker");
	f.auth_waits = false;
	session_auth_lost(&f.s);
	fake_settle(&f);
	is_str(fake_take(&f),
	       "454 4.7.0 Temporary authentication failure: Connection lost to authentication "
	       "server\r\n250 2.0.0 Ok\r\n",
	       "a worker that dies");
	fake_say(&f, "AUTH PLAIN x\r\n");
	f.auth_waits = false;
	f.s.sleep_until_ms = 0;
	session_tick(&f.s);
	fake_settle(&f);
	ok(strncmp(fake_take(&f), "454 4.7.0", 9) == 0, "or does not answer");
	session_auth_answer(&f.s, AUTH_DONE, SV(""), SV("late"), SV(""));
	ok(!session_auth_is_in(&f.s), "a late answer is none");
	f.auth_hangs = false;
	f.auth_status = AUTH_MORE;
	fake_say(&f, "AUTH LOGIN\r\n");
	session_auth_lost(&f.s);
	ok(strncmp(fake_say(&f, "eA==\r\n"), "454 4.7.0", 9) == 0,
	   "a worker that dies between two steps");
	f.auth_text = "not base64!";
	ok(strncmp(fake_say(&f, "AUTH LOGIN\r\n"), "454 4.7.0", 9) == 0,
	   "a worker that talks nonsense");
	f.auth_status = AUTH_DONE;
	ok(strncmp(fake_say(&f, "AUTH LOGIN\r\n"), "454 4.7.0", 9) == 0 &&
		   !session_auth_is_in(&f.s),
	   "or of nobody");
	fake_fini(&f);
}

static void test_limit(void)
{
	static char line[30000];
	struct fake f;

	begin(&f, "");
	fake_say(&f, "EHLO a.test\r\n");
	f.auth_status = AUTH_MORE;
	memset(line, 'A', 12288);
	strcpy(line + 12288, "\r\n");
	fake_say(&f, "AUTH LOGIN\r\n");
	is_str(fake_say(&f, line), "334 \r\n", "a response of smtpd_sasl_response_limit");
	memset(line, 'A', 20000);
	strcpy(line + 20000, "\r\nNOOP\r\n");
	is_str(fake_say(&f, line), "500 5.5.6 SASL response limit exceeded\r\n250 2.0.0 Ok\r\n",
	       "not a longer one");
	fake_fini(&f);
	begin(&f, "smtpd_client_auth_rate_limit = 1\n");
	f.auth_status = AUTH_FAILED;
	ok(strncmp(fake_say(&f, "AUTH PLAIN x\r\n"), "535", 3) == 0, "one");
	is_str(fake_say(&f, "AUTH PLAIN x\r\n"),
	       "450 4.7.1 Error: too many AUTH commands from 192.0.2.1\r\n",
	       "smtpd_client_auth_rate_limit");
	fake_fini(&f);
}

static void test_login(void)
{
	struct fake f;
	struct envelope e;
	struct arena arena;

	begin(&f, "smtpd_sasl_authenticated_header = yes\n"
		  "smtpd_sender_login_maps = inline:{ {joe@local.test = other, joe@test} "
		  "{ann@local.test = ann} }\n"
		  "smtpd_sender_restrictions = reject_sender_login_mismatch\n");
	fake_say(&f, "EHLO a.test\r\n");
	fake_say(&f, "MAIL FROM:<ann@local.test>\r\n");
	is_str(fake_say(&f, "RCPT TO:<x@local.test>\r\n"),
	       "553 5.7.1 <ann@local.test>: Sender address rejected: not logged in\r\n",
	       "a sender that has a login");
	ok(!logged(&f, "sasl_"), "nobody is in");
	fake_say(&f, "RSET\r\n");
	log_in(&f);
	is_str(fake_say(&f, "MAIL FROM:<joe@local.test> AUTH=a+40b AUTH=c\r\n"),
	       "503 5.5.4 Error: multiple AUTH= options\r\n", "one AUTH=");
	fake_say(&f, "RSET\r\nMAIL FROM:<ann@local.test>\r\n");
	is_str(fake_say(&f, "RCPT TO:<x@elsewhere.test>\r\n"),
	       "553 5.7.1 <ann@local.test>: Sender address rejected: not owned by user "
	       "joe@test\r\n",
	       "of another login");
	ok(logged(&f, " helo=<a.test> sasl_method=PLAIN sasl_username=joe@test\n"),
	   "the log names the login");
	fake_say(&f, "RSET\r\n");
	is_str(fake_say(&f, "MAIL FROM:<joe@local.test> AUTH=a+40b\r\n"), "250 2.1.0 Ok\r\n",
	       "AUTH= is taken");
	is_str(fake_say(&f, "RCPT TO:<x@elsewhere.test>\r\n"), "250 2.1.5 Ok\r\n",
	       "its own, to anywhere: permit_sasl_authenticated");
	ok(logged(&f, ": client=client.test[192.0.2.1], sasl_method=PLAIN, "
		      "sasl_username=joe@test, sasl_sender=a+40b\n"),
	   "as Postfix logs it");
	fake_say(&f, "DATA\r\n");
	fake_say(&f, "x\r\n.\r\n");
	arena_init(&arena, 4096, 0);
	ok(env_decode(buf_sv(&f.env), 100, &arena, &e) == 0 && sv_eq(e.sasl_user, SV("joe@test")) &&
		   sv_eq(e.sasl_method, SV("PLAIN")) && sv_eq(e.sasl_sender, SV("a+40b")),
	   "the envelope says who");
	arena_fini(&arena);
	ok(strstr(buf_cstr(&f.content), "\r\n\t(Authenticated sender: joe@test)\r\n\tby mx.test "
					"(Posthaste) with ESMTPA id ") != NULL,
	   "and the Received header");
	session_auth_reset(&f.s);
	fake_say(&f, "MAIL FROM:<joe@local.test>\r\n");
	ok(strncmp(fake_say(&f, "RCPT TO:<x@local.test>\r\n"), "553", 3) == 0, "logged out");
	fake_fini(&f);
}

static void test_restrictions(void)
{
	static const struct {
		const char *restriction, *sender;
		bool in;
		const char *reply;
	} rows[] = {
		{ "check_sasl_access inline:{joe@test=REJECT}", "a@b.test", true,
		  "554 5.7.1 <joe@test>: SASL login name rejected: Access denied\r\n" },
		{ "check_sasl_access inline:{test=REJECT}", "a@b.test", true, "250 2.1.5 Ok\r\n" },
		{ "check_sasl_access inline:{joe@test=REJECT}", "a@b.test", false,
		  "250 2.1.5 Ok\r\n" },
		{ "reject_authenticated_sender_login_mismatch", "free@b.test", true,
		  "553 5.7.1 <free@b.test>: Sender address rejected: not owned by user "
		  "joe@test\r\n" },
		{ "reject_authenticated_sender_login_mismatch", "own@b.test", false,
		  "250 2.1.5 Ok\r\n" },
		{ "reject_known_sender_login_mismatch", "free@b.test", true, "250 2.1.5 Ok\r\n" },
		{ "reject_known_sender_login_mismatch", "own@b.test", true,
		  "553 5.7.1 <own@b.test>: Sender address rejected: not owned by user "
		  "joe@test\r\n" },
		{ "reject_known_sender_login_mismatch", "own@b.test", false,
		  "553 5.7.1 <own@b.test>: Sender address rejected: not logged in\r\n" },
		{ "reject_unauthenticated_sender_login_mismatch", "own+x@b.test", false,
		  "553 5.7.1 <own+x@b.test>: Sender address rejected: not logged in\r\n" },
		{ "reject_unauthenticated_sender_login_mismatch", "own@b.test", true,
		  "250 2.1.5 Ok\r\n" },
		{ "reject_sender_login_mismatch", "", true, "250 2.1.5 Ok\r\n" },
		{ "permit_sasl_authenticated, reject", "a@b.test", true, "250 2.1.5 Ok\r\n" },
		{ "permit_sasl_authenticated, reject", "a@b.test", false,
		  "554 5.7.1 <x@local.test>: Recipient address rejected: Access denied\r\n" },
	};
	char text[500];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct fake f;

		snprintf(text, sizeof(text),
			 "recipient_delimiter = +\n"
			 "smtpd_sender_login_maps = inline:{own@b.test=somebody}\n"
			 "smtpd_recipient_restrictions = %s\n",
			 rows[i].restriction);
		begin(&f, text);
		fake_say(&f, "EHLO a.test\r\n");
		if (rows[i].in)
			session_auth_extern(&f.s, "joe@test");
		snprintf(text, sizeof(text), "MAIL FROM:<%s>\r\n", rows[i].sender);
		fake_say(&f, text);
		is_str(fake_say(&f, "RCPT TO:<x@local.test>\r\n"), rows[i].reply, "%s",
		       rows[i].restriction);
		fake_fini(&f);
	}
}

static void test_xclient(void)
{
	struct fake f;

	begin(&f, "smtpd_authorized_xclient_hosts = 192.0.2.1\n");
	ok(strstr(fake_say(&f, "EHLO a.test\r\n"),
		  "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN DESTADDR DESTPORT\r\n") !=
		   NULL,
	   "LOGIN can be said");
	fake_say(&f, "XCLIENT LOGIN=joe\r\n");
	ok(session_auth_is_in(&f.s) && strcmp(f.s.auth->method, "XCLIENT") == 0 &&
		   strcmp(f.s.auth->user, "joe") == 0,
	   "somebody is logged in by XCLIENT");
	fake_say(&f, "XCLIENT NAME=other.test\r\n");
	ok(!session_auth_is_in(&f.s), "another client is not");
	fake_say(&f, "XCLIENT LOGIN=[UNAVAILABLE]\r\n");
	ok(!session_auth_is_in(&f.s), "and [UNAVAILABLE] is nobody");
	fake_fini(&f);
}

static void test_comment(void)
{
	struct fake f;

	begin(&f, "smtpd_sasl_authenticated_header = yes\n");
	session_auth_extern(&f.s, "a)(b\\c(");
	struct buf out = BUF_INIT;

	session_auth_received(&f.s, &out);
	is_str(buf_cstr(&out), "\t(Authenticated sender: a?(b?c()))\r\n", "a comment stays one");
	buf_fini(&out);
	fake_fini(&f);
}

int main(void)
{
	clock_init();
	test_offer();
	test_offer_waits();
	test_states();
	test_dialogue();
	test_worker();
	test_limit();
	test_login();
	test_restrictions();
	test_xclient();
	test_comment();
	return tap_done();
}
