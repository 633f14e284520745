/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The frame of every worker process; see workers/common/worker.h. */
#include "workers/common/worker.h"

#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "conf/map.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/common/ctl.h"
#include "workers/common/drop.h"
#include "workers/common/evil.h"
#include "workers/common/landlock.h"
#include "workers/common/logring.h"
#include "workers/common/outbox.h"
#include "workers/common/sandbox.h"

#define MAX_PEERS        (OUTBOX_COUNT - 1)
#define RECORDS_PER_TURN 512
#define BEAT_MS          1000

/* to become a recipient, and to end a child that has */
#define LOCAL_CAPS (UINT64_C(1) << CAP_SETUID | UINT64_C(1) << CAP_SETGID | UINT64_C(1) << CAP_KILL)

struct worker_private {
	const struct worker_ops *ops;
	int sock;
	struct loop_fd sock_lf, wake_lf;
	struct loop_timer beat;
	struct logring logring;
	struct shm_region counters_region, board_region;
	struct worker_peer *peers[MAX_PEERS];
	size_t peer_high; /* places in use are below: the loop's hooks look at no more */
	bool accused[MAX_PEERS];
	struct outboxes out; /* 0: the supervisor, 1 + i: peers[i] */
	char rec[RING_RECORD_MAX];
};

static struct worker the_worker;

/* The last words of a worker that cannot start reach the start command through the supervisor. */
static int send_text(struct worker *w, enum ctl_kind kind, const struct worker_peer *peer,
		     const char *text)
{
	char packet[sizeof(struct ctl_msg) + CTL_TEXT_MAX];
	size_t len = size_min(strlen(text), CTL_TEXT_MAX);
	struct ctl_msg msg = { .kind = kind, .text_len = (uint32_t)len };

	if (peer != NULL) {
		msg.class_id = peer->class_id;
		msg.slot = peer->slot;
		msg.life = peer->life;
	}
	memcpy(packet, &msg, sizeof(msg));
	memcpy(packet + sizeof(msg), text, len);
	return io_send_fds(w->priv_->sock, packet, sizeof(msg) + len, NULL, 0);
}

static log_sink_fn ring_sink;
static void *ring_sink_ctx;

static void start_sink(void *ctx, enum log_level level, const char *program, const char *text,
		       size_t len)
{
	if (level >= LOG_LEVEL_FATAL) {
		char copy[CTL_TEXT_MAX];

		snprintf(copy, sizeof(copy), "%s: %.*s", program, (int)len, text);
		send_text(ctx, CTL_FATAL, NULL, copy);
	}
	if (ring_sink != NULL)
		ring_sink(ring_sink_ctx, level, program, text, len);
}

static void tell_refused(struct worker *w)
{
	unsigned n = sandbox_tell();

	if (n > 0)
		counter_add(w->counters, CTR_sandbox_refused, n);
}

/* What ends a worker may come of a call that was refused: that is written down first. */
static void last_words(void *ctx, enum log_level level, const char *program, const char *text,
		       size_t len)
{
	if (level >= LOG_LEVEL_FATAL)
		tell_refused(ctx);
	ring_sink(ring_sink_ctx, level, program, text, len);
}

static unsigned box_of(const struct worker *w, const struct link *to)
{
	for (unsigned i = 0; to != &w->super && i < MAX_PEERS; i++) {
		if (w->priv_->peers[i] != NULL && w->priv_->peers[i]->link == to)
			return i + 1;
	}
	return 0;
}

void worker_send(struct worker *w, struct link *to, const void *rec, size_t len)
{
	struct worker_private *p = w->priv_;

	evil_saw(rec, len);
	/* nearly always: nothing waits and there is room */
	if (!p->out.any && ring_put(&to->out, rec, len) == 0)
		return;
	unsigned i = box_of(w, to);

	if (outbox_put(&p->out, i, &to->out, rec, len) != 0 && i != 0)
		worker_accuse(w, p->peers[i - 1], "does not read its ring");
}

void worker_accuse(struct worker *w, const struct worker_peer *peer, const char *why)
{
	unsigned i = box_of(w, peer->link);

	if (i != 0 && w->priv_->accused[i - 1])
		return; /* said once, that is enough */
	if (i != 0)
		w->priv_->accused[i - 1] = true;
	log_error("%s: peer worker (class %d, life %u) broke the protocol: %s",
		  w->priv_->ops->program, (int)peer->class_id, peer->life, why);
	send_text(w, CTL_ACCUSE, peer, why);
}

