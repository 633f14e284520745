/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From a DNS response packet (RFC 1035) to the body of a PROTO_DNS_ANSWER: the records of the asked
 * type at the end of the CNAME chain, names uncompressed. The packet is libunbound's encoding of
 * what came from the network. Pure functions; workers/resolver/engine.c and the fuzz target call
 * them.
 */
#ifndef PH_WORKERS_RESOLVER_PACKET_H
#define PH_WORKERS_RESOLVER_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/proto.h"

#define PACKET_RR_MAX 100
/* Bytes of a whole answer record; what does not fit is left out (a ring takes RING_RECORD_MAX). */
#define PACKET_ANSWER_MAX 30000

/* Fill out (header and records) from a response to a question for rrtype; id and secure are the
 * caller's to set. Returns the length of the record. A packet that is damaged, or answers with an
 * error other than NXDOMAIN, becomes DNS_TEMP. */
size_t packet_to_answer(const unsigned char *pkt, size_t len, uint16_t rrtype,
			unsigned char out[PACKET_ANSWER_MAX]);

/* Append one record (length, rdata) to an answer under construction; false when it is full. */
bool packet_answer_add(unsigned char out[PACKET_ANSWER_MAX], size_t *len, const void *rdata,
		       size_t rdlen);

#endif
