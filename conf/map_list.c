/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lists of tables and Postfix's address search; see conf/map.h. Called by policy and rewrite. */
#include <stdlib.h>
#include <string.h>

#include "conf/map_impl.h"
#include "conf/map_remote.h"
#include "lib/err.h"
#include "lib/mailaddr.h"

struct map_list {
	size_t count;
	struct map **maps;
	bool cased;
};

int map_list_open(const struct conf *c, const char *specs, const char *param_name,
		  struct map_list **l_r, struct conf_diag *d)
{
	struct map_list *l = xcalloc(1, sizeof(*l));
	struct sv rest = sv_from(specs), item;
	bool group;
	int more, err = 0;

	*l_r = NULL;
	while ((more = map_item_next(&rest, &item, &group)) > 0) {
		char *spec = xstrndup(item.p, item.len);
		const char *refusal = NULL;
		struct map *m;
		int open_err = map_open(c, spec, &m, d);

		if (open_err == 0 && map_is_remote(m))
			refusal = map_remote_refusal(param_name);
		if (refusal != NULL) {
			map_close(&m);
			open_err = E_CONFIG;
		}
		if (open_err < 0) {
			err = open_err;
			if (d != NULL)
				conf_diag_add(d, true, NULL, 0,
					      "%s: cannot use %stable \"%.200s\"%s%s", param_name,
					      refusal != NULL ? "remote " : "", spec,
					      refusal != NULL ? ": " : "",
					      refusal != NULL ? refusal : "");
		} else {
			l->maps = xrealloc(l->maps, (l->count + 1) * sizeof(struct map *));
			l->maps[l->count++] = m;
		}
		free(spec);
	}
	if (more < 0) {
		err = E_SYNTAX;
		if (d != NULL)
			conf_diag_add(d, true, NULL, 0, "%s: unbalanced braces", param_name);
	}
	if (err < 0)
		map_list_close(&l);
	*l_r = l;
	return err;
}

void map_list_close(struct map_list **lp)
{
	struct map_list *l;

	TAKE(l, *lp);
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->count; i++)
		map_close(&l->maps[i]);
	free(l->maps);
	free(l);
}

void map_list_keep_case(struct map_list *l)
{
	if (l != NULL)
		l->cased = true;
}

bool map_list_is_empty(const struct map_list *l)
{
	return l == NULL || l->count == 0;
}

bool map_list_is_remote(const struct map_list *l)
{
	for (size_t i = 0; l != NULL && i < l->count; i++) {
		if (map_is_remote(l->maps[i]))
			return true;
	}
	return false;
}

/* Ask the tables in order; `whole` = the key is not a part of an address, so patterns are asked,
 * too. */
static enum map_status ask(struct map_list *l, struct sv key, bool whole, struct buf *out)
{
	for (size_t i = 0; l != NULL && i < l->count; i++) {
		if (!whole && !map_has_fixed_keys(l->maps[i]))
			continue;
		enum map_status status = l->cased ? map_get_cased(l->maps[i], key, out)
						  : map_get(l->maps[i], key, out);

		if (status != MAP_NOT_FOUND)
			return status;
	}
	return MAP_NOT_FOUND;
}

enum map_status map_list_get(struct map_list *l, struct sv key, struct buf *out)
{
	buf_reset(out);
	return ask(l, key, true, out);
}

/* local@domain (or local alone), in external form, then in internal form if that differs. */
static enum map_status ask_addr(struct map_list *l, struct sv local, struct sv domain, bool whole,
				struct buf *out)
{
	struct buf internal = BUF_INIT, external = BUF_INIT;

	buf_add_sv(&internal, local);
	if (domain.len > 0) {
		buf_add_c(&internal, '@');
		buf_add_sv(&internal, domain);
		mail_addr_quote(buf_sv(&internal), &external);
	} else {
		/* a bare local part may hold an '@' that separates nothing */
		buf_add_c(&internal, '@');
		mail_addr_quote(buf_sv(&internal), &external);
		internal.len--;
		external.len--;
	}
	enum map_status status = ask(l, buf_sv(&external), whole, out);

	if (status == MAP_NOT_FOUND && !sv_eq(buf_sv(&external), buf_sv(&internal)))
		status = ask(l, buf_sv(&internal), whole, out);
	buf_fini(&internal);
	buf_fini(&external);
	return status;
}

static enum map_status ask_at_domain(struct map_list *l, struct sv domain, struct buf *out)
{
	struct buf key = BUF_INIT;

	buf_add_c(&key, '@');
	buf_add_sv(&key, domain);
	enum map_status status = ask(l, buf_sv(&key), false, out);

	buf_fini(&key);
	return status;
}

enum map_status map_list_get_addr(struct map_list *l, struct sv addr, const char *delimiters,
				  bool bare, struct buf *out, struct sv *ext_r)
{
	struct sv local, domain, base, ext;
	bool has_domain = mail_addr_split(addr, &local, &domain);
	bool has_ext = mail_addr_split_ext(local, delimiters, &base, &ext);

	buf_reset(out);
	*ext_r = SV("");
	if (map_list_is_empty(l))
		return MAP_NOT_FOUND;
	enum map_status status = ask_addr(l, local, domain, true, out);

	if (status != MAP_NOT_FOUND)
		return status;
	if (has_ext)
		status = ask_addr(l, base, domain, false, out);
	bool by_base = status != MAP_NOT_FOUND;

	if (!by_base && bare && has_domain) {
		status = ask_addr(l, local, SV(""), false, out);
		if (status != MAP_NOT_FOUND)
			return status;
		if (has_ext)
			status = ask_addr(l, base, SV(""), false, out);
	}
	if (status == MAP_NOT_FOUND && has_domain)
		status = ask_at_domain(l, domain, out);
	if (status == MAP_FOUND && has_ext)
		*ext_r = (struct sv){ ext.p - 1, ext.len + 1 };
	return status;
}

/* ---- transport_maps ---- */

static enum map_status get_domain(struct map_list *l, struct sv key, bool parents, struct buf *out)
{
	while (key.len > 0) {
		enum map_status st = ask(l, key, false, out);
		const char *dot;

		if (st != MAP_NOT_FOUND)
			return st;
		/* behind the next dot; the dot itself belongs to the key unless parents match */
		dot = memchr(key.p + 1, '.', key.len - 1);
		if (key.p[0] == '[' || dot == NULL)
			break;
		key.len -= (size_t)(dot - key.p);
		key.p = dot;
		if (parents && key.len > 1) {
			key.p++;
			key.len--;
		}
	}
	return map_list_get(l, SV("*"), out);
}

enum map_status map_list_get_transport(struct map_list *l, struct sv rcpt, const char *delimiters,
				       bool parents, struct buf *out)
{
	struct sv local, domain, base, ext;
	enum map_status st;

	buf_reset(out);
	st = map_list_get(l, rcpt, out);
	mail_addr_split(rcpt, &local, &domain);
	if (st == MAP_NOT_FOUND && mail_addr_split_ext(local, delimiters, &base, &ext)) {
		struct buf key = BUF_INIT;

		buf_add_sv(&key, base);
		buf_add_c(&key, '@');
		buf_add_sv(&key, domain);
		st = ask(l, buf_sv(&key), false, out);
		buf_fini(&key);
	}
	return st != MAP_NOT_FOUND ? st : get_domain(l, domain, parents, out);
}
