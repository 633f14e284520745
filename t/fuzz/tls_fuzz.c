/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a stranger sends to a server that speaks TLS. The first byte says what is done with the
 * rest: 0  the reader of the client's hello alone, which sees growing parts of it 1  all of it goes
 * to a server, cut in pieces 2  a client of ours talks to the server; the rest is patches (patch.h)
 * to what it sends, record by record, so that what comes behind a sound hello is damaged, too
 * Nothing of it makes the server grow, or speak without end; what failed stays failed, with a
 * reason.
 */
#include <stdint.h>
#include <stdlib.h>

#include "lib/log.h"
#include "t/fuzz/patch.h"
#include "t/unit/workers/tls_rig.h"
#include "workers/tls/tls_int.h"

#define OUT_MAX    65536u
#define MEMORY_MAX (512u << 10)
#define TURNS      64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_ctx *server_ctx, *client_ctx;

static void quiet(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		  const char *text UNUSED, size_t len UNUSED)
{
}

static void set_up(void)
{
	static struct tls_keys *keys;
	struct buf pem = BUF_INIT, why = BUF_INIT;
	struct tls_setup setup = { .is_server = true,
				   .versions = TLS_ALL_VERSIONS,
				   .suites = "ECDHE-ECDSA-AES128-GCM-SHA256",
				   .ask_peer = true };

	log_set_sink(quiet, NULL);
	buf_printf(&pem, "%s%s%s", tls_rig_leaf_key, tls_rig_leaf_crt, tls_rig_inter_crt);
	ASSERT(tls_keys_parse(buf_sv(&pem), &keys, &why) == 0);
	setup.keys = keys;
	ASSERT(tls_ctx_new(&setup, &server_ctx, &why) == 0);
	setup.is_server = setup.ask_peer = false;
	ASSERT(tls_ctx_new(&setup, &client_ctx, &why) == 0);
	buf_fini(&pem);
	buf_fini(&why);
}

/* ---- the reader ---- */

static void read_hello(const uint8_t *data, size_t size)
{
	int last = E_AGAIN;

	for (size_t n = 0; n <= size; n += 1 + size / 50) {
		struct tls_hello h = { .name = "" };
		char *copy = xmalloc(n + 1); /* so that a byte too many is seen */

		memcpy(copy, data, n);
		int err = n > 0 ? tls_hello_parse((struct sv){ copy, n }, &h) : E_AGAIN;

		free(copy);
		ASSERT(err == 0 || err == E_AGAIN || err == E_SYNTAX);
		/* more of it changes nothing that was known */
		ASSERT(last == E_AGAIN || err == last);
		last = err;
		ASSERT(memchr(h.name, '\0', sizeof(h.name)) != NULL);
		for (const char *p = h.name; err == 0 && *p != '\0'; p++)
			ASSERT(ascii_is_alnum(*p) || strchr("-._", *p) != NULL);
	}
}

/* ---- the server ---- */

static void look(struct tls *t)
{
	struct tls_info info;
	const struct sv *chain;
	char text[256];

	ASSERT(tls_out(t)->len <= OUT_MAX && tls_memory(t) <= MEMORY_MAX);
	tls_info_get(t, &info);
	ASSERT(info.protocol != NULL && info.cipher != NULL && info.name != NULL);
	ASSERT(tls_peer_chain(t, &chain) <= TLS_CHAIN_MAX);
	if (tls_handshake(t) == E_PEER) {
		ASSERT(tls_error(t)[0] != '\0');
		ASSERT(tls_read(t, text, sizeof(text)) == E_PEER);
		ASSERT(tls_write(t, "x", 1) == E_PEER);
	}
}

static void serve(struct tls *t, const void *data, size_t len)
{
	char text[4096];

	tls_feed(t, data, len);
	if (tls_handshake(t) == 0) {
		for (int i = 0; i < TURNS && tls_read(t, text, sizeof(text)) > 0; i++)
			(void)tls_write(t, "250 ok\r\n", 8);
	}
	look(t);
	buf_reset(tls_out(t));
}

static void send_all(const uint8_t *data, size_t size)
{
	struct tls *t = tls_new(server_ctx);
	size_t step = size > 0 ? 1u + data[0] % 97u : 1;

	for (size_t at = 1; at < size; at += step)
		serve(t, data + at, size_min(step, size - at));
	tls_goodbye(t);
	tls_free(&t);
}

/* ---- the two of them ---- */

static void talk(const uint8_t *data, size_t size)
{
	struct tls *s = tls_new(server_ctx), *c = tls_new(client_ctx);
	unsigned damaged = size > 0 ? data[0] % 4u : 0; /* this flight of the client's */

	tls_set_name(c, "mx.example.test");
	for (unsigned turn = 0; turn < 8; turn++) {
		struct buf *out = tls_out(c);

		if (tls_handshake(c) == 0)
			(void)tls_write(c, "EHLO x\r\n", 8);
		if (out->len == 0)
			break;
		if (turn == damaged && size > 1)
			fuzz_patch(out->p, out->len, data + 1, size - 1);
		tls_feed(s, out->p, out->len);
		buf_reset(out);
		(void)tls_handshake(s);
		tls_feed(c, tls_out(s)->p, tls_out(s)->len);
		serve(s, "", 0);
	}
	look(s);
	tls_free(&c);
	tls_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const fns[])(const uint8_t *data, size_t size) = { read_hello, send_all,
									 talk };

	if (server_ctx == NULL)
		set_up();
	if (size > 0)
		fns[data[0] % ARRAY_LEN(fns)](data + 1, size - 1);
	return 0;
}
