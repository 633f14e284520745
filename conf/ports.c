/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ports by name; see conf/ports.h. */
#include "conf/ports.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/util.h"

#define NAME_SIZE 64

struct known {
	struct known *next;
	char name[NAME_SIZE];
	char port[6];
};

/* before a configuration is there */
static const char usual[] = "lmtp=24, smtp=25, smtps=submissions=465, submission=587";

static struct known *list;
static bool filled;
static struct strmap *by_name;

static void forget(void)
{
	while (list != NULL) {
		struct known *k = list;

		list = k->next;
		free(k);
	}
	strmap_free(&by_name);
}

static bool is_number(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!ascii_is_digit(s.p[i]))
			return false;
	}
	return s.len > 0;
}

static bool has_space(struct sv s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (ascii_is_space(s.p[i]))
			return true;
	}
	return false;
}

/* NULL, or what is wrong. */
static const char *add(struct sv name, struct sv port)
{
	uint64_t number;

	if (name.len == 0)
		return "missing service name before \"=\"";
	if (has_space(name))
		return "whitespace in service name";
	if (is_number(name))
		return "numerical service name";
	if (!is_number(port))
		return "non-numerical service port";
	if (str_to_u64(port, 65535, &number) != 0)
		return "port number out of range";
	if (by_name == NULL)
		by_name = strmap_new();
	if (strmap_get(by_name, name) != NULL)
		return "duplicate service name";
	struct known *k = xcalloc(1, sizeof(*k));

	if (!str_copy(k->name, sizeof(k->name), name)) {
		free(k);
		return "service name is too long";
	}
	str_copy(k->port, sizeof(k->port), port);
	k->next = list;
	list = k;
	strmap_put(by_name, sv_from(k->name), k);
	return NULL;
}

/* "smtps=submissions=465" */
static const char *add_names(struct sv text)
{
	const char *eq = memrchr(text.p, '=', text.len), *why = NULL;

	if (eq == NULL)
		return "is not in \"name = value\" form";
	struct sv port = sv_trim((struct sv){ eq + 1, text.len - (size_t)(eq + 1 - text.p) });
	struct sv names = { text.p, (size_t)(eq - text.p) };

	if (port.len == 0)
		return "missing port value after \"=\"";
	if (has_space(port))
		return "whitespace in port number";
	for (bool more = true; more;) {
		const char *wrong;

		more = names.len > 0 && memchr(names.p, '=', names.len) != NULL;
		wrong = add(sv_trim(sv_next_part(&names, '=')), port);
		why = why != NULL ? why : wrong;
	}
	return why;
}

void ports_know(const char *text, struct conf_diag *d)
{
	struct sv rest = sv_from(text);

	forget();
	filled = true;
	while (rest.len > 0) {
		struct sv one = sv_trim(sv_next_part(&rest, ','));
		const char *why = one.len > 0 ? add_names(one) : NULL;

		if (why != NULL)
			conf_diag_add(d, false, NULL, 0, "known_tcp_ports: in \"%.*s\": %s",
				      (int)one.len, one.p, why);
	}
}

const char *ports_known(const char *service)
{
	if (!filled)
		ports_know(usual, NULL);
	const struct known *k = by_name != NULL ? strmap_get(by_name, sv_from(service)) : NULL;

	return k != NULL ? k->port : service;
}

int ports_find(struct sv text, uint16_t *port_r)
{
	char name[NAME_SIZE];
	const struct servent *se;
	uint64_t n = 0;

	if (!str_copy(name, sizeof(name), text))
		return E_SYNTAX;
	struct sv port = sv_from(ports_known(name));

	if (is_number(port)) {
		if (str_to_u64(port, 65535, &n) != 0 || n == 0)
			return E_SYNTAX;
		*port_r = (uint16_t)n;
		return 0;
	}
	se = port.len > 0 && !ascii_is_digit(port.p[0]) ? getservbyname(name, "tcp") : NULL;
	if (se == NULL)
		return E_SYNTAX;
	*port_r = ntohs((uint16_t)se->s_port);
	return 0;
}
