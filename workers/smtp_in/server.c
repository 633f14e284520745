/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Accepting, peers, ticks, and what sessions ask for; see workers/smtp_in/server.h. */
#include "workers/smtp_in/server.h"
#include "workers/dns/filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/mail/date.h"
#include "workers/milter/codec.h"
#include "workers/smtp_in/filterconn.h"
#include "workers/smtp_in/screenconn.h"
#include "workers/smtp_in/sessmilter.h"

#define TICK_MS           250
#define ACCEPTS_PER_EVENT 64
#define ACCEPT_PAUSE_MS   1000 /* when descriptors ran out */
#define FULL_PAUSE_MS     TICK_MS
#define SWEEP_MS          10000
#define REPORT_MS         10000
#define STRESS_MS         1000000 /* after the last time it was nearly full; Postfix's master */
#define OTHER_FDS         192     /* rings, regions and tables of a process */
#define DNS_TIMEOUT_MS    10000
#define NOTICE_BURST      10
#define NOTICE_MS         60000
#define NO_SESSION        UINT32_MAX /* whose notices nobody waits for */

/* ---- session_ops ---- */

static int op_may_accept(void *ctx, struct session *s UNUSED)
{
	struct server *sv = ctx;
	const struct board_shm *b = sv->worker->board;

	if (atomic_load_explicit(&b->spool_low, memory_order_relaxed) != 0 ||
	    atomic_load_explicit(&b->queue_full, memory_order_relaxed) != 0)
		return E_NOSPC;
	return content_has_peer(&sv->pool) ? 0 : E_CONFIG;
}

static struct qid op_new_qid(void *ctx)
{
	struct server *sv = ctx;

	return qid_make(&sv->qids);
}

static int op_begin(void *ctx, struct session *s, struct sv envelope, struct sv head)
{
	struct server *sv = ctx;
	struct proto_qid qid = { .time_us = s->tx->qid.time_us, .life = s->tx->qid.life };

	return content_begin_at(&sv->pool, &s->tx->content, s, s->number, qid, envelope, head,
				s->milter.number != 0 ? s->milter.peer : CONTENT_MAX_PEERS,
				session_milter_sees(s) ? SUBMIT_MILTER : 0);
}

static char *op_room(void *ctx, struct session *s, size_t *len_r)
{
	struct server *sv = ctx;

	return content_room(&sv->pool, &s->tx->content, len_r);
}

static void op_advance(void *ctx, struct session *s, size_t len)
{
	struct server *sv = ctx;

	content_advance(&sv->pool, &s->tx->content, len);
}

static void op_end(void *ctx, struct session *s)
{
	struct server *sv = ctx;

	content_end(&sv->pool, &s->tx->content);
}

static void op_abort(void *ctx, struct session *s)
{
	struct server *sv = ctx;

	content_abort(&sv->pool, &s->tx->content);
}

static unsigned op_rate(void *ctx, struct session *s, enum client_rate kind)
{
	struct server *sv = ctx;

	return limits_count(sv->limits, conn_of(s)->client, kind);
}

/* To the rewrite worker that will get the session's messages. */
static int op_milter(void *ctx, struct session *s, char command, unsigned flags, struct sv strings)
{
	static char rec[sizeof(struct proto_milter_event) + PROTO_MILTER_TEXT_MAX];
	struct server *sv = ctx;

	if (command == MILTER_CONNECT) {
		s->milter.peer = content_peer_of(&sv->pool, s->number);
		s->milter.number = ++sv->last_milter != 0 ? sv->last_milter : ++sv->last_milter;
	}
	if (s->milter.peer >= CONTENT_MAX_PEERS || sv->rewrites[s->milter.peer] == NULL)
		return E_CONFIG;
	struct proto_milter_event e = {
		.kind = PROTO_MILTER_EVENT,
		.session = s->number,
		.milter = s->milter.number,
		.listener = (uint16_t)s->listener->index,
		.command = (uint8_t)command,
		.flags = (uint8_t)flags,
		.text_len = (uint32_t)size_min(strings.len, PROTO_MILTER_TEXT_MAX),
	};

	memcpy(rec, &e, sizeof(e));
	if (e.text_len > 0)
		memcpy(rec + sizeof(e), strings.p, e.text_len);
	worker_send(sv->worker, sv->rewrites[s->milter.peer]->link, rec, sizeof(e) + e.text_len);
	return 0;
}

