/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Transport settings and own addresses; see workers/deliver/tconf.h. */
#include "workers/deliver/tconf.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/deliver/nexthop.h"

enum { VERIFY_AT_RCPT, VERIFY_AT_DATA }; /* smtp_address_verify_target */

/* Protocol words of inet_protocols. */
static void read_protocols(struct tconf *t, const char *words)
{
	t->want4 = strstr(words, "ipv4") != NULL || strstr(words, "all") != NULL;
	t->want6 = strstr(words, "ipv6") != NULL || strstr(words, "all") != NULL;
	if (!t->want4 && !t->want6)
		t->want4 = true;
}

static void read_bind(const char *name, const char *text, union net_addr *a, bool *set)
{
	*set = false;
	if (*text == '\0')
		return;
	if (net_addr_parse(text, 0, a))
		*set = true;
	else
		log_warn("%s: no address: \"%s\"", name, text);
}

/* The two families have the same parameters under two prefixes. */
#define READ_FAMILY(prefix)                                                                        \
	do {                                                                                       \
		t->client.skip_5xx_greeting = p->prefix##_skip_5xx_greeting;                       \
		t->client.raw_addresses = !p->prefix##_quote_rfc821_envelope;                      \
		t->client.connect_ms = p->prefix##_connect_timeout;                                \
		t->client.starttls_ms = p->prefix##_starttls_timeout;                              \
		t->client.note_starttls = p->prefix##_tls_note_starttls_offer;                     \
		t->client.block_early = p->prefix##_tls_block_early_mail_reply ? #prefix           \
						"_tls_block_early_mail_reply"                      \
									       : NULL;             \
		t->client.xforward_ms = p->prefix##_xforward_timeout;                              \
		t->send_xforward = p->prefix##_send_xforward_command;                              \
		t->client.mail_ms = p->prefix##_mail_timeout;                                      \
		t->client.rcpt_ms = p->prefix##_rcpt_timeout;                                      \
		t->client.data_init_ms = p->prefix##_data_init_timeout;                            \
		t->client.data_xfer_ms = p->prefix##_data_xfer_timeout;                            \
		t->client.data_done_ms = p->prefix##_data_done_timeout;                            \
		t->client.rset_ms = p->prefix##_rset_timeout;                                      \
		t->client.quit_ms = p->prefix##_quit_timeout;                                      \
		t->randomize = p->prefix##_randomize_addresses;                                    \
		t->defer_no_mx_address = p->prefix##_defer_if_no_mx_address_found;                 \
		t->preference = p->prefix##_address_preference;                                    \
		t->mx_address_limit = p->prefix##_mx_address_limit;                                \
		t->mx_session_limit = p->prefix##_mx_session_limit;                                \
		t->balance = p->prefix##_balance_inet_protocols;                                   \
		t->fallback_relay = p->prefix##_fallback_relay;                                    \
		t->idle_ms = p->prefix##_connection_cache_time_limit;                              \
		t->reuse_ms = p->prefix##_connection_reuse_time_limit;                             \
		t->reuse_count = p->prefix##_connection_reuse_count_limit;                         \
		t->cache = p->prefix##_connection_cache_on_demand ||                               \
			   p->prefix##_connection_cache_destinations[0] != '\0';                   \
		t->min_data_rate =                                                                 \
			p->prefix##_per_request_deadline ? p->prefix##_min_data_rate : 0;          \
		t->bind_enforce = p->prefix##_bind_address_enforce;                                \
		t->pix_words = p->prefix##_pix_workarounds;                                        \
		t->pix_delay_ms = p->prefix##_pix_workaround_delay_time;                           \
		t->pix_threshold_ms = p->prefix##_pix_workaround_threshold_time;                   \
		port = p->prefix##_tcp_port;                                                       \
		read_bind(#prefix "_bind_address", p->prefix##_bind_address, &t->bind4,            \
			  &t->bind4_set);                                                          \
		read_bind(#prefix "_bind_address6", p->prefix##_bind_address6, &t->bind6,          \
			  &t->bind6_set);                                                          \
	} while (0)

