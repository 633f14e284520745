/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages and remote tables: what becomes of a message is the same as with the same table in the
 * process, however often message_build() has to begin anew; and the questions of all its recipients
 * are asked together.
 */
#include "conf/map_remote.h"
#include "lib/clock.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/rewrite/message.h"

#define RCPTS  50
#define ROUNDS 40

struct situation {
	const char *conf;        /* TABLE stands for the table */
	const char *key, *value; /* its one entry */
};

static const struct situation situations[] = {
	{ "virtual_alias_maps = TABLE\n", "u7@d.test", "x@far.test, y@far.test" },
	{ "virtual_alias_maps = TABLE\n", "@d.test", "@e.test" },
	{ "virtual_alias_maps = TABLE\n", "u3@d.test", "u3@d.test, copy@far.test" },
	{ "virtual_alias_maps = TABLE\n", "none@nowhere.test", "x" },
	{ "transport_maps = TABLE\n", "d.test", "smtp:[192.0.2.7]" },
	{ "transport_maps = TABLE\n", "u9@d.test", "error:5.1.1 gone" },
	{ "relay_domains = TABLE\nrelay_transport = relay:[192.0.2.3]\n", "d.test", "x" },
	{ "virtual_alias_domains = TABLE\n", "d.test", "x" },
	{ "relocated_maps = TABLE\n", "u1@d.test", "elsewhere" },
	{ "sender_dependent_relayhost_maps = TABLE\n", "s@x.test", "[192.0.2.8]" },
	{ "sender_bcc_maps = TABLE\n", "s@x.test", "bcc@far.test" },
	{ "recipient_bcc_maps = TABLE\n", "@d.test", "bcc@far.test" },
	{ "sender_canonical_maps = TABLE\nsender_canonical_classes = envelope_sender\n", "s@x.test",
	  "srs@y.test" },
	{ "recipient_canonical_maps = TABLE\nrecipient_canonical_classes = envelope_recipient\n",
	  "u4@d.test", "back@far.test" },
	{ "virtual_alias_maps = TABLE\ntransport_maps = inline:{{far.test=smtp:[192.0.2.5]}}\n",
	  "u0@d.test", "z@far.test" },
};

static unsigned questions, rounds;

static struct conf *conf_with(const struct situation *s, bool remote)
{
	struct buf b = BUF_INIT;
	const char *at = strstr(s->conf, "TABLE");

	buf_add(&b, s->conf, (size_t)(at - s->conf));
	if (remote)
		buf_add_str(&b, "redis:/tables.test");
	else
		buf_printf(&b, "inline:{{%s=%s}}", s->key, s->value);
	buf_add_str(&b, at + 5);
	buf_add_str(&b, "mydestination = mx.example.org\n");
	struct conf *c = test_conf(buf_cstr(&b));

	buf_fini(&b);
	return c;
}

static void answer(struct map_memo *memo, const struct situation *s, bool broken)
{
	const char *spec;
	struct sv key;

	for (size_t i = 0; i < map_memo_missing_count(memo); i++) {
		map_memo_missing(memo, i, &spec, &key);
		questions++;
		if (broken)
			map_memo_answer(memo, i, MAP_ERROR, SV(""));
		else if (sv_eq(key, sv_from(s->key)))
			map_memo_answer(memo, i, MAP_FOUND, sv_from(s->value));
		else
			map_memo_answer(memo, i, MAP_NOT_FOUND, SV(""));
	}
	map_memo_answered(memo);
}

static void begin(struct message *m)
{
	static char addrs[RCPTS][32];
	struct arena a;
	struct envelope e = { .sender = SV("s@x.test"), .arrival_us = 1700000000000000 };
	struct buf env = BUF_INIT;

	arena_init(&a, 4096, 1 << 20);
	for (unsigned i = 0; i < RCPTS; i++) {
		struct env_rcpt r = { .addr = { addrs[i],
						(size_t)snprintf(addrs[i], sizeof(addrs[i]),
								 "u%u@d.test", i) } };

		env_add_rcpt(&e, &a, &r);
	}
	env_encode(&e, &env);
	ASSERT(message_begin(m, (struct qid){ .time_us = 1700000000000001, .life = 7 },
			     buf_sv(&env)) == 0);
	buf_fini(&env);
	arena_fini(&a);
}

