/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pickup worker: mail that local users left in the maildrop goes to a rewrite worker. Started
 * by priv, framed by workers/common/worker.h. What it reads may be hostile; it runs as mail_owner,
 * without network, with two directories. See workers/pickup/pickup.h.
 */
#include "workers/pickup/pickup.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/io.h"
#include "lib/log.h"
#include "workers/smtp_in/listener.h"

#define TICK_MS        1000
#define LOOK_MS        10000 /* a look without a reason: a notice may have been missed */
#define LOOK_BLIND_MS  1000  /* the same when nobody gives notice */
#define NAMES_PER_LOOK 1024
#define TMP_AGE_S      86400 /* a file that nobody finished */
#define COMPLAIN_MS    60000
#define COMPLAIN_MAX   20

static struct pickup the_pickup;

/* ---- what is looked at, and when ---- */

static uint64_t hash_of(const char *name)
{
	return hash_bytes(name, strlen(name));
}

void pickup_later(struct pickup *p, const char *name, int64_t ms)
{
	/* when there are too many the oldest is looked at again too early: no harm */
	p->later[p->later_next++ % LATER_MAX] =
		(struct later){ hash_of(name), clock_now().ms + ms };
}

static bool is_later(const struct pickup *p, const char *name)
{
	uint64_t hash = hash_of(name);

	for (unsigned i = 0; i < LATER_MAX; i++) {
		if (p->later[i].hash == hash && p->later[i].due_ms > clock_now().ms)
			return true;
	}
	return false;
}

void pickup_complain(struct pickup *p, const char *name, uid_t uid, const char *why)
{
	int64_t now = clock_now().ms;

	if (now - p->complain_ms > COMPLAIN_MS) {
		p->complain_ms = now;
		p->complaints = 0;
	}
	if (++p->complaints > COMPLAIN_MAX)
		return;
	if (uid == (uid_t)-1)
		log_warn("%s: %s", name, why);
	else
		log_warn("%s: uid=%u: %s", name, (unsigned)uid, why);
	if (p->complaints == COMPLAIN_MAX)
		log_warn("more files of this kind are not reported for a minute");
}

