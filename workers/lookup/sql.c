/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Common to the SQL sources; see workers/lookup/sql.h. */
#include "workers/lookup/sql.h"

#include "lib/util.h"

static char *build(struct options *o)
{
	const char *field = options_get(o, "select_field", ""),
		   *table = options_get(o, "table", "");
	const char *where = options_get(o, "where_field", "");

	if (*field == '\0' || *table == '\0' || *where == '\0') {
		options_complain(o, "no query is given");
		return NULL;
	}
	return xasprintf("SELECT %s FROM %s WHERE %s = '%%s' %s", field, table, where,
			 options_get(o, "additional_conditions", ""));
}

char *sql_query_template(struct options *o, bool functions)
{
	const char *query = options_get(o, "query", "");
	const char *function = functions ? options_get(o, "select_function", "") : "";
	char *text = *query != '\0'      ? xstrdup(query)
		     : *function != '\0' ? xasprintf("SELECT %s('%%s')", function)
					 : build(o);
	const char *why = text != NULL ? template_check(text) : NULL;

	if (why != NULL) {
		options_complain(o, "query: %s: %.150s", why, text);
		free(text);
		text = NULL;
	}
	return text;
}
