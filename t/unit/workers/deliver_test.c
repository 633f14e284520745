/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The delivery parts of the deliver worker on real sockets: records from a real spool, a journal,
 * and a small SMTP server in the same loop whose behaviour each test sets. The supervisor is played
 * by worker_send() below, which collects the results.
 */
#include "workers/deliver/deliver.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "t/unit/workers/spool/support.h"
#include "t/unit/workers/testconf.h"
#include "workers/deliver/tlsclient.h"

#define MAX_RESULTS 64

static struct {
	struct proto_result results[MAX_RESULTS];
	unsigned count;
	struct journal_writer *journal; /* for grants */
	uint32_t journal_number;
	bool journal_wanted;
} super;

void worker_send(struct worker *w UNUSED, struct link *to UNUSED, const void *rec, size_t len)
{
	uint32_t kind;

	memcpy(&kind, rec, sizeof(kind));
	if (kind == PROTO_RESULT && len == sizeof(struct proto_result) && super.count < MAX_RESULTS)
		memcpy(&super.results[super.count++], rec, len);
}

static void need_journal(void *ctx UNUSED)
{
	super.journal_wanted = true;
}

static void closed_journal(void *ctx UNUSED, uint32_t number UNUSED, uint64_t bytes UNUSED)
{
}

/* ---- the server ---- */

static struct server {
	struct loop *loop;
	int fd;
	uint16_t port;
	struct loop_fd lf;
	unsigned connections, messages;
	struct buf seen; /* commands, without content */
	struct buf data; /* content of the last message */
	/* behaviour */
	bool pipelining;
	const char *greeting;
	const char *rcpt_450, *rcpt_550; /* substring of refused recipients */
	const char *dot_reply;
	unsigned messages_per_connection; /* then the connection is closed; 0 = no limit */
	bool lmtp;
	bool slow; /* reads 16 KB per millisecond at most */
	int last;  /* socket of the last session */
} server;

struct session {
	int fd;
	struct loop_fd lf;
	struct buf in;
	bool in_data;
	unsigned messages, rcpts;
};

/* Those that the end of the test finds open. */
static struct session *open_sessions[1024]; /* by descriptor */

static void session_end(struct session *s)
{
	open_sessions[s->fd] = NULL;
	loop_fd_del(server.loop, &s->lf);
	close(s->fd);
	buf_fini(&s->in);
	free(s);
}

static void reply(struct session *s, const char *text)
{
	(void)!send(s->fd, text, strlen(text), MSG_NOSIGNAL);
}

static const char *rcpt_reply(struct session *s, const char *line)
{
	if (server.rcpt_450 != NULL && strstr(line, server.rcpt_450) != NULL)
		return "450 4.2.0 try later\r\n";
	if (server.rcpt_550 != NULL && strstr(line, server.rcpt_550) != NULL)
		return "550 5.1.1 no such user\r\n";
	s->rcpts++;
	return "250 2.1.5 Ok\r\n";
}

static void command(struct session *s, const char *line)
{
	buf_printf(&server.seen, "%s\n", line);
	if (strncmp(line, "EHLO", 4) == 0 || strncmp(line, "LHLO", 4) == 0) {
		reply(s, server.pipelining ? "250-srv\r\n250-DSN\r\n250 PIPELINING\r\n"
					   : "250 srv\r\n");
	} else if (strncmp(line, "RCPT", 4) == 0) {
		reply(s, rcpt_reply(s, line));
	} else if (strcmp(line, "DATA") == 0) {
		s->in_data = s->rcpts > 0;
		buf_reset(&server.data);
		reply(s, s->in_data ? "354 go\r\n" : "554 5.5.1 no valid recipients\r\n");
	} else {
		s->rcpts = 0;
		reply(s, "250 2.0.0 Ok\r\n");
	}
}

/* False: the session is over. */
static bool content_line(struct session *s, const char *line, size_t len)
{
	if (len != 1 || line[0] != '.') {
		buf_add(&server.data, line, len);
		buf_add_str(&server.data, "\r\n");
		return true;
	}
	s->in_data = false;
	server.messages++;
	s->messages++;
	for (unsigned i = 0; i < (server.lmtp ? s->rcpts : 1); i++)
		reply(s, server.dot_reply != NULL ? server.dot_reply
						  : "250 2.0.0 Ok: queued as 4Zz\r\n");
	s->rcpts = 0;
	return server.messages_per_connection == 0 || s->messages < server.messages_per_connection;
}

