/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Parameters of a table; see workers/lookup/options.h. */
#include "workers/lookup/options.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/lines.h"
#include "lib/err.h"
#include "lib/hash.h"
#include "lib/io.h"
#include "lib/util.h"

#define FILE_LIMIT (1u << 20)

struct options {
	const struct conf *conf; /* when main.cf has them */
	char *spec, *prefix;
	struct strmap *values; /* of a file: name -> heap */
	struct conf_diag *diag;
	bool bad;
};

void options_complain(struct options *o, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	o->bad = true;
	if (o->diag != NULL)
		conf_diag_add(o->diag, true, NULL, 0, "%.200s: %s", o->spec, text);
}

bool options_are_bad(const struct options *o)
{
	return o->bad;
}

static void read_lines(struct options *o, struct sv text)
{
	struct conf_lines l;
	struct sv name, value;

	conf_lines_init(&l, text);
	while (conf_lines_next(&l)) {
		const char *why = conf_split_nameval(buf_sv(&l.text), &name, &value);

		if (why != NULL)
			options_complain(o, "line %u: %s", l.first_line, why);
		else
			free(strmap_put(o->values, name, xstrndup(value.p, value.len)));
	}
	conf_lines_fini(&l);
}

static int read_file(struct options *o, const char *path)
{
	struct buf text = BUF_INIT;
	int err = io_read_file(path, FILE_LIMIT, &text);

	if (err < 0)
		options_complain(o, "open %.200s: %s", path, err_str(err));
	else if (text.len > 0 && memchr(text.p, '\0', text.len) != NULL)
		options_complain(o, "%.200s: is no text", path);
	else
		read_lines(o, buf_sv(&text));
	if (text.p != NULL)
		explicit_bzero(text.p, text.len); /* there may be passwords in it */
	buf_fini(&text);
	return err;
}

int options_open(const struct conf *c, const char *spec, const char *name, struct options **o_r,
		 struct conf_diag *d)
{
	struct options *o = xcalloc(1, sizeof(*o));
	int err = 0;

	o->spec = xstrdup(spec);
	o->diag = d;
	if (name[0] == '/' || name[0] == '.') {
		o->values = strmap_new();
		err = read_file(o, name);
	} else {
		o->conf = c;
		o->prefix = xasprintf("%s_", name);
	}
	if (err < 0)
		options_free(&o);
	*o_r = o;
	return err;
}

void options_free(struct options **op)
{
	struct options *o;
	struct sv key;
	size_t pos = 0;
	void *value;

	TAKE(o, *op);
	if (o == NULL)
		return;
	while (o->values != NULL && strmap_next(o->values, &pos, &key, &value))
		free(value);
	if (o->values != NULL)
		strmap_free(&o->values);
	free(o->spec);
	free(o->prefix);
	free(o);
}

const char *options_get(const struct options *o, const char *name, const char *def)
{
	const char *value;

	if (o->values != NULL) {
		value = strmap_get(o->values, sv_from(name));
	} else {
		char *full = xasprintf("%s%s", o->prefix, name);

		value = conf_get(o->conf, full);
		free(full);
	}
	return value != NULL ? value : def;
}

int64_t options_int(struct options *o, const char *name, int64_t def, int64_t min, int64_t max)
{
	const char *text = options_get(o, name, NULL);
	char *end;

	if (text == NULL || *text == '\0')
		return def;
	long long n = strtoll(text, &end, 10);

	/* the seconds of a time may be written out */
	if (end != text && strcmp(end, "s") == 0)
		end++;
	if (end == text || *end != '\0' || n < min || n > max) {
		options_complain(o, "%s: expected a number from %lld to %lld, found: %.60s", name,
				 (long long)min, (long long)max, text);
		return def;
	}
	return n;
}

bool options_bool(struct options *o, const char *name, bool def)
{
	const char *text = options_get(o, name, NULL);

	if (text == NULL || *text == '\0')
		return def;
	if (str_eq_nocase(text, "yes") || str_eq_nocase(text, "true"))
		return true;
	if (!str_eq_nocase(text, "no") && !str_eq_nocase(text, "false"))
		options_complain(o, "%s: expected yes or no, found: %.60s", name, text);
	return false;
}
