/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A message from envelope and content bytes to record parts and plan. */
#include "workers/rewrite/message.h"

#include "lib/clock.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static const char main_cf[] =
	"mydestination = mx.example.org, localhost\n"
	"virtual_alias_domains = alias.test\n"
	"virtual_alias_maps = inline:{ {a@alias.test = b@alias.test, c@far.test} "
	"{b@alias.test = d@far.test} {loop@alias.test = loop2@alias.test} "
	"{loop2@alias.test = loop@alias.test} {keep@alias.test = keep@alias.test, e@far.test} "
	"{@moved.test = @new.test} {plus@alias.test = p@far.test} {root = admin@far.test} }\n"
	"virtual_mailbox_domains = box.test\n"
	"relay_domains = relay.test\n"
	"recipient_delimiter = +\n"
	"append_dot_mydomain = yes\n"
	"relayhost = [192.0.2.9]:25\n"
	"transport_maps = inline:{ {slow.test = smtp:[192.0.2.1]} {.sub.test = relay:} "
	"{user@one.test = :[192.0.2.2]} {gone.test = error:5.1.1 no such place} "
	"{bad.test = nosuch:x} }\n"
	"hopcount_limit = 3\n"
	"undisclosed_recipients_header = To: undisclosed-recipients:;\n";

static struct rules rules;
static struct message m;
static char warnings[4096];

static void sink(void *ctx, enum log_level level, const char *program, const char *text, size_t len)
{
	(void)ctx;
	(void)program;
	if (level != LOG_LEVEL_INFO)
		snprintf(warnings + strlen(warnings), sizeof(warnings) - strlen(warnings), "%.*s\n",
			 (int)len, text);
}

static struct sv text(const char *s)
{
	return sv_from(s);
}

/* Submit; content in pieces of `step` bytes. Returns the verdict code, 250 when accepted, -1 when
 * the sender is accused. The content put out is in `got`. */
static struct buf got;

/* "\1" in the content stands for a NUL. */
static int submit(struct envelope *e, const char *content, size_t step)
{
	struct buf env = BUF_INIT;
	const struct message_verdict *v;
	size_t len = strlen(content);
	int err;

	e->arrival_us = clock_now_wall().us - 1000;
	env_encode(e, &env);
	err = message_begin(&m, (struct qid){ .time_us = 1700000000000000, .life = 7 },
			    buf_sv(&env));
	buf_fini(&env);
	buf_reset(&got);
	for (size_t at = 0; err == 0 && at < len; at += step) {
		char piece[4096];
		bool cr = m.wire.cr;
		size_t n = size_min(step, len - at);
		struct sv body;

		piece[0] = '\r';
		memcpy(piece + cr, content + at, n);
		for (char *p = piece + cr;
		     (p = memchr(p, 1, (size_t)(piece + cr + n - p))) != NULL;)
			*p = '\0';
		err = message_feed(&m, piece, n + cr, &body);
		buf_add_sv(&got, buf_sv(&m.out));
		buf_reset(&m.out);
		buf_add_sv(&got, body);
	}
	if (err < 0)
		return -1;
	v = message_finish(&m, &err);
	buf_add_sv(&got, buf_sv(&m.out));
	if (err < 0)
		return -1;
	return v->verdict == SUBMIT_OK ? 250 : v->verdict == SUBMIT_DISCARDED ? 1 : v->code;
}

static struct env_rcpt rcpts[200];

static struct envelope envelope(const char *sender, const char *rcpt)
{
	rcpts[0] = (struct env_rcpt){ .addr = text(rcpt) };
	return (struct envelope){ .sender = text(sender), .rcpts = rcpts, .rcpt_count = 1 };
}

static const char *dest_text(size_t entry)
{
	static char out[600];
	const struct plan_dest *d = &m.plan.dests[m.plan.entries[entry].dest];

	snprintf(out, sizeof(out), "%.*s:%.*s", (int)d->transport.len, d->transport.p,
		 (int)d->nexthop.len, d->nexthop.p);
	return out;
}

static const char *rcpt_text(size_t i)
{
	static char out[600];

	snprintf(out, sizeof(out), "%.*s", (int)m.env.rcpts[i].addr.len, m.env.rcpts[i].addr.p);
	return i < m.env.rcpt_count ? out : "none";
}

