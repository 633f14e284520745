/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recovery of segments: every state a crash can leave, made by hand. */
#include "t/unit/workers/spool/support.h"

struct found {
	unsigned count;
	bool has[256];
	unsigned twice;
	struct proto_place place[256];
	char bounce_of[64];
	struct spool_scan_stats stats;
	int err;
};

static int see(void *ctx, const struct spool_found *f)
{
	struct found *s = ctx;
	unsigned k = (unsigned)(f->qid.time_us - fx_qid(0).time_us);

	s->count++;
	if (f->qid.life != 7 || k >= ARRAY_LEN(s->has))
		return 0;
	s->twice += s->has[k];
	s->has[k] = true;
	s->place[k] = f->place;
	if (f->bounce_of.len > 0)
		str_copy(s->bounce_of, sizeof(s->bounce_of), f->bounce_of);
	return 0;
}

static struct found scan_from(struct fixture *f, uint32_t seg, uint64_t from)
{
	struct found s = { 0 };

	logged[0] = '\0';
	s.err = spool_scan_segment(&f->dirs, seg, from, see, &s, &s.stats);
	return s;
}

static struct found scan(struct fixture *f, uint32_t seg)
{
	return scan_from(f, seg, 0);
}

static bool has_all_but(const struct found *s, unsigned count, int missing)
{
	for (unsigned k = 0; k < count; k++) {
		if (s->has[k] != ((int)k != missing))
			return false;
	}
	return s->twice == 0 && s->count == count - (missing >= 0);
}

