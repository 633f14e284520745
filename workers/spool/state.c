/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The file `state`: numbers of files and of worker lives, never handed out twice. It holds the
 * first numbers *not* reserved; a batch is reserved before its first number is used, so that a
 * crash wastes numbers and repeats none. Replaced by rename, both file and directory synced. When
 * it is missing or damaged the numbers go on well above all that the spool shows.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "workers/spool/outcome.h"

#define FILE_BATCH  1024u
#define LIFE_BATCH  64u
#define FILE_MARGIN 65536u /* above everything seen, when the state is lost */
#define LIFE_MARGIN 4096u
#define LIFE_MAX    ((1u << 24) - 1)
#define STATE_MAX   512

struct spool_state {
	const struct spool_dirs *dirs;
	uint32_t next_file, file_end; /* reserved: [next, end) */
	uint32_t next_life, life_end;
};

static int state_write(const struct spool_state *s, uint32_t file_end, uint32_t life_end)
{
	char text[STATE_MAX];
	int len = snprintf(text, sizeof(text),
			   "posthaste-spool-state 1\nnext_file %u\nnext_life %u\n", file_end,
			   life_end);
	uint32_t crc = crc32c(0, text, (size_t)len);

	len += snprintf(text + len, sizeof(text) - (size_t)len, "crc32c %08x\n", crc);
	int fd = openat(s->dirs->root, "state.new",
			O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return err_errno();
	int err = io_write_all(fd, text, (size_t)len);

	if (err == 0 && fsync(fd) < 0)
		err = err_errno();
	close(fd);
	if (err == 0 && renameat(s->dirs->root, "state.new", s->dirs->root, "state") < 0)
		err = err_errno();
	/* Twice: a shutdown of the file system can let the sync under way succeed without the name
	 * on disk (xfs, measured), and the numbers would be given out again. See commit.c. */
	for (int i = 0; i < 2 && err == 0; i++) {
		if (fsync(s->dirs->root) < 0)
			err = err_errno();
	}
	return err;
}

/* Exactly what state_write() makes, or it is damaged. */
static int state_parse(const char *text, uint32_t *file_r, uint32_t *life_r)
{
	unsigned file, life, crc;
	int body = 0, end = 0;

	if (sscanf(text, "posthaste-spool-state 1\nnext_file %u\nnext_life %u\n%ncrc32c %8x%n",
		   &file, &life, &body, &crc, &end) != 3 ||
	    crc32c(0, text, (size_t)body) != crc || file == 0 || life == 0 || life > LIFE_MAX)
		return E_CORRUPT;
	*file_r = file;
	*life_r = life;
	return 0;
}

static int state_read(const struct spool_dirs *d, uint32_t *file_r, uint32_t *life_r)
{
	struct buf text = BUF_INIT;
	int fd = openat(d->root, "state", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return err_errno();
	int err = io_read_to_buf(fd, STATE_MAX, &text);

	if (err == 0)
		err = state_parse(buf_cstr(&text), file_r, life_r);
	else if (err == E_LIMIT)
		err = E_CORRUPT;
	close(fd);
	buf_fini(&text);
	return err;
}

/* ---- rebuilding ---- */

struct seen {
	uint32_t file, life;
	bool anything;
};

static int see_record(void *ctx, const struct spool_found *f)
{
	struct seen *s = ctx;

	if (f->qid.life > s->life)
		s->life = f->qid.life;
	return 0;
}

static int see_outcome(void *ctx, const struct outcome *o, struct proto_jref ref UNUSED)
{
	struct seen *s = ctx;

	if (o->qid.life > s->life)
		s->life = o->qid.life;
	return 0;
}

static int see_dir(const struct spool_dirs *d, int fd, const char *suffix, struct seen *s)
{
	uint32_t *numbers;
	size_t count;
	int err = spool_list_dir(fd, suffix, &numbers, &count);

	if (err != 0)
		return err;
	for (size_t i = 0; i < count; i++) {
		s->anything = true;
		if (numbers[i] > s->file)
			s->file = numbers[i];
		/* what cannot be read has numbers too, but the margin covers them */
		if (fd == d->seg && strcmp(suffix, "seg") == 0)
			spool_scan_segment(d, numbers[i], 0, see_record, s, NULL);
		else if (fd == d->journal)
			spool_scan_journal(d, numbers[i], see_outcome, s, NULL);
	}
	free(numbers);
	return 0;
}

static int rebuild(struct spool_state *st, bool damaged)
{
	struct seen s = { 0, 0, damaged };
	int err = see_dir(st->dirs, st->dirs->seg, "seg", &s);

	if (err == 0)
		err = see_dir(st->dirs, st->dirs->seg, "idx", &s);
	if (err == 0)
		err = see_dir(st->dirs, st->dirs->spare, "seg", &s);
	if (err == 0)
		err = see_dir(st->dirs, st->dirs->journal, "jnl", &s);
	if (err != 0)
		return err;
	st->next_file = s.file + 1 + (s.anything ? FILE_MARGIN : 0);
	st->next_life = s.life + 1 + (s.anything ? LIFE_MARGIN : 0);
	if (st->next_file < s.file || st->next_life > LIFE_MAX)
		return E_LIMIT;
	if (s.anything)
		log_warn("spool state was %s: numbers go on at file %u, life %u",
			 damaged ? "damaged" : "missing", st->next_file, st->next_life);
	return 0;
}

int spool_state_open(const struct spool_dirs *d, struct spool_state **s_r)
{
	struct spool_state *s = xcalloc(1, sizeof(*s));

	s->dirs = d;
	int err = state_read(d, &s->next_file, &s->next_life);

	if (err == E_NOENT || err == E_CORRUPT)
		err = rebuild(s, err == E_CORRUPT);
	s->file_end = s->next_file;
	s->life_end = s->next_life;
	if (err != 0) {
		free(s);
		return err;
	}
	*s_r = s;
	return 0;
}

void spool_state_close(struct spool_state **s)
{
	free(*s);
	*s = NULL;
}

int spool_state_next_file(struct spool_state *s, uint32_t *number_r)
{
	if (s->next_file == s->file_end) {
		if (s->file_end > UINT32_MAX - FILE_BATCH)
			return E_LIMIT;
		int err = state_write(s, s->file_end + FILE_BATCH, s->life_end);

		if (err != 0)
			return err;
		s->file_end += FILE_BATCH;
	}
	*number_r = s->next_file++;
	return 0;
}

uint32_t spool_state_unused_file(const struct spool_state *s)
{
	return s->next_file;
}

int spool_state_next_life(struct spool_state *s, uint32_t *life_r)
{
	if (s->next_life == s->life_end) {
		if (s->life_end > LIFE_MAX - LIFE_BATCH)
			return E_LIMIT;
		int err = state_write(s, s->file_end, s->life_end + LIFE_BATCH);

		if (err != 0)
			return err;
		s->life_end += LIFE_BATCH;
	}
	*life_r = s->next_life++;
	return 0;
}
