/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * showq: the queue for users who may not open the control socket. The set-gid postqueue asks on
 * public/showq, which nobody else can reach, whatever its caller may see is decided there
 * (authorized_mailq_users, authorized_flush_users). Here:
 *   list                the messages (daemon/qwire.h)
 *   flush               try all deferred mail now
 *   flush-message ID    that message
 *   flush-site DOMAIN   mail for that next hop
 * Entries come from the supervisor, in small parts and one at a time, whoever waits; the rest is
 * read from the spool, which this process may do and the caller may not. All that a caller can use
 * up is a place: there are so many for one user and for all, of bounded size, and one that does not
 * read is closed. This process changes nothing.
 */
#include <stdio.h>
#include <string.h>

#include "daemon/control.h"
#include "daemon/qread.h"
#include "daemon/qwire.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/common/worker.h"

#define PER_USER      8u
#define IDLE_MS       60000
#define LISTS_AT_ONCE 16u /* the others wait */
#define CHUNK_BYTES   (256u << 10)
#define PACKET_BYTES  24000u /* below CONTROL_PACKET_MAX */
#define FLUSH_WAITING 64u
#define REPORT_MS     10000
#define DRAIN_MS      5000

struct list { /* one that is being told */
	struct showq *q;
	struct control_client *c;
	struct list *next;
	bool served; /* one of the LISTS_AT_ONCE */
	bool all;    /* `items` ends with the last of the queue */
	bool fresh;  /* entries have come that were not looked at yet */
	bool in_message;
	size_t message_end; /* of the message that is being told, in `items` */
	size_t at;          /* of what is told next */
	struct sched_cursor cursor;
	struct buf items; /* entries whose messages were not told yet */
	struct buf out;   /* not sent yet */
	struct loop_timer timer;
};

struct flush {
	struct proto_queue_ask ask;
	char site[PROTO_NAME_MAX];
};

struct showq {
	struct worker *w;
	struct control *control;
	struct qread *spool;
	struct list *lists; /* oldest first */
	struct list *asked; /* whose question the supervisor has */
	bool asking;        /* it has one; asked is NULL when who wanted it has gone */
	struct flush waiting[FLUSH_WAITING];
	unsigned waiting_count;
	bool pausing; /* behind one that was handed on */
	struct loop_timer flush_timer;
	int64_t drain_until_ms;
	uint64_t refused, refused_counted, refused_told;
	int64_t next_report_ms;
};

static struct showq the_showq;

/* ---- lists ---- */

static void list_remove(struct list *l)
{
	for (struct list **at = &l->q->lists; *at != NULL; at = &(*at)->next) {
		if (*at == l) {
			*at = l->next;
			break;
		}
	}
	if (l->q->asked == l)
		l->q->asked = NULL;
	loop_timer_fini(&l->timer);
	buf_fini(&l->items);
	buf_fini(&l->out);
	free(l);
}

static void list_closed(void *ctx)
{
	list_remove(ctx);
}

static bool send_out(struct list *l)
{
	while (l->out.len > 0) {
		size_t len = size_min(l->out.len, PACKET_BYTES);

		if (control_data(l->c, l->out.p, len) != 0)
			return false;
		buf_consume(&l->out, len);
	}
	return true;
}

/* A chunk of a message with very many recipients, or messages until there is enough to send. What
 * was told of the envelope is read again for each chunk, so that a reader who takes his time holds
 * no more than one. */
static void tell_messages(struct list *l)
{
	const struct qlist_message *m;
	size_t end;

	while (l->out.len < CHUNK_BYTES) {
		if (l->at == l->message_end) {
			if (!qread_next_message(&l->items, l->at, l->all, &end))
				break;
			l->message_end = end;
		}
		if (!qread_message(l->q->spool, &l->items, l->at, l->message_end, &m)) {
			if (l->in_message)
				qwire_end(&l->out);
			l->in_message = false;
			l->at = l->message_end;
			continue;
		}
		if (!l->in_message)
			qwire_message(&l->out, m);
		l->in_message = true;
		while (l->at < l->message_end && l->out.len < CHUNK_BYTES)
			l->at = qread_rcpts(l->q->spool, &l->items, l->at, qwire_rcpt, &l->out);
		if (l->at < l->message_end)
			return;
		qwire_end(&l->out);
		l->in_message = false;
	}
	if (l->at == l->message_end) {
		buf_consume(&l->items, l->at);
		l->at = l->message_end = 0;
	}
}

