/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The destination table with anything in it: checker and readers end and stay inside. */
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/dtab.h"
#include "t/fuzz/patch.h"

#define CAP 6u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(const struct dtab *t)
{
	static struct drow row;
	char why[200];

	dtab_check(t, why, sizeof(why));
	ASSERT(dtab_used(t) <= t->cap);
	for (uint32_t i = 0; i < CAP + 2; i++)
		if (dtab_read(t, i, &row))
			ASSERT(strlen(row.nexthop) < DTAB_NEXTHOP_SIZE &&
			       strlen(row.suspend_reason) < DTAB_REASON_SIZE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dtab t, v;
	struct shm_region r;
	uint32_t row;

	ASSERT(dtab_create(CAP, &t) == 0);
	dtab_intern(&t, 1, SV("a.example"), &row);
	dtab_intern(&t, 1, SV("b.example"), &row);
	dtab_intern(&t, 2, SV("a.example"), &row);
	dtab_free(&t, row);
	/* names from the input: found again or refused */
	for (size_t i = 0; i + 1 < size && i < 1500; i += data[i] + 1u) {
		struct sv name = { (const char *)data + i + 1, size_min(data[i], size - i - 1) };

		if (dtab_intern(&t, data[i], name, &row) == 0)
			ASSERT(dtab_find(&t, data[i], name) == row);
	}
	fuzz_patch((char *)t.region.base + sizeof(struct shm_header),
		   t.region.size - sizeof(struct shm_header), data, size);
	read_all(&t);
	if (shm_region_map(dup(t.region.fd), SHM_KIND_DTAB, false, &r) == 0 &&
	    dtab_view(&r, &v) == 0) {
		read_all(&v);
		dtab_fini(&v);
	}
	dtab_fini(&t);
	return 0;
}
