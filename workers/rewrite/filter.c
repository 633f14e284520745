/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sessions with milters and the messages they see; see workers/rewrite/filter.h. What smtp-in sends
 * is not trusted: it can only have the milters that the configuration gives its listeners, one
 * event at a time, for sessions of its own.
 */
#include "workers/rewrite/filter.h"

#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/smtp/reply.h"

#define PEER_FILTERS_MAX 65536u
#define LOST_REPLY       "421 4.3.0 Mail system error"
#define BROKEN_REPLY     "451 4.3.5 Server configuration problem - try again later"

static void on_done(void *ctx, const char *reply);
static const struct message_verdict *run_stages(struct filter *f);

static const struct milter_host session_host = {
	.macro = filter_macro,
	.done = on_done,
	.edit = filter_edit,
	.edited = filter_edited,
	.check = filter_check,
	.log_name = "smtpd",
};

static const struct milter_host mail_host = {
	.macro = filter_macro,
	.done = on_done,
	.edit = filter_edit,
	.edited = filter_edited,
	.check = filter_check,
	.log_name = "cleanup",
};

static struct sv session_key(const uint32_t *number)
{
	return (struct sv){ (const char *)number, sizeof(*number) };
}

/* ---- life ---- */

static void drop_content(struct filter *f)
{
	milter_content_fini(&f->content);
	checks_fini(&f->check_run);
	f->check_run = (struct check_run){ .checks = NULL };
	f->tx = NULL;
}

static void filter_free(struct filter *f)
{
	char *const texts[] = { f->addr,        f->port,         f->name,        f->reverse,
				f->resolve,     f->connections,  f->own_addr,    f->own_port,
				f->tls_version, f->cipher,       f->cipher_bits, f->cert_subject,
				f->cert_issuer, f->mail_addr,    f->mail_host,   f->mail_mailer,
				f->rcpt_addr,   f->rcpt_host,    f->rcpt_mailer, f->first_addr,
				f->first_host,  f->first_mailer, f->auth_type,   f->auth_authen,
				f->auth_author };

	if (f->fetch != NULL)
		tables_cancel(f->fetch);
	map_memo_free(&f->memo);
	milter_set_free(&f->set);
	drop_content(f);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		free(texts[i]);
	buf_fini(&f->value);
	buf_fini(&f->event);
	f->r->filter_count--;
	free(f);
}

static struct filter *filter_new(struct rewrite *r, struct peer *peer,
				 const struct filter_conf *conf, const struct milter_list *l,
				 bool by_smtp)
{
	struct filter *f = xcalloc(1, sizeof(*f));

	f->r = r;
	f->peer = peer;
	f->conf = conf;
	f->by_smtp = by_smtp;
	if (l->count > 0)
		f->set = milter_set_new(r->filters.client, l, &conf->macros,
					by_smtp ? &session_host : &mail_host, f);
	r->filter_count++;
	return f;
}

size_t filter_count(const struct rewrite *r)
{
	return r->filter_count;
}

void filter_detach(struct peer *peer)
{
	struct sv key;
	void *value;
	size_t pos = 0;

	while (strmap_next(peer->filters, &pos, &key, &value)) {
		struct filter *f = value;

		if (f->tx != NULL)
			f->tx->filter = NULL;
		strmap_remove(peer->filters, session_key(&f->session));
		filter_free(f);
		pos = 0;
	}
}

/* ---- events ---- */

static void reply(struct filter *f, const char *text, uint32_t flags)
{
	char rec[sizeof(struct proto_milter_reply) + PROTO_MILTER_REPLY_MAX];
	size_t len = text != NULL ? size_min(strlen(text), PROTO_MILTER_REPLY_MAX) : 0;
	struct proto_milter_reply m = { .kind = PROTO_MILTER_REPLY,
					.session = f->session,
					.milter = f->id,
					.flags = flags,
					.text_len = (uint32_t)len };

	if (f->set != NULL && milter_set_wants_rejected(f->set))
		m.flags |= MILTER_REPLY_REJECTED;
	f->rcpt_ok = f->rcpt_addr != NULL && (len == 0 || text[0] == 'H') && !f->rcpt_refused;
	if (len > 0 && strchr("45", text[0]) != NULL)
		counter_add(f->r->w->counters, CTR_milter_rejects, 1);
	memcpy(rec, &m, sizeof(m));
	if (len > 0)
		memcpy(rec + sizeof(m), text, len);
	worker_send(f->r->w, f->peer->wp->link, rec, sizeof(m) + len);
}

