/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The small spool of t/crash/spool_flip.c, and the ways to damage it: single bytes, pages, lengths,
 * exchanged and foreign files, indexes that lie. Files are damaged in place and put right again.
 */
#include "t/crash/spool_flip.h"
#include "workers/spool/outcome.h"

enum { SEG1, SEG2, IDX1, IDX2, JNL };

#define HEAD_BYTES sizeof(struct spool_file_head)

/* ---- making it ---- */

static const struct { /* by message */
	uint32_t rcpts, flags;
	size_t len;
	bool ends_commit, stream, second; /* second segment */
} plan[FLIP_MSGS] = {
	[0] = { 1, 0, 300, false, false, false },
	[1] = { 2, 0, 40, false, false, false },
	[2] = { 1, 0, 700, true, false, false },
	[3] = { 1, MSGF_HOLD, 500, true, false, false },
	[4] = { 3, 0, 6000, true, true, false },
	[5] = { 1, MSGF_INTERNAL | MSGF_NULL_SENDER, 200, true, false, false },
	[6] = { 1, 0, 0, false, false, false },
	[7] = { 1, 0, 90, true, false, false },
	[8] = { 2, 0, 410, false, false, true },
	[9] = { 3, 0, 150, true, false, true },
	[10] = { 1, 0, 100, true, false, true },
	[11] = { 1, 0, 5000, true, false, true },
	[12] = { 1, 0, 60, false, false, true },
	[13] = { 2, 0, 80, true, false, true },
};

static void make_texts(struct flip_msg *m, unsigned k)
{
	struct envelope e = { .sender = SV("sender@home.example"),
			      .arrival_us = (int64_t)flip_id(k).time_us };
	char addr[40], of[60], id[QID_TEXT_SIZE];
	struct arena arena;

	arena_init(&arena, 4096, 0);
	for (unsigned i = 0; i < plan[k].rcpts; i++) {
		snprintf(addr, sizeof(addr), "r%u.m%u@far.example", i, k);
		env_add_rcpt(&e, &arena,
			     &(struct env_rcpt){ .addr = sv_from(arena_strdup(&arena, addr)) });
	}
	if (k == FLIP_REPORT) {
		snprintf(of, sizeof(of), "%s 0 1 %u", qid_format(flip_id(FLIP_REPORTED), id),
			 (unsigned)BOUNCE_FAILURE);
		e.sender = SV("");
		e.bounce_of = sv_from(of);
	}
	env_encode(&e, &m->env);
	buf_printf(&m->content, "Subject: message %u\r\n\r\n", k);
	while (m->content.len < plan[k].len)
		buf_printf(&m->content, "line %zu of message %u, which is long enough\r\n",
			   m->content.len, k);
	arena_fini(&arena);
}

static int append(struct flip *t, unsigned k, const struct spool_record *h)
{
	struct flip_msg *m = &t->msg[k];
	struct spool_iov iov = { m->content.p, m->content.len };
	struct spool_stream *s;

	if (!plan[k].stream)
		return spool_writer_append(t->f.w, h, buf_sv(&m->env), &iov, 1,
					   (void *)(uintptr_t)k);
	int err = spool_stream_open(t->f.w, 16384, &s);

	if (err == 0)
		err = spool_stream_add(s, m->content.p, m->content.len);
	if (err == 0)
		err = spool_stream_commit(&s, h, buf_sv(&m->env), (void *)(uintptr_t)k);
	return err;
}

