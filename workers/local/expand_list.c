/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lists that expansions read: .forward files and :include: files. See
 * workers/local/expand_int.h. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/mailaddr.h"
#include "workers/local/expand_int.h"
#include "workers/local/readfile.h"

static const struct params *params_of(const struct expansion *x)
{
	return x->r->job->l->w->params;
}

/* ---- names in forward_path, luser_relay, command_execution_directory ---- */

struct names {
	const struct expansion *x;
	const char *filter;
	bool undefined, has_extension;
	struct buf value;
};

static const char *name_value(void *ctx, struct sv name)
{
	struct names *n = ctx;
	const struct expansion *x = n->x;
	struct sv ext = x->ext, local, domain;
	char delimiter[2] = { 0 };

	mail_addr_split(x->to, &local, &domain);
	if (ext.len > 0)
		delimiter[0] = local.p[local.len - ext.len - 1];
	const struct {
		const char *name;
		struct sv value;
	} known[] = {
		{ "user", sv_from(x->user.name) },
		{ "home", sv_from(x->user.home) },
		{ "shell", sv_from(x->user.shell) },
		{ "local", local },
		{ "domain", domain },
		{ "recipient", x->to },
		{ "extension", ext },
		{ "recipient_delimiter", sv_from(delimiter) },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!sv_eq_str(name, known[i].name))
			continue;
		n->undefined = n->undefined || known[i].value.len == 0;
		n->has_extension = n->has_extension || strcmp(known[i].name, "extension") == 0;
		buf_reset(&n->value);
		for (size_t k = 0; k < known[i].value.len; k++) {
			char c = known[i].value.p[k];

			buf_add_c(&n->value, c != '\0' && strchr(n->filter, c) != NULL ? c : '_');
		}
		return buf_cstr(&n->value);
	}
	n->undefined = true;
	return NULL;
}

bool expand_names(struct expansion *x, struct sv text, const char *filter, bool all,
		  bool *extension_r, struct buf *out)
{
	struct names n = { .x = x, .filter = filter };

	buf_reset(out);
	int err = conf_expand_with(text, name_value, &n, out);

	buf_fini(&n.value);
	if (extension_r != NULL)
		*extension_r = n.has_extension;
	return err == 0 && !(all && n.undefined);
}

/* ---- reading lists ---- */

static void read_list(struct expansion *x, enum agent_kind kind, struct lookup_rights rights,
		      delivery_fn done)
{
	x->read_fd = memfd_create("list", MFD_CLOEXEC);
	x->delivery = (struct delivery){ .kind = kind,
					 .uid = rights.uid,
					 .gid = rights.gid,
					 .more_gid = AGENT_NO_GROUP,
					 .base = x->base,
					 .path = x->path,
					 .content_fd = x->read_fd,
					 .done = done,
					 .ctx = x };
	x->busy = true;
	pool_submit(x->r->job->l->pool, &x->delivery);
}

/* What was read; x->scratch. */
static struct sv list_text(struct expansion *x)
{
	buf_reset(&x->scratch);
	if (lseek(x->read_fd, 0, SEEK_SET) < 0 ||
	    io_read_to_buf(x->read_fd, READFILE_MAX, &x->scratch) != 0)
		buf_reset(&x->scratch);
	io_close(&x->read_fd);
	return buf_sv(&x->scratch);
}

/* base and path of an absolute path; below `home` when it is there. */
static bool split_path(struct expansion *x, struct sv path, const char *home)
{
	size_t n = home != NULL ? strlen(home) : 0;

	if (n > 1 && path.len > n + 1 && memcmp(path.p, home, n) == 0 && path.p[n] == '/')
		return str_copy(x->base, sizeof(x->base), sv_from(home)) &&
		       str_copy(x->path, sizeof(x->path),
				(struct sv){ path.p + n + 1, path.len - n - 1 });
	return path.len > 1 && path.p[0] == '/' && str_copy(x->base, sizeof(x->base), SV("/")) &&
	       str_copy(x->path, sizeof(x->path), (struct sv){ path.p + 1, path.len - 1 });
}

/* ---- .forward ---- */

static void next_forward(struct expansion *x);

