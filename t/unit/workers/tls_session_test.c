/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Both ends of TLS against each other, whole and in single bytes, with keys, tickets and garbage.
 */
#include "t/unit/workers/tls_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/rand.h"
#include "lib/util.h"
#include "t/unit/tap.h"

static struct tls_keys *keys_of(const char *a, const char *b, const char *c)
{
	struct buf pem = BUF_INIT, why = BUF_INIT;
	struct tls_keys *k = NULL;

	buf_add_str(&pem, a);
	buf_add_str(&pem, b);
	buf_add_str(&pem, c);
	is_int(tls_keys_parse(buf_sv(&pem), &k, &why), 0, "keys: %s", buf_cstr(&why));
	buf_fini(&pem);
	buf_fini(&why);
	return k;
}

#define SUITES "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA"

static struct tls_ctx *ctx_of(struct tls_setup setup)
{
	struct tls_ctx *ctx = NULL;
	struct buf why = BUF_INIT;

	if (setup.versions == 0)
		setup.versions = TLS_ALL_VERSIONS;
	if (setup.suites == NULL)
		setup.suites = SUITES;
	is_int(tls_ctx_new(&setup, &ctx, &why), 0, "context: %s", buf_cstr(&why));
	buf_fini(&why);
	return ctx;
}

static struct buf text_of_signatures;

static const char signature[] = " server-signature ECDSA (prime256v1) server-digest SHA256";

static void is_signed(const struct tls *t, const char *want, const char *name)
{
	struct tls_info info;

	tls_info_get(t, &info);
	buf_reset(&text_of_signatures);
	tls_info_add_signatures(&info, "|", &text_of_signatures);
	is_str(buf_cstr(&text_of_signatures), want, "signatures: %s", name);
}

static void test_pair(unsigned versions, const char *want_protocol, const char *want_cipher,
		      size_t step)
{
	struct tls_keys *keys = keys_of(tls_rig_leaf_key, tls_rig_leaf_crt, tls_rig_inter_crt);
	struct tls_ctx *sc = ctx_of((struct tls_setup){ .is_server = true, .keys = keys });
	struct tls_ctx *cc = ctx_of((struct tls_setup){ .versions = versions });
	struct tls *s = tls_new(sc), *c = tls_new(cc);
	struct tls_info info;
	const struct sv *chain;
	char text[64];

	tls_set_name(c, "mx.example.test");
	is_int(tls_rig_join(c, s, step), 0, "handshake in steps of %zu: %s %s", step, tls_error(c),
	       tls_error(s));
	tls_info_get(s, &info);
	is_str(info.protocol, want_protocol, "protocol");
	is_str(info.cipher, want_cipher, "cipher");
	is_int(info.bits, versions == TLS_1_3 ? 256 : 128, "bits");
	is_str(info.name, "mx.example.test", "the name that was asked for");
	is_signed(s, versions == TLS_1_2 ? "" : signature, "the server's");
	is_signed(c, versions == TLS_1_2 ? "" : signature, "as the client sees them");
	ok(!info.resumed, "a new session");
	is_int(tls_peer_chain(c, &chain), 2, "the client has the chain");
	is_int(tls_peer_chain(s, &chain), 0, "the server has none");
	is_int(tls_write(c, "EHLO x\r\n", 8), 0, "write");
	while (tls_out(c)->len > 0)
		tls_rig_move(c, s, step);
	is_int(tls_read(s, text, sizeof(text)), 8, "read");
	ok(memcmp(text, "EHLO x\r\n", 8) == 0, "the same text");
	is_int(tls_read(s, text, sizeof(text)), E_AGAIN, "no more");
	struct buf blob = BUF_INIT;

	if (versions == TLS_1_2)
		is_int(tls_session_save(c, &blob), E_NOENT, "no sessions of 1.2 are kept");
	buf_fini(&blob);
	tls_goodbye(c);
	tls_rig_move(c, s, 1000);
	is_int(tls_read(s, text, sizeof(text)), E_EOF, "goodbye");
	tls_free(&s);
	tls_free(&c);
	tls_ctx_free(&sc);
	tls_ctx_free(&cc);
	tls_keys_free(&keys);
}

