/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a parameter does here; see conf/effect.h. Used by postconf and by `posthaste check`. */
#include "conf/effect.h"

#include "conf/conf_priv.h"
#include "lib/util.h"

enum reason_id {
#define REASON(id, kind, text) REASON_##id,
#include "conf/effect_reasons.inc"
#undef REASON
};

enum reason_kind { ELSEWHERE, MISSING };

static const struct {
	enum reason_kind kind;
	const char *text;
} reasons[] = {
#define REASON(id, kind, text) [REASON_##id] = { kind, text },
#include "conf/effect_reasons.inc"
#undef REASON
};

struct reason_row {
	const char *name;
	enum reason_id id;
};

static const struct reason_row rows[] = {
/* sizeof: a field that is not in the table does not compile. */
#define IDLE(field, reason)                                                                        \
	{ sizeof(((struct params *)0)->field) > 0 ? #field : "", REASON_##reason },
#define PARTLY(field, reason) IDLE(field, reason)
#include "conf/params_idle.inc"
#undef IDLE
#undef PARTLY
#define INERT(name, def, reason) { name, REASON_##reason },
#include "conf/params_inert.inc"
#undef INERT
};

struct alias_row {
	const char *name;
	const char *target; /* NULL: none */
	const char *advice;
};

static const struct alias_row aliases[] = {
#define ALIAS(name, new)      { name, new, "specify \"" new "\"" },
#define RETIRED(name, advice) { name, NULL, advice },
#include "conf/params_alias.inc"
#undef ALIAS
#undef RETIRED
};

/* By name, filled at the first question and kept for the life of the process. */
static struct strmap *row_map, *alias_map;

static void *unconst(const void *p)
{
	union {
		const void *in;
		void *out;
	} u = { .in = p };

	return u.out;
}

static void maps_fill(void)
{
	if (row_map != NULL)
		return;
	row_map = strmap_new();
	alias_map = strmap_new();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		strmap_put(row_map, sv_from(rows[i].name), unconst(&rows[i]));
	for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
		strmap_put(alias_map, sv_from(aliases[i].name), unconst(&aliases[i]));
}

const char *effect_text(enum effect effect)
{
	static const char *const texts[] = {
		[EFFECT_ACTS] = "acts",
		[EFFECT_ACCEPTED] = "accepted",
		[EFFECT_ALIAS] = "alias",
	};

	return texts[effect];
}

static void accept(struct effect_info *info, enum reason_id id)
{
	info->effect = EFFECT_ACCEPTED;
	info->reason = reasons[id].text;
	info->missing = reasons[id].kind == MISSING;
}

/* TRANSPORT_suffix, of a service or of none ("transport_suffix"). */
static bool find_transport(const struct conf *c, struct sv name, struct effect_info *info)
{
	static const char template[] = "transport";
	int suffix = c != NULL ? transport_param_find(c, name) : -1;

	for (unsigned i = 0; suffix < 0 && i < transport_param_count(); i++) {
		const char *text = transport_param_suffix(i);

		if (name.len == sizeof(template) - 1 + strlen(text) &&
		    memcmp(name.p, template, sizeof(template) - 1) == 0 &&
		    memcmp(name.p + sizeof(template) - 1, text, strlen(text)) == 0)
			suffix = (int)i;
	}
	if (suffix < 0)
		return false;
	if (!transport_param_acts((unsigned)suffix))
		accept(info, REASON_SCHEDULER);
	return true;
}

/* The effect apart from being an old name. */
static bool find_plain(const struct conf *c, struct sv name, struct effect_info *info)
{
	int idx = param_find(name);
	const struct reason_row *row;

	maps_fill();
	*info = (struct effect_info){ .effect = EFFECT_ACTS, .reason = "" };
	row = strmap_get(row_map, idx >= 0 ? sv_from(param_desc((unsigned)idx)->field) : name);
	if (row != NULL)
		accept(info, row->id);
	return row != NULL || idx >= 0 || find_transport(c, name, info);
}

bool effect_find(const struct conf *c, struct sv name, struct effect_info *info_r)
{
	const struct alias_row *alias;
	struct effect_info target;

	if (!find_plain(c, name, info_r))
		return false;
	alias = strmap_get(alias_map, name);
	if (alias == NULL)
		return true;
	if (alias->target != NULL && find_plain(c, sv_from(alias->target), &target))
		info_r->missing = info_r->missing || target.missing;
	info_r->effect = EFFECT_ALIAS;
	info_r->advice = alias->advice;
	if (info_r->missing && info_r->reason[0] == '\0')
		info_r->reason = target.reason;
	return true;
}

/* ---- what a configuration sets ---- */

struct summing {
	const struct conf *c;
	struct effect_summary *s;
	struct strmap *seen;
	size_t missing_cap, accepted_cap;
};

static bool is_off(struct sv value)
{
	return value.len == 0 || sv_eq(value, SV("no")) || sv_eq(value, SV("none")) ||
	       sv_eq(value, SV("0"));
}

/* Does it ask for anything? Not with its default, nor with what switches a thing off. */
static bool asks(struct conf *c, struct sv name, const char *value)
{
	const struct inert_desc *inert = inert_find(name);
	int idx = param_find(name);
	const char *def = idx >= 0        ? param_desc((unsigned)idx)->def
			  : inert != NULL ? inert->def
					  : transport_param_default(c, name);
	struct buf mine = BUF_INIT, ours = BUF_INIT;
	bool same = false;

	if (scope_expand(&c->global, value, &mine, NULL, 0) == 0) {
		same = is_off(sv_trim(buf_sv(&mine)));
		if (!same && def != NULL && scope_expand(&c->global, def, &ours, NULL, 0) == 0)
			same = sv_eq(sv_trim(buf_sv(&mine)), sv_trim(buf_sv(&ours)));
	}
	buf_fini(&mine);
	buf_fini(&ours);
	return !same;
}

static void count_name(struct summing *m, const char *name, bool known,
		       const struct effect_info *info)
{
	struct effect_summary *s = m->s;

	if (strmap_put(m->seen, sv_from(name), m) != NULL)
		return;
	if (!known) {
		s->own++;
		return;
	}
	s->acts += info->effect == EFFECT_ACTS;
	s->accepted += info->effect == EFFECT_ACCEPTED;
	s->aliases += info->effect == EFFECT_ALIAS;
	if (info->effect != EFFECT_ACCEPTED || info->missing)
		return;
	if (s->accepted_count == m->accepted_cap) {
		m->accepted_cap = m->accepted_cap ? 2 * m->accepted_cap : 64;
		s->accepted_names =
			xrealloc(s->accepted_names, m->accepted_cap * sizeof(*s->accepted_names));
	}
	s->accepted_names[s->accepted_count++] = name;
}

static void add_missing(struct summing *m, const char *name, const char *file, unsigned line,
			const char *reason)
{
	struct effect_summary *s = m->s;

	if (s->missing_count == m->missing_cap) {
		m->missing_cap = m->missing_cap ? 2 * m->missing_cap : 64;
		s->missing = xrealloc(s->missing, m->missing_cap * sizeof(*s->missing));
	}
	s->missing[s->missing_count++] = (struct effect_finding){
		.name = name, .file = file, .line = line, .reason = reason
	};
}

/* ---- options of services ---- */

enum {
	IN_SMTPD = 1,
	IN_CLEANUP = 2,
	IN_REWRITE = 4,
	IN_QMGR = 8,
	IN_CLIENT = 16,
	IN_AGENT = 32,
	IN_PICKUP = 64,
	IN_SPAWN = 128,
	IN_SCREEN = 256,
};

static const struct {
	const char *name;
	unsigned programs;
} read_where[] = {
#define WHERE(field, bits) { sizeof(((struct params *)0)->field) > 0 ? #field : "", bits },
#include "conf/params_where.inc"
#undef WHERE
};

static const struct {
	const char *program;
	unsigned bit;
} program_bits[] = {
	{ "cleanup", IN_CLEANUP },
	{ "discard", IN_CLIENT },
	{ "error", IN_CLIENT },
	{ "lmtp", IN_CLIENT },
	{ "local", IN_AGENT },
	{ "nqmgr", IN_QMGR },
	{ "oqmgr", IN_QMGR },
	{ "pickup", IN_PICKUP },
	{ "pipe", IN_AGENT },
	{ "postscreen", IN_SCREEN },
	{ "qmgr", IN_QMGR },
	{ "qmqpd", IN_SMTPD },
	{ "retry", IN_CLIENT },
	{ "smtp", IN_CLIENT },
	{ "smtpd", IN_SMTPD },
	{ "spawn", IN_SPAWN },
	{ "trivial-rewrite", IN_REWRITE },
	{ "virtual", IN_AGENT },
};

/* Does the program of a service read a parameter that acts with the options of its line? Names that
 * are the operator's own may stand in other values. */
static bool option_acts(const struct conf_service *s, const char *name)
{
	unsigned bit = 0;
	int idx = param_find(sv_from(name));

	for (size_t i = 0; i < ARRAY_LEN(program_bits); i++) {
		if (strcmp(program_bits[i].program, s->program) == 0)
			bit = program_bits[i].bit;
	}
	if (idx < 0 || strcmp(name, "syslog_name") == 0 || strcmp(name, "stress") == 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(read_where); i++) {
		if (strcmp(read_where[i].name, param_desc((unsigned)idx)->field) == 0)
			return (read_where[i].programs & bit) != 0;
	}
	return true;
}

static void add_option(struct summing *m, const struct conf_service *s,
		       const struct conf_override *o)
{
	struct effect_info info;

	if (effect_find(m->c, sv_from(o->name), &info) && info.effect == EFFECT_ACTS &&
	    !option_acts(s, o->name) && asks(unconst(m->c), sv_from(o->name), o->value))
		add_missing(m, o->name, m->c->master_path, s->line, reasons[REASON_OPTION].text);
}

static void add_setting(struct summing *m, const char *name, const char *value, const char *file,
			unsigned line)
{
	struct effect_info info = { 0 };
	bool known = effect_find(m->c, sv_from(name), &info);

	count_name(m, name, known, &info);
	if (known && info.missing && asks(unconst(m->c), sv_from(name), value))
		add_missing(m, name, file, line, info.reason);
}

/* By reason as effect_reasons.inc has them (its texts lie in that order), then by place. */
static size_t reason_order(const char *text)
{
	size_t i = 0;

	while (i < ARRAY_LEN(reasons) && reasons[i].text != text)
		i++;
	return i;
}

static int by_reason(const void *pa, const void *pb)
{
	const struct effect_finding *a = pa, *b = pb;
	size_t oa = reason_order(a->reason), ob = reason_order(b->reason);
	int diff = oa < ob ? -1 : oa > ob;

	if (diff == 0)
		diff = strcmp(a->file, b->file);
	if (diff == 0)
		diff = strcmp(a->name, b->name);
	return diff != 0 ? diff : a->line < b->line ? -1 : a->line > b->line;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* ---- services ---- */

static const struct {
	const char *program;
	enum reason_id id;
} programs[] = {
	{ "anvil", REASON_SERVICES },          { "bounce", REASON_SERVICES },
	{ "dnsblog", REASON_SERVICES },        { "flush", REASON_SERVICES },
	{ "nbdb_reindexd", REASON_MIGRATION }, { "postlogd", REASON_SERVICES },
	{ "proxymap", REASON_SERVICES },       { "scache", REASON_SERVICES },
	{ "showq", REASON_SERVICES },          { "tlsmgr", REASON_SERVICES },
	{ "tlsproxy", REASON_TLS_PROXY },      { "verify", REASON_SERVICES },
};

static const char *const acting[] = { "cleanup", "discard",         "error",  "lmtp", "local",
				      "nqmgr",   "oqmgr",           "pickup", "pipe", "postscreen",
				      "qmgr",    "qmqpd",           "retry",  "smtp", "smtpd",
				      "spawn",   "trivial-rewrite", "virtual" };

void effect_service(const struct conf_service *s, struct effect_info *info_r)
{
	*info_r = (struct effect_info){ .effect = EFFECT_ACTS, .reason = "" };
	for (size_t i = 0; i < ARRAY_LEN(acting); i++) {
		if (strcmp(acting[i], s->program) == 0)
			return;
	}
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		if (strcmp(programs[i].program, s->program) != 0)
			continue;
		accept(info_r, programs[i].id);
		return;
	}
	accept(info_r, REASON_PROGRAM);
}

static void add_service(struct summing *m, const struct service *s)
{
	struct effect_info info;

	if (s->builtin)
		return;
	effect_service(&s->pub, &info);
	if (info.missing)
		add_missing(m, s->pub.name, m->c->master_path, s->pub.line, info.reason);
}

void effect_summary(const struct conf *c, struct effect_summary *s)
{
	struct summing m = { .c = c, .s = s };

	*s = (struct effect_summary){ 0 };
	m.seen = strmap_new();
	for (unsigned i = 0; i < c->entry_count; i++) {
		const struct main_entry *e = &c->entries[i];

		/* Of duplicates only the last one counts. */
		if (strmap_get(c->entry_by_name, sv_from(e->name)) == e)
			add_setting(&m, e->name, e->value, c->main_path, e->line);
	}
	for (unsigned i = 0; i < c->service_count; i++) {
		const struct conf_service *service = &c->services[i].pub;

		for (unsigned k = 0; k < service->override_count; k++) {
			add_setting(&m, service->overrides[k].name, service->overrides[k].value,
				    c->master_path, service->line);
			add_option(&m, service, &service->overrides[k]);
		}
		add_service(&m, &c->services[i]);
	}
	strmap_free(&m.seen);
	if (s->accepted_count > 0)
		qsort(s->accepted_names, s->accepted_count, sizeof(*s->accepted_names), by_text);
	if (s->missing_count > 0)
		qsort(s->missing, s->missing_count, sizeof(*s->missing), by_reason);
}

void effect_summary_fini(struct effect_summary *s)
{
	free(s->accepted_names);
	free(s->missing);
	*s = (struct effect_summary){ 0 };
}