/* A message whose writer never came to its end was never acknowledged. */
static void look_at_unfinished(struct pickup *p, const char *name)
{
	struct stat st;

	if (fstatat(p->drop_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    clock_now_wall().us / 1000000 - st.st_mtime > TMP_AGE_S &&
	    unlinkat(p->drop_fd, name, 0) == 0)
		pickup_complain(p, name, st.st_uid, "removed: nobody finished it within a day");
}

/* Of an earlier life: its name is the id it had. */
static void look_at_interrupted(struct pickup *p, const char *name)
{
	char earlier[QID_TEXT_SIZE] = "";
	struct qid id;

	if (qid_parse(sv_from(name), &id) == 0)
		snprintf(earlier, sizeof(earlier), "%.*s", (int)sizeof(earlier) - 1, name);
	job_take(p, p->taken_fd, name, earlier);
}

static void look_at(struct pickup *p, const char *name)
{
	if (name[0] == '.')
		return;
	if (p->starting)
		look_at_interrupted(p, name);
	else if (strncmp(name, MAILDROP_TMP, strlen(MAILDROP_TMP)) == 0)
		look_at_unfinished(p, name);
	else if (!is_later(p, name))
		job_take(p, p->drop_fd, name, "");
}

static bool may_take(const struct pickup *p)
{
	const struct board_shm *b = p->w->board;

	return !p->w->draining && p->active < JOB_MAX && content_has_peer(&p->pool) &&
	       atomic_load_explicit(&b->spool_low, memory_order_relaxed) == 0 &&
	       atomic_load_explicit(&b->queue_full, memory_order_relaxed) == 0;
}

static bool open_look(struct pickup *p)
{
	int fd = openat(p->starting ? p->taken_fd : p->drop_fd, ".",
			O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	p->dir = fd < 0 ? NULL : fdopendir(fd);
	if (p->dir == NULL) {
		pickup_complain(p, p->starting ? MAILDROP_TAKEN_DIR : MAILDROP_DIR, (uid_t)-1,
				err_str(err_errno()));
		io_close(&fd);
		p->look_again = false;
	}
	return p->dir != NULL;
}

/* One stretch of looking round. True: there is more to look at now. */
static bool look(struct pickup *p)
{
	if (p->dir == NULL && (!p->look_again || !may_take(p)))
		return false;
	if (p->dir == NULL) {
		if (!open_look(p))
			return false;
		p->look_again = false;
		p->look_ms = clock_now().ms + (p->notify_fd >= 0 ? LOOK_MS : LOOK_BLIND_MS);
	}
	for (unsigned n = 0; n < NAMES_PER_LOOK; n++) {
		if (!may_take(p))
			return false;
		struct dirent *e = readdir(p->dir);

		if (e == NULL) {
			closedir(p->dir);
			p->dir = NULL;
			/* the maildrop comes after what was interrupted */
			p->look_again = p->look_again || p->starting;
			p->starting = false;
			return p->look_again;
		}
		look_at(p, e->d_name);
	}
	return true;
}

/* ---- turns ---- */

static void sync_dirs(struct pickup *p)
{
	if (!p->taken_unsynced && (!p->removed_unsynced || p->active > 0))
		return;
	if (fsync(p->taken_fd) < 0 || (p->taken_unsynced && fsync(p->drop_fd) < 0))
		log_warn("cannot sync %s: %s", MAILDROP_TAKEN_DIR, err_str(err_errno()));
	p->taken_unsynced = p->removed_unsynced = false;
}

static void begin_taken(struct pickup *p)
{
	for (unsigned i = 0; i < JOB_MAX; i++) {
		if (p->jobs[i].state == JOB_TAKEN && !p->jobs[i].content.waiting)
			job_begin(&p->jobs[i]);
	}
}

static void end_if_idle(struct pickup *p)
{
	if (!p->w->draining)
		return;
	for (unsigned i = 0; i < JOB_MAX; i++) {
		if (p->jobs[i].state == JOB_TAKEN || p->jobs[i].state == JOB_SENDING)
			job_put_back(&p->jobs[i], 0);
	}
	if (p->active == 0)
		worker_exit(p->w);
}

static bool pickup_turn(struct worker *w)
{
	struct pickup *p = w->state;
	bool more = look(p);

	content_serve_queue(&p->pool);
	sync_dirs(p);
	begin_taken(p);
	end_if_idle(p);
	return more;
}

static void on_tick(void *ctx)
{
	struct pickup *p = ctx;

	loop_timer_set(&p->tick, TICK_MS);
	if (clock_now().ms >= p->look_ms)
		p->look_again = true;
}

static void on_notice(void *ctx, unsigned events UNUSED)
{
	struct pickup *p = ctx;
	char events_buf[4096];

	/* what it says is of no matter: everything is looked at */
	while (read(p->notify_fd, events_buf, sizeof(events_buf)) > 0)
		p->look_again = true;
}

/* ---- peers ---- */

static void content_send(void *ctx, uint32_t peer, const struct proto_submit *rec)
{
	struct pickup *p = ctx;

	worker_send(p->w, p->rewrites[peer]->link, rec, sizeof(*rec));
}

static void content_accuse(void *ctx, uint32_t peer, const char *why)
{
	struct pickup *p = ctx;

	worker_accuse(p->w, p->rewrites[peer], why);
}

static void content_has_room(void *ctx UNUSED, void *owner)
{
	job_room(owner);
}

static uint32_t rewrite_index(const struct pickup *p, const struct worker_peer *peer)
{
	uint32_t i = 0;

	while (i < CONTENT_MAX_PEERS && p->rewrites[i] != peer)
		i++;
	return i;
}

static void pickup_attach(struct worker *w, struct worker_peer *peer)
{
	struct pickup *p = w->state;
	uint32_t i = rewrite_index(p, NULL);

	if (peer->class_id != CLASS_REWRITE || i == CONTENT_MAX_PEERS)
		return;
	p->rewrites[i] = peer;
	content_peer_add(&p->pool, i);
	p->look_again = true;
}

static void pickup_detach(struct worker *w, struct worker_peer *peer)
{
	struct pickup *p = w->state;
	uint32_t index = rewrite_index(p, peer);

	if (index == CONTENT_MAX_PEERS)
		return;
	content_peer_remove(&p->pool, index);
	for (unsigned i = 0; i < JOB_MAX; i++) {
		struct job *j = &p->jobs[i];

		if (j->state >= JOB_SENDING && j->content.peer == index)
			job_lost(j);
	}
	p->rewrites[index] = NULL;
}

static void on_done(struct pickup *p, uint32_t peer, const void *rec, size_t len)
{
	struct proto_submit_done d;

	if (len < sizeof(d)) {
		content_accuse(p, peer, "short verdict");
		return;
	}
	memcpy(&d, rec, sizeof(d));
	if (!proto_len_ok(len, sizeof(d), d.text_len, 1)) {
		content_accuse(p, peer, "verdict with a bad length");
		return;
	}
	struct job *j = d.session < JOB_MAX ? &p->jobs[d.session] : NULL;

	/* given up meanwhile, and its place may be another's by now */
	if (j == NULL || d.tx == 0 || j->content.tx != d.tx || j->content.peer != peer)
		return;
	job_done(j, &d, (struct sv){ (const char *)rec + sizeof(d), d.text_len });
}

static void pickup_record(struct worker *w, struct worker_peer *peer, const void *rec, size_t len)
{
	struct pickup *p = w->state;
	uint32_t index = rewrite_index(p, peer), kind = 0;
	struct proto_submit_free f;

	if (len >= sizeof(kind))
		memcpy(&kind, rec, sizeof(kind));
	if (index < CONTENT_MAX_PEERS && kind == PROTO_SUBMIT_DONE) {
		on_done(p, index, rec, len);
	} else if (index < CONTENT_MAX_PEERS && kind == PROTO_SUBMIT_FREE && len == sizeof(f)) {
		memcpy(&f, rec, sizeof(f));
		content_freed(&p->pool, index, &f);
	} else {
		worker_accuse(w, peer, "unexpected record");
	}
}

/* ---- life ---- */

static int open_dir(const struct params *p, const char *sub, int *fd_r)
{
	char *path = xasprintf("%s/%s", p->queue_directory, sub);
	int err = 0;

	*fd_r = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd_r < 0) {
		err = err_errno();
		log_error("%s: %s", path, err_str(err));
	}
	free(path);
	return err;
}

static void watch(struct pickup *p)
{
	char *path = xasprintf("%s/%s", p->w->params->queue_directory, MAILDROP_DIR);

	p->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (p->notify_fd >= 0 && inotify_add_watch(p->notify_fd, path, IN_MOVED_TO) < 0)
		io_close(&p->notify_fd);
	if (p->notify_fd < 0)
		log_warn("no notices of new mail in %s (%s): looked for every second", path,
			 err_str(err_errno()));
	free(path);
}

static int pickup_init(struct worker *w)
{
	struct pickup *p = &the_pickup;
	const struct conf_service *s = conf_service_find(w->conf, "pickup", SERVICE_UNIX);
	struct conf_diag d;
	int err;

	tzset();
	w->state = p;
	p->w = w;
	if (s == NULL)
		s = conf_service_find(w->conf, "pickup", SERVICE_FIFO);
	conf_diag_init(&d);
	err = listener_overrides(s != NULL ? s->params : w->params, &d, &p->envelope_flags);
	bounce_texts_open(w->conf, NULL, &p->texts, &d);
	conf_diag_log(&d);
	conf_diag_fini(&d);
	p->filter = (s != NULL ? s->params : w->params)->content_filter;
	p->cleanup = conf_cleanup_name(s != NULL ? s->params : w->params);
	log_speak_as(conf_log_name(w->conf, s != NULL ? s->params : w->params, "pickup"));
	if (w->check_only || err != 0)
		return err;
	err = open_dir(w->params, MAILDROP_DIR, &p->drop_fd);
	if (err == 0)
		err = open_dir(w->params, MAILDROP_TAKEN_DIR, &p->taken_fd);
	if (err == 0)
		err = open_dir(w->params, "corrupt", &p->corrupt_fd);
	if (err == 0)
		watch(p);
	return err;
}

static int pickup_start(struct worker *w)
{
	struct pickup *p = w->state;

	p->ids.life = w->life;
	p->starting = p->look_again = true;
	p->content_ops = (struct content_ops){
		.send = content_send,
		.accuse = content_accuse,
		.room = content_has_room,
		.ctx = p,
	};
	int err = content_pool_init(&p->pool, &w->blocks, &p->content_ops);

	if (err != 0)
		return err;
	for (unsigned i = 0; i < JOB_MAX; i++)
		p->jobs[i] = (struct job){ .p = p, .number = i, .file.fd = -1 };
	if (p->notify_fd >= 0)
		loop_fd_add(w->loop, &p->notify_lf, p->notify_fd, LOOP_READ, on_notice, p);
	loop_timer_init(w->loop, &p->tick, on_tick, p);
	loop_timer_set(&p->tick, TICK_MS);
	return 0;
}

static void pickup_drain(struct worker *w)
{
	end_if_idle(w->state);
}

int main(int argc, char **argv)
{
	static const struct worker_ops ops = {
		.class_id = CLASS_PICKUP,
		.program = "pickup",
		.init = pickup_init,
		.start = pickup_start,
		.attach = pickup_attach,
		.detach = pickup_detach,
		.from_peer = pickup_record,
		.turn = pickup_turn,
		.drain = pickup_drain,
	};

	return worker_main(argc, argv, &ops);
}
