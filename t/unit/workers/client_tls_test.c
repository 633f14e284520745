/* SPDX-License-Identifier: GPL-3.0-or-later */
/* STARTTLS in the client engine: what is said in the clear, what is void afterwards, and what
 * happens to the mail when there is no TLS. */
#include "t/unit/workers/client_rig.h"

#define OFFER "250-h\r\n250-PIPELINING\r\n250-SIZE 5\r\n250 STARTTLS\r\n"
#define FAULT "dead site temp 4.7.5(Cannot start TLS: handshake failure);"

static void open_tls(struct world *w, enum client_tls tls)
{
	open_world(w, false);
	w->conf.starttls_ms = 77;
	w->c.tls = tls;
	say(w, "220 hi ESMTP\r\n");
	wire(w);
}

static void test_starttls(void)
{
	struct world w;

	open_tls(&w, CLIENT_TLS_MUST);
	say(&w, OFFER);
	is_str(wire(&w), "STARTTLS\r\n", "asked for");
	is_str(events(&w), "", "nothing else yet");
	is_int(client_timeout_ms(&w.c), 77, "smtp_starttls_timeout");
	say(&w, "220 go\r\n250 injected\r\n");
	is_str(events(&w), "starttls;", "the handshake begins");
	is_int(client_timeout_ms(&w.c), 77, "it has the same time");
	is_str(wire(&w), "", "nothing in the clear");
	say(&w, "250 injected, too\r\n");
	client_secured(&w.c);
	is_str(wire(&w), "EHLO me.example\r\n", "EHLO again");
	is_str(events(&w), "", "what came in the clear is void");
	say(&w, "250-h\r\n250 8BITMIME\r\n");
	is_str(events(&w), "ready;", "ready");
	ok(w.c.secured && (w.c.features & CLIENT_F_PIPELINING) == 0 && w.c.size_limit == 0,
	   "only what was said inside counts");
	close_world(&w);

	open_tls(&w, CLIENT_TLS_MAY);
	say(&w, "250 h\r\n");
	is_str(events(&w), "ready;", "a wish that is not offered");
	close_world(&w);
	open_tls(&w, CLIENT_TLS_MAY);
	say(&w, OFFER);
	wire(&w);
	say(&w, "454 4.7.0 not now\r\n");
	is_str(events(&w), "ready;", "or refused");
	ok(!w.c.secured, "goes on in the clear");
	close_world(&w);
	open_tls(&w, CLIENT_TLS_NONE);
	say(&w, OFFER);
	is_str(events(&w), "ready;", "not wanted");
	close_world(&w);
}

/* smtp_tls_block_early_mail_reply */
static void test_early(void)
{
	struct world w;

	for (int i = 0; i < 2; i++) {
		open_tls(&w, CLIENT_TLS_MAY);
		w.conf.block_early = i == 0 ? "early" : NULL;
		say(&w, OFFER);
		wire(&w);
		say(&w, "220 go\r\n");
		client_secured(&w.c);
		wire(&w);
		say(&w, "250-h\r\n250 8BITMIME\r\n250 2.1.0 ok\r\n");
		is_str(events(&w),
		       i == 0 ? "starttls;ready;dead site temp 4.7.0(unexpected server message);"
			      : "starttls;ready;dead;",
		       "a reply before MAIL, %s", i == 0 ? "looked for" : "not looked for");
		is_int(w.c.early, i == 0, "... which is no reason to go without TLS");
		close_world(&w);
	}
	open_world(&w, false);
	w.conf.block_early = "early";
	say(&w, "220 hi ESMTP\r\n250-h\r\n");
	ok(!w.c.early, "in the clear it does not matter");
	close_world(&w);
}

static void test_must(void)
{
	static const struct {
		const char *label, *ehlo, *reply, *want;
	} rows[] = {
		{ "not offered", "250 h\r\n", NULL,
		  "dead site temp 4.7.4(TLS is required, but was not offered by host "
		  "h[1.2.3.4]);" },
		{ "refused for now", OFFER, "454 4.3.0 busy\r\n",
		  "dead site temp 4.3.0(TLS is required, but host h[1.2.3.4] refused to start TLS: "
		  "454 4.3.0 busy);" },
		{ "refused", OFFER, "502 5.5.1 no such thing\r\n",
		  "dead site perm 5.5.1(TLS is required, but host h[1.2.3.4] refused to start TLS: "
		  "502 5.5.1 no such thing);" },
		{ "no reply", OFFER, NULL,
		  "dead site temp 4.4.2(lost connection with h[1.2.3.4] while receiving the "
		  "STARTTLS "
		  "response);" },
	};
	struct world w;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		open_tls(&w, CLIENT_TLS_MUST);
		say(&w, rows[i].ehlo);
		wire(&w);
		if (rows[i].reply != NULL)
			say(&w, rows[i].reply);
		if (w.c.state != CLIENT_DEAD)
			client_closed(&w.c);
		is_str(events(&w), rows[i].want, "%s", rows[i].label);
		close_world(&w);
	}
	open_tls(&w, CLIENT_TLS_MUST);
	say(&w, "502 what?\r\n");
	is_str(wire(&w), "HELO me.example\r\n", "no EHLO");
	say(&w, "250 h\r\n");
	ok(strstr(events(&w), "4.7.4(TLS is required") != NULL, "no TLS");
	close_world(&w);
}

static void test_handshake_fails(void)
{
	struct world w;

	for (unsigned i = 0; i < 4; i++) {
		enum client_tls tls = i == 0 ? CLIENT_TLS_MAY : CLIENT_TLS_MUST;

		open_tls(&w, tls);
		say(&w, OFFER);
		wire(&w);
		say(&w, "220 go\r\n");
		events(&w);
		if (i < 2)
			client_tls_failed(&w.c, "Cannot start TLS: handshake failure");
		else if (i == 2)
			client_closed(&w.c);
		else
			client_timed_out(&w.c);
		is_str(events(&w),
		       tls == CLIENT_TLS_MAY
			       ? "dead temp 4.7.5(Cannot start TLS: handshake failure);"
			       : FAULT,
		       "handshake failed, %u", i);
		close_world(&w);
	}
}

static void test_wrapped(void)
{
	struct world w;

	open_world(&w, false);
	w.conf.starttls_ms = 77;
	w.c.tls = CLIENT_TLS_MUST;
	client_wrap(&w.c);
	is_int(client_timeout_ms(&w.c), 77, "TLS comes first");
	say(&w, "220 injected\r\n");
	is_str(wire(&w), "", "nothing in the clear counts");
	client_secured(&w.c);
	is_int(client_timeout_ms(&w.c), 1, "then the greeting");
	say(&w, "220 hi\r\n");
	is_str(wire(&w), "EHLO me.example\r\n", "EHLO");
	say(&w, OFFER);
	is_str(events(&w), "ready;", "no STARTTLS inside TLS");
	client_start(&w.c, make_tx(&w, 1, 1));
	events(&w);
	close_world(&w);
}

int main(void)
{
	test_starttls();
	test_early();
	test_must();
	test_handshake_fails();
	test_wrapped();
	return tap_done();
}
