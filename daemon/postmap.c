/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postmap, postalias: build, query and change lookup tables (one program, two names).
 * Run by operators and scripts; messages have Postfix's form "postmap: warning: ...".
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/kch_build.h"
#include "conf/map_ask.h"
#include "conf/map_impl.h"
#include "daemon/postmap_message.h"
#include "lib/base64.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

#define SOURCE_MAX_BYTES ((size_t)4 << 30)
#define DEFAULT_MODE     0644
#define FILES_MAX_BYTES  ((size_t)64 << 20) /* of one value with -F */

struct options {
	bool alias;         /* postalias */
	bool incremental;   /* -i */
	bool keep_root;     /* -o */
	bool plain_mode;    /* -p */
	bool replace;       /* -r */
	bool quiet_dup;     /* -w */
	bool no_fold;       /* -f */
	bool list;          /* -s */
	bool files;         /* -F: values are contents of files, in Base64 */
	bool json;          /* -j */
	bool body;          /* -b */
	bool headers;       /* -h */
	bool mime;          /* -m */
	const char *query;  /* -q */
	const char *delete; /* -d */
	const char *conf_dir;
	const char *default_type;
};

static const char *program;
static struct conf *conf;
static bool trouble; /* something could not be done: exit status 1 */

PRINTF_LIKE(2, 0)
static void say(const char *severity, const char *fmt, va_list ap)
{
	char text[1000];

	vsnprintf(text, sizeof(text), fmt, ap);
	str_make_printable(text, strlen(text));
	fprintf(stderr, "%s: %s: %s\n", program, severity, text);
}

PRINTF_LIKE(1, 2) NORETURN static void fatal(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("fatal", fmt, ap);
	va_end(ap);
	exit(1);
}

/* What the code below says, without the process id that log lines have. */
static void say_line(void *ctx UNUSED, enum log_level level UNUSED, const char *name,
		     const char *text, size_t len)
{
	fprintf(stderr, "%s: %.*s\n", name, (int)len, text);
}

/* Lines that are warnings say so themselves. */
static const char *severity_of(const char *line, bool as_fatal)
{
	if (strncmp(line, "warning: ", 9) == 0)
		return "";
	return as_fatal ? "fatal: " : "error: ";
}

/* Print what was collected, one line each, and empty it. */
static void show_diag(struct conf_diag *d, bool as_fatal)
{
	char *save = NULL;

	if (d->text.len > 0) {
		for (char *l = strtok_r(d->text.p, "\n", &save); l != NULL;
		     l = strtok_r(NULL, "\n", &save))
			fprintf(stderr, "%s: %s%s\n", program, severity_of(l, as_fatal), l);
	}
	conf_diag_fini(d);
	conf_diag_init(d);
}

static void load_conf(const struct options *o)
{
	const char *dir = o->conf_dir != NULL ? o->conf_dir : getenv("MAIL_CONFIG");
	struct conf_diag d;

	if (conf != NULL)
		return;
	conf_diag_init(&d);
	if (conf_load_dir(dir == NULL ? PH_CONFIG_DIR : dir, &conf, &d) < 0) {
		show_diag(&d, true);
		exit(1);
	}
	conf_diag_fini(&d); /* its warnings are the business of `postconf` and `check` */
}

/* Tables are built while main.cf is being edited: it is read when it decides something only. */
static void check_conf_dir(const char *dir)
{
	char *path = xasprintf("%s/main.cf", dir);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fatal("open %s: %s", path, strerror(errno));
	close(fd);
	free(path);
}

struct table {
	char *type;
	char *name;
};

static struct table table_of(struct options *o, const char *arg)
{
	const char *colon = strchr(arg, ':');

	if (colon != NULL)
		return (struct table){ xstrndup(arg, (size_t)(colon - arg)), xstrdup(colon + 1) };
	if (o->default_type == NULL) {
		load_conf(o);
		o->default_type = conf_get(conf, "default_database_type");
		if (o->default_type == NULL || o->default_type[0] == '\0')
			o->default_type = "hash";
	}
	return (struct table){ xstrdup(o->default_type), xstrdup(arg) };
}

