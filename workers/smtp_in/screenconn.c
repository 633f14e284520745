/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sockets of clients under test; see workers/smtp_in/screenconn.h. */
#include "workers/smtp_in/screenconn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/smtp_in/screen.h"
#include "workers/smtp_in/server.h"

#define PEEK_BYTES     1023u /* of what a client says before the greeting; Postfix's */
#define READ_BYTES     8192u
#define READS_PER_STEP 4

struct screenconn {
	struct screen *screen;
	uint32_t serial; /* of this test in the life of this process */
};

static void watch(struct conn *c)
{
	int64_t at = screen_next_ms(c->screen->screen);

	if (at == INT64_MAX)
		twheel_cancel(&c->timer);
	else
		twheel_set(&c->server->wheel, &c->timer, at);
}

/* ---- screen_ops ---- */

struct list_query {
	struct dns_query *query;
	struct conn *conn;
	unsigned list;
	bool in_call, over;
	char name[DNS_NAME_SIZE];
};

static void log_trouble(const struct list_query *q)
{
	log_as(q->conn->session.listener->screen->dnsblog_name, LOG_LEVEL_WARN,
	       "dnsblog_query: lookup error for DNS query %s: Host or domain name not found. Name "
	       "service error for name=%s type=A: Host not found, try again",
	       q->name, q->name);
}

static void list_answer(void *ctx, const struct dns_answer *a)
{
	struct list_query *q = ctx;
	struct conn *c = q->conn;
	uint32_t addrs[DNS_RR_MAX];
	size_t n = 0;
	bool trouble = a->status == DNS_TEMP || a->status == DNS_BADNAME, in_call = q->in_call;

	for (size_t i = 0; a->status == DNS_OK && i < a->count; i++) {
		if (a->rrs[i].type == DNS_T_A)
			addrs[n++] = ntohl(a->rrs[i].a.s_addr);
	}
	if (trouble)
		log_trouble(q);
	unsigned list = q->list;
	int64_t ttl_s = trouble ? -1 : (int64_t)a->ttl_s;

	q->over = true;
	if (!in_call)
		free(q);
	screen_dns_answer(c->screen->screen, list, addrs, n, ttl_s);
	if (!in_call)
		conn_queue(c);
}

static void *op_dns(void *ctx, struct screen *s, unsigned list, const char *name)
{
	struct server *sv = ctx;
	struct dns_answer none = { .status = DNS_TEMP };
	struct list_query *q = xcalloc(1, sizeof(*q));

	q->conn = screen_owner(s);
	q->list = list;
	q->in_call = true;
	str_copy(q->name, sizeof(q->name), sv_from(name));
	if (sv->resolver == NULL)
		list_answer(q, &none);
	else
		q->query = dns_ask(sv->dns, sv_from(name), DNS_T_A, list_answer, q);
	q->in_call = false;
	if (!q->over)
		return q;
	free(q);
	return NULL;
}

static void op_dns_cancel(void *ctx UNUSED, void *query)
{
	struct list_query *q = query;

	dns_cancel(q->query);
	free(q);
}

static void tables_answered(void *ctx)
{
	struct conn *c = ctx;

	screen_tables_answered(c->screen->screen);
	conn_queue(c);
}

static void *op_tables(void *ctx, struct screen *s, struct map_memo *memo)
{
	struct server *sv = ctx;

	return tables_fetch(sv->tables, memo, tables_answered, screen_owner(s));
}

static void op_tables_cancel(void *ctx UNUSED, void *query)
{
	tables_cancel(query);
}

static void set_addr(const struct sockaddr_storage *sa, uint8_t addr[16])
{
	const struct sockaddr_in6 *v6 = (const void *)sa;
	const struct sockaddr_in *v4 = (const void *)sa;

	memset(addr, 0, 16);
	if (sa->ss_family == AF_INET6) {
		memcpy(addr, &v6->sin6_addr, 16);
	} else if (sa->ss_family == AF_INET) {
		addr[10] = addr[11] = 0xff;
		memcpy(addr + 12, &v4->sin_addr, 4);
	}
}

static void send_to_cache(struct server *sv, const struct conn *c, const int64_t *expires_s)
{
	struct proto_screen_ask q = { .kind = PROTO_SCREEN_ASK,
				      .session = c->session.number,
				      .serial = c->screen->serial,
				      .store = expires_s != NULL };

	if (sv->verify == NULL)
		return;
	_Static_assert(PROTO_SCREEN_TESTS == SCREEN_TEST_COUNT, "a time for every test");
	set_addr(&c->sa, q.addr);
	if (expires_s != NULL)
		memcpy(q.expires_s, expires_s, sizeof(q.expires_s));
	worker_send(sv->worker, sv->verify->link, &q, sizeof(q));
}

