/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sink: SMTP server that swallows what t/bench/load.c sent and judges it: every message's id, the
 * checksum of its body, and whether each recipient belongs to the message. Can refuse recipients:
 * -T percent once with 450 (accepted when tried again), -P percent always with 550.
 * Writes "ID RECIPIENT" lines to -o before they are answered, with -m also when. Prints one line of
 * JSON when it is ended by SIGTERM, or after -n messages. With -w it waits so many ms before each
 * batch of replies. Offers CHUNKING, with one chunk for a message; with -S PEM_FILE (key,
 * certificate) STARTTLS. SIGUSR1 begins the time anew: "timed" messages came in "seconds" since
 * then. SIGUSR2 prints the report so far.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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
#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/util.h"
#include "t/bench/wire.h"

#define MAX_RCPTS 1000

struct conn {
	struct loop_fd lf;
	struct loop_timer delay;
	struct wire w;
	size_t out_off;
	bool in_data, waiting, closing, header, have_crc;
	bool starts_tls; /* when its answer is out */
	bool chunked;    /* BDAT: `chunk` bytes of content are to come */
	unsigned long chunk;
	struct buf in, out, rcpts; /* accepted recipients, space separated */
	unsigned rcpt_count;
	char id[128];
	uint32_t crc, want_crc;
};

static struct {
	struct loop *loop;
	struct loop_fd lf;
	int fd;
	unsigned temp_pct, perm_pct, wait_ms;
	unsigned long messages, recipients, bad_crc, misdelivered, foreign, temp, perm, connections,
		open, max_open, stop_after, timed, chunks;
	FILE *out;
	bool moments;
	struct tls_ctx *tls;    /* NULL: plain text only */
	struct strmap *refused; /* recipients that had their 450 */
	int64_t first_us, last_us;
} g;

static void reply(struct conn *c, const char *text)
{
	buf_add_str(&c->out, text);
}

static void on_rcpt(struct conn *c, struct sv line)
{
	const char *lt = memchr(line.p, '<', line.len);
	const char *gt = lt == NULL ? NULL : memchr(lt, '>', line.len - (size_t)(lt - line.p));

	if (gt == NULL) {
		reply(c, "501 5.5.4 syntax\r\n");
		return;
	}
	struct sv addr = { lt + 1, (size_t)(gt - lt) - 1 };
	uint32_t dice = crc32c(0x1234567, addr.p, addr.len) % 100;

	if (dice >= 100 - g.perm_pct) {
		g.perm++;
		reply(c, "550 5.1.1 refused for good\r\n");
	} else if (dice < g.temp_pct && strmap_get(g.refused, addr) == NULL) {
		strmap_put(g.refused, addr, &g);
		g.temp++;
		reply(c, "450 4.2.0 refused once\r\n");
	} else if (c->rcpt_count >= MAX_RCPTS) {
		reply(c, "452 4.5.3 too many\r\n");
	} else {
		buf_add_sv(&c->rcpts, addr);
		buf_add_c(&c->rcpts, ' ');
		c->rcpt_count++;
		reply(c, "250 2.1.5 ok\r\n");
	}
}

static void reset_tx(struct conn *c)
{
	buf_reset(&c->rcpts);
	c->rcpt_count = 0;
}

static void begin_data(struct conn *c)
{
	c->in_data = c->header = true;
	c->have_crc = false;
	c->id[0] = '\0';
	c->crc = c->want_crc = 0;
}

static void on_data(struct conn *c)
{
	if (c->rcpt_count == 0) {
		reply(c, "554 5.5.1 no valid recipients\r\n");
		return;
	}
	reply(c, "354 go\r\n");
	begin_data(c);
}

/* All of a message in one chunk. */
static void on_bdat(struct conn *c, struct sv line)
{
	char *end;

	c->chunk = strtoul(line.p + 4, &end, 10);
	if (!sv_eq_nocase(sv_trim((struct sv){ end, (size_t)(line.p + line.len - end) }),
			  SV("LAST"))) {
		reply(c, "501 5.5.4 one chunk, please\r\n");
		c->closing = true;
		return;
	}
	c->chunked = true;
	g.chunks++;
	begin_data(c);
}

static void on_command(struct conn *c, struct sv line)
{
	struct sv verb = { line.p, size_min(line.len, 4) };

	if (sv_eq_nocase(verb, SV("RCPT"))) {
		on_rcpt(c, line);
	} else if (sv_eq_nocase(verb, SV("DATA"))) {
		on_data(c);
	} else if (sv_eq_nocase(verb, SV("BDAT"))) {
		on_bdat(c, line);
	} else if (sv_eq_nocase(verb, SV("EHLO"))) {
		reset_tx(c);
		reply(c, "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n");
		if (g.tls != NULL && c->w.t == NULL)
			reply(c, "250-STARTTLS\r\n");
		reply(c, "250 SIZE 0\r\n");
	} else if (g.tls != NULL && c->w.t == NULL && sv_eq_nocase(line, SV("STARTTLS"))) {
		reply(c, "220 2.0.0 go\r\n");
		c->starts_tls = true;
	} else if (sv_eq_nocase(verb, SV("QUIT"))) {
		reply(c, "221 2.0.0 bye\r\n");
		c->closing = true;
	} else {
		if (sv_eq_nocase(verb, SV("RSET")) || sv_eq_nocase(verb, SV("MAIL")))
			reset_tx(c);
		reply(c, "250 2.0.0 ok\r\n");
	}
}

