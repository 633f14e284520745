/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One process writes no more into the log than its share. */
#include "t/unit/tap.h"
#include "workers/log/budget.h"

static unsigned taken(struct log_budget *b, int64_t rate, unsigned lines)
{
	unsigned n = 0;

	for (unsigned i = 0; i < lines; i++)
		n += log_budget_take(b, rate, 100);
	return n;
}

int main(void)
{
	struct log_budget b = { 0 };

	log_budget_fill(&b, 1000, 5000);
	is_int(taken(&b, 1000, 300), 100, "ten seconds' worth at once");
	is_int(b.suppressed, 200, "the rest is counted");
	log_budget_fill(&b, 1000, 5000);
	is_int(taken(&b, 1000, 5), 0, "no time, no bytes");
	log_budget_fill(&b, 1000, 6500);
	is_int(taken(&b, 1000, 300), 15, "a second and a half");
	log_budget_fill(&b, 1000, 6000);
	is_int(taken(&b, 1000, 5), 0, "time that runs backwards earns nothing");
	log_budget_fill(&b, 1000, INT64_MAX / 2);
	is_int(taken(&b, 1000, 300), 100, "and a long time no more than ten seconds");
	b = (struct log_budget){ 0 };
	log_budget_fill(&b, 1, 1000);
	is_int(taken(&b, 1, 5), 1, "one line is always written, and then paid for");
	for (int64_t ms = 1010; ms < 100000; ms += 10)
		log_budget_fill(&b, 1, ms);
	is_int(taken(&b, 1, 5), 1, "small steps add up: 100 bytes owed, 99 seconds later");
	b = (struct log_budget){ 0 };
	log_budget_fill(&b, 0, 1000);
	is_int(taken(&b, 0, 100000), 100000, "0 is no limit");
	return tap_done();
}
