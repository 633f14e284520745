/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One SMTP session as a machine without sockets: bytes in, bytes out. The server (server.c) feeds
 * what it reads to session_input() and writes what it finds in s->out; tests and fuzzers do the
 * same from memory. Whatever takes time (name server, tarpit, room for content, the commit) stops
 * the machine: s->wait says for what, and the matching session_*() call lets it go on. While it
 * waits, session_wants_input() is false and the caller reads no more from that client.
 *
 *   state                what input means
 *   SESSION_GREETING     nothing yet: the client must wait for the 220
 *   SESSION_COMMAND      lines
 *   SESSION_LONG_LINE    the rest of a line that was too long
 *   SESSION_DATA         content up to the final dot
 *   SESSION_CHUNK        content of one BDAT
 *   SESSION_SKIP         octets of a BDAT that was refused
 *   SESSION_AUTH         a line of a login
 *   SESSION_STARTTLS     nothing: it is thrown away until the handshake is over (sesstls.h)
 *   SESSION_QMQP         netstrings (qmqp.h)
 *   SESSION_CLOSING      nothing; close when s->out is written
 *
 * Memory: an idle session is this struct and a few short strings. Buffers, the transaction and the
 * policy run exist only while something is going on.
 */
#ifndef PH_WORKERS_SMTP_IN_SESSION_H
#define PH_WORKERS_SMTP_IN_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "lib/arena.h"
#include "lib/buf.h"
#include "lib/clock.h"
#include "lib/qid.h"
#include "policy/policy.h"
#include "shm/proto.h"
#include "workers/mail/envelope.h"
#include "workers/smtp/line.h"
#include "workers/smtp_in/content.h"
#include "workers/smtp_in/listener.h"

enum session_state {
	SESSION_GREETING,
	SESSION_COMMAND,
	SESSION_LONG_LINE,
	SESSION_DATA,
	SESSION_CHUNK,
	SESSION_SKIP,
	SESSION_AUTH,
	SESSION_STARTTLS,
	SESSION_QMQP,
	SESSION_CLOSING,
	SESSION_STATE_COUNT
};

enum session_wait {
	WAIT_NONE,
	WAIT_NAME,   /* client's host name; session_name_known() */
	WAIT_DNS,    /* session_dns_answer() */
	WAIT_TABLES, /* answers of remote tables; session_tables_answered() */
	WAIT_SLEEP,  /* until s->sleep_until_ms; session_tick() */
	WAIT_ROOM,   /* blocks for content; session_room() */
	WAIT_DONE,   /* verdict on the message; session_submit_done() */
	WAIT_MILTER, /* what milters say of an event; session_milter_reply() */
	WAIT_FILTER, /* what the before-queue filter says of a command; sessfilter.h */
	WAIT_AUTH,   /* the auth worker (workers/smtp_in/auth.h), until s->sleep_until_ms */
};

enum cmd_id {
	CMD_HELO,
	CMD_EHLO,
	CMD_XCLIENT,
	CMD_XFORWARD,
	CMD_STARTTLS,
	CMD_AUTH,
	CMD_MAIL,
	CMD_RCPT,
	CMD_DATA,
	CMD_BDAT,
	CMD_RSET,
	CMD_NOOP,
	CMD_VRFY,
	CMD_ETRN,
	CMD_QUIT,
	CMD_HELP,
	CMD_UNKNOWN,
	CMD_COUNT
};

struct session;
struct smtp_cmd;
struct map_memo;
struct forwarded;
struct sessfilter;
struct session_auth;
struct talk;
struct session_tls;
struct qmqp;

