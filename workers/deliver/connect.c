/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Finding a host for a job's connection: along the alternatives of the next hop, their addresses in
 * order, until one is connecting or none is left. conn.c takes over when the socket is connected,
 * and comes back here when that host cannot be used. See workers/deliver/deliver.h.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/connlogin.h"
#include "workers/deliver/conntls.h"
#include "workers/deliver/deliver.h"
#include "workers/tables/client.h"

#define SITE_TTL_MS      60000 /* a policy is looked up again after so long */
#define SITE_TTL_FAIL_MS 5000

void conn_open(struct dest *dest, struct job *j)
{
	struct conn *c = conn_new(dest);

	c->job = j;
	j->conn = c;
	if (j->start_us == 0)
		j->start_us = clock_now_wall().us;
	conn_next_host(c);
}

/* What the conns of an alternative waited for is there. */
static void wake(struct alt_state *alt)
{
	struct conn *c = alt->waiting;

	alt->waiting = NULL;
	if (c == NULL)
		return;
	/* the destination stays while one of its conns waits here */
	struct dest *dest = c->dest;
	bool was = dest->pumping;

	dest->pumping = true;
	while (c != NULL) {
		struct conn *next = c->wait_next;

		c->wait_next = NULL;
		conn_next_host(c);
		c = next;
	}
	dest->pumping = was;
	if (!was)
		dest_pump(dest);
}

static void wait_for_lookup(struct conn *c, struct alt_state *alt)
{
	c->state = CONN_ROUTING;
	c->wait_next = alt->waiting;
	alt->waiting = c;
}

static void route_found(void *ctx, struct route *r)
{
	struct alt_state *alt = ctx;

	alt->lookup = NULL;
	alt->route = r;
	wake(alt);
}

/* ---- the policy ---- */

static void keep_site(struct alt_state *alt, struct tls_site *s)
{
	alt->site_until_ms =
		clock_now().ms + (s->level == SITE_INVALID ? SITE_TTL_FAIL_MS : SITE_TTL_MS);
	map_memo_free(&alt->memo);
	/* connections know by it whether they are still what the policy asks for */
	if (alt->site != NULL && tls_site_eq(alt->site, s)) {
		tls_site_unref(&s);
		return;
	}
	tls_site_unref(&alt->site);
	alt->site = s;
}

static void policy_answered(void *ctx);

/* False: remote tables are asked, and policy_answered() comes. */
static bool ask_policy(struct deliver *d, const struct tconf *t, struct alt_state *alt)
{
	struct tls_site *s;
	bool missing;

	if (t->tls->remote && alt->memo == NULL)
		alt->memo = map_memo_new();
	for (;;) {
		if (alt->memo != NULL)
			map_memo_enter(alt->memo);
		s = tls_policy_get(t->tls, sv_from(alt->text));
		missing = alt->memo != NULL && map_memo_leave();
		if (!missing)
			break;
		tls_site_unref(&s);
		alt->fetch = tables_fetch(d->tables, alt->memo, policy_answered, alt);
		if (alt->fetch != NULL)
			return false;
	}
	keep_site(alt, s);
	return true;
}

static void policy_answered(void *ctx)
{
	struct alt_state *alt = ctx;

	alt->fetch = NULL;
	wake(alt);
}

/* Is the policy of the job's present alternative known? False: the conn waits for it. */
static bool get_policy(struct conn *c)
{
	struct alt_state *alt = &c->dest->alts[c->job->alt];

	if (c->dest->t->tls_client == NULL || alt->text == NULL ||
	    (alt->site != NULL && alt->site_until_ms > clock_now().ms))
		return true;
	if (alt->fetch == NULL && ask_policy(c->d, c->dest->t, alt))
		return true;
	wait_for_lookup(c, alt);
	return false;
}

/* ---- the route ---- */

/* The route of the job's present alternative, or NULL: it will come by route_found(). */
static struct route *get_route(struct conn *c)
{
	struct alt_state *alt = &c->dest->alts[c->job->alt];

	struct nexthop_alt *where = &c->dest->nh.alts[c->job->alt];