static void read_port(struct tconf *t, const char *text, uint16_t fallback)
{
	struct nexthop n = { 0 };
	char probe[80];

	t->port = fallback;
	snprintf(probe, sizeof(probe), "[127.0.0.1]:%s", text);
	if (nexthop_parse(sv_from(probe), false, fallback, &n) == 0)
		t->port = n.alts[0].port;
	else
		log_warn("transport %s: unknown port \"%s\"", t->name, text);
}

/* Words of notify_classes that are about sessions with servers. */
static unsigned read_classes(const char *text)
{
	unsigned mask = 0;

	for (size_t n; text += strspn(text, ", \t\r\n"), *text != '\0'; text += n) {
		struct sv word = { text, n = strcspn(text, ", \t\r\n") };

		if (sv_eq_nocase(word, SV("protocol")))
			mask |= CLIENT_TROUBLE_PROTOCOL;
		else if (sv_eq_nocase(word, SV("data")))
			mask |= CLIENT_TROUBLE_DATA;
	}
	return mask;
}

void tconf_load(struct tconf *t, const struct conf *c UNUSED, const struct conf_transport *ct)
{
	const struct params *p = ct->params;
	const char *port;

	*t = (struct tconf){ .name = ct->name, .kind = ct->kind };
	t->program = ct->log_name;
	t->retry = ct->kind == TRANSPORT_ERROR && strcmp(ct->service->program, "retry") == 0;
	if (ct->kind == TRANSPORT_ERROR && strcmp(ct->name, "retry") == 0)
		t->retry = true; /* master.cf: "retry unix ... error" */
	t->client.lmtp = ct->kind == TRANSPORT_LMTP;
	t->client.myhostname = p->myhostname;
	if (t->client.lmtp) {
		READ_FAMILY(lmtp);
		t->client.helo_ms = p->lmtp_lhlo_timeout;
		t->client.helo_name = p->lmtp_lhlo_name;
		t->client.probe_data = p->lmtp_address_verify_target == VERIFY_AT_DATA;
		t->client.discard = client_keywords_parse(sv_from(p->lmtp_discard_lhlo_keywords));
		t->assume_final = p->lmtp_assume_final;
		read_port(t, port, 24);
	} else {
		READ_FAMILY(smtp);
		t->client.helo_ms = p->smtp_helo_timeout;
		t->client.helo_name = p->smtp_helo_name;
		t->client.probe_data = p->smtp_address_verify_target == VERIFY_AT_DATA;
		t->client.always_ehlo = p->smtp_always_send_ehlo;
		t->client.never_ehlo = p->smtp_never_send_ehlo;
		t->client.discard = client_keywords_parse(sv_from(p->smtp_discard_ehlo_keywords));
		t->client.in_flight = (unsigned)p->smtp_transactions_in_flight;
		t->mx = !p->disable_dns_lookups &&
			strcmp(p->smtp_dns_support_level, "disabled") != 0;
		read_port(t, port, 25);
	}
	t->best_mx = t->kind == TRANSPORT_SMTP ? p->best_mx_transport : "";
	t->notify = read_classes(p->notify_classes);
	t->double_bounce = p->double_bounce_sender;
	t->myorigin = p->myorigin;
	t->service = port;
	t->srv_fallback = p->allow_srv_lookup_fallback;
	t->srv_ignore_error = p->ignore_srv_lookup_error;
	t->ignore_mx_error = p->ignore_mx_lookup_error;
	t->min_backoff_ms = p->minimal_backoff_time;
	t->queue_directory = p->queue_directory;
	t->idna2003 = p->enable_idna2003_compatibility;
	read_protocols(t, p->inet_protocols);
}

/* ---- addresses ---- */

bool net_addr_parse(const char *text, uint16_t port, union net_addr *a)
{
	*a = (union net_addr){ .in6 = { .sin6_family = AF_UNSPEC } };
	if (inet_pton(AF_INET, text, &a->in.sin_addr) == 1) {
		a->in.sin_family = AF_INET;
		a->in.sin_port = htons(port);
		return true;
	}
	if (inet_pton(AF_INET6, text, &a->in6.sin6_addr) == 1) {
		a->in6.sin6_family = AF_INET6;
		a->in6.sin6_port = htons(port);
		return true;
	}
	return false;
}