/* The recipient is rK.ID@domain: it must be this message's. */
static void judge_recipients(struct conn *c)
{
	size_t n = strlen(c->id);
	char *save = NULL;

	for (char *r = strtok_r(c->rcpts.p, " ", &save); r != NULL;
	     r = strtok_r(NULL, " ", &save)) {
		const char *dot = strchr(r, '.');

		g.recipients++;
		if (n > 0 && (dot == NULL || strncmp(dot + 1, c->id, n) != 0 || dot[1 + n] != '@'))
			g.misdelivered++;
		if (g.out != NULL)
			fprintf(g.out, "%s %s", n == 0 ? "-" : c->id, r);
		if (g.out != NULL && g.moments)
			fprintf(g.out, " %lld", (long long)clock_mono_us_raw());
		if (g.out != NULL)
			fputc('\n', g.out);
	}
}

static void end_data(struct conn *c)
{
	c->in_data = false;
	g.messages++;
	g.timed++;
	g.last_us = clock_mono_us_raw();
	if (g.first_us == 0)
		g.first_us = g.last_us;
	if (c->id[0] == '\0')
		g.foreign++;
	else if (!c->have_crc || c->crc != c->want_crc)
		g.bad_crc++;
	judge_recipients(c);
	reset_tx(c);
	reply(c, "250 2.0.0 swallowed\r\n");
	if (g.stop_after != 0 && g.messages >= g.stop_after)
		loop_stop(g.loop);
}

static void on_header(struct conn *c, struct sv line)
{
	if (line.len > 11 && sv_eq_nocase((struct sv){ line.p, 11 }, SV("X-Load-Id: "))) {
		str_copy(c->id, sizeof(c->id), sv_trim((struct sv){ line.p + 11, line.len - 11 }));
	} else if (line.len > 12 && sv_eq_nocase((struct sv){ line.p, 12 }, SV("X-Load-Crc: "))) {
		c->want_crc = (uint32_t)strtoul(line.p + 12, NULL, 16);
		c->have_crc = true;
	}
}

/* A line with its CRLF. False at the end of the data. */
static bool on_data_line(struct conn *c, struct sv line)
{
	if (!c->chunked && line.len == 3 && memcmp(line.p, ".\r\n", 3) == 0)
		return false;
	if (!c->chunked && line.p[0] == '.') {
		line.p++;
		line.len--;
	}
	if (!c->header)
		c->crc = crc32c(c->crc, line.p, line.len);
	else if (line.len == 2)
		c->header = false;
	else
		on_header(c, line);
	return true;
}

static void conn_close(struct conn *c)
{
	loop_fd_del(g.loop, &c->lf);
	loop_timer_fini(&c->delay);
	close(c->w.fd);
	wire_end(&c->w);
	buf_fini(&c->in);
	buf_fini(&c->out);
	buf_fini(&c->rcpts);
	free(c);
	g.open--;
}

static void flush(struct conn *c)
{
	int done = wire_write(&c->w, &c->out, &c->out_off);

	if (done == 0) {
		loop_fd_mod(g.loop, &c->lf, LOOP_READ | LOOP_WRITE);
		return;
	}
	if (done < 0 || c->closing) {
		conn_close(c);
		return;
	}
	if (c->starts_tls)
		wire_start_tls(&c->w, g.tls);
	c->starts_tls = false;
}

/* The chunk stands at `at`, whole. */
static void take_chunk(struct conn *c, size_t at)
{
	size_t end = at + c->chunk;

	while (at < end) {
		const char *nl = memchr(c->in.p + at, '\n', end - at);
		size_t len = nl == NULL ? end - at : (size_t)(nl - (c->in.p + at)) + 1;

		on_data_line(c, (struct sv){ c->in.p + at, len });
		at += len;
	}
	c->chunked = false;
	if (c->rcpt_count > 0) {
		end_data(c);
		return;
	}
	c->in_data = false;
	reply(c, "554 5.5.1 no valid recipients\r\n");
}

static void process(struct conn *c)
{
	size_t off = 0;

	while (!c->closing && c->in.len > off) {
		if (c->chunked) {
			if (c->in.len - off < c->chunk)
				break;
			off += c->chunk;
			take_chunk(c, off - c->chunk);
			continue;
		}
		char *nl = memchr(c->in.p + off, '\n', c->in.len - off);

		if (nl == NULL)
			break;
		struct sv line = { c->in.p + off, (size_t)(nl - (c->in.p + off)) + 1 };

		off += line.len;
		if (!c->in_data)
			on_command(c, sv_trim(line));
		else if (!on_data_line(c, line))
			end_data(c);
	}
	buf_consume(&c->in, off);
}

