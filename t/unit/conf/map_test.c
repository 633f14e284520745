/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lookup tables: every type, text syntax, diagnostics, address search, files that change. */
#include "conf/map.h"

#include <fcntl.h>
#include <kclangc.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "t/unit/tap.h"

static char dir[] = "/tmp/maptest.XXXXXX";

static const char *path_of(const char *name)
{
	static char path[2][200];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void write_file(const char *name, struct sv text)
{
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || io_write_all(fd, text.p, text.len) < 0)
		abort();
	close(fd);
}

static struct map *open_ok(const char *spec, const char *want_diag)
{
	struct conf_diag d;
	struct map *m;

	conf_diag_init(&d);
	is_int(map_open_strict(NULL, spec, &m, &d), 0, "open %.60s", spec);
	if (want_diag == NULL)
		is_str(buf_cstr(&d.text), "", "  without complaint");
	else if (!ok(strstr(buf_cstr(&d.text), want_diag) != NULL, "  complains: %s", want_diag))
		printf("# got: %s\n", buf_cstr(&d.text));
	conf_diag_fini(&d);
	return m;
}

static void open_fails(const char *spec, const char *want)
{
	struct conf_diag d;
	struct map *m;

	conf_diag_init(&d);
	ok(map_open_strict(NULL, spec, &m, &d) < 0 && m == NULL, "open %.60s fails", spec);
	if (!ok(strstr(buf_cstr(&d.text), want) != NULL && d.errors > 0, "  because: %s", want))
		printf("# got: %s\n", buf_cstr(&d.text));
	conf_diag_fini(&d);
}

/* want NULL: not found; "!": error */
static void get_is(struct map *m, const char *key, const char *want)
{
	struct buf out = BUF_INIT;
	enum map_status status = map_get(m, sv_from(key), &out);

	if (want == NULL)
		is_int(status, MAP_NOT_FOUND, "'%.40s' is not found", key);
	else if (strcmp(want, "!") == 0)
		is_int(status, MAP_ERROR, "'%.40s' is an error", key);
	else
		is_str(status == MAP_FOUND ? buf_cstr(&out) : "(not found)", want, "'%.40s'", key);
	buf_fini(&out);
}

static void test_texthash(void)
{
	char spec[256];

	write_file("text", SV("# comment\n"
			      "Key  value one \n"
			      "\n"
			      "long  a\n"
			      "   # inside\n"
			      "\n"
			      "   b\n"
			      "\tc\n"
			      "\"q k\"@x  quoted\n"
			      "key again\n"
			      "alias: x\n"
			      "empty\n"
			      "nul\0l x\n"
			      "\"open x\n"
			      "crlf yes\r\n"
			      "last line"));
	snprintf(spec, sizeof(spec), "texthash:%s", path_of("text"));
	struct map *m = open_ok(spec, "line 10: duplicate entry: \"key\"");

	get_is(m, "key", "value one");
	get_is(m, "KEY", "value one");
	get_is(m, "long", "a   b\tc");
	get_is(m, "\"q k\"@X", "quoted");
	get_is(m, "alias:", "x");
	get_is(m, "empty", NULL);
	get_is(m, "nul", NULL);
	get_is(m, "crlf", "yes");
	get_is(m, "last", "line");
	get_is(m, "", NULL);
	struct map *again;

	is_int(map_open(NULL, spec, &again, NULL), 0, "opened again");
	ok(again == m, "and shared");
	map_close(&again);
	get_is(m, "key", "value one");
	map_close(&m);
	m = open_ok(spec, "line 12: expected format: key whitespace value");
	map_close(&m);
	open_fails("texthash:/nonexistent/file", "No such file");
	write_file("lead", SV(" starts with space\nk v\n"));
	snprintf(spec, sizeof(spec), "texthash:%s", path_of("lead"));
	m = open_ok(spec, "line 1: logical line must not start with whitespace");
	get_is(m, "k", "v");
	map_close(&m);
}

static void test_diag_lines(void)
{
	static const char *const want[] = { "line 11: record is in \"key: value\" format",
					    "line 13: line holds a null byte",
					    "line 14: unbalanced '\"'",
					    "line 15: lines end in CRLF" };
	char spec[256];

	snprintf(spec, sizeof(spec), "texthash:%s", path_of("text"));
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		/* the table is shared while open, so close it to be told again */
		struct map *m = open_ok(spec, want[i]);

		map_close(&m);
	}
}

