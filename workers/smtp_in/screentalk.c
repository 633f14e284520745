/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The dialogue of postscreen; see workers/smtp_in/screentalk.h. Replies and log lines are
 * Postfix's. */
#include "workers/smtp_in/screentalk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/str.h"
#include "policy/names.h"
#include "shm/counters.h"
#include "workers/smtp_in/listentls.h"
#include "workers/smtp_in/refusal.h"
#include "workers/smtp_in/screentls.h"

#define SHOWN_BYTES 100u /* of what a client sent, in a log line */
#define PLAIN_BYTES 4096u

struct verb;

struct screentalk {
	const struct screentalk_conf *k;
	struct screentalk_client client;
	char peer[64]; /* "[address]:port" */
	enum screentalk_state state;
	struct buf line; /* an unfinished command */
	struct buf out;  /* plain replies not yet written */
	bool starttls;   /* the next bytes belong to the handshake */
	struct screentls *tls;
	const char *where;   /* the last command */
	const char *refusal; /* of recipients */
	char *helo;
	char *sender; /* NULL = there was no MAIL */
	bool esmtp;
	unsigned skipped; /* tests that are not made any more in this session */
	unsigned command_count;
	uint32_t discard_mask; /* of the last EHLO */
	int64_t deadline_ms;
};

/* ---- replies ---- */

static const char *footer_name(void *ctx, struct sv name)
{
	static const char *const known[] = { "server_name", "client_address", "client_port",
					     "localtime" };

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (sv_eq_str(name, known[i]))
			return policy_names_get(ctx, name);
	}
	log_warn("unknown macro name \"%.*s\" in expansion request", (int)name.len, name.p);
	return NULL;
}

static void add_footer(const struct screentalk_conf *k, const char *addr, const char *port,
		       const char *text, struct buf *reply)
{
	struct buf found = BUF_INIT;
	struct sv template = sv_from(k->reject_footer);
	struct policy_names n = {
		.filter = k->expansion_filter,
		.server_name = k->hostname,
		.client_address = addr,
		.client_port = port,
	};

	if (map_list_get(k->footer_maps, sv_from(text), &found) == MAP_FOUND)
		template = buf_sv(&found);
	if (template.len > 0)
		refusal_add_footer(reply, template, footer_name, &n);
	buf_fini(&n.value);
	buf_fini(&found);
}

static void soften(const struct screentalk_conf *k, struct buf *reply)
{
	if (!k->soft_bounce)
		return;
	if (reply->p[0] == '5')
		reply->p[0] = '4';
	if (reply->len > 4 && reply->p[4] == '5')
		reply->p[4] = '4';
}

void screentalk_refusal(const struct screentalk_conf *k, const char *addr, const char *port,
			const char *text, struct buf *out)
{
	struct buf line = BUF_INIT;

	buf_add_str(&line, text);
	soften(k, &line);
	if (text[0] == '4' || text[0] == '5')
		add_footer(k, addr, port, text, &line);
	buf_add_sv(out, buf_sv(&line));
	buf_add(out, "\r\n", 2);
	buf_fini(&line);
}

static void put(struct screentalk *t, struct sv reply)
{
	if (screentls_is_on(t->tls))
		screentls_write(t->tls, reply.p, reply.len);
	else
		buf_add_sv(&t->out, reply);
}

/* `text`: without the last line end. */
static void reply(struct screentalk *t, const char *text)
{
	struct buf line = BUF_INIT;

	screentalk_refusal(t->k, t->client.addr, t->client.port, text, &line);
	put(t, buf_sv(&line));
	buf_fini(&line);
}

static void PRINTF_LIKE(2, 3) replyf(struct screentalk *t, const char *fmt, ...)
{
	struct buf text = BUF_INIT;
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	reply(t, buf_cstr(&text));
	buf_fini(&text);
}

/* The last reply has been given. */
static void close_dialogue(struct screentalk *t)
{
	t->state = SCREENTALK_BYE;
	buf_fini(&t->line);
	if (t->tls != NULL)
		screentls_goodbye(t->tls);
}

static void end_with(struct screentalk *t, const char *text)
{
	reply(t, text);
	close_dialogue(t);
}

