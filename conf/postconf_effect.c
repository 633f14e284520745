/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postconf --effect: what each parameter does here (conf/effect.h): of the names given, of what the
 * configuration sets (-n), or of all. doc/COMPATIBILITY.md is counted from this (scripts/effects).
 */
#include "conf/effect.h"

#include <stdio.h>

#include "conf/postconf.h"
#include "lib/log.h"

static void show(const struct postconf *pc, const char *name)
{
	struct effect_info info;

	if (!effect_find(pc->conf, sv_from(name), &info)) {
		bool is_set = pc->conf != NULL &&
			      scope_raw(&pc->conf->global, sv_from(name)).text != NULL;

		if (is_set)
			printf("%-43s own\n", name);
		else
			log_warn("%s: unknown parameter", name);
		return;
	}
	printf("%-43s %s", name, effect_text(info.effect));
	if (info.advice != NULL)
		printf(" %s%s", info.advice, *info.reason != '\0' ? ";" : "");
	if (*info.reason != '\0')
		printf(" %s", info.reason);
	puts(info.missing ? " (missing)" : "");
}

/* The names that -n shows, and those of the -o options of master.cf. */
static void add_set(const struct conf *c, struct name_list *l)
{
	for (unsigned i = 0; i < c->entry_count; i++)
		name_list_add(l, c->entries[i].name);
	for (unsigned i = 0; i < c->service_count; i++) {
		const struct conf_service *s = &c->services[i].pub;

		for (unsigned k = 0; k < s->override_count; k++)
			name_list_add(l, s->overrides[k].name);
	}
}

static void add_known(struct name_list *l)
{
	for (unsigned i = 0; i < param_count(); i++)
		name_list_add(l, param_name(param_desc(i)));
	for (unsigned i = 0; i < inert_count(); i++)
		name_list_add(l, inert_desc(i)->name);
}

/* Of TRANSPORT_... there is one line for all services. */
static void add_templates(struct conf *c, struct name_list *l)
{
	for (unsigned i = 0; i < transport_param_count(); i++)
		name_list_add(l, arena_printf(&c->arena, "transport%s", transport_param_suffix(i)));
}

int effect_show(const struct postconf *pc)
{
	struct name_list l = { 0 };

	for (unsigned i = 0; i < pc->name_count; i++)
		name_list_add(&l, pc->names[i]);
	if (pc->name_count == 0 && pc->explicit) {
		add_set(pc->conf, &l);
	} else if (pc->name_count == 0) {
		add_known(&l);
		add_templates(pc->conf, &l);
	}
	if (pc->name_count == 0)
		name_list_sort(&l);
	for (size_t i = 0; i < l.count; i++)
		show(pc, l.names[i]);
	free(l.names);
	return 0;
}
