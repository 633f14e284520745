/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Texts of tables and match lists. Byte 0 chooses the type; keys are taken from the input. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/map.h"
#include "conf/map_text.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ask(const char *spec, struct sv text)
{
	struct buf out = BUF_INIT;
	struct conf_diag d;
	struct map *m;

	conf_diag_init(&d);
	if (map_open(NULL, spec, &m, &d) == 0) {
		map_get(m, (struct sv){ text.p, size_min(text.len, 20) }, &out);
		map_get(m, SV("192.0.2.1"), &out);
		map_get(m, SV(""), &out);
		map_close(&m);
	} else {
		ASSERT(d.errors > 0);
	}
	conf_diag_fini(&d);
	buf_fini(&out);
}

static void from_file(const char *type, struct sv text)
{
	char spec[100];
	int fd = memfd_create("table", MFD_CLOEXEC);

	ASSERT(fd >= 0 && io_write_all(fd, text.p, text.len) == 0);
	snprintf(spec, sizeof(spec), "%s:/proc/self/fd/%d", type, fd);
	ask(spec, text);
	close(fd);
}

static void from_inline(const char *type, struct sv text)
{
	char *spec = xasprintf("%s:{%.*s}", type, (int)text.len, text.p);

	ask(spec, text);
	free(spec);
}

static void match(struct sv text)
{
	char *list = xstrndup(text.p, text.len);
	struct matchlist *l;

	/* no files and no tables: those are somebody else's */
	for (char *p = list; *p != '\0'; p++) {
		if (*p == '/' && (p == list || p[-1] < '0' || p[-1] > ':'))
			*p = 'x';
	}
	if (strchr(list, ':') == NULL &&
	    matchlist_open(NULL, list, "mynetworks", MATCHLIST_ADDRESS, &l, NULL) == 0) {
		matchlist_has_client(l, (struct sv){ text.p, size_min(text.len, 20) }, "192.0.2.1");
		matchlist_has_ip(l, "2001:db8::1");
		matchlist_close(&l);
	}
	free(list);
}

static void alias(struct sv text)
{
	struct buf key = BUF_INIT;
	struct sv line, value;
	struct map_text t;

	map_text_init_file(&t, text, "file", NULL);
	while (map_text_next(&t, &line)) {
		ASSERT(line.len > 0);
		if (map_text_split_alias(&t, line, &key, &value))
			ASSERT(key.len > 0 && value.len > 0);
	}
	map_text_fini(&t);
	buf_fini(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const files[] = { "texthash", "cidr", "pcre" };
	static const char *const inlines[] = { "inline", "cidr", "pcre", "randmap", "static" };

	if (size < 2)
		return 0;
	struct sv text = { (const char *)data + 1, size - 1 };

	switch (data[0] % 4) {
	case 0:
		from_file(files[data[0] / 4 % ARRAY_LEN(files)], text);
		break;
	case 1:
		from_inline(inlines[data[0] / 4 % ARRAY_LEN(inlines)], text);
		break;
	case 2:
		match(text);
		break;
	case 3:
		alias(text);
		break;
	}
	return 0;
}