/* ---- which keys ---- */

static void test_two_kinds(void)
{
	struct buf both = BUF_INIT, why = BUF_INIT;
	struct tls_keys *keys = NULL;
	static const struct {
		const char *suites, *want;
		unsigned versions;
	} cases[] = {
		{ "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
		  "ECDHE-ECDSA-AES128-GCM-SHA256", TLS_1_2 },
		{ "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", TLS_1_2 },
	};

	buf_printf(&both, "%s%s%s%s%s", tls_rig_rsa_key, tls_rig_rsa_crt, tls_rig_leaf_key,
		   tls_rig_leaf_crt, tls_rig_inter_crt);
	is_int(tls_keys_parse(buf_sv(&both), &keys, &why), 0, "two pairs: %s", buf_cstr(&why));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct tls_ctx *sc = ctx_of((struct tls_setup){ .is_server = true, .keys = keys });
		struct tls_ctx *cc = ctx_of((struct tls_setup){ .versions = cases[i].versions,
								.suites = cases[i].suites });
		struct tls *s = tls_new(sc), *c = tls_new(cc);
		struct tls_info info;

		is_int(tls_rig_join(c, s, 100000), 0, "handshake: %s %s", tls_error(c),
		       tls_error(s));
		tls_info_get(s, &info);
		is_str(info.cipher, cases[i].want, "keys by what the client can");
		tls_free(&s);
		tls_free(&c);
		tls_ctx_free(&sc);
		tls_ctx_free(&cc);
	}
	tls_keys_free(&keys);
	buf_fini(&both);
	buf_fini(&why);
}

static const struct tls_keys *rsa_for_other(void *arg, const char *name)
{
	return strcmp(name, "other.test") == 0 ? arg : NULL;
}

static void test_names(void)
{
	struct tls_keys *keys = keys_of(tls_rig_leaf_key, tls_rig_leaf_crt, "");
	struct tls_keys *other = keys_of(tls_rig_rsa_key, tls_rig_rsa_crt, "");
	struct tls_ctx *sc = ctx_of((struct tls_setup){
		.is_server = true, .keys = keys, .keys_of_name = rsa_for_other, .arg = other });
	struct tls_ctx *cc = ctx_of((struct tls_setup){ .versions = TLS_1_2 });
	static const char *const names[] = { "OTHER.test", "mx.test", "o\x01ther.test" };
	static const char *const want[] = { "ECDHE-RSA-AES128-GCM-SHA256",
					    "ECDHE-ECDSA-AES128-GCM-SHA256",
					    "ECDHE-ECDSA-AES128-GCM-SHA256" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct tls *s = tls_new(sc), *c = tls_new(cc);
		struct tls_info info;

		tls_set_name(c, names[i]);
		is_int(tls_rig_join(c, s, 100000), 0, "handshake: %s %s", tls_error(c),
		       tls_error(s));
		tls_info_get(s, &info);
		is_str(info.cipher, want[i], "keys of the name");
		tls_free(&s);
		tls_free(&c);
	}
	tls_ctx_free(&sc);
	tls_ctx_free(&cc);
	tls_keys_free(&keys);
	tls_keys_free(&other);
}

static void bad_keys(const char *a, const char *b, const char *want)
{
	struct buf pem = BUF_INIT, why = BUF_INIT;
	struct tls_keys *k = NULL;

	buf_printf(&pem, "%s%s", a, b);
	ok(tls_keys_parse(buf_sv(&pem), &k, &why) != 0, "refused: %s", buf_cstr(&why));
	ok(strstr(buf_cstr(&why), want) != NULL, "says \"%s\"", want);
	ok(k == NULL, "nothing");
	buf_fini(&pem);
	buf_fini(&why);
}

