/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SMTP commands: one const table row each (command.c), and functions in cmd_*.c. A command goes
 * verb -> check (syntax and state; a reply means no) -> policy -> apply. Functions never touch a
 * socket. A function that returns CMD_WAITS has set s->wait or s->state; it is called again, with
 * s->pending as it left it, or ends with session_command_done().
 */
#ifndef PH_WORKERS_SMTP_IN_COMMAND_H
#define PH_WORKERS_SMTP_IN_COMMAND_H

#include "workers/smtp_in/session.h"

enum {                        /* struct smtp_cmd.flags */
       CMD_LAST = 1,          /* ends a pipelined group (RFC 2920) */
       CMD_JUNK = 2,          /* counts against smtpd_junk_command_limit */
       CMD_NO_HELP = 4,       /* not offered */
       CMD_NO_ARGS = 8,       /* any argument is a syntax error */
       CMD_TAKES_OCTETS = 16, /* BDAT: refusals are said after the octets */
};

enum cmd_outcome { CMD_OK, CMD_FAILED, CMD_WAITS };

struct smtp_cmd {
	const char *verb;
	/* Parse and refuse: false = it replied. NULL = nothing to check. */
	bool (*check)(struct session *s, struct sv args);
	/* Do it: replies. Called again after a wait, with s->pending as it was. */
	enum cmd_outcome (*apply)(struct session *s);
	unsigned flags;
	int event;          /* policy asked between check and apply, -1 = none */
	const char *syntax; /* said when arguments are wrong */
	const char *rfc;
	const char *text; /* for the manual */
};

extern const struct smtp_cmd smtp_cmds[CMD_COUNT];
enum cmd_id smtp_cmd_id(const struct smtp_cmd *cmd);
const struct smtp_cmd *smtp_cmd_find(struct sv verb); /* NULL when unknown */

/* cmd_*.c */
bool cmd_helo_check(struct session *s, struct sv args);
enum cmd_outcome cmd_helo_apply(struct session *s);
enum cmd_outcome cmd_ehlo_apply(struct session *s);
bool cmd_auth_check(struct session *s, struct sv args);
bool cmd_starttls_check(struct session *s, struct sv args);
enum cmd_outcome cmd_starttls_apply(struct session *s);
enum cmd_outcome cmd_auth_apply(struct session *s);
bool cmd_xclient_check(struct session *s, struct sv args);
enum cmd_outcome cmd_xclient_apply(struct session *s);
bool cmd_xforward_check(struct session *s, struct sv args);
enum cmd_outcome cmd_xforward_apply(struct session *s);
bool cmd_mail_check(struct session *s, struct sv args);
enum cmd_outcome cmd_mail_apply(struct session *s);
bool cmd_rcpt_check(struct session *s, struct sv args);
enum cmd_outcome cmd_rcpt_apply(struct session *s);
bool cmd_data_check(struct session *s, struct sv args);
enum cmd_outcome cmd_data_apply(struct session *s);
bool cmd_bdat_check(struct session *s, struct sv args);
enum cmd_outcome cmd_bdat_apply(struct session *s);
enum cmd_outcome cmd_rset_apply(struct session *s);
enum cmd_outcome cmd_noop_apply(struct session *s);
bool cmd_vrfy_check(struct session *s, struct sv args);
enum cmd_outcome cmd_vrfy_apply(struct session *s);
bool cmd_etrn_check(struct session *s, struct sv args);
enum cmd_outcome cmd_etrn_apply(struct session *s);
enum cmd_outcome cmd_quit_apply(struct session *s);
enum cmd_outcome cmd_help_apply(struct session *s);

/* MAIL_PATH_* (workers/mail/address.h) by the parameters. */
unsigned cmd_path_flags(const struct params *p);
/* One more event of the client: is that more than `limit`? Then it is in the log. */
bool cmd_too_often(struct session *s, enum client_rate kind, int64_t limit, const char *what);

/* Names go into logs and headers: brackets, quotes, blanks and the like become '?'. */
void cmd_neuter(char *name);

/* What XFORWARD said (cmd_x.c). */
struct forwarded {
	char *name, *addr, *port, *proto; /* "unknown" when not said */
	char *helo, *ident;               /* or NULL */
	bool has_client; /* something about the client was said: none of the session's counts */
	bool has_source, is_local;
};
void cmd_forwarded_free(struct forwarded **f);
/* ", orig_queue_id=..., orig_client=..." */
void cmd_forwarded_log(const struct session *s, struct buf *line);
void cmd_forwarded_envelope(const struct session *s, struct envelope *e);

/* A transaction with memory for so many recipients; 0 = as many as fit. */
struct tx *tx_new(int64_t rcpt_limit);
/* What MAIL began is over: the memory is kept for the next one. */
void tx_free(struct tx *t);

/* Content (cmd_data.c). Feed octets: how many were used; stops early when s->wait is set or the
 * content ended. */
size_t data_input(struct session *s, const char *data, size_t len);
size_t chunk_input(struct session *s, const char *data, size_t len);
size_t skip_input(struct session *s, const char *data, size_t len);
/* Octets through the transaction's scanner into the room there is; how many were used. With s->wait
 * set afterwards there is none. */
size_t session_store(struct session *s, const char *in, size_t len);
/* Go on after a wait: end of data, its policy. */
void data_resume(struct session *s);

/* received.c: "Received: ..." with CRLFs, as the content begins. */
void received_header(const struct session *s, struct buf *out);

#endif
