/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Remote tables as the lookup worker has them: parameters, the source behind them, and what a
 * source has to offer. A source (source_*.c) may block, within its time; it is called from several
 * threads, each with a connection of its own. main.c is the worker, query.c the program for
 * postmap -q; both open tables before they shut themselves in.
 */
#ifndef PH_WORKERS_LOOKUP_TABLE_H
#define PH_WORKERS_LOOKUP_TABLE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"
#include "conf/map.h"
#include "lib/buf.h"
#include "lib/str.h"
#include "workers/lookup/options.h"
#include "workers/lookup/template.h"

#define TABLE_WHY_SIZE 300

struct table;

struct table_answer {
	enum map_status status;
	struct buf value;         /* with MAP_FOUND */
	int64_t results;          /* in value */
	char why[TABLE_WHY_SIZE]; /* with MAP_ERROR */
	bool about_key;           /* the error is one of this key, the source is well */
	bool troubled;            /* MAP_FOUND, but what was found is only what went wrong */
};

struct source {
	const char *type;
	/* The parameters, from t->options or t->name, into t->source_state. Errors go to t->diag
	 * through options_complain(). May load what cannot be loaded later. */
	int (*open)(struct table *t);
	void (*close)(struct table *t);
	/* A connection's state, made by its thread; it connects when it is first asked. */
	void *(*connect)(const struct table *t);
	void (*disconnect)(void *connection);
	/* Ask; `a` is empty. `key` is NUL-terminated. */
	void (*ask)(const struct table *t, void *connection, struct sv key, struct table_answer *a);
	void (*directories)(const struct table *t, void (*fn)(void *ctx, const char *path),
			    void *ctx); /* what it reads there; NULL = nothing */
	/* NULL: as other tables. How many threads ask, and how long a question may wait for one. */
	unsigned (*threads)(const struct table *t);
	int64_t (*wait_ms)(const struct table *t);
	void (*tick)(const struct table *t); /* about once a second; NULL = nothing to do */
};

struct table {
	const struct source *source;
	char *spec, *name; /* name: behind "type:" */
	const struct conf *conf;
	struct options *options; /* of the parameter file or of main.cf; NULL: the name says all */
	struct result_format result;
	struct matchlist *domains; /* only addresses in these are looked for; NULL = all keys */
	void *source_state;
};

/* "type:name". On failure the diagnostics say why. */
int table_open(const struct conf *c, const char *spec, struct table **t_r, struct conf_diag *d);
void table_close(struct table **t);
/* Is "type:name" a table that this worker asks? */
bool table_type_is_remote(const char *spec);
/* Can the key be in the table at all? 1, 0, negative when a table of `domain` cannot be asked. Not
 * for several threads at once. */
int table_admits(const struct table *t, struct sv key);

PRINTF_LIKE(2, 3) void table_fail(struct table_answer *a, const char *fmt, ...);
/* Forget what went wrong: another server is tried. */
void table_again(struct table_answer *a);
/* Add one result (of possibly many) in the table's result_format. False: enough of them. */
bool table_add_result(const struct table *t, struct table_answer *a, struct sv key,
		      struct sv result);

extern const struct source source_ldap, source_memcache, source_mysql, source_pgsql, source_policy,
	source_redis, source_socketmap, source_sqlite, source_tcp;

#endif
