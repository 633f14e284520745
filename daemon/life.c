/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Worker lives: from the request to priv, over set-up and readiness, to the end and what it leaves.
 * Called by daemon/supervisor.c.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/qpublic.h"
#include "daemon/recover.h"
#include "daemon/supervisor.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS   30000
#define SHORT_LIFE_MS    10000 /* an end before this age counts towards the back-off */
#define START_TRIES      3
#define BAD_RECORDS_MAX  1000 /* of a dead worker's ring that are passed over */
#define CTL_PER_TURN     16
#define CTL_PER_LIFE     1000  /* an honest one says that it is ready, and accuses each peer once */
#define BRIEF_END_MS     10000 /* from DRAIN to the end of those that have nothing to finish */
#define DEAF_MS          2000  /* from the end of the control socket to that of the process */

static const char *class_name(const struct sworker *w)
{
	return proc_classes[w->class_id].name;
}

unsigned life_count(const struct supervisor *s, enum worker_class c, enum life_state at_least)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->high; i++) {
		const struct sworker *w = &s->workers[i];

		if (w->class_id == c && w->state >= at_least)
			n++;
	}
	return n;
}

/* Of the present generation, started or about to be, not draining. */
static unsigned count_current(const struct supervisor *s, enum worker_class c, bool only_up)
{
	unsigned n = 0;

	for (size_t i = 0; i < s->high; i++) {
		const struct sworker *w = &s->workers[i];

		if (w->class_id == c && w->generation == s->generation && w->state != LIFE_FREE &&
		    w->state != LIFE_DRAINING && (!only_up || w->state == LIFE_UP))
			n++;
	}
	return n;
}

bool life_all_up(const struct supervisor *s)
{
	for (int c = CLASS_LOG; c < CLASS_COUNT; c++) {
		if (count_current(s, (enum worker_class)c, true) < proc_classes[c].count(s->conf))
			return false;
	}
	return true;
}

/* ---- start ---- */

static unsigned free_slot(const struct supervisor *s, enum worker_class c)
{
	for (unsigned slot = 0; slot < PRIV_MAX_SLOTS; slot++) {
		bool taken = false;

		for (size_t i = 0; i < s->high; i++) {
			if (s->workers[i].state != LIFE_FREE && s->workers[i].class_id == c &&
			    s->workers[i].slot == slot)
				taken = true;
		}
		if (!taken)
			return slot;
	}
	return PRIV_MAX_SLOTS;
}

static void request(struct supervisor *s, enum worker_class c)
{
	struct sworker *w = NULL;
	unsigned slot = free_slot(s, c);
	uint32_t life;

	for (size_t i = 0; i < MAX_WORKERS && w == NULL; i++) {
		if (s->workers[i].state == LIFE_FREE)
			w = &s->workers[i];
	}
	if (w == NULL || slot == PRIV_MAX_SLOTS)
		return;
	int err = spool_state_next_life(s->spool_state, &life);

	if (err != 0) {
		log_error("cannot record a new worker life: %s", err_str(err));
		s->classes[c].retry_ms = clock_now().ms + 1000;
		return;
	}
	*w = (struct sworker){ .sup = s,
			       .state = LIFE_REQUESTED,
			       .class_id = c,
			       .slot = slot,
			       .life = life,
			       .generation = s->generation,
			       .sock = -1,
			       .wake_fd = -1,
			       .counters = SHM_REGION_INIT,
			       .blocks = SHM_REGION_INIT,
			       .started_ms = clock_now().ms };
	w->link.peer_wake_fd = -1;
	if (w - s->workers >= s->high)
		s->high = (unsigned)(w - s->workers) + 1;
	supervisor_to_priv(
		s,
		&(struct priv_msg){ .kind = PRIV_SPAWN, .class_id = c, .slot = slot, .life = life },
		NULL);
}

