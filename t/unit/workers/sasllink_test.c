/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Questions to the saslclient worker: what goes out, who gets which answer, what becomes of
 * questions when the worker is not there, is replaced, or says nonsense. */
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/common/worker.h"
#include "workers/deliver/sasllink.h"

static struct params params = { .auth_timeout = 5000 };
static struct worker worker = { .params = &params };
static struct link link_there;
static struct worker_peer peer = { .link = &link_there };
static struct sasl_link *l;
static struct buf sent, said, text;
static uint32_t last_dialogue;

/* In place of the frame's. */
void worker_send(struct worker *w UNUSED, struct link *to UNUSED, const void *rec, size_t len)
{
	static const char *const names[] = { "start", "step", "end", "find", "remember" };
	struct proto_sasl_ask h;

	memcpy(&h, rec, sizeof(h));
	buf_printf(&sent, "%s", names[h.what]);
	for (size_t i = sizeof(h); i < len; i += strlen((const char *)rec + i) + 1)
		buf_printf(&sent, " %s", (const char *)rec + i);
	buf_add_c(&sent, ';');
	is_int(h.text_len, (long long)(len - sizeof(h)), "its length");
	last_dialogue = h.dialogue;
}

static void sink(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		 const char *t UNUSED, size_t len UNUSED)
{
}

static const char *taken(struct buf *b)
{
	buf_reset(&text);
	buf_add_sv(&text, buf_sv(b));
	buf_reset(b);
	return buf_cstr(&text);
}

static bool is_own(struct sv m)
{
	return sv_eq(m, SV("PLAIN"));
}

static bool start(struct sasl_asker *a, const char *offered)
{
	return sasl_link_start(l, a,
			       &(struct sasl_start){ .service = "smtp",
						     .server = "h",
						     .offered = sv_from(offered),
						     .user = SV("u"),
						     .password = SV("p") },
			       is_own);
}

static void ask(void *ctx)
{
	if (!start(ctx, "PLAIN SCRAM-X"))
		buf_add_str(&said, "unknown;");
}

static void on_said(void *ctx UNUSED, const struct sasl_said_text *t)
{
	buf_printf(&said, "%d %.*s %.*s %.*s;", (int)t->what, (int)t->mechanism.len, t->mechanism.p,
		   (int)t->text.len, t->text.p, (int)t->lines.len, t->lines.p);
}

static int hear(uint32_t dialogue, unsigned what, const char *strings, size_t len)
{
	char rec[sizeof(struct proto_sasl_answer) + 200];
	struct proto_sasl_answer h = { .kind = PROTO_SASL_ANSWER,
				       .dialogue = dialogue,
				       .what = (uint16_t)what,
				       .text_len = (uint32_t)len };

	memcpy(rec, &h, sizeof(h));
	memcpy(rec + sizeof(h), strings, len);
	return sasl_link_record(l, rec, sizeof(h) + len);
}
#define HEAR(dialogue, what, strings) hear(dialogue, what, strings, sizeof(strings))

static struct sasl_asker new_asker(void)
{
	struct sasl_asker a = { .ask = ask, .said = on_said };

	return a;
}

static void test_dialogue(void)
{
	struct sasl_asker a = new_asker(), b = new_asker();
	uint32_t first;

	a.ctx = &a;
	b.ctx = &b;
	ok(start(&a, "PLAIN SCRAM-X"), "a question before anybody is there");
	is_str(taken(&sent), "", "... waits");
	sasl_link_attach(l, &peer);
	is_str(taken(&sent), "", "... until it is known what there is");
	ok(!start(&b, "PLAIN"), "nobody is needed for what one can do oneself");
	is_int(HEAR(0, SASL_SAID_MECHS, "\0SCRAM-X OTHER\0"), 0, "the mechanisms");
	is_str(taken(&sent), "start smtp h PLAIN SCRAM-X u p;", "now it goes out");
	first = last_dialogue;
	ok(!start(&b, "PLAIN SCRAM"), "a mechanism that is not there");
	ok(start(&b, "other"), "another question");
	taken(&sent);
	ok(last_dialogue != first, "... of another number");
	is_int(HEAR(last_dialogue, SASL_SAID_FAILED, "\0why\0line\n"), 0, "its answer");
	is_str(taken(&said), "3  why line\n;", "... is heard");
	is_int(HEAR(last_dialogue, SASL_SAID_FAILED, "\0why\0"), 0, "once more");
	is_str(taken(&said), "", "... is nobody's");
	is_int(HEAR(first, SASL_SAID_MORE, "SCRAM-X\0abc\0"), 0, "the other's");
	is_str(taken(&said), "1 SCRAM-X abc ;", "... is its own");
	is_int(HEAR(first, SASL_SAID_MORE, "SCRAM-X\0abc\0"), 0, "an answer to nothing");
	is_str(taken(&said), "", "... is none");
	sasl_link_step(l, &a, SV("Y2g="));
	is_str(taken(&sent), "step Y2g=;", "a step");
	is_int(last_dialogue, first, "... of the same dialogue");
	sasl_link_end(l, &a);
	is_str(taken(&sent), "end;", "the end");
	is_int(HEAR(first, SASL_SAID_DONE, "SCRAM-X\0\0"), 0, "too late");
	is_str(taken(&said), "", "... for anybody");
	sasl_link_end(l, &a);
	is_str(taken(&sent), "", "no end twice");
	ok(start(&a, "SCRAM-X"), "one more");
	taken(&sent);
	is_int(HEAR(last_dialogue, SASL_SAID_DONE, "SCRAM-X\0abc\0"), 0, "its whole answer");
	is_str(taken(&said), "2 SCRAM-X abc ;", "... is heard");
	sasl_link_end(l, &a);
	is_str(taken(&sent), "", "it was over, though the connection lives on");
	sasl_link_step(l, &a, SV("Y2g="));
	is_str(taken(&sent), "", "there is no next step");
	sasl_link_tick(l);
	is_str(taken(&said), "3  Connection lost to authentication server ;", "... as is told");
}

