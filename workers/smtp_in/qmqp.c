/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The QMQP server; see workers/smtp_in/qmqp.h. */
#include "workers/smtp_in/qmqp.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "shm/counters.h"
#include "workers/mail/date.h"
#include "workers/mail/verp.h"
#include "workers/smtp_in/command.h"

#define RCPT_MAX      20000u
#define LENGTH_DIGITS 9u /* of a netstring: more is too long for anybody */

enum stage {
	STAGE_PACKET,  /* the length of the whole, which nobody needs */
	STAGE_CONTENT, /* netstrings */
	STAGE_SENDER,
	STAGE_RCPT,  /* one after the other, until the comma of the whole */
	STAGE_BEGIN, /* for room */
	STAGE_STORE, /* content is handed over */
	STAGE_VERDICT,
	STAGE_REPLY, /* bad news, after a pause */
	STAGE_OVER,
};

struct qmqp {
	enum stage stage;
	/* the netstring that is being read */
	uint64_t length;
	unsigned digits;
	bool in_text;
	struct buf item;
	struct buf content;
	size_t stored; /* of content */
	bool content_ended;
	struct buf reply; /* with its letter in front */
};

static uint64_t content_held; /* bytes, of all sessions */

static const char *const stage_texts[] = {
	[STAGE_PACKET] = "receiving QMQP packet header",
	[STAGE_CONTENT] = "receiving message content",
	[STAGE_SENDER] = "receiving sender address",
	[STAGE_RCPT] = "receiving recipient address",
	[STAGE_BEGIN] = "sending completion status",
	[STAGE_STORE] = "sending completion status",
	[STAGE_VERDICT] = "sending completion status",
	[STAGE_REPLY] = "sending completion status",
	[STAGE_OVER] = "sending completion status",
};

/* ---- replies ---- */

static void say(struct session *s)
{
	struct qmqp *q = s->qmqp;

	buf_printf(&s->out, "%zu:", q->reply.len);
	buf_add_sv(&s->out, buf_sv(&q->reply));
	buf_add_c(&s->out, ',');
	q->stage = STAGE_OVER;
	session_close(s);
}

static void drop_content(struct qmqp *q)
{
	content_held -= q->content.len;
	buf_fini(&q->content);
}