static void session_event(void *ctx, unsigned events UNUSED)
{
	struct session *s = ctx;
	char tmp[65536], *eol;
	ssize_t n = recv(s->fd, tmp, server.slow ? 16384 : sizeof(tmp), MSG_DONTWAIT);
	size_t at = 0;

	if (server.slow)
		usleep(1000);
	if (n <= 0) {
		session_end(s);
		return;
	}
	buf_add(&s->in, tmp, (size_t)n);
	while ((eol = memmem(s->in.p + at, s->in.len - at, "\r\n", 2)) != NULL) {
		char *line = s->in.p + at;
		size_t len = (size_t)(eol - line);

		*eol = '\0';
		at += len + 2;
		if (!s->in_data && strcmp(line, "QUIT") == 0) {
			session_end(s);
			return;
		}
		if (!s->in_data) {
			command(s, line);
		} else if (!content_line(s, line, len)) {
			session_end(s);
			return;
		}
	}
	buf_consume(&s->in, at);
}

static void accept_event(void *ctx UNUSED, unsigned events UNUSED)
{
	struct session *s = xcalloc(1, sizeof(*s));

	s->fd = accept(server.fd, NULL, NULL);
	ASSERT(s->fd >= 0 && s->fd < (int)ARRAY_LEN(open_sessions));
	open_sessions[s->fd] = s;
	server.connections++;
	server.last = s->fd;
	reply(s, server.greeting != NULL ? server.greeting : "220 srv ESMTP\r\n");
	loop_fd_add(server.loop, &s->lf, s->fd, LOOP_READ, session_event, s);
}

static void server_start(struct loop *loop)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);

	server.loop = loop;
	/* on every loopback address, so that there can be many next hops */
	server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server.fd, (struct sockaddr *)&sin, sizeof(sin)) != 0 ||
	    listen(server.fd, 100) != 0 ||
	    getsockname(server.fd, (struct sockaddr *)&sin, &len) != 0)
		die("no server socket");
	server.port = ntohs(sin.sin_port);
	loop_fd_add(loop, &server.lf, server.fd, LOOP_READ, accept_event, NULL);
}

static void server_reset(bool pipelining)
{
	server.connections = server.messages = server.messages_per_connection = 0;
	server.pipelining = pipelining;
	server.lmtp = server.slow = false;
	server.greeting = server.rcpt_450 = server.rcpt_550 = server.dot_reply = NULL;
	buf_reset(&server.seen);
	buf_reset(&server.data);
}

/* ---- the worker ---- */

static struct fixture fx;
static struct deliver dl;
static struct worker wk;
static struct tconf tconfs[5];

static bool turn(void *ctx UNUSED)
{
	if (super.journal_wanted) {
		super.journal_wanted = false;
		journal_writer_grant(dl.journal, super.journal_number++,
				     (struct journal_owner){ 0, 0 });
	}
	if (dl.new_first != NULL)
		job_start_taken(&dl);
	if (dl.held_first != NULL) {
		journal_writer_poll(dl.journal);
		job_retry_held(&dl);
	}
	if (dl.starved != NULL)
		dest_pump_starved(&dl);
	bool more = journal_writer_poll(dl.journal);

	if (dl.gated_first != NULL)
		conn_resume_gated(&dl);
	return more;
}

static void set_tconf(struct tconf *t, const char *name, enum transport_kind kind)
{
	*t = (struct tconf){ .name = name,
			     .kind = kind,
			     .program = name,
			     .port = 25,
			     .want4 = true,
			     .mx_address_limit = 5,
			     .mx_session_limit = 2,
			     .fallback_relay = "",
			     .queue_directory = fx.path,
			     .idle_ms = 2000,
			     .reuse_ms = 300000,
			     .cache = true };
	t->client = (struct client_conf){ .lmtp = kind == TRANSPORT_LMTP,
					  .always_ehlo = true,
					  .skip_5xx_greeting = true,
					  .helo_name = "me.example",
					  .myhostname = "me.example",
					  .connect_ms = 5000,
					  .helo_ms = 5000,
					  .mail_ms = 5000,
					  .rcpt_ms = 5000,
					  .data_init_ms = 5000,
					  .data_xfer_ms = 5000,
					  .data_done_ms = 5000,
					  .rset_ms = 5000,
					  .quit_ms = 5000 };
}

