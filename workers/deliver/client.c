/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SMTP and LMTP client engine; see workers/deliver/client.h. */
#include "workers/deliver/client.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/deliver/client_int.h"
#include "workers/deliver/command.h"
#include "workers/deliver/saslmech.h"

#define TEXT_LIMIT 2048

static void on_rset(struct client *c, unsigned rcpt);
static void on_xforward(struct client *c, unsigned rcpt);
static void on_mail(struct client *c, unsigned rcpt);
static void on_rcpt(struct client *c, unsigned rcpt);
static void on_data(struct client *c, unsigned rcpt);
static void on_dot(struct client *c, unsigned rcpt);
static void on_lmtp_dot(struct client *c, unsigned rcpt);
static void on_bdat(struct client *c, unsigned rcpt);
static void on_lone_dot(struct client *c, unsigned rcpt);

static const struct expect_desc {
	const char *doing;   /* "lost connection with x while ..." */
	const char *command; /* "in reply to ... command" */
	size_t timeout;
	void (*on_reply)(struct client *c, unsigned rcpt);
} descs[] = {
#define T(field) offsetof(struct client_conf, field)
	[X_GREETING] = { "receiving the initial server greeting", "initial greeting", T(helo_ms),
			 client_on_greeting },
	[X_EHLO] = { "performing the EHLO handshake", "EHLO", T(helo_ms), client_on_hello },
	[X_HELO] = { "performing the HELO handshake", "HELO", T(helo_ms), client_on_hello },
	[X_STARTTLS] = { "receiving the STARTTLS response", "STARTTLS", T(starttls_ms),
			 client_on_starttls },
	[X_AUTH] = { "performing the EHLO handshake", "AUTH", T(helo_ms), client_on_auth },
	[X_RSET] = { "sending RSET", "RSET", T(rset_ms), on_rset },
	[X_XFORWARD] = { "sending XFORWARD name/address", "XFORWARD name/address", T(xforward_ms),
			 on_xforward },
	[X_XFORWARD_MORE] = { "sending XFORWARD protocol/helo_name", "XFORWARD helo/protocol",
			      T(xforward_ms), on_xforward },
	[X_MAIL] = { "sending MAIL FROM", "MAIL FROM", T(mail_ms), on_mail },
	[X_RCPT] = { "sending RCPT TO", "RCPT TO", T(rcpt_ms), on_rcpt },
	[X_DATA] = { "sending DATA command", "DATA", T(data_init_ms), on_data },
	[X_DOT] = { "sending end of data -- message may be sent more than once", "end of DATA",
		    T(data_done_ms), on_dot },
	[X_LMTP_DOT] = { "sending end of data -- message may be sent more than once", "end of DATA",
			 T(data_done_ms), on_lmtp_dot },
	[X_BDAT] = { "sending end of data -- message may be sent more than once", "BDAT",
		     T(data_done_ms), on_bdat },
	[X_LONE_DOT] = { "sending final dot", "end of DATA", T(data_done_ms), on_lone_dot },
#undef T
};
static_assert(ARRAY_LEN(descs) == X_COUNT, "one row per kind");

/* ---- the queue of expected replies ---- */

void client_expect_reply(struct client *c, enum expect_kind kind, unsigned rcpt)
{
	ASSERT(c->expect_count < CLIENT_EXPECT_MAX);
	c->expect[(c->expect_first + c->expect_count++) % CLIENT_EXPECT_MAX] =
		(struct client_expect){ (uint8_t)kind, (uint8_t)rcpt };
}

static const struct client_expect *expect_front(const struct client *c)
{
	return c->expect_count > 0 ? &c->expect[c->expect_first] : NULL;
}

static struct client_expect expect_pop(struct client *c)
{
	struct client_expect x = c->expect[c->expect_first];

	c->expect_first = (c->expect_first + 1) % CLIENT_EXPECT_MAX;
	c->expect_count--;
	return x;
}

/* ---- faults ---- */

const char *client_joined_reply(struct client *c)
{
	buf_reset(&c->reply);
	smtp_reply_parser_joined(&c->parser, TEXT_LIMIT, &c->reply);
	return buf_cstr(&c->reply);
}

