/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Strict reading of one PROTO_DNS_ANSWER record. The bytes come from the resolver worker, but their
 * content from anywhere on the network: nothing is believed. Called by the DNS client for each
 * answer; a pure function, so that the fuzz target can call it too.
 */
#include <string.h>

#include "lib/err.h"
#include "lib/util.h"
#include "workers/dns/dns.h"

static unsigned get16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* Uncompressed wire name that ends exactly at p + len. */
static bool read_name(const unsigned char *p, size_t len, char out[DNS_NAME_SIZE])
{
	char text[DNS_NAME_SIZE];
	size_t n = 0, at = 0;

	if (len == 1 && p[0] == 0) {
		out[0] = '\0';
		return true;
	}
	while (at < len && p[at] != 0) {
		size_t label = p[at];

		if (label > 63 || label >= len - at || n + label + 1 >= sizeof(text))
			return false;
		if (n > 0)
			text[n++] = '.';
		/* a dot inside a label would look like two labels */
		if (memchr(p + at + 1, '.', label) != NULL)
			return false;
		memcpy(text + n, p + at + 1, label);
		n += label;
		at += label + 1;
	}
	return at + 1 == len && dns_name_clean((struct sv){ text, n }, out);
}

static bool read_a(const unsigned char *p, size_t len, struct dns_rr *rr)
{
	if (len != 4)
		return false;
	memcpy(&rr->a, p, 4);
	return true;
}

static bool read_aaaa(const unsigned char *p, size_t len, struct dns_rr *rr)
{
	if (len != 16)
		return false;
	memcpy(&rr->aaaa, p, 16);
	return true;
}

static bool read_mx(const unsigned char *p, size_t len, struct dns_rr *rr)
{
	if (len < 3)
		return false;
	rr->pref = (uint16_t)get16(p);
	return read_name(p + 2, len - 2, rr->name);
}

static bool read_ptr(const unsigned char *p, size_t len, struct dns_rr *rr)
{
	/* the root as a target says nothing useful for a PTR or CNAME */
	return len > 1 && read_name(p, len, rr->name);
}

static bool read_txt(const unsigned char *p, size_t len, struct dns_rr *rr)
{
	size_t at = 0;

	while (at < len) {
		if ((size_t)p[at] >= len - at)
			return false;
		at += (size_t)p[at] + 1;
	}
	rr->data = p;
	rr->data_len = (uint16_t)len;
	return len > 0;
}

static bool read_srv(const unsigned char *p, size_t len, struct dns_rr *rr)
{
	if (len < 7)
		return false;
	rr->pref = (uint16_t)get16(p);
	rr->data = p;
	rr->data_len = (uint16_t)len;
	return read_name(p + 6, len - 6, rr->name);
}

static bool read_tlsa(const unsigned char *p, size_t len, struct dns_rr *rr)
{
	/* usage, selector, matching type and at least one byte of data */
	if (len < 4)
		return false;
	rr->data = p;
	rr->data_len = (uint16_t)len;
	return true;
}

static const struct rdata_reader {
	uint16_t type;
	bool (*read)(const unsigned char *p, size_t len, struct dns_rr *rr);
} readers[] = {
	{ DNS_T_A, read_a },     { DNS_T_AAAA, read_aaaa }, { DNS_T_MX, read_mx },
	{ DNS_T_PTR, read_ptr }, { DNS_T_CNAME, read_ptr }, { DNS_T_NS, read_ptr },
	{ DNS_T_TXT, read_txt }, { DNS_T_SRV, read_srv },   { DNS_T_TLSA, read_tlsa },
};

static bool read_rr(uint16_t type, const unsigned char *p, size_t len, struct dns_rr *rr)
{
	for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
		if (readers[i].type != type)
			continue;
		memset(rr, 0, offsetof(struct dns_rr, name));
		rr->name[0] = '\0';
		rr->type = type;
		return readers[i].read(p, len, rr);
	}
	return false;
}

int dns_answer_parse(const void *rec, size_t len, struct proto_dns_answer *hdr_r,
		     struct dns_rr *rrs, struct dns_answer *a_r)
{
	const unsigned char *p = rec;
	size_t at = sizeof(*hdr_r), count = 0;

	if (len < sizeof(*hdr_r))
		return E_PEER;
	memcpy(hdr_r, rec, sizeof(*hdr_r));
	if (hdr_r->kind != PROTO_DNS_ANSWER || hdr_r->status > DNS_BADNAME ||
	    hdr_r->rr_count > DNS_RR_MAX)
		return E_PEER;
	for (unsigned i = 0; i < hdr_r->rr_count; i++) {
		uint16_t rdlen;

		if (len - at < 2)
			return E_PEER;
		memcpy(&rdlen, p + at, 2);
		at += 2;
		if (rdlen > len - at)
			return E_PEER;
		if (read_rr(hdr_r->rrtype, p + at, rdlen, &rrs[count]))
			count++;
		at += rdlen;
	}
	if (at != len)
		return E_PEER;
	*a_r = (struct dns_answer){ .status = (enum dns_status)hdr_r->status,
				    .secure = hdr_r->secure == 1,
				    .ttl_s = hdr_r->ttl_s,
				    .count = count,
				    .rrs = rrs };
	if (a_r->status != DNS_OK)
		a_r->count = 0;
	else if (count == 0)
		a_r->status = DNS_TEMP;
	return 0;
}