static void hang_up(struct screentalk *t)
{
	t->state = SCREENTALK_HANGUP;
	buf_fini(&t->line);
	buf_fini(&t->out);
	t->starttls = false;
	screentls_free(&t->tls);
}

static void end_unavailable(struct screentalk *t)
{
	replyf(t, "421 %s Service unavailable - try again later", t->k->hostname);
	close_dialogue(t);
}

static void restart_clock(struct screentalk *t)
{
	bool stress = t->client.stress != NULL && *t->client.stress;

	t->deadline_ms = clock_now().ms + (stress ? t->k->stress_time_ms : t->k->command_time_ms);
}

/* ---- tests ---- */

/* The beginning of what a client sent, as C writes it. */
static const char *shown(struct sv text, struct buf *out)
{
	static const char letters[] = "abtnvfr"; /* from \a = 7 */

	buf_reset(out);
	for (size_t i = 0; i < text.len && i < SHOWN_BYTES; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if (c >= 7 && c <= 13)
			buf_printf(out, "\\%c", letters[c - 7]);
		else if (c < ' ' || c > 126)
			buf_printf(out, "\\%03o", c);
		else
			buf_printf(out, c == '\\' ? "\\%c" : "%c", c);
	}
	return buf_cstr(out);
}

static bool is_due(const struct screentalk *t, enum screen_test test)
{
	return (t->client.tests->todo & ~t->skipped & SCREEN_BIT(test)) != 0;
}

/* The client has failed; it is not tested for that again. False: that was its end. */
static bool fail(struct screentalk *t, enum screen_test test, const char *drop_reply)
{
	struct screen_tests *s = t->client.tests;
	unsigned bit = SCREEN_BIT(test);

	t->skipped |= bit;
	s->failed |= bit;
	s->passed &= ~bit;
	s->expires_s[test] = SCREEN_NOT_TESTED;
	switch (t->k->tests[test].action) {
	case SCREEN_DROP:
		end_with(t, drop_reply);
		return false;
	case SCREEN_ENFORCE:
		t->refusal = "550 5.5.1 Protocol error";
		break;
	case SCREEN_IGNORE: /* it counts as passed for as long as anything does */
		s->failed &= ~bit;
		s->passed |= bit;
		s->expires_s[test] = clock_wall_s() + t->k->min_ttl_s;
		break;
	}
	return true;
}

/* At RCPT all that was not failed so far is passed; it may still be failed later. */
static void pass_tests(struct screentalk *t)
{
	static const enum screen_test tests[] = { SCREEN_BARE_NEWLINE, SCREEN_NON_SMTP,
						  SCREEN_PIPELINING };
	struct screen_tests *s = t->client.tests;

	for (size_t i = 0; i < ARRAY_LEN(tests); i++) {
		unsigned bit = SCREEN_BIT(tests[i]);

		if ((s->todo & bit) == 0 || ((s->passed | s->failed) & bit) != 0)
			continue;
		s->passed |= bit;
		s->expires_s[tests[i]] = clock_wall_s() + t->k->tests[tests[i]].ttl_s;
	}
}

static bool test_newline(struct screentalk *t, struct sv line)
{
	struct buf text = BUF_INIT;

	if (!is_due(t, SCREEN_BARE_NEWLINE))
		return true;
	counter_add(session_counters, CTR_screen_bare_newline, 1);
	log_info("BARE NEWLINE from %s after %s", t->peer, shown(line, &text));
	buf_fini(&text);
	return fail(t, SCREEN_BARE_NEWLINE, "521 5.5.1 Protocol error");
}

/* A word with a colon at its end or in it, as the fields of a header begin. */
static bool is_header_like(struct sv word)
{
	size_t i = 0;

	while (i < word.len && word.p[i] > ' ' && word.p[i] < 127 && word.p[i] != ':')
		i++;
	size_t name_len = i;

	while (i < word.len && word.p[i] == '\t')
		i++;
	return name_len > 0 && i < word.len && word.p[i] == ':';
}

static bool is_non_smtp(const struct screentalk *t, struct sv word)
{
	return is_header_like(word) || (t->k->smtputf8 && !str_is_utf8(word.p, word.len)) ||
	       matchlist_has_string(t->k->forbidden, word) > 0;
}