static struct sv next_string(struct sv *rest)
{
	struct sv s = SV("");

	if (!milter_get_string(rest, &s))
		*rest = SV("");
	return s;
}

static void set_text(char **to, struct sv value)
{
	free(*to);
	*to = xstrndup(value.p, value.len);
	str_make_printable(*to, strlen(*to));
}

static void set_or_drop(char **to, struct sv value)
{
	if (value.len > 0) {
		set_text(to, value);
		return;
	}
	free(*to);
	*to = NULL;
}

static void put_strings(struct sv rest, struct buf *out)
{
	while (rest.len > 0)
		milter_put_string(out, next_string(&rest));
}

static bool set_qid(struct filter *f, struct sv *rest)
{
	return str_copy(f->qid, sizeof(f->qid), next_string(rest));
}

static bool prepare_connect(struct filter *f, struct sv rest, struct buf *out)
{
	char **const texts[] = { &f->addr,    &f->port,        &f->name,     &f->reverse,
				 &f->resolve, &f->connections, &f->own_addr, &f->own_port };
	uint64_t port = 0;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		set_text(texts[i], next_string(&rest));
	(void)str_to_u64(sv_from(f->port), 65535, &port);
	milter_connect_args(f->name, f->addr, (uint16_t)port, out);
	return true;
}

static bool prepare_text(struct filter *f, struct sv rest, struct buf *out)
{
	(void)f;
	milter_put_string(out, next_string(&rest));
	return true;
}

/* Of an encrypted session what is known of it comes behind the name. */
static bool prepare_helo(struct filter *f, struct sv rest, struct buf *out)
{
	char **const texts[] = { &f->tls_version, &f->cipher, &f->cipher_bits, &f->cert_subject,
				 &f->cert_issuer };

	milter_put_string(out, next_string(&rest));
	for (size_t i = 0; i < ARRAY_LEN(texts) && rest.len > 0; i++)
		set_text(texts[i], next_string(&rest));
	return true;
}

/* False: remote tables are asked where the address goes. */
static bool prepare_mail(struct filter *f, struct sv rest, struct buf *out)
{
	set_qid(f, &rest);
	struct sv addr = next_string(&rest);

	set_or_drop(&f->auth_type, next_string(&rest));
	set_or_drop(&f->auth_authen, next_string(&rest));
	set_or_drop(&f->auth_author, next_string(&rest));
	put_strings(rest, out);
	return filter_resolve(f, SV(""), addr, &f->mail_addr, &f->mail_host, &f->mail_mailer);
}

/* Of a refused recipient the macros say why: "554 5.7.1 <a@b>: Relay access denied". */
static void refused_rcpt(struct filter *f, struct sv why)
{
	struct sv rest = why;

	sv_next_part(&rest, ' ');
	set_text(&f->rcpt_mailer, SV("error"));
	set_text(&f->rcpt_host, sv_next_part(&rest, ' '));
	sv_next_part(&rest, ' ');
	set_text(&f->rcpt_addr, rest);
}

static bool prepare_rcpt(struct filter *f, struct sv rest, struct buf *out)
{
	set_qid(f, &rest);
	struct sv addr = next_string(&rest), why = next_string(&rest);

	put_strings(rest, out);
	f->rcpt_refused = why.len > 0;
	if (why.len > 0) {
		refused_rcpt(f, why);
		return true;
	}
	return filter_resolve(f, SV(""), addr, &f->rcpt_addr, &f->rcpt_host, &f->rcpt_mailer);
}

static bool prepare_data(struct filter *f, struct sv rest, struct buf *out)
{
	(void)out;
	return set_qid(f, &rest) || true;
}