struct client_fault client_fault_reply(struct client *c)
{
	unsigned code = c->parser.code;
	bool permanent = code >= 500;
	struct client_fault f = { .permanent = permanent, .dsn = { permanent ? 5 : 4, 0, 0 } };

	/* our mistake, or the server's: syntax, unknown or unexpected commands */
	if (code < 400 || (code >= 500 && code < 510) || code == 555)
		c->trouble |= CLIENT_TROUBLE_PROTOCOL;
	if (c->parser.dsn[0] == f.dsn[0])
		memcpy(f.dsn, c->parser.dsn, 3);
	f.diag = sv_from(client_joined_reply(c));
	return f;
}

static struct client_fault fault_said(struct client *c, enum expect_kind kind)
{
	struct client_fault f = client_fault_reply(c);

	buf_reset(&c->text);
	buf_printf(&c->text, "host %s said: %s (in reply to %s command)", c->namaddr,
		   buf_cstr(&c->reply), descs[kind].command);
	f.text = buf_sv(&c->text);
	return f;
}

struct client_fault client_fault_text(struct client *c, bool permanent, unsigned subject,
				      unsigned detail)
{
	return (struct client_fault){ .permanent = permanent,
				      .dsn = { permanent ? 5 : 4, (uint8_t)subject,
					       (uint8_t)detail },
				      .text = buf_sv(&c->text) };
}

/* What the session is doing, for "lost connection" and "timed out" texts. */
static const char *doing(const struct client *c)
{
	const struct client_expect *x = expect_front(c);

	if (x == NULL)
		return "idle";
	if (c->content != NULL && c->content == c->cur &&
	    (x->kind == X_DOT || x->kind == X_LMTP_DOT || x->kind == X_BDAT))
		return "sending message body";
	if ((x->kind == X_EHLO || x->kind == X_AUTH) && c->conf->lmtp)
		return "performing the LHLO handshake";
	return descs[x->kind].doing;
}

static void fail_rest(struct client *c, struct client_tx *tx, const struct client_fault *f)
{
	for (unsigned i = 0; i < tx->rcpt_count; i++) {
		if (tx->rcpts[i].state == CLIENT_R_DONE)
			continue;
		tx->rcpts[i].state = CLIENT_R_DONE;
		c->ops->failed(c->ctx, tx, i, f);
	}
}

static void fail_rcpt(struct client *c, unsigned i, const struct client_fault *f)
{
	if (c->cur->rcpts[i].state == CLIENT_R_DONE)
		return;
	c->cur->rcpts[i].state = CLIENT_R_DONE;
	c->ops->failed(c->ctx, c->cur, i, f);
}

/* The session is over. What the server cannot have taken goes back as it was: what is behind the
 * current transaction, and has no content on the wire. NULL fault: all of it. */
void client_dead(struct client *c, const struct client_fault *f)
{
	struct client_tx *first = c->cur, *back = first, *tx, *next;

	c->state = CLIENT_DEAD;
	c->cur = c->last = NULL;
	c->in_flight = 0;
	c->content = NULL;
	c->expect_count = 0;
	buf_reset(&c->head);
	buf_reset(&c->tail);
	/* up to `back` they have failed */
	while (f != NULL && back != NULL && (back == first || back->begun))
		back = back->behind;
	for (tx = back; tx != NULL; tx = next) {
		next = tx->behind;
		c->ops->untouched(c->ctx, tx);
	}
	for (tx = first; tx != back; tx = next) {
		next = tx->behind;
		if (tx != first)
			c->ops->begin(c->ctx, tx);
		fail_rest(c, tx, f);
		c->ops->end(c->ctx, tx);
	}
	c->ops->dead(c->ctx, f);
}

/* A used connection ends before the next message got any answer: not that message's fault. (On a
 * fresh connection it is, or a server that always hangs up there would be called for ever.) */
static bool is_between_messages(const struct client *c)
{
	return c->state == CLIENT_BUSY && c->finished > 0 && !c->cur->replied;
}