/* A question of a restriction. It outlives neither its session nor its answer. */
struct policy_query {
	struct dns_query *query;
	struct session *session;
	uint16_t rrtype;
	bool in_call, over;
};

/* The strings of each record in a row, records with " / " between them. */
static void join_texts(const struct dns_answer *a, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < a->count; i++) {
		const unsigned char *p = a->rrs[i].data, *end = p + a->rrs[i].data_len;

		if (i > 0 && n + 3 < size) {
			memcpy(out + n, " / ", 3);
			n += 3;
		}
		while (p < end) { /* its shape was checked when it was parsed */
			size_t len = size_min(*p, size - 1 - n);

			memcpy(out + n, p + 1, len);
			n += len;
			p += *p + 1;
		}
	}
	str_make_printable(out, n);
	out[n] = '\0';
}

static void add_record(const struct dns_rr *rr, struct policy_dns *out, struct policy_rr *to)
{
	switch (rr->type) {
	case DNS_T_A:
		if (out->a_count < ARRAY_LEN(out->a))
			out->a[out->a_count++] = ntohl(rr->a.s_addr);
		*to = (struct policy_rr){ .addr = &rr->a };
		break;
	case DNS_T_AAAA:
		*to = (struct policy_rr){ .addr = &rr->aaaa, .is_v6 = true };
		break;
	case DNS_T_MX:
	case DNS_T_NS:
		*to = (struct policy_rr){ .name = rr->name, .pref = rr->pref };
		break;
	default:
		return;
	}
	out->rr_count++;
}

/* `rrs` has room for DNS_RR_MAX; they and the answer live as long as the callback. */
static void to_policy(const struct dns_answer *a, uint16_t rrtype, struct policy_dns *out,
		      struct policy_rr *rrs)
{
	*out = (struct policy_dns){ .rrs = rrs, .nodata = a->status == DNS_NODATA };
	switch (a->status) {
	case DNS_OK:
		out->status = POLICY_DNS_OK;
		break;
	case DNS_NXDOMAIN:
	case DNS_NODATA:
		out->status = POLICY_DNS_NONE;
		return;
	case DNS_TEMP:
		out->status = POLICY_DNS_TEMP;
		return;
	case DNS_BADNAME:
		out->status = POLICY_DNS_INVALID;
		return;
	}
	if (rrtype == DNS_T_MX && a->count == 1 && a->rrs[0].name[0] == '\0')
		out->status = POLICY_DNS_NULLMX;
	for (size_t i = 0; i < a->count; i++)
		add_record(&a->rrs[i], out, &rrs[out->rr_count]);
	if (rrtype == DNS_T_TXT)
		join_texts(a, out->txt, sizeof(out->txt));
}

static void policy_answer(void *ctx, const struct dns_answer *a)
{
	struct policy_query *q = ctx;
	struct session *s = q->session;
	struct policy_rr rrs[DNS_RR_MAX];
	struct dns_filtered *filtered;
	struct policy_dns dns;
	bool in_call = q->in_call;

	filtered = dns_filter(s->listener->dns_filter, s->run->need.name, q->rrtype, a);
	to_policy(filtered != NULL ? &filtered->answer : a, q->rrtype, &dns, rrs);
	q->over = true;
	if (!in_call)
		free(q);
	session_dns_answer(s, &dns);
	free(filtered);
	if (!in_call)
		conn_queue(conn_of(s));
}

static void *op_dns(void *ctx, struct session *s, const char *name, uint16_t rrtype)
{
	struct server *sv = ctx;
	struct policy_dns temp = { .status = POLICY_DNS_TEMP };

	if (sv->resolver == NULL) {
		session_dns_answer(s, &temp);
		return NULL;
	}
	struct policy_query *q = xcalloc(1, sizeof(*q));

	q->session = s;
	q->rrtype = rrtype;
	q->in_call = true;
	q->query = dns_ask(sv->dns, sv_from(name), rrtype, policy_answer, q);
	q->in_call = false;
	if (!q->over)
		return q;
	free(q);
	return NULL;
}

static void op_dns_cancel(void *ctx UNUSED, void *query)
{
	struct policy_query *q = query;

	dns_cancel(q->query);
	free(q);
}

static void tables_answered(void *ctx)
{
	struct session *s = ctx;

	session_tables_answered(s);
	conn_queue(conn_of(s));
}

