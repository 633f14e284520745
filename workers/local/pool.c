/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Delivery children; see workers/local/pool.h. Called by job.c. */
#include "workers/local/pool.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/sandbox.h"
#include "workers/local/agent.h"

#define SPAWN_PAUSE_MS 1000 /* after a child could not be started */

extern char **environ;

struct child {
	struct child *next;
	struct pool *pool;
	pid_t pid;
	int sock;
	struct loop_fd lf;
	uid_t uid;
	gid_t gid;
	enum agent_kind kind;
	char *base;           /* it has shut itself in there */
	struct delivery *now; /* NULL = idle */
	bool given;           /* ... and the child has the request for it */
	struct mono_ms since; /* of this delivery, or idle since */
	bool timed_out;
};

struct pool {
	struct pool_conf conf;
	struct loop *loop;
	struct child *children;
	struct child *ended; /* to be reaped */
	unsigned count;
	struct delivery *head, **tail; /* waiting */
	struct mono_ms spawn_after;
};

struct pool *pool_new(const struct pool_conf *conf, struct loop *loop)
{
	struct pool *p = xcalloc(1, sizeof(*p));

	p->conf = *conf;
	p->loop = loop;
	p->tail = &p->head;
	return p;
}

/* ---- ending children ---- */

static void reap(struct pool *p)
{
	struct child **at = &p->ended;

	while (*at != NULL) {
		struct child *c = *at;

		if (waitpid(c->pid, NULL, WNOHANG) == 0) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		free(c->base);
		free(c);
	}
}

/* Take the child out; it is dead or will be at once. */
static void child_end(struct child *c)
{
	struct pool *p = c->pool;
	struct child **at = &p->children;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	p->count--;
	loop_fd_del(p->loop, &c->lf);
	io_close(&c->sock);
	c->next = p->ended;
	p->ended = c;
	reap(p);
}

/* A child that died without a word may have delivered before. */
static void failed_result(struct maildir_result *r, bool given, const char *text)
{
	*r = (struct maildir_result){ .err = E_AGAIN, .dsn = { 4, 3, 0 }, .unsure = given };
	snprintf(r->text, sizeof(r->text), "%s", text);
}

/* The child runs as the mailbox's user, and this process acts as another one, who may not signal
 * it: the right to become root, which it keeps for its children, is used for this one call. */
static void child_kill(const struct child *c)
{
	uid_t acting = geteuid();
	bool other = c->pool->conf.change_user && acting != 0;

	if (other && seteuid(0) < 0)
		die("cannot take root rights back: %s", strerror(errno));
	kill(c->pid, SIGKILL);
	if (other && seteuid(acting) < 0)
		die("cannot give root rights up: %s", strerror(errno));
}

static void tell_refused(int call)
{
	static int told;
	char name[60];

	if (call <= 0 || call == told)
		return;
	told = call;
	sandbox_call_name(call, name, sizeof(name));
	log_warn("system call filter: %s refused, it is not on the list of %s processes", name,
		 sandbox_kind_name(SANDBOX_AGENT));
}

static void pool_run(struct pool *p);

static void child_event(void *ctx, unsigned events UNUSED)
{
	struct child *c = ctx;
	struct pool *p = c->pool;
	struct delivery *d = c->now;
	struct maildir_result r;
	size_t len = 0, nfds = 0;
	int err = io_recv_fds(c->sock, &r, sizeof(r), &len, NULL, &nfds);

	if (err == E_AGAIN)
		return;
	if (err == 0 && len == sizeof(r) && d != NULL) {
		r.text[sizeof(r.text) - 1] = '\0';
		c->now = NULL;
		c->since = clock_now();
		tell_refused(r.refused_call);
	} else {
		failed_result(&r, c->given,
			      c->timed_out ? "delivery timed out"
					   : "delivery process ended unexpectedly");
		if (d != NULL)
			log_warn("delivery process %d %s", (int)c->pid,
				 c->timed_out ? "took too long" : "ended unexpectedly");
		child_kill(c);
		child_end(c);
	}
	if (d != NULL)
		d->done(d->ctx, d, &r);
	pool_run(p);
}

/* ---- starting children ---- */

static int spawn(const char *program, int sock, pid_t *pid_r)
{
	char *argv[] = { (char *)"local", (char *)"-d", NULL };
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, sock, AGENT_FD);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	err = posix_spawn(pid_r, program, &fa, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	return -err;
}

static struct child *child_start(struct pool *p, const struct delivery *d)
{
	int pair[2];
	pid_t pid;
	struct child *c;
	int err;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return NULL;
	/* dup2 onto itself would leave close-on-exec set */
	if (pair[1] == AGENT_FD) {
		int moved = dup(pair[1]);

		close(pair[1]);
		pair[1] = moved;
	}
	err = spawn(p->conf.program, pair[1], &pid);
	close(pair[1]);
	if (err != 0) {
		log_error("cannot start a delivery process: %s", err_str(err));
		close(pair[0]);
		return NULL;
	}
	c = xcalloc(1, sizeof(*c));
	*c = (struct child){ .pool = p,
			     .pid = pid,
			     .sock = pair[0],
			     .uid = d->uid,
			     .gid = d->gid,
			     .kind = d->kind,
			     .base = xstrdup(d->base) };
	io_set_nonblock(c->sock);
	c->next = p->children;
	p->children = c;
	p->count++;
	loop_fd_add(p->loop, &c->lf, c->sock, LOOP_READ, child_event, c);
	return c;
}

