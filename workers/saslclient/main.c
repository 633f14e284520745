/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The saslclient worker: what deliver workers need for logins to other servers and do not have
 * themselves. It has the SASL library with its plug-ins, for mechanisms that are more than one or
 * two strings (SCRAM, DIGEST-MD5, NTLM...), in threads, because some of them ask other servers; and
 * the memory of logins that were refused (smtp_sasl_auth_cache_name). Apart from the auth workers,
 * whose dialogues are with strangers: it sees passwords of relay hosts, of those logins that want
 * the library.
 */
#include <stdlib.h>
#include <string.h>

#include "conf/sasl.h"
#include "conf/verify_use.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/auth/crew.h"
#include "workers/auth/cyrusclient.h"
#include "workers/common/landlock.h"
#include "workers/common/worker.h"
#include "workers/saslclient/failures.h"

#define TICK_MS 250

struct asker {
	struct asker *next;
	struct worker_peer *peer;
	struct strmap *dialogues; /* by number */
};

struct memory { /* of refused logins */
	struct memory *next;
	const char *name; /* as the configuration has it */
	char *path;
	struct failures *failures;
};

struct client_worker {
	struct worker *w;
	struct memory *memories;
	struct asker *askers;
	struct auth_crew *crew;
	struct dialogue *orphans; /* in threads, and nobody waits for them any more */
	struct buf mechanisms, scratch;
	struct loop_timer tick;
	char rec[sizeof(struct proto_sasl_answer) + PROTO_SASL_TEXT_MAX];
};

static struct client_worker the_worker;

/* ---- answers ---- */

static void answer(struct client_worker *cw, const struct asker *to, uint32_t dialogue,
		   enum sasl_said what, const struct sv strings[3])
{
	struct proto_sasl_answer h = { .kind = PROTO_SASL_ANSWER,
				       .dialogue = dialogue,
				       .what = (uint16_t)what };
	char *text = cw->rec + sizeof(h);
	size_t len = 0;

	for (unsigned i = 0; i < 3; i++) {
		size_t n = size_min(strings[i].len, PROTO_SASL_TEXT_MAX - len - (3 - i));

		if (n > 0)
			memcpy(text + len, strings[i].p, n);
		text[len + n] = '\0';
		len += n + 1;
	}
	h.text_len = (uint32_t)len;
	memcpy(cw->rec, &h, sizeof(h));
	worker_send(cw->w, to->peer->link, cw->rec, sizeof(h) + len);
	explicit_bzero(cw->rec, sizeof(h) + len);
}

static struct sv key_of(const uint32_t *number)
{
	return (struct sv){ (const char *)number, sizeof(*number) };
}

static void fail(struct client_worker *cw, const struct asker *to, uint32_t dialogue,
		 const char *why)
{
	answer(cw, to, dialogue, SASL_SAID_FAILED,
	       (const struct sv[3]){ SV(""), sv_from(why), SV("") });
}

static void drop_orphan(struct client_worker *cw, struct dialogue *d)
{
	struct dialogue **at = &cw->orphans;

	while (*at != NULL && *at != d)
		at = &(*at)->next_orphan;
	if (*at == d)
		*at = d->next_orphan;
	cyrus_client_free(d);
}

static void step_done(void *ctx, struct dialogue *d)
{
	struct client_worker *cw = ctx;
	struct asker *to = d->asker;

	if (to == NULL) {
		drop_orphan(cw, d);
		return;
	}
	answer(cw, to, d->number,
	       d->status == AUTH_MORE   ? SASL_SAID_MORE
	       : d->status == AUTH_DONE ? SASL_SAID_DONE
					: SASL_SAID_FAILED,
	       (const struct sv[3]){ sv_from(d->mechanism), buf_sv(&d->text), buf_sv(&d->lines) });
	buf_reset(&d->lines);
	dialogue_wipe(&d->text);
	if (d->status == AUTH_MORE)
		return;
	/* connections live longer than logins: their passwords need not */
	strmap_remove(to->dialogues, key_of(&d->number));
	cyrus_client_free(d);
}