	where->dane = !where->literal && c->dest->t->tls != NULL && c->dest->t->tls->dnssec &&
		      alt->site != NULL &&
		      (alt->site->level == SITE_DANE || alt->site->level == SITE_DANE_ONLY);
	if (alt->route != NULL &&
	    (alt->route->expires_ms <= clock_now().ms ||
	     (where->dane && alt->route->status == ROUTE_OK && !alt->route->has_dane)))
		route_unref(&alt->route);
	if (alt->route != NULL)
		return alt->route;
	if (alt->lookup == NULL)
		alt->lookup = route_lookup(&c->d->env, c->dest->t, &c->dest->nh.alts[c->job->alt],
					   route_found, alt);
	if (alt->route != NULL)
		return alt->route; /* answered at once */
	wait_for_lookup(c, alt);
	return NULL;
}

static void route_fault(struct job *j, const struct route *r)
{
	bool last = j->alt + 1 >= j->dest->nh.count;
	struct client_fault f = { .permanent = r->status == ROUTE_PERM && last,
				  .site = true,
				  .text = sv_from(r->text) };

	memcpy(f.dsn, r->dsn, 3);
	if (r->loops && job_pass(j, &f))
		return;
	if (!f.permanent)
		f.dsn[0] = 4;
	else
		j->handshake_ok = true; /* a domain that does not exist is no dead site */
	j->site_failed = true;
	job_failed(j, SV("none"), &f);
}

void conn_connect_fault(struct conn *c, int err)
{
	struct job *j = c->job;
	struct client_fault f = { .site = true, .dsn = { 4, 4, 1 } };
	struct buf *b = &c->d->scratch;

	buf_reset(b);
	buf_printf(b, "connect to %s: %s", c->relay, strerror(err));
	f.text = buf_sv(b);
	log_as(j->t->program, LOG_LEVEL_INFO, "%s", buf_cstr(b));
	counter_add(c->d->counters, CTR_deliver_connect_failures, 1);
	j->site_failed = true;
	job_failed(j, SV("none"), &f);
}

static int bind_source(const struct conn *c, int family)
{
	const struct tconf *t = c->dest->t;
	const union net_addr *a = family == AF_INET ? &t->bind4 : &t->bind6;

	if (!(family == AF_INET ? t->bind4_set : t->bind6_set))
		return 0;
	if (bind(c->fd, &a->sa, net_addr_len(a)) == 0)
		return 0;
	if (t->bind_enforce)
		return errno;
	log_warn("%s_bind_address: bind: %s", t->client.lmtp ? "lmtp" : "smtp", strerror(errno));
	return 0;
}

/* Non-blocking connect; true when it is under way or done. */
static bool start_connect(struct conn *c, const struct sockaddr *sa, socklen_t len)
{
	int one = 1, err = 0;

	counter_add(c->d->counters, CTR_deliver_connects, 1);
	c->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		conn_connect_fault(c, errno);
		return false;
	}
	if (sa->sa_family != AF_UNIX) {
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		err = bind_source(c, sa->sa_family);
	}
	if (err == 0 && connect(c->fd, sa, len) != 0 && errno != EINPROGRESS)
		err = errno;
	if (err != 0) {
		conn_connect_fault(c, err);
		conn_close_socket(c);
		return false;
	}
	c->state = CONN_CONNECTING;
	loop_fd_add(c->d->loop, &c->lf, c->fd, LOOP_READ | LOOP_WRITE | LOOP_EDGE | LOOP_HUP,
		    conn_on_socket, c);
	conn_set_timer(c);
	return true;
}

static bool connect_inet(struct conn *c, const struct route *r, const struct route_addr *a)
{
	const char *host = r->hosts[a->host];

	c->alt = c->job->alt;
	c->addr = a->addr;
	str_copy(c->host, sizeof(c->host), sv_from(host));
	net_addr_text(&a->addr, c->ip, sizeof(c->ip));
	snprintf(c->namaddr, sizeof(c->namaddr), "%s[%s]", c->host, c->ip);
	snprintf(c->relay, sizeof(c->relay), "%s:%u", c->namaddr, ntohs(a->addr.in.sin_port));
	if (!conn_login_is_known(c) ||
	    (c->dest->t->tls_client != NULL && !conn_tls_plan(c, r->dane[a->host])))
		return false;
	return start_connect(c, &a->addr.sa, net_addr_len(&a->addr));
}

