/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One message into one Maildir. Runs in the delivery child, as the mailbox's user. Directories are
 * walked component by component without following symbolic links, so a user cannot lead delivery
 * out of the mailbox base.
 */
#ifndef PH_WORKERS_LOCAL_MAILDIR_H
#define PH_WORKERS_LOCAL_MAILDIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/str.h"

#define MAILDIR_TEXT_SIZE 512

struct maildir_job {
	const char *base; /* absolute; must exist */
	const char *path; /* below base, ends in '/'; missing directories are made, mode 0700 */
	struct sv header; /* Return-Path and so on, LF line ends */
	int content_fd;   /* content with LF line ends, read from its start */
	uint64_t content_len;
	const char *hostname; /* for the file name */
};

struct maildir_result {
	int err; /* 0 = delivered and durable */
	uint8_t dsn[3];
	uint8_t unsure;               /* 1: failed, and may be in the mailbox all the same */
	char text[MAILDIR_TEXT_SIZE]; /* for the log and the sender */
	uint64_t offset;              /* in a mailbox file: where the message begins */
	uint32_t owner;               /* of a list that was to be read */
	bool has_owner;               /* it is known */
	int refused_call; /* system call that the filter refused the process; 0 or less = none */
};

void maildir_deliver(const struct maildir_job *job, struct maildir_result *r);

#endif
