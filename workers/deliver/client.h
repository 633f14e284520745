/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The SMTP and LMTP client as a protocol engine: bytes in, bytes out, events. It owns no socket and
 * reads no clock, so that unit tests and the fuzz target run it against scripted servers; conn.c
 * puts it on a socket. RFC 5321, 2920 (pipelining), 1870 (SIZE), 6152 (8BITMIME), 3461 (DSN), 6531
 * (SMTPUTF8), 2033 (LMTP), 3030 (BDAT), 3207 (STARTTLS: the caller encrypts), 4954 (AUTH).
 *
 * Every command that was written has its place in one queue of expected replies. A session works on
 * one transaction; with PIPELINING a second one may be begun right behind the final dot of the
 * first (its MAIL, RCPT and DATA travel in the same write), which saves the round trip between two
 * messages. If the connection breaks there, the second one was not touched: it comes back to the
 * caller unharmed.
 *
 * With CHUNKING (RFC 3030) as well, whole messages may be under way before the first is answered
 * (client_conf.in_flight): MAIL, RCPT and BDAT with the content need no go-ahead. Each of them but
 * the first begins with RSET, because the state after a BDAT that was refused is not defined. What
 * the server may have seen of them when the connection breaks has failed; the others are untouched.
 *
 * Output: `head` bytes, then content of the current message from `content_off` on (the caller
 * fetches it from the segment), then `tail` bytes. The caller reports progress by client_wrote().
 */
#ifndef PH_WORKERS_DELIVER_CLIENT_H
#define PH_WORKERS_DELIVER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/buf.h"
#include "lib/str.h"
#include "workers/smtp/reply.h"

#define CLIENT_RCPT_MAX   64u /* an entry spans no more (PROTO_ENTRY_SPAN) */
#define CLIENT_EXPECT_MAX 256u

/* What XFORWARD says of a message's origin. */
enum client_origin {
	ORIGIN_NAME,
	ORIGIN_ADDR,
	ORIGIN_PORT,
	ORIGIN_PROTO,
	ORIGIN_HELO,
	ORIGIN_IDENT,
	ORIGIN_SOURCE,
	ORIGIN_COUNT
};
#define CLIENT_XFORWARD_SHIFT 10

enum { /* what the server offers */
       CLIENT_F_PIPELINING = 1,
       CLIENT_F_SIZE = 2,
       CLIENT_F_8BITMIME = 4,
       CLIENT_F_DSN = 8,
       CLIENT_F_SMTPUTF8 = 16,
       CLIENT_F_CHUNKING = 32,
       CLIENT_F_ENHANCED = 64, /* noted; enhanced codes are read wherever they stand */
       CLIENT_F_STARTTLS = 128,
       CLIENT_F_AUTH = 256,
       CLIENT_F_ESMTP = 512,                             /* EHLO was accepted */
       CLIENT_F_XFORWARD = 127 << CLIENT_XFORWARD_SHIFT, /* a bit for each attribute */
};

struct client_conf { /* of one transport */
	bool lmtp;
	bool always_ehlo;       /* smtp_always_send_ehlo */
	bool never_ehlo;        /* smtp_never_send_ehlo */
	bool skip_5xx_greeting; /* smtp_skip_5xx_greeting: try the next host, do not bounce */
	bool raw_addresses;     /* smtp_quote_rfc821_envelope = no */
	bool probe_data;        /* smtp_address_verify_target = data */
	unsigned in_flight;     /* transactions at a time, with CHUNKING; 0 and 1: no BDAT */
	unsigned discard;       /* CLIENT_F_*: smtp_discard_ehlo_keywords */
	const char *helo_name;
	const char *myhostname;
	bool note_starttls;      /* smtp_tls_note_starttls_offer */
	const char *block_early; /* smtp_tls_block_early_mail_reply, its name; NULL = no */
	int64_t connect_ms, helo_ms, starttls_ms, xforward_ms, mail_ms, rcpt_ms, data_init_ms,
		data_xfer_ms, data_done_ms, rset_ms, quit_ms;
};

