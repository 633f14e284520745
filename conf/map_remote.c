/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tables that another process asks, and memos of their answers; see conf/map_remote.h. */
#include "conf/map_remote.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map_impl.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/log.h"

struct answer {
	bool known;
	enum map_status status;
	char *value; /* NUL-terminated heap; NULL when there is none */
	size_t value_len;
	size_t spec_len, key_len;
	char text[]; /* "spec\0key\0" */
};

struct map_memo {
	struct strmap *by_text; /* spec, NUL and key -> struct answer */
	struct answer **list;
	size_t count, cap;
	size_t missing_from; /* answers from here on are not known */
	size_t bytes;
	bool missing; /* since map_memo_enter() */
};

static struct map_memo *entered;
static unsigned opened;
static map_remote_fn direct_fn;
static void *direct_ctx;

/* ---- memos ---- */

struct map_memo *map_memo_new(void)
{
	struct map_memo *m = xcalloc(1, sizeof(*m));

	m->by_text = strmap_new();
	return m;
}

void map_memo_free(struct map_memo **mp)
{
	struct map_memo *m;

	TAKE(m, *mp);
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->count; i++) {
		free(m->list[i]->value);
		free(m->list[i]);
	}
	free(m->list);
	strmap_free(&m->by_text);
	free(m);
}

void map_memo_enter(struct map_memo *m)
{
	ASSERT(entered == NULL);
	m->missing = m->missing_from != m->count;
	entered = m;
}

bool map_memo_leave(void)
{
	struct map_memo *m = entered;

	ASSERT(m != NULL);
	entered = NULL;
	return m->missing;
}

bool map_memo_is_missing(void)
{
	return entered != NULL && entered->missing;
}

size_t map_memo_missing_count(const struct map_memo *m)
{
	return m->count - m->missing_from;
}

static struct answer *missing_at(const struct map_memo *m, size_t index)
{
	ASSERT(index < map_memo_missing_count(m));
	return m->list[m->missing_from + index];
}

void map_memo_missing(const struct map_memo *m, size_t index, const char **spec_r, struct sv *key_r)
{
	const struct answer *a = missing_at(m, index);

	*spec_r = a->text;
	*key_r = (struct sv){ a->text + a->spec_len + 1, a->key_len };
}

void map_memo_answer(struct map_memo *m, size_t index, enum map_status status, struct sv value)
{
	struct answer *a = missing_at(m, index);

	if (a->known)
		return;
	a->known = true;
	a->status = status;
	if (status == MAP_FOUND) {
		a->value = xstrndup(value.p, value.len);
		a->value_len = value.len;
		m->bytes += value.len;
	}
}

void map_memo_answered(struct map_memo *m)
{
	for (size_t i = m->missing_from; i < m->count; i++)
		ASSERT(m->list[i]->known);
	m->missing_from = m->count;
}

/* Note that the answer is wanted. False: the memo is full. */
static bool want(struct map_memo *m, struct sv text, size_t spec_len)
{
	size_t size = sizeof(struct answer) + text.len + 1;

	if (m->bytes + size > MAP_MEMO_MAX_BYTES)
		return false;
	struct answer *a = xcalloc(1, size);

	memcpy(a->text, text.p, text.len);
	a->spec_len = spec_len;
	a->key_len = text.len - spec_len - 1;
	if (m->count == m->cap) {
		m->cap = m->cap == 0 ? 16 : m->cap * 2;
		m->list = xrealloc(m->list, m->cap * sizeof(struct answer *));
	}
	m->list[m->count++] = a;
	m->bytes += size;
	strmap_put(m->by_text, (struct sv){ a->text, text.len }, a);
	return true;
}

static enum map_status ask_memo(struct map_memo *m, const char *spec, struct sv key,
				struct buf *out)
{
	struct buf text = BUF_INIT;

	buf_add_str(&text, spec);
	buf_add_c(&text, '\0');
	buf_add_sv(&text, key);
	const struct answer *a = strmap_get(m->by_text, buf_sv(&text));
	enum map_status status = MAP_ERROR;

	if (a != NULL && a->known)
		status = a->status;
	else if (a != NULL || want(m, buf_sv(&text), strlen(spec)))
		m->missing = true;
	if (status == MAP_FOUND && !buf_add(out, a->value, a->value_len))
		status = MAP_ERROR;
	buf_fini(&text);
	return status;
}

/* ---- tables ---- */