/* What a session asks of the process around it. Every call may be answered by a fake. */
struct session_ops {
	/* Free space and peers: 0, E_NOSPC (452 4.3.1), E_CONFIG (no rewrite worker: 451). */
	int (*may_accept)(void *ctx, struct session *s);
	struct qid (*new_qid)(void *ctx);
	/* Begin the transaction's content: envelope, then `head` as its first bytes. 0, E_AGAIN
	 * (wait for session_room() and call again), other errors refuse the message with 451. */
	int (*begin)(void *ctx, struct session *s, struct sv envelope, struct sv head);
	/* Where content goes next: at least one byte, or NULL: wait for session_room(). */
	char *(*room)(void *ctx, struct session *s, size_t *len_r);
	void (*advance)(void *ctx, struct session *s, size_t len);
	/* Content is complete; session_submit_done() comes later, never from inside this call. */
	void (*end)(void *ctx, struct session *s);
	/* Forget the content (begin succeeded, end was not called). Also when nothing began. */
	void (*abort)(void *ctx, struct session *s);
	/* Ask; session_dns_answer() comes later, or before this returns: then NULL. */
	void *(*dns)(void *ctx, struct session *s, const char *name, uint16_t rrtype);
	void (*dns_cancel)(void *ctx, void *query);
	/* Fetch what the memo lacks; session_tables_answered() comes later, never from inside this
	 * call. NULL: all is answered at once. */
	void *(*tables)(void *ctx, struct session *s, struct map_memo *memo);
	void (*tables_cancel)(void *ctx, void *query);
	/* An event (workers/milter/codec.h) for the session's milters: session_milter_reply() comes
	 * later, never from inside this call; not to ABORT and QUIT. CONNECT begins, and may set
	 * s->milter.number. E_CONFIG: nobody is there. NULL: no milters at all. */
	int (*milter)(void *ctx, struct session *s, char command, unsigned flags,
		      struct sv strings);
	/* A step of a login: strings as shm/proto.h has them. START sets s->auth->dialogue, and
	 * session_auth_answer() comes later, never from inside this call; not to CANCEL. E_CONFIG:
	 * nobody is there. NULL: nobody logs in. */
	int (*auth)(void *ctx, struct session *s, enum auth_ask what, unsigned flags,
		    struct sv strings);
	/* Mechanisms on offer; NULL = not known yet: session_auth_offered(). */
	const char *(*auth_offer)(void *ctx, const struct session *s, bool encrypted);
	/* One more event of this client in the current time unit: how many now. */
	unsigned (*rate)(void *ctx, struct session *s, enum client_rate kind);
	/* XCLIENT: it is the session of another client now. NULL = nobody cares. */
	void (*peer_changed)(void *ctx, struct session *s);
	/* Has the client more connections than it may? May be NULL. */
	bool (*crowd)(void *ctx, struct session *s);
	/* The before-queue filter (sessfilter.h): connect, then session_filter_connected() or
	 * session_filter_lost(), never from inside these calls; there is something to send or to
	 * hear; end the connection, saying QUIT or not. */
	void (*filter_open)(void *ctx, struct session *s);
	void (*filter_kick)(void *ctx, struct session *s);
	void (*filter_close)(void *ctx, struct session *s, bool quit);
	/* A notice for the postmaster: content in wire form. NULL: none are sent. */
	void (*notice)(void *ctx, struct session *s, const char *to, struct buf *content);
	void *ctx;
};

/* Why a message that is being received will be refused at its end. */
enum message_error { MSG_OK, MSG_BARE_LF, MSG_TOO_BIG, MSG_WRITE };

struct tx { /* a mail transaction: MAIL accepted, not yet done */
	struct arena arena;
	struct tx *next_spare;
	struct envelope env;
	char *sender; /* internal form, NUL-terminated: env.sender */
	struct qid qid;
	bool has_qid;
	uint64_t chunk_bytes; /* octets of all BDAT */
	unsigned rcpt_count;  /* accepted at RCPT; env holds BCCs of policy too */
	const char *first_rcpt;
	char instance[56]; /* for policy services: the same for all recipients of a message */
	struct smtp_data scan;
	enum message_error error;
	bool begun; /* ops->begin succeeded and neither end nor abort was called */
	bool first_line_seen, chunks_ended;
	struct sv prefix;       /* goes in front of the content; what is left of it */
	int64_t end_us;         /* raw monotonic time of the end of data */
	struct content content; /* ops' own */
};

