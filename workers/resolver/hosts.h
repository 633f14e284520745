/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * /etc/hosts and /etc/resolv.conf, read once before the sandbox closes (a reload reads them again).
 * The hosts table answers A, AAAA and PTR before the network is asked, as "hosts: files dns" does;
 * other types of such names are asked as usual.
 */
#ifndef PH_WORKERS_RESOLVER_HOSTS_H
#define PH_WORKERS_RESOLVER_HOSTS_H

#include "lib/str.h"
#include "workers/resolver/packet.h"

struct hosts;

struct hosts *hosts_new(void);
void hosts_free(struct hosts **h);
/* Lines "ADDRESS NAME..."; what cannot be read is skipped. */
void hosts_add_text(struct hosts *h, struct sv text);
/* True when the table decides; the answer record is in out then. `name` in lower case. */
bool hosts_answer(const struct hosts *h, struct sv name, uint16_t rrtype,
		  unsigned char out[PACKET_ANSWER_MAX], size_t *len_r);

/* Calls fn with each "nameserver" of resolv.conf text. */
typedef void (*nameserver_fn)(void *ctx, const char *address);
void resolv_conf_read(struct sv text, nameserver_fn fn, void *ctx);
/* libunbound's form "ADDR" or "ADDR@PORT" from "ADDR", "ADDR:PORT", "[ADDR]:PORT", "ADDR@PORT".
 * False when it is no address. */
bool nameserver_parse(struct sv word, char *out, size_t out_size);

#endif
