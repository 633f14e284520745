/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tables by peer; see conf/peermap.h. Called by workers/smtp_in and workers/deliver. */
#include "conf/peermap.h"

#include <stdlib.h>
#include <string.h>

#include "conf/map_remote.h"
#include "conf/map_text.h"
#include "lib/err.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

struct peermap {
	struct map **tables;
	size_t count;
	bool parents;
};

static int open_table(struct peermap *m, const struct conf *c, struct sv item,
		      const char *param_name, struct conf_diag *d)
{
	char *spec = xstrndup(item.p, item.len);
	const char *why = map_remote_refusal(param_name);
	struct map *table = NULL;
	int err = map_open(c, spec, &table, d);

	if (err == 0 && map_is_remote(table) && why != NULL) {
		conf_diag_add(d, true, NULL, 0, "parameter %s: %s: %s", param_name, spec, why);
		map_close(&table);
		err = E_CONFIG;
	}
	free(spec);
	if (err != 0)
		return err;
	m->tables = xrealloc(m->tables, (m->count + 1) * sizeof(struct map *));
	m->tables[m->count++] = table;
	return 0;
}

int peermap_open(const struct conf *c, const char *specs, const char *param_name,
		 struct peermap **m_r, struct conf_diag *d)
{
	const char *parents = conf_get(c, "parent_domain_matches_subdomains");
	struct peermap *m = xcalloc(1, sizeof(*m));
	struct sv rest = sv_from(specs), item;
	bool group;
	int err = 0, got;

	m->parents = parents != NULL && matchlist_word_in(parents, param_name);
	while (err == 0 && (got = map_item_next(&rest, &item, &group)) != 0)
		err = got < 0 ? got : open_table(m, c, item, param_name, d);
	if (err != 0 || m->count == 0)
		peermap_close(&m);
	*m_r = m;
	return err;
}

void peermap_close(struct peermap **mp)
{
	struct peermap *m;

	TAKE(m, *mp);
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->count; i++)
		map_close(&m->tables[i]);
	free(m->tables);
	free(m);
}

static enum map_status ask(const struct peermap *m, struct sv key, bool is_part, struct buf *out)
{
	for (size_t i = 0; i < m->count; i++) {
		if (is_part && !map_has_fixed_keys(m->tables[i]))
			continue;
		enum map_status st = map_get(m->tables[i], key, out);

		if (st != MAP_NOT_FOUND)
			return st;
	}
	return MAP_NOT_FOUND;
}

static enum map_status by_name(const struct peermap *m, const char *name, struct buf *out)
{
	enum map_status st = MAP_NOT_FOUND;

	if (name[0] == '\0' || !mail_hostname_is_valid(sv_from(name)))
		return st;
	for (const char *key = name; key != NULL && *key != '\0' && st == MAP_NOT_FOUND;) {
		st = ask(m, sv_from(key), key != name, out);
		key = strchr(key + 1, '.');
		if (key != NULL && m->parents)
			key++;
	}
	return st;
}

static enum map_status by_addr(const struct peermap *m, const char *addr, struct buf *out)
{
	struct sv key = sv_from(addr);
	char mark = strchr(addr, ':') != NULL ? ':' : '.';
	enum map_status st = MAP_NOT_FOUND;
	const char *cut;

	while (key.len > 0 && (st = ask(m, key, key.len != strlen(addr), out)) == MAP_NOT_FOUND) {
		cut = memrchr(key.p, mark, key.len);
		key.len = cut != NULL ? (size_t)(cut - key.p) : 0;
	}
	return st;
}

enum map_status peermap_get(const struct peermap *m, const char *name, const char *addr,
			    struct buf *out)
{
	enum map_status st = m != NULL ? by_name(m, name, out) : MAP_NOT_FOUND;

	if (m != NULL && st == MAP_NOT_FOUND)
		st = by_addr(m, addr, out);
	return st == MAP_FOUND && str_eq_nocase(buf_cstr(out), "DUNNO") ? MAP_NOT_FOUND : st;
}
