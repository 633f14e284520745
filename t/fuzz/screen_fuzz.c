/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postscreen before the greeting. The first bytes choose the listener's actions; each byte behind
 * them is something that happens to one of some clients: it comes, speaks, hangs up, time passes, a
 * list or the cache answers, the process stops. Whatever the order: nothing is asked for twice or
 * forgotten, what is said are lines that begin with a code, who is refused or at a host where
 * nobody may pass does not pass, results end in time, and log lines are lines.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"
#include "t/unit/workers/testconf.h"
#include "workers/smtp_in/screen.h"

#define CLIENTS   4u
#define LISTS_MAX 4u
#define MOST_S    (40 * 86400)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char main_text[] =
	"mynetworks = 198.51.100.0/24\nsmtpd_banner = mx ESMTP\n"
	"postscreen_access_list = inline:{{192.0.2.3=reject}}\n"
	"postscreen_allowlist_interfaces = !127.0.0.2 static:all\n"
	"postscreen_dnsbl_sites = bl.test*2, bl.test=127.0.0.[3..4]*5 wl.test*-2 three.test\n"
	"postscreen_dnsbl_threshold = 2\npostscreen_dnsbl_allowlist_threshold = -2\n"
	"postscreen_client_connection_count_limit = 2\npostscreen_pre_queue_limit = 3\n"
	"postscreen_pipelining_enable = yes\npostscreen_non_smtp_command_enable = yes\n";
static const char master_text[] = "25 inet n - n - 1 postscreen\nsmtpd pass - - n - - smtpd\n";

struct asked {
	struct screen *screen; /* NULL = not under way */
	unsigned list;
};

static struct {
	struct screen_conf *k;
	struct screen_clients *clients;
	struct screen *s[CLIENTS];
	bool barred[CLIENTS]; /* it must not pass */
	struct asked asked[CLIENTS * LISTS_MAX];
	bool stress, at_once;
} f;

static void keep_log(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		     const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		ASSERT((unsigned char)text[i] >= ' ');
}

static void answer(struct screen *s, unsigned list, unsigned choice)
{
	static const int64_t ttls[] = { -1, 0, 60, 86400, UINT32_MAX };
	uint32_t addrs[3] = { 0x7f000000u + choice % 5, 0x7f000003u, choice };

	screen_dns_answer(s, list, addrs, choice % 4, ttls[choice % ARRAY_LEN(ttls)]);
}

static void *op_dns(void *ctx UNUSED, struct screen *s, unsigned list, const char *name)
{
	ASSERT(strstr(name, ".test") != NULL && list < LISTS_MAX);
	if (f.at_once) {
		answer(s, list, list);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(f.asked); i++) {
		ASSERT(f.asked[i].screen != s || f.asked[i].list != list);
		if (f.asked[i].screen == NULL) {
			f.asked[i] = (struct asked){ s, list };
			return &f.asked[i];
		}
	}
	ASSERT(false);
}

static void op_cancel(void *ctx UNUSED, void *query)
{
	struct asked *a = query;

	ASSERT(a->screen != NULL);
	a->screen = NULL;
}

static void op_recall(void *ctx UNUSED, struct screen *s)
{
	ASSERT(screen_is_recalling(s));
}

static void op_remember(void *ctx UNUSED, struct screen *s UNUSED,
			const int64_t expires_s[SCREEN_TEST_COUNT])
{
	for (int i = 0; i < SCREEN_TEST_COUNT; i++)
		ASSERT(expires_s[i] <= clock_wall_s() + MOST_S);
}

static const struct screen_ops ops = {
	.dns = op_dns, .dns_cancel = op_cancel, .recall = op_recall, .remember = op_remember
};

static void check_out(struct screen *s)
{
	struct buf *out = screen_out(s);
	const char *p = buf_cstr(out);

	while (*p != '\0') {
		const char *end = strstr(p, "\r\n");

		ASSERT(end != NULL && end - p >= 4);
		ASSERT(p[0] >= '2' && p[0] <= '5' && strncmp(p, "354", 3) != 0);
		ASSERT(strncmp(p, "250 2.1.5", 9) != 0);
		p = end + 2;
	}
	buf_consume(out, out->len);
}