static void write_messages(struct flip *t)
{
	for (unsigned k = 0; k < FLIP_MSGS; k++) {
		struct spool_record h = { .qid_us = flip_id(k).time_us, .qid_life = 7 };

		if (k == 8) { /* the first segment is closed */
			fx_end_writer(&t->f);
			fx_writer(&t->f, 1, 0);
		}
		fx_ready(&t->f);
		make_texts(&t->msg[k], k);
		h.rcpt_count = plan[k].rcpts;
		h.flags = plan[k].flags;
		h.size = (uint32_t)t->msg[k].content.len;
		if (append(t, k, &h) != 0)
			die("append %u", k);
		if (plan[k].ends_commit && !fx_wait(&t->f, k + 1))
			die("commit %u", k);
	}
	for (unsigned i = 0; i < t->f.done_count; i++)
		t->msg[(uintptr_t)t->f.done[i].cookie].place = t->f.done[i].place;
}

static void outcome(struct journal_writer *j, struct flip *t, unsigned k, unsigned kind,
		    uint64_t sent, uint64_t deferred, uint64_t bounced)
{
	struct outcome_reason reason = { .mask = deferred | bounced,
					 .mta = SV("mx.far.example[192.0.2.1]"),
					 .text = SV("host mx.far.example said: 450 not now") };
	struct outcome o = { .kind = (uint8_t)kind,
			     .qid = flip_id(k),
			     .mask = kind == OUTCOME_STARTED ? 1 : sent | deferred | bounced,
			     .sent = sent,
			     .deferred = deferred,
			     .bounced = bounced,
			     .when_us = (int64_t)flip_id(k).time_us + 60000000 + kind,
			     .transport = SV("smtp"),
			     .nexthop = SV("far.example"),
			     .reasons = &reason,
			     .reason_count = (deferred | bounced) != 0 };
	struct proto_jref ref;
	int err;

	while ((err = journal_append(j, &o, &ref)) == E_AGAIN) {
		while (t->f.needs > 0) {
			t->f.needs--;
			journal_writer_grant(j, t->f.next_number++, (struct journal_owner){ 0, 0 });
		}
		loop_turn(t->f.loop, 2);
		journal_writer_poll(j);
	}
	if (err != 0)
		die("journal: %s", err_str(err));
}

static void write_journal(struct flip *t)
{
	struct journal_conf jc = { .sync_window_ms = 1000,
				   .file_bytes = 1 << 18,
				   .counters = counters_of(&t->f.counters),
				   .need_file = fx_need,
				   .closed_file = fx_closed,
				   .ctx = &t->f };
	struct journal_writer *j;

	if (journal_writer_new(&jc, &t->f.dirs, t->f.loop, &j) != 0)
		die("no journal");
	outcome(j, t, 0, OUTCOME_RESULT, 1, 0, 0);
	outcome(j, t, 1, OUTCOME_STARTED, 0, 0, 0);
	outcome(j, t, 1, OUTCOME_RESULT, 1, 2, 0);
	outcome(j, t, 2, OUTCOME_RESULT, 0, 0, 1);
	outcome(j, t, 6, OUTCOME_DELETED, 0, 0, 0);
	outcome(j, t, 7, OUTCOME_HELD, 0, 0, 0);
	outcome(j, t, 8, OUTCOME_RESULT, 0, 3, 0);
	outcome(j, t, 9, OUTCOME_RESULT, 4, 1, 2);
	outcome(j, t, 10, OUTCOME_STARTED, 0, 0, 0);
	outcome(j, t, 11, OUTCOME_RESULT, 0, 0, 1);
	outcome(j, t, 11, OUTCOME_NOTIFIED, 0, 0, 1);
	outcome(j, t, 13, OUTCOME_HELD, 0, 0, 0);
	outcome(j, t, 13, OUTCOME_RELEASED, 0, 0, 0);
	outcome(j, t, 12, OUTCOME_HELD, 0, 0, 0);
	journal_writer_free(&j);
}

/* The used part of a file; the rest of what was reserved is zero. */
static void read_file(struct flip_file *f)
{
	int fd = openat(f->dir, f->name, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || io_read_to_buf(fd, 4u << 20, &f->bytes) != 0)
		die("cannot read %s", f->name);
	close(fd);
	while (f->bytes.len > 0 && f->bytes.p[f->bytes.len - 1] == '\0')
		f->bytes.len--;
}

