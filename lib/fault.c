/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Crash points; see lib/fault.h. Always compiled, called only where points are compiled in. */
#include "lib/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/util.h"

_Static_assert(FAULT_COUNT <= FAULT_ID_ROOM, "the page has room for all points");

const char *const fault_names[FAULT_COUNT] = {
#define FAULT(id, name) [FAULT_##id] = (name),
#include "lib/fault.inc"
#undef FAULT
};

static unsigned armed_at; /* 0 = nothing armed by hand */
static enum fault_id armed_id;
static unsigned hits[FAULT_COUNT];
static struct fault_page *page;
static unsigned page_who;

void fault_arm(enum fault_id id, unsigned occurrence)
{
	armed_id = id;
	armed_at = occurrence;
	memset(hits, 0, sizeof(hits));
}

unsigned fault_hits(enum fault_id id)
{
	return hits[id];
}

void fault_init(unsigned who)
{
	const char *path = getenv("POSTHASTE_FAULTS");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0 || who >= FAULT_WHO_COUNT)
		return;
	void *map = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	if (map == MAP_FAILED)
		return;
	page_who = who;
	page = map;
}

bool fault_skips(enum fault_skip what)
{
	return page != NULL && (atomic_load(&page->skips) & what) != 0;
}

static void die_here(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void hit_page(enum fault_id id)
{
	unsigned n = atomic_fetch_add(&page->passed[page_who][id], 1) + 1;
	uint32_t armed = id + 1u;

	if (atomic_load(&page->armed) != armed || page->who != page_who || page->at != n)
		return;
	if (!atomic_compare_exchange_strong(&page->armed, &armed, 0))
		return;
	atomic_store(&page->died, (uint32_t)getpid());
	die_here();
}

void fault_hit(enum fault_id id)
{
	if (++hits[id] == armed_at && id == armed_id)
		die_here();
	if (page != NULL)
		hit_page(id);
}
