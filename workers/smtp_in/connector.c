/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The process that connects to content filters; see workers/smtp_in/connector.h. */
#include "workers/smtp_in/connector.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/ports.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/ctl.h"
#include "workers/common/drop.h"
#include "workers/common/landlock.h"
#include "workers/common/sandbox.h"

#define CONNECTOR_FD CTL_FD_SUPERVISOR
#define KNOWN_MS     10000 /* how long a host's addresses are believed */

extern char **environ;

struct place { /* a filter's addresses */
	const char *text;
	struct addrinfo *list;
	int error;
	int64_t until_ms;
};

static struct connector {
	struct conf *conf;
	struct place *places; /* by listener, and again under stress */
	unsigned listener_count;
} the_connector;

/* ---- addresses ---- */

static struct sv strip(const char *text)
{
	struct sv s = sv_from(text);

	if (s.len >= 5 && sv_eq_nocase((struct sv){ s.p, 5 }, SV("inet:")))
		s = (struct sv){ s.p + 5, s.len - 5 };
	return s;
}

static const char *unix_path(const char *text)
{
	return strlen(text) > 5 && sv_eq_nocase((struct sv){ text, 5 }, SV("unix:")) ? text + 5
										     : NULL;
}

int connector_split(const char *text, char host[256], char service[64])
{
	struct sv s = strip(text), h = { s.p, 0 };
	size_t at = 0;

	if (s.len > 0 && s.p[0] == '[') {
		const char *end = memchr(s.p, ']', s.len);

		if (end == NULL || end == s.p + 1)
			return E_SYNTAX;
		h = (struct sv){ s.p + 1, (size_t)(end - s.p) - 1 };
		at = h.len + 2;
		if (at >= s.len || s.p[at] != ':')
			return E_SYNTAX;
		at++;
	} else {
		const char *colon = s.len > 0 ? memchr(s.p, ':', s.len) : NULL;

		if (colon != NULL) {
			h.len = (size_t)(colon - s.p);
			at = h.len + 1;
		}
	}
	struct sv port = { s.p + at, s.len - at };

	if (port.len == 0 || memchr(port.p, ':', port.len) != NULL)
		return E_SYNTAX;
	if (h.len == 0)
		h = SV("localhost");
	return str_copy(host, 256, h) && str_copy(service, 64, port) ? 0 : E_SYNTAX;
}

bool connector_is_address(const char *text)
{
	struct sockaddr_un sa;
	char host[256], service[64];
	const char *path = unix_path(text);

	if (path != NULL)
		return strlen(path) < sizeof(sa.sun_path);
	return connector_split(text, host, service) == 0;
}

static void look_up(struct place *p)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	char host[256], service[64];
	int64_t now = clock_now().ms;

	if (p->until_ms > now)
		return;
	if (p->list != NULL)
		freeaddrinfo(p->list);
	p->list = NULL;
	p->until_ms = now + KNOWN_MS;
	p->error = connector_split(p->text, host, service);
	if (p->error != 0)
		return;
	int rc = getaddrinfo(host, ports_known(service), &hints, &p->list);

	if (rc != 0) {
		p->error = rc == EAI_AGAIN ? E_AGAIN : E_NOENT;
		p->until_ms = now + 1000;
	}
}

/* ---- requests ---- */

static int begin_connect(int family, const struct sockaddr *sa, socklen_t len, int *fd_r)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_errno();
	if (connect(fd, sa, len) != 0 && errno != EINPROGRESS) {
		int err = err_errno();

		close(fd);
		return err;
	}
	*fd_r = fd;
	return 0;
}

static int connect_unix(const char *path, int *fd_r)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	if (!str_copy(sa.sun_path, sizeof(sa.sun_path), sv_from(path)))
		return E_SYNTAX;
	return begin_connect(AF_UNIX, (const struct sockaddr *)&sa, sizeof(sa), fd_r);
}

static int connect_place(struct place *p, unsigned attempt, int *fd_r, bool *more_r)
{
	const char *path = p->text != NULL ? unix_path(p->text) : NULL;
	const struct addrinfo *a;

	*more_r = false;
	if (p->text == NULL || p->text[0] == '\0')
		return E_CONFIG;
	if (path != NULL)
		return connect_unix(path, fd_r);
	look_up(p);
	if (p->error != 0)
		return p->error;
	for (a = p->list; a != NULL && attempt > 0; a = a->ai_next)
		attempt--;
	if (a == NULL)
		return E_NOENT;
	*more_r = a->ai_next != NULL;
	return begin_connect(a->ai_family, a->ai_addr, a->ai_addrlen, fd_r);
}

