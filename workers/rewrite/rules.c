/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Configuration of the rewrite worker; see workers/rewrite/rules.h. */
#include "workers/rewrite/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/verify_use.h"
#include "lib/err.h"
#include "lib/util.h"

/* p: of the cleanup service; rp: of the trivial-rewrite service that completes addresses for it. */
static void set_header_rules(const struct params *p, const struct params *rp,
			     struct header_rules *h)
{
	*h = (struct header_rules){
		.addr = { .myorigin = sv_from(rp->myorigin),
			  .mydomain = sv_from(rp->mydomain),
			  .append_at_myorigin = rp->append_at_myorigin,
			  .append_dot_mydomain = rp->append_dot_mydomain,
			  .swap_bangpath = rp->swap_bangpath,
			  .allow_percent_hack = rp->allow_percent_hack },
		.myhostname = sv_from(p->myhostname),
		.remote_domain = sv_from(rp->remote_header_rewrite_domain),
		.undisclosed = sv_from(p->undisclosed_recipients_header),
		.always_add_missing = p->always_add_missing_headers,
		.obsolete_from = p->header_from_format == HEADER_FROM_OBSOLETE,
		.name_charset = p->full_name_encoding_charset,
		.size_limit = (size_t)p->header_size_limit,
		.hopcount_limit = (unsigned)p->hopcount_limit,
	};
	header_drop_list(p->message_drop_headers, h);
}

struct class_word {
	struct sv name;
	unsigned bit;
};

static const struct class_word notify_words[] = {
	{ { "bounce", 6 }, NOTIFY_CLASS_BOUNCE },
	{ { "2bounce", 7 }, NOTIFY_CLASS_2BOUNCE },
	{ { "delay", 5 }, NOTIFY_CLASS_DELAY },
};

static const struct class_word filter_words[] = {
	{ { "bounce", 6 }, FILTER_CLASS_BOUNCE },
	{ { "notify", 6 }, FILTER_CLASS_NOTIFY },
};

static unsigned parse_classes(const char *text, const struct class_word *words, size_t count)
{
	unsigned bits = 0;

	for (;;) {
		size_t n;

		text += strspn(text, ", \t\r\n");
		n = strcspn(text, ", \t\r\n");
		if (n == 0)
			return bits;
		for (size_t i = 0; i < count; i++) {
			if (sv_eq_nocase(words[i].name, (struct sv){ text, n }))
				bits |= words[i].bit;
		}
		text += n;
	}
}

/* ---- chains ---- */

static bool is_cleanup(const struct conf_service *s)
{
	return s->type == SERVICE_UNIX && strcmp(s->program, "cleanup") == 0;
}

static bool is_qmgr(const struct conf_service *s)
{
	return strcmp(s->program, "qmgr") == 0 || strcmp(s->program, "oqmgr") == 0 ||
	       strcmp(s->program, "nqmgr") == 0;
}

static bool is_rewrite(const struct conf_service *s)
{
	return s->type == SERVICE_UNIX && strcmp(s->program, "trivial-rewrite") == 0;
}

/* The parameters of the service that `name` is. One that is not there is a mistake, but for the
 * usual name: the mail goes by what main.cf says, and not as was meant. */
static const struct params *service_params(const struct conf *c, const struct conf_service *by,
					   const char *param, const char *name, const char *usual,
					   bool (*is)(const struct conf_service *),
					   struct conf_diag *d)
{
	const char *file = NULL;
	unsigned line = 0;

	for (unsigned i = 0; i < conf_service_count(c); i++) {
		const struct conf_service *s = conf_service(c, i);

		if (strcmp(s->name, name) == 0 && is(s))
			return s->params;
	}
	if (strcmp(name, usual) != 0 && by != NULL) {
		conf_where(c, by, param, &file, &line);
		conf_diag_add(d, false, file, line,
			      "%s = %s: no such service in master.cf, what main.cf says applies",
			      param, name);
	}
	return conf_params(c);
}

static void check_names(const struct conf *c, struct conf_diag *d)
{
	for (unsigned i = 0; i < conf_service_count(c); i++) {
		const struct conf_service *s = conf_service(c, i);

		service_params(c, s, "cleanup_service_name", s->params->cleanup_service_name,
			       "cleanup", is_cleanup, d);
	}
}

/* Chains that resolve by the same parameters share the tables. */
static int open_router(struct rules *r, struct chain *ch, const struct params *p,
		       const struct params **router_params, struct conf_diag *d)
{
	for (unsigned i = 0; i < r->chain_count; i++) {
		if (router_params[i] != p)
			continue;
		ch->router = r->chains[i].router;
		ch->shares_router = true;
		break;
	}
	router_params[r->chain_count] = p;
	return ch->shares_router ? 0 : resolver_open(r->conf, p, &ch->router, d);
}

static int open_convert(struct chain *ch, struct conf_diag *d)
{
	if (!ch->p->force_mime_input_conversion)
		return 0;
	if (ch->p->disable_mime_input_processing) {
		conf_diag_add(d, true, NULL, 0,
			      "do not specify both disable_mime_input_processing = yes and "
			      "force_mime_input_conversion = yes");
		return E_CONFIG;
	}
	ch->convert = convert_conf_input(ch->p);
	return 0;
}

