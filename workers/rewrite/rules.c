/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Configuration of the rewrite worker; see workers/rewrite/rules.h. */
#include "workers/rewrite/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

static void set_header_rules(const struct params *p, struct header_rules *h)
{
	*h = (struct header_rules){
		.addr = { .myorigin = sv_from(p->myorigin),
			  .mydomain = sv_from(p->mydomain),
			  .append_at_myorigin = p->append_at_myorigin,
			  .append_dot_mydomain = p->append_dot_mydomain,
			  .swap_bangpath = p->swap_bangpath,
			  .allow_percent_hack = p->allow_percent_hack },
		.myhostname = sv_from(p->myhostname),
		.remote_domain = sv_from(p->remote_header_rewrite_domain),
		.undisclosed = sv_from(p->undisclosed_recipients_header),
		.always_add_missing = p->always_add_missing_headers,
		.obsolete_from = p->header_from_format == HEADER_FROM_OBSOLETE,
		.name_charset = p->full_name_encoding_charset,
		.size_limit = (size_t)p->header_size_limit,
		.hopcount_limit = (unsigned)p->hopcount_limit,
	};
	header_drop_list(p->message_drop_headers, h);
}

static unsigned parse_notify_classes(const char *text)
{
	static const struct {
		struct sv name;
		unsigned bit;
	} words[] = {
		{ { "bounce", 6 }, NOTIFY_CLASS_BOUNCE },
		{ { "2bounce", 7 }, NOTIFY_CLASS_2BOUNCE },
		{ { "delay", 5 }, NOTIFY_CLASS_DELAY },
	};
	unsigned bits = 0;

	for (;;) {
		size_t n;

		text += strspn(text, ", \t\r\n");
		n = strcspn(text, ", \t\r\n");
		if (n == 0)
			return bits;
		for (size_t i = 0; i < ARRAY_LEN(words); i++) {
			if (sv_eq_nocase(words[i].name, (struct sv){ text, n }))
				bits |= words[i].bit;
		}
		text += n;
	}
}

static bool is_cleanup(const struct conf_service *s)
{
	return s->type == SERVICE_UNIX && strcmp(s->program, "cleanup") == 0;
}

/* A name that nobody has is a mistake: the mail would go without the checks that were meant. */
static void check_names(const struct conf *c, struct conf_diag *d)
{
	for (unsigned i = 0; i < conf_service_count(c); i++) {
		const struct conf_service *s = conf_service(c, i), *chain;
		const char *name = conf_cleanup_name(s->params), *file = NULL;
		unsigned line = 0;

		chain = *name != '\0' ? conf_service_find(c, name, SERVICE_UNIX) : NULL;
		if (*name == '\0' || (chain != NULL && is_cleanup(chain)))
			continue;
		conf_where(c, s, "cleanup_service_name", &file, &line);
		conf_diag_add(
			d, false, file, line,
			"cleanup_service_name = %s: no such cleanup service in master.cf, the "
			"checks of main.cf apply",
			name);
	}
}

static int chains_open(struct rules *r, struct conf_diag *d)
{
	const struct conf *c = r->conf;
	int err = 0;

	r->chains = xcalloc(conf_service_count(c) + 1, sizeof(*r->chains));
	for (unsigned i = 0; i < conf_service_count(c) && err == 0; i++) {
		const struct conf_service *s = conf_service(c, i);

		if (!is_cleanup(s))
			continue;
		err = checks_open(c, s->params, &r->chains[r->chain_count].checks, d);
		r->chains[r->chain_count].name = s->name;
		r->chain_count += err == 0;
	}
	check_names(c, d);
	return err;
}

const struct checks *rules_checks(const struct rules *r, struct sv cleanup)
{
	if (cleanup.len == 0)
		cleanup = SV("cleanup");
	for (unsigned i = 0; i < r->chain_count; i++) {
		if (sv_eq_str(cleanup, r->chains[i].name))
			return &r->chains[i].checks;
	}
	return &r->checks;
}

int rules_open(const struct conf *c, struct rules *r, struct conf_diag *d)
{
	const struct params *p = conf_params(c);
	int err;

	*r = (struct rules){ .conf = c, .p = p };
	set_header_rules(p, &r->header);
	r->detect_8bit = p->detect_8bit_encoding_header;
	r->message_size_limit =
		p->message_size_limit > 0 ? (uint64_t)p->message_size_limit : UINT64_MAX;
	r->notify_classes = parse_notify_classes(p->notify_classes);
	snprintf(r->double_bounce, sizeof(r->double_bounce), "%s%s%s", p->double_bounce_sender,
		 strchr(p->double_bounce_sender, '@') == NULL ? "@" : "",
		 strchr(p->double_bounce_sender, '@') == NULL ? p->myorigin : "");
	bounce_texts_open(c, NULL, &r->bounce_texts, d);
	err = resolver_open(c, &r->resolver, d);
	if (err == 0)
		err = mapping_open(c, &r->header.addr, r->resolver, &r->mapping, d);
	r->header.mapping = r->mapping;
	r->remote_mapping = err == 0 && mapping_is_remote(r->mapping);
	if (err == 0)
		err = expander_open(c, &r->header.addr, r->resolver, r->mapping, &r->expander, d);
	if (err == 0)
		err = checks_open(c, p, &r->checks, d);
	if (err == 0)
		err = chains_open(r, d);
	if (err < 0)
		rules_close(r);
	return err;
}

void rules_close(struct rules *r)
{
	for (unsigned i = 0; i < r->chain_count; i++)
		checks_close(&r->chains[i].checks);
	free(r->chains);
	r->chains = NULL;
	r->chain_count = 0;
	bounce_texts_close(&r->bounce_texts);
	checks_close(&r->checks);
	expander_close(&r->expander);
	mapping_close(&r->mapping);
	resolver_close(&r->resolver);
}

bool rules_is_double_bounce(const struct rules *r, struct sv addr)
{
	return sv_eq_nocase(addr, sv_from(r->double_bounce)) ||
	       sv_eq_nocase(addr, sv_from(r->p->double_bounce_sender));
}
