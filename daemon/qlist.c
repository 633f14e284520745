/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listing of the queue; see daemon/qlist.h. */
#include "daemon/qlist.h"

#include <jansson.h>
#include <time.h>

#include "daemon/recover_int.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/mail/envelope.h"
#include "workers/spool/spool.h"

#define REASON_INDENT 76 /* reasons end in this column */
#define RCPTS_MAX     10000000

struct text_list {
	bool long_ids;
	uint64_t messages, bytes;
	char last_reason[1000]; /* of the message: recipients with the same one stand together */
};

struct qlist {
	const struct params *params;
	enum qlist_form form;
	FILE *out;
	struct text_list text;
	struct spool_dirs dirs;
	struct spool_reader *spool;
	struct journal_reader *journal;
	struct buf
		items; /* struct qctl_item and reasons, as the daemon sends them; not printed yet */
	struct buf head, mem;
	struct arena arena;
};

/* One message while it is printed. */
struct shown {
	char id[QID_TEXT_SIZE];
	const char *queue;
	char mark; /* '*' active, '!' hold, ' ' */
	bool in_doubt;
	bool damaged; /* no envelope: the record cannot be read as this message's */
	int64_t arrival_s;
	uint64_t size;
	struct envelope env;
};

int qlist_new(const struct params *params, enum qlist_form form, FILE *out, struct qlist **l_r)
{
	struct qlist *l = xcalloc(1, sizeof(*l));
	int err = spool_dirs_open(params->queue_directory, false, &l->dirs);

	if (err != 0) {
		free(l);
		return err;
	}
	l->params = params;
	l->form = form;
	l->out = out;
	l->text.long_ids = true;
	l->spool = spool_reader_new(&l->dirs, 64);
	l->journal = journal_reader_new(&l->dirs, 64);
	arena_init(&l->arena, 65536, 0);
	*l_r = l;
	return 0;
}

void qlist_free(struct qlist **lp)
{
	struct qlist *l = *lp;

	if (l == NULL)
		return;
	*lp = NULL;
	spool_reader_free(&l->spool);
	journal_reader_free(&l->journal);
	spool_dirs_close(&l->dirs);
	buf_fini(&l->items);
	buf_fini(&l->head);
	buf_fini(&l->mem);
	arena_fini(&l->arena);
	free(l);
}

/* ---- one message ---- */

static bool item_at(const struct qlist *l, size_t at, struct qctl_item *it)
{
	if (at >= l->items.len || l->items.len - at < sizeof(*it))
		return false;
	memcpy(it, l->items.p + at, sizeof(*it));
	return it->reason_len <= l->items.len - at - sizeof(*it);
}

static size_t item_end(size_t at, const struct qctl_item *it)
{
	return at + sizeof(*it) + it->reason_len;
}

void qlist_each_item(const struct qlist *l, qlist_item_fn fn, void *ctx)
{
	struct qctl_item it;

	for (size_t at = 0; item_at(l, at, &it); at = item_end(at, &it))
		fn(ctx, &it);
}

const struct spool_dirs *qlist_dirs(const struct qlist *l)
{
	return &l->dirs;
}

static void note_state(struct shown *m, const struct qctl_item *it)
{
	if (it->state == QS_HOLD || it->msg_flags & MSGF_HOLD) {
		m->queue = "hold";
		m->mark = '!';
	} else if (it->state != QS_DEFERRED && m->mark == ' ') {
		m->queue = "active";
		m->mark = '*';
	}
}

/* A record that is damaged is found when it is loaded or delivered; until then, for what is held
 * until somebody releases it, the message is in the queue, and has to be in the list. */
static bool read_message(struct qlist *l, const struct qctl_item *it, struct shown *m)
{
	struct qid id = { .time_us = it->qid.time_us, .life = it->qid.life };
	struct spool_record hdr;

	buf_reset(&l->head);
	arena_reset(&l->arena);
	memset(m, 0, sizeof(*m));
	int err = spool_read_head(l->spool, id, it->place, false, &hdr, &l->head);

	if (err == 0)
		err = env_decode(buf_sv(&l->head), RCPTS_MAX, &l->arena, &m->env);
	if (err == E_NOENT)
		return false; /* its segment is gone: it left the queue meanwhile */
	m->damaged = err != 0;
	if (m->damaged)
		memset(&m->env, 0, sizeof(m->env));
	qid_format(id, m->id);
	m->arrival_s = (int64_t)(id.time_us / 1000000);
	m->size = m->damaged ? it->place.len : hdr.size;
	m->queue = "deferred";
	m->mark = ' ';
	m->in_doubt = (it->msg_flags & MSGF_IN_DOUBT) != 0;
	return true;
}

static bool same_message(const struct qctl_item *a, const struct qctl_item *b)
{
	return a->qid.time_us == b->qid.time_us && a->qid.life == b->qid.life;
}

/* ---- its recipients ---- */

typedef void (*rcpt_fn)(void *ctx, const struct env_rcpt *r, struct sv reason, bool failed);

