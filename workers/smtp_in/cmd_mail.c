/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MAIL and RCPT: paths, parameters (RFC 1870, 6152, 6531, 3461), limits, the transaction. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "shm/counters.h"
#include "workers/mail/address.h"
#include "workers/mail/probeaddr.h"
#include "workers/mail/verp.h"
#include "workers/mail/xtext.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/sessfilter.h"
#include "workers/smtp_in/sessmilter.h"

#define TX_CHUNK_BYTES 2048u
#define SPARE_TXS      64u
#define TX_BASE_BYTES  (256u * 1024)
#define TX_RCPT_BYTES  2048u /* arena per recipient that smtpd_recipient_limit allows */
#define TX_MOST_BYTES  (256u * 1024 * 1024)

static bool offered(const struct session *s, enum ehlo_keyword k)
{
	return (s->discard_mask & 1u << k) == 0;
}

static bool utf8_offered(const struct session *s)
{
	return s->listener->p->smtputf8_enable && offered(s, EHLO_SMTPUTF8);
}

/* ---- parameters ---- */

/* Next blank-separated word. */
static bool next_param(struct sv *rest, struct sv *word)
{
	size_t n = 0;

	*rest = sv_trim(*rest);
	while (n < rest->len && !ascii_is_space(rest->p[n]))
		n++;
	*word = (struct sv){ rest->p, n };
	*rest = (struct sv){ rest->p + n, rest->len - n };
	return n > 0;
}

static bool has_key(struct sv word, const char *key, struct sv *value)
{
	size_t n = strlen(key);

	if (word.len < n || !sv_eq_nocase((struct sv){ word.p, n }, (struct sv){ key, n }))
		return false;
	*value = (struct sv){ word.p + n, word.len - n };
	return true;
}

static bool dsn_refused(struct session *s)
{
	if (offered(s, EHLO_DSN))
		return false;
	session_reply(s, "501 5.7.1 DSN support is disabled");
	return true;
}

static bool bad_param(struct session *s, const char *text)
{
	session_reply(s, "%s", text);
	return false;
}

static bool param_size(struct session *s, struct sv v)
{
	for (size_t i = 0; i < v.len; i++) {
		if (!ascii_is_digit(v.p[i]))
			v.len = 0;
	}
	if (v.len == 0)
		return bad_param(s, "501 5.5.4 Bad message size syntax");
	if (str_to_u64(v, INT64_MAX, &s->pending.size) != 0)
		return bad_param(s, "552 5.3.4 Message size exceeds file system imposed limit");
	return true;
}

static bool param_ret(struct session *s, struct sv v)
{
	if (dsn_refused(s))
		return false;
	if (s->pending.ret == DSN_RET_NONE && sv_eq_nocase(v, SV("FULL")))
		s->pending.ret = DSN_RET_FULL;
	else if (s->pending.ret == DSN_RET_NONE && sv_eq_nocase(v, SV("HDRS")))
		s->pending.ret = DSN_RET_HDRS;
	else
		return bad_param(s, "501 5.5.4 Bad RET parameter syntax");
	return true;
}

static bool param_envid(struct session *s, struct sv v)
{
	if (dsn_refused(s))
		return false;
	if (s->pending.extra.len > 0 || v.len == 0 || v.len > 100 * 3 ||
	    !mail_xtext_decode(v, &s->pending.extra))
		return bad_param(s, "501 5.5.4 Bad ENVID parameter syntax");
	return true;
}

static bool param_verp(struct session *s, struct sv v)
{
	const struct params *p = s->listener->p;

	if (s->may_verp < 0) {
		session_reply(s, "451 4.3.0 Temporary lookup error");
		return false;
	}
	if (verp_check_delimiters(v, p->verp_delimiter_filter) != NULL) {
		session_reply(s, "501 5.5.4 Error: XVERP needs two characters from %s",
			      p->verp_delimiter_filter);
		return false;
	}
	str_copy(s->pending.verp, sizeof(s->pending.verp), v);
	return true;
}

