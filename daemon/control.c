/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control socket, server side; see daemon/control.h. Called by the supervisor and by showq. */
#include "daemon/control.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

#define MAX_VERBS   32
#define MAX_CLIENTS 32
#define LOOK_MS     1000

struct verb {
	const char *name;
	control_fn fn;
	void *ctx;
};

struct control_client {
	struct control *ctl;
	struct loop_fd lf;
	int fd;
	bool busy; /* a request is being answered */
	uid_t uid;
	int64_t moved_ms; /* when it last took or said something */
	char *end;        /* end packet that found no room */
	size_t end_len;
	loop_timer_fn room_fn, close_fn;
	void *room_ctx, *close_ctx;
	char packet[CONTROL_PACKET_MAX + 1];
};

struct control {
	struct loop *loop;
	struct loop_fd lf;
	int fd;
	struct verb verbs[MAX_VERBS];
	unsigned verb_count;
	struct control_client *clients[MAX_CLIENTS];
	char path[108]; /* of a socket that is ours to remove */
	bool one_user;  /* only `user` is served */
	uid_t user;
	struct control_limits limits; /* of a socket that anybody may reach; 0 = none */
	struct loop_timer look;
};

static void client_close(struct control_client *c)
{
	struct control *ctl = c->ctl;

	if (c->close_fn != NULL)
		c->close_fn(c->close_ctx);
	loop_fd_del(ctl->loop, &c->lf);
	io_close(&c->fd);
	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		if (ctl->clients[i] == c)
			ctl->clients[i] = NULL;
	}
	free(c->end);
	free(c);
}

