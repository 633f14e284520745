/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The delivery child; see workers/local/agent.h. Started by pool.c. */
#include "workers/local/agent.h"

#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/drop.h"
#include "workers/common/evil.h"
#include "workers/common/landlock.h"
#include "workers/common/sandbox.h"
#include "workers/local/readfile.h"

struct agent {
	bool has_user;
	bool shut_in;
	uint32_t kind;
	uint32_t uid, gid;
	char packet[AGENT_PACKET_MAX];
	char base[AGENT_PATH_MAX + 1];
	char own_base[AGENT_PATH_MAX + 1]; /* that it is shut in to */
	char path[AGENT_PATH_MAX + 1];
	char host[AGENT_HOST_MAX + 1];
	char user[AGENT_HOST_MAX + 1];
};

static void become(struct agent *a, const struct agent_request *q)
{
	if (a->has_user) {
		if (q->uid != a->uid || q->gid != a->gid || a->kind != q->kind)
			die("request for user %u, this child is user %u", q->uid, a->uid);
		return;
	}
	a->has_user = true;
	a->uid = q->uid;
	a->gid = q->gid;
	a->kind = q->kind;
	if (!q->change_user)
		return;
	gid_t gid = q->gid, groups[2] = { gid, q->more_gid };

	take_back_user();
	if (setgroups(q->more_gid != AGENT_NO_GROUP ? 2 : 1, groups) < 0 ||
	    setresgid(gid, gid, gid) < 0 || setresuid(q->uid, q->uid, q->uid) < 0)
		die("cannot become user %u group %u: %s", q->uid, q->gid, err_str(err_errno()));
	if (q->uid != 0 && setuid(0) == 0)
		die("could get root rights back after giving them up");
}

static const enum landlock_use landlock_use[AGENT_KINDS] = {
	[AGENT_MAILDIR] = LANDLOCK_MAILDIR,
	[AGENT_MBOX] = LANDLOCK_MBOX,
	[AGENT_READ] = LANDLOCK_READ,
	[AGENT_READ_OWN] = LANDLOCK_READ,
};

/* From the first mailbox that is there on, this process reaches nothing but what lies below `base`,
 * and makes no calls but those of a delivery. A base that is missing may be made before the next
 * request. */
static int shut_in(struct agent *a)
{
	int rules;

	if (a->shut_in)
		return strcmp(a->base, a->own_base) == 0 ? 0 : E_PEER;
	int err = landlock_mailbox_rules(a->base, landlock_use[a->kind], landlock_limit(), &rules);

	if (err != 0)
		return 0; /* the delivery says what is wrong */
	a->shut_in = true;
	strcpy(a->own_base, a->base);
	landlock_enter(rules);
	sandbox_enter(SANDBOX_AGENT);
	return 0;
}

static const char *take(const char *p, size_t len, char *out)
{
	memcpy(out, p, len);
	out[len] = '\0';
	return p + len;
}

static bool lengths_ok(const struct agent_request *q, size_t len)
{
	return q->kind < AGENT_KINDS && q->base_len <= AGENT_PATH_MAX &&
	       q->path_len <= AGENT_PATH_MAX && q->host_len <= AGENT_HOST_MAX &&
	       q->user_len <= AGENT_HOST_MAX && q->header_len <= AGENT_HEADER_MAX &&
	       len == sizeof(*q) + q->base_len + q->path_len + q->host_len + q->user_len +
			       q->header_len;
}

/* One request. False when the parent is gone. */
static bool serve(struct agent *a)
{
	struct agent_request q;
	struct maildir_result result;
	int fd = -1;
	size_t len, nfds = 1;
	int err = io_recv_fds(AGENT_FD, a->packet, sizeof(a->packet), &len, &fd, &nfds);

	if (err == E_EOF)
		return false;
	if (err < 0 || len < sizeof(q) || nfds != 1)
		die("bad request: %s", err_str(err < 0 ? err : E_PEER));
	memcpy(&q, a->packet, sizeof(q));
	if (!lengths_ok(&q, len))
		die("bad request lengths");
	become(a, &q);

	const char *p = a->packet + sizeof(q);

	p = take(p, q.base_len, a->base);
	p = take(p, q.path_len, a->path);
	p = take(p, q.host_len, a->host);
	p = take(p, q.user_len, a->user);
	if (shut_in(a) != 0)
		die("request for %s, this child delivers below %s", a->base, a->own_base);
	struct mbox_job mbox = { .base = a->base,
				 .path = a->path,
				 .header = { p, q.header_len },
				 .content_fd = fd,
				 .content_len = q.content_len,
				 .user = a->user,
				 .conf = q.mbox };
	struct maildir_job job = { .base = a->base,
				   .path = a->path,
				   .header = { p, q.header_len },
				   .content_fd = fd,
				   .content_len = q.content_len,
				   .hostname = a->host };

	evil_probe_turn();
	if (a->kind == AGENT_MBOX)
		mbox_deliver(&mbox, &result);
	else if (a->kind != AGENT_MAILDIR)
		readfile_copy(a->base, a->path, a->kind == AGENT_READ_OWN, fd, &result);
	else
		maildir_deliver(&job, &result);
	result.refused_call = sandbox_last_refused();
	io_close(&fd);
	return io_send_fds(AGENT_FD, &result, sizeof(result), NULL, 0) == 0;
}

int agent_main(void)
{
	static struct agent a;

	drop_descriptors(AGENT_FD + 1, NULL, 0);
	prctl(PR_SET_PDEATHSIG, 0);
	umask(077);
	clock_init();
	evil_init(CLASS_COUNT);
	sandbox_watch(); /* the worker's filter holds here too */
	while (serve(&a))
		;
	return 0;
}
