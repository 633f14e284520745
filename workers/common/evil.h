/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A taken-over worker, for the tests: compiled in by ./configure --enable-fault-points only, never
 * in what is installed for use. t/crash/06-taken-over.t writes the page that POSTHASTE_EVIL names;
 * the first worker of class `who` that sees it armed stops working and does its worst until it is
 * killed. Called by the worker frame, the supervisor and the child of local delivery.
 *
 * The attacker is taken for one that runs any code inside the worker: it has the worker's memory,
 * descriptors and rights, and knows the protocol. What it does not do here is what concerns the
 * mail it was given itself (claim that it was delivered or stored), for that harm is allowed for,
 * and files, which are the sandbox's affair.
 */
#ifndef PH_WORKERS_COMMON_EVIL_H
#define PH_WORKERS_COMMON_EVIL_H

#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdatomic.h>

#include "workers/common/worker.h"

enum evil_mode {
	EVIL_SCRIBBLE, /* random bytes, words and bursts over all that can be mapped for writing */
	EVIL_CHOSEN,   /* positions, lengths, chains, flags, lives: the values that hurt */
	EVIL_RECORDS,  /* records of every kind: random, boundary, replayed and changed */
	EVIL_LIES,     /* well-formed announcements, requests and answers that are not true */
	EVIL_MUTE,     /* looks alive and reads nothing */
	EVIL_SPIN,     /* uses a processor and does nothing else */
	EVIL_CONTROL,  /* messages and descriptors over the control socket; closes it in the end */
	EVIL_WAKE,     /* eventfds: filled, made blocking, written without end */
	EVIL_LOG,      /* log lines without end, with control characters and others' names */
	EVIL_MIXED,    /* all of it in turn */
	EVIL_PROBE,    /* each forbidden action once; t/crash/12-privileges.t */
	EVIL_MODE_COUNT
};

#define EVIL_PAGE_MAGIC 0x4c495645u /* "EVIL" */

#define EVIL_TEXTS       5
#define EVIL_TEXT_SIZE   200
#define EVIL_ACTIONS_MAX 128

enum evil_text { EVIL_SPOOL, EVIL_KEY, EVIL_MAILBOX, EVIL_CONF, EVIL_SOCKET };

struct evil_page { /* t/crash/06-taken-over.t has the same offsets */
	uint32_t magic;
	_Atomic uint32_t armed; /* 1: the next of class `who` takes it */
	uint32_t who;           /* enum worker_class */
	uint32_t mode;          /* enum evil_mode */
	uint32_t seed;
	_Atomic uint32_t taken; /* process that went bad */
	_Atomic uint32_t acts;  /* what it did so far */
	/* regions of others that it could map for writing: must stay 0 */
	_Atomic uint32_t breaches;
	_Atomic uint32_t regions; /* that it writes to */
	_Atomic uint32_t kinds;   /* bits by enum shm_kind: of the breaches */
	/* for EVIL_PROBE, which goes back to work when it is done */
	uint32_t sibling, supervisor, priv; /* processes to act on */
	uint32_t port;                      /* TCP, something listens on loopback */
	_Atomic uint32_t done;
	uint32_t spare[49];
	char text[EVIL_TEXTS][EVIL_TEXT_SIZE]; /* see enum evil_text */
	uint8_t wanted[EVIL_ACTIONS_MAX];      /* 1: try this one */
	_Atomic int32_t result[EVIL_ACTIONS_MAX];
};

/* A result is EVIL_STARTED while the action is under way, and stays so when it is the end. */
enum { EVIL_STARTED = 1, EVIL_PERMITTED = 2 /* negative: refused, -errno */ };

struct evil_body { /* what the frame gives: its own state, seen from inside */
	struct worker *w;
	struct worker_peer **peers;
	size_t peer_count;
	int sock;
};

#ifdef PH_FAULT_POINTS
void evil_init(unsigned who);                            /* before the sandbox closes */
void evil_saw_fd(int fd, enum shm_kind kind, bool ours); /* a region that was handed to us */
void evil_saw(const void *rec, size_t len);              /* a record that came or went */
/* Does not return once it is armed for this worker. */
void evil_turn(const struct evil_body *b);
void evil_flush_log(void); /* in worker.c */
/* The same for processes outside the frame, which know EVIL_PROBE only: the supervisor, and the
 * children of local delivery as class CLASS_COUNT. */
void evil_probe_turn(void);
#else
#define evil_probe_turn()           ((void)0)
#define evil_init(who)              ((void)0)
#define evil_saw_fd(fd, kind, ours) ((void)0)
#define evil_saw(rec, len)          ((void)0)
#endif

#endif
