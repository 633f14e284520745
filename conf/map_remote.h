/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tables that another process has to ask (ldap, mysql, socketmap ...). A look-up in one never
 * blocks an event loop: it is answered from a memo, which holds what is known for one piece of work
 * (an evaluation of restrictions, a message, a queue entry). What the memo lacks is noted in it and
 * the look-up ends in MAP_ERROR; then the caller has the missing answers fetched
 * (workers/tables/client.h) and does its piece of work again from the start, with the same memo,
 * until nothing is missing:
 *
 *	map_memo_enter(memo);
 *	... the work; what it finds out is worth nothing when something is missing ...
 *	if (map_memo_leave())
 *		fetch, and come again later
 *
 * A memo lives as long as its piece of work, so that a table is asked as often as Postfix asks it.
 */
#ifndef PH_CONF_MAP_REMOTE_H
#define PH_CONF_MAP_REMOTE_H

#include "conf/map.h"

/* So much may be remembered in one memo; further look-ups are errors. */
#define MAP_MEMO_MAX_BYTES (64u << 20)

struct map_memo;

struct map_memo *map_memo_new(void);
void map_memo_free(struct map_memo **m); /* NULL is allowed */
/* Memos do not nest. What was missing before and is not answered yet stays missing. */
void map_memo_enter(struct map_memo *m);
/* True: answers are missing, and what was done since map_memo_enter() must be done again. */
bool map_memo_leave(void);
/* Is something missing in the memo that is entered? Then an error is none yet: no reply, no log
 * line, nothing that cannot be done again. False without a memo. */
bool map_memo_is_missing(void);
bool map_memo_is_entered(void);

/* Ask without a struct map: what the lookup worker answers besides tables (policy services). `spec`
 * as in map_memo_missing(). Whoever may ask says so at the start. */
enum map_status map_remote_ask(const char *spec, struct sv key, struct buf *out);
void map_remote_will_ask(void);

/* What is missing, in the order of asking. */
size_t map_memo_missing_count(const struct map_memo *m);
/* spec_r: "type:name". Both stay until the memo is freed. */
void map_memo_missing(const struct map_memo *m, size_t index, const char **spec_r,
		      struct sv *key_r);
void map_memo_answer(struct map_memo *m, size_t index, enum map_status status, struct sv value);
/* All that was missing has its answer now; indexes begin anew. */
void map_memo_answered(struct map_memo *m);

/* Has this process opened a table that needs a memo? */
bool map_remote_is_used(void);
/* Why the tables of this parameter may not be remote ones, because nothing can wait for an answer
 * there; NULL: they may. Whoever opens tables for a parameter that is not refused looks them up
 * within a memo. */
const char *map_remote_refusal(const char *param_name);

/* Programs that may block: look-ups outside a memo are asked by this function. */
typedef enum map_status (*map_remote_fn)(void *ctx, const char *spec, struct sv key,
					 struct buf *out);
void map_remote_set_direct(map_remote_fn fn, void *ctx);

#endif
