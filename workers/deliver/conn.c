/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One outgoing connection: its lists and timers, and the protocol engine on its socket. One
 * edge-triggered registration per connection, one read and one write per step. Called by dest.c;
 * see workers/deliver/deliver.h.
 *
 * Life: ROUTING (waits for DNS) -> CONNECTING -> OPEN (handshake, transactions, idle) -> freed.
 * When a host cannot be used the same conn goes on to the next address of its job.
 *
 * Engine callbacks never free a conn: they note what happened, and after_engine() acts on it when
 * the engine has returned.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/changed.h"
#include "workers/deliver/connlogin.h"
#include "workers/deliver/conntalk.h"
#include "workers/deliver/conntls.h"
#include "workers/deliver/deliver.h"
#include "workers/deliver/headflags.h"

#define READ_ROUNDS  8     /* per event; the rest is read in the next turn */
#define TAIL_BY_COPY 4096u /* large content ends in one piece with its dot, to see its line end */

/* instead of the number of bytes written */
enum { UNREADABLE = -2, DAMAGED = -3, NO_TABLE = -4, TOO_DEEP = -5, GATED = -6 };

static void after_engine(struct conn *c);
static const struct client_ops engine_ops;

/* ---- lists and timers ---- */

static void idle_remove(struct conn *c)
{
	struct deliver *d = c->d;

	if (!c->idle)
		return;
	c->idle = false;
	if (c->idle_prev != NULL)
		c->idle_prev->idle_next = c->idle_next;
	else
		c->dest->idle = c->idle_next;
	if (c->idle_next != NULL)
		c->idle_next->idle_prev = c->idle_prev;
	if (c->lru_prev != NULL)
		c->lru_prev->lru_next = c->lru_next;
	else
		d->idle_first = c->lru_next;
	if (c->lru_next != NULL)
		c->lru_next->lru_prev = c->lru_prev;
	else
		d->idle_last = c->lru_prev;
}

static void idle_add(struct conn *c)
{
	struct deliver *d = c->d;

	c->idle = true;
	c->idle_prev = NULL;
	c->idle_next = c->dest->idle;
	if (c->idle_next != NULL)
		c->idle_next->idle_prev = c;
	c->dest->idle = c;
	c->lru_prev = NULL;
	c->lru_next = d->idle_first;
	if (c->lru_next != NULL)
		c->lru_next->lru_prev = c;
	else
		d->idle_last = c;
	d->idle_first = c;
}

/* The time for the step at hand. Bytes that complete no reply win none: a server must not hold us
 * by dribbling. Bytes it takes begin the time anew, but with smtp_per_request_deadline only add
 * what they are worth at smtp_min_data_rate, and never more than the whole time. */
static void set_deadline(struct conn *c, int64_t ms)
{
	const struct client *k = &c->client;
	int64_t now = clock_now().ms, rate = c->dest->t->min_data_rate, won;
	uint64_t mark = k->progress + (rate > 0 ? 0 : k->written) + 1;

	if (c->timed_progress != mark || !twheel_is_set(&c->timer)) {
		c->timed_progress = mark;
		c->timed_written = k->written;
		c->deadline_ms = now + ms;
	} else if (rate > 0 && k->content != NULL) {
		won = (int64_t)(k->written - c->timed_written) * 1000 / rate;
		if (won == 0)
			return;
		c->timed_written = k->written;
		c->deadline_ms = c->deadline_ms + won < now + ms ? c->deadline_ms + won : now + ms;
	} else {
		return;
	}
	twheel_set(&c->d->wheel, &c->timer, c->deadline_ms);
}

void conn_set_timer(struct conn *c)
{
	int64_t ms = 0;

	if (c->pause_until_ms > 0) {
		twheel_set(&c->d->wheel, &c->timer, c->pause_until_ms);
		return;
	}
	if (c->state == CONN_CONNECTING)
		ms = c->dest->t->client.connect_ms;
	else if (c->state == CONN_OPEN)
		ms = c->idle ? c->dest->t->idle_ms : client_timeout_ms(&c->client);
	if (c->state == CONN_OPEN && !c->idle && ms > 0) {
		set_deadline(c, ms);
		return;
	}
	c->timed_progress = 0;
	if (ms > 0)
		twheel_set(&c->d->wheel, &c->timer, clock_now().ms + ms);
	else
		twheel_cancel(&c->timer);
}

/* ---- waiting for the journal ---- */