static void worker_start(void)
{
	struct journal_conf jc = { .sync_window_ms = 1000,
				   .file_bytes = 1 << 20,
				   .need_file = need_journal,
				   .closed_file = closed_journal };

	set_tconf(&tconfs[0], "smtp", TRANSPORT_SMTP);
	set_tconf(&tconfs[1], "lmtp", TRANSPORT_LMTP);
	set_tconf(&tconfs[2], "error", TRANSPORT_ERROR);
	set_tconf(&tconfs[3], "retry", TRANSPORT_ERROR);
	tconfs[3].retry = true;
	set_tconf(&tconfs[4], "discard", TRANSPORT_DISCARD);
	dl.w = &wk;
	dl.loop = fx.loop;
	dl.counters = counters_of(&fx.counters);
	dl.tconfs = tconfs;
	dl.tconf_count = 5;
	dl.connection_limit = 10;
	dl.held_tail = &dl.held_first;
	dl.new_tail = &dl.new_first;
	dl.gated_tail = &dl.gated_first;
	dl.starved_tail = &dl.starved;
	dl.dirs = fx.dirs;
	dl.dests = strmap_new();
	dl.dns = dns_client_new(5000, dl.counters);
	dl.env = (struct route_env){ dl.dns, &dl.own };
	dl.reader = spool_reader_new(&fx.dirs, 8);
	twheel_init(&dl.wheel, 100, clock_now().ms);
	super.journal_number = 100;
	if (journal_writer_new(&jc, &fx.dirs, fx.loop, &dl.journal) != 0)
		die("no journal");
	loop_add_hook(fx.loop, turn, NULL);
	server_start(fx.loop);
}

/* A committed message for `rcpts` ("a@x b@x"), and where it is. */
static struct proto_place put_message(unsigned k, const char *rcpts, struct sv content)
{
	struct spool_record h = fx_header(k);
	struct envelope e = { .sender = SV("from@here"), .arrival_us = 1 };
	struct buf env = BUF_INIT;
	struct arena arena;
	struct spool_iov iov = { content.p, content.len };
	unsigned before = fx.done_count;

	arena_init(&arena, 4096, 0);
	for (const char *p = rcpts; *p != '\0';) {
		size_t n = strcspn(p, " ");
		struct env_rcpt r = { .addr = { p, n }, .notify = NOTIFY_SUCCESS };

		env_add_rcpt(&e, &arena, &r);
		p += n + (p[n] == ' ');
	}
	h.rcpt_count = (uint32_t)e.rcpt_count;
	env_encode(&e, &env);
	for (int tries = 0; tries < 200; tries++) {
		int err = spool_writer_append(fx.w, &h, buf_sv(&env), &iov, 1, NULL);

		if (err != E_AGAIN)
			break;
		fx_turns(&fx, 1);
	}
	fx_wait(&fx, before + 1);
	buf_fini(&env);
	arena_fini(&arena);
	return fx.done[before].place;
}

static void put_job(unsigned k, unsigned transport, const char *nexthop, const char *rcpts,
		    struct sv content, unsigned window)
{
	unsigned n = 1;
	struct proto_job pj = { .kind = PROTO_JOB,
				.dest = 7,
				.active_us = (uint64_t)clock_wall().us,
				.transport = (uint16_t)transport,
				.window = (uint16_t)window };

	for (const char *p = rcpts; *p != '\0'; p++)
		n += *p == ' ';
	pj.ref.mask = (((uint64_t)1 << n) - 1);
	pj.ref.entry = k;
	pj.ref.word = 1000 + k;
	pj.ref.qid = (struct proto_qid){ fx_qid(k).time_us, fx_qid(k).life, 0 };
	pj.ref.place = put_message(k, rcpts, content);
	job_take(&dl, &pj, sv_from(nexthop));
}

static bool wait_results(unsigned count)
{
	int64_t end = clock_mono_us_raw() + 5000000;

	while (super.count < count && clock_mono_us_raw() < end)
		loop_turn(fx.loop, 20);
	return super.count == count;
}

static const struct proto_result *result_of(unsigned k)
{
	for (unsigned i = 0; i < super.count; i++) {
		if (super.results[i].entry == k && super.results[i].word == 1000 + k)
			return &super.results[i];
	}
	return NULL;
}

static char *here(void)
{
	static char text[64];

	snprintf(text, sizeof(text), "[127.0.0.1]:%u", server.port);
	return text;
}

static void fresh(bool pipelining)
{
	/* end the connections of the test before */
	while (dl.idle_first != NULL) {
		struct dest *dest = dl.idle_first->dest;

		conn_close_idle(dl.idle_first);
		dest_pump(dest);
	}
	loop_turn(fx.loop, 1);
	server_reset(pipelining);
	super.count = 0;
	logged[0] = '\0';
}

static bool has_log(const char *pattern)
{
	return strstr(logged, pattern) != NULL;
}

#define BODY SV("Subject: x\r\n\r\n..dot\r\nbody\r\n")