static const struct event_kind {
	uint8_t command;
	bool (*prepare)(struct filter *f, struct sv rest, struct buf *out);
} event_kinds[] = {
	{ MILTER_CONNECT, prepare_connect }, { MILTER_HELO, prepare_helo },
	{ MILTER_MAIL, prepare_mail },       { MILTER_RCPT, prepare_rcpt },
	{ MILTER_DATA, prepare_data },       { MILTER_UNKNOWN, prepare_text },
	{ MILTER_OTHER, prepare_text },
};

static const struct event_kind *find_kind(uint8_t command)
{
	for (size_t i = 0; i < ARRAY_LEN(event_kinds); i++) {
		if (event_kinds[i].command == command)
			return &event_kinds[i];
	}
	return NULL;
}

static void drop(char **text)
{
	free(*text);
	*text = NULL;
}

/* Another event: the recipient is the first one again. */
static void clear_rcpt(struct filter *f)
{
	if (f->rcpt_ok && f->first_addr == NULL) {
		TAKE(f->first_addr, f->rcpt_addr);
		TAKE(f->first_host, f->rcpt_host);
		TAKE(f->first_mailer, f->rcpt_mailer);
	}
	f->rcpt_ok = false;
	drop(&f->rcpt_addr);
	drop(&f->rcpt_host);
	drop(&f->rcpt_mailer);
}

static void clear_transaction(struct filter *f)
{
	clear_rcpt(f);
	f->qid[0] = '\0';
	drop(&f->first_addr);
	drop(&f->first_host);
	drop(&f->first_mailer);
	drop(&f->mail_addr);
	drop(&f->mail_host);
	drop(&f->mail_mailer);
}

static void event_answered(void *ctx);

/* Give the event in f->event to the milters, now or when tables have said what they know. */
static void start_event(struct filter *f)
{
	struct proto_milter_event e;
	struct buf args = BUF_INIT;
	const char *answer = NULL;
	bool rejected, ready;

	memcpy(&e, f->event.p, sizeof(e));
	struct sv rest = { f->event.p + sizeof(e), f->event.len - sizeof(e) };

	clear_rcpt(f);
	ready = find_kind(e.command)->prepare(f, rest, &args);
	while (!ready) {
		f->fetch = tables_fetch(f->r->tables, f->memo, event_answered, f);
		if (f->fetch != NULL)
			break;
		buf_reset(&args);
		ready = find_kind(e.command)->prepare(f, rest, &args);
	}
	rejected = (e.flags & MILTER_EVENT_REJECTED) != 0;
	if (ready) {
		map_memo_free(&f->memo);
		buf_fini(&f->event);
		if (milter_set_event(f->set, (char)e.command, buf_sv(&args), rejected, &answer))
			reply(f, answer, 0);
	}
	buf_fini(&args);
}

static void event_answered(void *ctx)
{
	struct filter *f = ctx;

	f->fetch = NULL;
	start_event(f);
}

static struct filter *open_session(struct rewrite *r, struct peer *peer,
				   const struct proto_milter_event *e, struct sv text)
{
	const struct milter_list *l;
	struct filter *f;
	char addr[64];

	str_copy(addr, sizeof(addr), next_string(&text));
	l = filters_of_client(&r->filters, e->listener, addr);

	static const struct milter_list none = { .count = 0 };

	f = filter_new(r, peer, &r->filters.listeners[e->listener], l != NULL ? l : &none, true);
	f->session = e->session;
	f->id = e->milter;
	if (l != NULL) {
		strmap_put(peer->filters, session_key(&f->session), f);
		return f;
	}
	reply(f, NULL, MILTER_REPLY_NONE);
	filter_free(f);
	return NULL;
}

