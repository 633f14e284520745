/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Canonical maps, masquerading and bcc: addresses of envelope and header. */
#include "lib/clock.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/rewrite/message.h"

static const char main_cf[] =
	"mydestination = mx.example.org\n"
	"recipient_delimiter = +\n"
	"sender_canonical_maps = inline:{ {joe@mx.example.org = Joe.Doe@example.org} }\n"
	"recipient_canonical_maps = inline:{ {old@far.test = new@far.test} {gone@far.test = "
	"@other.test} }\n"
	"canonical_maps = inline:{ {ring@far.test = rang@far.test} {rang@far.test = ring@far.test} "
	"{bare = Bare.Name@example.org} {two@far.test = one@far.test, other@far.test} "
	"{self@far.test = self@far.test} {\"a b\"@far.test = ab@far.test} }\n"
	"masquerade_domains = !keep.example.com example.com\n"
	"masquerade_classes = envelope_sender, envelope_recipient, header_sender, "
	"header_recipient\n"
	"masquerade_exceptions = root\n"
	"sender_bcc_maps = inline:{ {joe.doe@example.org = archive@bcc.test} }\n"
	"recipient_bcc_maps = inline:{ {new@far.test = copy@bcc.test} }\n";

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

/* One message; the header section that came out, or NULL when it was refused. */
static const char *submit(const char *sender, const char *rcpt, uint32_t flags, const char *header)
{
	static char out[4096];
	struct env_rcpt r = { .addr = sv_from(rcpt) };
	struct envelope e = { .sender = sv_from(sender),
			      .rcpts = &r,
			      .rcpt_count = 1,
			      .flags = flags,
			      .arrival_us = clock_now_wall().us - 1000 };
	struct buf env = BUF_INIT;
	struct sv body;
	char text[2048];
	int err, len = snprintf(text, sizeof(text), "%s\r\n", header);

	env_encode(&e, &env);
	err = message_begin(&m, (struct qid){ .time_us = 1700000000000000, .life = 7 },
			    buf_sv(&env));
	buf_fini(&env);
	if (err == 0)
		err = message_feed(&m, text, (size_t)len, &body);
	if (err < 0 || message_finish(&m, &err)->verdict != SUBMIT_OK || err < 0)
		return NULL;
	snprintf(out, sizeof(out), "%s", buf_cstr(&m.out));
	return out;
}

static const char *addr_text(struct sv a)
{
	static char out[2][600];
	static unsigned turn;

	turn ^= 1;
	snprintf(out[turn], sizeof(out[turn]), "%.*s", (int)a.len, a.len > 0 ? a.p : "");
	return out[turn];
}

