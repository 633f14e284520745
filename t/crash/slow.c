/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slow: clients that hold SMTP sessions open, for t/crash/09-hostile-peers.t. Each goes to its
 * phase
 * (-p: one of phases[] below, or all in turn) and stays there, sending one more byte every -i
 * seconds. Prints "ready" when each has arrived or is refused, and one line of JSON when it is
 * ended by SIGTERM: how many came to their phase, how many bytes they sent there, how many were cut
 * off. In the phase "after" each has sent a message first: one as t/bench/load makes them, with ids
 * that begin with -t; those that got their 250 are written to -o.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/util.h"

enum { STEPS = 5, PER_ADDRESS = 1000, TICK_MS = 20 };

/* What is sent to get from one step to the next. DATA is followed by the content. */
static const char *const command[STEPS] = { "EHLO slow.test\r\n", "MAIL FROM:<slow@slow.test>\r\n",
					    NULL, "DATA\r\n", NULL };

static const struct phase {
	const char *name;
	unsigned steps;      /* commands before it */
	const char *opening; /* sent at once when it is there */
	const char *dribble; /* then these bytes, over and over */
} phases[] = {
	{ "greeting", 0, "", "E" },
	{ "ehlo", 1, "", "MAIL FROM:<" },
	{ "mail", 2, "", "RCPT TO:<" },
	{ "rcpt", 3, "", "NOOP " },
	{ "headers", 4, "", "X-Slow: yes\r\n" },
	{ "body", 4, "Subject: slow\r\n\r\n", "some words\r\n" },
	{ "dot", 4, "Subject: slow\r\n\r\nbody\r\n", ".\rx\r\n" },
	{ "after", 5, "", "NOOP " },
	{ "garbage", 1, "FOO\r\n\x80\xff\x01\r\nRCPT\r\nMAIL TO:<\r\n", "\x01" },
};
enum { PHASES = sizeof(phases) / sizeof(phases[0]) };

struct peer {
	struct loop_fd lf;
	int fd;
	unsigned number;
	unsigned phase, step; /* where it goes to, and is */
	unsigned said;        /* bytes of the dribble */
	unsigned column;
	char code; /* first digit of the reply */
	bool more; /* the line is not the last one of its reply */
	bool greeted, arrived;
};

static struct {
	struct loop *loop;
	struct sockaddr_in to;
	struct loop_timer tick;
	struct peer *peers;
	unsigned count, settled, connected, refused, closed, turn, arrived, acked, denied;
	const char *prefix;
	FILE *acked_file;
	double interval_s, due;
	int64_t ticked_us;
	unsigned long long bytes, dribbled;
} g = { .count = 100, .interval_s = 10, .prefix = "slow" };

static void settle(struct peer *p)
{
	if (p->arrived)
		return;
	p->arrived = true;
	if (++g.settled == g.count) {
		puts("ready");
		fflush(stdout);
	}
}

static void peer_close(struct peer *p)
{
	if (p->greeted)
		g.closed++;
	else
		g.refused++;
	loop_fd_del(g.loop, &p->lf);
	close(p->fd);
	p->fd = -1;
	settle(p);
}

static void peer_send(struct peer *p, const char *text, size_t len)
{
	ssize_t n = send(p->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n > 0)
		g.bytes += (unsigned long long)n;
}

static void send_rcpt(struct peer *p)
{
	char text[200];
	int n = snprintf(text, sizeof(text), "RCPT TO:<r0.%s-%u@sink.test>\r\n", g.prefix,
			 p->number);

	peer_send(p, text, (size_t)n);
}

/* A whole message, as t/bench/sink judges them. */
static void send_content(struct peer *p)
{
	static const char body[] = "a slow client's mail\r\n";
	char text[300];
	int n = snprintf(text, sizeof(text), "X-Load-Id: %s-%u\r\nX-Load-Crc: %08x\r\n\r\n%s.\r\n",
			 g.prefix, p->number, crc32c(0, body, sizeof(body) - 1), body);

	peer_send(p, text, (size_t)n);
}

static void message_answered(struct peer *p)
{
	if (p->code != '2')
		return;
	g.acked++;
	if (g.acked_file != NULL)
		fprintf(g.acked_file, "%s-%u 1\n", g.prefix, p->number);
}

static void on_reply(struct peer *p)
{
	const struct phase *ph = &phases[p->phase];

	p->greeted = true;
	if (p->code != '2' && p->code != '3' && !p->arrived) {
		g.denied++;
		settle(p);
	}
	if (p->arrived)
		return;
	if (p->step < ph->steps) {
		unsigned step = p->step++;

		if (step == 2)
			send_rcpt(p);
		else if (step == 4)
			send_content(p);
		else
			peer_send(p, command[step], strlen(command[step]));
		return;
	}
	if (ph->steps == STEPS)
		message_answered(p);
	g.arrived++;
	peer_send(p, ph->opening, strlen(ph->opening));
	settle(p);
}