static void release(struct supervisor *s, struct sworker *w)
{
	if (s->scheduled[w->class_id][w->slot] == w)
		s->scheduled[w->class_id][w->slot] = NULL;
	if (w->lf.ev != NULL)
		loop_fd_del(s->loop, &w->lf);
	io_close(&w->sock);
	link_detach(&w->link);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	shm_region_close(&w->counters);
	shm_region_close(&w->blocks);
	w->state = LIFE_FREE;
}

/* The log worker's eventfd is one for all its lives, because every process holds it. */
static int make_wake_fd(const struct supervisor *s, enum worker_class c)
{
	return c == CLASS_LOG ? fcntl(s->log_wake_fd, F_DUPFD_CLOEXEC, 0)
			      : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Signs of life count by the monotonic clock: a step of the wall clock must not kill anybody. A
 * stopped machine stops that clock too. */
static uint32_t beat_now(void)
{
	return (uint32_t)(clock_mono_us_raw() / 1000000);
}

static int send_setup(struct supervisor *s, struct sworker *w)
{
	const struct proc_class *pc = &proc_classes[w->class_id];
	struct shm_region link = SHM_REGION_INIT, log = SHM_REGION_INIT;
	int fds[8], err;

	w->wake_fd = make_wake_fd(s, w->class_id);
	err = link_create(pc->name, pc->ring_to, pc->ring_from, 0, w->life, &link);
	if (err == 0)
		err = counters_create(pc->name, w->life, &w->counters);
	if (err == 0)
		err = logring_create(pc->name, (uint32_t)s->params->log_ring_size, w->life, &log);
	if (err == 0 && pc->blocks)
		err = blocks_create(pc->name, (uint32_t)(s->params->smtpd_region_size / BLOCK_SIZE),
				    w->life, &w->blocks);
	if (err == 0 && w->wake_fd < 0)
		err = err_errno();
	if (err == 0) {
		struct counters_shm *c = counters_of(&w->counters);
		struct ctl_msg msg = { .kind = CTL_SETUP,
				       .class_id = w->class_id,
				       .slot = w->slot,
				       .life = w->life,
				       .generation = w->generation,
				       .privileged = s->privileged,
				       .has_blocks = pc->blocks };

		if (w->class_id == CLASS_SMTP_IN) {
			memcpy(msg.seed, s->ticket_seed, sizeof(msg.seed));
			msg.seed_hour = s->ticket_hour;
		}

		c->class_id = w->class_id;
		c->slot = w->slot;
		counters_beat(c, beat_now());
		fds[0] = log.fd;
		fds[1] = w->counters.fd;
		fds[2] = s->board_region.fd;
		fds[3] = link.fd;
		fds[4] = w->wake_fd;
		fds[5] = s->wake_fd;
		fds[6] = s->log_wake_fd;
		fds[7] = w->blocks.fd;
		err = peers_ctl(w, &msg, fds, pc->blocks ? 8 : 7);
	}
	if (err == 0) {
		peers_log_ring_add(s, fcntl(log.fd, F_DUPFD_CLOEXEC, 0), w->class_id, w->slot,
				   w->life);
		err = link_attach(&w->link, &link, 0, fcntl(w->wake_fd, F_DUPFD_CLOEXEC, 0));
	}
	shm_region_close(&link);
	shm_region_close(&log);
	return err;
}

static void became_up(struct supervisor *s, struct sworker *w)
{
	/* before anybody else gets them */
	if (shm_region_freeze(&w->counters) != 0 ||
	    (w->blocks.fd >= 0 && shm_region_freeze(&w->blocks) != 0))
		log_warn("regions of %s process %d stay open for writing", class_name(w), w->pid);
	w->state = LIFE_UP;
	s->scheduled[w->class_id][w->slot] = w;
	s->classes[w->class_id].failures = 0;
	peers_give_regions(s, w);
	peers_connect(s, w);
	peers_counters_announce(s, w, false);
	if (proc_classes[w->class_id].scheduled)
		sched_worker_up(s->sched, w->class_id, w->slot, w->life, w->generation);
}

/* Heard only about a peer of its own. */
static void accused(struct supervisor *s, struct sworker *by, const struct ctl_msg *msg,
		    const char *why)
{
	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if (w->state < LIFE_STARTING || w->class_id != (enum worker_class)msg->class_id ||
		    w->slot != msg->slot || w->life != msg->life || !s->linked[by - s->workers][i])
			continue;
		bool both;
		enum proc_blame blame = proc_judge(by->class_id, by->life, &by->repute, w->class_id,
						   &w->repute, clock_now().ms, &both);

		if (blame == BLAME_ACCUSED)
			life_kill(s, w, why);
		else if (blame == BLAME_ACCUSER)
			life_kill(s, by, "gave its peer up");
		if (both)
			life_kill(s, by, "accuses one after another");
	}
}

