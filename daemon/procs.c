/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The process table; see daemon/procs.h. */
#include "daemon/procs.h"

#include <unistd.h>

#include "conf/map_watch.h"
#include "conf/pool.h"
#include "conf/sasl.h"
#include "conf/screen_use.h"
#include "conf/spawn.h"
#include "conf/verify_use.h"
#include "lib/util.h"

#define KIB 1024u
#define MIB (1024u * KIB)

static unsigned count_one(const struct conf *c UNUSED)
{
	return 1;
}

static unsigned count_smtp_in(const struct conf *c)
{
	return pool_size(conf_params(c)->smtpd_workers, POOL_SMTP_IN_CORES);
}

static unsigned count_rewrite(const struct conf *c)
{
	return pool_size(conf_params(c)->rewrite_workers, 6);
}

static unsigned count_deliver(const struct conf *c)
{
	return pool_size(conf_params(c)->deliver_workers, 4);
}

static unsigned count_local(const struct conf *c)
{
	return pool_size(conf_params(c)->local_workers, 8);
}

static unsigned count_stats(const struct conf *c)
{
	return conf_params(c)->stats_listen[0] == '\0' ? 0 : 1;
}

static void note_remote(void *ctx, const char *spec UNUSED)
{
	*(bool *)ctx = true;
}

/* None when there are no remote tables. Found out once per configuration: it is asked every turn.
 */
static unsigned count_lookup(const struct conf *c)
{
	static const struct conf *looked_at;
	static bool remote;

	if (c != looked_at) {
		remote = false;
		map_watch_remote(c, note_remote, &remote);
		looked_at = c;
	}
	return remote ? (unsigned)conf_params(c)->lookup_workers : 0;
}

static unsigned count_spawn(const struct conf *c)
{
	return spawn_is_used(c) ? 1 : 0;
}

/* None when nobody logs in: asked every turn, found out once per configuration. */
static unsigned count_auth(const struct conf *c)
{
	static const struct conf *looked_at;
	static bool used;

	if (c != looked_at) {
		used = sasl_is_used(c);
		looked_at = c;
	}
	return used ? (unsigned)conf_params(c)->auth_workers : 0;
}

static unsigned count_sasl_client(const struct conf *c)
{
	static const struct conf *looked_at;
	static bool used;

	if (c != looked_at) {
		used = sasl_client_is_used(c);
		looked_at = c;
	}
	return used ? 1 : 0;
}

static unsigned count_verify(const struct conf *c)
{
	static const struct conf *looked_at;
	static bool used;

	if (c != looked_at) {
		used = verify_is_used(c) || screen_has_cache(c);
		looked_at = c;
	}
	return used ? 1 : 0;
}

const struct proc_class proc_classes[CLASS_COUNT] = {
	[CLASS_SUPERVISOR] = { .name = "supervisor", .count = NULL },
	[CLASS_LOG] = { .name = "log",
			.count = count_one,
			.ring_to = 256 * KIB,
			.ring_from = 256 * KIB,
			.exclusive = true,
			.brief_end = true },
	[CLASS_RESOLVER] = { .name = "resolver",
			     .count = count_one,
			     .ring_to = 256 * KIB,
			     .ring_from = 256 * KIB,
			     .brief_end = true },
	[CLASS_REWRITE] = { .name = "rewrite",
			    .count = count_rewrite,
			    .ring_to = MIB,
			    .ring_from = 4 * MIB,
			    .scheduled = true,
			    .needed = true },
	[CLASS_SMTP_IN] = { .name = "smtpd",
			    .count = count_smtp_in,
			    .ring_to = 256 * KIB,
			    .ring_from = 256 * KIB,
			    .blocks = true,
			    .needed = true,
			    .is_door = true },
	[CLASS_DELIVER] = { .name = "deliver",
			    .count = count_deliver,
			    .ring_to = 2 * MIB,
			    .ring_from = 2 * MIB,
			    .scheduled = true },
	[CLASS_LOCAL] = { .name = "local",
			  .count = count_local,
			  .ring_to = 512 * KIB,
			  .ring_from = 512 * KIB,
			  .blocks = true,
			  .scheduled = true },
	[CLASS_STATS] = { .name = "stats",
			  .count = count_stats,
			  .ring_to = 256 * KIB,
			  .ring_from = 256 * KIB,
			  .exclusive = true,
			  .brief_end = true,
			  .all_regions = true,
			  .is_door = true },
	/* never two: what one has in hand is in doubt for the next */
	[CLASS_PICKUP] = { .name = "pickup",
			   .count = count_one,
			   .ring_to = 256 * KIB,
			   .ring_from = 256 * KIB,
			   .blocks = true,
			   .exclusive = true,
			   .is_door = true },
	[CLASS_LOOKUP] = { .name = "lookup",
			   .count = count_lookup,
			   .ring_to = 256 * KIB,
			   .ring_from = 256 * KIB,
			   .brief_end = true },
	[CLASS_SHOWQ] = { .name = "showq",
			  .count = count_one,
			  .ring_to = 256 * KIB,
			  .ring_from = 256 * KIB,
			  .brief_end = true,
			  .is_door = true },
	/* commands that talk with somebody are finished by the old one */
	[CLASS_SPAWN] = { .name = "spawn",
			  .count = count_spawn,
			  .ring_to = 256 * KIB,
			  .ring_from = 256 * KIB },
	[CLASS_AUTH] = { .name = "auth",
			 .count = count_auth,
			 .ring_to = 256 * KIB,
			 .ring_from = 256 * KIB,
			 .brief_end = true },
	/* its file has one owner */
	[CLASS_VERIFY] = { .name = "verify",
			   .count = count_verify,
			   .ring_to = 256 * KIB,
			   .ring_from = 256 * KIB,
			   .blocks = true,
			   .exclusive = true,
			   .brief_end = true },
	/* its files have one owner */
	[CLASS_SASL_CLIENT] = { .name = "saslclient",
				.count = count_sasl_client,
				.ring_to = 256 * KIB,
				.ring_from = 256 * KIB,
				.exclusive = true,
				.brief_end = true },
};

