/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Values of milter macros, as Postfix gives them: by smtpd(8) for events of a session, by
 * cleanup(8) for content and for mail without a session, which knows fewer. */
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/mailaddr.h"
#include "workers/rewrite/filter.h"

static const char *forged(struct filter *f)
{
	buf_printf(&f->value, "%s [%s]%s", f->reverse, f->addr,
		   str_eq_nocase(f->name, f->reverse) ? "" : " (may be forged)");
	return buf_cstr(&f->value);
}

/* RFC 5321 writes IPv6 addresses with a prefix. */
static const char *client_addr(struct filter *f)
{
	buf_printf(&f->value, "%s%s", f->tx == NULL && strchr(f->addr, ':') != NULL ? "IPv6:" : "",
		   f->addr);
	return buf_cstr(&f->value);
}

static const char *one_of(const char *a, const char *b)
{
	return a != NULL ? a : b;
}

static const char *some(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : NULL;
}

const char *filter_macro(void *ctx, const char *name)
{
	struct filter *f = ctx;
	bool event = f->by_smtp && f->tx == NULL; /* smtpd(8) is asked */
	const struct params *p = f->conf->p;
	const struct {
		const char *name, *value;
	} macros[] = {
		{ "{daemon_name}", p->milter_macro_daemon_name },
		{ "{v}", p->milter_macro_v },
		{ "{j}", p->myhostname },
		{ "{i}", f->qid[0] != '\0' ? f->qid : NULL },
		{ "{client_port}", f->port },
		{ "{client_connections}", event ? f->connections : NULL },
		{ "{client_name}", f->name },
		{ "{client_ptr}", f->reverse },
		{ "{client_resolve}", event ? f->resolve : NULL },
		{ "{tls_version}", event ? f->tls_version : NULL },
		{ "{cipher}", event ? f->cipher : NULL },
		{ "{cipher_bits}", event ? f->cipher_bits : NULL },
		{ "{cert_subject}", event ? some(f->cert_subject) : NULL },
		{ "{cert_issuer}", event ? some(f->cert_issuer) : NULL },
		{ "{daemon_addr}", f->own_addr },
		{ "{daemon_port}", f->own_port },
		{ "{auth_type}", f->auth_type },
		{ "{auth_authen}", f->auth_authen },
		{ "{auth_author}", f->auth_author },
		{ "{mail_addr}", event || !f->by_smtp ? f->mail_addr : NULL },
		{ "{mail_host}", event ? f->mail_host : NULL },
		{ "{mail_mailer}", event ? f->mail_mailer : NULL },
		{ "{rcpt_addr}",
		  event || !f->by_smtp ? one_of(f->rcpt_addr, f->first_addr) : NULL },
		{ "{rcpt_host}", event ? one_of(f->rcpt_host, f->first_host) : NULL },
		{ "{rcpt_mailer}", event ? one_of(f->rcpt_mailer, f->first_mailer) : NULL },
	};

	buf_reset(&f->value);
	if (strcmp(name, "{_}") == 0)
		return forged(f);
	if (strcmp(name, "{client_addr}") == 0)
		return client_addr(f);
	for (size_t i = 0; i < ARRAY_LEN(macros); i++) {
		if (strcmp(name, macros[i].name) == 0)
			return macros[i].value;
	}
	return NULL;
}

static void set(char **to, struct sv value)
{
	free(*to);
	*to = xstrndup(value.p, value.len);
}

static int route_of(struct filter *f, struct sv sender, struct sv addr, struct arena *a,
		    struct route *route_r)
{
	struct map_memo *memo = f->memo;
	int err;

	if (memo != NULL)
		map_memo_enter(memo);
	err = resolve(f->r->rules.chains[0].router, sender, addr, SV(""), a, route_r);
	return memo != NULL && map_memo_leave() ? E_AGAIN : err;
}

bool filter_resolve(struct filter *f, struct sv sender, struct sv addr, char **addr_r,
		    char **host_r, char **mailer_r)
{
	struct route route = { .transport = SV(""), .nexthop = SV("") };
	struct buf full = BUF_INIT;
	struct arena a;
	int err;

	arena_init(&a, 4096, 1u << 20);
	buf_add_sv(&full, addr.len > 0 ? addr : SV("MAILER-DAEMON"));
	if (memchr(full.p, '@', full.len) == NULL)
		buf_printf(&full, "@%s", f->conf->p->myorigin);
	if (f->memo == NULL && map_remote_is_used())
		f->memo = map_memo_new();
	err = route_of(f, sender, buf_sv(&full), &a, &route);
	if (err != E_AGAIN) {
		struct buf quoted = BUF_INIT;

		mail_addr_quote(buf_sv(&full), &quoted);
		set(addr_r, addr.len > 0 ? buf_sv(&quoted) : SV(""));
		set(host_r, route.nexthop);
		set(mailer_r, route.transport);
		buf_fini(&quoted);
	}
	arena_fini(&a);
	buf_fini(&full);
	return err != E_AGAIN;
}
