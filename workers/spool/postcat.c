/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * postcat: shows a message of the queue (-q) or an exported record. Needs no running system: the
 * message is found by the segments' indexes. See doc/postcat.1.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/spool/postcat.h"

#define ID_CHARS "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

struct options {
	const char *conf_dir;
	unsigned show;
	bool queue;
	unsigned verbose;
};

static void usage(void)
{
	fprintf(stderr, "postcat: fatal: usage: postcat [-b (body text)] [-c config_dir] "
			"[-e (envelope records)] [-h (header text)] [-q (access queue)] [-v] "
			"[file(s)...]\n");
	exit(1);
}

PRINTF_LIKE(1, 2) NORETURN static void fatal(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("postcat: fatal: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static void log_line(void *ctx UNUSED, enum log_level level UNUSED, const char *program UNUSED,
		     const char *text, size_t len)
{
	fprintf(stderr, "postcat: %.*s\n", (int)len, text);
}

/* ---- -q ---- */

struct wanted {
	struct qid qid;
	bool found;
	struct proto_place place;
	int64_t commit_us;
};

/* A message copied forward may stand twice: the later one counts. */
static int see(void *ctx, const struct spool_found *f)
{
	struct wanted *w = ctx;

	if (qid_eq(f->qid, w->qid) && (!w->found || f->commit_us >= w->commit_us)) {
		w->found = true;
		w->place = f->place;
		w->commit_us = f->commit_us;
	}
	return 0;
}

static void search(const struct spool_dirs *d, const struct options *o, struct wanted *w)
{
	struct spool_dirs reading = *d;
	struct spool_scan_stats stats = { 0 };
	uint32_t *numbers;
	size_t count;
	int err = spool_list(d, SPOOL_SEGMENT, &numbers, &count);

	if (err != 0)
		fatal("queue directory: %s", err_str(err));
	reading.corrupt = -1; /* look only: a running system may be writing */
	for (size_t i = count; i > 0 && !w->found; i--)
		spool_scan_segment(&reading, numbers[i - 1], 0, see, w, &stats);
	free(numbers);
	if (o->verbose)
		fprintf(stderr,
			"postcat: looked at %llu records (%llu by index) in %llu of %zu segments\n",
			(unsigned long long)stats.records, (unsigned long long)stats.index_rows,
			(unsigned long long)stats.segments, count);
}

static int open_found(const struct spool_dirs *d, const struct wanted *w, const char *id,
		      struct postcat_source *src)
{
	char name[SPOOL_NAME_SIZE];

	if (!w->found) {
		src->fd = openat(d->corrupt, id, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (src->fd >= 0)
			fprintf(stderr, "postcat: warning: %s: damaged, and out of the queue\n",
				id);
		return src->fd < 0 ? err_errno() : 0;
	}
	src->off = (uint64_t)w->place.off8 * SPOOL_ALIGN;
	src->fd = openat(d->seg, spool_name(w->place.seg, "seg", name),
			 O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return src->fd < 0 ? err_errno() : 0;
}

static void queue_open(const struct options *o, struct spool_dirs *d)
{
	struct conf_diag diag;
	struct conf *conf;
	const char *dir = o->conf_dir;

	if (dir == NULL)
		dir = getenv("MAIL_CONFIG");
	if (dir == NULL)
		dir = PH_CONFIG_DIR;
	conf_diag_init(&diag);
	if (conf_load_dir(dir, &conf, &diag) < 0) {
		struct sv why = sv_trim(buf_sv(&diag.text));

		fatal("%s%.*s", why.len > 0 ? "" : "cannot read the configuration", (int)why.len,
		      why.p);
	}
	int err = spool_dirs_open(conf_params(conf)->queue_directory, false, d);

	if (err != 0)
		fatal("open queue directory %s: %s", conf_params(conf)->queue_directory,
		      err_str(err));
	conf_free(&conf);
	conf_diag_fini(&diag);
}

static void show(const struct options *o, struct postcat_source *src)
{
	int err = postcat_print(src, o->show, stdout);

	if (fflush(stdout) != 0)
		fatal("write error: %s", err_str(err_errno()));
	if (err == E_CORRUPT)
		fatal("%s: damaged or not a message", src->name);
	if (err != 0)
		fatal("%s: %s", src->name, err_str(err));
	io_close(&src->fd);
}

static void show_queued(const struct options *o, const struct spool_dirs *d, const char *id)
{
	struct wanted w = { .found = false };
	struct postcat_source src = { .fd = -1, .name = id };

	if (qid_parse(sv_from(id), &w.qid) != 0) {
		if (*id == '\0' || id[strspn(id, ID_CHARS)] != '\0')
			fatal("bad mail queue ID: %s", id);
		fatal("open queue file %s: No such file or directory", id); /* one of Postfix's */
	}
	/* between finding and opening it, the message may be delivered or copied elsewhere */
	for (int attempt = 0;; attempt++) {
		w.found = false;
		search(d, o, &w);
		int err = open_found(d, &w, id, &src);

		if (err == 0)
			break;
		if (!w.found || attempt == 2)
			fatal("open queue file %s: %s", id, err_str(err));
	}
	show(o, &src);
}

/* ---- files ---- */

static void show_file(const struct options *o, const char *name)
{
	struct postcat_source src = { .name = name };

	src.fd = open(name, O_RDONLY | O_CLOEXEC);
	if (src.fd < 0)
		fatal("open %s: %s", name, err_str(err_errno()));
	show(o, &src);
}

static void show_stdin(const struct options *o)
{
	struct postcat_source src = { .name = "stdin" };
	char chunk[65536];
	ssize_t n;

	src.fd = memfd_create("postcat", MFD_CLOEXEC);
	if (src.fd < 0)
		fatal("memory: %s", err_str(err_errno()));
	while ((n = read(STDIN_FILENO, chunk, sizeof(chunk))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || io_write_all(src.fd, chunk, (size_t)n) != 0)
			fatal("read standard input: %s", err_str(err_errno()));
	}
	show(o, &src);
}

static int parse(int argc, char **argv, struct options *o)
{
	int c;

	opterr = 0;
	while ((c = getopt(argc, argv, "bc:ehqv")) != -1) {
		switch (c) {
		case 'b':
			o->show |= SHOW_BODY;
			break;
		case 'e':
			o->show |= SHOW_ENVELOPE;
			break;
		case 'h':
			o->show |= SHOW_HEADER;
			break;
		case 'c':
			o->conf_dir = optarg;
			break;
		case 'q':
			o->queue = true;
			break;
		case 'v':
			o->verbose++;
			break;
		default:
			usage();
		}
	}
	if (o->show == 0)
		o->show = SHOW_ALL;
	return optind;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	struct spool_dirs dirs;

	io_have_std();
	int first = parse(argc, argv, &o);

	log_set_sink(log_line, NULL);
	if (!o.queue && first == argc) {
		show_stdin(&o);
		return 0;
	}
	if (first == argc)
		usage();
	if (o.queue)
		queue_open(&o, &dirs);
	for (int i = first; i < argc; i++) {
		if (o.queue)
			show_queued(&o, &dirs, argv[i]);
		else
			show_file(&o, argv[i]);
	}
	if (o.queue)
		spool_dirs_close(&dirs);
	return 0;
}