void client_closed(struct client *c)
{
	struct client_fault f;
	bool handshake = c->state == CLIENT_GREETING || c->state == CLIENT_HELLO;

	if (c->state == CLIENT_DEAD)
		return;
	if (c->state == CLIENT_IDLE || c->state == CLIENT_QUITTING) {
		client_dead(c, NULL);
		return;
	}
	if (is_between_messages(c) && !c->cur->begun) {
		client_dead(c, NULL);
		return;
	}
	if (c->state == CLIENT_TLS) {
		client_tls_failed(c, "Cannot start TLS: handshake failure");
		return;
	}
	buf_reset(&c->text);
	buf_printf(&c->text, "lost connection with %s while %s", c->namaddr, doing(c));
	f = client_fault_text(c, false, 4, 2);
	f.site = handshake;
	client_dead(c, &f);
}

void client_timed_out(struct client *c)
{
	struct client_fault f;

	if (c->state == CLIENT_DEAD)
		return;
	if (c->state == CLIENT_IDLE || c->state == CLIENT_QUITTING) {
		client_dead(c, NULL);
		return;
	}
	if (c->state == CLIENT_TLS) {
		client_tls_failed(c, "Cannot start TLS: handshake failure");
		return;
	}
	buf_reset(&c->text);
	buf_printf(&c->text, "conversation with %s timed out while %s", c->namaddr, doing(c));
	f = client_fault_text(c, false, 4, 2);
	f.site = c->state != CLIENT_BUSY;
	client_dead(c, &f);
}

static void protocol_error(struct client *c, const char *what)
{
	struct client_fault f;

	c->trouble |= CLIENT_TROUBLE_PROTOCOL;
	buf_reset(&c->text);
	buf_printf(&c->text, "host %s broke the protocol: %s while %s", c->namaddr, what, doing(c));
	f = client_fault_text(c, false, 5, 0);
	f.site = c->state != CLIENT_BUSY;
	client_dead(c, &f);
}

void client_broken(struct client *c, const char *why)
{
	struct client_fault f;

	if (c->state == CLIENT_DEAD)
		return;
	buf_reset(&c->text);
	buf_add_str(&c->text, why);
	f = client_fault_text(c, false, 3, 0);
	client_dead(c, &f);
}

void client_refuse_content(struct client *c, const char *why)
{
	struct client_fault f;

	if (c->state == CLIENT_DEAD)
		return;
	buf_reset(&c->text);
	buf_add_str(&c->text, why);
	f = client_fault_text(c, true, 6, 0);
	client_dead(c, &f);
}

/* ---- transaction ---- */

/* True: no more may be written before there is a reply. */
static bool write_origin(struct client *c, struct client_tx *tx, struct buf *out)
{
	while (tx->forwarded < 2) {
		unsigned part = tx->forwarded++;

		if (!command_xforward(out, tx, c->features, part))
			continue;
		client_expect_reply(c, part == 0 ? X_XFORWARD : X_XFORWARD_MORE, 0);
		if ((c->features & CLIENT_F_PIPELINING) == 0)
			return true;
	}
	return false;
}

static bool ends_at_rcpt(const struct client *c, const struct client_tx *tx)
{
	return tx->probe && !c->conf->probe_data;
}

/* AUTH counts for who has logged in, and shall say so (smtp_send_dummy_mail_auth). */
static unsigned mail_features(const struct client *c)
{
	bool says = c->login != NULL && c->login->conf->mail_auth;

	return says ? c->features : c->features & ~(unsigned)CLIENT_F_AUTH;
}

/* Write the commands that may go now: all with pipelining, else one. */
static void write_steps(struct client *c, struct client_tx *tx, struct buf *out)
{
	bool pipelining = (c->features & CLIENT_F_PIPELINING) != 0;

	if (write_origin(c, tx, out))
		return;
	while (tx->step <= tx->rcpt_count + !ends_at_rcpt(c, tx)) {
		if (tx->step == 0) {
			command_mail(out, tx, mail_features(c), c->conf->raw_addresses);
			client_expect_reply(c, X_MAIL, 0);
		} else if (tx->step <= tx->rcpt_count) {
			command_rcpt(out, &tx->rcpts[tx->step - 1], c->features,
				     c->conf->raw_addresses);
			client_expect_reply(c, X_RCPT, tx->step - 1);
		} else if (tx->chunk) {
			buf_printf(out, "BDAT %llu LAST\r\n", (unsigned long long)tx->content_len);
			client_expect_reply(c, X_BDAT, 0);
			c->content = tx;
			c->content_off = 0;
		} else {
			buf_add_str(out, "DATA\r\n");
			client_expect_reply(c, X_DATA, 0);
		}
		tx->step++;
		if (!pipelining)
			break;
	}
}

