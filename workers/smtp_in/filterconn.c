/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Connections to before-queue filters; see workers/smtp_in/filterconn.h. */
#include "workers/smtp_in/filterconn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "conf/pool.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/smtp_in/connector.h"
#include "workers/smtp_in/server.h"
#include "workers/smtp_in/sessfilter.h"

#define READ_BYTES 8192u

struct filterconn {
	struct conn *conn; /* NULL: it is not wanted any more */
	struct server *server;
	struct filter_gate *gate;
	struct filterconn *next; /* among those that wait for the gate, or for the connector */
	bool outside;            /* of the gate */
	struct loop_fd lf;
	int fd; /* -1: the connector has it still */
	bool connecting, sent;
	bool readable, blocked;
	uint8_t attempt;
	bool more; /* addresses */
	uint32_t number;
	int64_t deadline_ms;
};

/* What maxproc of a listener's line leaves to this process: connections to its filter at a time.
 * Sessions beyond wait, in order. */
struct filter_gate {
	unsigned limit, open; /* limit 0 = none */
	struct filterconn *head, **tail;
};

static void step(struct filterconn *f);
static void enqueue(struct filterconn *f);

/* ---- the gate ---- */

static void restart_clock(struct filterconn *f)
{
	f->deadline_ms = clock_now().ms + f->conn->session.listener->p->smtpd_proxy_timeout;
}

static void gate_enter(struct filterconn *f)
{
	struct filter_gate *g = f->gate;

	if (g->limit > 0 && g->open >= g->limit) {
		f->outside = true;
		*g->tail = f;
		g->tail = &f->next;
		counter_add(session_counters, CTR_smtpd_filter_waits, 1);
		return;
	}
	g->open++;
	enqueue(f);
}

/* A connection has ended. */
static void gate_leave(struct filter_gate *g)
{
	struct filterconn *f = g->head;

	g->open--;
	if (f == NULL)
		return;
	g->head = f->next;
	if (g->head == NULL)
		g->tail = &g->head;
	f->next = NULL;
	f->outside = false;
	g->open++;
	restart_clock(f);
	conn_queue(f->conn);
	enqueue(f);
}

static void gate_give_up(struct filterconn *f)
{
	struct filterconn **at = &f->gate->head;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (f->gate->tail == &f->next)
		f->gate->tail = at;
}

/* ---- the connector ---- */

static void ask_connector(struct server *sv)
{
	for (struct filterconn *f = sv->filter_head; f != NULL; f = f->next) {
		if (f->sent)
			continue;
		const struct listener *l = f->conn != NULL ? f->conn->session.listener : NULL;
		struct connector_request q = { .number = f->number, .attempt = f->attempt };

		if (l != NULL) {
			q.listener = (uint16_t)l->index;
			q.stress = l == &sv->stress_listeners[l->index];
		}
		if (io_send_fds(sv->connector, &q, sizeof(q), NULL, 0) != 0)
			return; /* full: again when it has answered */
		f->sent = true;
	}
}

static void enqueue(struct filterconn *f)
{
	struct server *sv = f->server;

	f->sent = false;
	f->next = NULL;
	f->number = ++sv->filter_number;
	*sv->filter_tail = f;
	sv->filter_tail = &f->next;
	ask_connector(sv);
}

static void failed(struct filterconn *f, const char *why, const char *text)
{
	struct conn *c = f->conn;

	session_filter_lost(&c->session, why, text); /* f is gone */
	conn_queue(c);
}

static void not_connected(struct filterconn *f, int err)
{
	if (f->fd >= 0) {
		loop_fd_del(f->server->loop, &f->lf);
		io_close(&f->fd);
	}
	if (f->more && f->attempt < UINT8_MAX) {
		f->attempt++;
		enqueue(f);
		return;
	}
	failed(f, "connect to proxy filter", err_str(err));
}

static void is_connected(struct filterconn *f)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
		error = errno;
	if (error != 0) {
		not_connected(f, -error);
		return;
	}
	f->connecting = false;
	session_filter_connected(&f->conn->session);
	step(f);
}