static void *op_tables(void *ctx, struct session *s, struct map_memo *memo)
{
	struct server *sv = ctx;

	/* policy services have times of their own */
	return tables_fetch_within(sv->tables, memo, s->run != NULL ? s->run->need.time_ms : 0,
				   tables_answered, s);
}

static void op_tables_cancel(void *ctx UNUSED, void *query)
{
	tables_cancel(query);
}

static void op_peer_changed(void *ctx UNUSED, struct session *s)
{
	struct conn *c = conn_of(s);
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	const struct sockaddr *sa = NULL;

	if (inet_pton(AF_INET, s->addr, &v4.sin_addr) == 1)
		sa = (const struct sockaddr *)&v4;
	else if (inet_pton(AF_INET6, s->addr, &v6.sin6_addr) == 1)
		sa = (const struct sockaddr *)&v6;
	if (sa == NULL)
		return; /* "unknown" */
	memset(&c->sa, 0, sizeof(c->sa));
	memcpy(&c->sa, sa, sa->sa_family == AF_INET ? sizeof(v4) : sizeof(v6));
	conn_rekey(c);
}

/* Clients decide how many errors there are, so notices have an allowance: NOTICE_BURST, and one
 * more each NOTICE_MS. */
static bool may_notice(struct server *sv)
{
	int64_t now = clock_now().ms;

	if (sv->notice_at_ms < now)
		sv->notice_at_ms = now;
	if (sv->notice_at_ms - now > (NOTICE_BURST - 1) * NOTICE_MS) {
		if (sv->notices_held++ == 0)
			log_warn("sessions with errors come too fast: not every one is told to the "
				 "postmaster");
		counter_add(session_counters, CTR_smtpd_notices_held, 1);
		return false;
	}
	sv->notice_at_ms += NOTICE_MS;
	return true;
}

static void add_trace(const struct params *p, struct qid id, struct buf *out)
{
	char text[QID_TEXT_SIZE];
	int64_t now_s = clock_now_wall().us / 1000000;

	qid_format(id, text);
	buf_printf(out, "Received: by %s (%s)\r\n\tid %s; ", p->myhostname, p->mail_name, text);
	mail_date_add(now_s, out);
	buf_add_str(out, "\r\nDate: ");
	mail_date_add(now_s, out);
	buf_printf(out, "\r\nMessage-Id: <%s@%s>\r\n", text, p->myhostname);
}

static void op_notice(void *ctx, struct session *s, const char *to, struct buf *content)
{
	struct server *sv = ctx;
	struct content c = { 0 };
	struct buf env = BUF_INIT, rcpt_text = BUF_INIT, sender = BUF_INIT;
	const struct params *p = s->listener->p;
	struct qid id;

	if (!may_notice(sv))
		return;
	if (sv->notices_held > 0)
		buf_printf(content,
			   "\r\nSessions with errors that came too fast to be told: %u\r\n",
			   sv->notices_held);
	sv->notices_held = 0;
	buf_add_str(&sender, p->double_bounce_sender);
	if (strchr(p->double_bounce_sender, '@') == NULL)
		buf_printf(&sender, "@%s", p->myorigin);
	buf_add_str(&rcpt_text, to);
	struct env_rcpt rcpt = { .addr = buf_sv(&rcpt_text), .notify = NOTIFY_NEVER };
	struct envelope e = { .sender = buf_sv(&sender),
			      .arrival_us = clock_now_wall().us,
			      .flags = ENVF_INTERNAL,
			      .cleanup = sv_from(s->listener->cleanup),
			      .rcpts = &rcpt,
			      .rcpt_count = 1 };

	id = qid_make(&sv->qids);
	struct proto_qid qid = { .time_us = id.time_us, .life = id.life };
	struct buf text = BUF_INIT;
	int err = env_encode(&e, &env);

	add_trace(p, id, &text);
	buf_add_sv(&text, buf_sv(content));

	if (err == 0)
		err = content_begin(&sv->pool, &c, NULL, NO_SESSION, qid, buf_sv(&env),
				    buf_sv(&text));
	if (err == 0) {
		content_end(&sv->pool, &c);
		counter_add(session_counters, CTR_smtpd_notices, 1);
	} else {
		content_abort(&sv->pool, &c);
		log_warn("postmaster notify: %s", err_str(err));
	}
	buf_fini(&env);
	buf_fini(&rcpt_text);
	buf_fini(&text);
	buf_fini(&sender);
}

