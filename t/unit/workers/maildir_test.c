/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mailbox content, Maildir delivery, and the delivery children (real ones). */
#include "workers/local/maildir.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "t/unit/tap.h"
#include "workers/local/content.h"
#include "workers/local/pool.h"

static char top[] = "/tmp/ph_maildir_XXXXXX";

/* ---- content ---- */

static void test_convert(void)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "", "" },
		{ "a\r\nb\r\n", "a\nb\n" },
		{ "..\r\n..a\r\n", ".\n.a\n" },
		{ "a\r\n\r\n...\r\n", "a\n\n..\n" },
		{ "a..\r\n.b\r\n", "a..\nb\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		size_t len = strlen(cases[i].in);

		for (size_t step = 1; step <= len + 1; step++) {
			struct content_conv c = { 0 };
			struct buf out = BUF_INIT;

			for (size_t at = 0; at < len; at += step) {
				char piece[64] = { 0 };
				size_t n = size_min(step, len - at);
				struct sv text;

				memcpy(piece + 1, cases[i].in + at, n);
				text = content_convert(&c, piece + 1, n);
				buf_add_sv(&out, text);
			}
			is_str(buf_cstr(&out), cases[i].out, "case %zu in steps of %zu", i, step);
			buf_fini(&out);
		}
	}
	ok(content_has_delivered_to(SV("A: b\nDelivered-To: X@y\n\nz"), SV("x@Y")), "loop seen");
	ok(!content_has_delivered_to(SV("A: b\n\nDelivered-To: x@y\n"), SV("x@y")),
	   "not in the body");
}

/* ---- maildir ---- */

static int content(const char *text)
{
	int fd = memfd_create("t", MFD_CLOEXEC);

	io_write_all(fd, text, strlen(text));
	return fd;
}

/* The number of files in a directory; the last one's text in out. */
static int files_in(const char *path, struct buf *out)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	if (d == NULL)
		return -1;
	while ((e = readdir(d)) != NULL) {
		char name[1200];

		if (e->d_name[0] == '.')
			continue;
		n++;
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		buf_reset(out);
		io_read_file(name, 100000, out);
	}
	closedir(d);
	return n;
}

static const char *below(const char *path)
{
	static char out[300];

	snprintf(out, sizeof(out), "%s/%s", top, path);
	return out;
}

static struct maildir_result deliver(const char *base, const char *path)
{
	struct maildir_job job = { .base = base,
				   .path = path,
				   .header = SV("Delivered-To: a@b\n"),
				   .content_fd = content("A: b\n\nx\n"),
				   .content_len = 8,
				   .hostname = "h/o:st" };
	struct maildir_result r;

	maildir_deliver(&job, &r);
	close(job.content_fd);
	return r;
}

static void test_maildir(void)
{
	struct buf text = BUF_INIT;
	struct maildir_result r = deliver(top, "dom/user/");
	struct stat st;

	is_int(r.err, 0, "delivered");
	is_str(r.text, "delivered to maildir", "text");
	is_int(files_in(below("dom/user/new"), &text), 1, "one file in new/");
	is_str(buf_cstr(&text), "Delivered-To: a@b\nA: b\n\nx\n", "whole message");
	is_int(files_in(below("dom/user/tmp"), &text), 0, "none in tmp/");
	is_int(files_in(below("dom/user/cur"), &text), 0, "cur/ is there");
	ok(stat(below("dom/user"), &st) == 0 && (st.st_mode & 0777) == 0700, "mode 0700");
	deliver(top, "dom/user/");
	is_int(files_in(below("dom/user/new"), &text), 2, "second message, other name");

	r = deliver(top, "dom/../../x/");
	ok(r.err != 0 && r.dsn[0] == 4, "no .. in paths");
	ok(symlink("/tmp", below("evil")) == 0, "a symbolic link");
	r = deliver(top, "evil/box/");
	ok(r.err != 0, "links are not followed below the base: %s", r.text);
	ok(mkdir(below("u2"), 0700) == 0 && symlink("/tmp", below("u2/new")) == 0, "link as new/");
	r = deliver(top, "u2/");
	ok(r.err != 0, "nor as new/");
	r = deliver("/nonexistent", "a/");
	ok(r.err != 0 && r.dsn[0] == 4, "no base: deferred");
	buf_fini(&text);
}

