/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of the postconf command share. */
#ifndef PH_CONF_POSTCONF_H
#define PH_CONF_POSTCONF_H

#include "conf/conf_priv.h"

#define POSTCONF_LINE_LIMIT 80

struct postconf {
	const char *dir;
	bool fold;                       /* -f */
	bool no_name;                    /* -h */
	bool no_value;                   /* -H */
	bool expand;                     /* -x */
	bool json;                       /* -j */
	bool defaults;                   /* -d */
	bool explicit;                   /* -n */
	bool dir_given;                  /* -c or MAIL_CONFIG */
	bool quiet;                      /* -q */
	bool all_params;                 /* -PP */
	bool reference;                  /* -G */
	unsigned classes;                /* -C */
	unsigned given;                  /* options_have() */
	struct conf_override *overrides; /* -o */
	unsigned override_count;
	struct conf *conf;
	char **names;
	unsigned name_count;
};

enum { CLASS_BUILTIN = 1, CLASS_SERVICE = 2, CLASS_USER = 4 };

/* ---- the command line (postconf_options.c) ---- */

void options_read(struct postconf *pc, int argc, char **argv);
/* By letter; 'E' is --effect, 'Q' a second -P. */
bool options_have(const struct postconf *pc, char option);

struct name_list {
	const char **names; /* to be freed; the names are not copied */
	size_t count, cap;
};
void name_list_add(struct name_list *l, const char *name);
void name_list_sort(struct name_list *l); /* and drops the second of equal names */

/* ---- output (postconf_print.c) ---- */

/* "name = value" as the options say. */
void print_nameval(const struct postconf *pc, const char *name, const char *value);
/* Words of text behind `col` columns of the current line; returns the new column. */
unsigned print_words(const struct postconf *pc, const char *text, unsigned col);
/* The same, with the blanks inside { } kept. */
unsigned print_groups(const struct postconf *pc, const char *text, unsigned col);
/* "name = value" of master.cf, whose values have groups. */
void print_nameval_groups(const struct postconf *pc, const char *name, const char *value);
/* One word of which the blanks inside are kept. */
unsigned print_word(const struct postconf *pc, struct sv word, unsigned col);

/* ---- master.cf (postconf_master.c) ---- */

/* Return the exit status. */
int master_show_entries(const struct postconf *pc); /* -M */
int master_show_fields(const struct postconf *pc);  /* -F */
int master_show_params(const struct postconf *pc);  /* -P */
/* The entry as -M prints it, with a line per option when `fold`, and $names of options replaced
 * when `expand` is its configuration. */
void master_format(const struct service *s, bool fold, const struct conf *expand, struct buf *out);
/* 0 for service ... 7 for command; dies when it is none. */
int master_field(struct sv name);

/* ---- effects (postconf_effect.c) ---- */

int effect_show(const struct postconf *pc);

/* ---- editing (postconf_edit.c) ---- */

enum edit_what { EDIT_SET, EDIT_DELETE, EDIT_COMMENT };
/* names: "name=value" for EDIT_SET, else "name". Die with a message when a file cannot be changed;
 * nothing is changed then. */
int edit_main(const struct postconf *pc, enum edit_what what);
int edit_master_entries(const struct postconf *pc, enum edit_what what); /* -M */
int edit_master_fields(const struct postconf *pc);                       /* -F */
int edit_master_params(const struct postconf *pc, enum edit_what what);  /* -P */

/* ---- the manual (postconf_doc.c) ---- */

void doc_write(void);

#endif
