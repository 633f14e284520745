/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the rest of the system wants of master.cf: transports (unix services that deliver) with
 * their TRANSPORT_name parameters, and listeners (inet services of smtpd).
 */
#include "conf/conf_priv.h"

#include "lib/err.h"

/* ---- TRANSPORT_suffix parameters ---- */

enum fits { FITS_DELIVERY, FITS_COMMAND };

struct suffix {
	const char *suffix; /* with the underscore */
	const char *def;
	enum param_type type;
	enum fits fits;
	size_t offset; /* in struct conf_transport, 0 = accepted without effect */
};

#define FIELD(name) offsetof(struct conf_transport, name)

static const struct suffix suffixes[] = {
	{ .suffix = "_delivery_slot_cost", .def = "$default_delivery_slot_cost", .type = P_INT },
	{ .suffix = "_delivery_slot_discount",
	  .def = "$default_delivery_slot_discount",
	  .type = P_INT },
	{ .suffix = "_delivery_slot_loan", .def = "$default_delivery_slot_loan", .type = P_INT },
	{ .suffix = "_destination_concurrency_failed_cohort_limit",
	  .def = "$default_destination_concurrency_failed_cohort_limit",
	  .type = P_INT,
	  .offset = FIELD(destination_concurrency_failed_cohort_limit) },
	{ .suffix = "_destination_concurrency_limit",
	  .def = "$default_destination_concurrency_limit",
	  .type = P_INT,
	  .offset = FIELD(destination_concurrency_limit) },
	{ .suffix = "_destination_concurrency_negative_feedback",
	  .def = "$default_destination_concurrency_negative_feedback",
	  .type = P_STR,
	  .offset = FIELD(destination_concurrency_negative_feedback) },
	{ .suffix = "_destination_concurrency_positive_feedback",
	  .def = "$default_destination_concurrency_positive_feedback",
	  .type = P_STR,
	  .offset = FIELD(destination_concurrency_positive_feedback) },
	{ .suffix = "_destination_rate_delay",
	  .def = "$default_destination_rate_delay",
	  .type = P_TIME,
	  .offset = FIELD(destination_rate_delay_ms) },
	{ .suffix = "_destination_recipient_limit",
	  .def = "$default_destination_recipient_limit",
	  .type = P_INT,
	  .offset = FIELD(destination_recipient_limit) },
	{ .suffix = "_extra_recipient_limit",
	  .def = "$default_extra_recipient_limit",
	  .type = P_INT },
	{ .suffix = "_initial_destination_concurrency",
	  .def = "$initial_destination_concurrency",
	  .type = P_INT,
	  .offset = FIELD(initial_destination_concurrency) },
	{ .suffix = "_minimum_delivery_slots",
	  .def = "$default_minimum_delivery_slots",
	  .type = P_INT },
	{ .suffix = "_recipient_limit", .def = "$default_recipient_limit", .type = P_INT },
	{ .suffix = "_recipient_refill_delay",
	  .def = "$default_recipient_refill_delay",
	  .type = P_TIME },
	{ .suffix = "_recipient_refill_limit",
	  .def = "$default_recipient_refill_limit",
	  .type = P_INT },
	{ .suffix = "_time_limit",
	  .def = "$command_time_limit",
	  .type = P_TIME,
	  .fits = FITS_COMMAND,
	  .offset = FIELD(command_time_limit_ms) },
	{ .suffix = "_transport_rate_delay",
	  .def = "$default_transport_rate_delay",
	  .type = P_TIME,
	  .offset = FIELD(transport_rate_delay_ms) },
};

static const struct {
	const char *program;
	enum transport_kind kind;
} kinds[] = {
	{ "smtp", TRANSPORT_SMTP },       { "lmtp", TRANSPORT_LMTP },
	{ "virtual", TRANSPORT_VIRTUAL }, { "local", TRANSPORT_LOCAL },
	{ "pipe", TRANSPORT_PIPE },       { "error", TRANSPORT_ERROR },
	{ "retry", TRANSPORT_ERROR },     { "discard", TRANSPORT_DISCARD },
};

/* -1 when the service does not deliver. */
static int kind_of(const struct service *s)
{
	if (s->pub.type != SERVICE_UNIX)
		return -1;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		if (strcmp(kinds[i].program, s->pub.program) == 0)
			return (int)kinds[i].kind;
	}
	return -1;
}

unsigned transport_param_count(void)
{
	return ARRAY_LEN(suffixes);
}