static void test_reuse(bool pipelining)
{
	const struct proto_result *r;
	char want[256];

	fresh(pipelining);
	for (unsigned k = 1; k <= 5; k++)
		put_job(k, 0, here(), k == 3 ? "a@x b@x" : "a@x", BODY, 1);
	ok(wait_results(5), "five results");
	is_int(server.connections, 1, "window 1: one connection");
	is_int(server.messages, 5, "five messages");
	is_str(buf_cstr(&server.data), BODY.p, "content as it is in the spool");
	r = result_of(3);
	ok(r != NULL && r->sent == 3 && r->deferred == 0 && r->bounced == 0 &&
		   r->health == JOB_HEALTH_OK,
	   "masks");
	ok(r != NULL && r->report == (pipelining ? 0 : 3),
	   "NOTIFY=SUCCESS is ours when the next hop has no DSN");
	snprintf(want, sizeof(want),
		 "to=<a@x>, relay=127.0.0.1[127.0.0.1]:%u, conn_use=2, delay=", server.port);
	ok(has_log(want), "conn_use");
	ok(has_log("dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4Zz)"), "sent line");
	is_int(dl.job_count, 0, "no job left");
	ok(dl.idle_first != NULL && dl.conn_count == 1, "connection is kept");
	put_job(6, 0, here(), "a@x", BODY, 1);
	ok(wait_results(6) && server.connections == 1, "and used again");
	is_int(strstr(buf_cstr(&server.seen), "RSET") != NULL, 0, "without RSET");
}

static void test_window(void)
{
	fresh(true);
	for (unsigned k = 10; k < 30; k++)
		put_job(k, 0, here(), "a@x", BODY, 3);
	ok(wait_results(20), "twenty results");
	ok(server.connections <= 3 && server.messages == 20, "window holds");
	ok(strstr(logged, "warning") == NULL, "no warnings");
}

static void test_large(void)
{
	size_t len = 700010;
	char *big = xmalloc(len);

	for (size_t i = 0; i < len; i++)
		big[i] = i % 70 == 68 ? '\r' : i % 70 == 69 ? '\n' : (char)('a' + i % 23);
	fresh(true);
	put_job(40, 0, here(), "a@x", (struct sv){ big, len }, 1); /* ends in mid-line */
	put_job(41, 0, here(), "a@x", SV("short without line end"), 1);
	ok(wait_results(2), "large message");
	is_int(server.messages, 2, "both arrive");
	is_str(buf_cstr(&server.data), "short without line end\r\n", "line end is supplied");
	fresh(false);
	put_job(42, 0, here(), "a@x", (struct sv){ big, len }, 1);
	ok(wait_results(1), "large message again");
	ok(server.data.len == len + 2 && memcmp(server.data.p, big, len) == 0, "byte by byte");
	fresh(false);
	put_job(43, 0, here(), "a@x", (struct sv){ big, 0 }, 1);
	ok(wait_results(1) && server.messages == 1 && server.data.len == 0, "empty content");
	free(big);
}

static void test_mixed(bool pipelining)
{
	const struct proto_result *r;

	fresh(pipelining);
	server.rcpt_450 = "later";
	server.rcpt_550 = "nobody";
	put_job(50, 0, here(), "good@x nobody@x later@x good2@x", BODY, 1);
	put_job(51, 0, here(), "nobody@x", BODY, 1);
	put_job(52, 0, here(), "good@x", BODY, 1);
	ok(wait_results(3), "three results");
	r = result_of(50);
	ok(r != NULL && r->sent == 9 && r->bounced == 2 && r->deferred == 4 &&
		   r->jref.journal >= 100 && r->health == JOB_HEALTH_OK,
	   "sent, bounced, deferred");
	r = result_of(51);
	ok(r != NULL && r->bounced == 1, "none accepted");
	ok(result_of(52) != NULL && result_of(52)->sent == 1, "session goes on after that");
	is_int(server.connections, 1, "one connection");
	ok(has_log("dsn=5.1.1, status=bounced (host 127.0.0.1[127.0.0.1] said: 550 5.1.1 no such "
		   "user (in reply to RCPT TO command))"),
	   "bounce line");
	ok(has_log("dsn=4.2.0, status=deferred (host 127.0.0.1[127.0.0.1] said: 450 4.2.0 try "
		   "later (in reply to RCPT TO command))"),
	   "defer line");
}

static void test_dead(void)
{
	const struct proto_result *r;
	char nexthop[128];

	fresh(true);
	put_job(60, 0, "[127.0.0.1]:1", "a@x b@x", BODY, 5);
	ok(wait_results(1), "result");
	r = result_of(60);
	ok(r != NULL && r->deferred == 3 && r->health == JOB_HEALTH_SITE, "dead site");
	ok(has_log("to=<a@x>, relay=none, delay="), "relay=none");
	ok(has_log("dsn=4.4.1, status=deferred (connect to 127.0.0.1[127.0.0.1]:1: Connection "
		   "refused)"),
	   "connect text");
	fresh(true);
	snprintf(nexthop, sizeof(nexthop), "[127.0.0.1]:1, %s", here());
	put_job(61, 0, nexthop, "a@x", BODY, 5);
	ok(wait_results(1) && result_of(61)->sent == 1, "second alternative");
	is_int(result_of(61)->health, JOB_HEALTH_OK, "no dead site");
	fresh(true);
	server.greeting = "554 5.7.1 go away\r\n";
	put_job(62, 0, here(), "a@x", BODY, 5);
	ok(wait_results(1) && result_of(62)->deferred == 1, "refused greeting defers");
	is_int(result_of(62)->health, JOB_HEALTH_SITE, "and counts against the site");
	ok(has_log("status=deferred (host 127.0.0.1[127.0.0.1] refused to talk to me: 554 5.7.1 go "
		   "away)"),
	   "its text");
	fresh(true);
	put_job(63, 0, "bad..name", "a@x", BODY, 5);
	ok(wait_results(1) && result_of(63)->bounced == 1, "malformed next hop bounces");
}

