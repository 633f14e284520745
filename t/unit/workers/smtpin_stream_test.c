/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Streams: the same bytes in any pieces give the same answers; every way to end data that is not
 * CRLF.CRLF is content (or, where the configuration says so, an end); random commands against a
 * model of the protocol state.
 */
#include "t/unit/tap.h"
#include "t/unit/workers/smtpin_fake.h"

/* ---- pieces ---- */

static const char *const streams[] = {
	"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nRCPT "
	"TO:<n@far.test>\r\nDATA\r\n"
	"Subject: a\r\n\r\n.dot\r\n..dots\r\nbare\nlf\rcr\r\r\n\n.\n\r\n.\r\nMAIL "
	"FROM:<>\r\nRSET\r\n"
	"NOOP\r\nVRFY u@local.test\r\nQUIT\r\n",
	"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nBDAT 7\r\nab\r\n.\r\nBDAT "
	"1\r\n\r"
	"BDAT 1\r\n\nBDAT 3 LAST\r\n..\rMAIL FROM:<>\r\nRCPT TO:<u@local.test>\r\nBDAT 0 LAST\r\n"
	"BDAT 4\r\nBDATMAIL FROM:<>\r\nBDAT 0 LAST\r\nHELP\r\nFOO\r\nQUIT\r\n",
	"HELO c\nMAIL FROM:<a@x.test>\nRCPT TO:<u@local.test>\nDATA\n>>From x\n y\n.\r\n.\r\nRSET\n"
	"MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nDATA\r\n\t.\r\n.\r\nBDAT x\r\nNOOP\r\n",
	"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nDATA\r\nFrom\r\n.\r\n"
	"MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\nDATA\r\n>From "
	"me\r\n.\r\nQUIT\r\nNOOP\r\n",
};

struct result {
	struct buf replies, content;
};

static void run_stream(struct fake *f, const char *text, unsigned mode, struct result *r)
{
	size_t len = strlen(text), at = 0;
	uint32_t rnd = mode * 2654435761u + 1;
	unsigned seen = 0;

	f->qid_us = 0;
	f->room_bytes = mode % 3 == 0 ? 70000 : 1 + mode % 7;
	fake_connect(f, "192.0.2.1");
	buf_reset(&r->replies);
	buf_reset(&r->content);
	f->begun = f->ended = 0;
	while (at < len && !session_is_over(&f->s)) {
		size_t n = 1;

		if (mode == 0) {
			n = len;
		} else if (mode > 1) {
			rnd = rnd * 1103515245u + 12345u;
			n = 1 + (rnd >> 16) % 9;
		}
		n = size_min(n, len - at);
		session_input(&f->s, text + at, n);
		/* bytes that come while it waits are kept by the caller of a real session */
		fake_settle(f);
		at += n;
		if (f->ended > seen) {
			seen = f->ended;
			buf_add(&r->content, f->content.p, f->content.len);
		}
	}
	buf_add(&r->replies, f->reply.p, f->reply.len);
}

static void test_pieces(void)
{
	struct fake f;
	struct result whole = { BUF_INIT, BUF_INIT }, part = { BUF_INIT, BUF_INIT };

	fake_conf(&f,
		  "smtpd_forbid_unauth_pipelining = no\nsmtpd_soft_error_limit = 100\n"
		  "smtpd_hard_error_limit = 101\n",
		  NULL);
	for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
		bool same = true;

		run_stream(&f, streams[i], 0, &whole);
		for (unsigned mode = 1; mode < 60; mode++) {
			run_stream(&f, streams[i], mode, &part);
			if (strcmp(buf_cstr(&whole.replies), buf_cstr(&part.replies)) != 0) {
				same = false;
				printf("# mode %u:\n%s# instead of\n%s", mode,
				       buf_cstr(&part.replies), buf_cstr(&whole.replies));
				break;
			}
			/* whole input hands over only the last message's content to compare */
			if (part.content.len < whole.content.len ||
			    memcmp(part.content.p + part.content.len - whole.content.len,
				   whole.content.p, whole.content.len) != 0) {
				same = false;
				printf("# mode %u: other content\n", mode);
				break;
			}
		}
		ok(same && whole.replies.len > 100, "stream %zu in pieces", i);
	}
	buf_fini(&whole.replies);
	buf_fini(&whole.content);
	buf_fini(&part.replies);
	buf_fini(&part.content);
	fake_fini(&f);
}

/* ---- smuggling ---- */

static const char *const line_ends[] = { "\r\n", "\n", "\r", "\r\r\n", "\n\r", "\n\r\n", "\r\n\r" };