const char *transport_param_suffix(unsigned idx)
{
	return suffixes[idx].suffix;
}

bool transport_param_fits(const struct service *s, unsigned idx)
{
	if (suffixes[idx].fits == FITS_COMMAND)
		return strcmp(s->pub.program, "pipe") == 0 || strcmp(s->pub.program, "spawn") == 0;
	return kind_of(s) >= 0;
}

bool transport_param_acts(unsigned idx)
{
	return suffixes[idx].offset != 0;
}

int transport_param_find(const struct conf *c, struct sv name)
{
	for (unsigned i = 0; i < ARRAY_LEN(suffixes); i++) {
		size_t len = strlen(suffixes[i].suffix);

		if (name.len <= len ||
		    memcmp(name.p + name.len - len, suffixes[i].suffix, len) != 0)
			continue;
		for (unsigned s = 0; s < c->service_count; s++) {
			if (transport_param_fits(&c->services[s], i) &&
			    sv_eq_str((struct sv){ name.p, name.len - len },
				      c->services[s].pub.name))
				return (int)i;
		}
	}
	return -1;
}

const char *transport_param_default(const struct conf *c, struct sv name)
{
	int idx = transport_param_find(c, name);

	return idx >= 0 ? suffixes[idx].def : NULL;
}

/* ---- transports ---- */

static void set_number(struct conf *c, struct conf_diag *d, struct sv name,
		       const struct suffix *suffix, const char *text, int64_t *field)
{
	struct scope *g = &c->global;
	struct raw_value raw = scope_raw(g, name);
	bool is_time = suffix->type == P_TIME;
	int err = is_time ? value_parse_time_ms(text, 's', field) : value_parse_int(text, field);

	if (err == 0 && *field >= 0)
		return;
	*field = 0;
	/* A default_x that is bad was reported under its own name, and so were table rows. */
	if (raw.file == NULL || param_find(name) >= 0)
		return;
	conf_diag_add(d, true, raw.file, raw.line, "%.*s = %s: expected %s", (int)name.len, name.p,
		      raw.text,
		      is_time ? "a number with a time unit (s, m, h, d, w)"
			      : "a whole number, at least 0");
}

static void set_param(struct conf *c, struct conf_diag *d, struct conf_transport *t,
		      const struct suffix *suffix)
{
	const char *name = arena_printf(&c->arena, "%s%s", t->name, suffix->suffix);
	char *field = (char *)t + suffix->offset;
	bool failed = false;
	const char *text = scope_get(&c->global, sv_from(name), &failed);

	if (text == NULL)
		text = suffix->type == P_STR ? "" : "0";
	if (suffix->type == P_STR)
		*(const char **)field = text;
	else
		set_number(c, d, sv_from(name), suffix, text, (int64_t *)(void *)field);
}

static int64_t chosen_process_limit(struct conf *c)
{
	return scope_raw(&c->global, SV("default_process_limit")).file != NULL
		       ? c->global.params.default_process_limit
		       : 0;
}

/* "-" is default_process_limit where the operator chose one; Postfix's own default is about
 * processes, which only commands are here, and would bound nothing else worth bounding. */
static int64_t transport_maxproc(struct conf *c, const struct service *s)
{
	if (s->pub.maxproc >= 0)
		return s->pub.maxproc;
	return kind_of(s) == TRANSPORT_PIPE ? c->global.params.default_process_limit
					    : chosen_process_limit(c);
}

static const char *transport_log_name(struct conf *c, const struct conf_transport *t)
{
	/* "retry" is error(8) by another name */
	const char *program = t->kind == TRANSPORT_ERROR ? "error" : t->service->program;

	return strcmp(t->params->syslog_name, c->global.params.syslog_name) == 0
		       ? program
		       : arena_printf(&c->arena, "%s/%s", t->params->syslog_name, program);
}

void transports_build(struct conf *c, struct conf_diag *d)
{
	c->transports = xcalloc(c->service_count + 1, sizeof(*c->transports));
	for (unsigned i = 0; i < c->service_count; i++) {
		struct service *s = &c->services[i];
		struct conf_transport *t = &c->transports[c->transport_count];
		int kind = kind_of(s);

		if (kind < 0)
			continue;
		c->transport_count++;
		t->name = s->pub.name;
		t->kind = (enum transport_kind)kind;
		t->service = &s->pub;
		t->params = s->pub.params;
		t->maxproc = transport_maxproc(c, s);
		t->log_name = transport_log_name(c, t);
		for (unsigned k = 0; k < ARRAY_LEN(suffixes); k++) {
			if (suffixes[k].offset != 0)
				set_param(c, d, t, &suffixes[k]);
		}
	}
}

