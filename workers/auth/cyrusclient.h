/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The SASL library as a client, for logins to other servers (workers/saslclient): it chooses among
 * the mechanisms that a server offers, and answers its challenges.
 */
#ifndef PH_WORKERS_AUTH_CYRUSCLIENT_H
#define PH_WORKERS_AUTH_CYRUSCLIENT_H

#include "workers/auth/auth.h"

/* What a dialogue of this kind has besides; its mechanism is filled in by the first step. */
struct dialogue_login {
	char *service, *server; /* "smtp", the server's name */
	char *offered;          /* mechanisms with blanks between them */
	struct buf user, password;
	unsigned options; /* SASL_NO_... of conf/sasl.h */
	bool authzid;     /* send_cyrus_sasl_authzid */
	void *secret;     /* the library's copy of the password */
	size_t secret_len;
};

/* Once, while files may be opened: loads plug-ins. E_CONFIG: said in the log. */
int cyrus_client_init(const char *path);
/* The mechanisms that there are plug-ins for. */
void cyrus_client_mechanisms(struct buf *out);

/* "service\0server\0offered\0user\0password\0"; NULL: malformed. */
struct dialogue *cyrus_client_new(struct sv strings, unsigned options, bool authzid);
void cyrus_client_free(struct dialogue *d);
/* One step: d->in, a challenge in base64, to d->status and what is to be said (base64, in d->text).
 * AUTH_DONE: the mechanism is content, also with what it knows of the server. */
void cyrus_client_step(struct dialogue *d);

#endif
