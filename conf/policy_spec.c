/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names and options of policy services; see conf/policy_spec.h. */
#include "conf/policy_spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf_priv.h"
#include "conf/lines.h"
#include "lib/err.h"
#include "lib/util.h"

#define SEPARATORS ", \t\r\n"

/* ---- one service ---- */

struct settings {
	int64_t timeout, max_idle, max_ttl, retry_delay; /* ms */
	int64_t request_limit, try_limit;
	struct sv default_action, context;
};

enum value_kind { VALUE_TIME, VALUE_NUMBER, VALUE_TEXT };

static const struct {
	const char *name;
	enum value_kind kind;
	size_t offset;
	int64_t min;
} options[] = {
	{ "timeout", VALUE_TIME, offsetof(struct settings, timeout), 1000 },
	{ "max_idle", VALUE_TIME, offsetof(struct settings, max_idle), 1000 },
	{ "max_ttl", VALUE_TIME, offsetof(struct settings, max_ttl), 1000 },
	{ "retry_delay", VALUE_TIME, offsetof(struct settings, retry_delay), 1000 },
	{ "request_limit", VALUE_NUMBER, offsetof(struct settings, request_limit), 0 },
	{ "try_limit", VALUE_NUMBER, offsetof(struct settings, try_limit), 1 },
	{ "default_action", VALUE_TEXT, offsetof(struct settings, default_action), 0 },
	{ "policy_context", VALUE_TEXT, offsetof(struct settings, context), 0 },
};

/* Next word; {groups} are kept whole. */
static bool next_word(struct sv *rest, struct sv *word)
{
	unsigned depth = 0;
	size_t n = 0;

	while (rest->len > 0 && strchr(SEPARATORS, rest->p[0]) != NULL)
		*rest = (struct sv){ rest->p + 1, rest->len - 1 };
	for (; n < rest->len; n++) {
		if (rest->p[n] == '{')
			depth++;
		else if (rest->p[n] == '}' && depth > 0)
			depth--;
		else if (depth == 0 && strchr(SEPARATORS, rest->p[n]) != NULL)
			break;
	}
	*word = (struct sv){ rest->p, n };
	*rest = (struct sv){ rest->p + n, rest->len - n };
	return n > 0;
}

/* "{ text }": the text. False when it is not in braces. */
static bool strip_braces(struct sv *text)
{
	if (text->len < 2 || text->p[0] != '{' || text->p[text->len - 1] != '}')
		return false;
	*text = sv_trim((struct sv){ text->p + 1, text->len - 2 });
	return true;
}

static int set_number(size_t i, struct sv value, struct settings *s, char *why)
{
	char text[64];
	int64_t n;
	int err = E_SYNTAX;

	if (str_copy(text, sizeof(text), value))
		err = options[i].kind == VALUE_TIME ? value_parse_time_ms(text, 's', &n)
						    : value_parse_int(text, &n);
	if (err != 0 || n < options[i].min || n > INT32_MAX * INT64_C(1000)) {
		snprintf(why, POLICY_SPEC_WHY_SIZE, "bad value for %s: %.*s", options[i].name,
			 (int)size_min(value.len, 60), value.p);
		return E_SYNTAX;
	}
	memcpy((char *)s + options[i].offset, &n, sizeof(n));
	return 0;
}

static int set_option(struct sv word, struct settings *s, char *why)
{
	struct sv name, value;
	size_t i = 0;

	strip_braces(&word);
	const char *wrong = conf_split_nameval(word, &name, &value);

	if (wrong != NULL) {
		snprintf(why, POLICY_SPEC_WHY_SIZE, "%s: %.*s", wrong, (int)size_min(word.len, 60),
			 word.p);
		return E_SYNTAX;
	}
	while (i < ARRAY_LEN(options) && !sv_eq_str(name, options[i].name))
		i++;
	if (i == ARRAY_LEN(options)) {
		snprintf(why, POLICY_SPEC_WHY_SIZE, "unknown policy service option: %.*s",
			 (int)size_min(name.len, 60), name.p);
		return E_SYNTAX;
	}
	if (options[i].kind != VALUE_TEXT)
		return set_number(i, value, s, why);
	memcpy((char *)s + options[i].offset, &value, sizeof(value));
	return 0;
}

/* "inet:host:port" or "unix:path" in the one form that connections are made by. */
static char *make_where(const struct params *p, struct sv text, struct sv *endpoint_r)
{
	const char *colon = text.len > 0 ? memchr(text.p, ':', text.len) : NULL;

	if (colon == NULL || colon + 1 == text.p + text.len)
		return NULL;
	struct sv kind = { text.p, (size_t)(colon - text.p) };
	struct sv end = { colon + 1, text.len - kind.len - 1 };

	*endpoint_r = end;
	if (sv_eq_str(kind, "inet")) {
		if (end.p[0] == ':')
			return xasprintf("inet:localhost%.*s", (int)end.len, end.p);
		if (memchr(end.p, ':', end.len) == NULL)
			return xasprintf("inet:localhost:%.*s", (int)end.len, end.p);
		return xasprintf("inet:%.*s", (int)end.len, end.p);
	}
	if (!sv_eq_str(kind, "unix") && !sv_eq_str(kind, "local"))
		return NULL;
	return end.p[0] == '/' ? xasprintf("unix:%.*s", (int)end.len, end.p)
			       : xasprintf("unix:%s/%.*s", p->queue_directory, (int)end.len, end.p);
}