static void on_filter(void *ctx, unsigned events)
{
	struct filterconn *f = ctx;

	if ((events & LOOP_WRITE) != 0)
		f->blocked = false;
	if ((events & (LOOP_READ | LOOP_HUP)) != 0)
		f->readable = true;
	if (!f->connecting)
		step(f);
	else if (events != 0)
		is_connected(f);
}

static void have_answer(struct filterconn *f, const struct connector_answer *a, int fd)
{
	struct server *sv = f->server;

	if (f->conn == NULL) {
		if (fd >= 0)
			close(fd);
		gate_leave(f->gate);
		free(f);
		return;
	}
	f->more = a->more != 0;
	f->fd = fd;
	if (a->error != 0 || fd < 0) {
		not_connected(f, a->error != 0 ? a->error : E_IO);
		return;
	}
	f->connecting = true;
	loop_fd_add(sv->loop, &f->lf, fd, LOOP_READ | LOOP_WRITE | LOOP_HUP | LOOP_EDGE, on_filter,
		    f);
}

static void on_connector(void *ctx, unsigned events UNUSED)
{
	struct server *sv = ctx;
	struct connector_answer a;
	size_t len;
	int err;

	for (;;) {
		int fd = -1;
		size_t nfds = 1;

		err = io_recv_fds(sv->connector, &a, sizeof(a), &len, &fd, &nfds);
		if (err != 0)
			break;
		struct filterconn *f = sv->filter_head;

		if (len != sizeof(a) || f == NULL || !f->sent || f->number != a.number)
			die("answer of the process that connects to filters");
		sv->filter_head = f->next;
		if (sv->filter_head == NULL)
			sv->filter_tail = &sv->filter_head;
		have_answer(f, &a, nfds > 0 ? fd : -1);
	}
	/* without it no mail is taken: another worker begins with a connector of its own */
	if (err != E_AGAIN)
		die("the process that connects to filters has ended: %s", err_str(err));
	ask_connector(sv);
}

/* ---- bytes ---- */

static bool has_spoken(const struct filterconn *f)
{
	char c;

	return recv(f->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* False: nothing more goes out now, or f is gone. */
static bool write_some(struct filterconn *f)
{
	struct conn *c = f->conn;
	struct session *s = &c->session;
	struct sv out = session_filter_output(s);

	if (out.len == 0 || f->blocked)
		return false;
	if (session_filter_is_last(s) && has_spoken(f))
		session_filter_premature(s);
	ssize_t n = send(f->fd, out.p, out.len, MSG_NOSIGNAL);

	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		f->blocked = true;
		return false;
	}
	if (n < 0) {
		failed(f, "lost connection with proxy", "");
		return false;
	}
	restart_clock(f);
	f->blocked = (size_t)n < out.len;
	session_filter_sent(s, (size_t)n);
	conn_queue(c);
	return c->filter == f;
}

static bool read_some(struct filterconn *f)
{
	char data[READ_BYTES];
	struct conn *c = f->conn;

	if (!f->readable || !session_filter_expects(&c->session))
		return false;
	ssize_t n = recv(f->fd, data, sizeof(data), 0);

	if (n < 0 && errno == EINTR)
		return true;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		f->readable = false;
		return false;
	}
	if (n <= 0) {
		failed(f, "lost connection with proxy", "");
		return false;
	}
	restart_clock(f);
	session_filter_input(&c->session, data, (size_t)n);
	conn_queue(c);
	return c->filter == f;
}

static void step(struct filterconn *f)
{
	struct conn *c = f->conn;

	if (f->fd < 0 || f->connecting)
		return;
	while (write_some(f) || (c->filter == f && read_some(f)))
		;
}

/* ---- for the session ---- */

void filterconn_open(void *ctx, struct session *s)
{
	struct filterconn *f = xcalloc(1, sizeof(*f));

	f->server = ctx;
	f->conn = conn_of(s);
	f->gate = &f->server->filter_gates[s->listener->index];
	f->fd = -1;
	f->conn->filter = f;
	restart_clock(f);
	gate_enter(f);
}