/* Why something was not delivered. Views are valid during the callback only. */
struct client_fault {
	bool permanent;
	bool site; /* connect or handshake: says something about the host, not the message */
	uint8_t dsn[3];
	struct sv text; /* as logged: "host x[ip] said: 450 ... (in reply to RCPT TO command)" */
	struct sv diag; /* the reply itself; empty when there was none */
};

struct client_rcpt {
	struct sv addr;  /* internal form */
	struct sv to;    /* what the server is told instead, internal form; empty = the same */
	struct sv orig;  /* for ORCPT when the client gave none; may be empty */
	struct sv orcpt; /* decoded "rfc822;..." */
	uint8_t notify;  /* NOTIFY_* of workers/mail/envelope.h */
	/* engine's */
	uint8_t state; /* enum client_rcpt_state */
};

enum client_rcpt_state { CLIENT_R_TODO, CLIENT_R_ACCEPTED, CLIENT_R_DONE };

struct client_tx {
	void *ctx;        /* the caller's */
	struct sv sender; /* internal form */
	struct sv envid;
	struct sv origin[ORIGIN_COUNT]; /* for XFORWARD; empty = is not said */
	uint8_t ret;                    /* enum dsn_ret */
	bool is_8bit, is_7bit;          /* as it was announced; neither: not known */
	bool may_downgrade;             /* disable_mime_output_conversion is off */
	bool needs_utf8;
	bool probe;    /* up to RCPT, or DATA: its replies are the result, nothing is sent */
	bool plain;    /* no line begins with a dot, the last one has its end, sent as it is */
	uint64_t size; /* for SIZE= */
	/* Wire form. The caller may write something else in its stead: then this is UINT64_MAX
	 * until the whole length is known, and the caller sets it when all of it is written but the
	 * end. */
	uint64_t content_len;
	unsigned rcpt_count;
	struct client_rcpt *rcpts;
	/* engine's */
	unsigned forwarded; /* XFORWARD commands that are written, or not wanted: of two */
	unsigned step;      /* next command to write: 0 MAIL, 1.. RCPT, rcpt_count + 1 DATA */
	unsigned accepted;
	bool mail_refused;
	bool replied;             /* the server answered some command of it */
	bool chunk;               /* sent by BDAT */
	bool begun;               /* some of its content was written */
	struct client_tx *behind; /* the transaction that was begun after it */
};

struct client;

enum { /* what a server has shown, as far as passwords are concerned */
       CLIENT_IN_CLEAR,
       CLIENT_ENCRYPTED,
       CLIENT_VERIFIED, /* encrypted, and its certificate is the one that is asked for */
       CLIENT_SECURITY_COUNT
};

struct client_login_conf {                       /* of one transport */
	unsigned options[CLIENT_SECURITY_COUNT]; /* SASL_* of conf/sasl.h */
	bool soft_bounce;                        /* smtp_sasl_auth_soft_bounce */
	bool authzid;                            /* send_cyrus_sasl_authzid */
	bool mail_auth;                          /* smtp_send_dummy_mail_auth */
	const char *service;                     /* "smtp" or "lmtp", for mechanisms */
	/* smtp_sasl_mechanism_filter; NULL: all pass */
	bool (*passes)(void *ctx, struct sv mechanism);
	void *ctx;
};

/* What the engine does not do itself; connlogin.c does, and answers later, never from inside. */
struct client_login_ops {
	/* Was this login refused before? The answer is client_login_recalled(); false: nobody
	 * keeps that. */
	bool (*recall)(void *ctx);
	/* It was refused now: "5.7.8 535 ...". */
	void (*remember)(void *ctx, struct sv reply);
	/* Begin with one of the mechanisms, which are offered and may be used; options: SASL_*. The
	 * answer is client_login_said(); false: it knows no more of them than saslmech.h. */
	bool (*start)(void *ctx, struct sv mechanisms, unsigned options);
	void (*step)(void *ctx, struct sv challenge);
};

enum client_login_said { LOGIN_SAID_NOTHING, LOGIN_SAID_MORE, LOGIN_SAID_DONE, LOGIN_SAID_FAILED };

