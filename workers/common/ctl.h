/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages on the socket between the supervisor and one worker (SOCK_SEQPACKET, descriptor 3 of the
 * worker), with descriptors attached as listed. Written by daemon/supervisor*.c and
 * workers/common/worker.c only.
 */
#ifndef PH_WORKERS_COMMON_CTL_H
#define PH_WORKERS_COMMON_CTL_H

#include <stdint.h>

#define CTL_TEXT_MAX      900u
#define CTL_SEED_BYTES    32u
#define CTL_FD_SUPERVISOR 3
#define CTL_FD_SNAPSHOT   4
#define CTL_FD_LISTEN     5

enum ctl_kind {
	/* supervisor -> worker */
	CTL_SETUP = 1, /* fds: log, counters, board, link, own eventfd, supervisor's eventfd, log
			* eventfd [, blocks] */
	CTL_ATTACH,    /* fds: link, peer's eventfd [, blocks] */
	CTL_DETACH,
	CTL_REGION,      /* fds: region; to stats (counters, qtab, dtab) and log (log rings) */
	CTL_REGION_GONE, /* a log ring's producer ended: drain it and close */
	CTL_DRAIN,       /* finish and exit */
	/* worker -> supervisor */
	CTL_READY,
	CTL_ACCUSE, /* the named peer broke the protocol */
	CTL_FATAL,  /* last words, for the start command */
};

struct ctl_msg {
	uint32_t kind;
	uint32_t
		class_id; /* SETUP: the worker's own; ATTACH, DETACH, REGION, ACCUSE: the other's */
	uint32_t slot;
	uint32_t life;
	uint32_t generation;
	uint32_t side;        /* ATTACH: ring side of the receiver */
	uint32_t region_kind; /* REGION: enum shm_kind */
	uint32_t privileged;  /* SETUP */
	uint32_t has_blocks;
	uint32_t text_len;
	/* SETUP of smtp-in: what keys of TLS session tickets are made of, and the hour it is of */
	int64_t seed_hour;
	uint8_t seed[CTL_SEED_BYTES];
	/* text */
};

#endif
