/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Destination table: names, rows being written, readers, damage. */
#include <unistd.h>

#include "lib/err.h"
#include "shm/dtab.h"
#include "t/unit/tap.h"

static struct dtab t;
static char why[200];

static void fresh(uint32_t cap)
{
	dtab_fini(&t);
	if (dtab_create(cap, &t) != 0)
		ok(false, "create");
}

static bool is_sound(void)
{
	if (dtab_check(&t, why, sizeof(why)) == 0)
		return true;
	printf("# %s\n", why);
	return false;
}

static void names(void)
{
	uint32_t a, b, c;
	char longest[DTAB_NEXTHOP_SIZE + 1];

	fresh(4);
	memset(longest, 'x', sizeof(longest));
	ok(is_sound(), "an empty table is sound");
	is_int(dtab_find(&t, 1, SV("example.com")), DTAB_NONE, "not there");
	is_int(dtab_intern(&t, 1, SV("example.com"), &a), 0, "added");
	is_int(dtab_intern(&t, 1, SV("example.com"), &b), 0, "again");
	is_int(a, b, "is the same row");
	is_int(dtab_intern(&t, 2, SV("example.com"), &b), 0, "another transport");
	ok(a != b, "is another row");
	is_int(dtab_intern(&t, 1, SV("example.co"), &c), 0, "a prefix is another name");
	is_int(dtab_find(&t, 1, SV("example.co")), c, "found");
	is_int(dtab_intern(&t, 1, SV(""), &c), 0, "an empty next hop is a name");
	is_int(dtab_intern(&t, 1, SV("more"), &c), E_NOSPC, "full");
	is_int(dtab_intern(&t, 1, (struct sv){ longest, 256 }, &c), E_INVAL, "too long");
	is_int(dtab_intern(&t, 1, (struct sv){ "a\0b", 3 }, &c), E_INVAL, "with a NUL");
	ok(is_sound(), "sound when full");
	dtab_free(&t, a);
	ok(is_sound(), "sound after a free");
	is_int(dtab_find(&t, 1, SV("example.com")), DTAB_NONE, "gone");
	is_int(dtab_intern(&t, 7, (struct sv){ longest, 255 }, &c), 0, "the longest name");
	is_int(c, a, "in the freed row");
	is_int(dtab_find(&t, 7, (struct sv){ longest, 255 }), a, "is found");
	is_int(dtab_find(&t, 7, (struct sv){ longest, 254 }), DTAB_NONE, "a shorter one is not");
	ok(is_sound(), "sound");
}

static void many(void)
{
	char name[40];
	uint32_t row;
	unsigned bad = 0;

	fresh(1000);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 1000; i++) {
			snprintf(name, sizeof(name), "host%u.example", i);
			bad += dtab_intern(&t, (uint16_t)(i % 7), sv_from(name), &row) != 0;
		}
		bad += dtab_intern(&t, 0, SV("one more"), &row) != E_NOSPC;
		for (unsigned i = round; i < 1000; i += 2) {
			snprintf(name, sizeof(name), "host%u.example", i);
			row = dtab_find(&t, (uint16_t)(i % 7), sv_from(name));
			if (row == DTAB_NONE)
				bad++;
			else
				dtab_free(&t, row);
		}
		bad += !is_sound();
	}
	is_int(bad, 0, "thousands of names come and go");
}

static void readers(void)
{
	struct shm_region r;
	struct dtab v;
	struct drow copy;
	uint32_t row;

	fresh(4);
	dtab_intern(&t, 3, SV("a.example"), &row);
	ok(shm_region_map(dup(t.region.fd), SHM_KIND_DTAB, true, &r) < 0,
	   "not writable for others");
	is_int(shm_region_map(dup(t.region.fd), SHM_KIND_DTAB, false, &r), 0, "readable");
	is_int(dtab_view(&r, &v), 0, "view");
	struct drow *w = dtab_begin(&t, row);

	w->window = 5;
	ok(!dtab_read(&v, row, &copy), "a row that is being written is not read");
	is_int(dtab_check(&v, why, sizeof(why)), E_CORRUPT, "nor is it sound: %s", why);
	w->sent = 9;
	memset(w->suspend_reason, 'r', sizeof(w->suspend_reason));
	dtab_end(&t, row);
	ok(dtab_read(&v, row, &copy), "afterwards it is");
	ok(copy.window == 5 && copy.sent == 9 && copy.transport == 3, "with both changes");
	is_str(copy.nexthop, "a.example", "and its name");
	is_int(strlen(copy.suspend_reason), DTAB_REASON_SIZE - 1, "texts end in the copy");
	is_int(dtab_used(&v), 1, "rows to look at");
	ok(!dtab_read(&v, 1, &copy), "a row never used");
	ok(!dtab_read(&v, 4, &copy), "a row outside");
	dtab_free(&t, row);
	ok(!dtab_read(&v, row, &copy), "a freed row");
	is_int(dtab_find(&v, 3, SV("a.example")), DTAB_NONE, "a view has no search");
	t.shm->used = 1000;
	is_int(dtab_used(&v), 4, "a wild count is clamped");
	dtab_fini(&v);
	t.shm->cap = 1000;
	shm_region_map(dup(t.region.fd), SHM_KIND_DTAB, false, &r);
	is_int(dtab_view(&r, &v), E_CORRUPT, "more rows than memory");
	ok(r.base == NULL, "closed");
}

static void damage(int kind)
{
	switch (kind) {
	case 0:
		t.shm->cap = 5;
		break;
	case 1:
		t.shm->used = 5;
		break;
	case 2:
		t.shm->free_head = 3;
		break;
	case 3:
		t.shm->free_head = 0;
		break;
	case 4:
		t.shm->free_head = DTAB_NONE;
		break;
	case 5:
		t.rows[1].next_free = 1;
		break;
	case 6:
		t.shm->live = 3;
		break;
	case 7:
		t.rows[0].seq++;
		break;
	case 8:
		t.rows[0].in_use = 2;
		break;
	case 9:
		t.rows[0].nexthop[0] = 'z';
		break;
	case 10:
		memset(t.rows[0].nexthop, 'a', DTAB_NEXTHOP_SIZE);
		break;
	case 11:
		memset(t.rows[1].suspend_reason, 'a', DTAB_REASON_SIZE);
		break;
	case 12:
		t.rows[0].in_use = 0;
		break;
	default:
		break;
	}
}

int main(void)
{
	names();
	many();
	readers();
	for (int kind = 0; kind < 13; kind++) {
		uint32_t row;

		fresh(4);
		dtab_intern(&t, 1, SV("a"), &row);
		dtab_intern(&t, 1, SV("b"), &row);
		dtab_intern(&t, 1, SV("c"), &row);
		dtab_free(&t, 1);
		if (!is_sound())
			ok(false, "the sample is sound");
		damage(kind);
		is_int(dtab_check(&t, why, sizeof(why)), E_CORRUPT, "damage %d: %s", kind, why);
	}
	dtab_fini(&t);
	is_int(dtab_create(0, &t), E_INVAL, "no table without rows");
	return tap_done();
}
