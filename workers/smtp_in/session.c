/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The session machine: input by state, waits, time-outs, the end of a session. Commands are in
 * command.c and cmd_*.c, policy glue and log lines in sesspol.c.
 */
#include "workers/smtp_in/session.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/log.h"
#include "shm/counters.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/qmqp.h"
#include "workers/smtp_in/sessfilter.h"
#include "workers/smtp_in/sessmilter.h"
#include "workers/smtp_in/sesstalk.h"
#include "workers/smtp_in/sesstls.h"

#define OUT_HIGH_BYTES  16384u     /* replies that may wait before commands do */
#define LONG_LINE_BYTES (1u << 20) /* of one line that are thrown away before we hang up */
#define PIPELINED_SHOWN 100u

static struct counters_shm own_counters;
struct counters_shm *session_counters = &own_counters;

/* ---- beginning and end ---- */

/* Text of an address; an IPv4-mapped one as IPv4. True: it is IPv6. */
static bool address_text(const struct sockaddr *sa, char addr[46], char port[8])
{
	const struct sockaddr_in *v4 = (const void *)sa;
	const struct sockaddr_in6 *v6 = (const void *)sa;
	unsigned number = 0;
	bool is_ipv6 = false;

	snprintf(addr, 46, "unknown");
	if (sa != NULL && sa->sa_family == AF_INET) {
		inet_ntop(AF_INET, &v4->sin_addr, addr, 46);
		number = ntohs(v4->sin_port);
	} else if (sa != NULL && sa->sa_family == AF_INET6) {
		number = ntohs(v6->sin6_port);
		is_ipv6 = !IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
		if (is_ipv6)
			inet_ntop(AF_INET6, &v6->sin6_addr, addr, 46);
		else
			inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], addr, 46);
	}
	snprintf(port, 8, "%u", number);
	return is_ipv6;
}

void session_set_client(struct session *s, const struct sockaddr *sa)
{
	s->is_ipv6 = address_text(sa, s->addr, s->port);
	free(s->namaddr);
	s->namaddr = xasprintf("unknown[%s]", s->addr);
}

void session_set_server(struct session *s, const struct sockaddr *sa)
{
	address_text(sa, s->server_addr, s->server_port);
}

void session_init(struct session *s, const struct listener *l, const struct session_ops *ops,
		  const struct sockaddr *peer)
{
	*s = (struct session){
		.listener = l,
		.ops = ops,
		.state = SESSION_GREETING,
		.wait = WAIT_NAME,
		.where = "CONNECT",
		.deadline_ms = INT64_MAX,
	};
	s->is_ipv6 = address_text(peer, s->addr, s->port);
	s->name = xstrdup("unknown");
	s->reverse_name = xstrdup("unknown");
	s->namaddr = xasprintf("unknown[%s]", s->addr);
	s->name_status = s->reverse_status = POLICY_NAME_PERM;
}

static void pending_fini(struct pending *p)
{
	buf_fini(&p->addr);
	buf_fini(&p->extra);
	buf_fini(&p->args);
	*p = (struct pending){ 0 };
}

void session_fini(struct session *s)
{
	if (s->dns_query != NULL)
		s->ops->dns_cancel(s->ops->ctx, s->dns_query);
	if (s->tables_query != NULL)
		s->ops->tables_cancel(s->ops->ctx, s->tables_query);
	s->dns_query = s->tables_query = NULL;
	map_memo_free(&s->client_memo);
	session_talk_end(s);
	session_reset_tx(s);
	session_milter_end(s);
	session_auth_fini(s);
	session_policy_free(s);
	session_tls_free(s);
	qmqp_free(s);
	policy_state_fini(&s->policy);
	pending_fini(&s->pending);
	buf_fini(&s->in);
	buf_fini(&s->out);
	free(s->name);
	free(s->reverse_name);
	free(s->namaddr);
	free(s->helo);
	free(s->access_denied);
	free(s->skip_reply);
	s->name = s->reverse_name = s->namaddr = s->helo = s->access_denied = s->skip_reply = NULL;
}

