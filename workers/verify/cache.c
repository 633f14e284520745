/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The cache of addresses; see workers/verify/cache.h. Called by workers/verify/core.c.
 *
 * The file is read and written, not mapped: on a full disk a call fails, where a mapping would be
 * the end of the process. A file that was not closed is mended by the library when it is opened,
 * record by record.
 */
#include "workers/verify/cache.h"

#include <inttypes.h>
#include <kclangc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/log.h"
#include "lib/util.h"

#define EVICT_STEPS 16u
#define CLOCK_SLACK 3600 /* a record from later than this was made by another clock */
#define BUCKETS     131071
#define RECORD_MAX  (CACHE_TEXT_MAX + 64)

struct cache {
	KCDB *db;
	KCCUR *cur;             /* of cleaning and making room, one after the other */
	struct cache_kind kind; /* keep NULL: of addresses */
	struct cache_times times;
	uint64_t records_max;
	uint64_t kept, dropped; /* of the cleaning that goes on */
	bool dirty, at_start;
};

/* ---- records ---- */

/* "S:PROBED:UPDATED:text". False: it is none. */
static bool parse(struct sv value, struct cache_record *r)
{
	uint64_t status, probed, updated;
	struct sv rest = value;
	struct sv fields[3];

	for (size_t i = 0; i < 3; i++) {
		const char *colon = rest.len > 0 ? memchr(rest.p, ':', rest.len) : NULL;

		if (colon == NULL)
			return false;
		fields[i] = (struct sv){ rest.p, (size_t)(colon - rest.p) };
		rest = (struct sv){ colon + 1, rest.len - fields[i].len - 1 };
	}
	if (str_to_u64(fields[0], VERIFY_BOUNCE, &status) != 0 ||
	    str_to_u64(fields[1], INT64_MAX, &probed) != 0 ||
	    str_to_u64(fields[2], INT64_MAX, &updated) != 0 || updated == 0 ||
	    rest.len > CACHE_TEXT_MAX || memchr(rest.p, '\0', rest.len) != NULL)
		return false;
	r->status = (enum verify_status)status;
	r->updated_s = (int64_t)updated;
	buf_reset(&r->text);
	buf_add_sv(&r->text, rest);
	return true;
}

static bool is_older(const struct cache_record *r, int64_t positive_s, int64_t negative_s,
		     int64_t now_s)
{
	return r->updated_s + (r->status == VERIFY_OK ? positive_s : negative_s) < now_s;
}

static bool is_good(const struct cache *c, struct sv value, int64_t now_s, struct cache_record *r)
{
	return parse(value, r) && r->updated_s <= now_s + CLOCK_SLACK &&
	       !is_older(r, c->times.positive_expire, c->times.negative_expire, now_s);
}

bool cache_needs_refresh(const struct cache *c, const struct cache_record *r, int64_t now_s)
{
	return is_older(r, c->times.positive_refresh, c->times.negative_refresh, now_s);
}

/* ---- the file ---- */

static bool open_db(struct cache *c, const char *path)
{
	char *spec = path == NULL ? xstrdup("*#bnum=131071")
				  : xasprintf("%s#opts=s#msiz=0#bnum=%d", path, BUCKETS);

	c->db = kcdbnew();
	bool good = kcdbopen(c->db, spec, KCOWRITER | KCOCREATE | KCOTRYLOCK) != 0;

	free(spec);
	return good;
}

static void close_db(struct cache *c)
{
	if (c->cur != NULL)
		kccurdel(c->cur);
	c->cur = NULL;
	if (c->db != NULL) {
		kcdbclose(c->db);
		kcdbdel(c->db);
	}
	c->db = NULL;
}

/* What is there is no cache, or a damaged one: nothing in it is needed. */
static bool open_anew(struct cache *c, const char *path)
{
	log_warn("%s: %s: %s; begun anew", c->kind.param, path, kcdbemsg(c->db));
	close_db(c);
	return unlink(path) == 0 && open_db(c, path);
}

struct cache *cache_open(const char *param, const char *path, uint64_t records_max,
			 const struct cache_times *times)
{
	const struct cache_kind addresses = { .param = param };
	struct cache *c = cache_open_kind(path, records_max, &addresses);

	c->times = *times;
	return c;
}

struct cache *cache_open_kind(const char *path, uint64_t records_max, const struct cache_kind *kind)
{
	struct cache *c = xcalloc(1, sizeof(*c));

	c->kind = *kind;
	c->records_max = records_max;
	c->at_start = true;
	bool good = open_db(c, path);

	if (!good && path != NULL && access(path, F_OK) == 0 &&
	    kcdbecode(c->db) != KCESYSTEM) /* that would be another owner's lock, or no right */
		good = open_anew(c, path);
	if (!good && path != NULL) {
		log_warn("%s: open %s: %s; what it would hold is kept in memory", c->kind.param,
			 path, kcdbemsg(c->db));
		close_db(c);
		good = open_db(c, NULL);
	}
	if (!good)
		die("cannot make a cache: %s", kcdbemsg(c->db));
	c->cur = kcdbcursor(c->db);
	return c;
}

