/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Services of program spawn; see conf/spawn.h. */
#include "conf/spawn.h"

#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf/conf_priv.h"
#include "lib/err.h"

struct reading {
	const struct conf *c;
	struct arena *a;
	struct spawn_service *s;
	struct conf_diag *d;
	int err;
};

PRINTF_LIKE(3, 4)
static void report(struct reading *x, bool is_error, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	if (is_error)
		x->err = E_CONFIG;
	if (x->d == NULL)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	conf_diag_add(x->d, is_error, x->c->master_path, x->s->service->line, "%s: spawn: %s",
		      x->s->service->name, text);
}

static bool is_spawn(const struct conf *c, const struct service *s)
{
	return strcmp(s->pub.program, "spawn") == 0 &&
	       (s->pub.type == SERVICE_INET || s->pub.type == SERVICE_UNIX) &&
	       !service_is_disabled(c, s);
}

bool spawn_is_used(const struct conf *c)
{
	for (unsigned i = 0; i < c->service_count; i++) {
		if (is_spawn(c, &c->services[i]))
			return true;
	}
	return false;
}

static void read_address(struct reading *x)
{
	const struct conf_service *s = x->s->service;
	const char *colon = strrchr(s->name, ':'), *host = s->name;
	size_t len = colon != NULL ? (size_t)(colon - host) : 0;

	x->s->is_unix = s->type == SERVICE_UNIX;
	x->s->path = arena_printf(x->a, "%s/%s", s->is_private ? "private" : "public", s->name);
	if (len >= 2 && host[0] == '[') {
		host++;
		len -= 2;
	}
	x->s->host = arena_strndup(x->a, host, len);
	x->s->port = colon != NULL ? colon + 1 : s->name;
}

static bool find_group(const char *name, gid_t *gid_r)
{
	const struct group *gr = getgrnam(name);
	uint64_t n;

	if (gr != NULL)
		*gid_r = gr->gr_gid;
	else if (str_to_u64(sv_from(name), INT32_MAX, &n) == 0)
		*gid_r = (gid_t)n;
	else
		return false;
	return true;
}

/* "user", "user:group" */
static void read_user(struct reading *x, const char *value)
{
	struct spawn_service *s = x->s;
	const char *colon = strchr(value, ':');
	const char *name =
		colon == NULL ? value : arena_strndup(x->a, value, (size_t)(colon - value));
	const struct passwd *pw = getpwnam(name);

	s->user_text = value;
	if (pw == NULL) {
		s->problem = arena_printf(x->a, "unknown user name: %.100s", name);
		report(x, false, "%s", s->problem);
		return;
	}
	s->uid = pw->pw_uid;
	s->gid = pw->pw_gid;
	if (colon != NULL && colon[1] != '\0' && !find_group(colon + 1, &s->gid)) {
		s->problem = arena_printf(x->a, "unknown group name: %.100s", colon + 1);
		report(x, false, "%s", s->problem);
		return;
	}
	const struct passwd *owner = getpwnam(x->c->global.params.mail_owner);

	if (s->uid == 0 || s->gid == 0)
		report(x, true, "user= command-line attribute specifies root privileges");
	else if (geteuid() == 0 && owner != NULL &&
		 (s->uid == owner->pw_uid || s->gid == owner->pw_gid))
		report(x, true,
		       "user= command-line attribute specifies mail system owner privileges");
}

static void read_words(struct reading *x)
{
	const struct conf_service *s = x->s->service;
	unsigned i = 0, n = 0;

	for (; i < s->arg_count && strncmp(s->args[i], "argv=", 5) != 0; i++) {
		if (strncmp(s->args[i], "user=", 5) == 0)
			read_user(x, s->args[i] + 5);
		else
			report(x, true, "unknown attribute name: %.100s", s->args[i]);
	}
	if (x->s->user_text == NULL)
		report(x, true, "missing user= command-line attribute");
	if (i == s->arg_count || s->args[i][5] == '\0') {
		report(x, true, "missing argv= command-line attribute");
		return;
	}
	const char **argv = arena_calloc(x->a, (s->arg_count - i + 1) * sizeof(*argv));

	argv[n++] = s->args[i] + 5;
	while (++i < s->arg_count)
		argv[n++] = s->args[i];
	x->s->argv = argv;
}

static void read_limits(struct reading *x)
{
	const struct conf_service *s = x->s->service;
	int64_t maxproc = s->maxproc >= 0 ? s->maxproc : x->c->global.params.default_process_limit;
	const char *name = arena_printf(x->a, "%s_time_limit", s->name);
	const char *value = conf_get(x->c, name);

	x->s->maxproc =
		maxproc < 1 || maxproc > SPAWN_PROCESS_MAX ? SPAWN_PROCESS_MAX : (unsigned)maxproc;
	x->s->time_limit_ms = s->params->command_time_limit;
	if (value != NULL && (value_parse_time_ms(value, 's', &x->s->time_limit_ms) != 0 ||
			      x->s->time_limit_ms <= 0)) {
		report(x, true, "%s = %.60s: expected a time", name, value);
		x->s->time_limit_ms = s->params->command_time_limit;
	}
}

bool spawn_service_read(const struct conf *c, unsigned index, struct arena *a,
			struct spawn_service *s, struct conf_diag *d, int *err_r)
{
	struct reading x = { .c = c, .a = a, .s = s, .d = d };

	if (index >= c->service_count || !is_spawn(c, &c->services[index]))
		return false;
	*s = (struct spawn_service){ .service = &c->services[index].pub };
	read_address(&x);
	read_words(&x);
	read_limits(&x);
	if (x.err != 0)
		*err_r = x.err;
	return true;
}

const char **command_environment(const struct conf *c, const char *list, struct arena *a)
{
	struct sv rest = sv_from(list);
	const char **env = arena_calloc(a, (rest.len + 3) * sizeof(*env));
	size_t n = 0;

	env[n++] = "PATH=/usr/bin:/bin";
	while (rest.len > 0) {
		size_t skip = 0, len;

		while (skip < rest.len && (ascii_is_space(rest.p[skip]) || rest.p[skip] == ','))
			skip++;
		for (len = skip;
		     len < rest.len && !ascii_is_space(rest.p[len]) && rest.p[len] != ',';)
			len++;
		if (len > skip) {
			char *word = arena_strndup(a, rest.p + skip, len - skip);
			const char *value = getenv(word);

			if (strchr(word, '=') != NULL)
				env[n++] = word;
			else if (strcmp(word, "MAIL_CONFIG") == 0)
				env[n++] = arena_printf(a, "%s=%s", word, c->dir);
			else if (value != NULL)
				env[n++] = arena_printf(a, "%s=%s", word, value);
		}
		rest.p += len;
		rest.len -= len;
	}
	return env;
}