static bool connect_unix(struct conn *c, const struct nexthop_alt *alt)
{
	const struct tconf *t = c->dest->t;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int n;

	str_copy(c->host, sizeof(c->host), sv_from(t->client.myhostname));
	str_copy(c->ip, sizeof(c->ip), sv_from(alt->host));
	snprintf(c->namaddr, sizeof(c->namaddr), "%s[%s]", c->host, c->ip);
	snprintf(c->relay, sizeof(c->relay), "%s", c->namaddr);
	if (!conn_login_is_known(c) || (t->tls_client != NULL && !conn_tls_plan(c, NULL)))
		return false;
	if (alt->host[0] == '/')
		n = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", alt->host);
	else
		n = snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", t->queue_directory,
			     alt->host);
	if (n < 0 || (size_t)n >= sizeof(sun.sun_path)) {
		conn_connect_fault(c, ENAMETOOLONG);
		return false;
	}
	return start_connect(c, (struct sockaddr *)&sun, sizeof(sun));
}

/* A socket path is an alternative with one host. */
static bool try_unix(struct conn *c)
{
	struct job *j = c->job;
	unsigned at = j->alt++;

	j->sessions = 0;
	c->alt = at;
	return connect_unix(c, &c->dest->nh.alts[at]);
}

/* No mail to this alternative. True: its policy says so. */
static bool is_barred(struct job *j)
{
	const struct tls_site *s = j->dest->alts[j->alt].site;
	struct client_fault f = { .permanent = false };

	if (s == NULL || s->level != SITE_INVALID)
		return false;
	memcpy(f.dsn, s->dsn, 3);
	f.text = sv_from(s->why);
	job_failed(j, SV("none"), &f);
	return true;
}

/* TLS has failed, and was a wish only: the server that the conn led to, once more without. */
static bool try_plain(struct conn *c)
{
	struct job *j = c->job;
	const struct nexthop_alt *alt = &c->dest->nh.alts[c->alt];

	c->plain_again = false;
	c->plain = true;
	counter_add(c->d->counters, CTR_deliver_tls_plain, 1);
	if (alt->kind == NEXTHOP_UNIX)
		return connect_unix(c, alt);
	return connect_inet(c, j->route, &j->route->addrs[j->order[j->pos - 1]]);
}

/* One step along the job's way. 1: connecting or waiting; 0: look at the next; -1: no more. */
static int try_next(struct conn *c)
{
	struct job *j = c->job;
	const struct tconf *t = c->dest->t;
	struct route *r;

	if (c->plain_again)
		return try_plain(c);
	c->plain = false;
	if (j->route == NULL) {
		if (j->alt >= c->dest->nh.count)
			return -1;
		if (!get_policy(c))
			return 1;
		if (is_barred(j)) {
			j->alt++;
			return 0;
		}
		if (c->dest->nh.alts[j->alt].kind == NEXTHOP_UNIX)
			return conn_login_plan(c, j->alt, t->client.myhostname) ? try_unix(c) : 1;
		r = get_route(c);
		if (r == NULL)
			return 1;
		j->route = route_ref(r);
		j->pos = j->sessions = 0;
		j->order_count = r->status == ROUTE_OK ? route_order(r, t, j->order) : 0;
		if (r->status != ROUTE_OK)
			route_fault(j, r);
	}
	if (j->pos < j->order_count &&
	    (t->mx_session_limit == 0 || j->sessions < t->mx_session_limit)) {
		r = j->route;
		if (!conn_login_plan(c, j->alt, r->hosts[r->addrs[j->order[j->pos]].host]))
			return 1;
		return connect_inet(c, r, &r->addrs[j->order[j->pos++]]);
	}
	route_unref(&j->route);
	j->alt++;
	return 0;
}

void conn_next_host(struct conn *c)
{
	int step;

	while (job_has_todo(c->job) && (step = try_next(c)) >= 0) {
		if (step > 0)
			return;
	}
	job_finish(c->job);
	struct dest *dest = c->dest;

	conn_free(c);
	dest_pump(dest);
}
