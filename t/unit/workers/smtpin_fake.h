/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A session without sockets for tests and fuzz targets: configuration from text, content into
 * memory, verdicts, name servers and rooms under the test's control, log lines captured.
 */
#ifndef PH_T_SMTPIN_FAKE_H
#define PH_T_SMTPIN_FAKE_H

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/map_remote.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/smtp_in/auth.h"
#include "workers/smtp_in/command.h"
#include "workers/smtp_in/listener.h"
#include "workers/smtp_in/sessfilter.h"
#include "workers/smtp_in/session.h"

struct fake {
	struct conf *conf;
	struct listener listener;
	struct session_ops ops;
	struct session s;
	bool open;
	struct buf reply; /* everything said since the last take */
	struct buf log;
	struct buf env;                 /* newest envelope */
	struct buf content;             /* newest content */
	unsigned begun, ended, aborted; /* how often */
	bool has_content;               /* begun and neither ended nor aborted */
	bool end_waits;                 /* end() was called, verdict due */
	bool hold_verdict;              /* the test gives it itself */
	enum submit_verdict verdict;
	unsigned verdict_code;
	const char *verdict_text;
	int accept_error, begin_error;
	size_t room_bytes; /* per room() */
	size_t room_left;  /* before it says "none"; SIZE_MAX = no end */
	unsigned rate_now;
	struct policy_dns dns;
	bool dns_waits, dns_asked, dns_cancelled;
	struct map_memo *memo;
	const char *table_key, *table_value;
	unsigned table_questions;
	bool tables_wait, table_broken, tables_cancelled;
	const char *policy_answer; /* of every policy service */
	char policy_request[4096];
	int64_t policy_time_ms;
	char dns_name[256];
	struct buf events; /* of milters: letter, strings with '|' behind each */
	bool milter_waits, milter_hangs, milter_gone;
	uint32_t milter_flags;
	const char *milter_answer;
	/* the before-queue filter: answers in order, then good ones. "" = none yet, "EOF" = it
	 * goes, "REFUSED" = it cannot be reached */
	const char *filter_answers[64];
	unsigned filter_at, filter_opened, filter_closed;
	size_t filter_window; /* bytes it takes; SIZE_MAX = no end */
	bool filter_opening, filter_open, filter_quit, filter_spoke;
	struct buf filter_got;
	struct buf asked; /* of the auth worker: number of what, strings with '|' behind each */
	const char *offer;
	bool auth_waits, auth_hangs, auth_gone;
	uint32_t dialogues;
	enum auth_status auth_status;
	const char *auth_text, *auth_user, *auth_lines;
	unsigned notices; /* to the postmaster */
	char notice_to[64];
	struct buf notice;
	uint64_t qid_us;
	char room[70000];
};

static struct fake *fake_logs_to;

static inline void fake_sink(void *ctx UNUSED, enum log_level level, const char *program UNUSED,
			     const char *text, size_t len)
{
	if (level >= LOG_LEVEL_FATAL) {
		fprintf(stderr, "%.*s\n", (int)len, text);
		return;
	}
	if (fake_logs_to != NULL) {
		buf_add(&fake_logs_to->log, text, len);
		buf_add_c(&fake_logs_to->log, '\n');
	}
}

static inline int fo_may_accept(void *ctx, struct session *s UNUSED)
{
	return ((struct fake *)ctx)->accept_error;
}

static inline struct qid fo_qid(void *ctx)
{
	struct fake *f = ctx;

	return (struct qid){ .time_us = ++f->qid_us, .life = 7 };
}

static inline int fo_begin(void *ctx, struct session *s UNUSED, struct sv env, struct sv head)
{
	struct fake *f = ctx;

	if (f->begin_error != 0)
		return f->begin_error;
	ASSERT(!f->has_content);
	buf_reset(&f->env);
	buf_reset(&f->content);
	buf_add_sv(&f->env, env);
	buf_add_sv(&f->content, head);
	f->begun++;
	f->has_content = true;
	return 0;
}

static inline char *fo_room(void *ctx, struct session *s UNUSED, size_t *len_r)
{
	struct fake *f = ctx;

	ASSERT(f->has_content);
	*len_r = size_min(f->room_bytes, f->room_left);
	return *len_r > 0 ? f->room : NULL;
}

static inline void fo_advance(void *ctx, struct session *s UNUSED, size_t len)
{
	struct fake *f = ctx;

	ASSERT(f->has_content && len <= f->room_bytes && len <= f->room_left);
	if (f->room_left != SIZE_MAX)
		f->room_left -= len;
	buf_add(&f->content, f->room, len);
}

