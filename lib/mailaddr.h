/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Mail addresses and host names: what tables, policy and workers all need.
 *
 * Two forms of an address, as in Postfix. Internal: the local part as it is meant, without quotes,
 * so that the last '@' always separates the domain ("a b@example.com"). External: the local part as
 * RFC 5321 writes it ("\"a b\"@example.com"). Envelopes, tables and policy hold the internal form;
 * the wire and the log show the external one.
 */
#ifndef PH_LIB_MAILADDR_H
#define PH_LIB_MAILADDR_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/buf.h"
#include "lib/str.h"

#define MAIL_ADDR_MAX_BYTES     1000u /* longest address accepted anywhere, internal form */
#define MAIL_HOSTNAME_MAX_BYTES 255u  /* RFC 1035 */

/* Internal form: split at the last '@'. False when there is none: *domain_r is empty then. */
bool mail_addr_split(struct sv addr, struct sv *local_r, struct sv *domain_r);
/* Split "user+ext" at the first byte of `delimiters` (recipient_delimiter; "" = never). False when
 * there is no extension; *base_r is the whole local part then. As in Postfix: never before the
 * first byte, never in mailer-daemon and double-bounce, and with '-' not in owner-x and x-request.
 */
bool mail_addr_split_ext(struct sv local, const char *delimiters, struct sv *base_r,
			 struct sv *ext_r);
/* Fold the domain to lower case (ASCII), in place; the local part stays. */
void mail_addr_lower_domain(char *addr, size_t len);
/* Append the external form. Without '@' the whole is a local part. False on a full buffer. */
bool mail_addr_quote(struct sv internal, struct buf *out);
/* Append the internal form of an external address. E_SYNTAX on an open quote, E_LIMIT. */
int mail_addr_unquote(struct sv external, struct buf *out);

/* Host names: letters, digits, '-' and '_' in labels of 1 to 63 bytes, '-' not at a label's ends,
 * not digits and dots alone, no final dot; UTF-8 labels (RFC 5890 U-labels) are accepted. */
bool mail_hostname_is_valid(struct sv name);
/* Numerical addresses in text form, without brackets. */
bool mail_hostaddr_is_valid(struct sv addr);
bool mail_hostaddr_is_v6(struct sv addr);
/* "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC 5321 4.1.3). *addr_r: the address without prefix. */
bool mail_literal_parse(struct sv literal, struct sv *addr_r);

#endif