/* The extension of x->to with its delimiter; NULL = none. */
static const char *unmatched_extension(struct expansion *x)
{
	return x->ext.len == 0 ? NULL
			       : arena_strndup(&x->r->job->arena, x->ext.p - 1, x->ext.len + 1);
}

static void forward_read(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct expansion *x = ctx;
	struct job *j = x->r->job;
	size_t before = x->item_count;
	struct sv text = list_text(x);

	x->busy = false;
	if (res->err == E_INVAL)
		log_warn("%s", res->text);
	if (res->err == 0 && text.len > 0 && expand_is_verified(x)) {
		expand_fail(x, x->to, "2.0.0", "forward via file: %s/%s", x->base, x->path);
	} else if (res->err == 0) {
		struct origin *o = expand_origin(x, x->from);

		if (o != NULL) {
			o->allow = ALLOW_FORWARD;
			o->rights = x->user.rights.uid != 0 ? x->user.rights : lookup_default(x->k);
			o->own_rights = x->user.rights.uid != 0;
			o->included = false;
			o->unmatched =
				x->forward_has_ext || (lookup_propagates(x->k) & ALLOW_FORWARD) == 0
					? NULL
					: unmatched_extension(x);
			if (!params_of(x)->frozen_delivered_to)
				o->delivered = x->to.p;
			o->user = arena_strdup(&j->arena, x->user.name);
			o->home = arena_strdup(&j->arena, x->user.home);
			o->shell = arena_strdup(&j->arena, x->user.shell);
			o->sender = NULL;
			o->indirect = true;
			expand_add_list(x, text, o);
		}
		if (x->item_count == before && !x->full)
			expand_mailbox(x);
	} else if (res->err == E_NOENT || res->err == E_INVAL || res->err == -EACCES) {
		next_forward(x);
	} else {
		expand_fail(x, x->to, "4.3.0", "%s", res->text);
	}
	expand_step(x);
}

/* The next file of forward_path, else the mailbox. */
static void next_forward(struct expansion *x)
{
	const char *list = params_of(x)->forward_path;
	struct buf path = BUF_INIT;
	unsigned n = 0;

	while (*list != '\0') {
		size_t len;

		list += strspn(list, ", \t\r\n");
		len = strcspn(list, ", \t\r\n");
		struct sv entry = { list, len };

		list += len;
		if (len == 0 || n++ < x->forward_path_at)
			continue;
		x->forward_path_at = n;
		if (expand_names(x, entry, params_of(x)->forward_expansion_filter, true,
				 &x->forward_has_ext, &path) &&
		    (x->ext.len == 0 || memchr(x->ext.p, '/', x->ext.len) == NULL) &&
		    split_path(x, buf_sv(&path), x->user.home)) {
			buf_fini(&path);
			read_list(x, AGENT_READ_OWN, x->user.rights, forward_read);
			return;
		}
	}
	buf_fini(&path);
	expand_mailbox(x);
}

/* What require_home_directory found; then .forward or the mailbox. */
static void home_read(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct expansion *x = ctx;

	x->busy = false;
	io_close(&x->read_fd);
	if (res->err != E_INVAL) /* a directory is no list */
		expand_fail(x, x->to, "4.3.0", "cannot access home directory %s: %s", x->base,
			    err_str(res->err));
	else
		next_forward(x);
	expand_step(x);
}

static void look_for_home(struct expansion *x)
{
	if (!str_copy(x->base, sizeof(x->base), sv_from(x->user.home))) {
		expand_fail(x, x->to, "4.3.0", "cannot access home directory: name too long");
		return;
	}
	str_copy(x->path, sizeof(x->path), SV("."));
	read_list(x, AGENT_READ, x->user.rights, home_read);
}

void expand_user(struct expansion *x, struct sv ext, struct sv to, const struct origin *from)
{
	x->to = to;
	x->from = from;
	x->ext = SV("");
	if (ext.len > 0) { /* a view into `to`, which stays */
		struct sv local, rest;

		mail_addr_split(to, &local, &rest);
		x->ext = (struct sv){ local.p + local.len - ext.len, ext.len };
	}
	x->forward_path_at = 0;
	if (!x->r->job->l->w->privileged && x->user.rights.uid != geteuid())
		expand_fail(x, to, "4.2.0", "cannot deliver to user %s: not running as root",
			    x->user.name);
	else if (expand_is_own(from, x->user.name))
		expand_mailbox(x);
	else if (params_of(x)->require_home_directory)
		look_for_home(x);
	else
		next_forward(x);
}

