/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * priv: the started process, the only long-lived code with root rights besides local delivery. It
 * binds listening sockets, starts processes of the const table below, reaps them, and passes
 * signals on. It parses no mail, no main.cf, and maps no shared memory.
 * Started by `posthaste start` as: priv PLAN_FD SNAPSHOT_FD READY_FD PID_FD (see
 * daemon/posthaste.c).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/priv_plan.h"
#include "daemon/priv_proto.h"
#include "daemon/priv_rights.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/ctl.h"
#include "workers/common/drop.h"

#define MAX_CHILDREN   512
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 30000
#define STEADY_MS      60000
#define LISTEN_BACKLOG 4096
#define SEND_TRIES     100
#define SEND_WAIT_MS   10

static const char *const class_programs[CLASS_COUNT] = {
	[CLASS_SUPERVISOR] = "supervisor",
	[CLASS_LOG] = "log",
	[CLASS_RESOLVER] = "resolver",
	[CLASS_REWRITE] = "rewrite",
	[CLASS_SMTP_IN] = "smtpd",
	[CLASS_DELIVER] = "deliver",
	[CLASS_LOCAL] = "local",
	[CLASS_STATS] = "stats",
	[CLASS_PICKUP] = "pickup",
	[CLASS_LOOKUP] = "lookup",
	[CLASS_SHOWQ] = "showq",
	[CLASS_SPAWN] = "spawn",
	[CLASS_AUTH] = "auth",
	[CLASS_VERIFY] = "verify",
	[CLASS_SASL_CLIENT] = "saslclient",
};

struct child {
	pid_t pid; /* 0 = free place */
	uint32_t class_id, slot, life;
};

struct listener {
	struct plan_listener want;
	int fd;
};

static struct plan plan;
static struct child children[MAX_CHILDREN];
static struct listener listeners[PLAN_MAX_LISTENERS];
static unsigned listener_count;
static unsigned generation = 1;
static int snapshot_fd = -1, ready_fd = -1, pid_fd = -1, super_sock = -1, signal_fd = -1;
static pid_t super_pid, plan_pid;
static int plan_out = -1, plan_snap = -1;
static int64_t super_started_ms, super_retry_ms, backoff_ms = BACKOFF_MIN_MS;
static bool stopping, reload_again;
static sigset_t normal_mask;

/* ---- messages to the supervisor ---- */

/* The supervisor acts on what it is told: when word of a process does not get through to it, it
 * would wait for that process for ever. Then it is better begun anew. */
static void send_packet(const void *packet, size_t len, bool must, int fd)
{
	struct pollfd room = { super_sock, POLLOUT, 0 };

	for (unsigned i = 0; i < (must ? SEND_TRIES : 1); i++) {
		int err = io_send_fds(super_sock, packet, len, &fd, fd >= 0 ? 1 : 0);

		if (err == 0 || err == -EPIPE || err == -ECONNRESET)
			return; /* or it is ending: its SIGCHLD follows */
		poll(&room, 1, SEND_WAIT_MS);
	}
	if (must && super_pid > 0) {
		fprintf(stderr, "postfix/master[%d]: the supervisor cannot be told, killing it\n",
			(int)getpid());
		kill(super_pid, SIGKILL);
	}
}

static void send_msg(struct priv_msg *msg, const char *text, int fd)
{
	char packet[sizeof(*msg) + PRIV_TEXT_MAX];
	size_t len = text == NULL ? 0 : size_min(strlen(text), PRIV_TEXT_MAX);

	if (super_sock < 0)
		return;
	msg->text_len = (uint32_t)len;
	memcpy(packet, msg, sizeof(*msg));
	if (len > 0)
		memcpy(packet + sizeof(*msg), text, len);
	send_packet(packet, sizeof(*msg) + len, msg->kind != PRIV_LOG, fd);
}

/* Log lines go to stderr while nobody else can take them, and through the supervisor to the log. */
PRINTF_LIKE(2, 3) static void say(enum log_level level, const char *fmt, ...)
{
	char text[PRIV_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "postfix/master[%d]: %s\n", (int)getpid(), text);
	send_msg(&(struct priv_msg){ .kind = PRIV_LOG, .status = (int32_t)level }, text, -1);
}

