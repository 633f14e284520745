/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The process that starts the commands of spawn services, for the worker that accepts their
 * connections: the same program, exec'ed with "-r" before the worker shuts itself in, because a
 * command inherits the filters of who starts it. It reads the configuration itself, so what it is
 * told is the number of a service and a connection; it can start the commands of master.cf, as the
 * users of master.cf, and nothing else. One SOCK_SEQPACKET socket as descriptor 3; its end is the
 * end of the keeper, and of all commands that still run.
 */
#ifndef PH_WORKERS_SPAWN_KEEPER_H
#define PH_WORKERS_SPAWN_KEEPER_H

#include <stdint.h>

struct keeper_request {   /* with one descriptor: the connection */
	uint32_t service; /* index of conf_service() */
	uint32_t pad;
};

enum keeper_how { KEEPER_EXITED, KEEPER_SIGNALED, KEEPER_TIMED_OUT, KEEPER_NOT_RUN };

struct keeper_answer {
	uint32_t service;
	uint32_t how; /* enum keeper_how */
	int32_t code; /* exit status, signal, or error */
	int32_t pid;
};

/* Argument behind "-r": "1" when it may change users. */
int keeper_main(int argc, char **argv);

#endif