unsigned conf_transport_count(const struct conf *c)
{
	return c->transport_count;
}

const struct conf_transport *conf_transport(const struct conf *c, unsigned index)
{
	return index < c->transport_count ? &c->transports[index] : NULL;
}

const struct conf_transport *conf_transport_find(const struct conf *c, const char *name)
{
	for (unsigned i = 0; i < c->transport_count; i++) {
		if (strcmp(c->transports[i].name, name) == 0)
			return &c->transports[i];
	}
	return NULL;
}

const char *conf_cleanup_name(const struct params *p)
{
	return strcmp(p->cleanup_service_name, "cleanup") == 0 ? "" : p->cleanup_service_name;
}

/* ---- listeners ---- */

/* The service of type pass that gets the clients postscreen lets through. */
static const struct conf_service *behind_postscreen(struct conf *c, struct conf_diag *d,
						    const struct service *s)
{
	const char *name = s->pub.params->smtpd_service_name;
	const struct conf_service *pass = conf_service_find(c, name, SERVICE_PASS);

	if (pass != NULL)
		return pass;
	conf_diag_add(d, false, c->master_path, s->pub.line,
		      "%s: there is no service %s of type pass behind postscreen: clients are "
		      "served with the options of this line",
		      s->pub.name, name);
	return &s->pub;
}

/* The service that answers at this one's address; NULL when it is no listener for mail. */
static const struct conf_service *listener_service(struct conf *c, struct conf_diag *d,
						   const struct service *s)
{
	if (s->pub.type == SERVICE_INET &&
	    (strcmp(s->pub.program, "smtpd") == 0 || strcmp(s->pub.program, "qmqpd") == 0))
		return &s->pub;
	if (s->pub.type == SERVICE_INET && strcmp(s->pub.program, "postscreen") == 0)
		return behind_postscreen(c, d, s);
	return NULL;
}

/* Does a pattern of master_service_disable mean the service: "inet", "smtp/inet", or the old form
 * "smtp.inet"? */
static bool pattern_matches(struct sv pattern, const struct service *s)
{
	size_t name_len = strlen(s->pub.name), type_len = strlen(s->type_text);
	const char *p = pattern.p;

	if (sv_eq_str(pattern, s->type_text))
		return true;
	return pattern.len == name_len + 1 + type_len && memcmp(p, s->pub.name, name_len) == 0 &&
	       (p[name_len] == '/' || p[name_len] == '.') &&
	       memcmp(p + name_len + 1, s->type_text, type_len) == 0;
}

/* By master_service_disable; the first pattern that matches decides. */
bool service_is_disabled(const struct conf *c, const struct service *s)
{
	const char *p = c->global.params.master_service_disable;

	while (*(p += strspn(p, ", \t\r\n")) != '\0') {
		size_t len = strcspn(p, ", \t\r\n");
		bool no = *p == '!';

		if (pattern_matches((struct sv){ p + no, len - no }, s))
			return !no;
		p += len;
	}
	return false;
}

void listeners_build(struct conf *c, struct conf_diag *d)
{
	c->listeners = xcalloc(c->service_count + 1, sizeof(*c->listeners));
	for (unsigned i = 0; i < c->service_count; i++) {
		const struct service *s = &c->services[i];
		struct conf_listener *l = &c->listeners[c->listener_count];
		const char *colon = strrchr(s->pub.name, ':');
		const char *host = s->pub.name;
		size_t host_len = colon != NULL ? (size_t)(colon - host) : 0;

		l->service = service_is_disabled(c, s) ? NULL : listener_service(c, d, s);
		if (l->service == NULL)
			continue;
		l->screen = strcmp(s->pub.program, "postscreen") == 0 ? &s->pub : NULL;
		c->listener_count++;
		if (host_len >= 2 && host[0] == '[') {
			host++;
			host_len -= 2;
		}
		l->host = arena_strndup(&c->arena, host, host_len);
		l->port = colon != NULL ? colon + 1 : s->pub.name;
		l->maxproc =
			l->service->maxproc >= 0 ? l->service->maxproc : chosen_process_limit(c);
	}
}

unsigned conf_listener_count(const struct conf *c)
{
	return c->listener_count;
}

const struct conf_listener *conf_listener(const struct conf *c, unsigned index)
{
	return index < c->listener_count ? &c->listeners[index] : NULL;
}
