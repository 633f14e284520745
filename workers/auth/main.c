/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The auth worker; see workers/auth/auth.h. It knows the services that may log clients in, tells
 * smtp-in which mechanisms each offers, and runs dialogues for it. A step that a back end does not
 * answer within auth_timeout is a temporary failure; when all threads hang in such steps the
 * process ends, and a new one begins.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/sasl.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/auth/crew.h"
#include "workers/auth/cyrus.h"
#include "workers/auth/dovecot.h"
#include "workers/common/landlock.h"
#include "workers/common/worker.h"

#define TICK_MS 250

struct asker {
	struct asker *next;
	struct worker_peer *peer;
	struct strmap *dialogues; /* by number */
};

struct server { /* a Dovecot */
	struct server *next;
	struct dovecot *dovecot;
};

struct auth {
	struct worker *w;
	struct auth_service *services;
	struct server *servers;
	struct asker *askers;
	struct auth_crew *crew;   /* NULL: no service needs it */
	struct dialogue *orphans; /* in threads, and nobody waits for them any more */
	struct loop_timer tick;
	char rec[sizeof(struct proto_auth_answer) + PROTO_AUTH_TEXT_MAX];
};

static struct auth the_auth;

/* ---- answers ---- */

static size_t put(struct auth *a, size_t at, struct sv s)
{
	size_t n = size_min(s.len, PROTO_AUTH_TEXT_MAX - at - 1);

	memcpy(a->rec + sizeof(struct proto_auth_answer) + at, s.p, n);
	a->rec[sizeof(struct proto_auth_answer) + at + n] = '\0';
	return at + n + 1;
}

static void send_answer(struct auth *a, const struct asker *to, struct proto_auth_answer h,
			const struct sv strings[3])
{
	size_t len = 0;

	for (unsigned i = 0; i < 3; i++)
		len = put(a, len, strings[i]);
	h.kind = PROTO_AUTH_ANSWER;
	h.text_len = (uint32_t)len;
	memcpy(a->rec, &h, sizeof(h));
	worker_send(a->w, to->peer->link, a->rec, sizeof(h) + len);
	explicit_bzero(a->rec, sizeof(h) + len);
}

static void send_offer(struct auth *a, const struct asker *to, const struct auth_service *s,
		       bool encrypted)
{
	if (s->offer[encrypted] == NULL)
		return;
	const struct sv strings[3] = { sv_from(s->offer[encrypted]), sv_from(s->name), SV("") };

	send_answer(a, to,
		    (struct proto_auth_answer){ .status = AUTH_OFFER,
						.flags = encrypted ? AUTH_TLS : 0 },
		    strings);
}

static struct sv key_of(const uint32_t *number)
{
	return (struct sv){ (const char *)number, sizeof(*number) };
}

/* Nobody asks for it any more. */
static void discard(struct dialogue *d)
{
	cyrus_end(d);
	dialogue_free(d);
}

static void count_result(struct auth *a, enum auth_status status)
{
	counter_add(a->w->counters, CTR_auth_logins, status == AUTH_DONE);
	counter_add(a->w->counters, CTR_auth_failures, status == AUTH_FAILED);
	counter_add(a->w->counters, CTR_auth_temporary, status == AUTH_TEMP);
}

static void tell_result(struct auth *a, struct dialogue *d)
{
	struct asker *to = d->asker;
	const struct sv strings[3] = { buf_sv(&d->text), buf_sv(&d->user), buf_sv(&d->lines) };

	send_answer(a, to,
		    (struct proto_auth_answer){ .session = d->session,
						.dialogue = d->number,
						.status = (uint16_t)d->status },
		    strings);
	count_result(a, d->status);
	buf_reset(&d->lines);
	if (d->status == AUTH_MORE)
		return;
	strmap_remove(to->dialogues, key_of(&d->number));
	d->asker = NULL;
}

static void step_done(void *ctx, struct dialogue *d)
{
	struct auth *a = ctx;

	if (d->asker != NULL) {
		tell_result(a, d);
		if (d->asker != NULL)
			return;
	} else {
		struct dialogue **at = &a->orphans;

		while (*at != NULL && *at != d)
			at = &(*at)->next_orphan;
		if (*at == d)
			*at = d->next_orphan;
	}
	discard(d);
}