/* What can be said of the record alone. */
static const char *check_event(const struct rewrite *r, const struct peer *peer,
			       const struct proto_milter_event *e, size_t len)
{
	const struct filter *f = strmap_get(peer->filters, session_key(&e->session));
	bool quiet = e->command == MILTER_ABORT || e->command == MILTER_QUIT;

	if (len != sizeof(*e) + (size_t)e->text_len || e->text_len > PROTO_MILTER_TEXT_MAX)
		return "milter event with a bad length";
	if (e->milter == 0 || (!quiet && find_kind(e->command) == NULL))
		return "unknown milter event";
	if (r->filters.client == NULL || e->listener >= r->filters.listener_count)
		return "milter event without milters";
	if (e->command == MILTER_CONNECT)
		return f != NULL ? "milter session begins twice"
		       : strmap_count(peer->filters) >= PEER_FILTERS_MAX
			       ? "too many milter sessions"
			       : NULL;
	if (f == NULL || f->id != e->milter)
		return "event of no milter session";
	if (!quiet && (f->fetch != NULL || (f->set != NULL && milter_set_is_busy(f->set))))
		return "two milter events at once";
	return NULL;
}

/* A message that is with the milters then is one that nobody waits for. */
static void quit_session(struct peer *peer, struct filter *f)
{
	struct tx *tx = f->tx;

	strmap_remove(peer->filters, session_key(&f->session));
	filter_free(f);
	if (tx == NULL)
		return;
	tx->filter = NULL;
	tx->inspected = true;
	tx->filter_verdict = verdict_write_error;
	tx_filtered(tx);
}

void filter_event(struct rewrite *r, struct peer *peer, const void *rec, size_t len)
{
	struct proto_milter_event e;
	const char *why = "short milter event";
	struct filter *f;

	if (len >= sizeof(e)) {
		memcpy(&e, rec, sizeof(e));
		why = check_event(r, peer, &e, len);
	}
	if (why != NULL) {
		peer_accuse(r, peer, why);
		return;
	}
	f = e.command == MILTER_CONNECT
		    ? open_session(r, peer, &e,
				   (struct sv){ (const char *)rec + sizeof(e), e.text_len })
		    : strmap_get(peer->filters, session_key(&e.session));
	if (f == NULL)
		return;
	if (e.command == MILTER_QUIT) {
		quit_session(peer, f);
	} else if (e.command == MILTER_ABORT) {
		clear_transaction(f);
		if (f->set != NULL && !milter_set_is_busy(f->set))
			milter_set_abort(f->set);
	} else if (f->set == NULL) {
		reply(f, e.command == MILTER_CONNECT ? BROKEN_REPLY : LOST_REPLY, 0);
	} else {
		buf_reset(&f->event);
		buf_add(&f->event, rec, len);
		start_event(f);
	}
}

/* ---- a message ---- */

/* "QID: milter-reject: END-OF-MESSAGE from name[addr]: 5.7.1 text; from=<> to=<> proto= helo=<>" */
static void log_action(const struct filter *f, const char *action, const char *where,
		       const char *text)
{
	const struct envelope *e = &f->tx->m.env;
	struct buf line = BUF_INIT;

	buf_printf(&line, "%s: %s: %s from %s[%s]: %s;", f->tx->m.qid_text, action, where, f->name,
		   f->addr, text);
	buf_printf(&line, " from=<%.*s>", (int)e->sender.len, e->sender.p);
	if (e->rcpt_count > 0)
		buf_printf(&line, " to=<%.*s>", (int)e->rcpts[e->rcpt_count - 1].addr.len,
			   e->rcpts[e->rcpt_count - 1].addr.p);
	if (e->proto.len > 0)
		buf_printf(&line, " proto=%.*s", (int)e->proto.len, e->proto.p);
	if (e->helo.len > 0)
		buf_printf(&line, " helo=<%.*s>", (int)e->helo.len, e->helo.p);
	str_make_printable(line.p, line.len);
	log_as(f->tx->m.chain->log_name, LOG_LEVEL_INFO, "%s", buf_cstr(&line));
	buf_fini(&line);
}

/* A reply as a verdict. One that has no enhanced status code, or several lines, goes to the client
 * as it is (no code of its own then); other mail has a code in any case. */