void flip_make(struct flip *t)
{
	struct spool_row closing;

	fx_init(&t->f, 1, 0);
	flip_make_state(t);
	write_messages(t);
	uint32_t seg1 = t->msg[0].place.seg, seg2 = t->msg[8].place.seg;

	fx_end_writer(&t->f);
	write_journal(t);
	for (unsigned i = 0; i < FLIP_FILES; i++) {
		struct flip_file *f = &t->file[i];

		f->dir = i == JNL ? t->f.dirs.journal : t->f.dirs.seg;
		spool_name(i == JNL     ? t->f.next_number - 1
			   : i % 2 == 0 ? seg1
					: seg2,
			   i == JNL   ? "jnl"
			   : i < IDX1 ? "seg"
				      : "idx",
			   f->name);
		read_file(f);
	}
	/* the second segment's writer died before it could close it */
	t->file[IDX2].bytes.len =
		align_up(t->file[IDX2].bytes.len, sizeof(closing)) - sizeof(closing);
	int fd = openat(t->f.dirs.seg, t->file[IDX2].name, O_RDWR | O_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)t->file[IDX2].bytes.len) < 0)
		die("cannot cut the second index");
	close(fd);
}

void flip_empty_corrupt(const struct flip *t)
{
	int fd = openat(t->f.dirs.corrupt, ".", O_RDONLY | O_DIRECTORY);
	DIR *d = fdopendir(fd);

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
		if (e->d_name[0] != '.')
			unlinkat(t->f.dirs.corrupt, e->d_name, 0);
	closedir(d);
}

/* ---- what a range of a file belongs to ---- */

static void touch(const struct flip *t, unsigned file, uint64_t from, uint64_t to, struct damage *d)
{
	d->in_journal = file == JNL;
	for (unsigned k = 0; file <= SEG2 && k < FLIP_MSGS; k++) {
		uint64_t off = (uint64_t)t->msg[k].place.off8 * SPOOL_ALIGN;

		if (plan[k].second == (file == SEG2) && from < off + t->msg[k].place.len &&
		    to > off)
			d->touches[k] = true;
	}
	const struct flip_file *j = &t->file[JNL];

	for (uint64_t at = HEAD_BYTES; file == JNL && at + HEAD_BYTES <= j->bytes.len;) {
		struct spool_outcome h;

		memcpy(&h, j->bytes.p + at, sizeof(h));
		if (from < at + h.len && to > at)
			d->touches[h.qid_us - flip_id(0).time_us] = true;
		at += h.len;
	}
}

