/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What local delivery looks up; see workers/local/local_expand.h. */
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/map.h"
#include "conf/map_text.h"
#include "lib/err.h"
#include "workers/local/local_expand.h"

#define ALIAS_TABLES 16

struct alias_table {
	struct map_list *list; /* of one */
	struct lookup_rights rights;
};

struct lookup {
	struct alias_table aliases[ALIAS_TABLES];
	size_t alias_count;
	const struct params *p;
	struct map_list *mailbox_commands, *mailbox_transports, *fallback_transports;
	struct matchlist *mydestination;
	struct lookup_rights rights; /* default_privs */
	unsigned commands, files, propagates, prepends;
};

struct word_set { /* what a parameter may list: bit i for word i */
	const char *words[3], *text;
};

static const struct word_set alias_words = { { "alias", "forward", "include" },
					     "alias, forward, include" };
static const struct word_set prepend_words = { { "command", "file", "forward" },
					       "command, file, forward" };

static unsigned parse_words(const struct word_set *set, const char *text, const char *name,
			    struct conf_diag *d, int *err)
{
	unsigned flags = 0;

	while (*text != '\0') {
		size_t n = strcspn(text, ", \t\r\n"), i = 0;

		while (i < ARRAY_LEN(set->words) &&
		       !sv_eq_str((struct sv){ text, n }, set->words[i]))
			i++;
		if (i < ARRAY_LEN(set->words)) {
			flags |= 1u << i;
		} else if (n > 0) {
			conf_diag_add(d, true, NULL, 0, "%s: expected %s: %.*s", name, set->text,
				      (int)n, text);
			*err = E_CONFIG;
		}
		text += n + (text[n] != '\0');
	}
	return flags;
}

static int default_rights(const struct conf *c, bool privileged, struct lookup_rights *r,
			  struct conf_diag *d)
{
	const char *name = conf_params(c)->default_privs;
	struct passwd *pw;

	*r = (struct lookup_rights){ geteuid(), getegid() };
	if (!privileged)
		return 0;
	pw = getpwnam(name);
	if (pw == NULL || pw->pw_uid == 0) {
		conf_diag_add(d, true, NULL, 0, "default_privs = %s: %s", name,
			      pw == NULL ? "unknown user" : "must not be root");
		return E_CONFIG;
	}
	*r = (struct lookup_rights){ pw->pw_uid, pw->pw_gid };
	return 0;
}

/* Commands of a table that a user owns are that user's. */
static struct lookup_rights owner_rights(const char *spec, bool privileged,
					 struct lookup_rights otherwise)
{
	const char *path = strchr(spec, ':');
	const struct passwd *pw;
	struct stat st;

	if (!privileged || path == NULL || path[1] != '/' || stat(path + 1, &st) < 0 ||
	    st.st_uid == 0)
		return otherwise;
	pw = getpwuid(st.st_uid);
	return pw == NULL ? otherwise : (struct lookup_rights){ pw->pw_uid, pw->pw_gid };
}

static int open_aliases(const struct conf *c, bool privileged, struct lookup *k,
			struct conf_diag *d)
{
	struct sv rest = sv_from(conf_params(c)->alias_maps), item;
	bool group;
	int err = default_rights(c, privileged, &k->rights, d);

	while (err == 0 && map_item_next(&rest, &item, &group) > 0) {
		struct alias_table *t = &k->aliases[k->alias_count];
		char *spec = xstrndup(item.p, item.len);

		if (k->alias_count == ALIAS_TABLES)
			err = E_LIMIT;
		else
			err = map_list_open(c, spec, "alias_maps", &t->list, d);
		if (err == 0) {
			t->rights = owner_rights(spec, privileged, k->rights);
			k->alias_count++;
		}
		free(spec);
	}
	return err;
}

int lookup_open(const struct conf *c, bool privileged, struct lookup **k_r, struct conf_diag *d)
{
	const struct params *p = conf_params(c);
	struct lookup *k = xcalloc(1, sizeof(*k));
	int err = open_aliases(c, privileged, k, d);

	*k_r = k;
	if (err == 0)
		err = map_list_open(c, p->mailbox_command_maps, "mailbox_command_maps",
				    &k->mailbox_commands, d);
	k->p = p;
	if (err == 0)
		err = map_list_open(c, p->mailbox_transport_maps, "mailbox_transport_maps",
				    &k->mailbox_transports, d);
	if (err == 0)
		err = map_list_open(c, p->fallback_transport_maps, "fallback_transport_maps",
				    &k->fallback_transports, d);
	if (err == 0)
		err = matchlist_open(c, p->mydestination, "mydestination", MATCHLIST_DOMAIN,
				     &k->mydestination, d);
	k->commands = parse_words(&alias_words, p->allow_mail_to_commands, "allow_mail_to_commands",
				  d, &err);
	k->files =
		parse_words(&alias_words, p->allow_mail_to_files, "allow_mail_to_files", d, &err);
	k->prepends = parse_words(&prepend_words, p->prepend_delivered_header,
				  "prepend_delivered_header", d, &err);
	for (size_t i = 0; i < ARRAY_LEN(alias_words.words); i++) {
		if (matchlist_word_in(p->propagate_unmatched_extensions, alias_words.words[i]))
			k->propagates |= 1u << i;
	}
	if (err != 0)
		lookup_close(k_r);
	return err;
}

