/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Several transactions under way on one connection, by BDAT (RFC 3030). */
#include "t/unit/workers/client_rig.h"

#define CHUNKS         "250-h\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 CHUNKING\r\n"
#define RCPT           "RCPT TO:<a@x>\r\n"
#define MESSAGE        "MAIL FROM:<me@here>\r\n" RCPT "BDAT 20 LAST\r\n" CONTENT
#define BEHIND         "RSET\r\n" MESSAGE
#define ACCEPTED       "250 ok\r\n250 ok\r\n250 queued\r\n"
#define ACCEPTED_AFTER "250 reset\r\n" ACCEPTED

static void open_chunks(struct world *w, unsigned in_flight, const char *ehlo)
{
	greet(w, false, ehlo);
	w->conf.in_flight = in_flight;
}

/* `count` plain messages wait, numbered from `first` on. */
static void wait_in_line(struct world *w, unsigned first, unsigned count)
{
	for (unsigned i = first + count; i-- > first;) {
		make_tx(w, i, 1)->plain = true;
		w->queue[w->queue_count++] = &w->tx[i - 1];
	}
}

static void start(struct world *w)
{
	struct client_tx *tx = make_tx(w, 1, 1);

	tx->plain = true;
	client_start(&w->c, tx);
}

static void test_flow(void)
{
	struct world w;

	open_chunks(&w, 3, CHUNKS);
	wait_in_line(&w, 2, 3);
	start(&w);
	is_str(wire(&w), MESSAGE BEHIND BEHIND, "three messages before the first answer");
	is_str(events(&w), "begin1;", "the first is being answered");
	say(&w, "250 ok\r\n250 ok\r\n");
	is_str(wire(&w), "", "no fourth before one is through");
	say(&w, "250 queued 1\r\n");
	is_str(events(&w), "sent1.0(250 queued 1);end1;begin2;", "the first is through");
	is_str(wire(&w), BEHIND, "the fourth goes out");
	say(&w, ACCEPTED_AFTER ACCEPTED_AFTER ACCEPTED_AFTER);
	is_str(events(&w),
	       "sent2.0(250 queued);end2;begin3;sent3.0(250 queued);end3;begin4;"
	       "sent4.0(250 queued);end4;",
	       "each has its answer");
	ok(client_can_start(&w.c), "the session is idle");
	start(&w);
	is_str(wire(&w), MESSAGE, "the next one needs no RSET");
	close_world(&w);
}

static void test_conditions(void)
{
	struct world w;

	open_chunks(&w, 1, CHUNKS);
	wait_in_line(&w, 2, 1);
	start(&w);
	is_str(wire(&w), MAIL_RCPT_DATA, "one at a time: DATA");
	close_world(&w);
	open_chunks(&w, 3, "250-h\r\n250 CHUNKING\r\n");
	start(&w);
	is_str(wire(&w), "MAIL FROM:<me@here>\r\n", "without PIPELINING: one command");
	close_world(&w);
	open_chunks(&w, 3, PIPE);
	start(&w);
	is_str(wire(&w), MAIL_RCPT_DATA, "without CHUNKING: DATA");
	close_world(&w);
	open_chunks(&w, 3, "250-h\r\n250-PIPELINING\r\n250 CHUNKING\r\n");
	make_tx(&w, 1, 1)->plain = true;
	w.tx[0].is_8bit = w.tx[0].may_downgrade = true;
	client_start(&w.c, &w.tx[0]);
	is_str(wire(&w), MAIL_RCPT_DATA, "what has to be converted: DATA");
	close_world(&w);
}

/* One with dots at the beginning of lines needs the go-ahead; what is behind it waits for that. */
static void test_mixed(void)
{
	struct world w;

	open_chunks(&w, 4, CHUNKS);
	wait_in_line(&w, 2, 3);
	w.tx[1].plain = false;
	start(&w);
	is_str(wire(&w), MESSAGE "RSET\r\n" MAIL_RCPT_DATA, "a chunk, then DATA, and no further");
	say(&w, ACCEPTED "250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n");
	is_str(wire(&w), CONTENT ".\r\n" MESSAGE BEHIND, "after the go-ahead the others follow");
	events(&w);
	say(&w, "250 queued 2\r\n" ACCEPTED ACCEPTED_AFTER);
	is_str(events(&w),
	       "sent2.0(250 queued 2);end2;begin3;sent3.0(250 queued);end3;begin4;"
	       "sent4.0(250 queued);end4;",
	       "all are through");
	close_world(&w);
}

