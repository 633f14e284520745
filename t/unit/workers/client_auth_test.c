/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logins of the client engine: what is said when, what is refused, and that nothing of a password
 * is left behind. */
#include "conf/sasl.h"
#include "lib/log.h"
#include "t/unit/workers/client_rig.h"
#include "workers/deliver/saslmech.h"

#define EHLO         "250-h\r\n250-PIPELINING\r\n250 AUTH "
#define PLAIN_SECRET "AHRpbQBzZXNhbWUtb3Blbg=="

static struct client_login_conf lconf;
static struct client_login login;
static struct buf logged;

static void sink(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		 const char *text, size_t len)
{
	buf_add(&logged, text, len);
	buf_add_c(&logged, ';');
}

static bool not_login(void *ctx UNUSED, struct sv mechanism)
{
	return !sv_eq_nocase(mechanism, SV("login")) && !sv_eq_nocase(mechanism, SV("plain"));
}

static void open_login(struct world *w, bool lmtp)
{
	open_world(w, lmtp);
	login = (struct client_login){ .conf = &lconf, .server = "h[1.2.3.4]:25" };
	buf_add_str(&login.user, "tim");
	buf_add_str(&login.password, "sesame-open");
	w->c.login = &login;
	buf_reset(&logged);
	say(w, "220 hi ESMTP\r\n");
	wire(w);
}

static void close_login(struct world *w)
{
	close_world(w);
	sasl_wipe(&login.user);
	sasl_wipe(&login.password);
	sasl_wipe(&login.response);
	buf_fini(&login.offered);
}

static void test_logins(void)
{
	struct world w;

	lconf = (struct client_login_conf){ .mail_auth = true };
	open_login(&w, false);
	say(&w, EHLO "GSSAPI LOGIN PLAIN\r\n");
	is_str(wire(&w), "AUTH PLAIN " PLAIN_SECRET "\r\n", "PLAIN in one command");
	is_int(client_timeout_ms(&w.c), 1, "in the time of EHLO");
	is_str(events(&w), "", "not ready yet");
	say(&w, "235 2.7.0 fine\r\n");
	is_str(events(&w), "ready;", "ready");
	ok(login.done && !login.failed, "logged in");
	ok(login.password.p == NULL && login.response.p == NULL && w.c.head.p == NULL,
	   "the password is forgotten, also in what was written");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), "MAIL FROM:<me@here> AUTH=<>\r\nRCPT TO:<a@x>\r\nDATA\r\n",
	       "smtp_send_dummy_mail_auth");
	close_login(&w);

	lconf = (struct client_login_conf){ 0 };
	open_login(&w, false);
	say(&w, "250-h\r\n250-AUTH LOGIN\r\n250 AUTH=LOGIN\r\n");
	is_str(wire(&w), "AUTH LOGIN\r\n", "LOGIN");
	say(&w, "334 VXNlcm5hbWU6\r\n");
	is_str(wire(&w), "dGlt\r\n", "the user");
	say(&w, "334 UGFzc3dvcmQ6\r\n");
	is_str(wire(&w), "c2VzYW1lLW9wZW4=\r\n", "the password");
	say(&w, "235 fine\r\n");
	is_str(events(&w), "ready;", "ready");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "MAIL as ever");
	close_login(&w);

	open_login(&w, true);
	say(&w, EHLO "CRAM-MD5 PLAIN\r\n");
	is_str(wire(&w), "AUTH CRAM-MD5\r\n", "LMTP, too, and the best mechanism");
	client_closed(&w.c);
	is_str(events(&w),
	       "dead site temp 4.4.2(lost connection with h[1.2.3.4] while performing the LHLO "
	       "handshake);",
	       "a connection that breaks");
	close_login(&w);

	open_login(&w, false);
	say(&w, "250 h\r\n");
	is_str(events(&w), "ready;", "a server without AUTH gets mail without a login");
	client_start(&w.c, make_tx(&w, 1, 1));
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "as to strangers");
	close_login(&w);
}

