/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See workers/auth/cyrusclient.h. The texts are those of Postfix's SMTP client. */
#include "workers/auth/cyrusclient.h"

#include <sasl/sasl.h>
#include <sasl/saslutil.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base64.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/auth/cyrus.h"
#include "workers/auth/cyrus_int.h"

#define PROC(fn) (int (*)(void))(void (*)(void))(fn)

/* Mechanisms whose identity is given by other means than a name. */
#define CALLBACKS_MAX 4

int cyrus_client_init(const char *path)
{
	static const sasl_callback_t callbacks[] = {
		{ SASL_CB_LOG, PROC(cyrus_on_log), NULL },
		{ SASL_CB_LIST_END, NULL, NULL },
	};
	int rc;

	cyrus_prepare(path);
	rc = sasl_client_init(callbacks);
	if (rc != SASL_OK)
		log_error("SASL library initialization error: %s", cyrus_text(rc));
	return rc == SASL_OK ? 0 : E_CONFIG;
}

/* ---- what a mechanism asks ---- */

static int get_name(void *ctx, int id, const char **name, unsigned *len)
{
	struct dialogue_login *l = ctx;

	*name = id == SASL_CB_USER && !l->authzid ? "" : buf_cstr(&l->user);
	if (len != NULL)
		*len = (unsigned)strlen(*name);
	return SASL_OK;
}

static int get_secret(sasl_conn_t *conn, void *ctx, int id, sasl_secret_t **secret)
{
	struct dialogue_login *l = ctx;
	sasl_secret_t *s = l->secret;

	if (conn == NULL || secret == NULL || id != SASL_CB_PASS)
		return SASL_BADPARAM;
	if (s == NULL) {
		l->secret_len = sizeof(*s) + l->password.len + 1;
		l->secret = s = xcalloc(1, l->secret_len);
		s->len = l->password.len;
		if (l->password.len > 0)
			memcpy(s->data, l->password.p, l->password.len);
	}
	*secret = s;
	return SASL_OK;
}

static void callbacks_of(struct dialogue_login *l, sasl_callback_t cb[CALLBACKS_MAX])
{
	cb[0] = (sasl_callback_t){ SASL_CB_USER, PROC(get_name), l };
	cb[1] = (sasl_callback_t){ SASL_CB_AUTHNAME, PROC(get_name), l };
	cb[2] = (sasl_callback_t){ SASL_CB_PASS, PROC(get_secret), l };
	cb[3] = (sasl_callback_t){ SASL_CB_LIST_END, NULL, NULL };
}

void cyrus_client_mechanisms(struct buf *out)
{
	struct dialogue_login nobody = { 0 };
	sasl_callback_t cb[CALLBACKS_MAX];
	sasl_conn_t *conn = NULL;
	const char *list = NULL;
	int count = 0, rc;

	callbacks_of(&nobody, cb);
	rc = sasl_client_new("smtp", "localhost", NULL, NULL, cb, 0, &conn);
	if (rc == SASL_OK)
		rc = sasl_listmech(conn, NULL, "", " ", "", &list, NULL, &count);
	if (rc == SASL_OK && count > 0)
		buf_add_str(out, list);
	if (conn != NULL)
		sasl_dispose(&conn);
}

/* ---- dialogues ---- */

static bool next_string(struct sv *rest, struct sv *s)
{
	const char *end = rest->len > 0 ? memchr(rest->p, '\0', rest->len) : NULL;

	if (end == NULL)
		return false;
	*s = (struct sv){ rest->p, (size_t)(end - rest->p) };
	*rest = (struct sv){ end + 1, rest->len - s->len - 1 };
	return true;
}

static void take_secret(struct buf *out, struct sv s)
{
	buf_reserve(out, s.len + 1);
	buf_add_sv(out, s);
}

struct dialogue *cyrus_client_new(struct sv strings, unsigned options, bool authzid)
{
	struct sv s[5];