int map_remote_open(struct map_open *o)
{
	if (o->name[0] == '\0')
		return map_open_fail(o, E_CONFIG, "needs the name of a server or of a file");
	o->impl = xasprintf("%s:%s", o->type, o->name);
	opened++;
	return 0;
}

void map_remote_will_ask(void)
{
	opened++;
}

enum map_status map_remote_get(void *impl, struct sv key, struct buf *out)
{
	return map_remote_ask(impl, key, out);
}

enum map_status map_remote_ask(const char *spec, struct sv key, struct buf *out)
{
	enum map_status status = MAP_ERROR;

	if (entered != NULL)
		status = ask_memo(entered, spec, key, out);
	else if (direct_fn != NULL)
		status = direct_fn(direct_ctx, spec, key, out);
	return status;
}

bool map_memo_is_entered(void)
{
	return entered != NULL;
}

bool map_remote_is_used(void)
{
	return opened > 0;
}

void map_remote_set_direct(map_remote_fn fn, void *ctx)
{
	direct_fn = fn;
	direct_ctx = ctx;
}

/* Look-ups are made in pieces of work that can wait and be done again, but in these. */
const char *map_remote_refusal(const char *param_name)
{
	static const char each_line[] =
		"it would be asked for each line of every message: use pcre, regexp or cidr";
	static const char each_reply[] = "it would be asked for each line of a dialogue";
	static const char old_form[] = "use smtp_tls_policy_maps, which may be one";
	static const char handshake[] = "handshakes do not wait";
	static const char program[] = "programs of users ask it, which reach no servers";
	static const struct {
		const char *param, *why;
	} refused[] = {
		{ "authorized_flush_users", program },
		{ "authorized_mailq_users", program },
		{ "authorized_submit_users", program },
		{ "body_checks", each_line },
		{ "default_delivery_status_filter", each_reply },
		{ "domain", "one table would wait for another" }, /* of a remote table */
		{ "header_checks", each_line },
		{ "lmtp_body_checks", each_line },
		{ "lmtp_delivery_status_filter", each_reply },
		{ "lmtp_discard_lhlo_keyword_address_maps", each_reply },
		{ "lmtp_dns_reply_filter", each_reply },
		{ "lmtp_header_checks", each_line },
		{ "lmtp_mime_header_checks", each_line },
		{ "lmtp_nested_header_checks", each_line },
		{ "lmtp_reply_filter", each_reply },
		{ "postscreen_dnsbl_reply_map", each_reply },
		{ "lmtp_sasl_mechanism_filter", each_reply },
		{ "lmtp_tls_loglevel_maps", handshake },
		{ "lmtp_tls_per_site", old_form },
		{ "local_delivery_status_filter", each_reply },
		{ "local_login_sender_maps", program },
		{ "milter_header_checks", each_line },
		{ "mime_header_checks", each_line },
		{ "nested_header_checks", each_line },
		{ "pipe_delivery_status_filter", each_reply },
		{ "postscreen_command_filter", each_reply },
		{ "postscreen_discard_ehlo_keyword_address_maps", each_reply },
		{ "postscreen_forbidden_commands", each_reply },
		{ "postscreen_reject_footer_maps", each_reply },
		{ "postscreen_tls_loglevel_maps", handshake },
		{ "smtp_body_checks", each_line },
		{ "smtp_delivery_status_filter", each_reply },
		{ "smtp_discard_ehlo_keyword_address_maps", each_reply },
		{ "smtp_dns_reply_filter", each_reply },
		{ "smtp_header_checks", each_line },
		{ "smtp_mime_header_checks", each_line },
		{ "smtp_nested_header_checks", each_line },
		{ "smtp_reply_filter", each_reply },
		{ "smtp_sasl_mechanism_filter", each_reply },
		{ "smtp_tls_loglevel_maps", handshake },
		{ "smtp_tls_per_site", old_form },
		{ "tls_server_sni_maps", handshake },
		{ "smtpd_command_filter", each_reply },
		{ "smtpd_dns_reply_filter", each_reply },
		{ "smtpd_forbidden_commands", each_reply },
		{ "smtpd_milter_maps", "it is asked when a session's milters are" },
		{ "smtpd_noop_commands", each_reply },
		{ "smtpd_reject_filter_maps", each_reply },
		{ "smtpd_reject_footer_maps", each_reply },
		{ "smtpd_tls_loglevel_maps", handshake },
		{ "use_srv_lookup", each_reply },
		{ "virtual_delivery_status_filter", each_reply },
	};

	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		if (strcmp(refused[i].param, param_name) == 0)
			return refused[i].why;
	}
	return NULL;
}
