/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Makes a slow disk for benchmarks, by LD_PRELOAD: fdatasync and fsync take SLOW_SYNC_US longer.
 * Built by scripts/bench (profile p7) as a shared object. Waits on a futex, which every sandbox
 * allows.
 */
#include <dlfcn.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void slow(void)
{
	static int never;
	const char *text = getenv("SLOW_SYNC_US");
	long us = text == NULL ? 0 : atol(text);
	struct timespec ts = { us / 1000000, us % 1000000 * 1000 };

	if (us > 0)
		syscall(SYS_futex, &never, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0);
}

static int pass_on(const char *name, int fd)
{
	int (*real)(int);

	*(void **)&real = dlsym(RTLD_NEXT, name);
	return real(fd);
}

int fdatasync(int fd)
{
	slow();
	return pass_on("fdatasync", fd);
}

int fsync(int fd)
{
	slow();
	return pass_on("fsync", fd);
}