static void refuse(struct filter *f, const char *text)
{
	struct message_verdict *v = &f->verdict;
	struct sv rest = sv_from(text + 4);
	size_t n = strstr(text, "\r\n") == NULL ? smtp_dsn_parse(rest, v->dsn) : 0;
	char *kept;

	v->code = (uint16_t)atoi(text);
	v->verdict = text[0] == '4' ? SUBMIT_TEMPFAIL : SUBMIT_PERMFAIL;
	if (n > 0)
		rest = sv_trim((struct sv){ rest.p + n, rest.len - n });
	else if (f->by_smtp)
		rest = sv_from(text);
	if (n == 0)
		memcpy(v->dsn, (uint8_t[3]){ 0, 0, 0 }, 3);
	if (n == 0 && !f->by_smtp)
		memcpy(v->dsn, (uint8_t[3]){ (uint8_t)(text[0] - '0'), 7, 1 }, 3);
	kept = arena_strndup(&f->tx->m.arena, rest.p, rest.len);
	v->text = kept != NULL ? kept : "Service unavailable";
}

static void refuse_logged(struct filter *f, const char *where, const char *text)
{
	struct buf shown = BUF_INIT;

	buf_add_str(&shown, text + 4);
	str_make_printable(shown.p, shown.len);
	refuse(f, text);
	log_action(f, "milter-reject", where, buf_cstr(&shown));
	counter_add(f->r->w->counters, CTR_milter_rejects, 1);
	buf_fini(&shown);
}

/* What is to become of the message by this reply. */
static void apply_reply(struct filter *f, const char *where, const char *text)
{
	struct message *m = &f->tx->m;

	if (text == NULL || (m->env.flags & ENVF_DISCARD) != 0 || f->verdict.verdict != SUBMIT_OK ||
	    f->check_run.refusal.code != 0)
		return;
	if (text[0] == 'H' && (m->env.flags & ENVF_HOLD) == 0) {
		m->env.flags |= ENVF_HOLD;
		log_action(f, "milter-hold", where,
			   text[1] != '\0' ? text + 1 : "milter triggers HOLD action");
	} else if (text[0] == 'D') {
		m->env.flags |= ENVF_DISCARD;
		log_action(f, "milter-discard", where, "milter triggers DISCARD action");
	} else if (text[0] == 'S') {
		refuse_logged(f, where, "421 4.7.0 Service unavailable");
	} else if (text[0] == '4' || text[0] == '5') {
		refuse_logged(f, where, text);
	}
}

static void take_check_refusal(struct filter *f)
{
	const struct check_refusal *c = &f->check_run.refusal;

	if (f->check_run.table_error && f->verdict.verdict == SUBMIT_OK)
		f->verdict = verdict_write_error;
	if (c->code != 0 && f->verdict.verdict == SUBMIT_OK)
		f->verdict =
			(struct message_verdict){ c->code < 500 ? SUBMIT_TEMPFAIL : SUBMIT_PERMFAIL,
						  c->code,
						  { c->dsn[0], c->dsn[1], c->dsn[2] },
						  c->text };
}

/* The milters have spoken. The message goes on, changed, or is refused or dropped. */
static const struct message_verdict *end_message(struct filter *f)
{
	struct tx *tx = f->tx;
	struct message *m = &tx->m;
	bool changed = f->content.changed;

	take_check_refusal(f);
	histogram_add(f->r->w->counters, HIS_milter_message,
		      (uint64_t)(clock_mono_us_raw() - f->begun_us));
	if (f->verdict.verdict == SUBMIT_OK && (m->env.flags & ENVF_DISCARD) != 0)
		f->verdict = verdict_discard;
	if (f->verdict.verdict == SUBMIT_OK && m->arena.full)
		f->verdict = verdict_no_space;
	if (f->verdict.verdict == SUBMIT_OK && changed) {
		struct buf out = BUF_INIT;

		milter_content_put(&f->content, &out);
		message_content_changed(m, &out);
		counter_add(f->r->w->counters, CTR_milter_changed, 1);
	}
	message_envelope_changed(m);
	tx->filter_verdict = f->verdict;
	tx->filter = NULL;
	tx->inspected = true;
	drop_content(f);
	if (!f->by_smtp)
		filter_free(f);
	return &tx->filter_verdict;
}