/* A first response that is too long for the command's line goes by itself. */
static void test_deferred(void)
{
	struct world w;

	for (int i = 0; i < 2; i++) {
		open_login(&w, false);
		while (login.password.len < 400)
			buf_add_str(&login.password, "long");
		say(&w, EHLO "PLAIN\r\n");
		is_str(wire(&w), "AUTH PLAIN\r\n", "a long password waits");
		say(&w, i == 0 ? "334 \r\n" : "334 eA==\r\n");
		if (i == 0)
			is_int(strlen(wire(&w)), 546, "... for its turn");
		else
			is_str(events(&w),
			       "dead site temp 4.7.0(SASL authentication failed; non-empty initial "
			       "PLAIN challenge from server h[1.2.3.4]);",
			       "... or for nothing");
		close_login(&w);
	}
}

static void test_refusals(void)
{
#define CANNOT(why)                                                                                \
	"dead site temp 4.7.0(SASL authentication failed; cannot authenticate to server "          \
	"h[1.2.3.4]: " why ");"
#define SAID(what) "SASL authentication failed; server h[1.2.3.4] said: " what ");"
	static const struct {
		const char *mechs, *reply;
		bool soft;
		const char *want;
	} rows[] = {
		{ "PLAIN", "535 5.7.8 bad\r\n", true,
		  "dead site temp 4.7.8(" SAID("535 5.7.8 bad") },
		{ "PLAIN", "535 5.7.8 bad\r\n", false,
		  "dead site perm 5.7.8(" SAID("535 5.7.8 bad") },
		{ "PLAIN", "535 bad\r\n", true, "dead site temp 4.0.0(" SAID("535 bad") },
		{ "PLAIN", "454 4.7.0 later\r\n", false,
		  "dead site temp 4.7.0(" SAID("454 4.7.0 later") },
		{ "PLAIN", "535 AUTH PLAIN " PLAIN_SECRET "\r\n", false,
		  "dead site perm 5.0.0(" SAID("535 AUTH PLAIN ************************") },
		{ "PLAIN", "535 sesame-open is wrong\r\n", false,
		  "dead site perm 5.0.0(" SAID("535 *********** is wrong") },
		{ "PLAIN", "334 eA==\r\n", false, CANNOT("bad protocol / cancel") },
		{ "CRAM-MD5", "334 no base64!\r\n", false, CANNOT("bad protocol / cancel") },
		{ "CRAM-MD5", "334\r\n", false, CANNOT("bad protocol / cancel") },
		{ "CRAM-MD5", "334-eA==\r\n334 eA==\r\n", false, CANNOT("bad protocol / cancel") },
		{ "LOGIN", "334 eA==\r\n334 eA==\r\n334 eA==\r\n", false,
		  CANNOT("bad protocol / cancel") },
		{ "SCRAM-SHA-1 GSSAPI", NULL, false, CANNOT("no mechanism available") },
		{ "", NULL, false,
		  "dead site temp 4.7.0(SASL authentication failed: server h[1.2.3.4] offered no "
		  "compatible authentication mechanisms for this type of connection security);" },
	};
	struct world w;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		lconf = (struct client_login_conf){ .soft_bounce = rows[i].soft };
		open_login(&w, false);
		say(&w, "250-h\r\n250 AUTH ");
		say(&w, rows[i].mechs);
		say(&w, "\r\n");
		wire(&w);
		if (rows[i].reply != NULL)
			say(&w, rows[i].reply);
		is_str(events(&w), rows[i].want, "%s: %s", rows[i].mechs,
		       rows[i].reply != NULL ? rows[i].reply : "nothing to choose");
		ok(login.failed && !login.done, "... is a failure");
		ok(memmem(buf_cstr(&logged), logged.len, "sesame", 6) == NULL,
		   "... not in the log");
		close_login(&w);
	}
}

