/* SPDX-License-Identifier: GPL-3.0-or-later */
/* static, fail, environ and unix tables; see conf/map.h. Called by map.c only. */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/map_impl.h"
#include "lib/err.h"
#include "lib/hash.h"

int map_plain_open(struct map_open *o)
{
	o->impl = xstrdup(o->name);
	return 0;
}

/* static:text or static:{text with spaces} */
int map_static_open(struct map_open *o)
{
	struct sv text = o->inline_text.p != NULL ? sv_trim(o->inline_text) : sv_from(o->name);

	o->impl = xstrndup(text.p, text.len);
	return 0;
}

enum map_status map_static_get(void *impl, struct sv key, struct buf *out)
{
	(void)key;
	return buf_add_str(out, impl) ? MAP_FOUND : MAP_ERROR;
}

enum map_status map_fail_get(void *impl, struct sv key, struct buf *out)
{
	(void)impl;
	(void)key;
	(void)out;
	return MAP_ERROR;
}

enum map_status map_environ_get(void *impl, struct sv key, struct buf *out)
{
	char name[256];

	(void)impl;
	if (memchr(key.p, '\0', key.len) != NULL || !str_copy(name, sizeof(name), key))
		return MAP_NOT_FOUND;
	const char *value = getenv(name);

	if (value == NULL)
		return MAP_NOT_FOUND;
	return buf_add_str(out, value) ? MAP_FOUND : MAP_ERROR;
}

/* ---- unix:passwd.byname, unix:group.byname ---- */

/*
 * A sandboxed worker cannot read /etc/passwd nor ask a name service, and "no such user" must not be
 * concluded from that. So the file is read when the table is opened; what it does not hold is asked
 * of the system's name service as long as the file can still be opened.
 */
struct unix_map {
	bool group;
	struct strmap *names; /* to a malloc'd line */
};

static bool no_more_files;

void map_no_more_files(void)
{
	no_more_files = true;
}

static const char *source_of(bool group)
{
	return group ? "/etc/group" : "/etc/passwd";
}

void map_unix_close(void *impl)
{
	struct unix_map *u = impl;
	struct sv key;
	size_t pos = 0;
	void *line;

	while (strmap_next(u->names, &pos, &key, &line))
		free(line);
	strmap_free(&u->names);
	free(u);
}

static char *passwd_line(const struct passwd *pw)
{
	return xasprintf("%s:%s:%ld:%ld:%s:%s:%s", pw->pw_name, pw->pw_passwd, (long)pw->pw_uid,
			 (long)pw->pw_gid, pw->pw_gecos, pw->pw_dir, pw->pw_shell);
}

static char *group_line(const struct group *gr)
{
	struct buf b = BUF_INIT;

	buf_printf(&b, "%s:%s:%ld:", gr->gr_name, gr->gr_passwd, (long)gr->gr_gid);
	for (char **m = gr->gr_mem; *m != NULL; m++)
		buf_printf(&b, "%s%s", m == gr->gr_mem ? "" : ",", *m);
	return b.p;
}

static void read_names(struct unix_map *u, FILE *f)
{
	const struct passwd *pw;
	const struct group *gr;

	while (!u->group && (pw = fgetpwent(f)) != NULL)
		free(strmap_put(u->names, sv_from(pw->pw_name), passwd_line(pw)));
	while (u->group && (gr = fgetgrent(f)) != NULL)
		free(strmap_put(u->names, sv_from(gr->gr_name), group_line(gr)));
}

int map_unix_open(struct map_open *o)
{
	bool group = strcmp(o->name, "group.byname") == 0;

	if (!group && strcmp(o->name, "passwd.byname") != 0)
		return map_open_fail(o, E_CONFIG, "known are passwd.byname and group.byname");
	FILE *f = fopen(source_of(group), "re");

	if (f == NULL)
		return map_open_fail(o, err_errno(), "cannot read %s", source_of(group));
	struct unix_map *u = xcalloc(1, sizeof(*u));

	u->group = group;
	u->names = strmap_new();
	read_names(u, f);
	fclose(f);
	o->impl = u;
	o->path = xstrdup(source_of(group));
	return 0;
}

/* Ask the name service. *line_r NULL = it knows no such name. */
static enum map_status ask_system(bool group, const char *name, char **line_r)
{
	char mem[16384];
	struct passwd pw, *pw_found = NULL;
	struct group gr, *gr_found = NULL;
	int err = group ? getgrnam_r(name, &gr, mem, sizeof(mem), &gr_found)
			: getpwnam_r(name, &pw, mem, sizeof(mem), &pw_found);

	*line_r = NULL;
	if (pw_found != NULL)
		*line_r = passwd_line(pw_found);
	else if (gr_found != NULL)
		*line_r = group_line(gr_found);
	else if (err != 0 && err != ENOENT && err != ESRCH)
		return MAP_ERROR;
	return *line_r == NULL ? MAP_NOT_FOUND : MAP_FOUND;
}

enum map_status map_unix_get(void *impl, struct sv key, struct buf *out)
{
	struct unix_map *u = impl;
	const char *known = strmap_get(u->names, key);
	char name[256];
	char *line;

	if (known != NULL)
		return buf_add_str(out, known) ? MAP_FOUND : MAP_ERROR;
	if (no_more_files || key.len == 0 || memchr(key.p, '\0', key.len) != NULL ||
	    !str_copy(name, sizeof(name), key))
		return MAP_NOT_FOUND;
	FILE *f = fopen(source_of(u->group), "re");

	if (f == NULL)
		return MAP_NOT_FOUND;
	fclose(f);
	enum map_status status = ask_system(u->group, name, &line);

	if (status == MAP_FOUND && !buf_add_str(out, line))
		status = MAP_ERROR;
	free(line);
	return status;
}
