/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The resolver worker: one DNS cache for all workers, over libunbound on the process's event base.
 * It forwards to resolver_nameservers, or to the name servers of /etc/resolv.conf, and resolves
 * from the root when there are none. DNSSEC is validated when resolver_trust_anchor_file can be
 * read; without it no answer is ever called secure. Files are read in init(), the sandbox follows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unbound-event.h>
#include <unbound.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/worker.h"
#include "workers/resolver/engine.h"

#define FILE_LIMIT (1u << 20)

struct resolver {
	struct worker *w;
	struct ub_ctx *ub;
	struct engine *engine;
	struct hosts *hosts;
	unsigned servers;
	unsigned char rec[PACKET_ANSWER_MAX];
};

struct asking { /* what libunbound's callback gets */
	struct resolver *r;
	struct engine_query *q;
	uint16_t rrtype;
};

static struct resolver the_resolver;

static const char *const ub_options[][2] = {
	{ "use-syslog:", "no" },
	{ "logfile:", "" },
	{ "do-not-query-localhost:", "no" }, /* a forwarder on this machine is the usual case */
	{ "unblock-lan-zones:", "yes" },     /* the site's servers know its private zones */
	{ "insecure-lan-zones:", "yes" },
	{ "num-queries-per-thread:", "1024" },
	{ "outgoing-range:", "512" },
	{ "outgoing-num-tcp:", "32" },
	{ "msg-cache-size:", "16m" },
	{ "rrset-cache-size:", "32m" },
	{ "msg-cache-slabs:", "1" },
	{ "rrset-cache-slabs:", "1" },
	{ "infra-cache-slabs:", "1" },
	{ "key-cache-slabs:", "1" },
	{ "edns-buffer-size:", "1232" },
};

static void ub_done(void *arg, int rcode, void *packet, int packet_len, int sec,
		    char *why_bogus UNUSED, int was_ratelimited UNUSED)
{
	struct asking *a = arg;
	struct resolver *r = a->r;
	size_t len;

	if (rcode == 3 && (packet == NULL || packet_len <= 0)) {
		struct proto_dns_answer h = { .kind = PROTO_DNS_ANSWER,
					      .rrtype = a->rrtype,
					      .status = DNS_NXDOMAIN };

		memcpy(r->rec, &h, sizeof(h));
		engine_done(r->engine, a->q, r->rec, sizeof(h), sec == 2);
	} else if ((rcode != 0 && rcode != 3) || sec == 1 || packet == NULL || packet_len <= 0) {
		engine_done(r->engine, a->q, NULL, 0, false);
	} else {
		len = packet_to_answer(packet, (size_t)packet_len, a->rrtype, r->rec);
		engine_done(r->engine, a->q, r->rec, len, sec == 2);
	}
	free(a);
}

static int ask(void *ctx, const char *name, uint16_t rrtype, struct engine_query *q)
{
	struct resolver *r = ctx;
	struct asking *a = xmalloc(sizeof(*a));

	*a = (struct asking){ r, q, rrtype };
	if (ub_resolve_event(r->ub, name, rrtype, 1, a, ub_done, NULL) != 0) {
		free(a);
		return E_IO;
	}
	return 0;
}

static void answer(void *ctx, void *peer, const void *rec, size_t len)
{
	struct resolver *r = ctx;
	struct worker_peer *p = peer;

	worker_send(r->w, p->link, rec, len);
}

static void add_server(void *ctx, const char *address)
{
	struct resolver *r = ctx;
	int err = ub_ctx_set_fwd(r->ub, address);

	if (err != 0)
		log_warn("name server %s: %s", address, ub_strerror(err));
	else
		r->servers++;
}