/* A login at one server, the caller's; what is secret in it is wiped as soon as it has been used.
 */
struct client_login {
	const struct client_login_conf *conf;
	struct buf user, password;
	const char *server;                 /* "host[ip]:port", for the log */
	const struct client_login_ops *ops; /* NULL: there is nobody */
	void *ctx;
	/* engine's */
	struct buf offered;  /* mechanisms, with blanks between them */
	struct buf response; /* the last one */
	unsigned mech, steps;
	bool done, failed;
	bool waits;   /* for ops; the reply to what it will say is expected already */
	bool by_ops;  /* the mechanism is theirs */
	bool content; /* ... and has what it wants of the server */
	char mech_name[64];
	bool deferred; /* response waits for an empty challenge, too long for AUTH's line */
};

/* What is wanted of the session, before it starts. */
enum client_tls {
	CLIENT_TLS_NONE,
	CLIENT_TLS_MAY,
	CLIENT_TLS_MUST, /* no mail without */
};

struct client_ops {
	/* CLIENT_TLS: shake hands, and call client_secured() or client_tls_failed(), but not from
	 * here. NULL when TLS is never wanted. */
	void (*starttls)(void *ctx);
	/* EHLO/HELO done: the first transaction may start. */
	void (*ready)(void *ctx);
	/* The transaction became the current one of the session (its predecessor is done). */
	void (*begin)(void *ctx, struct client_tx *tx);
	void (*sent)(void *ctx, struct client_tx *tx, unsigned rcpt, struct sv reply);
	void (*failed)(void *ctx, struct client_tx *tx, unsigned rcpt,
		       const struct client_fault *f);
	/* All recipients had sent() or failed(). The caller may start another transaction. */
	void (*end)(void *ctx, struct client_tx *tx);
	/* A further transaction for the same place can go out behind the content of the last one,
	 * or NULL. */
	struct client_tx *(*next)(void *ctx);
	/* A transaction comes back as it was: the server never answered any part of it. */
	void (*untouched)(void *ctx, struct client_tx *tx);
	/* The handshake failed or the connection is lost; comes after failed()/untouched(). NULL
	 * fault: an idle connection ended. No further calls. */
	void (*dead)(void *ctx, const struct client_fault *f);
	/* The greeting is that of a firewall which hides most of it: CLIENT_PIX_*, or 0. NULL: 0.
	 */
	unsigned (*pix)(void *ctx);
};

enum { /* in the way of notify_classes */
       CLIENT_TROUBLE_PROTOCOL = 1,
       CLIENT_TROUBLE_DATA = 2,
};

enum { /* smtp_pix_workarounds */
       CLIENT_PIX_NO_ESMTP = 1,
       CLIENT_PIX_DELAY_DOT = 2, /* the caller's: the end of a message goes out alone, and later */
};

enum client_state {
	CLIENT_GREETING,
	CLIENT_TLS, /* the caller shakes hands: nothing to read or write here */
	CLIENT_HELLO,
	CLIENT_IDLE,
	CLIENT_BUSY,
	CLIENT_QUITTING, /* QUIT is in head; close when it is written */
	CLIENT_DEAD,
};

struct client_expect {
	uint8_t kind;
	uint8_t rcpt;
};