static struct sv reason_of(const struct outcome *o, uint32_t rcpt)
{
	for (size_t i = 0;
	     rcpt >= o->rcpt_first && rcpt - o->rcpt_first < 64 && i < o->reason_count; i++) {
		if (o->reasons[i].mask >> (rcpt - o->rcpt_first) & 1)
			return o->reasons[i].text;
	}
	return (struct sv){ NULL, 0 };
}

static void each_rcpt_of_item(struct qlist *l, const struct shown *m, size_t at,
			      const struct qctl_item *it, rcpt_fn fn, void *ctx)
{
	struct outcome_reason reasons[64];
	struct outcome o = { 0 };
	struct sv site = { l->items.p + at + sizeof(*it), it->reason_len };
	bool failed = it->state == QS_NOTIFY || it->state == QS_NOTIFYING;
	char suspended[600];

	buf_reset(&l->mem);
	if (it->jref.journal != 0 && journal_read(l->journal, it->jref, &l->mem, &o, reasons) != 0)
		memset(&o, 0, sizeof(o));
	if (site.len > 0) {
		int n = snprintf(suspended, sizeof(suspended),
				 "delivery temporarily suspended: %.*s", (int)site.len, site.p);

		site = (struct sv){ suspended, size_min((size_t)n, sizeof(suspended) - 1) };
	}
	for (uint64_t left = it->mask; left != 0; left &= left - 1) {
		uint64_t rcpt = (uint64_t)it->rcpt_first + (unsigned)__builtin_ctzll(left);

		if (rcpt >= m->env.rcpt_count)
			continue;
		struct sv reason = reason_of(&o, (uint32_t)rcpt);

		fn(ctx, &m->env.rcpts[rcpt], reason.len > 0 ? reason : site, failed);
	}
}

static void each_rcpt(struct qlist *l, const struct shown *m, size_t from, size_t to, rcpt_fn fn,
		      void *ctx)
{
	struct qctl_item it;

	for (size_t at = from; at < to && item_at(l, at, &it); at = item_end(at, &it))
		each_rcpt_of_item(l, m, at, &it, fn, ctx);
}

static struct sv sender_of(const struct shown *m)
{
	if (m->damaged)
		return SV("(damaged record)");
	return m->env.sender.len > 0 ? m->env.sender : SV("MAILER-DAEMON");
}

/* What goes to a terminal has no control characters. */
void qlist_print_safe(FILE *out, struct sv s)
{
	char *copy = xstrndup(s.p, s.len);

	str_make_printable(copy, s.len);
	fwrite(copy, 1, s.len, out);
	free(copy);
}

/* ---- text ---- */

static void text_rcpt(void *ctx, const struct env_rcpt *r, struct sv reason, bool failed UNUSED)
{
	struct qlist *l = ctx;
	struct text_list *t = &l->text;

	if (reason.len > 0 && !sv_eq_str(reason, t->last_reason)) {
		int pad = REASON_INDENT - (int)reason.len;

		str_copy(t->last_reason, sizeof(t->last_reason), reason);
		fprintf(l->out, "%*s(", pad > 0 ? pad : 0, "");
		qlist_print_safe(l->out, reason);
		fputs(")\n", l->out);
	}
	fprintf(l->out, "%*s", t->long_ids ? 47 : 41, "");
	qlist_print_safe(l->out, r->addr);
	fputc('\n', l->out);
}

static void text_message(struct qlist *l, const struct shown *m, size_t from, size_t to)
{
	struct text_list *t = &l->text;
	time_t arrival = (time_t)m->arrival_s;
	char id[QID_TEXT_SIZE + 1], when[32];
	struct tm tm;

	if (t->messages++ == 0)
		fprintf(l->out, t->long_ids ? "%-17s %8s %-19s %s\n" : "%-11s %7s %-20s %s\n",
			t->long_ids ? "----Queue ID-----" : "-Queue ID-", "--Size--",
			t->long_ids ? "---Arrival Time----" : "----Arrival Time----",
			t->long_ids ? "--Sender/Recipient------" : "-Sender/Recipient-------");
	snprintf(id, sizeof(id), "%s%c", m->id, m->mark);
	localtime_r(&arrival, &tm);
	strftime(when, sizeof(when), "%a %b %e %H:%M:%S ", &tm);
	fprintf(l->out, t->long_ids ? "%-17s %8llu %19.19s " : "%-11s %7llu %20.20s ", id,
		(unsigned long long)m->size, when);
	qlist_print_safe(l->out, sender_of(m));
	fputc('\n', l->out);
	t->last_reason[0] = '\0';
	each_rcpt(l, m, from, to, text_rcpt, l);
	fputc('\n', l->out);
	t->bytes += m->size;
}

uint64_t qlist_damaged(const struct qlist *l)
{
	uint64_t count;

	return spool_count_quarantined(&l->dirs, &count) == 0 ? count : 0;
}

static void text_end(const struct qlist *l)
{
	const struct text_list *t = &l->text;

	if (t->messages == 0)
		fputs("Mail queue is empty\n", l->out);
	else
		fprintf(l->out, "-- %llu Kbytes in %llu Request%s.\n",
			(unsigned long long)t->bytes / 1024, (unsigned long long)t->messages,
			t->messages == 1 ? "" : "s");
}

