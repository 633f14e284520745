/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Power cuts under the spool. A child writes messages and outcomes on a file system of its own (an
 * image on a loop device) and tells, through a pipe, what it would acknowledge. Before its Kth
 * storage call it cuts the power: the shutdown ioctl stops the file system on the spot and throws
 * away what its log holds unwritten. Every other cut comes *during* the call instead, and the child
 * lives on for a moment on the dead disk, where it must acknowledge nothing that is not there. Then
 * the image is mounted again, recovery runs, and every acknowledged message and synced outcome must
 * be found whole.
 *
 *   usage: spool_cut [-n CUTS] [-f ext4|xfs]      (root only; TAP)
 *
 * The last run is the control: with syncs off the same procedure must report losses.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"
#include "lib/loop.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/spool/spool.h"

#define SHUTDOWN_IOCTL        _IOR('X', 125, uint32_t)
#define SHUTDOWN_NO_LOG_FLUSH 2u
#define IMAGE_BYTES           ((off_t)400 << 20)
#define SEGMENT_BYTES         (256u << 10)
#define MESSAGES              120
#define IDS_PER_CUT           1000

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t off);
int __real_fdatasync(int fd);
int __real_fsync(int fd);
int __real_fallocate(int fd, int mode, off_t off, off_t len);
int __real_ftruncate(int fd, off_t len);
int __real_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __real_unlinkat(int fd, const char *name, int flags);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off);
int __wrap_fdatasync(int fd);
int __wrap_fsync(int fd);
int __wrap_fallocate(int fd, int mode, off_t off, off_t len);
int __wrap_ftruncate(int fd, off_t len);
int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_unlinkat(int fd, const char *name, int flags);

/* ---- the cut ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long calls, cut_at; /* 0: never */
static bool cut_during, cut_begun;
static int mount_fd = -1;

static void shut_down(void)
{
	uint32_t flag = SHUTDOWN_NO_LOG_FLUSH;

	if (ioctl(mount_fd, SHUTDOWN_IOCTL, &flag) < 0)
		_exit(99);
}

static void *cut_beside(void *arg UNUSED)
{
	shut_down();
	usleep(20000);
	_exit(7);
}

/* The child gives up; but what failed after the cut began is the cut's doing. */
static void quit(int code)
{
	pthread_mutex_lock(&lock);
	bool begun = cut_begun;

	pthread_mutex_unlock(&lock);
	while (begun)
		pause();
	_exit(code);
}

static void storage_call(void)
{
	pthread_mutex_lock(&lock);
	if (mount_fd >= 0 && ++calls >= cut_at && cut_at != 0 && !cut_begun) {
		pthread_t thread;

		cut_begun = true;
		if (!cut_during) {
			shut_down();
			_exit(7);
		}
		if (pthread_create(&thread, NULL, cut_beside, NULL) != 0)
			_exit(93);
	}
	pthread_mutex_unlock(&lock);
}

ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t off)
{
	storage_call();
	return __real_pwrite(fd, p, n, off);
}

int __wrap_fdatasync(int fd)
{
	storage_call();
	return __real_fdatasync(fd);
}

int __wrap_fsync(int fd)
{
	storage_call();
	return __real_fsync(fd);
}

int __wrap_fallocate(int fd, int mode, off_t off, off_t len)
{
	storage_call();
	return __real_fallocate(fd, mode, off, len);
}

int __wrap_ftruncate(int fd, off_t len)
{
	storage_call();
	return __real_ftruncate(fd, len);
}

int __wrap_renameat(int from_fd, const char *from, int to_fd, const char *to)
{
	storage_call();
	return __real_renameat(from_fd, from, to_fd, to);
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	storage_call();
	return __real_renameat2(from_fd, from, to_fd, to, flags);
}

int __wrap_unlinkat(int fd, const char *name, int flags)
{
	storage_call();
	return __real_unlinkat(fd, name, flags);
}

/* ---- the writing child ---- */