static int open_file(const struct flip_file *f)
{
	int fd = openat(f->dir, f->name, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("%s: no such file", f->name);
	return fd;
}

static void put(int fd, const void *p, size_t len, uint64_t at)
{
	if (pwrite(fd, p, len, (off_t)at) != (ssize_t)len)
		die("pwrite");
}

/* The file as it should be. */
static void restore(const struct flip_file *f)
{
	int fd = openat(f->dir, f->name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0)
		die("%s: cannot be restored", f->name);
	put(fd, f->bytes.p, f->bytes.len, 0);
	if (strstr(f->name, "idx") == NULL && ftruncate(fd, 1 << 18) < 0)
		die("ftruncate");
	close(fd);
}

static void with_indexes(struct flip *t, bool there)
{
	for (unsigned i = IDX1; i <= IDX2; i++) {
		if (there)
			restore(&t->file[i]);
		else
			unlinkat(t->file[i].dir, t->file[i].name, 0);
	}
}

/* ---- single bytes ---- */

static unsigned random_below(struct flip *t, unsigned n)
{
	t->seed = t->seed * 1103515245u + 12345u;
	return (t->seed >> 8) % n;
}

static void one_byte(struct flip *t, unsigned file, uint64_t at, bool index)
{
	const struct flip_file *f = &t->file[file];
	unsigned char was = (unsigned char)f->bytes.p[at];
	const unsigned char now[] = { (unsigned char)(was ^ 1), (unsigned char)(was ^ 0x80), 0,
				      0xff };
	int fd = open_file(f);

	for (unsigned i = 0; i < ARRAY_LEN(now); i++) {
		struct damage d = { .cuts = false };

		if (now[i] == was || (!t->all && i != random_below(t, 4)))
			continue;
		snprintf(d.what, sizeof(d.what), "%s%s: byte %llu is %02x, not %02x", f->name,
			 index ? "" : " without index", (unsigned long long)at, now[i], was);
		touch(t, file, at, at + 1, &d);
		put(fd, &now[i], 1, at);
		flip_try(t, &d);
	}
	put(fd, &was, 1, at);
	close(fd);
}

static void file_bytes(struct flip *t, unsigned file, bool index)
{
	unsigned step = t->all ? 1 : 50;

	for (uint64_t at = t->all ? 0 : random_below(t, step); at < t->file[file].bytes.len;
	     at += step)
		one_byte(t, file, at, index);
}

/* Headers of records and rows are small and matter most: all of them also in a sample. */
static void headers(struct flip *t, bool index)
{
	for (unsigned k = 0; !t->all && !t->blind && k < FLIP_MSGS; k++)
		for (unsigned i = 0; i < sizeof(struct spool_record); i++)
			one_byte(t, plan[k].second ? SEG2 : SEG1,
				 (uint64_t)t->msg[k].place.off8 * SPOOL_ALIGN + i, index);
}

void flip_bytes(struct flip *t)
{
	for (unsigned i = 0; i < FLIP_FILES; i++)
		restore(&t->file[i]);
	for (unsigned i = 0; i < FLIP_FILES; i++)
		file_bytes(t, i, true);
	headers(t, true);
	with_indexes(t, false);
	file_bytes(t, SEG1, false);
	file_bytes(t, SEG2, false);
	headers(t, false);
	with_indexes(t, true);
}

/* ---- pages, lengths, files ---- */

static void page(struct flip *t, unsigned file, uint64_t from, const void *bytes, bool index,
		 const char *what)
{
	struct flip_file *f = &t->file[file];
	int fd = open_file(f);
	struct damage d = { .destroys = true, .whole = true };

	snprintf(d.what, sizeof(d.what), "%s%s: page %llu is %s", f->name,
		 index ? "" : " without index", (unsigned long long)(from / SPOOL_PAGE), what);
	touch(t, file, from, from + SPOOL_PAGE, &d);
	put(fd, bytes, SPOOL_PAGE, from);
	flip_try(t, &d);
	close(fd);
	restore(f);
}

static void pages(struct flip *t, unsigned file, bool index)
{
	static char other[SPOOL_PAGE];
	const struct buf *b = &t->file[file].bytes;

	for (uint64_t at = 0; at < b->len; at += SPOOL_PAGE) {
		memset(other, 0, sizeof(other));
		page(t, file, at, other, index, "zero");
		for (size_t i = 0; i < sizeof(other); i++)
			other[i] = (char)random_below(t, 256);
		page(t, file, at, other, index, "noise");
		for (uint64_t from = 0; from + SPOOL_PAGE <= b->len; from += SPOOL_PAGE)
			if (from != at && (t->all || random_below(t, 4) == 0))
				page(t, file, at, b->p + from, index, "another page");
	}
}

static void lengths(struct flip *t, unsigned file, bool index)
{
	struct flip_file *f = &t->file[file];
	size_t step = t->all ? (file <= SEG2 ? 8 : 1) : 512;

	for (size_t len = t->all ? 0 : random_below(t, 64); len < f->bytes.len; len += step) {
		struct damage d = { .cuts = true, .destroys = true, .whole = true };
		int fd = open_file(f);

		snprintf(d.what, sizeof(d.what), "%s%s: cut at %zu", f->name,
			 index ? "" : " without index", len);
		touch(t, file, len, UINT64_MAX, &d);
		if (ftruncate(fd, (off_t)len) < 0)
			die("ftruncate");
		close(fd);
		flip_try(t, &d);
		restore(f);
	}
}

/* Two files of one kind under each other's name. */
static void exchange(struct flip *t, unsigned a, unsigned b, bool index)
{
	struct flip_file *fa = &t->file[a], *fb = &t->file[b];
	struct damage d = { .whole = true };

	snprintf(d.what, sizeof(d.what), "%s%s: exchanged with %s", fa->name,
		 index ? "" : " without index", fb->name);
	touch(t, a, 0, UINT64_MAX, &d);
	touch(t, b, 0, UINT64_MAX, &d);
	struct buf keep = fa->bytes;

	fa->bytes = fb->bytes;
	fb->bytes = keep;
	restore(fa);
	restore(fb);
	flip_try(t, &d);
	fb->bytes = fa->bytes;
	fa->bytes = keep;
	restore(fa);
	restore(fb);
}

/* A file of another spool, whose number and whose messages' ids are the same or not. */
static void foreign(struct flip *t, unsigned file, const struct flip *other, const char *what)
{
	struct flip_file *f = &t->file[file];
	struct damage d = { .whole = true, .destroys = true, .foreign = true, .cuts = true };
	struct buf keep = f->bytes;

	snprintf(d.what, sizeof(d.what), "%s: %s", f->name, what);
	touch(t, file, 0, UINT64_MAX, &d);
	f->bytes = other->file[file].bytes;
	restore(f);
	flip_try(t, &d);
	f->bytes = keep;
	restore(f);
}

/* Rows with right checksums that do not say what is there. */
static void lie(struct flip *t, unsigned k, uint32_t len, bool close_row, const char *what)
{
	struct flip_file *f = &t->file[IDX1];
	struct damage d = { .whole = true };
	struct spool_row row;
	size_t at = HEAD_BYTES + k * sizeof(row);
	int fd = open_file(f);

	snprintf(d.what, sizeof(d.what), "%s: row %u %s", f->name, k, what);
	memcpy(&row, f->bytes.p + at, sizeof(row));
	d.touches[k] = !close_row; /* what the row is about suffers, and nothing else */
	if (close_row)
		row.magic = SPOOL_CLOSE_MAGIC;
	else
		row.len = len;
	spool_row_seal(&row);
	put(fd, &row, sizeof(row), at);
	if (close_row && ftruncate(fd, (off_t)(at + sizeof(row))) < 0)
		die("ftruncate");
	close(fd);
	flip_try(t, &d);
	restore(f);
}

void flip_files(struct flip *t)
{
	static struct flip other;

	for (unsigned i = 0; i < FLIP_FILES; i++) {
		pages(t, i, true);
		lengths(t, i, true);
	}
	exchange(t, SEG1, SEG2, true);
	exchange(t, IDX1, IDX2, true);
	with_indexes(t, false);
	for (unsigned i = 0; i <= SEG2; i++) {
		pages(t, i, false);
		lengths(t, i, false);
	}
	exchange(t, SEG1, SEG2, false);
	with_indexes(t, true);
	flip_make(&other);
	foreign(t, SEG1, &other, "of another spool");
	foreign(t, SEG2, &other, "of another spool");
	foreign(t, IDX1, &other, "of another spool");
	foreign(t, JNL, &other, "of another spool");
	fx_fini(&other.f);
	for (unsigned k = 0; k < 7; k++) {
		lie(t, k, t->msg[k].place.len + 8, false, "is longer than its record");
		lie(t, k, t->msg[k].place.len + 8192, false, "covers the records behind its own");
		lie(t, k, 64, false, "is shorter than its record");
		lie(t, k, 0, true, "says that there is nothing more");
	}
}