/* resolver_nameservers, else /etc/resolv.conf. */
static void add_servers(struct resolver *r)
{
	struct sv list = sv_from(r->w->params->resolver_nameservers);
	struct buf text = BUF_INIT;
	char address[128];

	for (size_t at = 0; at < list.len;) {
		size_t from;

		while (at < list.len && (ascii_is_space(list.p[at]) || list.p[at] == ','))
			at++;
		for (from = at; at < list.len && !ascii_is_space(list.p[at]) && list.p[at] != ',';)
			at++;
		struct sv word = { list.p + from, at - from };

		if (word.len > 0 && nameserver_parse(word, address, sizeof(address)))
			add_server(r, address);
		else if (word.len > 0)
			log_warn("resolver_nameservers: no address: \"%.*s\"", (int)word.len,
				 word.p);
	}
	if (r->servers == 0 && io_read_file("/etc/resolv.conf", FILE_LIMIT, &text) == 0)
		resolv_conf_read(buf_sv(&text), add_server, r);
	buf_fini(&text);
}

static void add_anchor(struct resolver *r)
{
	const char *path = r->w->params->resolver_trust_anchor_file;

	if (*path == '\0')
		return;
	if (access(path, R_OK) != 0) {
		log_warn("%s: %s: DNSSEC is not validated", path, err_str(err_errno()));
		return;
	}
	if (ub_ctx_add_ta_file(r->ub, path) != 0)
		log_warn("resolver_trust_anchor_file %s cannot be used", path);
}

static void nothing(void *arg UNUSED, int rcode UNUSED, void *packet UNUSED, int len UNUSED,
		    int sec UNUSED, char *why UNUSED, int limited UNUSED)
{
}

static int resolver_init(struct worker *w)
{
	struct resolver *r = &the_resolver;
	struct engine_ops ops = { ask, answer, r };
	struct buf text = BUF_INIT;

	r->w = w;
	w->state = r;
	r->ub = ub_ctx_create_event(loop_event_base(w->loop));
	if (r->ub == NULL)
		return E_NOMEM;
	for (size_t i = 0; i < ARRAY_LEN(ub_options); i++) {
		if (ub_ctx_set_option(r->ub, ub_options[i][0], ub_options[i][1]) != 0)
			log_warn("resolver: option \"%s\" is not known to this libunbound",
				 ub_options[i][0]);
	}
	add_servers(r);
	add_anchor(r);
	r->hosts = hosts_new();
	if (io_read_file("/etc/hosts", FILE_LIMIT, &text) == 0)
		hosts_add_text(r->hosts, buf_sv(&text));
	buf_fini(&text);
	r->engine = engine_new(&ops, r->hosts);
	/* a first question, answered from built-in data, makes libunbound read its files now */
	if (ub_resolve_event(r->ub, "localhost", 1, 1, NULL, nothing, NULL) != 0)
		return E_IO;
	/* built-in denials that would hide what a local server says about test zones */
	ub_ctx_zone_remove(r->ub, "test.");
	return 0;
}

static void resolver_attach(struct worker *w, struct worker_peer *peer)
{
	struct resolver *r = w->state;

	engine_peer_add(r->engine, peer);
}

static void resolver_detach(struct worker *w, struct worker_peer *peer)
{
	struct resolver *r = w->state;

	engine_peer_remove(r->engine, peer);
}

static void resolver_from_peer(struct worker *w, struct worker_peer *peer, const void *rec,
			       size_t len)
{
	struct resolver *r = w->state;

	if (engine_input(r->engine, peer, rec, len) != 0)
		worker_accuse(w, peer, "malformed DNS question");
}

static void resolver_drain(struct worker *w)
{
	/* askers have their own time-outs, and ask the next resolver life */
	worker_exit(w);
}

static const struct worker_ops ops = {
	.class_id = CLASS_RESOLVER,
	.program = "resolver",
	.init = resolver_init,
	.attach = resolver_attach,
	.detach = resolver_detach,
	.from_peer = resolver_from_peer,
	.drain = resolver_drain,
};

int main(int argc, char **argv)
{
	return worker_main(argc, argv, &ops);
}