/* Message-level reasons not even to try. True: the transaction is over. */
static bool refuse_locally(struct client *c, struct client_tx *tx)
{
	struct client_fault f;

	buf_reset(&c->text);
	if (tx->needs_utf8 && (c->features & CLIENT_F_SMTPUTF8) == 0) {
		buf_printf(&c->text, "SMTPUTF8 is required, but was not offered by host %s",
			   c->namaddr);
		f = client_fault_text(c, true, 6, 7);
	} else if (c->size_limit > 0 && tx->size > c->size_limit) {
		buf_printf(&c->text, "message size %llu exceeds size limit %llu of server %s",
			   (unsigned long long)tx->size, (unsigned long long)c->size_limit,
			   c->namaddr);
		f = client_fault_text(c, true, 3, 4);
	} else {
		return false;
	}
	fail_rest(c, tx, &f);
	return true;
}

/* May messages go out before the ones before them are answered? */
static bool has_chunking(const struct client *c)
{
	unsigned needs = CLIENT_F_CHUNKING | CLIENT_F_PIPELINING;

	return c->conf->in_flight > 1 && !c->conf->lmtp && (c->features & needs) == needs;
}

static void tx_reset(struct client *c, struct client_tx *tx)
{
	tx->step = 0;
	tx->forwarded = 0;
	tx->accepted = 0;
	tx->mail_refused = false;
	tx->replied = false;
	tx->begun = false;
	tx->behind = NULL;
	tx->chunk = has_chunking(c) && tx->plain && !tx->probe && tx->content_len > 0 &&
		    !client_downgrades(tx, c->features);
	for (unsigned i = 0; i < tx->rcpt_count; i++)
		tx->rcpts[i].state = CLIENT_R_TODO;
}

bool client_can_start(const struct client *c)
{
	return c->state == CLIENT_IDLE && !c->closing;
}

void client_start(struct client *c, struct client_tx *tx)
{
	ASSERT(client_can_start(c) && tx->rcpt_count > 0 && tx->rcpt_count <= CLIENT_RCPT_MAX);
	tx_reset(c, tx);
	c->state = CLIENT_BUSY;
	c->cur = c->last = tx;
	c->in_flight = 1;
	c->ops->begin(c->ctx, tx);
	if (refuse_locally(c, tx)) {
		c->cur = c->last = NULL;
		c->in_flight = 0;
		c->state = CLIENT_IDLE;
		c->ops->end(c->ctx, tx);
		return;
	}
	if (c->needs_rset) {
		c->needs_rset = false;
		buf_add_str(&c->head, "RSET\r\n");
		client_expect_reply(c, X_RSET, 0);
		if ((c->features & CLIENT_F_PIPELINING) == 0)
			return;
	}
	write_steps(c, tx, &c->head);
}

void client_quit(struct client *c)
{
	ASSERT(c->state == CLIENT_IDLE);
	buf_add_str(&c->head, "QUIT\r\n");
	c->state = CLIENT_QUITTING;
}

/* The current transaction has all its answers. */
static void tx_end(struct client *c)
{
	struct client_tx *tx = c->cur, *next = tx->behind;

	c->cur = next;
	c->in_flight--;
	c->finished++;
	if (next == NULL) {
		c->last = NULL;
		c->state = CLIENT_IDLE;
	}
	c->ops->end(c->ctx, tx);
	if (next != NULL)
		c->ops->begin(c->ctx, next);
}

static void on_rset(struct client *c, unsigned rcpt UNUSED)
{
	/* whatever it says: MAIL will show where we are */
	if (c->cur != NULL && c->cur->step == 0)
		write_steps(c, c->cur, &c->head);
}

static void note_421(struct client *c)
{
	if (c->parser.code == 421)
		c->closing = true;
}

/* A server that does not want to know after all gets the mail nevertheless. */
static void on_xforward(struct client *c, unsigned rcpt UNUSED)
{
	c->cur->replied = true;
	note_421(c);
	if (c->parser.code / 100 != 2)
		log_warn("host %s said: %s (in reply to XFORWARD command)", c->namaddr,
			 client_joined_reply(c));
	if (c->expect_count == 0)
		write_steps(c, c->cur, &c->head);
}

