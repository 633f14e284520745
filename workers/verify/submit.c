/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Probes on their way into the queue; see workers/verify/submit.h. Called by main.c. */
#include "workers/verify/submit.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/qid.h"
#include "lib/util.h"
#include "workers/mail/date.h"
#include "workers/mail/envelope.h"
#include "workers/mail/probeaddr.h"
#include "workers/smtp_in/content.h"

#define PEER_WAIT_MS 10000 /* for a rewrite worker */

struct outgoing {
	struct outgoing *next;
	struct submitter *s;
	struct content content;
	struct buf env, head;
	struct qid qid;
	uint32_t number;
	int64_t since_ms;
	bool begun;
	size_t addr_len;
	char addr[];
};

struct submitter {
	struct worker *w;
	struct content_pool pool;
	struct content_ops ops;
	struct worker_peer *rewrites[CONTENT_MAX_PEERS];
	struct qid_source ids;
	struct outgoing *all;
	uint32_t last_number;
	bool utf8; /* smtputf8_autodetect_classes has verify */
	submitter_fn ended;
	void *ctx;
};

/* ---- one probe ---- */

static void outgoing_free(struct outgoing *o)
{
	struct outgoing **at = &o->s->all;

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	content_abort(&o->s->pool, &o->content);
	buf_fini(&o->env);
	buf_fini(&o->head);
	free(o);
}

static void failed(struct outgoing *o)
{
	struct submitter *s = o->s;

	s->ended(s->ctx, (struct sv){ o->addr, o->addr_len }, (const uint8_t[]){ 4, 3, 0 },
		 SV("Address verification status unavailable"));
	outgoing_free(o);
}

static int make_envelope(struct outgoing *o)
{
	const struct params *p = o->s->w->params;
	struct sv addr = { o->addr, o->addr_len };
	struct env_rcpt rcpt = { .addr = addr, .notify = NOTIFY_NEVER };
	struct buf sender = BUF_INIT;
	struct probe_addr from = { .sender = p->address_verify_sender,
				   .myorigin = p->myorigin,
				   .ttl_s = p->address_verify_sender_ttl / 1000 };
	int64_t now_us = clock_now_wall().us;

	probe_addr_make(&from, now_us / 1000000, &sender);
	struct envelope env = { .sender = buf_sv(&sender),
				.verify = addr,
				.flags = ENVF_PROBE | ENVF_LOCAL_CLIENT | ENVF_NO_MILTERS,
				.body = BODY_7BIT,
				.arrival_us = now_us,
				.rcpts = &rcpt,
				.rcpt_count = 1 };

	if (o->s->utf8 && !str_is_ascii(addr.p, addr.len))
		env.flags |= ENVF_SMTPUTF8;
	int err = env_encode(&env, &o->env);

	buf_fini(&sender);
	return err;
}

static void make_head(struct outgoing *o)
{
	const struct params *p = o->s->w->params;
	char id[QID_TEXT_SIZE];

	buf_printf(&o->head, "Received: by %s (%s)\r\n\tid %s; ", p->myhostname, p->mail_name,
		   qid_format(o->qid, id));
	mail_date_add(clock_now_wall().us / 1000000, &o->head);
	buf_printf(&o->head, "\r\nMessage-ID: <%s@%s>\r\n\r\n", id, p->myhostname);
}

static void begin(struct outgoing *o)
{
	struct submitter *s = o->s;
	struct proto_qid id = { .time_us = o->qid.time_us, .life = o->qid.life };
	int err = content_begin(&s->pool, &o->content, o, o->number, id, buf_sv(&o->env),
				buf_sv(&o->head));

	/* queued for room, or no rewrite worker is linked just now */
	if (err == E_AGAIN || (err == E_CONFIG && clock_now().ms - o->since_ms < PEER_WAIT_MS))
		return;
	if (err != 0) {
		failed(o);
		return;
	}
	o->begun = true;
	content_end(&s->pool, &o->content);
}

void submitter_send(struct submitter *s, struct sv addr)
{
	struct outgoing *o = xcalloc(1, sizeof(*o) + addr.len + 1);

	memcpy(o->addr, addr.p, addr.len);
	o->addr_len = addr.len;
	o->s = s;
	o->next = s->all;
	s->all = o;
	o->qid = qid_make(&s->ids);
	o->number = ++s->last_number;
	o->since_ms = clock_now().ms;
	make_head(o);
	if (make_envelope(o) != 0)
		failed(o);
	else
		begin(o);
}

/* ---- what rewrite says ---- */