/* What may be used depends on who may listen. */
static void test_security(void)
{
	static const struct {
		unsigned tls, verified;
		const char *want;
	} rows[] = {
		{ 0, 0,
		  "dead site temp 4.7.0(SASL authentication failed; cannot authenticate to "
		  "server h[1.2.3.4]: no mechanism available);" },
		{ 1, 0, "AUTH CRAM-MD5\r\n" },
		{ 1, 1, "AUTH PLAIN " PLAIN_SECRET "\r\n" },
	};
	struct world w;

	lconf = (struct client_login_conf){ .options = { SASL_NO_PLAINTEXT | SASL_NO_ACTIVE,
							 SASL_NO_PLAINTEXT, 0 } };
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *mechs = rows[i].verified ? EHLO "PLAIN\r\n" : EHLO "CRAM-MD5 PLAIN\r\n";

		open_login(&w, false);
		if (rows[i].tls) {
			w.c.tls = CLIENT_TLS_MUST;
			say(&w, "250-h\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n");
			is_str(wire(&w), "STARTTLS\r\n", "TLS comes first");
			say(&w, "220 go\r\n");
			events(&w);
			w.c.verified = rows[i].verified;
			client_secured(&w.c);
			wire(&w);
		}
		say(&w, mechs);
		is_str(rows[i].tls ? wire(&w) : events(&w), rows[i].want, "tls %u, verified %u",
		       rows[i].tls, rows[i].verified);
		close_login(&w);
	}
	/* what was offered in the clear is void */
	open_login(&w, false);
	w.c.tls = CLIENT_TLS_MUST;
	say(&w, "250-h\r\n250-STARTTLS\r\n250 AUTH CRAM-MD5\r\n220 go\r\n");
	wire(&w);
	events(&w);
	client_secured(&w.c);
	wire(&w);
	say(&w, EHLO "PLAIN\r\n");
	is_str(wire(&w), "", "a mechanism that was offered before TLS");
	close_login(&w);
}

static void test_filter(void)
{
	struct world w;

	lconf = (struct client_login_conf){ .passes = not_login };
	open_login(&w, false);
	say(&w, EHLO "PLAIN LOGIN XOAUTH2\r\n");
	ok(strncmp(wire(&w), "AUTH XOAUTH2 ", 13) == 0, "what the filter lets pass");
	close_login(&w);
	open_login(&w, false);
	say(&w, EHLO "PLAIN LOGIN\r\n");
	is_str(events(&w),
	       "dead site temp 4.7.0(SASL authentication failed: server h[1.2.3.4] offered no "
	       "compatible authentication mechanisms for this type of connection security);",
	       "nothing passes");
	is_str(buf_cstr(&logged),
	       "warning: h[1.2.3.4]:25 offered no supported AUTH mechanisms: 'PLAIN LOGIN';",
	       "... is logged");
	close_login(&w);
	/* lines without end */
	open_login(&w, false);
	for (int i = 0; i < 500; i++)
		say(&w, "250-AUTH XAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\r\n");
	ok(login.offered.len <= 4096, "a server that offers without end");
	close_login(&w);
}

/* ---- what others know ---- */

static struct buf asked;
static bool remembers, knows;

static bool op_recall(void *ctx UNUSED)
{
	if (remembers)
		buf_add_str(&asked, "recall;");
	return remembers;
}

static void op_remember(void *ctx UNUSED, struct sv reply)
{
	buf_printf(&asked, "remember %.*s;", (int)reply.len, reply.p);
}

static bool op_start(void *ctx UNUSED, struct sv mechanisms, unsigned options)
{
	if (knows)
		buf_printf(&asked, "start %.*s %u;", (int)mechanisms.len, mechanisms.p, options);
	return knows;
}

static void op_step(void *ctx UNUSED, struct sv challenge)
{
	buf_printf(&asked, "step %.*s;", (int)challenge.len, challenge.p);
}

static const char *asked_for(void)
{
	static char text[400];

	(void)str_copy(text, sizeof(text), buf_sv(&asked));
	buf_reset(&asked);
	return text;
}

static void open_asking(struct world *w, const char *mechs)
{
	static const struct client_login_ops ops = {
		.recall = op_recall, .remember = op_remember, .start = op_start, .step = op_step
	};

	open_login(w, false);
	login.ops = &ops;
	buf_reset(&asked);
	say(w, "250-h\r\n250 AUTH ");
	say(w, mechs);
	say(w, "\r\n");
}