static bool test_non_smtp(struct screentalk *t, const struct verb *v, struct sv word,
			  struct sv args, const char *before)
{
	struct buf text = BUF_INIT;

	if (v != NULL || !is_due(t, SCREEN_NON_SMTP) || !is_non_smtp(t, word))
		return true;
	counter_add(session_counters, CTR_screen_non_smtp, 1);
	log_info("NON-SMTP COMMAND from %s after %s: %.*s %s", t->peer, before,
		 (int)size_min(word.len, SHOWN_BYTES), word.p, shown(args, &text));
	buf_fini(&text);
	return fail(t, SCREEN_NON_SMTP, "521 5.7.0 Error: I can break rules, too. Goodbye.");
}

static bool test_pipelining(struct screentalk *t, struct sv word, struct sv behind)
{
	struct buf text = BUF_INIT;

	if (behind.len == 0 || !is_due(t, SCREEN_PIPELINING))
		return true;
	counter_add(session_counters, CTR_screen_pipelining, 1);
	log_info("COMMAND PIPELINING from %s after %.*s: %s", t->peer,
		 (int)size_min(word.len, SHOWN_BYTES), word.p, shown(behind, &text));
	buf_fini(&text);
	return fail(t, SCREEN_PIPELINING, "521 5.5.1 Protocol error");
}

/* ---- commands ---- */

/* Blanks alone part words, as in Postfix. */
static struct sv next_word(struct sv *rest)
{
	struct sv word;

	while (rest->len > 0 && rest->p[0] == ' ')
		*rest = (struct sv){ rest->p + 1, rest->len - 1 };
	word = sv_next_part(rest, ' ');
	return word;
}

static void forget_mail(struct screentalk *t)
{
	free(t->sender);
	t->sender = NULL;
}

static void take_helo(struct screentalk *t, struct sv name)
{
	free(t->helo);
	t->helo = xasprintf("%.*s", (int)name.len, name.p);
	forget_mail(t);
}

static void do_helo(struct screentalk *t, struct sv args)
{
	struct sv name = next_word(&args);

	if (name.len == 0) {
		reply(t, "501 Syntax: HELO hostname");
		return;
	}
	take_helo(t, name);
	replyf(t, "250 %s", t->k->hostname);
}

static bool has_tls(const struct screentalk *t)
{
	return t->k->tls != NULL && t->k->tls->ctx != NULL;
}

static void log_discarded(const struct screentalk *t, uint32_t mask)
{
	struct buf list = BUF_INIT;

	listener_discard_text(mask, &list);
	if (list.len > 0 && (mask & 1u << EHLO_SILENT_DISCARD) == 0)
		log_info("[%s]%s: discarding EHLO keywords:%s", t->client.addr, t->client.port,
			 buf_cstr(&list));
	buf_fini(&list);
}

/* Keywords that this client is not offered. False: a table could not be asked. */
static bool find_discarded(const struct screentalk *t, uint32_t *mask_r)
{
	struct buf words = BUF_INIT;
	struct sv unknown;
	enum map_status st = map_list_get(t->k->discard_maps, sv_from(t->client.addr), &words);

	*mask_r = t->k->discard_mask;
	if (st == MAP_FOUND) {
		*mask_r = listener_discard_mask(buf_cstr(&words), &unknown);
		if (*mask_r != t->k->discard_mask)
			log_discarded(t, *mask_r);
	} else if (st == MAP_ERROR) {
		log_warn("postscreen_discard_ehlo_keyword_address_maps lookup error for %s",
			 t->client.addr);
	}
	buf_fini(&words);
	return st != MAP_ERROR;
}

