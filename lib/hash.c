/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SipHash-1-3 (Aumasson and Bernstein) and an insertion-ordered string map; see lib/hash.h. */
#include "lib/hash.h"

#include <stdlib.h>
#include <string.h>

#include "lib/rand.h"
#include "lib/util.h"

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

static uint64_t own_key[2];

__attribute__((constructor)) static void make_key(void)
{
	rand_bytes(own_key, sizeof(own_key));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = ROTL(v[1], 13) ^ v[0];
	v[0] = ROTL(v[0], 32);
	v[2] += v[3];
	v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = ROTL(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = ROTL(v[1], 17) ^ v[2];
	v[2] = ROTL(v[2], 32);
}

/* SipHash with `rounds` per word and `last` at the end. Inlined: both are constants there. */
static inline uint64_t sip(const uint64_t key[2], const void *data, size_t len, int rounds,
			   int last)
{
	const unsigned char *p = data;
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
			  key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u };
	uint64_t word = 0;
	size_t left = len;

	for (; left >= 8; left -= 8, p += 8) {
		memcpy(&word, p, 8);
		v[3] ^= word;
		for (int i = 0; i < rounds; i++)
			sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)len << 56;
	for (size_t i = 0; i < left; i++)
		word |= (uint64_t)p[i] << (8 * i);
	v[3] ^= word;
	for (int i = 0; i < rounds; i++)
		sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < last; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_bytes(const void *data, size_t len)
{
	return sip(own_key, data, len, 1, 3);
}

uint64_t hash_keyed(const uint64_t key[2], const void *data, size_t len)
{
	return sip(key, data, len, 2, 4);
}

struct entry {
	char *key; /* NULL = removed */
	size_t len;
	uint64_t hash;
	void *value;
};

struct strmap {
	struct entry *entries; /* in insertion order */
	size_t used;           /* entries in use, removed ones included */
	size_t cap;
	size_t live;
	uint32_t *index; /* open addressing: entry number + 1, 0 = empty, UINT32_MAX = removed */
	size_t index_size;
};

#define TOMB UINT32_MAX

struct strmap *strmap_new(void)
{
	return xcalloc(1, sizeof(struct strmap));
}

void strmap_free(struct strmap **map)
{
	if (*map == NULL)
		return;
	for (size_t i = 0; i < (*map)->used; i++)
		free((*map)->entries[i].key);
	free((*map)->entries);
	free((*map)->index);
	free(*map);
	*map = NULL;
}

/* The index place of the key; SIZE_MAX when absent. */
static size_t find(const struct strmap *m, struct sv key, uint64_t hash)
{
	if (m->index_size == 0)
		return SIZE_MAX;
	for (size_t i = hash & (m->index_size - 1);; i = (i + 1) & (m->index_size - 1)) {
		uint32_t ref = m->index[i];

		if (ref == 0)
			return SIZE_MAX;
		if (ref == TOMB)
			continue;
		const struct entry *e = &m->entries[ref - 1];

		if (e->hash == hash && e->len == key.len && memcmp(e->key, key.p, key.len) == 0)
			return i;
	}
}

static void index_insert(struct strmap *m, uint64_t hash, uint32_t ref)
{
	size_t i = hash & (m->index_size - 1);

	while (m->index[i] != 0 && m->index[i] != TOMB)
		i = (i + 1) & (m->index_size - 1);
	m->index[i] = ref;
}

/* Squeeze removed entries out and size the index for the next growth. */
static void rebuild(struct strmap *m)
{
	size_t n = 0;

	for (size_t i = 0; i < m->used; i++) {
		if (m->entries[i].key != NULL)
			m->entries[n++] = m->entries[i];
	}
	m->used = n;
	if (m->cap < 8 || n * 4 > m->cap * 3) {
		m->cap = size_max(8, m->cap * 2);
		m->entries = xrealloc(m->entries, m->cap * sizeof(*m->entries));
	}
	m->index_size = 16;
	while (m->index_size < m->cap * 2)
		m->index_size *= 2;
	free(m->index);
	m->index = xcalloc(m->index_size, sizeof(*m->index));
	for (size_t i = 0; i < n; i++)
		index_insert(m, m->entries[i].hash, (uint32_t)(i + 1));
}

void *strmap_put(struct strmap *m, struct sv key, void *value)
{
	uint64_t hash = hash_bytes(key.p, key.len);
	size_t at = find(m, key, hash);

	if (at != SIZE_MAX) {
		struct entry *e = &m->entries[m->index[at] - 1];
		void *old = e->value;

		e->value = value;
		return old;
	}
	if (m->used == m->cap)
		rebuild(m);
	m->entries[m->used++] = (struct entry){ xstrndup(key.p, key.len), key.len, hash, value };
	m->live++;
	index_insert(m, hash, (uint32_t)m->used);
	return NULL;
}

void *strmap_get(const struct strmap *m, struct sv key)
{
	size_t at = find(m, key, hash_bytes(key.p, key.len));

	return at == SIZE_MAX ? NULL : m->entries[m->index[at] - 1].value;
}

void *strmap_remove(struct strmap *m, struct sv key)
{
	size_t at = find(m, key, hash_bytes(key.p, key.len));

	if (at == SIZE_MAX)
		return NULL;
	struct entry *e = &m->entries[m->index[at] - 1];

	free(e->key);
	e->key = NULL;
	m->index[at] = TOMB;
	m->live--;
	return e->value;
}

size_t strmap_count(const struct strmap *m)
{
	return m->live;
}

bool strmap_next(const struct strmap *m, size_t *pos, struct sv *key_r, void **value_r)
{
	while (*pos < m->used) {
		const struct entry *e = &m->entries[(*pos)++];

		if (e->key == NULL)
			continue;
		*key_r = (struct sv){ e->key, e->len };
		*value_r = e->value;
		return true;
	}
	return false;
}
