/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * slowhop: next hops that hold on to their clients, for t/crash/09-hostile-peers.t. It listens on
 * one port after the other, from the one given on; each has a vice of its own (vices[] below, in
 * this order). Every message whose final dot has come is written to -o ("ID RECIPIENT", as
 * t/bench/sink does), whether it was answered or not: that is what a second delivery would double.
 * SIGUSR1: all of them behave from now on, also to those that wait. SIGUSR2: answers that were kept
 * back are given. Prints "ready", and when it is ended by SIGTERM one line of JSON: for each vice
 * the connections, how often it came to its step, and bytes it sent there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/util.h"

enum step {
	AT_CONNECT,
	AT_GREETING,
	AT_EHLO,
	AT_MAIL,
	AT_RCPT,
	AT_DATA,
	AT_CONTENT,
	AT_DOT,
	AT_QUIT
};
enum act {
	SILENCE,  /* says nothing */
	FAREWELL, /* closes */
	RESET,    /* closes, with a reset */
	DRIBBLE,  /* one byte of its replies in ten seconds, from its step on */
	ENDLESS,  /* a line without end */
	LINES,    /* a reply of lines without end */
	LONG,     /* a line of 60 KB, and goes on */
	LATE,     /* answers when it is told to */
	UNREAD,   /* does not read */
};

static const struct vice {
	const char *name;
	enum step at;
	enum act act;
} vices[] = {
	{ "connect", AT_CONNECT, SILENCE }, { "greeting", AT_GREETING, SILENCE },
	{ "ehlo", AT_EHLO, SILENCE },       { "mail", AT_MAIL, SILENCE },
	{ "rcpt", AT_RCPT, SILENCE },       { "data", AT_DATA, SILENCE },
	{ "dot", AT_DOT, SILENCE },         { "quit", AT_QUIT, SILENCE },
	{ "vanish", AT_DOT, FAREWELL },     { "reset", AT_DOT, RESET },
	{ "late", AT_DOT, LATE },           { "dribble", AT_GREETING, DRIBBLE },
	{ "dribble_dot", AT_DOT, DRIBBLE }, { "endless", AT_GREETING, ENDLESS },
	{ "endless_dot", AT_DOT, ENDLESS }, { "lines", AT_EHLO, LINES },
	{ "lines_rcpt", AT_RCPT, LINES },   { "long", AT_EHLO, LONG },
	{ "reset_mail", AT_MAIL, RESET },   { "unread", AT_CONTENT, UNREAD },
};
enum {
	VICES = sizeof(vices) / sizeof(vices[0]),
	TICK_MS = 50,
	DRIBBLE_TICKS = 200,
	FLOOD_BYTES = 4096
};

struct conn {
	struct conn *next, *prev;
	struct loop_fd lf;
	unsigned vice;
	bool in_data, held, flooding, dribbling, closing;
	struct buf in, out; /* out: what waits to be dribbled, or written */
	struct buf rcpts;
	char id[128];
};

static struct {
	struct loop *loop;
	struct loop_timer tick;
	struct loop_fd listeners[VICES];
	struct conn conns; /* list head */
	bool good;
	FILE *ids;
	unsigned long connections[VICES], reached[VICES], bytes[VICES], messages[VICES];
} g;