static void say_ehlo(struct screentalk *t)
{
	const struct screentalk_conf *k = t->k;
	char size[40] = "SIZE";
	const struct {
		enum ehlo_keyword keyword;
		const char *text;
		bool offered;
	} lines[] = {
		{ EHLO_SIZE, size, true },
		{ EHLO_VRFY, "VRFY", !k->disable_vrfy },
		{ EHLO_ETRN, "ETRN", true },
		{ EHLO_STARTTLS, "STARTTLS", has_tls(t) },
		{ EHLO_ENHANCEDSTATUSCODES, "ENHANCEDSTATUSCODES", true },
		{ EHLO_8BITMIME, "8BITMIME", true },
		{ EHLO_DSN, "DSN", true },
		{ EHLO_SMTPUTF8, "SMTPUTF8", k->smtputf8 },
		{ EHLO_CHUNKING, "CHUNKING", true },
	};
	struct buf text = BUF_INIT;
	size_t last = 0;

	if (k->message_size_limit > 0)
		snprintf(size, sizeof(size), "SIZE %lld", (long long)k->message_size_limit);
	buf_printf(&text, "250-%s", k->hostname);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		if (!lines[i].offered || (t->discard_mask & 1u << lines[i].keyword) != 0)
			continue;
		last = text.len + 2;
		buf_printf(&text, "\r\n250-%s", lines[i].text);
	}
	text.p[last + 3] = ' ';
	reply(t, buf_cstr(&text));
	buf_fini(&text);
}

static void do_ehlo(struct screentalk *t, struct sv args)
{
	struct sv name = next_word(&args);
	uint32_t mask;

	if (name.len == 0) {
		reply(t, "501 Syntax: EHLO hostname");
		return;
	}
	take_helo(t, name);
	t->esmtp = true;
	if (!find_discarded(t, &mask)) {
		end_unavailable(t);
		return;
	}
	if (screentls_is_on(t->tls))
		mask |= 1u << EHLO_STARTTLS;
	t->discard_mask = mask;
	say_ehlo(t);
}

static void do_starttls(struct screentalk *t, struct sv args)
{
	if (next_word(&args).len > 0) {
		reply(t, "501 5.5.4 Syntax: STARTTLS");
	} else if (screentls_is_on(t->tls)) {
		reply(t, "554 5.5.1 Error: TLS already active");
	} else if (!has_tls(t)) {
		reply(t, "502 5.5.1 Error: command not implemented");
	} else {
		reply(t, "220 2.0.0 Ready to start TLS");
		t->starttls = true;
		t->deadline_ms = clock_now().ms + t->k->starttls_time_ms;
	}
}

/* What is behind the colon of MAIL and RCPT, unquoted; anything is taken. NULL: no colon. */
static char *address_of(struct sv args)
{
	const char *colon = args.len > 0 ? memchr(args.p, ':', args.len) : NULL;
	const char *p, *end = args.p + args.len;
	struct buf addr = BUF_INIT;
	bool quoted = false;

	if (colon == NULL)
		return NULL;
	for (p = colon + 1; p < end && *p == ' '; p++)
		;
	char stop = p < end && *p == '<' ? '>' : ' ';

	for (p += stop == '>'; p < end && (quoted || *p != stop); p++) {
		if (*p == '"') {
			quoted = !quoted;
			continue;
		}
		if (*p == '\\' && ++p == end)
			break;
		buf_add_c(&addr, *p);
	}
	/* a route in front of the address is not logged */
	const char *text = buf_cstr(&addr), *route_end = text[0] == '@' ? strchr(text, ':') : NULL;
	char *copy = xstrdup(route_end != NULL ? route_end + 1 : text);

	buf_fini(&addr);
	return copy;
}

static void do_mail(struct screentalk *t, struct sv args)
{
	char *addr;

	if (t->k->helo_required && t->helo == NULL) {
		reply(t, "503 5.5.1 Error: send HELO/EHLO first");
	} else if (t->sender != NULL) {
		reply(t, "503 5.5.1 Error: nested MAIL command");
	} else if ((addr = address_of(args)) == NULL) {
		reply(t, "501 5.5.4 Syntax: MAIL FROM:<address>");
	} else {
		t->sender = addr;
		reply(t, "250 2.1.0 Ok");
	}
}

static void log_refused(struct screentalk *t, const char *rcpt)
{
	struct buf line = BUF_INIT, text = BUF_INIT;

	buf_add_str(&text, t->refusal);
	soften(t->k, &text);
	buf_printf(&line, "NOQUEUE: reject: RCPT from %s: %s; from=<", t->peer, buf_cstr(&text));
	mail_addr_quote(sv_from(t->sender), &line);
	buf_add_str(&line, ">, to=<");
	mail_addr_quote(sv_from(rcpt), &line);
	buf_printf(&line, ">, proto=%s, helo=<%s>", t->esmtp ? "ESMTP" : "SMTP",
		   t->helo != NULL ? t->helo : "");
	log_info("%s", buf_cstr(&line));
	buf_fini(&line);
	buf_fini(&text);
}