void worker_exit(struct worker *w)
{
	struct worker_private *p = w->priv_;

	outbox_send(&p->out, &w->super.out);
	if (link_is_attached(&w->super))
		link_flush(&w->super);
	for (size_t i = 0; i < MAX_PEERS; i++) {
		if (p->peers[i] != NULL)
			link_flush(p->peers[i]->link);
	}
	tell_refused(w);
	logring_flush(&p->logring);
	_exit(0);
}

/* ---- setup ---- */

static void recv_ctl(struct worker *w, struct ctl_msg *msg, int *fds, size_t *nfds)
{
	size_t len;
	int err = io_recv_fds(w->priv_->sock, msg, sizeof(*msg), &len, fds, nfds);

	if (err == E_EOF)
		_exit(0);
	if (err != 0 || len != sizeof(*msg))
		die("supervisor socket: %s", err_str(err != 0 ? err : E_PEER));
}

static void must(int err, const char *what)
{
	if (err == -EPIPE) /* the supervisor has gone: so do we */
		_exit(0);
	if (err != 0)
		die("%s: %s", what, err_str(err));
}

static void setup(struct worker *w)
{
	struct worker_private *p = w->priv_;
	struct ctl_msg msg;
	int fds[8];
	size_t nfds = 8;
	struct shm_region log = SHM_REGION_INIT, link = SHM_REGION_INIT;

	recv_ctl(w, &msg, fds, &nfds);
	if (msg.kind != CTL_SETUP || nfds != (msg.has_blocks ? 8u : 7u) ||
	    msg.class_id != p->ops->class_id)
		die("unexpected set-up message");
	evil_saw_fd(fds[0], SHM_KIND_LOG, true);
	evil_saw_fd(fds[1], SHM_KIND_COUNTERS, true);
	evil_saw_fd(fds[2], SHM_KIND_BOARD, false);
	evil_saw_fd(fds[3], SHM_KIND_LINK, true);
	if (msg.has_blocks)
		evil_saw_fd(fds[7], SHM_KIND_BLOCKS, true);
	w->slot = msg.slot;
	w->life = msg.life;
	w->generation = msg.generation;
	w->privileged = msg.privileged != 0;
	memcpy(w->seed, msg.seed, sizeof(w->seed));
	w->seed_hour = msg.seed_hour;
	explicit_bzero(msg.seed, sizeof(msg.seed));
	must(shm_region_map(fds[0], SHM_KIND_LOG, true, &log), "log ring");
	must(shm_region_map(fds[1], SHM_KIND_COUNTERS, true, &p->counters_region), "counters");
	must(shm_region_map(fds[2], SHM_KIND_BOARD, false, &p->board_region), "board");
	must(shm_region_map(fds[3], SHM_KIND_LINK, true, &link), "supervisor link");
	w->wake_fd = fds[4];
	must(link_attach(&w->super, &link, 1, fds[5]), "supervisor link");
	w->counters = counters_of(&p->counters_region);
	w->board = (const struct board_shm *)((const char *)p->board_region.base +
					      sizeof(struct shm_header));
	must(logring_install(&p->logring, &log, fds[6], w->counters), "log ring");
	if (msg.has_blocks)
		must(shm_region_map(fds[7], SHM_KIND_BLOCKS, true, &w->blocks), "blocks");
}

/* -L "3,3,0": configuration indexes of the inherited listening sockets, in descriptor order. */
static void parse_listeners(struct worker *w, const char *list)
{
	int fd = CTL_FD_LISTEN;

	while (*list != '\0' && w->listener_count < WORKER_MAX_LISTENERS) {
		char *end;
		unsigned long index = strtoul(list, &end, 10);

		if (end == list)
			die("bad listener list");
		w->listeners[w->listener_count++] =
			(struct worker_listener){ fd++, (unsigned)index };
		list = *end == ',' ? end + 1 : end;
	}
}

/* ---- peers ---- */