/* ---- content_ops ---- */

static void content_send(void *ctx, uint32_t peer, const struct proto_submit *rec)
{
	struct server *sv = ctx;

	worker_send(sv->worker, sv->rewrites[peer]->link, rec, sizeof(*rec));
}

static void content_accuse(void *ctx, uint32_t peer, const char *why)
{
	struct server *sv = ctx;

	worker_accuse(sv->worker, sv->rewrites[peer], why);
}

static void content_has_room(void *ctx UNUSED, void *owner)
{
	struct session *s = owner;

	session_room(s);
	conn_queue(conn_of(s));
}

/* ---- accepting ---- */

static void pause_accepting(struct server *sv, bool pause)
{
	for (unsigned i = 0; i < sv->accepting_count; i++) {
		struct server_listener *a = &sv->accepting[i];

		if (a->paused != pause) {
			a->paused = pause;
			loop_fd_mod(sv->loop, &a->lf, pause ? 0 : LOOP_READ);
		}
	}
}

static void stop_for(struct server *sv, int64_t ms)
{
	sv->resume_accept_ms = clock_now().ms + ms;
	pause_accepting(sv, true);
}

/* No descriptors or memory. The clients stay in the kernel's queue, or go to another process. */
static void accept_failed(struct server *sv, int err)
{
	counter_add(session_counters, CTR_smtpd_accept_errors, 1);
	stop_for(sv, ACCEPT_PAUSE_MS);
	if (clock_now().ms < sv->next_error_log_ms)
		return;
	sv->next_error_log_ms = clock_now().ms + REPORT_MS;
	log_warn("accept connection: %s", strerror(err));
}

static void now_full(struct server *sv, const struct listener *l)
{
	counter_add(session_counters, CTR_smtpd_full, 1);
	stop_for(sv, FULL_PAUSE_MS);
	if (clock_now().ms < sv->next_full_log_ms)
		return;
	sv->next_full_log_ms = clock_now().ms + REPORT_MS;
	log_warn("service \"%s\" has reached its session limit \"%u\": new clients may experience "
		 "noticeable delays",
		 l->service_name, sv->capacity);
}

/* From seven eighths of what there is room for: the last eighth is for those that are quick, so
 * that clients that stay for long cannot have it all. */
static void check_stress(struct server *sv)
{
	int64_t now = clock_now().ms;

	if (sv->conn_count >= sv->capacity - sv->capacity / 8) {
		sv->stress_until_ms = now + STRESS_MS;
		if (!sv->stress)
			log_info("entering STRESS mode with %u connections", sv->conn_count);
		sv->stress = true;
	} else if (sv->stress && now >= sv->stress_until_ms) {
		log_info("leaving STRESS mode with %u connections", sv->conn_count);
		sv->stress = false;
	}
	gauge_set(session_counters, GAU_smtpd_stress, sv->stress);
}

static void on_accept(void *ctx, unsigned events UNUSED)
{
	struct server_listener *a = ctx;
	struct server *sv = a->server;

	for (int i = 0; i < ACCEPTS_PER_EVENT && !a->paused; i++) {
		struct sockaddr_storage sa = { 0 };
		socklen_t len = sizeof(sa);
		int fd = accept4(a->fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0) {
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				accept_failed(sv, errno);
			return;
		}
		check_stress(sv);
		conn_accept(sv, sv->stress ? a->stress_listener : a->listener, fd, &sa);
		if (sv->conn_count >= sv->capacity)
			now_full(sv, a->listener);
	}
}

static void on_tick(void *ctx)
{
	struct server *sv = ctx;
	int64_t now = clock_now().ms;

	loop_timer_set(&sv->tick, TICK_MS);
	twheel_run(&sv->wheel, now, conn_timer, sv);
	dns_client_tick(sv->dns);
	tables_client_tick(sv->tables);
	if (sv->stress)
		check_stress(sv);
	if (sv->resume_accept_ms != 0 && now >= sv->resume_accept_ms && !sv->draining &&
	    sv->conn_count < sv->capacity) {
		sv->resume_accept_ms = 0;
		pause_accepting(sv, false);
	}
	if (now >= sv->next_sweep_ms) {
		sv->next_sweep_ms = now + SWEEP_MS;
		limits_sweep(sv->limits);
	}
}

