/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recipient to mailbox; see workers/local/target.h. Called by job.c. */
#include "workers/local/target.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/map.h"
#include "lib/err.h"
#include "lib/mailaddr.h"
#include "lib/util.h"

struct targets {
	const struct params *p;
	bool privileged;
	struct map_list *mailboxes, *uids, *gids;
	uint32_t local_locks, virtual_locks; /* MBOX_LOCK_* */
	struct buf value;
};

static int parse_locks(const char *text, const char *name, uint32_t *flags_r, struct conf_diag *d)
{
	int err = mbox_parse_locks(text, flags_r);

	if (err != 0)
		conf_diag_add(d, true, NULL, 0, "%s = %s: expected fcntl, flock, dotlock", name,
			      text);
	return err;
}

int targets_open(const struct conf *c, bool privileged, struct targets **t_r, struct conf_diag *d)
{
	struct targets *t = xcalloc(1, sizeof(*t));
	const struct params *p = conf_params(c);
	int err;

	t->p = p;
	t->privileged = privileged;
	err = map_list_open(c, p->virtual_mailbox_maps, "virtual_mailbox_maps", &t->mailboxes, d);
	if (err == 0)
		err = map_list_open(c, p->virtual_uid_maps, "virtual_uid_maps", &t->uids, d);
	if (err == 0)
		err = map_list_open(c, p->virtual_gid_maps, "virtual_gid_maps", &t->gids, d);
	if (err == 0)
		err = parse_locks(p->mailbox_delivery_lock, "mailbox_delivery_lock",
				  &t->local_locks, d);
	if (err == 0)
		err = parse_locks(p->virtual_mailbox_lock, "virtual_mailbox_lock",
				  &t->virtual_locks, d);
	if (err < 0)
		targets_close(&t);
	*t_r = t;
	return err;
}

void targets_close(struct targets **tp)
{
	struct targets *t = *tp;

	if (t == NULL)
		return;
	map_list_close(&t->mailboxes);
	map_list_close(&t->uids);
	map_list_close(&t->gids);
	buf_fini(&t->value);
	free(t);
	*tp = NULL;
}

PRINTF_LIKE(5, 6)
static void refuse(struct target *out, uint8_t d0, uint8_t d1, uint8_t d2, const char *fmt, ...)
{
	va_list ap;

	out->found = false;
	out->dsn[0] = d0;
	out->dsn[1] = d1;
	out->dsn[2] = d2;
	va_start(ap, fmt);
	vsnprintf(out->text, sizeof(out->text), fmt, ap);
	va_end(ap);
}

static void unknown_user(struct target *out, struct sv who)
{
	refuse(out, 5, 1, 1, "unknown user: \"%.*s\"", (int)size_min(who.len, 200), who.p);
}

/* A path that ends in '/' is a Maildir, any other a mailbox file. */
static void set_kind(struct targets *t, uint32_t locks, uint64_t limit, struct target *out)
{
	size_t n = strlen(out->path);

	out->is_mbox = n > 0 && out->path[n - 1] != '/';
	if (!out->is_mbox) {
		out->size_limit = limit;
		return;
	}
	out->mbox = (struct mbox_conf){
		.flags = locks | (t->p->strict_mailbox_ownership ? MBOX_STRICT_OWNER : 0),
		.attempts = (uint32_t)t->p->deliver_lock_attempts,
		.delay_ms = t->p->deliver_lock_delay,
		.stale_s = t->p->stale_lock_time / 1000,
		.size_limit = limit,
	};
}

/* ---- virtual ---- */

static bool find_id(struct targets *t, struct map_list *l, struct sv rcpt, const char *name,
		    uint64_t min, uint64_t *id_r, struct target *out)
{
	struct sv ext;
	enum map_status st;

	if (map_list_is_empty(l)) {
		refuse(out, 4, 3, 5, "mail system configuration error: %s is empty", name);
		return false;
	}
	buf_reset(&t->value);
	st = map_list_get_addr(l, rcpt, t->p->recipient_delimiter, false, &t->value, &ext);
	if (st != MAP_FOUND) {
		refuse(out, 4, 3, 5, "mail system configuration error: recipient %.*s not in %s",
		       (int)size_min(rcpt.len, 150), rcpt.p, name);
		return false;
	}
	if (str_to_u64(sv_trim(buf_sv(&t->value)), INT32_MAX, id_r) < 0 || *id_r < min) {
		refuse(out, 4, 3, 5, "mail system configuration error: bad value in %s: %.100s",
		       name, buf_cstr(&t->value));
		return false;
	}
	return true;
}

static bool find_owner(struct targets *t, struct sv rcpt, struct target *out)
{
	uint64_t uid, gid;

	out->uid = geteuid();
	out->gid = getegid();
	if (!t->privileged)
		return true;
	if (!find_id(t, t->uids, rcpt, "virtual_uid_maps", (uint64_t)t->p->virtual_minimum_uid,
		     &uid, out) ||
	    !find_id(t, t->gids, rcpt, "virtual_gid_maps", 1, &gid, out))
		return false;
	out->uid = (uid_t)uid;
	out->gid = (gid_t)gid;
	return true;
}