static void list_end(struct list *l)
{
	struct control_client *c = l->c;
	uint64_t damaged = atomic_load_explicit(&l->q->w->board->damaged, memory_order_relaxed);

	control_on_close(c, NULL, NULL);
	control_on_room(c, NULL, NULL);
	list_remove(l);
	control_end(c, 0, "%llu", (unsigned long long)damaged);
}

static void list_step(void *ctx)
{
	struct list *l = ctx;

	if (!send_out(l))
		return; /* the room callback comes back */
	l->fresh = false;
	tell_messages(l);
	if (l->out.len > 0)
		loop_timer_set(&l->timer, 0);
	else if (l->all)
		list_end(l);
	/* else it waits for entries: turn() asks */
}

static void begin_list(void *ctx, struct control_client *c, unsigned argc UNUSED,
		       const char *const *argv UNUSED)
{
	struct showq *q = ctx;
	struct list *l = xcalloc(1, sizeof(*l)), **end = &q->lists;

	l->q = q;
	l->c = c;
	l->cursor = (struct sched_cursor){ 0, QTAB_NONE };
	loop_timer_init(q->w->loop, &l->timer, list_step, l);
	control_on_close(c, list_closed, l);
	control_on_room(c, list_step, l);
	while (*end != NULL)
		end = &(*end)->next;
	*end = l;
	counter_add(q->w->counters, CTR_showq_lists, 1);
}

static void ask_entries(struct showq *q, struct list *l)
{
	struct proto_queue_ask ask = { .kind = PROTO_QUEUE_ASK,
				       .what = QUEUE_LIST,
				       .msg = l->cursor.msg,
				       .entry = l->cursor.entry };

	q->asking = true;
	q->asked = l;
	worker_send(q->w, &q->w->super, &ask, sizeof(ask));
}

/* The list that has waited longest, of those whose turn it is. */
static struct list *next_to_ask(struct showq *q)
{
	struct list *found = NULL;
	unsigned served = 0;

	for (struct list *l = q->lists; l != NULL; l = l->next)
		served += l->served;
	for (struct list *l = q->lists; l != NULL; l = l->next) {
		if (!l->served && served < LISTS_AT_ONCE) {
			l->served = true;
			served++;
		}
		if (l->served && !l->all && !l->fresh && l->out.len == 0 && found == NULL)
			found = l;
	}
	return found;
}

static void to_the_end(struct showq *q, struct list *l)
{
	struct list **at = &q->lists;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	while (*at != NULL)
		at = &(*at)->next;
	l->next = NULL;
	*at = l;
}

static void from_super(struct worker *w, const void *rec, size_t len)
{
	struct showq *q = w->state;
	struct list *l = q->asked;
	struct proto_queue_items head;

	if (len < sizeof(head))
		die("record of %zu bytes from the supervisor", len);
	memcpy(&head, rec, sizeof(head));
	if (head.kind != PROTO_QUEUE_ITEMS || !q->asking)
		die("unexpected record %u from the supervisor", head.kind);
	q->asking = false;
	q->asked = NULL;
	if (l == NULL)
		return;
	buf_add(&l->items, (const char *)rec + sizeof(head), len - sizeof(head));
	l->cursor = (struct sched_cursor){ head.msg, head.entry };
	l->all = head.more == 0;
	l->fresh = true;
	to_the_end(q, l);
	loop_timer_set(&l->timer, 0);
}

/* ---- flushes ---- */

/* Twice what the supervisor wants to lie between two. */
static const int64_t flush_gap_ms[QUEUE_ASK_COUNT] = {
	[QUEUE_FLUSH] = 1000,
	[QUEUE_FLUSH_MESSAGE] = 10,
	[QUEUE_FLUSH_SITE] = 250,
};

static void next_flush(struct showq *q)
{
	struct flush *f = &q->waiting[0];
	char rec[sizeof(f->ask) + PROTO_NAME_MAX];

	if (q->waiting_count == 0 || q->pausing)
		return;
	memcpy(rec, &f->ask, sizeof(f->ask));
	memcpy(rec + sizeof(f->ask), f->site, f->ask.site_len);
	worker_send(q->w, &q->w->super, rec, sizeof(f->ask) + f->ask.site_len);
	q->pausing = true;
	loop_timer_set(&q->flush_timer, flush_gap_ms[f->ask.what]);
	q->waiting_count--;
	memmove(f, f + 1, q->waiting_count * sizeof(*f));
}

static void pause_over(void *ctx)
{
	struct showq *q = ctx;

	q->pausing = false;
	next_flush(q);
}

static bool is_waiting(const struct showq *q, const struct flush *f)
{
	for (unsigned i = 0; i < q->waiting_count; i++) {
		if (memcmp(&q->waiting[i], f, sizeof(*f)) == 0)
			return true;
	}
	return false;
}

