/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Per-listener configuration; see workers/smtp_in/listener.h. */
#include "workers/smtp_in/listener.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/mail/envelope.h"
#include "workers/smtp_in/connector.h"
#include "workers/smtp_in/listentls.h"
#include "workers/smtp_in/sesstalk.h"

/* What each keyword needs to be on offer. */
static const struct {
	const char *word; /* in smtpd_discard_ehlo_keywords; announced in capitals */
	bool offered;     /* this version can do it */
} keywords[] = {
	[EHLO_PIPELINING] = { "pipelining", true },
	[EHLO_SIZE] = { "size", true },
	[EHLO_VRFY] = { "vrfy", true },
	[EHLO_ETRN] = { "etrn", true },
	[EHLO_STARTTLS] = { "starttls", true },
	[EHLO_AUTH] = { "auth", false },
	[EHLO_VERP] = { "verp", true },
	[EHLO_XCLIENT] = { "xclient", true },
	[EHLO_XFORWARD] = { "xforward", true },
	[EHLO_ENHANCEDSTATUSCODES] = { "enhancedstatuscodes", true },
	[EHLO_8BITMIME] = { "8bitmime", true },
	[EHLO_DSN] = { "dsn", true },
	[EHLO_SMTPUTF8] = { "smtputf8", true },
	[EHLO_CHUNKING] = { "chunking", true },
	[EHLO_REQUIRETLS] = { "requiretls", false },
	[EHLO_SILENT_DISCARD] = { "silent-discard", false },
};
_Static_assert(ARRAY_LEN(keywords) == EHLO_KEYWORD_COUNT, "a row for every keyword");

uint32_t listener_discard_mask(const char *words, struct sv *bad_r)
{
	uint32_t mask = 0;

	*bad_r = (struct sv){ "", 0 };
	while (*words != '\0') {
		size_t n = strcspn(words, ", \t\r\n");
		struct sv word = { words, n };
		bool known = n == 0;

		for (unsigned k = 0; k < EHLO_KEYWORD_COUNT && !known; k++) {
			if (sv_eq_nocase(word, sv_from(keywords[k].word))) {
				mask |= 1u << k;
				known = true;
			}
		}
		if (!known && bad_r->len == 0)
			*bad_r = word;
		words += n;
		words += *words != '\0';
	}
	return mask;
}

bool listener_ehlo_keyword(const struct listener *l, enum ehlo_keyword k, uint32_t discard,
			   char out[EHLO_LINE_SIZE])
{
	const struct params *p = l->p;

	if (!keywords[k].offered || (discard & 1u << k) != 0 ||
	    (k == EHLO_VRFY && p->disable_vrfy_command) ||
	    (k == EHLO_SMTPUTF8 && !p->smtputf8_enable))
		return false;
	if (k == EHLO_SIZE && p->message_size_limit > 0) {
		snprintf(out, EHLO_LINE_SIZE, "SIZE %lld", (long long)p->message_size_limit);
		return true;
	}
	if (k == EHLO_VERP) { /* discarded by another name than it is announced by */
		str_copy(out, EHLO_LINE_SIZE, SV("XVERP"));
		return true;
	}
	if (k == EHLO_XCLIENT || k == EHLO_XFORWARD) {
		snprintf(out, EHLO_LINE_SIZE, "%s",
			 k == EHLO_XCLIENT ? "XCLIENT NAME ADDR PROTO HELO REVERSE_NAME PORT LOGIN "
					     "DESTADDR DESTPORT"
					   : "XFORWARD NAME ADDR PROTO HELO SOURCE PORT IDENT");
		return true;
	}
	size_t n = strlen(keywords[k].word);

	for (size_t i = 0; i <= n; i++) {
		char c = keywords[k].word[i];

		out[i] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
	}
	return true;
}

void listener_discard_text(uint32_t mask, struct buf *out)
{
	static const enum ehlo_keyword order[] = {
		EHLO_8BITMIME,
		EHLO_AUTH,
		EHLO_ETRN,
		EHLO_PIPELINING,
		EHLO_SIZE,
		EHLO_VERP,
		EHLO_VRFY,
		EHLO_XCLIENT,
		EHLO_XFORWARD,
		EHLO_STARTTLS,
		EHLO_ENHANCEDSTATUSCODES,
		EHLO_DSN,
		EHLO_SMTPUTF8,
		EHLO_CHUNKING,
		EHLO_REQUIRETLS,
	};

	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		if ((mask & 1u << order[i]) == 0)
			continue;
		buf_add_c(out, ' ');
		for (const char *p = keywords[order[i]].word; *p != '\0'; p++)
			buf_add_c(out, *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p);
	}
}