static void do_rcpt(struct screentalk *t, struct sv args)
{
	char *addr;

	if (t->sender == NULL) {
		reply(t, "503 5.5.1 Error: need MAIL command");
	} else if ((addr = address_of(args)) == NULL) {
		reply(t, "501 5.5.4 Syntax: RCPT TO:<address>");
	} else {
		counter_add(session_counters, CTR_screen_refused, 1);
		log_refused(t, addr);
		free(addr);
		reply(t, t->refusal);
	}
}

/* Whoever sends content here does not listen to replies: that is the end. */
static void do_data(struct screentalk *t, struct sv args)
{
	log_info("DATA without valid RCPT from %s", t->peer);
	end_with(t, next_word(&args).len > 0 ? "501 5.5.4 Syntax: DATA"
		    : t->sender == NULL      ? "503 5.5.1 Error: need RCPT command"
					     : "554 5.5.1 Error: no valid recipients");
}

static void do_bdat(struct screentalk *t, struct sv args)
{
	bool hidden = (t->discard_mask & 1u << EHLO_CHUNKING) != 0;

	log_info("BDAT without valid RCPT from %s", t->peer);
	end_with(t, hidden                      ? "502 5.5.1 Error: command not implemented"
		    : next_word(&args).len == 0 ? "501 5.5.4 Syntax: BDAT count [LAST]"
		    : t->sender == NULL         ? "554 5.5.1 Error: need MAIL command"
						: "554 5.5.1 Error: no valid recipients");
}

static void do_rset(struct screentalk *t, struct sv args UNUSED)
{
	forget_mail(t);
	reply(t, "250 2.0.0 Ok");
}

static void do_noop(struct screentalk *t, struct sv args UNUSED)
{
	reply(t, "250 2.0.0 Ok");
}

static void do_vrfy(struct screentalk *t, struct sv args)
{
	reply(t, next_word(&args).len == 0 ? "501 5.5.4 Syntax: VRFY address"
		 : t->k->disable_vrfy      ? "502 5.5.1 VRFY command is disabled"
					   : t->refusal);
}

static void do_etrn(struct screentalk *t, struct sv args)
{
	bool helo_missing = t->k->helo_required && t->helo == NULL;

	reply(t, helo_missing                ? "503 5.5.1 Error: send HELO/EHLO first"
		 : next_word(&args).len == 0 ? "500 Syntax: ETRN domain"
					     : "458 Unable to queue messages");
}

static void do_quit(struct screentalk *t, struct sv args UNUSED)
{
	end_with(t, "221 2.0.0 Bye");
}

/* ---- one line ---- */

static const struct verb {
	const char *text;
	void (*run)(struct screentalk *t, struct sv args); /* NULL: known, and not here */
	bool before_tls;                                   /* allowed though TLS is mandatory */
	bool has_octets;                                   /* what is behind it is no pipelining */
} verbs[] = {
	{ .text = "HELO", .run = do_helo, .before_tls = true },
	{ .text = "EHLO", .run = do_ehlo, .before_tls = true },
	{ .text = "STARTTLS", .run = do_starttls, .before_tls = true },
	{ .text = "XCLIENT" },
	{ .text = "XFORWARD" },
	{ .text = "AUTH" },
	{ .text = "MAIL", .run = do_mail },
	{ .text = "RCPT", .run = do_rcpt },
	{ .text = "DATA", .run = do_data },
	{ .text = "BDAT", .run = do_bdat, .has_octets = true },
	{ .text = "RSET", .run = do_rset },
	{ .text = "NOOP", .run = do_noop, .before_tls = true },
	{ .text = "VRFY", .run = do_vrfy },
	{ .text = "ETRN", .run = do_etrn },
	{ .text = "QUIT", .run = do_quit, .before_tls = true },
};

static const struct verb *find_verb(struct sv word)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (sv_eq_nocase(word, sv_from(verbs[i].text)))
			return &verbs[i];
	}
	return NULL;
}