/* ---- questions ---- */

static void run_step(struct auth *a, struct dialogue *d)
{
	d->since_us = clock_mono_us_raw();
	if (d->service->dovecot != NULL)
		dovecot_step(d->service->dovecot, d);
	else
		auth_crew_step(a->crew, d);
}

/* Its asker has no use for it. In a thread it stays until the thread is done. */
static void give_up(struct auth *a, struct dialogue *d)
{
	if (d->asker != NULL)
		strmap_remove(((struct asker *)d->asker)->dialogues, key_of(&d->number));
	d->asker = NULL;
	if (d->service->dovecot != NULL)
		dovecot_cancel(d->service->dovecot, d);
	else if (d->state != DIALOGUE_IDLE && !auth_crew_recall(a->crew, d)) {
		d->next_orphan = a->orphans;
		a->orphans = d;
		return;
	}
	discard(d);
}

static const struct auth_service *find_service(const struct auth *a, struct sv name)
{
	const struct auth_service *s = a->services;

	while (s != NULL && !sv_eq_str(name, s->name))
		s = s->next;
	return s;
}

static void refuse(struct auth *a, struct asker *from, const struct proto_auth_ask *h,
		   enum auth_status status, const char *why, const char *line)
{
	const struct sv strings[3] = { sv_from(why), SV(""), sv_from(line) };

	count_result(a, status);
	send_answer(a, from,
		    (struct proto_auth_answer){ .session = h->session,
						.dialogue = h->dialogue,
						.status = (uint16_t)status },
		    strings);
}

/* Only what is offered; Postfix's smtpd would take what it hides, too. */
static bool is_offered(const struct auth_service *s, const struct dialogue *d)
{
	const char *offer = s->offer[d->encrypted];

	/* what a server that is away would say is not known */
	return offer == NULL || (s->dovecot != NULL && !dovecot_is_up(s->dovecot)) ||
	       sasl_has_mechanism(offer, d->mechanism);
}

static void refuse_mechanism(struct auth *a, struct asker *from, const struct proto_auth_ask *h,
			     const struct dialogue *d)
{
	char line[AUTH_MECHANISM_SIZE + 64];

	if (d->service->dovecot != NULL) {
		refuse(a, from, h, AUTH_FAILED, "Invalid authentication mechanism", "");
		return;
	}
	snprintf(line, sizeof(line), "SASL authentication failure: Couldn't find mech %s",
		 d->mechanism);
	str_make_printable(line, strlen(line));
	refuse(a, from, h, AUTH_FAILED, "no mechanism available", line);
}

static int on_start(struct auth *a, struct asker *from, const struct proto_auth_ask *h,
		    struct sv strings)
{
	const char *end = strings.len > 0 ? memchr(strings.p, '\0', strings.len) : NULL;

	if (end == NULL || h->dialogue == 0 ||
	    strmap_get(from->dialogues, key_of(&h->dialogue)) != NULL ||
	    strmap_count(from->dialogues) >= PROTO_AUTH_ASKED_MAX)
		return E_PEER;
	size_t used = (size_t)(end - strings.p) + 1;
	const struct auth_service *s = find_service(a, (struct sv){ strings.p, used - 1 });

	/* after a reload the session may be one of another configuration than ours */
	if (s == NULL) {
		refuse(a, from, h, AUTH_TEMP, AUTH_LOST, "");
		return 0;
	}
	struct dialogue *d = dialogue_new(s);
	int err = dialogue_take_start(d, (struct sv){ strings.p + used, strings.len - used },
				      h->flags);

	if (err != 0 || !is_offered(s, d)) {
		if (err == 0)
			refuse_mechanism(a, from, h, d);
		dialogue_free(d);
		return err;
	}
	d->asker = from;
	d->session = h->session;
	d->number = h->dialogue;
	strmap_put(from->dialogues, key_of(&d->number), d);
	run_step(a, d);
	return 0;
}

static int on_step(struct auth *a, struct asker *from, const struct proto_auth_ask *h,
		   struct sv line)
{
	struct dialogue *d = strmap_get(from->dialogues, key_of(&h->dialogue));

