/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The deliver worker: takes jobs from the supervisor and delivers them by SMTP or LMTP, hundreds of
 * connections at once; also answers for the error, retry and discard transports. See
 * workers/deliver/deliver.h for the parts.
 */
#include <signal.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/common/statusfilter.h"
#include "workers/deliver/convert.h"
#include "workers/deliver/deliver.h"
#include "workers/deliver/headflags.h"
#include "workers/deliver/login.h"
#include "workers/deliver/sasllink.h"
#include "workers/deliver/tlsclient.h"
#include "workers/tables/client.h"

#define TICK_MS        250
#define DNS_TIMEOUT_MS 30000
#define OPEN_SEGMENTS  64
/* Jobs come with a few windows' worth ahead, so most of them have been here for longer than this
 * when their turn comes. */
#define SYNC_PACE_US 2000
#define SYNC_BATCH   25 /* a quarter of what one destination's window makes of jobs in hand */
#define SYNC_LANES   4

static struct deliver the_deliver;

static void tick(void *ctx)
{
	struct deliver *d = ctx;

	twheel_run(&d->wheel, clock_now().ms, conn_timer_fired, d);
	dns_client_tick(d->dns);
	tables_client_tick(d->tables);
	if (d->sasl != NULL)
		sasl_link_tick(d->sasl);
	loop_timer_set(&d->tick, TICK_MS);
}

/* ---- journal files ---- */

static void send_file(struct deliver *d, uint32_t kind, uint32_t number, uint64_t bytes)
{
	struct proto_file f = {
		.kind = kind, .file_kind = SPOOL_JOURNAL, .number = number, .bytes = bytes
	};

	worker_send(d->w, &d->w->super, &f, sizeof(f));
}

static void need_file(void *ctx)
{
	send_file(ctx, PROTO_FILE_NEED, 0, 0);
}

static void closed_file(void *ctx, uint32_t number, uint64_t bytes)
{
	send_file(ctx, PROTO_FILE_CLOSED, number, bytes);
}

/* ---- the frame's calls ---- */

/* What looks at the server and at what it says. */
static int open_tables(const struct conf *c, const struct conf_transport *ct, struct tconf *t,
		       struct conf_diag *diag)
{
	bool lmtp = ct->kind == TRANSPORT_LMTP;
	const struct params *p = ct->params;
	int err;

	if (ct->kind != TRANSPORT_SMTP && !lmtp)
		return 0;
	err = map_list_open(c, lmtp ? p->lmtp_reply_filter : p->smtp_reply_filter,
			    lmtp ? "lmtp_reply_filter" : "smtp_reply_filter", &t->reply_filter,
			    diag);
	if (err == 0)
		err = map_list_open(c,
				    lmtp ? p->lmtp_discard_lhlo_keyword_address_maps
					 : p->smtp_discard_ehlo_keyword_address_maps,
				    lmtp ? "lmtp_discard_lhlo_keyword_address_maps"
					 : "smtp_discard_ehlo_keyword_address_maps",
				    &t->discard_maps, diag);
	if (err == 0)
		err = map_list_open(
			c, lmtp ? p->lmtp_pix_workaround_maps : p->smtp_pix_workaround_maps,
			lmtp ? "lmtp_pix_workaround_maps" : "smtp_pix_workaround_maps",
			&t->pix_maps, diag);
	if (err == 0 && p->debug_peer_list[0] != '\0')
		err = matchlist_open(c, p->debug_peer_list, "debug_peer_list", MATCHLIST_ADDRESS,
				     &t->debug_peers, diag);
	if (err == 0)
		err = map_list_open(c, lmtp ? p->lmtp_dns_reply_filter : p->smtp_dns_reply_filter,
				    lmtp ? "lmtp_dns_reply_filter" : "smtp_dns_reply_filter",
				    &t->dns_filter, diag);
	if (err == 0 && p->use_srv_lookup[0] != '\0' && !p->disable_dns_lookups &&
	    strcmp(lmtp ? p->lmtp_dns_support_level : p->smtp_dns_support_level, "disabled") != 0)
		err = matchlist_open(c, p->use_srv_lookup, "use_srv_lookup", MATCHLIST_STRING,
				     &t->srv, diag);
	return err;
}