static void test_routes(void)
{
	static const struct {
		const char *rcpt, *dest;
	} cases[] = {
		{ "joe@mx.example.org", "local:mx.example.org" },
		{ "joe@MX.Example.ORG", "local:mx.example.org" },
		{ "joe", "local:mx.example.org" },
		{ "joe@[127.0.0.1]", "local:mx.example.org" },
		{ "joe@box.test", "virtual:box.test" },
		{ "joe@relay.test", "relay:[192.0.2.9]:25" },
		{ "joe@any.test", "smtp:[192.0.2.9]:25" },
		{ "joe@any", "smtp:[192.0.2.9]:25" },
		{ "joe@Slow.test", "smtp:[192.0.2.1]" },
		{ "joe@a.b.sub.test", "relay:a.b.sub.test" },
		{ "joe@sub.test", "smtp:[192.0.2.9]:25" },
		{ "user@one.test", "smtp:[192.0.2.2]" },
		{ "user+x@one.test", "smtp:[192.0.2.2]" },
		{ "other@one.test", "smtp:[192.0.2.9]:25" },
		{ "joe@gone.test", "error:5.1.1 no such place" },
		{ "joe@bad.test", "retry:4.3.0 mail transport unavailable" },
		{ "nobody@alias.test", "error:5.1.1 User unknown in virtual alias table" },
		{ "joe%any.test@mx.example.org", "local:mx.example.org" },
		{ "joe%any.test", "local:mx.example.org" },
		{ "any.test!joe", "local:mx.example.org" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct envelope e = envelope("s@x.test", cases[i].rcpt);

		is_int(submit(&e, "A: b\r\n\r\n", 4096), 250, "<%s> is accepted", cases[i].rcpt);
		is_str(dest_text(0), cases[i].dest, "<%s> goes to %s", cases[i].rcpt,
		       cases[i].dest);
	}
	ok(strstr(warnings, "no such transport") != NULL, "unknown transport is reported");
	warnings[0] = '\0';
}

static void test_bad_domains(void)
{
	static const char *const bad[] = { "joe@192.0.2.1", "joe@[nonsense]", "joe@a..b",
					   "joe@-a.test" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct envelope e = envelope("s@s.test", bad[i]);

		is_int(submit(&e, "A: b\r\n\r\n", 4096), 250, "<%s> is accepted", bad[i]);
		is_str(dest_text(0), "error:5.1.3 bad address syntax", "and goes back");
	}
}

/* resolve_numeric_domain */
static void test_numeric(void)
{
	static const char *const cases[][2] = {
		{ "joe@192.0.2.1", "joe@[192.0.2.1]" },
		{ "joe@[192.0.2.1]", "joe@[192.0.2.1]" },
		{ "joe@num.192", "joe@num.192" },
	};
	struct params *p = (struct params *)(uintptr_t)rules.chains[0].p;

	p->resolve_numeric_domain = true;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct envelope e = envelope("s@s.test", cases[i][0]);

		submit(&e, "A: b\r\n\r\n", 4096);
		is_str(rcpt_text(0), cases[i][1], "%s, where numbers are domains", cases[i][0]);
	}
	p->resolve_numeric_domain = false;
}

static void test_aliases(void)
{
	struct envelope e = envelope("s@x.test", "a@alias.test");

	is_int(submit(&e, "\r\n", 4096), 250, "alias accepted");
	is_int(m.env.rcpt_count, 2, "two targets");
	is_str(rcpt_text(0), "d@far.test", "recursive");
	is_str(rcpt_text(1), "c@far.test", "second");
	ok(sv_eq_str(m.env.rcpts[1].orig_addr, "a@alias.test"), "original address kept");
	e = envelope("s@x.test", "keep@alias.test");
	submit(&e, "\r\n", 4096);
	is_int(m.env.rcpt_count, 2, "an alias may name itself");
	e = envelope("s@x.test", "x@moved.test");
	submit(&e, "\r\n", 4096);
	is_str(rcpt_text(0), "x@new.test", "whole domain moved");
	e = envelope("s@x.test", "plus+ext@alias.test");
	submit(&e, "\r\n", 4096);
	is_str(rcpt_text(0), "p+ext@far.test", "extension is carried over");
	e = envelope("s@x.test", "root");
	submit(&e, "\r\n", 4096);
	is_str(rcpt_text(0), "admin@far.test", "bare name of a local domain");
	e = envelope("s@x.test", "loop@alias.test");
	is_int(submit(&e, "\r\n", 4096), 451, "loop is a temporary error");
	ok(strstr(warnings, "unreasonable") != NULL, "and is reported");
	warnings[0] = '\0';
	e = envelope("s@x.test", "a@alias.test");
	e.flags = ENVF_NO_RECIPIENT_MAPS;
	submit(&e, "\r\n", 4096);
	is_str(rcpt_text(0), "a@alias.test", "no_address_mappings");
	rcpts[1] = (struct env_rcpt){ .addr = text("X@any.test") };
	rcpts[2] = (struct env_rcpt){ .addr = text("x@ANY.test") };
	e = envelope("s@x.test", "x@any.test");
	e.rcpt_count = 3;
	submit(&e, "\r\n", 4096);
	is_int(m.env.rcpt_count, 1, "other spellings are duplicates");
	rcpts[1].addr = rcpts[2].addr = rcpts[0].addr;
	e.rcpt_count = 3;
	submit(&e, "\r\n", 4096);
	is_int(m.env.rcpt_count, 1, "duplicates removed");
	e = envelope("s@x.test", "x@any.test");
	e.redirect = text("y@any.test");
	submit(&e, "\r\n", 4096);
	is_str(rcpt_text(0), "y@any.test", "REDIRECT");
	e = envelope("s@x.test", "x@box.test");
	e.filter = text("smtp:[192.0.2.77]:10025");
	submit(&e, "\r\n", 4096);
	is_str(dest_text(0), "smtp:[192.0.2.77]:10025", "FILTER");
}

