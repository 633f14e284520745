/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The process that runs commands for the local worker: the same program, exec'ed with "-r" before
 * the worker shuts itself in, because a command inherits the filters of who starts it and may need
 * what delivery never does (sendmail's set-gid postdrop, for one). It reads no mail and no tables,
 * only the fixed struct below and words for exec; it runs nothing as root, as mail_owner or in
 * their groups. One SOCK_SEQPACKET socket as descriptor 3; the socket's end is its end, and that of
 * all commands that still run.
 */
#ifndef PH_WORKERS_LOCAL_RUNNER_H
#define PH_WORKERS_LOCAL_RUNNER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define RUNNER_FD         3
#define RUNNER_MAX        200u       /* commands at a time */
#define RUNNER_OUTPUT_MAX 4096u      /* kept of what a command says */
#define RUNNER_TEXT_MAX   (4u << 20) /* all words of a request */
#define RUNNER_WORDS_MAX  65536u

struct runner_request { /* with two descriptors: the words, and the command's standard input */
	uint64_t id;    /* the asker's, echoed */
	uint32_t uid, gid;
	uint32_t argc, envc; /* words, each with a NUL: directory, argv, environment */
	uint64_t text_len;
	int64_t time_limit_ms;
};

struct runner_answer {
	uint64_t id;
	uint32_t how; /* enum command_how */
	int32_t code;
	uint32_t output_len;
	char output[RUNNER_OUTPUT_MAX];
};

/* Arguments behind "-r": "1" when it may change users, mail_owner's user and group number,
 * the number of setgid_group. */
int runner_main(int argc, char **argv);

#endif
