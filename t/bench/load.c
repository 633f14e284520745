/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * load: SMTP generator for benchmarks and for the crash tests' oracle. Each message carries
 *   X-Load-Id: PREFIX-NUMBER     X-Load-Crc: CRC32C of the body (hex)
 * and its recipients are rK.PREFIX-NUMBER@dN.DOMAIN, so that the sink (t/bench/sink.c) can tell
 * loss, duplicates, damage and mail in wrong hands. With -A domains are dA-B-C.DOMAIN, so that a
 * table can make the address 127.A.B.C of each. Ids that got a 250 are written to -o, with -m also
 * when (clock_mono_us_raw()). -S: STARTTLS first. Prints one line of JSON.
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
#include "lib/log.h"
#include "lib/loop.h"
#include "t/bench/wire.h"

enum phase {
	PH_GREETING,
	PH_HELO,
	PH_STARTTLS,
	PH_SHAKE,
	PH_MAIL,
	PH_RCPT,
	PH_DATA,
	PH_DOT,
	PH_QUIT
};

struct session {
	struct loop_fd lf;
	struct loop_timer retry;
	struct wire w; /* fd -1: none */
	enum phase phase;
	unsigned long id; /* current message */
	unsigned done_on_conn, rcpt_sent, rcpt_replies, rcpt_ok;
	unsigned rset_replies; /* answers to RSET still to come */
	int64_t dot_us;
	struct buf in, out;
	size_t out_off;
};

static struct {
	struct sockaddr_in to;
	unsigned sessions, rcpts, domains, per_conn, length;
	unsigned long total, next, finished, acked, tempfail, permfail, lost, lat_count;
	bool pipeline, reconnect, moments, numbered;
	struct tls_ctx *tls; /* NULL: plain text */
	const char *prefix, *domain;
	FILE *acked_file;
	uint32_t *lat; /* us per acked message */
	int64_t start_us;
	char *body; /* `length` bytes without dots at line starts */
	struct loop *loop;
} g = { .sessions = 10,
	.rcpts = 1,
	.domains = 1,
	.length = 4096,
	.total = 1000,
	.prefix = "load",
	.domain = "sink.test" };

static void session_connect(struct session *s);

static void finish_if_done(void)
{
	if (g.finished >= g.total)
		loop_stop(g.loop);
}

static void session_close(struct session *s, bool lost)
{
	loop_fd_del(g.loop, &s->lf);
	close(s->w.fd);
	s->w.fd = -1;
	wire_end(&s->w);
	buf_reset(&s->in);
	buf_reset(&s->out);
	s->out_off = 0;
	if (lost) {
		g.lost++;
		/* not acknowledged: nobody promised anything */
		if (s->phase >= PH_MAIL && s->phase <= PH_DOT)
			g.finished++;
	}
	s->phase = PH_GREETING;
	if (g.next < g.total && (!lost || g.reconnect))
		loop_timer_set(&s->retry, lost ? 50 : 0);
	finish_if_done();
}

static void flush_out(struct session *s)
{
	int done = wire_write(&s->w, &s->out, &s->out_off);

	if (done == 0)
		loop_fd_mod(g.loop, &s->lf, LOOP_READ | LOOP_WRITE);
	else if (done > 0) /* errors show on the read side */
		loop_fd_mod(g.loop, &s->lf, LOOP_READ);
}

static void put_rcpt(struct session *s)
{
	unsigned k = s->rcpt_sent++;

	buf_printf(&s->out, "RCPT TO:<r%u.%s-%lu@", k, g.prefix, s->id);
	unsigned long d = (s->id * g.rcpts + k) % g.domains;

	if (g.numbered)
		buf_printf(&s->out, "d%lu-%lu-%lu.", d / 62500, d / 250 % 250, d % 250 + 1);
	else if (g.domains > 1)
		buf_printf(&s->out, "d%lu.", d);
	buf_printf(&s->out, "%s>\r\n", g.domain);
}

static void put_content(struct session *s)
{
	char tail[64];
	int n = snprintf(tail, sizeof(tail), "end of %s-%lu\r\n", g.prefix, s->id);
	uint32_t crc = crc32c(crc32c(0, g.body, g.length), tail, (size_t)n);

	buf_printf(
		&s->out,
		"From: <sender@load.test>\r\nTo: undisclosed\r\nSubject: load\r\n"
		"Message-ID: <%s-%lu@load.test>\r\nX-Load-Id: %s-%lu\r\nX-Load-Crc: %08x\r\n\r\n",
		g.prefix, s->id, g.prefix, s->id, crc);
	buf_add(&s->out, g.body, g.length);
	buf_add(&s->out, tail, (size_t)n);
	buf_add_str(&s->out, ".\r\n");
	s->dot_us = clock_mono_us_raw();
}