static void test_simple(void)
{
	struct map *m = open_ok("inline:{ A=b, { c d = e, f }  g=h=i }", NULL);

	get_is(m, "a", "b");
	get_is(m, "C D", "e, f");
	get_is(m, "g", "h=i");
	get_is(m, "x", NULL);
	map_close(&m);
	open_fails("inline:{}", "no key=value");
	open_fails("inline:{a}", "expected key=value");
	open_fails("inline:{=b}", "empty key");
	open_fails("inline:x", "expected inline:{");
	m = open_ok("static:OK", NULL);
	get_is(m, "anything", "OK");
	map_close(&m);
	m = open_ok("static:{ 550 go away }", NULL);
	get_is(m, "", "550 go away");
	map_close(&m);
	m = open_ok("fail:", NULL);
	get_is(m, "x", "!");
	map_close(&m);
	setenv("MAPTEST", "Env", 1);
	m = open_ok("environ:", NULL);
	get_is(m, "MAPTEST", "Env");
	get_is(m, "maptest", NULL);
	map_close(&m);
	m = open_ok("unix:passwd.byname", NULL);
	struct buf out = BUF_INIT;

	is_int(map_get(m, SV("ROOT"), &out), MAP_FOUND, "root exists");
	ok(strncmp(buf_cstr(&out), "root:", 5) == 0, "its line");
	get_is(m, "no.such user", NULL);
	get_is(m, "", NULL);
	map_close(&m);
	m = open_ok("unix:group.byname", NULL);
	is_int(map_get(m, SV("root"), &out), MAP_FOUND, "group root exists");
	map_close(&m);
	m = open_ok("unix:passwd.byname", NULL);
	map_no_more_files();
	is_int(map_get(m, SV("root"), &out), MAP_FOUND, "without files: what was read");
	get_is(m, "no.such user", NULL);
	map_close(&m);
	open_fails("unix:hosts", "known are");
	open_fails("nis:mail.aliases", "unsupported dictionary type");
	is_int(map_open(NULL, "nis:mail.aliases", &m, NULL), 0,
	       "one that is not here can be named");
	is_int(map_get(m, SV("x"), &out), MAP_ERROR, "and is an error when it is asked");
	map_close(&m);
	open_fails("nosuch:/etc/x", "unknown table type");
	open_fails("/etc/x", "type:name");
	open_fails(":x", "type:name");
	m = open_ok("proxy:inline:{a=b}", NULL);
	get_is(m, "A", "b");
	ok(map_has_fixed_keys(m), "proxy passes the kind on");
	map_close(&m);
	buf_fini(&out);
}

static void test_multi(void)
{
	struct map *m =
		open_ok("unionmap:{inline:{a=1,b=2}, inline:{b=3}, inline:{ {c=4} }}", NULL);

	get_is(m, "a", "1");
	get_is(m, "b", "2,3");
	get_is(m, "c", "4");
	get_is(m, "d", NULL);
	map_close(&m);
	m = open_ok("unionmap:{inline:{a=1},fail:x}", NULL);
	get_is(m, "a", "!");
	map_close(&m);
	m = open_ok("pipemap:{inline:{a=x}, inline:{x=y}, pcre:{{/(.)/ <$1>}}}", NULL);
	get_is(m, "a", "<y>");
	get_is(m, "x", NULL);
	map_close(&m);
	m = open_ok("randmap:{one, {two words}}", NULL);
	struct buf out = BUF_INIT;

	for (int i = 0; i < 20; i++) {
		if (map_get(m, SV("k"), &out) != MAP_FOUND ||
		    (strcmp(out.p, "one") != 0 && strcmp(out.p, "two words") != 0))
			ok(false, "randmap gave '%s'", buf_cstr(&out));
	}
	buf_fini(&out);
	map_close(&m);
	open_fails("unionmap:{}", "no tables");
	open_fails("unionmap:{inline:{a=1}, nosuch:x}", "unknown table type");
	open_fails("unionmap:x", "expected unionmap:{");
	open_fails("pipemap:{inline:{a}}", "expected key=value");
	open_fails("unionmap:{static:a } b}", "unbalanced braces");
	char deep[400];
	size_t n = 0;

	for (int i = 0; i < 30; i++)
		n += (size_t)snprintf(deep + n, sizeof(deep) - n, "proxy:");
	snprintf(deep + n, sizeof(deep) - n, "static:x");
	open_fails(deep, "nested too deeply");
}