enum bdat_state { BDAT_NONE, BDAT_GOING, BDAT_ERROR };

/* The command that is being worked on; survives a wait. */
struct pending {
	const struct smtp_cmd *cmd;
	uint8_t stage;
	struct buf addr;  /* MAIL, RCPT, VRFY: internal form; HELO, ETRN: name */
	struct buf extra; /* decoded ENVID or ORCPT; VRFY: as written */
	struct buf args;  /* for milters: what MAIL or RCPT came with, each with a NUL */
	struct env_rcpt rcpt;
	uint8_t ret, body;
	bool smtputf8;
	bool from_probe; /* RCPT: it is the sender of our probes */
	char verp[3];    /* delimiters; "" = none */
	uint64_t size;
	uint64_t chunk;
	bool last;
};

struct session_milter {
	uint32_t number; /* of the session's milters in the life of this process; 0 = none */
	uint32_t peer;   /* the server's */
	uint8_t asked;   /* sessmilter.c's */
	bool lost;       /* the process that had them is gone: the session ends */
	bool wants_rejected;
	bool in_mail; /* they know of a transaction */
	bool logs;    /* a line about them names the first recipient, however many there are */
	bool hold, discard; /* of this message */
	char *reply;        /* the newest; heap, NULL = none */
};

struct session {
	const struct session_ops *ops;
	const struct listener *listener;
	uint32_t number; /* the server's; for ops */

	/* client */
	char addr[46];
	char port[8];
	char server_addr[46], server_port[8]; /* ours, that it is connected to */
	bool is_ipv6;
	char *name, *reverse_name, *namaddr; /* heap */
	enum policy_name_status name_status, reverse_status;
	bool strict_newline, reject_newline, note_newline; /* smtpd_forbid_bare_newline */
	bool limits_exempt;                                /* smtpd_client_event_limit_exceptions */
	bool xclient_allowed, xforward_allowed;
	struct forwarded *forwarded; /* what XFORWARD said, for the next message */
	struct session_auth *auth;   /* NULL = there was no AUTH */
	/* smtpd_authorized_verp_clients, local_header_rewrite_clients: 1, 0, negative = a table
	 * could not be asked. Of a QMQP listener, may_verp: qmqpd_authorized_clients. */
	int may_verp, is_local;
	bool auth_hidden;             /* smtpd_sasl_exceptions_networks */
	bool verbose;                 /* debug_peer_list */
	bool client_known;            /* what tables say of the client is known: session_client() */
	struct map_memo *client_memo; /* while it is being asked for */
	uint32_t discard_mask;        /* EHLO keywords not offered */

	enum session_state state;
	enum session_wait wait;
	bool esmtp, ill_pipelining, eof, hangup, is_broken, noted_bare_lf, slept;
	bool greeted;
	struct buf in;          /* received and not yet used */
	struct buf out;         /* replies not yet written */
	int64_t deadline_ms;    /* the client must do something until then (monotonic) */
	int64_t sleep_until_ms; /* with WAIT_SLEEP and WAIT_AUTH */

	const char *where; /* for logs */
	char *helo;
	char *access_denied; /* reply to everything but QUIT */
	uint32_t error_count, junk_count, rcpt_overshoot;
	uint32_t counts_good[CMD_COUNT], counts_total[CMD_COUNT];

	struct session_tls *tls; /* NULL = plain text */
	struct qmqp *qmqp;       /* NULL = SMTP */
	struct policy_state policy;
	struct session_milter milter;
	unsigned connections; /* of this client; for milters */
	struct policy_run *run;
	void *dns_query, *tables_query;
	struct pending pending;
	struct tx *tx;
	enum bdat_state bdat;
	uint64_t act_size; /* content octets of this transaction */
	uint64_t chunk_left;
	char *skip_reply;          /* SESSION_SKIP: what to say after the octets */
	struct sessfilter *filter; /* of this transaction; NULL = none */
	struct talk *talk;         /* transcript for the postmaster; NULL = none */
};

