/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DNS answer use: a response packet as the resolver turns it into an answer record, that record as
 * the client reads it, and the same bytes as a record that a taken-over resolver might send. The
 * first two bytes choose the type; what comes out must be clean names and whole addresses.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/dns/filter.h"
#include "workers/resolver/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_answer(const void *rec, size_t len)
{
	static struct dns_rr rrs[DNS_RR_MAX];
	struct proto_dns_answer hdr;
	struct dns_answer a;
	char clean[DNS_NAME_SIZE];

	if (dns_answer_parse(rec, len, &hdr, rrs, &a) != 0)
		return;
	ASSERT(a.count <= DNS_RR_MAX && (a.status == DNS_OK) == (a.count > 0));
	struct buf line = BUF_INIT;

	for (size_t i = 0; i < a.count; i++) {
		/* what a DNS reply filter looks up: one line of text */
		ASSERT(dns_rr_text("a.ex", a.ttl_s, &rrs[i], &line) && line.len > 0);
		ASSERT(memchr(line.p, '\n', line.len) == NULL);
		ASSERT(memchr(rrs[i].name, '\0', sizeof(rrs[i].name)) != NULL);
		if (rrs[i].name[0] != '\0')
			ASSERT(dns_name_clean(sv_from(rrs[i].name), clean) &&
			       strcmp(clean, rrs[i].name) == 0);
		if (rrs[i].data != NULL)
			ASSERT(rrs[i].data >= (const unsigned char *)rec &&
			       rrs[i].data + rrs[i].data_len <= (const unsigned char *)rec + len);
	}
	buf_fini(&line);
}

static void check_files(const uint8_t *data, size_t size)
{
	static unsigned char out[PACKET_ANSWER_MAX];
	struct hosts *h = hosts_new();
	char address[128];
	size_t len;

	hosts_add_text(h, (struct sv){ (const char *)data, size });
	if (hosts_answer(h, SV("a.ex"), DNS_T_A, out, &len))
		check_answer(out, len);
	nameserver_parse((struct sv){ (const char *)data, size }, address, sizeof(address));
	hosts_free(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t types[] = { DNS_T_A,   DNS_T_MX,   DNS_T_PTR,   DNS_T_AAAA, DNS_T_TXT,
					  DNS_T_SRV, DNS_T_TLSA, DNS_T_CNAME, DNS_T_NS };
	static unsigned char out[PACKET_ANSWER_MAX];
	size_t len;

	if (size < 2)
		return 0;
	len = packet_to_answer(data + 2, size - 2, types[data[0] % ARRAY_LEN(types)], out);
	ASSERT(len >= sizeof(struct proto_dns_answer) && len <= sizeof(out));
	check_answer(out, len);
	check_answer(data + 2, size - 2);
	check_files(data + 2, size - 2);
	return 0;
}