static void table_free(struct table *t)
{
	free(t->type);
	free(t->name);
}

static bool is_compiled(const char *type)
{
	static const char *const writable[] = { "btree", "cdb", "dbm", "hash", "lmdb", "sdbm" };

	for (size_t i = 0; i < ARRAY_LEN(writable); i++) {
		if (strcmp(writable[i], type) == 0)
			return true;
	}
	return false;
}

static void need_known(const struct table *t)
{
	if (!map_type_is_known(t->type))
		fatal("unsupported dictionary type: %s", t->type);
}

static void fold(const struct options *o, struct buf *key)
{
	if (!o->no_fold)
		str_lower(key->p, key->len);
}

/* ---- build ---- */

/* As root, work with the rights of the source file's owner, so that nothing of root's appears in a
 * directory that somebody else controls. */
static void become_owner(const struct options *o, const struct stat *st)
{
	if (geteuid() != 0 || o->keep_root || st->st_uid == 0)
		return;
	if (setegid(st->st_gid) < 0 || seteuid(st->st_uid) < 0)
		fatal("cannot take the rights of uid %ld: %s", (long)st->st_uid, strerror(errno));
}

static void become_root_again(void)
{
	if (geteuid() != getuid() && (seteuid(getuid()) < 0 || setegid(getgid()) < 0))
		fatal("cannot go back to the former rights: %s", strerror(errno));
}

