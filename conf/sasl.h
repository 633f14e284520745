/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a configuration says of SASL as a whole. Called by the supervisor, which starts the auth
 * workers, by these, and by smtp-in and deliver, which ask them. */
#ifndef PH_CONF_SASL_H
#define PH_CONF_SASL_H

#include <stdbool.h>

#include "conf/conf.h"

enum { /* ..._sasl_security_options */
       SASL_NO_PLAINTEXT = 1,
       SASL_NO_ACTIVE = 2,
       SASL_NO_DICTIONARY = 4,
       SASL_NO_ANONYMOUS = 8,
       SASL_FORWARD_SECRECY = 16,
       SASL_MUTUAL_AUTH = 32,
};

/* Does anybody log in: an smtpd service with smtpd_sasl_auth_enable? */
bool sasl_is_used(const struct conf *c);
/* Does this system log in anywhere: a transport with smtp_sasl_auth_enable? */
bool sasl_client_is_used(const struct conf *c);
/* "noplaintext, noanonymous" as bits; E_CONFIG with a diagnostic that names the parameter. */
int sasl_options_parse(const char *text, const char *param, unsigned *options_r,
		       struct conf_diag *d);
/* Of the mechanisms in `words` those that the filter (a match list; NULL = all) lets pass, with
 * blanks between them. E_AGAIN: a table of it could not be asked. */
struct matchlist;
int sasl_filter_mechanisms(struct matchlist *filter, const char *words, struct buf *out);
/* Is the mechanism one of the words? Without case. */
bool sasl_has_mechanism(const char *words, const char *mechanism);

#endif
