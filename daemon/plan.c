/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Working out the plan for priv; see daemon/plan.h. */
#include "daemon/plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/ports.h"
#include "conf/spawn.h"
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
	int rc = getaddrinfo(host[0] == '\0' ? NULL : host, ports_known(port), &hints, &list);

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
static int add_interfaces(struct planner *pl, const char *class_name, unsigned index,
			  const char *port, const char *where)
{
	const struct params *p = conf_params(pl->conf);
	char *list = xstrdup(p->inet_interfaces), *save = NULL;
	int err = 0;

	for (char *w = strtok_r(list, ", \t\r\n", &save); w != NULL && err == 0;
	     w = strtok_r(NULL, ", \t\r\n", &save)) {
		size_t n = strlen(w);

		if (str_eq_nocase(w, "all")) {
			err = add(pl, class_name, index, "", port, where);
		} else if (str_eq_nocase(w, "loopback-only")) {
			if (pl->v4)
				err = add(pl, class_name, index, "127.0.0.1", port, where);
			if (pl->v6 && err == 0)
				err = add(pl, class_name, index, "::1", port, where);
		} else {
			if (w[0] == '[' && n > 2 && w[n - 1] == ']') {
				w[n - 1] = '\0';
				w++;
			}
			err = add(pl, class_name, index, w, port, where);
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

/* A socket below the queue directory. */
static int add_unix(struct planner *pl, const char *class_name, unsigned index, const char *name,
		    const char *where)
{
	const char *base = conf_params(pl->conf)->queue_directory;

	if (++pl->count > PLAN_MAX_LISTENERS) {
		conf_diag_add(pl->diag, true, NULL, 0, "%s: more than %d listening sockets", where,
			      PLAN_MAX_LISTENERS);
		return E_LIMIT;
	}
	if (strlen(base) + 1 + strlen(name) >= PLAN_ADDRESS_SIZE) {
		conf_diag_add(pl->diag, true, NULL, 0, "%s: %s/%s is too long for a socket", where,
			      base, name);
		return E_CONFIG;
	}
	buf_printf(pl->out, "listen-unix %s %u %s\n", class_name, index, name);
	return 0;
}

/* What is wrong with them besides is said by the worker. */
static int add_spawn(struct planner *pl)
{
	struct spawn_service s;
	struct arena arena;
	int err = 0;

	arena_init(&arena, 4096, 0);
	for (unsigned i = 0; i < conf_service_count(pl->conf); i++) {
		char where[100];
		int ignored, one;

		if (!spawn_service_read(pl->conf, i, &arena, &s, NULL, &ignored))
			continue;
		snprintf(where, sizeof(where), "master.cf, line %u: %s", s.service->line,
			 s.service->name);
		one = s.is_unix           ? add_unix(pl, "spawn", i, s.path, where)
		      : s.host[0] == '\0' ? add_interfaces(pl, "spawn", i, s.port, where)
					  : add(pl, "spawn", i, s.host, s.port, where);
		err = err != 0 ? err : one;
	}
	arena_fini(&arena);
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
		one = l->host[0] == '\0' ? add_interfaces(&pl, "smtpd", i, l->port, where)
					 : add(&pl, "smtpd", i, l->host, l->port, where);
		err = err != 0 ? err : one;
	}
	int one = add_stats(&pl);

	err = err != 0 ? err : one;
	one = add_spawn(&pl);
	err = err != 0 ? err : one;
	one = add_unix(&pl, "showq", 0, "public/showq", "queue_directory");
	return err != 0 ? err : one;
}

/* Opens base, or sub below it, made when missing. What lies in the queue directory may be the work
 * of a mail_owner process that is taken over: no symbolic link is followed there, and nothing is
 * changed but the directory that was looked at. */
static int open_made(int base_fd, const char *base, const char *sub, mode_t mode)
{
	int err = sub == NULL                                          ? io_mkdir_p(base, mode)
		  : mkdirat(base_fd, sub, 0700) < 0 && errno != EEXIST ? err_errno()
								       : 0;

	if (err != 0)
		die("cannot make directory %s%s%s: %s", base, sub == NULL ? "" : "/",
		    sub == NULL ? "" : sub, err_str(err));
	int fd = sub == NULL
			 ? open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
			 : openat(base_fd, sub, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		die("cannot open directory %s%s%s: %s", base, sub == NULL ? "" : "/",
		    sub == NULL ? "" : sub, strerror(errno));
	return fd;
}

static void give(int fd, const char *base, const char *sub, uid_t uid, gid_t gid, mode_t mode)
{
	if ((geteuid() == 0 && fchown(fd, uid, gid) < 0) || fchmod(fd, mode) < 0)
		die("cannot set owner and mode of %s%s%s: %s", base, sub == NULL ? "" : "/",
		    sub == NULL ? "" : sub, strerror(errno));
}

static void make_directory(int base_fd, const char *base, const char *sub, mode_t mode, uid_t uid,
			   gid_t gid)
{
	int fd = open_made(base_fd, base, sub, mode);

	give(fd, base, sub, uid, gid, mode);
	close(fd);
}

/* Root's own below the queue directory. One that others could write to until now, or that is not
 * root's, may hold anything. */
static void make_root_directory(int base_fd, const char *base, const char *sub)
{
	int fd = open_made(base_fd, base, sub, 0755);
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		die("%s/%s: must belong to the user who starts the system, and nobody else may "
		    "write to it; remove it, it is made anew",
		    base, sub);
	give(fd, base, sub, geteuid(), getegid(), 0755);
	close(fd);
}

/* The group whose commands may leave mail in the maildrop. */
static gid_t drop_group(const struct params *p, gid_t without, bool tell)
{
	const struct group *gr = geteuid() == 0 ? getgrnam(p->setgid_group) : NULL;

	if (gr == NULL && geteuid() == 0 && tell)
		fprintf(stderr,
			"posthaste: warning: setgid_group: unknown group: %s: only root can submit "
			"mail by the sendmail command\n",
			p->setgid_group);
	return gr != NULL ? gr->gr_gid : without;
}

void plan_make_directories(const struct conf *c)
{
	static const char *const owned[] = { "seg",     "spare",   "journal",
					     "corrupt", "control", "pickup" };
	const struct params *p = conf_params(c);
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (uid == 0) {
		struct passwd *pw = getpwnam(p->mail_owner);

		if (pw == NULL)
			die("mail_owner: unknown user: %s (create it: adduser --system --group "
			    "--no-create-home %s)",
			    p->mail_owner, p->mail_owner);
		uid = pw->pw_uid;
		gid = pw->pw_gid;
	}
	const char *base = p->queue_directory;
	int fd = open_made(-1, base, NULL, 0755);

	/* mail_owner makes files here, by its group; the sticky bit keeps root's directories from
	 * being renamed or replaced */
	give(fd, base, NULL, 0, gid, geteuid() == 0 ? 01775 : 0755);
	/* an empty jail nobody can write to, and the pid file */
	make_root_directory(fd, base, "empty");
	make_root_directory(fd, base, "pid");
	/* Sockets: for set-gid commands, and for our processes. From now on nobody but root makes
	 * anything there, and what lies under the name of a socket is replaced. */
	make_directory(fd, base, "public", 0710, geteuid(), drop_group(p, gid, false));
	make_directory(fd, base, "private", 0710, geteuid(), gid);
	for (size_t i = 0; i < ARRAY_LEN(owned); i++)
		make_directory(fd, base, owned[i], 0700, uid, gid);
	/* Others drop mail there by a set-gid command; they cannot look, nor touch what is not
	 * theirs. */
	make_directory(fd, base, "maildrop", geteuid() == 0 ? 01730 : 0700, uid,
		       drop_group(p, gid, true));
	close(fd);
	make_directory(-1, p->data_directory, NULL, 0755, uid, gid);
}