static void test_library(void)
{
	struct world w;

	lconf = (struct client_login_conf){ .options = { SASL_NO_PLAINTEXT } };
	remembers = false;
	knows = true;
	open_asking(&w, "SCRAM-X PLAIN");
	is_str(asked_for(), "start SCRAM-X PLAIN 1;", "the library chooses");
	is_str(wire(&w), "", "... in its time");
	is_int(client_timeout_ms(&w.c), 1, "... which is limited");
	client_login_said(&w.c, LOGIN_SAID_MORE, SV("SCRAM-X"), SV("bixy"));
	is_str(wire(&w), "AUTH SCRAM-X bixy\r\n", "its first response");
	say(&w, "334 cj1z\r\n");
	is_str(asked_for(), "step cj1z;", "a challenge");
	client_login_said(&w.c, LOGIN_SAID_MORE, SV("SCRAM-X"), SV("Yz1i"));
	is_str(wire(&w), "Yz1i\r\n", "its response");
	say(&w, "334 dj1y\r\n");
	is_str(asked_for(), "step dj1y;", "what the server knows");
	client_login_said(&w.c, LOGIN_SAID_DONE, SV("SCRAM-X"), SV(""));
	is_str(wire(&w), "\r\n", "an empty response");
	say(&w, "235 2.7.0 fine\r\n");
	is_str(events(&w), "ready;", "ready");
	ok(login.done && login.password.p == NULL, "logged in, the password is forgotten");
	close_login(&w);

	knows = false;
	open_asking(&w, "SCRAM-X CRAM-MD5");
	is_str(wire(&w), "AUTH CRAM-MD5\r\n", "what nobody else knows is made here");
	close_login(&w);

	knows = true;
	open_asking(&w, "SCRAM-X CRAM-MD5");
	client_login_said(&w.c, LOGIN_SAID_FAILED, SV(""), SV("no mechanism available"));
	is_str(wire(&w), "AUTH CRAM-MD5\r\n", "... and so is what the library cannot use");
	close_login(&w);

	open_asking(&w, "SCRAM-X PLAIN");
	client_login_said(&w.c, LOGIN_SAID_NOTHING, SV(""), SV(""));
	is_str(events(&w),
	       "dead site temp 4.7.0(SASL authentication failed; cannot authenticate to server "
	       "h[1.2.3.4]: no mechanism available);",
	       "neither can do it");
	close_login(&w);

	open_asking(&w, "SCRAM-X CRAM-MD5");
	client_login_said(&w.c, LOGIN_SAID_MORE, SV("SCRAM-X"), SV("bixy"));
	wire(&w);
	say(&w, "334 cj1z\r\n");
	client_login_said(&w.c, LOGIN_SAID_FAILED, SV(""), SV("server failed mutual"));
	is_str(events(&w),
	       "dead site temp 4.7.0(SASL authentication failed; cannot authenticate to server "
	       "h[1.2.3.4]: server failed mutual);",
	       "a server that does not know the password");
	close_login(&w);

	for (int i = 0; i < 2; i++) { /* while nothing was said to it */
		open_asking(&w, "SCRAM-X");
		if (i == 0)
			say(&w, "235 come in\r\n");
		else
			client_closed(&w.c);
		is_str(events(&w),
		       i == 0 ? "dead site temp 4.7.0(SASL authentication failed; cannot "
				"authenticate to server h[1.2.3.4]: bad protocol / cancel);"
			      : "dead site temp 4.4.2(lost connection with h[1.2.3.4] while "
				"performing the EHLO handshake);",
		       i == 0 ? "a server that does not wait" : "... that goes away");
		close_login(&w);
	}

	for (unsigned i = 0; i < 2; i++) {
		lconf.options[CLIENT_IN_CLEAR] = i == 0 ? SASL_MUTUAL_AUTH : 0;
		open_asking(&w, "SCRAM-X");
		client_login_said(&w.c, LOGIN_SAID_MORE, SV("SCRAM-X"), SV("bixy"));
		wire(&w);
		say(&w, "235 2.7.0 whoever you are\r\n");
		is_str(events(&w),
		       i == 0 ? "dead site temp 4.7.0(SASL authentication failed; cannot "
				"authenticate to server h[1.2.3.4]: the server has not shown who "
				"it is);"
			      : "ready;",
		       "mutual_auth: %s", i == 0 ? "yes" : "no");
		close_login(&w);
	}
}

