/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading DNS response packets; see workers/resolver/packet.h. */
#include "workers/resolver/packet.h"

#include <string.h>

#include "lib/str.h"
#include "lib/util.h"

#define WIRE_NAME_MAX 255
#define JUMPS_MAX     64
#define CHAIN_MAX     16

enum { T_NS = 2, T_CNAME = 5, T_SOA = 6, T_PTR = 12, T_MX = 15, T_SRV = 33 };

struct cursor {
	const unsigned char *p;
	size_t len;
	size_t at;
};

struct wire_name {
	unsigned char p[WIRE_NAME_MAX];
	size_t len;
};

struct rr {
	struct wire_name owner;
	uint16_t type;
	uint32_t ttl;
	size_t rd_at;
	size_t rdlen;
};

static bool get16(struct cursor *c, uint16_t *v)
{
	if (c->len - c->at < 2)
		return false;
	*v = (uint16_t)(c->p[c->at] << 8 | c->p[c->at + 1]);
	c->at += 2;
	return true;
}

static bool get32(struct cursor *c, uint32_t *v)
{
	uint16_t hi, lo;

	if (!get16(c, &hi) || !get16(c, &lo))
		return false;
	*v = (uint32_t)hi << 16 | lo;
	return true;
}

/* A possibly compressed name at the cursor, lower-cased; the cursor moves behind it. Pointers must
 * point before the place they stand at, so that every name ends. */
static bool get_name(struct cursor *c, struct wire_name *name)
{
	size_t at = c->at, behind = 0;
	unsigned jumps = 0;

	name->len = 0;
	for (;;) {
		if (at >= c->len)
			return false;
		unsigned b = c->p[at];

		if (b >= 0xc0) {
			size_t target;

			if (at + 1 >= c->len || ++jumps > JUMPS_MAX)
				return false;
			target = (size_t)(b & 0x3f) << 8 | c->p[at + 1];
			if (behind == 0)
				behind = at + 2;
			if (target >= at)
				return false;
			at = target;
			continue;
		}
		if (b > 63 || b + 1 > c->len - at || name->len + b + 1 > WIRE_NAME_MAX)
			return false;
		name->p[name->len++] = (unsigned char)b;
		for (unsigned i = 1; i <= b; i++)
			name->p[name->len++] = (unsigned char)ascii_lower((char)c->p[at + i]);
		at += b + 1;
		if (b == 0)
			break;
	}
	c->at = behind != 0 ? behind : at;
	return true;
}

static bool get_rr(struct cursor *c, struct rr *rr)
{
	uint16_t class_id, rdlen;

	if (!get_name(c, &rr->owner) || !get16(c, &rr->type) || !get16(c, &class_id) ||
	    !get32(c, &rr->ttl) || !get16(c, &rdlen) || rdlen > c->len - c->at)
		return false;
	if (rr->ttl > INT32_MAX)
		rr->ttl = 0;
	rr->rd_at = c->at;
	rr->rdlen = rdlen;
	c->at += rdlen;
	return true;
}

static bool name_eq(const struct wire_name *a, const struct wire_name *b)
{
	return a->len == b->len && memcmp(a->p, b->p, a->len) == 0;
}

bool packet_answer_add(unsigned char out[PACKET_ANSWER_MAX], size_t *len, const void *rdata,
		       size_t rdlen)
{
	struct proto_dns_answer h;
	uint16_t n = (uint16_t)rdlen;

	memcpy(&h, out, sizeof(h));
	if (h.rr_count >= PACKET_RR_MAX || rdlen > UINT16_MAX ||
	    rdlen + 2 > PACKET_ANSWER_MAX - *len)
		return false;
	h.rr_count++;
	memcpy(out, &h, sizeof(h));
	memcpy(out + *len, &n, 2);
	memcpy(out + *len + 2, rdata, rdlen);
	*len += 2 + rdlen;
	return true;
}

/* Bytes before the name inside the rdata of a type that has one at its end; -1 = no name. */
static int name_offset(uint16_t type)
{
	switch (type) {
	case T_NS:
	case T_CNAME:
	case T_PTR:
		return 0;
	case T_MX:
		return 2;
	case T_SRV:
		return 6;
	default:
		return -1;
	}
}

