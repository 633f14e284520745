/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See t/bench/wire.h. */
#include "t/bench/wire.h"

#include <errno.h>
#include <sys/socket.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/tls/tls.h"

#define READ_BYTES 65536u

static struct tls_keys *keys_of(const char *pem_file)
{
	const struct tls_key_files files = { .prefix = "", .chain_files = pem_file };
	struct tls_keys *keys = NULL;
	struct conf_diag d;

	conf_diag_init(&d);
	if (tls_keys_load(&files, &d, &keys) != 0)
		die("%s: no key and certificate", pem_file);
	conf_diag_fini(&d);
	return keys;
}

struct tls_ctx *wire_ctx(const char *pem_file)
{
	struct buf suites = BUF_INIT, why = BUF_INIT;
	struct tls_ctx *ctx = NULL;

	tls_suites_eval("HIGH", "", &suites);
	const struct tls_setup setup = {
		.is_server = pem_file != NULL,
		.versions = TLS_ALL_VERSIONS,
		.suites = buf_cstr(&suites),
		.keys = pem_file != NULL ? keys_of(pem_file) : NULL,
	};

	if (tls_ctx_new(&setup, &ctx, &why) != 0)
		die("TLS: %s", buf_cstr(&why));
	buf_fini(&suites);
	buf_fini(&why);
	return ctx;
}

/* 1: all is out; 0: the socket is full; -1: broken. */
static int push(struct wire *w)
{
	struct buf *out = tls_out(w->t);

	while (out->len > 0) {
		ssize_t n = send(w->fd, out->p, out->len, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		buf_consume(out, (size_t)n);
	}
	return 1;
}

static int step(struct wire *w)
{
	int err = w->secured ? 0 : tls_handshake(w->t);

	if (!w->secured && err == 0)
		w->secured = true;
	push(w);
	return err;
}

void wire_start_tls(struct wire *w, struct tls_ctx *ctx)
{
	w->t = tls_new(ctx);
	step(w);
}

int wire_read(struct wire *w, struct buf *in)
{
	static char sealed[READ_BYTES];
	char *to = w->t == NULL ? buf_reserve(in, READ_BYTES) : sealed;
	ssize_t n = recv(w->fd, to, READ_BYTES, 0);
	int got, all = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -1 : 0;
	if (n == 0)
		return 0;
	if (w->t == NULL) {
		in->len += (size_t)n;
		return (int)n;
	}
	tls_feed(w->t, sealed, (size_t)n);
	got = step(w);
	if (got != 0)
		return got == E_AGAIN ? -1 : 0;
	while ((got = tls_read(w->t, buf_reserve(in, READ_BYTES), READ_BYTES)) > 0) {
		in->len += (size_t)got;
		all += got;
	}
	return all > 0 ? all : got == E_AGAIN ? -1 : 0;
}

int wire_write(struct wire *w, struct buf *out, size_t *off)
{
	if (w->t != NULL) {
		int err = out->len > *off ? tls_write(w->t, out->p + *off, out->len - *off) : 0;

		buf_reset(out);
		*off = 0;
		return err != 0 ? -1 : push(w);
	}
	while (*off < out->len) {
		ssize_t n = send(w->fd, out->p + *off, out->len - *off, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		*off += (size_t)n;
	}
	buf_reset(out);
	*off = 0;
	return 1;
}

void wire_end(struct wire *w)
{
	tls_free(&w->t);
	w->secured = false;
}