static void worker_event(void *ctx, unsigned events UNUSED)
{
	struct sworker *w = ctx;
	struct supervisor *s = w->sup;
	char packet[sizeof(struct ctl_msg) + CTL_TEXT_MAX + 1];
	struct ctl_msg msg;
	size_t len, nfds = 0;

	/* the rest is read in the next turn: nobody can keep us here by talking */
	for (unsigned n = 0; n < CTL_PER_TURN; n++) {
		int err = io_recv_fds(w->sock, packet, sizeof(packet) - 1, &len, NULL, &nfds);

		if (err == E_AGAIN)
			return;
		if (err != 0) {
			/* it is ending; what it left is looked at when it has been reaped. One that
			 * only closed its socket is ended by life_watch() */
			w->deaf_ms = clock_mono_us_raw() / 1000;
			loop_fd_del(s->loop, &w->lf);
			io_close(&w->sock);
			return;
		}
		if (++w->ctl_count > CTL_PER_LIFE) {
			life_kill(s, w, "talks without end on its control socket");
			return;
		}
		if (len < sizeof(msg))
			continue;
		memcpy(&msg, packet, sizeof(msg));
		packet[len] = '\0';
		if (msg.kind == CTL_READY && w->state == LIFE_STARTING)
			became_up(s, w);
		else if (msg.kind == CTL_ACCUSE)
			accused(s, w, &msg, packet + sizeof(msg));
		else if (msg.kind == CTL_FATAL)
			snprintf(w->last_words, sizeof(w->last_words), "%s", packet + sizeof(msg));
	}
}

static struct sworker *find(struct supervisor *s, const struct priv_msg *msg)
{
	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if (w->state != LIFE_FREE && w->class_id == (enum worker_class)msg->class_id &&
		    w->slot == msg->slot && w->life == msg->life)
			return w;
	}
	return NULL;
}

void life_spawned(struct supervisor *s, const struct priv_msg *msg, int sock)
{
	struct sworker *w = find(s, msg);

	if (w == NULL || w->state != LIFE_REQUESTED) {
		io_close(&sock);
		return;
	}
	if (sock < 0) {
		log_error("cannot start a %s process", class_name(w));
		s->classes[w->class_id].retry_ms = clock_now().ms + 1000;
		release(s, w);
		return;
	}
	w->sock = sock;
	w->pid = msg->pid;
	w->state = LIFE_STARTING;
	io_set_nonblock(sock);
	loop_fd_add(s->loop, &w->lf, sock, LOOP_READ, worker_event, w);
	int err = send_setup(s, w);

	if (err != 0) {
		log_error("cannot set up %s: %s", class_name(w), err_str(err));
		life_kill(s, w, "set-up failed");
	}
}

/* ---- end ---- */

void life_kill(struct supervisor *s, struct sworker *w, const char *why)
{
	if (w->kill_sent || w->state < LIFE_STARTING)
		return;
	w->kill_sent = true;
	log_error("killing %s process %d: %s", class_name(w), w->pid, why);
	supervisor_to_priv(s,
			   &(struct priv_msg){ .kind = PRIV_KILL,
					       .class_id = w->class_id,
					       .slot = w->slot,
					       .life = w->life,
					       .status = SIGKILL },
			   NULL);
}