static void conn_close(struct conn *c, bool reset)
{
	struct linger now = { 1, 0 };

	if (reset)
		setsockopt(c->lf.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	int fd = c->lf.fd;

	loop_fd_del(g.loop, &c->lf);
	close(fd);
	c->next->prev = c->prev;
	c->prev->next = c->next;
	buf_fini(&c->in);
	buf_fini(&c->out);
	buf_fini(&c->rcpts);
	free(c);
}

/* False when the connection is gone. */
static bool conn_write(struct conn *c, size_t most)
{
	size_t len = size_min(c->out.len, most);
	ssize_t n = len > 0 ? send(c->lf.fd, c->out.p, len, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;

	if (n < 0 && errno != EAGAIN) {
		conn_close(c, false);
		return false;
	}
	if (n > 0) {
		buf_consume(&c->out, (size_t)n);
		if (c->dribbling || c->flooding)
			g.bytes[c->vice] += (unsigned long)n;
	}
	if (c->closing && c->out.len == 0) {
		conn_close(c, false);
		return false;
	}
	return true;
}

/* What the step is answered with; false when the connection is gone. */
static bool answer(struct conn *c, enum step at, const char *text)
{
	const struct vice *v = &vices[c->vice];
	bool mine = !g.good && at == v->at;

	if (mine)
		g.reached[c->vice]++;
	if (mine && (v->act == FAREWELL || v->act == RESET)) {
		conn_close(c, v->act == RESET);
		return false;
	}
	if (mine && v->act == DRIBBLE)
		c->dribbling = true;
	if (mine && (v->act == ENDLESS || v->act == LINES)) {
		c->flooding = true;
		return true;
	}
	if (mine && v->act == LONG) {
		buf_printf(&c->out, "250-");
		for (unsigned i = 0; i < 60000; i++)
			buf_add_c(&c->out, 'y');
		buf_add_str(&c->out, "\r\n");
	}
	buf_add_str(&c->out, text);
	if (mine && (v->act == SILENCE || v->act == LATE || v->act == UNREAD))
		c->held = true;
	if (c->held && v->act == UNREAD)
		loop_fd_mod(g.loop, &c->lf, 0);
	if (mine && v->act == DRIBBLE)
		return conn_write(c, 1);
	return c->held || c->dribbling || conn_write(c, SIZE_MAX);
}

static void write_ids(struct conn *c)
{
	char *save = NULL;

	g.messages[c->vice]++;
	for (char *r = strtok_r(c->rcpts.p, " ", &save); r != NULL; r = strtok_r(NULL, " ", &save))
		fprintf(g.ids, "%s %s\n", c->id[0] != '\0' ? c->id : "-", r);
	fflush(g.ids);
	buf_reset(&c->rcpts);
}

static bool on_command(struct conn *c, struct sv line)
{
	struct sv verb = { line.p, size_min(line.len, 4) };

	if (sv_eq_nocase(verb, SV("EHLO")))
		return answer(c, AT_EHLO, "250-slow.test\r\n250 8BITMIME\r\n");
	if (sv_eq_nocase(verb, SV("MAIL")))
		return answer(c, AT_MAIL, "250 2.1.0 ok\r\n");
	if (sv_eq_nocase(verb, SV("RCPT"))) {
		const char *lt = memchr(line.p, '<', line.len);
		const char *gt = memchr(line.p, '>', line.len);

		if (lt != NULL && gt != NULL && lt < gt) {
			buf_add(&c->rcpts, lt + 1, (size_t)(gt - lt) - 1);
			buf_add_c(&c->rcpts, ' ');
		}
		return answer(c, AT_RCPT, "250 2.1.5 ok\r\n");
	}
	if (sv_eq_nocase(verb, SV("DATA"))) {
		c->in_data = true;
		c->id[0] = '\0';
		if (!answer(c, AT_DATA, "354 go\r\n"))
			return false;
		return vices[c->vice].at != AT_CONTENT || answer(c, AT_CONTENT, "");
	}
	if (sv_eq_nocase(verb, SV("QUIT"))) {
		c->closing = g.good || vices[c->vice].at != AT_QUIT;
		return answer(c, AT_QUIT, "221 2.0.0 bye\r\n");
	}
	return answer(c, AT_CONNECT, "250 2.0.0 ok\r\n");
}

static bool on_line(struct conn *c, struct sv line)
{
	if (!c->in_data)
		return on_command(c, sv_trim(line));
	if (line.len == 3 && line.p[0] == '.') {
		c->in_data = false;
		write_ids(c);
		return answer(c, AT_DOT, "250 2.0.0 taken\r\n");
	}
	if (line.len > 11 && sv_eq_nocase((struct sv){ line.p, 11 }, SV("X-Load-Id: ")))
		str_copy(c->id, sizeof(c->id), sv_trim((struct sv){ line.p + 11, line.len - 11 }));
	return true;
}

static void conn_event(void *ctx, unsigned events UNUSED)
{
	struct conn *c = ctx;
	char *place = buf_reserve(&c->in, 65536);
	ssize_t n = recv(c->lf.fd, place, 65536, MSG_DONTWAIT);
	size_t off = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c, false);
		return;
	}
	c->in.len += (size_t)n;
	for (;;) {
		char *nl = memchr(c->in.p + off, '\n', c->in.len - off);

		if (nl == NULL)
			break;
		struct sv line = { c->in.p + off, (size_t)(nl - (c->in.p + off)) + 1 };

		off += line.len;
		if (!on_line(c, line))
			return;
	}
	buf_consume(&c->in, off);
}