static void peer_event(void *ctx, unsigned events UNUSED)
{
	struct peer *p = ctx;
	char in[4096];
	ssize_t n = recv(p->fd, in, sizeof(in), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		peer_close(p);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (p->column == 0)
			p->code = in[i];
		if (in[i] == '\n') {
			p->column = 0;
			if (!p->more)
				on_reply(p);
		} else if (p->column++ == 3) {
			p->more = in[i] == '-';
		}
	}
}

static void peer_connect(struct peer *p, unsigned i)
{
	struct sockaddr_in from = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK + i / PER_ADDRESS) };

	p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->fd < 0)
		die("socket: %s", strerror(errno));
	if (bind(p->fd, (struct sockaddr *)&from, sizeof(from)) < 0 ||
	    connect(p->fd, (struct sockaddr *)&g.to, sizeof(g.to)) < 0) {
		close(p->fd);
		p->fd = -1;
		g.refused++;
		settle(p);
		return;
	}
	fcntl(p->fd, F_SETFL, O_NONBLOCK);
	g.connected++;
	loop_fd_add(g.loop, &p->lf, p->fd, LOOP_READ, peer_event, p);
}

/* The bytes are spread over the interval; what a busy machine held up is made good. */
static void on_tick(void *ctx UNUSED)
{
	int64_t now_us = clock_mono_us_raw();
	double passed_s = g.ticked_us == 0 ? 0 : (double)(now_us - g.ticked_us) / 1e6;

	g.ticked_us = now_us;
	for (g.due += g.count * passed_s / g.interval_s; g.due >= 1; g.due--) {
		struct peer *p = &g.peers[g.turn++ % g.count];

		if (p->fd >= 0 && p->arrived) {
			const char *text = phases[p->phase].dribble;

			peer_send(p, text + p->said++ % strlen(text), 1);
			g.dribbled++;
		}
	}
	loop_timer_set(&g.tick, TICK_MS);
}

static void on_term(void *ctx UNUSED)
{
	loop_stop(g.loop);
}

static unsigned phase_find(const char *name)
{
	unsigned k = 0;

	while (k < PHASES && strcmp(name, phases[k].name) != 0)
		k++;
	if (k == PHASES && strcmp(name, "all") != 0)
		die("no phase %s", name);
	return k;
}

/* Returns the phase; PHASES for all of them. */
static unsigned parse_options(int argc, char **argv)
{
	unsigned phase = PHASES;
	int opt;

	while ((opt = getopt(argc, argv, "n:p:i:t:o:")) != -1) {
		if (opt == 'n')
			g.count = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'p')
			phase = phase_find(optarg);
		else if (opt == 'i')
			g.interval_s = atof(optarg);
		else if (opt == 't')
			g.prefix = optarg;
		else if (opt == 'o')
			g.acked_file = fopen(optarg, "w");
		else
			die("usage: slow [-n connections] [-p phase] [-i seconds] [-t prefix] [-o "
			    "file] "
			    "address:port");
	}
	char *colon = optind == argc - 1 ? strrchr(argv[optind], ':') : NULL;

	if (colon == NULL || g.count == 0 || g.interval_s <= 0)
		die("usage: slow [-n connections] [-p phase] [-i seconds] [-t prefix] [-o file] "
		    "address:port");
	*colon = '\0';
	g.to.sin_family = AF_INET;
	g.to.sin_port = htons((uint16_t)atoi(colon + 1));
	if (inet_pton(AF_INET, argv[optind], &g.to.sin_addr) != 1)
		die("bad address %s", argv[optind]);
	return phase;
}

int main(int argc, char **argv)
{
	struct rlimit rl;

	log_set_program("slow");
	unsigned phase = parse_options(argc, argv);

	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	g.peers = xcalloc(g.count, sizeof(*g.peers));
	g.loop = loop_new();
	loop_signal_add(g.loop, SIGTERM, on_term, NULL);
	loop_timer_init(g.loop, &g.tick, on_tick, NULL);
	loop_timer_set(&g.tick, TICK_MS);
	for (unsigned i = 0; i < g.count; i++) {
		g.peers[i].number = i;
		g.peers[i].phase = phase == PHASES ? i % PHASES : phase;
		peer_connect(&g.peers[i], i);
		if (i % 50 == 0)
			loop_turn(g.loop, 0);
	}
	loop_run(g.loop);
	if (g.acked_file != NULL)
		fclose(g.acked_file);
	printf("{\"connected\":%u,\"arrived\":%u,\"refused\":%u,\"denied\":%u,\"closed\":%u,"
	       "\"acked\":%u,\"bytes\":%llu,\"dribbled\":%llu}\n",
	       g.connected, g.arrived, g.refused, g.denied, g.closed, g.acked, g.bytes, g.dribbled);
	return 0;
}
