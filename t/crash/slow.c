/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slow: clients that hold SMTP sessions open, for t/crash/09-hostile-peers.t. Each goes to its
 * phase
 * (-p: greeting, ehlo, mail, rcpt, data, garbage, or all in turn) and stays there, sending one more
 * byte every -i seconds. Prints "ready" when each has arrived or is refused, and one line of JSON
 * when it is ended by SIGTERM.
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

#include "lib/log.h"
#include "lib/loop.h"
#include "lib/util.h"

enum { PHASES = 6, GARBAGE = 5, PER_ADDRESS = 1000, TICK_MS = 20 };

static const char *const phase_name[PHASES] = { "greeting", "ehlo", "mail",
						"rcpt",     "data", "garbage" };
/* what is sent to get from one phase to the next */
static const char *const command[] = { "EHLO slow.test\r\n", "MAIL FROM:<slow@slow.test>\r\n",
				       "RCPT TO:<slow@sink.test>\r\n", "DATA\r\n" };
static const char garbage[] = "FOO\r\n\x80\xff\x01\r\nRCPT\r\nMAIL TO:<\r\n";

struct peer {
	struct loop_fd lf;
	int fd;
	unsigned phase, step; /* where it goes to, and is */
	unsigned column;
	bool more; /* the line is not the last one of its reply */
	bool greeted, arrived;
};

static struct {
	struct loop *loop;
	struct sockaddr_in to;
	struct loop_timer tick;
	struct peer *peers;
	unsigned count, settled, connected, refused, closed, turn;
	double interval_s, due;
	unsigned long long bytes;
} g = { .count = 100, .interval_s = 1 };

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

static void on_reply(struct peer *p)
{
	unsigned commands = p->phase == GARBAGE ? 1 : p->phase;

	p->greeted = true;
	if (p->step < commands) {
		peer_send(p, command[p->step], strlen(command[p->step]));
		p->step++;
		return;
	}
	if (p->phase == GARBAGE && !p->arrived)
		peer_send(p, garbage, sizeof(garbage) - 1);
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

/* The bytes are spread over the interval. */
static void on_tick(void *ctx UNUSED)
{
	for (g.due += g.count * TICK_MS / (g.interval_s * 1000); g.due >= 1; g.due--) {
		struct peer *p = &g.peers[g.turn++ % g.count];

		if (p->fd >= 0 && p->arrived)
			peer_send(p, "x", 1);
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

	while (k < PHASES && strcmp(name, phase_name[k]) != 0)
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

	while ((opt = getopt(argc, argv, "n:p:i:")) != -1) {
		if (opt == 'n')
			g.count = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'p')
			phase = phase_find(optarg);
		else if (opt == 'i')
			g.interval_s = atof(optarg);
		else
			die("usage: slow [-n connections] [-p phase] [-i seconds] address:port");
	}
	char *colon = optind == argc - 1 ? strrchr(argv[optind], ':') : NULL;

	if (colon == NULL || g.count == 0 || g.interval_s <= 0)
		die("usage: slow [-n connections] [-p phase] [-i seconds] address:port");
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
		g.peers[i].phase = phase == PHASES ? i % PHASES : phase;
		peer_connect(&g.peers[i], i);
		if (i % 50 == 0)
			loop_turn(g.loop, 0);
	}
	loop_run(g.loop);
	printf("{\"connected\":%u,\"refused\":%u,\"closed\":%u,\"bytes\":%llu}\n", g.connected,
	       g.refused, g.closed, g.bytes);
	return 0;
}