static void test_regex(void)
{
	static const char rules[] = "/^a(b+)c$/  one $1 ${1} $(1) $$1\n"
				    "!/x/  no\n"
				    "/^no$/ late\n"
				    "if /^X/\n"
				    "if !/^xy/\n"
				    "/z/ inner\n"
				    "endif\n"
				    "/^xyz/ outer\n"
				    "endif\n"
				    "/(x)|(q)/ <$2>\n"
				    "/a/b bad flag\n"
				    "/(/ bad\n"
				    "/a/ $2\n"
				    "/noend\n"
				    "!/y/ $1\n"
				    "/empty/\n"
				    "endif\n"
				    "if /never\n"
				    "/./ guarded\n"
				    "endif\n"
				    "if /tail/\n"
				    "/x/ z\n";
	static const char *const types[] = { "pcre", "regexp" };

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		char spec[256];
		static const char *const complaints[] = {
			"line 11: unknown regexp option",  "line 12: error in regex",
			"line 13: out of range",           "line 14: no closing regexp delimiter",
			"line 15: out of range",           "line 16: no replacement text",
			"line 17: ignoring ENDIF without", "IF has no matching ENDIF",
		};

		write_file("rx", sv_from(rules));
		snprintf(spec, sizeof(spec), "%s:%s", types[i], path_of("rx"));
		for (size_t k = 0; k < ARRAY_LEN(complaints); k++) {
			struct map *m = open_ok(spec, complaints[k]);

			map_close(&m);
		}
		struct map *m = open_ok(spec, "line");

		get_is(m, "ABbC", "one Bb Bb Bb $1");
		get_is(m, "abcd", "no");
		get_is(m, "other", "no");
		get_is(m, "X", "<>");
		get_is(m, "xaz", "inner");
		get_is(m, "xyz", "outer");
		get_is(m, "xq", "<>");
		ok(!map_has_fixed_keys(m), "patterns");
		map_close(&m);
	}
	struct map *m = open_ok("pcre:{{/^(.*)-(?:x)$/ $1}, {!/a/ b}}", NULL);

	get_is(m, "aq-X", "aq");
	map_close(&m);
	m = open_ok("pcre:{{/A/i case}}", NULL);
	get_is(m, "a", NULL);
	get_is(m, "A", "case");
	map_close(&m);
	m = open_ok("regexp:{{/^a/!/b/ notb}}", NULL);
	get_is(m, "ac", "notb");
	get_is(m, "ab", NULL);
	map_close(&m);
	m = open_ok("pcre:{{/!x/ $1}}", "out of range");
	map_close(&m);
	m = open_ok("pcre:{{/^(a+)+$/ slow}}", NULL);
	char many[100];

	memset(many, 'a', sizeof(many));
	many[sizeof(many) - 2] = 'b';
	many[sizeof(many) - 1] = '\0';
	struct buf out = BUF_INIT;
	enum map_status status = map_get(m, sv_from(many), &out);

	ok(status == MAP_ERROR || status == MAP_NOT_FOUND, "a catastrophic pattern ends");
	buf_fini(&out);
	map_close(&m);
	m = open_ok("regexp:{{/^(a+)+$/ slow},{/(a|aa)+x/ slow},{/^(a*)*y/ slow}}", NULL);
	get_is(m, many, NULL);
	map_close(&m);
}

static struct buf logged;

static void log_sink(void *ctx, enum log_level level, const char *program, const char *text,
		     size_t len)
{
	(void)ctx;
	(void)level;
	(void)program;
	buf_add(&logged, text, len);
	buf_add_c(&logged, '\n');
}

