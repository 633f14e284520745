/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Inside of the sendmail command: options (sendmail.c) and the message (sendmail_send.c). */
#ifndef PH_WORKERS_PICKUP_SENDMAIL_H
#define PH_WORKERS_PICKUP_SENDMAIL_H

#include "conf/conf.h"
#include "workers/mail/envelope.h"

struct sendmail {
	struct conf *conf;
	const struct params *p;
	const char *conf_dir;  /* -C; NULL = not given */
	const char *sender;    /* -f or -r; NULL = not given */
	const char *full_name; /* -F; NULL = not given */
	const char *envid;     /* -V */
	const char *smtputf8;  /* -O smtputf8= */
	const char *verp;      /* -XV: delimiters; NULL = none */
	bool probe;            /* -bv */
	bool report;           /* -v */
	bool extract;          /* -t */
	bool ignore_dots;      /* -i */
	uint8_t notify;        /* -N */
	uint8_t ret;           /* -R */
	uint8_t body;          /* -B */
	char *const *rcpts;    /* the rest of the command line */
	unsigned rcpt_count;
};

/* Read a message from standard input and give it to postdrop. Returns the exit status. */
int sendmail_send(const struct sendmail *s);

#endif
