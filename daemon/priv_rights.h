/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What priv gives up before it starts anything, and so everything it starts. Called by priv. */
#ifndef PH_DAEMON_PRIV_RIGHTS_H
#define PH_DAEMON_PRIV_RIGHTS_H

/* All capabilities but the ten that the system's processes need between them, and system calls that
 * none of them makes. A list of what is allowed would have to hold for all programs it starts;
 * those have their own (workers/common/sandbox.h). Dies on failure; a kernel without filters is no
 * failure. */
void priv_give_up_rights(void);
/* In a child, before it becomes a program that runs no commands: none it executes has more rights
 * than itself (no_new_privs). */
void priv_forbid_new_rights(void);

#endif