/* The answer to the start command: "ok" or the reason; once. */
static void tell_starter(const char *text)
{
	if (ready_fd < 0)
		return;
	(void)!write(ready_fd, text, strlen(text));
	io_close(&ready_fd);
}

/* ---- listening sockets ---- */

static bool is_unix(const struct plan_listener *l)
{
	return strchr(l->address, '/') != NULL;
}

/* Who may use it is said by its directory, which nobody but root writes to. What an earlier run
 * left there is replaced. */
static int bind_unix(const struct plan_listener *want)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX,
			(want->class_id == CLASS_SHOWQ ? SOCK_SEQPACKET : SOCK_STREAM) |
				SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);

	if (fd < 0)
		return -1;
	memcpy(sa.sun_path, want->address, sizeof(sa.sun_path));
	unlink(sa.sun_path);
	mode_t before = umask(0111);
	int err = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, LISTEN_BACKLOG) < 0
			  ? errno
			  : 0;

	umask(before);
	if (err == 0)
		return fd;
	close(fd);
	errno = err;
	return -1;
}

static int bind_listener(const struct plan_listener *want)
{
	if (is_unix(want))
		return bind_unix(want);
	struct sockaddr_in sin = { .sin_family = AF_INET, .sin_port = htons(want->port) };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(want->port) };
	bool v6 = inet_pton(AF_INET6, want->address, &sin6.sin6_addr) == 1;
	int one = 1;

	if (!v6 && inet_pton(AF_INET, want->address, &sin.sin_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted ones inherit it */
	if (v6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, v6 ? (struct sockaddr *)&sin6 : (struct sockaddr *)&sin,
		 v6 ? sizeof(sin6) : sizeof(sin)) < 0 ||
	    listen(fd, LISTEN_BACKLOG) < 0) {
		int keep = errno;

		close(fd);
		errno = keep;
		return -1;
	}
	return fd;
}

/* An open socket of the same class, address and port is taken over, so no connection is lost. */
static int take_open(const struct plan_listener *want)
{
	for (unsigned i = 0; i < listener_count; i++) {
		struct listener *l = &listeners[i];

		if (l->fd >= 0 && l->want.class_id == want->class_id &&
		    l->want.port == want->port && strcmp(l->want.address, want->address) == 0) {
			int fd = l->fd;

			l->fd = -1;
			return fd;
		}
	}
	return -1;
}

/* Open what the plan wants, keep what is open already, close the rest. All or nothing. */
static int open_listeners(const struct plan *new_plan)
{
	static struct listener fresh[PLAN_MAX_LISTENERS];
	unsigned n = 0;
	bool bound[PLAN_MAX_LISTENERS] = { false };

	for (; n < new_plan->listener_count; n++) {
		const struct plan_listener *want = &new_plan->listeners[n];

		fresh[n].want = *want;
		fresh[n].fd = take_open(want);
		if (fresh[n].fd < 0) {
			fresh[n].fd = bind_listener(want);
			bound[n] = true;
		}
		if (fresh[n].fd < 0)
			break;
	}
	if (n < new_plan->listener_count) {
		char text[200];

		if (is_unix(&fresh[n].want))
			snprintf(text, sizeof(text), "bind %s: %s", fresh[n].want.address,
				 strerror(errno));
		else
			snprintf(text, sizeof(text), "bind %s port %u: %s", fresh[n].want.address,
				 (unsigned)fresh[n].want.port, strerror(errno));
		say(LOG_LEVEL_ERROR, "%s", text);
		tell_starter(text);
		/* give back what was taken over, drop what is new */
		for (unsigned i = 0; i < n; i++) {
			for (unsigned k = 0; !bound[i] && k < listener_count; k++) {
				if (listeners[k].fd < 0 &&
				    memcmp(&listeners[k].want.address, fresh[i].want.address,
					   sizeof(fresh[i].want.address)) == 0 &&
				    listeners[k].want.port == fresh[i].want.port) {
					listeners[k].fd = fresh[i].fd;
					fresh[i].fd = -1;
				}
			}
			io_close(&fresh[i].fd);
		}
		return E_IO;
	}
	for (unsigned i = 0; i < listener_count; i++) {
		if (listeners[i].fd >= 0 && is_unix(&listeners[i].want))
			unlink(listeners[i].want.address);
		io_close(&listeners[i].fd);
	}
	memcpy(listeners, fresh, sizeof(fresh));
	listener_count = n;
	return 0;
}

