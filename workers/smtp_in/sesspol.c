/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Policy and log lines of a session: what the restrictions see, and Postfix's line shapes. */
#include <stdio.h>
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/qmqp.h"
#include "workers/smtp_in/sesstls.h"

/* A run with what it looks at. One is kept for the next evaluation: most end at once. */
struct session_run {
	struct policy_run run;
	struct policy_view view;
	struct arena scratch;  /* while there is no transaction (VRFY) */
	struct map_memo *memo; /* answers of remote tables; NULL when there are no such tables */
	bool in_call;
};

static struct session_run *spare_run;

static struct session_run *run_of(const struct session *s)
{
	return container_of(s->run, struct session_run, run);
}

bool session_policy_in_call(const struct session *s)
{
	return s->run != NULL && run_of(s)->in_call;
}

static bool is_cmd(const struct session *s, enum cmd_id id)
{
	return s->pending.cmd == &smtp_cmds[id];
}

static const char *current_sender(const struct session *s)
{
	if (is_cmd(s, CMD_MAIL))
		return buf_cstr(&s->pending.addr);
	return s->tx != NULL ? s->tx->sender : NULL;
}

static const char *current_rcpt(const struct session *s)
{
	if (is_cmd(s, CMD_RCPT) || is_cmd(s, CMD_VRFY))
		return buf_cstr(&s->pending.addr);
	/* with several recipients, naming one would mislead */
	return s->tx != NULL && (s->tx->rcpt_count == 1 || s->milter.logs) ? s->tx->first_rcpt
									   : NULL;
}

static uint64_t current_size(const struct session *s)
{
	if (is_cmd(s, CMD_MAIL))
		return s->pending.size;
	if (s->act_size > 0)
		return s->act_size;
	return s->tx != NULL ? s->tx->env.size_hint : 0;
}

static const char *current_helo(const struct session *s)
{
	return is_cmd(s, CMD_HELO) || is_cmd(s, CMD_EHLO) ? buf_cstr(&s->pending.addr) : s->helo;
}

static void fill_view(const struct session *s, struct policy_view *v)
{
	*v = (struct policy_view){
		.client_name = s->name,
		.client_addr = s->addr,
		.reverse_name = s->reverse_name,
		.namaddr = s->namaddr,
		.name_status = s->name_status,
		.reverse_status = s->reverse_status,
		.helo = current_helo(s),
		.sender = current_sender(s),
		.recipient = current_rcpt(s),
		.rcpt_count = s->tx != NULL ? s->tx->rcpt_count : 0,
		.smtputf8 = s->tx != NULL && (s->tx->env.flags & ENVF_SMTPUTF8) != 0,
		.ill_pipelining = s->ill_pipelining,
		.where = is_cmd(s, CMD_BDAT) && strcmp(s->where, "BDAT") == 0 ? "DATA" : s->where,
		.protocol = s->esmtp ? "ESMTP" : "SMTP",
		.client_port = s->port,
		.server_addr = s->server_addr,
		.server_port = s->server_port,
		.queue_id = s->tx != NULL && s->tx->has_qid ? session_qid(s) : "",
		.instance = s->tx != NULL ? s->tx->instance : "",
		.stress = s->listener->stress,
		.size = current_size(s),
		.rcpt_is_probe = s->pending.from_probe,
		.tls = session_tls_view(s),
	};
	if (is_cmd(s, CMD_ETRN))
		v->etrn = buf_cstr(&s->pending.addr);
	session_auth_view(s, v);
}

static void log_from_policy(void *ctx, const char *action, const char *text)
{
	session_log_action(ctx, action, text);
}

static void begin_run(struct session *s)
{
	struct session_run *r = spare_run != NULL ? spare_run : xmalloc(sizeof(*r));

	spare_run = NULL;
	r->in_call = false;
	arena_init(&r->scratch, 1024, 65536);
	r->memo = map_remote_is_used() ? map_memo_new() : NULL;
	fill_view(s, &r->view);
	r->run.pc = s->listener->policy;
	r->run.view = &r->view;
	r->run.state = &s->policy;
	r->run.arena = s->tx != NULL ? &s->tx->arena : &r->scratch;
	r->run.log = log_from_policy;
	r->run.log_ctx = s;
	s->run = &r->run;
}