static void on_mail(struct client *c, unsigned rcpt UNUSED)
{
	c->cur->replied = true;
	if (c->parser.code / 100 != 2) {
		struct client_fault f = fault_said(c, X_MAIL);

		note_421(c);
		c->cur->mail_refused = true;
		fail_rest(c, c->cur, &f);
		if (c->expect_count == 0)
			tx_end(c);
		return;
	}
	if (c->expect_count == 0)
		write_steps(c, c->cur, &c->head);
}

static void on_rcpt(struct client *c, unsigned rcpt)
{
	struct client_tx *tx = c->cur;

	if (c->parser.code / 100 == 2 && !tx->mail_refused && ends_at_rcpt(c, tx)) {
		tx->rcpts[rcpt].state = CLIENT_R_DONE;
		c->ops->sent(c->ctx, tx, rcpt, sv_from(client_joined_reply(c)));
	} else if (c->parser.code / 100 == 2 && !tx->mail_refused) {
		tx->rcpts[rcpt].state = CLIENT_R_ACCEPTED;
		tx->accepted++;
	} else {
		struct client_fault f = fault_said(c, X_RCPT);

		note_421(c);
		fail_rcpt(c, rcpt, &f);
	}
	if (c->expect_count > 0)
		return;
	if (rcpt + 1 == tx->rcpt_count && tx->accepted == 0) {
		c->needs_rset = true;
		tx_end(c);
		return;
	}
	write_steps(c, tx, &c->head);
}

/* Another transaction behind the last one. False: there is none. */
static bool begin_behind(struct client *c, struct buf *out)
{
	struct client_tx *tx;

	while ((tx = c->ops->next(c->ctx)) != NULL) {
		tx_reset(c, tx);
		if (!refuse_locally(c, tx))
			break;
		c->ops->begin(c->ctx, tx);
		c->ops->end(c->ctx, tx);
	}
	if (tx == NULL)
		return false;
	if (c->last->chunk) {
		buf_add_str(out, "RSET\r\n");
		client_expect_reply(c, X_RSET, 0);
	}
	c->last->behind = tx;
	c->last = tx;
	c->in_flight++;
	write_steps(c, tx, out);
	return true;
}

void client_top_up(struct client *c)
{
	/* RSET, XFORWARD twice, MAIL, RCPT ..., BDAT */
	unsigned room = CLIENT_EXPECT_MAX - CLIENT_RCPT_MAX - 5;

	/* behind DATA nothing can go out before its answer and its content have */
	while (c->state == CLIENT_BUSY && has_chunking(c) && !c->closing && c->content == NULL &&
	       c->last->begun && c->in_flight < c->conf->in_flight && c->expect_count < room &&
	       begin_behind(c, &c->head))
		;
}

/* The go-ahead: content, dot, and what else may travel in the same write. */
static void send_content(struct client *c)
{
	struct client_tx *tx = c->cur;

	c->content = tx;
	c->content_off = 0;
	buf_add_str(&c->tail, ".\r\n");
	if (!c->conf->lmtp)
		client_expect_reply(c, X_DOT, 0);
	for (unsigned i = 0; c->conf->lmtp && i < tx->rcpt_count; i++) {
		if (tx->rcpts[i].state == CLIENT_R_ACCEPTED)
			client_expect_reply(c, X_LMTP_DOT, i);
	}
	if ((c->features & CLIENT_F_PIPELINING) != 0 && !c->closing && !has_chunking(c))
		begin_behind(c, &c->tail);
}

/* A probe knows what it came for. The server waits for content now, so nothing more is said. */
static void probe_answered(struct client *c)
{
	struct client_tx *tx = c->cur;
	struct sv reply = sv_from(client_joined_reply(c));
	struct client_fault over;

	for (unsigned i = 0; i < tx->rcpt_count; i++) {
		if (tx->rcpts[i].state != CLIENT_R_ACCEPTED)
			continue;
		tx->rcpts[i].state = CLIENT_R_DONE;
		c->ops->sent(c->ctx, tx, i, reply);
	}
	over = client_fault_text(c, true, 0, 0); /* of no recipient */
	client_dead(c, &over);
}

