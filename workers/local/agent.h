/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Delivery child: the same program, exec'ed with "-d" and one SOCK_SEQPACKET socket as
 * descriptor 3. The first request names the user and the kind of mailbox; a privileged child
 * becomes that user for good and serves requests for the same user and kind only, one at a time.
 * The socket's end is its end.
 */
#ifndef PH_WORKERS_LOCAL_AGENT_H
#define PH_WORKERS_LOCAL_AGENT_H

#include <stdint.h>

#include "workers/local/mbox.h"

#define AGENT_FD         3
#define AGENT_PATH_MAX   1024u /* base and path each */
#define AGENT_HEADER_MAX 8192u
#define AGENT_HOST_MAX   256u /* host and user each */

enum agent_kind {
	AGENT_MAILDIR,
	AGENT_MBOX,     /* a mailbox file; `mbox` says how */
	AGENT_READ,     /* the file is copied to the descriptor (workers/local/readfile.h) */
	AGENT_READ_OWN, /* the same, of a file that must be the user's */
	AGENT_KINDS
};

struct agent_request { /* with the content's descriptor */
	uint32_t uid, gid;
	uint32_t change_user; /* 1: become uid and gid first */
	uint32_t base_len, path_len, host_len, header_len;
	uint32_t more_gid; /* supplementary group, of a mail spool directory; AGENT_NO_GROUP */
	uint32_t kind;     /* enum agent_kind */
	uint32_t user_len;
	struct mbox_conf mbox;
	uint64_t content_len;
	/* base, path, host, user, header: no terminators */
};
#define AGENT_NO_GROUP ((uint32_t)-1)
#define AGENT_PACKET_MAX                                                                           \
	(sizeof(struct agent_request) + 2 * AGENT_PATH_MAX + 2 * AGENT_HOST_MAX + AGENT_HEADER_MAX)

/* The answer is a struct maildir_result. */

int agent_main(void);

#endif
