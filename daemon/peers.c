/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Who is linked to whom, and who gets which region. Called by daemon/life.c. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/supervisor.h"
#include "lib/err.h"
#include "lib/io.h"

int peers_ctl(struct sworker *to, const struct ctl_msg *msg, const int *fds, size_t nfds)
{
	int err = to->sock < 0 ? E_EOF : io_send_fds(to->sock, msg, sizeof(*msg), fds, nfds);

	/* a worker that does not read its control socket is stuck; one that was not told of a peer
	 * is no use to it */
	if (err == E_AGAIN)
		life_kill(to->sup, to, "does not read its control socket");
	else if (err != 0 && err != E_EOF && err != -EPIPE && err != -ECONNRESET)
		life_kill(to->sup, to, err_str(err));
	return err;
}

static struct sworker *up_worker(struct supervisor *s, enum worker_class c)
{
	for (size_t i = 0; i < s->high; i++) {
		struct sworker *w = &s->workers[i];

		if (w->class_id == c && w->state == LIFE_UP)
			return w;
	}
	return NULL;
}

static size_t index_of(const struct supervisor *s, const struct sworker *w)
{
	return (size_t)(w - s->workers);
}

/* A descriptor of a region for one who only reads it: it cannot be mapped writable. Without /proc
 * the region's own has to do, and only the mapping mode protects. *opened_r is to be closed. */
static int reader_fd(const struct shm_region *r, int *opened_r)
{
	int fd = shm_region_readonly_fd(r);

	*opened_r = fd >= 0 ? fd : -1;
	return fd >= 0 ? fd : r->fd;
}

static void link_pair(struct supervisor *s, const struct proc_link *pl, struct sworker *a,
		      struct sworker *b)
{
	struct shm_region r = SHM_REGION_INIT;
	char name[64];

	snprintf(name, sizeof(name), "link-%s-%s", proc_classes[a->class_id].name,
		 proc_classes[b->class_id].name);
	int err = link_create(name, pl->ring_ab, pl->ring_ba, a->life, b->life, &r);

	if (err != 0) {
		log_error("cannot link %s and %s: %s", proc_classes[a->class_id].name,
			  proc_classes[b->class_id].name, err_str(err));
		return;
	}
	struct ctl_msg msg = { .kind = CTL_ATTACH,
			       .class_id = b->class_id,
			       .slot = b->slot,
			       .life = b->life,
			       .side = 0 };
	int blocks_fd = -1;
	int fds[3] = { r.fd, b->wake_fd, -1 };

	if (peers_ctl(a, &msg, fds, 2) == 0) {
		msg = (struct ctl_msg){ .kind = CTL_ATTACH,
					.class_id = a->class_id,
					.slot = a->slot,
					.life = a->life,
					.side = 1,
					.has_blocks = pl->give_blocks };
		fds[1] = a->wake_fd;
		if (pl->give_blocks)
			fds[2] = reader_fd(&a->blocks, &blocks_fd);
		peers_ctl(b, &msg, fds, pl->give_blocks ? 3 : 2);
		io_close(&blocks_fd);
		s->linked[index_of(s, a)][index_of(s, b)] = 1;
		s->linked[index_of(s, b)][index_of(s, a)] = 1;
	}
	shm_region_close(&r);
}

/* An `a` is served by the `b`s of its own generation; when it has none left, by the newest. */
static bool belongs(struct supervisor *s, const struct sworker *a, const struct sworker *b)
{
	if (a->generation == b->generation)
		return true;
	for (size_t i = 0; i < s->high; i++) {
		const struct sworker *o = &s->workers[i];

		if (o->class_id == b->class_id && o->generation == a->generation &&
		    o->state != LIFE_FREE)
			return false;
	}
	return b->generation == s->generation;
}

void peers_connect(struct supervisor *s, struct sworker *w)
{
	for (unsigned l = 0; l < proc_link_count; l++) {
		const struct proc_link *pl = &proc_links[l];

		for (size_t i = 0; i < s->high; i++) {
			struct sworker *o = &s->workers[i];

			if ((o->state != LIFE_UP && o->state != LIFE_DRAINING) ||
			    s->linked[index_of(s, w)][i])
				continue;
			if (pl->a == w->class_id && pl->b == o->class_id &&
			    (pl->every_generation || belongs(s, w, o)))
				link_pair(s, pl, w, o);
			else if (pl->b == w->class_id && pl->a == o->class_id &&
				 (pl->every_generation || belongs(s, o, w)))
				link_pair(s, pl, o, w);
		}
	}
}

void peers_disconnect(struct supervisor *s, struct sworker *w)
{
	struct ctl_msg msg = {
		.kind = CTL_DETACH, .class_id = w->class_id, .slot = w->slot, .life = w->life
	};
	size_t me = index_of(s, w);

	for (size_t i = 0; i < s->high; i++) {
		if (!s->linked[me][i])
			continue;
		s->linked[me][i] = s->linked[i][me] = 0;
		if (s->workers[i].state != LIFE_FREE)
			peers_ctl(&s->workers[i], &msg, NULL, 0);
	}
}

