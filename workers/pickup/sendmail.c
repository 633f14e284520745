/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * sendmail, mailq, newaliases (one program, three names): the command that programs and users send
 * mail with, with the options of Postfix's. Has no rights of its own: mail goes to postdrop, the
 * queue is listed by postqueue, aliases are made by postalias, SMTP on standard input is smtpd's.
 */
#include "workers/pickup/sendmail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/command.h"
#include "conf/map_text.h"
#include "lib/err.h"
#include "lib/log.h"
#include "workers/mail/verp.h"

#define ENVID_MAX 100 /* bytes: RFC 3461 4.4 */

enum mode { MODE_SEND, MODE_LIST, MODE_ALIASES, MODE_SMTP, MODE_DAEMON, MODE_FLUSH };

struct command {
	struct sendmail s;
	const char *name; /* by which it was called */
	enum mode mode;
	bool queue_run;   /* -q, -q30m */
	const char *id;   /* -qI */
	const char *site; /* -qR */
	char *conf_copy;
};

static NORETURN void usage(const char *text)
{
	command_fatal("%s", text);
}

/* ---- option values ---- */

static void set_mode(struct command *c, const char *arg)
{
	switch (arg[0]) {
	case 'd':
	case 'l':
		c->mode = MODE_DAEMON;
		break;
	case 'i':
		c->mode = MODE_ALIASES;
		break;
	case 'm':
		c->mode = MODE_SEND;
		break;
	case 'p':
		c->mode = MODE_LIST;
		break;
	case 's':
		c->mode = MODE_SMTP;
		break;
	case 'v':
		c->mode = MODE_SEND;
		c->s.probe = true;
		break;
	default:
		command_fatal("unsupported: -b%c", arg[0]);
	}
}

static void set_body(struct command *c, const char *arg)
{
	if (str_eq_nocase(arg, "8BITMIME"))
		c->s.body = BODY_8BIT;
	else if (str_eq_nocase(arg, "7BIT"))
		c->s.body = BODY_7BIT;
	else
		command_fatal("-B option needs 8BITMIME or 7BIT");
}

/* As Postfix: such values are no reason to lose a message. */
static void ignored(const char *text)
{
	log_warn("%s -- ignored", text);
}

/* 0 when it is not one. */
static uint8_t parse_notify(const char *arg)
{
	static const struct {
		struct sv word;
		uint8_t bit;
	} words[] = {
		{ { "never", 5 }, NOTIFY_NEVER },
		{ { "success", 7 }, NOTIFY_SUCCESS },
		{ { "failure", 7 }, NOTIFY_FAILURE },
		{ { "delay", 5 }, NOTIFY_DELAY },
	};
	uint8_t bits = 0;

	for (const char *at = arg; *at != '\0'; at += *at == ',') {
		struct sv word = { at, strcspn(at, ",") };
		size_t i = 0;

		while (i < ARRAY_LEN(words) && !sv_eq_nocase(word, words[i].word))
			i++;
		if (i == ARRAY_LEN(words))
			return 0;
		bits |= words[i].bit;
		at += word.len;
	}
	return (bits & NOTIFY_NEVER) != 0 && bits != NOTIFY_NEVER ? 0 : bits;
}

static void set_notify(struct command *c, const char *arg)
{
	c->s.notify = parse_notify(arg);
	if (c->s.notify == 0)
		ignored("bad -N option value");
}

static void set_ret(struct command *c, const char *arg)
{
	if (str_eq_nocase(arg, "full"))
		c->s.ret = DSN_RET_FULL;
	else if (str_eq_nocase(arg, "hdrs"))
		c->s.ret = DSN_RET_HDRS;
	else
		ignored("bad -R option value");
}

static void set_envid(struct command *c, const char *arg)
{
	size_t len = strlen(arg);
	bool printable = len > 0;

	for (size_t i = 0; i < len; i++)
		printable = printable && arg[i] >= ' ' && arg[i] <= '~';
	if (len > ENVID_MAX)
		ignored("too long -V option value");
	else if (!printable)
		ignored("bad syntax in -V option value");
	else
		c->s.envid = arg;
}

/* -C: a configuration directory, or main.cf in it. */
static void set_conf(struct command *c, const char *arg)
{
	struct stat st;

	free(c->conf_copy);
	c->conf_copy = xstrdup(arg);
	if (stat(arg, &st) == 0 && !S_ISDIR(st.st_mode)) {
		char *slash = strrchr(c->conf_copy, '/');

		if (slash != NULL)
			*slash = '\0';
	}
	c->s.conf_dir = c->conf_copy;
}