static inline void fo_end(void *ctx, struct session *s UNUSED)
{
	struct fake *f = ctx;

	ASSERT(f->has_content);
	f->has_content = false;
	f->ended++;
	f->end_waits = true;
}

static inline void fo_abort(void *ctx, struct session *s UNUSED)
{
	struct fake *f = ctx;

	if (f->has_content)
		f->aborted++;
	f->has_content = false;
}

static inline int fo_milter(void *ctx, struct session *s UNUSED, char command,
			    unsigned flags UNUSED, struct sv strings)
{
	struct fake *f = ctx;
	size_t at = f->events.len + 1;

	if (f->milter_gone)
		return E_CONFIG;
	buf_add_c(&f->events, command);
	buf_add_sv(&f->events, strings);
	for (size_t i = at; i < f->events.len; i++) {
		if (f->events.p[i] == '\0')
			f->events.p[i] = '|';
	}
	buf_add_c(&f->events, '\n');
	f->milter_waits = command != 'A' && command != 'Q';
	return 0;
}

static inline int fo_auth(void *ctx, struct session *s, enum auth_ask what, unsigned flags,
			  struct sv strings)
{
	struct fake *f = ctx;
	size_t at = f->asked.len;

	if (f->auth_gone)
		return E_CONFIG;
	if (what == AUTH_START)
		s->auth->dialogue = ++f->dialogues;
	ASSERT(s->auth->dialogue != 0);
	buf_printf(&f->asked, "%d%s ", (int)what, (flags & AUTH_INITIAL) != 0 ? "i" : "");
	buf_add_sv(&f->asked, strings);
	for (size_t i = at; i < f->asked.len; i++) {
		if (f->asked.p[i] == '\0')
			f->asked.p[i] = '|';
	}
	buf_add_c(&f->asked, '\n');
	f->auth_waits = what != AUTH_CANCEL;
	return 0;
}

static inline const char *fo_auth_offer(void *ctx, const struct session *s UNUSED,
					bool encrypted UNUSED)
{
	return ((struct fake *)ctx)->offer;
}

static inline void *fo_dns(void *ctx, struct session *s, const char *name, uint16_t type UNUSED)
{
	struct fake *f = ctx;

	snprintf(f->dns_name, sizeof(f->dns_name), "%s", name);
	f->dns_asked = true;
	if (f->dns_waits)
		return f;
	session_dns_answer(s, &f->dns);
	return NULL;
}

static inline void fo_dns_cancel(void *ctx, void *q UNUSED)
{
	((struct fake *)ctx)->dns_cancelled = true;
}

/* One remote table for all: `table_key` has `table_value`; all else is not found, or an error. */
static inline void fake_tables_answer(struct fake *f)
{
	const char *spec;
	struct sv key;

	for (size_t i = 0; i < map_memo_missing_count(f->memo); i++) {
		map_memo_missing(f->memo, i, &spec, &key);
		f->table_questions++;
		if (strncmp(spec, "policy:", 7) == 0) {
			snprintf(f->policy_request, sizeof(f->policy_request), "%.*s", (int)key.len,
				 key.p);
			f->policy_time_ms = f->s.run->need.time_ms;
			map_memo_answer(f->memo, i, MAP_FOUND, sv_from(f->policy_answer));
		} else if (f->table_broken)
			map_memo_answer(f->memo, i, MAP_ERROR, SV(""));
		else if (f->table_key != NULL && sv_eq(key, sv_from(f->table_key)))
			map_memo_answer(f->memo, i, MAP_FOUND, sv_from(f->table_value));
		else
			map_memo_answer(f->memo, i, MAP_NOT_FOUND, SV(""));
	}
	map_memo_answered(f->memo);
}

static inline void *fo_tables(void *ctx, struct session *s UNUSED, struct map_memo *memo)
{
	struct fake *f = ctx;

	f->memo = memo;
	if (f->tables_wait)
		return f;
	fake_tables_answer(f);
	return NULL;
}

static inline void fo_tables_cancel(void *ctx, void *q UNUSED)
{
	((struct fake *)ctx)->tables_cancelled = true;
}

static inline unsigned fo_rate(void *ctx, struct session *s UNUSED, enum client_rate kind UNUSED)
{
	return ++((struct fake *)ctx)->rate_now;
}