static void gate_leave(struct conn *c)
{
	struct conn **at = &c->d->gated_first;

	if (!c->gated)
		return;
	while (*at != c)
		at = &(*at)->gated_next;
	*at = c->gated_next;
	if (c->d->gated_tail == &c->gated_next)
		c->d->gated_tail = at;
	c->d->gated_count--;
	c->gated = false;
}

static void gate_enter(struct conn *c)
{
	c->gated = true;
	c->gated_next = NULL;
	*c->d->gated_tail = c;
	c->d->gated_tail = &c->gated_next;
	c->d->gated_count++;
}

/* True: the last piece of the message stays here for now. */
static bool gate_holds(struct conn *c, struct job *j)
{
	if (job_may_end(j)) {
		if (c->gated)
			histogram_add(c->d->counters, HIS_deliver_record_wait,
				      (uint64_t)(clock_mono_us_raw() - c->gated_us));
		gate_leave(c);
		return false;
	}
	if (!c->gated) {
		c->gated_us = clock_mono_us_raw();
		gate_enter(c);
	}
	return true;
}

static void count_conns(struct deliver *d, int by)
{
	d->conn_count = (unsigned)((int)d->conn_count + by);
	gauge_set(d->counters, GAU_deliver_connections, d->conn_count);
}

void conn_close_socket(struct conn *c)
{
	gate_leave(c);
	changed_free(&c->changed);
	twheel_cancel(&c->timer);
	conn_tls_close(c);
	loop_fd_del(c->d->loop, &c->lf);
	io_close(&c->fd);
	if (c->client_on) {
		conn_talk_end(c);
		client_fini(&c->client);
	}
	conn_login_close(c);
	c->client_on = false;
	c->dead = false;
	c->pause_until_ms = 0;
}

void conn_free(struct conn *c)
{
	idle_remove(c);
	conn_close_socket(c);
	c->dest->conn_count--;
	count_conns(c->d, -1);
	free(c);
}

struct conn *conn_new(struct dest *dest)
{
	struct conn *c = xcalloc(1, sizeof(*c));

	c->d = dest->d;
	c->dest = dest;
	c->fd = c->lf.fd = -1;
	dest->conn_count++;
	count_conns(dest->d, 1);
	return c;
}

/* ---- engine callbacks ---- */

static void on_ready(void *ctx)
{
	struct conn *c = ctx;

	c->job->handshake_ok = true;
	c->job->sessions++;
	c->job->ready_us = clock_now_wall().us;
	if (c->client.login != NULL && c->client.login->done)
		counter_add(c->d->counters, CTR_deliver_logins, 1);
}

static void on_begin(void *ctx, struct client_tx *tx)
{
	struct conn *c = ctx;
	struct job *j = tx->ctx;
	int64_t now = clock_now_wall().us;

	c->uses++;
	conn_talk_of(c, j);
	if (c->uses > 1) {
		j->handshake_ok = true;
		if (j->start_us == 0)
			j->start_us = now;
		j->ready_us = now;
		counter_add(c->d->counters, CTR_deliver_reuses, 1);
	}
}

static void on_sent(void *ctx, struct client_tx *tx, unsigned rcpt, struct sv reply)
{
	struct conn *c = ctx;

	job_rcpt_sent(tx->ctx, rcpt, sv_from(c->relay), c->uses, reply,
		      (c->client.features & CLIENT_F_DSN) != 0);
}

static void on_failed(void *ctx, struct client_tx *tx, unsigned rcpt, const struct client_fault *f)
{
	struct conn *c = ctx;

	job_rcpt_failed(tx->ctx, rcpt, sv_from(c->relay), c->uses, f);
}

/* A job that came over an open connection has not looked at the route yet: it goes on with the
 * hosts that this connection does not lead to. */
static void adopt_route(struct conn *c, struct job *j)
{
	struct route *r = c->dest->alts[c->alt].route;
	unsigned n = 0;

	if (j->route != NULL || j->alt != 0)
		return;
	j->alt = c->alt + 1;
	if (c->dest->nh.alts[c->alt].kind == NEXTHOP_UNIX || r == NULL || r->status != ROUTE_OK)
		return;
	j->alt = c->alt;
	j->sessions = 1;
	j->route = route_ref(r);
	j->order_count = route_order(r, j->t, j->order);
	for (unsigned i = 0; i < j->order_count; i++) {
		if (!net_addr_eq(&r->addrs[j->order[i]].addr, &c->addr))
			j->order[n++] = j->order[i];
	}
	j->order_count = n;
	j->pos = 0;
}