static void test_bad_keys(void)
{
	char broken[4096];

	bad_keys("", "", "no private key");
	bad_keys(tls_rig_leaf_key, "", "no certificate");
	bad_keys(tls_rig_leaf_crt, tls_rig_leaf_key, "before its private key");
	bad_keys(tls_rig_client_key, tls_rig_leaf_crt, "do not belong together");
	bad_keys(tls_rig_rsa_key, tls_rig_leaf_crt, "");
	snprintf(broken, sizeof(broken), "%s", tls_rig_leaf_crt);
	memcpy(broken + 100, "AAAAAAAAAAAA", 12);
	bad_keys(tls_rig_leaf_key, broken, "");
	snprintf(broken, sizeof(broken), "%s", tls_rig_leaf_crt);
	broken[strlen(broken) / 2] = '\0';
	bad_keys(tls_rig_leaf_key, broken, "no certificate");
}

/* ---- certificates ---- */

static struct tls_trust *trust_of(const char *pem)
{
	struct tls_trust *t = NULL;

	is_int(tls_trust_add(&t, sv_from(pem)), 0, "an authority");
	return t;
}

static void test_client_certificate(unsigned versions)
{
	struct tls_keys *keys = keys_of(tls_rig_rsa_key, tls_rig_rsa_crt, "");
	struct tls_keys *own = keys_of(tls_rig_client_key, tls_rig_client_crt, tls_rig_inter_crt);
	struct tls_ctx *sc =
		ctx_of((struct tls_setup){ .is_server = true, .keys = keys, .ask_peer = true });
	struct tls_ctx *with = ctx_of((struct tls_setup){ .versions = versions, .keys = own });
	struct tls_ctx *without = ctx_of((struct tls_setup){ .versions = versions });
	struct tls_trust *root = trust_of(tls_rig_ca_crt), *other = trust_of(tls_rig_leaf_crt);
	const struct sv *chain;

	for (int i = 0; i < 3; i++) { /* what was untrusted once stays so */
		struct tls *s = tls_new(sc), *c = tls_new(with);

		is_int(tls_rig_join(c, s, 7), 0, "handshake: %s %s", tls_error(c), tls_error(s));
		size_t n = tls_peer_chain(s, &chain);

		is_int(n, 2, "a chain of two");
		is_signed(s,
			  versions == TLS_1_2
				  ? ""
				  : " server-signature RSA-PSS (2048 bits) server-digest SHA256| "
				    "client-signature ECDSA (prime256v1) client-digest SHA256",
			  "both");
		is_int(tls_judge(root, chain, n, 9, TLS_FOR_CLIENT, NULL), 0, "trusted");
		is_int(tls_judge(root, chain, n, 9, TLS_FOR_SERVER, NULL), TLS_CERT_PURPOSE,
		       "not as a server");
		is_int(tls_judge(root, chain, n, 0, TLS_FOR_CLIENT, NULL),
		       TLS_CERT_DEPTH | TLS_CERT_UNTRUSTED, "a chain that is too long");
		is_int(tls_judge(root, chain, 1, 9, TLS_FOR_CLIENT, NULL), TLS_CERT_UNTRUSTED,
		       "without the one between");
		is_int(tls_judge(other, chain, n, 9, TLS_FOR_CLIENT, NULL), TLS_CERT_UNTRUSTED,
		       "another authority");
		is_int(tls_judge(NULL, chain, n, 9, TLS_FOR_CLIENT, NULL), TLS_CERT_UNTRUSTED,
		       "no authority");
		tls_free(&s);
		tls_free(&c);
	}
	struct tls *s = tls_new(sc), *c = tls_new(without);

	is_int(tls_rig_join(c, s, 100000), 0, "none to show: %s %s", tls_error(c), tls_error(s));
	is_int(tls_peer_chain(s, &chain), 0, "no chain");
	is_int(tls_judge(root, chain, 0, 9, TLS_FOR_CLIENT, NULL), TLS_CERT_UNTRUSTED, "untrusted");
	tls_free(&s);
	tls_free(&c);
	tls_trust_free(&root);
	tls_trust_free(&other);
	tls_ctx_free(&sc);
	tls_ctx_free(&with);
	tls_ctx_free(&without);
	tls_keys_free(&keys);
	tls_keys_free(&own);
}