/* main.cf text on top of a small test configuration. Dies when it does not load, unless diag. */
static inline void fo_filter_open(void *ctx, struct session *s UNUSED)
{
	struct fake *f = ctx;

	ASSERT(!f->filter_opening && !f->filter_open);
	f->filter_opening = true;
	f->filter_opened++;
}

static inline void fo_filter_kick(void *ctx UNUSED, struct session *s UNUSED)
{
}

static inline void fo_notice(void *ctx, struct session *s UNUSED, const char *to,
			     struct buf *content)
{
	struct fake *f = ctx;

	f->notices++;
	snprintf(f->notice_to, sizeof(f->notice_to), "%s", to);
	buf_reset(&f->notice);
	buf_add_sv(&f->notice, buf_sv(content));
}

static inline void fo_filter_close(void *ctx, struct session *s UNUSED, bool quit)
{
	struct fake *f = ctx;

	ASSERT(f->filter_opening || f->filter_open);
	f->filter_opening = f->filter_open = false;
	f->filter_closed++;
	f->filter_quit = quit;
}

static inline const char *fake_good_answer(const struct fake *f)
{
	const char *got = f->filter_got.p;
	size_t at = f->filter_got.len;

	if (at == 0)
		return "220 filter ESMTP\r\n";
	for (at--; at > 0 && got[at - 1] != '\n';) /* the last line */
		at--;
	const char *line = got + at;

	if (strncmp(line, "EHLO", 4) == 0)
		return "250-filter\r\n250-XFORWARD NAME ADDR PROTO HELO SOURCE PORT\r\n250 DSN\r\n";
	return strncmp(line, "DATA", 4) == 0 ? "354 go on\r\n" : "250 2.0.0 Ok: filtered\r\n";
}

static inline bool fake_filter_speaks(struct fake *f)
{
	const char *text = NULL;

	if (!session_filter_expects(&f->s))
		return false;
	if (f->filter_at < ARRAY_LEN(f->filter_answers))
		text = f->filter_answers[f->filter_at];
	if (text != NULL && text[0] == '\0')
		return false;
	f->filter_at++;
	if (text == NULL)
		text = fake_good_answer(f);
	if (strcmp(text, "EOF") == 0)
		session_filter_lost(&f->s, "lost connection with proxy", "");
	else
		session_filter_input(&f->s, text, strlen(text));
	return true;
}

/* One step of the filter. False: it has nothing to do. */
static inline bool fake_filter(struct fake *f)
{
	if (f->filter_opening) {
		const char *text = f->filter_answers[f->filter_at % ARRAY_LEN(f->filter_answers)];

		f->filter_opening = false;
		f->filter_open = true;
		if (text == NULL || strcmp(text, "REFUSED") != 0) {
			session_filter_connected(&f->s);
			return true;
		}
		f->filter_at++;
		session_filter_lost(&f->s, "connect to proxy filter", "Connection refused");
		return true;
	}
	if (!f->filter_open)
		return false;
	struct sv out = session_filter_output(&f->s);
	size_t n = size_min(out.len, f->filter_window);

	if (out.len == 0)
		return fake_filter_speaks(f);
	if (n == 0)
		return false;
	if (session_filter_is_last(&f->s) && f->filter_spoke)
		session_filter_premature(&f->s);
	buf_add(&f->filter_got, out.p, n);
	if (f->filter_window != SIZE_MAX)
		f->filter_window -= n;
	session_filter_sent(&f->s, n);
	return true;
}