static void on_end(void *ctx, struct client_tx *tx)
{
	struct conn *c = ctx;
	struct job *j = tx->ctx;

	j->conn = NULL;
	counter_add(c->d->counters, CTR_deliver_bytes,
		    j->rcpt_count > 0 && tx->accepted > 0 ? tx->size : 0);
	if (job_has_todo(j))
		adopt_route(c, j);
	if (job_has_todo(j) && job_has_more_hosts(j))
		dest_requeue(c->dest, j); /* dest_pump() follows when the engine has returned */
	else
		job_finish(j);
}

/* May this connection carry another message? Those that wait for their turn on it count, too. */
static bool may_reuse(const struct conn *c)
{
	const struct tconf *t = c->dest->t;
	unsigned uses = c->uses + (c->client.in_flight > 1 ? c->client.in_flight - 1 : 0);

	return !c->d->draining && (t->reuse_count == 0 || uses < t->reuse_count) &&
	       clock_now().ms - c->opened_ms < t->reuse_ms && !c->plain &&
	       !conn_login_is_single(c) && c->site == c->dest->alts[c->alt].site &&
	       (c->site == NULL || !c->site->no_reuse);
}

static struct client_tx *on_next(void *ctx)
{
	struct conn *c = ctx;
	struct job *j;

	if (!may_reuse(c))
		return NULL;
	j = dest_take_fresh(c->dest);
	if (j == NULL)
		return NULL;
	j->conn = c;
	job_tx_prepare(j);
	return &j->tx;
}

static void on_untouched(void *ctx, struct client_tx *tx)
{
	struct conn *c = ctx;
	struct job *j = tx->ctx;

	j->start_us = j->ready_us = 0;
	dest_requeue(c->dest, j);
}

