/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages and remote tables: what becomes of a message is the same as with the same table in the
 * process, however often message_build() has to begin anew; and the questions of all its recipients
 * are asked together. So it is with headers, in how many pieces they may come.
 */
#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/log.h"
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
	if (strstr(s->conf, "mydestination") == NULL)
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

/* ---- headers ---- */

static const struct situation header_situations[] = {
	{ "canonical_maps = TABLE\n", "joe@x.test", "Joe.User@y.test" },
	{ "sender_canonical_maps = TABLE\n", "joe@x.test", "Joe.User@y.test" },
	{ "recipient_canonical_maps = TABLE\n", "@far.test", "@further.test" },
	{ "canonical_maps = TABLE\nheader_checks = pcre:{{/^To:/ INFO seen},{/^X-Secret:/ "
	  "IGNORE}}\n",
	  "joe@x.test", "Joe.User@y.test" },
	{ "sender_canonical_maps = TABLE\n", "s@x.test", "new@x.test" }, /* for the added From */
	{ "canonical_maps = pipemap:{TABLE,inline:{{one=two@y.test}}}\n", "joe@x.test", "one" },
	{ "canonical_maps = TABLE\nheader_checks = pcre:{{/^To:/ REJECT not here}}\n", "joe@x.test",
	  "Joe.User@y.test" },
	{ "masquerade_domains = x.test\nmasquerade_exceptions = TABLE\n", "root", "x" },
	{ "canonical_maps = inline:{{joe=hidden@y.test}}\nmydestination = TABLE\n", "x.test", "x" },
};
static const char *const contents[] = {
	("From: Joe <joe@x.test>\r\nTo: a@far.test,\r\n b@far.test\r\nX-Secret: 1\r\n"
	 "Subject: x\r\n\r\ntext\r\n.. and a dot\r\n"),
	"To: c@far.test\r\nCc: joe@x.test, root@host.x.test\r\n\r\nFrom: joe@x.test is body\r\n",
	"Subject: only headers\r\n",
	"no header at all\r\n",
	"Sender: joe@host.x.test\r\n\r\n",
};

static struct buf logged;

static void log_sink(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		     const char *text, size_t len)
{
	buf_add(&logged, text, len);
	buf_add_c(&logged, '\n');
}

/* One piece of content; what is left of it goes behind m->out. */
static void feed(struct message *m, struct map_memo *memo, const char *data, size_t len)
{
	char piece[1000];
	bool cr = m->wire.cr, ask = m->open && !m->held;
	struct sv body;

	piece[0] = '\r';
	memcpy(piece + cr, data, len);
	if (ask)
		map_memo_enter(memo);
	ASSERT(message_feed(m, piece, len + cr, &body) == 0);
	if (ask)
		map_memo_leave();
	if (!m->open)
		buf_add_sv(&m->out, body);
}

static const struct message_verdict *close_it(struct message *m, struct map_memo *memo)
{
	const struct message_verdict *v;
	int err;

	map_memo_enter(memo);
	v = message_close(m, &err);
	map_memo_leave();
	ASSERT(err == 0);
	return v;
}

