/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the files of conf/ share among themselves; nobody else includes this. Order of the layers:
 * param (table, value syntax) and expand ($name syntax) know no configuration; maincf and mastercf
 * turn text into entries and services; conf.c puts them together; scope answers "what is NAME
 * here".
 */
#ifndef PH_CONF_CONF_PRIV_H
#define PH_CONF_CONF_PRIV_H

#include "conf/conf.h"
#include "conf/lines.h"
#include "lib/arena.h"
#include "lib/hash.h"

#define CONF_FILE_LIMIT_BYTES  (16u << 20)
#define CONF_VALUE_LIMIT_BYTES (1u << 20) /* an expanded value; stops a = $b$b, b = $c$c, ... */
#define CONF_BRACE_DEPTH_LIMIT 100

/* ---- the table (param.c) ---- */

enum param_type { P_STR, P_BOOL, P_INT, P_TIME, P_SIZE, P_ENUM };
enum param_when { RELOAD, BOOT };

struct param_desc {
	const char *field;    /* name in struct params */
	const char *spelling; /* name in main.cf where it differs, else NULL */
	enum param_type type;
	enum param_when when;
	bool raw; /* STR not expanded when loaded */
	const char *def;
	const char *(*def_fn)(struct conf *c); /* instead of def */
	const char *min, *max;
	const char *words;
	const char *text;
	size_t offset;
};

struct inert_desc {
	const char *name;
	const char *def;
};

unsigned param_count(void);
const struct param_desc *param_desc(unsigned idx);
const char *param_name(const struct param_desc *pd);
/* Index into the table, -1 when not there. */
int param_find(struct sv name);
unsigned inert_count(void);
const struct inert_desc *inert_desc(unsigned idx);
const struct inert_desc *inert_find(struct sv name);

/* Numbers of every type in one: bool 0/1, ms, bytes, word index. STR is not parsed here. */
struct param_num {
	int64_t v;
};
/* 0, or E_SYNTAX / E_LIMIT with what was expected in `expected`. */
int param_parse(const struct param_desc *pd, const char *text, struct param_num *num_r,
		char *expected, size_t expected_size);
/* Syntax alone, for names outside the table. `unit` is the unit of a time without one. */
int value_parse_time_ms(const char *text, char unit, int64_t *ms_r);
int value_parse_size(const char *text, int64_t *bytes_r);
int value_parse_int(const char *text, int64_t *value_r);
void param_store(const struct param_desc *pd, struct params *p, const char *str, int64_t num);

/* ---- $name syntax (expand.c) ---- */

struct expand {
	/* The value of `name`, NULL when undefined; *fail_r set when it cannot be had (a loop, or
	 * an error in its own text that was reported there). */
	const char *(*lookup)(void *ctx, struct sv name, bool *fail_r);
	void *ctx;
	char error[200]; /* after E_SYNTAX and E_LIMIT; empty when lookup failed */
};
int expand_text(struct expand *e, struct sv text, struct buf *out);
/* Calls ref for every name in text, in all branches. */
int expand_scan(struct sv text, void (*ref)(void *ctx, struct sv name), void *ctx);

/* ---- main.cf (maincf.c) ---- */

struct main_entry {
	const char *name;
	const char *value; /* unexpanded; continuation lines joined, white space as written */
	unsigned line;     /* where it starts; 0 = from the command line */
	bool used;         /* known, or some other value refers to it (names_check) */
};

void maincf_parse(struct conf *c, struct conf_diag *d);

/* ---- scopes (scope.c): the global one, and one per service with overrides ---- */

struct scope {
	struct conf *c;
	const struct conf_override *overrides;
	unsigned override_count;
	const char *file; /* of the overrides */
	unsigned line;
	const char *service_name;
	const char *process_name;
	const char **value;     /* by parameter index; NULL = not expanded yet */
	unsigned char *state;   /* by parameter index: enum value_state */
	struct strmap *others;  /* name -> struct other_value */
	struct conf_diag *diag; /* while loading, then NULL */
	struct params params;
};

/* Where a raw text comes from. */
struct raw_value {
	const char *text; /* NULL = undefined */
	const char *file; /* NULL = default */
	unsigned line;
	bool raw;
};