static void test_lives(void)
{
	struct sasl_asker a = new_asker(), b = new_asker();
	static struct worker_peer other = { .link = &link_there };

	a.ctx = &a;
	b.ctx = &b;
	ok(start(&a, "SCRAM-X"), "a question");
	taken(&sent);
	sasl_link_detach(l, &other);
	is_str(taken(&said), "", "somebody else's end");
	sasl_link_detach(l, &peer);
	is_str(taken(&said), "3  Connection lost to authentication server ;",
	       "a life that ends ends its dialogues");
	sasl_link_step(l, &a, SV("x"));
	is_str(taken(&said), "", "a step is not answered from inside");
	sasl_link_tick(l);
	is_str(taken(&said), "3  Connection lost to authentication server ;", "... but soon");
	ok(start(&b, "SCRAM-X"), "one for the next life");
	sasl_link_tick(l);
	is_str(taken(&said), "", "... waits");
	b.until_ms = 0;
	sasl_link_tick(l);
	is_str(taken(&said), "3  Connection lost to authentication server ;", "... not for ever");
	ok(start(&b, "SCRAM-X"), "once more");
	sasl_link_attach(l, &other);
	is_int(HEAR(0, SASL_SAID_MECHS, "\0OTHER\0"), 0, "a life with other plug-ins");
	is_str(taken(&said), "unknown;", "... is of no use");
	is_str(taken(&sent), "", "... and is not asked");
	sasl_link_end(l, &b);
}

static void test_memory(void)
{
	struct sasl_asker a = new_asker();
	const struct sv strings[5] = { SV("c"), SV("h"), SV("u"), SV("m"), SV("5.7.8 535 no") };
	const struct sv bad[5] = { SV("c"), SV("h"), { "u\0v", 3 }, SV("m"), SV("535") };

	sasl_link_find(l, &a, strings, 100);
	is_str(taken(&sent), "find c h u m;", "a look-up");
	is_int(HEAR(last_dialogue, SASL_SAID_KNOWN, "5.7.8\0no\0"), 0, "known");
	is_str(taken(&said), "4 5.7.8 no ;", "... is told");
	sasl_link_remember(l, strings);
	is_str(taken(&sent), "remember c h u m 5.7.8 535 no;", "to be remembered");
	sasl_link_remember(l, bad);
	sasl_link_find(l, &a, bad, 100);
	is_str(taken(&sent), "", "strings that are none");
	sasl_link_tick(l);
	is_str(taken(&said), "3  Connection lost to authentication server ;", "... are told later");
}

static void test_nonsense(void)
{
	static const char none[] = "a\0b\0";

	is_int(hear(1, SASL_SAID_COUNT, none, 5), E_PEER, "an answer that does not exist");
	is_int(hear(1, SASL_SAID_MORE, none, 4), E_PEER, "two strings");
	is_int(hear(1, SASL_SAID_MORE, "a\0b\0c\0d", 8), E_PEER, "four");
	is_int(hear(1, SASL_SAID_MORE, "a\0b\0c", 5), E_PEER, "one without an end");
	is_int(sasl_link_record(l, none, 3), E_PEER, "less than a record");
	is_int(HEAR(77, SASL_SAID_MORE, "X\0YQ==\r\nMAIL FROM:<x>\0"), E_PEER, "commands");
	is_int(HEAR(77, SASL_SAID_DONE, "X =\r\nQUIT\0\0"), E_PEER, "... as a mechanism");
	is_int(HEAR(77, SASL_SAID_MORE, "a\0b\0"), 0, "nobody's answer");
}

int main(void)
{
	clock_init();
	log_set_sink(sink, NULL);
	l = sasl_link_new(&worker);
	test_dialogue();
	test_lives();
	test_memory();
	test_nonsense();
	buf_fini(&sent);
	buf_fini(&said);
	buf_fini(&text);
	return tap_done();
}