const struct proc_link proc_links[] = {
	{ .a = CLASS_SMTP_IN,
	  .b = CLASS_REWRITE,
	  .ring_ab = MIB,
	  .ring_ba = MIB,
	  .give_blocks = true,
	  .same_generation = true },
	{ .a = CLASS_SMTP_IN,
	  .b = CLASS_RESOLVER,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 512 * KIB,
	  .same_generation = true },
	{ .a = CLASS_PICKUP,
	  .b = CLASS_REWRITE,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 256 * KIB,
	  .give_blocks = true,
	  .same_generation = true },
	{ .a = CLASS_LOCAL,
	  .b = CLASS_REWRITE,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 256 * KIB,
	  .give_blocks = true,
	  .same_generation = true },
	{ .a = CLASS_DELIVER,
	  .b = CLASS_RESOLVER,
	  .ring_ab = 512 * KIB,
	  .ring_ba = MIB,
	  .same_generation = true },
	{ .a = CLASS_SMTP_IN,
	  .b = CLASS_LOOKUP,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 512 * KIB,
	  .same_generation = true },
	{ .a = CLASS_REWRITE,
	  .b = CLASS_LOOKUP,
	  .ring_ab = 512 * KIB,
	  .ring_ba = 512 * KIB,
	  .same_generation = true },
	{ .a = CLASS_REWRITE, /* hosts of milters */
	  .b = CLASS_RESOLVER,
	  .ring_ab = 128 * KIB,
	  .ring_ba = 256 * KIB,
	  .same_generation = true },
	{ .a = CLASS_LOCAL,
	  .b = CLASS_LOOKUP,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 512 * KIB,
	  .same_generation = true },
	{ .a = CLASS_DELIVER,
	  .b = CLASS_LOOKUP,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 512 * KIB,
	  .same_generation = true },
	{ .a = CLASS_SMTP_IN,
	  .b = CLASS_AUTH,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 256 * KIB,
	  .same_generation = true },
	/* there is one at a time: sessions of any generation ask it */
	{ .a = CLASS_SMTP_IN, .b = CLASS_VERIFY, .ring_ab = 256 * KIB, .ring_ba = 256 * KIB },
	{ .a = CLASS_DELIVER, .b = CLASS_SASL_CLIENT, .ring_ab = 256 * KIB, .ring_ba = 256 * KIB },
	{ .a = CLASS_VERIFY,
	  .b = CLASS_REWRITE,
	  .ring_ab = 256 * KIB,
	  .ring_ba = 256 * KIB,
	  .give_blocks = true,
	  .every_generation = true }, /* who is about to end may have a result to tell */
};

const unsigned proc_link_count = ARRAY_LEN(proc_links);

enum proc_blame proc_blame(enum worker_class by, enum worker_class about)
{
	for (unsigned l = 0; l < proc_link_count; l++) {
		if (proc_links[l].a == about && proc_links[l].b == by)
			return BLAME_ACCUSED;
		if (proc_links[l].a == by && proc_links[l].b == about)
			return BLAME_ACCUSER;
	}
	return BLAME_NOBODY;
}

enum proc_blame proc_judge(enum worker_class by, uint32_t by_life, struct proc_repute *by_r,
			   enum worker_class about, struct proc_repute *about_r, int64_t now_ms,
			   bool *both_r)
{
	enum proc_blame blame = proc_blame(by, about);

	*both_r = false;
	if (blame == BLAME_ACCUSED) {
		if (by_r->accusations == 0 || now_ms - by_r->since_ms > PROC_ACCUSE_MS) {
			by_r->accusations = 0;
			by_r->since_ms = now_ms;
		}
		*both_r = ++by_r->accusations > PROC_ACCUSE_MAX;
	} else if (blame == BLAME_ACCUSER) {
		if (about_r->accused_by != 0 && about_r->accused_by != by_life)
			blame = BLAME_ACCUSED;
		else
			about_r->accused_by = by_life;
	}
	return blame;
}
