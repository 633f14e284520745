/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A configuration from text, for tests of the rewrite and local workers. */
#ifndef PH_T_TESTCONF_H
#define PH_T_TESTCONF_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/log.h"

/* master_cf: NULL for the built-in one. The file names of problems are DIR/main.cf and so on. */
__attribute__((unused)) static struct conf *test_conf_both(const char *main_cf,
							   const char *master_cf)
{
	char dir[] = "/tmp/ph_rewrite_XXXXXX", path[64];
	struct conf *c = NULL;
	struct conf_diag d;
	FILE *f;

	if (mkdtemp(dir) == NULL)
		die("mkdtemp: %s", err_str(err_errno()));
	snprintf(path, sizeof(path), "%s/main.cf", dir);
	f = fopen(path, "w");
	if (f == NULL)
		die("%s: %s", path, err_str(err_errno()));
	fputs("myhostname = mx.example.org\nmydomain = example.org\ninet_interfaces = 127.0.0.1\n"
	      "alias_maps =\nlocal_recipient_maps =\n",
	      f);
	fputs(main_cf, f);
	fclose(f);
	if (master_cf != NULL) {
		snprintf(path, sizeof(path), "%s/master.cf", dir);
		f = fopen(path, "w");
		if (f == NULL)
			die("%s: %s", path, err_str(err_errno()));
		fputs(master_cf, f);
		fclose(f);
	}
	conf_diag_init(&d);
	if (conf_load_dir(dir, &c, &d) < 0)
		printf("# %s", buf_cstr(&d.text));
	conf_diag_fini(&d);
	snprintf(path, sizeof(path), "%s/main.cf", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/master.cf", dir);
	unlink(path);
	rmdir(dir);
	return c;
}

__attribute__((unused)) static struct conf *test_conf(const char *main_cf)
{
	return test_conf_both(main_cf, NULL);
}

#endif