	if (d == NULL) /* it is over by now: the back end took too long */
		return 0;
	if (d->state != DIALOGUE_IDLE || line.len == 0 || line.p[line.len - 1] != '\0')
		return E_PEER;
	dialogue_take_step(d, (struct sv){ line.p, strlen(line.p) });
	run_step(a, d);
	return 0;
}

static int on_cancel(struct auth *a, struct asker *from, const struct proto_auth_ask *h,
		     struct sv strings UNUSED)
{
	struct dialogue *d = strmap_get(from->dialogues, key_of(&h->dialogue));

	if (d != NULL)
		give_up(a, d);
	return 0;
}

static struct asker *asker_of(const struct auth *a, const struct worker_peer *peer)
{
	struct asker *s = a->askers;

	while (s != NULL && s->peer != peer)
		s = s->next;
	return s;
}

static void auth_from_peer(struct worker *w, struct worker_peer *peer, const void *rec, size_t len)
{
	static int (*const fns[AUTH_ASK_COUNT])(struct auth * a, struct asker * from,
						const struct proto_auth_ask *h, struct sv s) = {
		[AUTH_START] = on_start,
		[AUTH_STEP] = on_step,
		[AUTH_CANCEL] = on_cancel,
	};
	struct auth *a = w->state;
	struct asker *from = asker_of(a, peer);
	struct proto_auth_ask h;

	if (len >= sizeof(h))
		memcpy(&h, rec, sizeof(h));
	if (from == NULL || len < sizeof(h) || h.kind != PROTO_AUTH_ASK ||
	    h.what >= AUTH_ASK_COUNT || h.text_len > PROTO_AUTH_TEXT_MAX ||
	    len != sizeof(h) + h.text_len ||
	    fns[h.what](a, from, &h, (struct sv){ (const char *)rec + sizeof(h), h.text_len }) != 0)
		worker_accuse(w, peer, "malformed question about a login");
}

/* ---- services ---- */

static void set_offer(struct auth *a, struct auth_service *s, bool encrypted, const char *all)
{
	struct buf list = BUF_INIT;

	if (sasl_filter_mechanisms(s->filter, all, &list) != 0)
		log_warn("smtpd_sasl_mechanism_filter: a table could not be asked");
	if (list.len == 0 && all[0] != '\0')
		log_warn("smtpd_sasl_mechanism_filter discards all mechanisms in '%s'", all);
	free(s->offer[encrypted]);
	s->offer[encrypted] = xstrdup(buf_cstr(&list));
	buf_fini(&list);
	for (const struct asker *to = a->askers; to != NULL; to = to->next)
		send_offer(a, to, s, encrypted);
}

/* What it has now; nothing when it is gone: then AUTH is not on offer. */
static void server_changed(void *ctx, struct dovecot *dc)
{
	struct auth *a = ctx;

	for (struct auth_service *s = a->services; s != NULL; s = s->next) {
		for (int encrypted = 0; encrypted < 2 && s->dovecot == dc; encrypted++) {
			struct buf all = BUF_INIT;

			dovecot_offer(dc, s->options[encrypted], &all);
			set_offer(a, s, encrypted, buf_cstr(&all));
			buf_fini(&all);
		}
	}
}

static int find_server(struct auth *a, const char *path, struct conf_diag *d, struct dovecot **dc_r)
{
	const struct dovecot_ops ops = { .changed = server_changed, .done = step_done, .ctx = a };
	struct server *s = a->servers;

	while (s != NULL && strcmp(dovecot_path(s->dovecot), path) != 0)
		s = s->next;
	if (s == NULL) {
		struct dovecot *dc;
		int err = dovecot_new(NULL, path, a->w->params->queue_directory, &ops, d, &dc);

		if (err != 0)
			return err;
		s = xcalloc(1, sizeof(*s));
		s->dovecot = dc;
		s->next = a->servers;
		a->servers = s;
	}
	*dc_r = s->dovecot;
	return 0;
}