static void execute(struct screentalk *t, const struct verb *v, struct sv args)
{
	bool needs_tls = t->k->tls != NULL && t->k->tls->enforce && !screentls_is_on(t->tls);

	if (v == NULL || v->run == NULL)
		reply(t, "502 5.5.2 Error: command not recognized");
	else if (needs_tls && !v->before_tls)
		reply(t, "530 5.7.0 Must issue a STARTTLS command first");
	else
		v->run(t, args);
}

static void run_line(struct screentalk *t, struct sv line, struct sv behind)
{
	struct sv args = line, word = next_word(&args);
	const struct verb *v = find_verb(word);
	const char *before = t->where;
	bool quits = v != NULL && v->run == do_quit;

	t->where = v != NULL ? v->text : "UNIMPLEMENTED";
	if (t->client.last_reply != NULL && !quits) {
		end_with(t, t->client.last_reply);
		return;
	}
	if (!test_non_smtp(t, v, word, args, before))
		return;
	if ((v == NULL || !v->has_octets) && !test_pipelining(t, word, behind))
		return;
	if (v != NULL && v->run == do_rcpt)
		pass_tests(t);
	if (++t->command_count > t->k->command_count_limit && !quits) {
		counter_add(session_counters, CTR_screen_limits, 1);
		log_info("COMMAND COUNT LIMIT from %s after %s", t->peer, before);
		end_unavailable(t);
		return;
	}
	restart_clock(t);
	execute(t, v, args);
}

/* postscreen_command_filter. False: that was the end. */
static bool filter_line(struct screentalk *t, struct sv *line, struct buf *filtered)
{
	struct sv key = *line;

	if (map_list_is_empty(t->k->filter_map) ||
	    (t->k->smtputf8 && !str_is_utf8(line->p, line->len)))
		return true;
	while (key.len > 0 && (key.p[0] == ' ' || key.p[0] == '\t'))
		key = (struct sv){ key.p + 1, key.len - 1 };
	switch (map_list_get(t->k->filter_map, key, filtered)) {
	case MAP_FOUND:
		log_info("%s: replacing command \"%.*s\" with \"%.100s\"", t->peer,
			 (int)size_min(line->len, SHOWN_BYTES), line->p, buf_cstr(filtered));
		*line = buf_sv(filtered);
		return true;
	case MAP_NOT_FOUND:
		return true;
	case MAP_ERROR:
		break;
	}
	log_warn("postscreen_command_filter lookup error for \"%.*s\"",
		 (int)size_min(line->len, SHOWN_BYTES), line->p);
	end_unavailable(t);
	return false;
}

/* A whole line with its line end; `behind`: what came with it. */
static void take_line(struct screentalk *t, struct sv line, struct sv behind)
{
	struct buf filtered = BUF_INIT;

	line.len--;
	if (line.len > 0 && line.p[line.len - 1] == '\r')
		line.len--;
	else if (!test_newline(t, line))
		return;
	/* what is behind a NUL is not looked at */
	const char *nul = line.len > 0 ? memchr(line.p, '\0', line.len) : NULL;

	if (nul != NULL)
		line.len = (size_t)(nul - line.p);
	if (filter_line(t, &line, &filtered))
		run_line(t, line, behind);
	buf_fini(&filtered);
}

/* Plain text. How much of it was used: all, or up to the end of a line. */
static size_t take_plain(struct screentalk *t, const char *data, size_t len)
{
	const char *nl = memchr(data, '\n', len);
	size_t used = nl != NULL ? (size_t)(nl - data) + 1 : len;
	struct sv behind = { data + used, len - used };

	if (t->line.len + used > t->k->line_length_limit) {
		counter_add(session_counters, CTR_screen_limits, 1);
		log_info("COMMAND LENGTH LIMIT from %s after %s", t->peer, t->where);
		end_unavailable(t);
	} else if (nl == NULL) {
		buf_add(&t->line, data, used);
	} else if (t->line.len == 0) {
		take_line(t, (struct sv){ data, used }, behind);
	} else {
		struct buf line = t->line;

		t->line = BUF_INIT;
		buf_add(&line, data, used);
		take_line(t, buf_sv(&line), behind);
		buf_fini(&line);
	}
	return used;
}

/* ---- input ---- */