static void set_old_option(struct command *c, const char *arg)
{
	switch (arg[0]) {
	case 'i':
		c->s.ignore_dots = true;
		break;
	case '7':
		c->s.body = BODY_7BIT;
		break;
	case '8':
		c->s.body = BODY_8BIT;
		break;
	case 'A':
		if (arg[1] == '\0')
			usage("-oA requires pathname");
		break;
	default:
		break; /* -o e, -o d and many more mean nothing here */
	}
}

static void set_long_option(struct command *c, const char *arg)
{
	if (str_starts_nocase(arg, "smtputf8=")) {
		c->s.smtputf8 = arg + 9;
		if (strcmp(c->s.smtputf8, "yes") != 0 && strcmp(c->s.smtputf8, "no") != 0 &&
		    strcmp(c->s.smtputf8, "auto") != 0)
			usage("-O smtputf8= needs yes, no or auto");
	} else if (str_starts_nocase(arg, "requiretls=")) {
		command_fatal("-O requiretls is not supported");
	}
}

static void set_queue_run(struct command *c, const char *arg)
{
	c->queue_run = true;
	if (arg[0] == 'I') {
		c->id = arg + 1;
		if (*c->id == '\0')
			usage("specify: -qIqueueid");
	} else if (arg[0] == 'R') {
		c->site = arg + 1;
		if (*c->site == '\0')
			usage("specify: -qRsitename");
	} else if (arg[0] < '0' || arg[0] > '9') {
		command_fatal("-q%c is not implemented", arg[0]);
	}
}

static void option(struct command *c, int opt, const char *arg)
{
	switch (opt) {
	case 'b':
		set_mode(c, arg);
		break;
	case 'B':
		set_body(c, arg);
		break;
	case 'C':
		set_conf(c, arg);
		break;
	case 'f':
	case 'r':
		c->s.sender = arg;
		break;
	case 'F':
		c->s.full_name = arg;
		break;
	case 'I':
		c->mode = MODE_ALIASES;
		break;
	case 'i':
		c->s.ignore_dots = true;
		break;
	case 'N':
		set_notify(c, arg);
		break;
	case 'n':
		usage("-n option not supported");
	case 'o':
		set_old_option(c, arg);
		break;
	case 'O':
		set_long_option(c, arg);
		break;
	case 'q':
		set_queue_run(c, arg);
		break;
	case 'R':
		set_ret(c, arg);
		break;
	case 't':
		c->s.extract = true;
		break;
	case 'V':
		set_envid(c, arg);
		break;
	case 'X':
		if (arg[0] != 'V')
			command_fatal("unsupported: -X%c", arg[0]);
		c->s.verp = arg + 1;
		break;
	case 'v':
		c->s.report = true;
		break;
	case '?':
		command_fatal("usage: %s [options]", c->name);
	default:
		break; /* accepted for programs that give them to Sendmail */
	}
}

/* Options as Postfix reads them: "-q" alone is none of getopt's. */
static void read_options(struct command *c, int argc, char **argv)
{
	static char queue_run[] = "-q0";
	int opt;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--") == 0)
			break;
		if (strcmp(argv[i], "-q") == 0)
			argv[i] = queue_run;
	}
	while ((opt = getopt(argc, argv, "+A:B:C:F:GIL:N:O:R:UV:X:b:ce:f:h:imno:p:q:r:tvx")) != -1)
		option(c, opt, optarg != NULL ? optarg : "");
}

/* ---- modes ---- */

static NORETURN void become(const struct command *c, const char *name, char *const *argv)
{
	char *path = xasprintf("%s/%s", c->s.p->command_directory, name);

	if (c->s.conf_dir != NULL)
		setenv("MAIL_CONFIG", c->s.conf_dir, 1);
	execv(path, argv);
	command_fatal("execute %s: %s", path, strerror(errno));
}

static NORETURN void list_queue(const struct command *c)
{
	static char name[] = "postqueue", p[] = "-p";

	become(c, "postqueue", (char *[]){ name, p, NULL });
}

static NORETURN void flush_queue(const struct command *c)
{
	static char name[] = "postqueue", f[] = "-f", i[] = "-i", s[] = "-s";
	char *arg = c->id != NULL ? xstrdup(c->id) : c->site != NULL ? xstrdup(c->site) : NULL;

	become(c, "postqueue",
	       arg == NULL ? (char *[]){ name, f, NULL }
			   : (char *[]){ name, c->id != NULL ? i : s, arg, NULL });
}

/* The tables of alias_database. */
static NORETURN void make_aliases(const struct command *c)
{
	static char name[] = "postalias", end[] = "--";
	const struct conf *conf = c->s.conf;
	const char *list = conf_get(conf, "alias_database");
	struct sv rest = sv_from(list == NULL ? "" : list), item;
	char **argv = xcalloc(rest.len + 3, sizeof(*argv));
	size_t n = 0;
	bool group;

	argv[n++] = name;
	argv[n++] = end;
	while (map_item_next(&rest, &item, &group) > 0)
		argv[n++] = xstrndup(item.p, item.len);
	if (n == 2)
		exit(EX_OK);
	become(c, name, argv);
}