static void test_plan(void)
{
	static char names[200][40];
	struct envelope e = envelope("s@x.test", "");
	uint32_t covered = 0;

	for (size_t i = 0; i < 200; i++) {
		snprintf(names[i], sizeof(names[i]), "u%zu@%s", i,
			 i % 2 ? "box.test" : "slow.test");
		rcpts[i] = (struct env_rcpt){ .addr = text(names[i]) };
	}
	e.rcpt_count = 200;
	is_int(submit(&e, "\r\n", 4096), 250, "200 recipients");
	is_int(m.plan.dest_count, 2, "two destinations");
	for (size_t i = 0; i < m.plan.entry_count; i++) {
		const struct proto_entry *en = &m.plan.entries[i];
		unsigned n = (unsigned)__builtin_popcountll(en->mask);

		is_int(en->rcpt_first, covered, "entry %zu follows", i);
		ok(n <= m.plan.dests[en->dest].rcpt_max, "entry %zu is small enough", i);
		for (unsigned b = 0; b < n; b++) {
			struct sv a = m.env.rcpts[covered + b].addr;
			bool box = memmem(a.p, a.len, "box", 3) != NULL;

			if (box != (m.plan.dests[en->dest].nexthop.p[0] == 'b'))
				ok(false, "recipient %u is in the wrong entry", covered + b);
		}
		covered += n;
	}
	is_int(covered, 200, "all recipients are covered");
	struct plan again;
	struct arena a;
	uint64_t seen = 0, mask = 0xf0f0000000000001;

	arena_init(&a, 4096, 0);
	is_int(plan_again(rules.conf, rules.chains[0].router, &m.env, 70, mask, &a, &again), 0,
	       "planned again");
	for (size_t i = 0; i < again.entry_count; i++) {
		ok((seen & again.entries[i].mask) == 0 && again.entries[i].rcpt_first == 70,
		   "masks are disjoint");
		seen |= again.entries[i].mask;
	}
	ok(seen == mask, "masks cover what was asked");
	is_int(plan_again(rules.conf, rules.chains[0].router, &m.env, 150, UINT64_MAX, &a, &again),
	       E_CORRUPT, "mask past the recipients");
	arena_fini(&a);
}