static void test_hangup(void)
{
	fresh(true);
	server.messages_per_connection = 2;
	for (unsigned k = 70; k < 77; k++)
		put_job(k, 0, here(), "a@x", BODY, 1);
	ok(wait_results(7), "seven results");
	unsigned sent = 0;
	for (unsigned k = 70; k < 77; k++)
		sent += result_of(k) != NULL && result_of(k)->sent == 1;
	is_int(sent, 7, "a server that hangs up between messages costs nothing");
	is_int(server.messages, 7, "each message once");
	is_int(server.connections, 4, "four connections");
}

static void test_lmtp(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct loop_fd lf;
	int tcp = server.fd;
	char want[256];

	fresh(true);
	server.lmtp = true;
	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/lmtp", fx.path);
	server.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(server.fd, (struct sockaddr *)&sun, sizeof(sun)) != 0 || listen(server.fd, 5) != 0)
		die("no unix socket");
	loop_fd_add(fx.loop, &lf, server.fd, LOOP_READ, accept_event, NULL);
	put_job(80, 1, "unix:lmtp", "a@x b@x", BODY, 2);
	ok(wait_results(1) && result_of(80)->sent == 3, "LMTP over a unix socket");
	ok(strncmp(buf_cstr(&server.seen), "LHLO", 4) == 0, "LHLO");
	snprintf(want, sizeof(want), "relay=me.example[lmtp], ");
	ok(has_log(want), "relay name");
	fresh(true);
	put_job(81, 1, "unix:/nowhere/at/all", "a@x", BODY, 2);
	ok(wait_results(1) && result_of(81)->deferred == 1, "no such socket");
	loop_fd_del(fx.loop, &lf);
	close(server.fd);
	server.fd = tcp;
}

static void test_no_network(void)
{
	fresh(true);
	put_job(90, 2, "5.1.6 User has moved to b@y", "a@x", BODY, 1);
	put_job(91, 2, "mail to x is not accepted", "a@x", BODY, 1);
	put_job(92, 3, "4.7.0 suspended", "a@x", BODY, 1);
	put_job(93, 4, "silently", "a@x", BODY, 1);
	ok(wait_results(4), "four results");
	ok(result_of(90)->bounced == 1 &&
		   has_log("dsn=5.1.6, status=bounced (User has moved to b@y)"),
	   "error with a status");
	ok(result_of(91)->bounced == 1 && has_log("relay=none, delay=") &&
		   has_log("dsn=5.0.0, status=bounced (mail to x"),
	   "error");
	ok(result_of(92)->deferred == 1 && has_log("dsn=4.7.0, status=deferred (suspended)"),
	   "retry");
	ok(result_of(93)->sent == 1 && result_of(93)->report == 1 &&
		   has_log("dsn=2.0.0, status=sent (silently)"),
	   "discard");
	is_int(server.connections, 0, "no connection");
}

static void test_damaged(void)
{
	struct proto_job pj = { .kind = PROTO_JOB, .window = 1 };

	fresh(true);
	pj.ref.mask = 5;
	pj.ref.entry = 95;
	pj.ref.word = 1095;
	pj.ref.qid = (struct proto_qid){ 1, 2, 0 };
	pj.ref.place = (struct proto_place){ 9999, 8, 128, 0 };
	job_take(&dl, &pj, sv_from(here()));
	ok(wait_results(1) && result_of(95)->deferred == 5 && result_of(95)->sent == 0,
	   "no such segment: deferred");
	pj.ref.entry = 96;
	pj.ref.word = 1096;
	pj.ref.qid = (struct proto_qid){ fx_qid(97).time_us, fx_qid(97).life, 0 };
	pj.ref.place = put_message(97, "a@x", BODY);
	pj.ref.mask = 3; /* the record has one recipient */
	job_take(&dl, &pj, sv_from(here()));
	ok(wait_results(2) && result_of(96)->deferred == 3, "recipient that is not there");
	is_int(server.connections, 0, "no connection");
}

static char *lines_of(size_t len)
{
	char *big = xmalloc(len);

	for (size_t i = 0; i < len; i++)
		big[i] = i % 70 == 68 ? '\r' : i % 70 == 69 ? '\n' : (char)('a' + i % 23);
	return big;
}

