/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One connection: socket in, session, socket out; see workers/smtp_in/server.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/smtp_in/filterconn.h"
#include "workers/smtp_in/proxy.h"
#include "workers/smtp_in/screenconn.h"
#include "workers/smtp_in/server.h"
#include "workers/smtp_in/sesstls.h"

#define READS_PER_STEP     8 /* then others have their turn */
#define LAST_READS         16
#define COMMAND_READ_BYTES 8192u

struct conn *conn_of(struct session *s)
{
	return container_of(s, struct conn, session);
}

void conn_queue(struct conn *c)
{
	struct server *sv = c->server;

	if (c->queued)
		return;
	c->queued = true;
	c->next_ready = NULL;
	*sv->ready_tail = c;
	sv->ready_tail = &c->next_ready;
}

static void unqueue(struct conn *c)
{
	struct server *sv = c->server;
	struct conn **at = &sv->ready_head;

	if (!c->queued)
		return;
	while (*at != c)
		at = &(*at)->next_ready;
	*at = c->next_ready;
	if (sv->ready_tail == &c->next_ready)
		sv->ready_tail = at;
	c->queued = false;
}

/* Unread input would make the kernel reset the connection and destroy our last reply. After QUIT
 * nothing more comes, unless it is there already. */
static void close_gently(struct conn *c)
{
	const struct session *s = &c->session;
	bool quit = s->counts_good[CMD_QUIT] > 0;

	if (!s->is_broken && (c->readable || !quit)) {
		shutdown(c->fd, SHUT_WR);
		for (int i = 0; i < LAST_READS; i++) {
			if (recv(c->fd, c->server->read_buf, SERVER_READ_BYTES, MSG_DONTWAIT) <= 0)
				break;
		}
	}
	close(c->fd);
}

void conn_destroy(struct conn *c)
{
	struct server *sv = c->server;
	uint32_t number = c->session.number;

	peername_cancel(&c->name_query);
	screenconn_free(c);
	twheel_cancel(&c->timer);
	unqueue(c);
	loop_fd_del(sv->loop, &c->lf);
	close_gently(c);
	if (c->counted) {
		session_log_disconnect(&c->session);
		counter_add(session_counters, CTR_smtpd_disconnects, 1);
	}
	if (c->client != NULL)
		limits_disconnect(sv->limits, c->client);
	session_fini(&c->session);
	sv->conns[number] = NULL;
	sv->free_numbers[sv->free_count++] = number;
	sv->conn_count--;
	gauge_set(session_counters, GAU_smtpd_sessions, sv->conn_count);
	free(c);
}

static bool is_sealed(const struct session *s)
{
	return s->tls != NULL;
}

/* What is to be written: replies, or the records that they have become. */
static struct buf *output_of(struct session *s)
{
	if (!is_sealed(s))
		return &s->out;
	if (session_tls_out(s)->len == 0)
		session_tls_seal(s);
	return session_tls_out(s);
}

static void output_sent(struct session *s, size_t n)
{
	if (is_sealed(s))
		buf_consume(session_tls_out(s), n);
	else
		session_output_done(s, n);
}

static void flush(struct conn *c)
{
	struct session *s = &c->session;
	struct buf *out;

	while ((out = output_of(s))->len > 0 && !c->blocked && !s->is_broken) {
		size_t len = out->len;
		ssize_t n = send(c->fd, out->p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			c->blocked = true;
		} else if (n < 0) {
			session_broken(s);
		} else {
			c->blocked = (size_t)n < len;
			output_sent(s, (size_t)n);
		}
	}
	if (session_tls_is_due(s) && !s->is_broken)
		session_tls_begin(s);
}

/* The session is over and its last words are out. */
static bool is_over(struct conn *c)
{
	struct session *s = &c->session;

	if (!session_is_over(s))
		return false;
	if (!is_sealed(s) || s->is_broken)
		return true;
	session_tls_goodbye(s);
	flush(c);
	return s->is_broken || session_tls_out(s)->len == 0;
}

/* With TLS no more is read while records wait: they hold up the replies to it. */
static bool wants_input(struct conn *c)
{
	const struct session *s = &c->session;

	return session_wants_input(s) && (!is_sealed(s) || session_tls_out(&c->session)->len == 0);
}

/* One read. False: nothing more to read for now. */
static bool read_some(struct conn *c)
{
	struct session *s = &c->session;
	/* what a session that has to wait keeps is not more than one such read */
	size_t size = s->state == SESSION_COMMAND ? COMMAND_READ_BYTES : SERVER_READ_BYTES;
	ssize_t n = recv(c->fd, c->server->read_buf, size, 0);

	if (n > 0) {
		/* a short read emptied the socket, unless the end of the stream is behind it */
		if ((size_t)n < size && !c->closed_in)
			c->readable = false;
		if (is_sealed(s))
			session_tls_input(s, c->server->read_buf, (size_t)n);
		else
			session_input(s, c->server->read_buf, (size_t)n);
		if (s->auth != NULL) /* perhaps a password */
			explicit_bzero(c->server->read_buf, (size_t)n);
		return true;
	}
	if (n < 0 && errno == EINTR)
		return true;
	c->readable = false;
	if (n == 0)
		session_eof(s);
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		session_broken(s);
	return false;
}