static void test_refused(void)
{
	struct world w;

	open_chunks(&w, 3, CHUNKS);
	wait_in_line(&w, 2, 2);
	start(&w);
	wire(&w);
	events(&w);
	say(&w, "250 ok\r\n550 5.1.1 nobody\r\n554 no recipients\r\n");
	is_str(events(&w),
	       "perm1.0 5.1.1(host h[1.2.3.4] said: 550 5.1.1 nobody (in reply to RCPT TO "
	       "command));end1;begin2;",
	       "a recipient is refused, and BDAT with it");
	say(&w, "250 reset\r\n452 4.3.1 full\r\n503 no sender\r\n503 no sender\r\n");
	is_str(events(&w),
	       "temp2.0 4.3.1(host h[1.2.3.4] said: 452 4.3.1 full (in reply to MAIL FROM "
	       "command));end2;begin3;",
	       "the next one at MAIL");
	say(&w, "250 reset\r\n250 ok\r\n250 ok\r\n451 4.7.1 later\r\n");
	is_str(events(&w),
	       "temp3.0 4.7.1(host h[1.2.3.4] said: 451 4.7.1 later (in reply to BDAT "
	       "command));end3;",
	       "and the third at BDAT");
	start(&w);
	is_str(wire(&w), "RSET\r\n" MESSAGE, "a session after that begins with RSET");
	close_world(&w);
}

#define LOST                                                                                       \
	"4.4.2(lost connection with h[1.2.3.4] while sending end of data -- message may be sent "  \
	"more than once);"

static void test_broken(void)
{
	struct world w;

	open_chunks(&w, 4, CHUNKS);
	wait_in_line(&w, 2, 3);
	start(&w);
	/* the third one is on the wire in part, the fourth not at all */
	take_output_max(&w, strlen(MESSAGE BEHIND BEHIND) - 5);
	say(&w, "250 ok\r\n250 ok\r\n");
	events(&w);
	client_closed(&w.c);
	is_str(events(&w),
	       "temp1.0 " LOST "end1;begin2;temp2.0 " LOST "end2;begin3;temp3.0 " LOST
	       "end3;dead temp " LOST,
	       "what the server may have has failed");
	close_world(&w);

	open_chunks(&w, 3, CHUNKS);
	wait_in_line(&w, 2, 2);
	start(&w);
	take_output_max(&w, strlen(MESSAGE BEHIND "RSET\r\nMAIL FROM"));
	say(&w, ACCEPTED);
	events(&w);
	client_closed(&w.c);
	is_str(events(&w),
	       "untouched3;temp2.0 4.4.2(lost connection with h[1.2.3.4] while sending RSET);end2;"
	       "dead temp 4.4.2(lost connection with h[1.2.3.4] while sending RSET);",
	       "what is without content comes back, what has content on the wire does not");
	close_world(&w);

	open_chunks(&w, 3, CHUNKS);
	wait_in_line(&w, 2, 2);
	start(&w);
	wire(&w);
	say(&w, ACCEPTED "250 reset\r\n421 4.7.0 too many messages\r\n");
	is_str(events(&w), "begin1;sent1.0(250 queued);end1;begin2;untouched2;untouched3;dead;",
	       "a server that has enough has taken none of the others");
	close_world(&w);

	open_chunks(&w, 3, CHUNKS);
	wait_in_line(&w, 2, 1);
	start(&w);
	wire(&w);
	say(&w, ACCEPTED "421 4.7.0 too long here\r\n");
	is_str(events(&w), "begin1;sent1.0(250 queued);end1;begin2;untouched2;dead;",
	       "also when it says so to RSET");
	close_world(&w);
}

static void test_early(void)
{
	struct world w;

	open_chunks(&w, 3, CHUNKS);
	wait_in_line(&w, 2, 1);
	start(&w);
	take_output_max(&w, strlen(MESSAGE) - 5);
	say(&w, "250 ok\r\n250 ok\r\n552 5.3.4 too big\r\n");
	is_str(events(&w),
	       "begin1;perm1.0 5.3.4(host h[1.2.3.4] said: 552 5.3.4 too big (in reply to BDAT "
	       "command));end1;dead perm 5.3.4(host h[1.2.3.4] said: 552 5.3.4 too big (in reply "
	       "to BDAT command));",
	       "a refusal before the end of the chunk");
	is_int(w.queue_count, 1, "the next message was not asked for");
	close_world(&w);
	open_chunks(&w, 3, CHUNKS);
	start(&w);
	take_output_max(&w, strlen(MESSAGE) - 5);
	say(&w, "250 ok\r\n250 ok\r\n250 fine\r\n");
	ok(w.c.state == CLIENT_DEAD && strstr(events(&w), "sent") == NULL,
	   "an acceptance before the end is none");
	close_world(&w);
}

int main(void)
{
	test_flow();
	test_conditions();
	test_mixed();
	test_refused();
	test_broken();
	test_early();
	return tap_done();
}
