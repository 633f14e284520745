/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of expansions: local_expand.c (the list of a recipient's items), expand_addr.c
 * (addresses), expand_list.c, expand_run.c and expand_act.c (lists, commands; mailboxes, files,
 * messages). Everything but buffers is in the job's arena. */
#ifndef PH_WORKERS_LOCAL_EXPAND_INT_H
#define PH_WORKERS_LOCAL_EXPAND_INT_H

#include "workers/local/alias.h"
#include "workers/local/forward.h"
#include "workers/local/local_expand.h"

struct origin { /* where an item comes from */
	const struct origin *parent;
	unsigned depth;
	unsigned allow;    /* ALLOW_*: what must be allowed for its commands and files */
	const char *alias; /* its name, NULL = none */
	const char *user;  /* whose .forward it is, NULL = none */
	const char *home, *shell;
	const char *sender; /* of mail that is sent on, NULL = the message's */
	/* what addresses get in front of their '@': the extension that was not looked up, with its
	 * delimiter; NULL = nothing */
	const char *unmatched;
	const char *delivered; /* for Delivered-To, NULL = the recipient */
	bool indirect;         /* users are sent on to, even of this system */
	bool included;         /* from an :include: file: the user whose list it is, too */
	bool own_rights;       /* a user's, not those that stand for root's */
	bool luser;
	struct lookup_rights rights;
};

struct item {
	struct item *next;
	enum alias_kind kind;
	const char *text;
	const struct origin *from; /* NULL: the recipient itself */
};

struct forward_group { /* one message */
	struct forward_group *next;
	const char *sender, *delivered; /* as in struct origin */
	const char *transport;          /* the message as it is goes there; NULL: it is sent on */
	struct envelope env;            /* recipients */
};

struct expansion { /* of one recipient; one thing at a time */
	struct rcpt_job *r;
	struct lookup *k;
	struct item *head, **tail;
	size_t item_count;
	struct strmap *seen;
	struct forward_group *groups, *group_now;
	struct map_memo *memo; /* answers of remote tables; NULL: none are used */
	bool in_memo;
	bool busy;              /* something is under way, its callback goes on */
	bool full, table_error; /* to be reported */
	bool has_verdict, deferred, unsure;
	bool passed; /* what went on has the duty to report */
	/* what is under way */
	struct lookup_user user;
	struct sv ext, to;
	unsigned forward_path_at; /* entries of forward_path that were tried */
	bool forward_has_ext;     /* the newest of them has the extension in it */
	bool include_as_owner;
	struct lookup_rights include_rights; /* of the list's owner */
	bool starting;                       /* forward_submit() may call back from within */
	const struct origin *from;
	const char *what; /* command, file or list */
	int read_fd;
	char base[AGENT_PATH_MAX + 1], path[AGENT_PATH_MAX + 1];
	struct delivery delivery;
	struct command command;
	struct forward forward;
	struct buf header, scratch;
};

/* ---- local_expand.c ---- */
void expand_result(struct expansion *x, struct sv to, const uint8_t dsn[3], struct sv text);
void expand_fail(struct expansion *x, struct sv to, const char *status, const char *fmt, ...)
	PRINTF_LIKE(4, 5);
char *expand_keep(struct expansion *x, struct sv s);
void expand_add_list(struct expansion *x, struct sv list, const struct origin *from);
struct origin *expand_origin(struct expansion *x, const struct origin *parent);
/* True when it was there; it is now. */
bool expand_seen(struct expansion *x, const char *kind, struct sv what);
/* Go on, when what was under way has ended. */
void expand_step(struct expansion *x);

/* ---- expand_addr.c ---- */
void expand_address(struct expansion *x, struct sv addr, const struct origin *from);
bool expand_is_own(const struct origin *from, const char *user);
/* What stands in Delivered-To of what becomes of the item. */
struct sv expand_delivered(const struct expansion *x, const struct origin *from);
/* The recipient's mail goes to another transport: "transport:nexthop". */
void expand_pass(struct expansion *x, struct sv to, struct sv transport);

/* ---- the others; each begins something (x->busy), or gives its result ---- */
/* x->user: his .forward unless the item comes from it, else his mailbox. */
void expand_user(struct expansion *x, struct sv ext, struct sv to, const struct origin *from);
void expand_mailbox(struct expansion *x);
void expand_luser(struct expansion *x, const char *relay, struct sv local, struct sv domain,
		  const struct origin *from);
void expand_command(struct expansion *x, const char *command, const struct origin *from);
void expand_file(struct expansion *x, const char *path, const struct origin *from);
void expand_include(struct expansion *x, const char *path, const struct origin *from);
/* False: it has failed already. */
bool expand_forward(struct expansion *x, struct forward_group *g);
/* Names in forward_path, luser_relay, command_execution_directory. False: bad syntax, or (with
 * `all`) a name without a value. *extension_r (may be NULL): the text has the address extension in
 * it. */
bool expand_names(struct expansion *x, struct sv text, const char *filter, bool all,
		  bool *extension_r, struct buf *out);
/* Delivered-To for one of PREPEND_*; empty when it gets none. */
struct sv expand_delivered_to(const struct expansion *x, unsigned what, const struct origin *from);
/* ... of the verify worker: that there is an alias or a list is enough. */
bool expand_is_verified(const struct expansion *x);
bool expand_is_probe(const struct expansion *x);

#endif