/* 'Z' may be tried again, 'D' may not. `logged`: the log says so, too. */
static void refuse(struct session *s, char letter, bool logged, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
static void refuse(struct session *s, char letter, bool logged, const char *fmt, ...)
{
	struct qmqp *q = s->qmqp;
	va_list ap;

	if (letter == 'D' && s->listener->p->soft_bounce)
		letter = 'Z';
	counter_add(session_counters, CTR_qmqpd_refused, 1);
	buf_reset(&q->reply);
	buf_add_c(&q->reply, letter);
	va_start(ap, fmt);
	buf_vprintf(&q->reply, fmt, ap);
	va_end(ap);
	if (logged)
		log_warn("%s: %s: %s", session_qid(s), s->namaddr, buf_cstr(&q->reply) + 1);
	drop_content(q);
	session_reset_tx(s);
	q->stage = STAGE_REPLY;
	s->wait = WAIT_SLEEP;
	s->sleep_until_ms = clock_now().ms + s->listener->p->qmqpd_error_delay;
}

/* The client does not speak QMQP; which part of it, the stage tells. */
static void refuse_syntax(struct session *s, const char *what)
{
	const char *where = stage_texts[s->qmqp->stage];

	log_info("%s: %s: %s while %s", session_qid(s), s->namaddr, what, where);
	refuse(s, 'D', false, "%s while %s", what, where);
}

/* ---- the message ---- */

static bool address_is_good(struct sv addr)
{
	for (size_t i = 0; i < addr.len; i++) {
		unsigned char c = (unsigned char)addr.p[i];

		if (c < ' ' || c == 0x7f)
			return false;
	}
	return addr.len <= MAIL_ADDR_MAX_BYTES && str_is_utf8(addr.p, addr.len);
}

/* The internal form, in the transaction's memory. False: refused. */
static bool take_address(struct session *s, struct sv addr, struct sv *kept_r)
{
	struct tx *t = s->tx;
	const char *classes = s->listener->p->smtputf8_autodetect_classes;
	char *p;

	if (!address_is_good(addr)) {
		refuse(s, 'D', true, "Error: bad address syntax");
		return false;
	}
	p = arena_strndup(&t->arena, addr.p, addr.len);
	if (p == NULL) {
		refuse(s, 'Z', true, "Error: too many recipients");
		return false;
	}
	if (s->listener->p->smtputf8_enable && !str_is_ascii(addr.p, addr.len) &&
	    (matchlist_word_in(classes, "qmqpd") || matchlist_word_in(classes, "all")))
		t->env.flags |= ENVF_SMTPUTF8;
	*kept_r = (struct sv){ p, addr.len };
	return true;
}

/* "prefix@origin-@[]" asks for VERP: the sender is without the prefix's last byte, which is the
 * first delimiter; the second one is '='. False: refused. */
static bool take_verp(struct session *s, struct sv *addr, struct buf *mem)
{
	static const struct sv mark = { "-@[]", 4 };
	const char *at = addr->len > 0 ? memchr(addr->p, '@', addr->len) : NULL;
	size_t user = at != NULL ? (size_t)(at - addr->p) : 0, end;
	char delimiters[3] = { 0, '=', '\0' };

	if (addr->len <= mark.len || memcmp(addr->p + addr->len - mark.len, mark.p, mark.len) != 0)
		return true;
	end = addr->len - mark.len;
	if (user < 2 || user + 1 >= end)
		return true;
	delimiters[0] = addr->p[user - 1];
	if (verp_check_delimiters(sv_from(delimiters), s->listener->p->verp_delimiter_filter) !=
	    NULL) {
		refuse(s, 'D', true,
		       "Error: Invalid VERP delimiters: \"%s\". Need two characters from \"%s\"",
		       delimiters, s->listener->p->verp_delimiter_filter);
		return false;
	}
	buf_add(mem, addr->p, user - 1);
	buf_add(mem, at, end - user);
	*addr = buf_sv(mem);
	s->tx->env.verp = sv_from(arena_strdup(&s->tx->arena, delimiters));
	return true;
}

static void take_sender(struct session *s)
{
	struct qmqp *q = s->qmqp;
	struct sv addr = buf_sv(&q->item);
	struct buf mem = BUF_INIT;
	struct tx *t = s->tx;

	if (take_verp(s, &addr, &mem) && take_address(s, addr, &t->env.sender)) {
		t->sender = arena_strndup(&t->arena, t->env.sender.p, t->env.sender.len);
		q->stage = STAGE_RCPT;
	}
	buf_fini(&mem);
}

static void take_rcpt(struct session *s)
{
	struct env_rcpt r = { 0 };
	struct tx *t = s->tx;

	if (!take_address(s, buf_sv(&s->qmqp->item), &r.addr))
		return;
	if (t->rcpt_count == RCPT_MAX || env_add_rcpt(&t->env, &t->arena, &r) != 0) {
		refuse(s, 'Z', true, "Error: too many recipients");
		return;
	}
	if (t->rcpt_count++ == 0)
		t->first_rcpt = r.addr.p;
	counter_add(session_counters, CTR_smtpd_recipients, 1);
}

static void add_received(const struct session *s, struct buf *out)
{
	const struct params *p = s->listener->p;
	const struct tx *t = s->tx;

	buf_printf(out, "Received: from %s (%s [%s%s])\r\n\tby %s (%s) with QMQP", s->name, s->name,
		   s->is_ipv6 ? "IPv6:" : "", s->addr, p->myhostname, p->mail_name);
	if (t->rcpt_count == 1) {
		buf_printf(out, " id %s\r\n\tfor <", session_qid(s));
		mail_addr_quote(sv_from(t->first_rcpt), out);
		buf_add_str(out, ">; ");
	} else {
		buf_printf(out, "\r\n\tid %s; ", session_qid(s));
	}
	mail_date_add(t->env.arrival_us / 1000000, out);
	buf_add_str(out, "\r\n");
}

/* A mbox separator in front of the header is kept as a header; a header cannot begin with blanks.
 */
static struct sv prefix_of(const struct buf *content)
{
	size_t quoted = 0;

	while (quoted < content->len && content->p[quoted] == '>')
		quoted++;
	if (content->len - quoted >= 5 && memcmp(content->p + quoted, "From ", 5) == 0)
		return SV("X-Mailbox-Line: ");
	if (content->len > 0 && (content->p[0] == ' ' || content->p[0] == '\t'))
		return SV("\r\n");
	return SV("");
}

static void begin(struct session *s)
{
	struct buf env = BUF_INIT, head = BUF_INIT;
	struct tx *t = s->tx;
	int err = env_encode(&t->env, &env);

	if (err == 0) {
		add_received(s, &head);
		err = s->ops->begin(s->ops->ctx, s, buf_sv(&env), buf_sv(&head));
	}
	buf_fini(&env);
	buf_fini(&head);
	if (err == E_AGAIN) {
		s->wait = WAIT_ROOM;
	} else if (err != 0) {
		log_warn("%s: cannot take the message: %s", session_qid(s), err_str(err));
		refuse(s, 'Z', true, "Error: queue file write error");
	} else {
		t->begun = true;
		t->prefix = prefix_of(&s->qmqp->content);
		smtp_data_init_chunked(&t->scan);
		s->qmqp->stage = STAGE_STORE;
	}
}

/* All is read: it becomes a message. */
static void complete(struct session *s)
{
	struct envelope *e = &s->tx->env;
	int err;

	if (s->tx->rcpt_count == 0) {
		refuse(s, 'D', true, "Error: no recipients specified");
		return;
	}
	err = s->ops->may_accept(s->ops->ctx, s);
	if (err != 0) {
		refuse(s, 'Z', true,
		       err == E_NOSPC ? "Error: 4.3.1 Insufficient system storage"
				      : "Error: queue file write error");
		return;
	}
	e->client_name = sv_from(s->name);
	e->client_addr = sv_from(s->addr);
	e->client_port = sv_from(s->port);
	e->proto = SV("QMQP");
	e->flags |= s->listener->env_flags | ENVF_LOCAL_CLIENT;
	e->filter = sv_from(s->listener->p->content_filter);
	e->cleanup = sv_from(s->listener->cleanup);
	s->qmqp->stage = STAGE_BEGIN;
}

/* As much of `text` as there is room for. */
static size_t store(struct session *s, struct sv text)
{
	return text.len > 0 || smtp_data_pending(&s->tx->scan) > 0
		       ? session_store(s, text.p, text.len)
		       : 0;
}

static void store_content(struct session *s)
{
	struct qmqp *q = s->qmqp;
	struct tx *t = s->tx;

	while (t->prefix.len > 0 && s->wait == WAIT_NONE) {
		size_t n = store(s, t->prefix);

		t->prefix = (struct sv){ t->prefix.p + n, t->prefix.len - n };
	}
	if (s->wait == WAIT_NONE)
		q->stored += store(
			s, (struct sv){ q->content.p + q->stored, q->content.len - q->stored });
	if (s->wait == WAIT_NONE && !q->content_ended) {
		q->content_ended = true;
		smtp_data_end_chunks(&t->scan);
		store(s, SV(""));
	}
	if (t->error == MSG_TOO_BIG) {
		s->wait = WAIT_NONE;
		refuse(s, 'D', true, "Error: message too large");
	} else if (t->error != MSG_OK) {
		s->wait = WAIT_NONE;
		refuse(s, 'Z', true, "Error: queue file write error");
	} else if (s->wait == WAIT_NONE) {
		drop_content(q);
		q->stage = STAGE_VERDICT;
		s->wait = WAIT_DONE;
		s->tx->end_us = clock_mono_us_raw();
		s->ops->end(s->ops->ctx, s);
	}
}

void qmqp_done(struct session *s, enum submit_verdict v, const uint8_t dsn[3], struct sv text)
{
	struct qmqp *q = s->qmqp;

	histogram_add(session_counters, HIS_smtpd_accept,
		      (uint64_t)(clock_mono_us_raw() - s->tx->end_us));
	if (v == SUBMIT_OK || v == SUBMIT_DISCARDED) {
		counter_add(session_counters, CTR_qmqpd_messages, 1);
		buf_reset(&q->reply);
		buf_printf(&q->reply, "KOk: queued as %s", session_qid(s));
		session_reset_tx(s);
		say(s);
		return;
	}
	char letter = v == SUBMIT_TEMPFAIL ? 'Z' : 'D';

	if (text.len == 0)
		text = v == SUBMIT_TEMPFAIL ? SV("Error: queue file write error")
					    : SV("Error: message content rejected");
	if (sv_eq(text, SV("Message size exceeds fixed limit")))
		refuse(s, letter, true, "Error: message too large");
	else if (text.len > 7 && memcmp(text.p, "Error: ", 7) == 0)
		refuse(s, letter, true, "%.*s", (int)text.len, text.p);
	else if (dsn[0] == 0)
		refuse(s, letter, true, "Error: %.*s", (int)text.len, text.p);
	else
		refuse(s, letter, true, "Error: %u.%u.%u %.*s", dsn[0], dsn[1], dsn[2],
		       (int)text.len, text.p);
}

/* ---- netstrings ---- */

static uint64_t limit_of(const struct session *s)
{
	const struct params *p = s->listener->p;
	uint64_t most = s->qmqp->stage == STAGE_CONTENT ? (uint64_t)p->message_size_limit
							: (uint64_t)p->line_length_limit;

	return most > 0 ? most : QMQP_MEMORY;
}

/* The length is known. */
static void begin_item(struct session *s)
{
	struct qmqp *q = s->qmqp;

	if (q->digits == 0) {
		refuse_syntax(s, "netstring format error");
	} else if (q->stage == STAGE_PACKET) {
		q->stage = STAGE_CONTENT;
	} else if (q->length > limit_of(s)) {
		refuse_syntax(s, "netstring length exceeds storage limit");
	} else if (q->stage == STAGE_CONTENT && content_held + q->length > QMQP_MEMORY) {
		refuse(s, 'Z', true, "Error: too much mail at a time");
	} else {
		q->in_text = true;
	}
	buf_reset(&q->item);
}

static void end_item(struct session *s)
{
	struct qmqp *q = s->qmqp;

	q->in_text = false;
	if (q->stage == STAGE_CONTENT)
		q->stage = STAGE_SENDER;
	else if (q->stage == STAGE_SENDER)
		take_sender(s);
	else
		take_rcpt(s);
	q->length = q->digits = 0;
}

static size_t length_input(struct session *s, const char *data, size_t len)
{
	struct qmqp *q = s->qmqp;
	size_t i = 0;

	if (q->stage == STAGE_RCPT && q->digits == 0 && data[0] == ',') {
		complete(s);
		return 1;
	}
	for (; i < len && ascii_is_digit(data[i]); i++) {
		if (q->digits++ == LENGTH_DIGITS) {
			refuse_syntax(s, "netstring length exceeds storage limit");
			return len;
		}
		q->length = q->length * 10 + (uint64_t)(data[i] - '0');
	}
	if (i == len)
		return len;
	if (data[i] != ':') {
		refuse_syntax(s, "netstring format error");
		return len;
	}
	begin_item(s);
	if (!q->in_text)
		q->length = q->digits = 0;
	return i + 1;
}

static size_t text_input(struct session *s, const char *data, size_t len)
{
	struct qmqp *q = s->qmqp;
	struct buf *to = q->stage == STAGE_CONTENT ? &q->content : &q->item;
	size_t n = size_min(len, (size_t)q->length - to->len);

	if (to == &q->content && content_held + n > QMQP_MEMORY) {
		/* others have sent theirs since this one was let in */
		refuse(s, 'Z', true, "Error: too much mail at a time");
		return len;
	}
	if (n > 0) {
		buf_add(to, data, n);
		if (to == &q->content)
			content_held += n;
		return n;
	}
	if (data[0] != ',') {
		refuse_syntax(s, "netstring format error");
		return len;
	}
	end_item(s);
	return 1;
}

size_t qmqp_input(struct session *s, const char *data, size_t len)
{
	struct qmqp *q = s->qmqp;
	size_t used = 0;

	while (used < len && q->stage <= STAGE_RCPT)
		used += q->in_text ? text_input(s, data + used, len - used)
				   : length_input(s, data + used, len - used);
	if (q->stage > STAGE_RCPT)
		qmqp_resume(s);
	return q->stage > STAGE_RCPT ? len : used;
}

/* ---- the session ---- */

void qmqp_resume(struct session *s)
{
	struct qmqp *q = s->qmqp;

	while (s->wait == WAIT_NONE && q->stage >= STAGE_BEGIN && q->stage < STAGE_OVER) {
		if (q->stage == STAGE_BEGIN)
			begin(s);
		else if (q->stage == STAGE_STORE)
			store_content(s);
		else if (q->stage == STAGE_REPLY)
			say(s);
		else
			break;
	}
}

void qmqp_greet(struct session *s)
{
	struct tx *t;

	s->qmqp = xcalloc(1, sizeof(*s->qmqp));
	s->state = SESSION_QMQP;
	s->deadline_ms = clock_now().ms + s->listener->p->qmqpd_timeout;
	if (s->may_verp <= 0) {
		refuse(s, s->may_verp < 0 ? 'Z' : 'D', false,
		       s->may_verp < 0 ? "Error: server configuration error"
				       : "Error: %s is not authorized to use this service",
		       s->namaddr);
		return;
	}
	t = s->tx = tx_new(0);
	t->env.arrival_us = clock_now_wall().us;
	t->qid = s->ops->new_qid(s->ops->ctx);
	t->has_qid = true;
	log_info("%s: client=%s", session_qid(s), s->namaddr);
}

void qmqp_log_gone(const struct session *s, const char *reason)
{
	const char *where = s->qmqp != NULL ? stage_texts[s->qmqp->stage] : "connecting";

	log_info("%s: %s: %s while %s", session_qid(s), s->namaddr,
		 strcmp(reason, "timeout") == 0 ? "read/write timeout" : reason, where);
}

size_t qmqp_memory(const struct session *s)
{
	const struct qmqp *q = s->qmqp;

	return q == NULL ? 0 : sizeof(*q) + q->item.cap + q->content.cap + q->reply.cap;
}

void qmqp_free(struct session *s)
{
	if (s->qmqp == NULL)
		return;
	drop_content(s->qmqp);
	buf_fini(&s->qmqp->item);
	buf_fini(&s->qmqp->reply);
	free(s->qmqp);
	s->qmqp = NULL;
}
