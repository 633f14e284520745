/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Crash points; see lib/fault.h. Always compiled, called only where points are compiled in. */
#include "lib/fault.h"

#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/str.h"
#include "lib/util.h"

const char *const fault_names[FAULT_COUNT] = {
#define FAULT(id, name) [FAULT_##id] = (name),
#include "lib/fault.inc"
#undef FAULT
};

static bool ready;
static unsigned armed_at; /* 0 = nothing armed */
static enum fault_id armed_id;
static unsigned hits[FAULT_COUNT];

static void arm_from_environment(void)
{
	const char *env = getenv("POSTHASTE_FAULT");
	const char *colon = env != NULL ? strchr(env, ':') : NULL;
	uint64_t n;

	ready = true;
	if (colon == NULL || str_to_u64(sv_from(colon + 1), UINT32_MAX, &n) != 0)
		return;
	struct sv name = { env, (size_t)(colon - env) };

	for (unsigned i = 0; i < FAULT_COUNT; i++)
		if (sv_eq_str(name, fault_names[i])) {
			armed_id = (enum fault_id)i;
			armed_at = (unsigned)n;
		}
}

void fault_arm(enum fault_id id, unsigned occurrence)
{
	ready = true;
	armed_id = id;
	armed_at = occurrence;
	memset(hits, 0, sizeof(hits));
}

unsigned fault_hits(enum fault_id id)
{
	return hits[id];
}

void fault_hit(enum fault_id id)
{
	if (!ready)
		arm_from_environment();
	if (++hits[id] == armed_at && id == armed_id) {
		kill(getpid(), SIGKILL);
		for (;;)
			pause();
	}
}