static void delayed(void *ctx)
{
	struct conn *c = ctx;

	c->waiting = false;
	flush(c);
}

static void conn_event(void *ctx, unsigned events)
{
	struct conn *c = ctx;

	if (events & LOOP_WRITE) {
		loop_fd_mod(g.loop, &c->lf, LOOP_READ);
		flush(c);
		return; /* level-triggered: what is to be read is reported again */
	}
	int n = wire_read(&c->w, &c->in);

	if (n == 0) {
		conn_close(c);
		return;
	}
	process(c);
	if (c->out.len == 0)
		return;
	if (g.wait_ms == 0) {
		flush(c);
	} else if (!c->waiting) {
		loop_timer_set(&c->delay, g.wait_ms);
		c->waiting = true;
	}
}

static void accept_event(void *ctx UNUSED, unsigned events UNUSED)
{
	for (int i = 0; i < 64; i++) {
		int fd = accept4(g.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0)
			return;
		struct conn *c = xcalloc(1, sizeof(*c));

		c->w.fd = fd;
		g.connections++;
		if (++g.open > g.max_open)
			g.max_open = g.open;
		loop_timer_init(g.loop, &c->delay, delayed, c);
		loop_fd_add(g.loop, &c->lf, fd, LOOP_READ, conn_event, c);
		reply(c, "220 sink.test ESMTP\r\n");
		flush(c);
	}
}

static void on_term(void *ctx UNUSED)
{
	loop_stop(g.loop);
}

/* What came before was for warming up. */
static void on_usr1(void *ctx UNUSED)
{
	g.timed = 0;
	g.first_us = 0;
}

static void report(void)
{
	double s = g.first_us == 0 ? 0 : (double)(g.last_us - g.first_us) / 1e6;

	printf("{\"messages\":%lu,\"recipients\":%lu,\"bad_crc\":%lu,\"misdelivered\":%lu,"
	       "\"without_id\":%lu,\"refused_once\":%lu,\"refused\":%lu,\"connections\":%lu,"
	       "\"max_open\":%lu,\"chunks\":%lu,\"timed\":%lu,\"last_us\":%lld,\"seconds\":%.3f,"
	       "\"rate\":%.1f}\n",
	       g.messages, g.recipients, g.bad_crc, g.misdelivered, g.foreign, g.temp, g.perm,
	       g.connections, g.max_open, g.chunks, g.timed, (long long)g.last_us, s,
	       s > 0 ? (double)g.timed / s : 0);
}

static void on_usr2(void *ctx UNUSED)
{
	report();
	fflush(stdout);
}

static void listen_on(char *where)
{
	char *colon = where == NULL ? NULL : strrchr(where, ':');
	int one = 1;

	if (colon == NULL)
		die("usage: sink [-o file] [-T percent] [-P percent] [-w ms] [-n messages] [-m] "
		    "address:port");
	*colon = '\0';
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(colon + 1)) };

	if (inet_pton(AF_INET, where, &sa.sin_addr) != 1)
		die("bad address %s", where);
	g.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(g.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(g.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (bind(g.fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(g.fd, 4096) < 0)
		die("listen on port %s: %s", colon + 1, strerror(errno));
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	int opt;

	log_set_program("sink");
	signal(SIGPIPE, SIG_IGN);
	while ((opt = getopt(argc, argv, "o:T:P:w:n:mS:")) != -1) {
		if (opt == 'o')
			g.out = fopen(optarg, "w");
		else if (opt == 'T')
			g.temp_pct = (unsigned)atoi(optarg);
		else if (opt == 'P')
			g.perm_pct = (unsigned)atoi(optarg);
		else if (opt == 'w')
			g.wait_ms = (unsigned)atoi(optarg);
		else if (opt == 'm')
			g.moments = true;
		else if (opt == 'S')
			g.tls = wire_ctx(optarg);
		else if (opt == 'n')
			g.stop_after = strtoul(optarg, NULL, 10);
	}
	listen_on(optind == argc - 1 ? argv[optind] : NULL);
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	g.refused = strmap_new();
	g.loop = loop_new();
	loop_fd_add(g.loop, &g.lf, g.fd, LOOP_READ, accept_event, NULL);
	loop_signal_add(g.loop, SIGTERM, on_term, NULL);
	loop_signal_add(g.loop, SIGINT, on_term, NULL);
	loop_signal_add(g.loop, SIGUSR1, on_usr1, NULL);
	loop_signal_add(g.loop, SIGUSR2, on_usr2, NULL);
	loop_run(g.loop);
	if (g.out != NULL)
		fclose(g.out);
	report();
	return 0;
}
