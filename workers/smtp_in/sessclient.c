/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who the client of a session is, and what the configuration and its tables say of it before it is
 * greeted. Called by the session machine (session.c) and XCLIENT. */
#include <stdlib.h>

#include "conf/map_remote.h"
#include "lib/log.h"
#include "workers/smtp_in/session.h"
#include "workers/smtp_in/sesstalk.h"

static void set_newline_rules(struct session *s)
{
	static const struct {
		bool strict, reject, note;
	} rules[] = {
		[BARE_NEWLINE_NO] = { false, false, false },
		[BARE_NEWLINE_YES] = { true, false, false },
		[BARE_NEWLINE_NORMALIZE] = { true, false, false },
		[BARE_NEWLINE_REJECT] = { true, true, false },
		[BARE_NEWLINE_NOTE] = { false, false, true },
	};
	int word = s->listener->p->smtpd_forbid_bare_newline;

	ASSERT(word >= 0 && (size_t)word < ARRAY_LEN(rules));
	if (matchlist_has_ip(s->listener->bare_newline_exclusions, s->addr) > 0)
		word = BARE_NEWLINE_NO;
	s->strict_newline = rules[word].strict;
	s->reject_newline = rules[word].reject;
	s->note_newline = rules[word].note;
}

static void set_discard_mask(struct session *s)
{
	struct buf words = BUF_INIT;
	struct sv bad;

	s->discard_mask = s->listener->discard_mask;
	if (!map_list_is_empty(s->listener->discard_maps)) {
		enum map_status st =
			map_list_get(s->listener->discard_maps, sv_from(s->addr), &words);

		if (st == MAP_FOUND)
			s->discard_mask = listener_discard_mask(buf_cstr(&words), &bad);
		else if (st == MAP_ERROR) /* offer too little rather than too much */
			s->discard_mask = UINT32_MAX;
	}
	buf_fini(&words);
}

/* Whose word about other clients counts; never in a session of sendmail -bs. */
static void set_trust(struct session *s)
{
	const struct listener *l = s->listener;
	bool alone = l->policy == NULL;

	s->xclient_allowed =
		!alone && matchlist_has_client(l->xclient_hosts, sv_from(s->name), s->addr) > 0;
	if (!s->greeted) /* XCLIENT does not take that away, as in Postfix */
		s->xforward_allowed = !alone && matchlist_has_client(l->xforward_hosts,
								     sv_from(s->name), s->addr) > 0;
	s->limits_exempt = s->limits_exempt || s->xclient_allowed;
}

void session_name_known(struct session *s, const char *name, enum policy_name_status name_status,
			const char *reverse, enum policy_name_status reverse_status)
{
	log_speak_as(s->listener->log_name);
	free(s->name);
	free(s->reverse_name);
	free(s->namaddr);
	s->name = xstrdup(name != NULL ? name : "unknown");
	s->reverse_name = xstrdup(reverse != NULL ? reverse : "unknown");
	s->namaddr = (s->listener->qmqp ? s->listener->p->qmqpd_client_port_logging
					: s->listener->p->smtpd_client_port_logging)
			     ? xasprintf("%s[%s]:%s", s->name, s->addr, s->port)
			     : xasprintf("%s[%s]", s->name, s->addr);
	s->name_status = name_status;
	s->reverse_status = reverse_status;
	s->client_known = false;
}

static void ask_about_client(struct session *s)
{
	const struct policy_view v = { .client_addr = s->addr };

	set_newline_rules(s);
	set_discard_mask(s);
	s->limits_exempt = matchlist_has_ip(s->listener->limit_exceptions, s->addr) > 0;
	set_trust(s);
	s->auth_hidden =
		s->listener->sasl_exceptions != NULL &&
		matchlist_has_client(s->listener->sasl_exceptions, sv_from(s->name), s->addr) != 0;
	s->verbose = matchlist_has_client(s->listener->debug_peers, sv_from(s->name), s->addr) > 0;
	s->may_verp = matchlist_has_client(s->listener->verp_clients, sv_from(s->name), s->addr);
	s->is_local =
		s->listener->policy == NULL ? 0 : policy_is_local_rewrite(s->listener->policy, &v);
}

/* What tables say of the client, whatever it will say: asked once, before the greeting. False:
 * remote tables are asked, and session_greet() comes again. */
bool session_client_is_known(struct session *s)
{
	bool missing = !s->client_known;

	if (missing && s->client_memo == NULL && map_remote_is_used() && s->ops->tables != NULL)
		s->client_memo = map_memo_new();
	while (missing) {
		if (s->client_memo != NULL)
			map_memo_enter(s->client_memo);
		ask_about_client(s);
		missing = s->client_memo != NULL && map_memo_leave();
		if (!missing)
			break;
		s->wait = WAIT_TABLES;
		s->tables_query = s->ops->tables(s->ops->ctx, s, s->client_memo);
		if (s->tables_query != NULL)
			return false;
		s->wait = WAIT_NONE;
	}
	s->client_known = true;
	session_talk_begin(s);
	map_memo_free(&s->client_memo);
	return true;
}
