/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Start of commands; see conf/command.h. */
#include "conf/command.h"

#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "conf/map.h"
#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

static const char *program = "command";
static int failure = EX_SOFTWARE; /* exit status */

/* "postdrop: warning: text", without the process id that log lines have. */
static void to_stderr(void *ctx UNUSED, enum log_level level UNUSED, const char *name,
		      const char *text, size_t len)
{
	fprintf(stderr, "%s: %.*s\n", name, (int)len, text);
}

static bool is_setgid(void)
{
	return getauxval(AT_SECURE) != 0 || geteuid() != getuid() || getegid() != getgid();
}

static void shed_caller(void)
{
	static const int ignored[] = { SIGHUP, SIGXFSZ, SIGALRM, SIGVTALRM, SIGPROF };

	close_range(3, ~0u, 0);
	clearenv();
	setenv("PATH", "/usr/bin:/bin", 1);
	umask(022);
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
}

void command_start(const char *name, int status)
{
	bool have_std = io_have_std();

	program = name;
	failure = status;
	if (is_setgid()) {
		const char *dir = getenv("MAIL_CONFIG");
		char *keep = dir != NULL ? xstrdup(dir) : NULL;

		if (!have_std)
			_exit(EX_OSERR);
		shed_caller();
		if (keep != NULL)
			setenv("MAIL_CONFIG", keep, 1); /* judged in command_conf() */
		free(keep);
	}
	signal(SIGPIPE, SIG_IGN);
	clock_init();
	clock_tick();
	log_set_program(name);
	log_set_sink(to_stderr, NULL);
}

static NORETURN PRINTF_LIKE(2, 0) void end(int status, const char *fmt, va_list ap)
{
	char text[1000];

	vsnprintf(text, sizeof(text), fmt, ap);
	str_make_printable(text, strlen(text));
	fprintf(stderr, "%s: fatal: %s\n", program, text);
	exit(status);
}

void command_fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end(failure, fmt, ap);
}

void command_fatal_as(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end(status, fmt, ap);
}

/* Each line that says what is wrong; what are warnings says so itself, and is none of the caller's
 * business now. */
static NORETURN void refuse_conf(const char *dir, int err, struct sv lines)
{
	bool said = false;

	while (lines.len > 0) {
		struct sv line = sv_next_part(&lines, '\n');

		if (line.len == 0 || (line.len > 9 && memcmp(line.p, "warning: ", 9) == 0))
			continue;
		fprintf(stderr, "%s: fatal: %.*s\n", program, (int)line.len, line.p);
		said = true;
	}
	if (!said)
		fprintf(stderr, "%s: fatal: configuration in %s: %s\n", program, dir, err_str(err));
	exit(failure);
}

static struct conf *load(const char *dir)
{
	struct conf_diag diag;
	struct conf *conf = NULL;

	conf_diag_init(&diag);
	int err = conf_load_dir(dir, &conf, &diag);

	if (err != 0)
		refuse_conf(dir, err, buf_sv(&diag.text));
	conf_diag_fini(&diag);
	return conf;
}

/* Does a list of directories name this one, exactly? */
static bool names_dir(const char *list, const char *dir)
{
	size_t len = strlen(dir);

	while (list != NULL && *list != '\0') {
		size_t n = strcspn(list, ", \t\r\n");

		if (n == len && memcmp(list, dir, n) == 0)
			return true;
		list += n;
		list += strspn(list, ", \t\r\n");
	}
	return false;
}

struct conf *command_conf(const char *dir)
{
	bool allowed = true;

	if (dir == NULL)
		dir = getenv("MAIL_CONFIG");
	if (dir == NULL || dir[0] == '\0')
		dir = PH_CONFIG_DIR;
	if (is_setgid() && getuid() != 0 && strcmp(dir, PH_CONFIG_DIR) != 0) {
		struct conf *own = load(PH_CONFIG_DIR);

		allowed = names_dir(conf_params(own)->alternate_config_directories, dir) ||
			  names_dir(conf_get(own, "multi_instance_directories"), dir);
		conf_free(&own);
	}
	if (!allowed)
		command_fatal("%s is not listed in alternate_config_directories or "
			      "multi_instance_directories of %s/main.cf",
			      dir, PH_CONFIG_DIR);
	return load(dir);
}

const char *command_user(uid_t uid)
{
	const struct passwd *pw = getpwuid(uid);

	return pw != NULL ? pw->pw_name : "unknown";
}

bool command_user_may(const struct conf *c, const char *param_name, uid_t uid)
{
	const char *list = conf_get(c, param_name);
	struct matchlist *l;
	struct conf_diag d;
	const struct passwd *owner = getpwnam(conf_params(c)->mail_owner);

	if (uid == 0 || (owner != NULL && owner->pw_uid == uid))
		return true;
	conf_diag_init(&d);
	int err = matchlist_open(c, list != NULL ? list : "", param_name, MATCHLIST_STRING, &l, &d);

	if (err != 0)
		command_fatal("parameter %s: %s", param_name,
			      d.text.len > 0 ? buf_cstr(&d.text) : err_str(err));
	conf_diag_fini(&d);
	int has = matchlist_has_string(l, sv_from(command_user(uid)));

	matchlist_close(&l);
	if (has < 0)
		command_fatal("parameter %s: a table cannot be asked", param_name);
	return has > 0;
}