	for (size_t i = 0; i < ARRAY_LEN(s); i++) {
		if (!next_string(&strings, &s[i]))
			return NULL;
	}
	if (strings.len > 0)
		return NULL;
	struct dialogue *d = dialogue_new(NULL);
	struct dialogue_login *l = xcalloc(1, sizeof(*l));

	d->login = l;
	l->service = xstrndup(s[0].p, s[0].len);
	l->server = xstrndup(s[1].p, s[1].len);
	l->offered = xstrndup(s[2].p, s[2].len);
	take_secret(&l->user, s[3]);
	take_secret(&l->password, s[4]);
	l->options = options;
	l->authzid = authzid;
	return d;
}

void cyrus_client_free(struct dialogue *d)
{
	struct dialogue_login *l = d->login;

	cyrus_end(d);
	d->login = NULL;
	dialogue_free(d);
	if (l->secret != NULL)
		explicit_bzero(l->secret, l->secret_len);
	dialogue_wipe(&l->user);
	dialogue_wipe(&l->password);
	buf_fini(&l->user);
	buf_fini(&l->password);
	free(l->secret);
	free(l->service);
	free(l->server);
	free(l->offered);
	free(l);
}

/* The callbacks must live as long as the connection: they are with its dialogue. */
static int begin(struct dialogue *d, const char **out, unsigned *out_len)
{
	/* no security layer: what follows is SMTP as it is */
	sasl_security_properties_t props = { .security_flags =
						     cyrus_security_flags(d->login->options) };
	const char *mechanism = "";
	sasl_conn_t *conn = NULL;
	int rc;

	d->callbacks = xcalloc(CALLBACKS_MAX, sizeof(sasl_callback_t));
	callbacks_of(d->login, d->callbacks);
	rc = sasl_client_new(d->login->service, d->login->server, NULL, NULL, d->callbacks, 0,
			     &conn);
	d->conn = conn;
	if (rc == SASL_OK)
		rc = sasl_setprop(conn, SASL_SEC_PROPS, &props);
	if (rc == SASL_OK)
		rc = sasl_client_start(conn, d->login->offered, NULL, out, out_len, &mechanism);
	if (rc == SASL_OK || rc == SASL_CONTINUE)
		(void)str_copy(d->mechanism, sizeof(d->mechanism), sv_from(mechanism));
	return rc;
}

static void take_result(struct dialogue *d, int rc, const char *out, unsigned out_len)
{
	struct buf text = BUF_INIT;

	if (rc != SASL_OK && rc != SASL_CONTINUE) {
		dialogue_result(d, AUTH_FAILED, cyrus_text(rc));
		return;
	}
	buf_reserve(&text, ((size_t)out_len + 2) / 3 * 4 + 1);
	base64_encode((struct sv){ out, out != NULL ? out_len : 0 }, &text);
	dialogue_result(d, rc == SASL_OK ? AUTH_DONE : AUTH_MORE, buf_cstr(&text));
	dialogue_wipe(&text);
	buf_fini(&text);
}

void cyrus_client_step(struct dialogue *d)
{
	struct buf plain = BUF_INIT;
	const char *out = NULL;
	unsigned out_len = 0, len = 0;
	int rc = SASL_OK;

	cyrus_speaks_for(d);
	buf_reserve(&plain, d->in.len + 1);
	if (d->in.len > 0)
		rc = sasl_decode64(d->in.p, (unsigned)d->in.len, plain.p, (unsigned)d->in.len + 1,
				   &len);
	if (rc == SASL_OK)
		rc = d->conn == NULL
			     ? begin(d, &out, &out_len)
			     : sasl_client_step(d->conn, plain.p, len, NULL, &out, &out_len);
	take_result(d, rc, out, out_len);
	dialogue_wipe(&plain);
	buf_fini(&plain);
	cyrus_speaks_for(NULL);
}
