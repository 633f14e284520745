/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Milters of the configuration: of each listener, and of mail that comes otherwise. */
#include <stdlib.h>

#include "lib/err.h"
#include "lib/log.h"
#include "workers/rewrite/filters.h"

#define MAP_LISTS_MAX 1000u

static bool is_disabled(const char *text)
{
	return text[0] == '\0' || str_eq_nocase(text, "DISABLE");
}

static int open_list(struct filter_conf *fc, const char *text, const char *param,
		     struct conf_diag *d)
{
	milter_macros_of(fc->p, &fc->macros);
	return is_disabled(text) ? 0
				 : milter_list_parse(fc->p, text, param, fc->chroot, &fc->list, d);
}

static int open_listeners(const struct conf *c, struct filters *f, struct conf_diag *d)
{
	int status = 0;

	f->listener_count = conf_listener_count(c);
	f->listeners = xcalloc(size_max(f->listener_count, 1), sizeof(*f->listeners));
	for (unsigned i = 0; i < f->listener_count; i++) {
		struct filter_conf *fc = &f->listeners[i];
		const struct conf_service *s = conf_listener(c, i)->service;

		fc->p = s->params;
		fc->chroot = s->chroot;
		int err = open_list(fc, fc->p->smtpd_milters, "smtpd_milters", d);

		if (err == 0)
			err = map_list_open(c, fc->p->smtpd_milter_maps, "smtpd_milter_maps",
					    &fc->maps, d);
		status = err != 0 ? err : status;
		f->used |= fc->list.count > 0 || (err == 0 && !map_list_is_empty(fc->maps));
	}
	return status;
}

static bool is_cleanup(const struct conf_service *s)
{
	return s->type == SERVICE_UNIX && strcmp(s->program, "cleanup") == 0;
}

static int open_chains(const struct conf *c, struct filters *f, struct conf_diag *d)
{
	unsigned count = conf_service_count(c);
	int status = 0;

	f->chains = xcalloc(count + 1, sizeof(*f->chains));
	f->chains[f->chain_count++] = (struct filter_conf){ .p = conf_params(c), .name = "" };
	for (unsigned i = 0; i < count; i++) {
		const struct conf_service *s = conf_service(c, i);

		if (is_cleanup(s))
			f->chains[f->chain_count++] = (struct filter_conf){ .p = s->params,
									    .name = s->name,
									    .chroot = s->chroot };
	}
	for (unsigned i = 0; i < f->chain_count; i++) {
		struct filter_conf *fc = &f->chains[i];
		int err = open_list(fc, fc->p->non_smtpd_milters, "non_smtpd_milters", d);

		status = err != 0 ? err : status;
		f->used |= fc->list.count > 0;
	}
	return status;
}

int filters_open(const struct conf *c, struct filters *f, struct conf_diag *d)
{
	*f = (struct filters){ .client = NULL };
	int err = open_listeners(c, f, d), err2 = open_chains(c, f, d);

	if (err == 0 && err2 == 0)
		return 0;
	filters_close(f);
	return E_CONFIG;
}

static void close_conf(struct filter_conf *fc)
{
	struct sv key;
	void *value;
	size_t pos = 0;

	milter_list_free(&fc->list);
	map_list_close(&fc->maps);
	while (fc->of_maps != NULL && strmap_next(fc->of_maps, &pos, &key, &value)) {
		struct milter_list *l = value;

		milter_list_free(l);
		free(l);
	}
	strmap_free(&fc->of_maps);
}

void filters_close(struct filters *f)
{
	for (unsigned i = 0; i < f->listener_count; i++)
		close_conf(&f->listeners[i]);
	for (unsigned i = 0; i < f->chain_count; i++)
		close_conf(&f->chains[i]);
	free(f->listeners);
	free(f->chains);
	*f = (struct filters){ .client = NULL };
}

/* What smtpd_milter_maps says is read once. A mistake in it: no milters would be worse than none
 * of this client's mail, so such a list has one that cannot work. */
static const struct milter_list *list_of_map(struct filter_conf *fc, const char *text)
{
	struct milter_list *l;
	struct conf_diag d;

	if (fc->of_maps == NULL)
		fc->of_maps = strmap_new();
	l = strmap_get(fc->of_maps, sv_from(text));
	if (l != NULL)
		return l;
	if (strmap_count(fc->of_maps) >= MAP_LISTS_MAX)
		return NULL;
	l = xcalloc(1, sizeof(*l));
	conf_diag_init(&d);
	if (milter_list_parse(fc->p, text, "smtpd_milter_maps", fc->chroot, l, &d) != 0) {
		conf_diag_log(&d);
		free(l);
		l = NULL;
	} else {
		strmap_put(fc->of_maps, sv_from(text), l);
	}
	conf_diag_fini(&d);
	return l;
}

const struct milter_list *filters_of_client(const struct filters *f, unsigned listener,
					    const char *addr)
{
	static const struct milter_list broken = { .count = 0 };
	struct filter_conf *fc = &f->listeners[listener];
	const struct milter_list *l = fc->list.count > 0 ? &fc->list : NULL;
	struct buf text = BUF_INIT;

	if (map_list_is_empty(fc->maps))
		return l;
	switch (map_list_get(fc->maps, sv_from(addr), &text)) {
	case MAP_FOUND:
		l = is_disabled(buf_cstr(&text)) ? NULL : list_of_map(fc, buf_cstr(&text));
		if (l == NULL && !is_disabled(buf_cstr(&text)))
			l = &broken;
		break;
	case MAP_NOT_FOUND:
		break;
	case MAP_ERROR:
		l = &broken;
		break;
	}
	buf_fini(&text);
	return l;
}

const struct filter_conf *filters_of_mail(const struct filters *f, struct sv cleanup)
{
	if (cleanup.len == 0)
		cleanup = SV("cleanup");
	for (unsigned i = 1; i < f->chain_count; i++) {
		if (sv_eq_str(cleanup, f->chains[i].name))
			return &f->chains[i];
	}
	return &f->chains[0];
}
