/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the queue commands share; see daemon/qcmd.h. */
#include "daemon/qcmd.h"

#include <stdio.h>
#include <sysexits.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/log.h"

/* "postqueue: warning: text", without the process id that log lines have. */
static void to_stderr(void *ctx UNUSED, enum log_level level UNUSED, const char *program,
		      const char *text, size_t len)
{
	fprintf(stderr, "%s: %.*s\n", program, (int)len, text);
}

struct conf *qcmd_conf(const char *program, const char *dir)
{
	struct conf_diag diag;
	struct conf *conf = NULL;

	clock_init();
	clock_tick();
	log_set_program(program);
	log_set_sink(to_stderr, NULL);
	if (dir == NULL)
		dir = getenv("MAIL_CONFIG");
	if (dir == NULL)
		dir = PH_CONFIG_DIR;
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