static void on_data(struct client *c, unsigned rcpt UNUSED)
{
	struct client_tx *tx = c->cur;

	if (c->parser.code / 100 != 3) {
		struct client_fault f = fault_said(c, X_DATA);

		note_421(c);
		if (c->parser.code / 100 == 2 && tx->accepted > 0) {
			protocol_error(c, "positive reply to DATA");
			return;
		}
		c->needs_rset = !tx->mail_refused;
		fail_rest(c, tx, &f);
		tx_end(c);
	} else if (tx->accepted > 0 && tx->probe) {
		probe_answered(c);
	} else if (tx->accepted > 0) {
		send_content(c);
	} else {
		/* pipelined DATA, all recipients refused, and still a go-ahead: an empty message to
		 * nobody ends it (RFC 2920 3.1) */
		buf_add_str(&c->head, ".\r\n");
		client_expect_reply(c, X_LONE_DOT, 0);
		if (c->conf->lmtp)
			c->closing = true; /* nobody knows how many replies come */
	}
}

static void on_lone_dot(struct client *c, unsigned rcpt UNUSED)
{
	c->needs_rset = true;
	tx_end(c);
}

/* A final reply while content is still being written: take a refusal, and hang up, for the rest of
 * the content cannot be taken back. True when the session is over. */
static bool early_reply(struct client *c, enum expect_kind kind)
{
	struct client_fault f;

	if (c->content != c->cur)
		return false;
	if (c->parser.code / 100 == 2) {
		protocol_error(c, "positive reply before the end of the message");
		return true;
	}
	f = fault_said(c, kind);
	client_dead(c, &f);
	return true;
}

/* The server has answered for all recipients that it accepted. */
static void take_verdict(struct client *c, enum expect_kind kind)
{
	struct client_tx *tx = c->cur;

	if (c->parser.code / 100 == 2) {
		struct sv reply = sv_from(client_joined_reply(c));

		for (unsigned i = 0; i < tx->rcpt_count; i++) {
			if (tx->rcpts[i].state != CLIENT_R_ACCEPTED)
				continue;
			tx->rcpts[i].state = CLIENT_R_DONE;
			c->ops->sent(c->ctx, tx, i, reply);
		}
	} else {
		struct client_fault f = fault_said(c, kind);

		note_421(c);
		fail_rest(c, tx, &f);
	}
	tx_end(c);
}

static void on_dot(struct client *c, unsigned rcpt UNUSED)
{
	if (!early_reply(c, X_DOT))
		take_verdict(c, X_DOT);
}

/* Without a recipient the reply means nothing: they have failed already. */
static void on_bdat(struct client *c, unsigned rcpt UNUSED)
{
	if (early_reply(c, X_BDAT))
		return;
	c->needs_rset |= c->parser.code / 100 != 2 || c->cur->accepted == 0;
	take_verdict(c, X_BDAT);
}

static void on_lmtp_dot(struct client *c, unsigned rcpt)
{
	const struct client_expect *x;
	struct client_tx *tx = c->cur;

	if (early_reply(c, X_LMTP_DOT))
		return;
	if (c->parser.code / 100 == 2) {
		tx->rcpts[rcpt].state = CLIENT_R_DONE;
		c->ops->sent(c->ctx, tx, rcpt, sv_from(client_joined_reply(c)));
	} else {
		struct client_fault f = fault_said(c, X_LMTP_DOT);

		note_421(c);
		fail_rcpt(c, rcpt, &f);
	}
	x = expect_front(c);
	if (x == NULL || x->kind != X_LMTP_DOT)
		tx_end(c);
}

/* ---- bytes ---- */

static void take_reply(struct client *c)
{
	struct client_expect x;

	if (c->expect_count == 0) {
		/* a server that says goodbye to an idle connection */
		client_dead(c, NULL);
		return;
	}
	x = expect_pop(c);
	c->progress++;
	if (c->parser.code == 421 && is_between_messages(c)) {
		/* "too many messages", "idle too long": the next connection will do, also for what
		 * is behind it, to which the server does not listen any more */
		client_dead(c, NULL);
		return;
	}
	descs[x.kind].on_reply(c, x.rcpt);
}