/* False when the rdata is damaged; such a record is left out. */
static bool add_rr(const struct cursor *pkt, const struct rr *rr, unsigned char *out, size_t *len)
{
	int off = name_offset(rr->type);
	unsigned char rdata[8 + WIRE_NAME_MAX];
	struct wire_name name;
	struct cursor c = { pkt->p, rr->rd_at + rr->rdlen,
			    rr->rd_at + (size_t)(off < 0 ? 0 : off) };

	if (off < 0)
		return packet_answer_add(out, len, pkt->p + rr->rd_at, rr->rdlen);
	if (rr->rdlen < (size_t)off + 1 || !get_name(&c, &name) || c.at != c.len)
		return false;
	memcpy(rdata, pkt->p + rr->rd_at, (size_t)off);
	memcpy(rdata + off, name.p, name.len);
	return packet_answer_add(out, len, rdata, (size_t)off + name.len);
}

/* How long a denial holds (RFC 2308): the SOA of the authority section. 0 when there is none. */
static uint32_t negative_ttl(struct cursor *c, unsigned count)
{
	struct wire_name name;
	struct rr rr;

	for (unsigned i = 0; i < count && get_rr(c, &rr); i++) {
		struct cursor rd = { c->p, rr.rd_at + rr.rdlen, rr.rd_at };
		uint32_t v = 0;

		if (rr.type != T_SOA || !get_name(&rd, &name) || !get_name(&rd, &name))
			continue;
		for (unsigned k = 0; k < 5; k++) {
			if (!get32(&rd, &v))
				return 0;
		}
		return v < rr.ttl ? v : rr.ttl;
	}
	return 0;
}

struct reading {
	struct cursor c;
	uint16_t rrtype;
	struct wire_name want; /* end of the CNAME chain so far */
	unsigned chain;
	uint32_t ttl;
	unsigned found;
};

/* The answer section; false when it is damaged. */
static bool read_answers(struct reading *r, unsigned count, unsigned char *out, size_t *len)
{
	struct rr rr;

	for (unsigned i = 0; i < count; i++) {
		if (!get_rr(&r->c, &rr))
			return false;
		if (!name_eq(&rr.owner, &r->want))
			continue;
		if (rr.type == r->rrtype) {
			if (add_rr(&r->c, &rr, out, len))
				r->found++;
		} else if (rr.type == T_CNAME) {
			struct cursor rd = { r->c.p, rr.rd_at + rr.rdlen, rr.rd_at };

			if (++r->chain > CHAIN_MAX || !get_name(&rd, &r->want) || rd.at != rd.len)
				return false;
		} else {
			continue;
		}
		if (rr.ttl < r->ttl)
			r->ttl = rr.ttl;
	}
	return true;
}

static enum dns_status read_packet(struct reading *r, unsigned char *out, size_t *len)
{
	uint16_t id, flags, qd, an, ns, ar, qtype, qclass;

	if (!get16(&r->c, &id) || !get16(&r->c, &flags) || !get16(&r->c, &qd) ||
	    !get16(&r->c, &an) || !get16(&r->c, &ns) || !get16(&r->c, &ar) || qd != 1 ||
	    !get_name(&r->c, &r->want) || !get16(&r->c, &qtype) || !get16(&r->c, &qclass))
		return DNS_TEMP;
	unsigned rcode = flags & 15;

	if ((rcode != 0 && rcode != 3) || (flags & 0x8000) == 0)
		return DNS_TEMP;
	if (!read_answers(r, an, out, len))
		return DNS_TEMP;
	if (r->found > 0)
		return DNS_OK;
	r->ttl = negative_ttl(&r->c, ns);
	return rcode == 3 ? DNS_NXDOMAIN : DNS_NODATA;
}

size_t packet_to_answer(const unsigned char *pkt, size_t len, uint16_t rrtype,
			unsigned char out[PACKET_ANSWER_MAX])
{
	struct proto_dns_answer h = { .kind = PROTO_DNS_ANSWER, .rrtype = rrtype };
	struct reading r = { .c = { pkt, len, 0 }, .rrtype = rrtype, .ttl = UINT32_MAX };
	size_t out_len = sizeof(h);
	enum dns_status status;

	memcpy(out, &h, sizeof(h));
	status = read_packet(&r, out, &out_len);
	memcpy(&h, out, sizeof(h));
	h.status = (uint16_t)status;
	if (status != DNS_OK) {
		h.rr_count = 0;
		out_len = sizeof(h);
	}
	h.ttl_s = status == DNS_TEMP ? 0 : r.ttl;
	memcpy(out, &h, sizeof(h));
	return out_len;
}