static void on_dead(void *ctx, const struct client_fault *f)
{
	struct conn *c = ctx;

	c->dead = true;
	if (c->client.login != NULL && c->client.login->failed)
		counter_add(c->d->counters, CTR_deliver_login_failures, 1);
	if (c->job == NULL || f == NULL)
		return;
	if (c->encrypts && !c->client.early && conn_tls_may_go_plain(c)) {
		c->plain_again = true;
		return;
	}
	/* before the session was ready: the job has more hosts, or this is its result */
	if (f->diag.len > 0 && c->fd >= 0 && !c->encrypts) {
		conn_talk_said(c, SV("QUIT"));
		(void)!send(c->fd, "QUIT\r\n", 6, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (!f->permanent) {
		c->job->site_failed |= f->site || !c->encrypts;
		log_as(c->job->t->program, LOG_LEVEL_INFO, "%.*s", (int)f->text.len, f->text.p);
	}
	job_failed(c->job, sv_from(c->relay), f);
}

static const struct client_ops engine_ops = {
	.starttls = conn_tls_start,
	.ready = on_ready,
	.begin = on_begin,
	.sent = on_sent,
	.failed = on_failed,
	.end = on_end,
	.next = on_next,
	.untouched = on_untouched,
	.dead = on_dead,
	.pix = conn_talk_pix,
};

/* ---- socket ---- */

static ssize_t send_out(struct conn *c, const struct msghdr *msg, int flags)
{
	return c->encrypts ? conn_tls_send(c, msg) : sendmsg(c->fd, msg, flags);
}

/* What is left of the content: as the job has it, or read into d->io. NULL: it cannot be read. */
static char *load_content(struct conn *c, size_t left)
{
	struct client *k = &c->client;
	struct job *j = k->content->ctx;
	char *p = c->d->io;
	uint64_t pos;
	int fd;

	if (j->content.len > 0)
		p = j->content.p + k->content_off;
	else if (job_content_fd(j, &fd, &pos) != 0 ||
		 io_pread_all(fd, p, left, (off_t)(pos + k->content_off)) != 0)
		return NULL;
	/* after a short write a single byte may be left: its line end was seen before */
	if (k->tail.len > 0 && k->tail.p[0] == '.' &&
	    (left >= 2 ? memcmp(p + left - 2, "\r\n", 2) != 0 : k->content->content_len == 1))
		client_content_open_end(k);
	return p;
}

/* A piece of large content, through memory like all else. sendfile() would leave pages of the
 * segment in the socket's queue, and those outlive us and the connection: when the segment is
 * recycled in place meanwhile, the kernel would send somebody else's mail in their stead. */
static ssize_t send_large(struct conn *c, uint64_t left)
{
	struct client *k = &c->client;
	struct iovec iov[2] = { { k->head.p, k->head.len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = k->head.len > 0 };
	size_t len = (size_t)u64_min(left - TAIL_BY_COPY, sizeof(c->d->io));
	uint64_t pos;
	int fd, err;

	if (job_content_fd(k->content->ctx, &fd, &pos) != 0 ||
	    io_pread_all(fd, c->d->io, len, (off_t)(pos + k->content_off)) != 0)
		return UNREADABLE;
	err = job_check_content(k->content->ctx, k->content_off, c->d->io, len);
	if (err != 0)
		return err == E_CORRUPT ? DAMAGED : UNREADABLE;
	iov[msg.msg_iovlen++] = (struct iovec){ c->d->io, len };
	return send_out(c, &msg, MSG_NOSIGNAL | MSG_MORE);
}

static ssize_t send_small(struct conn *c, size_t left)
{
	struct client *k = &c->client;
	struct iovec iov[3];
	struct msghdr msg = { .msg_iov = iov };
	char *content = left > 0 ? load_content(c, left) : c->d->io;

	if (content == NULL)
		return UNREADABLE;
	/* the end of the message is behind it */
	if (k->content != NULL) {
		int err = job_check_content(k->content->ctx, k->content->content_len - left,
					    content, left);

		if (err != 0)
			return err == E_CORRUPT ? DAMAGED : UNREADABLE;
	}
	if (k->head.len > 0)
		iov[msg.msg_iovlen++] = (struct iovec){ k->head.p, k->head.len };
	if (left > 0)
		iov[msg.msg_iovlen++] = (struct iovec){ content, left };
	if (k->tail.len > 0 && (left == 0 || !conn_talk_splits(c)))
		iov[msg.msg_iovlen++] = (struct iovec){ k->tail.p, k->tail.len };
	return send_out(c, &msg, MSG_NOSIGNAL);
}

/* Gets more of the content that is sent otherwise than it came. 0 or one of the codes. */
static int fill_changed(struct conn *c)
{
	struct client *k = &c->client;
	struct job *j = k->content->ctx;

	while (changed_wants(c->changed)) {
		struct sv piece = { c->d->io, 0 };
		uint64_t at = changed_at(c->changed), pos;
		int fd, err;

		piece.len = (size_t)u64_min(j->hdr.content_len - at, CHANGED_PIECE);
		if (j->content.len > 0)
			piece.p = j->content.p + at;
		else if (job_content_fd(j, &fd, &pos) != 0 ||
			 io_pread_all(fd, c->d->io, piece.len, (off_t)(pos + at)) != 0)
			return UNREADABLE;
		err = job_check_content(j, at, piece.p, piece.len);
		if (err != 0)
			return err == E_CORRUPT ? DAMAGED : UNREADABLE;
		if (j->memo != NULL)
			map_memo_enter(j->memo);
		err = changed_feed(c->changed, piece, at + piece.len == j->hdr.content_len);
		if (j->memo != NULL)
			map_memo_leave();
		if (err != 0)
			return err == E_LIMIT ? TOO_DEEP : NO_TABLE;
	}
	return 0;
}

static ssize_t send_changed(struct conn *c)
{
	struct client *k = &c->client;
	struct iovec iov[3];
	struct msghdr msg = { .msg_iov = iov };
	int err = fill_changed(c);
	bool last = err == 0 && changed_is_whole(c->changed);
	struct sv out = changed_out(c->changed);

	if (err != 0)
		return err;
	if (last && gate_holds(c, k->content->ctx))
		return GATED;
	if (last)
		k->content->content_len = k->content_off + out.len;
	if (k->head.len > 0)
		iov[msg.msg_iovlen++] = (struct iovec){ k->head.p, k->head.len };
	if (out.len > 0)
		iov[msg.msg_iovlen++] = (struct iovec){ (void *)(uintptr_t)out.p, out.len };
	if (last && k->tail.len > 0 && (out.len == 0 || !conn_talk_splits(c)))
		iov[msg.msg_iovlen++] = (struct iovec){ k->tail.p, k->tail.len };
	return send_out(c, &msg, MSG_NOSIGNAL | (last ? 0 : MSG_MORE));
}

/* Must the content that goes out next be changed? Asked once for each message. */
static void begin_changed(struct conn *c)
{
	struct client *k = &c->client;
	struct job *j = k->content->ctx;
	bool downgrade = client_downgrades(k->content, k->features);

	if (j->t->convert == NULL ||
	    (!convert_is_needed(j->t->convert, downgrade, j->env.longest) &&
	     (j->t->head_flags & HEAD_LINES) == 0))
		return;
	struct buf head = BUF_INIT;

	job_put_head(j, &head);
	c->changed = changed_new(j->t->convert, j->qid, downgrade, buf_sv(&head));
	buf_fini(&head);
	k->content->content_len = UINT64_MAX;
	counter_add(c->d->counters, CTR_deliver_converted, 1);
}

static ssize_t send_some(struct conn *c)
{
	struct client *k = &c->client;
	uint64_t left;

	if (k->content == NULL)
		return send_small(c, 0);
	if (c->changed == NULL && k->content_off == 0)
		begin_changed(c);
	if (c->changed != NULL)
		return send_changed(c);
	left = k->content->content_len - k->content_off;
	if (left > SMALL_CONTENT)
		return send_large(c, left);
	return gate_holds(c, k->content->ctx) ? GATED : send_small(c, (size_t)left);
}

static void wrote(struct conn *c, size_t n)
{
	struct client *k = &c->client;
	uint64_t before = k->content_off;

	conn_talk_wrote(c, n);
	client_wrote(k, n);
	if (c->changed != NULL)
		changed_wrote(c->changed, (size_t)(k->content_off - before));
	if (k->content == NULL) {
		changed_free(&c->changed);
		c->pause_until_ms = 0;
	}
}

/* Is what was encrypted on its way? Only then more is made. */
static bool may_write(struct conn *c)
{
	int out = c->encrypts ? conn_tls_flush(c) : 1;

	if (out < 0)
		client_closed(&c->client);
	return out > 0;
}

/* Write until all is out or the socket is full. */
static void flush(struct conn *c)
{
	struct client *k = &c->client;

	while (!c->dead && may_write(c)) {
		client_top_up(k);
		if (!client_has_output(k) || conn_talk_pauses(c))
			return;
		ssize_t n = send_some(c);

		if (n == GATED) {
			return;
		} else if (n == UNREADABLE) {
			client_broken(k, "queue record cannot be read");
		} else if (n == DAMAGED) {
			client_broken(k, "queue record is damaged");
		} else if (n == NO_TABLE) {
			k->trouble |= CLIENT_TROUBLE_DATA;
			buf_reset(&c->d->scratch);
			buf_printf(&c->d->scratch, "local data error while talking to %s",
				   c->namaddr);
			client_broken(k, buf_cstr(&c->d->scratch));
		} else if (n == TOO_DEEP) {
			client_refuse_content(k, "MIME nesting exceeds safety limit");
		} else if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
			client_closed(k);
		} else if (n < 0 && errno != EINTR) {
			return;
		} else if (n > 0) {
			wrote(c, (size_t)n);
		} else if (n == 0) {
			client_broken(k, "queue record is cut short");
		}
	}
}

/* After a short read the socket is empty, and asking again costs a system call. But an end or an
 * error that came together with the last bytes gives no further edge: ask when the peer has hung
 * up, and when there is nothing to write by which we would learn of it. */
static bool must_ask_again(const struct conn *c, unsigned events)
{
	return (events & LOOP_HUP) != 0 ||
	       (!client_has_output(&c->client) && client_timeout_ms(&c->client) > 0);
}

static void take_bytes(struct conn *c, size_t n)
{
	if (c->encrypts)
		conn_tls_input(c, c->d->io, n);
	else
		client_input(&c->client, c->d->io, n);
}

static void lost(struct conn *c, const char *why)
{
	if (c->encrypts)
		conn_tls_lost(c, why);
	client_closed(&c->client);
}

static void read_replies(struct conn *c, unsigned events)
{
	/* d->io is free here: flush() uses it only between its own calls */
	for (unsigned i = 0; i < READ_ROUNDS && !c->dead; i++) {
		ssize_t n = recv(c->fd, c->d->io, sizeof(c->d->io), 0);

		if (n > 0) {
			take_bytes(c, (size_t)n);
			if ((size_t)n < sizeof(c->d->io) && !must_ask_again(c, events))
				return;
		} else if (n == 0) {
			lost(c, "lost connection");
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			return;
		} else if (errno != EINTR) {
			lost(c, strerror(errno));
		}
	}
	if (!c->dead)
		client_closed(
			&c->client); /* half a megabyte of replies at once is no conversation */
}

static void start_session(struct conn *c)
{
	c->state = CONN_OPEN;
	c->opened_ms = clock_now().ms;
	c->uses = 0;
	const struct nexthop_alt *alt = &c->dest->nh.alts[c->alt];

	client_init(&c->client, &c->dest->t->client, &engine_ops, c, sv_from(c->namaddr), alt->host,
		    c->dest->t->kind == TRANSPORT_SMTP && alt->port == 25);
	c->client_on = true;
	conn_talk_begin(c);
	conn_login_attach(c);
	if (c->tls != NULL)
		conn_tls_attach(c);
}

static void start_job(struct conn *c, struct job *j)
{
	j->conn = c;
	job_tx_prepare(j);
	client_start(&c->client, &j->tx);
}

/* The engine returned: act on what it said. The conn may be gone afterwards. */
static void after_engine(struct conn *c)
{
	struct dest *dest = c->dest;
	struct job *j;

	if (c->encrypts)
		conn_tls_step(c);
	if (!c->dead && c->job != NULL && c->uses == 0 && client_can_start(&c->client) &&
	    conn_tls_is_early(c))
		client_spoke_early(&c->client);
	while (!c->dead && client_can_start(&c->client)) {
		j = c->job;
		c->job = NULL;
		if (j == NULL && may_reuse(c))
			j = dest_take_fresh(dest);
		if (j == NULL)
			break;
		start_job(c, j);
	}
	flush(c);
	if (!c->dead && c->client.state == CLIENT_IDLE) {
		if (c->dest->t->cache && client_can_start(&c->client) && may_reuse(c)) {
			if (!c->idle)
				idle_add(c);
		} else {
			client_quit(&c->client);
			flush(c);
			c->dead = true;
		}
	}
	if (!c->dead) {
		conn_set_timer(c);
	} else if (c->job != NULL) {
		conn_close_socket(c);
		conn_next_host(c);
		return;
	} else {
		conn_free(c);
	}
	if (dest->first != NULL || dest->conn_count == 0)
		dest_pump(dest);
}

static void connected(struct conn *c, unsigned events)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) != 0)
		err = errno;
	if (err != 0) {
		conn_connect_fault(c, err);
		conn_close_socket(c);
		conn_next_host(c);
		return;
	}
	start_session(c);
	read_replies(c, events);
	after_engine(c);
}