static void take_all(struct screentalk *t, const char *data, size_t len)
{
	/* what came with STARTTLS was said by somebody else, perhaps: it is thrown away */
	while (len > 0 && t->state == SCREENTALK_ON && !t->starttls) {
		size_t used = take_plain(t, data, len);

		data += used;
		len -= used;
	}
}

/* Nothing that was said before counts any more (RFC 3207 4.2). */
static void handshake_done(struct screentalk *t)
{
	t->starttls = false;
	free(t->helo);
	t->helo = NULL;
	forget_mail(t);
	restart_clock(t);
}

static void take_records(struct screentalk *t, const char *data, size_t len)
{
	char plain[PLAIN_BYTES];
	int n = 0;

	if (t->tls == NULL)
		t->tls = screentls_new(t->k->tls, t->client.addr, t->peer, t->k->service_name);
	int err = screentls_feed(t->tls, data, len);

	log_speak_as(t->k->log_name);
	if (err == E_AGAIN)
		return;
	if (err == 0 && t->starttls)
		handshake_done(t);
	while (err == 0 && t->state == SCREENTALK_ON &&
	       (n = screentls_read(t->tls, plain, sizeof(plain))) > 0)
		take_all(t, plain, (size_t)n);
	if (t->state == SCREENTALK_ON && (err != 0 || n != E_AGAIN))
		hang_up(t);
}

void screentalk_input(struct screentalk *t, const char *data, size_t len)
{
	log_speak_as(t->k->log_name);
	if (t->state != SCREENTALK_ON || len == 0)
		return;
	if (t->starttls || t->tls != NULL)
		take_records(t, data, len);
	else
		take_all(t, data, len);
}

void screentalk_eof(struct screentalk *t)
{
	log_speak_as(t->k->log_name);
	if (t->state == SCREENTALK_ON)
		hang_up(t);
}

void screentalk_tick(struct screentalk *t)
{
	log_speak_as(t->k->log_name);
	if (t->state != SCREENTALK_ON || clock_now().ms < t->deadline_ms)
		return;
	if (t->starttls) {
		hang_up(t);
		return;
	}
	counter_add(session_counters, CTR_screen_limits, 1);
	log_info("COMMAND TIME LIMIT from %s after %s", t->peer, t->where);
	replyf(t, "421 4.4.2 %s Error: timeout exceeded", t->k->hostname);
	close_dialogue(t);
}

int64_t screentalk_next_ms(const struct screentalk *t)
{
	return t->state == SCREENTALK_ON ? t->deadline_ms : INT64_MAX;
}

bool screentalk_wants_input(const struct screentalk *t)
{
	return t->state == SCREENTALK_ON && t->out.len == 0 &&
	       (t->tls == NULL || screentls_out(t->tls)->len == 0);
}

struct buf *screentalk_out(struct screentalk *t)
{
	return t->out.len > 0 || t->tls == NULL ? &t->out : screentls_out(t->tls);
}

enum screentalk_state screentalk_state(const struct screentalk *t)
{
	return t->state;
}

/* ---- beginning and end ---- */

struct screentalk *screentalk_new(const struct screentalk_conf *k,
				  const struct screentalk_client *client)
{
	struct screentalk *t = xcalloc(1, sizeof(*t));
	struct screen_tests *s = client->tests;

	log_speak_as(k->log_name);
	t->k = k;
	t->client = *client;
	t->where = "CONNECT";
	t->refusal = client->rcpt_reply != NULL ? client->rcpt_reply
						: "450 4.3.2 Service currently unavailable";
	snprintf(t->peer, sizeof(t->peer), "[%s]:%s", client->addr, client->port);
	if (client->last_reply != NULL)
		s->todo &= ~SCREEN_DIALOGUE_BITS;
	else if (s->failed != 0)
		s->todo |= SCREEN_DIALOGUE_BITS;
	if ((s->failed & SCREEN_BIT(SCREEN_PREGREET)) == 0)
		replyf(t, "220 %s", k->banner);
	restart_clock(t);
	return t;
}

void screentalk_free(struct screentalk **tp)
{
	struct screentalk *t = *tp;

	if (t == NULL)
		return;
	screentls_free(&t->tls);
	buf_fini(&t->line);
	buf_fini(&t->out);
	free(t->helo);
	forget_mail(t);
	free(t);
	*tp = NULL;
}
