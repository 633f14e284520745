/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The command line of postconf: which options there are, and which exclude each other. Messages
 * are Postfix's. Called once by main().
 */
#include "conf/postconf.h"

#include <getopt.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "lib/log.h"

/* In the order in which messages name them; Q stands for -PP, E for --effect. */
static const char order[] = "aAbdefFhHjlmMnopPtTxX#QE";

static const char usage_text[] =
	"usage: postconf [-a (server SASL types)] [-A (client SASL types)] [-b (bounce templates)] "
	"[-c config_dir] [-C class,... (builtin, service, user, all)] [-d (defaults)] [-e (edit)] "
	"[-f (fold lines)] [-F (master.cf fields)] [-h (no names)] [-H (no values)] [-j (JSON)] "
	"[-l (lock types)] [-m (table types)] [-M (master.cf entries)] [-n (set in main.cf)] "
	"[-o name=value] [-p (main.cf)] [-P (master.cf parameters)] [-q (no warnings of names)] "
	"[-t (bounce templates, as they are)] [-T mode (TLS)] [-v] [-x (expand)] [-X (remove)] "
	"[-# (comment out)] [--effect (what it does here)] [name...]";

static unsigned bit(char option)
{
	const char *at = strchr(order, option);

	ASSERT(at != NULL && option != '\0');
	return 1u << (at - order);
}

static unsigned bits(const char *options)
{
	unsigned mask = 0;

	for (; *options != '\0'; options++)
		mask |= bit(*options);
	return mask;
}

bool options_have(const struct postconf *pc, char option)
{
	return (pc->given & bit(option)) != 0;
}

/* " -e -f" */
static const char *names_of(unsigned mask, struct buf *out)
{
	buf_reset(out);
	for (unsigned i = 0; order[i] != '\0'; i++) {
		if ((mask >> i & 1) == 0)
			continue;
		if (order[i] == 'Q')
			buf_add_str(out, " -PP");
		else if (order[i] == 'E')
			buf_add_str(out, " --effect");
		else
			buf_printf(out, " -%c", order[i]);
	}
	return buf_cstr(out);
}

#define MODES "aAblmtpMFPTE"

/* Of each of these at most one. */
static const char *const exclusive[] = {
	MODES, "Qe#X", "den#X", "fe#X", "xe#X", "ode#X", "he#XH",
};

static const struct {
	char option;
	const char *with; /* all that may stand beside it */
} compatible[] = {
	{ 'a', "" },          { 'A', "" },        { 'b', "" },          { 'l', "" },
	{ 'm', "" },          { 't', "" },        { 'T', "" },          { 'p', "eX#fhxdnoHj" },
	{ 'M', "eX#foxj" },   { 'F', "efhoxHj" }, { 'P', "eXfhoxHjQ" }, { 'Q', "fhoxHjP" },
	{ 'j', "pMFPQoxnd" }, { 'E', "no" },
};

static void check_options(unsigned given)
{
	struct buf one = BUF_INIT, two = BUF_INIT;

	for (size_t i = 0; i < ARRAY_LEN(exclusive); i++) {
		unsigned both = given & bits(exclusive[i]);

		if ((both & (both - 1)) != 0)
			die("specify one of%s", names_of(both, &one));
	}
	for (size_t i = 0; i < ARRAY_LEN(compatible); i++) {
		unsigned own = bit(compatible[i].option);
		unsigned excess = given & ~own & ~bits(compatible[i].with);

		if ((given & own) != 0 && excess != 0)
			die("with option%s, do not specify%s", names_of(own, &one),
			    names_of(excess, &two));
	}
	buf_fini(&one);
	buf_fini(&two);
}

static void add_override(struct postconf *pc, const char *text)
{
	struct sv name, value;
	const char *why = conf_split_nameval(sv_from(text), &name, &value);

	if (why != NULL)
		die("invalid parameter override: %s: %s", text, why);
	pc->overrides = xrealloc(pc->overrides, (pc->override_count + 1) * sizeof(*pc->overrides));
	pc->overrides[pc->override_count++] = (struct conf_override){
		.name = xstrndup(name.p, name.len),
		.value = xstrndup(value.p, value.len),
	};
}

/* -C builtin,service,user,all */
static void read_classes(struct postconf *pc, const char *text)
{
	static const struct {
		const char *name;
		unsigned classes;
	} table[] = {
		{ "builtin", CLASS_BUILTIN },
		{ "service", CLASS_SERVICE },
		{ "user", CLASS_USER },
		{ "all", CLASS_BUILTIN | CLASS_SERVICE | CLASS_USER },
	};

	pc->classes = 0;
	for (const char *p = text; *(p += strspn(p, ", \t")) != '\0';) {
		size_t len = strcspn(p, ", \t"), i = 0;

		while (i < ARRAY_LEN(table) &&
		       (strlen(table[i].name) != len || strncasecmp(table[i].name, p, len) != 0))
			i++;
		if (i == ARRAY_LEN(table))
			die("unknown -C option value \"%.*s\" in \"%s\"", (int)len, p, text);
		pc->classes |= table[i].classes;
		p += len;
	}
}

static void read_option(struct postconf *pc, int option, const char *arg)
{
	if (option == '?')
		die("%s", usage_text);
	if (option == 'c') {
		pc->dir = arg;
		pc->dir_given = true;
	} else if (option == 'G') {
		pc->reference = true;
	} else if (option == 'q') {
		pc->quiet = true;
	} else if (option == 'o') {
		add_override(pc, arg);
	} else if (option == 'C') {
		read_classes(pc, arg);
	}
	if ((option == 'b' || option == 't') && (pc->given & bits("bt")) != 0)
		die("specify one of -b and -t");
	if (option == 'T' && options_have(pc, 'T'))
		die("At most one -T <mode> option may be specified");
	if (option == 'P' && options_have(pc, 'P'))
		option = 'Q';
	if (strchr(order, option) != NULL)
		pc->given |= bit((char)option);
}

void options_read(struct postconf *pc, int argc, char **argv)
{
	static const struct option long_options[] = { { "effect", no_argument, NULL, 'E' }, { 0 } };
	int option;

	pc->classes = CLASS_BUILTIN | CLASS_SERVICE | CLASS_USER;
	while ((option = getopt_long(argc, argv, "aAbc:C:deEfFGhHjlmMno:pPqtT:vxX#", long_options,
				     NULL)) != -1)
		read_option(pc, option, optarg);
	pc->names = argv + optind;
	pc->name_count = (unsigned)(argc - optind);
	if ((pc->given & bits(MODES)) == 0)
		pc->given |= bit('p');
	/* name=value alone is an edit */
	if ((pc->given & bits("pMFP")) != 0 && pc->name_count > 0 &&
	    strchr(pc->names[0], '=') != NULL)
		pc->given |= bit('e');
	check_options(pc->given);
	if (options_have(pc, 'e') && pc->name_count == 0)
		die("-e requires name=value argument");
	if ((pc->given & bits("X#")) != 0 && pc->name_count == 0)
		die("missing service argument");
	if ((pc->given & bits("bt")) != 0 && pc->name_count > 1)
		die("options -b and -t require at most one template file");
	pc->fold = options_have(pc, 'f');
	pc->no_name = options_have(pc, 'h');
	pc->no_value = options_have(pc, 'H');
	pc->expand = options_have(pc, 'x');
	pc->json = options_have(pc, 'j');
	pc->defaults = options_have(pc, 'd');
	pc->explicit = options_have(pc, 'n');
	pc->all_params = options_have(pc, 'Q');
}
