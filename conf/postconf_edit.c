/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postconf -e, -X and -#: change main.cf or master.cf in place. Comments, empty lines and entries
 * that are not concerned stay as they are. The new text goes to a temporary file beside the old
 * one, is synced, and takes its name; so a reader sees the old file or the new one. Two editors at
 * a time take turns by a lock on the directory.
 */
#include "conf/postconf.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

enum action { KEEP, REPLACE, DELETE, COMMENT };

/* What to do with an entry, given its logical line; REPLACE appends the new text to out. */
typedef enum action (*decide_fn)(void *ctx, struct sv logical, struct buf *out);

struct edit {
	char *path;
	int dir_fd;
	struct stat st;
	struct buf old, new;
};

/* ---- the file ---- */

static void edit_open(struct edit *e, const char *dir, const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);
	int err;

	*e = (struct edit){ .dir_fd = -1 };
	/* A symbolic link stays one; its target is replaced. */
	e->path = realpath(path, NULL);
	if (e->path == NULL)
		die("open %s: %s", path, err_str(err_errno()));
	free(path);
	*strrchr(e->path, '/') = 0;
	e->dir_fd = open(e->path[0] != 0 ? e->path : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	e->path[strlen(e->path)] = '/';
	if (e->dir_fd < 0 || flock(e->dir_fd, LOCK_EX) != 0)
		die("lock the directory of %s: %s", e->path, err_str(err_errno()));
	if (stat(e->path, &e->st) != 0)
		die("open %s: %s", e->path, err_str(err_errno()));
	err = io_read_file(e->path, CONF_FILE_LIMIT_BYTES, &e->old);
	if (err != 0)
		die("read %s: %s", e->path, err_str(err));
}

static void edit_fail(const char *tmp, const char *what)
{
	int err = err_errno();

	unlink(tmp);
	die("%s %s: %s", what, tmp, err_str(err));
}

static void edit_close(struct edit *e)
{
	char *tmp = xasprintf("%s.tmp", e->path);
	int fd;

	/* Under the lock a file of this name is left from a run that was cut off. */
	unlink(tmp);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		edit_fail(tmp, "create");
	if (geteuid() == 0 && fchown(fd, e->st.st_uid, e->st.st_gid) != 0)
		edit_fail(tmp, "change the owner of");
	if (fchmod(fd, e->st.st_mode & 07777) != 0)
		edit_fail(tmp, "change the permissions of");
	if (io_write_all(fd, e->new.p, e->new.len) != 0 || fsync(fd) != 0)
		edit_fail(tmp, "write");
	io_close(&fd);
	if (rename(tmp, e->path) != 0)
		edit_fail(tmp, "rename");
	if (fsync(e->dir_fd) != 0)
		die("sync the directory of %s: %s", e->path, err_str(err_errno()));
	io_close(&e->dir_fd);
	free(tmp);
	free(e->path);
	buf_fini(&e->old);
	buf_fini(&e->new);
}

/* ---- lines ---- */

static bool is_comment(struct sv line)
{
	struct sv body = sv_trim(line);

	return body.len == 0 || body.p[0] == '#';
}

/* The logical line that begins at `line`, with the continuations that follow. */
static void gather(struct sv line, struct sv rest, struct buf *logical)
{
	buf_reset(logical);
	buf_add_sv(logical, sv_trim(line));
	while (rest.len > 0) {
		struct sv next = sv_next_part(&rest, '\n');

		if (is_comment(next))
			continue;
		if (!ascii_is_space(next.p[0]))
			return;
		buf_add_c(logical, ' ');
		buf_add_sv(logical, sv_trim(next));
	}
}

static void put_line(struct buf *out, enum action action, struct sv line)
{
	if (action == REPLACE || action == DELETE)
		return;
	if (action == COMMENT)
		buf_add_c(out, '#');
	buf_add_sv(out, line);
	buf_add_c(out, '\n');
}