/* Wire form: CR and LF only together, no line that is a lone dot. */
static bool is_wire(const struct buf *b)
{
	for (size_t i = 0; i < b->len; i++) {
		char c = b->p[i], before = i > 0 ? b->p[i - 1] : '\n';
		char after = i + 1 < b->len ? b->p[i + 1] : '\0';

		if ((c == '\n' && before != '\r') || (c == '\r' && after != '\n'))
			return false;
		if (c == '.' && before == '\n' && after == '\r')
			return false;
	}
	return b->len == 0 || b->p[b->len - 1] == '\n';
}

static unsigned try_smuggling(struct fake *f, const char *a, const char *b)
{
	char data[300];

	fake_connect(f, "192.0.2.1");
	fake_say(f, "EHLO c\r\n");
	fake_say(f, "MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(f, "DATA\r\n");
	f->ended = 0;
	snprintf(data, sizeof(data),
		 "Subject: x\r\n\r\nbody%s.%sMAIL FROM:<evil@x.test>\r\nRCPT TO:<u@local.test>\r\n"
		 "DATA\r\nSubject: evil\r\n\r\nx\r\n.\r\n",
		 a, b);
	fake_say(f, data);
	return f->ended;
}

static void test_smuggling(void)
{
	static const struct {
		const char *conf;
		bool lax, rejects;
	} modes[] = {
		{ "smtpd_forbid_bare_newline = normalize\n", false, false },
		{ "smtpd_forbid_bare_newline = yes\n", false, false },
		{ "smtpd_forbid_bare_newline = reject\n", false, true },
		{ "smtpd_forbid_bare_newline = no\n", true, false },
		{ "smtpd_forbid_bare_newline = note\n", true, false },
	};

	for (size_t m = 0; m < ARRAY_LEN(modes); m++) {
		for (size_t i = 0; i < ARRAY_LEN(line_ends); i++) {
			for (size_t k = 0; k < ARRAY_LEN(line_ends); k++) {
				const char *a = line_ends[i], *b = line_ends[k];
				struct fake f;
				size_t alen = strlen(a);

				char conf[200];

				snprintf(conf, sizeof(conf),
					 "smtpd_forbid_unauth_pipelining = no\n%s", modes[m].conf);
				fake_conf(&f, conf, NULL);
				unsigned n = try_smuggling(&f, a, b);
				/* the end of data as RFC 5321 has it; what follows b is then a
				 * command line */
				bool crlf = alen >= 2 && strcmp(a + alen - 2, "\r\n") == 0 &&
					    strncmp(b, "\r\n", 2) == 0;

				if (crlf)
					is_int(n, modes[m].rejects && (i != 0 || k != 0) ? n : 2,
					       "mode %zu, ends %zu . %zu: the end", m, i, k);
				else if (!modes[m].lax)
					ok(n <= 1, "mode %zu, ends %zu . %zu: one message at most",
					   m, i, k);
				ok(is_wire(&f.content), "mode %zu, ends %zu . %zu: wire form", m, i,
				   k);
				fake_fini(&f);
			}
		}
	}
}

static void test_reject_bare(void)
{
	struct fake f;

	fake_conf(&f, "smtpd_forbid_bare_newline = reject\n", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	fake_say(&f, "MAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\n");
	fake_say(&f, "DATA\r\n");
	is_str(fake_say(&f, "a\nb\r\n.\r\n"), "550 5.5.2 mx.test Error: bare <LF> received\r\n",
	       "content with a bare LF");
	is_int(f.aborted, 1, "is given up");
	is_str(fake_say(&f, "NOOP\n"), "550 5.5.2 mx.test Error: bare <LF> received\r\n",
	       "command with a bare LF");
	ok(session_is_over(&f.s), "ends the session");
	fake_connect(&f, "10.0.0.1");
	fake_take(&f);
	is_str(fake_say(&f, "NOOP\n"), "250 2.0.0 Ok\r\n", "not for our own networks");
	fake_fini(&f);
}

/* ---- model ---- */

/* What the protocol state should be; the replies follow from it. */
struct model {
	bool mail, going, error;
	unsigned rcpts;
};

static void model_reset(struct model *m)
{
	*m = (struct model){ 0 };
}

enum {
	DO_EHLO,
	DO_HELO,
	DO_MAIL,
	DO_MAIL_BAD,
	DO_RCPT,
	DO_RCPT_BAD,
	DO_RCPT_REFUSED,
	DO_DATA,
	DO_BDAT,
	DO_BDAT_LAST,
	DO_BDAT_NULL,
	DO_RSET,
	DO_NOOP,
	DO_VRFY,
	DO_UNKNOWN,
	DO_COUNT
};

static const char *const say[DO_COUNT] = {
	[DO_EHLO] = "EHLO c\r\n",
	[DO_HELO] = "HELO c\r\n",
	[DO_MAIL] = "MAIL FROM:<a@x.test>\r\n",
	[DO_MAIL_BAD] = "MAIL FROM:<a@x.test> BAD=1\r\n",
	[DO_RCPT] = "RCPT TO:<u@local.test>\r\n",
	[DO_RCPT_BAD] = "RCPT TO:<u@>\r\n",
	[DO_RCPT_REFUSED] = "RCPT TO:<u@far.test>\r\n",
	[DO_DATA] = "DATA\r\n",
	[DO_BDAT] = "BDAT 3\r\nx\r\n",
	[DO_BDAT_LAST] = "BDAT 3 LAST\r\ny\r\n",
	[DO_BDAT_NULL] = "BDAT 0\r\n",
	[DO_RSET] = "RSET\r\n",
	[DO_NOOP] = "NOOP\r\n",
	[DO_VRFY] = "VRFY u@local.test\r\n",
	[DO_UNKNOWN] = "FLORP\r\n",
};

static const char *expect_mail(struct model *m, bool good)
{
	if (m->mail)
		return "503 5.5.1 Error: nested";
	if (m->going || m->error)
		return "503 5.5.1 Error: MAIL after BDAT";
	if (!good)
		return "555 ";
	m->mail = true;
	return "250 2.1.0";
}

static const char *expect_rcpt(struct model *m, unsigned what)
{
	if (!m->mail)
		return "503 5.5.1 Error: need MAIL";
	if (m->going || m->error)
		return "503 5.5.1 Error: RCPT after BDAT";
	if (what == DO_RCPT_BAD)
		return "501 5.1.3";
	if (what == DO_RCPT_REFUSED)
		return "454 4.7.1";
	m->rcpts++;
	return "250 2.1.5";
}

static const char *expect_bdat(struct model *m, unsigned what)
{
	bool last = what == DO_BDAT_LAST;
	const char *reply = NULL;

	if (what == DO_BDAT_NULL)
		reply = "551 5.7.1";
	else if (m->error)
		reply = "551 5.0.0 Discarded 3";
	else if (!m->mail)
		reply = "503 5.5.1 Error: need RCPT";
	else if (m->rcpts == 0)
		reply = "554 5.5.1 Error: no valid";
	if (reply != NULL) {
		m->error = true;
		m->going = false;
		if (last)
			model_reset(m);
		return reply;
	}
	m->going = true;
	if (last) {
		model_reset(m);
		return "250 2.0.0 Ok: ";
	}
	return "250 2.0.0 Ok: 3 bytes\r\n";
}

static const char *expect_data(struct model *m)
{
	if (m->going || m->error)
		return "503 5.5.1 Error: DATA after BDAT";
	if (!m->mail)
		return "503 5.5.1 Error: need RCPT";
	if (m->rcpts == 0)
		return "554 5.5.1 Error: no valid";
	return "354 ";
}

static const char *expect(struct model *m, unsigned what)
{
	switch (what) {
	case DO_EHLO:
	case DO_HELO:
	case DO_RSET:
		model_reset(m);
		return "250";
	case DO_MAIL:
	case DO_MAIL_BAD:
		return expect_mail(m, what == DO_MAIL);
	case DO_RCPT:
	case DO_RCPT_BAD:
	case DO_RCPT_REFUSED:
		return expect_rcpt(m, what);
	case DO_DATA:
		return expect_data(m);
	case DO_BDAT:
	case DO_BDAT_LAST:
	case DO_BDAT_NULL:
		return expect_bdat(m, what);
	case DO_NOOP:
		return "250 2.0.0 Ok\r\n";
	case DO_VRFY:
		return "252 ";
	default:
		return "500 5.5.2";
	}
}

static bool data_outcome(struct fake *f, struct model *m, unsigned rnd, char *why, size_t size)
{
	static const enum submit_verdict verdicts[] = { SUBMIT_OK, SUBMIT_OK, SUBMIT_TEMPFAIL,
							SUBMIT_PERMFAIL };
	const char *want[] = { "250 2.0.0 Ok: queued", "250 2.0.0 Ok: queued", "451", "550" };

	f->verdict = verdicts[rnd % 4];
	const char *got = fake_say(f, "text\r\n.\r\n");

	snprintf(why, size, "DATA: %.200s", got);
	f->verdict = SUBMIT_OK;
	model_reset(m);
	return strncmp(got, want[rnd % 4], strlen(want[rnd % 4])) == 0;
}

static bool walk(struct fake *f, uint32_t seed)
{
	struct model m = { 0 };
	uint32_t rnd = seed * 2654435761u + 99;
	char history[4000] = "", why[300];

	fake_connect(f, "192.0.2.1");
	fake_take(f);
	for (int step = 0; step < 60; step++) {
		rnd = rnd * 1103515245u + 12345u;
		unsigned what = (rnd >> 16) % DO_COUNT;
		struct model before = m;
		const char *want = expect(&m, what);
		const char *got = fake_say(f, say[what]);
		bool good = strncmp(got, want, strlen(want)) == 0;

		snprintf(history + strlen(history), sizeof(history) - strlen(history), "# %s",
			 say[what]);
		snprintf(why, sizeof(why), "%.200s", got);
		if (good && what == DO_DATA && want[0] == '3')
			good = data_outcome(f, &m, rnd >> 8, why, sizeof(why));
		if (good && m.mail != (f->s.tx != NULL)) {
			good = false;
			snprintf(why, sizeof(why), "transaction is %d", f->s.tx != NULL);
		}
		if (!good) {
			printf("%s# mail %d rcpts %u going %d error %d: want %s, got %s\n", history,
			       before.mail, before.rcpts, before.going, before.error, want, why);
			return false;
		}
	}
	return true;
}

static void test_model(void)
{
	struct fake f;
	unsigned bad = 0;

	fake_conf(&f,
		  "smtpd_soft_error_limit = 1000\nsmtpd_hard_error_limit = 1001\n"
		  "smtpd_forbid_unauth_pipelining = no\n",
		  NULL);
	for (uint32_t seed = 0; seed < 2000 && bad == 0; seed++)
		bad += !walk(&f, seed);
	is_int(bad, 0, "120,000 random commands answered as the model says");
	fake_fini(&f);
}

/* Nothing a client does in one session makes it grow. */
static void test_growth(void)
{
	static const char *const noise[] = {
		"EHLO c\r\n",
		"HELO c\r\n",
		"MAIL FROM:<a@x.test>\r\n",
		"RCPT TO:<u@far.test>\r\n",
		"RCPT TO:<u@>\r\n",
		"VRFY u@far.test\r\n",
		"NOOP\r\n",
		"BDAT 1\r\nx",
		"RSET\r\n",
	};
	struct fake f;
	size_t most = 0;

	fake_conf(&f,
		  "smtpd_soft_error_limit = 1000000\nsmtpd_hard_error_limit = 1000001\n"
		  "smtpd_junk_command_limit = 1000000\n",
		  NULL);
	fake_connect(&f, "192.0.2.1");
	for (int i = 0; i < 50000; i++) {
		fake_say(&f, noise[i % ARRAY_LEN(noise)]);
		buf_reset(&f.log);
		most = size_max(most, session_memory(&f.s));
	}
	ok(!session_is_over(&f.s) && most < 16384, "50,000 commands, at most %zu bytes", most);
	fake_say(&f, "RSET\r\nMAIL FROM:<a@x.test>\r\n");
	for (int i = 0; i < 20000; i++)
		fake_say(&f, "RCPT TO:<u@far.test>\r\n");
	ok(session_memory(&f.s) < 65536, "refused recipients are not kept: %zu bytes",
	   session_memory(&f.s));
	fake_say(&f, "RSET\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<u@local.test>\r\n");
	for (int i = 0; i < 20000; i++) {
		fake_say(&f, "BDAT 1\r\nx");
		buf_reset(&f.log);
	}
	ok(session_memory(&f.s) < 16384, "20,000 chunks of one byte: %zu bytes",
	   session_memory(&f.s));
	is_str(fake_say(&f, "BDAT 0 LAST\r\n"),
	       "250 2.0.0 Ok: 20000 bytes queued as 0000000001z7\r\n", "and they arrive");
	fake_fini(&f);
}

/* Half a command may lie around for as long as the time-out: it must be small then. */
static void test_leftovers(void)
{
	static char big[60000];
	struct fake f;

	fake_conf(&f, "smtpd_junk_command_limit = 1000000\n", NULL);
	fake_connect(&f, "192.0.2.1");
	fake_say(&f, "EHLO c\r\n");
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = "RSET\r\n"[i % 6];
	fake_say(&f, "RS");
	fake_say_len(&f, big + 2, sizeof(big) - 5);
	ok(f.s.in.len > 0 && session_memory(&f.s) < 4096, "%zu bytes with half a command",
	   session_memory(&f.s));
	is_str(fake_say(&f, "T\r\n"), "250 2.0.0 Ok\r\n", "and its other half");
	fake_fini(&f);
}

int main(void)
{
	clock_fake_set(1000000);
	test_leftovers();
	test_pieces();
	test_smuggling();
	test_reject_bare();
	test_model();
	test_growth();
	return tap_done();
}