static struct worker_peer *find_peer(struct worker *w, const struct ctl_msg *msg)
{
	for (size_t i = 0; i < MAX_PEERS; i++) {
		struct worker_peer *peer = w->priv_->peers[i];

		if (peer != NULL && peer->class_id == msg->class_id && peer->slot == msg->slot &&
		    peer->life == msg->life)
			return peer;
	}
	return NULL;
}

static void free_peer(struct worker_peer *peer)
{
	link_detach(peer->link);
	free(peer->link);
	shm_region_close(&peer->blocks);
	free(peer);
}

/* The regions of a new link. The peer may have had them before us, so what is wrong in them is the
 * peer's fault and not a reason to end. */
static int map_peer(struct worker_peer *peer, const struct ctl_msg *msg, int *fds)
{
	struct shm_region region = SHM_REGION_INIT;
	int blocks_err = 0;
	int err = shm_region_map(fds[0], SHM_KIND_LINK, true, &region);

	if (err == 0)
		err = link_attach(peer->link, &region, msg->side, fds[1]);
	else
		io_close(&fds[1]);
	if (msg->has_blocks)
		blocks_err = shm_region_map(fds[2], SHM_KIND_BLOCKS, false, &peer->blocks);
	return err != 0 ? err : blocks_err;
}

static void attach_peer(struct worker *w, const struct ctl_msg *msg, int *fds, size_t nfds)
{
	struct worker_private *p = w->priv_;
	struct worker_peer *peer = xcalloc(1, sizeof(*peer));
	size_t i = 0;

	if (nfds != (msg->has_blocks ? 3u : 2u))
		die("attach: %zu descriptors", nfds);
	evil_saw_fd(fds[0], SHM_KIND_LINK, true);
	if (msg->has_blocks)
		evil_saw_fd(fds[2], SHM_KIND_BLOCKS, false);
	peer->class_id = (enum worker_class)msg->class_id;
	peer->slot = msg->slot;
	peer->life = msg->life;
	peer->blocks = SHM_REGION_INIT;
	peer->region = SHM_REGION_INIT;
	peer->link = xcalloc(1, sizeof(*peer->link));
	peer->link->peer_wake_fd = -1;
	if (map_peer(peer, msg, fds) != 0) {
		worker_accuse(w, peer, "damaged link");
		free_peer(peer);
		return;
	}
	while (i < MAX_PEERS && p->peers[i] != NULL)
		i++;
	if (i == MAX_PEERS)
		die("more than %d peers", MAX_PEERS);
	p->peers[i] = peer;
	p->peer_high = size_max(p->peer_high, i + 1);
	p->accused[i] = false;
	if (p->ops->attach != NULL)
		p->ops->attach(w, peer);
}

static void read_peer(struct worker *w, struct worker_peer *peer, unsigned limit, uint64_t bytes);

static void detach_peer(struct worker *w, struct worker_peer *peer)
{
	struct worker_private *p = w->priv_;

	/* what the dead peer published before its end still counts: one ring full of the shortest
	 * records at most, for something that outlived it may still write, and no more content than
	 * it had room for */
	peer->turn_bytes = 0;
	read_peer(w, peer, peer->link->in.size / 8,
		  peer->claim_bytes != 0 ? peer->claim_bytes : UINT64_MAX);
	if (p->ops->detach != NULL)
		p->ops->detach(w, peer);
	for (unsigned i = 0; i < MAX_PEERS; i++) {
		if (p->peers[i] != peer)
			continue;
		outbox_drop(&p->out, i + 1);
		p->peers[i] = NULL;
	}
	free_peer(peer);
}

/* stats and log get regions instead of links; they keep what they need out of peer->region. */
static void give_region(struct worker *w, const struct ctl_msg *msg, int *fds, size_t nfds)
{
	struct worker_peer peer = { .class_id = (enum worker_class)msg->class_id,
				    .slot = msg->slot,
				    .life = msg->life,
				    .blocks = SHM_REGION_INIT,
				    .region = SHM_REGION_INIT };
	bool gone = msg->kind == CTL_REGION_GONE;

	if (nfds != (gone ? 0u : 1u))
		die("region: %zu descriptors", nfds);
	if (!gone)
		evil_saw_fd(fds[0], (enum shm_kind)msg->region_kind,
			    msg->region_kind == SHM_KIND_LOG);
	/* a region can be written by its worker: when it is damaged, that one goes without */
	int err = gone ? 0
		       : shm_region_map(fds[0], (enum shm_kind)msg->region_kind,
					msg->region_kind == SHM_KIND_LOG, &peer.region);

	if (err != 0) {
		log_error("region of a worker (class %u, life %u): %s", msg->class_id, msg->life,
			  err_str(err));
		return;
	}
	if (gone && w->priv_->ops->detach != NULL)
		w->priv_->ops->detach(w, &peer);
	else if (!gone && w->priv_->ops->attach != NULL)
		w->priv_->ops->attach(w, &peer);
	shm_region_close(&peer.region);
}

