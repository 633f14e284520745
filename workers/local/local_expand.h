/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * local(8) proper: one recipient becomes what aliases and .forward files make of it - mailboxes,
 * files, commands, and addresses that mail is sent on to. Called by job.c; the parts that look
 * things up are in local_lookup.c.
 */
#ifndef PH_WORKERS_LOCAL_LOCAL_EXPAND_H
#define PH_WORKERS_LOCAL_LOCAL_EXPAND_H

#include "workers/local/job_int.h"

#define EXPAND_DEPTH_MAX 100u   /* aliases of aliases */
#define EXPAND_ITEMS_MAX 20000u /* that one recipient becomes */

/* ---- local_lookup.c: tables and rules, opened once ---- */

struct lookup;

enum { ALLOW_ALIAS = 1, ALLOW_FORWARD = 2, ALLOW_INCLUDE = 4 };
enum { PREPEND_COMMAND = 1, PREPEND_FILE = 2, PREPEND_FORWARD = 4 };

struct lookup_rights { /* whose commands and files are */
	uid_t uid;
	gid_t gid;
};

struct lookup_user {
	char name[256], home[1024], shell[256];
	struct lookup_rights rights;
};

int lookup_open(const struct conf *c, bool privileged, struct lookup **k_r, struct conf_diag *d);
void lookup_close(struct lookup **k);
/* The right side of an alias; *rights_r: of its table's owner, default_privs for root's. */
enum map_status lookup_alias(struct lookup *k, struct sv name, struct buf *out,
			     struct lookup_rights *rights_r);
/* Of the owner of a file; false: there is no such user. Root's are default_privs. */
bool lookup_rights_of(const struct lookup *k, uid_t uid, struct lookup_rights *rights_r);
/* Is the domain one of mydestination? 1, 0, or negative: a table cannot be asked. */
int lookup_is_local(struct lookup *k, struct sv domain);
/* 1, 0, or negative: the user database cannot be asked. The name is folded to lower case. */
int lookup_find_user(struct sv name, struct lookup_user *u);
enum map_status lookup_mailbox_command(struct lookup *k, struct sv name, struct buf *out);
/* "transport:nexthop" by the tables, else the parameter; empty = none. */
enum map_status lookup_mailbox_transport(struct lookup *k, struct sv name, struct buf *out);
enum map_status lookup_fallback_transport(struct lookup *k, struct sv name, struct buf *out);
struct lookup_rights lookup_default(const struct lookup *k); /* default_privs */
/* ALLOW_* of allow_mail_to_commands and allow_mail_to_files. */
unsigned lookup_commands(const struct lookup *k);
unsigned lookup_files(const struct lookup *k);
/* ALLOW_* of propagate_unmatched_extensions: whose addresses get the extension. */
unsigned lookup_propagates(const struct lookup *k);
/* PREPEND_*: who is given a Delivered-To header. */
unsigned lookup_prepends(const struct lookup *k);

/* ---- local_expand.c ---- */

/* Begins; j->busy is one more until the verdict is set and rcpt_done() called, perhaps from within.
 */
void expand_start(struct rcpt_job *r);

#endif