static int open_service(struct auth *a, const struct conf_service *cs, const char **application,
			struct conf_diag *d)
{
	const struct params *p = cs->params;
	struct auth_service *s = xcalloc(1, sizeof(*s));
	int err = sasl_options_parse(p->smtpd_sasl_security_options, "smtpd_sasl_security_options",
				     &s->options[0], d);
	int err2 = sasl_options_parse(p->smtpd_sasl_tls_security_options,
				      "smtpd_sasl_tls_security_options", &s->options[1], d);
	int err3 = matchlist_open(a->w->conf, p->smtpd_sasl_mechanism_filter,
				  "smtpd_sasl_mechanism_filter", MATCHLIST_STRING, &s->filter, d);
	int err4 = 0;

	s->name = cs->name;
	s->p = p;
	s->next = a->services;
	a->services = s;
	if (strcmp(p->smtpd_sasl_type, "dovecot") == 0) {
		err4 = find_server(a, p->smtpd_sasl_path, d, &s->dovecot);
	} else if (strcmp(p->smtpd_sasl_type, "cyrus") != 0) {
		conf_diag_add(d, true, NULL, 0,
			      "parameter smtpd_sasl_type: \"%s\" is neither cyrus nor dovecot",
			      p->smtpd_sasl_type);
		err4 = E_CONFIG;
	} else if (*application != NULL && strcmp(*application, p->smtpd_sasl_path) != 0) {
		/* the library is set up once */
		conf_diag_add(
			d, true, NULL, 0,
			"parameter smtpd_sasl_path: services with smtpd_sasl_type = cyrus must "
			"have the same, found \"%s\" and \"%s\"",
			*application, p->smtpd_sasl_path);
		err4 = E_CONFIG;
	} else {
		*application = p->smtpd_sasl_path;
	}
	return err != 0 ? err : err2 != 0 ? err2 : err3 != 0 ? err3 : err4;
}

static bool has_service(const struct auth *a, const char *name)
{
	return find_service(a, sv_from(name)) != NULL;
}

/* As Debian's Postfix: beside main.cf first, then where the library looks. */
static char *config_path(const struct worker *w)
{
	static const char usual[] = "/usr/lib/sasl2:/etc/sasl2:/etc/sasl:/usr/lib/x86_64-linux-gnu/"
				    "sasl2";
	const char *own = w->params->cyrus_sasl_config_path;

	return own[0] != '\0' ? xstrdup(own) : xasprintf("%s/sasl:%s", conf_dir(w->conf), usual);
}

/* Files that the library's configuration names ("sasldb_path: /etc/sasldb2") are read later. */
static void may_read_named(const char *dir, const char *application)
{
	char *path = xasprintf("%s/%s.conf", dir, application), line[1024];
	FILE *fp = fopen(path, "re");

	free(path);
	while (fp != NULL && fgets(line, sizeof(line), fp) != NULL) {
		char *value = strchr(line, ':');

		if (value == NULL || line[0] == '#')
			continue;
		value += 1 + strspn(value + 1, " \t");
		value[strcspn(value, " \t\r\n")] = '\0';
		if (value[0] == '/' && access(value, F_OK) == 0)
			landlock_also_read(value);
	}
	if (fp != NULL)
		fclose(fp);
}

static void may_read(char *path, const char *application)
{
	char *save = NULL;

	for (char *dir = strtok_r(path, ":", &save); dir != NULL;
	     dir = strtok_r(NULL, ":", &save)) {
		if (dir[0] != '/' || access(dir, R_OK) != 0)
			continue;
		landlock_also_read(dir);
		may_read_named(dir, application);
	}
}

static int open_library(struct auth *a, const char *application)
{
	char *path = config_path(a->w);
	int err = cyrus_init(application, path);

	for (struct auth_service *s = a->services; s != NULL && err == 0; s = s->next) {
		for (int encrypted = 0; encrypted < 2 && s->dovecot == NULL; encrypted++) {
			struct buf all = BUF_INIT;

			cyrus_offer(s, encrypted, &all);
			set_offer(a, s, encrypted, buf_cstr(&all));
			buf_fini(&all);
		}
	}
	may_read(path, application);
	free(path);
	return err;
}

