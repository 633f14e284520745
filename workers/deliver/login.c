/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logins of a transport; see workers/deliver/login.h. */
#include "workers/deliver/login.h"

#include <stdlib.h>
#include <string.h>

#include "conf/sasl.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/deliver/saslmech.h"

struct texts { /* of parameters */
	const char *type, *filter, *filter_param, *maps;
	const char *options[CLIENT_SECURITY_COUNT], *option_params[CLIENT_SECURITY_COUNT];
};

/* The two families have the same parameters under two prefixes. */
#define READ_FAMILY(prefix)                                                                        \
	do {                                                                                       \
		enabled = p->prefix##_sasl_auth_enable;                                            \
		t->type = p->prefix##_sasl_type;                                                   \
		t->maps = p->prefix##_sasl_password_maps;                                          \
		t->filter = p->prefix##_sasl_mechanism_filter;                                     \
		t->filter_param = #prefix "_sasl_mechanism_filter";                                \
		t->options[CLIENT_IN_CLEAR] = p->prefix##_sasl_security_options;                   \
		t->options[CLIENT_ENCRYPTED] = p->prefix##_sasl_tls_security_options;              \
		t->options[CLIENT_VERIFIED] = p->prefix##_sasl_tls_verified_security_options;      \
		t->option_params[CLIENT_IN_CLEAR] = #prefix "_sasl_security_options";              \
		t->option_params[CLIENT_ENCRYPTED] = #prefix "_sasl_tls_security_options";         \
		t->option_params[CLIENT_VERIFIED] = #prefix "_sasl_tls_verified_security_options"; \
		lc->param = #prefix "_sasl_password_maps";                                         \
		lc->delimiter = p->prefix##_sasl_password_result_delimiter[0];                     \
		lc->client.soft_bounce = p->prefix##_sasl_auth_soft_bounce;                        \
		lc->client.mail_auth = p->prefix##_send_dummy_mail_auth;                           \
		lc->client.service = #prefix;                                                      \
		lc->cache = p->prefix##_sasl_auth_cache_name;                                      \
		lc->cache_age_s = p->prefix##_sasl_auth_cache_time / 1000;                         \
	} while (0)

/* False: nobody logs in. */
static bool read_params(struct login_conf *lc, const struct params *p, bool lmtp, struct texts *t)
{
	bool enabled;

	if (lmtp)
		READ_FAMILY(lmtp);
	else
		READ_FAMILY(smtp);
	lc->by_sender = !lmtp && p->smtp_sender_dependent_authentication;
	lc->client.authzid = p->send_cyrus_sasl_authzid;
	lc->recipient_delimiter = p->recipient_delimiter;
	lc->myorigin = p->myorigin;
	return enabled;
}

/* A table that cannot be asked lets nothing pass: the mail waits. */
static bool passes(void *ctx, struct sv mechanism)
{
	const struct login_conf *lc = ctx;

	return matchlist_has_string(lc->filter, mechanism) > 0;
}

static int check(const struct login_conf *lc, const struct texts *t, struct conf_diag *d)
{
	if (strcmp(t->type, "cyrus") != 0) {
		conf_diag_add(d, true, NULL, 0, "unsupported SASL client implementation: %s",
			      t->type);
		return E_CONFIG;
	}
	if (map_list_is_empty(lc->maps)) {
		conf_diag_add(d, true, NULL, 0,
			      "specify a password table via the `%s' configuration parameter",
			      lc->param);
		return E_CONFIG;
	}
	return 0;
}

static int open_lists(const struct conf *c, const struct params *p, const struct texts *t,
		      struct login_conf *lc, struct conf_diag *d)
{
	int err = map_list_open(c, t->maps, lc->param, &lc->maps, d);

	if (err == 0)
		err = check(lc, t, d);
	for (unsigned i = 0; err == 0 && i < CLIENT_SECURITY_COUNT; i++)
		err = sasl_options_parse(t->options[i], t->option_params[i], &lc->client.options[i],
					 d);
	if (err == 0 && t->filter[0] != '\0') {
		err = matchlist_open(c, t->filter, t->filter_param, MATCHLIST_STRING, &lc->filter,
				     d);
		lc->client.passes = passes;
		lc->client.ctx = lc;
	}
	if (err == 0 && lc->by_sender)
		err = matchlist_open(c, p->mydestination, "mydestination", MATCHLIST_DOMAIN,
				     &lc->local, d);
	return err;
}

int login_conf_open(const struct conf *c, const struct conf_transport *ct, struct login_conf **lc_r,
		    struct conf_diag *d)
{
	struct login_conf *lc;
	struct texts t;
	int err = 0;

	*lc_r = NULL;
	if (ct->kind != TRANSPORT_SMTP && ct->kind != TRANSPORT_LMTP)
		return 0;
	lc = xcalloc(1, sizeof(*lc));
	if (read_params(lc, ct->params, ct->kind == TRANSPORT_LMTP, &t)) {
		err = open_lists(c, ct->params, &t, lc, d);
		if (err == 0) {
			lc->remote = map_list_is_remote(lc->maps) ||
				     (lc->local != NULL && matchlist_is_remote(lc->local));
			*lc_r = lc;
			return 0;
		}
	}
	login_conf_close(&lc);
	return err;
}

void login_conf_close(struct login_conf **lcp)
{
	struct login_conf *lc = *lcp;

	*lcp = NULL;
	if (lc == NULL)
		return;
	map_list_close(&lc->maps);
	matchlist_close(&lc->local);
	matchlist_close(&lc->filter);
	free(lc);
}

static enum map_status ask_sender(const struct login_conf *lc, struct sv sender, struct buf *value)
{
	struct sv local, domain, ext;
	int bare;

	mail_addr_split(sender, &local, &domain);
	bare = sv_eq_nocase(domain, sv_from(lc->myorigin))
		       ? 1
		       : matchlist_has_domain(lc->local, domain);
	if (bare < 0)
		return MAP_ERROR;
	return map_list_get_addr(lc->maps, sender, lc->recipient_delimiter, bare > 0, value, &ext);
}

enum map_status login_find(const struct login_conf *lc, struct sv sender, const char *host,
			   const char *nexthop, struct buf *user, struct buf *password)
{
	enum map_status st = MAP_NOT_FOUND;
	struct buf value = BUF_INIT;
	const char *at;

	if (lc->by_sender && sender.len > 0)
		st = ask_sender(lc, sender, &value);
	if (st == MAP_NOT_FOUND)
		st = map_list_get(lc->maps, sv_from(host), &value);
	if (st == MAP_NOT_FOUND)
		st = map_list_get(lc->maps, sv_from(nexthop), &value);
	if (st == MAP_FOUND) {
		/* only the first delimiter counts: there may be more in the password */
		at = memchr(buf_cstr(&value), lc->delimiter, value.len);
		buf_reset(user);
		buf_reset(password);
		if (at == NULL) {
			buf_add_sv(user, buf_sv(&value));
		} else {
			buf_add(user, value.p, (size_t)(at - value.p));
			buf_add(password, at + 1, value.len - (size_t)(at + 1 - value.p));
		}
	}
	sasl_wipe(&value);
	return st;
}