static int load_tconfs(struct deliver *d, struct worker *w)
{
	struct conf_diag diag;
	int err = 0;

	d->tconf_count = conf_transport_count(w->conf);
	d->tconfs = xcalloc(d->tconf_count + 1, sizeof(*d->tconfs));
	conf_diag_init(&diag);
	for (unsigned i = 0; i < d->tconf_count && err == 0; i++) {
		tconf_load(&d->tconfs[i], w->conf, conf_transport(w->conf, i));
		err = tls_policy_open(w->conf, conf_transport(w->conf, i), &d->tconfs[i].tls,
				      &diag);
		if (err == 0)
			d->tconfs[i].tls_client = tls_client_new(
				w->conf, conf_transport(w->conf, i), d->tconfs[i].tls, &diag);
		if (err == 0)
			err = login_conf_open(w->conf, conf_transport(w->conf, i),
					      &d->tconfs[i].login, &diag);
		if (err == 0)
			err = convert_conf_open(w->conf, conf_transport(w->conf, i),
						&d->tconfs[i].convert, &diag);
		if (err == 0)
			err = headflags_read(w->conf, conf_transport(w->conf, i),
					     &d->tconfs[i].head_flags, &diag);
		if ((d->tconfs[i].head_flags & HEAD_FINAL) != 0)
			d->tconfs[i].assume_final = true;
		if (err == 0)
			err = status_filter_open(w->conf, conf_transport(w->conf, i),
						 &d->tconfs[i].status, &diag);
		if (err == 0)
			err = open_tables(w->conf, conf_transport(w->conf, i), &d->tconfs[i],
					  &diag);
	}
	conf_diag_log(&diag);
	conf_diag_fini(&diag);
	return err;
}

static int deliver_init(struct worker *w)
{
	struct deliver *d = &the_deliver;

	d->w = w;
	w->state = d;
	d->loop = w->loop;
	d->counters = w->counters;
	d->connection_limit = w->params->deliver_connection_limit;
	d->held_tail = &d->held_first;
	d->new_tail = &d->new_first;
	d->gated_tail = &d->gated_first;
	d->record_sync = w->params->in_doubt_sync;
	d->starved_tail = &d->starved;
	int err = load_tconfs(d, w);

	if (err != 0)
		return err;
	own_addrs_load(&d->own, w->params);
	if (w->check_only)
		return 0;
	return spool_dirs_open(w->params->queue_directory, false, &d->dirs);
}

static int deliver_start(struct worker *w)
{
	struct deliver *d = w->state;
	struct journal_conf jc = { .sync_window_ms = w->params->journal_sync_window,
				   .pace_us = SYNC_PACE_US,
				   .batch = SYNC_BATCH,
				   .lanes = SYNC_LANES,
				   .file_bytes = (uint64_t)w->params->journal_file_size,
				   .counters = w->counters,
				   .need_file = need_file,
				   .closed_file = closed_file,
				   .ctx = d };

	signal(SIGPIPE, SIG_IGN); /* sendfile() has no MSG_NOSIGNAL */
	d->dests = strmap_new();
	d->dns = dns_client_new(DNS_TIMEOUT_MS, w->counters);
	d->tables = tables_client_new(w->params->lookup_timeout, w->counters);
	for (unsigned i = 0; i < d->tconf_count && d->sasl == NULL; i++) {
		if (d->tconfs[i].login != NULL)
			d->sasl = sasl_link_new(w);
	}
	d->env = (struct route_env){ d->dns, &d->own };
	d->reader = spool_reader_new(&d->dirs, OPEN_SEGMENTS);
	twheel_init(&d->wheel, TICK_MS, clock_now().ms);
	loop_timer_init(d->loop, &d->tick, tick, d);
	loop_timer_set(&d->tick, TICK_MS);
	return journal_writer_new(&jc, &d->dirs, d->loop, &d->journal);
}

static void deliver_attach(struct worker *w, struct worker_peer *peer)
{
	struct deliver *d = w->state;

	if (peer->class_id == CLASS_RESOLVER) {
		d->resolver = peer;
		dns_client_set_link(d->dns, peer->link);
	} else if (peer->class_id == CLASS_LOOKUP) {
		d->lookup = peer;
		tables_client_set_link(d->tables, peer->link);
	} else if (peer->class_id == CLASS_SASL_CLIENT && d->sasl != NULL) {
		sasl_link_attach(d->sasl, peer);
	}
}