/* The transaction is over, whatever became of it. */
void session_reset_tx(struct session *s)
{
	struct tx *t = s->tx;

	policy_state_reset_tx(&s->policy);
	session_milter_reset(s, false);
	s->bdat = BDAT_NONE;
	s->act_size = 0;
	s->rcpt_overshoot = 0;
	cmd_forwarded_free(&s->forwarded);
	session_auth_reset_tx(s);
	if (t == NULL)
		return;
	s->ops->abort(s->ops->ctx, s);
	session_filter_free(s);
	s->tx = NULL;
	tx_free(t);
}

void session_close(struct session *s)
{
	s->state = SESSION_CLOSING;
	s->wait = WAIT_NONE;
	s->deadline_ms = clock_now().ms + 10000; /* for the last reply to get out */
	buf_fini(&s->in);
}

/* ---- time ---- */

static void restart_clock(struct session *s)
{
	const struct params *p = s->listener->p;

	s->deadline_ms = clock_now().ms + (s->listener->qmqp ? p->qmqpd_timeout : p->smtpd_timeout);
}

/* Input came. With smtpd_per_request_deadline only content buys more time, by its amount. */
static void input_came(struct session *s, size_t len)
{
	const struct params *p = s->listener->p;
	bool content = s->state == SESSION_DATA || s->state == SESSION_CHUNK;

	if (!p->smtpd_per_request_deadline || s->listener->qmqp) {
		restart_clock(s);
	} else if (content && p->smtpd_min_data_rate > 0) {
		int64_t bought = (int64_t)(len * 1000 / (size_t)p->smtpd_min_data_rate);
		int64_t most = clock_now().ms + p->smtpd_timeout;

		s->deadline_ms = s->deadline_ms + bought < most ? s->deadline_ms + bought : most;
	}
}

static void start_sleep(struct session *s, int64_t ms)
{
	s->wait = WAIT_SLEEP;
	s->sleep_until_ms = clock_now().ms + ms;
}

int64_t session_next_ms(const struct session *s)
{
	if (s->wait == WAIT_SLEEP || s->wait == WAIT_AUTH)
		return s->sleep_until_ms;
	if (s->wait == WAIT_NONE || s->out.len > 0)
		return s->deadline_ms;
	return INT64_MAX;
}

static void gone(struct session *s, const char *reason)
{
	session_talk_reason(s, reason);
	session_log_gone(s, reason);
	session_close(s);
}

static void too_slow(struct session *s)
{
	gone(s, "timeout");
	if (!s->listener->qmqp)
		session_reply(s, "421 4.4.2 %s Error: timeout exceeded",
			      s->listener->p->myhostname);
}

/* ---- one command ---- */

static void finish_command(struct session *s, bool good)
{
	const struct params *p = s->listener->p;
	const struct smtp_cmd *cmd = s->pending.cmd;

	if (good)
		s->counts_good[smtp_cmd_id(cmd)]++;
	else
		s->error_count++;
	if ((cmd->flags & CMD_JUNK) != 0 && s->junk_count++ > p->smtpd_junk_command_limit)
		s->error_count++;
	s->pending.cmd = NULL;
	if (s->in.len == 0)
		pending_fini(&s->pending);
}

/* After each command: is this the end? */
static void check_limits(struct session *s)
{
	const struct params *p = s->listener->p;

	if (s->state == SESSION_CLOSING)
		return;
	if (s->hangup) {
		session_close(s);
	} else if (s->error_count >= p->smtpd_hard_error_limit && s->pending.cmd == NULL) {
		session_talk_reason(s, "too many errors");
		session_log_gone(s, "too many errors");
		session_reply(s, "421 4.7.0 %s Error: too many errors", p->myhostname);
		session_close(s);
	}
}

/* The policy said no to the command. */
static void refuse_command(struct session *s)
{
	counter_add(session_counters, CTR_smtpd_rejects, 1);
	if (s->run->hangup)
		s->hangup = true;
	else
		session_reply(s, "%s", s->run->reply);
	session_policy_free(s);
	if (s->pending.cmd->event == POLICY_ON_MAIL)
		session_reset_tx(s);
	finish_command(s, false);
}

static void greet(struct session *s);