struct client {
	const struct client_conf *conf;
	const struct client_ops *ops;
	void *ctx;
	char *namaddr;       /* "host[ip]"; owned */
	const char *dest;    /* for "mail for X loops back" */
	bool loop_check;     /* port 25: a server with our own name is ourselves */
	enum client_tls tls; /* set by the caller right after client_init() */
	bool secured;        /* TLS is on */
	bool by_starttls;    /* ... after STARTTLS */
	bool early;          /* client_spoke_early() ended it */
	bool verified;       /* ... with the server that is meant; set before client_secured() */
	/* Who logs in, if the server offers it: set right after client_init(); NULL = nobody. */
	struct client_login *login;
	enum client_state state;
	unsigned features;
	unsigned pix;
	unsigned trouble;    /* CLIENT_TROUBLE_*: what the postmaster may want to hear of */
	unsigned discard;    /* client_conf's, or what is said of this server */
	uint64_t size_limit; /* 0 = none announced */
	uint64_t progress;   /* replies taken, and contents written to their end */
	uint64_t written;    /* bytes */
	unsigned finished;   /* transactions that came to an end */
	bool needs_rset;     /* a transaction was begun and left */
	bool closing;        /* 421 or protocol trouble: no further transaction */
	struct smtp_reply_parser parser;
	struct buf head, tail;
	struct client_tx *content; /* whose content is to be written between head and tail */
	uint64_t content_off;
	struct client_tx *cur, *last; /* the one that is being answered ... the one begun last */
	unsigned in_flight;           /* from cur to last */
	struct client_expect expect[CLIENT_EXPECT_MAX];
	unsigned expect_first, expect_count;
	struct buf text, reply; /* scratch for faults */
};

/* Starts in CLIENT_GREETING: call when the connection is open. Copies namaddr. */
void client_init(struct client *c, const struct client_conf *conf, const struct client_ops *ops,
		 void *ctx, struct sv namaddr, const char *dest, bool loop_check);
void client_fini(struct client *c);

/* TLS from the first byte on (smtp_tls_wrappermode): call it right after client_init(). */
void client_wrap(struct client *c);
/* Answers of client_login_ops. An empty code: nothing is known. */
void client_login_recalled(struct client *c, struct sv dsn, struct sv reply);
/* text: what to say (base64), or why not. LOGIN_SAID_NOTHING: start() should have been false. */
void client_login_said(struct client *c, enum client_login_said what, struct sv mechanism,
		       struct sv text);
/* What of a line that is sent while a login goes on may be shown, and what is to be shown behind.
 */
struct sv client_login_shown(struct sv line, const char **more_r);
/* A server that repeats what it was told must not bring it into the log. */
void client_login_mask(const struct client *c, struct buf *text);
/* In CLIENT_TLS: the server's certificate is as it must be, go on. What was said before is void. */
void client_secured(struct client *c);
/* In CLIENT_TLS: the mail is deferred with this text. */
void client_tls_failed(struct client *c, const char *why);

/* block_early: before the first MAIL after STARTTLS the server has said more than it was asked for.
 * The session ends: it may answer somebody who spoke before us (CVE-2009-3555). */
void client_spoke_early(struct client *c);

/* Bytes from the server. */
void client_input(struct client *c, const char *data, size_t len);
/* The server closed, or reading or writing failed. */
void client_closed(struct client *c);
/* We cannot go on (the content cannot be read): the current message is deferred with this text. */
void client_broken(struct client *c, const char *why);
/* The content cannot be converted for this server: the current message is refused with it. */
void client_refuse_content(struct client *c, const char *why);
/* Does the content of tx have to be converted for this server, which takes 7 bits only? */
bool client_downgrades(const struct client_tx *tx, unsigned features);
/* The time of client_timeout_ms() passed without progress. */
void client_timed_out(struct client *c);
/* Time allowed for what the session waits for now; 0 = waits for nothing. */
int64_t client_timeout_ms(const struct client *c);

/* Only in CLIENT_IDLE and not closing. Message-level refusals (SMTPUTF8, SIZE) end it at once. */
void client_start(struct client *c, struct client_tx *tx);
/* Only in CLIENT_IDLE: writes QUIT. */
void client_quit(struct client *c);
bool client_can_start(const struct client *c);

/* With CHUNKING: begins further transactions while there is room for them. Call it when something
 * was written or read, before client_has_output(). */
void client_top_up(struct client *c);
/* Is there anything to write? */
bool client_has_output(const struct client *c);
/* n bytes of head, content, tail (in this order) are written. */
void client_wrote(struct client *c, size_t n);
/* The content has no CRLF at its end: supply one before the final dot. */
void client_content_open_end(struct client *c);

/* smtp_discard_ehlo_keywords words to CLIENT_F_*. */
unsigned client_keywords_parse(struct sv list);

#endif