static bool mail_param(struct session *s, struct sv word)
{
	struct sv v;

	if (sv_eq_nocase(word, SV("BODY=8BITMIME"))) {
		s->pending.body = BODY_8BIT;
	} else if (sv_eq_nocase(word, SV("BODY=7BIT"))) {
		s->pending.body = BODY_7BIT;
	} else if (utf8_offered(s) && sv_eq_nocase(word, SV("SMTPUTF8"))) {
		s->pending.smtputf8 = true;
	} else if (has_key(word, "SIZE=", &v)) {
		return param_size(s, v);
	} else if (has_key(word, "RET=", &v)) {
		return param_ret(s, v);
	} else if (has_key(word, "ENVID=", &v)) {
		return param_envid(s, v);
	} else if (has_key(word, "AUTH=", &v)) {
		return session_auth_mail_param(s, v);
	} else if (s->may_verp != 0 && sv_eq_nocase(word, SV("XVERP"))) {
		return param_verp(s, sv_from(s->listener->p->default_verp_delimiters));
	} else if (s->may_verp != 0 && has_key(word, "XVERP=", &v)) {
		return param_verp(s, v);
	} else {
		session_reply(s, "555 5.5.4 Unsupported option: %.*s", (int)word.len, word.p);
		return false;
	}
	return true;
}

static bool param_orcpt(struct session *s, struct sv v)
{
	const char *semi = v.len > 0 ? memchr(v.p, ';', v.len) : NULL;
	struct buf *out = &s->pending.extra;

	if (dsn_refused(s))
		return false;
	if (out->len > 0 || semi == NULL || semi == v.p || v.len > 500)
		return bad_param(s, "501 5.5.4 Error: Bad ORCPT parameter syntax");
	struct sv type = { v.p, (size_t)(semi - v.p) };
	struct sv addr = { semi + 1, v.len - type.len - 1 };
	struct buf text = BUF_INIT;
	bool good = sv_eq_nocase(type, SV("utf-8")) ? mail_utf8_xtext_decode(addr, &text)
						    : mail_xtext_decode(addr, &text);

	for (size_t i = 0; i < type.len; i++)
		good = good && (ascii_is_alnum(type.p[i]) || type.p[i] == '-');
	buf_printf(out, "%.*s;%s", (int)type.len, type.p, buf_cstr(&text));
	buf_fini(&text);
	return good || bad_param(s, "501 5.5.4 Error: Bad ORCPT parameter syntax");
}

static bool rcpt_param(struct session *s, struct sv word)
{
	struct sv v;

	if (has_key(word, "NOTIFY=", &v)) {
		if (dsn_refused(s))
			return false;
		if (s->pending.rcpt.notify != 0 ||
		    (s->pending.rcpt.notify = (uint8_t)env_notify_parse(v)) == 0)
			return bad_param(s, "501 5.5.4 Error: Bad NOTIFY parameter syntax");
		return true;
	}
	if (has_key(word, "ORCPT=", &v))
		return param_orcpt(s, v);
	session_reply(s, "555 5.5.4 Unsupported option: %.*s", (int)word.len, word.p);
	return false;
}

/* ---- addresses ---- */

/* "FROM:" or "TO:", then something. */
static bool take_prefix(struct sv *args, const char *word)
{
	struct sv rest;

	if (!has_key(*args, word, &rest))
		return false;
	rest = sv_trim(rest);
	if (rest.len > 0 && rest.p[0] == ':')
		*args = sv_trim((struct sv){ rest.p + 1, rest.len - 1 });
	else
		return false;
	return args->len > 0;
}

unsigned cmd_path_flags(const struct params *p)
{
	return (p->strict_rfc821_envelopes ? MAIL_PATH_STRICT : 0u) |
	       (p->resolve_numeric_domain ? MAIL_PATH_NUMERIC : 0u);
}