/* ---- start ---- */

/* Asked while it may be: the sandbox allows nothing about limits. */
static uint32_t room_for_sessions(const struct params *p)
{
	uint32_t limit = (uint32_t)p->smtpd_session_limit;
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) != 0 || rl.rlim_cur >= limit + (rlim_t)OTHER_FDS)
		return limit;
	uint32_t room = rl.rlim_cur > 2 * OTHER_FDS ? (uint32_t)rl.rlim_cur - OTHER_FDS
						    : (uint32_t)rl.rlim_cur / 2;

	return room > 0 ? room : 1;
}

/* Kept until the process ends, as listeners are. */
static int screen_load(struct server *sv, unsigned i, const struct conf *c, struct conf_diag *d)
{
	const struct conf_service *s = conf_listener(c, i)->screen;
	struct screen_conf *k = NULL;
	int err = s != NULL ? screen_conf_new(c, s, d, &k) : 0;

	sv->listeners[i].screen = sv->stress_listeners[i].screen = k;
	return err;
}

int server_load(struct server *sv, const struct conf *c)
{
	struct conf_diag d;
	int status = 0;

	conf_diag_init(&d);
	sv->capacity = room_for_sessions(conf_params(c));
	sv->listener_count = conf_listener_count(c);
	sv->listeners = xcalloc(size_max(sv->listener_count, 1), sizeof(*sv->listeners));
	sv->stress_listeners =
		xcalloc(size_max(sv->listener_count, 1), sizeof(*sv->stress_listeners));
	for (unsigned i = 0; i < sv->listener_count; i++) {
		if (listener_init(&sv->listeners[i], c, conf_listener(c, i)->service, &d) != 0 ||
		    listener_init_stress(&sv->stress_listeners[i], &sv->listeners[i], c, &d) != 0)
			status = E_CONFIG;
		else if (screen_load(sv, i, c, &d) != 0)
			status = E_CONFIG;
		sv->listeners[i].index = sv->stress_listeners[i].index = i;
	}
	conf_diag_log(&d);
	if (status == 0 && sv->capacity < conf_params(c)->smtpd_session_limit)
		log_info("room for %u sessions: the limit of open files is below "
			 "smtpd_session_limit",
			 sv->capacity);
	conf_diag_fini(&d);
	return status;
}

static bool op_crowd(void *ctx UNUSED, struct session *s)
{
	return conn_is_crowd(conn_of(s));
}

static void setup_ops(struct server *sv)
{
	sv->session_ops = (struct session_ops){
		.may_accept = op_may_accept,
		.new_qid = op_new_qid,
		.begin = op_begin,
		.room = op_room,
		.advance = op_advance,
		.end = op_end,
		.abort = op_abort,
		.dns = op_dns,
		.dns_cancel = op_dns_cancel,
		.tables = op_tables,
		.tables_cancel = op_tables_cancel,
		.milter = op_milter,
		.auth = auth_links_ask,
		.auth_offer = auth_links_offer,
		.rate = op_rate,
		.peer_changed = op_peer_changed,
		.crowd = op_crowd,
		.notice = op_notice,
		.filter_open = filterconn_open,
		.filter_kick = filterconn_kick,
		.filter_close = filterconn_close,
		.ctx = sv,
	};
	sv->content_ops = (struct content_ops){
		.send = content_send,
		.accuse = content_accuse,
		.room = content_has_room,
		.ctx = sv,
	};
}

static void start_accepting(struct server *sv)
{
	struct worker *w = sv->worker;
	int one = 1;

	for (unsigned i = 0; i < w->listener_count; i++) {
		const struct worker_listener *l = &w->listeners[i];

		if (l->index >= sv->listener_count)
			continue;
		struct server_listener *a = &sv->accepting[sv->accepting_count++];

		a->server = sv;
		a->fd = l->fd;
		a->listener = &sv->listeners[l->index];
		a->stress_listener = &sv->stress_listeners[l->index];
		/* accepted sockets inherit it */
		setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		loop_fd_add(sv->loop, &a->lf, l->fd, LOOP_READ, on_accept, a);
	}
}