static inline int fake_conf(struct fake *f, const char *main_cf, struct conf_diag *diag)
{
	char dir[] = "/tmp/smtpin-test-XXXXXX";
	char path[64], mpath[64];
	struct conf_diag own;
	struct conf_diag *d = diag != NULL ? diag : &own;

	*f = (struct fake){ .room_bytes = sizeof(f->room),
			    .room_left = SIZE_MAX,
			    .filter_window = SIZE_MAX,
			    .verdict_text = "" };
	conf_diag_init(&own);
	ASSERT(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/main.cf", dir);
	snprintf(mpath, sizeof(mpath), "%s/master.cf", dir);
	FILE *fp = fopen(path, "w");

	ASSERT(fp != NULL);
	fprintf(fp,
		"compatibility_level = 3.6\nmyhostname = mx.test\nmydomain = test\n"
		"mynetworks = 10.0.0.0/8\ninet_interfaces = 127.0.0.1\n"
		"smtpd_authorized_verp_clients =\n"
		"mydestination = local.test, $myhostname\nlocal_recipient_maps =\n%s",
		main_cf);
	fclose(fp);
	fp = fopen(mpath, "w");
	fprintf(fp, "smtp inet n - n - - smtpd\n628 inet n - n - - qmqpd\n");
	fclose(fp);
	int err = conf_load_dir(dir, &f->conf, d);

	unlink(path);
	unlink(mpath);
	rmdir(dir);
	if (err == 0)
		err = listener_init(&f->listener, f->conf, NULL, d);
	if (err != 0 && diag == NULL) {
		fprintf(stderr, "%s", buf_cstr(&d->text));
		abort();
	}
	conf_diag_fini(&own);
	f->ops = (struct session_ops){ fo_may_accept,
				       fo_qid,
				       fo_begin,
				       fo_room,
				       fo_advance,
				       fo_end,
				       fo_abort,
				       fo_dns,
				       fo_dns_cancel,
				       fo_tables,
				       fo_tables_cancel,
				       fo_milter,
				       fo_auth,
				       fo_auth_offer,
				       fo_rate,
				       NULL,
				       NULL,
				       fo_filter_open,
				       fo_filter_kick,
				       fo_filter_close,
				       fo_notice,
				       f };
	log_set_sink(fake_sink, NULL);
	fake_logs_to = f;
	return err;
}

static inline void fake_close(struct fake *f)
{
	if (f->open)
		session_fini(&f->s);
	f->open = false;
	f->has_content = f->end_waits = false;
	buf_reset(&f->reply);
	buf_reset(&f->log);
}

static inline void fake_fini(struct fake *f)
{
	fake_close(f);
	listener_fini(&f->listener);
	conf_free(&f->conf);
	buf_fini(&f->reply);
	buf_fini(&f->log);
	buf_fini(&f->env);
	buf_fini(&f->content);
	buf_fini(&f->events);
	buf_fini(&f->filter_got);
	buf_fini(&f->asked);
	buf_fini(&f->notice);
	fake_logs_to = NULL;
}

/* Take what the session says, and give verdicts that are due. */
static inline void fake_settle(struct fake *f)
{
	static const uint8_t dsn4[3] = { 4, 3, 0 }, dsn5[3] = { 5, 7, 1 };

	for (;;) {
		size_t n = f->s.out.len;

		if (n > 0) {
			buf_add(&f->reply, f->s.out.p, n);
			session_output_done(&f->s, n);
		} else if (f->milter_waits && !f->milter_hangs) {
			f->milter_waits = false;
			session_milter_reply(
				&f->s, f->milter_flags,
				sv_from(f->milter_answer != NULL ? f->milter_answer : ""));
		} else if (fake_filter(f)) {
			continue;
		} else if (f->auth_waits && !f->auth_hangs) {
			f->auth_waits = false;
			session_auth_answer(&f->s, f->auth_status,
					    sv_from(f->auth_text != NULL ? f->auth_text : ""),
					    sv_from(f->auth_user != NULL ? f->auth_user : ""),
					    sv_from(f->auth_lines != NULL ? f->auth_lines : ""));
		} else if (f->end_waits && !f->hold_verdict) {
			f->end_waits = false;
			session_submit_done(&f->s, f->verdict, f->verdict_code,
					    f->verdict == SUBMIT_PERMFAIL ? dsn5 : dsn4,
					    sv_from(f->verdict_text));
		} else {
			return;
		}
	}
}

/* A new client. Its name is known at once. */
static inline void fake_connect(struct fake *f, const char *addr)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(4321) };

	fake_close(f);
	inet_pton(AF_INET, addr, &sa.sin_addr);
	session_init(&f->s, &f->listener, &f->ops, (const struct sockaddr *)&sa);
	f->open = true;
	session_name_known(&f->s, "client.test", POLICY_NAME_OK, "client.test", POLICY_NAME_OK);
	session_greet(&f->s);
	fake_settle(f);
}

/* What was said since the last call; valid until the next. */
static inline const char *fake_take(struct fake *f)
{
	static char text[200000];

	snprintf(text, sizeof(text), "%s", buf_cstr(&f->reply));
	buf_reset(&f->reply);
	return text;
}

static inline const char *fake_say_len(struct fake *f, const char *data, size_t len)
{
	session_input(&f->s, data, len);
	fake_settle(f);
	return fake_take(f);
}

static inline const char *fake_say(struct fake *f, const char *text)
{
	return fake_say_len(f, text, strlen(text));
}

#endif