static void start_drain(struct worker *w)
{
	w->draining = true; /* may be told again: first for a reload, later for a stop */
	if (w->priv_->ops->drain != NULL)
		w->priv_->ops->drain(w);
	else
		worker_exit(w);
}

static void sock_event(void *ctx, unsigned events UNUSED)
{
	struct worker *w = ctx;
	struct ctl_msg msg;
	int fds[8];
	size_t nfds, len;

	for (;;) {
		nfds = 8;
		int err = io_recv_fds(w->priv_->sock, &msg, sizeof(msg), &len, fds, &nfds);

		if (err == E_AGAIN)
			return;
		if (err != 0) /* the supervisor is gone: so are we */
			_exit(0);
		struct worker_peer *peer;

		switch ((enum ctl_kind)msg.kind) {
		case CTL_ATTACH:
			attach_peer(w, &msg, fds, nfds);
			break;
		case CTL_DETACH:
			peer = find_peer(w, &msg);
			if (peer != NULL)
				detach_peer(w, peer);
			break;
		case CTL_REGION:
		case CTL_REGION_GONE:
			give_region(w, &msg, fds, nfds);
			break;
		case CTL_DRAIN:
			start_drain(w);
			break;
		default:
			die("unexpected message %u from the supervisor", msg.kind);
		}
	}
}

/* ---- loop hooks ---- */

static void read_super(struct worker *w)
{
	struct worker_private *p = w->priv_;
	size_t len;

	for (unsigned n = 0; n < RECORDS_PER_TURN; n++) {
		int got = ring_get(&w->super.in, p->rec, sizeof(p->rec), &len);

		if (got < 0)
			die("supervisor ring: %s", err_str(got));
		if (got == 0)
			return;
		evil_saw(p->rec, len);
		if (p->ops->from_super != NULL)
			p->ops->from_super(w, p->rec, len);
	}
}

/* At most so many records, and until they have cost so much. */
static void read_peer(struct worker *w, struct worker_peer *peer, unsigned limit, uint64_t bytes)
{
	struct worker_private *p = w->priv_;
	const bool *accused = &p->accused[box_of(w, peer->link) - 1];
	size_t len;

	for (unsigned n = 0; n < limit && !*accused && peer->turn_bytes < bytes; n++) {
		int got = ring_get(&peer->link->in, p->rec, sizeof(p->rec), &len);

		if (got < 0) {
			worker_accuse(w, peer, "damaged ring");
			return;
		}
		if (got == 0)
			return;
		if (p->ops->from_peer != NULL)
			p->ops->from_peer(w, peer, p->rec, len);
	}
}

/* What goes to those who log in, and comes from them. */
static bool keeps_secrets(enum worker_class c)
{
	return c == CLASS_AUTH || c == CLASS_SASL_CLIENT;
}

static void wipe_read(struct worker *w, const struct worker_peer *peer)
{
	if (peer->link->in.tail == peer->link->in.released)
		return;
	ring_wipe(&peer->link->in);
	explicit_bzero(w->priv_->rec, sizeof(w->priv_->rec));
}

#ifdef PH_FAULT_POINTS
void evil_flush_log(void)
{
	logring_flush(&the_worker.priv_->logring);
}

static void turn_evil(struct worker *w)
{
	evil_turn(&(struct evil_body){ .w = w,
				       .peers = w->priv_->peers,
				       .peer_count = w->priv_->peer_high,
				       .sock = w->priv_->sock });
}
#else
#define turn_evil(w) ((void)0)
#endif

