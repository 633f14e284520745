/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logins that were refused: what is found, for how long, and after a new start. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"
#include "t/unit/tap.h"
#include "workers/saslclient/failures.h"

static struct failures *f;
static struct buf reply;
static unsigned warnings;

static void sink(void *ctx UNUSED, enum log_level level, const char *program UNUSED,
		 const char *text UNUSED, size_t len UNUSED)
{
	warnings += level == LOG_LEVEL_WARN;
}

static const char *find(const char *server, const char *user, const char *mark, int64_t now_s)
{
	return failures_find(f, sv_from(server), sv_from(user), sv_from(mark), 100, now_s, &reply)
		       ? buf_cstr(&reply)
		       : "-";
}

static void note(const char *server, const char *user, const char *mark, const char *text)
{
	failures_note(f, sv_from(server), sv_from(user), sv_from(mark), sv_from(text), 1000);
}

static void test_all(const char *path)
{
	f = failures_open("test", path);
	is_str(find("a.test", "joe", "0123abcd", 1000), "-", "nothing at first");
	note("a.test", "joe", "0123abcd", "5.7.8 535 5.7.8 no; go: away");
	is_str(find("a.test", "joe", "0123abcd", 1000), "5.7.8 535 5.7.8 no; go: away", "found");
	is_str(find("a.test", "joe", "0123abce", 1000), "-", "another password");
	is_str(find("a.test", "joe", "0123", 1000), "-", "half a mark");
	is_str(find("b.test", "joe", "0123abcd", 1000), "-", "another server");
	is_str(find("a.test", "jo", "0123abcd", 1000), "-", "another user");
	is_str(find("a.test", "joe", "0123abcd", 1100), "5.7.8 535 5.7.8 no; go: away", "in time");
	is_str(find("a.test", "joe", "0123abcd", 1101), "-", "too old");
	note("a.test", "joe", "0123abce", "5.0.0 535 no");
	is_str(find("a.test", "joe", "0123abce", 1000), "5.0.0 535 no", "the password that is new");
	is_str(find("a.test", "joe", "0123abcd", 1000), "-", "... stands in place of the old one");
	failures_write_out(f);
	failures_close(&f);
	f = failures_open("test", path);
	is_str(find("a.test", "joe", "0123abce", 1000), path != NULL ? "5.0.0 535 no" : "-",
	       "after a new start");
	failures_close(&f);
}

int main(void)
{
	char dir[] = "/tmp/failures-XXXXXX", *path;

	log_set_sink(sink, NULL);
	if (mkdtemp(dir) == NULL)
		return 1;
	path = xasprintf("%s/cache.kch", dir);
	test_all(NULL);
	test_all(path);
	is_int(warnings, 0, "all is well");
	unlink(path);
	free(path);
	rmdir(dir);
	buf_fini(&reply);
	return tap_done();
}