static int open_matchlists(struct listener *l, const struct conf *c, struct conf_diag *d)
{
	const struct params *p = l->p;
	const struct {
		const char *name, *text;
		enum matchlist_kind kind;
		struct matchlist **list;
	} lists[] = {
		{ "smtpd_forbid_bare_newline_exclusions", p->smtpd_forbid_bare_newline_exclusions,
		  MATCHLIST_ADDRESS, &l->bare_newline_exclusions },
		{ "smtpd_client_event_limit_exceptions", p->smtpd_client_event_limit_exceptions,
		  MATCHLIST_ADDRESS, &l->limit_exceptions },
		{ l->qmqp ? "qmqpd_authorized_clients" : "smtpd_authorized_verp_clients",
		  l->qmqp ? p->qmqpd_authorized_clients : p->smtpd_authorized_verp_clients,
		  MATCHLIST_ADDRESS, &l->verp_clients },
		{ "smtpd_authorized_xclient_hosts", p->smtpd_authorized_xclient_hosts,
		  MATCHLIST_ADDRESS, &l->xclient_hosts },
		{ "smtpd_authorized_xforward_hosts", p->smtpd_authorized_xforward_hosts,
		  MATCHLIST_ADDRESS, &l->xforward_hosts },
		{ "smtpd_sasl_exceptions_networks", p->smtpd_sasl_exceptions_networks,
		  MATCHLIST_ADDRESS, &l->sasl_exceptions },
		{ "debug_peer_list", p->debug_peer_list, MATCHLIST_ADDRESS, &l->debug_peers },
		{ "smtpd_noop_commands", p->smtpd_noop_commands, MATCHLIST_STRING,
		  &l->noop_commands },
		{ "smtpd_forbidden_commands", p->smtpd_forbidden_commands, MATCHLIST_STRING,
		  &l->forbidden_commands },
	};
	int status = 0;

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		int err = matchlist_open(c, lists[i].text, lists[i].name, lists[i].kind,
					 lists[i].list, d);

		status = err != 0 ? err : status;
	}
	return status;
}

static int open_maps(struct listener *l, const struct conf *c, struct conf_diag *d)
{
	const struct params *p = l->p;
	const struct {
		const char *name, *specs;
		struct map_list **list;
	} lists[] = {
		{ "smtpd_discard_ehlo_keyword_address_maps",
		  p->smtpd_discard_ehlo_keyword_address_maps, &l->discard_maps },
		{ "smtpd_reject_filter_maps", p->smtpd_reject_filter_maps, &l->reject_filter_maps },
		{ "smtpd_reject_footer_maps", p->smtpd_reject_footer_maps, &l->reject_footer_maps },
		{ "smtpd_command_filter", p->smtpd_command_filter, &l->command_filter },
		{ "smtpd_dns_reply_filter", p->smtpd_dns_reply_filter, &l->dns_filter },
	};
	int status = 0;

	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		int err = map_list_open(c, lists[i].specs, lists[i].name, lists[i].list, d);

		status = err != 0 ? err : status;
	}
	return status;
}

/* smtpd_proxy_filter and smtpd_proxy_options. */
static int read_filter(struct listener *l, struct conf_diag *d)
{
	const char *text = l->p->smtpd_proxy_options;
	int status = 0;

	l->has_filter = l->p->smtpd_proxy_filter[0] != '\0';
	if (l->has_filter && !connector_is_address(l->p->smtpd_proxy_filter)) {
		conf_diag_add(d, true, NULL, 0,
			      "parameter smtpd_proxy_filter: \"%s\" is neither host:port nor "
			      "unix:path",
			      l->p->smtpd_proxy_filter);
		status = E_CONFIG;
	}
	for (size_t n; text += strspn(text, ", \t\r\n"), *text != '\0'; text += n) {
		n = strcspn(text, ", \t\r\n");
		if (sv_eq_nocase((struct sv){ text, n }, SV("speed_adjust"))) {
			l->speed_adjust = true;
			continue;
		}
		conf_diag_add(d, true, NULL, 0,
			      "parameter smtpd_proxy_options: unknown option \"%.*s\", expected "
			      "speed_adjust",
			      (int)n, text);
		status = E_CONFIG;
	}
	return status;
}

static const char *stress_of(const struct conf *c, const struct conf_service *s)
{
	const char *value = s != NULL ? conf_service_get(c, s, "stress") : NULL;

	return value != NULL ? value : "";
}

