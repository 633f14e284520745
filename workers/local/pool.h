/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Delivery children of a local worker. A child serves one user, one kind of mailbox and one base
 * directory; it is kept a while for the next delivery to the same user, because with virtual
 * mailboxes that is nearly always the same one. A child that crashes or takes too long costs its
 * one delivery a retry, nothing else.
 */
#ifndef PH_WORKERS_LOCAL_POOL_H
#define PH_WORKERS_LOCAL_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/buf.h"
#include "lib/loop.h"
#include "workers/local/agent.h"

struct pool;
struct delivery;

typedef void (*delivery_fn)(void *ctx, struct delivery *d, const struct maildir_result *r);

struct delivery { /* in the caller's memory until the callback */
	struct delivery *next;
	uid_t uid;
	gid_t gid;
	const char *base, *path;
	enum agent_kind kind;
	struct mbox_conf mbox;
	uint32_t more_gid; /* as in struct agent_request */
	const char *user;  /* for texts */
	struct sv header;
	int content_fd;
	uint64_t content_len;
	delivery_fn done;
	void *ctx;
};

struct pool_conf {
	const char *program; /* what to exec; normally /proc/self/exe */
	const char *hostname;
	bool change_user; /* privileged: children become the delivery's user */
	unsigned max_children;
	int64_t time_limit_ms;
	int64_t idle_ms;
};

struct pool *pool_new(const struct pool_conf *conf, struct loop *loop);
/* Kills the children that are left; their deliveries are forgotten. */
void pool_free(struct pool **p);
/* The callback comes later, never from within. */
void pool_submit(struct pool *p, struct delivery *d);
/* Time limits and idle children; about once a second. */
void pool_tick(struct pool *p);

#endif
