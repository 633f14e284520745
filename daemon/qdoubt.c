/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listing of deliveries in doubt; see daemon/qdoubt.h. */
#include "daemon/qdoubt.h"

#include <jansson.h>
#include <time.h>

#include "daemon/qprint.h"
#include "lib/hash.h"
#include "workers/spool/doubt.h"

struct shown {
	FILE *out;
	struct strmap *queued; /* queue id as text -> "hold" or "queued" */
	uint64_t count, left;
};

static void note_item(void *ctx, const struct qctl_item *it)
{
	static char held[] = "hold", queued[] = "queued";
	struct shown *s = ctx;
	char id[QID_TEXT_SIZE];
	bool hold = it->state == QS_HOLD || it->msg_flags & MSGF_HOLD;

	qid_format((struct qid){ .time_us = it->qid.time_us, .life = it->qid.life }, id);
	strmap_put(s->queued, sv_from(id), hold ? held : queued);
}

static const char *now_of(struct shown *s, const char *id)
{
	const char *state = strmap_get(s->queued, sv_from(id));

	s->count++;
	s->left += state != NULL;
	return state != NULL ? state : "gone";
}

static const char *const what_ended[DOUBT_CAUSE_COUNT] = {
	[DOUBT_WORKER] = "a worker ended",
	[DOUBT_SYSTEM] = "the mail system stopped",
	[DOUBT_CHILD] = "a delivery process failed",
};

static void print_text(void *ctx, const struct doubt *d)
{
	time_t began = (time_t)(d->began_us / 1000000);
	struct shown *s = ctx;
	char id[QID_TEXT_SIZE], when[32];
	struct tm tm;

	qid_format(d->qid, id);
	if (s->count == 0)
		fprintf(s->out, "%-17s %-19s %-6s %-6s %s\n", "----Queue ID-----",
			"----Begun Time-----", "-Then-", "-Now--", "--Sender/Recipient------");
	localtime_r(&began, &tm);
	strftime(when, sizeof(when), "%a %b %e %H:%M:%S", &tm);
	fprintf(s->out, "%-17s %-19s %-6s %-6s ", id, when, d->held ? "hold" : "retry",
		now_of(s, id));
	qlist_print_safe(s->out, sv_eq_str(d->sender, "<>") ? SV("MAILER-DAEMON") : d->sender);
	fprintf(s->out, "\n%*s(", 52, "");
	qlist_print_safe(s->out, d->transport);
	fputc(':', s->out);
	qlist_print_safe(s->out, d->nexthop);
	fprintf(s->out, ", when %s)\n", what_ended[d->cause]);
	for (size_t i = 0; i < d->rcpt_count; i++) {
		fprintf(s->out, "%*s", 52, "");
		qlist_print_safe(s->out, d->rcpts[i]);
		fputc('\n', s->out);
	}
	fputc('\n', s->out);
}

static void print_json(void *ctx, const struct doubt *d)
{
	json_t *o = json_object(), *rcpts = json_array();
	struct shown *s = ctx;
	char id[QID_TEXT_SIZE];

	qid_format(d->qid, id);
	json_object_set_new(o, "queue_id", json_string(id));
	json_object_set_new(o, "now", json_string(now_of(s, id)));
	json_object_set_new(o, "action", json_string(d->held ? "hold" : "retry"));
	json_object_set_new(o, "cause", json_string(doubt_cause_name(d->cause)));
	json_object_set_new(o, "began_us", json_integer(d->began_us));
	json_object_set_new(o, "found_us", json_integer(d->found_us));
	json_object_set_new(o, "transport", qlist_json_text(d->transport));
	json_object_set_new(o, "nexthop", qlist_json_text(d->nexthop));
	json_object_set_new(
		o, "sender",
		qlist_json_text(sv_eq_str(d->sender, "<>") ? SV("MAILER-DAEMON") : d->sender));
	json_object_set_new(o, "recipient_count", json_integer(__builtin_popcountll(d->mask)));
	for (size_t i = 0; i < d->rcpt_count; i++)
		json_array_append_new(rcpts, qlist_json_text(d->rcpts[i]));
	json_object_set_new(o, "recipients", rcpts);
	json_dumpf(o, s->out, JSON_PRESERVE_ORDER);
	fputc('\n', s->out);
	json_decref(o);
}

int qdoubt_print(const struct qlist *l, bool json, FILE *out)
{
	struct shown s = { .out = out, .queued = strmap_new() };
	uint64_t damaged = 0;

	qlist_each_item(l, note_item, &s);
	int err = doubt_each(qlist_dirs(l), json ? print_json : print_text, &s, &damaged);

	if (err == 0 && !json && s.count == 0)
		fputs("No delivery is in doubt\n", out);
	else if (err == 0 && !json)
		fprintf(out, "-- %llu deliveries were in doubt, messages of %llu are queued.\n",
			(unsigned long long)s.count, (unsigned long long)s.left);
	if (damaged > 0)
		fprintf(stderr, "postqueue: warning: %llu lines of the list are damaged\n",
			(unsigned long long)damaged);
	strmap_free(&s.queued);
	return err;
}
