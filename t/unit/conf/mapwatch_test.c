/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which table files a configuration names, and when they count as changed. */
#include "conf/map_watch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/io.h"
#include "t/unit/tap.h"

static char dir[] = "/tmp/watchtest.XXXXXX";

static const char *path_of(const char *name)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *text)
{
	int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	if (fd < 0 || io_write_all(fd, text, strlen(text)) < 0)
		abort();
	close(fd);
}

static const char *poll_name(struct map_watch *w)
{
	const char *path = map_watch_poll(w);
	const char *slash = path == NULL ? NULL : strrchr(path, '/');

	return slash == NULL ? path : slash + 1;
}

/* Written now, reported at the second poll from now. */
static void change_is_seen(struct map_watch *w, const char *file, const char *text)
{
	write_file(file, text);
	is_str(poll_name(w), NULL, "%s: not at once", file);
	is_str(poll_name(w), file, "%s: then", file);
	is_str(poll_name(w), NULL, "%s: once", file);
}

int main(void)
{
	static const char *const files[] = { "access.kch", "text",      "re",  "inner.kch",
					     "nets",       "class.kch", "ovr", "missing" };
	char text[3000], command[100];
	struct conf_diag d;
	struct conf *c;

	if (mkdtemp(dir) == NULL)
		return 1;
	for (size_t i = 0; i + 1 < ARRAY_LEN(files); i++)
		write_file(files[i], "x");
	snprintf(text, sizeof(text),
		 "compatibility_level = 3.6\n"
		 "d = %s\n"
		 "smtpd_recipient_restrictions = permit_mynetworks check_recipient_access "
		 "hash:$d/access,\n"
		 "  {check_sender_access, pcre:$d/re} reject\n"
		 "transport_maps = texthash:$d/text, inline:{a=texthash:/no}\n"
		 "virtual_alias_maps = proxy:unionmap:{lmdb:$d/inner, static:x}, "
		 "texthash:$d/missing\n"
		 "mynetworks = 127.0.0.0/8 !$d/nets\n"
		 "smtpd_restriction_classes = mine\n"
		 "mine = check_client_access btree:$d/class\n"
		 "alias_maps =\nalias_database =\nlocal_recipient_maps =\n",
		 dir);
	write_file("main.cf", text);
	write_file("master.cf", "smtp inet n - n - - smtpd\n"
				" -o smtpd_client_restrictions=check_client_access,cidr:$d/ovr\n");
	conf_diag_init(&d);
	if (!ok(conf_load_dir(dir, &c, &d) == 0, "configuration"))
		printf("# %s\n", buf_cstr(&d.text));
	struct map_watch *w = map_watch_new(c);

	is_int(map_watch_count(w), ARRAY_LEN(files), "files watched");
	is_str(poll_name(w), NULL, "nothing changed");
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		change_is_seen(w, files[i], "more");
	write_file("text", "growing");
	is_str(poll_name(w), NULL, "a file is being written");
	write_file("text", "growing more");
	is_str(poll_name(w), NULL, "it still is");
	is_str(poll_name(w), "text", "now it is not");
	unlink(path_of("text"));
	is_str(poll_name(w), NULL, "gone");
	is_str(poll_name(w), NULL, "is no change");
	map_watch_free(&w);
	conf_free(&c);
	conf_diag_fini(&d);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	return system(command) != 0 || tap_done();
}