static bool turn_hook(void *ctx)
{
	struct worker *w = ctx;
	struct worker_private *p = w->priv_;
	bool more = false;

	turn_evil(w);
	read_super(w);
	for (size_t i = 0; i < w->priv_->peer_high; i++) {
		if (p->peers[i] == NULL)
			continue;
		p->peers[i]->turn_bytes = 0;
		read_peer(w, p->peers[i], RECORDS_PER_TURN, WORKER_PEER_TURN_BYTES);
		if (keeps_secrets(w->class_id) || keeps_secrets(p->peers[i]->class_id))
			wipe_read(w, p->peers[i]);
	}
	if (p->ops->turn != NULL && p->ops->turn(w))
		more = true;
	outbox_send(&p->out, &w->super.out);
	link_flush(&w->super);
	for (size_t i = 0; i < w->priv_->peer_high; i++) {
		if (p->peers[i] != NULL) {
			link_flush(p->peers[i]->link);
			more = more ||
			       (!p->accused[i] && !ring_cons_is_empty(&p->peers[i]->link->in));
		}
	}
	logring_flush(&p->logring);
	return more || !ring_cons_is_empty(&w->super.in);
}

/* Raise the sleeping flag of every incoming ring; any record seen now cancels the sleep. */
static bool presleep_hook(void *ctx)
{
	struct worker *w = ctx;
	bool awake = ring_cons_sleep(&w->super.in);

	for (size_t i = 0; i < w->priv_->peer_high; i++) {
		struct worker_peer *peer = w->priv_->peers[i];

		if (peer != NULL && !w->priv_->accused[i] && ring_cons_sleep(&peer->link->in))
			awake = true;
	}
	return awake;
}

static bool awake_hook(void *ctx)
{
	struct worker *w = ctx;

	ring_cons_awake(&w->super.in);
	for (size_t i = 0; i < w->priv_->peer_high; i++) {
		struct worker_peer *peer = w->priv_->peers[i];

		if (peer != NULL)
			ring_cons_awake(&peer->link->in);
	}
	return false;
}

/* Edge-triggered. The counter is read all the same: one that somebody filled would take no more
 * wake-ups. */
static void wake_event(void *ctx, unsigned events UNUSED)
{
	struct worker *w = ctx;

	io_eventfd_drain(w->wake_fd);
}

/* Once a second: the supervisor replaces a worker that is stuck (worker_watchdog_time). */
static void beat(void *ctx)
{
	struct worker *w = ctx;

	uint64_t failures, outages;

	counters_beat(w->counters, (uint32_t)(clock_mono_us_raw() / 1000000));
	tell_refused(w);
	map_troubles(&failures, &outages);
	counter_add(w->counters, CTR_table_local_failures, failures);
	counter_add(w->counters, CTR_table_local_outages, outages);
	loop_timer_set(&w->priv_->beat, BEAT_MS);
}

static void term_signal(void *ctx)
{
	start_drain(ctx);
}

/* As many descriptors as the hard limit allows: sessions are counted by parameters, not by this. */
static void raise_limits(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	rl = (struct rlimit){ 0, 0 };
#ifdef NDEBUG
	setrlimit(RLIMIT_CORE, &rl);
#endif
}

static const struct {
	bool chroot;
	bool keep_user;
	bool runs_others; /* programs of users */
	bool groups;      /* what the groups of mail_owner may read: saslauthd's socket, sasldb */
} class_rights[CLASS_COUNT] = {
	[CLASS_LOG] = { .chroot = true },
	[CLASS_RESOLVER] = { .chroot = true },
	[CLASS_SMTP_IN] = { .chroot = true },
	[CLASS_STATS] = { .chroot = true },
	[CLASS_SPAWN] = { .chroot = true },
	[CLASS_LOCAL] = { .keep_user = true, .runs_others = true },
	[CLASS_AUTH] = { .groups = true },
};

static void become(struct worker *w)
{
	struct buf dir = BUF_INIT;
	enum worker_class id = w->class_id;

	tzset(); /* the zone file is out of reach later */
	int rules = landlock_rules(id, w->params->queue_directory, landlock_limit());

	buf_printf(&dir, "%s/empty", w->params->queue_directory);
	drop_rights(&(struct drop_plan){
		.user = class_rights[id].keep_user ? NULL : w->params->mail_owner,
		.chroot = class_rights[id].chroot ? buf_cstr(&dir) : NULL,
		.groups = class_rights[id].groups,
		.privileged = w->privileged,
	});
	if (class_rights[id].keep_user && w->privileged) {
		drop_capabilities(LOCAL_CAPS);
		drop_effective_user(w->params->mail_owner);
	}
	buf_fini(&dir);
	landlock_enter(rules);
	if (!class_rights[id].runs_others)
		drop_precedence();
}

