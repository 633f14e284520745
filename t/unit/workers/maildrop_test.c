/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tests of workers/pickup/maildrop.c and dropenv.c: files that anybody may have made. */
#include "workers/pickup/maildrop.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "t/unit/tap.h"
#include "workers/pickup/dropenv.h"

static char dir[] = "/tmp/maildrop-test-XXXXXX";
static int dir_fd;

static unsigned count_files(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void write_one(struct maildrop_writer *w, const char *env, const char *content, size_t len)
{
	ASSERT(maildrop_create(w, dir_fd, sv_from(env)) == 0);
	ASSERT(maildrop_add(w, content, len) == 0);
}

static void test_round(void)
{
	struct maildrop_writer w;
	struct maildrop_file f;
	struct buf env = BUF_INIT;
	const char *why;
	size_t len = 300000;
	char *content = xmalloc(len), *back = xmalloc(len);
	uint64_t at = 0;
	ssize_t n;
	struct stat st;

	for (size_t i = 0; i < len; i++)
		content[i] = (char)(i * 31);
	write_one(&w, "the envelope", content, len);
	ok(strncmp(w.tmp, MAILDROP_TMP, 4) == 0, "written under a name that is not looked at");
	is_int(maildrop_commit(&w), 0, "committed");
	is_int(count_files(), 1, "one file");
	ok(strncmp(w.name, MAILDROP_TMP, 4) != 0, "under another name");
	is_int(maildrop_open(dir_fd, w.name, 1 << 20, &f, &why), 0, "opened");
	is_int(f.uid, getuid(), "whose it is");
	is_int(f.content_len, len, "content length");
	is_int(maildrop_read_envelope(&f, &env), 0, "envelope");
	is_str(env.p, "the envelope", "envelope's text");
	while ((n = maildrop_read_content(&f, at, back + at, 7777)) > 0)
		at += (uint64_t)n;
	ok(n == 0 && at == len && memcmp(back, content, len) == 0, "content");
	is_int(crc32c(crc32c(0, env.p, env.len), back, len), f.crc, "checksum");
	fstat(f.fd, &st);
	is_int(st.st_mode & 07777, 0444, "mode");
	close(f.fd);
	is_int(maildrop_open(dir_fd, w.name, len - 1, &f, &why), E_CORRUPT, "larger than allowed");
	is_str(why, "message too large", "and said");
	unlinkat(dir_fd, w.name, 0);
	buf_fini(&env);
	free(content);
	free(back);
}

static void test_abort(void)
{
	struct maildrop_writer w;

	write_one(&w, "env", "x", 1);
	is_int(count_files(), 1, "a file while it is written");
	maildrop_abort(&w);
	maildrop_abort(&w);
	is_int(count_files(), 0, "none when it is given up");
	is_int(maildrop_open_dir(dir, "missing"), E_NOENT, "no such directory");
}

/* A message of which one byte is another, or the end is missing, is never taken for a good one. */
static void test_damage(void)
{
	struct maildrop_writer w;
	struct maildrop_file f;
	struct buf text = BUF_INIT;
	const char *why;
	char path[200];
	unsigned undetected = 0, crashed = 0;

	write_one(&w, "envelope", "content\n", 8);
	ASSERT(maildrop_commit(&w) == 0);
	snprintf(path, sizeof(path), "%s/%s", dir, w.name);
	ASSERT(io_read_file(path, 1000, &text) == 0);
	unlink(path);
	for (size_t i = 0; i < 2 * text.len; i++) {
		bool cut = i >= text.len;
		size_t at = cut ? i - text.len : i;
		int fd = openat(dir_fd, "x", O_WRONLY | O_CREAT | O_TRUNC, 0600);
		char kept = text.p[at];

		text.p[at] = cut ? kept : (char)~kept;
		io_write_all(fd, text.p, cut ? at : text.len);
		text.p[at] = kept;
		fchmod(fd, 0444);
		close(fd);
		if (maildrop_open(dir_fd, "x", 1 << 20, &f, &why) == 0) {
			struct buf env = BUF_INIT;
			char content[100];
			uint32_t crc = 0;

			if (maildrop_read_envelope(&f, &env) == 0)
				crc = crc32c(0, env.p, env.len);
			ssize_t n = maildrop_read_content(&f, 0, content, sizeof(content));

			crashed += n < 0;
			undetected += n >= 0 && crc32c(crc, content, (size_t)n) == f.crc;
			close(f.fd);
			buf_fini(&env);
		}
		unlinkat(dir_fd, "x", 0);
	}
	is_int(undetected, 0, "every flipped byte and every cut is found");
	is_int(crashed, 0, "by head and checksum");
	buf_fini(&text);
}

static void test_kinds(void)
{
	struct maildrop_writer w;
	struct maildrop_file f;
	const char *why;
	char path[200], other[200];

	write_one(&w, "e", "c", 1);
	ASSERT(maildrop_commit(&w) == 0);
	snprintf(path, sizeof(path), "%s/%s", dir, w.name);
	snprintf(other, sizeof(other), "%s/other", dir);
	is_int(link(path, other), 0, "a second name");
	is_int(maildrop_open(dir_fd, w.name, 100, &f, &why), E_PEER, "is refused");
	unlink(other);
	chmod(path, 0644);
	is_int(maildrop_open(dir_fd, w.name, 100, &f, &why), E_PEER, "so is a writable file");
	chmod(path, 04444);
	is_int(maildrop_open(dir_fd, w.name, 100, &f, &why), E_PEER, "and a set-uid one");
	ASSERT(symlink(path, other) == 0);
	is_int(maildrop_open(dir_fd, "other", 100, &f, &why), E_INVAL, "a symbolic link");
	unlink(other);
	ASSERT(mkfifo(other, 0444) == 0);
	is_int(maildrop_open(dir_fd, "other", 100, &f, &why), E_INVAL, "a FIFO, without waiting");
	unlink(other);
	ASSERT(mkdir(other, 0755) == 0);
	is_int(maildrop_open(dir_fd, "other", 100, &f, &why), E_INVAL, "a directory");
	rmdir(other);
	is_int(maildrop_open(dir_fd, "none", 100, &f, &why), E_NOENT, "nothing");
	unlink(path);
}

static int decode(const struct envelope *e, struct envelope *out, struct arena *a,
		  const char **why_r)
{
	static struct buf text;

	buf_reset(&text);
	ASSERT(env_encode(e, &text) == 0);
	return dropenv_decode(buf_sv(&text), a, out, why_r);
}

static void test_envelope(void)
{
	struct env_rcpt rcpt = { .addr = SV("a@x"), .orig_addr = SV("other"), .notify = 2 };
	struct sv line = SV("X: y");
	struct envelope e = { .sender = SV("s@x"),
			      .full_name = SV("S"),
			      .envid = SV("id"),
			      .client_name = SV("forged"),
			      .sasl_user = SV("forged"),
			      .filter = SV("smtp:x"),
			      .redirect = SV("r@x"),
			      .bounce_of = SV("b"),
			      .flags = ~0u,
			      .ret = DSN_RET_HDRS,
			      .rcpts = &rcpt,
			      .rcpt_count = 1,
			      .prepend = &line,
			      .prepend_count = 1 };
	struct envelope got;
	struct arena a;
	const char *why;

	arena_init(&a, 4096, 1 << 20);
	is_int(decode(&e, &got, &a, &why), 0, "an envelope");
	ok(sv_eq_str(got.sender, "s@x") && sv_eq_str(got.full_name, "S") &&
		   sv_eq_str(got.envid, "id") && got.ret == DSN_RET_HDRS && got.rcpt_count == 1 &&
		   sv_eq_str(got.rcpts[0].addr, "a@x") && got.rcpts[0].notify == 2,
	   "what a user may say is kept");
	ok(got.client_name.len == 0 && got.sasl_user.len == 0 && got.filter.len == 0 &&
		   got.redirect.len == 0 && got.bounce_of.len == 0 && got.prepend_count == 0 &&
		   got.rcpts[0].orig_addr.len == 0 &&
		   got.flags == (ENVF_SMTPUTF8 | ENVF_PROBE | ENVF_REPORT),
	   "what he may not say is dropped");
	rcpt.addr = SV("a\tb@x");
	is_int(decode(&e, &got, &a, &why), E_SYNTAX, "control characters: %s", why);
	rcpt.addr = SV("a\nb@x");
	is_int(decode(&e, &got, &a, &why), E_SYNTAX, "line ends: %s", why);
	rcpt.addr = SV("a\377@x");
	is_int(decode(&e, &got, &a, &why), E_SYNTAX, "bad UTF-8: %s", why);
	rcpt.addr = SV("");
	is_int(decode(&e, &got, &a, &why), E_SYNTAX, "no address: %s", why);
	rcpt.addr = SV("a@x");
	e.rcpt_count = 0;
	is_int(decode(&e, &got, &a, &why), E_SYNTAX, "no recipients: %s", why);
	e.rcpt_count = 1;
	e.envid = SV("a\001");
	is_int(decode(&e, &got, &a, &why), E_SYNTAX, "envelope id: %s", why);
	is_int(dropenv_decode(SV("\001\377\377\377\377"), &a, &got, &why), E_SYNTAX, "rubbish");
	arena_fini(&a);
}

int main(void)
{
	ASSERT(mkdtemp(dir) != NULL);
	dir_fd = maildrop_open_dir(dir, ".");
	ASSERT(dir_fd >= 0);
	test_round();
	test_abort();
	test_damage();
	test_kinds();
	test_envelope();
	rmdir(dir);
	return tap_done();
}
