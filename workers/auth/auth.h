/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The auth worker: checks the logins of SMTP clients (AUTH, RFC 4954) for smtp-in, which neither
 * may wait nor should hold what a back end is asked with. A dialogue begins with a mechanism,
 * perhaps goes through some challenges, and ends with a user or a reason.
 *   main.c      the worker: services, askers, dialogues, time
 *   dialogue.c  one dialogue
 *   cyrus.c     smtpd_sasl_type = cyrus: the SASL library, which waits for its back ends,
 *   crew.c      in threads
 *   cyrusclient.c  the library's other side, for workers/saslclient
 *   dovecot.c   smtpd_sasl_type = dovecot: the protocol of Dovecot's auth service
 * What is asked has been checked in no way: who asks may have been taken over.
 */
#ifndef PH_WORKERS_AUTH_AUTH_H
#define PH_WORKERS_AUTH_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"
#include "conf/map.h"
#include "lib/buf.h"
#include "shm/proto.h"

#define AUTH_MECHANISM_SIZE 64
#define AUTH_USER_MAX       1024u
#define AUTH_LINES_MAX      4096u
#define AUTH_LOST           "Connection lost to authentication server"

struct dovecot;
struct dialogue_login;

struct auth_service { /* an smtpd service of master.cf with smtpd_sasl_auth_enable */
	struct auth_service *next;
	const char *name;
	const struct params *p;
	struct matchlist *filter; /* smtpd_sasl_mechanism_filter */
	unsigned options[2];      /* SASL_NO_...: in the clear, and encrypted */
	char *offer[2];           /* mechanisms; NULL = not known yet */
	struct dovecot *dovecot;  /* NULL: cyrus */
};

/* Where a dialogue is between two steps, in a thread, or with a server. */
enum dialogue_state { DIALOGUE_IDLE, DIALOGUE_QUEUED, DIALOGUE_BUSY };

struct dialogue {
	struct dialogue *next; /* the crew's */
	struct dialogue *next_orphan;
	void *asker; /* NULL: nobody waits, it goes when it is idle */
	uint32_t session, number;
	const struct auth_service *service;
	enum dialogue_state state;
	bool encrypted, has_input, begun;
	int64_t since_us; /* queued or busy since */
	char mechanism[AUTH_MECHANISM_SIZE];
	char client_addr[64], client_port[8], server_addr[64], server_port[8];
	struct buf in;                /* of this step: base64; holds secrets */
	void *conn;                   /* cyrus.c's */
	void *callbacks;              /* ... as a client */
	struct dialogue_login *login; /* cyrusclient.c's */
	uint32_t number_there;        /* dovecot.c's; 0 = none */
	/* result of the step */
	enum auth_status status;
	struct buf text, user, lines;
};

struct dialogue *dialogue_new(const struct auth_service *service);
/* Not while it is queued or busy. Secrets are wiped. */
void dialogue_free(struct dialogue *d);
/* What comes with an AUTH_START: the strings behind the service name. E_PEER: malformed. */
int dialogue_take_start(struct dialogue *d, struct sv strings, unsigned flags);
void dialogue_take_step(struct dialogue *d, struct sv line);
/* The step is over. `text` may be printf'd from what a peer said; it is made printable. */
void dialogue_result(struct dialogue *d, enum auth_status status, const char *text);
void dialogue_wipe(struct buf *b); /* and empty */
/* A line for the log, "warning" without being said; bounded. */
void dialogue_line(struct dialogue *d, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Base64 characters and nothing else. */
bool dialogue_is_base64(struct sv text);

#endif