static void test_envelope(void)
{
	static const struct {
		const char *sender, *rcpt, *want_sender, *want_rcpt;
	} cases[] = {
		{ "x@x.test", "y@y.test", "x@x.test", "y@y.test" },
		{ "joe@mx.example.org", "y@y.test", "Joe.Doe@example.org", "y@y.test" },
		{ "joe+tag@mx.example.org", "y@y.test", "Joe.Doe+tag@example.org", "y@y.test" },
		{ "joe", "y@y.test", "Joe.Doe@example.org", "y@y.test" },
		{ "y@y.test", "joe@mx.example.org", "y@y.test", "joe@mx.example.org" },
		{ "old@far.test", "old@far.test", "old@far.test", "new@far.test" },
		{ "", "gone@far.test", "", "gone@other.test" },
		{ "", "bare", "", "Bare.Name@example.org" },
		{ "", "bare@mx.example.org", "", "Bare.Name@example.org" },
		{ "", "bare@else.test", "", "bare@else.test" },
		{ "", "self@far.test", "", "self@far.test" },
		{ "", "a b@far.test", "", "ab@far.test" },
		{ "a@host.example.com", "b@deep.host.Example.COM", "a@example.com",
		  "b@example.com" },
		{ "a@example.com", "b@notexample.com", "a@example.com", "b@notexample.com" },
		{ "a@keep.example.com", "b@h.keep.example.com", "a@keep.example.com",
		  "b@h.keep.example.com" },
		{ "root@host.example.com", "b@b.test", "root@host.example.com", "b@b.test" },
		{ "MAILER-DAEMON", "b@b.test", "", "b@b.test" },
		{ "mailer-daemon@else.test", "b@b.test", "mailer-daemon@else.test", "b@b.test" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		ok(submit(cases[i].sender, cases[i].rcpt, 0, "A: b\r\n") != NULL, "<%s> to <%s>",
		   cases[i].sender, cases[i].rcpt);
		is_str(addr_text(m.env.sender), cases[i].want_sender, "sender %s", cases[i].sender);
		is_str(addr_text(m.env.rcpts[0].addr), cases[i].want_rcpt, "recipient %s",
		       cases[i].rcpt);
	}
	is_str(warnings, "", "no warnings");
	submit("", "two@far.test", 0, "A: b\r\n");
	is_str(addr_text(m.env.rcpts[0].addr), "one@far.test", "several results: the first");
	ok(strstr(warnings, "multi-valued") != NULL, "and a warning");
	warnings[0] = '\0';
	ok(submit("", "ring@far.test", 0, "A: b\r\n") != NULL, "tables in a circle end");
	ok(strstr(warnings, "unreasonable canonical map nesting") != NULL, "with a warning");
	warnings[0] = '\0';
	submit("joe@mx.example.org", "old@far.test", ENVF_NO_RECIPIENT_MAPS, "A: b\r\n");
	is_str(addr_text(m.env.rcpts[0].addr), "old@far.test", "no_address_mappings: recipient");
	is_str(addr_text(m.env.sender), "joe@mx.example.org", "and sender");
}

static void test_bcc(void)
{
	submit("joe@mx.example.org", "old@far.test", 0, "A: b\r\n");
	is_int(m.env.rcpt_count, 3, "two copies");
	is_str(addr_text(m.env.rcpts[1].addr), "copy@bcc.test",
	       "by the recipient as it was mapped");
	is_str(addr_text(m.env.rcpts[2].addr), "archive@bcc.test",
	       "by the sender as it was mapped");
}

static void test_header(void)
{
	const char *in =
		"From: Joe <joe@mx.example.org>\r\nTo: old@far.test,\r\n \"Q\" <x@x.test>\r\n"
		"Reply-To: a@host.example.com (me)\r\nMessage-Id: <old@far.test>\r\n"
		"Date: x\r\n";
	const char *out = submit("s@s.test", "r@r.test", ENVF_LOCAL_CLIENT, in);

	ok(out != NULL && strstr(out, "From: Joe <Joe.Doe@example.org>\r\n") != NULL, "From");
	ok(out != NULL && strstr(out, "To: new@far.test,\r\n \"Q\" <x@x.test>\r\n") != NULL,
	   "To: folding and the rest stay");
	ok(out != NULL && strstr(out, "Reply-To: a@example.com (me)\r\n") != NULL, "masquerading");
	ok(out != NULL && strstr(out, "Message-Id: <old@far.test>\r\n") != NULL, "no other header");
	out = submit("s@s.test", "r@r.test", 0, in);
	ok(out != NULL && strstr(out, "From: Joe <joe@mx.example.org>\r\n") != NULL,
	   "headers of remote clients stay as they are");
	out = submit("s@s.test", "r@r.test", ENVF_LOCAL_CLIENT | ENVF_NO_RECIPIENT_MAPS, in);
	ok(out != NULL && strstr(out, "To: old@far.test,") != NULL, "no_address_mappings");
}

/* What cannot be asked keeps the mail out for now, and a class that does not exist is an error. */
static void test_broken(void)
{
	struct conf *c = test_conf("canonical_maps = texthash:/nonexistent/table\n");
	struct conf_diag d;
	struct rules broken;

	message_fini(&m);
	conf_diag_init(&d);
	ok(rules_open(c, &broken, &d) == 0, "a table that is not there");
	message_init(&m, &broken);
	ok(submit("a@a.test", "b@b.test", 0, "A: b\r\n") == NULL, "refuses the envelope");
	is_int(submit("", "", ENVF_DISCARD, "From: a@a.test\r\n") == NULL, 1, "discarded");
	message_fini(&m);
	rules_close(&broken);
	conf_free(&c);
	conf_diag_fini(&d);
	conf_diag_init(&d);
	c = test_conf("canonical_classes = envelope_sender, body\n");
	ok(rules_open(c, &broken, &d) < 0, "an unknown class");
	ok(strstr(buf_cstr(&d.text), "canonical_classes: unknown class body") != NULL, "is named");
	conf_free(&c);
	conf_diag_fini(&d);
	message_init(&m, &rules);
}

int main(void)
{
	struct conf *c = test_conf(main_cf);
	struct conf_diag d;

	clock_init();
	clock_tick();
	log_set_sink(sink, NULL);
	conf_diag_init(&d);
	if (!ok(c != NULL && rules_open(c, &rules, &d) == 0, "rules")) {
		printf("# %s\n", buf_cstr(&d.text));
		return tap_done();
	}
	message_init(&m, &rules);
	test_envelope();
	test_bcc();
	test_header();
	test_broken();
	message_fini(&m);
	rules_close(&rules);
	conf_free(&c);
	conf_diag_fini(&d);
	return tap_done();
}