void life_drain(struct supervisor *s, struct sworker *w)
{
	bool scheduled = proc_classes[w->class_id].scheduled;

	if (w->state != LIFE_UP && w->state != LIFE_DRAINING)
		return;
	if (w->state == LIFE_UP)
		w->drain_ms = clock_now().ms;
	w->state = LIFE_DRAINING;
	if (scheduled && !w->sched_drained)
		sched_worker_drain(s->sched, w->class_id, w->slot, w->life);
	w->sched_drained = true;
	if (w->drain_sent || (scheduled && sched_worker_load(s->sched, w->class_id, w->slot) > 0))
		return;
	w->drain_sent = true;
	peers_ctl(w, &(struct ctl_msg){ .kind = CTL_DRAIN }, NULL, 0);
}

static int feed(struct supervisor *s, struct sworker *w, unsigned limit)
{
	size_t len;

	for (unsigned n = 0; n < limit; n++) {
		int got = ring_get(&w->link.in, s->rec, sizeof(s->rec), &len);

		if (got <= 0)
			return got;
		if (w->class_id == CLASS_SHOWQ) {
			if (qpublic_input(s->sched, &w->link, s->rec, len) != 0)
				return E_PEER;
			continue;
		}
		if (!proc_classes[w->class_id].scheduled)
			return E_PEER; /* it has nothing to tell us */
		int err = sched_input(s->sched, w->class_id, w->slot, w->life, s->rec, len);

		if (err != 0) {
			sched_worker_refused(s->sched, w->class_id, w->slot, w->life);
			return err;
		}
	}
	return 1;
}

static void log_end(const struct sworker *w, int status)
{
	if (WIFSIGNALED(status))
		log_warn("process %s pid %d killed by signal %d%s", class_name(w), w->pid,
			 WTERMSIG(status),
			 WTERMSIG(status) == SIGSYS ? ", a system call that none of ours makes"
						    : "");
	else if (WEXITSTATUS(status) != 0)
		log_warn("process %s pid %d exit status %d", class_name(w), w->pid,
			 WEXITSTATUS(status));
}

/* When the next of the class may start: at once after a long life, later and later after short
 * ones, so that a crash loop of one class leaves the machine to the others. */
static void set_backoff(struct supervisor *s, struct sworker *w, bool unexpected)
{
	struct class_state *cs = &s->classes[w->class_id];
	int64_t now = clock_now().ms;

	if (!unexpected || now - w->started_ms >= SHORT_LIFE_MS) {
		cs->backoff_ms = 0;
	} else {
		cs->retry_ms = now + cs->backoff_ms;
		cs->backoff_ms = cs->backoff_ms == 0 ? BACKOFF_FIRST_MS : cs->backoff_ms * 2;
		if (cs->backoff_ms > BACKOFF_MAX_MS)
			cs->backoff_ms = BACKOFF_MAX_MS;
	}
}

static void start_failed(struct supervisor *s, struct sworker *w, int status)
{
	char text[CTL_TEXT_MAX + 100];

	if (w->last_words[0] == '\0' && ++s->classes[w->class_id].failures < START_TRIES)
		return;
	snprintf(text, sizeof(text), "%s", w->last_words);
	if (text[0] == '\0')
		snprintf(text, sizeof(text), "%s process ended at start with status 0x%x",
			 class_name(w), (unsigned)status);
	supervisor_failed(s, text);
}

/* Readers see the sum before or after, never a page counted twice or not at all. */
static void fold_counters(struct supervisor *s, struct sworker *w)
{
	struct counters_shm *page = counters_of(&w->counters);

	board_fold_step(s->board);
	counters_fold(s->counters, page);
	counters_folded(page);
	board_fold_step(s->board);
}