/* Into pending.addr; refuses what the resolver could not use. */
static bool take_address(struct session *s, struct sv args, bool utf8, struct sv *params)
{
	const struct params *p = s->listener->p;
	static struct addr_resolved resolved;
	struct buf *addr = &s->pending.addr;

	buf_reset(addr);
	buf_reset(&s->pending.extra);
	if (mail_addr_parse_path(args, cmd_path_flags(p), addr, params) != 0) {
		log_warn("Illegal address syntax from %s in %s command: %.*s", s->namaddr, s->where,
			 (int)size_min(args.len, 200), args.p);
		return false;
	}
	if (addr->len == 0)
		return true;
	if (!p->allow_min_user && addr->p[0] == '-')
		return false; /* a command might take it for an option */
	if (s->listener->policy == NULL)
		return true;
	policy_resolve(s->listener->policy, buf_cstr(addr), &resolved);
	/* the class may not be known yet, or not at all; the syntax is */
	if (resolved.domain_off > 0 && !resolved.invalid && !utf8) {
		struct sv dom = { resolved.addr.p + resolved.domain_off,
				  resolved.addr.len - resolved.domain_off };

		resolved.invalid = !str_is_ascii(dom.p, dom.len);
	}
	if (resolved.invalid)
		log_warn("Illegal address syntax from %s in %s command: %.*s", s->namaddr, s->where,
			 (int)size_min(args.len, 200), args.p);
	return !resolved.invalid;
}

bool cmd_too_often(struct session *s, enum client_rate kind, int64_t limit, const char *what)
{
	if (limit <= 0 || s->limits_exempt)
		return false;
	unsigned n = s->ops->rate(s->ops->ctx, s, kind);

	if (n <= limit)
		return false;
	log_warn("%s rate limit exceeded: %u from %s for service %s", what, n, s->namaddr,
		 s->listener->service_name);
	return true;
}

/* ---- MAIL ---- */

/* Transactions come and go faster than anything else here: their memory is kept. */
static struct tx *spare_txs;
static unsigned spare_tx_count;

struct tx *tx_new(int64_t limit)
{
	size_t room = TX_MOST_BYTES;
	struct tx *t = spare_txs;

	if (limit > 0 && (uint64_t)limit < (TX_MOST_BYTES - TX_BASE_BYTES) / TX_RCPT_BYTES)
		room = TX_BASE_BYTES + (size_t)limit * TX_RCPT_BYTES;
	if (t == NULL) {
		t = xcalloc(1, sizeof(*t));
		arena_init(&t->arena, TX_CHUNK_BYTES, room);
		return t;
	}
	struct arena arena = t->arena;

	spare_txs = t->next_spare;
	spare_tx_count--;
	arena.limit_bytes = room;
	*t = (struct tx){ .arena = arena };
	return t;
}

void tx_free(struct tx *t)
{
	if (spare_tx_count == SPARE_TXS) {
		arena_fini(&t->arena);
		free(t);
		return;
	}
	arena_reset(&t->arena);
	t->next_spare = spare_txs;
	spare_txs = t;
	spare_tx_count++;
}

static bool mail_state_ok(struct session *s)
{
	if (s->listener->p->smtpd_helo_required && s->helo == NULL)
		session_reply(s, "503 5.5.1 Error: send HELO/EHLO first");
	else if (s->tx != NULL)
		session_reply(s, "503 5.5.1 Error: nested MAIL command");
	else if (s->bdat != BDAT_NONE)
		session_reply(s, "503 5.5.1 Error: MAIL after BDAT");
	else
		return true;
	return false;
}

static bool wants_utf8(const struct session *s, struct sv args)
{
	struct sv word;

	if (!utf8_offered(s))
		return false;
	while (next_param(&args, &word)) {
		if (sv_eq_nocase(word, SV("SMTPUTF8")))
			return true;
	}
	return false;
}

bool cmd_mail_check(struct session *s, struct sv args)
{
	const struct params *p = s->listener->p;
	struct pending *q = &s->pending;
	struct sv params, word, all = args;

	q->ret = DSN_RET_NONE;
	q->body = BODY_UNKNOWN;
	q->smtputf8 = false;
	q->size = 0;
	q->verp[0] = '\0';
	buf_reset(&q->addr); /* not yet a sender to log */
	if (!mail_state_ok(s))
		return false;
	if (!take_prefix(&args, "FROM"))
		return bad_param(s, "501 5.5.4 Syntax: MAIL FROM:<address>");
	if (cmd_too_often(s, RATE_MESSAGES, p->smtpd_client_message_rate_limit,
			  "Message delivery request")) {
		session_reply(s, "450 4.7.1 Error: too much mail from %s", s->addr);
		return false;
	}
	if (!take_address(s, args, wants_utf8(s, args), &params))
		return bad_param(s, "501 5.1.7 Bad sender address syntax");
	session_milter_keep(s, args, params);
	while (next_param(&params, &word)) {
		if (!mail_param(s, word))
			return false;
	}
	if (p->message_size_limit > 0 && q->size > (uint64_t)p->message_size_limit) {
		session_log_action(s, "reject", "552 5.3.4 Message size exceeds fixed limit");
		return bad_param(s, "552 5.3.4 Message size exceeds fixed limit");
	}
	if (q->verp[0] != '\0' && q->addr.len == 0)
		return bad_param(s, "503 5.5.4 Error: XVERP requires non-null sender");
	s->tx = tx_new(p->smtpd_recipient_limit);
	session_filter_keep(s, "MAIL", all);
	return true;
}