/* Its asker has no use for it. In a thread it stays until the thread is done. */
static void give_up(struct client_worker *cw, struct dialogue *d)
{
	struct asker *of = d->asker;

	strmap_remove(of->dialogues, key_of(&d->number));
	d->asker = NULL;
	if (d->state == DIALOGUE_IDLE || auth_crew_recall(cw->crew, d)) {
		cyrus_client_free(d);
		return;
	}
	d->next_orphan = cw->orphans;
	cw->orphans = d;
}

/* ---- questions ---- */

static void run_step(struct client_worker *cw, struct dialogue *d)
{
	d->since_us = clock_mono_us_raw();
	auth_crew_step(cw->crew, d);
}

static int on_start(struct client_worker *cw, struct asker *from, const struct proto_sasl_ask *h,
		    struct sv strings)
{
	if (h->dialogue == 0 || strmap_get(from->dialogues, key_of(&h->dialogue)) != NULL)
		return E_PEER;
	if (strmap_count(from->dialogues) >= PROTO_SASL_ASKED_MAX) {
		fail(cw, from, h->dialogue, "too many logins at a time");
		return 0;
	}
	struct dialogue *d = cyrus_client_new(strings, h->options, h->authzid != 0);

	if (d == NULL)
		return E_PEER;
	d->asker = from;
	d->number = h->dialogue;
	strmap_put(from->dialogues, key_of(&d->number), d);
	run_step(cw, d);
	return 0;
}

static int on_step(struct client_worker *cw, struct asker *from, const struct proto_sasl_ask *h,
		   struct sv line)
{
	struct dialogue *d = strmap_get(from->dialogues, key_of(&h->dialogue));

	if (d == NULL) { /* it took too long, or another life had it */
		fail(cw, from, h->dialogue, "authentication takes too long");
		return 0;
	}
	if (d->state != DIALOGUE_IDLE || line.len == 0 || line.p[line.len - 1] != '\0')
		return E_PEER;
	dialogue_take_step(d, (struct sv){ line.p, strlen(line.p) });
	run_step(cw, d);
	return 0;
}

static int on_end(struct client_worker *cw, struct asker *from, const struct proto_sasl_ask *h,
		  struct sv strings UNUSED)
{
	struct dialogue *d = strmap_get(from->dialogues, key_of(&h->dialogue));

	if (d != NULL)
		give_up(cw, d);
	return 0;
}

static bool take_strings(struct sv rest, struct sv *s, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const char *end = rest.len > 0 ? memchr(rest.p, '\0', rest.len) : NULL;

		if (end == NULL)
			return false;
		s[i] = (struct sv){ rest.p, (size_t)(end - rest.p) };
		rest = (struct sv){ end + 1, rest.len - s[i].len - 1 };
	}
	return rest.len == 0;
}

/* After a reload it may be one that is not used any more. */
static struct failures *memory_of(const struct client_worker *cw, struct sv name)
{
	const struct memory *m = cw->memories;

	while (m != NULL && !sv_eq_str(name, m->name))
		m = m->next;
	return m != NULL ? m->failures : NULL;
}

static int on_find(struct client_worker *cw, struct asker *from, const struct proto_sasl_ask *h,
		   struct sv strings)
{
	struct sv s[4], code;
	struct buf *reply = &cw->scratch;
	struct failures *f;
	const char *space;

	if (!take_strings(strings, s, ARRAY_LEN(s)) || h->age_s < 0 || h->age_s > INT32_MAX)
		return E_PEER;
	f = memory_of(cw, s[0]);
	if (f == NULL ||
	    !failures_find(f, s[1], s[2], s[3], h->age_s, clock_now_wall().us / 1000000, reply) ||
	    (space = memchr(reply->p, ' ', reply->len)) == NULL) {
		answer(cw, from, h->dialogue, SASL_SAID_UNKNOWN,
		       (const struct sv[3]){ SV(""), SV(""), SV("") });
		return 0;
	}
	code = (struct sv){ reply->p, (size_t)(space - reply->p) };
	answer(cw, from, h->dialogue, SASL_SAID_KNOWN,
	       (const struct sv[3]){ code, { space + 1, reply->len - code.len - 1 }, SV("") });
	return 0;
}

