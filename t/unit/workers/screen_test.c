/* SPDX-License-Identifier: GPL-3.0-or-later */
/* postscreen before the greeting: access list, what is remembered, who speaks too early, scores of
 * lists in the DNS with their times, limits; and patterns of answers, good and bad. */
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "policy/rbl_pattern.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/smtp_in/screen.h"

#define NOW_S     1700000000
#define CLIENT    "192.0.2.1"
#define LISTS_MAX 8

static const char main_text[] =
	"mynetworks = 198.51.100.0/24\nsmtpd_banner = mx ESMTP\n"
	"postscreen_access_list = permit_mynetworks inline:{{192.0.2.66=reject},{192.0.2.77=odd}}\n"
	"postscreen_allowlist_interfaces = !127.0.0.2 static:all\n"
	"postscreen_greet_action = enforce\npostscreen_dnsbl_action = drop\n"
	"postscreen_denylist_action = drop\n"
	"postscreen_dnsbl_sites = bl.test*2, bl.test=127.0.0.[3..4]*5 wl.test*-2\n"
	"postscreen_dnsbl_reply_map = inline:{{bl.test=shown}}\n"
	"postscreen_dnsbl_threshold = 2\npostscreen_dnsbl_allowlist_threshold = -2\n"
	"postscreen_client_connection_count_limit = 2\n";
static const char master_text[] = "25 inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n";

static struct {
	struct screen_conf *k;
	struct screen_clients *clients;
	struct screen *s;
	bool stress, recalled;
	unsigned asked, cancelled;
	char name[LISTS_MAX][256];
	bool stored;
	int64_t expires_s[SCREEN_TEST_COUNT];
	struct buf log;
} f;

static void keep_log(void *ctx, enum log_level level, const char *program, const char *text,
		     size_t len)
{
	(void)ctx;
	(void)level;
	(void)program;
	buf_add(&f.log, text, len);
	buf_add_c(&f.log, '\n');
}

static void *fake_dns(void *ctx, struct screen *s, unsigned list, const char *name)
{
	(void)ctx;
	(void)s;
	str_copy(f.name[list], sizeof(f.name[list]), sv_from(name));
	f.asked++;
	return f.name[list];
}

static void fake_cancel(void *ctx, void *query)
{
	(void)ctx;
	(void)query;
	f.cancelled++;
}

static void fake_recall(void *ctx, struct screen *s)
{
	(void)ctx;
	(void)s;
	f.recalled = true;
}

static void fake_remember(void *ctx, struct screen *s, const int64_t expires_s[SCREEN_TEST_COUNT])
{
	(void)ctx;
	(void)s;
	f.stored = true;
	memcpy(f.expires_s, expires_s, sizeof(f.expires_s));
}

static const struct screen_ops ops = {
	.dns = fake_dns,
	.dns_cancel = fake_cancel,
	.recall = fake_recall,
	.remember = fake_remember,
};

static struct screen *client(const char *addr, const char *server)
{
	const struct screen_peer peer = { addr, "99", server, "25" };

	f.recalled = f.stored = false;
	f.asked = f.cancelled = 0;
	buf_reset(&f.log);
	struct screen *s = screen_new(f.k, f.clients, &ops, NULL, &peer);

	screen_begin(s);
	return s;
}

/* A new one that is under test. */
static void begin(void)
{
	f.s = client(CLIENT, "127.0.0.1");
	screen_recalled(f.s, NULL);
}

static void end(void)
{
	screen_free(&f.s);
	is_int(screen_clients_count(f.clients), 0, "nobody is under test");
}

static void answer(unsigned list, uint32_t a, int64_t ttl_s)
{
	uint32_t addr = 0x7f000000u + a;

	screen_dns_answer(f.s, list, &addr, a != 0, ttl_s);
}

static void wait_s(int64_t s)
{
	clock_fake_advance(s * 1000);
	screen_tick(f.s);
}

static bool has_logged(const char *text)
{
	return strstr(buf_cstr(&f.log), text) != NULL;
}

static const char *said(void)
{
	return buf_cstr(screen_out(f.s));
}

static void test_access(void)
{
	f.s = client("198.51.100.9", "127.0.0.1");
	is_int(screen_verdict(f.s), SCREEN_PASSES, "permit_mynetworks");
	ok(has_logged("CONNECT from [198.51.100.9]:99 to [127.0.0.1]:25\nALLOWLISTED "
		      "[198.51.100.9]:99\n"),
	   "and is logged");
	ok(!f.recalled && !f.stored, "the cache is not asked");
	end();
	f.s = client("192.0.2.66", "127.0.0.1");
	is_int(screen_verdict(f.s), SCREEN_ENDS, "refused by a table");
	is_str(said(), "521 5.3.2 Service currently unavailable\r\n", "and told so");
	ok(has_logged("DENYLISTED [192.0.2.66]:99\nDISCONNECT [192.0.2.66]:99\n"), "and logged");
	end();
	f.s = client("192.0.2.77", "127.0.0.1");
	ok(has_logged("unknown command: odd -- ignoring the remainder"), "no access at all");
	is_int(screen_verdict(f.s), SCREEN_UNDECIDED, "is tested");
	ok(f.recalled, "after the cache was asked");
	end();
}

