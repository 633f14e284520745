/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The SASL library (libsasl2) for the auth worker. What it has to say goes to the dialogue's lines.
 */
#ifndef PH_WORKERS_AUTH_CYRUS_H
#define PH_WORKERS_AUTH_CYRUS_H

#include "workers/auth/auth.h"

/* Once, while files may be opened: loads plug-ins and reads APPLICATION.conf. `path`: where it is
 * looked for ("a:b"), NULL = where the library does. E_CONFIG: said in the log. */
int cyrus_init(const char *application, const char *path);
/* The mechanisms of a service, in the clear or encrypted; "" when there are none. */
void cyrus_offer(const struct auth_service *service, bool encrypted, struct buf *out);
/* One step of a dialogue: d->in to d->status... Waits for back ends. */
void cyrus_step(struct dialogue *d);
void cyrus_end(struct dialogue *d);

#endif
