/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The hosts table and resolv.conf; see workers/resolver/hosts.h. */
#include "workers/resolver/hosts.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/hash.h"
#include "lib/util.h"
#include "workers/dns/dns.h"

#define HOSTS_TTL_S     60
#define HOSTS_ADDRESSES 8

struct host { /* one name, or one reverse name */
	unsigned a_count, aaaa_count;
	struct in_addr a[HOSTS_ADDRESSES];
	struct in6_addr aaaa[HOSTS_ADDRESSES];
	char ptr[DNS_NAME_SIZE]; /* "" = this is no reverse name */
};

struct hosts {
	struct strmap *names;
};

struct hosts *hosts_new(void)
{
	struct hosts *h = xcalloc(1, sizeof(*h));

	h->names = strmap_new();
	return h;
}

void hosts_free(struct hosts **hp)
{
	struct sv key;
	size_t pos = 0;
	void *value;

	if (*hp == NULL)
		return;
	while (strmap_next((*hp)->names, &pos, &key, &value))
		free(value);
	strmap_free(&(*hp)->names);
	free(*hp);
	*hp = NULL;
}

static struct sv next_word(struct sv *line)
{
	struct sv w;

	*line = sv_trim(*line);
	w = (struct sv){ line->p, 0 };
	while (w.len < line->len && !ascii_is_space(line->p[w.len]))
		w.len++;
	line->p += w.len;
	line->len -= w.len;
	return w;
}

static struct sv next_line(struct sv *text)
{
	struct sv line = sv_next_part(text, '\n');
	const char *hash = line.len > 0 ? memchr(line.p, '#', line.len) : NULL;

	if (hash != NULL)
		line.len = (size_t)(hash - line.p);
	return line;
}

static struct host *host_get(struct hosts *h, const char *name)
{
	struct host *host = strmap_get(h->names, sv_from(name));

	if (host == NULL) {
		host = xcalloc(1, sizeof(*host));
		strmap_put(h->names, sv_from(name), host);
	}
	return host;
}

static void add_line(struct hosts *h, struct sv line)
{
	char address[64], name[DNS_NAME_SIZE], reverse[DNS_NAME_SIZE];
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };
	bool is4, first = true;

	if (!str_copy(address, sizeof(address), next_word(&line)))
		return;
	is4 = inet_pton(AF_INET, address, &sin.sin_addr) == 1;
	if (!is4 && inet_pton(AF_INET6, address, &sin6.sin6_addr) != 1)
		return;
	dns_reverse_name(is4 ? (struct sockaddr *)&sin : (struct sockaddr *)&sin6, reverse);
	for (struct sv w = next_word(&line); w.len > 0; w = next_word(&line)) {
		struct host *host;

		if (!dns_name_clean(w, name))
			continue;
		host = host_get(h, name);
		if (is4 && host->a_count < HOSTS_ADDRESSES)
			host->a[host->a_count++] = sin.sin_addr;
		if (!is4 && host->aaaa_count < HOSTS_ADDRESSES)
			host->aaaa[host->aaaa_count++] = sin6.sin6_addr;
		host = host_get(h, reverse);
		if (first && host->ptr[0] == '\0')
			snprintf(host->ptr, sizeof(host->ptr), "%s", name);
		first = false;
	}
}

void hosts_add_text(struct hosts *h, struct sv text)
{
	while (text.len > 0)
		add_line(h, next_line(&text));
}

/* Text name to wire form; names come from dns_name_clean(), so they fit. */
static size_t name_to_wire(const char *name, unsigned char *out)
{
	size_t n = 0;

	while (*name != '\0') {
		size_t label = strcspn(name, ".");

		out[n++] = (unsigned char)label;
		memcpy(out + n, name, label);
		n += label;
		name += label + (name[label] == '.');
	}
	out[n++] = 0;
	return n;
}

bool hosts_answer(const struct hosts *h, struct sv name, uint16_t rrtype,
		  unsigned char out[PACKET_ANSWER_MAX], size_t *len_r)
{
	const struct host *host = strmap_get(h->names, name);
	struct proto_dns_answer hdr = { .kind = PROTO_DNS_ANSWER,
					.rrtype = rrtype,
					.ttl_s = HOSTS_TTL_S };
	unsigned char wire[DNS_NAME_SIZE + 2];

	if (host == NULL)
		return false;
	memcpy(out, &hdr, sizeof(hdr));
	*len_r = sizeof(hdr);
	if (rrtype == DNS_T_PTR && host->ptr[0] != '\0') {
		packet_answer_add(out, len_r, wire, name_to_wire(host->ptr, wire));
	} else if ((rrtype == DNS_T_A || rrtype == DNS_T_AAAA) &&
		   host->a_count + host->aaaa_count > 0) {
		for (unsigned i = 0; rrtype == DNS_T_A && i < host->a_count; i++)
			packet_answer_add(out, len_r, &host->a[i], 4);
		for (unsigned i = 0; rrtype == DNS_T_AAAA && i < host->aaaa_count; i++)
			packet_answer_add(out, len_r, &host->aaaa[i], 16);
	} else {
		return false;
	}
	memcpy(&hdr, out, sizeof(hdr));
	hdr.status = hdr.rr_count > 0 ? DNS_OK : DNS_NODATA;
	memcpy(out, &hdr, sizeof(hdr));
	return true;
}

void resolv_conf_read(struct sv text, nameserver_fn fn, void *ctx)
{
	while (text.len > 0) {
		struct sv line = next_line(&text);
		char address[128];

		if (!sv_eq_str(next_word(&line), "nameserver"))
			continue;
		if (nameserver_parse(next_word(&line), address, sizeof(address)))
			fn(ctx, address);
	}
}

bool nameserver_parse(struct sv word, char *out, size_t out_size)
{
	char host[100], bare[100];
	struct sv port = { NULL, 0 };
	unsigned char addr[16];
	uint64_t n = 53;
	size_t host_len = word.len;

	unsigned colons = 0;

	for (size_t i = 0; i < word.len; i++)
		colons += word.p[i] == ':';
	for (size_t i = word.len; i-- > 0;) {
		/* "a.b.c.d:53" and "[v6]:53"; a bare IPv6 address has more than one colon */
		if (word.p[i] == '@' ||
		    (word.p[i] == ':' && i > 0 && (colons == 1 || word.p[i - 1] == ']'))) {
			host_len = i;
			port = (struct sv){ word.p + i + 1, word.len - i - 1 };
			break;
		}
	}
	if (host_len >= 2 && word.p[0] == '[' && word.p[host_len - 1] == ']') {
		word.p++;
		host_len -= 2;
	}
	if (!str_copy(host, sizeof(host), (struct sv){ word.p, host_len }) ||
	    (port.p != NULL && (str_to_u64(port, 65535, &n) != 0 || n == 0)))
		return false;
	/* link-local addresses keep their %zone, libunbound knows it */
	snprintf(bare, sizeof(bare), "%.*s", (int)strcspn(host, "%"), host);
	if (inet_pton(AF_INET, bare, addr) != 1 && inet_pton(AF_INET6, bare, addr) != 1)
		return false;
	return (size_t)snprintf(out, out_size, "%s@%u", host, (unsigned)n) < out_size;
}
