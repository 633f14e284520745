/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Cost of one message in the rewrite worker: 4 KB, one recipient, in one piece.
 *   processing   envelope, wire check, headers, resolution, encoding; no spool
 *   submission   the same from the smtp-in worker's blocks into the spool (not synced), with log
 *                lines formatted and the announcement
 * usage: rewrite_bench [MESSAGES]
 */
#include <sys/resource.h>

#include "t/unit/workers/rewrite_rig.h"

static char content[4096];
static struct buf env;

static void drop_line(void *ctx, enum log_level level, const char *program, const char *text,
		      size_t len)
{
	(void)ctx;
	(void)level;
	(void)program;
	(void)text;
	(void)len;
}

static int64_t cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (int64_t)u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec;
}

static void make_input(bool local)
{
	struct env_rcpt r = { .addr = SV("someone@destination.example") };
	struct envelope e = { .sender = SV("bounces+12345@sender.example"),
			      .client_name = SV("unknown"),
			      .client_addr = SV("127.0.0.1"),
			      .client_port = SV("40000"),
			      .helo = SV("client.example"),
			      .proto = SV("ESMTP"),
			      .flags = local ? ENVF_LOCAL_CLIENT : 0,
			      .arrival_us = clock_now_wall().us,
			      .rcpts = &r,
			      .rcpt_count = 1 };
	size_t n =
		(size_t)snprintf(content, sizeof(content),
				 "Received: from client.example (unknown [127.0.0.1])\r\n"
				 "\tby mx.example.org (Posthaste) with ESMTP id 4SVLCh000MzC\r\n"
				 "\tfor <someone@destination.example>; Mon, 23 Nov 2026 08:00:00 "
				 "+0000\r\nFrom: Sender <bounces@sender.example>\r\n"
				 "To: someone@destination.example\r\n"
				 "Subject: A message of ordinary size\r\n"
				 "Date: Mon, 23 Nov 2026 08:00:00 +0000\r\n"
				 "Message-Id: <1234567890.abcdef@sender.example>\r\n"
				 "MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n");

	while (n + 78 <= sizeof(content)) {
		memset(content + n, 'x', 76);
		memcpy(content + n + 76, "\r\n", 2);
		n += 78;
	}
	memset(content + n, 'x', sizeof(content) - n);
	memcpy(content + sizeof(content) - 2, "\r\n", 2);
	buf_reset(&env);
	env_encode(&e, &env);
}

static void processing(unsigned count, const char *what)
{
	struct message *m = &rig.r.scratch;
	int64_t t0 = cpu_us();

	for (unsigned i = 0; i < count; i++) {
		char copy[sizeof(content)];
		struct sv body;
		int err;

		memcpy(copy, content, sizeof(copy));
		if (message_begin(m, (struct qid){ 1700000000000000 + i, RIG_LIFE }, buf_sv(&env)) <
			    0 ||
		    message_feed(m, copy, sizeof(copy), &body) < 0 ||
		    message_finish(m, &err)->verdict != SUBMIT_OK)
			die("the message was refused");
	}
	printf("%s: %.2f us of user CPU per message\n", what,
	       (double)(cpu_us() - t0) / (double)count);
}

static void submission(unsigned count)
{
	int64_t t0 = cpu_us();
	struct buf both = BUF_INIT;

	buf_add_sv(&both, buf_sv(&env));
	buf_add(&both, content, sizeof(content));
	for (unsigned i = 0; i < count; i++) {
		struct proto_submit s = { .kind = PROTO_SUBMIT,
					  .flags = SUBMIT_BEGIN | SUBMIT_END,
					  .tx = i + 1,
					  .env_len = (uint32_t)env.len,
					  .data_len = sizeof(content),
					  .qid = { .time_us = 1700000000000000 + i,
						   .life = rig.peer.life } };

		s.first_block = rig_chain(both.p, both.len);
		rig_submit(&s);
		if (i % 50 == 49)
			rig_turn(0);
		if (rig.r.stalled)
			rig_settle();
	}
	rig_settle();
	printf("submission to announcement: %.2f us of user CPU per message (%llu committed)\n",
	       (double)(cpu_us() - t0) / (double)count,
	       (unsigned long long)rig.counters.counter[CTR_rewrite_messages]);
	buf_fini(&both);
}

int main(int argc, char **argv)
{
	unsigned count = argc > 1 ? (unsigned)atoi(argv[1]) : 100000;

	log_set_sink(drop_line, NULL);
	rig.segment_bytes = 64u << 20;
	if (rig_open("relayhost = [192.0.2.9]:25\n") != 0 || rig_attach(5) != 0)
		die("no rig");
	rig_turn(0);
	make_input(false);
	processing(count, "processing, remote client");
	make_input(true);
	processing(count, "processing, local client");
	make_input(false);
	submission(count / 4);
	rig_detach();
	rig_close();
	return 0;
}