static void test_pass(void)
{
	const int64_t known[SCREEN_TEST_COUNT] = { NOW_S + 60, NOW_S + 60, 1, 1, 1 };

	f.s = client(CLIENT, "127.0.0.1");
	screen_recalled(f.s, known);
	is_int(screen_verdict(f.s), SCREEN_PASSES, "a known one");
	ok(has_logged("PASS OLD [192.0.2.1]:99\n") && !f.stored, "nothing is stored");
	end();
	begin();
	is_str(said(), "220-mx ESMTP\r\n", "a new one hears half of the greeting");
	is_int(f.asked, 2, "each list is asked once");
	is_str(f.name[0], "1.2.0.192.bl.test", "about its address");
	answer(0, 0, 600);
	answer(1, 0, 500);
	is_int(screen_verdict(f.s), SCREEN_UNDECIDED, "it has to wait");
	wait_s(5);
	is_int(screen_verdict(f.s), SCREEN_UNDECIDED, "still");
	wait_s(2);
	is_int(screen_verdict(f.s), SCREEN_PASSES, "long enough");
	ok(has_logged("PASS NEW [192.0.2.1]:99\n"), "new");
	int64_t now_s = clock_wall_s();

	ok(f.stored && f.expires_s[SCREEN_PREGREET] == now_s + 86400, "a day");
	is_int(f.expires_s[SCREEN_DNSBL] - now_s, 600, "the lists' own time");
	is_int(f.expires_s[SCREEN_PIPELINING], SCREEN_NOT_TESTED, "not tested for that");
	end();
	f.s = client(CLIENT, "127.0.0.2");
	screen_recalled(f.s, NULL);
	ok(has_logged("ALLOWLIST VETO [192.0.2.1]:99\n"), "at the backup host");
	answer(0, 0, 600);
	answer(1, 0, 500);
	wait_s(7);
	is_int(screen_verdict(f.s), SCREEN_UNDECIDED, "nobody passes");
	ok(screen_reads(f.s) || screen_out(f.s)->len > 0, "it is talked to");
	screen_hangup(f.s);
	ok(has_logged("in tests after SMTP handshake\nDISCONNECT"), "until it hangs up");
	ok(!f.stored, "and nothing is remembered");
	end();
}

static void test_lists(void)
{
	begin();
	answer(0, 3, 600);
	answer(1, 0, 500);
	wait_s(7);
	is_int(screen_verdict(f.s), SCREEN_ENDS, "listed");
	ok(has_logged("DNSBL rank 7 for [192.0.2.1]:99\n"), "both filters count");
	is_str(said(),
	       "220-mx ESMTP\r\n521 5.7.1 Service unavailable; client [192.0.2.1] blocked using "
	       "shown\r\n",
	       "the list's name is that of the table");
	ok(!f.stored, "nothing is remembered");
	end();
	begin();
	answer(0, 0, 600);
	answer(1, 2, 500);
	is_int(screen_verdict(f.s), SCREEN_PASSES, "a good score: it need not wait");
	is_int(f.expires_s[SCREEN_BARE_NEWLINE] - clock_wall_s(), 500,
	       "and is spared tests that are off");
	end();
	begin();
	answer(1, 2, 500);
	wait_s(7);
	is_int(f.cancelled, 1, "a list that is slow is not waited for");
	is_int(screen_verdict(f.s), SCREEN_PASSES, "what is known by then decides");
	end();
	begin();
	answer(0, 2, 1);
	answer(1, 2, -1);
	wait_s(7);
	is_int(f.expires_s[SCREEN_DNSBL] - clock_wall_s(), 60, "no time below the least");
	end();
}