static void watch(struct control_client *c, bool want_write)
{
	loop_fd_mod(c->ctl->loop, &c->lf, want_write ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static unsigned split_args(char *packet, size_t len, const char **argv)
{
	unsigned argc = 0;

	packet[len] = '\0';
	for (size_t i = 0; i < len && argc < CONTROL_ARGS_MAX; i += strlen(packet + i) + 1)
		argv[argc++] = packet + i;
	return argc;
}

static void dispatch(struct control_client *c, size_t len)
{
	const char *argv[CONTROL_ARGS_MAX];
	unsigned argc = split_args(c->packet, len, argv);
	struct control *ctl = c->ctl;

	c->busy = true;
	for (unsigned i = 0; argc > 0 && i < ctl->verb_count; i++) {
		if (strcmp(ctl->verbs[i].name, argv[0]) == 0) {
			ctl->verbs[i].fn(ctl->verbs[i].ctx, c, argc, argv);
			return;
		}
	}
	control_end(c, 2, "unknown request");
}

static void client_event(void *ctx, unsigned events)
{
	struct control_client *c = ctx;

	if (events & LOOP_WRITE) {
		watch(c, false);
		if (c->end != NULL) {
			ssize_t n = send(c->fd, c->end, c->end_len, MSG_DONTWAIT | MSG_NOSIGNAL);

			if (n < 0 && errno == EAGAIN) {
				watch(c, true);
				return;
			}
			free(c->end);
			c->end = NULL;
		} else if (c->room_fn != NULL) {
			c->room_fn(c->room_ctx);
		}
		return;
	}
	ssize_t n = recv(c->fd, c->packet, CONTROL_PACKET_MAX, MSG_DONTWAIT | MSG_TRUNC);

	c->moved_ms = clock_now().ms;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || n > (ssize_t)CONTROL_PACKET_MAX || c->busy) {
		/* closed, oversized, or a second request before the end of the first */
		client_close(c);
		return;
	}
	dispatch(c, (size_t)n);
}

static unsigned clients_of(const struct control *ctl, uid_t uid)
{
	unsigned n = 0;

	for (size_t i = 0; i < MAX_CLIENTS; i++)
		n += ctl->clients[i] != NULL && ctl->clients[i]->uid == uid;
	return n;
}

/* Of a socket that anybody may reach no user but root gets more than his share. */
static bool may_ask(const struct control *ctl, int fd, uid_t *uid_r)
{
	struct ucred who = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(who);
	bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && len == sizeof(who);

	*uid_r = who.uid;
	if (ctl->one_user)
		return known && who.uid == ctl->user;
	return ctl->limits.per_user == 0 ||
	       (known && (who.uid == 0 || clients_of(ctl, who.uid) < ctl->limits.per_user));
}

static void accept_event(void *ctx, unsigned events UNUSED)
{
	struct control *ctl = ctx;
	int fd = accept4(ctl->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	uid_t uid;

	if (fd < 0)
		return;
	for (size_t i = 0; may_ask(ctl, fd, &uid) && i < MAX_CLIENTS; i++) {
		if (ctl->clients[i] != NULL)
			continue;
		struct control_client *c = xcalloc(1, sizeof(*c));

		c->ctl = ctl;
		c->fd = fd;
		c->uid = uid;
		c->moved_ms = clock_now().ms;
		ctl->clients[i] = c;
		loop_fd_add(ctl->loop, &c->lf, fd, LOOP_READ, client_event, c);
		return;
	}
	if (ctl->limits.refused != NULL)
		(*ctl->limits.refused)++;
	close(fd);
}

/* One that neither says what it wants nor takes what it asked for makes room for others. */
static void look_after(void *ctx)
{
	struct control *ctl = ctx;
	int64_t now = clock_now().ms;

	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		if (ctl->clients[i] != NULL &&
		    now - ctl->clients[i]->moved_ms > ctl->limits.idle_ms)
			client_close(ctl->clients[i]);
	}
	loop_timer_set(&ctl->look, LOOK_MS);
}

struct control *control_serve(int fd, struct loop *loop, const struct control_limits *limits)
{
	struct control *ctl = xcalloc(1, sizeof(*ctl));

	ctl->loop = loop;
	ctl->fd = fd;
	ctl->limits = *limits;
	loop_fd_add(loop, &ctl->lf, fd, LOOP_READ, accept_event, ctl);
	loop_timer_init(loop, &ctl->look, look_after, ctl);
	loop_timer_set(&ctl->look, LOOK_MS);
	return ctl;
}

void control_accept_no_more(struct control *ctl)
{
	loop_fd_mod(ctl->loop, &ctl->lf, 0);
}

unsigned control_clients(const struct control *ctl)
{
	unsigned n = 0;

	for (size_t i = 0; i < MAX_CLIENTS; i++)
		n += ctl->clients[i] != NULL;
	return n;
}

int control_new(const char *queue_directory, struct loop *loop, struct control **ctl_r)
{
	struct control *ctl = xcalloc(1, sizeof(*ctl));
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	char dir[100];
	int err = 0;

	if (snprintf(dir, sizeof(dir), "%s/control", queue_directory) >= (int)sizeof(dir) ||
	    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/socket", dir) >=
		    (int)sizeof(sa.sun_path)) {
		free(ctl);
		return -ENAMETOOLONG;
	}
	snprintf(ctl->path, sizeof(ctl->path), "%s", sa.sun_path);
	ctl->loop = loop;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		err = err_errno();
	ctl->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(sa.sun_path);
	if (err == 0 && (ctl->fd < 0 || bind(ctl->fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
			 chmod(sa.sun_path, 0600) < 0 || listen(ctl->fd, 16) < 0))
		err = err_errno();
	if (err != 0) {
		io_close(&ctl->fd);
		free(ctl);
		return err;
	}
	loop_fd_add(loop, &ctl->lf, ctl->fd, LOOP_READ, accept_event, ctl);
	*ctl_r = ctl;
	return 0;
}

void control_only_user(struct control *ctl, unsigned uid)
{
	ctl->one_user = true;
	ctl->user = uid;
}

void control_free(struct control **ctlp)
{
	struct control *ctl = *ctlp;

	if (ctl == NULL)
		return;
	for (size_t i = 0; i < MAX_CLIENTS; i++) {
		if (ctl->clients[i] != NULL)
			client_close(ctl->clients[i]);
	}
	if (ctl->path[0] == '\0')
		loop_timer_fini(&ctl->look);
	loop_fd_del(ctl->loop, &ctl->lf);
	io_close(&ctl->fd);
	if (ctl->path[0] != '\0')
		unlink(ctl->path);
	free(ctl);
	*ctlp = NULL;
}

void control_register(struct control *ctl, const char *verb, control_fn fn, void *ctx)
{
	ASSERT(ctl->verb_count < MAX_VERBS);
	ctl->verbs[ctl->verb_count++] = (struct verb){ verb, fn, ctx };
}

int control_data(struct control_client *c, const void *data, size_t len)
{
	char kind = 'D';
	struct iovec iov[2] = { { &kind, 1 }, { (void *)(uintptr_t)data, len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };

	ASSERT(len <= CONTROL_PACKET_MAX);
	if (sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN) {
			watch(c, true);
			return E_AGAIN;
		}
		return err_errno(); /* the read side notices the close */
	}
	c->moved_ms = clock_now().ms;
	return 0;
}

void control_on_room(struct control_client *c, loop_timer_fn fn, void *ctx)
{
	c->room_fn = fn;
	c->room_ctx = ctx;
}

void control_on_close(struct control_client *c, loop_timer_fn fn, void *ctx)
{
	c->close_fn = fn;
	c->close_ctx = ctx;
}

void control_end(struct control_client *c, int status, const char *fmt, ...)
{
	char packet[1000];
	va_list ap;

	c->busy = false;
	c->room_fn = c->close_fn = NULL;
	packet[0] = 'E';
	packet[1] = (char)('0' + (status < 0 || status > 9 ? 9 : status));
	va_start(ap, fmt);
	vsnprintf(packet + 2, sizeof(packet) - 2, fmt, ap);
	va_end(ap);
	size_t len = 2 + strlen(packet + 2);

	if (send(c->fd, packet, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EAGAIN) {
		c->end = xstrndup(packet, len);
		c->end_len = len;
		watch(c, true);
	}
}