int server_start(struct server *sv, struct worker *w)
{
	sv->worker = w;
	sv->loop = w->loop;
	sv->p = w->params;
	sv->ready_tail = &sv->ready_head;
	sv->qids.life = w->life;
	session_counters = w->counters;
	setup_ops(sv);
	int err = content_pool_init(&sv->pool, &w->blocks, &sv->content_ops);

	if (err != 0)
		return err;
	sv->limits = limits_new(sv->p);
	sv->dns = dns_client_new(DNS_TIMEOUT_MS, w->counters);
	sv->auths = auth_links_new(w->conf);
	sv->tables = tables_client_new(sv->p->lookup_timeout, w->counters);
	twheel_init(&sv->wheel, TICK_MS, clock_now().ms);
	loop_timer_init(sv->loop, &sv->tick, on_tick, sv);
	loop_timer_set(&sv->tick, TICK_MS);
	filterconn_start(sv);
	screenconn_start(sv);
	start_accepting(sv);
	return 0;
}

/* ---- peers ---- */

void server_attach(struct server *sv, struct worker_peer *peer)
{
	if (peer->class_id == CLASS_RESOLVER) {
		sv->resolver = peer;
		dns_client_set_link(sv->dns, peer->link);
		return;
	}
	if (peer->class_id == CLASS_LOOKUP) {
		sv->lookup = peer;
		tables_client_set_link(sv->tables, peer->link);
		return;
	}
	if (peer->class_id == CLASS_AUTH)
		auth_links_attach(sv, peer);
	if (peer->class_id == CLASS_VERIFY) {
		sv->verify = peer;
		tables_client_set_verify(sv->tables, peer->link);
		screenconn_attached(sv);
		return;
	}
	if (peer->class_id != CLASS_REWRITE)
		return;
	for (uint32_t i = 0; i < CONTENT_MAX_PEERS; i++) {
		if (sv->rewrites[i] == NULL) {
			sv->rewrites[i] = peer;
			content_peer_add(&sv->pool, i);
			return;
		}
	}
	log_warn("too many rewrite workers: one is not used");
}

static uint32_t rewrite_index(const struct server *sv, const struct worker_peer *peer)
{
	uint32_t i = 0;

	while (i < CONTENT_MAX_PEERS && sv->rewrites[i] != peer)
		i++;
	return i;
}

static void rewrite_lost(struct server *sv, uint32_t index)
{
	content_peer_remove(&sv->pool, index);
	sv->rewrites[index] = NULL;
	for (uint32_t n = 0; n < sv->conn_cap; n++) {
		struct conn *c = sv->conns[n];

		if (c != NULL && c->session.milter.number != 0 && c->session.milter.peer == index) {
			session_milter_lost(&c->session);
			conn_queue(c);
		}
		if (c == NULL || c->session.tx == NULL || c->session.tx->content.tx == 0 ||
		    c->session.tx->content.peer != index || !c->session.tx->begun)
			continue;
		session_submit_lost(&c->session);
		conn_queue(c);
	}
}

void server_detach(struct server *sv, struct worker_peer *peer)
{
	uint32_t index = rewrite_index(sv, peer);

	if (peer == sv->resolver) {
		sv->resolver = NULL;
		dns_client_set_link(sv->dns, NULL);
	} else if (peer == sv->lookup) {
		sv->lookup = NULL;
		tables_client_set_link(sv->tables, NULL);
	} else if (peer->class_id == CLASS_AUTH) {
		auth_links_detach(sv, peer);
	} else if (peer == sv->verify) {
		sv->verify = NULL;
		tables_client_set_verify(sv->tables, NULL);
	} else if (index < CONTENT_MAX_PEERS) {
		rewrite_lost(sv, index);
	}
}

static void on_done(struct server *sv, uint32_t peer, const void *rec, size_t len)
{
	struct proto_submit_done d;

	if (len < sizeof(d)) {
		content_accuse(sv, peer, "short verdict");
		return;
	}
	memcpy(&d, rec, sizeof(d));
	if (!proto_len_ok(len, sizeof(d), d.text_len, 1)) {
		content_accuse(sv, peer, "verdict with a bad length");
		return;
	}
	struct conn *c = d.session < sv->conn_cap ? sv->conns[d.session] : NULL;

	/* the client may have gone, and its number may be another's by now */
	if (c == NULL || c->session.tx == NULL || c->session.tx->content.tx != d.tx || d.tx == 0 ||
	    c->session.tx->content.peer != peer)
		return;
	struct session *s = &c->session;

	if (s->tx->content.ended)
		session_submit_done(s, (enum submit_verdict)d.verdict, d.code, d.dsn,
				    (struct sv){ (const char *)rec + sizeof(d), d.text_len });
	else /* it gave up before the end */
		session_submit_lost(s);
	conn_queue(c);
}