/* False: they are asked, or have refused the command. BDAT has octets to take first. */
static bool milters_agree(struct session *s)
{
	bool octets = (s->pending.cmd->flags & CMD_TAKES_OCTETS) != 0;
	const char *reply;
	enum milter_step step = octets ? MILTER_GOES_ON : session_milter_command(s, &reply);

	if (step != MILTER_REFUSES)
		return step == MILTER_GOES_ON;
	session_reply_text(s, reply);
	if (s->pending.cmd->event == POLICY_ON_MAIL)
		session_reset_tx(s);
	finish_command(s, false);
	check_limits(s);
	return false;
}

void session_continue_command(struct session *s)
{
	const struct smtp_cmd *cmd = s->pending.cmd;

	if (s->pending.stage == 0) {
		bool answered = session_milter_has_answer(s), refused = answered && s->run != NULL;

		if (cmd->event >= 0 && !answered) {
			enum policy_verdict v = session_policy(s, (enum policy_event)cmd->event);

			if (v == POLICY_NEED)
				return;
			refused = v == POLICY_REJECT || v == POLICY_DEFER;
			if (!refused)
				session_policy_free(s);
		}
		if (refused && session_milter_rejected(s, s->run->reply))
			return;
		if (refused) {
			refuse_command(s);
			check_limits(s);
			return;
		}
		if (!milters_agree(s))
			return;
		s->pending.stage = 1;
	}
	enum cmd_outcome out = cmd->apply(s);

	if (out != CMD_WAITS)
		finish_command(s, out == CMD_OK);
	check_limits(s);
	if (s->state == SESSION_GREETING)
		greet(s);
}

void session_command_done(struct session *s, bool good)
{
	s->state = SESSION_COMMAND;
	s->wait = WAIT_NONE;
	if (s->listener->p->smtpd_per_request_deadline)
		restart_clock(s);
	finish_command(s, good);
	check_limits(s);
}

static void unknown_done(struct session *s)
{
	s->where = "UNKNOWN";
	s->counts_total[CMD_UNKNOWN]++;
	s->error_count++;
	check_limits(s);
}

static void escape_into(struct buf *out, struct sv text)
{
	for (size_t i = 0; i < text.len; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c == '\r' || c == '\n' || c == '\t')
			buf_printf(out, "\\%c", c == '\r' ? 'r' : c == '\n' ? 'n' : 't');
		else if (c < ' ' || c > 126 || c == '\\')
			buf_printf(out, "\\%03o", c);
		else
			buf_add_c(out, (char)c);
	}
}

/* The client spoke out of turn. True: say so and hang up. */
static bool check_pipelining(struct session *s, struct sv rest)
{
	struct buf shown = BUF_INIT;

	/* who talks to himself (sendmail -bs) may give it all at once, from a file */
	if (rest.len == 0 || s->ill_pipelining || s->listener->policy == NULL)
		return false;
	escape_into(&shown, (struct sv){ rest.p, size_min(rest.len, PIPELINED_SHOWN) });
	log_info("improper command pipelining after %s from %s: %s", s->where, s->namaddr,
		 buf_cstr(&shown));
	buf_fini(&shown);
	s->ill_pipelining = true;
	if (!s->listener->p->smtpd_forbid_unauth_pipelining)
		return false;
	session_reply(s, "554 5.5.0 Error: SMTP protocol synchronization");
	session_close(s);
	return true;
}

/* Is the verb in a list of commands? Verbs that are longer than any sane one are cut. */
static bool is_listed(struct matchlist *list, struct sv verb)
{
	char text[100];

	str_copy(text, sizeof(text), verb);
	return matchlist_has_domain(list, sv_from(text)) > 0;
}

static bool is_header_like(struct sv verb)
{
	const char *colon = memchr(verb.p, ':', verb.len);

	if (colon == NULL || colon == verb.p)
		return false;
	for (const char *p = verb.p; p < colon; p++) {
		if (*p <= ' ' || *p >= 127)
			return false;
	}
	return true;
}

/* Milters may put it off; their other replies are less than ours. */
static void unknown_over(struct session *s)
{
	const char *reply = s->milter.reply;

	s->milter.asked = 0;
	if (reply != NULL && reply[0] == '4')
		session_reply_text(s, reply);
	else
		session_reply(s, "500 5.5.2 Error: command not recognized");
	unknown_done(s);
}