/* ---- JSON ---- */

/* Text that is not UTF-8 is shown with question marks rather than not at all. */
json_t *qlist_json_text(struct sv s)
{
	json_t *j = json_stringn(s.p, s.len);

	if (j != NULL)
		return j;
	char *copy = xstrndup(s.p, s.len);

	for (size_t i = 0; i < s.len; i++) {
		if ((unsigned char)copy[i] >= 0x80)
			copy[i] = '?';
	}
	j = json_stringn(copy, s.len);
	free(copy);
	return j;
}

static void json_rcpt(void *ctx, const struct env_rcpt *r, struct sv reason, bool failed)
{
	json_t *o = json_object();

	if (r->orig_addr.len > 0)
		json_object_set_new(o, "orig_address", qlist_json_text(r->orig_addr));
	json_object_set_new(o, "address", qlist_json_text(r->addr));
	if (reason.len > 0)
		json_object_set_new(o, failed ? "bounce_reason" : "delay_reason",
				    qlist_json_text(reason));
	json_array_append_new(ctx, o);
}

static void json_message(struct qlist *l, const struct shown *m, size_t from, size_t to)
{
	json_t *o = json_object(), *rcpts = json_array();

	json_object_set_new(o, "queue_name", json_string(m->queue));
	json_object_set_new(o, "queue_id", json_string(m->id));
	json_object_set_new(o, "arrival_time", json_integer(m->arrival_s));
	json_object_set_new(o, "message_size", json_integer((json_int_t)m->size));
	json_object_set_new(o, "forced_expire", json_false());
	json_object_set_new(o, "sender", qlist_json_text(sender_of(m)));
	each_rcpt(l, m, from, to, json_rcpt, rcpts);
	json_object_set_new(o, "recipients", rcpts);
	if (m->in_doubt)
		json_object_set_new(o, "in_doubt", json_true());
	if (m->damaged)
		json_object_set_new(o, "damaged", json_true());
	json_dumpf(o, l->out, JSON_PRESERVE_ORDER);
	fputc('\n', l->out);
	json_decref(o);
}

/* ---- all ---- */

static void print_message(struct qlist *l, const struct qctl_item *first, size_t from, size_t to)
{
	struct qctl_item it;
	struct shown m;

	if (!read_message(l, first, &m))
		return;
	for (size_t at = from; at < to && item_at(l, at, &it); at = item_end(at, &it))
		note_state(&m, &it);
	if (l->form == QLIST_JSON)
		json_message(l, &m, from, to);
	else
		text_message(l, &m, from, to);
}

/* The last message may not be complete: more items of it may come. */
static void print_items(struct qlist *l, bool all)
{
	struct qctl_item first, it;
	size_t from = 0, to;

	while (item_at(l, from, &first)) {
		for (to = from; item_at(l, to, &it) && same_message(&first, &it);
		     to = item_end(to, &it))
			;
		if (to == l->items.len && !all)
			break;
		print_message(l, &first, from, to);
		from = to;
	}
	buf_consume(&l->items, from);
}

void qlist_add_items(void *qlist, const void *data, size_t len)
{
	struct qlist *l = qlist;

	buf_add(&l->items, data, len);
	if (l->form != QLIST_KEEP)
		print_items(l, false);
}

int qlist_scan(struct qlist *l)
{
	struct qclock_file file;
	struct qclock_seen seen;
	struct qclock clock;
	bool known = qclock_file_open(&file, l->dirs.root, false, &seen);
	struct warrant_key key;
	struct recovery r = { .params = l->params, .clock = &clock, .now_us = clock_wall().us };
	struct rplan plan = { 0 };
	struct spool_dirs look_only = l->dirs;

	qclock_init(&clock, known ? &seen : NULL, file.boot_id);
	qclock_file_close(&file);
	if (warrant_key_open(&l->dirs, false, 0, &key) == 0)
		r.key = &key;
	look_only.corrupt = -1; /* quarantine is the supervisor's */
	int err = recover_read(&r, NULL, &look_only);

	for (size_t i = 0; err == 0 && i < r.msg_count; i++) {
		recover_plan(&r, &r.msgs[i], &plan);
		for (size_t k = 0; k < plan.count; k++) {
			const struct sched_found_entry *e = &plan.entries[k];
			struct qctl_item it = {
				.qid = { .time_us = plan.found.qid.time_us,
					 .life = plan.found.qid.life },
				.place = plan.found.place,
				.jref = e->jref,
				.mask = e->mask,
				.rcpt_first = e->rcpt_first,
				.msg_flags = plan.found.flags,
				.due_s = (uint32_t)qclock_wall(&clock, e->due_s),
				.state = e->state,
			};

			qlist_add_items(l, &it, sizeof(it));
		}
	}
	recover_plan_fini(&plan);
	recover_read_fini(&r);
	return err;
}

void qlist_end(struct qlist *l)
{
	if (l->form == QLIST_KEEP)
		return;
	print_items(l, true);
	if (l->form == QLIST_TEXT)
		text_end(l);
}