static void deliver_detach(struct worker *w, struct worker_peer *peer)
{
	struct deliver *d = w->state;

	if (d->resolver == peer) {
		d->resolver = NULL;
		dns_client_set_link(d->dns, NULL);
	} else if (d->lookup == peer) {
		d->lookup = NULL;
		tables_client_set_link(d->tables, NULL);
	} else if (d->sasl != NULL) {
		sasl_link_detach(d->sasl, peer);
	}
}

static void deliver_from_peer(struct worker *w, struct worker_peer *peer, const void *rec,
			      size_t len)
{
	struct deliver *d = w->state;
	uint32_t kind = 0;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (kind == PROTO_DNS_ANSWER && peer == d->resolver)
		dns_client_input(d->dns, rec, len);
	else if (peer == d->lookup &&
		 (kind != PROTO_TABLE_ANSWER || tables_client_input(d->tables, rec, len) != 0))
		worker_accuse(w, peer, "malformed answer of a table");
	else if (peer->class_id == CLASS_SASL_CLIENT && d->sasl != NULL &&
		 sasl_link_record(d->sasl, rec, len) != 0)
		worker_accuse(w, peer, "malformed answer about a login");
}

static void take_job(struct deliver *d, const void *rec, size_t len)
{
	struct proto_job pj;
	struct sv nexthop;

	if (len < sizeof(pj))
		return;
	memcpy(&pj, rec, sizeof(pj));
	nexthop = (struct sv){ (const char *)rec + sizeof(pj), pj.nexthop_len };
	if (!proto_len_ok(len, sizeof(pj), nexthop.len, 1) || nexthop.len > PROTO_NAME_MAX ||
	    pj.transport >= d->tconf_count || pj.ref.mask == 0) {
		log_warn("malformed job from the supervisor");
		return;
	}
	job_take(d, &pj, nexthop);
}

static void close_idle_of(struct deliver *d, uint32_t row)
{
	struct conn *next;

	for (struct conn *c = d->idle_first; c != NULL; c = next) {
		struct dest *dest = c->dest;

		next = c->lru_next;
		if (dest->row == row) {
			conn_close_idle(c);
			dest_pump(dest);
		}
	}
}

static void deliver_from_super(struct worker *w, const void *rec, size_t len)
{
	struct deliver *d = w->state;
	struct proto_file file;
	struct proto_dest_idle idle;
	uint32_t kind = 0;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (kind == PROTO_JOB && d->draining) {
		return; /* the supervisor gives it to another worker when this life ends */
	} else if (kind == PROTO_JOB) {
		take_job(d, rec, len);
	} else if (kind == PROTO_FILE_GRANT && len >= sizeof(file)) {
		memcpy(&file, rec, sizeof(file));
		journal_writer_grant(d->journal, file.number,
				     (struct journal_owner){ w->life, file.code });
	} else if (kind == PROTO_DEST_IDLE && len >= sizeof(idle)) {
		memcpy(&idle, rec, sizeof(idle));
		close_idle_of(d, idle.dest);
	}
}

static void close_all_idle(struct deliver *d)
{
	while (d->idle_first != NULL) {
		struct dest *dest = d->idle_first->dest;

		conn_close_idle(d->idle_first);
		dest_pump(dest);
	}
}

static bool deliver_turn(struct worker *w)
{
	struct deliver *d = w->state;
	bool more;

	if (d->new_first != NULL)
		job_start_taken(d);
	if (d->held_first != NULL) {
		journal_writer_poll(d->journal); /* takes a file that became ready */
		job_retry_held(d);
	}
	if (d->starved != NULL)
		dest_pump_starved(d);
	more = journal_writer_poll(d->journal);
	if (d->gated_first != NULL) {
		conn_resume_gated(d);
		more = journal_writer_poll(d->journal) || more;
	}
	if (d->draining && d->job_count == 0) {
		journal_writer_free(&d->journal);
		worker_exit(w);
	}
	return more;
}

static void deliver_drain(struct worker *w)
{
	struct deliver *d = w->state;

	d->draining = true;
	close_all_idle(d);
	job_drop_unbegun(d);
}

static const struct worker_ops ops = {
	.class_id = CLASS_DELIVER,
	.program = "smtp",
	.init = deliver_init,
	.start = deliver_start,
	.attach = deliver_attach,
	.detach = deliver_detach,
	.from_super = deliver_from_super,
	.from_peer = deliver_from_peer,
	.turn = deliver_turn,
	.drain = deliver_drain,
};

int main(int argc, char **argv)
{
	return worker_main(argc, argv, &ops);
}