static void accept_event(void *ctx, unsigned events UNUSED)
{
	struct loop_fd *lf = ctx;
	unsigned vice = (unsigned)(lf - g.listeners);

	for (;;) {
		int fd = accept4(lf->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		struct conn *c = xcalloc(1, sizeof(*c));

		c->vice = vice;
		c->next = g.conns.next;
		c->prev = &g.conns;
		g.conns.next->prev = c;
		g.conns.next = c;
		g.connections[vice]++;
		loop_fd_add(g.loop, &c->lf, fd, LOOP_READ, conn_event, c);
		answer(c, AT_GREETING, "220 slow.test ESMTP\r\n");
	}
}

static void flood(struct conn *c)
{
	if (c->out.len == 0 && vices[c->vice].act == ENDLESS) {
		buf_add_str(&c->out, g.bytes[c->vice] == 0 ? "250 " : "");
		for (unsigned i = 0; i < FLOOD_BYTES; i++)
			buf_add_c(&c->out, 'z');
	} else if (c->out.len == 0) {
		for (unsigned i = 0; i < FLOOD_BYTES / 16; i++)
			buf_add_str(&c->out, "250-more to say\r\n");
	}
	conn_write(c, SIZE_MAX);
}

static void on_tick(void *ctx UNUSED)
{
	static unsigned ticks;
	bool one_more = ++ticks % DRIBBLE_TICKS == 0;

	for (struct conn *c = g.conns.next, *next; c != &g.conns; c = next) {
		next = c->next;
		if (c->flooding)
			flood(c);
		else if (c->dribbling && one_more)
			conn_write(c, 1);
	}
	loop_timer_set(&g.tick, TICK_MS);
}

/* Says what it has kept back. */
static void release(enum act act, bool all)
{
	for (struct conn *c = g.conns.next, *next; c != &g.conns; c = next) {
		next = c->next;
		if (!all && vices[c->vice].act != act)
			continue;
		if (all && c->flooding) {
			conn_close(c, true);
			continue;
		}
		c->held = c->dribbling = false;
		if (vices[c->vice].act == UNREAD)
			loop_fd_mod(g.loop, &c->lf, LOOP_READ);
		conn_write(c, SIZE_MAX);
	}
}

static void on_late(void *ctx UNUSED)
{
	release(LATE, false);
}

static int listen_at(uint16_t port, int backlog)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(port) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, backlog) < 0)
		die("listen on port %u: %s", port, strerror(errno));
	return fd;
}

/* Nobody accepts here, and the queue is full: who connects hears nothing at all. */
static void fill_queue(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	for (unsigned i = 0; i < 8; i++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		(void)!connect(fd, (struct sockaddr *)&to, sizeof(to));
	}
}

static void on_good(void *ctx UNUSED)
{
	g.good = true;
	for (unsigned v = 0; v < VICES; v++) {
		if (vices[v].at != AT_CONNECT || g.listeners[v].ev != NULL)
			continue;
		listen(g.listeners[v].fd, 1000);
		loop_fd_add(g.loop, &g.listeners[v], g.listeners[v].fd, LOOP_READ, accept_event,
			    &g.listeners[v]);
	}
	release(SILENCE, true);
}

static void on_term(void *ctx UNUSED)
{
	loop_stop(g.loop);
}

static void report(void)
{
	putchar('{');
	for (unsigned v = 0; v < VICES; v++)
		printf("%s\"%s\":{\"connections\":%lu,\"reached\":%lu,\"bytes\":%lu,\"messages\":%"
		       "lu}",
		       v > 0 ? "," : "", vices[v].name, g.connections[v], g.reached[v], g.bytes[v],
		       g.messages[v]);
	puts("}");
	fflush(stdout);
}

static void on_hup(void *ctx UNUSED)
{
	report();
}

int main(int argc, char **argv)
{
	struct rlimit rl;

	log_set_program("slowhop");
	signal(SIGPIPE, SIG_IGN);
	if (argc == 2 && strcmp(argv[1], "-l") == 0) {
		for (unsigned v = 0; v < VICES; v++)
			puts(vices[v].name);
		return 0;
	}
	if (argc != 3 || (g.ids = fopen(argv[1], "w")) == NULL)
		die("usage: slowhop -l | slowhop file port");
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	g.conns.next = g.conns.prev = &g.conns;
	g.loop = loop_new();
	for (unsigned v = 0; v < VICES; v++) {
		uint16_t port = (uint16_t)(atoi(argv[2]) + (int)v);
		int fd = listen_at(port, vices[v].at == AT_CONNECT ? 0 : 1000);

		g.listeners[v].fd = fd;
		if (vices[v].at == AT_CONNECT)
			fill_queue(port);
		else
			loop_fd_add(g.loop, &g.listeners[v], fd, LOOP_READ, accept_event,
				    &g.listeners[v]);
	}
	loop_signal_add(g.loop, SIGTERM, on_term, NULL);
	loop_signal_add(g.loop, SIGHUP, on_hup, NULL);
	loop_signal_add(g.loop, SIGUSR1, on_good, NULL);
	loop_signal_add(g.loop, SIGUSR2, on_late, NULL);
	loop_timer_init(g.loop, &g.tick, on_tick, NULL);
	loop_timer_set(&g.tick, TICK_MS);
	puts("ready");
	fflush(stdout);
	loop_run(g.loop);
	report();
	return 0;
}