void cache_close(struct cache **cp)
{
	struct cache *c;

	TAKE(c, *cp);
	if (c == NULL)
		return;
	close_db(c);
	free(c);
}

int cache_write_out(struct cache *c)
{
	bool dirty = c->dirty;

	c->dirty = false;
	return !dirty || kcdbsync(c->db, 0, NULL, NULL) ? 0 : E_IO;
}

uint64_t cache_count(const struct cache *c)
{
	int64_t n = kcdbcount(c->db);

	return n > 0 ? (uint64_t)n : 0;
}

int cache_get(struct cache *c, struct sv key, int64_t now_s, struct cache_record *r)
{
	size_t len;
	char *value = kcdbget(c->db, key.p, key.len, &len);

	if (value == NULL)
		return kcdbecode(c->db) == KCENOREC ? 0 : E_IO;
	bool good = is_good(c, (struct sv){ value, len }, now_s, r);

	kcfree(value);
	return good ? 1 : 0;
}

/* ---- walking ---- */

enum seen { SEEN_GOOD, SEEN_FAILED, SEEN_BAD, SEEN_END };

/* The record that the cursor stands on. It stays there. */
static enum seen look(struct cache *c, int64_t now_s)
{
	struct cache_record r = { .text = BUF_INIT };
	size_t key_len, len;
	const char *value;

	if (c->at_start && !kccurjump(c->cur))
		return SEEN_END;
	c->at_start = false;
	char *key = kccurget(c->cur, &key_len, &value, &len, 0);

	if (key == NULL) {
		c->at_start = true;
		return SEEN_END;
	}
	struct sv text = { value, len };
	bool good = c->kind.keep != NULL ? c->kind.keep(c->kind.ctx, text, now_s)
					 : is_good(c, text, now_s, &r);

	kcfree(key);
	buf_fini(&r.text);
	return !good ? SEEN_BAD : r.status == VERIFY_OK ? SEEN_GOOD : SEEN_FAILED;
}

static void step(struct cache *c)
{
	if (!kccurstep(c->cur))
		c->at_start = true;
}

int cache_clean(struct cache *c, unsigned steps, int64_t now_s, uint64_t *kept_r,
		uint64_t *dropped_r)
{
	bool ended = false;

	while (steps-- > 0 && !ended) {
		enum seen s = look(c, now_s);

		if (s == SEEN_BAD && kccurremove(c->cur)) {
			c->dropped++; /* the cursor is on the next one now */
			c->dirty = true;
		} else if (s != SEEN_END) {
			c->kept++;
			step(c);
		}
		ended = s == SEEN_END || c->at_start;
	}
	if (!ended)
		return 0;
	c->at_start = true;
	*kept_r = c->kept;
	*dropped_r = c->dropped;
	c->kept = c->dropped = 0;
	return 1;
}

/* There are as many as may be: one of the next few goes, and rather a failure than a good one. */
static void make_room(struct cache *c, int64_t now_s)
{
	for (unsigned i = 0; i <= EVICT_STEPS; i++) {
		enum seen s = look(c, now_s);

		if (s == SEEN_END)
			s = look(c, now_s);
		if (s == SEEN_BAD || s == SEEN_FAILED || i == EVICT_STEPS) {
			if (!kccurremove(c->cur))
				c->at_start = true;
			return;
		}
		step(c);
	}
}

int cache_put(struct cache *c, struct sv key, enum verify_status status, int64_t now_s,
	      struct sv text)
{
	char value[RECORD_MAX];
	size_t len = size_min(text.len, CACHE_TEXT_MAX);
	int n = snprintf(value, sizeof(value), "%d:0:%" PRId64 ":%.*s", (int)status, now_s,
			 (int)len, text.p);

	return cache_put_text(c, key, (struct sv){ value, (size_t)n }, now_s);
}

int cache_put_text(struct cache *c, struct sv key, struct sv value, int64_t now_s)
{
	if (cache_count(c) >= c->records_max && kcdbcheck(c->db, key.p, key.len) < 0)
		make_room(c, now_s);
	c->dirty = true;
	return kcdbset(c->db, key.p, key.len, value.p, value.len) ? 0 : E_IO;
}

int cache_get_text(struct cache *c, struct sv key, struct buf *out)
{
	size_t len;
	char *value = kcdbget(c->db, key.p, key.len, &len);

	if (value == NULL)
		return kcdbecode(c->db) == KCENOREC ? 0 : E_IO;
	buf_reset(out);
	buf_add(out, value, size_min(len, CACHE_TEXT_MAX));
	kcfree(value);
	return 1;
}
