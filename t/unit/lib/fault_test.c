/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Crash points: the page names one point, process class and passage, and only that one dies. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fault.h"
#include "t/unit/tap.h"

#define WHO 3u

static struct fault_page *page;
static char path[] = "/tmp/fault_test.XXXXXX";

/* Passes two points five times each in a child; how often before it died, 5 = it did not. */
static int passes(unsigned who, const char *file)
{
	int status, p[2];
	char step;
	int n = 0;

	if (pipe(p) != 0)
		return -1;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("POSTHASTE_FAULTS", file, 1);
		fault_init(who);
		for (int i = 0; i < 5; i++) {
			fault_hit(FAULT_RING_HEAD);
			fault_hit(FAULT_RING_TAIL);
			if (write(p[1], "x", 1) != 1)
				_exit(1);
		}
		_exit(0);
	}
	close(p[1]);
	while (read(p[0], &step, 1) == 1)
		n++;
	close(p[0]);
	waitpid(pid, &status, 0);
	bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

	if (died && page->died != (uint32_t)pid)
		return -2;
	return died == (n < 5) ? n : -1;
}

static void arm(enum fault_id id, unsigned at)
{
	memset(page, 0, sizeof(*page));
	page->magic = FAULT_PAGE_MAGIC;
	page->who = WHO;
	page->at = at;
	page->armed = id + 1u;
}

int main(void)
{
	unsigned bad = 0;
	int fd = mkstemp(path);

	if (fd < 0 || ftruncate(fd, sizeof(*page)) != 0)
		return 1;
	page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return 1;
	for (unsigned i = 0; i < FAULT_COUNT; i++)
		for (unsigned j = 0; j < i; j++)
			bad += strcmp(fault_names[i], fault_names[j]) == 0;
	is_int(bad, 0, "names are different");
	arm(FAULT_RING_HEAD, 1);
	is_int(passes(WHO, path), 0, "first passage");
	is_int(passes(WHO, path), 5, "the next one lives: it is disarmed");
	arm(FAULT_RING_HEAD, 3);
	is_int(passes(WHO, path), 2, "third passage");
	is_int(page->passed[WHO][FAULT_RING_HEAD], 3, "passages are counted");
	arm(FAULT_RING_HEAD, 8);
	is_int(passes(WHO, path), 5, "not yet");
	is_int(passes(WHO, path), 2, "processes of one class count together");
	arm(FAULT_RING_TAIL, 5);
	is_int(passes(WHO, path), 4, "of the other point");
	arm(FAULT_RING_TAIL, 1);
	is_int(passes(WHO + 1, path), 5, "another class");
	is_int(passes(FAULT_WHO_COUNT, path), 5, "no such class");
	is_int(passes(WHO, "/nonexistent"), 5, "no such file");
	arm(FAULT_RING_TAIL, 0);
	is_int(passes(WHO, path), 5, "0 is none");
	setenv("POSTHASTE_FAULTS", path, 1);
	fault_init(1);
	ok(!fault_skips(FAULT_SKIP_DRAIN), "nothing is skipped");
	page->skips = FAULT_SKIP_DRAIN;
	ok(fault_skips(FAULT_SKIP_DRAIN) && !fault_skips(FAULT_SKIP_ADOPT),
	   "what is told is skipped");
	fault_arm(FAULT_RING_HEAD, 0);
	fault_hit(FAULT_RING_HEAD);
	fault_hit(FAULT_RING_HEAD);
	is_int(fault_hits(FAULT_RING_HEAD), 2, "passages are counted");
	close(fd);
	unlink(path);
	return tap_done();
}