static bool mail_refused_late(struct session *s)
{
	const struct params *p = s->listener->p;
	const char *addr = buf_cstr(&s->pending.addr);

	if (p->strict_smtputf8 && !s->pending.smtputf8 && !str_is_ascii(addr, strlen(addr))) {
		session_reply(s, "553 5.6.7 Must declare SMTPUTF8 to send unicode address");
		return true;
	}
	if (s->is_local < 0) {
		session_log_action(s, "reject", "451 4.3.0 Temporary lookup error");
		session_reply(s, "451 4.3.0 Temporary lookup error");
		return true;
	}
	if (s->filter != NULL && !s->listener->speed_adjust)
		return false; /* nothing is stored here */
	int err = s->ops->may_accept(s->ops->ctx, s);

	if (err == E_NOSPC) {
		session_log_action(s, "reject", "452 4.3.1 Insufficient system storage");
		session_reply(s, "452 4.3.1 Insufficient system storage");
	} else if (err != 0) {
		session_log_action(s, "reject",
				   "451 4.3.0 Error: queue service unavailable, try again later");
		session_reply(s, "451 4.3.0 Error: queue service unavailable, try again later");
	}
	return err != 0;
}

static void set_instance(struct tx *t)
{
	static unsigned number;

	snprintf(t->instance, sizeof(t->instance), "%x.%llx.%llx.%x", (unsigned)getpid(),
		 (unsigned long long)t->env.arrival_us / 1000000,
		 (unsigned long long)t->env.arrival_us % 1000000, number++);
}

enum cmd_outcome cmd_mail_apply(struct session *s)
{
	struct tx *t = s->tx;
	struct pending *q = &s->pending;

	if (mail_refused_late(s)) {
		session_reset_tx(s);
		return CMD_FAILED;
	}
	t->sender = arena_strdup(&t->arena, buf_cstr(&q->addr));
	char *envid = arena_strdup(&t->arena, buf_cstr(&q->extra));

	char *verp = arena_strdup(&t->arena, q->verp);

	ASSERT(t->sender != NULL && envid != NULL &&
	       verp != NULL); /* the arena is fresh and larger than a line */
	t->env.sender = sv_from(t->sender);
	t->env.envid = sv_from(envid);
	t->env.ret = q->ret;
	t->env.verp = sv_from(verp);
	t->env.body = q->body;
	t->env.size_hint = q->size;
	t->env.arrival_us = clock_now_wall().us;
	set_instance(t);
	if (q->smtputf8)
		t->env.flags |= ENVF_SMTPUTF8;
	t->env.flags |= s->listener->env_flags;
	t->env.filter = sv_from(s->listener->p->content_filter);
	t->env.cleanup = sv_from(s->listener->cleanup);
	if (s->is_local > 0)
		t->env.flags |= ENVF_LOCAL_CLIENT;
	s->act_size = 0;
	session_reply(s, "250 2.1.0 Ok");
	return CMD_OK;
}

/* ---- RCPT ---- */

/* The sender of our probes (address_verify_sender): who is probed by us may probe us. It loses the
 * part that changes with time. */
static bool take_probe_sender(struct session *s)
{
	const struct params *p = s->listener->p;
	struct probe_addr a = { .sender = p->address_verify_sender,
				.myorigin = p->myorigin,
				.ttl_s = p->address_verify_sender_ttl / 1000 };
	struct buf plain = BUF_INIT;
	bool is = s->listener->policy != NULL &&
		  probe_addr_match(&a, buf_sv(&s->pending.addr), clock_now_wall().us / 1000000,
				   &plain);

	if (is) {
		buf_reset(&s->pending.addr);
		buf_add_sv(&s->pending.addr, buf_sv(&plain));
	}
	buf_fini(&plain);
	return is;
}

