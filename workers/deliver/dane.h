/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DANE for SMTP (RFC 6698, 7671, 7672): TLSA records of one server, and whether a chain of
 * certificates is what they say. Records count only where DNSSEC says that they are genuine; who
 * looks them up (route.c) has seen to that. Pure functions, called by route.c and tlsverify.c.
 */
#ifndef PH_WORKERS_DELIVER_DANE_H
#define PH_WORKERS_DELIVER_DANE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/str.h"
#include "workers/dns/dns.h"
#include "workers/tls/tls.h"

#define DANE_RECORD_MAX 32u   /* usable ones of one server */
#define DANE_DATA_MAX   4096u /* bytes of one */

enum dane_status {
	DANE_NONE,     /* no records, or none that are genuine: no DANE here */
	DANE_ERROR,    /* cannot be known now: no mail to this server */
	DANE_UNUSABLE, /* records, but none that we can use: TLS, and no certificate will do */
	DANE_USABLE,
};

struct tlsa {
	uint8_t usage;    /* 2: DANE-TA, 3: DANE-EE */
	uint8_t selector; /* 0: certificate, 1: its public key */
	uint8_t matching; /* 0: the thing itself, 1: SHA-256, 2: SHA-512 */
	uint16_t len;
	unsigned char *data;
};

struct dane { /* counted */
	unsigned refs;
	enum dane_status status;
	bool insecure_mx;         /* found by way of an MX record that is not signed */
	char base[DNS_NAME_SIZE]; /* the name whose records these are: SNI, and a reference name */
	unsigned count;
	struct tlsa records[DANE_RECORD_MAX];
};

struct dane *dane_new(enum dane_status status, const char *base);
struct dane *dane_ref(struct dane *d);
void dane_unref(struct dane **d); /* NULL is allowed */
/* Takes what is usable of an answer's records: of several digests of the same thing the one that
 * comes first in `digests` (tls_dane_digests) only. DANE_USABLE or DANE_UNUSABLE. */
void dane_read(struct dane *d, const struct dns_answer *a, const char *digests);

/* Is the server's own certificate one of DANE-EE? Neither names nor dates count then. */
bool dane_is_server(const struct dane *d, struct sv cert);
/* The first certificate of the chain that is a trust anchor of DANE-TA; -1: none. */
int dane_anchor(const struct dane *d, const struct sv *chain, size_t count);

#endif
