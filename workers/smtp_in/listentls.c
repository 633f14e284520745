/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS of a listener; see workers/smtp_in/listentls.h. */
#include "workers/smtp_in/listentls.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base64.h"
#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/rand.h"

static struct tls_tickets *tickets;

void listener_tls_set_tickets(struct tls_tickets *t)
{
	tls_tickets_free(&tickets);
	tickets = t;
}

/* Nobody handed keys out: resumption works with this process alone. */
static struct tls_tickets *own_tickets(void)
{
	uint8_t seed[TLS_SEED_BYTES];

	if (tickets != NULL)
		return tickets;
	rand_bytes(seed, sizeof(seed));
	tickets = tls_tickets_new(seed, clock_wall_s() / 3600);
	explicit_bzero(seed, sizeof(seed));
	return tickets;
}

/* ---- keys of names ---- */

static struct listener_tls_name *slot_for(struct listener_tls *t, const char *name)
{
	struct listener_tls_name *oldest = &t->names[0];

	for (size_t i = 0; i < LISTENER_TLS_NAMES; i++) {
		struct listener_tls_name *n = &t->names[i];

		if (n->name != NULL && strcmp(n->name, name) == 0)
			return n;
		if (n->used < oldest->used)
			oldest = n;
	}
	return oldest;
}

static void forget_name(struct listener_tls_name *n)
{
	free(n->name);
	tls_keys_free(&n->keys);
	*n = (struct listener_tls_name){ .name = NULL };
}

static const struct tls_keys *keys_of_value(struct listener_tls *t, const char *name,
					    struct sv value)
{
	struct listener_tls_name *n = slot_for(t, name);
	uint32_t check = crc32c(0, value.p, value.len);
	struct buf pem = BUF_INIT, why = BUF_INIT;

	if (n->name == NULL || strcmp(n->name, name) != 0 || n->check != check) {
		forget_name(n);
		n->name = xstrdup(name);
		n->check = check;
		if (base64_decode(value, &pem) != 0) {
			log_warn("tls_server_sni_maps: %s: the value is not Base64: "
				 "postmap -F was not used",
				 name);
		} else if (tls_keys_parse(buf_sv(&pem), &n->keys, &why) != 0) {
			log_warn("tls_server_sni_maps: %s: %s", name, buf_cstr(&why));
		}
		if (pem.p != NULL)
			explicit_bzero(pem.p, pem.len);
		buf_fini(&pem);
		buf_fini(&why);
	}
	n->used = ++t->name_uses;
	return n->keys;
}

/* The name, then ".example.com" and so on. */
static const struct tls_keys *keys_of_name(void *arg, const char *name)
{
	struct listener_tls *t = arg;
	struct buf value = BUF_INIT;
	const struct tls_keys *k = NULL;

	for (const char *key = name; key != NULL && *key != '\0'; key = strchr(key + 1, '.')) {
		buf_reset(&value);
		enum map_status st = map_list_get(t->sni_maps, sv_from(key), &value);

		if (st == MAP_ERROR)
			log_warn("tls_server_sni_maps: lookup error for %s", key);
		if (st == MAP_NOT_FOUND)
			continue;
		if (st == MAP_FOUND)
			k = keys_of_value(t, key, buf_sv(&value));
		break;
	}
	if (value.p != NULL)
		explicit_bzero(value.p, value.len);
	buf_fini(&value);
	return k;
}

/* ---- parameters ---- */

enum level { LEVEL_NONE, LEVEL_MAY, LEVEL_ENCRYPT, LEVEL_BAD };

static enum level level_of(const struct params *p)
{
	static const struct {
		const char *word;
		enum level level;
	} levels[] = {
		{ "none", LEVEL_NONE },
		{ "may", LEVEL_MAY },
		{ "encrypt", LEVEL_ENCRYPT },
		/* levels of clients: as much as a server can do of them */
		{ "fingerprint", LEVEL_ENCRYPT },
		{ "dane", LEVEL_ENCRYPT },
		{ "dane-only", LEVEL_ENCRYPT },
		{ "verify", LEVEL_ENCRYPT },
		{ "secure", LEVEL_ENCRYPT },
	};