static uint32_t index_of(const struct submitter *s, const struct worker_peer *peer)
{
	uint32_t i = 0;

	while (i < CONTENT_MAX_PEERS && s->rewrites[i] != peer)
		i++;
	return i;
}

static void on_done(struct submitter *s, uint32_t peer, const void *rec, size_t len)
{
	struct proto_submit_done d = { 0 };

	if (len >= sizeof(d))
		memcpy(&d, rec, sizeof(d));
	if (len < sizeof(d) || !proto_len_ok(len, sizeof(d), d.text_len, 1)) {
		worker_accuse(s->w, s->rewrites[peer], "verdict with a bad length");
		return;
	}
	for (struct outgoing *o = s->all; o != NULL; o = o->next) {
		if (!o->begun || d.tx == 0 || o->content.tx != d.tx || o->content.peer != peer)
			continue;
		struct sv text = { (const char *)rec + sizeof(d), d.text_len };

		if (d.verdict == SUBMIT_DISCARDED)
			s->ended(s->ctx, (struct sv){ o->addr, o->addr_len }, d.dsn, text);
		if (d.verdict == SUBMIT_OK || d.verdict == SUBMIT_DISCARDED)
			outgoing_free(o);
		else
			failed(o);
		return;
	}
}

bool submitter_record(struct submitter *s, struct worker_peer *peer, const void *rec, size_t len)
{
	uint32_t index = index_of(s, peer), kind = 0;
	struct proto_submit_free f;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (index == CONTENT_MAX_PEERS)
		return false;
	if (kind == PROTO_SUBMIT_DONE) {
		on_done(s, index, rec, len);
	} else if (kind == PROTO_SUBMIT_FREE && len == sizeof(f)) {
		memcpy(&f, rec, sizeof(f));
		content_freed(&s->pool, index, &f);
	} else {
		return false;
	}
	return true;
}

void submitter_attach(struct submitter *s, struct worker_peer *peer)
{
	uint32_t i = index_of(s, NULL);

	if (peer->class_id != CLASS_REWRITE || i == CONTENT_MAX_PEERS)
		return;
	s->rewrites[i] = peer;
	content_peer_add(&s->pool, i);
}

/* A probe that it had may be in the queue all the same: a second one does no harm. */
void submitter_detach(struct submitter *s, struct worker_peer *peer)
{
	uint32_t index = index_of(s, peer);

	if (index == CONTENT_MAX_PEERS)
		return;
	content_peer_remove(&s->pool, index);
	s->rewrites[index] = NULL;
	for (struct outgoing *o = s->all; o != NULL; o = o->next) {
		if (!o->begun || o->content.peer != index)
			continue;
		content_abort(&s->pool, &o->content);
		o->content = (struct content){ 0 };
		o->qid = qid_make(&s->ids);
		o->since_ms = clock_now().ms;
		o->begun = false;
		buf_reset(&o->head);
		make_head(o);
	}
}

void submitter_turn(struct submitter *s)
{
	struct outgoing *next;

	for (struct outgoing *o = s->all; o != NULL; o = next) {
		next = o->next;
		if (!o->begun && !o->content.waiting)
			begin(o);
	}
	content_serve_queue(&s->pool);
}

/* ---- life ---- */

static void content_send(void *ctx, uint32_t peer, const struct proto_submit *rec)
{
	struct submitter *s = ctx;

	worker_send(s->w, s->rewrites[peer]->link, rec, sizeof(*rec));
}

static void content_accuse(void *ctx, uint32_t peer, const char *why)
{
	struct submitter *s = ctx;

	worker_accuse(s->w, s->rewrites[peer], why);
}

static void content_has_room(void *ctx UNUSED, void *owner)
{
	struct outgoing *o = owner;

	if (!o->begun)
		begin(o);
}

int submitter_new(struct worker *w, submitter_fn ended, void *ctx, struct submitter **s_r)
{
	struct submitter *s = xcalloc(1, sizeof(*s));
	const char *classes = w->params->smtputf8_autodetect_classes;

	s->w = w;
	s->ids.life = w->life;
	s->ended = ended;
	s->ctx = ctx;
	s->utf8 = strstr(classes, "verify") != NULL || strstr(classes, "all") != NULL;
	s->ops = (struct content_ops){
		.send = content_send, .accuse = content_accuse, .room = content_has_room, .ctx = s
	};
	*s_r = s;
	return content_pool_init(&s->pool, &w->blocks, &s->ops);
}

void submitter_free(struct submitter **sp)
{
	struct submitter *s;

	TAKE(s, *sp);
	if (s == NULL)
		return;
	while (s->all != NULL)
		outgoing_free(s->all);
	content_pool_fini(&s->pool);
	free(s);
}
