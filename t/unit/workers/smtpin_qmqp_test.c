/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The QMQP server: packets in pieces and whole, what it refuses and how, waits, the end of clients.
 */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"
#include "workers/smtp_in/qmqp.h"

static struct fake f;
static struct buf packet;

static void begin_in(struct fake *in, const char *main_cf, const char *client)
{
	struct conf_diag d;
	const struct conf_service *service = NULL;

	fake_conf(in, main_cf, NULL);
	for (unsigned i = 0; i < conf_service_count(in->conf); i++) {
		if (strcmp(conf_service(in->conf, i)->program, "qmqpd") == 0)
			service = conf_service(in->conf, i);
	}
	conf_diag_init(&d);
	listener_fini(&in->listener);
	if (!ok(service != NULL && listener_init(&in->listener, in->conf, service, &d) == 0,
		"a QMQP listener"))
		printf("# %s", buf_cstr(&d.text));
	conf_diag_fini(&d);
	fake_connect(in, client);
}

static void begin_with(const char *main_cf, const char *client)
{
	if (f.conf != NULL)
		fake_fini(&f);
	begin_in(&f, main_cf, client);
}

#define AUTHORIZED "qmqpd_authorized_clients = 192.0.2.0/24\nmessage_size_limit = 2000\n"

static void begin(void)
{
	begin_with(AUTHORIZED, "192.0.2.1");
}

static void add(const char *text)
{
	buf_printf(&packet, "%zu:%s,", strlen(text), text);
}

/* NULL ends the recipients. */
static void make(const char *content, const char *sender, const char *const *rcpts)
{
	struct buf inner = BUF_INIT;

	buf_reset(&packet);
	add(content);
	add(sender);
	for (; *rcpts != NULL; rcpts++)
		add(*rcpts);
	buf_add_sv(&inner, buf_sv(&packet));
	buf_reset(&packet);
	add(buf_cstr(&inner));
	buf_fini(&inner);
}

static const char *const one[] = { "r@far.test", NULL };
static const char *const two[] = { "r@far.test", "a b@far.test", NULL };

/* In pieces of `step` bytes; then the pause before bad news is over. */
static const char *send_packet(size_t step)
{
	for (size_t at = 0; at < packet.len; at += step) {
		size_t n = size_min(step, packet.len - at);

		session_input(&f.s, packet.p + at, n);
		fake_settle(&f);
	}
	if (f.s.wait == WAIT_SLEEP) {
		clock_fake_advance(2000);
		session_tick(&f.s);
		fake_settle(&f);
	}
	return fake_take(&f);
}

static bool logged(const char *text)
{
	bool hit = strstr(buf_cstr(&f.log), text) != NULL;

	if (!hit)
		printf("# log: %s\n", buf_cstr(&f.log));
	return hit;
}

static void test_good(void)
{
	static const size_t steps[] = { 1, 2, 7, 100000 };

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		struct arena arena;
		struct envelope e;

		begin();
		make("Subject: x\n\n.dot\nlast", "s@x.test", two);
		const char *reply = send_packet(steps[i]);

		ok(strstr(reply, ":KOk: queued as ") != NULL && reply[strlen(reply) - 1] == ',' &&
			   strtoul(reply, NULL, 10) == strlen(strchr(reply, ':') + 1) - 1,
		   "taken by %zu: %s", steps[i], reply);
		ok(session_is_over(&f.s), "and that is the end");
		arena_init(&arena, 4096, 0);
		ok(env_decode(buf_sv(&f.env), 10, &arena, &e) == 0 && e.rcpt_count == 2 &&
			   sv_eq(e.sender, SV("s@x.test")) &&
			   sv_eq(e.rcpts[1].addr, SV("a b@far.test")) &&
			   sv_eq(e.proto, SV("QMQP")) && (e.flags & ENVF_LOCAL_CLIENT) != 0,
		   "envelope");
		arena_fini(&arena);
		const char *text = strstr(buf_cstr(&f.content), "Subject:");

		is_str(text != NULL ? text : "", "Subject: x\r\n\r\n..dot\r\nlast\r\n", "content");
		ok(strstr(buf_cstr(&f.content),
			  "Received: from client.test (client.test [192.0.2.1])\r\n\tby mx.test "
			  "(Posthaste) with QMQP\r\n\tid ") == buf_cstr(&f.content),
		   "Received");
		ok(logged(": client=client.test[192.0.2.1]\n"), "client");
	}
	begin();
	make("x\n", "", one);
	ok(strstr(send_packet(1000), ":KOk:") != NULL, "the null sender");
	ok(strstr(buf_cstr(&f.content), "\r\n\tfor <r@far.test>; ") != NULL,
	   "one recipient is named");
	begin();
	make("From me\n b\n", "", one);
	send_packet(1000);
	ok(strstr(buf_cstr(&f.content), "\r\nX-Mailbox-Line: From me\r\n b\r\n") != NULL,
	   "a mbox separator");
	begin();
	make(" blank\n", "", one);
	send_packet(1000);
	ok(strstr(buf_cstr(&f.content), "\r\n\r\n blank\r\n") != NULL, "no header to continue");
	begin();
	make("", "", one);
	ok(strstr(send_packet(1), ":KOk:") != NULL, "an empty message");
}