static void edit_lines(struct edit *e, decide_fn decide, void *ctx)
{
	struct sv rest = buf_sv(&e->old);
	struct buf logical = BUF_INIT;
	enum action action = KEEP;

	while (rest.len > 0) {
		struct sv line = sv_next_part(&rest, '\n');

		if (is_comment(line)) {
			put_line(&e->new, KEEP, line);
			continue;
		}
		if (!ascii_is_space(line.p[0])) {
			gather(line, rest, &logical);
			action = decide(ctx, buf_sv(&logical), &e->new);
		}
		put_line(&e->new, action, line);
	}
	buf_fini(&logical);
}

/* ---- main.cf ---- */

struct main_change {
	struct sv name, value;
	unsigned seen;
};

struct main_edit {
	struct main_change *changes;
	unsigned count;
	enum edit_what what;
	const char *dir; /* as given */
};

static void read_change(const struct postconf *pc, enum edit_what what, unsigned i,
			struct main_change *change)
{
	const char *text = pc->names[i];
	const char *why = NULL;

	*change = (struct main_change){ .name = sv_trim(sv_from(text)) };
	if (strpbrk(text, "\n\r") != NULL)
		die("-e, -X, or -# accepts no multi-line input");
	if (change->name.len > 0 && change->name.p[0] == '#')
		die("-e, -X, or -# accepts no comment input");
	if (what == EDIT_SET)
		why = conf_split_nameval(sv_from(text), &change->name, &change->value);
	else if (strchr(text, '=') != NULL)
		die("-X or -# requires names without value: \"%s\"", text);
	if (why != NULL)
		die("%s: \"%s\"", why, text);
}

static void put_entry(struct buf *out, const struct main_change *change)
{
	buf_add_sv(out, change->name);
	buf_add_str(out, " = ");
	buf_add_sv(out, change->value);
	buf_add_c(out, '\n');
}

static enum action decide_main(void *ctx, struct sv logical, struct buf *out)
{
	struct main_edit *m = ctx;
	struct main_change *change = NULL;
	struct sv name, value;

	if (conf_split_nameval(logical, &name, &value) != NULL)
		return KEEP;
	/* Of two changes of one name the last one counts. */
	for (unsigned i = 0; i < m->count; i++) {
		if (sv_eq(m->changes[i].name, name))
			change = &m->changes[i];
	}
	if (change == NULL)
		return KEEP;
	if (change->seen++ == 1)
		log_warn("%s/main.cf: multiple entries for \"%.*s\"", m->dir, (int)name.len,
			 name.p);
	if (m->what != EDIT_SET)
		return m->what == EDIT_DELETE ? DELETE : COMMENT;
	put_entry(out, change);
	return REPLACE;
}

static bool is_overtaken(const struct main_edit *m, unsigned idx)
{
	for (unsigned i = idx + 1; i < m->count; i++) {
		if (sv_eq(m->changes[i].name, m->changes[idx].name))
			return true;
	}
	return false;
}

int edit_main(const struct postconf *pc, enum edit_what what)
{
	struct main_edit m = { .count = pc->name_count, .what = what, .dir = pc->dir };
	struct edit e;

	m.changes = xcalloc(pc->name_count + 1, sizeof(*m.changes));
	for (unsigned i = 0; i < pc->name_count; i++)
		read_change(pc, what, i, &m.changes[i]);
	for (unsigned i = 0; i < m.count; i++) {
		if (is_overtaken(&m, i))
			log_warn("ignoring earlier request: '%.*s = %.*s'",
				 (int)m.changes[i].name.len, m.changes[i].name.p,
				 (int)m.changes[i].value.len, m.changes[i].value.p);
	}
	edit_open(&e, pc->dir, "main.cf");
	edit_lines(&e, decide_main, &m);
	for (unsigned i = 0; i < m.count && what == EDIT_SET; i++) {
		if (m.changes[i].seen == 0 && !is_overtaken(&m, i))
			put_entry(&e.new, &m.changes[i]);
	}
	edit_close(&e);
	free(m.changes);
	return 0;
}

/* ---- master.cf ---- */