static int auth_init(struct worker *w)
{
	struct auth *a = &the_auth;
	const char *application = NULL;
	struct conf_diag d;
	int status = 0;

	a->w = w;
	w->state = a;
	conf_diag_init(&d);
	for (unsigned i = 0; i < conf_listener_count(w->conf); i++) {
		const struct conf_service *cs = conf_listener(w->conf, i)->service;

		if (!cs->params->smtpd_sasl_auth_enable || has_service(a, cs->name))
			continue;
		int err = open_service(a, cs, &application, &d);

		status = err != 0 ? err : status;
	}
	conf_diag_log(&d);
	conf_diag_fini(&d);
	if (status == 0 && application != NULL)
		status = open_library(a, application);
	return status;
}

/* ---- life ---- */

static void expire(struct auth *a, struct dialogue *d)
{
	struct asker *to = d->asker;
	struct proto_auth_ask h = { .session = d->session, .dialogue = d->number };

	counter_add(a->w->counters, CTR_auth_timeouts, 1);
	log_warn("SASL %s authentication: no answer of the back end within %lld seconds",
		 d->mechanism, (long long)a->w->params->auth_timeout / 1000);
	give_up(a, d);
	refuse(a, to, &h, AUTH_TEMP, AUTH_LOST, "");
}

static void check_time(struct auth *a, struct asker *of)
{
	int64_t limit_us = 1000 * a->w->params->auth_timeout, now = clock_mono_us_raw();
	struct sv key;
	void *value;
	size_t pos = 0;

	while (strmap_next(of->dialogues, &pos, &key, &value)) {
		struct dialogue *d = value;

		if (d->state == DIALOGUE_IDLE || now - d->since_us <= limit_us)
			continue;
		expire(a, d);
		pos = 0;
	}
}

/* A client that goes away leaves a thread at work, which is no sign of anything. */
static void check_threads(struct auth *a, int64_t limit_us)
{
	int64_t now = clock_mono_us_raw();
	unsigned stuck = 0;

	for (const struct dialogue *d = a->orphans; d != NULL; d = d->next_orphan)
		stuck += now - d->since_us > limit_us;
	if (a->crew == NULL || stuck < (unsigned)a->w->params->auth_threads)
		return;
	log_warn("all %u threads hang in the SASL library: this process ends", stuck);
	worker_exit(a->w);
}

static void on_tick(void *ctx)
{
	struct auth *a = ctx;
	int64_t limit_us = 1000 * a->w->params->auth_timeout;

	for (struct server *s = a->servers; s != NULL; s = s->next)
		dovecot_tick(s->dovecot, limit_us);
	for (struct asker *of = a->askers; of != NULL; of = of->next)
		check_time(a, of);
	check_threads(a, limit_us);
	loop_timer_set(&a->tick, TICK_MS);
}

static int auth_start(struct worker *w)
{
	struct auth *a = w->state;
	bool cyrus = false;
	int err = 0;

	for (const struct auth_service *s = a->services; s != NULL; s = s->next)
		cyrus = cyrus || s->dovecot == NULL;
	if (cyrus)
		err = auth_crew_new(w->loop, (unsigned)w->params->auth_threads, cyrus_step,
				    step_done, a, &a->crew);
	for (struct server *s = a->servers; s != NULL; s = s->next)
		dovecot_start(s->dovecot, w->loop);
	loop_timer_init(w->loop, &a->tick, on_tick, a);
	loop_timer_set(&a->tick, TICK_MS);
	return err;
}

static void auth_attach(struct worker *w, struct worker_peer *peer)
{
	struct auth *a = w->state;
	struct asker *s = xcalloc(1, sizeof(*s));

	s->peer = peer;
	s->dialogues = strmap_new();
	s->next = a->askers;
	a->askers = s;
	for (const struct auth_service *o = a->services; o != NULL; o = o->next) {
		send_offer(a, s, o, false);
		send_offer(a, s, o, true);
	}
}

static void auth_detach(struct worker *w, struct worker_peer *peer)
{
	struct auth *a = w->state;
	struct asker **at = &a->askers, *s;
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
		give_up(a, value);
	strmap_free(&s->dialogues);
	free(s);
}

static void auth_drain(struct worker *w)
{
	/* no session of its generation is left */
	worker_exit(w);
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_AUTH,
		.program = "auth",
		.init = auth_init,
		.start = auth_start,
		.attach = auth_attach,
		.detach = auth_detach,
		.from_peer = auth_from_peer,
		.drain = auth_drain,
	};

	return worker_main(argc, argv, &ops);
}
