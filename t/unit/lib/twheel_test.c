/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Timing wheel against a naive model: every node fires once, in the first run at or after its time.
 */
#include "lib/rand.h"
#include "lib/twheel.h"
#include "lib/util.h"
#include "t/unit/tap.h"

#define NODES 2000

static struct {
	struct twheel_node node;
	int64_t want;
	int fired;
} nodes[NODES];

static int64_t now, last;
static int wrong;

static void fired(void *ctx UNUSED, struct twheel_node *n)
{
	size_t i = (size_t)((char *)n - (char *)nodes) / sizeof(nodes[0]);

	nodes[i].fired++;
	if (nodes[i].want > now || nodes[i].want <= last - 100)
		wrong++;
}

int main(void)
{
	struct twheel w;
	int64_t start = 123456789;

	now = last = start;
	twheel_init(&w, 100, now);
	for (int i = 0; i < NODES; i++) {
		int64_t span = i % 3 == 0 ? 5000 : i % 3 == 1 ? 600000 : 90000000;

		nodes[i].want = now + 1 + rand_below((uint32_t)span);
		twheel_set(&w, &nodes[i].node, nodes[i].want);
		if (i % 5 == 0) { /* later, lazily */
			nodes[i].want += 7000;
			twheel_set(&w, &nodes[i].node, nodes[i].want);
		}
		if (i % 7 == 0) { /* earlier */
			nodes[i].want = now + 1 + rand_below(300);
			twheel_set(&w, &nodes[i].node, nodes[i].want);
		}
		if (i % 11 == 0)
			twheel_cancel(&nodes[i].node);
	}
	while (now < start + 100000000) {
		last = now;
		now += 1 + rand_below(now - start < 1000000 ? 300 : 200000);
		twheel_run(&w, now, fired, NULL);
	}
	is_int(wrong, 0, "no node fired early or late");
	int missing = 0, twice = 0, ghosts = 0;

	for (int i = 0; i < NODES; i++) {
		if (i % 11 == 0)
			ghosts += nodes[i].fired;
		else if (nodes[i].fired == 0)
			missing++;
		else if (nodes[i].fired > 1)
			twice++;
	}
	is_int(missing, 0, "every armed node fired");
	is_int(twice, 0, "none fired twice");
	is_int(ghosts, 0, "no cancelled node fired");
	/* a jump of days costs one call */
	twheel_set(&w, &nodes[0].node, now + 10);
	nodes[0].want = now + 10;
	nodes[0].fired = 0;
	now += (int64_t)5 * 86400 * 1000;
	twheel_run(&w, now, fired, NULL);
	is_int(nodes[0].fired, 1, "fires after a jump of five days");
	return tap_done();
}