static void unknown_command(struct session *s, struct sv verb, struct sv line)
{
	s->where = "UNKNOWN";
	if (is_header_like(verb) || is_listed(s->listener->forbidden_commands, verb)) {
		struct buf shown = BUF_INIT;

		s->counts_total[CMD_UNKNOWN]++;
		escape_into(&shown, (struct sv){ line.p, size_min(line.len, PIPELINED_SHOWN) });
		log_warn("non-SMTP command from %s: %s", s->namaddr, buf_cstr(&shown));
		buf_fini(&shown);
		session_reply(s, "221 2.7.0 Error: I can break rules, too. Goodbye.");
		session_close(s);
		return;
	}
	if (s->access_denied != NULL) {
		session_reply(s, "503 5.7.0 Error: access denied for %s", s->namaddr);
		unknown_done(s);
	} else if (!session_milter_unknown(s, line)) {
		unknown_over(s);
	}
}

static void known_command(struct session *s, const struct smtp_cmd *cmd, struct sv args,
			  struct sv rest)
{
	s->counts_total[smtp_cmd_id(cmd)]++;
	if (s->access_denied != NULL && cmd->apply != cmd_quit_apply) {
		session_reply(s, "503 5.7.0 Error: access denied for %s", s->namaddr);
		s->error_count++;
		check_limits(s);
		return;
	}
	if (session_tls_refuses(s, cmd)) {
		check_limits(s);
		return;
	}
	s->where = cmd->verb;
	if ((!s->esmtp || (cmd->flags & CMD_LAST) != 0) && check_pipelining(s, rest))
		return;
	s->pending.cmd = cmd;
	s->pending.stage = 0;
	if ((cmd->flags & CMD_NO_ARGS) != 0 && args.len > 0) {
		session_reply(s, "501 5.5.4 Syntax: %s", cmd->syntax);
		finish_command(s, false);
	} else if (cmd->check != NULL && !cmd->check(s, args)) {
		if (s->pending.cmd != NULL && s->state == SESSION_COMMAND)
			finish_command(s, false);
	} else {
		session_continue_command(s);
		return;
	}
	check_limits(s);
}

/* smtpd_command_filter. E_AGAIN: it could not be asked. */
static int filter_command(struct session *s, struct sv *line, struct buf *filtered)
{
	while (line->len > 0 && (line->p[0] == ' ' || line->p[0] == '\t'))
		*line = (struct sv){ line->p + 1, line->len - 1 };
	switch (map_list_get(s->listener->command_filter, *line, filtered)) {
	case MAP_FOUND:
		log_info("%s: replacing command \"%.*s\" with \"%.100s\"", s->namaddr,
			 (int)size_min(line->len, 100), line->p, buf_cstr(filtered));
		*line = buf_sv(filtered);
		return 0;
	case MAP_NOT_FOUND:
		return 0;
	case MAP_ERROR:
		break;
	}
	log_warn("smtpd_command_filter lookup error for \"%.*s\"", (int)size_min(line->len, 100),
		 line->p);
	return E_AGAIN;
}

static void run_line(struct session *s, struct sv line, struct sv rest);

static void command_line(struct session *s, struct sv line, struct sv rest)
{
	struct buf filtered = BUF_INIT;

	counter_add(session_counters, CTR_smtpd_commands, 1);
	if (s->talk != NULL || s->verbose)
		session_talk_in(s, line);
	if (map_list_is_empty(s->listener->command_filter)) {
		run_line(s, line, rest);
	} else if (filter_command(s, &line, &filtered) == 0) {
		run_line(s, line, rest);
	} else {
		session_log_gone(s, "local data error");
		session_reply(s, "421 4.3.0 %s Server local data error",
			      s->listener->p->myhostname);
		session_close(s);
	}
	buf_fini(&filtered);
}

