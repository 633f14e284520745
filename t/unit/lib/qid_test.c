/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queue ids: shape, round trip, order, refusal of anything else. */
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/qid.h"
#include "t/unit/tap.h"

int main(void)
{
	char text[QID_TEXT_SIZE];
	struct qid back;

	/* seconds 1700000000, microseconds 123456, number 1000 */
	struct qid id = { 1700000000123456u, 1000 };

	qid_format(id, text);
	ok(strlen(text) >= 12, "at least 12 characters: %s", text);
	is_int(text[10], 'z', "the separator follows ten characters today");
	is_int(qid_parse(sv_from(text), &back), 0, "parses");
	ok(qid_eq(id, back), "round trip");
	is_int(strspn(text, "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"), strlen(text),
	       "safe alphabet only");

	struct qid_source src = { .life = 7 };

	clock_fake_set(1700000000000);
	struct qid a = qid_make(&src), b = qid_make(&src);

	ok(a.time_us < b.time_us, "two ids at one moment differ");
	clock_fake_advance(-5000);
	struct qid c = qid_make(&src);

	ok(b.time_us < c.time_us, "a clock that runs back does not repeat ids");
	/* clocks that no id can hold */
	src.last_us = 0;
	clock_fake_set(9100000000000);
	struct qid far = qid_make(&src);

	ok(far.time_us < QID_MAX_TIME_US, "beyond 2255");
	clock_fake_set(-5000);
	ok(qid_make(&src).time_us > far.time_us && src.last_us < QID_MAX_TIME_US, "before 1970");
	clock_fake_off();

	static const char *const bad[] = { "",
					   "z",
					   "ABCDEF",
					   "3Tabcd12345",
					   "4Wbxyz",
					   "................",
					   "0000000000z",
					   "00000000000z0 ",
					   "00000000000z01" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		is_int(qid_parse(sv_from(bad[i]), &back), E_SYNTAX, "refused: '%s'", bad[i]);
	for (uint32_t life = 1; life < 0x1000000; life = life * 3 + 1) {
		struct qid x = { 1000000u * 380204032u + life % 1000000, life }, y;

		qid_format(x, text);
		if (qid_parse(sv_from(text), &y) != 0 || !qid_eq(x, y))
			ok(false, "round trip of life %u: %s", life, text);
	}
	return tap_done();
}