void life_exited(struct supervisor *s, const struct priv_msg *msg)
{
	struct sworker *w = find(s, msg);

	if (w == NULL)
		return;
	bool expected = w->drain_sent && msg->status == 0;
	bool scheduled = proc_classes[w->class_id].scheduled;

	if (w->sock >= 0)
		worker_event(w, 0); /* last words may still wait in the socket */
	if (!expected) {
		log_end(w, msg->status);
		counter_add(s->counters, CTR_sched_worker_deaths, 1);
		board_count(&s->board->worker_restarts);
	}
	/* a record that is refused does not take those behind it along: they may be acknowledged
	 * mail. At most a ring full each time: something that outlived the process may still write
	 */
	for (unsigned bad = 0;
	     bad < BAD_RECORDS_MAX && w->class_id != CLASS_SHOWQ && link_is_attached(&w->link) &&
	     !FAULT_SKIPS(DRAIN) && feed(s, w, w->link.in.size / 8) < 0;
	     bad++)
		;
	if (scheduled && (w->state == LIFE_UP || w->state == LIFE_DRAINING)) {
		sched_worker_gone(s->sched, w->class_id, w->slot, w->life);
		if (w->class_id == CLASS_REWRITE && !FAULT_SKIPS(ADOPT))
			recover_adopt(s->sched, s->files, &s->dirs);
	}
	peers_disconnect(s, w);
	if (w->counters.base != NULL)
		fold_counters(s, w);
	peers_counters_announce(s, w, true);
	peers_log_ring_gone(s, w->class_id, w->slot, w->life);
	set_backoff(s, w, !expected);
	struct sworker copy = *w;

	release(s, w);
	if (!expected && !s->ready && !s->stopping)
		start_failed(s, &copy, msg->status);
	/* peers of the dead that now lack one of their generation get the newest */
	for (size_t i = 0; i < s->high; i++) {
		if (s->workers[i].state == LIFE_UP)
			peers_connect(s, &s->workers[i]);
	}
}

/* ---- upkeep ---- */

/* May a `b` of an old generation go? Not while an `a` of that generation may still need it. */
static bool still_needed(const struct supervisor *s, const struct sworker *w)
{
	for (unsigned l = 0; l < proc_link_count; l++) {
		if (proc_links[l].b != w->class_id || !proc_links[l].same_generation)
			continue;
		for (size_t i = 0; i < s->high; i++) {
			const struct sworker *a = &s->workers[i];

			if (a->state != LIFE_FREE && a->class_id == proc_links[l].a &&
			    a->generation == w->generation)
				return true;
		}
	}
	return false;
}

static void drain_old(struct supervisor *s)
{
	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if ((w->state != LIFE_UP && w->state != LIFE_DRAINING) ||
		    (w->generation == s->generation && w->state != LIFE_DRAINING))
			continue;
		if (w->state == LIFE_UP && !proc_classes[w->class_id].exclusive &&
		    count_current(s, w->class_id, true) < proc_classes[w->class_id].count(s->conf))
			continue;
		if (!still_needed(s, w))
			life_drain(s, w);
	}
}

/* It has had records of ours for long and takes none. The figure is its own: one that cannot be is
 * found by the ring. */
static bool is_deaf(struct sworker *w, int64_t limit_ms, int64_t now)
{
	uint64_t unread = w->link.out.published -
			  atomic_load_explicit(&w->link.out.shm->tail, memory_order_relaxed);
	uint64_t read = w->link.out.published - unread;

	if (unread == 0 || read != w->out_seen || w->out_seen_ms == 0) {
		w->out_seen = read;
		w->out_seen_ms = now;
	}
	return now - w->out_seen_ms > limit_ms;
}

/* What one that is up does to the others by what it leaves undone. */
static void watch_rings(struct supervisor *s, struct sworker *w)
{
	int64_t limit_ms = s->params->worker_watchdog_time + 2000;

	if (w->state < LIFE_UP || !link_is_attached(&w->link))
		return;
	if (is_deaf(w, limit_ms, clock_mono_us_raw() / 1000))
		life_kill(s, w, "does not read its ring (worker_watchdog_time)");
	if (sched_worker_overdue(s->sched, w->class_id, w->slot, w->life))
		life_kill(s, w, "does not end what it announced");
}