/* ---- handing out ---- */

static char *append(char *at, const char *data, size_t len)
{
	if (len > 0)
		memcpy(at, data, len);
	return at + len;
}

static int child_give(struct child *c, struct delivery *d)
{
	const struct pool_conf *conf = &c->pool->conf;
	char packet[AGENT_PACKET_MAX], *p = packet + sizeof(struct agent_request);
	struct agent_request q = { .uid = d->uid,
				   .gid = d->gid,
				   .change_user = conf->change_user,
				   .base_len = (uint32_t)strlen(d->base),
				   .path_len = (uint32_t)strlen(d->path),
				   .host_len = (uint32_t)strlen(conf->hostname),
				   .header_len = (uint32_t)d->header.len,
				   .more_gid = d->more_gid,
				   .kind = d->kind,
				   .user_len = d->user == NULL ? 0 : (uint32_t)strlen(d->user),
				   .mbox = d->mbox,
				   .content_len = d->content_len };

	if (q.base_len > AGENT_PATH_MAX || q.path_len > AGENT_PATH_MAX ||
	    q.host_len > AGENT_HOST_MAX || q.header_len > AGENT_HEADER_MAX ||
	    q.user_len > AGENT_HOST_MAX)
		return E_LIMIT;
	memcpy(packet, &q, sizeof(q));
	p = append(p, d->base, q.base_len);
	p = append(p, d->path, q.path_len);
	p = append(p, conf->hostname, q.host_len);
	p = append(p, d->user, q.user_len);
	p = append(p, d->header.p, q.header_len);
	c->now = d;
	c->since = clock_now();
	int err = io_send_fds(c->sock, packet, (size_t)(p - packet), &d->content_fd, 1);

	c->given = err >= 0;
	return err;
}

/* An idle child of the user and the place, else a fresh one, else one made room for. */
static struct child *find_child(struct pool *p, const struct delivery *d)
{
	struct child *idle = NULL;

	for (struct child *c = p->children; c != NULL; c = c->next) {
		if (c->now == NULL && c->uid == d->uid && c->gid == d->gid && c->kind == d->kind &&
		    strcmp(c->base, d->base) == 0)
			return c;
		if (c->now == NULL)
			idle = c;
	}
	if (clock_now().ms < p->spawn_after.ms)
		return NULL;
	if (p->count >= p->conf.max_children) {
		if (idle == NULL)
			return NULL;
		child_end(idle);
	}
	struct child *c = child_start(p, d);

	if (c == NULL)
		p->spawn_after.ms = clock_now().ms + SPAWN_PAUSE_MS;
	return c;
}

/* Start what can start. Deliveries of a user without a free child stay; others pass them. */
static void pool_run(struct pool *p)
{
	struct delivery **at = &p->head;

	while (*at != NULL) {
		struct delivery *d = *at;
		struct child *c = find_child(p, d);

		if (c == NULL && p->count >= p->conf.max_children)
			return;
		if (c == NULL) {
			at = &d->next;
			continue;
		}
		*at = d->next;
		if (p->tail == &d->next)
			p->tail = at;
		d->next = NULL;
		/* a request that cannot be sent ends the child; its event reports the delivery */
		if (child_give(c, d) < 0)
			shutdown(c->sock, SHUT_RDWR);
	}
}

void pool_submit(struct pool *p, struct delivery *d)
{
	d->next = NULL;
	*p->tail = d;
	p->tail = &d->next;
	pool_run(p);
}

void pool_tick(struct pool *p)
{
	struct child *next;

	for (struct child *c = p->children; c != NULL; c = next) {
		next = c->next;
		if (c->now != NULL && !c->timed_out &&
		    mono_since_ms(c->since) > p->conf.time_limit_ms) {
			c->timed_out = true;
			child_kill(c); /* the socket's end reports it */
		} else if (c->now == NULL && mono_since_ms(c->since) > p->conf.idle_ms) {
			child_end(c);
		}
	}
	reap(p);
	pool_run(p);
}

void pool_free(struct pool **pp)
{
	struct pool *p = *pp;

	if (p == NULL)
		return;
	while (p->children != NULL) {
		child_kill(p->children);
		child_end(p->children);
	}
	while (p->ended != NULL) {
		struct child *c = p->ended;

		p->ended = c->next;
		waitpid(c->pid, NULL, 0);
		free(c->base);
		free(c);
	}
	free(p);
	*pp = NULL;
}
