/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mailbox files: what is appended, locks, files that mail must not go into, and somebody who swaps
 * them meanwhile. */
#include "workers/local/mbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "t/unit/tap.h"

#define HEADER  "From s@x.test  Sun Sep  9 01:46:40 2001\nReturn-Path: <s@x.test>\n"
#define CONTENT "Subject: x\n\nbody\n\n"

static char top[] = "/tmp/ph_mbox_XXXXXX";
static struct mbox_conf conf = { .flags = MBOX_LOCK_FCNTL | MBOX_LOCK_DOT | MBOX_STRICT_OWNER,
				 .attempts = 1,
				 .delay_ms = 1,
				 .stale_s = 500 };

static struct maildir_result deliver(const char *path)
{
	struct mbox_job job = { .base = top,
				.path = path,
				.header = SV(HEADER),
				.content_fd = memfd_create("content", MFD_CLOEXEC),
				.content_len = sizeof(CONTENT) - 1,
				.user = "joe",
				.conf = conf };
	struct maildir_result r;

	io_write_all(job.content_fd, CONTENT, sizeof(CONTENT) - 1);
	mbox_deliver(&job, &r);
	close(job.content_fd);
	return r;
}

static const char *at(const char *name)
{
	static char path[4][300];
	static unsigned n;

	snprintf(path[++n % 4], sizeof(path[0]), "%s/%s", top, name);
	return path[n % 4];
}

static void put(const char *name, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	io_write_all(fd, text, strlen(text));
	close(fd);
}

static void is_file(const char *name, const char *want, const char *what)
{
	struct buf got = BUF_INIT;

	io_read_file(at(name), 100000, &got);
	is_str(buf_cstr(&got), want, "%s", what);
	buf_fini(&got);
}

static void refused(const char *path, unsigned a, unsigned b, unsigned c, const char *text)
{
	struct maildir_result r = deliver(path);
	char want[400];

	snprintf(want, sizeof(want), "cannot update mailbox %s/%s for user joe. %s", top, path,
		 text);
	ok(r.dsn[0] == a && r.dsn[1] == b && r.dsn[2] == c && !r.unsure, "%s: %u.%u.%u", path,
	   r.dsn[0], r.dsn[1], r.dsn[2]);
	is_str(r.text, want, "and why");
}

static void test_append(void)
{
	struct maildir_result r = deliver("joe");
	struct stat st;

	ok(r.err == 0 && r.dsn[0] == 2, "delivered to a new file: %s", r.text);
	is_str(r.text, "delivered to mailbox", "text");
	is_file("joe", HEADER CONTENT, "whole");
	ok(stat(at("joe"), &st) == 0 && (st.st_mode & 07777) == 0600, "for its owner alone");
	ok(access(at("joe.lock"), F_OK) != 0, "no lock is left");
	deliver("joe");
	is_file("joe", HEADER CONTENT HEADER CONTENT, "behind what is there");
	put("cut", "From a  date\nSubject: y\n\nhal");
	deliver("cut");
	is_file("cut", "From a  date\nSubject: y\n\nhal\n\n" HEADER CONTENT,
		"on a line of its own behind what a crash has cut");
	mkdir(at("dom"), 0700);
	is_int(deliver("dom//joe").err, 0, "in a directory");
	is_file("dom/joe", HEADER CONTENT, "there");
	conf.size_limit = 2 * strlen(HEADER CONTENT);
	is_int(deliver("dom/joe").err, 0, "up to the limit");
	refused("dom/joe", 5, 2, 2, "error writing message: File too large");
	conf.size_limit = 0;
	is_file("dom/joe", HEADER CONTENT HEADER CONTENT, "as it was");
	refused("none/joe", 4, 2, 0, "cannot open file: No such file or directory");
	ok(deliver("../x").dsn[0] != 2 && deliver("dom/..").dsn[0] != 2 &&
		   deliver("dom/").dsn[0] != 2 && deliver("").dsn[0] != 2,
	   "names that are none");
}

static void test_virtual(void)
{
	struct maildir_result r;
	char want[400];

	conf.flags |= MBOX_VIRTUAL;
	r = deliver("sym");
	snprintf(want, sizeof(want), "delivery failed to mailbox %s/sym: file is a symbolic link",
		 top);
	is_str(r.text, want, "virtual(8)'s text");
	is_int(r.dsn[0], 4, "its mail waits");
	conf.flags &= ~(uint32_t)MBOX_VIRTUAL;
}