static void test_content(void)
{
	static const struct {
		const char *name, *in, *out;
		int code;
		bool local;
	} cases[] = {
		{ "plain", "A: b\r\n\r\nbody\r\n", "A: b\r\n\r\nbody\r\n", 250, false },
		{ "no body", "A: b\r\n", "A: b\r\n", 250, false },
		{ "empty", "", "", 250, false },
		{ "body only", "hello world\r\n", "\r\nhello world\r\n", 250, false },
		{ "text after headers", "A: b\r\nno header\r\n", "A: b\r\n\r\nno header\r\n", 250,
		  false },
		{ "dropped", "Bcc: x@y\r\n z@y\r\nA: b\r\nReturn-Path: <q>\r\n\r\nx\r\n",
		  "A: b\r\n\r\nx\r\n", 250, false },
		{ "folded", "A: b\r\n c\r\n\td\r\n\r\n", "A: b\r\n c\r\n\td\r\n\r\n", 250, false },
		{ "hops", "Received: 1\r\nReceived: 2\r\nReceived: 3\r\nReceived: 4\r\n\r\n", NULL,
		  554, false },
		{ "stuffed", "A: b\r\n\r\n..x\r\n", "A: b\r\n\r\n..x\r\n", 250, false },
		{ "lone CR", "A: b\rc\r\n\r\nx\ry\r\n", "A: b c\r\n\r\nx y\r\n", 250, false },
		{ "end of data inside", "A: b\r\n\r\nx\r\n.\r\nMAIL\r\n", NULL, -1, false },
		{ "unstuffed dot", "A: b\r\n\r\n.x\r\n", NULL, -1, false },
		{ "lone LF", "A: b\r\n\r\nx\n.\r\n", NULL, -1, false },
		{ "LF first", "\nA: b\r\n", NULL, -1, false },
		{ "no line end", "A: b\r\n\r\nx", NULL, -1, false },
		{ "ends with CR", "A: b\r\n\r\nx\r", NULL, -1, false },
		{ "local",
		  "From: joe\r\nTo: \"B B\" <bob>, x@host (c)\r\nDate: d\r\nMessage-Id: "
		  "<1@x>\r\n\r\n",
		  "From: joe@mx.example.org\r\nTo: \"B B\" <bob@mx.example.org>, "
		  "x@host.example.org (c)\r\nDate: d\r\nMessage-Id: <1@x>\r\n\r\n",
		  250, true },
		{ "remote is left alone", "From: joe\r\n\r\n", "From: joe\r\n\r\n", 250, false },
		{ "missing", "Date: d\r\n\r\nx\r\n",
		  "Date: d\r\nMessage-Id: <QID@mx.example.org>\r\nFrom: s@x.test\r\nTo: "
		  "undisclosed-recipients:;\r\n\r\nx\r\n",
		  250, true },
		{ "a route goes",
		  "To: <@r.test,@s.test:u@v.test> (c),\r\n <u@v.test>\r\nDate: d\r\nFrom: "
		  "a@v.test\r\nMessage-Id: <1@x>\r\n\r\n",
		  "To: <u@v.test> (c),\r\n <u@v.test>\r\nDate: d\r\nFrom: a@v.test\r\nMessage-Id: "
		  "<1@x>\r\n\r\n",
		  250, true },
		{ "a NUL ends a header's line", "A: b\1c\r\n d\1\r\nB:\1e\r\n\r\n",
		  "A: b\r\n d\r\nB:\r\n\r\n", 250, false },
		{ "whole lines if nine tenths", "Long: 7890123\r\n 567890\r\n xyz\r\nB: b\r\n\r\n",
		  "Long: 7890123\r\n 567890\r\nB: b\r\n\r\n", 250, false },
		{ "no more than the limit", "Long: 78901234\r\n 56789012345\r\n y\r\n\r\n",
		  "Long: 78901234\r\n 56789012\r\n\r\n", 250, false },
		{ "in the first line", "Long: 78901234567890123456\r\nB: b\r\n\r\n",
		  "Long: 789012345678901234\r\nB: b\r\n\r\n", 250, false },
		{ "resent", "Resent-Date: d\r\nTo: a@b\r\n\r\n",
		  "Resent-Date: d\r\nTo: a@b.example.org\r\nResent-Message-Id: "
		  "<QID@mx.example.org>\r\nResent-From: s@x.test\r\n\r\n",
		  250, true },
	};
	static const size_t steps[] = { 4096, 1, 2, 3, 7 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
			struct envelope e = envelope("s@x.test", "r@any.test");
			char want[1000] = "";
			const char *q;

			e.flags = cases[i].local ? ENVF_LOCAL_CLIENT : 0;
			rules.chains[0].header.size_limit = cases[i].in[0] == 'L' ? 24 : 102400;
			is_int(submit(&e, cases[i].in, steps[s]), cases[i].code, "%s, by %zu",
			       cases[i].name, steps[s]);
			if (cases[i].out == NULL)
				continue;
			q = strstr(cases[i].out, "QID");
			if (q != NULL)
				snprintf(want, sizeof(want), "%.*s%s%s", (int)(q - cases[i].out),
					 cases[i].out, m.qid_text, q + 3);
			is_str(buf_cstr(&got), q != NULL ? want : cases[i].out, "%s, by %zu: text",
			       cases[i].name, steps[s]);
		}
	}
}

