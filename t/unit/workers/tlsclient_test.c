/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a transport keeps for TLS: sessions within bounds, contexts by protocols and ciphers, and
 * what happens when its files are not there. */
#include "workers/deliver/tlsclient.h"

#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"

static struct conf *conf;
static struct tls_policy *policy;
static struct tls_client *client;
static struct conf_diag diag;

static void open_client(const char *main_cf)
{
	conf = test_conf(main_cf);
	conf_diag_init(&diag);
	tls_policy_open(conf, conf_transport_find(conf, "smtp"), &policy, &diag);
	client = tls_client_new(conf, conf_transport_find(conf, "smtp"), policy, &diag);
}

static void close_client(void)
{
	tls_client_free(&client);
	tls_policy_close(&policy);
	conf_diag_fini(&diag);
	conf_free(&conf);
}

static struct sv key_of(unsigned i)
{
	static char text[32];

	snprintf(text, sizeof(text), "host%u", i);
	return sv_from(text);
}

static void test_sessions(void)
{
	static char big[TLS_SESSION_BYTES_MAX / 8 + 1];
	struct sv blob;

	open_client("smtp_tls_security_level = may\nsmtp_tls_session_cache_database = btree:x\n"
		    "smtp_tls_session_cache_timeout = 100s\n");
	for (unsigned i = 0; i < TLS_SESSION_MAX + 5; i++)
		tls_client_session_put(client, key_of(i), 1000, SV("blob"));
	ok(!tls_client_session_get(client, key_of(4), 1000, &blob), "the oldest ones make way");
	ok(tls_client_session_get(client, key_of(5), 1000, &blob) && sv_eq_str(blob, "blob"),
	   "others are there");
	is_int(client->session_bytes, 4 * TLS_SESSION_MAX, "and counted");
	tls_client_session_put(client, key_of(9), 1000, SV("another"));
	ok(tls_client_session_get(client, key_of(9), 1000, &blob) && sv_eq_str(blob, "another"),
	   "a newer one takes the place of the older");
	tls_client_session_drop(client, key_of(9));
	ok(!tls_client_session_get(client, key_of(9), 1000, &blob), "one that failed is forgotten");
	ok(!tls_client_session_get(client, key_of(10), 101000, &blob), "old ones, too");
	tls_client_session_put(client, SV("big"), 1000, (struct sv){ big, sizeof(big) });
	ok(!tls_client_session_get(client, SV("big"), 1000, &blob), "a large one is not kept");
	for (unsigned i = 0; i < 20; i++)
		tls_client_session_put(client, key_of(i), 1000,
				       (struct sv){ big, sizeof(big) - 1 });
	ok(client->session_bytes <= TLS_SESSION_BYTES_MAX, "all together are bounded");
	close_client();

	open_client("smtp_tls_security_level = may\n");
	tls_client_session_put(client, SV("x"), 1000, SV("blob"));
	ok(!tls_client_session_get(client, SV("x"), 1000, &blob), "none without a cache");
	close_client();
}

static void test_contexts(void)
{
	struct tls_site *s;
	struct tls_client_ctx *a, *b, *c;

	open_client("smtp_tls_policy_maps = inline:{{a.test=encrypt protocols=TLSv1.3},"
		    " {b.test=encrypt protocols=SSLv3}, {c.test=encrypt ciphers=best},"
		    " {d.test=encrypt protocols=TLSv9}}\nsmtp_tls_security_level = may\n");
	s = tls_policy_get(policy, SV("x.test"));
	a = tls_client_ctx_get(client, s, SITE_MAY);
	b = tls_client_ctx_get(client, s, SITE_MAY);
	ok(a != NULL && a == b, "one context for one configuration");
	tls_client_ctx_unref(&a);
	tls_client_ctx_unref(&b);
	tls_site_unref(&s);
	s = tls_policy_get(policy, SV("a.test"));
	c = tls_client_ctx_get(client, s, s->level);
	ok(c != NULL && c->versions == TLS_1_3, "another for another");
	is_int(client->ctx_count, 2, "two in all");
	tls_client_ctx_unref(&c);
	tls_site_unref(&s);
	for (const char *const *name = (const char *const[]){ "b.test", "c.test", "d.test", NULL };
	     *name != NULL; name++) {
		s = tls_policy_get(policy, sv_from(*name));
		c = tls_client_ctx_get(client, s, s->level);
		ok(c == NULL, "%s: none for what makes no sense", *name);
		tls_site_unref(&s);
	}
	close_client();
}

static void test_files(void)
{
	open_client("smtp_tls_security_level = may\nsmtp_tls_CAfile = /does/not/exist\n");
	ok(client != NULL && client->unavailable, "authorities that are not there");
	ok(strstr(buf_cstr(&diag.text), "main.cf, line ") != NULL &&
		   strstr(buf_cstr(&diag.text), "disabling TLS support") != NULL,
	   "are told with their place");
	is_int(diag.errors, 0, "mail that needs no TLS goes on");
	close_client();
	open_client("smtp_tls_security_level = verify\nsmtp_tls_trust_anchor_file = /not/there\n");
	ok(client->anchors_failed && !client->unavailable, "anchors that are not there");
	close_client();
	open_client("");
	ok(client == NULL, "nothing at all where TLS is not wanted");
	close_client();
}

int main(void)
{
	test_sessions();
	test_contexts();
	test_files();
	return tap_done();
}
