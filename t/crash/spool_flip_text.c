/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Damage to the small files of a spool: `state`, `clock` and `in_doubt`. Every byte is changed in
 * four ways, and every length is tried. Called by t/crash/spool_flip.c. What must hold: no number
 * is given out twice; the clock file says what one of its two pages said, or nothing; every line of
 * the list that was not touched is read as it was written, and no other.
 */
#include "daemon/qclock.h"
#include "t/crash/spool_flip.h"
#include "workers/spool/doubt.h"

#define DOUBTS 3u

static struct {
	uint32_t file, life; /* the last that was given out */
	struct qclock_seen page[2];
	struct buf line[DOUBTS];
} said;

/* ---- what they say ---- */

static void count_line(void *ctx, const struct doubt *d)
{
	struct buf again = BUF_INIT;
	unsigned *found = ctx, i = 0;

	doubt_format(d, &again);
	while (i < DOUBTS && !sv_eq(buf_sv(&again), buf_sv(&said.line[i])))
		i++;
	found[i]++;
	buf_fini(&again);
}

/* `from`, `to`: the bytes that were changed. */
static const char *judge_doubts(struct flip *t, uint64_t from, uint64_t to)
{
	unsigned found[DOUBTS + 1] = { 0 };
	uint64_t damaged, at = 0;
	int err = doubt_each(&t->f.dirs, count_line, found, &damaged);

	if (err != 0)
		return err_str(err);
	if (found[DOUBTS] > 0)
		return "a line that was never written";
	for (unsigned i = 0; i < DOUBTS; i++) {
		uint64_t end = at + said.line[i].len;

		/* its own end, and that of the line before it, are of the line */
		if (found[i] != 1 && (to <= (at > 0 ? at - 1 : 0) || from >= end))
			return "an untouched line is gone";
		at = end;
	}
	return NULL;
}

static const char *judge_state(struct flip *t)
{
	struct spool_state *s;
	uint32_t file = 0, life = 0;
	int err = spool_state_open(&t->f.dirs, &s);

	if (err != 0)
		return err_str(err);
	err = spool_state_next_file(s, &file);
	if (err == 0)
		err = spool_state_next_life(s, &life);
	spool_state_close(&s);
	if (err != 0)
		return err_str(err);
	return file <= said.file || life <= said.life ? "a number is given out twice" : NULL;
}

static const char *judge_clock(struct flip *t)
{
	struct qclock_file f;
	struct qclock_seen seen;
	bool known = qclock_file_open(&f, t->f.dirs.root, false, &seen);

	qclock_file_close(&f);
	if (known && memcmp(&seen, &said.page[0], sizeof(seen)) != 0 &&
	    memcmp(&seen, &said.page[1], sizeof(seen)) != 0)
		return "the clock says what was never written";
	return NULL;
}

/* ---- making them ---- */

void flip_make_state(struct flip *t)
{
	struct spool_state *s;

	if (spool_state_open(&t->f.dirs, &s) != 0)
		die("no state");
	do {
		if (spool_state_next_file(s, &said.file) != 0 ||
		    spool_state_next_life(s, &said.life) != 0)
			die("no numbers");
	} while (said.file < 20 || said.life < 9);
	spool_state_close(&s);
}

static void make_clock(struct flip *t)
{
	struct qclock_file f;
	struct qclock_seen seen;
	struct qclock clock;

	qclock_file_open(&f, t->f.dirs.root, true, &seen);
	qclock_init(&clock, NULL, f.boot_id);
	for (unsigned i = 0; i < 2; i++) {
		clock.span[0].to_s += 60; /* as if a minute had passed */
		if (qclock_file_write(&f, &clock, true) != 0)
			die("no clock");
		struct qclock_file again;

		if (!qclock_file_open(&again, t->f.dirs.root, false, &said.page[i]))
			die("no clock again");
		qclock_file_close(&again);
	}
	qclock_file_close(&f);
}

static void make_doubts(struct flip *t)
{
	struct sv rcpts[] = { SV("r0.m1@far.example"), SV("\"a b\"@far.example") };
	struct buf all = BUF_INIT;

	for (unsigned i = 0; i < DOUBTS; i++) {
		struct doubt d = { .qid = flip_id(i),
				   .mask = i + 1,
				   .began_us = (int64_t)flip_id(i).time_us,
				   .found_us = (int64_t)flip_id(i).time_us + 5,
				   .held = i == 1,
				   .cause = DOUBT_SYSTEM,
				   .transport = SV("smtp"),
				   .nexthop = SV("far.example"),
				   .sender = SV("<>"),
				   .rcpts = rcpts,
				   .rcpt_count = i };

		doubt_format(&d, &said.line[i]);
		buf_add_sv(&all, buf_sv(&said.line[i]));
	}
	if (doubt_write(&t->f.dirs, buf_sv(&all), DOUBT_FILE_MAX) != 0)
		die("no list");
	buf_fini(&all);
}

/* ---- damage ---- */

static const char *judge(struct flip *t, const char *name, uint64_t from, uint64_t to)
{
	if (name[0] == 's')
		return judge_state(t);
	return name[0] == 'c' ? judge_clock(t) : judge_doubts(t, from, to);
}

static void write_bytes(struct flip *t, const char *name, const char *p, size_t len)
{
	int fd = openat(t->f.dirs.root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, p, len) != (ssize_t)len)
		die("%s: cannot be written", name);
	close(fd);
}

static void try_one(struct flip *t, const char *name, const struct buf *b, uint64_t from,
		    uint64_t to, const char *what)
{
	write_bytes(t, name, b->p, b->len);
	const char *why = judge(t, name, from, to);

	t->text_damages++;
	if (why != NULL && t->text_failures++ < 20)
		printf("not ok - %s, byte %llu, %s: %s\n", name, (unsigned long long)from, what,
		       why);
}

static void damage_file(struct flip *t, const char *name)
{
	struct buf b = BUF_INIT;
	int fd = openat(t->f.dirs.root, name, O_RDONLY | O_CLOEXEC);
	size_t step = t->all ? 1 : 13;

	if (fd < 0 || io_read_to_buf(fd, 1 << 20, &b) != 0)
		die("cannot read %s", name);
	close(fd);
	for (size_t at = t->all ? 0 : t->seed % step; at < b.len; at += step) {
		char was = b.p[at];
		const char now[] = { (char)(was ^ 1), (char)(was ^ 0x80), 0, (char)0xff };

		for (unsigned i = 0; i < ARRAY_LEN(now); i++) {
			b.p[at] = now[i];
			try_one(t, name, &b, at, at + 1, "changed");
		}
		b.p[at] = was;
	}
	size_t whole = b.len;

	for (b.len = 0; b.len < whole; b.len += step)
		try_one(t, name, &b, b.len, UINT64_MAX, "cut");
	b.len = whole;
	write_bytes(t, name, b.p, b.len);
	buf_fini(&b);
}

void flip_texts(struct flip *t)
{
	make_clock(t);
	make_doubts(t);
	if (judge_state(t) != NULL || judge_clock(t) != NULL)
		die("state and clock cannot be read");
	damage_file(t, "state");
	damage_file(t, "clock");
	damage_file(t, "in_doubt");
	for (unsigned i = 0; i < DOUBTS; i++)
		buf_fini(&said.line[i]);
}
