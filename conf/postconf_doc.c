/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postconf -G: the parameter reference in Markdown, from the table. Run by make for
 * doc/parameters.md; operators do not need it.
 */
#include "conf/postconf.h"

#include <stdio.h>

#include "conf/effect.h"

static const char *const type_names[] = {
	[P_STR] = "text",  [P_BOOL] = "yes or no", [P_INT] = "number",
	[P_TIME] = "time", [P_SIZE] = "bytes",     [P_ENUM] = "word",
};

static int by_name(const void *a, const void *b)
{
	return strcmp(param_name(*(const struct param_desc *const *)a),
		      param_name(*(const struct param_desc *const *)b));
}

static void write_bounds(const struct param_desc *pd)
{
	if (pd->type == P_ENUM)
		printf(": %s", pd->words);
	else if (pd->type == P_STR && pd->min != NULL)
		printf(", not empty");
	else if (pd->min != NULL && pd->max != NULL)
		printf(", %s to %s", pd->min, pd->max);
	else if (pd->min != NULL)
		printf(", at least %s", pd->min);
	else if (pd->max != NULL)
		printf(", at most %s", pd->max);
}

static void write_effect(const char *name)
{
	struct effect_info info;

	if (!effect_find(NULL, sv_from(name), &info))
		return;
	if (info.advice != NULL)
		printf(" *Deprecated: %s.*", info.advice);
	if (*info.reason != '\0')
		printf(" *Without effect: %s.*", info.reason);
}

static void write_param(const struct param_desc *pd)
{
	printf("### %s\n\n%s\n\n", param_name(pd), pd->text);
	if (pd->def_fn != NULL)
		printf("Default: from the machine");
	else if (*pd->def == 0)
		printf("Default: empty");
	else
		printf("Default: `` %s ``", pd->def);
	printf(" (%s", type_names[pd->type]);
	write_bounds(pd);
	printf(").%s%s", pd->raw ? " Not expanded when loaded." : "",
	       pd->when == BOOT ? " A change takes effect at stop and start." : "");
	write_effect(param_name(pd));
	printf("\n\n");
}

void doc_write(void)
{
	const struct param_desc **sorted = xcalloc(param_count(), sizeof(*sorted));

	for (unsigned i = 0; i < param_count(); i++)
		sorted[i] = param_desc(i);
	qsort(sorted, param_count(), sizeof(*sorted), by_name);
	printf("# Parameters of main.cf\n\n"
	       "Times are numbers with s, m, h, d or w (or ms) behind them; a number alone has the "
	       "unit of the default. Sizes may have k, M or G behind them. `$name` and "
	       "`${name?{a}:{b}}` work in all values as in Postfix.\n\n");
	for (unsigned i = 0; i < param_count(); i++)
		write_param(sorted[i]);
	printf("## Accepted without effect\n\n"
	       "Postfix has these for parts that work in another way here, or not at all. They "
	       "may stand in main.cf and mean nothing.\n\n");
	for (unsigned i = 0; i < inert_count(); i++) {
		printf("- `%s`", inert_desc(i)->name);
		write_effect(inert_desc(i)->name);
		puts("");
	}
	free(sorted);
}
