/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Clocks and their test seam; see lib/clock.h. */
#include "lib/clock.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const _Atomic int64_t *skews_ms; /* of all clocks, of the wall clock */
static bool fake;
static int64_t fake_ms, fake_wall_ms;
static _Thread_local struct mono_ms tick_mono;
static _Thread_local struct wall_us tick_wall;

void clock_init(void)
{
	const char *path = getenv("POSTHASTE_CLOCK");

	if (path != NULL && skews_ms == NULL) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd >= 0) {
			void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

			if (map != MAP_FAILED)
				skews_ms = map;
			close(fd);
		}
	}
	clock_tick();
}

static int64_t now_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t skew(void)
{
	return skews_ms == NULL ? 0 : atomic_load_explicit(&skews_ms[0], memory_order_relaxed);
}

static int64_t wall_skew(void)
{
	return skews_ms == NULL ? 0
				: skew() + atomic_load_explicit(&skews_ms[1], memory_order_relaxed);
}

struct mono_ms clock_mono(void)
{
	if (fake)
		return (struct mono_ms){ fake_ms };
	return (struct mono_ms){ now_us(CLOCK_MONOTONIC) / 1000 + skew() };
}

int64_t clock_mono_us_raw(void)
{
	return now_us(CLOCK_MONOTONIC);
}

struct wall_us clock_wall(void)
{
	if (fake)
		return (struct wall_us){ fake_wall_ms * 1000 };
	return (struct wall_us){ now_us(CLOCK_REALTIME) + wall_skew() * 1000 };
}

int64_t clock_wall_s(void)
{
	return clock_wall().us / 1000000;
}

int64_t clock_boot_ms(void)
{
	return fake ? fake_ms : now_us(CLOCK_BOOTTIME) / 1000 + skew();
}

struct mono_ms clock_now(void)
{
	if (tick_mono.ms == 0)
		clock_tick();
	return tick_mono;
}

struct wall_us clock_now_wall(void)
{
	if (tick_mono.ms == 0)
		clock_tick();
	return tick_wall;
}

void clock_tick(void)
{
	tick_mono = clock_mono();
	tick_wall = clock_wall();
}

void clock_fake_set(int64_t wall_ms)
{
	fake = true;
	fake_ms = fake_wall_ms = wall_ms;
	clock_tick();
}

void clock_fake_advance(int64_t ms)
{
	fake_ms += ms;
	fake_wall_ms += ms;
	clock_tick();
}

void clock_fake_jump(int64_t wall_ms)
{
	fake_wall_ms = wall_ms;
	clock_tick();
}

void clock_fake_off(void)
{
	fake = false;
	clock_tick();
}
