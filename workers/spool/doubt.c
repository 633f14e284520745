/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The list of deliveries in doubt; see doubt.h. */
#include "workers/spool/doubt.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"

#define FILE_NOW "in_doubt"
#define FILE_OLD "in_doubt.old"
#define TEXT_MAX 1000u /* of one name or address */

static const char *const causes[DOUBT_CAUSE_COUNT] = {
	[DOUBT_WORKER] = "worker",
	[DOUBT_SYSTEM] = "system",
	[DOUBT_CHILD] = "child",
};

const char *doubt_cause_name(enum doubt_cause cause)
{
	return causes[cause];
}

/* ---- one line ---- */

/* Fields are separated by spaces, recipients by commas: those, and what is not printable ASCII,
 * become %XX. An empty text is "-". */
static void add_text(struct buf *out, struct sv s)
{
	s.len = size_min(s.len, TEXT_MAX);
	if (s.len == 0)
		buf_add_c(out, '-');
	if (s.len == 1 && s.p[0] == '-') {
		buf_add_str(out, "%2D");
		return;
	}
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c > ' ' && c < 0x7f && c != '%' && c != ',')
			buf_add_c(out, (char)c);
		else
			buf_printf(out, "%%%02X", c);
	}
}

void doubt_format(const struct doubt *d, struct buf *lines)
{
	const struct sv names[] = { d->transport, d->nexthop, d->sender };
	size_t start = lines->len;
	char id[QID_TEXT_SIZE];

	buf_printf(lines, "%s %u %016llx %lld %lld %s %s", qid_format(d->qid, id), d->rcpt_first,
		   (unsigned long long)d->mask, (long long)d->began_us, (long long)d->found_us,
		   d->held ? "hold" : "retry", causes[d->cause]);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		buf_add_c(lines, ' ');
		add_text(lines, names[i]);
	}
	buf_add_c(lines, ' ');
	if (d->rcpt_count == 0)
		buf_add_c(lines, '-');
	for (size_t i = 0; i < d->rcpt_count && i < DOUBT_RCPT_MAX; i++) {
		if (i > 0)
			buf_add_c(lines, ',');
		add_text(lines, d->rcpts[i]);
	}
	buf_printf(lines, " %08x\n", crc32c(0, lines->p + start, lines->len - start));
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place: decoded text is never longer. False on bad syntax. */
static bool take_text(struct sv in, struct sv *out)
{
	char *at = (char *)(uintptr_t)in.p;

	*out = (struct sv){ in.p, 0 };
	if (in.len == 1 && in.p[0] == '-')
		return true;
	for (size_t i = 0; i < in.len; i++) {
		char c = in.p[i];

		if (c == '%') {
			if (i + 2 >= in.len || hex(in.p[i + 1]) < 0 || hex(in.p[i + 2]) < 0)
				return false;
			c = (char)(hex(in.p[i + 1]) * 16 + hex(in.p[i + 2]));
			i += 2;
		}
		*at++ = c;
		out->len++;
	}
	return in.len > 0;
}

static bool take_rcpts(struct sv list, struct sv rcpts[DOUBT_RCPT_MAX], struct doubt *d)
{
	d->rcpts = rcpts;
	if (sv_eq_str(list, "-"))
		return true;
	while (list.len > 0) {
		if (d->rcpt_count == DOUBT_RCPT_MAX ||
		    !take_text(sv_next_part(&list, ','), &rcpts[d->rcpt_count]))
			return false;
		d->rcpt_count++;
	}
	return d->rcpt_count > 0;
}

static bool take_numbers(struct sv *line, struct doubt *d)
{
	struct sv id = sv_next_part(line, ' ');
	char text[100], action[8], cause[8];
	unsigned long long mask;
	long long began, found;
	int used = 0;
	size_t len = size_min(line->len, sizeof(text) - 1);

	memcpy(text, line->p, len);
	text[len] = '\0';
	if (qid_parse(id, &d->qid) != 0 ||
	    sscanf(text, "%u %llx %lld %lld %7s %7s %n", &d->rcpt_first, &mask, &began, &found,
		   action, cause, &used) != 6 ||
	    used == 0 || (size_t)used > line->len)
		return false;
	line->p += used;
	line->len -= (size_t)used;
	d->mask = mask;
	d->began_us = began;
	d->found_us = found;
	d->held = strcmp(action, "hold") == 0;
	d->cause = DOUBT_SYSTEM;
	for (unsigned i = 0; i < DOUBT_CAUSE_COUNT; i++) {
		if (strcmp(cause, causes[i]) == 0)
			d->cause = (uint8_t)i;
	}
	return true;
}