/* What waits already is not done twice. */
static void add_flush(struct showq *q, struct control_client *c, const struct flush *f)
{
	counter_add(q->w->counters, CTR_showq_flushes, 1);
	if (!is_waiting(q, f)) {
		if (q->waiting_count == FLUSH_WAITING) {
			control_end(c, 1, "too many requests, try again later");
			return;
		}
		q->waiting[q->waiting_count++] = *f;
		next_flush(q);
	}
	control_end(c, 0, "ok");
}

static void flush_all(void *ctx, struct control_client *c, unsigned argc UNUSED,
		      const char *const *argv UNUSED)
{
	struct flush f;

	memset(&f, 0, sizeof(f));
	f.ask.kind = PROTO_QUEUE_ASK;
	f.ask.what = QUEUE_FLUSH;
	add_flush(ctx, c, &f);
}

static void flush_message(void *ctx, struct control_client *c, unsigned argc,
			  const char *const *argv)
{
	struct flush f;
	struct qid id;

	memset(&f, 0, sizeof(f));
	if (argc != 2 || qid_parse(sv_from(argv[1]), &id) != 0) {
		control_end(c, 2, "invalid mail queue id");
		return;
	}
	f.ask.kind = PROTO_QUEUE_ASK;
	f.ask.what = QUEUE_FLUSH_MESSAGE;
	f.ask.qid.time_us = id.time_us;
	f.ask.qid.life = id.life;
	add_flush(ctx, c, &f);
}

static void flush_site(void *ctx, struct control_client *c, unsigned argc, const char *const *argv)
{
	struct flush f;
	size_t len = argc == 2 ? strlen(argv[1]) : 0;

	memset(&f, 0, sizeof(f));
	if (len == 0 || len > sizeof(f.site)) {
		control_end(c, 2, "invalid site");
		return;
	}
	f.ask.kind = PROTO_QUEUE_ASK;
	f.ask.what = QUEUE_FLUSH_SITE;
	f.ask.site_len = (uint32_t)len;
	memcpy(f.site, argv[1], len);
	add_flush(ctx, c, &f);
}

/* ---- the process ---- */

static int showq_init(struct worker *w)
{
	struct showq *q = &the_showq;

	w->state = q;
	q->w = w;
	return w->check_only ? 0 : qread_new(w->params->queue_directory, &q->spool);
}

static int showq_start(struct worker *w)
{
	struct showq *q = w->state;

	loop_timer_init(w->loop, &q->flush_timer, pause_over, q);
	if (w->listener_count != 1)
		return E_INVAL;
	q->control = control_serve(w->listeners[0].fd, w->loop,
				   &(struct control_limits){ .per_user = PER_USER,
							     .idle_ms = IDLE_MS,
							     .refused = &q->refused });
	control_register(q->control, "list", begin_list, q);
	control_register(q->control, "flush", flush_all, q);
	control_register(q->control, "flush-message", flush_message, q);
	control_register(q->control, "flush-site", flush_site, q);
	return 0;
}

static void tell_refused(struct showq *q)
{
	counter_add(q->w->counters, CTR_showq_refused, q->refused - q->refused_counted);
	q->refused_counted = q->refused;
	if (clock_now().ms < q->next_report_ms)
		return;
	log_warn("%llu requests to see the queue found no room: too many at a time",
		 (unsigned long long)(q->refused - q->refused_told));
	q->refused_told = q->refused;
	q->next_report_ms = clock_now().ms + REPORT_MS;
}

static bool showq_turn(struct worker *w)
{
	struct showq *q = w->state;
	struct list *l = q->asking ? NULL : next_to_ask(q);

	if (q->refused != q->refused_counted)
		tell_refused(q);
	if (l != NULL)
		ask_entries(q, l);
	if (w->draining && q->waiting_count == 0 &&
	    (control_clients(q->control) == 0 || clock_now().ms >= q->drain_until_ms))
		worker_exit(w);
	return false;
}

/* The next life has the same listening socket. */
static void showq_drain(struct worker *w)
{
	struct showq *q = w->state;

	if (q->drain_until_ms == 0)
		q->drain_until_ms = clock_now().ms + DRAIN_MS;
	control_accept_no_more(q->control);
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_SHOWQ,
		.program = "showq",
		.init = showq_init,
		.start = showq_start,
		.from_super = from_super,
		.turn = showq_turn,
		.drain = showq_drain,
	};

	return worker_main(argc, argv, &ops);
}
