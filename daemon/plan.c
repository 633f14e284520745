/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working out the plan for priv; see daemon/plan.h. */
#include "daemon/plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/priv_plan.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

struct planner {
	const struct conf *conf;
	struct buf *out;
	struct conf_diag *diag;
	unsigned count;
	bool v4, v6;
};

/* One listener per address that the host text stands for. */
static int add(struct planner *pl, const char *class_name, unsigned index, const char *host,
	       const char *port, const char *where)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
				  .ai_flags = AI_PASSIVE,
				  .ai_family = pl->v4 && pl->v6 ? AF_UNSPEC
					       : pl->v6         ? AF_INET6
								: AF_INET };
	struct addrinfo *list;
	int rc = getaddrinfo(host[0] == '\0' ? NULL : host, port, &hints, &list);

	if (rc != 0) {
		conf_diag_add(pl->diag, true, NULL, 0, "%s: cannot listen on %s port %s: %s", where,
			      host[0] == '\0' ? "*" : host, port, gai_strerror(rc));
		return E_CONFIG;
	}
	for (struct addrinfo *ai = list; ai != NULL; ai = ai->ai_next) {
		char address[NI_MAXHOST], service[NI_MAXSERV];

		if (getnameinfo(ai->ai_addr, ai->ai_addrlen, address, sizeof(address), service,
				sizeof(service), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
			continue;
		if (++pl->count > PLAN_MAX_LISTENERS) {
			conf_diag_add(pl->diag, true, NULL, 0, "%s: more than %d listening sockets",
				      where, PLAN_MAX_LISTENERS);
			freeaddrinfo(list);
			return E_LIMIT;
		}
		buf_printf(pl->out, "listen %s %u %s %s\n", class_name, index, address, service);
	}
	freeaddrinfo(list);
	return 0;
}

/* inet_interfaces: all, loopback-only, or names and addresses. */
static int add_interfaces(struct planner *pl, unsigned index, const char *port, const char *where)
{
	const struct params *p = conf_params(pl->conf);
	char *list = xstrdup(p->inet_interfaces), *save = NULL;
	int err = 0;

	for (char *w = strtok_r(list, ", \t\r\n", &save); w != NULL && err == 0;
	     w = strtok_r(NULL, ", \t\r\n", &save)) {
		size_t n = strlen(w);

		if (str_eq_nocase(w, "all")) {
			err = add(pl, "smtpd", index, "", port, where);
		} else if (str_eq_nocase(w, "loopback-only")) {
			if (pl->v4)
				err = add(pl, "smtpd", index, "127.0.0.1", port, where);
			if (pl->v6 && err == 0)
				err = add(pl, "smtpd", index, "::1", port, where);
		} else {
			if (w[0] == '[' && n > 2 && w[n - 1] == ']') {
				w[n - 1] = '\0';
				w++;
			}
			err = add(pl, "smtpd", index, w, port, where);
		}
	}
	free(list);
	return err;
}

static int add_stats(struct planner *pl)
{
	const struct params *p = conf_params(pl->conf);
	char *list = xstrdup(p->stats_listen), *save = NULL;
	int err = 0;

	for (char *w = strtok_r(list, ", \t\r\n", &save); w != NULL && err == 0;
	     w = strtok_r(NULL, ", \t\r\n", &save)) {
		char *colon = strrchr(w, ':');
		size_t n;

		if (colon == NULL) {
			conf_diag_add(pl->diag, true, NULL, 0,
				      "stats_listen: expected address:port, found: %s", w);
			err = E_CONFIG;
			break;
		}
		*colon = '\0';
		n = strlen(w);
		if (w[0] == '[' && n > 2 && w[n - 1] == ']') {
			w[n - 1] = '\0';
			w++;
		}
		err = add(pl, "stats", 0, w, colon + 1, "stats_listen");
	}
	free(list);
	return err;
}

static void choose_protocols(struct planner *pl)
{
	const char *protocols = conf_params(pl->conf)->inet_protocols;
	int probe;

	pl->v4 = strstr(protocols, "ipv4") != NULL || strstr(protocols, "all") != NULL;
	pl->v6 = strstr(protocols, "ipv6") != NULL || strstr(protocols, "all") != NULL;
	/* a kernel without IPv6 is no reason not to start */
	probe = pl->v6 && pl->v4 ? socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (probe >= 0)
		close(probe);
	else if (pl->v4)
		pl->v6 = false;
}

int plan_make(const struct conf *c, const char *program_path, struct buf *out, struct conf_diag *d)
{
	struct planner pl = { .conf = c, .out = out, .diag = d };
	const struct params *p = conf_params(c);
	int err = 0;

	choose_protocols(&pl);
	buf_printf(out, "conf %s\nqueue %s\nlibexec %s\nposthaste %s\n", conf_dir(c),
		   p->queue_directory, p->daemon_directory, program_path);
	for (unsigned i = 0; i < conf_listener_count(c); i++) {
		const struct conf_listener *l = conf_listener(c, i);
		char where[100];
		int one;

		snprintf(where, sizeof(where), "master.cf, line %u: %s", l->service->line,
			 l->service->name);
		one = l->host[0] == '\0' ? add_interfaces(&pl, i, l->port, where)
					 : add(&pl, "smtpd", i, l->host, l->port, where);
		err = err != 0 ? err : one;
	}
	int one = add_stats(&pl);

	return err != 0 ? err : one;
}

static void make_directory(const char *base, const char *sub, mode_t mode,
			   const struct passwd *owner)
{
	char *path = sub == NULL ? xstrdup(base) : xasprintf("%s/%s", base, sub);
	int err = io_mkdir_p(path, sub == NULL ? 0755 : mode);

	if (err != 0)
		die("cannot make directory %s: %s", path, err_str(err));
	if (owner != NULL && chown(path, owner->pw_uid, owner->pw_gid) < 0)
		die("chown %s: %s", path, strerror(errno));
	if (sub != NULL && (owner != NULL || geteuid() != 0) && chmod(path, mode) < 0)
		die("chmod %s: %s", path, strerror(errno));
	free(path);
}

void plan_make_directories(const struct conf *c)
{
	static const char *const owned[] = { "seg", "spare", "journal", "corrupt", "control" };
	const struct params *p = conf_params(c);
	struct passwd *pw = NULL;

	if (geteuid() == 0) {
		pw = getpwnam(p->mail_owner);
		if (pw == NULL)
			die("mail_owner: unknown user: %s (create it: adduser --system --group "
			    "--no-create-home %s)",
			    p->mail_owner, p->mail_owner);
	}
	make_directory(p->queue_directory, NULL, 0755, pw);
	for (size_t i = 0; i < ARRAY_LEN(owned); i++)
		make_directory(p->queue_directory, owned[i], 0700, pw);
	/* root's own: an empty jail nobody can write to, and the pid file */
	make_directory(p->queue_directory, "empty", 0755, NULL);
	make_directory(p->queue_directory, "pid", 0755, NULL);
	make_directory(p->data_directory, NULL, 0755, pw);
}