/* The line without its end, which is changed. */
static bool parse(struct sv line, struct sv rcpts[DOUBT_RCPT_MAX], struct doubt *d)
{
	unsigned crc;
	char text[9];

	if (line.len < 10 || line.p[line.len - 9] != ' ')
		return false;
	memcpy(text, line.p + line.len - 8, 8);
	text[8] = '\0';
	line.len -= 9;
	if (sscanf(text, "%8x", &crc) != 1 || crc32c(0, line.p, line.len) != crc)
		return false;
	*d = (struct doubt){ 0 };
	return take_numbers(&line, d) && take_text(sv_next_part(&line, ' '), &d->transport) &&
	       take_text(sv_next_part(&line, ' '), &d->nexthop) &&
	       take_text(sv_next_part(&line, ' '), &d->sender) &&
	       take_rcpts(sv_next_part(&line, ' '), rcpts, d) && line.len == 0;
}

/* ---- the file ---- */

static int each_of(const struct spool_dirs *dirs, const char *name, doubt_fn fn, void *ctx,
		   uint64_t *damaged_r)
{
	struct sv rcpts[DOUBT_RCPT_MAX], rest, line;
	struct buf text = BUF_INIT;
	struct doubt d;
	int fd = openat(dirs->root, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno();
	int err = io_read_to_buf(fd, 4 * (size_t)DOUBT_FILE_MAX, &text);

	close(fd);
	rest = buf_sv(&text);
	while (err == 0 && rest.len > 0) {
		line = sv_next_part(&rest, '\n');
		if (parse(line, rcpts, &d))
			fn(ctx, &d);
		else if (line.len > 0)
			(*damaged_r)++;
	}
	buf_fini(&text);
	return err;
}

int doubt_each(const struct spool_dirs *dirs, doubt_fn fn, void *ctx, uint64_t *damaged_r)
{
	*damaged_r = 0;
	int err = each_of(dirs, FILE_OLD, fn, ctx, damaged_r);
	int err_now = each_of(dirs, FILE_NOW, fn, ctx, damaged_r);

	return err_now != 0 ? err_now : err;
}

/* What an earlier power cut tore is closed, so that it cannot spoil the next line. */
static int append(int fd, off_t size, struct sv lines)
{
	char last = '\n';
	int err = 0;

	if (size > 0)
		err = io_pread_all(fd, &last, 1, size - 1);
	if (err == 0 && last != '\n')
		err = io_pwrite_all(fd, "\n", 1, size);
	if (err == 0)
		err = io_pwrite_all(fd, lines.p, lines.len, size + (last != '\n'));
	/* twice: commit.c says why */
	for (int i = 0; i < 2 && err == 0; i++) {
		if (fdatasync(fd) < 0)
			err = err_errno();
	}
	return err;
}

static int open_now(const struct spool_dirs *dirs, off_t *size_r)
{
	struct stat st;
	int fd = openat(dirs->root, FILE_NOW, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_errno();
	if (fstat(fd, &st) < 0) {
		int err = err_errno();

		close(fd);
		return err;
	}
	*size_r = st.st_size;
	return fd;
}

int doubt_write(const struct spool_dirs *dirs, struct sv lines, uint64_t max_bytes)
{
	off_t size = 0;
	int fd = open_now(dirs, &size);

	if (fd >= 0 && size > 0 && (uint64_t)size + lines.len > max_bytes) {
		close(fd);
		if (renameat(dirs->root, FILE_NOW, dirs->root, FILE_OLD) < 0)
			return err_errno();
		fd = open_now(dirs, &size);
	}
	if (fd < 0)
		return fd;
	int err = append(fd, size, lines);

	/* a full disk: half a line helps nobody */
	if (err != 0 && ftruncate(fd, size) < 0)
		err = err_errno();
	close(fd);
	if (err == 0 && size == 0 && fsync(dirs->root) < 0)
		err = err_errno();
	return err;
}
