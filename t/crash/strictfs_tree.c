/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Nodes, names, syncs and the power cut; see t/crash/strictfs.h. */
#include "t/crash/strictfs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/clock.h"
#include "lib/util.h"

static struct strict_node **nodes;
static uint64_t node_count, node_cap, next_cookie = 1, dice;

bool tree_coin(void)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return (dice >> 20 & 1) != 0;
}

/* ---- nodes ---- */

struct strict_node *tree_node(uint64_t node)
{
	return node < node_count ? nodes[node] : NULL;
}

static uint64_t node_add(const struct strict_meta *meta)
{
	if (node_count == node_cap) {
		node_cap = node_cap == 0 ? 1024 : node_cap * 2;
		nodes = xrealloc(nodes, node_cap * sizeof(struct strict_node *));
	}
	struct strict_node *n = xcalloc(1, sizeof(*n));

	n->now = *meta;
	n->now.mtime_us = clock_wall().us;
	nodes[node_count] = n;
	return node_count++;
}

static void names_free(struct strict_names *l)
{
	for (unsigned i = 0; i < l->count; i++)
		free(l->v[i].name);
	free(l->v);
	*l = (struct strict_names){ 0 };
}

static void node_free(uint64_t node)
{
	struct strict_node *n = nodes[node];

	names_free(&n->names);
	names_free(&n->kept_names);
	free(n->data);
	free(n->kept_data);
	free(n->dirty);
	free(n);
	nodes[node] = NULL;
}

void tree_init(mode_t root_mode, uint64_t seed)
{
	struct strict_meta meta = { .mode = root_mode };

	dice = seed * 2654435761u + 88172645463325252u;
	for (unsigned i = 0; i < 10; i++)
		tree_coin();
	node_add(&meta); /* number 0 is nobody's */
	node_free(0);
	node_add(&meta);
	tree_settle();
}

/* ---- names ---- */

static struct strict_name *names_find(const struct strict_names *l, const char *name)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (strcmp(l->v[i].name, name) == 0)
			return &l->v[i];
	}
	return NULL;
}

static void names_add(struct strict_names *l, const char *name, uint64_t node)
{
	if (l->count == l->cap) {
		l->cap = l->cap == 0 ? 16 : l->cap * 2;
		l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
	}
	l->v[l->count++] = (struct strict_name){ xstrdup(name), node, next_cookie++ };
}

static void names_drop(struct strict_names *l, struct strict_name *e)
{
	size_t i = (size_t)(e - l->v);

	free(e->name);
	memmove(e, e + 1, (l->count - i - 1) * sizeof(*e));
	l->count--;
}

static void names_copy(struct strict_names *to, const struct strict_names *from)
{
	names_free(to);
	for (unsigned i = 0; i < from->count; i++)
		names_add(to, from->v[i].name, from->v[i].node);
}

static struct strict_node *dir_node(uint64_t dir)
{
	struct strict_node *n = tree_node(dir);

	return n != NULL && S_ISDIR(n->now.mode) ? n : NULL;
}

int tree_lookup(uint64_t dir, const char *name, uint64_t *node_r)
{
	const struct strict_node *d = dir_node(dir);
	const struct strict_name *e = d == NULL ? NULL : names_find(&d->names, name);

	if (e == NULL)
		return d == NULL ? ENOTDIR : ENOENT;
	*node_r = e->node;
	return 0;
}

int tree_make(uint64_t dir, const char *name, const struct strict_meta *meta, uint64_t *node_r)
{
	struct strict_node *d = dir_node(dir);

	if (d == NULL)
		return ENOTDIR;
	if (names_find(&d->names, name) != NULL)
		return EEXIST;
	*node_r = node_add(meta);
	names_add(&d->names, name, *node_r);
	return 0;
}

int tree_remove(uint64_t dir, const char *name, bool directory)
{
	struct strict_node *d = dir_node(dir);
	struct strict_name *e = d == NULL ? NULL : names_find(&d->names, name);

	if (e == NULL)
		return ENOENT;
	const struct strict_node *n = tree_node(e->node);

	if (S_ISDIR(n->now.mode) != directory)
		return directory ? ENOTDIR : EISDIR;
	if (directory && n->names.count > 0)
		return ENOTEMPTY;
	names_drop(&d->names, e);
	return 0;
}

int tree_rename(uint64_t from, const char *name, uint64_t to, const char *to_name, bool no_replace)
{
	struct strict_node *f = dir_node(from), *t = dir_node(to);
	struct strict_name *e = f == NULL ? NULL : names_find(&f->names, name);

	if (e == NULL || t == NULL)
		return ENOENT;
	uint64_t node = e->node;
	struct strict_name *old = names_find(&t->names, to_name);

	if (old != NULL && no_replace)
		return EEXIST;
	if (old != NULL && old->node == node)
		return 0;
	if (old != NULL) {
		int err = tree_remove(to, to_name, S_ISDIR(tree_node(node)->now.mode));

		if (err != 0)
			return err;
	}
	names_drop(&f->names, names_find(&f->names, name));
	names_add(&t->names, to_name, node);
	return 0;
}

/* ---- content ---- */

static uint64_t pages_of(uint64_t size)
{
	return (size + STRICT_PAGE - 1) / STRICT_PAGE;
}

