/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * pipe(8) services of master.cf: the attributes in front of argv=, and the command with its macros.
 * Parsed once, when the worker starts; expanded for each delivery. Pure but for the user database.
 * Called by local.c and pipejob.c.
 */
#ifndef PH_WORKERS_LOCAL_PIPED_H
#define PH_WORKERS_LOCAL_PIPED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "lib/arena.h"
#include "workers/mail/envelope.h"

enum {                        /* flags= beyond those of workers/local/mailcopy.h */
       PIPED_FOLD_DOMAIN = 1, /* h */
       PIPED_FOLD_USER = 2,   /* u */
       PIPED_QUOTE = 4,       /* q */
       PIPED_FINAL = 8,       /* X */
};

struct piped_arg;

struct piped { /* one service; in the arena it was parsed into */
	const char *name;
	const char *user_text; /* as written */
	const char *problem;   /* why no mail can go this way; NULL = none */
	uid_t uid;
	gid_t gid;
	unsigned copy_flags;   /* COPY_* */
	unsigned flags;        /* PIPED_* */
	const char *directory; /* "" = queue_directory */
	struct sv eol;
	const char *null_sender;
	uint64_t size_limit; /* bytes, 0 = none */
	size_t arg_count;
	const struct piped_arg *args;
};

/* Problems of the line are errors with its file and line. What only fails when mail comes is a
 * warning, and the service's `problem`: many a master.cf has services that nobody uses. */
int piped_parse(const struct conf *c, const struct conf_transport *t, struct arena *a,
		const struct piped **p_r, struct conf_diag *d);

struct piped_mail { /* what macros stand for */
	const struct envelope *env;
	const struct env_rcpt *const *rcpts;
	size_t rcpt_count;
	struct sv nexthop, queue_id;
	uint64_t size;
	const char *delimiters; /* recipient_delimiter */
};

/* The words of the command, NULL at the end; an argument with a macro of a recipient comes once for
 * each. E_LIMIT when the arena is full. */
int piped_expand(const struct piped *p, const struct piped_mail *m, struct arena *a,
		 const char ***argv_r, size_t *argc_r);

#endif
