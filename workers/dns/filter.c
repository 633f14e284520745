/* SPDX-License-Identifier: GPL-3.0-or-later */
/* DNS reply filters; see workers/dns/filter.h. */
#include "workers/dns/filter.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "lib/log.h"
#include "lib/util.h"

static unsigned get16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

static void text_a(const struct dns_rr *rr, struct buf *out)
{
	char text[INET_ADDRSTRLEN];

	buf_add_str(out, inet_ntop(AF_INET, &rr->a, text, sizeof(text)));
}

static void text_aaaa(const struct dns_rr *rr, struct buf *out)
{
	char text[INET6_ADDRSTRLEN];

	buf_add_str(out, inet_ntop(AF_INET6, &rr->aaaa, text, sizeof(text)));
}

static void text_name(const struct dns_rr *rr, struct buf *out)
{
	buf_printf(out, "%s.", rr->name);
}

static void text_mx(const struct dns_rr *rr, struct buf *out)
{
	buf_printf(out, "%u %s.", rr->pref, rr->name);
}

static void text_srv(const struct dns_rr *rr, struct buf *out)
{
	buf_printf(out, "%u %u %u %s.", rr->pref, get16(rr->data + 2), get16(rr->data + 4),
		   rr->name);
}

/* The strings of the record in a row. */
static void text_txt(const struct dns_rr *rr, struct buf *out)
{
	const unsigned char *p = rr->data, *end = p + rr->data_len;
	size_t from = out->len;

	for (; p < end; p += *p + 1) /* its shape was checked when it was parsed */
		buf_add(out, (const char *)p + 1, *p);
	if (out->len > from)
		str_make_printable(out->p + from, out->len - from);
}

static void text_tlsa(const struct dns_rr *rr, struct buf *out)
{
	buf_printf(out, "%u %u %u ", rr->data[0], rr->data[1], rr->data[2]);
	for (unsigned i = 3; i < rr->data_len; i++)
		buf_printf(out, "%02x", rr->data[i]);
}

static const struct rr_text {
	uint16_t type;
	const char *name;
	void (*add)(const struct dns_rr *rr, struct buf *out);
} texts[] = {
	{ DNS_T_A, "A", text_a },          { DNS_T_AAAA, "AAAA", text_aaaa },
	{ DNS_T_MX, "MX", text_mx },       { DNS_T_NS, "NS", text_name },
	{ DNS_T_PTR, "PTR", text_name },   { DNS_T_CNAME, "CNAME", text_name },
	{ DNS_T_SRV, "SRV", text_srv },    { DNS_T_TXT, "TXT", text_txt },
	{ DNS_T_TLSA, "TLSA", text_tlsa },
};

bool dns_rr_text(const char *name, uint32_t ttl_s, const struct dns_rr *rr, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (texts[i].type != rr->type)
			continue;
		buf_reset(out);
		buf_printf(out, "%s. %u IN %s ", name, ttl_s, texts[i].name);
		texts[i].add(rr, out);
		return true;
	}
	return false;
}

enum { KEEP, DROP, BROKEN };

static int judge(struct map_list *maps, const char *line, struct buf *action)
{
	buf_reset(action);
	switch (map_list_get(maps, sv_from(line), action)) {
	case MAP_NOT_FOUND:
		return KEEP;
	case MAP_ERROR:
		log_warn("DNS reply filter: table lookup error for %s", line);
		return BROKEN;
	case MAP_FOUND:
		break;
	}
	struct sv word = buf_sv(action);

	word.len = strcspn(buf_cstr(action), " \t");
	if (sv_eq_nocase(word, SV("IGNORE"))) {
		log_info("ignoring DNS RR: %s", line);
		return DROP;
	}
	log_warn("unknown DNS filter action: \"%s\"", buf_cstr(action));
	return BROKEN;
}

struct dns_filtered *dns_filter(struct map_list *maps, const char *name, uint16_t rrtype,
				const struct dns_answer *a)
{
	struct buf line = BUF_INIT, action = BUF_INIT;
	struct dns_filtered *f;
	char clean[DNS_NAME_SIZE];

	/* "no such service" of MX and SRV records is for nobody to take away */
	if (maps == NULL || map_list_is_empty(maps) || a->status != DNS_OK ||
	    ((rrtype == DNS_T_MX || rrtype == DNS_T_SRV) && a->count == 1 &&
	     a->rrs[0].name[0] == '\0'))
		return NULL;
	f = xcalloc(1, sizeof(*f));
	f->answer = *a;
	f->answer.rrs = f->rrs;
	f->answer.count = 0;
	if (!dns_name_clean(sv_from(name), clean))
		clean[0] = '\0';
	for (size_t i = 0; i < a->count && f->why == NULL; i++) {
		int verdict = dns_rr_text(clean, a->ttl_s, &a->rrs[i], &line)
				      ? judge(maps, buf_cstr(&line), &action)
				      : KEEP;

		if (verdict == KEEP)
			f->rrs[f->answer.count++] = a->rrs[i];
		else if (verdict == BROKEN)
			f->why = "Invalid DNS reply filter syntax";
	}
	if (f->answer.count == 0 && f->why == NULL) {
		f->why = "DNS reply filter drops all results";
		f->by_policy = true;
	}
	if (f->why != NULL) {
		f->answer.status = DNS_TEMP;
		f->answer.count = 0;
	}
	buf_fini(&line);
	buf_fini(&action);
	return f;
}