/* ---- starting processes ---- */

/* In the child: put descriptors in their places and become the program. */
static NORETURN void child_exec(enum worker_class class_id, int sock)
{
	char path[PATH_MAX + 32], list[PLAN_MAX_LISTENERS * 8] = "";
	int src[PLAN_MAX_LISTENERS + 2];
	unsigned n = 0;

	src[n++] = sock;
	src[n++] = snapshot_fd;
	for (unsigned i = 0; i < listener_count; i++) {
		if (listeners[i].want.class_id != class_id)
			continue;
		src[n++] = listeners[i].fd;
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%u",
			 list[0] == '\0' ? "" : ",", listeners[i].want.index);
	}
	/* first out of the way of the target numbers, then into place */
	for (unsigned i = 0; i < n; i++)
		src[i] = fcntl(src[i], F_DUPFD, 200);
	for (unsigned i = 0; i < n; i++) {
		if (src[i] < 0 || dup2(src[i], CTL_FD_SUPERVISOR + (int)i) < 0)
			_exit(71);
	}
	close_range((unsigned)CTL_FD_SUPERVISOR + n, ~0u, 0);
	if (class_id != CLASS_LOCAL && class_id != CLASS_SPAWN) /* they start programs of others */
		priv_forbid_new_rights();
	sigprocmask(SIG_SETMASK, &normal_mask, NULL);
	snprintf(path, sizeof(path), "%s/%s", plan.libexec_dir, class_programs[class_id]);
	if (list[0] != '\0')
		execl(path, class_programs[class_id], "-L", list, (char *)NULL);
	else
		execl(path, class_programs[class_id], (char *)NULL);
	fprintf(stderr, "postfix/master: cannot execute %s: %s\n", path, strerror(errno));
	_exit(71);
}

/* Returns the pid and our end of the socket, or -1. */
static pid_t start_process(enum worker_class class_id, int *sock_r)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	pid_t pid = fork();

	if (pid == 0)
		child_exec(class_id, pair[1]);
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return -1;
	}
	*sock_r = pair[0];
	return pid;
}

static void start_supervisor(void)
{
	super_started_ms = clock_mono().ms;
	super_pid = start_process(CLASS_SUPERVISOR, &super_sock);
	if (super_pid < 0) {
		super_pid = 0;
		super_retry_ms = super_started_ms + backoff_ms;
		say(LOG_LEVEL_ERROR, "cannot start the supervisor: %s", strerror(errno));
		return;
	}
	io_set_nonblock(super_sock);
	send_msg(&(struct priv_msg){ .kind = PRIV_HELLO,
				     .generation = generation,
				     .privileged = geteuid() == 0 },
		 NULL, -1);
}

static void spawn_worker(const struct priv_msg *req)
{
	struct priv_msg answer = *req;
	struct child *place = NULL;
	int sock = -1;

	for (unsigned i = 0; i < MAX_CHILDREN && place == NULL; i++) {
		if (children[i].pid == 0)
			place = &children[i];
	}
	answer.kind = PRIV_SPAWNED;
	if (place != NULL && req->class_id > CLASS_SUPERVISOR && req->class_id < CLASS_COUNT &&
	    req->slot < PRIV_MAX_SLOTS) {
		answer.pid = start_process((enum worker_class)req->class_id, &sock);
		if (answer.pid > 0)
			*place = (struct child){ answer.pid, req->class_id, req->slot, req->life };
	}
	send_msg(&answer, NULL, sock);
	io_close(&sock);
}

static void kill_worker(const struct priv_msg *req)
{
	for (unsigned i = 0; i < MAX_CHILDREN; i++) {
		if (children[i].pid != 0 && children[i].class_id == req->class_id &&
		    children[i].slot == req->slot && children[i].life == req->life)
			kill(children[i].pid, req->status == SIGTERM ? SIGTERM : SIGKILL);
	}
}

static void kill_all_workers(void)
{
	for (unsigned i = 0; i < MAX_CHILDREN; i++) {
		if (children[i].pid != 0)
			kill(children[i].pid, SIGKILL);
	}
}

static bool workers_remain(void)
{
	for (unsigned i = 0; i < MAX_CHILDREN; i++) {
		if (children[i].pid != 0)
			return true;
	}
	return false;
}

