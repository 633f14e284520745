/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * hash, btree, lmdb, cdb, dbm, sdbm: NAME.kch as postmap wrote it (Kyoto Cabinet file hash table).
 * postmap replaces the file by rename, so readers need no lock and must not repair; map.c notices
 * the new file. Called by map.c only.
 */
#include <kclangc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/map_impl.h"
#include "lib/err.h"

struct kch_map {
	KCDB *db;
};

void map_kch_close(void *impl)
{
	struct kch_map *k = impl;

	if (k->db != NULL) {
		kcdbclose(k->db);
		kcdbdel(k->db);
	}
	free(k);
}

static void warn_if_older(const struct map_open *o, const struct stat *compiled)
{
	struct stat source;

	if (stat(o->name, &source) == 0 && source.st_mtime > compiled->st_mtime)
		map_open_warn(o,
			      "%s is older than its source file; run \"postmap %s:%s\" (or "
			      "postalias)",
			      o->path, o->type, o->name);
}

int map_kch_open(struct map_open *o)
{
	struct stat st;

	if (o->name[0] == '\0' || o->inline_text.p != NULL || strchr(o->name, '#') != NULL)
		return map_open_fail(o, E_CONFIG, "not a usable file name");
	o->path = xasprintf("%s.kch", o->name);
	if (stat(o->path, &st) < 0) {
		int err = err_errno();

		return map_open_fail(o, err,
				     "open %.300s: %s; run \"postmap %s:%.300s\" (or "
				     "postalias for aliases)",
				     o->path, err_str(err), o->type, o->name);
	}
	warn_if_older(o, &st);
	struct kch_map *k = xcalloc(1, sizeof(*k));

	k->db = kcdbnew();
	if (!kcdbopen(k->db, o->path, KCOREADER | KCONOREPAIR | KCONOLOCK)) {
		int err = map_open_fail(o, E_CORRUPT, "open %.300s: %s", o->path, kcdbemsg(k->db));

		kcdbdel(k->db);
		k->db = NULL;
		map_kch_close(k);
		return err;
	}
	o->impl = k;
	return 0;
}

enum map_status map_kch_get(void *impl, struct sv key, struct buf *out)
{
	struct kch_map *k = impl;
	size_t len;
	char *value = kcdbget(k->db, key.p, key.len, &len);

	if (value == NULL)
		return kcdbecode(k->db) == KCENOREC ? MAP_NOT_FOUND : MAP_ERROR;
	bool ok = buf_add(out, value, len);

	kcfree(value);
	return ok ? MAP_FOUND : MAP_ERROR;
}
