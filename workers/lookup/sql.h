/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What mysql, pgsql and sqlite tables have in common: the query, and the list of servers. */
#ifndef PH_WORKERS_LOOKUP_SQL_H
#define PH_WORKERS_LOOKUP_SQL_H

#include "workers/lookup/table.h"

/* The query template, heap: `query`, or built from the older select_field, table, where_field and
 * additional_conditions (with `functions`: select_function, too). NULL after a complaint. */
char *sql_query_template(struct options *o, bool functions);

#endif