static int on_remember(struct client_worker *cw, struct asker *from UNUSED,
		       const struct proto_sasl_ask *h UNUSED, struct sv strings)
{
	struct sv s[5];
	struct failures *f;

	if (!take_strings(strings, s, ARRAY_LEN(s)))
		return E_PEER;
	f = memory_of(cw, s[0]);
	if (f != NULL)
		failures_note(f, s[1], s[2], s[3], s[4], clock_now_wall().us / 1000000);
	return 0;
}

static struct asker *asker_of(const struct client_worker *cw, const struct worker_peer *peer)
{
	struct asker *s = cw->askers;

	while (s != NULL && s->peer != peer)
		s = s->next;
	return s;
}

static void from_peer(struct worker *w, struct worker_peer *peer, const void *rec, size_t len)
{
	static int (*const fns[SASL_ASK_COUNT])(struct client_worker * cw, struct asker * from,
						const struct proto_sasl_ask *h, struct sv s) = {
		[SASL_ASK_START] = on_start,       [SASL_ASK_STEP] = on_step,
		[SASL_ASK_END] = on_end,           [SASL_ASK_FIND] = on_find,
		[SASL_ASK_REMEMBER] = on_remember,
	};
	struct client_worker *cw = w->state;
	struct asker *from = asker_of(cw, peer);
	struct proto_sasl_ask h;

	if (len >= sizeof(h))
		memcpy(&h, rec, sizeof(h));
	if (from == NULL || len < sizeof(h) || h.kind != PROTO_SASL_ASK ||
	    h.what >= SASL_ASK_COUNT || h.text_len > PROTO_SASL_TEXT_MAX ||
	    len != sizeof(h) + h.text_len ||
	    fns[h.what](cw, from, &h, (struct sv){ (const char *)rec + sizeof(h), h.text_len }) !=
		    0)
		worker_accuse(w, peer, "malformed question about a login");
}

/* ---- configuration ---- */

static int add_memory(struct client_worker *cw, const char *param, const char *name)
{
	const char *why = NULL;
	struct memory *m = cw->memories;
	char *path;

	while (m != NULL && strcmp(m->name, name) != 0)
		m = m->next;
	if (m != NULL || name[0] == '\0')
		return 0;
	if (strncmp(name, "proxy:", 6) != 0) {
		log_error("SASL authentication cache name \"%s\" must start with \"proxy:\"", name);
		return E_CONFIG;
	}
	if (conf_cache_path(name, &path, &why) != 0) {
		log_error("%s = %s: %s", param, name, why);
		return E_CONFIG;
	}
	m = xcalloc(1, sizeof(*m));
	m->name = name;
	m->path = path;
	m->next = cw->memories;
	cw->memories = m;
	return 0;
}

static int find_memories(struct client_worker *cw)
{
	int err = 0;

	for (unsigned i = 0; i < conf_transport_count(cw->w->conf) && err == 0; i++) {
		const struct conf_transport *t = conf_transport(cw->w->conf, i);

		if (t->kind == TRANSPORT_SMTP && t->params->smtp_sasl_auth_enable)
			err = add_memory(cw, "smtp_sasl_auth_cache_name",
					 t->params->smtp_sasl_auth_cache_name);
		else if (t->kind == TRANSPORT_LMTP && t->params->lmtp_sasl_auth_enable)
			err = add_memory(cw, "lmtp_sasl_auth_cache_name",
					 t->params->lmtp_sasl_auth_cache_name);
	}
	return err;
}

static int init(struct worker *w)
{
	struct client_worker *cw = &the_worker;
	const char *path = w->params->cyrus_sasl_config_path;
	int err;

	cw->w = w;
	w->state = cw;
	err = find_memories(cw);
	if (err != 0 || w->check_only)
		return err;
	for (const struct memory *m = cw->memories; m != NULL; m = m->next) {
		const char *slash = m->path != NULL ? strrchr(m->path, '/') : NULL;
		char *dir;

		if (slash == NULL)
			continue;
		dir = xstrndup(m->path, slash == m->path ? 1 : (size_t)(slash - m->path));
		landlock_also_keep(dir);
		free(dir);
	}
	err = cyrus_client_init(path[0] != '\0' ? path : NULL);
	if (err == 0)
		cyrus_client_mechanisms(&cw->mechanisms);
	return err;
}

