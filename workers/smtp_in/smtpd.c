/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The smtp-in worker: main() and the hooks of the worker frame. */
#include "workers/smtp_in/server.h"

#include <string.h>
#include <time.h>

#include "lib/log.h"
#include "workers/smtp_in/connector.h"
#include "workers/smtp_in/filterconn.h"
#include "workers/smtp_in/listentls.h"
#include "workers/smtp_in/standalone.h"

static struct server the_server;

static int smtpd_init(struct worker *w)
{
	tzset(); /* the zone file is out of reach later */
	if (!w->check_only)
		listener_tls_set_tickets(tls_tickets_new(w->seed, w->seed_hour));
	explicit_bzero(w->seed, sizeof(w->seed));
	int err = server_load(&the_server, w->conf);

	return err != 0 || w->check_only ? err : filterconn_init(&the_server, w);
}

static int smtpd_start(struct worker *w)
{
	return server_start(&the_server, w);
}

static void smtpd_attach(struct worker *w, struct worker_peer *peer)
{
	(void)w;
	server_attach(&the_server, peer);
}

static void smtpd_detach(struct worker *w, struct worker_peer *peer)
{
	(void)w;
	server_detach(&the_server, peer);
}

static void smtpd_record(struct worker *w, struct worker_peer *peer, const void *rec, size_t len)
{
	(void)w;
	server_record(&the_server, peer, rec, len);
}

static bool smtpd_turn(struct worker *w)
{
	(void)w;
	log_speak_as("smtpd"); /* sessions speak for their services */
	return server_turn(&the_server);
}

static void smtpd_drain(struct worker *w)
{
	(void)w;
	server_drain(&the_server);
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_SMTP_IN,
		.program = "smtpd",
		.init = smtpd_init,
		.start = smtpd_start,
		.attach = smtpd_attach,
		.detach = smtpd_detach,
		.from_peer = smtpd_record,
		.turn = smtpd_turn,
		.drain = smtpd_drain,
	};

	if (argc >= 2 && strcmp(argv[1], "-S") == 0)
		return standalone_main();
	if (argc >= 2 && strcmp(argv[1], "-c") == 0)
		return connector_main();
	return worker_main(argc, argv, &ops);
}
