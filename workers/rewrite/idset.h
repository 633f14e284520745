/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Queue ids that an smtp-in life has used: each one may be used once, in whatever order its
 * sessions come to their end. A second record under the same id could take the place of an
 * acknowledged message. Bounded: of the ids used long ago only the highest is kept, and what lies
 * below it can no longer be told from a repetition.
 */
#ifndef PH_WORKERS_REWRITE_IDSET_H
#define PH_WORKERS_REWRITE_IDSET_H

#include <stddef.h>
#include <stdint.h>

#define IDSET_GENERATION (512u << 10) /* ids in one generation; two are kept */

struct idset_gen {
	uint64_t *slots; /* open addressing, 0 = empty */
	size_t mask;
	size_t count;
	uint64_t max;
};

struct idset {
	struct idset_gen now, before;
	uint64_t floor; /* highest id of all generations given up */
	size_t limit;   /* ids per generation; tests lower it */
};

enum idset_verdict { IDSET_NEW, IDSET_USED, IDSET_TOO_OLD };

void idset_init(struct idset *s);
void idset_fini(struct idset *s);
/* Enter an id (not 0). */
enum idset_verdict idset_use(struct idset *s, uint64_t id);

#endif