/* A table that cannot be asked: counted each time, said once. */
static void test_troubles(void)
{
	char path[100], spec[150], want[400];
	uint64_t failures, outages;
	struct buf out = BUF_INIT;
	struct map *m, *u;

	snprintf(path, sizeof(path), "%s/trouble", dir);
	snprintf(spec, sizeof(spec), "texthash:%s", path);
	is_int(map_open(NULL, spec, &m, NULL), 0, "a table that is not there");
	snprintf(want, sizeof(want), "unionmap:{static:x,%s}", spec);
	is_int(map_open(NULL, want, &u, NULL), 0, "and one around it");
	map_troubles(&failures, &outages);
	buf_reset(&logged);
	log_set_sink(log_sink, NULL);
	for (unsigned i = 0; i < 3; i++)
		is_int(map_get(m, SV("k"), &out), MAP_ERROR, "a look-up is an error");
	is_int(map_get(u, SV("k"), &out), MAP_ERROR, "also in the one around it");
	map_troubles(&failures, &outages);
	is_int(failures, 4, "each is counted once");
	is_int(outages, 1, "it is one outage");
	snprintf(want, sizeof(want),
		 "warning: table %s: cannot be asked: mail that needs it waits\n", spec);
	is_str(buf_cstr(&logged), want, "which the log says once");
	int fd = open(path, O_WRONLY | O_CREAT, 0644);

	if (fd < 0 || io_write_all(fd, "k v\n", 4) < 0)
		abort();
	close(fd);
	map_refresh_all(NULL, NULL);
	buf_reset(&logged);
	is_int(map_get(m, SV("x"), &out), MAP_NOT_FOUND, "it is there");
	snprintf(want, sizeof(want), "table %s: answers again\n", spec);
	is_str(buf_cstr(&logged), want, "and the log says so");
	map_troubles(&failures, &outages);
	ok(failures == 0 && outages == 0, "nothing more is counted");
	log_set_sink(NULL, NULL);
	buf_fini(&logged);
	buf_fini(&out);
	map_close(&u);
	map_close(&m);
}

static void test_cidr(void)
{
	char spec[256];

	write_file("cidr", SV("192.0.2.1  one\n"
			      "192.0.2.0/24 net\n"
			      "10.1.2.3/8 bad\n"
			      "if 10.0.0.0/8\n"
			      "!10.1.0.0/16 not\n"
			      "10.1.1.0/24 in\n"
			      "endif\n"
			      "2001:db8::/32 six\n"
			      "[::1] loop\n"
			      "[fe80::]/10 link\n"
			      "300.1.1.1 x\n"
			      "1.2.3.4\n"
			      "1.2.3.4/33 x\n"
			      "if junk\n"
			      "0.0.0.0/0 guarded\n"
			      "endif\n"
			      "172.16.0.0/12 last\n"));
	static const char *const complaints[] = {
		("line 3: non-null host address bits in \"10.1.2.3/8\", perhaps you should use "
		 "\"10.0.0.0/8\""),
		"line 11: bad address pattern",
		"line 12: no address result",
		"line 13: bad address pattern",
	};

	snprintf(spec, sizeof(spec), "cidr:%s", path_of("cidr"));
	for (size_t k = 0; k < ARRAY_LEN(complaints); k++) {
		struct map *m = open_ok(spec, complaints[k]);

		map_close(&m);
	}
	struct map *m = open_ok(spec, "line 14: bad address pattern");

	get_is(m, "192.0.2.1", "one");
	get_is(m, "192.0.2.2", "net");
	get_is(m, "::ffff:192.0.2.2", "net");
	get_is(m, "10.2.0.1", "not");
	get_is(m, "10.1.1.1", "in");
	get_is(m, "10.1.2.1", NULL);
	get_is(m, "2001:db8:1::5", "six");
	get_is(m, "::1", "loop");
	get_is(m, "FE80::1", "link");
	get_is(m, "172.31.255.255", "last");
	get_is(m, "172.32.0.0", NULL);
	get_is(m, "8.8.8.8", NULL);
	get_is(m, "host", NULL);
	get_is(m, "", NULL);
	map_close(&m);
	m = open_ok("cidr:{{10.0.0.0/8 a}, {0.0.0.0/0 b}}", NULL);
	get_is(m, "10.0.0.1", "a");
	get_is(m, "11.0.0.1", "b");
	map_close(&m);
}

