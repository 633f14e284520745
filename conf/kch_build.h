/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writing compiled tables (NAME.kch). A table is never changed in place, because readers map it
 * without a lock: a new file is built beside it, synced, and renamed over it. Used by postmap.
 */
#ifndef PH_CONF_KCH_BUILD_H
#define PH_CONF_KCH_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/str.h"

struct kch_build;

enum kch_dup { KCH_DUP_KEEP, KCH_DUP_REPLACE };

/* Begin a new table for `name` (without .kch). With `keep_old` it starts as a copy of the present
 * one, which is locked against other writers until the end. On failure *why_r (xmalloc'd) says
 * what. */
int kch_build_begin(const char *name, size_t expected, mode_t mode, bool keep_old,
		    struct kch_build **b_r, char **why_r);
/* 1 = added or replaced, 0 = the key is there already and stays, negative = failure. */
int kch_build_add(struct kch_build *b, struct sv key, struct sv value, enum kch_dup dup);
/* 1 = removed, 0 = no such key. */
int kch_build_remove(struct kch_build *b, struct sv key);
/* Sync and rename: on return 0 the new table is the one that readers find, also after a crash. */
int kch_build_commit(struct kch_build **b, char **why_r);
void kch_build_abort(struct kch_build **b);

/* All records in storage order. `fn` returns false to stop. */
typedef bool (*kch_each_fn)(void *ctx, struct sv key, struct sv value);
int kch_each(const char *name, kch_each_fn fn, void *ctx, char **why_r);

#endif