/* A large record is verified while it is sent: a damaged one is never completed. */
static void test_damage_in_large(bool pipelining)
{
	size_t len = 70 * 25000;
	char *big = lines_of(len), nexthop[128], id[QID_TEXT_SIZE];
	/* in the envelope, early, late, and in the last line */
	uint64_t at[] = { 64 + 3, 64 + 5000, 64 + 1000000, 64 + 70 * 25000 - 40 };

	fresh(pipelining);
	put_job(160, 0, here(), "a@x", (struct sv){ big, len }, 1);
	ok(wait_results(1) && result_of(160)->sent == 1 && server.data.len == len,
	   "a sound one is sent");
	for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
		struct proto_job pj = { .kind = PROTO_JOB, .window = 1 };
		unsigned k = 161 + i;

		fresh(pipelining);
		pj.ref = (struct proto_ref){ .mask = 1, .entry = k, .word = 1000 + k };
		pj.ref.qid = (struct proto_qid){ fx_qid(k).time_us, fx_qid(k).life, 0 };
		pj.ref.place = put_message(k, "a@x", (struct sv){ big, len });
		fx_flip(&fx.dirs, pj.ref.place, at[i]);
		snprintf(nexthop, sizeof(nexthop), "%s, [127.0.0.2]:%u", here(), server.port);
		job_take(&dl, &pj, sv_from(nexthop));
		ok(wait_results(1) && result_of(k)->deferred == 1, "damage at %u: deferred",
		   (unsigned)at[i]);
		loop_turn(fx.loop, 5);
		is_int(server.messages, 0, "never completed");
		ok(server.connections <= 1, "nor tried at a second host");
		ok(i == 0 || has_log("dsn=4.3.0, status=deferred (queue record is damaged)"),
		   "its text");
		ok(i == 0 || spool_is_quarantined(&fx.dirs, fx_qid(k)), "saved");
		unlinkat(fx.dirs.corrupt, qid_format(fx_qid(k), id), 0);
		put_job(170, 0, here(), "a@x", BODY, 1);
		ok(wait_results(2) && result_of(170)->sent == 1 && server.messages == 1,
		   "the next message is sent");
	}
	is_int(dl.job_count, 0, "no job left");
	free(big);
}

/* Jobs of one turn, whose records are read together as far as they lie together. */
static void test_together(void)
{
	static const size_t lens[] = { 3000, 3500, 70 * 1000, 3000, 200, 3900, 3000 };
	struct proto_job pj[ARRAY_LEN(lens)];
	char *big = lines_of(70 * 1000);

	fresh(true);
	for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
		unsigned k = 180 + i;

		pj[i] = (struct proto_job){ .kind = PROTO_JOB, .window = 1 };
		pj[i].ref = (struct proto_ref){ .mask = 1, .entry = k, .word = 1000 + k };
		pj[i].ref.qid = (struct proto_qid){ fx_qid(k).time_us, fx_qid(k).life, 0 };
		pj[i].ref.place = put_message(k, "a@x", (struct sv){ big, lens[i] / 70 * 70 });
	}
	fx_flip(&fx.dirs, pj[1].ref.place, 64 + 2000);
	pj[4].ref.place.seg = 9999; /* among the others, elsewhere */
	for (unsigned i = ARRAY_LEN(lens); i-- > 0;)
		job_take(&dl, &pj[i], sv_from(here()));
	ok(wait_results(ARRAY_LEN(lens)), "all taken together have a result");
	for (unsigned i = 0; i < ARRAY_LEN(lens); i++) {
		const struct proto_result *r = result_of(180 + i);

		if (i == 1 || i == 4)
			ok(r != NULL && r->deferred == 1, "%u cannot be read", i);
		else
			ok(r != NULL && r->sent == 1, "%u is sent", i);
	}
	is_int(dl.job_count, 0, "no job left");
	free(big);
}

