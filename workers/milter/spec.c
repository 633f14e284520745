/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Milters and macros of the configuration; see workers/milter/spec.h. */
#include "workers/milter/spec.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

#include "conf/conf_priv.h"
#include "conf/map_text.h"
#include "conf/ports.h"
#include "lib/err.h"
#include "lib/util.h"

#define LIST_MAX 64u

#define V2_STEPS                                                                                   \
	(MILTER_NO_CONNECT | MILTER_NO_HELO | MILTER_NO_MAIL | MILTER_NO_RCPT | MILTER_NO_BODY |   \
	 MILTER_NO_HEADERS | MILTER_NO_EOH)
#define V3_STEPS (V2_STEPS | MILTER_NO_UNKNOWN)
#define V4_STEPS (V3_STEPS | MILTER_NO_DATA)
#define V6_STEPS                                                                                   \
	(V4_STEPS | MILTER_CAN_SKIP | MILTER_REJECTED_RCPT | MILTER_LEADING_SPACE |                \
	 MILTER_NR_HEADER | MILTER_NR_CONNECT | MILTER_NR_HELO | MILTER_NR_MAIL | MILTER_NR_RCPT | \
	 MILTER_NR_DATA | MILTER_NR_UNKNOWN | MILTER_NR_EOH | MILTER_NR_BODY)

static const struct {
	const char *word;
	uint32_t version, steps;
} protocols[] = {
	{ "6", 6, V6_STEPS },
	{ "4", 4, V4_STEPS },
	{ "3", 3, V3_STEPS },
	{ "2", 2, V2_STEPS },
	{ "no_header_reply", 0, MILTER_NR_HEADER },
};

static const char *const actions[] = { "accept", "reject", "tempfail", "quarantine", "shutdown" };

uint32_t milter_version_lacks(uint32_t version)
{
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++) {
		if (protocols[i].version > 0 && protocols[i].version <= version)
			return MILTER_NO_MASK & ~protocols[i].steps;
	}
	return MILTER_NO_MASK;
}

struct reader { /* of one list */
	const struct params *p;
	const char *param;
	bool chroot;
	struct conf_diag *d;
};

static int bad(const struct reader *r, const char *what, struct sv text)
{
	conf_diag_add(r->d, true, NULL, 0, "parameter %s: %s: \"%.*s\"", r->param, what,
		      (int)size_min(text.len, 200), text.p);
	return E_CONFIG;
}

/* ---- options ---- */

static int set_protocol(const struct reader *r, struct milter_spec *m, struct sv text)
{
	struct sv rest = text, word;
	bool group;

	m->version = m->steps = 0;
	while (map_item_next(&rest, &word, &group) > 0) {
		size_t i = 0;

		while (i < ARRAY_LEN(protocols) && !sv_eq_str(word, protocols[i].word))
			i++;
		if (i == ARRAY_LEN(protocols) || (protocols[i].version != 0 && m->version != 0))
			return bad(r, "bad milter protocol", text);
		m->version |= protocols[i].version;
		m->steps |= protocols[i].steps;
	}
	return m->version != 0 ? 0 : bad(r, "no milter protocol version", text);
}

static int set_time(const struct reader *r, int64_t *ms, struct sv value)
{
	char *text = xstrndup(value.p, value.len);
	int err = value_parse_time_ms(text, 's', ms);

	free(text);
	return err == 0 && *ms > 0 ? 0 : bad(r, "bad time of a milter", value);
}

static int set_option(const struct reader *r, struct milter_spec *m, struct sv item)
{
	struct sv value = item, name = sv_trim(sv_next_part(&value, '='));

	value = sv_trim(value);
	if (sv_eq_str(name, "connect_timeout"))
		return set_time(r, &m->connect_ms, value);
	if (sv_eq_str(name, "command_timeout"))
		return set_time(r, &m->command_ms, value);
	if (sv_eq_str(name, "content_timeout"))
		return set_time(r, &m->content_ms, value);
	if (sv_eq_str(name, "protocol"))
		return set_protocol(r, m, value);
	if (!sv_eq_str(name, "default_action"))
		return bad(r, "unknown option of a milter", item);
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		if (sv_eq_nocase(value, sv_from(actions[i]))) {
			m->on_error = (enum milter_default)i;
			return 0;
		}
	}
	return bad(r, "unknown default_action of a milter", value);
}

/* ---- addresses ---- */

static int set_path(const struct reader *r, struct milter_spec *m, struct sv path)
{
	bool below = path.p[0] != '/' || r->chroot;

	m->path = below ? xasprintf("%s%s%.*s", r->p->queue_directory, path.p[0] != '/' ? "/" : "",
				    (int)path.len, path.p)
			: xstrndup(path.p, path.len);
	return strlen(m->path) < sizeof(((struct sockaddr_un *)NULL)->sun_path)
		       ? 0
		       : bad(r, "path of a milter is too long", path);
}

static int set_port(const struct reader *r, struct milter_spec *m, struct sv text)
{
	return ports_find(text, &m->port) == 0 ? 0 : bad(r, "unknown port of a milter", text);
}

/* "host:port", "[address]:port", "port". */
static int set_host(const struct reader *r, struct milter_spec *m, struct sv text)
{
	const char *colon = memrchr(text.p, ':', text.len);
	struct sv host = { text.p, colon != NULL ? (size_t)(colon - text.p) : 0 };

	if (host.len > 2 && host.p[0] == '[' && host.p[host.len - 1] == ']')
		host = (struct sv){ host.p + 1, host.len - 2 };
	m->host = host.len > 0 ? xstrndup(host.p, host.len) : xstrdup("localhost");
	return set_port(r, m,
			colon != NULL
				? (struct sv){ colon + 1, text.len - (size_t)(colon + 1 - text.p) }
				: text);
}

