/* SPDX-License-Identifier: GPL-3.0-or-later */
/* smtpd -S, started by `sendmail -bs`: one SMTP session on standard input and output, run by and
 * for an ordinary user, with or without a running mail system. Mail goes to postdrop. */
#ifndef PH_WORKERS_SMTP_IN_STANDALONE_H
#define PH_WORKERS_SMTP_IN_STANDALONE_H

int standalone_main(void);

#endif
