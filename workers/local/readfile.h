/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A user's .forward file or an :include: file, read by the delivery child, as that user. */
#ifndef PH_WORKERS_LOCAL_READFILE_H
#define PH_WORKERS_LOCAL_READFILE_H

#include <stdbool.h>

#include "workers/local/maildir.h"

#define READFILE_MAX (1u << 20) /* bytes */

/* Copies base/path to the descriptor. `own`: it must belong to this user or to root and be no link.
 * err E_NOENT: there is none; E_INVAL: it is not to be used, the text says why. */
void readfile_copy(const char *base, const char *path, bool own, int out, struct maildir_result *r);

#endif