static void write_kch(const char *name, const char *key, const char *value)
{
	KCDB *db = kcdbnew();
	char file[300];

	snprintf(file, sizeof(file), "%s.tmp.kch", path_of(name));
	if (!kcdbopen(db, file, KCOWRITER | KCOCREATE) ||
	    !kcdbset(db, key, strlen(key), value, strlen(value)) || !kcdbclose(db))
		abort();
	kcdbdel(db);
	if (rename(file, path_of(name)) < 0)
		abort();
}

static unsigned changes;
static int change_err;

static void changed(void *ctx, const struct map *m, int err, const char *why)
{
	(void)ctx;
	(void)m;
	(void)why;
	changes++;
	change_err = err;
}

static void test_kch(void)
{
	char spec[256];

	snprintf(spec, sizeof(spec), "hash:%s", path_of("db"));
	open_fails(spec, "run \"postmap hash:");
	write_kch("db.kch", "key", "old");
	struct map *m = open_ok(spec, NULL);

	get_is(m, "KEY", "old");
	get_is(m, "none", NULL);
	is_int(map_refresh_all(changed, NULL), 0, "nothing changed");
	write_kch("db.kch", "key", "new");
	get_is(m, "key", "old");
	is_int(map_refresh_all(changed, NULL), 1, "the new file is noticed");
	is_int(changes, 1, "and reported");
	get_is(m, "key", "new");
	write_file("bad", SV("this is no database"));
	rename(path_of("bad"), path_of("db.kch"));
	is_int(map_refresh_all(changed, NULL), 1, "a broken file is noticed");
	ok(change_err < 0, "and refused");
	get_is(m, "key", "new");
	is_int(map_refresh_all(changed, NULL), 0, "and not tried again and again");
	unlink(path_of("db.kch"));
	is_int(map_refresh_all(changed, NULL), 0, "a removed file changes nothing");
	get_is(m, "key", "new");
	map_close(&m);
	write_file("bad.kch", SV("this is no database"));
	snprintf(spec, sizeof(spec), "lmdb:%s", path_of("bad"));
	open_fails(spec, "lmdb:");
	write_file("t2", SV("k v1\n"));
	snprintf(spec, sizeof(spec), "texthash:%s", path_of("t2"));
	m = open_ok(spec, NULL);
	write_file("t2", SV("k value2\n"));
	is_int(map_refresh_all(NULL, NULL), 1, "a changed text file is noticed");
	get_is(m, "k", "value2");
	map_close(&m);
}

static void addr_is(struct map_list *l, const char *addr, bool bare, const char *want,
		    const char *want_ext)
{
	struct buf out = BUF_INIT;
	struct sv ext;
	enum map_status status = map_list_get_addr(l, sv_from(addr), "+-", bare, &out, &ext);

	is_str(status == MAP_FOUND ? buf_cstr(&out) : NULL, want, "address '%s'%s", addr,
	       bare ? " (bare)" : "");
	ok(sv_eq_str(ext, want_ext), "  extension");
	buf_fini(&out);
}