/* What becomes of content that comes in pieces of `step` bytes; answers come after `late` more. */
static void header_of(const struct situation *s, const char *content, size_t step, unsigned late,
		      bool remote, bool broken, struct buf *out)
{
	struct conf *c = conf_with(s, remote);
	struct map_memo *memo = map_memo_new();
	const struct message_verdict *v = NULL;
	struct rules rules;
	struct message m;
	struct envelope e = { .sender = SV("s@x.test"),
			      .flags = ENVF_LOCAL_CLIENT,
			      .arrival_us = 1700000000000000 };
	struct env_rcpt r = { .addr = SV("u@far.test") };
	struct buf env = BUF_INIT;
	unsigned waited = 0;
	struct sv body;
	struct arena a;

	arena_init(&a, 4096, 1 << 20);
	env_add_rcpt(&e, &a, &r);
	env_encode(&e, &env);
	ASSERT(rules_open(c, &rules, NULL) == 0);
	message_init(&m, &rules);
	ASSERT(message_begin(&m, (struct qid){ .time_us = 1700000000000001, .life = 7 },
			     buf_sv(&env)) == 0);
	buf_reset(&logged);
	for (size_t at = 0, len = strlen(content); v == NULL;) {
		if (at < len)
			feed(&m, memo, content + at, size_min(step, len - at));
		at += step;
		if (at >= len && !m.held)
			v = close_it(&m, memo);
		if (!m.held || (at < len && waited++ < late))
			continue;
		answer(memo, s, broken);
		map_memo_enter(memo);
		message_again(&m, &body);
		map_memo_leave();
		if (!m.held)
			buf_add_sv(&m.out, body);
	}
	while (v->verdict == SUBMIT_OK) {
		map_memo_enter(memo);
		v = message_build(&m);
		if (!map_memo_leave())
			break;
		answer(memo, s, broken);
		v = &verdict_ok;
	}
	buf_printf(out, "%u %u %s\n", v->verdict, v->code, v->text != NULL ? v->text : "");
	if (v->verdict == SUBMIT_OK)
		buf_add_sv(out, buf_sv(&m.out));
	if (!broken)
		buf_add_sv(out, buf_sv(&logged));
	message_fini(&m);
	rules_close(&rules);
	map_memo_free(&memo);
	conf_free(&c);
	arena_fini(&a);
	buf_fini(&env);
}

static void test_headers(void)
{
	static const size_t steps[] = { 1, 7, 31, 1000 };

	log_set_sink(log_sink, NULL);
	for (size_t i = 0; i < ARRAY_LEN(header_situations); i++) {
		const struct situation *s = &header_situations[i];
		unsigned same = 0, waits = 0, all = 0;

		for (size_t k = 0; k < ARRAY_LEN(contents); k++) {
			for (size_t n = 0; n < 2 * ARRAY_LEN(steps); n++) {
				struct buf here = BUF_INIT, there = BUF_INIT, broken = BUF_INIT;
				unsigned late = n < ARRAY_LEN(steps) ? 0 : 5;
				size_t step = steps[n % ARRAY_LEN(steps)];

				header_of(s, contents[k], step, late, false, false, &here);
				header_of(s, contents[k], step, late, true, false, &there);
				header_of(s, contents[k], step, late, true, true, &broken);
				all++;
				if (strcmp(buf_cstr(&here), buf_cstr(&there)) == 0)
					same++;
				else
					is_str(buf_cstr(&there), buf_cstr(&here), "the same");
				waits += strncmp(buf_cstr(&broken), "1 451 ", 6) == 0 ||
					 strncmp(buf_cstr(&broken), buf_cstr(&here), broken.len) ==
						 0;
				buf_fini(&here);
				buf_fini(&there);
				buf_fini(&broken);
			}
		}
		is_int(same, all, "header situation %zu: as with a table of the process", i + 1);
		is_int(waits, all, "one that is broken makes it wait, unless it is not needed");
	}
}

/* What a header asks for is found: the tests above do not compare nothing with nothing. */
static void test_header_is_mapped(void)
{
	struct buf out = BUF_INIT;

	header_of(&header_situations[0], contents[0], 13, 0, true, false, &out);
	ok(strstr(buf_cstr(&out), "\nFrom: Joe <Joe.User@y.test>\r\n") != NULL,
	   "a header's address");
	ok(strstr(buf_cstr(&out), "\r\n\r\ntext\r\n.. and a dot\r\n") != NULL,
	   "and the body behind");
	buf_reset(&out);
	header_of(&header_situations[4], contents[1], 13, 0, true, false, &out);
	ok(strstr(buf_cstr(&out), "\nFrom: new@x.test\r\n") != NULL, "a From that is added");
	buf_reset(&out);
	header_of(&header_situations[3], contents[0], 13, 0, true, false, &out);
	const char *line = strstr(buf_cstr(&out), "info: header To: a@far.test");

	ok(line != NULL && strstr(line + 1, "info: header") == NULL, "checks log once");
	ok(strstr(buf_cstr(&out), "X-Secret") == NULL, "and act");
	buf_fini(&out);
	log_set_sink(NULL, NULL);
	buf_fini(&logged);
}

int main(void)
{
	test_headers();
	test_header_is_mapped();
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