void scope_init(struct scope *s, struct conf *c);
void scope_fini(struct scope *s);
struct raw_value scope_raw(struct scope *s, struct sv name);
const char *scope_get(struct scope *s, struct sv name, bool *fail_r);
/* Expand and check all parameters into s->params. */
void scope_fill(struct scope *s);
int scope_expand(struct scope *s, const char *text, struct buf *out, char *error,
		 size_t error_size);

/* Defaults from the machine (defaults.c). */
const char *conf_default_myhostname(struct conf *c);
const char *conf_default_mydomain(struct conf *c);
const char *conf_default_mynetworks(struct conf *c);

/* ---- master.cf (mastercf.c) ---- */

struct service {
	struct conf_service pub;
	const char *type_text;
	const char *fields[5];  /* private unprivileged chroot wakeup maxproc, as written */
	const char *command;    /* program and arguments as written, blanks joined */
	bool builtin;           /* not in the user's file */
	struct scope *scope;    /* NULL = the global one */
	struct service *stress; /* the same with "stress = yes"; of those that serve SMTP clients */
};

void mastercf_parse(struct conf *c, struct conf_diag *d);
/* Append the services that always exist and that the user's file does not define. */
void mastercf_add_builtin(struct conf *c, struct conf_diag *d);
/* One logical line; false when it is wrong (reported). */
bool mastercf_parse_line(struct conf *c, struct conf_diag *d, struct sv text, unsigned number,
			 struct service *s_r);
const char *mastercf_type_text(enum service_type type);
extern const char mastercf_default_text[];

/* ---- transports and listeners (transport.c) ---- */

void transports_build(struct conf *c, struct conf_diag *d);
void listeners_build(struct conf *c, struct conf_diag *d);
/* For SERVICE_destination_recipient_limit and its like: the index of its suffix, -1 when `name` is
 * not such a name of a service in master.cf; and the default text ("$default_..."), NULL then. */
int transport_param_find(const struct conf *c, struct sv name);
const char *transport_param_default(const struct conf *c, struct sv name);
unsigned transport_param_count(void);
const char *transport_param_suffix(unsigned idx);
/* Whether anything reads it. */
bool transport_param_acts(unsigned idx);
/* Whether the suffix idx makes sense for that service. */
/* Does master_service_disable name it? */
bool service_is_disabled(const struct conf *c, const struct service *s);
bool transport_param_fits(const struct service *s, unsigned idx);

/* ---- unused and undefined names (names.c) ---- */

void names_check(struct conf *c, struct conf_diag *d);
/* Known to the program, or set by the operator and used by some value; after names_check(). */
bool names_is_used(const struct conf *c, const char *name);

/* ---- the whole (conf.c) ---- */

struct conf {
	struct arena arena;
	const char *dir, *main_path, *master_path;
	struct buf main_text, master_text;
	bool has_master; /* master.cf exists */
	struct main_entry *entries;
	unsigned entry_count;
	struct strmap *entry_by_name;
	const struct main_entry **entry_at; /* by parameter index */
	const struct conf_override *cmdline;
	unsigned cmdline_count;
	const char *myhostname, *mydomain, *mynetworks; /* computed defaults, NULL = not yet */
	bool no_lines;                                  /* of conf_load_opts */
	struct strmap *used_names; /* operator's names that some value uses (names_check) */
	bool uses_stress;          /* a value that the user wrote mentions $stress */
	bool uses_service_name;    /* some main.cf value mentions $service_name or $process_name */
	struct scope global;
	struct service *services;
	unsigned service_count, service_cap;
	struct conf_transport *transports;
	unsigned transport_count;
	struct conf_listener *listeners;
	unsigned listener_count;
};

/* As conf_load_dir, for postconf. */
struct conf_load_opts {
	bool lenient;  /* keep a configuration with errors */
	bool no_main;  /* main.cf is taken as empty */
	bool no_lines; /* names warnings without line, in Postfix's words exactly */
	/* -o: in front of main.cf. Not copied. */
	const struct conf_override *overrides;
	unsigned override_count;
};
int conf_load_dir_opts(const char *dir, const struct conf_load_opts *opts, struct conf **conf_r,
		       struct conf_diag *d);

#endif