/* What became of the message, as text. */
static void submit(const struct situation *s, bool remote, bool broken, struct buf *out)
{
	struct conf *c = conf_with(s, remote);
	struct map_memo *memo = map_memo_new();
	struct rules rules;
	struct message m;
	char content[] = "Subject: x\r\n\r\ntext\r\n";
	const struct message_verdict *v;
	struct sv body;
	int err = 0;

	ASSERT(rules_open(c, &rules, NULL) == 0);
	message_init(&m, &rules);
	begin(&m);
	ASSERT(message_feed(&m, content, strlen(content), &body) == 0);
	v = message_close(&m, &err);
	ASSERT(v->verdict == SUBMIT_OK);
	questions = 0;
	for (rounds = 1; rounds < ROUNDS; rounds++) {
		map_memo_enter(memo);
		v = message_build(&m);
		if (!map_memo_leave())
			break;
		answer(memo, s, broken);
	}
	buf_printf(out, "%u %u %s\n", v->verdict, v->code, v->text != NULL ? v->text : "");
	if (v->verdict == SUBMIT_OK)
		buf_printf(out, "from %.*s\n", (int)m.env.sender.len, m.env.sender.p);
	for (size_t i = 0; v->verdict == SUBMIT_OK && i < m.env.rcpt_count; i++)
		buf_printf(out, "%.*s (%.*s)\n", (int)m.env.rcpts[i].addr.len,
			   m.env.rcpts[i].addr.p, (int)m.env.rcpts[i].orig_addr.len,
			   m.env.rcpts[i].orig_addr.len > 0 ? m.env.rcpts[i].orig_addr.p : "");
	for (size_t i = 0; v->verdict == SUBMIT_OK && i < m.plan.dest_count; i++)
		buf_printf(out, "%.*s:%.*s %u\n", (int)m.plan.dests[i].transport.len,
			   m.plan.dests[i].transport.p, (int)m.plan.dests[i].nexthop.len,
			   m.plan.dests[i].nexthop.p, (unsigned)m.plan.dests[i].rcpt_count);
	message_fini(&m);
	rules_close(&rules);
	map_memo_free(&memo);
	conf_free(&c);
}

static void test_headers(void)
{
	struct conf *c = test_conf("canonical_maps = redis:/tables.test\n");
	struct conf_diag d;
	struct rules rules;

	conf_diag_init(&d);
	ok(rules_open(c, &rules, &d) < 0 &&
		   strstr(buf_cstr(&d.text), "cannot use remote table for headers") != NULL,
	   "headers cannot wait");
	conf_diag_fini(&d);
	conf_free(&c);
}

int main(void)
{
	test_headers();
	for (size_t i = 0; i < ARRAY_LEN(situations); i++) {
		struct buf here = BUF_INIT, there = BUF_INIT, broken = BUF_INIT;

		submit(&situations[i], false, false, &here);
		is_int(rounds, 1, "situation %zu: tables of the process answer at once", i + 1);
		submit(&situations[i], true, false, &there);
		is_str(buf_cstr(&there), buf_cstr(&here), "the same with a remote one");
		ok(rounds > 1 && rounds < 15, "%u questions of %d recipients in %u rounds",
		   questions, RCPTS, rounds);
		submit(&situations[i], true, true, &broken);
		ok(strncmp(buf_cstr(&broken), "1 451 ", 6) == 0 ||
			   strstr(buf_cstr(&broken), "retry:4.3.0 ") != NULL,
		   "one that is broken makes it wait");
		buf_fini(&here);
		buf_fini(&there);
		buf_fini(&broken);
	}
	return tap_done();
}