static void op_recall(void *ctx, struct screen *s)
{
	send_to_cache(ctx, screen_owner(s), NULL);
}

static void op_remember(void *ctx, struct screen *s, const int64_t expires_s[SCREEN_TEST_COUNT])
{
	send_to_cache(ctx, screen_owner(s), expires_s);
}

int screenconn_record(struct server *sv, const void *rec, size_t len)
{
	struct proto_screen_answer a;

	if (len != sizeof(a))
		return E_PEER;
	memcpy(&a, rec, sizeof(a));
	struct conn *c = a.session < sv->conn_cap ? sv->conns[a.session] : NULL;

	if (c == NULL || c->screen == NULL || c->screen->serial != a.serial)
		return 0;
	screen_recalled(c->screen->screen, a.found != 0 ? a.expires_s : NULL);
	conn_queue(c);
	return 0;
}

void screenconn_attached(struct server *sv)
{
	for (uint32_t n = 0; n < sv->conn_cap; n++) {
		struct conn *c = sv->conns[n];

		if (c != NULL && c->screen != NULL && screen_is_recalling(c->screen->screen))
			send_to_cache(sv, c, NULL);
	}
}

/* ---- life ---- */

void screenconn_start(struct server *sv)
{
	sv->screen_ops = (struct screen_ops){
		.tables = op_tables,
		.tables_cancel = op_tables_cancel,
		.dns = op_dns,
		.dns_cancel = op_dns_cancel,
		.recall = op_recall,
		.remember = op_remember,
		.ctx = sv,
	};
	sv->screening = screen_clients_new(&sv->stress);
}

void screenconn_begin(struct conn *c)
{
	struct server *sv = c->server;
	struct session *s = &c->session;
	const struct screen_peer peer = { s->addr, s->port, s->server_addr, s->server_port };

	c->screen = xcalloc(1, sizeof(*c->screen));
	c->screen->serial = ++sv->last_screen != 0 ? sv->last_screen : ++sv->last_screen;
	c->screen->screen =
		screen_new(s->listener->screen, sv->screening, &sv->screen_ops, c, &peer);
	screen_begin(c->screen->screen);
	screenconn_step(c);
}

void screenconn_free(struct conn *c)
{
	if (c->screen == NULL)
		return;
	screen_free(&c->screen->screen);
	free(c->screen);
	c->screen = NULL;
}

/* The SMTP server has it now, as if it had just come. */
static void hand_over(struct conn *c)
{
	struct buf *left = screen_out(c->screen->screen);

	buf_add_sv(&c->session.out, buf_sv(left));
	screenconn_free(c);
	twheel_cancel(&c->timer);
	conn_greet(c);
}

/* ---- reading and writing ---- */

static void flush(struct conn *c)
{
	struct screen *s = c->screen->screen;
	struct buf *out;

	while ((out = screen_out(s))->len > 0 && !c->blocked) {
		size_t len = out->len;
		ssize_t n = send(c->fd, out->p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			c->blocked = true;
		} else if (n < 0) {
			c->session.is_broken = true;
			c->blocked = true;
			screen_hangup(s);
		} else {
			c->blocked = (size_t)n < len;
			buf_consume(out, (size_t)n);
		}
	}
}

static void read_some(struct conn *c)
{
	struct screen *s = c->screen->screen;
	bool peeks = screen_peeks(s);
	size_t size = peeks ? PEEK_BYTES : READ_BYTES;
	ssize_t n = recv(c->fd, c->server->read_buf, size, peeks ? MSG_PEEK : 0);

	if (n > 0) {
		if (!peeks && (size_t)n < size && !c->closed_in)
			c->readable = false;
		screen_input(s, c->server->read_buf, (size_t)n);
	} else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		c->readable = false;
	} else if (n == 0 || errno != EINTR) {
		c->session.is_broken = n < 0;
		screen_hangup(s);
	}
}

void screenconn_step(struct conn *c)
{
	struct screen *s = c->screen->screen;
	int reads = 0;

	for (;;) {
		flush(c);
		if (screen_verdict(s) != SCREEN_UNDECIDED || !c->readable ||
		    (!screen_peeks(s) && !screen_reads(s)))
			break;
		if (reads++ == READS_PER_STEP) {
			conn_queue(c);
			break;
		}
		read_some(c);
	}
	switch (screen_verdict(s)) {
	case SCREEN_UNDECIDED:
		watch(c);
		break;
	case SCREEN_PASSES:
		hand_over(c);
		break;
	case SCREEN_ENDS: /* what could not be written at once is not waited for */
		conn_destroy(c);
		break;
	}
}

void screenconn_timer(struct conn *c)
{
	screen_tick(c->screen->screen);
	screenconn_step(c);
}

void screenconn_drain(struct conn *c)
{
	screen_stop(c->screen->screen);
	conn_queue(c);
}