static void test_verp(void)
{
	static const struct {
		const char *sender, *want, *verp;
	} rows[] = {
		{ "list-return-@x.test-@[]", "list-return@x.test", "-=" },
		{ "list+@x.test-@[]", "list@x.test", "+=" },
		{ "-@x.test-@[]", "-@x.test-@[]", "" },
		{ "list-@-@[]", "list-@-@[]", "" },
		{ "-@[]", "-@[]", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct arena arena;
		struct envelope e;

		begin();
		make("x\n", rows[i].sender, one);
		ok(strstr(send_packet(1000), ":KOk:") != NULL, "%s", rows[i].sender);
		arena_init(&arena, 4096, 0);
		ok(env_decode(buf_sv(&f.env), 10, &arena, &e) == 0 &&
			   sv_eq_str(e.sender, rows[i].want) && sv_eq_str(e.verp, rows[i].verp),
		   "is %s", rows[i].want);
		arena_fini(&arena);
	}
	begin();
	make("x\n", "listx@x.test-@[]", one);
	is_str(send_packet(1000),
	       "69:DError: Invalid VERP delimiters: \"x=\". Need two characters from \"-=+\",",
	       "other delimiters");
}

static void test_refused(void)
{
	static const struct {
		const char *packet, *reply;
	} rows[] = {
		{ "x", "62:Dnetstring format error while receiving QMQP packet header," },
		{ ":", "62:Dnetstring format error while receiving QMQP packet header," },
		{ "1234567890:", "81:Dnetstring length exceeds storage limit while receiving QMQP "
				 "packet header," },
		{ "9:2:abc", "57:Dnetstring format error while receiving message content," },
		{ "9:2001:", "75:Dnetstring length exceeds storage limit while receiving message "
			     "content," },
		{ "9:1:x,3000:", "74:Dnetstring length exceeds storage limit while receiving "
				 "sender address," },
		{ "9:1:x,0:,1:ab",
		  "59:Dnetstring format error while receiving recipient address," },
		{ "9:1:x,0:,,", "32:DError: no recipients specified," },
		{ "9:1:x,3:a\nb,", "26:DError: bad address syntax," },
		{ "9:1:x,0:,3:\xff@x,", "26:DError: bad address syntax," },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		for (size_t step = 1; step < 200; step += 198) {
			begin();
			buf_reset(&packet);
			buf_add_str(&packet, rows[i].packet);
			const char *reply = send_packet(step), *colon = strchr(reply, ':');

			is_str(colon != NULL ? colon : "", strchr(rows[i].reply, ':'), "%zu by %zu",
			       i, step);
			ok(colon != NULL && strtoul(reply, NULL, 10) == strlen(colon) - 2,
			   "its length");
			ok(session_is_over(&f.s) && f.begun == 0, "and nothing is taken");
		}
	}
	begin_with("", "192.0.2.1");
	is_int(f.s.wait, WAIT_SLEEP, "bad news take a moment");
	make("x\n", "", one);
	is_str(strchr(send_packet(1000), ':'),
	       ":DError: client.test[192.0.2.1] is not authorized to use this service,",
	       "nobody may without a list");
	begin_with(AUTHORIZED "soft_bounce = yes\n", "10.0.0.1");
	is_str(strchr(send_packet(1000), ':'),
	       ":ZError: client.test[10.0.0.1] is not authorized to use this service,",
	       "soft_bounce");
	begin_with("qmqpd_authorized_clients = fail:x\n", "192.0.2.1");
	is_str(strchr(send_packet(1000), ':'), ":ZError: server configuration error,",
	       "a list that fails");
}

static void test_verdicts(void)
{
	static const struct {
		enum submit_verdict verdict;
		const char *text, *reply;
	} rows[] = {
		{ SUBMIT_DISCARDED, "", "KOk: queued as" },
		{ SUBMIT_TEMPFAIL, "", "ZError: queue file write error," },
		{ SUBMIT_TEMPFAIL, "Error: queue file write error",
		  "ZError: queue file write error," },
		{ SUBMIT_TEMPFAIL, "Alias expansion error",
		  "ZError: 4.3.0 Alias expansion error," },
		{ SUBMIT_PERMFAIL, "", "DError: message content rejected," },
		{ SUBMIT_PERMFAIL, "go away", "DError: 5.7.1 go away," },
		{ SUBMIT_PERMFAIL, "Message size exceeds fixed limit",
		  "DError: message too large," },
		{ SUBMIT_PERMFAIL, "Error: too many hops", "DError: too many hops," },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		begin();
		f.verdict = rows[i].verdict;
		f.verdict_text = rows[i].text;
		f.verdict_code = rows[i].verdict == SUBMIT_TEMPFAIL ? 451 : 550;
		make("x\n", "s@x.test", one);
		ok(strstr(send_packet(1000), rows[i].reply) != NULL, "%s", rows[i].reply);
	}
	begin();
	f.begin_error = E_CONFIG;
	make("x\n", "s@x.test", one);
	ok(strstr(send_packet(1000), ":ZError: queue file write error,") != NULL, "no peer");
	begin();
	f.accept_error = E_NOSPC;
	make("x\n", "s@x.test", one);
	ok(strstr(send_packet(1000), ":ZError: 4.3.1 Insufficient system storage,") != NULL,
	   "no space");
	begin();
	f.hold_verdict = true;
	make("x\n", "s@x.test", one);
	is_str(send_packet(1000), "", "nothing is said before the verdict");
	session_submit_lost(&f.s);
	is_int(f.s.wait, WAIT_SLEEP, "a rewrite worker that is gone");
	packet.len = 0;
	ok(strstr(send_packet(1000), ":ZError: queue file write error,") != NULL, "is a failure");
}

static void test_room(void)
{
	begin();
	make("0123456789\n0123456789\n", "s@x.test", two);
	f.room_left = 5;
	is_str(send_packet(1000), "", "no room for all of it");
	is_int(f.s.wait, WAIT_ROOM, "waits");
	for (unsigned i = 0; i < 100 && f.s.wait == WAIT_ROOM; i++) {
		f.room_left = 1;
		session_room(&f.s);
		fake_settle(&f);
	}
	ok(strstr(fake_take(&f), ":KOk:") != NULL, "goes on");
	ok(strstr(buf_cstr(&f.content), "\r\n0123456789\r\n0123456789\r\n") != NULL,
	   "with all of it");
	begin();
	f.begin_error = E_AGAIN;
	make("x\n", "s@x.test", one);
	send_packet(1000);
	is_int(f.s.wait, WAIT_ROOM, "no room to begin");
	f.begin_error = 0;
	session_room(&f.s);
	fake_settle(&f);
	ok(strstr(fake_take(&f), ":KOk:") != NULL, "then it does");
	begin();
	make("0123456789\n", "s@x.test", one);
	f.room_left = 5;
	send_packet(1000);
	session_submit_lost(&f.s);
	packet.len = 0;
	ok(strstr(send_packet(1000), ":ZError: queue file write error,") != NULL,
	   "lost while it waits");
}

static void test_gone(void)
{
	begin();
	buf_reset(&packet);
	buf_add_str(&packet, "9:1:x,");
	send_packet(1);
	session_eof(&f.s);
	ok(logged("client.test[192.0.2.1]: lost connection while receiving sender address\n"),
	   "lost connection");
	ok(session_is_over(&f.s), "over");
	begin();
	send_packet(1);
	clock_fake_advance(299000);
	session_tick(&f.s);
	ok(!session_is_over(&f.s), "qmqpd_timeout is five minutes");
	clock_fake_advance(2000);
	session_tick(&f.s);
	ok(logged("read/write timeout while receiving sender address\n"), "then that is it");
	is_str(fake_take(&f), "", "without a word");
	session_log_disconnect(&f.s);
	ok(logged("disconnect from client.test[192.0.2.1]\n"), "as Postfix's line");
}

/* Of all clients together no more than so much is held. */
static void test_memory(void)
{
	begin_with("qmqpd_authorized_clients = 192.0.2.1\nmessage_size_limit = 0\n", "192.0.2.1");
	buf_reset(&packet);
	buf_printf(&packet, "999999999:%u:", QMQP_MEMORY + 1);
	ok(strstr(send_packet(1000), ":Dnetstring length exceeds storage limit") != NULL,
	   "more than there is");
	begin_with("qmqpd_authorized_clients = 192.0.2.1\nmessage_size_limit = 0\n", "192.0.2.1");
	buf_reset(&packet);
	buf_printf(&packet, "999999999:%u:0123456789", QMQP_MEMORY - 5);
	send_packet(1000);
	ok(session_memory(&f.s) < 20000, "what was promised takes no memory");
}

/* Each was let in while there was room for it. */
static void test_memory_of_all(void)
{
	static const char conf[] = "qmqpd_authorized_clients = 192.0.2.1\nmessage_size_limit = 0\n";
	static char much[1 << 20];
	static struct fake other;

	memset(much, 'x', sizeof(much));
	begin_in(&other, conf, "192.0.2.1");
	begin_with(conf, "192.0.2.1");
	buf_reset(&packet);
	buf_printf(&packet, "999999999:%u:", QMQP_MEMORY - 5);
	send_packet(1000);
	session_input(&other.s, packet.p, packet.len);
	for (size_t left = QMQP_MEMORY - 6; left > 0; left -= size_min(left, sizeof(much)))
		session_input(&other.s, much, size_min(left, sizeof(much)));
	is_int(other.s.wait, WAIT_NONE, "one sends what it said");
	buf_reset(&packet);
	buf_add_str(&packet, "0123456789");
	ok(strstr(send_packet(1000), ":ZError: too much mail at a time") != NULL,
	   "then there is no room for the other's");
	fake_fini(&other);
}

int main(void)
{
	clock_fake_set(1700000000000);
	test_good();
	test_verp();
	test_refused();
	test_verdicts();
	test_room();
	test_gone();
	test_memory();
	test_memory_of_all();
	fake_fini(&f);
	buf_fini(&packet);
	return tap_done();
}
