/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a local user may say in an envelope. sendmail, postdrop and the pickup worker use the same
 * rules; the latter two because what they read may come from anybody.
 */
#ifndef PH_WORKERS_PICKUP_DROPENV_H
#define PH_WORKERS_PICKUP_DROPENV_H

#include "workers/mail/envelope.h"

/* Decode `data` and take over what a local user may say: sender, full name, ENVID, RET, body type,
 * SMTPUTF8, recipients with NOTIFY and ORCPT, arrival time. All else is dropped. Views point into
 * data and the arena. 0, or E_SYNTAX, E_LIMIT with the reason. */
int dropenv_decode(struct sv data, struct arena *arena, struct envelope *e, const char **why_r);
/* An address that may stand in an envelope: no control characters, UTF-8, not too long. */
bool dropenv_address_ok(struct sv addr, const char **why_r);

#endif