static void test_x509(void)
{
	struct tls_keys *keys = keys_of(tls_rig_leaf_key, tls_rig_leaf_crt, tls_rig_inter_crt);
	struct tls_ctx *sc = ctx_of((struct tls_setup){ .is_server = true, .keys = keys });
	struct tls_ctx *cc = ctx_of((struct tls_setup){ .is_server = false });
	struct tls *s = tls_new(sc), *c = tls_new(cc);
	const struct sv *chain;
	struct x509 x;
	struct buf text = BUF_INIT;
	struct sv name;
	size_t at = 0;

	is_int(tls_rig_join(c, s, 100000), 0, "handshake");
	is_int(tls_peer_chain(c, &chain), 2, "a chain");
	is_int(x509_parse(chain[0], &x), 0, "parsed");
	is_int(x509_common_name(x.subject, &text), 0, "a subject");
	is_str(buf_cstr(&text), "mx.example.test", "the subject");
	buf_reset(&text);
	x509_common_name(x.issuer, &text);
	is_str(buf_cstr(&text), "Test Intermediate", "the issuer");
	ok(!x.is_ca && x.not_before_s == 946684800 && x.not_after_s == 4102444799, "dates");
	ok(x509_next_dns(&x, &at, &name) && sv_eq_str(name, "mx.example.test"), "first name");
	ok(x509_next_dns(&x, &at, &name) && sv_eq_str(name, "*.wild.example.test"), "second name");
	ok(!x509_next_dns(&x, &at, &name), "no third");
	ok(tls_is_signed_by(chain[0], chain[1]), "signed by the one above");
	ok(!tls_is_signed_by(chain[1], chain[0]), "not the other way");
	ok(!tls_is_signed_by(chain[0], chain[0]), "nor by itself");
	clock_fake_set(4102444800000 + 1000);
	struct tls_trust *root = trust_of(tls_rig_ca_crt);

	is_int(tls_judge(root, chain, 2, 9, TLS_FOR_SERVER, NULL), TLS_CERT_EXPIRED, "expired");
	clock_fake_set(946684799000);
	is_int(tls_judge(root, chain, 2, 9, TLS_FOR_SERVER, NULL), TLS_CERT_NOT_YET, "not yet");
	clock_fake_off();
	tls_trust_free(&root);
	/* every cut and many changes: an error or a reading, never more */
	unsigned read = 0;
	char *copy = malloc(chain[0].len);

	for (size_t n = 0; n < chain[0].len; n++) {
		memcpy(copy, chain[0].p, n);
		read += x509_parse((struct sv){ copy, n }, &x) == 0;
	}
	is_int(read, 0, "no part of a certificate is one");
	for (int i = 0; i < 20000; i++) {
		memcpy(copy, chain[0].p, chain[0].len);
		for (int k = 0; k < 3; k++)
			copy[rand_below((uint32_t)chain[0].len)] = (char)rand_below(256);
		if (x509_parse((struct sv){ copy, chain[0].len }, &x) == 0) {
			at = 0;
			while (x509_next_dns(&x, &at, &name))
				;
			buf_reset(&text);
			(void)!x509_common_name(x.subject, &text);
		}
	}
	free(copy);
	buf_reset(&text);
	is_int(tls_fingerprint("sha256", SV("abc"), &text), 0, "sha256");
	ok(strncmp(buf_cstr(&text), "BA:78:16:BF:", 12) == 0, "its text");
	buf_reset(&text);
	is_int(tls_fingerprint("md5", SV("abc"), &text), 0, "md5");
	is_str(buf_cstr(&text), "90:01:50:98:3C:D2:4F:B0:D6:96:3F:7D:28:E1:7F:72", "its text");
	ok(tls_fingerprint("crc32", SV("abc"), &text) != 0, "no such digest");
	buf_fini(&text);
	tls_free(&s);
	tls_free(&c);
	tls_ctx_free(&sc);
	tls_ctx_free(&cc);
	tls_keys_free(&keys);
}

