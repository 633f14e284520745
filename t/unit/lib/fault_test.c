/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Crash points: the environment names one, and only that passage dies. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/fault.h"
#include "t/unit/tap.h"

/* Passes two points five times each in a child; how often before it died, 5 = it did not. */
static int passes(const char *env)
{
	int status, p[2];
	char step;
	int n = 0;

	if (pipe(p) != 0)
		return -1;
	pid_t pid = fork();

	if (pid == 0) {
		setenv("POSTHASTE_FAULT", env, 1);
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

	return died == (n < 5) ? n : -1;
}

int main(void)
{
	unsigned bad = 0;

	for (unsigned i = 0; i < FAULT_COUNT; i++)
		for (unsigned j = 0; j < i; j++)
			bad += strcmp(fault_names[i], fault_names[j]) == 0;
	is_int(bad, 0, "names are different");
	is_int(passes("ring-head:1"), 0, "first passage");
	is_int(passes("ring-head:3"), 2, "third passage");
	is_int(passes("ring-tail:5"), 4, "of the other point");
	is_int(passes("ring-tail:6"), 5, "a passage that never comes");
	is_int(passes("ring-tail:0"), 5, "0 is none");
	is_int(passes("nothing:1"), 5, "no such point");
	is_int(passes("ring-head"), 5, "no occurrence");
	is_int(passes("ring-head:x"), 5, "no number");
	is_int(passes(""), 5, "empty");
	fault_arm(FAULT_RING_HEAD, 0);
	fault_hit(FAULT_RING_HEAD);
	fault_hit(FAULT_RING_HEAD);
	is_int(fault_hits(FAULT_RING_HEAD), 2, "passages are counted");
	return tap_done();
}
