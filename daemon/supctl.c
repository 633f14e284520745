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
	char line[300];
	const struct board_shm *b = s->board;
	/* of this moment: the board's figure is of the last tick, and who waits for an empty queue
	 * would see one that was */
	unsigned messages = atomic_load_explicit(&s->qtab.shm->msg_live, memory_order_relaxed);
	int n = snprintf(line, sizeof(line),
			 "pid %d\ngeneration %u\nready %u\nstopping %d\nuptime_s %lld\n"
			 "messages %u\ndamaged %llu\nworker_restarts %llu\n",
			 (int)getpid(), s->generation, (unsigned)b->ready, s->stopping,
			 (long long)(clock_mono().ms - s->started_ms) / 1000, messages,
			 (unsigned long long)b->damaged, (unsigned long long)b->worker_restarts);

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

/* What one checker said: "NAME: ok" or "NAME: WHY". */
static int tell_check(struct control_client *c, const char *name, int err, const char *why)
{
	char line[300];
	int n = snprintf(line, sizeof(line), "%s: %s\n", name, err == 0 ? "ok" : why);

	control_data(c, line, (size_t)n);
	return err == 0 ? 0 : 1;
}

static int check_link(struct control_client *c, const struct sworker *w)
{
	char why[200], name[100];
	const struct link *l = &w->link;
	int broken = 0;

	/* between two turns both rings rest at our end, and what is published does not change */
	int err = ring_check(l->in.shm, ring_bytes(l->in.size), why, sizeof(why));

	snprintf(name, sizeof(name), "ring from %s %u", proc_classes[w->class_id].name, w->slot);
	broken += tell_check(c, name, err, why);
	err = ring_check(l->out.shm, ring_bytes(l->out.size), why, sizeof(why));
	snprintf(name, sizeof(name), "ring to %s %u", proc_classes[w->class_id].name, w->slot);
	return broken + tell_check(c, name, err, why);
}

/* check-shm: the checkers of shm/ over everything the supervisor has mapped. Holds the scheduler up
 * for as long as it takes: about a fifth of a second for a million messages. */
static void check_shm(void *ctx, struct control_client *c, unsigned argc UNUSED,
		      const char *const *argv UNUSED)
{
	struct supervisor *s = ctx;
	char why[200];
	int broken = 0;

	broken += tell_check(c, "queue table", qtab_check(&s->qtab, why, sizeof(why)), why);
	broken += tell_check(c, "destination table", dtab_check(&s->dtab, why, sizeof(why)), why);
	for (size_t i = 0; i < s->high; i++) {
		if (s->workers[i].state >= LIFE_UP && link_is_attached(&s->workers[i].link))
			broken += check_link(c, &s->workers[i]);
	}
	if (broken > 0)
		control_end(c, 1, "%d structures are damaged", broken);
	else
		control_end(c, 0, "ok");
}

void supctl_register(struct supervisor *s)
{
	control_register(s->control, "check-shm", check_shm, s);
	control_register(s->control, "status", status, s);
}