static void begin_content(struct filter *f)
{
	struct message *m = &f->tx->m;
	size_t head = size_min(m->header.section_bytes, m->out.len);
	uint64_t limit = m->chain->message_size_limit;

	milter_content_begin(&f->content, &m->arena, (struct sv){ m->out.p, head },
			     (struct sv){ m->out.p + head, m->out.len - head }, true,
			     limit == UINT64_MAX ? 0 : limit);
	f->checks = checks_begin_milter(&f->check_run, &m->chain->checks, &m->env, m->qid_text,
					&m->arena);
	f->begun_us = clock_mono_us_raw();
	str_copy(f->qid, sizeof(f->qid), sv_from(m->qid_text));
	f->verdict = verdict_ok;
}

/* Mail of a QMQP client has no session that milters could have seen. */
static bool is_qmqp(const struct envelope *env)
{
	return sv_eq(env->proto, SV("QMQP"));
}

bool filter_applies(const struct rewrite *r, const struct peer *peer, uint32_t flags,
		    const struct envelope *env)
{
	if (r->filters.client == NULL || (env->flags & ENVF_NO_MILTERS) != 0)
		return false;
	if ((env->flags & ENVF_INTERNAL) != 0)
		return (r->rules.filter_classes & FILTER_CLASS_NOTIFY) != 0 &&
		       filters_of_mail(&r->filters, env->cleanup)->list.count > 0;
	if (peer->wp->class_id == CLASS_SMTP_IN && !is_qmqp(env))
		return (flags & SUBMIT_MILTER) != 0;
	return (peer->wp->class_id == CLASS_PICKUP || peer->wp->class_id == CLASS_SMTP_IN) &&
	       filters_of_mail(&r->filters, env->cleanup)->list.count > 0;
}

static const struct message_verdict *message_of_session(struct filter *f)
{
	const char *answer = NULL;

	if (!milter_set_message(f->set, &f->content, &answer))
		return NULL;
	apply_reply(f, "END-OF-MESSAGE", answer);
	return end_message(f);
}

const struct message_verdict *filter_message(struct rewrite *r, struct peer *peer, struct tx *tx)
{
	bool by_smtp = peer != NULL && peer->wp->class_id == CLASS_SMTP_IN &&
		       (tx->m.env.flags & ENVF_INTERNAL) == 0 && !is_qmqp(&tx->m.env);
	struct filter *f = NULL;

	if (by_smtp) {
		f = strmap_get(peer->filters, session_key(&tx->session));
		if (f == NULL || f->set == NULL || f->fetch != NULL || milter_set_is_busy(f->set))
			return &verdict_write_error;
	} else {
		const struct filter_conf *conf = filters_of_mail(&r->filters, tx->m.env.cleanup);

		f = filter_new(r, peer, conf, &conf->list, false);
	}
	f->tx = tx;
	tx->filter = f;
	begin_content(f);
	return by_smtp ? message_of_session(f) : run_stages(f);
}

void filter_cancel(struct tx *tx)
{
	struct filter *f = tx->filter;

	tx->filter = NULL;
	if (f == NULL)
		return;
	if (f->by_smtp) { /* it is in the middle of a message that is no more */
		milter_set_free(&f->set);
		drop_content(f);
	} else {
		filter_free(f);
	}
}

/* ---- mail without a session: one is made up ---- */

enum { STAGE_CONNECT, STAGE_HELO, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_MESSAGE, STAGE_OVER };

static const char *const stage_names[] = {
	[STAGE_CONNECT] = "CONNECT", [STAGE_HELO] = "EHLO", [STAGE_MAIL] = "MAIL",
	[STAGE_RCPT] = "RCPT",       [STAGE_DATA] = "DATA", [STAGE_MESSAGE] = "END-OF-MESSAGE",
};

static void set_quoted(char **to, struct sv addr)
{
	struct buf quoted = BUF_INIT;

	if (addr.len > 0)
		mail_addr_quote(addr, &quoted);
	free(*to);
	*to = xstrdup(buf_cstr(&quoted));
	buf_fini(&quoted);
}

