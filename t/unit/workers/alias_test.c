/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What aliases and .forward files say, and how such files are read. */
#include "workers/local/alias.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "t/unit/tap.h"
#include "workers/local/readfile.h"

static void list(const char *text, const char *want)
{
	static const char kinds[] = { 'a', 'f', 'c', 'i' };
	struct sv rest = sv_from(text);
	struct buf got = BUF_INIT, item = BUF_INIT;
	enum alias_kind kind;

	while (alias_next(&rest, &kind, &item))
		buf_printf(&got, "%c[%s]", kinds[kind], buf_cstr(&item));
	is_str(buf_cstr(&got), want, "%s", text);
	buf_fini(&got);
	buf_fini(&item);
}

static void test_lists(void)
{
	list("joe", "a[joe]");
	list(" joe , ann@x.test,,\n bob\n", "a[joe]a[ann@x.test]a[bob]");
	list("# none\njoe # not a comment\n  # one\nann", "a[joe # not a comment]a[ann]");
	list("\"|cmd a, b \\\"c\\\"\", /file/x, |\"other cmd\"",
	     "c[cmd a, b \"c\"]f[/file/x]c[other cmd]");
	list("|cmd arg", "c[cmd arg]");
	list(":include:/a/b, \":Include:/c d\"", "i[/a/b]i[/c d]");
	list("\\joe, \\\\x", "a[\\joe]a[\\\\x]");
	list("\"a b\"@x.test, Joe Doe <joe@x.test>, (c, d) , ann (x, y)",
	     "a[a b@x.test]a[joe@x.test]a[ann]");
	list("\"unbalanced, joe", "a[unbalanced, joe]");
	list("\"unbalanced\njoe", "a[unbalanced]a[joe]");
	list("\"\", <>, |, :include:, \"|\"", "a[:include:]");
	list("", "");
	list("(((", "");
	list("a\\", "a[a\\]");
}

static void test_addresses(void)
{
	char large[1100];

	memset(large, 'a', sizeof(large));
	ok(alias_address_ok(SV("joe")) && alias_address_ok(SV("a b@x.test")) &&
		   alias_address_ok(SV("j\xc3\xb6@x.test")) &&
		   alias_address_ok(SV("a@[127.0.0.1]")),
	   "addresses");
	ok(!alias_address_ok(SV("")) && !alias_address_ok(SV("a\rb@x.test")) &&
		   !alias_address_ok(SV("a\x01")) && !alias_address_ok(SV("@x.test")) &&
		   !alias_address_ok(SV("a@")) && !alias_address_ok(SV("a@b c")) &&
		   !alias_address_ok(SV("a\xff@x.test")) &&
		   !alias_address_ok((struct sv){ large, sizeof(large) }),
	   "and what is none");
}

static char top[] = "/tmp/ph_alias_XXXXXX";

static struct maildir_result copy(const char *name, bool own, struct buf *text)
{
	int fd = memfd_create("list", MFD_CLOEXEC);
	struct maildir_result r;

	readfile_copy(top, name, own, fd, &r);
	buf_reset(text);
	lseek(fd, 0, SEEK_SET);
	io_read_to_buf(fd, READFILE_MAX, text);
	close(fd);
	return r;
}

static void put(const char *name, mode_t mode, size_t size)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", top, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	io_write_all(fd, "joe\n", 4);
	(void)!ftruncate(fd, (off_t)size);
	fchmod(fd, mode);
	close(fd);
}

static void test_read(void)
{
	struct buf text = BUF_INIT;
	char command[100], path[300], victim[300];

	ok(mkdtemp(top) != NULL, "directory");
	put("good", 0644, 4);
	is_int(copy("good", true, &text).err, 0, "a good one");
	is_str(buf_cstr(&text), "joe\n", "its text");
	is_int(copy("none", true, &text).err, E_NOENT, "none");
	is_int(copy("good/none", true, &text).err, E_NOENT, "a file in the way");
	put("loose", 0646, 4);
	struct maildir_result r = copy("loose", true, &text);

	ok(r.err == E_INVAL && strstr(r.text, "is world writable") != NULL && text.len == 0,
	   "world writable: %s", r.text);
	put("large", 0600, READFILE_MAX + 1);
	is_int(copy("large", false, &text).err, E_INVAL, "too large");
	snprintf(path, sizeof(path), "%s/fifo", top);
	mkfifo(path, 0600);
	is_int(copy("fifo", false, &text).err, E_INVAL, "a FIFO is not waited for");
	snprintf(path, sizeof(path), "%s/link", top);
	snprintf(victim, sizeof(victim), "%s/good", top);
	(void)!symlink(victim, path);
	is_int(copy("link", true, &text).err, E_INVAL, "a link is no user's list");
	is_int(copy("link", false, &text).err, 0, "but an administrator's");
	if (geteuid() == 0) {
		snprintf(path, sizeof(path), "%s/good", top);
		ok(chown(path, 7, 7) == 0, "another's");
		is_int(copy("good", true, &text).err, E_INVAL, "is not taken");
	}
	snprintf(command, sizeof(command), "rm -rf %s", top);
	ok(system(command) == 0, "clean");
	buf_fini(&text);
}

int main(void)
{
	test_lists();
	test_addresses();
	test_read();
	return tap_done();
}
