/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages between priv (the started process) and the supervisor, over a SOCK_SEQPACKET socket
 * (descriptor 3 of the supervisor). priv believes nothing but class and slot numbers within bounds:
 * the worst a taken-over supervisor can do here is start and end processes of the table.
 */
#ifndef PH_DAEMON_PRIV_PROTO_H
#define PH_DAEMON_PRIV_PROTO_H

#include <stdint.h>

#define PRIV_TEXT_MAX  900u
#define PRIV_MAX_SLOTS 64u

enum priv_kind {
	/* supervisor -> priv */
	PRIV_SPAWN = 1, /* class_id, slot, life */
	PRIV_KILL,      /* class_id, slot, life, signal in `status` */
	PRIV_READY,     /* mail is being accepted */
	PRIV_FAILED,    /* start-up failed; text says why */
	PRIV_RENEW,     /* same configuration, new generation: tables have changed */
	/* priv -> supervisor */
	PRIV_HELLO,   /* first message: generation, privileged; no descriptors (snapshot is fd 4) */
	PRIV_SPAWNED, /* class_id, slot, life, pid; fd: the supervisor's end; no fd = it failed */
	PRIV_EXITED,  /* class_id, slot, life, pid, status as waitpid gives it */
	PRIV_RELOAD,  /* generation; fd: the new snapshot */
	PRIV_STOP,    /* drain and exit */
	PRIV_LOG,     /* text, to be logged as master; level in `status` */
};

struct priv_msg {
	uint32_t kind;
	uint32_t class_id; /* enum worker_class */
	uint32_t slot;
	uint32_t life;
	int32_t pid;
	int32_t status;
	uint32_t generation;
	uint32_t privileged;
	uint32_t text_len;
	/* text */
};

#endif
