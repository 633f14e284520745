/* SPDX-License-Identifier: GPL-3.0-or-later */
/* See workers/saslclient/failures.h. The file is one of those that the verify worker has. */
#include "workers/saslclient/failures.h"

#include <stdlib.h>

#include "lib/log.h"
#include "lib/util.h"
#include "workers/verify/cache.h"

#define RECORDS_MAX 100000u
#define FOREVER     (INT64_MAX / 4) /* who asks says how old a record may be */

struct failures {
	struct cache *cache;
	char *param;
	bool said; /* that the file fails */
	struct buf key, value;
};

struct failures *failures_open(const char *param, const char *path)
{
	static const struct cache_times times = {
		.positive_expire = FOREVER,
		.positive_refresh = FOREVER,
		.negative_expire = FOREVER,
		.negative_refresh = FOREVER,
	};
	struct failures *f = xcalloc(1, sizeof(*f));

	f->param = xstrdup(param);
	f->cache = cache_open(param, path, RECORDS_MAX, &times);
	return f;
}

void failures_close(struct failures **fp)
{
	struct failures *f;

	TAKE(f, *fp);
	if (f == NULL)
		return;
	cache_close(&f->cache);
	buf_fini(&f->key);
	buf_fini(&f->value);
	free(f->param);
	free(f);
}

static void check(struct failures *f, int err)
{
	if (err < 0 && !f->said)
		log_warn("%s: the file cannot be used: logins are tried again", f->param);
	f->said = err < 0;
}

static struct sv key_of(struct failures *f, struct sv server, struct sv user)
{
	buf_reset(&f->key);
	buf_add_sv(&f->key, server);
	buf_add_c(&f->key, ';');
	buf_add_sv(&f->key, user);
	return buf_sv(&f->key);
}

bool failures_find(struct failures *f, struct sv server, struct sv user, struct sv mark,
		   int64_t age_s, int64_t now_s, struct buf *reply)
{
	struct cache_record r = { .text = BUF_INIT };
	int got = cache_get(f->cache, key_of(f, server, user), now_s, &r);
	bool holds = got > 0 && r.status == VERIFY_BOUNCE && r.updated_s + age_s >= now_s &&
		     r.text.len > mark.len + 1 && r.text.p[mark.len] == ' ' &&
		     sv_eq((struct sv){ r.text.p, mark.len }, mark);

	check(f, got);
	buf_reset(reply);
	if (holds)
		buf_add(reply, r.text.p + mark.len + 1, r.text.len - mark.len - 1);
	buf_fini(&r.text);
	return holds;
}

void failures_note(struct failures *f, struct sv server, struct sv user, struct sv mark,
		   struct sv reply, int64_t now_s)
{
	buf_reset(&f->value);
	buf_add_sv(&f->value, mark);
	buf_add_c(&f->value, ' ');
	buf_add_sv(&f->value, reply);
	check(f, cache_put(f->cache, key_of(f, server, user), VERIFY_BOUNCE, now_s,
			   buf_sv(&f->value)));
}

void failures_write_out(struct failures *f)
{
	if (cache_write_out(f->cache) != 0)
		check(f, -1);
}