enum { TELL_MESSAGE, TELL_OUTCOME, TELL_FILE, TELL_CALLS };

struct tell {
	uint32_t what;
	uint32_t number; /* message or outcome; file number; storage calls */
	struct proto_place place;
};

struct child {
	int pipe;
	unsigned cut;
	struct spool_dirs dirs;
	struct spool_state *state;
	struct loop *loop;
	struct spool_writer *w;
	struct journal_writer *j;
	unsigned seg_needs, jnl_needs;
	unsigned answered, taken;
	uint32_t spares[16];
	unsigned spare_count;
};

static void tell(struct child *c, uint32_t what, uint32_t number, const struct proto_place *place)
{
	struct tell t = { .what = what, .number = number };

	if (place != NULL)
		t.place = *place;
	if (write(c->pipe, &t, sizeof(t)) != sizeof(t))
		quit(98);
}

static void committed(void *ctx, void *cookie, int err, const struct proto_place *place)
{
	struct child *c = ctx;

	c->answered++;
	if (err == 0)
		tell(c, TELL_MESSAGE, (uint32_t)(uintptr_t)cookie, place);
}

static void need_segment(void *ctx)
{
	((struct child *)ctx)->seg_needs++;
}

static void need_journal(void *ctx)
{
	((struct child *)ctx)->jnl_needs++;
}

static void closed(void *ctx UNUSED, uint32_t number UNUSED, uint64_t bytes UNUSED)
{
}

static uint32_t next_file(struct child *c)
{
	uint32_t n;

	if (spool_state_next_file(c->state, &n) != 0)
		quit(97);
	tell(c, TELL_FILE, n, NULL);
	return n;
}

static void turn(struct child *c, int wait_ms)
{
	for (; c->seg_needs > 0; c->seg_needs--) {
		uint32_t recycle = c->spare_count > 0 ? c->spares[--c->spare_count] : 0;

		spool_writer_grant(c->w, next_file(c), recycle);
	}
	for (; c->jnl_needs > 0; c->jnl_needs--)
		journal_writer_grant(c->j, next_file(c), (struct journal_owner){ 0, 0 });
	loop_turn(c->loop, wait_ms);
}

static struct spool_record header(const struct child *c, unsigned k)
{
	return (struct spool_record){ .qid_us = 1700000000000000u + c->cut * IDS_PER_CUT + k,
				      .qid_life = 3,
				      .rcpt_count = 1 };
}

static int append(struct child *c, unsigned k)
{
	static char content[40000];
	struct spool_record h = header(c, k);
	struct spool_iov iov = { content, 200 + k * 7919 % 9000 };
	struct spool_stream *s;

	memset(content, 'a' + (int)(k % 26), sizeof(content));
	if (k % 17 != 5)
		return spool_writer_append(c->w, &h, SV("envelope"), &iov, 1, (void *)(uintptr_t)k);
	int err = spool_stream_open(c->w, 50000, &s);

	if (err != 0)
		return err;
	err = spool_stream_add(s, content, sizeof(content));
	turn(c, 0);
	if (err == 0)
		return spool_stream_commit(&s, &h, SV("envelope"), (void *)(uintptr_t)k);
	spool_stream_abort(&s);
	return err;
}

static void outcomes(struct child *c, unsigned k)
{
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = { 1700000000000000u + c->cut * IDS_PER_CUT + k, 3 },
			     .mask = 1,
			     .sent = 1 };
	struct proto_jref ref;

	if (journal_append(c->j, &o, &ref) == 0 && journal_sync(c->j) == 0)
		tell(c, TELL_OUTCOME, k, NULL);
}