/* ---- events ---- */

static void on_message(void);

static NORETURN void leave(int status)
{
	kill_all_workers();
	if (super_pid > 0)
		kill(super_pid, SIGKILL);
	while (wait(NULL) > 0 || errno == EINTR)
		;
	if (pid_fd >= 0)
		(void)!ftruncate(pid_fd, 0);
	exit(status);
}

/* The supervisor's end: its workers end with it, and all is begun again from the spool. */
static void supervisor_gone(int status)
{
	super_pid = 0;
	if (super_sock >= 0)
		on_message(); /* its last words may say why */
	io_close(&super_sock);
	if (stopping)
		leave(0);
	say(LOG_LEVEL_ERROR, "supervisor ended with status 0x%x, starting again", (unsigned)status);
	tell_starter("supervisor ended at once; see the log");
	kill_all_workers();
	int64_t now = clock_mono().ms;

	if (now - super_started_ms > STEADY_MS)
		backoff_ms = BACKOFF_MIN_MS;
	super_retry_ms = now + backoff_ms;
	backoff_ms = backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : backoff_ms * 2;
}

static void plan_done(int status);

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == super_pid) {
			supervisor_gone(status);
			continue;
		}
		if (pid == plan_pid) {
			plan_done(status);
			continue;
		}
		for (unsigned i = 0; i < MAX_CHILDREN; i++) {
			struct child *c = &children[i];

			if (c->pid != pid)
				continue;
			send_msg(&(struct priv_msg){ .kind = PRIV_EXITED,
						     .class_id = c->class_id,
						     .slot = c->slot,
						     .life = c->life,
						     .pid = pid,
						     .status = status },
				 NULL, -1);
			*c = (struct child){ 0 };
		}
	}
}

/* Reload: a short-lived `posthaste plan` reads and checks the configuration for us. */
static void start_plan(void)
{
	if (plan_pid != 0) {
		reload_again = true;
		return;
	}
	plan_out = memfd_create("plan", MFD_CLOEXEC);
	plan_snap = memfd_create("snapshot", MFD_CLOEXEC);
	plan_pid = fork();
	if (plan_pid == 0) {
		int out = fcntl(plan_out, F_DUPFD, 200), snap = fcntl(plan_snap, F_DUPFD, 200);

		if (dup2(out, PLAN_FD) < 0 || dup2(snap, PLAN_SNAP_FD) < 0)
			_exit(71);
		close_range(PLAN_SNAP_FD + 1, ~0u, 0);
		priv_forbid_new_rights();
		sigprocmask(SIG_SETMASK, &normal_mask, NULL);
		execl(plan.posthaste, "posthaste", "-c", plan.conf_dir, "plan", (char *)NULL);
		_exit(71);
	}
	if (plan_pid < 0)
		plan_pid = 0;
}

static void plan_done(int status)
{
	static struct plan fresh;

	plan_pid = 0;
	if (status == 0 && plan_read(plan_out, &fresh) == 0 && open_listeners(&fresh) == 0) {
		plan = fresh;
		io_close(&snapshot_fd);
		snapshot_fd = plan_snap;
		plan_snap = -1;
		generation++;
		say(LOG_LEVEL_INFO, "reload -- version %s, configuration %s", PH_VERSION,
		    plan.conf_dir);
		send_msg(&(struct priv_msg){ .kind = PRIV_RELOAD, .generation = generation }, NULL,
			 snapshot_fd);
	} else {
		say(LOG_LEVEL_ERROR,
		    "reload: configuration not accepted, the old one stays in force");
	}
	io_close(&plan_out);
	io_close(&plan_snap);
	if (reload_again) {
		reload_again = false;
		start_plan();
	}
}