static void run_line(struct session *s, struct sv line, struct sv rest)
{
	const struct params *p = s->listener->p;
	size_t i = 0;

	if (p->smtputf8_enable && !str_is_utf8(line.p, line.len)) {
		session_reply(s, "500 5.5.2 Error: bad UTF-8 syntax");
		unknown_done(s);
		return;
	}
	line = sv_trim(line);
	while (i < line.len && !ascii_is_space(line.p[i]))
		i++;
	struct sv verb = { line.p, i };
	struct sv args = sv_trim((struct sv){ line.p + i, line.len - i });

	if (verb.len == 0 || memchr(line.p, '\0', line.len) != NULL) {
		session_reply(s, "500 5.5.2 Error: bad syntax");
		unknown_done(s);
		return;
	}
	if (p->smtpd_noop_commands[0] != '\0' && is_listed(s->listener->noop_commands, verb)) {
		session_reply(s, "250 2.0.0 Ok");
		if (s->junk_count++ > p->smtpd_junk_command_limit)
			s->error_count++;
		check_limits(s);
		return;
	}
	const struct smtp_cmd *cmd = smtp_cmd_find(verb);

	if (cmd == NULL)
		unknown_command(s, verb, line);
	else
		known_command(s, cmd, args, rest);
}

/* ---- input by state ---- */

bool session_take_line_end(struct session *s, struct sv *line)
{
	bool checked = s->strict_newline || s->reject_newline || s->note_newline;
	bool bare = line->len == 0 || line->p[line->len - 1] != '\r';

	if (bare && s->note_newline)
		s->noted_bare_lf = true;
	if (bare && s->reject_newline) {
		session_log_action(s, "reject", "bare <LF> received");
		session_reply(s, "%d 5.5.2 %s Error: bare <LF> received",
			      (int)s->listener->p->smtpd_forbid_bare_newline_reject_code,
			      s->listener->p->myhostname);
		session_close(s);
		return false;
	}
	while (line->len > 0 && line->p[line->len - 1] == '\r') {
		line->len--;
		if (checked)
			break;
	}
	return true;
}

void session_restart_request(struct session *s)
{
	if (s->listener->p->smtpd_per_request_deadline)
		restart_clock(s);
}

static void line_too_long(struct session *s)
{
	s->state = SESSION_COMMAND;
	session_reply(s, "500 5.5.2 %s Error: command too long", s->listener->p->myhostname);
	unknown_done(s);
}

static size_t command_input(struct session *s, const char *p, size_t len)
{
	const struct params *par = s->listener->p;
	size_t limit = (size_t)par->line_length_limit + 2;
	const char *nl = len > 0 ? memchr(p, '\n', size_min(len, limit)) : NULL;

	if (nl == NULL) {
		if (len < limit)
			return 0;
		s->state = SESSION_LONG_LINE;
		s->chunk_left = LONG_LINE_BYTES;
		return limit;
	}
	if (s->error_count >= par->smtpd_soft_error_limit && !s->slept &&
	    par->smtpd_error_sleep_time > 0) {
		start_sleep(s, par->smtpd_error_sleep_time);
		return 0;
	}
	s->slept = false;
	size_t used = (size_t)(nl - p) + 1;
	struct sv line = { p, used - 1 };

	session_restart_request(s);
	if (session_take_line_end(s, &line))
		command_line(s, line, (struct sv){ p + used, len - used });
	return used;
}

static size_t long_line_input(struct session *s, const char *p, size_t len)
{
	const char *nl = len > 0 ? memchr(p, '\n', len) : NULL;

	if (nl != NULL) {
		line_too_long(s);
		return (size_t)(nl - p) + 1;
	}
	if (len > s->chunk_left) {
		log_warn("disabling input from %s: a command line without end", s->namaddr);
		line_too_long(s);
		session_close(s);
		return len;
	}
	s->chunk_left -= len;
	return len;
}

static size_t no_input(struct session *s UNUSED, const char *p UNUSED, size_t len UNUSED)
{
	return 0;
}

static size_t (*const input_by_state[])(struct session *s, const char *p, size_t len) = {
	[SESSION_GREETING] = no_input,         [SESSION_COMMAND] = command_input,
	[SESSION_LONG_LINE] = long_line_input, [SESSION_DATA] = data_input,
	[SESSION_CHUNK] = chunk_input,         [SESSION_SKIP] = skip_input,
	[SESSION_AUTH] = auth_input,           [SESSION_STARTTLS] = session_tls_discard,
	[SESSION_QMQP] = qmqp_input,           [SESSION_CLOSING] = no_input,
};
_Static_assert(ARRAY_LEN(input_by_state) == SESSION_STATE_COUNT, "a row for every state");

