/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See workers/auth/cyrus.h. The texts are those of Postfix's smtpd. */
#include "workers/auth/cyrus.h"

#include <pthread.h>
#include <sasl/sasl.h>
#include <sasl/saslutil.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/sasl.h"
#include "lib/base64.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/auth/cyrus_int.h"

/* ---- what the library asks of its program ---- */

/* It says things while it works for a dialogue, in that dialogue's thread. */
static __thread struct dialogue *speaks_for;

void cyrus_speaks_for(struct dialogue *d)
{
	speaks_for = d;
}

int cyrus_on_log(void *ctx UNUSED, int level, const char *message)
{
	const char *what = level == SASL_LOG_FAIL                            ? "failure"
			   : level == SASL_LOG_ERR || level == SASL_LOG_WARN ? "problem"
									     : NULL;

	if (what == NULL || message == NULL)
		return SASL_OK; /* the rest is for who debugs it, and may be secret */
	if (speaks_for != NULL)
		dialogue_line(speaks_for, "SASL authentication %s: %s", what, message);
	else
		log_warn("SASL authentication %s: %s", what, message);
	return SASL_OK;
}

static void *mutex_new(void)
{
	pthread_mutex_t *m = xcalloc(1, sizeof(*m));

	pthread_mutex_init(m, NULL);
	return m;
}