static void on_milter(struct server *sv, uint32_t peer, const void *rec, size_t len)
{
	struct proto_milter_reply m;

	if (len >= sizeof(m))
		memcpy(&m, rec, sizeof(m));
	if (len < sizeof(m) || !proto_len_ok(len, sizeof(m), m.text_len, 1) ||
	    m.text_len > PROTO_MILTER_REPLY_MAX) {
		content_accuse(sv, peer, "reply of milters with a bad length");
		return;
	}
	struct conn *c = m.session < sv->conn_cap ? sv->conns[m.session] : NULL;
	struct sv text = { (const char *)rec + sizeof(m), m.text_len };

	if (c == NULL || m.milter == 0 || c->session.milter.number != m.milter ||
	    c->session.milter.peer != peer)
		return;
	if (memchr(text.p, '\0', text.len) != NULL)
		text.len = 0;
	session_milter_reply(&c->session, m.flags, text);
	conn_queue(c);
}

void server_record(struct server *sv, struct worker_peer *peer, const void *rec, size_t len)
{
	uint32_t index = rewrite_index(sv, peer);
	uint32_t kind = 0;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (peer == sv->resolver && kind == PROTO_DNS_ANSWER) {
		dns_client_input(sv->dns, rec, len);
	} else if (peer == sv->lookup && kind == PROTO_TABLE_ANSWER) {
		if (tables_client_input(sv->tables, rec, len) != 0)
			worker_accuse(sv->worker, peer, "malformed answer");
	} else if (peer->class_id == CLASS_AUTH) {
		if (auth_links_record(sv, peer, rec, len) != 0)
			worker_accuse(sv->worker, peer, "malformed answer about a login");
	} else if (peer == sv->verify && kind == PROTO_TABLE_ANSWER) {
		if (tables_client_verified(sv->tables, rec, len) != 0)
			worker_accuse(sv->worker, peer, "malformed answer");
	} else if (peer == sv->verify && kind == PROTO_SCREEN_ANSWER) {
		if (screenconn_record(sv, rec, len) != 0)
			worker_accuse(sv->worker, peer, "malformed answer about a client");
	} else if (index < CONTENT_MAX_PEERS && kind == PROTO_SUBMIT_DONE) {
		on_done(sv, index, rec, len);
	} else if (index < CONTENT_MAX_PEERS && kind == PROTO_MILTER_REPLY) {
		on_milter(sv, index, rec, len);
	} else if (index < CONTENT_MAX_PEERS && kind == PROTO_SUBMIT_FREE &&
		   len == sizeof(struct proto_submit_free)) {
		struct proto_submit_free f;

		memcpy(&f, rec, sizeof(f));
		content_freed(&sv->pool, index, &f);
	} else {
		worker_accuse(sv->worker, peer, "unexpected record");
	}
}

/* ---- turns ---- */

bool server_turn(struct server *sv)
{
	content_serve_queue(&sv->pool);
	struct conn *list = sv->ready_head;

	/* only those queued by now: what they queue again waits for the next turn */
	sv->ready_head = NULL;
	sv->ready_tail = &sv->ready_head;
	while (list != NULL) {
		struct conn *c = list;

		list = c->next_ready;
		c->queued = false;
		conn_step(c);
	}
	if (sv->draining) {
		server_drain(sv);
		if (sv->conn_count == 0)
			worker_exit(sv->worker);
	}
	return sv->ready_head != NULL;
}

void server_drain(struct server *sv)
{
	sv->draining = true;
	pause_accepting(sv, true);
	/* after a reload the sessions go on as long as their clients like; a stop ends idle ones */
	if (atomic_load_explicit(&sv->worker->board->stopping, memory_order_relaxed) == 0)
		return;
	for (uint32_t n = 0; n < sv->conn_cap; n++) {
		struct conn *c = sv->conns[n];

		if (c == NULL)
			continue;
		if (c->screen != NULL) {
			screenconn_drain(c);
			continue;
		}
		session_drain(&c->session);
		if (session_is_over(&c->session) || c->session.out.len > 0)
			conn_queue(c);
	}
}
