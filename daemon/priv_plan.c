/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading a plan; see daemon/priv_plan.h. Called by priv. */
#include "daemon/priv_plan.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/buf.h"
#include "lib/err.h"
#include "lib/io.h"

#define PLAN_MAX_BYTES 65536

static int finish_listener(struct plan *plan, const char *class_name)
{
	static const struct {
		const char *name;
		enum worker_class class_id;
	} classes[] = {
		{ "smtpd", CLASS_SMTP_IN },
		{ "stats", CLASS_STATS },
		{ "showq", CLASS_SHOWQ },
		{ "spawn", CLASS_SPAWN },
	};

	for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
		if (strcmp(classes[i].name, class_name) != 0)
			continue;
		plan->listeners[plan->listener_count++].class_id = classes[i].class_id;
		return 0;
	}
	return E_SYNTAX;
}

static int add_listener(struct plan *plan, const char *rest)
{
	struct plan_listener *l = &plan->listeners[plan->listener_count];
	char class_name[16];
	unsigned port;

	if (plan->listener_count == PLAN_MAX_LISTENERS)
		return E_LIMIT;
	if (sscanf(rest, "%15s %u %63s %u", class_name, &l->index, l->address, &port) != 4 ||
	    port > 65535 || strchr(l->address, '/') != NULL)
		return E_SYNTAX;
	l->port = (uint16_t)port;
	return finish_listener(plan, class_name);
}

/* Its file lies in one of the directories that are root's: nobody else can have put a link there.
 */
static int add_unix_listener(struct plan *plan, const char *rest)
{
	struct plan_listener *l = &plan->listeners[plan->listener_count];
	char class_name[16], name[PLAN_ADDRESS_SIZE];

	if (plan->listener_count == PLAN_MAX_LISTENERS)
		return E_LIMIT;
	if (sscanf(rest, "%15s %u %107s", class_name, &l->index, name) != 3 ||
	    (strncmp(name, "public/", 7) != 0 && strncmp(name, "private/", 8) != 0) ||
	    strchr(strchr(name, '/') + 1, '/') != NULL)
		return E_SYNTAX;
	if (snprintf(l->address, sizeof(l->address), "%s/%s", plan->queue_dir, name) >=
	    (int)sizeof(l->address))
		return E_LIMIT;
	l->port = 0;
	return finish_listener(plan, class_name);
}

static int parse_line(struct plan *plan, const char *line)
{
	const struct {
		const char *key;
		char *dst;
	} paths[] = {
		{ "conf ", plan->conf_dir },
		{ "queue ", plan->queue_dir },
		{ "libexec ", plan->libexec_dir },
		{ "posthaste ", plan->posthaste },
	};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		size_t n = strlen(paths[i].key);

		if (strncmp(line, paths[i].key, n) == 0)
			return str_copy(paths[i].dst, PATH_MAX, sv_from(line + n)) ? 0 : E_LIMIT;
	}
	if (strncmp(line, "listen-unix ", 12) == 0)
		return add_unix_listener(plan, line + 12);
	if (strncmp(line, "listen ", 7) == 0)
		return add_listener(plan, line + 7);
	return E_SYNTAX;
}

int plan_read(int fd, struct plan *plan)
{
	struct buf text = BUF_INIT;
	char chunk[4096];
	ssize_t n;
	int err = 0;

	memset(plan, 0, sizeof(*plan));
	while ((n = pread(fd, chunk, sizeof(chunk), (off_t)text.len)) > 0 &&
	       text.len < PLAN_MAX_BYTES)
		buf_add(&text, chunk, (size_t)n);
	char *save = NULL;

	if (text.len > 0) {
		for (char *line = strtok_r(text.p, "\n", &save); line != NULL && err == 0;
		     line = strtok_r(NULL, "\n", &save))
			err = parse_line(plan, line);
	}
	if (err == 0 && (plan->queue_dir[0] == '\0' || plan->libexec_dir[0] == '\0'))
		err = E_SYNTAX;
	buf_fini(&text);
	return err;
}
