/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The tree of t/crash/strictfs: files and directories, each as it is now and as a power cut would
 * leave it. A file keeps pages, size and owner when it is synced, a directory its names; nothing
 * else makes anything durable. strictfs.c speaks FUSE, strictfs_tree.c is this.
 */
#ifndef T_CRASH_STRICTFS_H
#define T_CRASH_STRICTFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STRICT_ROOT 1u
#define STRICT_PAGE 4096u

struct strict_name {
	char *name;
	uint64_t node;
	uint64_t cookie; /* grows with each name: where a reader of the directory stands */
};

struct strict_names {
	struct strict_name *v;
	unsigned count, cap;
};

struct strict_meta {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	uint64_t size;
	int64_t mtime_us;
};

struct strict_node {
	struct strict_meta now, kept;
	bool settled; /* has been synced, or its name has */
	bool reached; /* tree_cut(): there is a durable name */
	/* a file: both in whole pages */
	char *data, *kept_data;
	uint8_t *dirty; /* one byte per page: differs from kept_data */
	uint64_t cap;
	/* a directory */
	struct strict_names names, kept_names;
};

/* Node numbers are never used twice. NULL: none of that number, or gone with a cut. */
struct strict_node *tree_node(uint64_t node);
void tree_init(mode_t root_mode, uint64_t seed);

/* 0 or a positive errno, as FUSE wants it. */
int tree_lookup(uint64_t dir, const char *name, uint64_t *node_r);
int tree_make(uint64_t dir, const char *name, const struct strict_meta *meta, uint64_t *node_r);
int tree_remove(uint64_t dir, const char *name, bool directory);
int tree_rename(uint64_t from, const char *name, uint64_t to, const char *to_name, bool no_replace);

void tree_write(struct strict_node *n, uint64_t off, const char *data, size_t len);
void tree_resize(struct strict_node *n, uint64_t size);
void tree_sync(struct strict_node *n);

/* All as it is now is durable: what an orderly end leaves. */
void tree_settle(void);
/* What a power cut leaves: only what was synced, or also a random part of the rest. */
void tree_cut(bool some);
bool tree_coin(void);

#endif