/* ---- children ---- */

static unsigned done_count, done_ok;
static struct maildir_result last;

static void done(void *ctx, struct delivery *d, const struct maildir_result *r)
{
	(void)ctx;
	(void)d;
	done_count++;
	done_ok += r->err == 0;
	last = *r;
}

static void wait_for(struct loop *loop, unsigned count)
{
	for (int i = 0; i < 500 && done_count < count; i++)
		loop_turn(loop, 20);
}

/* A shell script in `top`. */
static const char *make_program(const char *text)
{
	static char path[300];
	FILE *f;

	snprintf(path, sizeof(path), "%s", below("program"));
	f = fopen(path, "w");
	if (f == NULL || fprintf(f, "#!/bin/sh\n%s\n", text) < 0 || fclose(f) != 0 ||
	    chmod(path, 0755) != 0)
		die("%s: %s", path, err_str(err_errno()));
	return path;
}

static void test_pool(const char *program)
{
	struct loop *loop = loop_new();
	struct pool_conf conf = { .program = program,
				  .hostname = "host",
				  .max_children = 3,
				  .time_limit_ms = 1000,
				  .idle_ms = 1000 };
	struct pool *p = pool_new(&conf, loop);
	static struct delivery d[20];
	struct buf text = BUF_INIT;
	int fd = content("A: b\n\nx\n");

	for (size_t i = 0; i < ARRAY_LEN(d); i++) {
		d[i] = (struct delivery){ .uid = getuid(),
					  .gid = getgid(),
					  .base = top,
					  .path = "pool/",
					  .content_fd = fd,
					  .content_len = 8,
					  .done = done };
		pool_submit(p, &d[i]);
	}
	wait_for(loop, ARRAY_LEN(d));
	is_int(done_ok, ARRAY_LEN(d), "all delivered by children");
	is_int(files_in(below("pool/new"), &text), ARRAY_LEN(d), "all there");
	d[0].path = "../x/";
	done_count = 0;
	pool_submit(p, &d[0]);
	wait_for(loop, 1);
	ok(last.err != 0 && last.dsn[0] == 4, "failure is reported: %s", last.text);
	ok(!last.unsure, "of which it is known that nothing was delivered");
	pool_free(&p);

	/* a program that ends without an answer, once it has been asked */
	conf.program = make_program("sleep 0.3");
	p = pool_new(&conf, loop);
	done_count = 0;
	d[0].path = "pool/";
	pool_submit(p, &d[0]);
	wait_for(loop, 1);
	ok(last.dsn[0] == 4 && strstr(last.text, "unexpectedly") != NULL,
	   "a child that dies defers: %s", last.text);
	ok(last.unsure, "and may have delivered before");
	pool_free(&p);
	conf.program = "/nonexistent";
	p = pool_new(&conf, loop);
	done_count = 0;
	pool_submit(p, &d[0]);
	loop_turn(loop, 10);
	is_int(done_count, 0, "no child can be started: the delivery waits");
	pool_free(&p);
	close(fd);
	loop_free(&loop);
	buf_fini(&text);
}

static void quiet(void *ctx, enum log_level level, const char *program, const char *text,
		  size_t len)
{
	(void)ctx;
	(void)level;
	(void)program;
	printf("# %.*s\n", (int)len, text);
}

int main(int argc, char **argv)
{
	char program[600], command[700];
	ssize_t n = readlink("/proc/self/exe", program, 500);

	(void)argc;
	(void)argv;
	clock_init();
	log_set_sink(quiet, NULL);
	signal(SIGPIPE, SIG_IGN);
	ok(mkdtemp(top) != NULL && n > 0, "directory");
	program[n] = '\0';
	snprintf(strrchr(program, '/'), 60, "/../../../workers/local/local");
	test_convert();
	test_maildir();
	test_pool(program);
	snprintf(command, sizeof(command), "rm -rf %s", top);
	ok(system(command) == 0, "clean");
	return tap_done();
}