static void next_message(struct session *s)
{
	if (g.next >= g.total || (g.per_conn != 0 && s->done_on_conn >= g.per_conn)) {
		buf_add_str(&s->out, "QUIT\r\n");
		s->phase = PH_QUIT;
		return;
	}
	s->id = g.next++;
	s->rcpt_sent = s->rcpt_replies = s->rcpt_ok = 0;
	s->phase = PH_MAIL;
	buf_add_str(&s->out, "MAIL FROM:<sender@load.test>\r\n");
	if (g.pipeline) {
		while (s->rcpt_sent < g.rcpts)
			put_rcpt(s);
		buf_add_str(&s->out, "DATA\r\n");
	}
}

static void message_over(struct session *s, int code)
{
	g.finished++;
	s->done_on_conn++;
	if (code / 100 == 2) {
		int64_t us = clock_mono_us_raw() - s->dot_us;

		g.acked++;
		g.lat[g.lat_count++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
		if (g.acked_file != NULL)
			fprintf(g.acked_file, "%s-%lu %u", g.prefix, s->id, s->rcpt_ok);
		if (g.acked_file != NULL && g.moments)
			fprintf(g.acked_file, " %lld", (long long)clock_mono_us_raw());
		if (g.acked_file != NULL)
			fputc('\n', g.acked_file);
	} else if (code / 100 == 4) {
		g.tempfail++;
	} else {
		g.permfail++;
	}
	if (code / 100 != 2) {
		buf_add_str(&s->out, "RSET\r\n");
		s->rset_replies++;
	}
	next_message(s);
	finish_if_done();
}

static void on_rcpt_reply(struct session *s, int code)
{
	s->rcpt_replies++;
	if (code / 100 == 2)
		s->rcpt_ok++;
	if (s->rcpt_replies < g.rcpts) {
		if (!g.pipeline)
			put_rcpt(s);
		return;
	}
	if (!g.pipeline)
		buf_add_str(&s->out, "DATA\r\n");
	s->phase = PH_DATA;
}

static void on_reply(struct session *s, int code)
{
	if (s->rset_replies > 0) {
		s->rset_replies--;
		return;
	}
	switch (s->phase) {
	case PH_GREETING:
		if (code / 100 != 2) {
			session_close(s, true);
			break;
		}
		buf_add_str(&s->out, "EHLO load.test\r\n");
		s->phase = PH_HELO;
		break;
	case PH_HELO:
		if (g.tls == NULL || s->w.secured) {
			next_message(s);
			break;
		}
		buf_add_str(&s->out, "STARTTLS\r\n");
		s->phase = PH_STARTTLS;
		break;
	case PH_STARTTLS:
		if (code != 220) {
			session_close(s, true);
			break;
		}
		wire_start_tls(&s->w, g.tls);
		s->phase = PH_SHAKE;
		break;
	case PH_SHAKE: /* nothing is said in plain text meanwhile */
		session_close(s, true);
		break;
	case PH_MAIL:
		if (code / 100 != 2 && !g.pipeline) {
			message_over(s, code);
			break;
		}
		s->phase = PH_RCPT;
		if (!g.pipeline)
			put_rcpt(s);
		break;
	case PH_RCPT:
		on_rcpt_reply(s, code);
		break;
	case PH_DATA:
		if (code != 354) {
			message_over(s, code);
			break;
		}
		put_content(s);
		s->phase = PH_DOT;
		break;
	case PH_DOT:
		message_over(s, code);
		break;
	case PH_QUIT:
		session_close(s, false);
		break;
	}
}

static void take_replies(struct session *s)
{
	size_t off = 0;

	while (s->w.fd >= 0 && s->in.len > off) {
		char *nl = memchr(s->in.p + off, '\n', s->in.len - off);

		if (nl == NULL)
			break;
		size_t len = (size_t)(nl - (s->in.p + off)) + 1;
		bool last = len >= 4 && s->in.p[off + 3] != '-';
		int code = atoi(s->in.p + off);

		off += len;
		if (last)
			on_reply(s, code);
	}
	if (s->w.fd >= 0)
		buf_consume(&s->in, off);
}

static void session_event(void *ctx, unsigned events)
{
	struct session *s = ctx;

	if (events & LOOP_WRITE)
		flush_out(s);
	if ((events & LOOP_READ) == 0)
		return;
	int n = wire_read(&s->w, &s->in);

	if (n == 0) {
		session_close(s, s->phase != PH_QUIT);
		return;
	}
	if (s->phase == PH_SHAKE && s->w.secured) {
		buf_add_str(&s->out, "EHLO load.test\r\n");
		s->phase = PH_HELO;
	}
	take_replies(s);
	if (s->w.fd >= 0 && s->out.len > 0)
		flush_out(s);
}

static void session_connect(struct session *s)
{
	int one = 1;

	if (g.next >= g.total)
		return;
	s->w.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s->w.fd < 0)
		die("socket: %s", strerror(errno));
	if (connect(s->w.fd, (struct sockaddr *)&g.to, sizeof(g.to)) < 0) {
		close(s->w.fd);
		s->w.fd = -1;
		if (!g.reconnect)
			die("connect: %s", strerror(errno));
		loop_timer_set(&s->retry, 50);
		return;
	}
	setsockopt(s->w.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	fcntl(s->w.fd, F_SETFL, O_NONBLOCK);
	s->phase = PH_GREETING;
	s->done_on_conn = s->rset_replies = 0;
	loop_fd_add(g.loop, &s->lf, s->w.fd, LOOP_READ, session_event, s);
}

static void retry_timer(void *ctx)
{
	session_connect(ctx);
}

static void deadline(void *ctx UNUSED)
{
	loop_stop(g.loop);
}

/* What was acknowledged by now is still written down. */
static void on_term(void *ctx UNUSED)
{
	loop_stop(g.loop);
}

static int cmp_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double percentile_ms(double p)
{
	return g.lat_count == 0 ? 0 : g.lat[(size_t)((double)(g.lat_count - 1) * p)] / 1000.0;
}

static void report(void)
{
	double s = (double)(clock_mono_us_raw() - g.start_us) / 1e6;

	qsort(g.lat, g.lat_count, sizeof(*g.lat), cmp_u32);
	printf("{\"messages\":%lu,\"acked\":%lu,\"tempfail\":%lu,\"permfail\":%lu,"
	       "\"lost_connections\":%lu,\"seconds\":%.3f,\"rate\":%.1f,\"accept_p50_ms\":%.3f,"
	       "\"accept_p99_ms\":%.3f,\"accept_max_ms\":%.3f}\n",
	       g.finished, g.acked, g.tempfail, g.permfail, g.lost, s, (double)g.acked / s,
	       percentile_ms(0.5), percentile_ms(0.99), percentile_ms(1.0));
}

static void make_body(void)
{
	g.body = xmalloc(g.length + 2);
	for (size_t i = 0; i < g.length; i++)
		g.body[i] = (char)('a' + (i * 7 + i / 61) % 26);
	for (size_t i = 70; i + 1 < g.length; i += 72)
		memcpy(g.body + i, "\r\n", 2);
	if (g.length >= 2)
		memcpy(g.body + g.length - 2, "\r\n", 2);
}

static NORETURN void usage(void)
{
	die("usage: load [-s sessions] [-n messages] [-l bytes] [-r rcpts] [-d domain] [-D "
	    "domains] "
	    "[-k per_connection] [-t prefix] [-o acked_file] [-T seconds] [-p] [-R] [-m] [-A] [-S] "
	    "address:port");
}

static double parse_options(int argc, char **argv)
{
	double limit_s = 0;
	int opt;

	while ((opt = getopt(argc, argv, "s:n:l:r:d:D:k:t:o:T:pRmAS")) != -1) {
		unsigned long v = optarg == NULL ? 0 : strtoul(optarg, NULL, 10);

		switch (opt) {
		case 's':
			g.sessions = (unsigned)v;
			break;
		case 'n':
			g.total = v;
			break;
		case 'l':
			g.length = (unsigned)v;
			break;
		case 'r':
			g.rcpts = (unsigned)v;
			break;
		case 'd':
			g.domain = optarg;
			break;
		case 'D':
			g.domains = (unsigned)v;
			break;
		case 'k':
			g.per_conn = (unsigned)v;
			break;
		case 't':
			g.prefix = optarg;
			break;
		case 'o':
			g.acked_file = fopen(optarg, "w");
			break;
		case 'T':
			limit_s = atof(optarg);
			break;
		case 'p':
			g.pipeline = true;
			break;
		case 'R':
			g.reconnect = true;
			break;
		case 'm':
			g.moments = true;
			break;
		case 'A':
			g.numbered = true;
			break;
		case 'S':
			g.tls = wire_ctx(NULL);
			break;
		default:
			usage();
		}
	}
	char *colon = optind == argc - 1 ? strrchr(argv[optind], ':') : NULL;

	if (colon == NULL)
		usage();
	*colon = '\0';
	g.to = (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)atoi(colon + 1)) };
	if (inet_pton(AF_INET, argv[optind], &g.to.sin_addr) != 1)
		die("bad address %s", argv[optind]);
	return limit_s;
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	struct loop_timer limit;

	log_set_program("load");
	signal(SIGPIPE, SIG_IGN);
	double limit_s = parse_options(argc, argv);

	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	make_body();
	g.lat = xcalloc(g.total + 1, sizeof(*g.lat));
	g.loop = loop_new();
	loop_signal_add(g.loop, SIGTERM, on_term, NULL);
	loop_timer_init(g.loop, &limit, deadline, NULL);
	g.start_us = clock_mono_us_raw();
	if (limit_s > 0)
		loop_timer_set(&limit, (int64_t)(limit_s * 1000));
	struct session *sessions = xcalloc(g.sessions, sizeof(*sessions));

	for (unsigned i = 0; i < g.sessions; i++) {
		loop_timer_init(g.loop, &sessions[i].retry, retry_timer, &sessions[i]);
		sessions[i].w.fd = -1;
		session_connect(&sessions[i]);
	}
	if (g.total > 0)
		loop_run(g.loop);
	report();
	if (g.acked_file != NULL)
		fclose(g.acked_file);
	return 0;
}
