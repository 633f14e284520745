/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sockets of milters: names of hosts, connections, reading and writing, time limits, and what
 * becomes of a milter that fails. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/milter/client_int.h"

#define READ_BYTES 65536u
/* A milter may say for ever that it is still at work; after so many of its time limits it has had
 * its time. */
#define PROGRESS_LIMITS 10

void milter_warn(const struct milter *m, const char *fmt, ...)
{
	char text[500];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	str_make_printable(text, strlen(text));
	log_as(milter_log_name(m->set), LOG_LEVEL_WARN, "%s", text);
}

void milter_set_reply(char **reply, const char *text)
{
	char *fresh = text != NULL ? xstrdup(text) : NULL;

	free(*reply);
	*reply = fresh;
}

void milter_fail(struct milter *m, bool comm)
{
	static const char *const of_comm[] = {
		[MILTER_ON_ERROR_ACCEPT] = NULL,
		[MILTER_ON_ERROR_REJECT] = "550 5.5.0 Service unavailable",
		[MILTER_ON_ERROR_TEMPFAIL] = "451 4.7.1 Service unavailable - try again later",
		[MILTER_ON_ERROR_QUARANTINE] = "Hdefault_action",
		[MILTER_ON_ERROR_SHUTDOWN] = "421 4.7.1 Service unavailable - try again later",
	};
	static const char *const of_conf[] = {
		[MILTER_ON_ERROR_ACCEPT] = NULL,
		[MILTER_ON_ERROR_REJECT] =
			"451 4.3.5 Server configuration problem - try again later",
		[MILTER_ON_ERROR_TEMPFAIL] =
			"451 4.3.5 Server configuration problem - try again later",
		[MILTER_ON_ERROR_QUARANTINE] = "Hdefault_action",
		[MILTER_ON_ERROR_SHUTDOWN] =
			"421 4.3.5 Server configuration problem - try again later",
	};

	milter_link_close(m);
	m->state = MILTER_FAILED;
	milter_set_reply(&m->def_reply, (comm ? of_comm : of_conf)[m->spec->on_error]);
	counter_add(m->set->client->conf.counters, CTR_milter_failures, 1);
}

static void count_connection(struct milter_client *c, int change)
{
	c->connections = (unsigned)((int)c->connections + change);
	gauge_set(c->conf.counters, GAU_milter_connections, c->connections);
}

void milter_link_close(struct milter *m)
{
	if (m->query != NULL)
		dns_cancel(m->query);
	m->query = NULL;
	if (m->fd >= 0) {
		loop_fd_del(m->set->client->conf.loop, &m->lf);
		close(m->fd);
		count_connection(m->set->client, -1);
	}
	m->fd = -1;
	m->watched = m->connected = false;
	m->event = 0;
	m->paused = false;
	buf_fini(&m->in);
	buf_fini(&m->out);
}

/* ---- connecting ---- */

static void try_addresses(struct milter *m);

static void connect_failed(struct milter *m, int err)
{
	milter_warn(m, "connect to Milter service %s: %s", m->spec->name, strerror(err));
	milter_fail(m, true);
}

static void negotiate(struct milter *m)
{
	size_t mark = milter_begin(&m->out, MILTER_NEGOTIATE);

	m->connected = true;
	milter_put_u32(&m->out, m->spec->version);
	milter_put_u32(&m->out, MILTER_MAY_ALL);
	milter_put_u32(&m->out, m->spec->steps);
	milter_end(&m->out, mark);
	m->event = MILTER_NEGOTIATE;
	milter_link_wait(m, m->spec->command_ms);
}

void milter_handshake_failed(const struct milter *m)
{
	if (m->event == MILTER_NEGOTIATE)
		milter_warn(m, "milter %s: read error in initial handshake", m->spec->name);
}

static void no_answer(struct milter *m, int err)
{
	milter_warn(m, "milter %s: can't read %s reply packet header: %s", m->spec->name,
		    milter_command_name(m->event), strerror(err));
	milter_handshake_failed(m);
	milter_fail(m, true);
}