static int mutex_lock(void *m)
{
	return pthread_mutex_lock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static int mutex_unlock(void *m)
{
	return pthread_mutex_unlock(m) == 0 ? SASL_OK : SASL_FAIL;
}

static void mutex_free(void *m)
{
	pthread_mutex_destroy(m);
	free(m);
}

const char *cyrus_text(int rc)
{
	return sasl_errstring(rc, NULL, NULL);
}

void cyrus_prepare(const char *path)
{
	int rc;

	sasl_set_mutex(mutex_new, mutex_lock, mutex_unlock, mutex_free);
	if (path != NULL) {
		char *copy = xstrdup(path);

		rc = sasl_set_path(SASL_PATH_TYPE_CONFIG, copy);
		free(copy);
		if (rc != SASL_OK)
			log_warn("failed to set Cyrus SASL configuration path: \"%s\"", path);
	}
}

int cyrus_init(const char *application, const char *path)
{
	static const sasl_callback_t callbacks[] = {
		{ SASL_CB_LOG, (int (*)(void))(void (*)(void))cyrus_on_log, NULL },
		{ SASL_CB_LIST_END, NULL, NULL },
	};
	int rc;

	cyrus_prepare(path);
	rc = sasl_server_init(callbacks, application);
	if (rc != SASL_OK)
		log_error("SASL per-process initialization failed: %s", cyrus_text(rc));
	return rc == SASL_OK ? 0 : E_CONFIG;
}

/* ---- dialogues ---- */

unsigned cyrus_security_flags(unsigned options)
{
	static const struct {
		unsigned option, flag;
	} flags[] = {
		{ SASL_NO_PLAINTEXT, SASL_SEC_NOPLAINTEXT },
		{ SASL_NO_ACTIVE, SASL_SEC_NOACTIVE },
		{ SASL_NO_DICTIONARY, SASL_SEC_NODICTIONARY },
		{ SASL_NO_ANONYMOUS, SASL_SEC_NOANONYMOUS },
		{ SASL_FORWARD_SECRECY, SASL_SEC_FORWARD_SECRECY },
		{ SASL_MUTUAL_AUTH, SASL_SEC_MUTUAL_AUTH },
	};
	unsigned all = 0;

	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		all |= (options & flags[i].option) != 0 ? flags[i].flag : 0;
	return all;
}

static int new_conn(const struct auth_service *service, bool encrypted, const char *own,
		    const char *client, sasl_conn_t **conn_r)
{
	const char *realm = service->p->smtpd_sasl_local_domain;
	/* no security layer: what follows is SMTP as it is */
	sasl_security_properties_t props = { .security_flags = cyrus_security_flags(
						     service->options[encrypted]) };
	int rc = sasl_server_new(service->p->smtpd_sasl_service, service->p->myhostname,
				 realm[0] != '\0' ? realm : NULL, own, client, NULL, 0, conn_r);

	return rc != SASL_OK ? rc : sasl_setprop(*conn_r, SASL_SEC_PROPS, &props);
}

void cyrus_offer(const struct auth_service *service, bool encrypted, struct buf *out)
{
	sasl_conn_t *conn = NULL;
	const char *list = NULL;
	int count = 0, rc = new_conn(service, encrypted, NULL, NULL, &conn);

	if (rc == SASL_OK)
		rc = sasl_listmech(conn, NULL, "", " ", "", &list, NULL, &count);
	if (rc == SASL_OK && count > 0)
		buf_add_str(out, list);
	else
		log_warn("no SASL authentication mechanisms: %s",
			 rc == SASL_OK ? "none is applicable" : cyrus_text(rc));
	if (conn != NULL)
		sasl_dispose(&conn);
}

/* "address;port"; false: one of them is not known. */
static bool join(const char *addr, const char *port, char *out, size_t size)
{
	if (addr[0] == '\0' || port[0] == '\0' || strcmp(addr, "unknown") == 0 ||
	    strcmp(port, "unknown") == 0)
		return false;
	return (size_t)snprintf(out, size, "%s;%s", addr, port) < size;
}

static int begin(struct dialogue *d, sasl_conn_t **conn)
{
	char own[80], client[80];
	int rc = new_conn(
		d->service, d->encrypted,
		join(d->server_addr, d->server_port, own, sizeof(own)) ? own : NULL,
		join(d->client_addr, d->client_port, client, sizeof(client)) ? client : NULL, conn);

	d->conn = *conn;
	return rc;
}

static void take_user(struct dialogue *d, sasl_conn_t *conn)
{
	const void *user = NULL;

	buf_reset(&d->user);
	if (sasl_getprop(conn, SASL_USERNAME, &user) != SASL_OK || user == NULL)
		return;
	buf_add_sv(&d->user, (struct sv){ user, strnlen(user, AUTH_USER_MAX) });
	if (d->user.len > 0)
		str_make_printable(d->user.p, d->user.len);
}

static void take_result(struct dialogue *d, int rc, const char *out, unsigned out_len)
{
	struct buf text = BUF_INIT;

	if (rc == SASL_OK || rc == SASL_CONTINUE) {
		if (rc == SASL_CONTINUE)
			base64_encode((struct sv){ out, out != NULL ? out_len : 0 }, &text);
		dialogue_result(d, rc == SASL_OK ? AUTH_DONE : AUTH_MORE, buf_cstr(&text));
		dialogue_wipe(&text);
		buf_fini(&text);
		return;
	}
	if (rc == SASL_NOUSER) /* who exists is not told */
		rc = SASL_BADAUTH;
	dialogue_result(d,
			rc == SASL_FAIL || rc == SASL_NOMEM || rc == SASL_TRYAGAIN ||
					rc == SASL_UNAVAIL
				? AUTH_TEMP
				: AUTH_FAILED,
			cyrus_text(rc));
}

static int run(struct dialogue *d, struct sv in, const char **out, unsigned *out_len)
{
	sasl_conn_t *conn = d->conn;
	bool first = conn == NULL;
	int rc = first ? begin(d, &conn) : SASL_OK;

	if (rc != SASL_OK) {
		dialogue_line(d, "SASL per-connection server initialization: %s", cyrus_text(rc));
		return rc;
	}
	if (!first)
		return sasl_server_step(conn, in.p, (unsigned)in.len, out, out_len);
	return sasl_server_start(conn, d->mechanism, d->has_input ? in.p : NULL, (unsigned)in.len,
				 out, out_len);
}

void cyrus_step(struct dialogue *d)
{
	struct buf plain = BUF_INIT;
	const char *out = NULL;
	unsigned out_len = 0;
	/* "=" is an initial response of nothing (RFC 4954 4) */
	bool empty = d->conn == NULL && sv_eq(buf_sv(&d->in), SV("="));
	unsigned len = 0;

	speaks_for = d;
	buf_reserve(&plain, d->in.len + 1);
	int rc = empty || d->in.len == 0 ? SASL_OK
					 : sasl_decode64(d->in.p, (unsigned)d->in.len, plain.p,
							 (unsigned)d->in.len + 1, &len);

	if (rc != SASL_OK) {
		dialogue_result(d, AUTH_FAILED, cyrus_text(rc));
	} else {
		rc = run(d, (struct sv){ plain.p, len }, &out, &out_len);
		if (d->conn != NULL && rc != SASL_CONTINUE)
			take_user(d, d->conn);
		take_result(d, rc, out, out_len);
	}
	dialogue_wipe(&plain);
	buf_fini(&plain);
	speaks_for = NULL;
}

void cyrus_end(struct dialogue *d)
{
	sasl_conn_t *conn = d->conn;

	if (conn != NULL)
		sasl_dispose(&conn);
	d->conn = NULL;
}
