/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Start of commands; see conf/command.h. */
#include "conf/command.h"

#include <fcntl.h>
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
#include "lib/log.h"

static const char *program = "command";

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
	int fd;

	/* descriptors 0 to 2 exist, so that no file we open becomes one of them */
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		_exit(EX_OSERR);
	close_range(3, ~0u, 0);
	clearenv();
	setenv("PATH", "/usr/bin:/bin", 1);
	umask(022);
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
}

void command_start(const char *name)
{
	program = name;
	if (is_setgid()) {
		const char *dir = getenv("MAIL_CONFIG");
		char *keep = dir != NULL ? xstrdup(dir) : NULL;

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

void command_fatal(int status, const char *fmt, ...)
{
	char text[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	str_make_printable(text, strlen(text));
	fprintf(stderr, "%s: fatal: %s\n", program, text);
	exit(status);
}

static struct conf *load(const char *dir)
{
	struct conf_diag diag;
	struct conf *conf = NULL;

	conf_diag_init(&diag);
	int err = conf_load_dir(dir, &conf, &diag);

	if (err != 0) {
		fprintf(stderr, "%s: fatal: configuration in %s: %s\n%s", program, dir,
			err_str(err), buf_cstr(&diag.text));
		exit(EX_CONFIG);
	}
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
		command_fatal(EX_NOPERM,
			      "%s is not listed in alternate_config_directories or "
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
		command_fatal(EX_CONFIG, "parameter %s: %s", param_name,
			      d.text.len > 0 ? buf_cstr(&d.text) : err_str(err));
	conf_diag_fini(&d);
	int has = matchlist_has_string(l, sv_from(command_user(uid)));

	matchlist_close(&l);
	if (has < 0)
		command_fatal(EX_TEMPFAIL, "parameter %s: a table cannot be asked", param_name);
	return has > 0;
}