static void forget(unsigned n)
{
	struct screen *s = f.s[n];

	if (s == NULL)
		return;
	screen_free(&f.s[n]);
	for (size_t i = 0; i < ARRAY_LEN(f.asked); i++)
		ASSERT(f.asked[i].screen != s);
}

static void come(unsigned n, unsigned what)
{
	static const char *const addrs[] = { "192.0.2.1", "192.0.2.3", "2001:db8::1", "192.0.2.1" };
	const struct screen_peer peer = { addrs[what % 4], "99",
					  what % 5 == 4 ? "127.0.0.2" : "127.0.0.1", "25" };

	f.barred[n] = what % 5 == 4 || (what % 4 == 1 && f.k->denied != SCREEN_IGNORE);
	f.s[n] = screen_new(f.k, f.clients, &ops, NULL, &peer);
	screen_begin(f.s[n]);
}

static void recall(struct screen *s, unsigned what)
{
	const int64_t now_s = clock_wall_s();
	const int64_t known[SCREEN_TEST_COUNT] = { what % 2 == 0 ? now_s + 60 : 0,
						   what % 3 == 0 ? now_s + 60 : 1,
						   what % 5 == 0 ? now_s + 60 : INT64_MIN, 1,
						   what % 7 == 0 ? INT64_MAX / 2 : 1 };

	screen_recalled(s, what == 0 ? NULL : known);
}

/* An answer of one of the questions that are under way. */
static void one_answer(unsigned what)
{
	for (size_t i = 0; i < ARRAY_LEN(f.asked); i++) {
		struct asked *a = &f.asked[(what + i) % ARRAY_LEN(f.asked)];
		struct screen *s = a->screen;

		if (s != NULL) {
			a->screen = NULL;
			answer(s, a->list, what);
			return;
		}
	}
}

/* As a socket would: a look, or what the dialogue may have. */
static void speak(struct screen *s, const uint8_t *data, size_t len)
{
	if (len > 0 && (screen_peeks(s) || screen_reads(s)))
		screen_input(s, (const char *)data, len);
}

static void happen(unsigned n, unsigned what, const uint8_t *data, size_t len)
{
	struct screen *s = f.s[n];

	clock_fake_advance(what % 3 == 0 ? 700 : 1);
	if (s == NULL) {
		come(n, what);
	} else if (what < 6) {
		speak(s, data, len);
	} else if (what < 8) {
		one_answer(what * 7 + n);
	} else if (what < 10) {
		recall(s, what - 8);
	} else if (what == 10) {
		screen_hangup(s);
	} else if (what == 11) {
		screen_stop(s);
	} else if (what < 15) {
		clock_fake_advance(what * 400);
	} else {
		f.stress = !f.stress;
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		if (f.s[i] == NULL)
			continue;
		if (clock_now().ms >= screen_next_ms(f.s[i]))
			screen_tick(f.s[i]);
		check_out(f.s[i]);
		ASSERT(screen_verdict(f.s[i]) != SCREEN_PASSES || !f.barred[i]);
		if (screen_verdict(f.s[i]) != SCREEN_UNDECIDED)
			forget(i);
	}
}

static void begin(const uint8_t choice[2])
{
	static struct conf *conf;
	struct conf_diag d;

	if (conf == NULL) {
		conf = test_conf_both(main_text, master_text);
		conf_diag_init(&d);
		ASSERT(screen_conf_new(conf, conf_listener(conf, 0)->screen, &d, &f.k) == 0);
		conf_diag_fini(&d);
		f.clients = screen_clients_new(&f.stress);
		log_set_sink(keep_log, NULL);
	}
	clock_fake_set((int64_t)1700000000 * 1000);
	f.k->denied = (enum screen_action)(choice[0] % 3);
	f.k->pregreet = (enum screen_action)(choice[0] / 3 % 3);
	f.k->dnsbl = (enum screen_action)(choice[0] / 9 % 3);
	f.k->has_cache = choice[1] % 4 != 0;
	f.at_once = choice[1] % 8 == 1;
	f.stress = false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 3)
		return 0;
	begin(data);
	for (size_t at = 2; at < size; at++) {
		size_t left = size - at - 1, len = data[at] % 6u * 5u;

		happen(data[at] >> 6, data[at] >> 2 & 15, data + at + 1, len < left ? len : left);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		forget(i);
	ASSERT(screen_clients_count(f.clients) == 0);
	return 0;
}
