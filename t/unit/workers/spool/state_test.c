/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Numbers of files and lives: never twice, whatever happened to the state file. */
#include "t/unit/workers/spool/support.h"

static void write_state(struct fixture *f, const char *text)
{
	int fd = openat(f->dirs.root, "state", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || io_write_all(fd, text, strlen(text)) != 0)
		die("state");
	close(fd);
}

static void test_numbers(void)
{
	struct fixture f;
	struct spool_state *s;
	uint32_t n, last_file = 0, last_life = 0;
	bool good = true;

	fx_init(&f, 0, 0);
	for (int run = 0; run < 5; run++) {
		is_int(spool_state_open(&f.dirs, &s), 0, "open %d", run);
		for (int i = 0; i < 200; i++) {
			good = good && spool_state_next_life(s, &n) == 0 && n > last_life;
			last_life = n;
			good = good && spool_state_next_file(s, &n) == 0 && n > last_file;
			last_file = n;
		}
		spool_state_close(&s); /* a crash looks the same: nothing is written here */
	}
	ok(good, "always greater than any before");
	ok(last_file >= 1000 && last_life >= 1000 && last_life < 2000, "few are wasted");
	fx_fini(&f);
}

static void test_lost(void)
{
	struct fixture f;
	struct spool_state *s;
	uint32_t n;

	fx_init(&f, 1, 0);
	f.next_number = 0x123;
	fx_ready(&f);
	fx_append(&f, 0, 10);
	ok(fx_wait(&f, 1), "one message of life 7 in file 123");
	close(openat(f.dirs.spare, "00000200.seg", O_CREAT | O_WRONLY, 0600));
	logged[0] = '\0';
	is_int(spool_state_open(&f.dirs, &s), 0, "state missing");
	is_int(spool_state_next_file(s, &n), 0, "file");
	ok(n > 0x200 + 1000, "above all files seen");
	is_int(spool_state_next_life(s, &n), 0, "life");
	ok(n > 7 + 1000 && n < 10000, "above all lives seen");
	ok(strstr(logged, "was missing") != NULL, "and it is said");
	spool_state_close(&s);
	static const char *const torn[] = {
		"",
		"posthaste-spool-state 1\n",
		"posthaste-spool-state 1\nnext_file 5\nnext_life 5\n",
		"posthaste-spool-state 1\nnext_file 5\nnext_life 5\ncrc32c 00000000\n",
		"posthaste-spool-state 1\nnext_file 99999999999999999999\nnext_life 5\ncrc32c 0\n",
		"\x00\xff\xfe",
	};

	for (size_t i = 0; i < ARRAY_LEN(torn); i++) {
		write_state(&f, torn[i]);
		is_int(spool_state_open(&f.dirs, &s), 0, "torn state %d", (int)i);
		is_int(spool_state_next_file(s, &n), 0, "file");
		ok(n > 0x200 + 1000, "above all seen");
		spool_state_close(&s);
	}
	char big[2000];

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	write_state(&f, big);
	is_int(spool_state_open(&f.dirs, &s), 0, "a state that is too long");
	spool_state_close(&s);
	fx_fini(&f);
}

static void test_end(void)
{
	struct fixture f;
	struct spool_state *s;
	char text[200];
	uint32_t n = 0;
	int err = 0;

	fx_init(&f, 0, 0);
	int len = snprintf(text, sizeof(text),
			   "posthaste-spool-state 1\nnext_file 4294967000\nnext_life 16777000\n");

	snprintf(text + len, sizeof(text) - (size_t)len, "crc32c %08x\n",
		 crc32c(0, text, (size_t)len));
	write_state(&f, text);
	is_int(spool_state_open(&f.dirs, &s), 0, "near the end");
	is_int(spool_state_next_file(s, &n), E_LIMIT, "file numbers do not wrap");
	for (int i = 0; i < 1000 && err == 0; i++)
		err = spool_state_next_life(s, &n);
	is_int(err, E_LIMIT, "nor do lives");
	ok(n < 1u << 24, "the last one has 24 bits");
	spool_state_close(&s);
	fx_fini(&f);
}

/* The spool can be had alone only when no writer is left. */
static void test_hold(void)
{
	struct fixture f;
	struct spool_dirs other, writer;

	fx_init(&f, 0, 0);
	if (spool_dirs_open(f.path, false, &other) != 0 ||
	    spool_dirs_open(f.path, false, &writer) != 0)
		die("directories");
	is_int(spool_hold(&writer, false), 0, "a writer holds it");
	is_int(spool_hold(&other, false), 0, "and another one");
	is_int(spool_hold(&f.dirs, true), E_AGAIN, "nobody can have it alone");
	spool_dirs_close(&writer);
	is_int(spool_hold(&f.dirs, true), E_AGAIN, "as long as one is left");
	spool_dirs_close(&other);
	is_int(spool_hold(&f.dirs, true), 0, "then it can");
	is_int(spool_hold(&f.dirs, false), 0, "and share it again");
	fx_fini(&f);
}

int main(void)
{
	clock_init();
	log_set_sink(log_sink, NULL);
	test_numbers();
	test_lost();
	test_end();
	test_hold();
	return tap_done();
}