static int read_settings(struct sv *text, struct settings *s, struct sv *server_r, char *why)
{
	struct sv word;
	int err = 0;

	*server_r = *text;
	if (!strip_braces(text))
		return 0;
	if (!next_word(text, server_r)) {
		snprintf(why, POLICY_SPEC_WHY_SIZE, "empty policy service");
		return E_SYNTAX;
	}
	while (err == 0 && next_word(text, &word))
		err = set_option(word, s, why);
	return err;
}

int policy_spec_parse(const struct params *p, struct sv text, struct policy_spec **spec_r,
		      char why[POLICY_SPEC_WHY_SIZE])
{
	struct settings s = { .timeout = p->smtpd_policy_service_timeout,
			      .max_idle = p->smtpd_policy_service_max_idle,
			      .max_ttl = p->smtpd_policy_service_max_ttl,
			      .retry_delay = p->smtpd_policy_service_retry_delay,
			      .request_limit = p->smtpd_policy_service_request_limit,
			      .try_limit = p->smtpd_policy_service_try_limit,
			      .default_action = sv_from(p->smtpd_policy_service_default_action),
			      .context = sv_from(p->smtpd_policy_service_policy_context) };
	struct sv server, endpoint, rest = text;

	*spec_r = NULL;
	int err = read_settings(&rest, &s, &server, why);

	if (err != 0)
		return err;
	char *where = make_where(p, server, &endpoint);

	if (where == NULL) {
		snprintf(why, POLICY_SPEC_WHY_SIZE,
			 "need service transport:endpoint instead of \"%.*s\"",
			 (int)size_min(server.len, 100), server.p);
		return E_SYNTAX;
	}
	struct policy_spec *spec = xcalloc(1, sizeof(*spec));

	spec->name = xstrndup(text.p, text.len);
	spec->endpoint = xstrndup(endpoint.p, endpoint.len);
	spec->default_action = xstrndup(s.default_action.p, s.default_action.len);
	spec->context = xstrndup(s.context.p, s.context.len);
	spec->remote =
		xasprintf("policy:%lld %lld %lld %lld %lld %lld %s", (long long)s.timeout,
			  (long long)s.max_idle, (long long)s.max_ttl, (long long)s.retry_delay,
			  (long long)s.request_limit, (long long)s.try_limit, where);
	/* as long again in a queue, while all connections are busy */
	spec->longest_ms = s.timeout * (s.try_limit + 1) + s.retry_delay * s.try_limit;
	free(where);
	*spec_r = spec;
	return 0;
}

void policy_spec_free(struct policy_spec **sp)
{
	struct policy_spec *s;

	TAKE(s, *sp);
	if (s == NULL)
		return;
	free(s->name);
	free(s->endpoint);
	free(s->remote);
	free(s->default_action);
	free(s->context);
	free(s);
}

int policy_target_parse(const char *text, struct policy_target *out)
{
	int64_t *const fields[] = { &out->timeout_ms,     &out->idle_ms,       &out->ttl_ms,
				    &out->retry_delay_ms, &out->request_limit, &out->try_limit };

	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		size_t n = strcspn(text, " ");
		uint64_t value;

		if (str_to_u64((struct sv){ text, n }, INT64_MAX / 4, &value) != 0 ||
		    text[n] != ' ')
			return E_SYNTAX;
		*fields[i] = (int64_t)value;
		text += n + 1;
	}
	out->where = text;
	return *text != '\0' && out->try_limit > 0 ? 0 : E_SYNTAX;
}

/* ---- all services ---- */

static const char *const lists[] = {
	"smtpd_client_restrictions",      "smtpd_helo_restrictions",
	"smtpd_sender_restrictions",      "smtpd_relay_restrictions",
	"smtpd_recipient_restrictions",   "smtpd_data_restrictions",
	"smtpd_end_of_data_restrictions", "smtpd_etrn_restrictions",
};

struct walk {
	const struct conf *conf;
	const struct conf_service *service; /* NULL = main.cf */
	const struct params *params;
	map_spec_fn fn;
	void *ctx;
};

static void in_list(const struct walk *w, const char *name)
{
	const char *value = w->service != NULL ? conf_service_get(w->conf, w->service, name)
					       : conf_get(w->conf, name);
	struct sv rest = sv_from(value != NULL ? value : ""), word;

	while (next_word(&rest, &word)) {
		char why[POLICY_SPEC_WHY_SIZE];
		struct policy_spec *spec;

		if (!sv_eq_nocase(word, SV("check_policy_service")) || !next_word(&rest, &word))
			continue;
		if (policy_spec_parse(w->params, word, &spec, why) != 0)
			continue;
		w->fn(w->ctx, spec->remote);
		policy_spec_free(&spec);
	}
}

static void in_scope(struct walk w, const struct conf_service *s, const struct params *p)
{
	w.service = s;
	w.params = p;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		in_list(&w, lists[i]);
	char *classes = xstrdup(p->smtpd_restriction_classes), *save;

	for (char *name = strtok_r(classes, SEPARATORS, &save); name != NULL;
	     name = strtok_r(NULL, SEPARATORS, &save))
		in_list(&w, name);
	free(classes);
}

void policy_spec_each(const struct conf *c, map_spec_fn fn, void *ctx)
{
	struct walk w = { .conf = c, .fn = fn, .ctx = ctx };

	in_scope(w, NULL, conf_params(c));
	for (unsigned i = 0; i < conf_service_count(c); i++) {
		const struct conf_service *s = conf_service(c, i);
		const struct conf_service *stress = conf_service_stress(s);

		if (stress == NULL)
			continue;
		in_scope(w, s, s->params);
		in_scope(w, stress, stress->params);
	}
}