int listener_init(struct listener *l, const struct conf *c, const struct conf_service *s,
		  struct conf_diag *d)
{
	struct sv bad;

	*l = (struct listener){ .service = s, .p = s != NULL ? s->params : conf_params(c) };
	l->qmqp = s != NULL && strcmp(s->program, "qmqpd") == 0;
	l->cleanup = conf_cleanup_name(l->p);
	l->service_name = xstrdup(s != NULL ? s->name : "smtp");
	l->stress = stress_of(c, s);
	l->notify_mask = session_talk_classes(l->p->notify_classes);
	l->log_name = conf_log_name(c, l->p, l->qmqp ? "qmqpd" : "smtpd");
	l->discard_mask = listener_discard_mask(l->p->smtpd_discard_ehlo_keywords, &bad);
	if (bad.len > 0)
		conf_diag_add(d, false, NULL, 0,
			      "parameter smtpd_discard_ehlo_keywords: unknown keyword \"%.*s\"",
			      (int)bad.len, bad.p);
	int err = open_matchlists(l, c, d);
	int err2 = open_maps(l, c, d);
	int err3 = policy_conf_new(c, s, &l->policy, d);
	int err4 = listener_overrides(l->p, d, &l->env_flags);
	int err5 = read_filter(l, d);
	int err6 = l->qmqp ? 0 : listener_tls_new(c, l->p, d, &l->tls);

	if (l->p->smtpd_upstream_proxy_protocol[0] != '\0' &&
	    strcmp(l->p->smtpd_upstream_proxy_protocol, "haproxy") != 0) {
		conf_diag_add(d, true, NULL, 0,
			      "parameter smtpd_upstream_proxy_protocol: unknown protocol \"%s\", "
			      "expected haproxy",
			      l->p->smtpd_upstream_proxy_protocol);
		err4 = E_CONFIG;
	}
	if (l->qmqp)
		l->notify_mask = 0;
	l->sasl = l->p->smtpd_sasl_auth_enable && !l->qmqp;
	l->milters = (l->env_flags & ENVF_NO_MILTERS) == 0 && !l->qmqp &&
		     (l->p->smtpd_milter_maps[0] != '\0' ||
		      (l->p->smtpd_milters[0] != '\0' &&
		       !str_eq_nocase(l->p->smtpd_milters, "DISABLE")));

	if (err != 0 || err2 != 0 || err3 != 0 || err4 != 0 || err5 != 0 || err6 != 0) {
		listener_fini(l);
		return E_CONFIG;
	}
	return 0;
}

int listener_init_alone(struct listener *l, const struct conf *c, struct conf_diag *d)
{
	struct sv bad;

	*l = (struct listener){ .p = conf_params(c),
				.service_name = xstrdup("smtp"),
				.log_name = conf_log_name(c, conf_params(c), "smtpd"),
				.stress = "",
				.cleanup = "" };
	l->discard_mask = listener_discard_mask(l->p->smtpd_discard_ehlo_keywords, &bad);
	if (open_matchlists(l, c, d) == 0 && open_maps(l, c, d) == 0)
		return 0;
	listener_fini(l);
	return E_CONFIG;
}

int listener_init_stress(struct listener *l, const struct listener *normal, const struct conf *c,
			 struct conf_diag *d)
{
	const struct conf_service *s =
		normal->service != NULL ? conf_service_stress(normal->service) : NULL;

	if (s != NULL && conf_uses_stress(c))
		return listener_init(l, c, s, d);
	*l = *normal;
	l->borrowed = true;
	if (s != NULL) {
		l->service = s;
		l->p = s->params;
		l->stress = stress_of(c, s);
	}
	return 0;
}

void listener_fini(struct listener *l)
{
	if (l->borrowed)
		return;
	free(l->service_name);
	free(l->log_name);
	l->service_name = l->log_name = NULL;
	matchlist_close(&l->bare_newline_exclusions);
	matchlist_close(&l->limit_exceptions);
	matchlist_close(&l->noop_commands);
	matchlist_close(&l->forbidden_commands);
	matchlist_close(&l->verp_clients);
	matchlist_close(&l->xclient_hosts);
	matchlist_close(&l->xforward_hosts);
	matchlist_close(&l->sasl_exceptions);
	matchlist_close(&l->debug_peers);
	map_list_close(&l->discard_maps);
	map_list_close(&l->reject_filter_maps);
	map_list_close(&l->dns_filter);
	map_list_close(&l->reject_footer_maps);
	map_list_close(&l->command_filter);
	policy_conf_free(&l->policy);
	listener_tls_free(&l->tls);
}