/* Use as much input as possible. */
static size_t process(struct session *s, const char *p, size_t len)
{
	size_t used = 0;

	while (s->wait == WAIT_NONE && s->out.len < OUT_HIGH_BYTES) {
		enum session_state before = s->state;
		size_t n = input_by_state[before](s, p + used, len - used);

		used += n;
		if (n == 0 && s->state == before)
			break;
	}
	return s->state == SESSION_CLOSING ? len : used;
}

/* What to do when the client has said its last word and we have answered all of it. */
static void check_eof(struct session *s)
{
	if (s->eof && s->wait == WAIT_NONE && s->state != SESSION_CLOSING &&
	    s->out.len < OUT_HIGH_BYTES)
		gone(s, "lost connection");
}

/* Keep what was not used, in no more memory than it needs: clients may leave it there for long. */
static void keep_input(struct session *s, struct buf *in, size_t used)
{
	size_t left = in->len - used;

	if (s->state != SESSION_CLOSING && left > 0)
		buf_add(&s->in, in->p + used, left);
	if (s->auth != NULL && in->p != NULL)
		explicit_bzero(in->p, in->cap);
	buf_fini(in);
}

/* Go on with what is in s->in. */
void session_pump(struct session *s)
{
	struct buf in = s->in;

	/* commands may close the session, which frees s->in */
	s->in = BUF_INIT;
	size_t used = process(s, in.p != NULL ? in.p : "", in.len);

	if (used == 0 && s->state != SESSION_CLOSING)
		s->in = in;
	else
		keep_input(s, &in, used);
	if (s->in.len == 0 && s->pending.cmd == NULL)
		pending_fini(&s->pending);
	check_eof(s);
}

void session_input(struct session *s, const char *data, size_t len)
{
	log_speak_as(s->listener->log_name);
	if (s->state == SESSION_CLOSING || len == 0)
		return;
	if (s->state != SESSION_STARTTLS)
		input_came(s, len);
	if (s->in.len > 0 || s->wait != WAIT_NONE) {
		buf_add(&s->in, data, len);
		if (s->wait == WAIT_NONE)
			session_pump(s);
		return;
	}
	size_t used = process(s, data, len);

	if (used < len)
		buf_add(&s->in, data + used, len - used);
	check_eof(s);
}

/* ---- what wakes a session ---- */

static void wake(struct session *s)
{
	bool unknown =
		s->wait == WAIT_MILTER && s->state == SESSION_COMMAND && s->pending.cmd == NULL;

	s->wait = WAIT_NONE;
	if (unknown)
		unknown_over(s);
	if (!s->listener->p->smtpd_per_request_deadline)
		restart_clock(s);
	if (s->state == SESSION_COMMAND && s->pending.cmd != NULL)
		session_continue_command(s);
	else if (s->state == SESSION_AUTH)
		session_auth_resume(s);
	else if (s->state == SESSION_DATA || s->state == SESSION_CHUNK)
		data_resume(s);
	else if (s->state == SESSION_QMQP)
		qmqp_resume(s);
	if (s->wait == WAIT_NONE)
		session_pump(s);
}

void session_tick(struct session *s)
{
	log_speak_as(s->listener->log_name);
	int64_t now = clock_now().ms;

	if (s->wait == WAIT_SLEEP && now >= s->sleep_until_ms) {
		s->slept = true;
		if (s->state == SESSION_GREETING) {
			s->wait = WAIT_NONE;
			session_greet(s);
		} else {
			wake(s);
		}
	} else if (s->wait == WAIT_AUTH && now >= s->sleep_until_ms) {
		session_auth_late(s);
	} else if (session_next_ms(s) <= now) {
		if (s->state == SESSION_CLOSING)
			s->is_broken = true;
		else if (s->state == SESSION_STARTTLS)
			session_tls_timeout(s);
		else if (s->out.len > 0)
			session_broken(s);
		else
			too_slow(s);
	}
}

