/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Use of address verification; see conf/verify_use.h. */
#include "conf/verify_use.h"

#include <stdlib.h>
#include <string.h>

#include "lib/err.h"
#include "lib/str.h"
#include "lib/util.h"

#define SEPARATORS ", \t\r\n"

static const char *const lists[] = {
	"smtpd_client_restrictions",      "smtpd_helo_restrictions",
	"smtpd_sender_restrictions",      "smtpd_relay_restrictions",
	"smtpd_recipient_restrictions",   "smtpd_data_restrictions",
	"smtpd_end_of_data_restrictions", "smtpd_etrn_restrictions",
};

/* check_..._access and type:table may name any restriction. */
static bool list_may_ask(const char *value)
{
	return value != NULL &&
	       (strcasestr(value, "reject_unverified_") != NULL ||
		strcasestr(value, "_access") != NULL || strcasestr(value, "_maps") != NULL);
}

static const char *value_of(const struct conf *c, const struct conf_service *s, const char *name)
{
	return s != NULL ? conf_service_get(c, s, name) : conf_get(c, name);
}

static bool scope_may_ask(const struct conf *c, const struct conf_service *s,
			  const struct params *p)
{
	bool found = false;

	for (size_t i = 0; i < ARRAY_LEN(lists) && !found; i++)
		found = list_may_ask(value_of(c, s, lists[i]));
	char *classes = xstrdup(p->smtpd_restriction_classes), *save;

	for (char *name = strtok_r(classes, SEPARATORS, &save); name != NULL && !found;
	     name = strtok_r(NULL, SEPARATORS, &save))
		found = list_may_ask(value_of(c, s, name));
	free(classes);
	return found;
}

bool verify_is_used(const struct conf *c)
{
	if (scope_may_ask(c, NULL, conf_params(c)))
		return true;
	for (unsigned i = 0; i < conf_service_count(c); i++) {
		const struct conf_service *s = conf_service(c, i);
		const struct conf_service *stress = conf_service_stress(s);

		if (stress != NULL &&
		    (scope_may_ask(c, s, s->params) || scope_may_ask(c, stress, stress->params)))
			return true;
	}
	return false;
}

int conf_cache_path(const char *spec, char **path_r, const char **why_r)
{
	static const char *const types[] = { "btree", "hash", "lmdb", "cdb", "dbm", "sdbm" };

	*path_r = NULL;
	if (strncmp(spec, "proxy:", 6) == 0) /* there is one owner anyway */
		spec += 6;
	const char *colon = strchr(spec, ':');

	if (spec[0] == '\0' || strncmp(spec, "internal:", 9) == 0)
		return 0;
	*why_r = "not a usable file name";
	if (colon == NULL || colon[1] != '/' || strchr(colon, '#') != NULL)
		return E_CONFIG;
	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		if (strlen(types[i]) == (size_t)(colon - spec) &&
		    strncmp(types[i], spec, (size_t)(colon - spec)) == 0) {
			*path_r = xasprintf("%s.kch", colon + 1);
			return 0;
		}
	}
	*why_r = "a table of this type cannot be a cache; use btree, hash or lmdb";
	return E_CONFIG;
}

int verify_cache_path(const struct params *p, char **path_r, const char **why_r)
{
	return conf_cache_path(p->address_verify_map, path_r, why_r);
}
