/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Behind conf/map.h: what a table type is. Only conf/map*.c include it. */
#ifndef PH_CONF_MAP_IMPL_H
#define PH_CONF_MAP_IMPL_H

#include "conf/map.h"
#include "conf/map_text.h"

struct map_open { /* what a type's open() is given, and gives back */
	const char *type;
	const char *name;      /* behind "type:" */
	struct sv inline_text; /* inside "{...}"; p is NULL when the name is no inline text */
	const struct conf *c;  /* may be NULL */
	struct conf_diag *d;   /* may be NULL */
	void *impl;            /* out */
	bool strict;           /* a file that cannot be used is an error, not a warning */
	char *path; /* out: malloc'd name of the file to watch, NULL when there is none */
};

typedef bool (*map_each_fn)(void *ctx, struct sv key, struct sv value); /* false = enough */

struct map_type {
	const char *name;
	bool fold;    /* keys are folded to lower case */
	bool pattern; /* no fixed keys */
	/* Errors add a diagnostic. */
	int (*open)(struct map_open *o);
	/* Appends the value to out. */
	enum map_status (*get)(void *impl, struct sv key, struct buf *out);
	void (*close)(void *impl);
	bool (*fixed)(const void *impl);  /* tables of tables: instead of !pattern */
	bool (*remote)(const void *impl); /* tables of tables: is one of them remote? */
	void (*each)(const void *impl, map_each_fn fn, void *ctx); /* NULL: cannot be listed */
};

/* map_hash.c */
int map_texthash_open(struct map_open *o);
int map_inline_open(struct map_open *o);
enum map_status map_hash_get(void *impl, struct sv key, struct buf *out);
void map_hash_close(void *impl);
void map_hash_each(const void *impl, map_each_fn fn, void *ctx);
/* map_simple.c */
int map_static_open(struct map_open *o);
enum map_status map_static_get(void *impl, struct sv key, struct buf *out);
int map_plain_open(struct map_open *o); /* keeps the name only */
enum map_status map_fail_get(void *impl, struct sv key, struct buf *out);
enum map_status map_environ_get(void *impl, struct sv key, struct buf *out);
int map_unix_open(struct map_open *o);
enum map_status map_unix_get(void *impl, struct sv key, struct buf *out);
void map_unix_close(void *impl);
/* map_kch.c */
int map_kch_open(struct map_open *o);
enum map_status map_kch_get(void *impl, struct sv key, struct buf *out);
void map_kch_close(void *impl);
/* map_regex.c */
int map_pcre_open(struct map_open *o);
int map_regexp_open(struct map_open *o);
enum map_status map_regex_get(void *impl, struct sv key, struct buf *out);
void map_regex_close(void *impl);
/* map_cidr.c */
int map_cidr_open(struct map_open *o);
enum map_status map_cidr_get(void *impl, struct sv key, struct buf *out);
void map_cidr_close(void *impl);
/* map_multi.c */
int map_multi_open(struct map_open *o);
enum map_status map_union_get(void *impl, struct sv key, struct buf *out);
enum map_status map_pipe_get(void *impl, struct sv key, struct buf *out);
void map_multi_close(void *impl);
bool map_multi_fixed(const void *impl);
bool map_multi_remote(const void *impl);
int map_rand_open(struct map_open *o);
enum map_status map_rand_get(void *impl, struct sv key, struct buf *out);
void map_rand_close(void *impl);

/* map_remote.c */
int map_remote_open(struct map_open *o);
enum map_status map_remote_get(void *impl, struct sv key, struct buf *out);

/* What a table type reads, for map_watch.c. REMOTE: a file of parameters, when the name is a path.
 */
enum map_source {
	MAP_SOURCE_NONE,
	MAP_SOURCE_TEXT,
	MAP_SOURCE_COMPILED,
	MAP_SOURCE_TABLES,
	MAP_SOURCE_REMOTE
};
enum map_source map_type_source(const char *type); /* NONE for unknown types */

/* map_get without folding the key (postmap -f). */
enum map_status map_get_as_is(struct map *m, struct sv key, struct buf *out);
/* map_get that leaves the key to tables of whole keys (tcp, socketmap) as it is. */
enum map_status map_get_cased(struct map *m, struct sv key, struct buf *out);

/* All entries of a table whose type can list them (postmap -s); false when it cannot. */
bool map_each(const struct map *m, map_each_fn fn, void *ctx);

/* An error naming the table. Returns err. */
int map_open_fail(const struct map_open *o, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);
void map_open_warn(const struct map_open *o, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Read the text of a table: the file (o->path is set) or the inline text. `data` holds the file and
 * outlives the iteration; finish with map_text_fini() and buf_fini(data). */
int map_open_text(struct map_open *o, struct buf *data, struct map_text *t);

/* ---- rules with if ... endif: regexp, pcre, cidr ---- */

enum map_rule_kind { MAP_RULE_PLAIN, MAP_RULE_IF, MAP_RULE_ENDIF };

struct map_rule_head {
	enum map_rule_kind kind;
	bool negate;
	struct sv rest; /* pattern and result */
};
/* Strip "if", "!", recognise "endif". */
void map_rule_parse(struct sv line, struct map_rule_head *h);

/* ---- networks ---- */

struct map_cidr {
	unsigned char addr[16];
	int family; /* AF_INET or AF_INET6 */
	unsigned bits;
};
/* "10.0.0.0/8", "192.0.2.1", "[2001:db8::]/32", "2001:db8::/32". E_SYNTAX; E_INVAL when host bits
 * are set: *fixed (64 bytes) then says what was probably meant. */
int map_cidr_parse(struct sv text, struct map_cidr *c, char fixed[64]);
/* An address without mask into c (all bits); IPv4-mapped becomes IPv4. */
bool map_cidr_parse_addr(struct sv text, struct map_cidr *c);
bool map_cidr_match(const struct map_cidr *net, const struct map_cidr *addr);

#endif