static void set_timer(struct conn *c)
{
	int64_t at = session_next_ms(&c->session);

	if (c->filter != NULL && filterconn_next_ms(c) < at)
		at = filterconn_next_ms(c);
	if (c->name_query != NULL && c->name_deadline_ms < at)
		at = c->name_deadline_ms;
	if (at == INT64_MAX)
		twheel_cancel(&c->timer);
	else
		twheel_set(&c->server->wheel, &c->timer, at);
}

static void read_proxy(struct conn *c);
static void proxy_failed(struct conn *c, const char *why);

void conn_step(struct conn *c)
{
	struct session *s = &c->session;
	int reads = 0;

	if (c->busy)
		return;
	if (c->proxy_waits) {
		if (c->readable)
			read_proxy(c);
		return;
	}
	if (c->screen != NULL) {
		screenconn_step(c);
		return;
	}
	c->busy = true;
	if (c->filter != NULL)
		filterconn_run(c);
	for (;;) {
		flush(c);
		if (session_is_over(s) || !c->readable || !wants_input(c))
			break;
		if (reads++ == READS_PER_STEP) {
			conn_queue(c);
			break;
		}
		read_some(c);
	}
	c->busy = false;
	if (is_over(c))
		conn_destroy(c);
	else
		set_timer(c);
}

static void on_socket(void *ctx, unsigned events)
{
	struct conn *c = ctx;

	if ((events & LOOP_WRITE) != 0)
		c->blocked = false;
	if ((events & LOOP_HUP) != 0)
		c->closed_in = true;
	if ((events & (LOOP_READ | LOOP_HUP)) != 0)
		c->readable = true;
	conn_step(c);
}

void conn_timer(void *ctx UNUSED, struct twheel_node *node)
{
	struct conn *c = container_of(node, struct conn, timer);

	if (c->proxy_waits && clock_now().ms < c->proxy_deadline_ms)
		return;
	if (c->proxy_waits) {
		proxy_failed(c, "timeout error");
		return;
	}
	if (c->screen != NULL) {
		screenconn_timer(c);
		return;
	}
	if (c->name_query != NULL && clock_now().ms >= c->name_deadline_ms) {
		peername_give_up(c->name_query);
		return;
	}
	if (c->filter != NULL)
		filterconn_tick(c);
	session_tick(&c->session);
	conn_step(c);
}

/* ---- a new client ---- */

/* Data before the greeting is read now, so that the session sees it. */
static void read_early(struct conn *c)
{
	ssize_t n = recv(c->fd, c->server->read_buf, COMMAND_READ_BYTES, MSG_DONTWAIT);

	if (n > 0)
		session_input(&c->session, c->server->read_buf, (size_t)n);
	else if (n == 0)
		session_eof(&c->session);
}

bool conn_is_crowd(struct conn *c)
{
	struct session *s = &c->session;
	const struct params *p = s->listener->p;
	unsigned open = limits_open(c->client);

	log_speak_as(s->listener->log_name);
	if (s->limits_exempt)
		return false;
	if (p->smtpd_client_connection_count_limit > 0 &&
	    open > p->smtpd_client_connection_count_limit) {
		log_warn("Connection concurrency limit exceeded: %u from %s for service %s", open,
			 s->namaddr, s->listener->service_name);
		return true;
	}
	if (p->smtpd_client_connection_rate_limit > 0) {
		unsigned n = limits_count(c->server->limits, c->client, RATE_CONNECTIONS);

		if (n > p->smtpd_client_connection_rate_limit) {
			log_warn("Connection rate limit exceeded: %u from %s for service %s", n,
				 s->namaddr, s->listener->service_name);
			return true;
		}
	}
	return false;
}

static void name_known(void *ctx, const struct peername *r)
{
	struct conn *c = ctx;
	struct session *s = &c->session;

	c->name_query = NULL;
	session_name_known(s, r->name, r->name_status, r->reverse, r->reverse_status);
	s->connections = limits_open(c->client);
	session_log_connect(s);
	c->counted = true;
	if (!session_tls_wraps(s)) {
		read_early(c);
		session_greet(s);
	}
	conn_step(c);
}

static uint32_t take_number(struct server *sv)
{
	if (sv->free_count == 0) {
		uint32_t cap = sv->conn_cap == 0 ? 256 : sv->conn_cap * 2;

		sv->conns = xrealloc(sv->conns, cap * sizeof(*sv->conns));
		sv->free_numbers = xrealloc(sv->free_numbers, cap * sizeof(*sv->free_numbers));
		for (uint32_t i = cap; i-- > sv->conn_cap;) {
			sv->conns[i] = NULL;
			sv->free_numbers[sv->free_count++] = i;
		}
		sv->conn_cap = cap;
	}
	return sv->free_numbers[--sv->free_count];
}