/* Read what is there. False: the connection is no more. */
static bool read_some(struct milter *m)
{
	static char room[READ_BYTES];
	ssize_t n;

	do
		n = recv(m->fd, room, sizeof(room), 0);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return true;
	if (n > 0) {
		buf_add(&m->in, room, (size_t)n);
		m->deadline_ms = clock_now().ms +
				 (m->set->is_message ? m->spec->content_ms : m->spec->command_ms);
		return true;
	}
	no_answer(m, n < 0 ? errno : 0);
	return false;
}

static void on_connected(struct milter *m)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(m->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	if (err == 0) {
		negotiate(m);
		return;
	}
	milter_link_close(m);
	if (m->addr_next < m->addr_count || (m->spec->host != NULL && !m->asked_v6))
		try_addresses(m);
	else
		connect_failed(m, err);
}

static void on_socket(void *ctx, unsigned events)
{
	struct milter *m = ctx;
	struct milter_set *s = m->set;

	if (!m->connected) {
		on_connected(m);
		if (m->state == MILTER_FAILED)
			milter_set_resume(s);
		return;
	}
	if ((events & LOOP_READ) != 0 && m->event != 0 && !read_some(m)) {
		milter_set_resume(s);
		return;
	}
	milter_link_flush(m);
	bool over = m->event != 0 && m->in.len > 0 && milter_take_answers(m);

	if (over || m->state == MILTER_FAILED || (m->paused && m->out.len == 0))
		milter_set_resume(s);
}

/* 0: under way or done; else errno. */
static int start_connect(struct milter *m, const struct sockaddr *sa, socklen_t len)
{
	int one = 1;

	m->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (m->fd < 0)
		return errno;
	count_connection(m->set->client, 1);
	if (sa->sa_family != AF_UNIX)
		setsockopt(m->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	loop_fd_add(m->set->client->conf.loop, &m->lf, m->fd, LOOP_WRITE, on_socket, m);
	if (connect(m->fd, sa, len) == 0 || errno == EINPROGRESS)
		return 0;
	int err = errno;

	milter_link_close(m);
	return err;
}

static void add_address(struct milter *m, int family, const void *addr)
{
	struct sockaddr_in *v4 = (void *)&m->addrs[m->addr_count];
	struct sockaddr_in6 *v6 = (void *)&m->addrs[m->addr_count];

	if (m->addr_count == MILTER_ADDRS_MAX)
		return;
	memset(&m->addrs[m->addr_count++], 0, sizeof(m->addrs[0]));
	if (family == AF_INET) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(m->spec->port);
		memcpy(&v4->sin_addr, addr, sizeof(v4->sin_addr));
	} else {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(m->spec->port);
		memcpy(&v6->sin6_addr, addr, sizeof(v6->sin6_addr));
	}
}

static void take_addresses(struct milter *m, const struct dns_answer *a)
{
	for (size_t i = 0; a->status == DNS_OK && i < a->count; i++) {
		if (a->rrs[i].type == DNS_T_A)
			add_address(m, AF_INET, &a->rrs[i].a);
		else if (a->rrs[i].type == DNS_T_AAAA)
			add_address(m, AF_INET6, &a->rrs[i].aaaa);
	}
}

static void on_name(void *ctx, const struct dns_answer *a)
{
	struct milter *m = ctx;
	struct milter_set *s = m->set;
	bool in_call = m->query == NULL;

	m->query = NULL;
	take_addresses(m, a);
	if (in_call)
		return;
	try_addresses(m);
	if (m->state == MILTER_FAILED)
		milter_set_resume(s);
}