/* What must be encrypted stays here when the server has no TLS. */
static void test_tls_policy(void)
{
	char text[256], nexthop[128];
	struct conf *c;
	struct conf_diag diag;

	fresh(true);
	snprintf(text, sizeof(text),
		 "smtp_tls_policy_maps = inline:{{[127.0.0.1]:%u=encrypt}, {[127.0.0.3]:%u=x}}\n",
		 server.port, server.port);
	c = test_conf(text);
	conf_diag_init(&diag);
	is_int(tls_policy_open(c, conf_transport_find(c, "smtp"), &tconfs[0].tls, &diag), 0,
	       "policy table");
	tconfs[0].tls_client =
		tls_client_new(c, conf_transport_find(c, "smtp"), tconfs[0].tls, &diag);
	ok(tconfs[0].tls_client != NULL, "TLS of the transport");
	put_job(150, 0, here(), "a@x b@x", BODY, 1);
	ok(wait_results(1) && result_of(150)->deferred == 3 &&
		   result_of(150)->health == JOB_HEALTH_SITE,
	   "a mandatory level defers");
	ok(has_log("to=<a@x>, relay=127.0.0.1[127.0.0.1]:") &&
		   has_log("dsn=4.7.4, status=deferred (TLS is required, but was not offered by "
			   "host 127.0.0.1[127.0.0.1])"),
	   "its text");
	is_int(server.connections, 1, "the server was asked");
	snprintf(nexthop, sizeof(nexthop), "[127.0.0.3]:%u", server.port);
	put_job(151, 0, nexthop, "a@x", BODY, 1);
	ok(wait_results(2) && result_of(151)->deferred == 1 &&
		   has_log("dsn=4.7.5, status=deferred (client TLS configuration problem)"),
	   "an entry that makes no sense defers");
	is_int(server.connections, 1, "no connection");
	snprintf(nexthop, sizeof(nexthop), "%s [127.0.0.2]:%u", here(), server.port);
	put_job(152, 0, nexthop, "a@x", BODY, 1);
	ok(wait_results(3) && result_of(152)->sent == 1 && has_log("relay=127.0.0.2[127.0.0.2]:"),
	   "an alternative that needs none is used");
	fresh(true);
	tconfs[0].fallback_relay = nexthop;
	snprintf(nexthop, sizeof(nexthop), "%s", here());
	put_job(153, 0, "[127.0.0.1]:1", "a@x", BODY, 1);
	ok(wait_results(1) && result_of(153)->deferred == 1 && server.messages == 0,
	   "smtp_fallback_relay is held to its entry");
	tconfs[0].fallback_relay = "";
	is_int(dl.job_count, 0, "no job left");
	tls_client_free(&tconfs[0].tls_client);
	tls_policy_close(&tconfs[0].tls);
	conf_diag_fini(&diag);
	conf_free(&c);
}

static void test_second_host(void)
{
	char nexthop[128];

	fresh(true);
	server.rcpt_450 = "later";
	snprintf(nexthop, sizeof(nexthop), "[127.0.0.1]:%u, [127.0.0.2]:%u", server.port,
		 server.port);
	put_job(100, 0, nexthop, "good@x", BODY, 1);
	ok(wait_results(1) && server.connections == 1, "connection to the first host");
	put_job(101, 0, nexthop, "good@x later@x", BODY, 1);
	ok(wait_results(2), "second job");
	ok(result_of(101)->sent == 1 && result_of(101)->deferred == 2, "one sent, one deferred");
	is_int(server.connections, 2, "who was refused for now is tried at the second host");
	ok(has_log("to=<later@x>, relay=127.0.0.2[127.0.0.2]:"), "and deferred there");
	put_job(102, 0, nexthop, "later@x", BODY, 1);
	put_job(103, 0, nexthop, "good@x", BODY, 1);
	ok(wait_results(4) && result_of(102)->deferred == 1 && result_of(103)->sent == 1,
	   "others are not held up");
	is_int(dl.job_count, 0, "no job left");
}

static void test_limit(void)
{
	char nexthop[64];
	unsigned max = 0;

	fresh(true);
	dl.connection_limit = 2;
	for (unsigned k = 110; k < 122; k++) {
		snprintf(nexthop, sizeof(nexthop), "[127.0.1.%u]:%u", k, server.port);
		put_job(k, 0, nexthop, "a@x", BODY, 5);
		put_job(k + 20, 0, nexthop, "a@x", BODY, 5);
		max = dl.conn_count > max ? dl.conn_count : max;
	}
	for (unsigned n = 0; n < 2000 && super.count < 24; n++) {
		loop_turn(fx.loop, 5);
		max = dl.conn_count > max ? dl.conn_count : max;
	}
	ok(super.count == 24 && server.messages == 24, "all delivered");
	ok(max <= 2, "never more than deliver_connection_limit connections");
	ok(dl.starved == NULL, "nobody waits");
	dl.connection_limit = 10;
}

static void test_silence(void)
{
	fresh(true);
	server.greeting = "220-wait for it\r\n";
	put_job(140, 0, here(), "a@x", BODY, 1);
	for (unsigned n = 0; n < 10; n++)
		loop_turn(fx.loop, 5);
	is_int(super.count, 0, "half a greeting");
	twheel_run(&dl.wheel, clock_now().ms + 6000, conn_timer_fired, &dl);
	ok(wait_results(1) && result_of(140)->deferred == 1 &&
		   result_of(140)->health == JOB_HEALTH_SITE,
	   "ends by time");
	ok(has_log("status=deferred (conversation with 127.0.0.1[127.0.0.1] timed out while "
		   "receiving the initial server greeting)"),
	   "its text");
}