/* ---- resumption ---- */

static bool goes_on(struct tls_ctx *sc, struct tls_ctx *cc, struct buf *blob)
{
	struct tls *s = tls_new(sc), *c = tls_new(cc);
	struct tls_info info;
	const struct sv *chain;
	char text[16];

	if (blob->len > 0)
		tls_session_restore(c, buf_sv(blob));
	is_int(tls_rig_join(c, s, 100000), 0, "handshake: %s %s", tls_error(c), tls_error(s));
	tls_write(s, "220\r\n", 5);
	tls_rig_move(s, c, 1000);
	is_int(tls_read(c, text, sizeof(text)), 5, "greeting");
	tls_info_get(c, &info);
	is_int(tls_peer_chain(c, &chain), 2, "a chain, resumed or not");
	buf_reset(blob);
	is_int(tls_session_save(c, blob), 0, "saved, %zu bytes", blob->len);
	tls_free(&s);
	tls_free(&c);
	return info.resumed;
}

static void test_tickets(void)
{
	struct tls_keys *keys = keys_of(tls_rig_leaf_key, tls_rig_leaf_crt, tls_rig_inter_crt);
	uint8_t seed[TLS_SEED_BYTES] = { 1, 2, 3 };
	int64_t now = 1800000000000;

	clock_fake_set(now);
	struct tls_tickets *here = tls_tickets_new(seed, now / 3600000);
	struct tls_tickets *there = tls_tickets_new(seed, now / 3600000);
	struct tls_setup setup = { .is_server = true, .keys = keys, .tickets = here };
	struct tls_ctx *a = ctx_of(setup);

	setup.tickets = there;
	struct tls_ctx *b = ctx_of(setup);
	struct tls_ctx *cc = ctx_of((struct tls_setup){ .versions = TLS_1_3 });
	struct buf blob = BUF_INIT;

	ok(!goes_on(a, cc, &blob), "a new session");
	ok(goes_on(b, cc, &blob), "another process reads the ticket");
	clock_fake_set(now + 3600000);
	ok(goes_on(a, cc, &blob), "an hour later, still");
	clock_fake_set(now + 3 * 3600000);
	ok(!goes_on(b, cc, &blob), "two hours after that no more");
	for (size_t i = 0; i < blob.len; i += 7) {
		struct tls *s = tls_new(a), *c = tls_new(cc);

		blob.p[i] = (char)(blob.p[i] ^ 1);
		if (tls_session_restore(c, buf_sv(&blob)) != E_PEER)
			(void)tls_rig_join(c, s, 100000);
		blob.p[i] = (char)(blob.p[i] ^ 1);
		tls_free(&s);
		tls_free(&c);
	}
	buf_reset(&blob);
	buf_add_str(&blob, "no session at all");
	ok(!goes_on(a, cc, &blob), "garbage begins anew");
	clock_fake_off();
	buf_fini(&blob);
	tls_ctx_free(&a);
	tls_ctx_free(&b);
	tls_ctx_free(&cc);
	tls_tickets_free(&here);
	tls_tickets_free(&there);
	tls_keys_free(&keys);
}

/* ---- garbage ---- */