/* The next address; when there is none, the other family's are asked for. */
static void try_addresses(struct milter *m)
{
	const struct milter_client_conf *conf = &m->set->client->conf;
	int err = EHOSTUNREACH;

	for (;;) {
		while (m->addr_next < m->addr_count) {
			const struct sockaddr_storage *sa = &m->addrs[m->addr_next++];

			err = start_connect(m, (const struct sockaddr *)sa,
					    sa->ss_family == AF_INET ? sizeof(struct sockaddr_in)
								     : sizeof(struct sockaddr_in6));
			if (err == 0)
				return;
		}
		if (m->asked_v6 || !conf->v6 || conf->dns == NULL)
			break;
		m->asked_v6 = true;
		m->query = dns_ask(conf->dns, sv_from(m->spec->host), DNS_T_AAAA, on_name, m);
		if (m->query != NULL)
			return;
	}
	connect_failed(m, err);
}

static void open_inet(struct milter *m)
{
	const struct milter_client_conf *conf = &m->set->client->conf;
	unsigned char addr[16];

	m->addr_count = m->addr_next = 0;
	m->asked_v6 = true;
	if (inet_pton(AF_INET, m->spec->host, addr) == 1) {
		add_address(m, AF_INET, addr);
	} else if (inet_pton(AF_INET6, m->spec->host, addr) == 1) {
		add_address(m, AF_INET6, addr);
	} else {
		m->asked_v6 = false;
		if (conf->v4 && conf->dns != NULL) {
			m->query = dns_ask(conf->dns, sv_from(m->spec->host), DNS_T_A, on_name, m);
			if (m->query != NULL)
				return;
		}
	}
	try_addresses(m);
}

void milter_link_open(struct milter *m)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	m->state = MILTER_CONNECTING;
	m->deadline_ms = m->last_ms = clock_now().ms + m->spec->connect_ms;
	if (m->spec->host != NULL) {
		open_inet(m);
		return;
	}
	str_copy(sun.sun_path, sizeof(sun.sun_path), sv_from(m->spec->path));
	int err = start_connect(m, (const struct sockaddr *)&sun, sizeof(sun));

	if (err != 0)
		connect_failed(m, err);
}

/* ---- writing, waiting ---- */

/* While an answer is due, what it has said tells more than this error. */
static void write_failed(struct milter *m, int err)
{
	if (m->event != 0 || m->state == MILTER_NEW) {
		buf_fini(&m->out);
		loop_fd_mod(m->set->client->conf.loop, &m->lf, m->event != 0 ? LOOP_READ : 0);
		return;
	}
	milter_warn(m, "milter %s: error writing command: %s", m->spec->name, strerror(err));
	milter_fail(m, true);
}

void milter_link_flush(struct milter *m)
{
	size_t done = 0;
	bool blocked = false;

	while (m->fd >= 0 && m->connected && done < m->out.len && !blocked) {
		ssize_t n = send(m->fd, m->out.p + done, m->out.len - done, MSG_NOSIGNAL);

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			blocked = true;
		else if (errno != EINTR)
			break;
	}
	if (m->fd >= 0 && m->connected && done < m->out.len && !blocked) {
		write_failed(m, errno);
		return;
	}
	buf_consume(&m->out, done);
	if (m->out.len == 0)
		buf_fini(&m->out);
	if (m->fd >= 0 && m->connected)
		loop_fd_mod(m->set->client->conf.loop, &m->lf,
			    (m->event != 0 ? LOOP_READ : 0) | (m->out.len > 0 ? LOOP_WRITE : 0));
}

void milter_link_wait(struct milter *m, int64_t limit_ms)
{
	m->deadline_ms = clock_now().ms + limit_ms;
	m->last_ms = clock_now().ms + PROGRESS_LIMITS * limit_ms;
	milter_link_flush(m);
}

void milter_link_tick(struct milter *m)
{
	int64_t now = clock_now().ms;

	if (now < m->deadline_ms && now < m->last_ms)
		return;
	if (m->state == MILTER_CONNECTING && !m->connected) {
		connect_failed(m, ETIMEDOUT);
	} else if (m->event != 0) {
		no_answer(m, ETIMEDOUT);
	} else {
		milter_warn(m, "milter %s: error writing command: %s", m->spec->name,
			    strerror(ETIMEDOUT));
		milter_fail(m, true);
	}
	counter_add(m->set->client->conf.counters, CTR_milter_timeouts, 1);
	milter_set_resume(m->set);
}