static void reserve(struct strict_node *n, uint64_t size)
{
	uint64_t cap = n->cap == 0 ? 4 * STRICT_PAGE : n->cap;

	if (size <= n->cap)
		return;
	while (cap < size)
		cap *= 2;
	n->data = xrealloc(n->data, cap);
	n->kept_data = xrealloc(n->kept_data, cap);
	n->dirty = xrealloc(n->dirty, cap / STRICT_PAGE);
	memset(n->data + n->cap, 0, cap - n->cap);
	memset(n->kept_data + n->cap, 0, cap - n->cap);
	memset(n->dirty + n->cap / STRICT_PAGE, 0, (cap - n->cap) / STRICT_PAGE);
	n->cap = cap;
}

static void soil(struct strict_node *n, uint64_t off, uint64_t len)
{
	for (uint64_t p = off / STRICT_PAGE; p < pages_of(off + len); p++)
		n->dirty[p] = 1;
	n->now.mtime_us = clock_wall().us;
}

void tree_write(struct strict_node *n, uint64_t off, const char *data, size_t len)
{
	reserve(n, off + len);
	memcpy(n->data + off, data, len);
	soil(n, off, len);
	if (n->now.size < off + len)
		n->now.size = off + len;
}

void tree_resize(struct strict_node *n, uint64_t size)
{
	reserve(n, size);
	if (size < n->now.size) {
		memset(n->data + size, 0, n->now.size - size);
		soil(n, size, n->now.size - size);
	}
	n->now.size = size;
}

static void copy_page(struct strict_node *n, uint64_t page, bool keep)
{
	char *now = n->data + page * STRICT_PAGE, *kept = n->kept_data + page * STRICT_PAGE;

	memcpy(keep ? kept : now, keep ? now : kept, STRICT_PAGE);
	n->dirty[page] = 0;
}

void tree_sync(struct strict_node *n)
{
	n->settled = true;
	n->kept = n->now;
	for (uint64_t p = 0; p < n->cap / STRICT_PAGE; p++) {
		if (n->dirty[p] != 0)
			copy_page(n, p, true);
	}
	if (S_ISDIR(n->now.mode))
		names_copy(&n->kept_names, &n->names);
}

/* ---- the end ---- */

void tree_settle(void)
{
	for (uint64_t i = STRICT_ROOT; i < node_count; i++) {
		if (nodes[i] != NULL)
			tree_sync(nodes[i]);
	}
}

/* Each page and the size that were not synced: with luck. */
static void lucky_content(struct strict_node *n)
{
	for (uint64_t p = 0; p < n->cap / STRICT_PAGE; p++) {
		if (n->dirty[p] != 0 && tree_coin())
			copy_page(n, p, true);
	}
	if (tree_coin())
		n->kept.size = n->now.size;
}

/* Each name that came, went or changed: with luck. */
static void lucky_names(struct strict_node *n)
{
	for (unsigned i = 0; i < n->names.count; i++) {
		const struct strict_name *e = &n->names.v[i];
		struct strict_name *old = names_find(&n->kept_names, e->name);

		if (old != NULL && old->node != e->node && tree_coin())
			old->node = e->node;
		else if (old == NULL && tree_coin())
			names_add(&n->kept_names, e->name, e->node);
	}
	for (unsigned i = n->kept_names.count; i-- > 0;) {
		struct strict_name *e = &n->kept_names.v[i];

		if (names_find(&n->names, e->name) == NULL && tree_coin())
			names_drop(&n->kept_names, e);
	}
}

static void mark(uint64_t node)
{
	struct strict_node *n = nodes[node];

	if (n->reached)
		return;
	n->reached = true;
	/* a name without its file: of that there is the bare inode */
	if (!n->settled)
		n->kept = (struct strict_meta){ .mode = n->now.mode,
						.uid = n->now.uid,
						.gid = n->now.gid };
	for (unsigned i = 0; i < n->kept_names.count; i++)
		mark(n->kept_names.v[i].node);
}

static void go_back(struct strict_node *n)
{
	for (uint64_t p = 0; p < n->cap / STRICT_PAGE; p++) {
		if (n->dirty[p] != 0)
			copy_page(n, p, false);
	}
	/* behind the end that counts there is nothing, whatever pages were lucky */
	if (n->kept.size < n->cap) {
		memset(n->data + n->kept.size, 0, n->cap - n->kept.size);
		memset(n->kept_data + n->kept.size, 0, n->cap - n->kept.size);
	}
	n->now = n->kept;
	n->settled = true;
	n->reached = false;
	names_copy(&n->names, &n->kept_names);
}

void tree_cut(bool some)
{
	for (uint64_t i = STRICT_ROOT; some && i < node_count; i++) {
		if (nodes[i] == NULL)
			continue;
		if (S_ISDIR(nodes[i]->now.mode))
			lucky_names(nodes[i]);
		else
			lucky_content(nodes[i]);
	}
	mark(STRICT_ROOT);
	for (uint64_t i = STRICT_ROOT; i < node_count; i++) {
		if (nodes[i] != NULL && nodes[i]->reached)
			go_back(nodes[i]);
		else if (nodes[i] != NULL)
			node_free(i);
	}
}
