/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main.cf and master.cf: two texts with a line "%%" between them; or, behind a '!', a snapshot as
 * it is. Every input goes through the readers of lines, of $names and of master.cf entries; every
 * second one (by its bytes) is loaded as a whole, because filling the table takes most of the time.
 * Whatever loads must have all its texts, and give the same again from its own snapshot.
 */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/conf_priv.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int memory_file(void)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);

	ASSERT(fd >= 0);
	return fd;
}

static const char *lookup(void *ctx, struct sv name, bool *fail_r)
{
	(void)ctx;
	*fail_r = name.len == 7;
	return name.len % 3 == 0 ? NULL : name.len % 3 == 1 ? "" : "value";
}

static void on_ref(void *ctx, struct sv name)
{
	(void)ctx;
	ASSERT(name.len > 0);
}

static void read_lines(struct conf *c, struct sv text)
{
	struct expand e = { .lookup = lookup };
	struct buf out = BUF_INIT;
	struct conf_lines lines;
	struct conf_diag d;
	struct service s;
	struct sv name, value;

	conf_diag_init(&d);
	out.limit = 4096;
	conf_lines_init(&lines, text);
	while (conf_lines_next(&lines)) {
		struct sv line = buf_sv(&lines.text);

		ASSERT(lines.first_line > 0 && lines.first_line <= lines.line);
		if (conf_split_nameval(line, &name, &value) == NULL) {
			ASSERT(name.len > 0);
			buf_reset(&out);
			if (expand_text(&e, value, &out) == 0)
				ASSERT(expand_scan(value, on_ref, NULL) <= 0);
		}
		if (mastercf_parse_line(c, &d, line, lines.first_line, &s))
			ASSERT(s.pub.program != NULL && s.pub.name[0] != 0);
	}
	conf_lines_fini(&lines);
	conf_diag_fini(&d);
	buf_fini(&out);
}

static void put(struct buf *out, const char *key, struct sv text)
{
	buf_printf(out, "%s %zu\n", key, text.len);
	buf_add_sv(out, text);
	buf_add_c(out, '\n');
}

static void check_loaded(const struct conf *c)
{
	for (unsigned i = 0; i < param_count(); i++) {
		const struct param_desc *pd = param_desc(i);

		if (pd->type == P_STR)
			ASSERT(*(const char *const *)((const char *)conf_params(c) + pd->offset) !=
			       NULL);
	}
	for (unsigned i = 0; i < conf_service_count(c); i++)
		ASSERT(conf_service(c, i)->params != NULL);
	for (unsigned i = 0; i < conf_transport_count(c); i++)
		ASSERT(conf_transport(c, i)->destination_concurrency_limit >= 0);
	for (unsigned i = 0; i < conf_listener_count(c); i++)
		ASSERT(conf_listener(c, i)->port[0] != 0);
}

static void load(struct sv snapshot)
{
	struct conf *c, *again;
	struct conf_diag d;
	int fd = memory_file(), err;

	conf_diag_init(&d);
	ASSERT(io_write_all(fd, snapshot.p, snapshot.len) == 0);
	err = conf_load_snapshot(fd, &c, &d);
	ASSERT((err == 0) == (c != NULL));
	ASSERT(err == 0 || d.errors > 0);
	if (err == 0) {
		check_loaded(c);
		io_close(&fd);
		fd = memory_file();
		ASSERT(conf_write_snapshot(c, fd) == 0);
		ASSERT(conf_load_snapshot(fd, &again, &d) == 0);
		ASSERT(conf_service_count(again) == conf_service_count(c));
		ASSERT(strcmp(conf_params(again)->relayhost, conf_params(c)->relayhost) == 0);
		conf_free(&again);
	}
	conf_free(&c);
	conf_diag_fini(&d);
	io_close(&fd);
}

static struct sv split(struct sv *text)
{
	const char *mark = text->len > 0 ? memmem(text->p, text->len, "%%\n", 3) : NULL;
	struct sv first = *text;

	if (mark == NULL) {
		*text = SV("");
		return first;
	}
	first.len = (size_t)(mark - first.p);
	text->p = mark + 3;
	text->len -= first.len + 3;
	return first;
}

static struct conf *plain(void)
{
	static struct conf *c;
	struct buf out = BUF_INIT;
	struct conf_diag d;
	int fd = memory_file();

	conf_diag_init(&d);
	buf_add_str(&out, "posthaste configuration snapshot 1\n");
	put(&out, "dir", SV("/etc/posthaste"));
	put(&out, "end", SV(""));
	ASSERT(io_write_all(fd, out.p, out.len) == 0);
	conf_free(&c);
	ASSERT(conf_load_snapshot(fd, &c, &d) == 0);
	conf_diag_fini(&d);
	buf_fini(&out);
	io_close(&fd);
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct conf *c;
	static unsigned uses;
	struct sv all = { (const char *)data, size }, master = all, text;
	struct buf out = BUF_INIT;
	uint32_t sum = 2166136261u;

	if (size > 0 && data[0] == '!') {
		load((struct sv){ all.p + 1, all.len - 1 });
		return 0;
	}
	for (size_t i = 0; i < size; i++)
		sum = (sum ^ data[i]) * 16777619u;
	/* Parsed entries stay in its arena: take a new one now and then. */
	if (uses++ % 1000 == 0)
		c = plain();
	text = split(&master);
	read_lines(c, all);
	if ((sum >> 8) % 2 != 0)
		return 0;
	buf_add_str(&out, "posthaste configuration snapshot 1\n");
	put(&out, "dir", SV("/etc/posthaste"));
	put(&out, "main", text);
	put(&out, "master", master);
	put(&out, "myhostname", SV("host.example.com"));
	put(&out, "mydomain", SV("example.com"));
	put(&out, "mynetworks", SV("127.0.0.0/8"));
	put(&out, "end", SV(""));
	load(buf_sv(&out));
	buf_fini(&out);
	return 0;
}
