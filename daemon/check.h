/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What `posthaste check` prints: every problem once and with its place, on standard error, and on
 * standard output in one screen what of the configuration acts, what is accepted without effect
 * and what it asks for that is not there.
 */
#ifndef PH_DAEMON_CHECK_H
#define PH_DAEMON_CHECK_H

#include <stdbool.h>

#include "conf/conf.h"

/* d: what loading and planning found; lines: what the workers wrote to their standard error, as
 * "program[pid]: [warning: |error: |fatal: ]text". True when nothing hinders a start. */
bool check_problems(const struct conf *c, const struct conf_diag *d, struct sv lines);
void check_summary(const struct conf *c);

#endif