struct master_change {
	struct sv service, type, item; /* item: field or parameter */
	struct sv value;
	struct service entry; /* -M */
	unsigned seen;
};

struct master_edit {
	struct postconf pc;
	struct master_change *changes;
	unsigned count;
	enum edit_what what;
	/* Change s as `change` says; DELETE and COMMENT are for the whole entry. */
	enum action (*apply)(struct master_edit *m, struct service *s,
			     const struct master_change *change);
};

static void die_with(struct conf_diag *d)
{
	struct sv text = sv_trim(buf_sv(&d->text));

	die("%.*s", (int)text.len, text.p);
}

static void parse_or_die(struct master_edit *m, struct sv text, struct service *s)
{
	struct conf_diag d;

	conf_diag_init(&d);
	if (text.len == 0)
		die("an entry of master.cf has 8 fields");
	if (!mastercf_parse_line(m->pc.conf, &d, text, 0, s))
		die_with(&d);
	conf_diag_fini(&d);
}

static bool is_it(const struct master_change *change, const struct service *s)
{
	return (sv_eq(change->service, SV("*")) || sv_eq_str(change->service, s->pub.name)) &&
	       (sv_eq(change->type, SV("*")) || sv_eq_str(change->type, s->type_text));
}

static enum action decide_master(void *ctx, struct sv logical, struct buf *out)
{
	struct master_edit *m = ctx;
	enum action action = KEEP;
	struct conf_diag d;
	struct service s;

	conf_diag_init(&d);
	if (mastercf_parse_line(m->pc.conf, &d, logical, 0, &s)) {
		/* Taken before a change can rename the service. */
		struct service as_it_was = s;

		for (unsigned i = 0; i < m->count; i++) {
			if (!is_it(&m->changes[i], &as_it_was))
				continue;
			m->changes[i].seen++;
			action = m->apply(m, &s, &m->changes[i]);
		}
	}
	if (action == REPLACE) {
		master_format(&s, true, NULL, out);
		buf_add_c(out, '\n');
	}
	conf_diag_fini(&d);
	return action;
}

/* service/type, service/type/item, and behind them "= value" with EDIT_SET. */
static void read_master_change(const char *text, unsigned parts, bool with_value,
			       const char *needed, struct master_change *change)
{
	struct sv *const part[] = { &change->service, &change->type, &change->item };
	const char *p = text;

	*change = (struct master_change){ 0 };
	if (strpbrk(text, "\n\r") != NULL || *text == '#')
		die("-e, -X, or -# accepts no multi-line or comment input");
	for (unsigned i = 0; i < parts; i++) {
		bool last = i + 1 == parts;
		size_t len = strcspn(p, last ? "= \t" : "/= \t");

		if (len == 0 || (!last && p[len] != '/'))
			die("%s", needed);
		*part[i] = (struct sv){ p, len };
		p += len + !last;
	}
	p += strspn(p, " \t");
	if (with_value != (*p == '='))
		die(with_value ? "missing '=' after attribute name: \"%s\""
			       : "-X or -# requires names without value: \"%s\"",
		    text);
	if (with_value)
		change->value = sv_trim(sv_from(p + 1));
}

static int edit_master(struct master_edit *m, const struct postconf *pc)
{
	struct edit e;

	edit_open(&e, pc->dir, "master.cf");
	edit_lines(&e, decide_master, m);
	for (unsigned i = 0; i < m->count; i++) {
		struct master_change *change = &m->changes[i];

		if (change->seen == 0 && change->entry.pub.name != NULL) {
			master_format(&change->entry, true, NULL, &e.new);
			buf_add_c(&e.new, '\n');
		} else if (change->seen == 0 && change->item.len > 0) {
			log_warn("unmatched service_name/type: \"%s\"", pc->names[i]);
		}
	}
	edit_close(&e);
	free(m->changes);
	return 0;
}

static void master_init(struct master_edit *m, const struct postconf *pc, enum edit_what what)
{
	*m = (struct master_edit){ .pc = *pc, .count = pc->name_count, .what = what };
	m->changes = xcalloc(pc->name_count + 1, sizeof(*m->changes));
}

