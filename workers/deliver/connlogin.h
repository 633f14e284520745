/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The login of an outgoing connection: looked up before the connection is opened, for it decides
 * whether mail may go without TLS where that fails. Called by connect.c, conn.c and conntls.c.
 */
#ifndef PH_WORKERS_DELIVER_CONNLOGIN_H
#define PH_WORKERS_DELIVER_CONNLOGIN_H

#include "workers/deliver/deliver.h"

/* Who logs in to `host`, by the next hop of alternative `alt`, for c->job? False: remote tables are
 * asked, and conn_next_host() is called when they have answered. */
bool conn_login_plan(struct conn *c, unsigned alt, const char *host);
/* With c->namaddr set. False: the tables could not be asked, which is now the job's result. */
bool conn_login_is_known(struct conn *c);
/* Right after client_init(). */
void conn_login_attach(struct conn *c);
/* Is there somebody who logs in? */
bool conn_login_is_wanted(const struct conn *c);
void conn_login_close(struct conn *c);
/* Does a connection serve one message only, because the next one may need another login? */
bool conn_login_is_single(const struct conn *c);

#endif