void conn_on_socket(void *ctx, unsigned events)
{
	struct conn *c = ctx;

	clock_tick();
	if (c->state == CONN_CONNECTING) {
		connected(c, events);
		return;
	}
	if ((events & (LOOP_READ | LOOP_HUP)) != 0) {
		idle_remove(c);
		read_replies(c, events);
	} else if ((events & LOOP_WRITE) != 0 && !client_has_output(&c->client) && !c->encrypts) {
		return;
	}
	after_engine(c);
}

void conn_go_on(struct conn *c)
{
	after_engine(c);
}

void conn_resume_gated(struct deliver *d)
{
	for (unsigned n = d->gated_count; n > 0 && d->gated_first != NULL; n--) {
		struct conn *c = d->gated_first;
		struct client_tx *tx = c->client.content;

		if (tx != NULL && job_may_end(tx->ctx)) {
			after_engine(c);
			continue;
		}
		gate_leave(c);
		if (tx != NULL)
			gate_enter(c);
	}
}

void conn_reuse(struct conn *c, struct job *j)
{
	idle_remove(c);
	c->job = j;
	after_engine(c);
}

void conn_close_idle(struct conn *c)
{
	idle_remove(c);
	client_quit(&c->client);
	flush(c);
	conn_free(c);
}

void conn_timer_fired(void *ctx UNUSED, struct twheel_node *n)
{
	struct conn *c = container_of(n, struct conn, timer);

	if (c->state == CONN_CONNECTING) {
		conn_connect_fault(c, ETIMEDOUT);
		conn_close_socket(c);
		conn_next_host(c);
	} else if (c->idle) {
		struct dest *dest = c->dest;

		conn_close_idle(c);
		dest_pump(dest);
	} else if (c->pause_until_ms > 0) {
		after_engine(c);
	} else {
		if (c->encrypts)
			conn_tls_lost(c, strerror(ETIMEDOUT));
		client_timed_out(&c->client);
		after_engine(c);
	}
}