static void on_signal(void)
{
	struct signalfd_siginfo si;

	while (read(signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		switch (si.ssi_signo) {
		case SIGCHLD:
			reap();
			break;
		case SIGHUP:
			start_plan();
			break;
		case SIGTERM:
		case SIGINT:
			stopping = true;
			if (super_pid == 0)
				leave(0);
			send_msg(&(struct priv_msg){ .kind = PRIV_STOP }, NULL, -1);
			break;
		case SIGQUIT:
			leave(0);
		default:
			break;
		}
	}
}

static void on_message(void)
{
	char packet[sizeof(struct priv_msg) + PRIV_TEXT_MAX + 1];
	struct priv_msg msg;
	size_t len, nfds = 0;
	int err;

	while ((err = io_recv_fds(super_sock, packet, sizeof(packet) - 1, &len, NULL, &nfds)) ==
	       0) {
		if (len < sizeof(msg))
			continue;
		memcpy(&msg, packet, sizeof(msg));
		packet[len] = '\0';
		if (msg.kind == PRIV_SPAWN) {
			spawn_worker(&msg);
		} else if (msg.kind == PRIV_KILL) {
			kill_worker(&msg);
		} else if (msg.kind == PRIV_READY) {
			tell_starter("ok");
		} else if (msg.kind == PRIV_RENEW) {
			generation++;
			send_msg(
				&(struct priv_msg){ .kind = PRIV_RELOAD, .generation = generation },
				NULL, snapshot_fd);
		} else if (msg.kind == PRIV_FAILED) {
			say(LOG_LEVEL_ERROR, "start-up failed: %s", packet + sizeof(msg));
			/* What has once run is tried again, as after any end of the supervisor:
			 * the reason may pass, and nobody waits for an answer. */
			if (ready_fd >= 0) {
				tell_starter(packet + sizeof(msg));
				leave(1);
			}
		}
		nfds = 0;
	}
}

static void serve(void)
{
	for (;;) {
		struct pollfd pfds[2] = { { signal_fd, POLLIN, 0 }, { super_sock, POLLIN, 0 } };
		int timeout = -1;

		if (super_pid == 0) {
			int64_t wait_ms = super_retry_ms - clock_mono().ms;
			bool remain = workers_remain();

			/* A killed worker that still waits for its disk may commit one more
			 * message: not before its end may the spool be read. */
			if (wait_ms <= 0 && !remain) {
				start_supervisor();
				continue;
			}
			timeout = wait_ms > 0 ? (int)wait_ms : -1;
		}
		if (poll(pfds, super_sock >= 0 ? 2 : 1, timeout) < 0 && errno != EINTR)
			die("poll: %s", strerror(errno));
		/* messages first: a READY or FAILED may precede the end of its sender */
		if (super_sock >= 0 && pfds[1].revents & POLLIN)
			on_message();
		if (pfds[0].revents & POLLIN)
			on_signal();
		if (super_sock >= 0 && pfds[1].revents == POLLHUP)
			io_close(&super_sock); /* the SIGCHLD follows */
	}
}

static int arg_fd(const char *text)
{
	int fd = atoi(text);

	if (fd < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		die("descriptor %s is not open", text);
	return fd;
}

/* Who started us may have left us more than we ask for. */
static void drop_other_descriptors(int *fds, unsigned count)
{
	for (unsigned i = 1; i < count; i++) {
		for (unsigned k = i; k > 0 && fds[k - 1] > fds[k]; k--) {
			int higher = fds[k - 1];

			fds[k - 1] = fds[k];
			fds[k] = higher;
		}
	}
	drop_descriptors(3, fds, count);
}

int main(int argc, char **argv)
{
	sigset_t mask;

	log_set_program("postfix/master");
	if (argc != 5)
		die("this program is started by `posthaste start`");
	clock_init();
	signal(SIGPIPE, SIG_IGN);
	int plan_fd = arg_fd(argv[1]);

	snapshot_fd = arg_fd(argv[2]);
	ready_fd = arg_fd(argv[3]);
	pid_fd = arg_fd(argv[4]);
	drop_other_descriptors((int[]){ plan_fd, snapshot_fd, ready_fd, pid_fd }, 4);
	if (plan_read(plan_fd, &plan) != 0)
		die("the plan cannot be read");
	close(plan_fd);
	umask(077);
	sigemptyset(&mask);
	for (size_t i = 0; i < 6; i++)
		sigaddset(&mask, (int[]){ SIGCHLD, SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1 }[i]);
	sigprocmask(SIG_BLOCK, &mask, &normal_mask);
	signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signal_fd < 0)
		die("signalfd: %s", strerror(errno));
	priv_give_up_rights();
	if (open_listeners(&plan) != 0)
		exit(1);
	start_supervisor();
	serve();
	return 0;
}