static void test_list(void)
{
	struct map_list *l;

	is_int(map_list_open(NULL,
			     "inline:{u+e@d=1, u@d=2, {v = 3}, w+x=4, @d=5, { \"a b\"@d = 6 }}, "
			     "pcre:{{/^@f$/ wrong}, {/^g@f$/ right}}",
			     "test_maps", &l, NULL),
	       0, "list");
	addr_is(l, "u+e@d", false, "1", "");
	addr_is(l, "u+f@d", false, "2", "+f");
	addr_is(l, "U-F@D", false, "2", "-F");
	addr_is(l, "v@d", true, "3", "");
	addr_is(l, "v@d", false, "5", "");
	addr_is(l, "v+q@d", true, "3", "+q");
	addr_is(l, "w+x@d", true, "4", "");
	addr_is(l, "z+q@d", false, "5", "+q");
	addr_is(l, "a b@d", false, "6", "");
	addr_is(l, "g@f", false, "right", "");
	addr_is(l, "h@f", false, NULL, "");
	addr_is(l, "v", false, "3", "");
	addr_is(l, "@d", false, "5", "");
	addr_is(l, "", false, NULL, "");
	map_list_close(&l);
	is_int(map_list_open(NULL, "", "x", &l, NULL), 0, "empty list");
	ok(map_list_is_empty(l), "is empty");
	addr_is(l, "a@b", true, NULL, "");
	map_list_close(&l);
	ok(map_list_open(NULL, "inline:{a=b", "x", &l, NULL) < 0 && l == NULL, "open brace");
	ok(map_list_open(NULL, "static:a nosuch:b", "x", &l, NULL) < 0 && l == NULL, "bad type");
	is_int(map_list_open(NULL, "inline:{u@d=1}, fail:x", "x", &l, NULL), 0, "with failure");
	struct buf out = BUF_INIT;
	struct sv ext;

	is_int(map_list_get_addr(l, SV("u@d"), "", false, &out, &ext), MAP_FOUND, "first hit wins");
	is_int(map_list_get_addr(l, SV("x@d"), "", false, &out, &ext), MAP_ERROR, "failure shows");
	buf_fini(&out);
	map_list_close(&l);
}

/* Patterns see whole addresses, tables with fixed keys the parts, too. */
static void test_transport_keys(void)
{
	static const struct {
		const char *maps, *found; /* for u+e@a.test */
	} cases[] = {
		{ "pcre:{{/^u\\+e@a\\.test$/ x}}", "x" },
		{ "pcre:{{/^u@a\\.test$/ x}}", NULL },
		{ "pcre:{{/^a\\.test$/ x}}", NULL },
		{ "inline:{u@a.test=x}", "x" },
		{ "inline:{a.test=x}", "x" },
		{ "inline:{.test=x}", "x" },
		{ "inline:{*=x}", "x" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct map_list *l;
		struct buf out = BUF_INIT;

		is_int(map_list_open(NULL, cases[i].maps, "transport_maps", &l, NULL), 0, "opened");
		is_int(map_list_get_transport(l, SV("u+e@a.test"), "+", false, &out),
		       cases[i].found != NULL ? MAP_FOUND : MAP_NOT_FOUND, "transport of %s",
		       cases[i].maps);
		map_list_close(&l);
		buf_fini(&out);
	}
}

static void test_types(void)
{
	ok(map_type_is_available("hash") && !map_type_is_available("nis"), "available types");
	ok(map_type_is_known("ldap") && !map_type_is_known("foo"), "known types");
	for (unsigned i = 1; map_type_name(i) != NULL; i++) {
		if (strcmp(map_type_name(i - 1), map_type_name(i)) >= 0)
			ok(false, "types are in order: %s", map_type_name(i));
	}
}

/* A file that is not there now makes mail wait, and is taken up when it appears. */
static void test_missing_file(void)
{
	struct conf_diag d;
	struct map *m;
	struct buf out = BUF_INIT;
	char spec[120], path[100];

	snprintf(path, sizeof(path), "%s/later", dir);
	snprintf(spec, sizeof(spec), "texthash:%s", path);
	conf_diag_init(&d);
	is_int(map_open(NULL, spec, &m, &d), 0, "a missing file is no reason not to start");
	ok(d.errors == 0 && d.warnings == 1, "it is a warning");
	is_int(map_get(m, SV("k"), &out), MAP_ERROR, "its table cannot be asked");
	int fd = open(path, O_WRONLY | O_CREAT, 0644);

	if (fd < 0 || io_write_all(fd, "k v\n", 4) < 0)
		abort();
	close(fd);
	is_int(map_refresh_all(NULL, NULL), 1, "the file appears");
	is_int(map_get(m, SV("k"), &out), MAP_FOUND, "and is used");
	is_str(buf_cstr(&out), "v", "its content");
	conf_diag_fini(&d);
	buf_fini(&out);
	map_close(&m);
}

int main(void)
{
	char command[100];

	if (mkdtemp(dir) == NULL)
		return 1;
	test_transport_keys();
	test_texthash();
	test_diag_lines();
	test_simple();
	test_multi();
	test_regex();
	test_cidr();
	test_kch();
	test_list();
	test_types();
	test_missing_file();
	test_troubles();
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) != 0 || tap_done();
}
