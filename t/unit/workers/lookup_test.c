/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Queries, results and parameters of remote tables; what servers may answer is in the stories. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <stdlib.h>
#include <unistd.h>

#include "t/unit/tap.h"
#include "t/unit/workers/testconf.h"
#include "workers/lookup/table.h"

static struct conf *conf;

static bool double_quotes(void *ctx UNUSED, struct sv text, struct buf *out)
{
	for (size_t i = 0; i < text.len; i++) {
		if (text.p[i] == '\'')
			buf_add_c(out, '\'');
		buf_add_c(out, text.p[i]);
	}
	return true;
}

static void test_queries(void)
{
	static const struct {
		const char *format, *key, *expected; /* NULL: nothing to ask */
	} cases[] = {
		{ "a '%s'", "u@d.test", "a 'u@d.test'" },
		{ "%u/%d", "u@d.test", "u/d.test" },
		{ "%U/%D/%S", "u@d.test", "u/d.test/u@d.test" },
		{ "%u", "bare", "bare" },
		{ "%d", "bare", NULL },
		{ "%u", "@d.test", NULL },
		{ "%d", "@d.test", "d.test" },
		{ "%s", "@d.test", "@d.test" },
		{ "%1.%2.%3", "u@a.b.c", "c.b.a" },
		{ "%4", "u@a.b.c", NULL },
		{ "%1", "bare", NULL },
		{ "%1", "u@test", "test" },
		{ "100%% %s", "x", "100% x" },
		{ "%u|%d", "\"a@b\"@d.test", "\"a@b\"|d.test" },
		{ "%s", "", NULL },
		{ "'%s'", "o'hara@d.test", "'o''hara@d.test'" },
		{ "'%u' '%d' '%1'", "a'@d'.t'", "'a''' 'd''.t''' 't'''" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct buf out = BUF_INIT;
		bool there = template_expand(cases[i].format, sv_from(cases[i].key), NULL,
					     double_quotes, NULL, &out);

		is_str(there ? buf_cstr(&out) : "(nothing)",
		       cases[i].expected != NULL ? cases[i].expected : "(nothing)", "%s of %s",
		       cases[i].format, cases[i].key);
		ok(there || out.len == 0, "and nothing half done");
		buf_fini(&out);
	}
	ok(template_check("%s %u %d %S %U %D %1 %9 %%") == NULL, "all letters");
	ok(template_check("%x") != NULL && template_check("%0") != NULL &&
		   template_check("50%") != NULL,
	   "and no others");
	ok(template_is_constant("x%%y") && !template_is_constant("%%%s"), "constant or not");
}

static void test_results(void)
{
	static const struct {
		const char *format, *key, *result, *expected;
	} cases[] = {
		{ "%s", "k@kd.test", "r@rd.test", "r@rd.test" },
		{ "%u at %d for %U at %D", "k@kd.test", "r@rd.test",
		  "r at rd.test for k at kd.test" },
		{ "%S=%s", "k", "r", "k=r" },
		{ "%d", "k", "r", "" },
		{ "%1", "k@a.b", "r", "b" },
		{ "smtp:[%s]", "k", "host", "smtp:[host]" },
		{ "%s", "k", "", "" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct table t = { .result = { .format = (char *)(uintptr_t)cases[i].format } };
		struct table_answer a = { .status = MAP_NOT_FOUND };

		ok(table_add_result(&t, &a, sv_from(cases[i].key), sv_from(cases[i].result)),
		   "a result");
		is_str(buf_cstr(&a.value), cases[i].expected, "%s of %s", cases[i].format,
		       cases[i].result);
		is_int(a.status, cases[i].expected[0] != '\0' ? MAP_FOUND : MAP_NOT_FOUND, "found");
		buf_fini(&a.value);
	}
	struct table t = { .result = { .format = (char *)(uintptr_t) "<%s>", .limit = 2 } };
	struct table_answer a = { .status = MAP_NOT_FOUND };

	ok(table_add_result(&t, &a, SV("k"), SV("a,b")) &&
		   table_add_result(&t, &a, SV("k"), SV("c")),
	   "as many as the limit");
	is_str(buf_cstr(&a.value), "<a,b>,<c>", "joined");
	ok(!table_add_result(&t, &a, SV("k"), SV("d")) && a.status == MAP_ERROR && a.about_key,
	   "one more is an error");
	ok(!table_add_result(&t, &a, SV("k"), SV("e")) && a.value.len == 0, "and stays one");
	buf_fini(&a.value);
	a = (struct table_answer){ .status = MAP_NOT_FOUND };
	ok(!table_add_result(&t, &a, SV("k"), (struct sv){ "a\0b", 3 }) && a.status == MAP_ERROR,
	   "no NUL");
	buf_fini(&a.value);
}

static char *file_with(const char *text)
{
	static char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/lookup-test-XXXXXX");
	fd = mkstemp(path);
	ASSERT(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	return path;
}

/* Opens "TYPE:FILE with that text". Returns the diagnostics, "" when it opened. */
static const char *open_says(const char *type, const char *text)
{
	static char said[600];
	const char *path = file_with(text);
	char spec[100];
	struct table *t;
	struct conf_diag d;

	snprintf(spec, sizeof(spec), "%s:%s", type, path);
	conf_diag_init(&d);
	int err = table_open(conf, spec, &t, &d);

	snprintf(said, sizeof(said), "%s", err == 0 ? "" : buf_cstr(&d.text));
	table_close(&t);
	conf_diag_fini(&d);
	unlink(path);
	return said;
}

static void test_open(void)
{
	static const struct {
		const char *type, *text, *said;
	} cases[] = {
		{ "memcache", "", "" },
		{ "memcache", "memcache = inet:x:1\nkey_format = a%s\ntimeout = 5\n", "" },
		{ "memcache", "timeout = soon\n", "timeout: expected a number" },
		{ "memcache", "backup = socketmap:unix:/no:map\nttl = 5\n", "" },
		{ "memcache", "backup = inline:{a=b}\n", "" },
		{ "memcache", "backup = nosuch:/no\n", "backup: " },
		{ "memcache", "backup = memcache:/no\n", "backup: cannot be a memcache table" },
		{ "memcache", "backup = proxy:sqlite:/no/such\n", "backup: " },
		{ "memcache", "timeout = 0\n", "timeout: expected a number" },
		{ "memcache", "key_format = %q\n", "key_format: invalid" },

		{ "memcache", "result_format = %q\n", "result_format: invalid" },
		{ "memcache", "expansion_limit = -1\n", "expansion_limit: expected" },
		{ "memcache", "no value\n", "line 1: missing '='" },
		{ "redis", "server = inet:x:1\ndatabase = 3\npassword = p\n", "" },
		{ "redis", "database = x\n", "database: expected a number" },
#ifdef PH_HAVE_LDAP
		{ "ldap", "server_host = a, ldaps://b:7 c:8\nsearch_base = dc=x\nbind = no\n", "" },
		{ "ldap", "scope = all\n", "scope: cannot be all" },
		{ "ldap", "bind = saslx\n", "bind: cannot be saslx" },
		{ "ldap", "bind = sasl\nsasl_minssf = strong\n", "sasl_minssf" },
		{ "ldap", "query_filter = (a=%x)\n", "query_filter: invalid" },
		{ "ldap", "search_base = dc=%0\n", "search_base: invalid" },
		{ "ldap", "version = 4\n", "version: expected" },
#endif
#ifdef PH_HAVE_MYSQL
		{ "mysql", "hosts = unix:/s, inet:a:1 b [::1]:7\nquery = select 1\n", "" },
		{ "mysql", "hosts = a:0\nquery = select 1\n", "hosts: cannot use a:0" },
		{ "mysql", "hosts = unix:x\nquery = select 1\n", "hosts: cannot use unix:x" },
		{ "mysql", "hosts = a\n", "no query is given" },
#endif
#ifdef PH_HAVE_PGSQL
		{ "pgsql", "hosts = postgresql://u:p@h/d a:5432\nselect_function = f\n", "" },
		{ "pgsql", "query = select '%s' || '%\n", "query: invalid" },
#endif
#ifdef PH_HAVE_SQLITE
		{ "sqlite", "dbpath = /x\nquery = select 1\n", "" },
		{ "sqlite", "dbpath = x\nquery = select 1\n", "dbpath: expected" },
		{ "sqlite", "dbpath = /x\n", "no query is given" },
		{ "sqlite", "dbpath = /x\nquery = select '%z'\n", "query: invalid" },
		{ "sqlite", "dbpath = /x\nselect_field = a\ntable = t\nwhere_field = k\n", "" },
#endif
		{ "nosuch", "", "unsupported dictionary type" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *said = open_says(cases[i].type, cases[i].text);

		ok(cases[i].said[0] == '\0' ? said[0] == '\0' : strstr(said, cases[i].said) != NULL,
		   "%s, parameters %zu: %s", cases[i].type, i + 1,
		   cases[i].said[0] == '\0' ? "good" : cases[i].said);
	}
	static const char *const bad[] = {
		"socketmap:x", "socketmap:inet:x:1:", "socketmap:unix:x", "socketmap:tcp:x:1:t",
		"tcp:x",       "redis:/none/such"
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct conf_diag d;
		struct table *t;

		conf_diag_init(&d);
		ok(table_open(conf, bad[i], &t, &d) < 0 && d.text.len > 0, "%s", bad[i]);
		conf_diag_fini(&d);
	}
}

static void test_domains(void)
{
	const char *path = file_with("domain = a.test, static.test\n");
	char spec[100];
	struct table *t;

	snprintf(spec, sizeof(spec), "memcache:%s", path);
	ok(table_open(conf, spec, &t, NULL) == 0, "a table with domains");
	is_int(table_admits(t, SV("u@a.test")), 1, "an address in one of them");
	is_int(table_admits(t, SV("u@A.test")), 1, "in any case");
	is_int(table_admits(t, SV("u@b.test")), 0, "elsewhere");
	is_int(table_admits(t, SV("u")), 0, "a bare name");
	is_int(table_admits(t, SV("@a.test")), 0, "a whole domain");
	is_int(table_admits(t, SV("")), 0, "nothing");
	table_close(&t);
	unlink(path);
	ok(table_open(conf, "tcp:x:1", &t, NULL) == 0, "one without");
	is_int(table_admits(t, SV("u")), 1, "any key");
	is_int(table_admits(t, (struct sv){ "a\0b", 3 }), 0, "but none with NUL");
	table_close(&t);
}

int main(void)
{
	conf = test_conf("");
	test_queries();
	test_results();
	test_open();
	test_domains();
	conf_free(&conf);
	return tap_done();
}