static void test_files(void)
{
	put("victim", "victim\n");
	is_int(symlink("victim", at("sym")), 0, "a symbolic link");
	refused("sym", 5, 2, 0, "file is a symbolic link");
	symlink("nobody-home", at("dangling"));
	refused("dangling", 5, 2, 0, "file is a symbolic link");
	ok(access(at("nobody-home"), F_OK) != 0, "nothing was made behind it");
	is_int(link(at("victim"), at("hard")), 0, "a hard link");
	refused("hard", 5, 2, 0, "file has 2 hard links");
	symlink("dom", at("linkdir"));
	ok(deliver("linkdir/joe").dsn[0] != 2, "a directory that is a link");
	mkfifo(at("fifo"), 0600);
	refused("fifo", 5, 2, 0, "destination is not a regular file");
	mkdir(at("dir"), 0700);
	ok(deliver("dir").dsn[0] == 5, "a directory");
	is_file("victim", "victim\n", "untouched");
	if (geteuid() != 0)
		return;
	put("other", "other's\n");
	ok(chown(at("other"), 1, 1) == 0, "another's file");
	refused("other", 5, 2, 0, "destination is not owned by recipient");
	conf.flags &= ~(uint32_t)MBOX_STRICT_OWNER;
	is_int(deliver("other").err, 0, "is taken without strict_mailbox_ownership");
	conf.flags |= MBOX_STRICT_OWNER;
}

/* Somebody else has the lock; returns the pid that holds it. */
static pid_t hold(const char *name, bool by_flock)
{
	int ready[2];
	char c;
	pid_t pid;

	if (pipe(ready) < 0)
		return -1;
	pid = fork();
	if (pid == 0) {
		struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		int fd = open(at(name), O_RDWR | O_CLOEXEC);

		if ((by_flock ? flock(fd, LOCK_EX) : fcntl(fd, F_SETLK, &l)) == 0)
			(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	close(ready[1]);
	is_int(read(ready[0], &c, 1), 1, "locked by another");
	close(ready[0]);
	return pid;
}

static void let_go(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_locks(void)
{
	char text[400];
	uint32_t flags;
	struct timespec old[2] = { { 0, 0 }, { 0, 0 } };
	pid_t pid;

	put("lck.lock", "");
	snprintf(text, sizeof(text), "unable to create lock file %s/lck.lock: File exists", top);
	refused("lck", 4, 2, 0, text);
	ok(access(at("lck"), F_OK) != 0, "nothing was made");
	utimensat(AT_FDCWD, at("lck.lock"), old, 0); /* the change time stays */
	refused("lck", 4, 2, 0, text);
	conf.stale_s = -1;
	conf.attempts = 2;
	is_int(deliver("lck").err, 0, "a lock that is old enough is removed");
	conf.stale_s = 500;
	conf.attempts = 1;
	ok(access(at("lck.lock"), F_OK) != 0, "and so is ours");
	pid = hold("lck", false);
	refused("lck", 4, 2, 0,
		"unable to lock for exclusive access: Resource temporarily unavailable");
	ok(access(at("lck.lock"), F_OK) != 0, "no lock file is left");
	let_go(pid);
	is_int(deliver("lck").err, 0, "delivered when it is free");
	conf.flags |= MBOX_LOCK_FLOCK;
	pid = hold("lck", true);
	refused("lck", 4, 2, 0,
		"unable to lock for exclusive access: Resource temporarily unavailable");
	let_go(pid);
	is_int(deliver("lck").err, 0, "the same with flock");
	conf.flags &= ~(uint32_t)MBOX_LOCK_FLOCK;
	ok(mbox_parse_locks("fcntl, dotlock flock", &flags) == 0 &&
		   flags == (MBOX_LOCK_FCNTL | MBOX_LOCK_FLOCK | MBOX_LOCK_DOT),
	   "words");
	is_int(mbox_parse_locks("fcntl nosuch", &flags), E_SYNTAX, "a word that is none");
}

/* Another process puts links to a victim in the mailbox's place all the time. */
static void test_race(void)
{
	struct buf got = BUF_INIT;
	unsigned count = 300 * tap_factor(), delivered = 0;
	pid_t pid;

	put("prize", "prize\n");
	pid = fork();
	if (pid == 0) {
		char race[300], made[300], prize[300];

		strcpy(race, at("race"));
		strcpy(made, at("race.new"));
		strcpy(prize, at("prize"));

		for (unsigned i = 0;; i++) {
			unlink(made);
			if (i % 3 == 0)
				(void)!symlink("prize", made);
			else if (i % 3 == 1)
				(void)!link(prize, made);
			else
				close(open(made, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
			rename(made, race);
			if (i % 3 == 1)
				unlink(race); /* rename leaves both names of one file */
		}
	}
	for (unsigned i = 0; i < count; i++)
		delivered += deliver("race").err == 0;
	let_go(pid);
	io_read_file(at("prize"), 100000, &got);
	is_str(buf_cstr(&got), "prize\n", "no mail got into another file (%u of %u delivered)",
	       delivered, count);
	buf_fini(&got);
}

int main(void)
{
	char command[100];

	clock_init();
	umask(077);
	if (!ok(mkdtemp(top) != NULL, "directory"))
		return tap_done();
	test_append();
	test_files();
	test_virtual();
	test_locks();
	test_race();
	snprintf(command, sizeof(command), "rm -rf %s", top);
	ok(system(command) == 0, "clean");
	return tap_done();
}