/* Open and read the source; true when it is standard input. */
static void read_source(const struct options *o, const struct table *t, struct buf *data,
			mode_t *mode)
{
	struct stat st;
	int fd = o->incremental ? STDIN_FILENO : open(t->name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fatal("open %s: %s", t->name, strerror(errno));
	if (fstat(fd, &st) < 0)
		fatal("fstat %s: %s", t->name, strerror(errno));
	if (o->incremental) {
		/* the owner of the table is that of the file it was made from, if there is one */
		if (stat(t->name, &st) < 0)
			st.st_uid = geteuid();
		else
			become_owner(o, &st);
		*mode = DEFAULT_MODE;
	} else {
		if (!S_ISREG(st.st_mode))
			fatal("%s is not a regular file", t->name);
		become_owner(o, &st);
		*mode = o->plain_mode ? DEFAULT_MODE : st.st_mode & 0777;
	}
	int err = io_read_to_buf(fd, SOURCE_MAX_BYTES, data);

	if (err < 0)
		fatal("read %s: %s", t->name, err_str(err));
	if (!o->incremental)
		close(fd);
}

static bool parse_entry(const struct options *o, const struct map_text *t, struct sv line,
			struct buf *key, struct sv *value)
{
	struct sv raw;

	if (o->alias) {
		if (!map_text_split_alias(t, line, key, value))
			return false;
		if (memchr(key->p, '@', key->len) != NULL) {
			map_text_warn(t, "name must be local");
			return false;
		}
		return true;
	}
	if (!map_text_split(t, line, &raw, value))
		return false;
	buf_reset(key);
	return buf_add_sv(key, raw);
}

/* The contents of the files that a value names, with a newline between them. */
static bool read_files(const struct map_text *t, struct sv names, struct buf *out)
{
	struct buf all = BUF_INIT;
	char *list = xstrndup(names.p, names.len), *save = NULL;
	bool ok = true, first = true;

	for (char *name = strtok_r(list, ", \t\r\n", &save); name != NULL && ok;
	     name = strtok_r(NULL, ", \t\r\n", &save)) {
		struct buf one = BUF_INIT;
		int err = io_read_file(name, FILES_MAX_BYTES, &one);

		ok = err == 0;
		if (!ok)
			map_text_warn(t, "open %.300s: %s: skipping this entry", name,
				      err_str(err));
		if (!first)
			buf_add_c(&all, '\n');
		buf_add_sv(&all, buf_sv(&one));
		buf_fini(&one);
		first = false;
	}
	buf_reset(out);
	if (ok)
		base64_encode(buf_sv(&all), out);
	buf_fini(&all);
	free(list);
	return ok;
}

static void add_entries(const struct options *o, struct map_text *t, struct kch_build *b,
			struct conf_diag *d)
{
	enum kch_dup dup = o->replace ? KCH_DUP_REPLACE : KCH_DUP_KEEP;
	struct buf key = BUF_INIT, content = BUF_INIT;
	struct sv line, value;

	while (map_text_next(t, &line)) {
		bool good = parse_entry(o, t, line, &key, &value);

		if (good && o->files) {
			good = read_files(t, value, &content);
			value = buf_sv(&content);
		}
		if (good) {
			fold(o, &key);
			int added = kch_build_add(b, buf_sv(&key), value, dup);

			if (added < 0)
				break; /* the commit says why */
			if (added == 0 && !o->quiet_dup)
				map_text_warn(t, "duplicate entry: \"%.300s\"", key.p);
		}
		show_diag(d, false);
	}
	buf_fini(&key);
	buf_fini(&content);
}

static size_t count_lines(struct sv s)
{
	size_t n = 1;

	for (const char *p = s.p; (p = memchr(p, '\n', s.len - (size_t)(p - s.p))) != NULL; p++)
		n++;
	return n;
}

static void build(struct options *o, const char *arg)
{
	struct table t = table_of(o, arg);
	struct buf data = BUF_INIT;
	struct kch_build *b;
	struct conf_diag d;
	struct map_text text;
	mode_t mode;
	char *why;

	read_source(o, &t, &data, &mode);
	if (!is_compiled(t.type))
		fatal("unsupported map type for this operation: %s", t.type);
	if (kch_build_begin(t.name, count_lines(buf_sv(&data)), mode, o->incremental, &b, &why) < 0)
		fatal("%s", why);
	conf_diag_init(&d);
	map_text_init_file(&text, buf_sv(&data), o->incremental ? "stdin" : t.name, &d);
	add_entries(o, &text, b, &d);
	map_text_fini(&text);
	show_diag(&d, false);
	conf_diag_fini(&d);
	if (kch_build_commit(&b, &why) < 0)
		fatal("%s", why);
	become_root_again();
	buf_fini(&data);
	table_free(&t);
}

/* ---- query ---- */

static struct map *open_map(const struct table *t)
{
	char *spec = xasprintf("%s:%s", t->type, t->name);
	struct conf_diag d;
	struct map *m;

	conf_diag_init(&d);
	int err = map_open_strict(conf, spec, &m, &d);

	show_diag(&d, err < 0);
	if (err < 0)
		exit(1);
	conf_diag_fini(&d);
	free(spec);
	return m;
}

static bool query_one(const struct options *o, struct map *m, struct sv key, struct buf *out)
{
	/* socketmap and tcp keys are folded by those who ask, in Postfix; postmap does not */
	bool as_is = o->no_fold || (map_is_remote(m) && !map_has_fixed_keys(m));
	enum map_status status = as_is ? map_get_as_is(m, key, out) : map_get(m, key, out);

	if (status == MAP_ERROR)
		fatal("table %s: query error", map_spec(m));
	return status == MAP_FOUND;
}

/* Call `fn` for the key, or for each line of standard input when it is "-". Any true counts. */
typedef bool (*key_fn)(void *ctx, struct sv key, bool many);

static bool for_keys(const char *key, key_fn fn, void *ctx)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	bool any = false;

	if (strcmp(key, "-") != 0)
		return fn(ctx, sv_from(key), false);
	while ((len = getline(&line, &cap, stdin)) >= 0) {
		struct sv text = { line, (size_t)len };

		while (text.len > 0 &&
		       (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r'))
			text.len--;
		if (text.len > 0)
			any = fn(ctx, text, true) || any;
	}
	free(line);
	return any;
}

static void put_json(struct sv s)
{
	putchar('"');
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

/* A value as it was stored, decoded with -F. */
static void value_of(const struct options *o, const char *spec, struct sv key, struct sv stored,
		     struct buf *out)
{
	buf_reset(out);
	if (!o->files) {
		buf_add_sv(out, stored);
	} else if (base64_decode(stored, out) != 0) {
		fprintf(stderr, "%s: warning: table %s: key %.*s: malformed BASE64 value: %.*s\n",
			program, spec, (int)key.len, key.p, (int)stored.len, stored.p);
		fatal("table %s: query error", spec);
	}
}

static void put_entry(const struct options *o, const char *spec, struct sv key, bool with_key,
		      struct sv stored)
{
	struct buf value = BUF_INIT;

	value_of(o, spec, key, stored, &value);
	if (o->json) {
		putchar('{');
		put_json(key);
		fputs(": ", stdout);
		put_json(buf_sv(&value));
		puts("}");
	} else {
		if (with_key)
			printf("%.*s%s\t", (int)key.len, key.p, o->alias ? ":" : "");
		fwrite(buf_cstr(&value), 1, value.len, stdout);
		putchar('\n');
	}
	buf_fini(&value);
}

struct query {
	struct options *o;
	char **args;
	struct map **maps; /* NULL: not asked yet, and not open */
	int map_count;
};

static struct map *map_of(struct query *q, int i)
{
	if (q->maps[i] != NULL)
		return q->maps[i];
	struct table t = table_of(q->o, q->args[i]);

	need_known(&t);
	q->maps[i] = open_map(&t);
	if (map_is_remote(q->maps[i])) {
		load_conf(q->o);
		map_ask_install(conf);
	}
	table_free(&t);
	return q->maps[i];
}

static bool query_key(void *ctx, struct sv key, bool many)
{
	struct query *q = ctx;
	struct buf out = BUF_INIT;
	bool found = false;

	for (int i = 0; i < q->map_count && !found; i++) {
		struct map *m = map_of(q, i);

		found = query_one(q->o, m, key, &out);
		if (found)
			put_entry(q->o, map_spec(m), key, many, buf_sv(&out));
	}
	buf_fini(&out);
	return found;
}

static bool message_key(void *ctx, struct sv key)
{
	return query_key(ctx, key, true);
}

static bool query_message(struct query *q)
{
	struct message_keys m = { .headers = q->o->headers,
				  .body = q->o->body,
				  .mime = q->o->mime,
				  .key = message_key,
				  .ctx = q };

	return message_keys_read(&m, stdin);
}

static void query(struct options *o, char **args, int count)
{
	struct query q = { .o = o, .args = args, .map_count = count };

	q.maps = xcalloc((size_t)count, sizeof(struct map *));
	bool any = o->headers || o->body ? query_message(&q) : for_keys(o->query, query_key, &q);

	trouble = trouble || !any;
	for (int i = 0; i < count; i++)
		map_close(&q.maps[i]);
	free(q.maps);
}

/* ---- delete, list ---- */

struct deletion {
	const struct options *o;
	struct kch_build *b;
};

static bool delete_key(void *ctx, struct sv key, bool many)
{
	const struct deletion *del = ctx;
	struct buf folded = BUF_INIT;

	(void)many;
	buf_add_sv(&folded, key);
	fold(del->o, &folded);
	int removed = kch_build_remove(del->b, buf_sv(&folded));

	buf_fini(&folded);
	return removed > 0;
}

static void delete_from(struct options *o, const char *arg)
{
	struct table t = table_of(o, arg);
	struct deletion del = { .o = o };
	struct stat st;
	char *why, *path = xasprintf("%s.kch", t.name);

	need_known(&t);
	if (!is_compiled(t.type))
		fatal("%s:%s map requires O_RDONLY access mode", t.type, t.name);
	if (stat(path, &st) < 0)
		fatal("open %s: %s", path, strerror(errno));
	become_owner(o, &st);
	if (kch_build_begin(t.name, 64, DEFAULT_MODE, true, &del.b, &why) < 0)
		fatal("%s", why);
	bool any = for_keys(o->delete, delete_key, &del);

	if (any && kch_build_commit(&del.b, &why) < 0)
		fatal("%s", why);
	kch_build_abort(&del.b);
	become_root_again();
	if (!any)
		trouble = true;
	free(path);
	table_free(&t);
}

struct listing {
	const struct options *o;
	const char *spec;
};

static bool print_entry(void *ctx, struct sv key, struct sv value)
{
	const struct listing *l = ctx;

	put_entry(l->o, l->spec, key, true, value);
	return !ferror(stdout);
}

static void list(struct options *o, const char *arg)
{
	struct table t = table_of(o, arg);
	char *why;

	need_known(&t);
	char *spec = xasprintf("%s:%s", t.type, t.name);
	struct listing l = { o, spec };

	if (is_compiled(t.type)) {
		if (kch_each(t.name, print_entry, &l, &why) < 0)
			fatal("%s", why);
	} else {
		struct map *m = open_map(&t);

		if (!map_each(m, print_entry, &l))
			fatal("table %s: sequence operation is not supported", spec);
		map_close(&m);
	}
	free(spec);
	table_free(&t);
}

/* ---- command line ---- */

static NORETURN void usage(const struct options *o)
{
	fatal("usage: %s [-%s] [-c config_dir] [-d key] [-q key] [map_type:]file...", program,
	      o->alias ? "NfijnoprsuUvw" : "bfFhijmnNoprsuUvw");
}

static void check_message_options(const struct options *o)
{
	bool message = o->body || o->headers || o->mime;

	if (message && (o->query == NULL || strcmp(o->query, "-") != 0))
		fatal("specify -b -h or -m only with \"-q -\"");
	if (o->mime && !o->body && !o->headers)
		fatal("specify -m only with -b or -h");
	if (o->json && o->query == NULL && !o->list)
		fatal("specify -j only with -q or -s");
}

static void parse_options(int argc, char **argv, struct options *o)
{
	int c;

	const char *letters = o->alias ? "Nc:d:fijnopq:rsuUvw" : "Nbc:d:fFhijmnopq:rsuUvw";

	while ((c = getopt(argc, argv, letters)) != -1) {
		switch (c) {
		case 'c':
			o->conf_dir = optarg;
			break;
		case 'd':
			o->delete = optarg;
			break;
		case 'f':
			o->no_fold = true;
			break;
		case 'b':
			o->body = true;
			break;
		case 'F':
			o->files = true;
			break;
		case 'h':
			o->headers = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'm':
			o->mime = true;
			break;
		case 'i':
			o->incremental = true;
			break;
		case 'o':
			o->keep_root = true;
			break;
		case 'p':
			o->plain_mode = true;
			break;
		case 'q':
			o->query = optarg;
			break;
		case 'r':
			o->replace = true;
			o->quiet_dup = false;
			break;
		case 's':
			o->list = true;
			break;
		case 'w':
			o->quiet_dup = true;
			o->replace = false;
			break;
		case 'N': /* the stored form has no terminators to choose */
		case 'n':
		case 'u':
		case 'U':
		case 'v':
			break;
		default:
			usage(o);
		}
	}
	if ((o->query != NULL) + (o->delete != NULL) + o->list > 1)
		fatal("specify only one of -s -q or -d");
	if (o->incremental && (o->query != NULL || o->delete != NULL || o->list))
		fatal("specify -i only to build a table");
	check_message_options(o);
}

int main(int argc, char **argv)
{
	struct options o = { .alias = false };

	io_have_std();
	program = basename(argv[0]);
	o.alias = strcmp(program, "postalias") == 0;
	umask(022);
	log_set_program(program);
	log_set_sink(say_line, NULL);
	parse_options(argc, argv, &o);
	if (optind == argc)
		usage(&o);
	if (o.conf_dir != NULL)
		check_conf_dir(o.conf_dir);
	if (o.query != NULL) {
		query(&o, argv + optind, argc - optind);
		optind = argc;
	}
	for (; optind < argc; optind++) {
		if (o.delete != NULL)
			delete_from(&o, argv[optind]);
		else if (o.list)
			list(&o, argv[optind]);
		else
			build(&o, argv[optind]);
	}
	conf_free(&conf);
	if (fflush(stdout) != 0 || ferror(stdout))
		fatal("write to standard output: %s", strerror(errno));
	return trouble;
}