static void start(struct child *c, const char *dir, bool sync)
{
	struct spool_writer_ops ops = { committed, need_segment, closed, c };
	struct spool_writer_conf conf = { .segment_bytes = SEGMENT_BYTES,
					  .sync = sync,
					  .max_syncs = 1 + c->cut / 2 % 2,
					  .inline_max = c->cut % 3 == 0 ? 4 : 0 };
	struct journal_conf jconf = { .sync_window_ms = 5,
				      .file_bytes = 65536,
				      .need_file = need_journal,
				      .closed_file = closed,
				      .ctx = c };
	uint32_t *list;
	size_t count;

	c->loop = loop_new();
	if (spool_dirs_open(dir, true, &c->dirs) != 0 ||
	    spool_state_open(&c->dirs, &c->state) != 0 ||
	    spool_writer_new(&conf, &ops, &c->dirs, c->loop, &c->w) != 0 ||
	    journal_writer_new(&jconf, &c->dirs, c->loop, &c->j) != 0)
		quit(96);
	loop_add_hook(c->loop, spool_writer_poll, c->w);
	loop_add_hook(c->loop, journal_writer_poll, c->j);
	/* what earlier cuts left behind is dead: overwrite it */
	if (spool_list(&c->dirs, SPOOL_SEGMENT, &list, &count) != 0)
		quit(95);
	for (size_t i = 0; i < count; i++) {
		bool kept;

		if (spool_segment_retire(&c->dirs, list[i], 4, &kept) == 0 && kept)
			c->spares[c->spare_count++] = list[i];
	}
	free(list);
	if (spool_list(&c->dirs, SPOOL_JOURNAL, &list, &count) != 0)
		quit(95);
	for (size_t i = 0; i < count; i++)
		spool_journal_remove(&c->dirs, list[i]);
	free(list);
}

static void child_main(const char *dir, int pipe_fd, unsigned cut, unsigned long at, bool sync)
{
	static struct child c;

	c.pipe = pipe_fd;
	c.cut = cut;
	cut_at = at;
	cut_during = cut % 2 != 0 && at != 0;
	mount_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	start(&c, dir, sync);
	for (unsigned k = 0, tries = 0; k < MESSAGES && tries < 20000; tries++) {
		int err = append(&c, k);

		c.taken += err == 0;
		if (err != 0 || k % 5 == 4)
			turn(&c, err == E_AGAIN ? 5 : 0);
		if (err == 0 && k % 10 == 9)
			outcomes(&c, k);
		k += err == 0;
	}
	for (int i = 0; i < 1000 && c.answered < c.taken; i++)
		turn(&c, 5);
	if (c.answered < MESSAGES)
		quit(94);
	tell(&c, TELL_CALLS, (uint32_t)calls, NULL);
	cut_at = 1; /* at the very end, if it was not reached */
	cut_during = false;
	storage_call();
	quit(0);
}

/* ---- mounting ---- */

static char work[64], image[128], mnt[128], loop_dev[64];
static const char *fs = "ext4";