/* After a reload: it has neither sessions nor deliveries to finish, or has had long enough. */
static void watch_drain(struct supervisor *s, struct sworker *w)
{
	int64_t limit_ms =
		proc_classes[w->class_id].brief_end ? BRIEF_END_MS : s->params->reload_drain_time;

	if (w->state != LIFE_DRAINING || w->kill_sent || s->stopping || limit_ms == 0 ||
	    clock_now().ms - w->drain_ms <= limit_ms)
		return;
	counter_add(s->counters, CTR_sched_drain_kills, 1);
	life_kill(s, w, "did not finish within reload_drain_time");
}

/* From the moment a worker is set up: one that never says that it is ready is replaced, too. */
void life_watch(struct supervisor *s)
{
	int64_t limit_s = s->params->worker_watchdog_time / 1000;
	uint32_t now = beat_now();

	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if (w->state >= LIFE_STARTING && w->deaf_ms != 0 &&
		    clock_mono_us_raw() / 1000 - w->deaf_ms > DEAF_MS)
			life_kill(s, w, "closed its control socket and lives on");
		watch_drain(s, w);
		if (s->params->worker_watchdog_time == 0 || w->state < LIFE_STARTING ||
		    w->counters.base == NULL)
			continue;
		watch_rings(s, w);
		uint32_t beat = atomic_load_explicit(&counters_of(&w->counters)->beat_s,
						     memory_order_relaxed);

		/* two seconds of grace: both figures are whole seconds of a clock looked at once a
		 * second */
		if ((int64_t)(uint32_t)(now - beat) > limit_s + 2 && now - beat < UINT32_MAX / 2)
			life_kill(s, w, "no sign of life (worker_watchdog_time)");
	}
}

void life_manage(struct supervisor *s)
{
	int64_t now = clock_now().ms;

	if (s->stopping)
		return;
	for (int c = CLASS_LOG; c < CLASS_COUNT; c++) {
		const struct proc_class *pc = &proc_classes[c];
		unsigned want = pc->count(s->conf);

		/* the door opens last: not before the queue is known and mail has somewhere to go
		 */
		if (proc_classes[c].is_door &&
		    (!s->recovered || count_current(s, CLASS_REWRITE, true) == 0))
			continue;
		if (pc->exclusive && life_count(s, (enum worker_class)c, LIFE_REQUESTED) > 0)
			continue;
		while (now >= s->classes[c].retry_ms &&
		       count_current(s, (enum worker_class)c, false) < want) {
			unsigned before = count_current(s, (enum worker_class)c, false);

			request(s, (enum worker_class)c);
			if (count_current(s, (enum worker_class)c, false) == before)
				break;
		}
	}
	drain_old(s);
}

bool life_read_rings(struct supervisor *s)
{
	bool more = false;

	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if (w->state < LIFE_UP || w->kill_sent ||
		    (w->class_id == CLASS_REWRITE && FAULT_SKIPS(TURN)))
			continue;
		int got = feed(s, w,
			       w->class_id == CLASS_SHOWQ ? QPUBLIC_PER_TURN : RECORDS_PER_TURN);

		if (got < 0)
			life_kill(s, w, err_str(got));
		more = more || got > 0;
	}
	return more;
}

bool life_presleep(struct supervisor *s)
{
	bool awake = false;

	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if (w->state >= LIFE_UP && !w->kill_sent && ring_cons_sleep(&w->link.in))
			awake = true;
	}
	return awake;
}

void life_awake(struct supervisor *s)
{
	for (size_t i = 0; i < s->high; i++) {
		if (s->workers[i].state >= LIFE_UP)
			ring_cons_awake(&s->workers[i].link.in);
	}
}

void life_flush(struct supervisor *s)
{
	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if (w->state >= LIFE_UP)
			link_flush(&w->link);
	}
}