bool net_addr_eq(const union net_addr *a, const union net_addr *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET)
		return a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
	return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, 16) == 0;
}

socklen_t net_addr_len(const union net_addr *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->in) : sizeof(a->in6);
}

void net_addr_text(const union net_addr *a, char *out, size_t size)
{
	const void *p = a->sa.sa_family == AF_INET ? (const void *)&a->in.sin_addr
						   : (const void *)&a->in6.sin6_addr;

	if (inet_ntop(a->sa.sa_family, p, out, (socklen_t)size) == NULL)
		str_copy(out, size, SV("?"));
}

static void own_add(struct own_addrs *o, const union net_addr *a)
{
	if (o->count == o->cap) {
		o->cap = o->cap * 2 + 8;
		o->list = xrealloc(o->list, o->cap * sizeof(*o->list));
	}
	o->list[o->count++] = *a;
}

static void own_add_sockaddr(struct own_addrs *o, const struct sockaddr *sa)
{
	union net_addr a = { .in6 = { .sin6_family = AF_UNSPEC } };

	if (sa == NULL)
		return;
	if (sa->sa_family == AF_INET)
		memcpy(&a.in, sa, sizeof(a.in));
	else if (sa->sa_family == AF_INET6)
		memcpy(&a.in6, sa, sizeof(a.in6));
	else
		return;
	own_add(o, &a);
}

static void own_add_interfaces(struct own_addrs *o, bool loopback_only)
{
	struct ifaddrs *list = NULL;
	union net_addr a;

	if (loopback_only || getifaddrs(&list) != 0) {
		if (net_addr_parse("127.0.0.1", 0, &a))
			own_add(o, &a);
		if (net_addr_parse("::1", 0, &a))
			own_add(o, &a);
		return;
	}
	for (struct ifaddrs *i = list; i != NULL; i = i->ifa_next)
		own_add_sockaddr(o, i->ifa_addr);
	freeifaddrs(list);
}

static void own_add_name(struct own_addrs *o, const char *name)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *list;

	if (getaddrinfo(name, NULL, &hints, &list) != 0) {
		log_warn("inet_interfaces, proxy_interfaces: host not found: %s", name);
		return;
	}
	for (struct addrinfo *i = list; i != NULL; i = i->ai_next)
		own_add_sockaddr(o, i->ai_addr);
	freeaddrinfo(list);
}

static void own_add_words(struct own_addrs *o, const char *text)
{
	struct sv s = sv_from(text);
	char word[NEXTHOP_HOST_SIZE];

	for (size_t at = 0; at < s.len;) {
		size_t from;
		struct sv w;

		while (at < s.len && (s.p[at] == ',' || ascii_is_space(s.p[at])))
			at++;
		for (from = at; at < s.len && s.p[at] != ',' && !ascii_is_space(s.p[at]);)
			at++;
		w = (struct sv){ s.p + from, at - from };
		if (w.len > 2 && w.p[0] == '[' && w.p[w.len - 1] == ']')
			w = (struct sv){ w.p + 1, w.len - 2 };
		if (w.len == 0 || !str_copy(word, sizeof(word), w))
			continue;
		if (strcmp(word, "all") == 0)
			own_add_interfaces(o, false);
		else if (strcmp(word, "loopback-only") == 0)
			own_add_interfaces(o, true);
		else
			own_add_name(o, word);
	}
}

void own_addrs_load(struct own_addrs *o, const struct params *p)
{
	own_add_words(o, p->inet_interfaces);
	own_add_words(o, p->proxy_interfaces);
}

void own_addrs_fini(struct own_addrs *o)
{
	free(o->list);
	*o = (struct own_addrs){ NULL, 0, 0 };
}

bool own_addrs_has(const struct own_addrs *o, const union net_addr *a)
{
	for (size_t i = 0; i < o->count; i++) {
		if (net_addr_eq(&o->list[i], a))
			return true;
	}
	return false;
}