/* What deliveries decide by: the longest line, 8 bits announced. */
static void test_notes(void)
{
	static const struct {
		const char *name, *in;
		unsigned longest;
		bool local, eight;
	} cases[] = {
		{ "lines", "A: b\r\n\r\n1234567\r\n12\r\n", 7, false, false },
		{ "8bit", "content-transfer-encoding: 8BIT\r\n\r\n", 31, false, true },
		{ "binary in a part", "A: b\r\n\r\nContent-Transfer-Encoding:binary\r\n", 32, false,
		  true },
		{ "7bit", "Content-Transfer-Encoding: 7bit\r\n\r\n", 31, false, false },
		{ "not at the start", "A: b\r\n\r\n Content-Transfer-Encoding: 8bit\r\n", 32, false,
		  false },
		{ "nothing", "", 0, false, false },
	};
	static const size_t steps[] = { 4096, 1, 2, 3, 7, 30 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
			struct envelope e = envelope("s@x.test", "r@any.test");

			is_int(submit(&e, cases[i].in, steps[s]), 250, "%s, by %zu", cases[i].name,
			       steps[s]);
			is_int(m.env.longest, cases[i].longest, "%s: the longest line",
			       cases[i].name);
			is_int(m.env.body, cases[i].eight ? BODY_8BIT : BODY_UNKNOWN, "%s: 8 bits",
			       cases[i].name);
		}
	}
	struct envelope e = envelope("s@x.test", "r@any.test");

	e.flags = ENVF_LOCAL_CLIENT;
	submit(&e, "To: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, b\r\n\r\n", 4096);
	ok(m.env.longest > 70, "a header that became longer counts as it is now");
}

static void test_verify(void)
{
	struct envelope e = envelope("double-bounce@x.test", "r@any.test");

	e.verify = SV("r@any.test");
	is_int(submit(&e, "A: b\r\n\r\n", 4096), 250, "a probe");
	is_int(m.hdr.flags & (MSGF_VERIFY | MSGF_INTERNAL | MSGF_WANT_SUCCESS),
	       MSGF_VERIFY | MSGF_INTERNAL | MSGF_WANT_SUCCESS, "is marked");
	ok((m.env.flags & ENVF_PROBE) != 0, "and delivers nothing, whatever its envelope says");
}

static void test_flags(void)
{
	struct envelope e = envelope("", "r@any.test");
	struct sv prepend = SV("X-Spam: yes");

	e.prepend = &prepend;
	e.prepend_count = 1;
	e.flags = ENVF_HOLD | ENVF_INTERNAL;
	e.bounce_of = text("forged");
	is_int(submit(&e, "A: b\r\n\r\n", 4096), 250, "null sender");
	is_int(m.hdr.flags, MSGF_NULL_SENDER | MSGF_HOLD, "flags; a client cannot claim INTERNAL");
	is_int(m.env.bounce_of.len, 0, "nor bounce_of");
	is_str(buf_cstr(&got), "X-Spam: yes\r\nA: b\r\n\r\n", "PREPEND");
	e = envelope("s@x.test", "r@any.test");
	e.flags = ENVF_DISCARD;
	is_int(submit(&e, "A: b\r\n\r\n", 4096), 1, "DISCARD");
	e = envelope("double-bounce@mx.example.org", "r@any.test");
	rcpts[0].notify = NOTIFY_SUCCESS;
	submit(&e, "A: b\r\n\r\n", 4096);
	uint32_t flow = m.hdr.flags & MSGF_FLOW_MASK;

	is_int(m.hdr.flags ^ flow, MSGF_DOUBLE_BOUNCE | MSGF_WANT_SUCCESS,
	       "double bounce, success wanted");
	submit(&e, "A: c\r\n\r\n", 4096);
	is_int(m.hdr.flags & MSGF_FLOW_MASK, flow, "the same sender, the same flow");
	is_int(message_begin(&m, (struct qid){ 5, 5 }, SV("\1garbage")), E_PEER,
	       "damaged envelope");
}

int main(void)
{
	struct conf *c = test_conf(main_cf);
	struct conf_diag d;

	clock_init();
	clock_tick();
	log_set_sink(sink, NULL);
	conf_diag_init(&d);
	ok(c != NULL, "configuration");
	if (c == NULL || !ok(rules_open(c, &rules, &d) == 0, "rules")) {
		printf("# %s\n", buf_cstr(&d.text));
		return tap_done();
	}
	message_init(&m, &rules);
	test_routes();
	test_bad_domains();
	test_numeric();
	test_aliases();
	test_plan();
	test_content();
	test_notes();
	test_flags();
	test_verify();
	is_str(warnings, "", "no other warnings");
	message_fini(&m);
	buf_fini(&got);
	rules_close(&rules);
	conf_free(&c);
	conf_diag_fini(&d);
	return tap_done();
}
