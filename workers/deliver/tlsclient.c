/* SPDX-License-Identifier: GPL-3.0-or-later */
/* TLS of a transport; see workers/deliver/tlsclient.h. */
#include "workers/deliver/tlsclient.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"

#define CTX_MAX          32u /* unused ones beyond it are freed */
#define ANCHOR_FILES_MAX 16u
#define ANCHOR_BYTES_MAX (1u << 20)

struct tls_session_entry {
	struct tls_session_entry *next, *prev;
	int64_t until_ms;
	struct sv key;
	struct buf blob;
};

unsigned tls_client_words(const char *list, char more, struct sv *out, unsigned max)
{
	unsigned n = 0;

	while (n < max) {
		size_t len = 0;

		while (*list != '\0' && (ascii_is_space(*list) || *list == ',' || *list == more))
			list++;
		while (list[len] != '\0' && !ascii_is_space(list[len]) && list[len] != ',' &&
		       list[len] != more)
			len++;
		if (len == 0)
			break;
		out[n++] = (struct sv){ list, len };
		list += len;
	}
	return n;
}

/* ---- make ---- */

#define READ_FAMILY(prefix)                                                                        \
	do {                                                                                       \
		tc->protocols = p->prefix##_tls_protocols;                                         \
		tc->mandatory_protocols = p->prefix##_tls_mandatory_protocols;                     \
		tc->ciphers = p->prefix##_tls_ciphers;                                             \
		tc->mandatory_ciphers = p->prefix##_tls_mandatory_ciphers;                         \
		tc->exclude = p->prefix##_tls_exclude_ciphers;                                     \
		tc->mandatory_exclude = p->prefix##_tls_mandatory_exclude_ciphers;                 \
		tc->servername = p->prefix##_tls_servername;                                       \
		tc->digest = p->prefix##_tls_fingerprint_digest;                                   \
		tc->fingerprints = p->prefix##_tls_fingerprint_cert_match;                         \
		tc->verify_match = p->prefix##_tls_verify_cert_match;                              \
		tc->secure_match = p->prefix##_tls_secure_cert_match;                              \
		tc->force_tlsa = p->prefix##_tls_force_insecure_host_tlsa_lookup;                  \
		tc->depth = (unsigned)p->prefix##_tls_scert_verifydepth;                           \
		tc->log = tls_log_parse(#prefix "_tls_loglevel", p->prefix##_tls_loglevel);        \
		tc->keeps_sessions = *p->prefix##_tls_session_cache_database != '\0';              \
		tc->session_ms = p->prefix##_tls_session_cache_timeout;                            \
		anchors = p->prefix##_tls_trust_anchor_file;                                       \
		err = load_files(tc,                                                               \
				 &(struct tls_key_files){                                          \
					 #prefix "_tls_",                                          \
					 p->prefix##_tls_chain_files,                              \
					 p->prefix##_tls_cert_file,                                \
					 p->prefix##_tls_key_file,                                 \
					 p->prefix##_tls_dcert_file,                               \
					 p->prefix##_tls_dkey_file,                                \
					 p->prefix##_tls_eccert_file,                              \
					 p->prefix##_tls_eckey_file,                               \
				 },                                                                \
				 #prefix "_tls_CAfile", p->prefix##_tls_CAfile,                    \
				 p->prefix##_tls_CApath, p->tls_append_default_CA, &problems);     \
		if (peermap_open(c, p->prefix##_tls_loglevel_maps, #prefix "_tls_loglevel_maps",   \
				 &tc->log_maps, &problems) != 0)                                   \
			err = E_CONFIG;                                                            \
	} while (0)

static int load_files(struct tls_client *tc, const struct tls_key_files *files, const char *param,
		      const char *ca_file, const char *ca_path, bool system_too,
		      struct conf_diag *d)
{
	int err = tls_keys_load(files, d, &tc->keys);

	if (err == 0 && (*ca_file != '\0' || *ca_path != '\0' || system_too))
		err = tls_trust_load(param, ca_file, ca_path, system_too, d, &tc->trust);
	return err;
}

/* Each file has certificates of authorities that count instead of the others. */
static void load_anchors(struct tls_client *tc, const char *list)
{
	struct sv files[ANCHOR_FILES_MAX];
	unsigned n = tls_client_words(list, ',', files, ARRAY_LEN(files));

	for (unsigned i = 0; i < n; i++) {
		struct buf pem = BUF_INIT;
		char *path = xstrndup(files[i].p, files[i].len);
		int err = io_read_file(path, ANCHOR_BYTES_MAX, &pem);

		if (err == 0)
			err = tls_trust_add(&tc->anchors, buf_sv(&pem));
		if (err != 0) {
			log_warn("error loading trust anchors from %s: %s", path, err_str(err));
			tc->anchors_failed = true;
		}
		free(path);
		buf_fini(&pem);
	}
}

static enum site_level insecure_mx_level(const char *word)
{
	enum site_level l = site_level_parse(sv_from(word));

	if (l != SITE_MAY && l != SITE_ENCRYPT && l != SITE_DANE) {
		log_warn("invalid smtp_tls_dane_insecure_mx_policy: \"%s\"", word);
		return SITE_MAY;
	}
	return l;
}

/* As warnings: mail that needs no TLS goes on. Each with its place, and once for all transports. */
static void pass_on(const struct conf *c, const struct conf_transport *ct,
		    const struct conf_diag *problems, struct conf_diag *d)
{
	static const char mark[] = "parameter ";

	for (struct sv rest = buf_sv(&problems->text); rest.len > 0;) {
		struct sv line = sv_next_part(&rest, '\n');
		const char *at = memmem(line.p, line.len, mark, strlen(mark)), *file = NULL;
		unsigned number = 0;
		char name[64] = "";

		if (line.len == 0 ||
		    memmem(buf_cstr(&d->text), d->text.len, line.p, line.len) != NULL)
			continue;
		if (at != NULL) {
			at += strlen(mark);
			size_t left = line.len - (size_t)(at - line.p);
			const char *colon = memchr(at, ':', left);

			str_copy(name, sizeof(name),
				 (struct sv){ at, colon != NULL ? (size_t)(colon - at) : left });
		}
		if (name[0] == '\0' || !conf_where(c, ct->service, name, &file, &number))
			file = NULL;
		conf_diag_add(d, false, file, number, "%.*s: disabling TLS support", (int)line.len,
			      line.p);
	}
}

struct tls_client *tls_client_new(const struct conf *c, const struct conf_transport *ct,
				  const struct tls_policy *policy, struct conf_diag *d)
{
	const struct params *p = ct->params;
	struct conf_diag problems;
	struct tls_client *tc;
	const char *anchors;
	int err;

	if (policy == NULL || !policy->used)
		return NULL;
	tc = xcalloc(1, sizeof(*tc));
	tc->transport = ct->name;
	tc->policy = policy;
	tc->high = p->tls_high_cipherlist;
	tc->medium = p->tls_medium_cipherlist;
	tc->groups = p->tls_eecdh_auto_curves;
	tc->dane_digests = p->tls_dane_digests;
	tc->insecure_mx = insecure_mx_level(p->smtp_tls_dane_insecure_mx_policy);
	tc->sessions = strmap_new();
	conf_diag_init(&problems);
	if (policy->lmtp)
		READ_FAMILY(lmtp);
	else
		READ_FAMILY(smtp);
	pass_on(c, ct, &problems, d);
	conf_diag_fini(&problems);
	load_anchors(tc, anchors);
	tc->unavailable = err != 0;
	return tc;
}

static void ctx_release(struct tls_client_ctx *x)
{
	if (--x->refs > 0)
		return;
	tls_ctx_free(&x->ctx);
	free(x->suites);
	free(x);
}

static void session_drop(struct tls_client *tc, struct tls_session_entry *e)
{
	if (e->prev != NULL)
		e->prev->next = e->next;
	else
		tc->first = e->next;
	if (e->next != NULL)
		e->next->prev = e->prev;
	else
		tc->last = e->prev;
	tc->session_bytes -= e->blob.len;
	strmap_remove(tc->sessions, e->key);
	buf_fini(&e->blob);
	free((void *)(uintptr_t)e->key.p);
	free(e);
}

void tls_client_free(struct tls_client **tcp)
{
	struct tls_client *tc = *tcp;

	*tcp = NULL;
	if (tc == NULL)
		return;
	while (tc->ctxs != NULL) {
		struct tls_client_ctx *x = tc->ctxs;

		tc->ctxs = x->next;
		ctx_release(x);
	}
	while (tc->first != NULL)
		session_drop(tc, tc->first);
	strmap_free(&tc->sessions);
	peermap_close(&tc->log_maps);
	tls_keys_free(&tc->keys);
	tls_trust_free(&tc->trust);
	tls_trust_free(&tc->anchors);
	free(tc);
}

unsigned tls_client_log(const struct tls_client *tc, const char *host, const char *addr)
{
	struct buf value = BUF_INIT;
	unsigned log = tc->log;
	enum map_status st = peermap_get(tc->log_maps, host, addr, &value);

	if (st == MAP_FOUND)
		log = tls_log_parse("smtp_tls_loglevel_maps", buf_cstr(&value));
	else if (st == MAP_ERROR)
		log_warn("smtp_tls_loglevel_maps: lookup error for %s[%s]", host, addr);
	buf_fini(&value);
	return log;
}

/* ---- contexts ---- */

/* The ciphers of a level, as names of the library. False: no such grade. */
static bool make_suites(const struct tls_client *tc, const struct tls_site *s,
			enum site_level level, struct buf *names)
{
	bool must = level > SITE_MAY;
	const char *grade = s->grade != NULL ? s->grade
			    : must           ? tc->mandatory_ciphers
					     : tc->ciphers;
	const char *list = tls_grade_list(grade, tc->high, tc->medium);
	struct buf exclude = BUF_INIT;

	if (list == NULL) {
		log_warn("invalid TLS cipher grade: \"%s\"", grade);
		return false;
	}
	if (s->exclude != NULL)
		buf_add_str(&exclude, s->exclude);
	else
		buf_printf(&exclude, "%s %s", tc->exclude, must ? tc->mandatory_exclude : "");
	if (must) /* what encrypts nothing, or names no server */
		buf_add_str(&exclude, level == SITE_ENCRYPT ? " eNULL" : " aNULL");
	tls_suites_eval(list, buf_cstr(&exclude), names);
	buf_fini(&exclude);
	return true;
}

static bool make_versions(const struct tls_client *tc, const struct tls_site *s,
			  enum site_level level, unsigned *versions_r)
{
	const char *text = s->protocols != NULL ? s->protocols
			   : level > SITE_MAY   ? tc->mandatory_protocols
						: tc->protocols;
	struct sv bad = { "", 0 };
	int err = tls_versions_parse(text, versions_r, &bad);

	if (err == E_SYNTAX)
		log_warn("Invalid TLS protocol list \"%s\": bad word \"%.*s\"", text, (int)bad.len,
			 bad.p);
	else if (err != 0)
		log_warn("TLS protocol list \"%s\" leaves no protocol", text);
	return err == 0;
}

/* Those that nobody uses make way. */
static void trim(struct tls_client *tc)
{
	struct tls_client_ctx **at = &tc->ctxs;

	for (unsigned i = 0; *at != NULL; i++) {
		struct tls_client_ctx *x = *at;

		if (i < CTX_MAX || x->refs > 1) {
			at = &x->next;
			continue;
		}
		*at = x->next;
		tc->ctx_count--;
		ctx_release(x);
	}
}

static struct tls_client_ctx *ctx_find(struct tls_client *tc, unsigned versions, const char *suites)
{
	for (struct tls_client_ctx **at = &tc->ctxs; *at != NULL; at = &(*at)->next) {
		struct tls_client_ctx *x = *at;

		if (x->versions != versions || strcmp(x->suites, suites) != 0)
			continue;
		*at = x->next;
		x->next = tc->ctxs;
		tc->ctxs = x;
		x->refs++;
		return x;
	}
	return NULL;
}

static struct tls_client_ctx *ctx_new(struct tls_client *tc, unsigned versions, const char *suites)
{
	struct tls_setup setup = {
		.versions = versions, .suites = suites, .groups = tc->groups, .keys = tc->keys
	};
	struct buf why = BUF_INIT;
	struct tls_ctx *ctx = NULL;
	struct tls_client_ctx *x = NULL;

	if (tls_ctx_new(&setup, &ctx, &why) == 0) {
		x = xcalloc(1, sizeof(*x));
		*x = (struct tls_client_ctx){ .refs = 2,
					      .number = ++tc->ctx_number,
					      .versions = versions,
					      .suites = xstrdup(suites),
					      .ctx = ctx,
					      .next = tc->ctxs };
		tc->ctxs = x;
		if (++tc->ctx_count > CTX_MAX)
			trim(tc);
	} else {
		log_warn("transport %s: TLS: %s", tc->transport, buf_cstr(&why));
	}
	buf_fini(&why);
	return x;
}

struct tls_client_ctx *tls_client_ctx_get(struct tls_client *tc, const struct tls_site *s,
					  enum site_level level)
{
	struct buf suites = BUF_INIT;
	struct tls_client_ctx *x = NULL;
	unsigned versions;

	if (make_versions(tc, s, level, &versions) && make_suites(tc, s, level, &suites)) {
		x = ctx_find(tc, versions, buf_cstr(&suites));
		if (x == NULL)
			x = ctx_new(tc, versions, buf_cstr(&suites));
	}
	buf_fini(&suites);
	return x;
}

void tls_client_ctx_unref(struct tls_client_ctx **xp)
{
	struct tls_client_ctx *x = *xp;

	*xp = NULL;
	if (x != NULL)
		ctx_release(x);
}

/* ---- sessions ---- */

static void to_front(struct tls_client *tc, struct tls_session_entry *e)
{
	e->prev = NULL;
	e->next = tc->first;
	if (e->next != NULL)
		e->next->prev = e;
	else
		tc->last = e;
	tc->first = e;
}

bool tls_client_session_get(struct tls_client *tc, struct sv key, int64_t now_ms, struct sv *blob_r)
{
	struct tls_session_entry *e = strmap_get(tc->sessions, key);

	if (e == NULL)
		return false;
	if (e->until_ms <= now_ms) {
		session_drop(tc, e);
		return false;
	}
	*blob_r = buf_sv(&e->blob);
	return true;
}

void tls_client_session_drop(struct tls_client *tc, struct sv key)
{
	struct tls_session_entry *e = strmap_get(tc->sessions, key);

	if (e != NULL)
		session_drop(tc, e);
}

void tls_client_session_put(struct tls_client *tc, struct sv key, int64_t now_ms, struct sv blob)
{
	struct tls_session_entry *e;

	tls_client_session_drop(tc, key);
	if (!tc->keeps_sessions || blob.len > TLS_SESSION_BYTES_MAX / 8)
		return;
	while (tc->last != NULL && (strmap_count(tc->sessions) >= TLS_SESSION_MAX ||
				    tc->session_bytes + blob.len > TLS_SESSION_BYTES_MAX))
		session_drop(tc, tc->last);
	e = xcalloc(1, sizeof(*e));
	e->until_ms = now_ms + tc->session_ms;
	e->key = (struct sv){ xstrndup(key.p, key.len), key.len };
	buf_add_sv(&e->blob, blob);
	tc->session_bytes += blob.len;
	to_front(tc, e);
	strmap_put(tc->sessions, e->key, e);
}