static void put_client(struct filter *f, struct buf *args)
{
	bool only_v6 = strcmp(f->conf->p->inet_protocols, "ipv6") == 0;

	set_text(&f->name, SV("localhost"));
	set_text(&f->reverse, SV("localhost"));
	set_text(&f->addr, only_v6 ? SV("::1") : SV("127.0.0.1"));
	set_text(&f->own_addr, sv_from(f->addr));
	set_text(&f->port, SV("0"));
	set_text(&f->own_port, SV("0"));
	milter_connect_args(f->name, f->addr, 0, args);
}

/* True: it is over, with *answer. */
static bool start_stage(struct filter *f, const char **answer)
{
	static const char commands[] = {
		[STAGE_CONNECT] = MILTER_CONNECT, [STAGE_HELO] = MILTER_HELO,
		[STAGE_MAIL] = MILTER_MAIL,       [STAGE_RCPT] = MILTER_RCPT,
		[STAGE_DATA] = MILTER_DATA,
	};
	const struct envelope *e = &f->tx->m.env;
	struct buf args = BUF_INIT;
	bool over;

	if (f->stage == STAGE_MESSAGE)
		return milter_set_message(f->set, &f->content, answer);
	if (f->stage == STAGE_CONNECT) {
		put_client(f, &args);
	} else if (f->stage == STAGE_HELO) {
		milter_put_string(&args, sv_from(f->name));
	} else if (f->stage == STAGE_MAIL) {
		set_quoted(&f->mail_addr, e->sender);
		milter_put_string(&args, sv_from(f->mail_addr));
	} else if (f->stage == STAGE_RCPT) {
		set_quoted(&f->rcpt_addr, e->rcpts[f->rcpt_at].addr);
		milter_put_string(&args, sv_from(f->rcpt_addr));
	}
	over = milter_set_event(f->set, commands[f->stage], buf_sv(&args), false, answer);
	buf_fini(&args);
	return over;
}

/* Nobody is there who could be told that one recipient is refused. */
static void refused_recipient(struct filter *f)
{
	log_as(f->tx->m.chain->log_name, LOG_LEVEL_WARN,
	       "%s: milter configuration error: can't reject recipient in non-smtpd(8) submission",
	       f->tx->m.qid_text);
	log_as(f->tx->m.chain->log_name, LOG_LEVEL_WARN,
	       "%s: message not accepted, try again later", f->tx->m.qid_text);
	f->verdict = (struct message_verdict){
		SUBMIT_TEMPFAIL, 451, { 4, 3, 5 }, "Server configuration error"
	};
}

static void stage_over(struct filter *f, const char *answer)
{
	bool rcpt = f->stage == STAGE_RCPT;

	apply_reply(f, stage_names[f->stage], answer);
	if (f->verdict.verdict != SUBMIT_OK || (f->tx->m.env.flags & ENVF_DISCARD) != 0) {
		if (rcpt && f->verdict.verdict != SUBMIT_OK)
			refused_recipient(f);
		f->stage = STAGE_OVER;
	} else if (!rcpt || ++f->rcpt_at >= f->tx->m.env.rcpt_count) {
		f->stage++;
		if (f->stage == STAGE_RCPT && f->tx->m.env.rcpt_count == 0)
			f->stage++;
	}
}

static const struct message_verdict *run_stages(struct filter *f)
{
	while (f->stage != STAGE_OVER) {
		const char *answer = NULL;

		if (!start_stage(f, &answer))
			return NULL;
		stage_over(f, answer);
	}
	return end_message(f);
}

/* ---- what the set says later ---- */

static void on_done(void *ctx, const char *text)
{
	struct filter *f = ctx;
	struct tx *tx = f->tx;
	const struct message_verdict *v;

	if (tx == NULL) {
		reply(f, text, 0);
		return;
	}
	if (f->by_smtp) {
		apply_reply(f, "END-OF-MESSAGE", text);
		v = end_message(f);
	} else {
		stage_over(f, text);
		v = run_stages(f);
	}
	if (v != NULL)
		tx_filtered(tx);
}
