/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The queue table. First half of the input: anything in the region, which checker and readers must
 * survive. Second half: moves with arbitrary entry numbers and words, as a hostile worker could
 * have them applied; the table must stay sound.
 */
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "shm/qtab.h"
#include "t/fuzz/patch.h"

#define CAP 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fill(struct qtab *t)
{
	uint32_t msg, e;

	ASSERT(qtab_create(CAP, CAP, t) == 0);
	for (uint32_t i = 0; i < 6; i++) {
		struct qid id = { 1000 + i, 1 + i };

		ASSERT(qtab_msg_alloc(t, id, &msg) == 0);
		for (uint32_t k = 0; k <= i % 3; k++) {
			ASSERT(qtab_entry_alloc(t, msg, &e) == 0);
			t->entries[e].mask = 1;
			t->entries[e].dest = 1;
			qtab_entry_move(t, e, qtab_entry_word(t, e), QS_READY, 0, NULL);
			if (i % 2)
				qtab_entry_move(t, e, qtab_entry_word(t, e), QS_BUSY, 9, NULL);
		}
	}
	ASSERT(qtab_entry_move(t, 2, qtab_entry_word(t, 2), QS_READY, 0, NULL) == 0);
	ASSERT(qtab_entry_free(t, 2, qtab_entry_word(t, 2)) == 0);
}

static void read_all(const struct qtab *t)
{
	struct qentry_copy c;
	char why[200];

	qtab_check(t, why, sizeof(why));
	for (uint32_t i = 0; i < CAP + 2; i++) {
		qtab_entry_read(t, i, &c);
		qtab_entry_word(t, i);
	}
	ASSERT(qtab_msg_used(t) <= t->msg_cap && qtab_entry_used(t) <= t->entry_cap);
}

static void any_contents(const uint8_t *data, size_t size)
{
	struct qtab t, v;
	struct shm_region r;

	fill(&t);
	fuzz_patch((char *)t.region.base + sizeof(struct shm_header),
		   t.region.size - sizeof(struct shm_header), data, size);
	read_all(&t);
	if (shm_region_map(dup(t.region.fd), SHM_KIND_QTAB, false, &r) == 0 &&
	    qtab_view(&r, &v) == 0) {
		ASSERT((char *)(v.entries + v.entry_cap) <= (char *)v.region.base + v.region.size);
		read_all(&v);
		qtab_fini(&v);
	}
	qtab_fini(&t);
}

static void any_moves(const uint8_t *data, size_t size)
{
	struct qtab t;
	char why[200];

	fill(&t);
	for (; size >= 4; data += 4, size -= 4) {
		uint32_t entry = data[0] == 255 ? QTAB_NONE : data[0] % (CAP + 2);
		uint64_t word = qtab_entry_word(&t, entry);

		if (data[1] & 1)
			word ^= 1ull << data[1] % 64;
		switch (data[2] % 4) {
		case 0:
			qtab_entry_free(&t, entry, word);
			break;
		case 1:
			qtab_recover_life(&t, data[3], NULL, NULL);
			break;
		default:
			qtab_entry_move(&t, entry, word,
					(enum qstate)(data[2] / 4 % (QS_COUNT + 1)), data[3] % 12,
					NULL);
		}
	}
	if (qtab_check(&t, why, sizeof(why)) != 0)
		bug("%s", why);
	qtab_fini(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	any_contents(data, size / 2);
	any_moves(data + size / 2, size - size / 2);
	return 0;
}