void lookup_close(struct lookup **kp)
{
	struct lookup *k = *kp;

	if (k == NULL)
		return;
	for (size_t i = 0; i < k->alias_count; i++)
		map_list_close(&k->aliases[i].list);
	map_list_close(&k->mailbox_commands);
	map_list_close(&k->mailbox_transports);
	map_list_close(&k->fallback_transports);
	matchlist_close(&k->mydestination);
	free(k);
	*kp = NULL;
}

enum map_status lookup_alias(struct lookup *k, struct sv name, struct buf *out,
			     struct lookup_rights *rights_r)
{
	enum map_status st = MAP_NOT_FOUND;

	for (size_t i = 0; i < k->alias_count && st == MAP_NOT_FOUND; i++) {
		*rights_r = k->aliases[i].rights;
		st = map_list_get(k->aliases[i].list, name, out);
	}
	return st;
}

int lookup_is_local(struct lookup *k, struct sv domain)
{
	return matchlist_has_domain(k->mydestination, domain);
}

int lookup_find_user(struct sv name, struct lookup_user *u)
{
	char mem[4096];
	struct passwd pw, *found = NULL;

	if (name.len == 0 || memchr(name.p, '/', name.len) != NULL ||
	    !str_copy(u->name, sizeof(u->name), name))
		return 0;
	str_lower(u->name, strlen(u->name));
	int err = getpwnam_r(u->name, &pw, mem, sizeof(mem), &found);

	if (err != 0)
		return -err;
	if (found == NULL || !str_copy(u->home, sizeof(u->home), sv_from(pw.pw_dir)) ||
	    !str_copy(u->shell, sizeof(u->shell), sv_from(pw.pw_shell)))
		return 0;
	u->rights = (struct lookup_rights){ pw.pw_uid, pw.pw_gid };
	return 1;
}

enum map_status lookup_mailbox_command(struct lookup *k, struct sv name, struct buf *out)
{
	return map_list_is_empty(k->mailbox_commands)
		       ? MAP_NOT_FOUND
		       : map_list_get(k->mailbox_commands, name, out);
}

static enum map_status find_transport(struct map_list *l, const char *otherwise, struct sv name,
				      struct buf *out)
{
	enum map_status st = map_list_is_empty(l) ? MAP_NOT_FOUND : map_list_get(l, name, out);

	if (st == MAP_NOT_FOUND) {
		buf_reset(out);
		buf_add_str(out, otherwise);
		st = otherwise[0] != '\0' ? MAP_FOUND : MAP_NOT_FOUND;
	}
	return st;
}

enum map_status lookup_mailbox_transport(struct lookup *k, struct sv name, struct buf *out)
{
	return find_transport(k->mailbox_transports, k->p->mailbox_transport, name, out);
}

enum map_status lookup_fallback_transport(struct lookup *k, struct sv name, struct buf *out)
{
	return find_transport(k->fallback_transports, k->p->fallback_transport, name, out);
}

unsigned lookup_commands(const struct lookup *k)
{
	return k->commands;
}

unsigned lookup_files(const struct lookup *k)
{
	return k->files;
}

unsigned lookup_propagates(const struct lookup *k)
{
	return k->propagates;
}

unsigned lookup_prepends(const struct lookup *k)
{
	return k->prepends;
}

bool lookup_rights_of(const struct lookup *k, uid_t uid, struct lookup_rights *rights_r)
{
	char mem[4096];
	struct passwd pw, *found = NULL;

	if (uid == 0) {
		*rights_r = k->rights;
		return true;
	}
	if (getpwuid_r(uid, &pw, mem, sizeof(mem), &found) != 0 || found == NULL)
		return false;
	*rights_r = (struct lookup_rights){ pw.pw_uid, pw.pw_gid };
	return true;
}

struct lookup_rights lookup_default(const struct lookup *k)
{
	return k->rights;
}