/* ---- life ---- */

static void check_time(struct client_worker *cw, struct asker *of, int64_t limit_us)
{
	int64_t now = clock_mono_us_raw();
	struct sv key;
	void *value;
	size_t pos = 0;

	while (strmap_next(of->dialogues, &pos, &key, &value)) {
		struct dialogue *d = value;

		if (d->state == DIALOGUE_IDLE || now - d->since_us <= limit_us)
			continue;
		log_warn("SASL authentication: no answer of the library within %lld seconds",
			 (long long)limit_us / 1000000);
		fail(cw, of, d->number, "authentication takes too long");
		give_up(cw, d);
		pos = 0;
	}
}

/* A client that goes away leaves a thread at work, which is no sign of anything. */
static void check_threads(struct client_worker *cw, int64_t limit_us)
{
	int64_t now = clock_mono_us_raw();
	unsigned stuck = 0;

	for (const struct dialogue *d = cw->orphans; d != NULL; d = d->next_orphan)
		stuck += now - d->since_us > limit_us;
	if (stuck < (unsigned)cw->w->params->auth_threads)
		return;
	log_warn("all %u threads hang in the SASL library: this process ends", stuck);
	worker_exit(cw->w);
}

static void on_tick(void *ctx)
{
	struct client_worker *cw = ctx;
	int64_t limit_us = 1000 * cw->w->params->auth_timeout;

	for (struct asker *of = cw->askers; of != NULL; of = of->next)
		check_time(cw, of, limit_us);
	check_threads(cw, limit_us);
	for (struct memory *m = cw->memories; m != NULL; m = m->next)
		failures_write_out(m->failures);
	loop_timer_set(&cw->tick, TICK_MS);
}

static int start(struct worker *w)
{
	struct client_worker *cw = w->state;
	int err = auth_crew_new(w->loop, (unsigned)w->params->auth_threads, cyrus_client_step,
				step_done, cw, &cw->crew);

	for (struct memory *m = cw->memories; m != NULL; m = m->next)
		m->failures = failures_open("smtp_sasl_auth_cache_name", m->path);
	loop_timer_init(w->loop, &cw->tick, on_tick, cw);
	loop_timer_set(&cw->tick, TICK_MS);
	return err;
}

static void attach(struct worker *w, struct worker_peer *peer)
{
	struct client_worker *cw = w->state;
	struct asker *s = xcalloc(1, sizeof(*s));

	s->peer = peer;
	s->dialogues = strmap_new();
	s->next = cw->askers;
	cw->askers = s;
	answer(cw, s, 0, SASL_SAID_MECHS,
	       (const struct sv[3]){ SV(""), buf_sv(&cw->mechanisms), SV("") });
}

static void detach(struct worker *w, struct worker_peer *peer)
{
	struct client_worker *cw = w->state;
	struct asker **at = &cw->askers, *s;
	struct sv key;
	void *value;
	size_t pos = 0;

	while (*at != NULL && (*at)->peer != peer)
		at = &(*at)->next;
	if (*at == NULL)
		return;
	s = *at;
	*at = s->next;
	for (; strmap_next(s->dialogues, &pos, &key, &value); pos = 0)
		give_up(cw, value);
	strmap_free(&s->dialogues);
	free(s);
}

static void drain(struct worker *w)
{
	struct client_worker *cw = w->state;

	for (struct memory *m = cw->memories; m != NULL; m = m->next)
		failures_close(&m->failures);
	worker_exit(w);
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_SASL_CLIENT,
		.program = "saslclient",
		.init = init,
		.start = start,
		.attach = attach,
		.detach = detach,
		.from_peer = from_peer,
		.drain = drain,
	};

	return worker_main(argc, argv, &ops);
}
