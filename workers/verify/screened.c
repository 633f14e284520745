/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Clients that postscreen knows; see workers/verify/screened.h. Called by workers/verify/main.c. */
#include "workers/verify/screened.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/verify/cache.h"

#define RECORDS_MAX  2000000u
#define CLEAN_STEPS  1000u
#define WRITE_OUT_S  5
#define NOT_TESTED   1 /* a time that is none: the test was disabled; 0: it was never passed */
#define RECORD_BYTES (PROTO_SCREEN_TESTS * 21 + 1)

/* In the order of the records. */
enum { PREGREET, DNSBL, PIPELINING, NON_SMTP, BARE_NEWLINE };

struct screened {
	const struct params *p;
	struct cache *cache;
	bool enabled[PROTO_SCREEN_TESTS];
	int64_t most_s[PROTO_SCREEN_TESTS]; /* a result lasts no longer */
	int64_t clean_s, write_s;           /* next */
	bool cleaning, failing;
	struct buf value; /* scratch */
};

static int64_t mono_s(void)
{
	return clock_now().ms / 1000;
}

/* Fields that are not there, or no numbers, are of tests that were not made. */
static void parse(struct sv text, int64_t expires_s[PROTO_SCREEN_TESTS])
{
	for (unsigned i = 0; i < PROTO_SCREEN_TESTS; i++) {
		struct sv field = sv_next_part(&text, ';');
		uint64_t v;

		expires_s[i] = str_to_u64(field, INT64_MAX / 2, &v) == 0 ? (int64_t)v : NOT_TESTED;
	}
}

/* Kept until all that is tested for has expired for longer than the retention time: whoever comes
 * back soon is known then, and is tested without being called new. */
static bool keep(const void *ctx, struct sv value, int64_t now_s)
{
	const struct screened *s = ctx;
	int64_t expires_s[PROTO_SCREEN_TESTS];
	int64_t limit_s = now_s - s->p->postscreen_cache_retention_time / 1000;

	parse(value, expires_s);
	for (unsigned i = 0; i < PROTO_SCREEN_TESTS; i++) {
		if (s->enabled[i] && expires_s[i] < limit_s)
			return false;
	}
	return true;
}

struct screened *screened_open(const char *path, const struct params *p)
{
	struct screened *s = xcalloc(1, sizeof(*s));
	const struct cache_kind kind = { "postscreen_cache_map", keep, s };

	s->p = p;
	s->enabled[PREGREET] = p->postscreen_greet_banner[0] != '\0';
	s->enabled[DNSBL] = p->postscreen_dnsbl_sites[0] != '\0';
	s->enabled[PIPELINING] = p->postscreen_pipelining_enable;
	s->enabled[NON_SMTP] = p->postscreen_non_smtp_command_enable;
	s->enabled[BARE_NEWLINE] = p->postscreen_bare_newline_enable;
	s->most_s[PREGREET] = p->postscreen_greet_ttl / 1000;
	s->most_s[DNSBL] = p->postscreen_dnsbl_max_ttl / 1000;
	s->most_s[PIPELINING] = p->postscreen_pipelining_ttl / 1000;
	s->most_s[NON_SMTP] = p->postscreen_non_smtp_command_ttl / 1000;
	s->most_s[BARE_NEWLINE] = p->postscreen_bare_newline_ttl / 1000;
	/* a good score of DNS lists stands for the other tests, too */
	for (unsigned i = 0; i < PROTO_SCREEN_TESTS; i++) {
		if (s->most_s[i] < s->most_s[DNSBL])
			s->most_s[i] = s->most_s[DNSBL];
	}
	s->cache = cache_open_kind(path, RECORDS_MAX, &kind);
	s->clean_s = mono_s() + p->postscreen_cache_cleanup_interval / 1000;
	return s;
}

void screened_close(struct screened **sp)
{
	struct screened *s;

	TAKE(s, *sp);
	if (s == NULL)
		return;
	cache_close(&s->cache);
	buf_fini(&s->value);
	free(s);
}

static void complain(struct screened *s, bool failed)
{
	if (failed && !s->failing)
		log_warn("cache %s: it cannot be written; clients that have passed may be tested "
			 "again",
			 s->p->postscreen_cache_map);
	s->failing = failed;
}

static struct sv key_of(const uint8_t addr[16], char text[INET6_ADDRSTRLEN])
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(addr, mapped, sizeof(mapped)) == 0)
		inet_ntop(AF_INET, addr + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, addr, text, INET6_ADDRSTRLEN);
	return sv_from(text);
}

bool screened_get(struct screened *s, const uint8_t addr[16], int64_t expires_s[PROTO_SCREEN_TESTS])
{
	char text[INET6_ADDRSTRLEN];

	if (cache_get_text(s->cache, key_of(addr, text), &s->value) != 1)
		return false;
	parse(buf_sv(&s->value), expires_s);
	return true;
}

void screened_put(struct screened *s, const uint8_t addr[16],
		  const int64_t expires_s[PROTO_SCREEN_TESTS])
{
	char text[INET6_ADDRSTRLEN], value[RECORD_BYTES];
	int64_t now_s = clock_now_wall().us / 1000000;
	int n = 0;

	for (unsigned i = 0; i < PROTO_SCREEN_TESTS; i++) {
		int64_t v = expires_s[i] > 0 ? expires_s[i] : 0;

		if (v > now_s + s->most_s[i])
			v = now_s + s->most_s[i];
		n += snprintf(value + n, sizeof(value) - (size_t)n, "%s%" PRId64, i > 0 ? ";" : "",
			      v);
	}
	complain(s, cache_put_text(s->cache, key_of(addr, text), (struct sv){ value, (size_t)n },
				   now_s) != 0);
}

static void clean(struct screened *s)
{
	int64_t interval_s = s->p->postscreen_cache_cleanup_interval / 1000;
	uint64_t kept, dropped;

	if (!s->cleaning && (interval_s == 0 || mono_s() < s->clean_s))
		return;
	s->cleaning = cache_clean(s->cache, CLEAN_STEPS, clock_now_wall().us / 1000000, &kept,
				  &dropped) == 0;
	if (s->cleaning)
		return;
	s->clean_s = mono_s() + interval_s;
	log_as("postscreen", LOG_LEVEL_INFO,
	       "cache %s full cleanup: retained=%" PRIu64 " dropped=%" PRIu64 " entries",
	       s->p->postscreen_cache_map, kept, dropped);
}

void screened_tick(struct screened *s)
{
	clean(s);
	if (mono_s() < s->write_s)
		return;
	s->write_s = mono_s() + WRITE_OUT_S;
	if (cache_write_out(s->cache) != 0)
		complain(s, true);
}

uint64_t screened_count(const struct screened *s)
{
	return cache_count(s->cache);
}