void session_dns_answer(struct session *s, const struct policy_dns *a)
{
	log_speak_as(s->listener->log_name);
	s->dns_query = NULL;
	if (s->run == NULL || s->wait != WAIT_DNS)
		return;
	policy_answered(s->run, a);
	if (session_policy_in_call(s)) {
		s->wait = WAIT_NONE;
		return;
	}
	if (s->state == SESSION_GREETING) {
		s->wait = WAIT_NONE;
		session_greet(s);
	} else {
		wake(s);
	}
}

void session_tables_answered(struct session *s)
{
	log_speak_as(s->listener->log_name);
	s->tables_query = NULL;
	if (s->wait != WAIT_TABLES)
		return;
	if (s->state == SESSION_GREETING) {
		s->wait = WAIT_NONE;
		session_greet(s);
	} else {
		wake(s);
	}
}

void session_wake(struct session *s)
{
	log_speak_as(s->listener->log_name);
	if (s->state != SESSION_GREETING) {
		wake(s);
		return;
	}
	s->wait = WAIT_NONE;
	session_greet(s);
}

void session_room(struct session *s)
{
	log_speak_as(s->listener->log_name);
	if (s->wait == WAIT_ROOM)
		wake(s);
}

void session_eof(struct session *s)
{
	log_speak_as(s->listener->log_name);
	s->eof = true;
	check_eof(s);
}

void session_broken(struct session *s)
{
	log_speak_as(s->listener->log_name);
	s->is_broken = true;
	if (s->state != SESSION_CLOSING)
		gone(s, "lost connection");
}

void session_output_done(struct session *s, size_t written)
{
	buf_consume(&s->out, written);
	if (s->out.len == 0)
		buf_fini(&s->out);
	if (s->state == SESSION_CLOSING || s->state == SESSION_STARTTLS)
		return;
	restart_clock(s);
	if (s->wait == WAIT_NONE && s->out.len < OUT_HIGH_BYTES && s->in.len > 0)
		session_pump(s);
	check_eof(s);
}

void session_drain(struct session *s)
{
	if (s->state != SESSION_COMMAND || s->wait != WAIT_NONE || s->tx != NULL || s->in.len > 0)
		return;
	session_reply(s, "421 4.3.2 %s Service shutting down", s->listener->p->myhostname);
	session_close(s);
}

bool session_wants_input(const struct session *s)
{
	return s->wait == WAIT_NONE && s->state != SESSION_CLOSING && s->out.len == 0 && !s->eof;
}

bool session_is_over(const struct session *s)
{
	return s->state == SESSION_CLOSING && (s->out.len == 0 || s->is_broken);
}

/* ---- connecting ---- */

static void refuse_crowd(struct session *s)
{
	session_reply(s, "421 4.7.0 %s Error: too many connections from %s",
		      s->listener->p->myhostname, s->addr);
	session_close(s);
}

void session_begin_again(struct session *s)
{
	s->state = SESSION_GREETING; /* s->where stays: the log says XCLIENT, as Postfix's */
}

void session_greet(struct session *s)
{
	log_speak_as(s->listener->log_name);
	greet(s);
	if (s->state == SESSION_COMMAND || s->state == SESSION_QMQP)
		session_pump(s);
}

/* In SESSION_GREETING still: it waits. */
static void greet(struct session *s)
{
	s->wait = WAIT_NONE;
	if (!session_client_is_known(s))
		return;
	if (s->listener->qmqp) {
		qmqp_greet(s);
		return;
	}
	if (!s->greeted) {
		s->greeted = true;
		if (s->ops->crowd != NULL && s->ops->crowd(s->ops->ctx, s)) {
			refuse_crowd(s);
			return;
		}
		if (check_pipelining(s, buf_sv(&s->in)))
			return;
	}
	enum policy_verdict v =
		session_milter_has_answer(s) ? POLICY_PERMIT : session_policy(s, POLICY_ON_CONNECT);

	if (v == POLICY_NEED)
		return;
	if (v == POLICY_REJECT || v == POLICY_DEFER) {
		counter_add(session_counters, CTR_smtpd_rejects, 1);
		s->access_denied = xstrdup(s->run->reply);
		s->error_count++;
		session_reply(s, "%s", s->access_denied);
	}
	session_policy_free(s);
	if (s->access_denied == NULL && !session_milter_greet(s))
		return;
	s->state = SESSION_COMMAND;
	restart_clock(s);
	check_limits(s);
}