static int set_address(const struct reader *r, struct milter_spec *m, struct sv text)
{
	struct sv rest = text, kind = sv_next_part(&rest, ':');

	m->name = xstrndup(text.p, text.len);
	if (rest.len == 0 || kind.len == text.len)
		return bad(r, "Milter service needs transport:endpoint instead of", text);
	if (sv_eq_str(kind, "unix") || sv_eq_str(kind, "local"))
		return set_path(r, m, rest);
	if (sv_eq_str(kind, "inet") || sv_eq_str(kind, "inet6"))
		return set_host(r, m, rest);
	return bad(r, "invalid transport name in Milter service", text);
}

/* ---- lists ---- */

static int one_milter(const struct reader *r, struct sv item, bool group, struct milter_spec *m)
{
	struct sv rest = item, word = item;
	int more = 1, err;

	*m = (struct milter_spec){ .connect_ms = r->p->milter_connect_timeout,
				   .command_ms = r->p->milter_command_timeout,
				   .content_ms = r->p->milter_content_timeout,
				   .on_error = (enum milter_default)r->p->milter_default_action };
	err = set_protocol(r, m, sv_from(r->p->milter_protocol));
	if (!group)
		return err != 0 ? err : set_address(r, m, item);
	if (map_item_next(&rest, &word, &group) <= 0)
		return bad(r, "empty milter definition", item);
	err = err != 0 ? err : set_address(r, m, word);
	while (err == 0 && (more = map_item_next(&rest, &word, &group)) > 0)
		err = set_option(r, m, word);
	return more < 0 ? bad(r, "unbalanced braces", item) : err;
}

int milter_list_parse(const struct params *p, const char *text, const char *param, bool chroot,
		      struct milter_list *l_r, struct conf_diag *d)
{
	struct reader r = { .p = p, .param = param, .chroot = chroot, .d = d };
	struct sv rest = sv_from(text), item;
	int more, err = 0;
	bool group;

	*l_r = (struct milter_list){ .specs = NULL };
	while (err == 0 && (more = map_item_next(&rest, &item, &group)) != 0) {
		if (more < 0 || l_r->count == LIST_MAX) {
			err = bad(&r, more < 0 ? "unbalanced braces" : "too many milters", rest);
			break;
		}
		l_r->specs = xrealloc(l_r->specs, (l_r->count + 1) * sizeof(*l_r->specs));
		err = one_milter(&r, item, group, &l_r->specs[l_r->count++]);
	}
	if (err != 0)
		milter_list_free(l_r);
	return err;
}

void milter_list_free(struct milter_list *l)
{
	for (size_t i = 0; i < l->count; i++) {
		free(l->specs[i].name);
		free(l->specs[i].host);
		free(l->specs[i].path);
	}
	free(l->specs);
	*l = (struct milter_list){ .specs = NULL };
}

/* ---- macros ---- */

void milter_macros_of(const struct params *p, struct milter_macros *m_r)
{
	*m_r = (struct milter_macros){
		.names = { [MILTER_AT_CONNECT] = p->milter_connect_macros,
			   [MILTER_AT_HELO] = p->milter_helo_macros,
			   [MILTER_AT_MAIL] = p->milter_mail_macros,
			   [MILTER_AT_RCPT] = p->milter_rcpt_macros,
			   [MILTER_AT_DATA] = p->milter_data_macros,
			   [MILTER_AT_END] = p->milter_end_of_data_macros,
			   [MILTER_AT_EOH] = p->milter_end_of_header_macros,
			   [MILTER_AT_UNKNOWN] = p->milter_unknown_command_macros },
		.defaults = p->milter_macro_defaults,
	};
}

/* milter_macro_defaults: "name=value", or "{ name = value }" where there are blanks. */
static bool add_default(const char *defaults, struct sv name, struct sv bare, struct buf *out)
{
	struct sv rest = sv_from(defaults), item;
	bool group;

	while (map_item_next(&rest, &item, &group) > 0) {
		struct sv value = item, key = sv_trim(sv_next_part(&value, '='));

		if (key.len > 2 && key.p[0] == '{' && key.p[key.len - 1] == '}')
			key = (struct sv){ key.p + 1, key.len - 2 };
		if (!sv_eq(key, bare))
			continue;
		milter_put_string(out, name);
		milter_put_string(out, sv_trim(value));
		return true;
	}
	return false;
}

void milter_macros_add(const char *names, const char *defaults,
		       const char *(*value)(void *ctx, const char *name), void *ctx,
		       struct buf *out)
{
	struct sv rest = sv_from(names);
	char braced[100];

	while (rest.len > 0) {
		size_t n = 0;

		while (n < rest.len && rest.p[n] != ',' && !ascii_is_space(rest.p[n]))
			n++;
		struct sv name = { rest.p, n }, bare = name;

		rest = (struct sv){ rest.p + n + (n < rest.len), rest.len - n - (n < rest.len) };
		if (n > 2 && name.p[0] == '{' && name.p[n - 1] == '}')
			bare = (struct sv){ name.p + 1, n - 2 };
		if (n == 0 || bare.len > sizeof(braced) - 3)
			continue;
		snprintf(braced, sizeof(braced), "{%.*s}", (int)bare.len, bare.p);
		const char *v = value(ctx, braced);

		if (v == NULL) {
			add_default(defaults, name, bare, out);
			continue;
		}
		milter_put_string(out, name);
		milter_put_string(out, sv_from(v));
	}
}