void filterconn_kick(void *ctx, struct session *s)
{
	struct filterconn *f = conn_of(s)->filter;

	(void)ctx;
	restart_clock(f);
	conn_queue(f->conn); /* filterconn_run() follows */
}

void filterconn_run(struct conn *c)
{
	if (c->filter != NULL)
		step(c->filter);
}

/* Out of the list of those that the connector has not been asked for. */
static void unlist(struct filterconn *f)
{
	struct server *sv = f->server;
	struct filterconn **at = &sv->filter_head;

	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	if (sv->filter_tail == &f->next)
		sv->filter_tail = at;
}

void filterconn_close(void *ctx, struct session *s, bool quit)
{
	struct filterconn *f = conn_of(s)->filter;

	(void)ctx;
	if (f == NULL)
		return;
	conn_of(s)->filter = NULL;
	f->conn = NULL;
	if (f->outside) {
		gate_give_up(f);
		free(f);
		return;
	}
	if (f->fd < 0 && f->sent)
		return; /* the connector's answer ends it */
	if (f->fd < 0) {
		unlist(f);
	} else {
		/* nobody waits for the answer */
		if (quit)
			(void)!send(f->fd, "QUIT\r\n", 6, MSG_NOSIGNAL | MSG_DONTWAIT);
		loop_fd_del(f->server->loop, &f->lf);
		close(f->fd);
	}
	gate_leave(f->gate);
	free(f);
}

/* ---- time ---- */

int64_t filterconn_next_ms(const struct conn *c)
{
	const struct filterconn *f = c->filter;

	if (f == NULL || (f->fd >= 0 && !f->connecting && !session_filter_expects(&c->session) &&
			  session_filter_output(&c->session).len == 0))
		return INT64_MAX;
	return f->deadline_ms;
}

void filterconn_tick(struct conn *c)
{
	struct filterconn *f = c->filter;

	if (filterconn_next_ms(c) > clock_now().ms)
		return;
	if (f->fd < 0 || f->connecting)
		failed(f, "connect to proxy filter", err_str(-ETIMEDOUT));
	else
		failed(f, "timeout talking to proxy", "");
}

/* ---- start ---- */

/* This process's part of a listener's limit; the parts of all are the limit, but each has one. */
static unsigned part_of(int64_t limit, unsigned slot, unsigned processes)
{
	unsigned part = (unsigned)(limit / processes) + (slot < limit % processes);

	return limit <= 0 ? 0 : part > 0 ? part : 1;
}

static void make_gates(struct server *sv, const struct worker *w)
{
	unsigned processes = pool_size(w->params->smtpd_workers, POOL_SMTP_IN_CORES);

	sv->filter_gates = xcalloc(size_max(sv->listener_count, 1), sizeof(*sv->filter_gates));
	for (unsigned i = 0; i < sv->listener_count; i++) {
		struct filter_gate *g = &sv->filter_gates[i];

		g->limit = part_of(conf_listener(w->conf, i)->maxproc, w->slot, processes);
		g->tail = &g->head;
	}
}

int filterconn_init(struct server *sv, const struct worker *w)
{
	bool any = false;

	sv->connector = -1;
	for (unsigned i = 0; i < sv->listener_count; i++)
		any = any || sv->listeners[i].has_filter || sv->stress_listeners[i].has_filter;
	if (!any)
		return 0;
	make_gates(sv, w);
	int err = connector_start(&sv->connector);

	if (err != 0)
		log_error("cannot start the process that connects to filters: %s", err_str(err));
	return err;
}

void filterconn_start(struct server *sv)
{
	sv->filter_tail = &sv->filter_head;
	if (sv->connector < 0)
		return;
	io_set_nonblock(sv->connector);
	loop_fd_add(sv->loop, &sv->connector_lf, sv->connector, LOOP_READ, on_connector, sv);
}
