/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unionmap, pipemap: tables of tables; randmap. See conf/map.h. Called by map.c only. */
#include <stdlib.h>

#include "conf/map_impl.h"
#include "lib/err.h"
#include "lib/rand.h"

struct multi_map {
	struct map **maps;
	size_t count;
};

void map_multi_close(void *impl)
{
	struct multi_map *m = impl;

	for (size_t i = 0; i < m->count; i++)
		map_close(&m->maps[i]);
	free(m->maps);
	free(m);
}

bool map_multi_fixed(const void *impl)
{
	const struct multi_map *m = impl;

	for (size_t i = 0; i < m->count; i++) {
		if (map_has_fixed_keys(m->maps[i]))
			return true;
	}
	return false;
}

bool map_multi_remote(const void *impl)
{
	const struct multi_map *m = impl;

	for (size_t i = 0; i < m->count; i++) {
		if (map_is_remote(m->maps[i]))
			return true;
	}
	return false;
}

int map_multi_open(struct map_open *o)
{
	struct sv rest = o->inline_text, item;
	bool group;
	int more, err = 0;

	if (rest.p == NULL)
		return map_open_fail(o, E_CONFIG, "expected %s:{type:name, ...}", o->type);
	struct multi_map *m = xcalloc(1, sizeof(*m));

	while (err == 0 && (more = map_item_next(&rest, &item, &group)) != 0) {
		char *spec = more < 0 ? NULL : xstrndup(item.p, item.len);
		struct map *inner;

		err = more < 0 ? map_open_fail(o, E_SYNTAX, "unbalanced braces")
			       : map_open(o->c, spec, &inner, o->d);
		free(spec);
		if (err < 0)
			break;
		m->maps = xrealloc(m->maps, (m->count + 1) * sizeof(struct map *));
		m->maps[m->count++] = inner;
	}
	if (err == 0 && m->count == 0)
		err = map_open_fail(o, E_CONFIG, "no tables");
	if (err < 0)
		map_multi_close(m);
	else
		o->impl = m;
	return err;
}

/* All answers, joined by commas. */
enum map_status map_union_get(void *impl, struct sv key, struct buf *out)
{
	struct multi_map *m = impl;
	struct buf one = BUF_INIT;
	enum map_status result = MAP_NOT_FOUND;
	bool good = true;

	for (size_t i = 0; i < m->count && result != MAP_ERROR; i++) {
		enum map_status status = map_get(m->maps[i], key, &one);

		if (status == MAP_FOUND) {
			good = (out->len == 0 || buf_add_c(out, ',')) &&
			       buf_add_sv(out, buf_sv(&one));
			result = good ? MAP_FOUND : MAP_ERROR;
		} else if (status == MAP_ERROR) {
			result = MAP_ERROR;
		}
	}
	buf_fini(&one);
	return result;
}

/* Each answer is the key for the next table. */
enum map_status map_pipe_get(void *impl, struct sv key, struct buf *out)
{
	struct multi_map *m = impl;
	struct buf one[2] = { BUF_INIT, BUF_INIT };
	enum map_status status = MAP_FOUND;

	for (size_t i = 0; i < m->count && status == MAP_FOUND; i++) {
		status = map_get(m->maps[i], key, &one[i % 2]);
		key = buf_sv(&one[i % 2]);
	}
	if (status == MAP_FOUND && !buf_add_sv(out, key))
		status = MAP_ERROR;
	buf_fini(&one[0]);
	buf_fini(&one[1]);
	return status;
}

/* ---- randmap:{a, b, c} ---- */

struct rand_map {
	char **values;
	uint32_t count;
};

void map_rand_close(void *impl)
{
	struct rand_map *m = impl;

	for (uint32_t i = 0; i < m->count; i++)
		free(m->values[i]);
	free(m->values);
	free(m);
}

int map_rand_open(struct map_open *o)
{
	struct sv rest = o->inline_text, item;
	bool group;
	int more;

	if (rest.p == NULL)
		return map_open_fail(o, E_CONFIG, "expected randmap:{value, ...}");
	struct rand_map *m = xcalloc(1, sizeof(*m));

	while ((more = map_item_next(&rest, &item, &group)) > 0) {
		m->values = xrealloc(m->values, (m->count + 1) * sizeof(char *));
		m->values[m->count++] = xstrndup(item.p, item.len);
	}
	if (more < 0 || m->count == 0) {
		map_rand_close(m);
		return map_open_fail(o, E_SYNTAX, "expected randmap:{value, ...}");
	}
	o->impl = m;
	return 0;
}

enum map_status map_rand_get(void *impl, struct sv key, struct buf *out)
{
	const struct rand_map *m = impl;

	(void)key;
	return buf_add_str(out, m->values[rand_below(m->count)]) ? MAP_FOUND : MAP_ERROR;
}
