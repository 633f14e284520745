/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A client's side of TLS; see workers/smtp_in/peertls.h. The texts are Postfix's. */
#include "workers/smtp_in/peertls.h"

#include <stdlib.h>
#include <string.h>

#include "lib/log.h"

static char *common_name(struct sv dn)
{
	struct buf text = BUF_INIT;
	int err = x509_common_name(dn, &text);
	char *name = xstrdup(err == 0 ? buf_cstr(&text) : "");

	buf_fini(&text);
	str_make_printable(name, strlen(name));
	return name;
}

static char *print_of(const char *digest, struct sv data)
{
	struct buf text = BUF_INIT;

	(void)!tls_fingerprint(digest, data, &text);
	char *print = xstrdup(buf_cstr(&text));

	buf_fini(&text);
	return print;
}

static void log_untrusted(const char *namaddr, unsigned wrong, const char *issuer)
{
	if ((wrong & TLS_CERT_UNTRUSTED) != 0 && (wrong & TLS_CERT_SELF_SIGNED) == 0)
		log_info("certificate verification failed for %s: untrusted issuer /CN=%s", namaddr,
			 issuer);
	else
		log_info("certificate verification failed for %s: %s", namaddr,
			 tls_judge_text(wrong));
}

static void look_at_cert(struct peertls *p, const struct listener_tls *conf, struct tls *t,
			 const char *namaddr, unsigned log)
{
	const struct sv *chain;
	size_t count = tls_peer_chain(t, &chain);
	struct x509 cert;

	if (count == 0 || x509_parse(chain[0], &cert) != 0)
		return;
	unsigned wrong = tls_judge(conf->trust, chain, count, conf->max_depth, conf->purpose, NULL);

	p->subject = common_name(cert.subject);
	p->issuer = common_name(cert.issuer);
	p->fingerprint = print_of(conf->digest, chain[0]);
	p->key_fingerprint = print_of(conf->digest, cert.spki);
	p->has_cert = true;
	p->is_trusted = wrong == 0;
	if ((log & (TLS_LOG_VERBOSE | TLS_LOG_PEERCERT)) != 0)
		log_info("%s: subject_CN=%s, issuer=%s, fingerprint=%s, pkey_fingerprint=%s",
			 namaddr, p->subject, p->issuer, p->fingerprint, p->key_fingerprint);
	if (wrong != 0 && (log & TLS_LOG_UNTRUSTED) != 0)
		log_untrusted(namaddr, wrong, p->issuer);
}

void peertls_add_key_exchange(const struct tls_info *info, const char *begin, struct buf *out)
{
	if (strcmp(info->protocol, "TLSv1.3") == 0 && info->key_exchange[0] != '\0')
		buf_printf(out, "%s key-exchange %s", begin, info->key_exchange);
	tls_info_add_signatures(info, begin, out);
}

static void log_summary(const struct peertls *p, const char *namaddr)
{
	const char *how = !p->has_cert ? "Anonymous" : p->is_trusted ? "Trusted" : "Untrusted";
	struct buf line = BUF_INIT;

	buf_printf(&line, "%s TLS connection %s from %s%s%s: %s with cipher %s (%u/%u bits)", how,
		   p->info.resumed ? "reused" : "established", namaddr,
		   p->info.name[0] != '\0' ? " to " : "", p->info.name, p->info.protocol,
		   p->info.cipher, p->info.bits, p->info.alg_bits);
	peertls_add_key_exchange(&p->info, "", &line);
	log_info("%s", buf_cstr(&line));
	buf_fini(&line);
}

void peertls_look(struct peertls *p, const struct listener_tls *conf, struct tls *t,
		  const char *namaddr, unsigned log)
{
	tls_info_get(t, &p->info);
	look_at_cert(p, conf, t, namaddr, log);
	if ((log & TLS_LOG_SUMMARY) != 0)
		log_summary(p, namaddr);
}

void peertls_fini(struct peertls *p)
{
	free(p->subject);
	free(p->issuer);
	free(p->fingerprint);
	free(p->key_fingerprint);
	*p = (struct peertls){ .has_cert = false };
}
