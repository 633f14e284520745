/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lookup tables. map_open() takes "type:name" (or "type:{inline text}") and returns a handle that
 * the process shares by name. Tables are opened before the worker's sandbox closes.
 * Local types answer at once; remote ones (ldap, mysql ...) from what was asked of another process
 * before (conf/map_remote.h).
 */
#ifndef PH_CONF_MAP_H
#define PH_CONF_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf/conf.h"
#include "lib/buf.h"
#include "lib/str.h"

struct map;

enum map_status {
	MAP_FOUND,
	MAP_NOT_FOUND,
	MAP_ERROR, /* the table could not be asked: defer, never let through, never reject for good
		    */
};

/* `value` is valid during the callback only. */
typedef void (*map_fn)(void *ctx, enum map_status status, struct sv value);

/* Open (or share) a table. On failure returns the error, and adds a diagnostic naming the table and
 * what is wrong. A file that is missing or unreadable is no failure: it gives a warning and a table
 * that answers MAP_ERROR until map_refresh_all() finds the file usable. `c` supplies $names inside
 * inline text. */
int map_open(const struct conf *c, const char *spec, struct map **map_r, struct conf_diag *d);
/* The same, but a file that cannot be used is an error too; for postmap. */
int map_open_strict(const struct conf *c, const char *spec, struct map **map_r,
		    struct conf_diag *d);
void map_close(struct map **m);
/* From here on this process cannot open files: unix: tables have what they read when they were
 * opened, and do not try. */
void map_no_more_files(void);
const char *map_spec(const struct map *m); /* "hash:/etc/postfix/access" */
/* Look at the files of all open tables and read changed ones again. A table that can no longer be
 * read (a sandbox, a mistake in the new file) keeps answering from what it has. `changed` (may be
 * NULL) is called for each table whose file is another one than before: err 0 = the new one is in
 * use, else the old one still is. Returns how many changed. Costs one stat per file. */
typedef void (*map_changed_fn)(void *ctx, const struct map *m, int err, const char *why);
unsigned map_refresh_all(map_changed_fn changed, void *ctx);
/* Is `type` ("hash") one this build can open, or at least a known one? */
bool map_type_is_available(const char *type);
bool map_type_is_known(const char *type);
/* The available types, in order, NULL at the end (postconf -m). */
const char *map_type_name(unsigned index);
/* Tables with fixed keys (hash, texthash, cidr ... ) as against patterns (regexp, pcre, static):
 * only the former are asked for parent domains and parts of addresses. */
bool map_has_fixed_keys(const struct map *m);
/* Must another process be asked (conf/map_remote.h)? */
bool map_is_remote(const struct map *m);
/* Keys are folded to lower case by table types that fold in Postfix (not regexp, pcre, cidr). */
void map_lookup(struct map *m, struct sv key, map_fn fn, void *ctx);
/* The answer at once, replacing the contents of out. Remote tables: see conf/map_remote.h. */
enum map_status map_get(struct map *m, struct sv key, struct buf *out);

/* Look-ups in tables of this process that ended in MAP_ERROR, and how often a table began to fail,
 * since the last call. The log has one line each time. */
void map_troubles(uint64_t *failures_r, uint64_t *outages_r);

/* A parameter's list of tables ("hash:/a, pcre:/b"): asked in order, first hit wins. */
struct map_list;
int map_list_open(const struct conf *c, const char *specs, const char *param_name,
		  struct map_list **l_r, struct conf_diag *d);
void map_list_close(struct map_list **l);
/* Servers (tcp, socketmap) are asked for addresses as they are written: as Postfix's cleanup asks,
 * where smtpd asks in lower case. An address of SRS goes back to the sender whose letters are in
 * it. NULL = nothing to do. */
void map_list_keep_case(struct map_list *l);
bool map_list_is_empty(const struct map_list *l);
bool map_list_is_remote(const struct map_list *l); /* has a remote table */
enum map_status map_list_get(struct map_list *l, struct sv key, struct buf *out);
/* Postfix's address search: user+ext@domain, user@domain, (user+ext, user when `bare`), @domain, in
 * Postfix's order; the unmatched extension with its delimiter in *ext_r ("+ext", a view into addr,
 * empty when none). `addr` is in internal form (lib/mailaddr.h); tables are asked for the external
 * form first, and for the internal one where that differs. Tables of patterns see the whole address
 * only. `delimiters` is recipient_delimiter. */
enum map_status map_list_get_addr(struct map_list *l, struct sv addr, const char *delimiters,
				  bool bare, struct buf *out, struct sv *ext_r);
/* transport_maps: user+ext@domain, user@domain, domain, .parent domains (with `parents`: parent
 * domains without the dot), "*", in this order. `rcpt` is in internal form and has a domain. */
enum map_status map_list_get_transport(struct map_list *l, struct sv rcpt, const char *delimiters,
				       bool parents, struct buf *out);

/* Match lists: mynetworks, mydestination, relay_domains ...: names, .parents, networks with
 * prefix length, type:table, /file, !negation, in order, first match decides. */
enum matchlist_kind { MATCHLIST_DOMAIN, MATCHLIST_ADDRESS /* IP */, MATCHLIST_STRING };
struct matchlist;
/* When param_name stands in the configuration's parent_domain_matches_subdomains, "example.com"
 * matches its subdomains, too; otherwise only ".example.com" does. /file patterns are read here,
 * once. */
int matchlist_open(const struct conf *c, const char *text, const char *param_name,
		   enum matchlist_kind kind, struct matchlist **l_r, struct conf_diag *d);
void matchlist_close(struct matchlist **l);
bool matchlist_is_remote(const struct matchlist *l); /* has a remote table */
/* 1 = matches, 0 = does not, negative = a table could not be asked (MAP_ERROR). */
int matchlist_has_domain(struct matchlist *l, struct sv domain);
int matchlist_has_ip(struct matchlist *l, const char *ip); /* text form, IPv4-mapped as IPv4 */
/* mynetworks and its kin: each pattern against the verified name ("unknown" if none) or the
 * address. */
int matchlist_has_client(struct matchlist *l, struct sv name, const char *ip);
int matchlist_has_string(struct matchlist *l, struct sv s);
/* Does text stand in a plain list of words (parent_domain_matches_subdomains)? */
bool matchlist_word_in(const char *list, const char *word);

#endif