/* Ends what is there, and begins the wheel anew: a test has turned it beyond the present. */
static void rewind_wheel(void)
{
	fresh(true);
	if (dl.conn_count != 0)
		die("connections are left");
	clock_tick();
	twheel_init(&dl.wheel, 100, clock_now().ms);
}

static void let_pass(int64_t ms)
{
	int64_t end = clock_mono_us_raw() + ms * 1000;

	while (clock_mono_us_raw() < end)
		loop_turn(fx.loop, 2);
}

/* A greeting byte by byte, which never ends. */
static void test_dribble(int64_t min_data_rate)
{
	int64_t start;

	rewind_wheel();
	tconfs[0].min_data_rate = min_data_rate;
	server.greeting = "220-";
	put_job(180, 0, here(), "a@x", BODY, 1);
	for (int n = 0; n < 200 && server.connections == 0; n++)
		loop_turn(fx.loop, 5);
	loop_turn(fx.loop, 5);
	start = clock_now().ms;
	for (int n = 0; n < 30; n++) {
		(void)!send(server.last, n % 10 == 9 ? "\r\n220-" : "x", n % 10 == 9 ? 6 : 1,
			    MSG_NOSIGNAL);
		let_pass(20);
	}
	is_int(super.count, 0, "dribbling");
	twheel_run(&dl.wheel, start + 5200, conn_timer_fired, &dl);
	ok(wait_results(1) && result_of(180)->deferred == 1, "wins no time");
	tconfs[0].min_data_rate = 0;
}

/* A server that takes content slowly; true when it has lost its time after data_xfer_ms. */
static bool slow_reader_ends(const char *big, size_t len, int64_t min_data_rate)
{
	int64_t start;
	bool ended;

	rewind_wheel();
	tconfs[0].min_data_rate = min_data_rate;
	server.slow = true;
	put_job(181, 0, here(), "a@x", (struct sv){ big, len }, 1);
	for (int n = 0; n < 500 && server.data.len == 0; n++)
		loop_turn(fx.loop, 5);
	start = clock_now().ms;
	let_pass(500);
	for (int n = 0; n < 3000 && server.data.len < 6u << 20; n++)
		loop_turn(fx.loop, 2);
	ok(super.count == 0 && server.data.len > 5u << 20 && server.data.len < len - (8u << 20),
	   "content is on its way");
	twheel_run(&dl.wheel, start + 5200, conn_timer_fired, &dl);
	ended = super.count == 1;
	if (!ended) /* much later */
		twheel_run(&dl.wheel, start + 60000, conn_timer_fired, &dl);
	ok(wait_results(1) && result_of(181)->deferred == 1 &&
		   has_log("timed out while sending message body)"),
	   "given up in the end");
	tconfs[0].min_data_rate = 0;
	server.slow = false;
	for (int n = 0; n < 200; n++)
		loop_turn(fx.loop, 0);
	return ended;
}

static void test_slow_reader(void)
{
	size_t len = 70 * 500000;
	char *big = lines_of(len);
	int size = 65536;

	/* so that the rest does not fit the sockets' buffers */
	setsockopt(server.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	ok(slow_reader_ends(big, len, 1 << 30), "below smtp_min_data_rate: its time ends");
	ok(!slow_reader_ends(big, len, 500), "above: it goes on");
	ok(!slow_reader_ends(big, len, 0), "and so without smtp_per_request_deadline");
	free(big);
}

static void test_timeout(void)
{
	fresh(true);
	put_job(98, 0, here(), "a@x", BODY, 1);
	wait_results(1);
	ok(dl.idle_first != NULL, "idle connection");
	twheel_run(&dl.wheel, clock_now().ms + 2500, conn_timer_fired, &dl);
	ok(dl.idle_first == NULL && dl.conn_count == 0, "ends after its time");
	is_int(strmap_count(dl.dests), 0, "and its destination is forgotten");
	loop_turn(fx.loop, 10);
}

int main(void)
{
	signal(SIGPIPE, SIG_IGN);
	log_set_sink(log_sink, NULL);
	fx_init(&fx, 1, 4);
	worker_start();
	test_reuse(true);
	test_reuse(false);
	test_window();
	test_together();
	test_large();
	test_mixed(true);
	test_mixed(false);
	test_dead();
	test_hangup();
	test_lmtp();
	test_no_network();
	test_damaged();
	test_damage_in_large(true);
	test_damage_in_large(false);
	test_tls_policy();
	test_second_host();
	test_limit();
	test_timeout();
	test_silence();
	test_dribble(0);
	test_dribble(500);
	test_slow_reader();
	fresh(true);
	loop_turn(fx.loop, 10);
	journal_writer_free(&dl.journal);
	spool_reader_free(&dl.reader);
	fx_fini(&fx);
	return tap_done();
}