static void test_memory(void)
{
	struct world w;

	lconf = (struct client_login_conf){ 0 };
	remembers = true;
	knows = false;
	open_asking(&w, "PLAIN");
	is_str(asked_for(), "recall;", "was it refused before?");
	is_str(wire(&w), "", "... until then nothing is said");
	client_login_recalled(&w.c, SV(""), SV(""));
	is_str(wire(&w), "AUTH PLAIN " PLAIN_SECRET "\r\n", "no");
	say(&w, "535 5.7.8 sesame-open? no\r\n");
	is_str(asked_for(), "remember 5.7.8 535 5.7.8 ***********? no;",
	       "now it is, without the password");
	close_login(&w);

	open_asking(&w, "PLAIN");
	client_login_recalled(&w.c, SV(""), SV(""));
	say(&w, "454 4.7.0 later\r\n");
	is_str(asked_for(), "recall;", "what may be right later is not remembered");
	close_login(&w);

	for (int soft = 0; soft < 2; soft++) {
		lconf.soft_bounce = soft;
		open_asking(&w, "PLAIN");
		client_login_recalled(&w.c, SV("5.7.8"), SV("535 5.7.8 no"));
		is_str(events(&w),
		       soft ? "dead site temp 4.7.8(SASL [CACHED] authentication failed; server "
			      "h[1.2.3.4] said: 535 5.7.8 no);"
			    : "dead site perm 5.7.8(SASL [CACHED] authentication failed; server "
			      "h[1.2.3.4] said: 535 5.7.8 no);",
		       "yes, smtp_sasl_auth_soft_bounce %d", soft);
		ok(login.failed, "... is a failure");
		close_login(&w);
	}
	buf_fini(&asked);
}

/* In transcripts and logs nothing is seen of a password. */
static void test_shown(void)
{
	static const char *const lines[][2] = {
		{ "EHLO me.test", "EHLO me.test" },
		{ "STARTTLS", "STARTTLS" },
		{ "QUIT", "QUIT" },
		{ "AUTH LOGIN", "AUTH LOGIN" },
		{ "AUTH PLAIN AGEAYg==", "AUTH PLAIN ***" },
		{ "c2VzYW1l", "***" },
		{ "QUItc2VzYW1l", "***" }, /* AB-sesame */
		{ "quit", "***" },
		{ "StARtTLsAAAA", "***" },
	};
	struct buf text = BUF_INIT;
	struct world w;

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		const char *more;
		struct sv shown = client_login_shown(sv_from(lines[i][0]), &more);

		buf_reset(&text);
		buf_printf(&text, "%.*s%s", (int)shown.len, shown.p, more);
		is_str(buf_cstr(&text), lines[i][1], "of %s", lines[i][0]);
	}
	lconf = (struct client_login_conf){ 0 };
	remembers = knows = false;
	open_asking(&w, "PLAIN");
	asked_for();
	wire(&w);
	buf_reset(&text);
	buf_add_str(&text, "535-" PLAIN_SECRET " sesame-open?");
	client_login_mask(&w.c, &text);
	ok(strstr(buf_cstr(&text), "sesame") == NULL && strstr(buf_cstr(&text), "535-") != NULL &&
		   strstr(buf_cstr(&text), PLAIN_SECRET) == NULL,
	   "nor of what a server repeats: %s", buf_cstr(&text));
	close_login(&w);
	buf_fini(&text);
}

int main(void)
{
	log_set_sink(sink, NULL);
	test_library();
	test_shown();
	test_memory();
	test_logins();
	test_deferred();
	test_refusals();
	test_security();
	test_filter();
	buf_fini(&logged);
	return tap_done();
}