static enum action apply_entry(struct master_edit *m, struct service *s,
			       const struct master_change *change)
{
	if (m->what != EDIT_SET)
		return m->what == EDIT_DELETE ? DELETE : COMMENT;
	*s = change->entry;
	return REPLACE;
}

static unsigned word_count(struct sv text)
{
	unsigned count = 0;

	for (size_t i = 0; i < text.len; i++)
		count += !ascii_is_space(text.p[i]) && (i == 0 || ascii_is_space(text.p[i - 1]));
	return count;
}

int edit_master_entries(const struct postconf *pc, enum edit_what what)
{
	struct master_edit m;

	master_init(&m, pc, what);
	m.apply = apply_entry;
	for (unsigned i = 0; i < m.count; i++) {
		read_master_change(pc->names[i], 2, what == EDIT_SET,
				   "-Me, -MX or -M# requires service_name/type", &m.changes[i]);
		if (what == EDIT_SET && word_count(m.changes[i].value) < 8)
			die("bad field count: \"%s\"", pc->names[i]);
		if (what == EDIT_SET)
			parse_or_die(&m, m.changes[i].value, &m.changes[i].entry);
	}
	return edit_master(&m, pc);
}

static enum action apply_field(struct master_edit *m, struct service *s,
			       const struct master_change *change)
{
	const char *fields[8] = { s->pub.name,  s->type_text, s->fields[0], s->fields[1],
				  s->fields[2], s->fields[3], s->fields[4], s->command };
	int idx = master_field(change->item);
	struct buf text = BUF_INIT;

	for (int i = 0; i < 8; i++) {
		if (i == idx)
			buf_add_sv(&text, change->value);
		else
			buf_add_str(&text, fields[i]);
		buf_add_c(&text, ' ');
	}
	parse_or_die(m, buf_sv(&text), s);
	buf_fini(&text);
	return REPLACE;
}

int edit_master_fields(const struct postconf *pc)
{
	struct master_edit m;

	master_init(&m, pc, EDIT_SET);
	m.apply = apply_field;
	for (unsigned i = 0; i < m.count; i++) {
		read_master_change(pc->names[i], 3, true,
				   "-Fe requires service_name/type/field_name", &m.changes[i]);
		master_field(m.changes[i].item);
	}
	return edit_master(&m, pc);
}

/* The overrides without this one, or with its new value in its place or at the end. */
static enum action apply_param(struct master_edit *m, struct service *s,
			       const struct master_change *change)
{
	struct arena *arena = &m->pc.conf->arena;
	unsigned count = s->pub.override_count, kept = 0;
	struct conf_override *list = arena_calloc(arena, (count + 1) * sizeof(*list));
	bool found = false;

	for (unsigned i = 0; i < count; i++) {
		const struct conf_override *o = &s->pub.overrides[i];
		bool same = sv_eq_str(change->item, o->name);

		if (!same || (m->what == EDIT_SET && !found))
			list[kept++] = *o;
		if (same && m->what == EDIT_SET && !found)
			list[kept - 1].value =
				arena_strndup(arena, change->value.p, change->value.len);
		found = found || same;
	}
	if (!found && m->what == EDIT_SET)
		list[kept++] = (struct conf_override){
			.name = arena_strndup(arena, change->item.p, change->item.len),
			.value = arena_strndup(arena, change->value.p, change->value.len),
		};
	s->pub.overrides = list;
	s->pub.override_count = kept;
	return REPLACE;
}

int edit_master_params(const struct postconf *pc, enum edit_what what)
{
	struct master_edit m;

	master_init(&m, pc, what);
	m.apply = apply_param;
	for (unsigned i = 0; i < m.count; i++)
		read_master_change(pc->names[i], 3, what == EDIT_SET,
				   "-Pe or -PX requires service_name/type/parameter",
				   &m.changes[i]);
	return edit_master(&m, pc);
}