void peers_region_to(struct supervisor *s UNUSED, struct sworker *to, const struct shm_region *r,
		     enum shm_kind kind, enum worker_class c, unsigned slot, uint32_t life)
{
	struct ctl_msg msg = {
		.kind = CTL_REGION, .class_id = c, .slot = slot, .life = life, .region_kind = kind
	};

	int opened = -1;
	int fd = kind == SHM_KIND_LOG ? r->fd
				      : reader_fd(r, &opened); /* a log ring has two writers */

	peers_ctl(to, &msg, &fd, 1);
	io_close(&opened);
}

void peers_counters_announce(struct supervisor *s, struct sworker *w, bool gone)
{
	struct sworker *stats = up_worker(s, CLASS_STATS);
	struct ctl_msg msg = { .kind = CTL_REGION_GONE,
			       .class_id = w->class_id,
			       .slot = w->slot,
			       .life = w->life,
			       .region_kind = SHM_KIND_COUNTERS };

	if (stats == NULL || stats == w)
		return;
	if (gone)
		peers_ctl(stats, &msg, NULL, 0);
	else
		peers_region_to(s, stats, &w->counters, SHM_KIND_COUNTERS, w->class_id, w->slot,
				w->life);
}

/* ---- log rings ---- */

static void give_log_ring(struct sworker *log, struct log_ring *lr)
{
	struct shm_region r = { .fd = lr->fd };

	if (lr->given && logring_mend(lr->fd, lr->life) != 0)
		log_warn("log ring of a worker (life %u) cannot be set right", lr->life);
	peers_region_to(log->sup, log, &r, SHM_KIND_LOG, (enum worker_class)lr->class_id, lr->slot,
			lr->life);
	lr->given = true;
}

/* The log worker drains a ring whose producer is gone and closes it; then we need it no more. */
static void finish_log_ring(struct sworker *log, struct log_ring *lr)
{
	struct ctl_msg msg = { .kind = CTL_REGION_GONE,
			       .class_id = lr->class_id,
			       .slot = lr->slot,
			       .life = lr->life,
			       .region_kind = SHM_KIND_LOG };

	peers_ctl(log, &msg, NULL, 0);
	io_close(&lr->fd);
	lr->used = false;
}

void peers_log_ring_add(struct supervisor *s, int fd, enum worker_class c, unsigned slot,
			uint32_t life)
{
	struct sworker *log = up_worker(s, CLASS_LOG);

	for (size_t i = 0; i < MAX_LOG_RINGS; i++) {
		struct log_ring *lr = &s->log_rings[i];

		if (lr->used)
			continue;
		*lr = (struct log_ring){
			.fd = fd, .class_id = c, .slot = slot, .life = life, .used = true
		};
		if (log != NULL)
			give_log_ring(log, lr);
		return;
	}
	close(fd); /* no log worker for a long time and many deaths: the lines are lost */
}

void peers_log_ring_gone(struct supervisor *s, enum worker_class c, unsigned slot, uint32_t life)
{
	struct sworker *log = up_worker(s, CLASS_LOG);

	for (size_t i = 0; i < MAX_LOG_RINGS; i++) {
		struct log_ring *lr = &s->log_rings[i];

		if (!lr->used || lr->class_id != (uint32_t)c || lr->slot != slot ||
		    lr->life != life)
			continue;
		lr->gone = true;
		if (log != NULL && lr->given)
			finish_log_ring(log, lr);
	}
}

void peers_give_regions(struct supervisor *s, struct sworker *w)
{
	if (w->class_id == CLASS_LOG) {
		for (size_t i = 0; i < MAX_LOG_RINGS; i++) {
			struct log_ring *lr = &s->log_rings[i];

			if (!lr->used)
				continue;
			give_log_ring(w, lr);
			if (lr->gone)
				finish_log_ring(w, lr);
		}
	}
	if (!proc_classes[w->class_id].all_regions)
		return;
	peers_region_to(s, w, &s->qtab.region, SHM_KIND_QTAB, CLASS_SUPERVISOR, 0, 0);
	peers_region_to(s, w, &s->dtab.region, SHM_KIND_DTAB, CLASS_SUPERVISOR, 0, 0);
	for (size_t i = 0; i < s->high; i++) {
		struct sworker *o = &s->workers[i];

		/* those that are not up yet are announced when they are */
		if (o->state >= LIFE_UP && o->counters.fd >= 0)
			peers_region_to(s, w, &o->counters, SHM_KIND_COUNTERS, o->class_id, o->slot,
					o->life);
	}
	/* last: statistics answers nobody before it has this one, so sums are whole from the first
	 */
	peers_region_to(s, w, &s->boot_region, SHM_KIND_COUNTERS, CLASS_SUPERVISOR, 0, 0);
}