static void start_loop(struct worker *w)
{
	struct worker_private *p = w->priv_;

	must(io_set_nonblock(p->sock), "supervisor socket");
	loop_fd_add(w->loop, &p->sock_lf, p->sock, LOOP_READ, sock_event, w);
	loop_fd_add(w->loop, &p->wake_lf, w->wake_fd, LOOP_READ | LOOP_EDGE, wake_event, w);
	loop_signal_add(w->loop, SIGTERM, term_signal, w);
	loop_timer_init(w->loop, &p->beat, beat, w);
	beat(w);
	loop_add_hook(w->loop, awake_hook, w);
	loop_add_hook(w->loop, turn_hook, w);
	loop_add_presleep(w->loop, presleep_hook, w);
}

static void load_conf(struct worker *w)
{
	struct conf_diag d;

	conf_diag_init(&d);
	/* what is wrong there was said by who checks; here for what else there is */
	int err = w->check_only ? conf_load_snapshot_lenient(CTL_FD_SNAPSHOT, &w->conf, &d)
				: conf_load_snapshot(CTL_FD_SNAPSHOT, &w->conf, &d);

	if (err != 0)
		die("configuration: %s", d.text.len > 0 ? buf_cstr(&d.text) : err_str(err));
	conf_diag_fini(&d);
	w->params = conf_params(w->conf);
	log_set_syslog_name(w->params->syslog_name);
}

static void set_program(struct worker *w)
{
	char tag[64];

	snprintf(tag, sizeof(tag), "%s/%s", w->params->syslog_name, w->priv_->ops->program);
	log_set_program(tag);
}

/* `posthaste check`: everything that can go wrong in the configuration goes wrong in init(). */
static int check_only(struct worker *w)
{
	static struct counters_shm counters;
	static struct board_shm board;

	w->check_only = true;
	w->counters = &counters;
	w->board = &board;
	load_conf(w);
	w->loop = loop_new();
	if (w->priv_->ops->init != NULL)
		must(w->priv_->ops->init(w), "start-up");
	return 0;
}

int worker_main(int argc, char **argv, const struct worker_ops *ops)
{
	struct worker *w = &the_worker;
	static struct worker_private private_part;

	clock_init();
	FAULT_INIT(ops->class_id);
	evil_init(ops->class_id);
	signal(SIGPIPE, SIG_IGN);
	w->priv_ = &private_part;
	w->class_id = ops->class_id;
	w->super.peer_wake_fd = -1;
	w->blocks = SHM_REGION_INIT;
	private_part.ops = ops;
	private_part.sock = CTL_FD_SUPERVISOR;
	log_set_program(ops->program);
	if (argc == 2 && strcmp(argv[1], "-C") == 0)
		return check_only(w);
	raise_limits();
	setup(w);
	/* from here to the loop, fatal errors also travel to the start command */
	log_get_sink(&ring_sink, &ring_sink_ctx);
	log_set_sink(start_sink, w);
	load_conf(w);
	set_program(w);
	if (argc == 3 && strcmp(argv[1], "-L") == 0)
		parse_listeners(w, argv[2]);
	w->loop = loop_new();
	if (ops->init != NULL)
		must(ops->init(w), "start-up");
	become(w);
	start_loop(w);
	if (ops->start != NULL)
		must(ops->start(w), "start-up");
	if (sandbox_verdict(ops->class_id, SYS_openat) != SANDBOX_ALLOWED)
		map_no_more_files(); /* a look at /etc/passwd would be a refused call */
	sandbox_enter(ops->class_id);
	log_set_sink(last_words, w);
	/* a worker that is ready and nobody knows of it would be waited for */
	must(send_text(w, CTL_READY, NULL, ""), "supervisor socket");
	loop_run(w->loop);
	worker_exit(w);
	return 0;
}