	if (p->smtpd_tls_security_level[0] == '\0')
		return p->smtpd_enforce_tls ? LEVEL_ENCRYPT
		       : p->smtpd_use_tls   ? LEVEL_MAY
					    : LEVEL_NONE;
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (str_eq_nocase(p->smtpd_tls_security_level, levels[i].word))
			return levels[i].level;
	}
	return LEVEL_BAD;
}

struct making {
	const struct params *p;
	struct conf_diag *d;
	struct listener_tls *t;
	int status;
};

static void complain(struct making *m, const char *param, const char *what, const char *value)
{
	conf_diag_add(m->d, true, NULL, 0, "parameter %s: %s \"%s\"", param, what, value);
	m->status = E_CONFIG;
}

static unsigned versions_of(struct making *m)
{
	bool mandatory = m->t->enforce;
	const char *text =
		mandatory ? m->p->smtpd_tls_mandatory_protocols : m->p->smtpd_tls_protocols;
	const char *param = mandatory ? "smtpd_tls_mandatory_protocols" : "smtpd_tls_protocols";
	unsigned versions;
	struct sv bad;
	int err = tls_versions_parse(text, &versions, &bad);

	if (err == E_SYNTAX)
		complain(m, param, "bad protocol list", text);
	else if (err != 0)
		complain(m, param, "no version is left, TLSv1.2 is the oldest here:", text);
	return versions;
}

static void suites_of(struct making *m, struct buf *suites)
{
	const struct params *p = m->p;
	bool mandatory = m->t->enforce;
	const char *grade = mandatory ? p->smtpd_tls_mandatory_ciphers : p->smtpd_tls_ciphers;
	const char *list = tls_grade_list(grade, p->tls_high_cipherlist, p->tls_medium_cipherlist);
	struct buf exclude = BUF_INIT;

	if (list == NULL) {
		complain(m, mandatory ? "smtpd_tls_mandatory_ciphers" : "smtpd_tls_ciphers",
			 "no such grade:", grade);
		return;
	}
	buf_printf(&exclude, "%s %s", p->smtpd_tls_exclude_ciphers,
		   mandatory ? p->smtpd_tls_mandatory_exclude_ciphers : "");
	tls_suites_eval(list, buf_cstr(&exclude), suites);
	buf_fini(&exclude);
}

static void load_files(struct making *m)
{
	const struct params *p = m->p;
	const struct tls_key_files files = {
		.prefix = "smtpd_tls_",
		.chain_files = p->smtpd_tls_chain_files,
		.cert_file = p->smtpd_tls_cert_file,
		.key_file = p->smtpd_tls_key_file,
		.dcert_file = p->smtpd_tls_dcert_file,
		.dkey_file = p->smtpd_tls_dkey_file,
		.eccert_file = p->smtpd_tls_eccert_file,
		.eckey_file = p->smtpd_tls_eckey_file,
	};
	struct buf probe = BUF_INIT;

	if (tls_keys_load(&files, m->d, &m->t->keys) != 0)
		m->status = E_CONFIG;
	if (m->t->ask_cert &&
	    tls_trust_load("smtpd_tls_CAfile", p->smtpd_tls_CAfile, p->smtpd_tls_CApath,
			   p->tls_append_default_CA, m->d, &m->t->trust) != 0)
		m->status = E_CONFIG;
	if (tls_digest(p->smtpd_tls_fingerprint_digest, SV(""), &probe) != 0)
		complain(m, "smtpd_tls_fingerprint_digest",
			 "no such digest:", p->smtpd_tls_fingerprint_digest);
	buf_fini(&probe);
}