/* As Postfix's, in the background: the mail system says in its log how the start went. */
static NORETURN void start_daemon(const struct command *c)
{
	static char name[] = "postfix", start[] = "start";
	pid_t pid = fork();

	if (pid < 0)
		command_fatal("fork: %s", strerror(errno));
	if (pid > 0)
		exit(EX_OK);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	setsid();
	if (!isatty(STDERR_FILENO))
		dup2(null, STDERR_FILENO);
	become(c, name, (char *[]){ name, start, NULL });
}

static NORETURN void serve_smtp(const struct command *c)
{
	char *path = xasprintf("%s/smtpd", c->s.p->daemon_directory);

	if (c->s.conf_dir != NULL)
		setenv("MAIL_CONFIG", c->s.conf_dir, 1);
	execl(path, "smtpd", "-S", (char *)NULL);
	command_fatal("execute %s: %s", path, strerror(errno));
}

/* postdrop asks the same again, with rights that this program has not: here it is for the exit
 * status, of a failure that more tries may mend. */
static void check_user(const struct command *c)
{
	uid_t uid = getuid();

	if (!command_user_may(c->s.conf, "authorized_submit_users", uid))
		command_fatal("User %s(%u) is not allowed to submit mail", command_user(uid),
			      (unsigned)uid);
}

static int send_message(struct command *c, int argc, char **argv)
{
	const char *why = c->s.verp != NULL ? verp_check_delimiters(sv_from(c->s.verp),
								    c->s.p->verp_delimiter_filter)
					    : NULL;

	if (why != NULL)
		command_fatal("-V requires two characters from %s", c->s.p->verp_delimiter_filter);
	if (c->s.probe && c->s.extract)
		usage("-t option cannot be used with -bv");
	c->s.rcpts = argv + optind;
	c->s.rcpt_count = (unsigned)(argc - optind);
	if (c->s.rcpt_count == 0 && !c->s.extract)
		command_fatal("%s(%u): Recipient addresses must be specified on the command line "
			      "or via the -t option",
			      command_user(getuid()), (unsigned)getuid());
	check_user(c);
	return sendmail_send(&c->s);
}

static void check_combination(const struct command *c, int rcpts)
{
	static const char *const modes[] = {
		[MODE_LIST] = "display queue", [MODE_ALIASES] = "alias initialization",
		[MODE_SMTP] = "stand-alone",   [MODE_DAEMON] = "daemon",
		[MODE_FLUSH] = "flush queue",
	};

	if (c->mode != MODE_SEND && rcpts > 0)
		command_fatal("%s mode requires no recipient", modes[c->mode]);
	if (c->mode != MODE_SEND && c->s.extract)
		usage("-t can be used only in delivery mode");
}

int main(int argc, char **argv)
{
	struct command c = { .mode = MODE_SEND };
	static const struct {
		const char *name;
		enum mode mode;
	} names[] = {
		{ "sendmail", MODE_SEND },
		{ "mailq", MODE_LIST },
		{ "newaliases", MODE_ALIASES },
	};
	const char *base = strrchr(argv[0], '/');
	size_t called = 0;

	base = base == NULL ? argv[0] : base + 1;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		called = strcmp(base, names[i].name) == 0 ? i : called;
	c.name = names[called].name;
	c.mode = names[called].mode;
	/* pipe(8), and whoever else has a message to get rid of, tries again */
	command_start(c.name, EX_TEMPFAIL);
	read_options(&c, argc, argv);
	if (c.queue_run && (c.mode == MODE_SEND || c.mode == MODE_LIST))
		c.mode = MODE_FLUSH;
	check_combination(&c, argc - optind);
	c.s.conf = command_conf(c.s.conf_dir);
	c.s.p = conf_params(c.s.conf);
	if (c.s.verp != NULL && c.s.verp[0] == '\0')
		c.s.verp = c.s.p->default_verp_delimiters;
	switch (c.mode) {
	case MODE_SEND:
		break;
	case MODE_LIST:
		list_queue(&c);
	case MODE_ALIASES:
		make_aliases(&c);
	case MODE_SMTP:
		serve_smtp(&c);
	case MODE_DAEMON:
		start_daemon(&c);
	case MODE_FLUSH:
		flush_queue(&c);
	}
	int status = send_message(&c, argc, argv);

	conf_free(&c.s.conf);
	free(c.conf_copy);
	return status;
}
