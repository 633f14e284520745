/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Asking a table for another program; see workers/lookup/query.h. */
#include "workers/lookup/query.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/clock.h"
#include "lib/log.h"
#include "lib/util.h"
#include "shm/proto.h"
#include "workers/lookup/table.h"

/* False at the end. */
static bool read_key(struct buf *key)
{
	size_t len;
	int c;

	buf_reset(key);
	if (scanf("%6zu:", &len) != 1 || len > PROTO_TABLE_KEY_MAX)
		return false;
	while (len-- > 0 && (c = getchar()) != EOF)
		buf_add_c(key, (char)c);
	return getchar() == ',';
}

static void answer(char status, struct sv text)
{
	printf("%c%zu:", status, text.len);
	fwrite(text.p, 1, text.len, stdout);
	putchar(',');
	fflush(stdout);
}

static void ask(const struct table *t, void *connection, struct sv key)
{
	struct table_answer a = { .status = MAP_NOT_FOUND };
	int admitted = table_admits(t, key);

	if (admitted < 0)
		table_fail(&a, "the tables of \"domain\" cannot be asked");
	else if (admitted > 0)
		t->source->ask(t, connection, key, &a);
	if (a.status == MAP_FOUND)
		answer('F', buf_sv(&a.value));
	else if (a.status == MAP_NOT_FOUND)
		answer('N', SV(""));
	else
		answer('E', sv_from(a.why));
	buf_fini(&a.value);
}

int query_main(const char *config_directory, const char *spec)
{
	struct buf key = BUF_INIT;
	struct conf_diag d;
	struct conf *conf;
	struct table *t;

	clock_init();
	signal(SIGPIPE, SIG_IGN);
	log_set_program("lookup");
	conf_diag_init(&d);
	if (conf_load_dir(config_directory, &conf, &d) != 0 ||
	    table_open(conf, spec, &t, &d) != 0) {
		answer('X', buf_sv(&d.text));
		return 1;
	}
	conf_diag_fini(&d);
	void *connection = t->source->connect(t);

	answer('R', SV(""));
	while (read_key(&key)) {
		buf_cstr(&key);
		ask(t, connection, buf_sv(&key));
	}
	t->source->disconnect(connection);
	table_close(&t);
	conf_free(&conf);
	buf_fini(&key);
	return 0;
}