static int open_seg(struct fixture *f, uint32_t number, const char *suffix)
{
	char name[SPOOL_NAME_SIZE];
	int fd = openat(f->dirs.seg, spool_name(number, suffix, name), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("no %s", name);
	return fd;
}

static void no_index(struct fixture *f, uint32_t number)
{
	char name[SPOOL_NAME_SIZE];

	unlinkat(f->dirs.seg, spool_name(number, "idx", name), 0);
}

static void flip(struct fixture *f, uint32_t number, const char *suffix, off_t at)
{
	int fd = open_seg(f, number, suffix);
	char c;

	if (pread(fd, &c, 1, at) != 1)
		die("flip");
	c ^= 0x10;
	if (pwrite(fd, &c, 1, at) != 1)
		die("flip");
	close(fd);
}

static off_t at_byte(struct proto_place p)
{
	return (off_t)p.off8 * 8;
}

/* n records of assorted sizes, several to a commit. */
static void fill(struct fixture *f, unsigned n)
{
	fx_ready(f);
	for (unsigned k = 0; k < n; k++) {
		if (fx_append(f, k, 100 + k * 531 % 5000) != 0)
			die("append");
		if (k % 5 == 4 && !fx_wait(f, k + 1))
			die("commit");
	}
	if (!fx_wait(f, n))
		die("commit");
}

static void begin(struct fixture *f, unsigned n)
{
	fx_init(f, 1, 0);
	fill(f, n);
}

static void test_whole(void)
{
	struct fixture f;

	begin(&f, 50);
	struct found s = scan(&f, 1);

	ok(s.err == 0 && has_all_but(&s, 50, -1), "a live segment, by its index");
	is_int(s.stats.index_rows, 50, "all by rows");
	no_index(&f, 1);
	s = scan(&f, 1);
	ok(s.err == 0 && has_all_but(&s, 50, -1), "and without index");
	is_int(s.stats.index_rows, 0, "none by rows");
	is_int(s.stats.damaged, 0, "no damage");
	is_int(s.stats.torn_bytes, 0, "nothing torn");
	ok(memcmp(&s.place[17], &f.done[17].place, sizeof(s.place[17])) == 0, "same places");
	s = scan_from(&f, 1, (uint64_t)at_byte(f.done[20].place));
	ok(s.count == 30 && s.has[20] && !s.has[19], "from the middle on");
	is_int(spool_scan_segment(&f.dirs, 99, 0, see, &s, NULL), E_NOENT, "no such segment");
	fx_fini(&f);
}

static void test_closed(void)
{
	struct fixture f;

	begin(&f, 20);
	fx_end_writer(&f);
	/* a forged tail would be found if the close row were not believed */
	struct found s = scan(&f, 1);

	ok(has_all_but(&s, 20, -1), "a closed segment, by its index");
	int fd = open_seg(&f, 1, "idx");
	struct stat st;

	ok(fstat(fd, &st) == 0 && st.st_size == 64 * 22, "head, rows, close row");
	/* index behind the segment: rows cut off anywhere */
	unsigned good = 0;

	for (off_t len = 64 * 22 - 1; len >= 0; len -= 61) {
		if (ftruncate(fd, len) < 0)
			die("ftruncate");
		s = scan(&f, 1);
		good += has_all_but(&s, 20, -1) && s.stats.damaged == 0;
	}
	is_int(good, (64 * 22 - 1) / 61 + 1, "cut at any byte, the segment tells the rest");
	close(fd);
	fx_fini(&f);
}

static void test_bad_rows(void)
{
	struct fixture f;
	unsigned good = 0, n = 0;

	begin(&f, 20);
	fx_end_writer(&f);
	for (off_t at = 3; at < 64 * 22; at += 97, n++) {
		flip(&f, 1, "idx", at);
		struct found s = scan(&f, 1);

		good += has_all_but(&s, 20, -1);
		flip(&f, 1, "idx", at);
	}
	is_int(good, n, "a flipped bit anywhere in the index loses nothing");
	/* an index of another file of the same number (its nonce differs) */
	struct spool_file_head head;
	int fd = open_seg(&f, 1, "idx");

	spool_head_fill(&head, SPOOL_INDEX_MAGIC, 1, 12345, 0);
	if (pwrite(fd, &head, sizeof(head), 0) != 64)
		die("pwrite");
	close(fd);
	struct found s = scan(&f, 1);

	ok(has_all_but(&s, 20, -1) && s.stats.index_rows == 0, "a foreign index is not believed");
	fx_fini(&f);
}

/* The index promises a record that is not in the segment: the file became shorter. */
static void test_index_ahead(void)
{
	struct fixture f;

	begin(&f, 20);
	int fd = open_seg(&f, 1, "seg");

	if (ftruncate(fd, at_byte(f.done[19].place) + 8) < 0)
		die("ftruncate");
	close(fd);
	struct found s = scan(&f, 1);

	ok(has_all_but(&s, 20, 19), "rows beyond the end of the file are not believed");
	fx_fini(&f);
}

static void test_damage(void)
{
	struct fixture f;
	struct spool_record h;

	begin(&f, 30);
	no_index(&f, 1);
	off_t at = at_byte(f.done[12].place);

	for (off_t k = 0; k < 64; k += 1) {
		flip(&f, 1, "seg", at + k);
		struct found s = scan(&f, 1);

		if (!has_all_but(&s, 30, 12) || s.stats.damaged < 1)
			ok(false, "header byte %d", (int)k);
		flip(&f, 1, "seg", at + k);
	}
	ok(true, "a flipped bit in any byte of a header costs that record only, and is counted");
	flip(&f, 1, "seg", at + 64 + 15 + 50);
	struct found s = scan(&f, 1);

	ok(has_all_but(&s, 30, 12), "damaged content: the others are found");
	is_int(s.stats.damaged, 1, "counted");
	char text[QID_TEXT_SIZE], name[128];
	struct stat st;

	ok(strstr(logged, qid_format(fx_qid(12), text)) != NULL, "its id is logged");
	snprintf(name, sizeof(name), "%s/corrupt/%s", f.path, text);
	ok(stat(name, &st) == 0 && st.st_size == f.done[12].place.len, "its bytes are kept");
	struct spool_reader *r = spool_reader_new(&f.dirs, 1);

	is_int(spool_read_head(r, fx_qid(12), f.done[12].place, true, &h, NULL), E_CORRUPT,
	       "a verifying read notices");
	is_int(spool_read_head(r, fx_qid(12), f.done[12].place, false, &h, NULL), 0,
	       "a plain one does not look");
	spool_reader_free(&r);
	/* and the head of the file */
	flip(&f, 1, "seg", at + 64 + 15 + 50);
	flip(&f, 1, "seg", 17);
	s = scan(&f, 1);
	ok(has_all_but(&s, 30, -1) && s.stats.damaged == 1, "a damaged file head costs nothing");
	fx_fini(&f);
}

/* Records that were read ahead come from memory, others and unsound ones from the disk. */
static void test_ahead(void)
{
	struct fixture f;
	struct spool_record h;

	begin(&f, 30);
	struct spool_reader *r = spool_reader_new(&f.dirs, 1);
	struct proto_place first = f.done[3].place, last = f.done[6].place;
	size_t len = (size_t)(at_byte(last) - at_byte(first)) + last.len;
	struct sv content;
	int err = 0;

	spool_reader_ahead(r, 1, (uint64_t)at_byte(first), len - 8);
	for (unsigned k = 3; k <= 8; k++)
		flip(&f, 1, "seg", at_byte(f.done[k].place) + 64 + 15);
	for (unsigned k = 3; k < 6; k++)
		err = err != 0 ? err
			       : spool_read_head(r, fx_qid(k), f.done[k].place, true, &h, NULL);
	is_int(err, 0, "what was sound when it was read ahead is taken from there");
	ok(spool_reader_has_content(r, &h, f.done[5].place, &content) &&
		   content.len == h.content_len,
	   "with its content");
	is_int(spool_read_head(r, fx_qid(4), f.done[5].place, true, &h, NULL), E_CORRUPT,
	       "but not as another one");
	spool_reader_ahead(r, 1, (uint64_t)at_byte(first), len - 8);
	for (unsigned k = 3; k <= 8; k++)
		flip(&f, 1, "seg", at_byte(f.done[k].place) + 64 + 15);
	is_int(spool_read_head(r, fx_qid(6), f.done[6].place, true, &h, NULL), 0,
	       "what is there in part is read");
	is_int(spool_read_head(r, fx_qid(4), f.done[4].place, true, &h, NULL), 0,
	       "what was unsound when it was read ahead is read again");
	spool_reader_ahead(r, 77, 64, 100);
	spool_reader_ahead(r, 1, 1u << 30, 100);
	spool_reader_ahead(r, 1, 0, SPOOL_AHEAD_MAX + 1);
	is_int(spool_read_head(r, fx_qid(8), f.done[8].place, true, &h, NULL), 0,
	       "what cannot be read ahead changes nothing");
	spool_reader_free(&r);
	fx_fini(&f);
}

/* What the supervisor sees of a record that a worker announces. */
static void test_look(void)
{
	struct fixture f;
	struct spool_look look = SPOOL_LOOK_INIT;
	char name[SPOOL_NAME_SIZE];
	struct proto_place gone = { .seg = 77, .off8 = 8, .len = 128 };

	begin(&f, 30);
	is_int(spool_record_is_there(&f.dirs, &look, fx_qid(3), f.done[3].place), 0, "is there");
	is_int(spool_record_is_there(&f.dirs, &look, fx_qid(9), f.done[9].place), 0,
	       "another one, in the file that is open");
	is_int(look.seg, 1, "it is kept open");
	is_int(spool_record_is_there(&f.dirs, &look, fx_qid(9), f.done[3].place), E_CORRUPT,
	       "not at the place of another one");
	is_int(spool_record_is_there(&f.dirs, &look, fx_qid(9), gone), E_CORRUPT, "nor nowhere");
	is_int(look.fd, -1, "and nothing is open then");
	is_int(spool_record_is_there(&f.dirs, NULL, fx_qid(3), f.done[3].place), 0, "once");
	flip(&f, 1, "seg", at_byte(f.done[3].place));
	is_int(spool_record_is_there(&f.dirs, &look, fx_qid(9), f.done[9].place), 0, "open again");
	is_int(spool_record_is_there(&f.dirs, &look, fx_qid(3), f.done[3].place), E_CORRUPT,
	       "damage is seen in an open file");
	unlinkat(f.dirs.seg, spool_name(1, "seg", name), 0);
	mkfifoat(f.dirs.seg, name, 0600);
	spool_look_end(&look);
	is_int(spool_record_is_there(&f.dirs, &look, fx_qid(9), f.done[9].place), E_CORRUPT,
	       "a pipe is not waited for");
	unlinkat(f.dirs.seg, name, 0);
	spool_look_end(&look);
	fx_fini(&f);
}

static void test_torn(void)
{
	struct fixture f;

	begin(&f, 20);
	no_index(&f, 1);
	int fd = open_seg(&f, 1, "seg");
	off_t at = at_byte(f.done[19].place);
	unsigned good = 0, n = 0;

	/* the last record cut off at assorted places, reserved space behind it */
	for (uint32_t cut = f.done[19].place.len - 9; cut > 16; cut -= cut / 7 + 1, n++) {
		if (ftruncate(fd, at + cut) < 0 || ftruncate(fd, SEG_BYTES) < 0)
			die("ftruncate");
		struct found s = scan(&f, 1);

		good += has_all_but(&s, 20, 19) && s.stats.damaged == 0;
		if (cut > 64)
			good -= s.stats.torn_bytes == 0;
	}
	is_int(good, n, "a torn tail ends the scan, at any cut, and is no damage");
	close(fd);
	fx_fini(&f);
}

static void test_recycled(void)
{
	struct fixture f;
	bool kept = false;

	begin(&f, 40);
	fx_end_writer(&f);
	is_int(spool_segment_retire(&f.dirs, 1, 2, &kept), 0, "retired");
	ok(kept, "kept as a spare");
	/* a new life overwrites it */
	f.done_count = 0;
	f.recycle = 1;
	f.next_number = 2;
	f.needs = 0;
	fx_writer(&f, 1, 0);
	fx_ready(&f);
	for (unsigned k = 0; k < 6; k++)
		fx_append(&f, 100 + k, 3000);
	ok(fx_wait(&f, 6), "a recycled segment takes records");
	is_int(f.done[0].place.seg, 2, "under its new number");
	uint32_t *list = NULL;
	size_t count = 0;

	ok(spool_list_dir(f.dirs.spare, "seg", &list, &count) == 0 && count == 0,
	   "the spare is used up");
	free(list);
	struct stat st;
	int fd = open_seg(&f, 2, "seg");

	ok(fstat(fd, &st) == 0 && st.st_size == SEG_BYTES, "at its full size");
	close(fd);
	no_index(&f, 2);
	struct found s = scan(&f, 2);

	ok(s.count == 6 && s.has[100] && s.has[105] && !s.has[0],
	   "stale records behind the new ones do not pass");
	is_int(s.stats.damaged, 0, "and are no damage");
	fx_fini(&f);
}

/* A message whose content holds a whole record, right in everything but the nonce. */
static void test_forged(void)
{
	struct fixture f;
	char body[4096] = { 0 };

	fx_init(&f, 1, 0);
	fx_ready(&f);
	for (size_t at = 0; at + 200 < sizeof(body); at += 8) {
		struct spool_record h = fx_header(66);

		h.seg = 1;
		h.env_len = 4;
		h.content_len = 4;
		spool_record_seal(&h, crc32c(0, "evilevil", 8));
		if (at % 72 == 0) {
			memcpy(body + at, &h, sizeof(h));
			memcpy(body + at + 64, "evilevil", 8);
		}
	}
	struct spool_record h = fx_header(0);
	struct spool_iov iov = { body, sizeof(body) };

	is_int(spool_writer_append(f.w, &h, SV("env"), &iov, 1, NULL), 0, "appended");
	fx_append(&f, 1, 100);
	ok(fx_wait(&f, 2), "committed");
	no_index(&f, 1);
	flip(&f, 1, "seg", at_byte(f.done[0].place) + 70);
	struct found s = scan(&f, 1);

	ok(s.count == 1 && s.has[1] && !s.has[66], "content cannot pose as records");
	fx_fini(&f);
}

static void test_streams(void)
{
	struct fixture f;
	struct spool_stream *open1, *done1;
	struct spool_record h = fx_header(0);
	char chunk[2000];

	memset(chunk, 'x', sizeof(chunk));
	fx_init(&f, 1, 0);
	fx_ready(&f);
	is_int(spool_stream_open(f.w, 100000, &open1), 0, "a stream");
	is_int(spool_stream_open(f.w, 50000, &done1), 0, "another");
	fx_append(&f, 1, 100);
	fx_append(&f, 2, 3000);
	ok(fx_wait(&f, 2), "records behind both");
	for (int i = 0; i < 20; i++) {
		spool_stream_add(open1, chunk, sizeof(chunk));
		spool_stream_add(done1, chunk, sizeof(chunk));
	}
	struct found s = scan(&f, 1);

	ok(s.count == 2 && s.has[1] && s.has[2], "unfinished streams are not found");
	is_int(s.stats.damaged, 0, "and are no damage");
	spool_stream_commit(&done1, &h, SV("env"), NULL);
	fx_append(&f, 3, 100);
	ok(fx_wait(&f, 4), "one stream and one more record");
	s = scan(&f, 1);
	ok(has_all_but(&s, 4, -1) && s.stats.index_rows == 4, "all four by index");
	/* the crash took the rows of the last commit: the stream lies before known records */
	int fd = open_seg(&f, 1, "idx");

	if (ftruncate(fd, 64 * 3) < 0)
		die("ftruncate");
	close(fd);
	s = scan(&f, 1);
	ok(has_all_but(&s, 4, -1) && s.stats.index_rows == 2,
	   "a committed stream without a row is found before indexed records");
	no_index(&f, 1);
	s = scan(&f, 1);
	ok(has_all_but(&s, 4, -1), "and without any index");
	spool_stream_abort(&open1);
	s = scan(&f, 1);
	ok(has_all_but(&s, 4, -1) && s.stats.damaged == 0, "an aborted one leaves nothing");
	fx_fini(&f);
}

static void test_bounce_of(void)
{
	struct fixture f;
	struct envelope e = { .bounce_of = SV("4abc 0 3 1") };
	struct buf env = BUF_INIT;
	struct spool_record h = fx_header(0);
	struct spool_iov iov = { "x\r\n", 3 };

	fx_init(&f, 1, 0);
	fx_ready(&f);
	h.flags = MSGF_INTERNAL | MSGF_NULL_SENDER;
	is_int(env_encode(&e, &env), 0, "envelope");
	spool_writer_append(f.w, &h, buf_sv(&env), &iov, 1, NULL);
	ok(fx_wait(&f, 1), "a notification");
	struct found s = scan(&f, 1);

	is_str(s.bounce_of, "4abc 0 3 1", "what it reports is found again by the index");
	no_index(&f, 1);
	s = scan(&f, 1);
	is_str(s.bounce_of, "4abc 0 3 1", "and without");
	buf_fini(&env);
	fx_fini(&f);
}

/* Rows that say something else of where their records stand, with right checksums. */
static void test_mend(void)
{
	struct fixture f;
	struct found s, hidden = { 0 };
	struct spool_found list[2];

	begin(&f, 10);
	fx_end_writer(&f);
	int fd = open_seg(&f, 1, "idx");
	struct spool_row row;

	for (unsigned k = 3; k <= 4; k++) {
		if (io_pread_all(fd, &row, sizeof(row), 64 * ((off_t)k + 1)) != 0)
			die("no row");
		list[k - 3] = (struct spool_found){ .qid = { row.qid_us, row.qid_life },
						    .place = { 1, row.off8, row.len, 0 },
						    .rcpt_count = row.rcpt_count,
						    .flags = row.flags,
						    .size = row.size,
						    .commit_us = row.commit_us };
		row.qid_us += 1000000;
		spool_row_seal(&row);
		io_pwrite_all(fd, &row, sizeof(row), 64 * ((off_t)k + 1));
	}
	close(fd);
	s = scan(&f, 1);
	ok(!s.has[3] && !s.has[4] && s.count == 10, "rows are believed");
	is_int(spool_scan_hidden(&f.dirs, 1, see, &hidden), 0, "the search");
	ok(hidden.count == 2 && hidden.has[3] && hidden.has[4], "finds what they hide");
	is_int(spool_index_mend(&f.dirs, 1, list, 2), 0, "a new index");
	s = scan(&f, 1);
	ok(has_all_but(&s, 10, -1) && s.stats.index_rows == 10 && s.stats.damaged == 0,
	   "has all of them");
	hidden = (struct found){ 0 };
	is_int(spool_scan_hidden(&f.dirs, 1, see, &hidden), 0, "the next search");
	is_int(hidden.count, 0, "finds nothing");
	is_int(spool_scan_hidden(&f.dirs, 77, see, &hidden), E_NOENT, "no such segment");
	fx_fini(&f);
}

static void test_lists(void)
{
	struct fixture f;
	uint32_t *n;
	size_t count;
	bool kept;

	fx_init(&f, 0, 0);
	static const char *const names[] = { "0000000a.seg", "00000002.seg", "00000002.idx",
					     "0000000A.seg", "2.seg",        "00000000.seg",
					     "00000007.segx" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		close(openat(f.dirs.seg, names[i], O_CREAT | O_WRONLY, 0600));
	is_int(spool_list(&f.dirs, SPOOL_SEGMENT, &n, &count), 0, "list");
	ok(count == 2 && n[0] == 2 && n[1] == 10, "only proper names, ascending");
	free(n);
	is_int(spool_segment_retire(&f.dirs, 2, 0, &kept), 0, "no spare wanted");
	ok(!kept && faccessat(f.dirs.seg, "00000002.idx", F_OK, 0) < 0, "gone with its index");
	is_int(spool_segment_retire(&f.dirs, 2, 0, &kept), E_NOENT, "only once");
	is_int(spool_journal_remove(&f.dirs, 5), E_NOENT, "no such journal");
	struct found s = scan(&f, 10);

	ok(s.err == 0 && s.count == 0, "an empty file holds nothing");
	fx_fini(&f);
}

int main(void)
{
	clock_init();
	log_set_sink(log_sink, NULL);
	test_whole();
	test_closed();
	test_bad_rows();
	test_index_ahead();
	test_damage();
	test_ahead();
	test_look();
	test_torn();
	test_recycled();
	test_forged();
	test_streams();
	test_bounce_of();
	test_mend();
	test_lists();
	return tap_done();
}