void session_policy_free(struct session *s)
{
	if (s->run == NULL)
		return;
	struct session_run *r = run_of(s);

	policy_abandon(&r->run);
	if (s->tx == NULL)
		policy_state_reset_tx(&s->policy);
	arena_fini(&r->scratch);
	map_memo_free(&r->memo);
	s->run = NULL;
	if (spare_run == NULL)
		spare_run = r;
	else
		free(r);
}

/* Do what the run needs. True: it can go on at once. */
static bool answer_need(struct session *s)
{
	struct session_run *r = run_of(s);

	if (r->run.need.kind == POLICY_NEED_SLEEP) {
		s->wait = WAIT_SLEEP;
		s->sleep_until_ms = clock_now().ms + r->run.need.sleep_ms;
		return false;
	}
	if (r->run.need.kind == POLICY_NEED_TABLES && r->memo == NULL) {
		r->memo = map_memo_new();
		return true;
	}
	if (r->run.need.kind == POLICY_NEED_TABLES) {
		s->wait = WAIT_TABLES;
		s->tables_query = s->ops->tables(s->ops->ctx, s, r->memo);
		if (s->tables_query == NULL)
			s->wait = WAIT_NONE;
		return s->wait == WAIT_NONE;
	}
	r->run.dns = (struct policy_dns){ .status = POLICY_DNS_INVALID };
	if (r->run.need.name[0] == '\0')
		return true;
	s->wait = WAIT_DNS;
	r->in_call = true;
	s->dns_query = s->ops->dns(s->ops->ctx, s, r->run.need.name, r->run.need.rrtype);
	r->in_call = false;
	return s->wait == WAIT_NONE;
}

/* `event`: begin with it; negative: go on. */
static enum policy_verdict evaluate(struct session *s, int event)
{
	struct map_memo *memo = run_of(s)->memo;
	enum policy_verdict v;

	if (memo != NULL)
		map_memo_enter(memo);
	v = event >= 0 ? policy_start(s->run, (enum policy_event)event) : policy_resume(s->run);
	if (memo != NULL)
		map_memo_leave(); /* run.need tells what is missing */
	return v;
}

/* Start an evaluation, or go on with the one that waited. NEED: s->wait is set. With REJECT and
 * DEFER the run stays for its reply; session_policy_free() in any case. */
enum policy_verdict session_policy(struct session *s, enum policy_event event)
{
	enum policy_verdict v;

	if (s->listener->policy == NULL) /* stand-alone: the user talks to himself */
		return POLICY_PERMIT;
	if (s->run == NULL) {
		begin_run(s);
		v = evaluate(s, (int)event);
	} else {
		v = evaluate(s, -1);
	}
	while (v == POLICY_NEED && answer_need(s))
		v = evaluate(s, -1);
	return v;
}

/* ---- log lines ---- */

const char *session_qid(const struct session *s)
{
	static char text[QID_TEXT_SIZE];

	if (s->tx == NULL || !s->tx->has_qid)
		return "NOQUEUE";
	return qid_format(s->tx->qid, text);
}

static void add_addr(struct buf *out, const char *label, const char *addr)
{
	buf_add_str(out, label);
	mail_addr_quote(sv_from(addr), out);
	buf_add_c(out, '>');
}

/* " from=<> to=<> proto=ESMTP helo=<>" */
static void add_state(const struct session *s, const char *rcpt, struct buf *line)
{
	const char *sender = current_sender(s), *helo = current_helo(s);

	if (sender != NULL)
		add_addr(line, " from=<", sender);
	if (rcpt != NULL)
		add_addr(line, " to=<", rcpt);
	buf_printf(line, " proto=%s", s->esmtp ? "ESMTP" : "SMTP");
	if (helo != NULL)
		buf_printf(line, " helo=<%s>", helo);
	session_auth_log(s, " ", line);
}