void expand_luser(struct expansion *x, const char *relay, struct sv local, struct sv domain,
		  const struct origin *from)
{
	struct origin *o = expand_origin(x, from);
	struct buf to = BUF_INIT, out = BUF_INIT;
	struct sv base, ext;

	mail_addr_split_ext(local, params_of(x)->recipient_delimiter, &base, &ext);
	buf_add_sv(&to, local);
	buf_add_c(&to, '@');
	buf_add_sv(&to, domain);
	memset(&x->user, 0, sizeof(x->user));
	str_copy(x->user.name, sizeof(x->user.name), base);
	x->to = buf_sv(&to);
	x->ext = (struct sv){ to.p + local.len - ext.len, ext.len };
	if (!expand_names(x, sv_from(relay), params_of(x)->forward_expansion_filter, false, NULL,
			  &out)) {
		expand_fail(x, x->to, "4.3.5", "mail system configuration error: luser_relay");
	} else if (o != NULL) {
		o->allow = ALLOW_ALIAS;
		o->rights = lookup_default(x->k);
		o->user = NULL;
		expand_add_list(x, buf_sv(&out), o);
	}
	x->to = x->r->rcpt->addr;
	x->ext = SV("");
	buf_fini(&to);
	buf_fini(&out);
}

/* ---- :include: ---- */

/* A list of root's alias that only its owner may read is read as he. */
static bool owner_may_read(struct expansion *x, const struct maildir_result *res)
{
	return !x->include_as_owner && !x->from->own_rights && res->has_owner && res->owner != 0 &&
	       x->r->job->l->w->privileged &&
	       lookup_rights_of(x->k, res->owner, &x->include_rights);
}

/* Commands and files in the list of another user, which root's alias names, are that user's. */
static void add_included(struct expansion *x, struct sv text, const struct maildir_result *res)
{
	struct origin *o = expand_origin(x, x->from);

	if (o == NULL)
		return;
	o->allow = ALLOW_INCLUDE;
	o->included = o->indirect = true;
	if ((lookup_propagates(x->k) & ALLOW_INCLUDE) == 0)
		o->unmatched = NULL;
	if (!o->own_rights && res->has_owner && res->owner != 0 && x->r->job->l->w->privileged) {
		if (!lookup_rights_of(x->k, res->owner, &o->rights)) {
			log_warn("%s: cannot find :include: file owner username", x->what);
			expand_fail(x, x->r->rcpt->addr, "4.3.5",
				    "mail system configuration error");
			return;
		}
		o->own_rights = true;
	}
	expand_add_list(x, text, o);
}

static void include_read(void *ctx, struct delivery *d UNUSED, const struct maildir_result *res)
{
	struct expansion *x = ctx;
	struct sv text = list_text(x);

	x->busy = false;
	if (res->err == -EACCES && owner_may_read(x, res)) {
		x->include_as_owner = true;
		read_list(x, AGENT_READ, x->include_rights, include_read);
		return;
	}
	if (res->err == 0) {
		add_included(x, text, res);
	} else {
		bool for_good = res->err == E_NOENT || res->err == E_INVAL;

		log_warn("unable to lookup :include: file %s: %s", x->what, res->text);
		expand_fail(x, x->r->rcpt->addr, for_good ? "5.3.5" : "4.3.5",
			    "mail system configuration error");
	}
	expand_step(x);
}

void expand_include(struct expansion *x, const char *path, const struct origin *from)
{
	if (from == NULL || !split_path(x, sv_from(path), NULL)) {
		expand_fail(x, x->r->rcpt->addr, "5.3.5", "mail system configuration error");
		return;
	}
	x->what = path;
	x->from = from;
	x->include_as_owner = false;
	read_list(x, AGENT_READ, from->rights, include_read);
}