static void test_garbage(void)
{
	struct tls_keys *keys = keys_of(tls_rig_leaf_key, tls_rig_leaf_crt, "");
	struct tls_ctx *sc = ctx_of((struct tls_setup){ .is_server = true, .keys = keys });
	struct tls_ctx *cc = ctx_of((struct tls_setup){ .is_server = false });
	struct tls *s = tls_new(sc);

	tls_feed(s, "EHLO x\r\n", 8);
	is_int(tls_handshake(s), E_PEER, "no hello: %s", tls_error(s));
	tls_free(&s);
	s = tls_new(sc);
	is_int(tls_handshake(s), E_AGAIN, "nothing yet");
	for (int i = 0; i < 5; i++)
		tls_feed(s, &"\x16\x03\x01\x40\x00"[i], 1);
	is_int(tls_handshake(s), E_AGAIN, "a head");
	ok(tls_memory(s) < 8192, "a client without a hello costs little");
	tls_free(&s);
	unsigned failed = 0, waits = 0;

	for (int i = 0; i < 600; i++) {
		struct tls *c = tls_new(cc);
		struct tls_info info;
		char text[64];

		s = tls_new(sc);
		if (i % 2 == 0) {
			tls_handshake(c);
		} else {
			is_int(tls_rig_join(c, s, 100000), 0, "handshake");
			tls_write(c, "NOOP NOOP NOOP\r\n", 16);
		}
		struct buf *b = tls_out(c);

		b->p[rand_below((uint32_t)b->len)] ^= (char)(1 + rand_below(255));
		tls_feed(s, b->p, b->len);
		int err = tls_handshake(s);

		while (err == 0)
			err = tls_read(s, text, sizeof(text)) > 0 ? 0 : E_AGAIN;
		failed += tls_error(s)[0] != '\0';
		waits += err == E_AGAIN;
		tls_info_get(s, &info);
		tls_free(&s);
		tls_free(&c);
	}
	ok(failed + waits > 0 && failed > 200, "%u of 600 changed bytes end a session", failed);
	tls_ctx_free(&sc);
	tls_ctx_free(&cc);
	tls_keys_free(&keys);
}

/* Keys of every kind, cut at every byte. */
static void test_key_signatures(void)
{
	static const struct {
		const char *spki;
		size_t len;
		const char *want;
	} keys[] = {
#define KEY(bytes, want) { (bytes), sizeof(bytes) - 1, (want) }
		KEY("\x30\x13\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
		    "\x03\x02\x00\x00",
		    "- -"),
		KEY("\x30\x1c\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00"
		    "\x03\x0b\x00\x30\x08\x02\x03\x00\x81\x01\x02\x01\x03",
		    "RSA-PSS (16 bits) -"),
		KEY("\x30\x15\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04"
		    "\x00\x22\x03\x01\x00",
		    "ECDSA (secp384r1) SHA384"),
		KEY("\x30\x15\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04"
		    "\x00\x21\x03\x01\x00",
		    "- -"),
		KEY("\x30\x0a\x30\x05\x06\x03\x2b\x65\x70\x03\x01\x00", "ED25519 -"),
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		for (size_t n = 0; n <= keys[i].len; n++) {
			char *copy = xmalloc(n + 1), text[64];
			struct tls_signature s;

			memcpy(copy, keys[i].spki, n);
			x509_signature((struct sv){ copy, n }, &s);
			free(copy);
			snprintf(text, sizeof(text), "%s%s%s%s %s",
				 s.name[0] != '\0' ? s.name : "-", s.detail[0] != '\0' ? " (" : "",
				 s.detail, s.detail[0] != '\0' ? ")" : "",
				 s.digest[0] != '\0' ? s.digest : "-");
			if (n < keys[i].len && strcmp(text, "- -") != 0)
				ok(false, "key %zu cut at %zu: %s", i, n, text);
			if (n == keys[i].len)
				is_str(text, keys[i].want, "key %zu", i);
		}
	}
}

int main(void)
{
	test_key_signatures();
	clock_init();
	clock_tick();
	test_pair(TLS_1_3, "TLSv1.3", "TLS_AES_256_GCM_SHA384", 100000);
	test_pair(TLS_1_2, "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", 100000);
	test_pair(TLS_1_2, "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256", 1);
	test_two_kinds();
	test_names();
	test_bad_keys();
	test_client_certificate(TLS_1_2);
	test_client_certificate(TLS_1_3);
	test_x509();
	test_tickets();
	test_garbage();
	buf_fini(&text_of_signatures);
	return tap_done();
}