static void test_early(void)
{
	begin();
	ok(screen_peeks(f.s), "is it silent?");
	screen_input(f.s, "HELO\r\n\\", 7);
	ok(has_logged("PREGREET 7 after 0 from [192.0.2.1]:99: HELO\\r\\n\\\\\n"), "no");
	ok(!screen_peeks(f.s), "that is known once");
	answer(0, 0, 600);
	answer(1, 0, 500);
	is_int(screen_verdict(f.s), SCREEN_UNDECIDED, "it goes on to the dialogue");
	is_str(said(), "220-mx ESMTP\r\n", "without a greeting");
	buf_reset(screen_out(f.s));
	ok(screen_reads(f.s), "and may speak");
	screen_input(f.s, "QUIT\r\n", 6);
	is_int(screen_verdict(f.s), SCREEN_ENDS, "to say that it goes");
	ok(has_logged("DISCONNECT [192.0.2.1]:99\n") && !f.stored, "it has not passed");
	end();
	begin();
	screen_hangup(f.s);
	ok(has_logged("HANGUP after 0 from [192.0.2.1]:99 in tests before SMTP handshake\n"),
	   "hangs up");
	is_int(screen_verdict(f.s), SCREEN_ENDS, "and is gone");
	is_int(f.cancelled, 2, "with its questions");
	end();
	begin();
	screen_stop(f.s);
	is_str(said(), "220-mx ESMTP\r\n421 4.3.2 Service currently unavailable\r\n", "at a stop");
	end();
}

static void test_limits(void)
{
	struct screen *first = client(CLIENT, "127.0.0.1");
	struct screen *second = client(CLIENT, "127.0.0.1");

	ok(!f.recalled, "while one is tested the cache is not asked again");
	f.s = client(CLIENT, "127.0.0.1");
	is_str(said(), "421 4.7.0 Error: too many connections\r\n", "too many");
	screen_free(&f.s);
	screen_free(&second);
	f.s = first;
	screen_tick(f.s);
	is_int(screen_verdict(f.s), SCREEN_UNDECIDED, "it waits for the cache");
	wait_s(3);
	is_int(f.asked, 2, "not for ever");
	end();
}

static void test_patterns(void)
{
	static const struct {
		const char *pattern;
		uint32_t addr;
		bool valid, match;
	} rows[] = {
		{ "127.0.0.2", 0x7f000002, true, true },
		{ "127.0.0.2", 0x7f000003, true, false },
		{ "127.0.[0..1].[2;4..6]", 0x7f000105, true, true },
		{ "127.0.[0..1].[2;4..6]", 0x7f000103, true, false },
		{ "127.0.0", 0x7f000000, false, false },
		{ "127.0.0.256", 0, false, false },
		{ "127.0.0.[5..2]", 0, false, false },
		{ "127.0.0.[2", 0, false, false },
		{ "127.0.0.[]", 0, false, false },
		{ "127.0.0.2.", 0, false, false },
		{ "", 0, false, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		is_int(rbl_pattern_is_valid(rows[i].pattern), rows[i].valid, "\"%s\"",
		       rows[i].pattern);
		if (rows[i].valid)
			is_int(rbl_answer_matches(rows[i].pattern, rows[i].addr), rows[i].match,
			       "and %08x", rows[i].addr);
	}
}

/* What cannot be meant is an error, and named. */
static void test_bad_conf(void)
{
	static const struct {
		const char *line, *why;
	} rows[] = {
		{ "postscreen_dnsbl_sites = bl.test*x\n",
		  "bad DNSBL weight factor in \"bl.test*x\"" },
		{ "postscreen_dnsbl_sites = bl.test=1.2*3\n", "bad DNSBL filter syntax" },
		{ "postscreen_dnsbl_sites = -bl*3\n", "bad DNSBL domain name" },
		{ "postscreen_upstream_proxy_protocol = x\n", "unknown protocol \"x\"" },
		{ "postscreen_access_list = nosuch:/x\n", "nosuch" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct conf *c = test_conf_both(rows[i].line, master_text);
		struct screen_conf *k = NULL;
		struct conf_diag d;

		conf_diag_init(&d);
		ok(screen_conf_new(c, conf_listener(c, 0)->screen, &d, &k) != 0, "%s", rows[i].why);
		ok(strstr(buf_cstr(&d.text), rows[i].why) != NULL, "is said");
		conf_diag_fini(&d);
		conf_free(&c);
	}
}

int main(void)
{
	struct conf *c = test_conf_both(main_text, master_text);
	struct conf_diag d;

	conf_diag_init(&d);
	is_str(conf_listener(c, 0)->service->name, "smtpd", "behind postscreen");
	is_int(screen_conf_new(c, conf_listener(c, 0)->screen, &d, &f.k), 0, "configuration");
	conf_diag_fini(&d);
	f.clients = screen_clients_new(&f.stress);
	log_set_sink(keep_log, NULL);
	clock_fake_set((int64_t)NOW_S * 1000);
	test_access();
	test_pass();
	test_lists();
	test_early();
	test_limits();
	test_patterns();
	test_bad_conf();
	screen_clients_free(&f.clients);
	screen_conf_free(&f.k);
	conf_free(&c);
	buf_fini(&f.log);
	return tap_done();
}
