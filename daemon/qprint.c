/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Messages as postqueue prints them; see daemon/qprint.h. */
#include "daemon/qprint.h"

#include <jansson.h>
#include <stdlib.h>
#include <time.h>

#include "lib/str.h"
#include "lib/util.h"

#define REASON_INDENT 76 /* reasons end in this column */

struct qprint {
	FILE *out;
	bool json;
	uint64_t messages, bytes;
	char last_reason[1000]; /* of the message: recipients with the same one stand together */
	json_t *object, *rcpts; /* of the message, in JSON */
	bool in_doubt, damaged;
};

struct qprint *qprint_new(FILE *out, bool json)
{
	struct qprint *p = xcalloc(1, sizeof(*p));

	p->out = out;
	p->json = json;
	return p;
}

void qprint_free(struct qprint **pp)
{
	struct qprint *p = *pp;

	if (p == NULL)
		return;
	if (p->object != NULL) {
		json_decref(p->object);
		json_decref(p->rcpts);
	}
	free(p);
	*pp = NULL;
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

static void text_message(struct qprint *p, const struct qlist_message *m)
{
	static const char *const marks[QUEUE_NAME_COUNT] = {
		[QUEUE_NAME_DEFERRED] = "",
		[QUEUE_NAME_ACTIVE] = "*",
		[QUEUE_NAME_HOLD] = "!",
	};
	time_t arrival = (time_t)m->arrival_s;
	char id[QID_TEXT_SIZE + 2], when[32];
	struct tm tm;

	if (p->messages++ == 0)
		fprintf(p->out, "%-17s %8s %-19s %s\n", "----Queue ID-----", "--Size--",
			"---Arrival Time----", "--Sender/Recipient------");
	snprintf(id, sizeof(id), "%s%s%s", m->id, marks[m->queue], m->expired ? "#" : "");
	localtime_r(&arrival, &tm);
	strftime(when, sizeof(when), "%a %b %e %H:%M:%S ", &tm);
	fprintf(p->out, "%-17s %8llu %19.19s ", id, (unsigned long long)m->size, when);
	qlist_print_safe(p->out, m->sender);
	fputc('\n', p->out);
	p->last_reason[0] = '\0';
	p->bytes += m->size;
}

static void text_rcpt(struct qprint *p, const struct qlist_rcpt *r)
{
	if (r->reason.len > 0 && !sv_eq_str(r->reason, p->last_reason)) {
		int pad = REASON_INDENT - (int)r->reason.len;

		str_copy(p->last_reason, sizeof(p->last_reason), r->reason);
		fprintf(p->out, "%*s(", pad > 0 ? pad : 0, "");
		qlist_print_safe(p->out, r->reason);
		fputs(")\n", p->out);
	}
	fprintf(p->out, "%*s", 47, "");
	qlist_print_safe(p->out, r->addr);
	fputc('\n', p->out);
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

static void json_message(struct qprint *p, const struct qlist_message *m)
{
	static const char *const names[QUEUE_NAME_COUNT] = {
		[QUEUE_NAME_DEFERRED] = "deferred",
		[QUEUE_NAME_ACTIVE] = "active",
		[QUEUE_NAME_HOLD] = "hold",
	};
	json_t *o = json_object();

	json_object_set_new(o, "queue_name", json_string(names[m->queue]));
	json_object_set_new(o, "queue_id", json_string(m->id));
	json_object_set_new(o, "arrival_time", json_integer(m->arrival_s));
	json_object_set_new(o, "message_size", json_integer((json_int_t)m->size));
	json_object_set_new(o, "forced_expire", json_boolean(m->expired));
	json_object_set_new(o, "sender", qlist_json_text(m->sender));
	p->object = o;
	p->rcpts = json_array();
	p->in_doubt = m->in_doubt;
	p->damaged = m->damaged;
}

static void json_rcpt(struct qprint *p, const struct qlist_rcpt *r)
{
	json_t *o = json_object();

	if (r->orig_addr.len > 0)
		json_object_set_new(o, "orig_address", qlist_json_text(r->orig_addr));
	json_object_set_new(o, "address", qlist_json_text(r->addr));
	if (r->reason.len > 0)
		json_object_set_new(o, r->failed ? "bounce_reason" : "delay_reason",
				    qlist_json_text(r->reason));
	json_array_append_new(p->rcpts, o);
}

static void json_message_end(struct qprint *p)
{
	json_object_set_new(p->object, "recipients", p->rcpts);
	if (p->in_doubt)
		json_object_set_new(p->object, "in_doubt", json_true());
	if (p->damaged)
		json_object_set_new(p->object, "damaged", json_true());
	json_dumpf(p->object, p->out, JSON_PRESERVE_ORDER);
	fputc('\n', p->out);
	json_decref(p->object);
	p->object = p->rcpts = NULL;
}

/* ---- both ---- */

void qprint_message(struct qprint *p, const struct qlist_message *m)
{
	(p->json ? json_message : text_message)(p, m);
}

void qprint_rcpt(void *qprint, const struct qlist_rcpt *r)
{
	struct qprint *p = qprint;

	(p->json ? json_rcpt : text_rcpt)(p, r);
}

void qprint_message_end(struct qprint *p)
{
	if (p->json)
		json_message_end(p);
	else
		fputc('\n', p->out);
}

void qprint_end(const struct qprint *p)
{
	if (p->json)
		return;
	if (p->messages == 0)
		fputs("Mail queue is empty\n", p->out);
	else
		fprintf(p->out, "-- %llu Kbytes in %llu Request%s.\n",
			(unsigned long long)p->bytes / 1024, (unsigned long long)p->messages,
			p->messages == 1 ? "" : "s");
}