static void make_ctx(struct making *m)
{
	const struct params *p = m->p;
	struct listener_tls *t = m->t;
	struct buf suites = BUF_INIT, groups = BUF_INIT, why = BUF_INIT;
	struct tls_setup setup = {
		.is_server = true,
		.versions = versions_of(m),
		.keys = t->keys,
		.own_order = p->tls_preempt_cipherlist,
		.ask_peer = t->ask_cert,
		.no_tickets = p->smtpd_tls_session_cache_timeout == 0,
		.tickets = own_tickets(),
		.keys_of_name = map_list_is_empty(t->sni_maps) ? NULL : keys_of_name,
		.arg = t,
	};

	suites_of(m, &suites);
	buf_printf(&groups, "%s %s", p->tls_eecdh_auto_curves, p->tls_ffdhe_auto_groups);
	setup.suites = buf_cstr(&suites);
	setup.groups = buf_cstr(&groups);
	if (m->status == 0 && (!tls_keys_is_empty(t->keys) || setup.keys_of_name != NULL)) {
		if (tls_ctx_new(&setup, &t->ctx, &why) != 0)
			complain(m, "smtpd_tls_security_level",
				 "TLS cannot start:", buf_cstr(&why));
	} else if (m->status == 0) {
		conf_diag_add(m->d, false, NULL, 0,
			      "No server certs available. TLS won't be enabled");
	}
	buf_fini(&suites);
	buf_fini(&groups);
	buf_fini(&why);
}

int listener_tls_new(const struct conf *c, const struct params *p, struct conf_diag *d,
		     struct listener_tls **t_r)
{
	enum level level = level_of(p);
	struct making m = { .p = p, .d = d };

	*t_r = NULL;
	if (level == LEVEL_BAD) {
		complain(&m, "smtpd_tls_security_level",
			 "no such level:", p->smtpd_tls_security_level);
		return m.status;
	}
	if (level == LEVEL_NONE && !p->smtpd_tls_wrappermode)
		return 0;
	m.t = xcalloc(1, sizeof(*m.t));
	m.t->enforce = level == LEVEL_ENCRYPT || p->smtpd_tls_wrappermode;
	m.t->wrapper = p->smtpd_tls_wrappermode;
	m.t->require_cert = m.t->enforce && p->smtpd_tls_req_ccert;
	m.t->ask_cert = m.t->require_cert || p->smtpd_tls_ask_ccert;
	m.t->max_depth = (unsigned)p->smtpd_tls_ccert_verifydepth;
	m.t->log = tls_log_parse("smtpd_tls_loglevel", p->smtpd_tls_loglevel);
	m.t->digest = p->smtpd_tls_fingerprint_digest;
	m.t->purpose = p->tls_trust_server_ccerts ? TLS_FOR_ANY : TLS_FOR_CLIENT;
	if (p->smtpd_tls_req_ccert && !m.t->enforce)
		conf_diag_add(d, false, NULL, 0,
			      "Can't require client certs unless TLS is required");
	if (peermap_open(c, p->smtpd_tls_loglevel_maps, "smtpd_tls_loglevel_maps", &m.t->log_maps,
			 d) != 0)
		m.status = E_CONFIG;
	if (map_list_open(c, p->tls_server_sni_maps, "tls_server_sni_maps", &m.t->sni_maps, d) != 0)
		m.status = E_CONFIG;
	load_files(&m);
	if (m.status == 0)
		make_ctx(&m);
	if (m.status != 0)
		listener_tls_free(&m.t);
	*t_r = m.t;
	return m.status;
}

unsigned listener_tls_log(const struct listener_tls *t, const char *name, const char *addr)
{
	struct buf value = BUF_INIT;
	unsigned log = t->log;

	switch (peermap_get(t->log_maps, name, addr, &value)) {
	case MAP_FOUND:
		log = tls_log_parse("smtpd_tls_loglevel_maps", buf_cstr(&value));
		break;
	case MAP_NOT_FOUND:
		break;
	case MAP_ERROR:
		log_warn("smtpd_tls_loglevel_maps: lookup error for %s", addr);
		break;
	}
	buf_fini(&value);
	return log | (t->require_cert ? TLS_LOG_UNTRUSTED : 0);
}

void listener_tls_free(struct listener_tls **tp)
{
	struct listener_tls *t = *tp;

	if (t == NULL)
		return;
	tls_ctx_free(&t->ctx);
	tls_keys_free(&t->keys);
	tls_trust_free(&t->trust);
	map_list_close(&t->sni_maps);
	peermap_close(&t->log_maps);
	for (size_t i = 0; i < LISTENER_TLS_NAMES; i++)
		forget_name(&t->names[i]);
	free(t);
	*tp = NULL;
}