static void find_virtual(struct targets *t, struct sv rcpt, struct target *out)
{
	const char *base = t->p->virtual_mailbox_base;
	struct sv ext;

	buf_reset(&t->value);
	switch (map_list_get_addr(t->mailboxes, rcpt, t->p->recipient_delimiter, false, &t->value,
				  &ext)) {
	case MAP_ERROR:
		refuse(out, 4, 3, 0, "virtual_mailbox_maps: table lookup failed");
		return;
	case MAP_NOT_FOUND:
		unknown_user(out, rcpt);
		return;
	case MAP_FOUND:
		break;
	}
	if (base[0] == '\0')
		base = "/"; /* the paths of the table are absolute then */
	if (!str_copy(out->base, sizeof(out->base), sv_from(base)) ||
	    !str_copy(out->path, sizeof(out->path), sv_trim(buf_sv(&t->value)))) {
		refuse(out, 4, 3, 5, "mail system configuration error: path too long");
		return;
	}
	str_copy(out->user, sizeof(out->user), rcpt);
	set_kind(t, t->virtual_locks | MBOX_VIRTUAL, (uint64_t)t->p->virtual_mailbox_limit, out);
	out->found = find_owner(t, rcpt, out);
}

/* ---- local ---- */

/* A mail spool that a group may write to, as Debian's: its deliveries have that group. */
static uint32_t spool_group(const char *dir)
{
	struct stat st;

	if (stat(dir, &st) < 0 || (st.st_mode & S_IWOTH) != 0 || (st.st_mode & S_IWGRP) == 0 ||
	    st.st_gid == 0)
		return AGENT_NO_GROUP;
	return st.st_gid;
}

/* home_mailbox, else in mail_spool_directory. False: a path is too long. */
static bool set_place(struct targets *t, const char *name, const char *home, struct target *out)
{
	const char *spool = t->p->mail_spool_directory, *box = t->p->home_mailbox;
	size_t n = strlen(spool);

	if (box[0] != '\0')
		return str_copy(out->base, sizeof(out->base), sv_from(home)) &&
		       str_copy(out->path, sizeof(out->path), sv_from(box));
	if (t->privileged)
		out->more_gid = spool_group(spool);
	return str_copy(out->base, sizeof(out->base), sv_from(spool)) &&
	       snprintf(out->path, sizeof(out->path), "%s%s", name,
			n > 0 && spool[n - 1] == '/' ? "/" : "") < (int)sizeof(out->path);
}

static void find_local(struct targets *t, struct sv rcpt, struct target *out)
{
	struct sv local, domain, base, ext;
	char name[256], mem[4096];
	struct passwd pw, *found = NULL;
	int err;

	mail_addr_split(rcpt, &local, &domain);
	mail_addr_split_ext(local, t->p->recipient_delimiter, &base, &ext);
	if (!str_copy(name, sizeof(name), base) || strchr(name, '/') != NULL) {
		unknown_user(out, local);
		return;
	}
	str_lower(name, strlen(name));
	err = getpwnam_r(name, &pw, mem, sizeof(mem), &found);
	if (err != 0) {
		refuse(out, 4, 3, 0, "user database lookup failed: %s", err_str(-err));
		return;
	}
	if (found == NULL) {
		unknown_user(out, base);
		return;
	}
	if (!t->privileged && pw.pw_uid != geteuid()) {
		refuse(out, 4, 2, 0, "cannot deliver to user %.100s: not running as root", name);
		return;
	}
	if (!set_place(t, name, pw.pw_dir, out)) {
		refuse(out, 4, 3, 5, "mailbox path too long");
		return;
	}
	out->uid = pw.pw_uid;
	out->gid = pw.pw_gid;
	str_copy(out->user, sizeof(out->user), sv_from(name));
	set_kind(t, t->local_locks, (uint64_t)t->p->mailbox_size_limit, out);
	out->found = true;
}

void target_of_file(const struct targets *t, struct target *out)
{
	*out = (struct target){ .found = true, .more_gid = AGENT_NO_GROUP };
	out->mbox = (struct mbox_conf){ .flags = t->local_locks | MBOX_DOT_MAY_FAIL,
					.attempts = (uint32_t)t->p->deliver_lock_attempts,
					.delay_ms = t->p->deliver_lock_delay,
					.stale_s = t->p->stale_lock_time / 1000,
					.size_limit = (uint64_t)t->p->mailbox_size_limit };
}

void target_find(struct targets *t, const struct conf_transport *transport, struct sv rcpt,
		 struct target *out)
{
	*out = (struct target){ .found = false, .more_gid = AGENT_NO_GROUP };
	switch (transport->kind) {
	case TRANSPORT_VIRTUAL:
		find_virtual(t, rcpt, out);
		break;
	case TRANSPORT_LOCAL:
		find_local(t, rcpt, out);
		break;
	default:
		refuse(out, 4, 3, 0, "mail transport unavailable: %.100s", transport->name);
		break;
	}
}