/* Too many: the first so many refusals are forgiven, as clients cannot know the limit. */
static bool rcpt_overflow(struct session *s)
{
	const struct params *p = s->listener->p;

	session_reply(s, "452 4.5.3 Error: too many recipients");
	if (s->rcpt_overshoot < p->smtpd_recipient_overshoot_limit) {
		s->rcpt_overshoot++;
		s->counts_good[CMD_RCPT]++;
		s->pending.cmd = NULL; /* refused, but no error of the client */
	}
	return false;
}

bool cmd_rcpt_check(struct session *s, struct sv args)
{
	const struct params *p = s->listener->p;
	struct tx *t = s->tx;
	struct sv params, word, all = args;

	s->pending.rcpt = (struct env_rcpt){ 0 };
	s->pending.from_probe = false;
	buf_reset(&s->pending.addr);
	if (t == NULL)
		return bad_param(s, "503 5.5.1 Error: need MAIL command");
	if (s->bdat != BDAT_NONE)
		return bad_param(s, "503 5.5.1 Error: RCPT after BDAT");
	if (!take_prefix(&args, "TO"))
		return bad_param(s, "501 5.5.4 Syntax: RCPT TO:<address>");
	if (cmd_too_often(s, RATE_RECIPIENTS, p->smtpd_client_recipient_rate_limit,
			  "Recipient address")) {
		session_reply(s, "450 4.7.1 Error: too many recipients from %s", s->addr);
		return false;
	}
	bool utf8 = (t->env.flags & ENVF_SMTPUTF8) != 0;

	if (!take_address(s, args, utf8, &params) || s->pending.addr.len == 0)
		return bad_param(s, "501 5.1.3 Bad recipient address syntax");
	session_milter_keep(s, args, params);
	s->pending.from_probe = take_probe_sender(s);
	while (next_param(&params, &word)) {
		if (!rcpt_param(s, word))
			return false;
	}
	if ((p->smtpd_recipient_limit > 0 && t->rcpt_count >= p->smtpd_recipient_limit) ||
	    t->arena.full)
		return rcpt_overflow(s);
	if (p->strict_smtputf8 && !utf8 && !str_is_ascii(s->pending.addr.p, s->pending.addr.len))
		return bad_param(s, "553 5.6.7 Must declare SMTPUTF8 to send unicode address");
	session_filter_keep(s, "RCPT", all);
	return true;
}

static void log_client(const struct session *s)
{
	struct buf line = BUF_INIT;

	buf_printf(&line, "%s: client=%s", session_qid(s), s->namaddr);
	session_auth_log(s, ", ", &line);
	cmd_forwarded_log(s, &line);
	log_text(line.p, line.len);
	buf_fini(&line);
}

enum cmd_outcome cmd_rcpt_apply(struct session *s)
{
	struct tx *t = s->tx;
	struct env_rcpt r = s->pending.rcpt;
	const char *refusal;
	enum filter_step step = session_filter_rcpt(s, &refusal);

	if (step == FILTER_REFUSES)
		session_reply_text(s, refusal);
	if (step != FILTER_GOES_ON)
		return step == FILTER_WAITS ? CMD_WAITS : CMD_FAILED;
	char *addr = arena_strdup(&t->arena, buf_cstr(&s->pending.addr));
	char *orcpt = arena_strdup(&t->arena, buf_cstr(&s->pending.extra));

	if (addr != NULL && orcpt != NULL) {
		r.addr = sv_from(addr);
		r.orcpt = sv_from(orcpt);
	}
	if (addr == NULL || orcpt == NULL || env_add_rcpt(&t->env, &t->arena, &r) != 0) {
		session_reply(s, "452 4.5.3 Error: too many recipients");
		return CMD_FAILED;
	}
	if (!t->has_qid && s->filter == NULL) {
		t->qid = s->ops->new_qid(s->ops->ctx);
		t->has_qid = true;
		log_client(s);
	}
	if (t->rcpt_count++ == 0)
		t->first_rcpt = addr;
	counter_add(session_counters, CTR_smtpd_recipients, 1);
	session_reply(s, "250 2.1.5 Ok");
	return CMD_OK;
}