void client_spoke_early(struct client *c)
{
	struct client_fault f;

	log_warn("server %s violates %s policy", c->namaddr, c->conf->block_early);
	c->early = true;
	buf_reset(&c->text);
	buf_add_str(&c->text, "unexpected server message");
	f = client_fault_text(c, false, 7, 0);
	f.site = true;
	client_dead(c, &f);
}

void client_input(struct client *c, const char *data, size_t len)
{
	/* what comes with the go-ahead for TLS was said by somebody on the way */
	while (len > 0 && c->state != CLIENT_DEAD && c->state != CLIENT_QUITTING &&
	       c->state != CLIENT_TLS) {
		size_t used = 0;
		int got = smtp_reply_parser_feed(&c->parser, data, len, &used);

		if (got == 0)
			return;
		if (got == E_AGAIN) {
			c->trouble |= CLIENT_TROUBLE_DATA;
			buf_reset(&c->reply);
			buf_printf(&c->reply, "local data error while talking to %s", c->namaddr);
			client_broken(c, buf_cstr(&c->reply));
			return;
		}
		if (got < 0) {
			protocol_error(c, got == E_LIMIT ? "over-long reply" : "malformed reply");
			return;
		}
		data += used;
		len -= used;
		take_reply(c);
		smtp_reply_parser_reset(&c->parser);
		if (len > 0 && c->state == CLIENT_IDLE && c->by_starttls && c->finished == 0 &&
		    c->conf->block_early != NULL) {
			client_spoke_early(c);
			return;
		}
	}
}

int64_t client_timeout_ms(const struct client *c)
{
	const struct client_expect *x = expect_front(c);

	if (c->state == CLIENT_TLS)
		return c->conf->starttls_ms;
	if (x == NULL || c->state == CLIENT_DEAD)
		return 0;
	if (c->content != NULL && c->content == c->cur)
		return c->conf->data_xfer_ms;
	return *(const int64_t *)(const void *)((const char *)c->conf + descs[x->kind].timeout);
}

bool client_has_output(const struct client *c)
{
	return c->head.len > 0 || c->content != NULL || c->tail.len > 0;
}

void client_wrote(struct client *c, size_t n)
{
	size_t part = size_min(n, c->head.len);

	c->written += n;
	buf_consume(&c->head, part);
	n -= part;
	if (c->head.len > 0)
		return;
	if (c->content != NULL) {
		part = (size_t)u64_min(n, c->content->content_len - c->content_off);
		c->content_off += part;
		c->content->begun |= part > 0;
		n -= part;
		if (c->content_off < c->content->content_len)
			return;
		/* content counts as written with the first byte behind it, if there is one: the dot
		 */
		if (n == 0 && !c->content->chunk)
			return;
		c->content = NULL;
		c->progress++;
	}
	ASSERT(n <= c->tail.len);
	buf_consume(&c->tail, n);
	if (c->content == NULL && c->tail.len > 0) {
		struct buf empty = c->head;

		c->head = c->tail;
		c->tail = empty;
	}
}

void client_content_open_end(struct client *c)
{
	char *p = buf_reserve(&c->tail, 2);

	if (p == NULL)
		return;
	memmove(c->tail.p + 2, c->tail.p, c->tail.len);
	memcpy(c->tail.p, "\r\n", 2);
	c->tail.len += 2;
	c->tail.p[c->tail.len] = '\0';
}

void client_init(struct client *c, const struct client_conf *conf, const struct client_ops *ops,
		 void *ctx, struct sv namaddr, const char *dest, bool loop_check)
{
	*c = (struct client){
		.conf = conf,
		.ops = ops,
		.ctx = ctx,
		.dest = dest,
		.loop_check = loop_check,
		.discard = conf->discard,
	};
	c->namaddr = xstrndup(namaddr.p, namaddr.len);
	smtp_reply_parser_init(&c->parser);
	c->state = CLIENT_GREETING;
	client_expect_reply(c, X_GREETING, 0);
}

void client_fini(struct client *c)
{
	smtp_reply_parser_fini(&c->parser);
	if (c->login != NULL)
		sasl_wipe(&c->head);
	buf_fini(&c->head);
	buf_fini(&c->tail);
	buf_fini(&c->text);
	buf_fini(&c->reply);
	free(c->namaddr);
	c->namaddr = NULL;
}
