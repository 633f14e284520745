/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What commands have in common that ordinary users run: messages without process ids, the
 * configuration, and what a set-gid program must do first. Called by sendmail, postdrop, postqueue
 * and the like.
 */
#ifndef PH_CONF_COMMAND_H
#define PH_CONF_COMMAND_H

#include <stdbool.h>
#include <sys/types.h>

#include "conf/conf.h"

/* First thing in main(): messages begin with "PROGRAM: ", and everything that goes wrong ends in
 * the exit status `failure`, the one that Postfix's program of this name has for all of it: callers
 * decide by it whether to try again. Standard input, output and error exist afterwards. When the
 * program has rights its caller lacks (set-gid), the environment is dropped, foreign descriptors
 * are closed, and nothing the caller has set (umask, signals, limits of files) can make it leave
 * half of its work. */
void command_start(const char *program, int failure);
/* "PROGRAM: fatal: text" on standard error; exits with `failure`. */
void command_fatal(const char *fmt, ...) PRINTF_LIKE(1, 2) NORETURN;
/* The same with another status, for a caller that is one of ours and tells the reasons apart. */
void command_fatal_as(int status, const char *fmt, ...) PRINTF_LIKE(2, 3) NORETURN;
/* Load the configuration: `dir`, else $MAIL_CONFIG, else the built-in directory. A set-gid program
 * takes another than the built-in one only when that one's alternate_config_directories or
 * multi_instance_directories names it. Exits when something is wrong. */
struct conf *command_conf(const char *dir);
/* The user's login name; "unknown" when there is none. Valid until the next call. */
const char *command_user(uid_t uid);
/* authorized_..._users: may this user? root and mail_owner always. */
bool command_user_may(const struct conf *c, const char *param_name, uid_t uid);

#endif