/* s: a cleanup service, or NULL for what main.cf says. */
static int chain_open(struct rules *r, const struct conf_service *s,
		      const struct params **router_params, struct conf_diag *d)
{
	const struct conf *c = r->conf;
	struct chain *ch = &r->chains[r->chain_count];
	const struct params *p = s != NULL ? s->params : r->p;
	const struct params *qp = service_params(c, s, "queue_service_name", p->queue_service_name,
						 "qmgr", is_qmgr, d);
	const struct params *rp = service_params(c, s, "rewrite_service_name",
						 p->rewrite_service_name, "rewrite", is_rewrite, d);
	const struct params *router = service_params(
		c, s, "rewrite_service_name", qp->rewrite_service_name, "rewrite", is_rewrite, d);
	int err;

	*ch = (struct chain){ .name = s != NULL ? s->name : NULL, .p = p };
	ch->log_name = conf_log_name(c, p, "cleanup");
	ch->log_qmgr = conf_log_name(c, qp, "qmgr");
	set_header_rules(p, rp, &ch->header);
	ch->detect_8bit = p->detect_8bit_encoding_header;
	ch->message_size_limit =
		p->message_size_limit > 0 ? (uint64_t)p->message_size_limit : UINT64_MAX;
	err = open_convert(ch, d);
	if (err == 0)
		err = open_router(r, ch, router, router_params, d);
	r->chain_count++; /* what is open is closed with it */
	if (err == 0)
		err = resolver_open(c, p, &ch->own, d);
	if (err == 0)
		err = mapping_open(c, p, &ch->header.addr, ch->own, &ch->mapping, d);
	ch->header.mapping = ch->mapping;
	ch->remote_mapping = err == 0 && mapping_is_remote(ch->mapping);
	if (err == 0)
		err = expander_open(c, p, &ch->header.addr, ch->own, ch->mapping, &ch->expander, d);
	if (err == 0)
		err = checks_open(c, p, &ch->checks, d);
	ch->checks.log_name = ch->log_name;
	return err;
}

static void chain_close(struct chain *ch)
{
	checks_close(&ch->checks);
	expander_close(&ch->expander);
	mapping_close(&ch->mapping);
	resolver_close(&ch->own);
	if (!ch->shares_router)
		resolver_close(&ch->router);
	convert_conf_close(&ch->convert);
	free(ch->log_name);
	free(ch->log_qmgr);
}

static int chains_open(struct rules *r, struct conf_diag *d)
{
	const struct conf *c = r->conf;
	unsigned most = conf_service_count(c) + 1;
	const struct params **router_params = xcalloc(most, sizeof(struct params *));
	int err;

	r->chains = xcalloc(most, sizeof(*r->chains));
	err = chain_open(r, NULL, router_params, d);
	for (unsigned i = 0; i < conf_service_count(c) && err == 0; i++) {
		if (is_cleanup(conf_service(c, i)))
			err = chain_open(r, conf_service(c, i), router_params, d);
	}
	free(router_params);
	check_names(c, d);
	return err;
}

const struct chain *rules_chain(const struct rules *r, struct sv cleanup)
{
	if (cleanup.len == 0)
		cleanup = SV("cleanup");
	for (unsigned i = 1; i < r->chain_count; i++) {
		if (sv_eq_str(cleanup, r->chains[i].name))
			return &r->chains[i];
	}
	return &r->chains[0];
}

/* ---- address probes ---- */

static int open_verify(struct rules *r, struct conf_diag *d)
{
	struct params *p;

	if (!verify_is_used(r->conf))
		return 0;
	p = r->verify_params = xmalloc(sizeof(*p));
	*p = *r->p;
	p->local_transport = p->address_verify_local_transport;
	p->virtual_transport = p->address_verify_virtual_transport;
	p->relay_transport = p->address_verify_relay_transport;
	p->default_transport = p->address_verify_default_transport;
	p->relayhost = p->address_verify_relayhost;
	p->transport_maps = p->address_verify_transport_maps;
	p->sender_dependent_relayhost_maps = p->address_verify_sender_dependent_relayhost_maps;
	p->sender_dependent_default_transport_maps =
		p->address_verify_sender_dependent_default_transport_maps;
	return resolver_open(r->conf, p, &r->verify_router, d);
}

struct resolver *rules_router(const struct rules *r, const struct chain *ch, struct sv verify)
{
	return verify.len > 0 && r->verify_router != NULL ? r->verify_router : ch->router;
}

int rules_open(const struct conf *c, struct rules *r, struct conf_diag *d)
{
	const struct params *p = conf_params(c);
	int err;

	*r = (struct rules){ .conf = c, .p = p };
	r->notify_classes = parse_classes(p->notify_classes, notify_words, ARRAY_LEN(notify_words));
	r->filter_classes = parse_classes(p->internal_mail_filter_classes, filter_words,
					  ARRAY_LEN(filter_words));
	snprintf(r->double_bounce, sizeof(r->double_bounce), "%s%s%s", p->double_bounce_sender,
		 strchr(p->double_bounce_sender, '@') == NULL ? "@" : "",
		 strchr(p->double_bounce_sender, '@') == NULL ? p->myorigin : "");
	bounce_texts_open(c, NULL, &r->bounce_texts, d);
	err = chains_open(r, d);
	if (err == 0)
		err = open_verify(r, d);
	if (err < 0)
		rules_close(r);
	return err;
}

void rules_close(struct rules *r)
{
	for (unsigned i = 0; i < r->chain_count; i++)
		chain_close(&r->chains[i]);
	free(r->chains);
	r->chains = NULL;
	r->chain_count = 0;
	resolver_close(&r->verify_router);
	free(r->verify_params);
	r->verify_params = NULL;
	bounce_texts_close(&r->bounce_texts);
}

bool rules_is_double_bounce(const struct rules *r, struct sv addr)
{
	return sv_eq_nocase(addr, sv_from(r->double_bounce)) ||
	       sv_eq_nocase(addr, sv_from(r->p->double_bounce_sender));
}