PRINTF_LIKE(1, 2) static int shell(const char *fmt, ...)
{
	char cmd[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	int status = system(cmd);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool mount_image(void)
{
	return shell("mount -t %s %s %s 2>/dev/null", fs, loop_dev, mnt) == 0;
}

/* One loop device for the whole run: a fresh one per mount would not see what the last one has not
 * written back yet. */
static bool attach_loop(void)
{
	char cmd[256];

	snprintf(cmd, sizeof(cmd), "losetup --find --show %s 2>/dev/null", image);
	FILE *p = popen(cmd, "r");

	if (p == NULL)
		return false;
	bool good = fgets(loop_dev, sizeof(loop_dev), p) != NULL;

	loop_dev[strcspn(loop_dev, "\n")] = '\0';
	return pclose(p) == 0 && good;
}

static bool make_image(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(work, sizeof(work), "%s/spool-cut-XXXXXX",
		 tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
	if (mkdtemp(work) == NULL)
		return false;
	snprintf(image, sizeof(image), "%s/image", work);
	snprintf(mnt, sizeof(mnt), "%s/mnt", work);
	int fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	bool good = fd >= 0 && __real_ftruncate(fd, IMAGE_BYTES) == 0 && mkdir(mnt, 0700) == 0;

	if (fd >= 0)
		close(fd);
	return good && attach_loop() && shell("mkfs.%s -q %s >/dev/null 2>&1", fs, loop_dev) == 0 &&
	       mount_image();
}

static void remove_image(void)
{
	shell("umount %s 2>/dev/null; [ -z '%s' ] || losetup -d %s; rm -rf %s", mnt, loop_dev,
	      loop_dev, work);
}

/* ---- after the cut ---- */

struct told {
	bool message[IDS_PER_CUT], outcome[IDS_PER_CUT];
	struct proto_place place[IDS_PER_CUT];
	unsigned messages, outcomes;
	uint32_t highest_file;
	unsigned long calls;
};

struct seen {
	unsigned cut;
	bool message[IDS_PER_CUT], outcome[IDS_PER_CUT];
	struct proto_place place[IDS_PER_CUT];
	unsigned count;
};

static int index_of(unsigned cut, struct qid id)
{
	uint64_t base = 1700000000000000u + cut * IDS_PER_CUT;

	return id.time_us >= base && id.time_us < base + IDS_PER_CUT && id.life == 3
		       ? (int)(id.time_us - base)
		       : -1;
}

static int see_record(void *ctx, const struct spool_found *f)
{
	struct seen *s = ctx;
	int k = index_of(s->cut, f->qid);

	if (k >= 0) {
		s->message[k] = true;
		s->place[k] = f->place;
		s->count++;
	}
	return 0;
}

static int see_outcome(void *ctx, const struct outcome *o, struct proto_jref ref UNUSED)
{
	struct seen *s = ctx;
	int k = index_of(s->cut, o->qid);

	if (k >= 0)
		s->outcome[k] = true;
	return 0;
}

static bool recover(const struct spool_dirs *d, struct seen *s)
{
	static const enum spool_file_kind kinds[] = { SPOOL_SEGMENT, SPOOL_JOURNAL };

	for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
		uint32_t *list;
		size_t count;
		int err = spool_list(d, kinds[k], &list, &count);

		for (size_t i = 0; i < count && err == 0; i++)
			err = kinds[k] == SPOOL_SEGMENT
				      ? spool_scan_segment(d, list[i], 0, see_record, s, NULL)
				      : spool_scan_journal(d, list[i], see_outcome, s, NULL);
		free(list);
		if (err != 0)
			return false;
	}
	return true;
}

struct verdict {
	unsigned lost, lost_outcomes, numbers_again, unreadable;
};

static void check(const struct told *t, unsigned cut, struct verdict *v)
{
	static struct seen first, again;
	struct spool_dirs d;
	struct spool_state *state;
	uint32_t next = 0;

	first = (struct seen){ .cut = cut };
	again = (struct seen){ .cut = cut };
	if (spool_dirs_open(mnt, true, &d) != 0 || !recover(&d, &first) || !recover(&d, &again) ||
	    memcmp(&first, &again, sizeof(first)) != 0) {
		v->unreadable++; /* or recovery is not repeatable */
		printf("# %u and %u found\n", first.count, again.count);
		return;
	}
	struct spool_reader *r = spool_reader_new(&d, 8);

	for (unsigned k = 0; k < IDS_PER_CUT; k++) {
		struct qid id = { 1700000000000000u + cut * IDS_PER_CUT + k, 3 };
		struct spool_record h;

		if (t->message[k] && (!first.message[k] ||
				      spool_read_head(r, id, first.place[k], true, &h, NULL) != 0))
			v->lost++;
		v->lost_outcomes += t->outcome[k] && !first.outcome[k];
	}
	spool_reader_free(&r);
	if (spool_state_open(&d, &state) != 0 || spool_state_next_file(state, &next) != 0 ||
	    next <= t->highest_file)
		v->numbers_again++;
	spool_state_close(&state);
	spool_dirs_close(&d);
}

static void listen_to(int fd, struct told *t)
{
	struct tell m;

	while (read(fd, &m, sizeof(m)) == sizeof(m)) {
		switch (m.what) {
		case TELL_MESSAGE:
			t->message[m.number % IDS_PER_CUT] = true;
			t->messages++;
			break;
		case TELL_OUTCOME:
			t->outcome[m.number % IDS_PER_CUT] = true;
			t->outcomes++;
			break;
		case TELL_FILE:
			if (m.number > t->highest_file)
				t->highest_file = m.number;
			break;
		default:
			t->calls = m.number;
		}
	}
}

/* One life, cut and recovery. False when the procedure itself failed. */
static bool one_cut(unsigned cut, unsigned long at, bool sync, struct told *t, struct verdict *v)
{
	int fds[2], status;

	*t = (struct told){ .calls = 0 };
	if (pipe2(fds, O_CLOEXEC) < 0)
		return false;
	fflush(stdout);
	pid_t pid = fork();

	if (pid == 0) {
		close(fds[0]);
		child_main(mnt, fds[1], cut, at, sync);
	}
	close(fds[1]);
	listen_to(fds[0], t);
	close(fds[0]);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);

	if (code != 7 && code != 0) {
		printf("# child ended with %d\n", code);
		return false;
	}
	if (shell("umount %s", mnt) != 0 || !mount_image())
		return false;
	check(t, cut, v);
	return true;
}

static void quiet(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		  const char *text UNUSED, size_t len UNUSED)
{
	if (getenv("CUT_DEBUG") != NULL)
		fprintf(stderr, "# %.*s\n", (int)len, text);
}

static void run_all(unsigned cuts)
{
	struct told t;
	struct verdict v = { 0, 0, 0, 0 };
	unsigned done = 0, messages = 0, outs = 0;

	ok(one_cut(1, 0, true, &t, &v) && v.lost == 0, "a whole run, cut at its end");
	unsigned long total = t.calls;

	ok(total > 50 && t.messages == MESSAGES, "%lu storage calls, %u messages acknowledged",
	   total, t.messages);
	for (unsigned i = 0; i < cuts; i++) {
		unsigned long at = 1 + (unsigned long)i * total / cuts;

		if (!one_cut(2 + i, at, true, &t, &v)) {
			ok(false, "cut %u before storage call %lu", i, at);
			return;
		}
		done++;
		messages += t.messages;
		outs += t.outcomes;
		if (v.lost + v.lost_outcomes + v.numbers_again + v.unreadable > 0) {
			printf("# first failure at storage call %lu\n", at);
			break;
		}
	}
	is_int(done, cuts, "power cuts on %s", fs);
	is_int(v.lost, 0, "acknowledged messages lost, of %u", messages);
	is_int(v.lost_outcomes, 0, "synced outcomes lost, of %u", outs);
	is_int(v.numbers_again, 0, "file numbers given out again");
	is_int(v.unreadable, 0, "spools that recovery could not read twice alike");
	v = (struct verdict){ 0, 0, 0, 0 };
	bool ran = one_cut(2 + cuts, 0, false, &t, &v);

	ok(ran && v.lost > 0, "control: without syncs %u of %u acknowledged messages are lost",
	   v.lost, t.messages);
}

int main(int argc, char **argv)
{
	unsigned cuts = 60 * tap_factor();
	int c;

	while ((c = getopt(argc, argv, "n:f:")) != -1) {
		if (c == 'n')
			cuts = (unsigned)atoi(optarg);
		else if (c == 'f')
			fs = optarg;
		else
			return 2;
	}
	clock_init();
	log_set_sink(quiet, NULL);
	if (geteuid() != 0) {
		printf("1..0 # SKIP power cuts need root (loop devices)\n");
		return 0;
	}
	if (!make_image()) {
		remove_image();
		printf("1..0 # SKIP cannot make and mount a %s image on a loop device\n", fs);
		return 0;
	}
	run_all(cuts);
	remove_image();
	return tap_done();
}
