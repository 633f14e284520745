/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tests of daemon/qwire.c: what showq tells postqueue, whole, in pieces and damaged. */
#include "daemon/qwire.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "t/unit/tap.h"

struct seen {
	unsigned messages, rcpts, ends;
	struct qlist_message m;
	char sender[100], addr[100], orig[100], reason[100];
	bool failed;
};

static void keep(char *to, struct sv s)
{
	if (!str_copy(to, 100, s))
		to[0] = '\0';
}

static void on_message(void *ctx, const struct qlist_message *m)
{
	struct seen *s = ctx;

	s->messages++;
	s->m = *m;
	keep(s->sender, m->sender);
}

static void on_rcpt(void *ctx, const struct qlist_rcpt *r)
{
	struct seen *s = ctx;

	s->rcpts++;
	keep(s->addr, r->addr);
	keep(s->orig, r->orig_addr);
	keep(s->reason, r->reason);
	s->failed = r->failed;
}

static void on_end(void *ctx)
{
	((struct seen *)ctx)->ends++;
}

static void write_one(struct buf *out)
{
	qwire_message(out, &(struct qlist_message){ .id = "4jYGDS4r1Cz7",
						    .queue = QUEUE_NAME_HOLD,
						    .expired = true,
						    .in_doubt = true,
						    .arrival_s = 1764000000,
						    .size = 283,
						    .sender = SV("s@x.test") });
	qwire_rcpt(out, &(struct qlist_rcpt){ .addr = SV("r@x.test"),
					      .orig_addr = SV("o@x.test"),
					      .reason = SV("connection refused"),
					      .failed = true });
	qwire_rcpt(out, &(struct qlist_rcpt){ .addr = SV("q@x.test") });
	qwire_end(out);
}

static int read_all(struct buf *in, bool *open, struct seen *s)
{
	return qwire_read(in, open, &(struct qwire_sink){ on_message, on_rcpt, on_end, s });
}

static void test_whole(void)
{
	struct buf b = BUF_INIT;
	struct seen s = { 0 };
	bool open = false;

	write_one(&b);
	is_int(read_all(&b, &open, &s), 0, "a message is read");
	is_int(b.len, 0, "all of it");
	ok(!open && s.messages == 1 && s.rcpts == 2 && s.ends == 1, "once");
	is_str(s.m.id, "4jYGDS4r1Cz7", "queue id");
	ok(s.m.queue == QUEUE_NAME_HOLD && s.m.in_doubt && !s.m.damaged && s.m.expired,
	   "queue and marks");
	ok(s.m.arrival_s == 1764000000 && s.m.size == 283, "arrival and size");
	is_str(s.sender, "s@x.test", "sender");
	is_str(s.addr, "q@x.test", "the last recipient");
	ok(s.orig[0] == '\0' && s.reason[0] == '\0' && !s.failed, "... without a reason");
	buf_fini(&b);
}

static void test_pieces(void)
{
	struct buf all = BUF_INIT, in = BUF_INIT;
	struct seen s = { 0 };
	bool open = false;
	int err = 0;

	write_one(&all);
	write_one(&all);
	for (size_t i = 0; i < all.len; i++) {
		buf_add(&in, all.p + i, 1);
		err = err != 0 ? err : read_all(&in, &open, &s);
	}
	is_int(err, 0, "byte by byte");
	ok(s.messages == 2 && s.rcpts == 4 && s.ends == 2 && in.len == 0, "everything is there");
	buf_fini(&all);
	buf_fini(&in);
}

static void test_order(void)
{
	struct buf b = BUF_INIT;
	struct seen s = { 0 };
	bool open = false;

	qwire_rcpt(&b, &(struct qlist_rcpt){ .addr = SV("r@x.test") });
	is_int(read_all(&b, &open, &s), E_SYNTAX, "a recipient of no message");
	buf_reset(&b);
	qwire_end(&b);
	is_int(read_all(&b, &open, &s), E_SYNTAX, "the end of no message");
	buf_reset(&b);
	qwire_message(&b, &(struct qlist_message){ .id = "a" });
	qwire_message(&b, &(struct qlist_message){ .id = "b" });
	is_int(read_all(&b, &open, &s), E_SYNTAX, "a message in a message");
	buf_reset(&b);
	buf_add(&b, "\xff\xff\xff\x7f", 4);
	open = false;
	is_int(read_all(&b, &open, &s), E_SYNTAX, "a record without bounds");
	buf_fini(&b);
}

static void test_damaged(void)
{
	struct buf good = BUF_INIT;
	unsigned refused = 0;

	write_one(&good);
	srand(7);
	for (unsigned i = 0; i < 20000; i++) {
		struct buf b = BUF_INIT;
		struct seen s = { 0 };
		bool open = false;

		buf_add(&b, good.p, good.len);
		b.p[(size_t)rand() % b.len] = (char)rand();
		refused += read_all(&b, &open, &s) != 0;
		buf_fini(&b);
	}
	ok(refused > 1000, "%u of 20000 damaged streams are refused, none reads beyond", refused);
	buf_fini(&good);
}

static void test_long(void)
{
	struct buf b = BUF_INIT;
	struct seen s = { 0 };
	bool open = true;
	char *text = malloc(100000);

	memset(text, 'x', 100000);
	qwire_rcpt(&b, &(struct qlist_rcpt){ .addr = { text, 100000 },
					     .orig_addr = { text, 100000 },
					     .reason = { text, 100000 } });
	is_int(read_all(&b, &open, &s), 0,
	       "texts without end are cut off, and the record is whole");
	free(text);
	buf_fini(&b);
}

int main(void)
{
	test_whole();
	test_pieces();
	test_order();
	test_damaged();
	test_long();
	return tap_done();
}