/* "QID: reject: RCPT from name[ip]: text; from=<> to=<> proto=ESMTP helo=<>" */
void session_log_action(struct session *s, const char *action, const char *text)
{
	struct buf line = BUF_INIT;

	buf_printf(&line, "%s: %s: %s from %s: %s;", session_qid(s), action, s->where, s->namaddr,
		   text);
	add_state(s, current_rcpt(s), &line);
	log_info("%s", buf_cstr(&line));
	buf_fini(&line);
}

void session_log_filtered(struct session *s, const char *action, const char *text)
{
	struct buf line = BUF_INIT;

	buf_printf(&line, "%s: %s: %s;", action, s->where, text);
	str_make_printable(line.p, line.len);
	add_state(s, s->tx->first_rcpt, &line);
	log_info("%s", buf_cstr(&line));
	buf_fini(&line);
}

/*
 * "lost connection after MAIL from name[ip]". The queue id is there only when content was on its
 * way: filters (fail2ban's among them) want the other lines to begin with the reason.
 */
void session_log_gone(const struct session *s, const char *reason)
{
	if (s->listener->qmqp)
		qmqp_log_gone(s, reason);
	else if (s->state == SESSION_DATA || s->state == SESSION_CHUNK)
		log_info("%s: %s after %s (%llu bytes) from %s", session_qid(s), reason,
			 s->state == SESSION_DATA ? "DATA" : "BDAT",
			 (unsigned long long)s->act_size, s->namaddr);
	else if (strcmp(s->where, "END-OF-MESSAGE") != 0 || strcmp(reason, "lost connection") != 0)
		log_info("%s after %s from %s", reason, s->where, s->namaddr);
}

void session_log_connect(const struct session *s)
{
	log_speak_as(s->listener->log_name);
	log_info("connect from %s", s->namaddr);
}

/* "=1/2": good ones of all. */
static void add_counts(struct buf *line, uint64_t good, uint64_t total, bool both)
{
	buf_add_c(line, '=');
	buf_add_uint(line, good);
	if (!both)
		return;
	buf_add_c(line, '/');
	buf_add_uint(line, total);
}

void session_log_disconnect(const struct session *s)
{
	static struct buf line; /* keeps its memory */
	uint64_t good = 0, total = 0;

	buf_reset(&line);

	buf_add_str(&line, "disconnect from ");
	buf_add_str(&line, s->namaddr);
	for (unsigned i = 0; i < CMD_COUNT; i++) {
		if (s->counts_total[i] == 0)
			continue;
		good += s->counts_good[i];
		total += s->counts_total[i];
		buf_add_c(&line, ' ');
		size_t at = line.len;

		buf_add_str(&line, i == CMD_UNKNOWN ? "unknown" : smtp_cmds[i].verb);
		str_lower(line.p + at, line.len - at);
		add_counts(&line, s->counts_good[i], s->counts_total[i],
			   s->counts_good[i] != s->counts_total[i]);
	}
	if (!s->listener->qmqp) {
		buf_add_str(&line, " commands");
		add_counts(&line, good, total, good != total || total == 0);
	}
	if (s->noted_bare_lf)
		buf_add_str(&line, " notes=bare_lf");
	log_speak_as(s->listener->log_name);
	log_text(line.p, line.len);
}

size_t session_memory(const struct session *s)
{
	size_t n = sizeof(*s) + s->in.cap + s->out.cap + s->pending.addr.cap +
		   s->pending.extra.cap + strlen(s->name) + strlen(s->reverse_name) +
		   strlen(s->namaddr) + 3;

	n += qmqp_memory(s);
	if (s->helo != NULL)
		n += strlen(s->helo) + 1;
	if (s->tx != NULL)
		n += sizeof(*s->tx) + s->tx->arena.used_bytes;
	return n;
}