static void serve(struct connector *k, const struct connector_request *q)
{
	struct pollfd p = { CONNECTOR_FD, POLLOUT, 0 };
	struct connector_answer a = { .number = q->number };
	bool more;
	int fd = -1, err;

	if (q->listener >= k->listener_count || q->stress > 1)
		die("bad request");
	a.error = connect_place(&k->places[q->listener * 2u + q->stress], q->attempt, &fd, &more);
	a.more = more;
	while ((err = io_send_fds(CONNECTOR_FD, &a, sizeof(a), &fd, fd >= 0 ? 1 : 0)) == E_AGAIN)
		poll(&p, 1, -1);
	if (err != 0)
		exit(0); /* nobody listens */
	io_close(&fd);
}

static void turn(struct connector *k)
{
	struct pollfd p = { CONNECTOR_FD, POLLIN, 0 };
	struct connector_request q;
	size_t len, nfds = 0;

	if (poll(&p, 1, -1) < 0 && errno != EINTR)
		die("poll: %s", strerror(errno));
	int err = io_recv_fds(CONNECTOR_FD, &q, sizeof(q), &len, NULL, &nfds);

	if (err == E_AGAIN)
		return;
	if (err != 0)
		exit(0);
	if (len != sizeof(q))
		die("bad request");
	serve(k, &q);
}

/* ---- start ---- */

static void read_places(struct connector *k)
{
	struct conf_diag d;
	int err;

	conf_diag_init(&d);
	err = conf_load_snapshot(CTL_FD_SNAPSHOT, &k->conf, &d);
	if (err != 0)
		die("configuration: %s", err_str(err));
	conf_diag_fini(&d);
	close(CTL_FD_SNAPSHOT);
	k->listener_count = conf_listener_count(k->conf);
	k->places = xcalloc(k->listener_count * 2u + 1, sizeof(*k->places));
	for (unsigned i = 0; i < k->listener_count; i++) {
		const struct conf_service *s = conf_listener(k->conf, i)->service;
		const struct conf_service *stress = s != NULL ? conf_service_stress(s) : NULL;
		const struct params *p = s != NULL ? s->params : conf_params(k->conf);

		k->places[i * 2].text = p->smtpd_proxy_filter;
		k->places[i * 2 + 1].text =
			stress != NULL ? stress->params->smtpd_proxy_filter : p->smtpd_proxy_filter;
	}
	/* what the name service loads has to be there before files are out of reach */
	for (unsigned i = 0; i < k->listener_count * 2; i++) {
		if (k->places[i].text[0] != '\0' && unix_path(k->places[i].text) == NULL)
			look_up(&k->places[i]);
	}
}

static void shut_in(const struct params *p)
{
	int rules = landlock_rules(CLASS_LOOKUP, p->queue_directory, landlock_limit());

	drop_rights(&(struct drop_plan){ .user = p->mail_owner, .privileged = geteuid() == 0 });
	landlock_enter(rules);
	sandbox_enter(CLASS_LOOKUP);
}

int connector_main(void)
{
	struct connector *k = &the_connector;

	drop_descriptors(CTL_FD_SNAPSHOT + 1, NULL, 0);
	prctl(PR_SET_NAME, "connector");
	signal(SIGPIPE, SIG_IGN);
	clock_init();
	if (io_set_nonblock(CONNECTOR_FD) != 0)
		die("connector: its worker's socket: %s", strerror(errno));
	read_places(k);
	if (chdir(conf_params(k->conf)->queue_directory) < 0)
		die("connector: %s: %s", conf_params(k->conf)->queue_directory, strerror(errno));
	shut_in(conf_params(k->conf));
	for (;;)
		turn(k);
}

int connector_start(int *fd_r)
{
	char *argv[] = { (char *)"smtpd", (char *)"-c", NULL };
	posix_spawn_file_actions_t fa;
	int pair[2], snapshot = dup(CTL_FD_SNAPSHOT);
	pid_t pid;

	if (snapshot < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno();
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, pair[1], CTL_FD_SUPERVISOR);
	posix_spawn_file_actions_adddup2(&fa, snapshot, CTL_FD_SNAPSHOT);
	int err = -posix_spawn(&pid, "/proc/self/exe", &fa, NULL, argv, environ);

	posix_spawn_file_actions_destroy(&fa);
	close(pair[1]);
	close(snapshot);
	*fd_r = pair[0];
	return err;
}