/* `addr`: peer. The listener outlives the session. */
void session_init(struct session *s, const struct listener *l, const struct session_ops *ops,
		  const struct sockaddr *peer);
/* Before its name is known: the client is another one than the socket says. */
void session_set_client(struct session *s, const struct sockaddr *sa);
/* The address that the client is connected to. */
void session_set_server(struct session *s, const struct sockaddr *sa);
void session_fini(struct session *s); /* aborts what is going on; logs nothing */

/* The host name is known (or not: name NULL). session_greet() comes next. */
void session_name_known(struct session *s, const char *name, enum policy_name_status name_status,
			const char *reverse, enum policy_name_status reverse_status);
/* Say 220, or refuse; after session_name_known(). What tables say of the client is asked first. */
void session_greet(struct session *s);
void session_input(struct session *s, const char *data, size_t len);
void session_eof(struct session *s);
/* The connection broke: what was going on is logged as lost. */
void session_broken(struct session *s);
void session_tick(struct session *s); /* clock_now() passed session_next_ms() */
void session_dns_answer(struct session *s, const struct policy_dns *a);
void session_tables_answered(struct session *s);
void session_room(struct session *s);
void session_milter_reply(struct session *s, uint32_t flags, struct sv text);
/* The process that has the session's milters is gone. */
void session_milter_lost(struct session *s);
void session_submit_done(struct session *s, enum submit_verdict v, unsigned code,
			 const uint8_t dsn[3], struct sv text);
/* The peer that was receiving our content is gone: everything handed to it has failed. */
void session_submit_lost(struct session *s);
/* The before-queue filter has spoken: the client hears the same. */
void session_filtered(struct session *s, const char *reply);
void session_output_done(struct session *s, size_t written); /* took that much off s->out */
void session_drain(struct session *s);                       /* close when idle: 421 */

bool session_wants_input(const struct session *s);
bool session_is_over(const struct session *s); /* CLOSING and nothing to write */
/* When session_tick() is due next; INT64_MAX = never. */
int64_t session_next_ms(const struct session *s);
/* "connect from", "disconnect from ..."; the server calls them. */
void session_log_connect(const struct session *s);
void session_log_disconnect(const struct session *s);
size_t session_memory(const struct session *s); /* heap bytes it holds, roughly */

/* ---- for the command files ---- */

void session_reply(struct session *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void session_log_action(struct session *s, const char *action, const char *text);
/* "proxy-accept: END-OF-MESSAGE: text; from=<> ..." */
void session_log_filtered(struct session *s, const char *action, const char *text);
const char *session_qid(const struct session *s); /* id text or "NOQUEUE" */
void session_reset_tx(struct session *s);         /* Postfix: mail_reset + rcpt_reset */
enum policy_verdict session_policy(struct session *s, enum policy_event event);
void session_policy_free(struct session *s);
bool session_policy_in_call(const struct session *s);
void session_log_gone(const struct session *s, const char *reason);
void session_continue_command(struct session *s);
/* A reply of one or several lines (CRLF between them). */
void session_reply_text(struct session *s, const char *text);
void session_wake(struct session *s); /* what it waited for is there */
/* The command that waited is done; commands are read again. */
void session_command_done(struct session *s, bool good);
/* Greet again, when the command that goes on is done. */
void session_begin_again(struct session *s);
void session_pump(struct session *s); /* go on with input that waits */
void session_close(struct session *s);
/* False: remote tables are asked about the client, and session_greet() comes again. */
bool session_client_is_known(struct session *s);
/* Strip the line end; false when the line may not be used (a reply was given). */
bool session_take_line_end(struct session *s, struct sv *line);
/* A line came: with smtpd_per_request_deadline it buys time. */
void session_restart_request(struct session *s);

struct counters_shm;
extern struct counters_shm *session_counters; /* of the process; a private page until set */

#endif