/* The session is another client's than the socket's, or has become one. */
void conn_rekey(struct conn *c)
{
	limits_disconnect(c->server->limits, c->client);
	c->client = limits_connect(c->server->limits, (const struct sockaddr *)&c->sa);
}

static void learn_name(struct conn *c)
{
	struct server *sv = c->server;
	const struct sockaddr *addr = (const struct sockaddr *)&c->sa;

	c->name_deadline_ms = clock_now().ms + PEERNAME_LIMIT_MS;
	if (!c->session.listener->p->smtpd_peername_lookup && !c->session.listener->qmqp) {
		struct peername unknown = { NULL, NULL, POLICY_NAME_PERM, POLICY_NAME_PERM };

		name_known(c, &unknown);
		return;
	}
	uint32_t number = c->session.number;
	struct peername_query *q =
		peername_ask(sv->resolver != NULL ? sv->dns : NULL, addr, name_known, c);

	/* the callback may have run, and even ended the connection */
	if (q != NULL && sv->conns[number] == c) {
		c->name_query = q;
		set_timer(c);
	}
}

/* The listener's limits are about sessions: a client under test has none. */
void conn_greet(struct conn *c)
{
	c->client = limits_connect(c->server->limits, (const struct sockaddr *)&c->sa);
	learn_name(c);
}

static void begin(struct conn *c)
{
	if (c->session.listener->screen != NULL)
		screenconn_begin(c);
	else
		conn_greet(c);
}

/* ---- haproxy in front of us ---- */

static void proxy_failed(struct conn *c, const char *why)
{
	const struct listener *l = c->session.listener;

	log_speak_as(l->screen != NULL ? l->screen->log_name : l->log_name);
	log_warn("haproxy read: %s: from %s", why, c->session.namaddr);
	counter_add(session_counters, CTR_smtpd_proxy_failures, 1);
	c->session.is_broken = true;
	conn_destroy(c);
}

static void proxy_said(struct conn *c, const struct proxy_header *h)
{
	c->proxy_waits = false;
	twheel_cancel(&c->timer);
	if (!h->is_own) {
		c->sa = h->client;
		session_set_client(&c->session, (const struct sockaddr *)&h->client);
		session_set_server(&c->session, (const struct sockaddr *)&h->server);
	}
	begin(c);
}

/* No byte behind the header may be taken, so it is looked at first. */
static void read_proxy(struct conn *c)
{
	char data[PROXY_HEADER_MAX];
	struct proxy_header h;
	const char *why;
	ssize_t n = recv(c->fd, data, sizeof(data), MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
		c->readable = errno == EINTR;
		return;
	}
	if (n <= 0) {
		proxy_failed(c, "EOF");
		return;
	}
	int used = proxy_header_parse(data, (size_t)n, &h, &why);

	if (used < 0) {
		proxy_failed(c, why);
	} else if (used == 0 && (size_t)n == sizeof(data)) {
		proxy_failed(c, "header too long");
	} else if (used == 0) {
		c->readable = false; /* more of it is an event */
	} else if (recv(c->fd, data, (size_t)used, MSG_DONTWAIT) != used) {
		proxy_failed(c, "lost connection");
	} else {
		proxy_said(c, &h);
	}
}

static void await_proxy(struct conn *c)
{
	c->proxy_waits = true;
	const struct listener *l = c->session.listener;

	c->proxy_deadline_ms = clock_now().ms +
			       (l->screen != NULL ? l->screen->p->postscreen_upstream_proxy_timeout
						  : l->p->smtpd_upstream_proxy_timeout);
	twheel_set(&c->server->wheel, &c->timer, c->proxy_deadline_ms);
}

void conn_accept(struct server *sv, const struct listener *l, int fd,
		 const struct sockaddr_storage *sa)
{
	struct conn *c = xcalloc(1, sizeof(*c));
	const struct sockaddr *addr = (const struct sockaddr *)sa;

	c->server = sv;
	c->fd = fd;
	c->sa = *sa;
	session_init(&c->session, l, &sv->session_ops, addr);
	struct sockaddr_storage own;
	socklen_t own_len = sizeof(own);

	if (getsockname(fd, (struct sockaddr *)&own, &own_len) == 0)
		session_set_server(&c->session, (const struct sockaddr *)&own);
	c->session.number = take_number(sv);
	sv->conns[c->session.number] = c;
	sv->conn_count++;
	counter_add(session_counters, CTR_smtpd_connections, 1);
	gauge_set(session_counters, GAU_smtpd_sessions, sv->conn_count);
	loop_fd_add(sv->loop, &c->lf, fd, LOOP_READ | LOOP_WRITE | LOOP_HUP | LOOP_EDGE, on_socket,
		    c);
	if ((l->screen != NULL ? l->screen->p->postscreen_upstream_proxy_protocol
			       : l->p->smtpd_upstream_proxy_protocol)[0] != '\0' &&
	    !l->qmqp)
		await_proxy(c);
	else
		begin(c);
}
