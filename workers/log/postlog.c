/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postlog: log lines from scripts, where the mail system's own go: to maillog_file when that is set
 * and can be written to, else to syslog. Has no rights of its own.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "conf/command.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "workers/log/format.h"

#define LINE_MAX_BYTES 2000

static struct {
	char host[256];
	char tag[100];
	enum log_level level;
	int file, syslog; /* descriptors, -1 = not used */
	unsigned facility;
	bool terminal, json;
} out = { .file = -1, .syslog = -1 };

static const struct {
	const char *name;
	enum log_level level;
	const char *prefix;
} levels[] = {
	{ "info", LOG_LEVEL_INFO, "" },
	{ "warn", LOG_LEVEL_WARN, "warning: " },
	{ "warning", LOG_LEVEL_WARN, "warning: " },
	{ "error", LOG_LEVEL_ERROR, "error: " },
	{ "fatal", LOG_LEVEL_FATAL, "fatal: " },
	{ "panic", LOG_LEVEL_PANIC, "panic: " },
};

static const char *prefix = "";

static void set_level(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(levels); i++) {
		if (str_eq_nocase(levels[i].name, name)) {
			out.level = levels[i].level;
			prefix = levels[i].prefix;
			return;
		}
	}
	command_fatal("bad severity: \"%s\"", name);
}

static void open_log(const struct params *p)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int facility = log_facility(p->syslog_facility);

	out.json = p->maillog_format == 1;
	out.facility = facility < 0 ? 2 : (unsigned)facility;
	if (strcmp(p->maillog_file, "/dev/stdout") == 0)
		out.file = STDOUT_FILENO;
	else if (p->maillog_file[0] != '\0')
		out.file = open(p->maillog_file, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
	if (out.file >= 0)
		return;
	out.syslog = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (out.syslog >= 0 && connect(out.syslog, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		io_close(&out.syslog);
	if (out.syslog < 0 && !out.terminal)
		command_fatal("neither maillog_file nor syslog can be written to");
}

static void log_line(const char *given)
{
	struct buf line = BUF_INIT, text = BUF_INIT;

	buf_add_str(&text, prefix);
	buf_add(&text, given, size_min(strlen(given), LINE_MAX_BYTES));
	str_make_printable(text.p, text.len);
	struct log_line l = { .wall_us = clock_wall().us,
			      .pid = (uint32_t)getpid(),
			      .level = out.level,
			      .program = sv_from(out.tag),
			      .text = buf_sv(&text) };

	if (out.terminal)
		fprintf(stderr, "%s: %s\n", out.tag, buf_cstr(&text));
	if (out.file >= 0) {
		if (out.json)
			log_format_json(&l, out.host, &line);
		else
			log_format_file(&l, out.host, &line);
		io_write_all(out.file, line.p, line.len);
	} else if (out.syslog >= 0) {
		log_format_syslog(&l, out.facility, &line);
		(void)!send(out.syslog, line.p, line.len, MSG_NOSIGNAL);
	}
	buf_fini(&line);
	buf_fini(&text);
}

static void log_input(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t n;

	while ((n = getline(&line, &room, stdin)) >= 0) {
		if (n > 0 && line[n - 1] == '\n')
			line[n - 1] = '\0';
		log_line(line);
	}
	free(line);
}

static void log_words(int argc, char **argv)
{
	struct buf text = BUF_INIT;

	for (int i = optind; i < argc; i++) {
		if (i > optind)
			buf_add_c(&text, ' ');
		buf_add_str(&text, argv[i]);
	}
	log_line(buf_cstr(&text));
	buf_fini(&text);
}

int main(int argc, char **argv)
{
	const char *dir = NULL, *tag = NULL;
	int opt;

	command_start("postlog", EXIT_FAILURE);
	tzset();
	while ((opt = getopt(argc, argv, "+c:ip:t:v")) != -1) {
		if (opt == 'c')
			dir = optarg;
		else if (opt == 'p')
			set_level(optarg);
		else if (opt == 't')
			tag = optarg;
		else if (opt == '?')
			command_fatal("usage: postlog [-c config_dir] [-i] [-p priority] "
				      "[-t tag] [-v] [text]");
	}
	struct conf *c = command_conf(dir);

	if (tag != NULL)
		snprintf(out.tag, sizeof(out.tag), "%s", tag);
	else
		snprintf(out.tag, sizeof(out.tag), "%.80s/postlog", conf_params(c)->syslog_name);
	str_make_printable(out.tag, strlen(out.tag));
	snprintf(out.host, sizeof(out.host), "%s", conf_params(c)->myhostname);
	out.host[strcspn(out.host, ".")] = '\0';
	out.terminal = isatty(STDERR_FILENO);
	open_log(conf_params(c));
	if (optind < argc)
		log_words(argc, argv);
	else
		log_input();
	conf_free(&c);
	return EX_OK;
}
