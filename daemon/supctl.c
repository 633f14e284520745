/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Control requests about the instance as a whole. Called through daemon/control.c. */
#include <stdio.h>
#include <unistd.h>

#include "daemon/supervisor.h"
#include "lib/clock.h"

static const char *const state_names[] = {
	[LIFE_FREE] = "free", [LIFE_REQUESTED] = "requested", [LIFE_STARTING] = "starting",
	[LIFE_UP] = "up",     [LIFE_DRAINING] = "draining",
};

/* status: one line "key value" each, then one "worker CLASS SLOT LIFE PID GENERATION STATE" each */
static void status(void *ctx, struct control_client *c, unsigned argc UNUSED,
		   const char *const *argv UNUSED)
{
	struct supervisor *s = ctx;
	char line[200];
	const struct board_shm *b = s->board;
	int n = snprintf(line, sizeof(line),
			 "pid %d\ngeneration %u\nready %u\nstopping %d\nuptime_s %lld\n"
			 "messages %llu\nworker_restarts %llu\n",
			 (int)getpid(), s->generation, (unsigned)b->ready, s->stopping,
			 (long long)(clock_wall_s() - (int64_t)b->start_wall_s),
			 (unsigned long long)b->messages, (unsigned long long)b->worker_restarts);

	control_data(c, line, (size_t)n);
	for (size_t i = 0; i < s->high; i++) {
		const struct sworker *w = &s->workers[i];

		if (w->state == LIFE_FREE)
			continue;
		n = snprintf(line, sizeof(line), "worker %s %u %u %d %u %s\n",
			     proc_classes[w->class_id].name, w->slot, w->life, w->pid,
			     w->generation, state_names[w->state]);
		control_data(c, line, (size_t)n);
	}
	control_end(c, 0, "ok");
}

void supctl_register(struct supervisor *s)
{
	control_register(s->control, "status", status, s);
}
