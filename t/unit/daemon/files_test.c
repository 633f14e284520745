/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What becomes of files: retiring, removing, searching, copying forward, adopting. */
#include "t/unit/daemon/recover_scene.h"

static bool exists(struct scene *sc, const char *dir, uint32_t number, const char *suffix)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s/%08x.%s", sc->f.path, dir, number, suffix);
	return access(path, F_OK) == 0;
}

/* Time passes for the files, and the helper thread gets some of it. */
static void pass(struct scene *sc, int64_t ms)
{
	for (int i = 0; i < 5; i++) {
		clock_fake_advance(ms / 5);
		clock_tick();
		files_tick(sc->files);
		files_turn(sc->files);
		int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;

		while (sc->files->jobs_out > 0 && clock_mono_us_raw() < end) {
			usleep(1000);
			sc->files->next_look_ms = INT64_MAX;
			files_tick(sc->files);
		}
		sc->files->next_look_ms = 0;
	}
}

/* The supervisor's own journal is made by a thread. */
static void wait_for_marks(struct scene *sc)
{
	int64_t end = clock_mono_us_raw() + FX_PATIENCE_US;
	struct qid nobody = msg_id(999);

	while (files_mark(sc->files, OUTCOME_RELEASED, nobody) != 0 && clock_mono_us_raw() < end) {
		loop_turn(sc->loop, 2);
		files_turn(sc->files);
	}
	sc->w.log_len = 0;
	sc->w.log[0] = '\0';
}

static void test_retire(void)
{
	static struct scene sc;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	result(&sc, 1, 0, 1, 0, 0, 50);
	restart(&sc, "spool_spare_segments = 1\n");
	is_int(sc.w.q.shm->msg_live, 0, "nothing is left to do");
	ok(exists(&sc, "seg", 1, "seg"), "there is a segment");
	wait_for_marks(&sc);
	pass(&sc, 1000);
	ok(exists(&sc, "seg", 1, "seg"), "it stays until it was searched");
	pass(&sc, 20000);
	ok(!exists(&sc, "seg", 1, "seg"), "it is retired");
	ok(exists(&sc, "spare", 1, "seg"), "and kept to be overwritten");
	pass(&sc, 20000);
	uint32_t *numbers = NULL;
	size_t count = 0;

	spool_list(&sc.f.dirs, SPOOL_JOURNAL, &numbers, &count);
	free(numbers);
	is_int(count, 1,
	       "the journals that told so are gone after it, but for the supervisor's own");
	struct proto_file g;

	is_int(files_grant(sc.files, RW, SPOOL_SEGMENT, &g), 0, "a number for a new segment");
	is_int(g.recycle, 1, "comes with the spare one");
	ok(g.number > 2, "and was never used");
	finish(&sc);
}

static void test_spares_make_way(void)
{
	static struct scene sc;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	result(&sc, 1, 0, 1, 0, 0, 50);
	restart(&sc, "spool_spare_segments = 1\n");
	wait_for_marks(&sc);
	pass(&sc, 1000);
	pass(&sc, 20000);
	ok(exists(&sc, "spare", 1, "seg"), "a dead segment is kept");
	files_drop_spares(sc.files);
	pass(&sc, 1000);
	ok(!exists(&sc, "spare", 1, "seg"), "until space is short");
	struct proto_file g;

	is_int(files_grant(sc.files, RW, SPOOL_SEGMENT, &g), 0, "a number for a new segment");
	is_int(g.recycle, 0, "comes without it");
	finish(&sc);
}

/* ---- an index that lies, with right checksums ---- */

/* The row of message k says something else now. */
static void lie(struct scene *sc, unsigned k, struct qid id, bool elsewhere, uint32_t rcpts)
{
	struct proto_place place = sc->f.done[k - 1].place;
	char name[SPOOL_NAME_SIZE];
	int fd = openat(sc->f.dirs.seg, spool_name(place.seg, "idx", name), O_RDWR);
	struct spool_row row = { 0 };

	for (off_t at = 64; fd >= 0 && row.off8 != place.off8; at += 64) {
		if (io_pread_all(fd, &row, sizeof(row), at) != 0)
			die("no such row");
		if (row.off8 != place.off8)
			continue;
		row.qid_us = id.time_us;
		row.rcpt_count = rcpts;
		if (elsewhere) { /* the rest of the page, which is zero */
			row.off8 += row.len / 8;
			row.len = 64;
		}
		spool_row_seal(&row);
		if (io_pwrite_all(fd, &row, sizeof(row), at) != 0)
			die("cannot lie");
		break;
	}
	close(fd);
}

static void search(struct scene *sc)
{
	struct recover_hidden *h = NULL;

	for (int i = 0; i < 100; i++) {
		pass(sc, 1000);
		recover_hidden_tick(&h, sc->w.s, sc->files, &sc->f.dirs);
	}
	recover_hidden_free(&h);
}

static bool is_at_home(struct scene *sc, unsigned k)
{
	struct proto_place p, home = sc->f.done[k - 1].place;

	return sched_place_of(sc->w.s, msg_id(k), &p) && p.seg == home.seg && p.off8 == home.off8 &&
	       p.len == home.len;
}

static void test_hidden(void)
{
	static struct scene sc;

	begin(&sc);
	for (unsigned k = 1; k <= 6; k++)
		add(&sc, k, k == 4 ? 3 : 1, 0, NULL);
	add(&sc, 7, 2, 0, NULL);
	result(&sc, 6, 0, 1, 0, 0, 50);
	result(&sc, 7, 0, 1, 2, 0, 50);
	journal_end(&sc);
	sc.j = NULL;
	fx_end_writer(&sc.f);
	lie(&sc, 2, msg_id(2), true, 1);  /* its place is wrong */
	lie(&sc, 3, msg_id(90), true, 1); /* another one's, who does not exist */
	lie(&sc, 4, msg_id(4), false, 1); /* two recipients are missing */
	lie(&sc, 6, msg_id(91), true, 1);
	lie(&sc, 7, msg_id(92), true, 1);
	restart(&sc, "spool_spare_segments = 0\n");
	ok(look(&sc, 3).entries == 0 && look(&sc, 7).entries == 0, "recovery believes the index");
	ok(look(&sc, 2).entries == 1 && !is_at_home(&sc, 2), "also about a place");
	wait_for_marks(&sc);
	search(&sc);
	ok(look(&sc, 3).by_state[QS_LOAD] == 1 && is_at_home(&sc, 3), "what was hidden is found");
	ok(is_at_home(&sc, 2), "and where a message really is");
	ok(look(&sc, 7).by_state[QS_DEFERRED] == 2 && look(&sc, 7).entries == 1,
	   "with what the journals say about it");
	is_int(look(&sc, 6).entries, 0, "so that what was delivered is not delivered again");
	is_int(sc.w.counters->counter[CTR_sched_hidden], 2, "counted");
	ok(strstr(sc.w.log, "was hidden by the index") != NULL, "and named in the log");
	end_supervisor(&sc);
	restart(&sc, "");
	ok(look(&sc, 3).entries == 1 && look(&sc, 2).entries == 1 && is_at_home(&sc, 2),
	   "the next start needs no search");
	is_int(look(&sc, 4).by_state[QS_LOAD], 7, "and has all recipients");
	sc.w.log_len = 0;
	sc.w.log[0] = '\0';
	search(&sc);
	is_str(sc.w.log, "", "nor does it find anything");
	is_int(look(&sc, 1).entries, 1, "the others are as they were");
	finish(&sc);
}

/* Mail that the queue table has no room for stays on disk, whatever becomes of the rest. */
static void test_table_full(void)
{
	static struct scene sc;

	begin(&sc);
	for (unsigned k = 1; k <= 20; k++)
		add(&sc, k, 1, 0, NULL);
	table_size = 16;
	restart(&sc, "spool_spare_segments = 1\n");
	ok(sc.w.q.shm->msg_live < 20, "not all fit in");
	/* those in the table come to an end */
	for (unsigned k = 1; k <= 20; k++) {
		struct sched_cmd_result r = { 0 };

		if (qtab_msg_find(&sc.w.q, msg_id(k)) == QTAB_NONE)
			continue;
		sc.w.s->su.files = NULL;
		sched_cmd(sc.w.s, SCHED_DELETE, msg_id(k), &r);
		sc.w.s->su.files = sc.files;
		files_msg_del(sc.files, sc.f.done[k - 1].place.seg, sc.f.done[k - 1].place.len);
	}
	is_int(sc.w.q.shm->msg_live, 0, "those that do are done");
	pass(&sc, 20000);
	ok(exists(&sc, "seg", sc.f.done[19].place.seg, "seg"), "the others' segment stays");
	end_supervisor(&sc);
	sc.j = NULL;
	table_size = 65536;
	restart(&sc, "");
	ok(qtab_msg_find(&sc.w.q, msg_id(20)) != QTAB_NONE, "the next start finds them");
	finish(&sc);
}

static void test_journal_stays(void)
{
	static struct scene sc;
	uint32_t *numbers = NULL;
	size_t count = 0;

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 2, 1, 0, NULL); /* never tried: keeps the segment */
	result(&sc, 1, 0, 1, 0, 0, 50);
	restart(&sc, "");
	pass(&sc, 20000);
	ok(exists(&sc, "seg", 1, "seg"), "a segment with live mail stays");
	spool_list(&sc.f.dirs, SPOOL_JOURNAL, &numbers, &count);
	free(numbers);
	ok(count >= 1, "and with it the journal that says what of it is done");
	finish(&sc);
}

static void test_accounting(void)
{
	static struct scene sc;
	struct proto_file g, c = { .file_kind = SPOOL_SEGMENT };
	struct proto_place place = { .len = 64 };
	uint32_t a, b;

	begin(&sc);
	restart(&sc, "");
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	place.seg = g.number;
	is_int(files_msg_add(sc.files, RW + 1, &place), E_PEER, "mail in another worker's segment");
	is_int(files_msg_add(sc.files, RW, &place), 0, "in one's own");
	place.seg = 4711;
	is_int(files_msg_add(sc.files, RW, &place), E_PEER, "in one that does not exist");
	c.number = g.number;
	is_int(files_closed(sc.files, RW + 1, &c), E_PEER, "closing another worker's segment");
	is_int(files_closed(sc.files, RW, &c), 0, "one's own");
	is_int(files_closed(sc.files, RW, &c), E_PEER, "once");
	is_int(files_grant(sc.files, RW, 77, &g), E_INVAL, "an unknown kind of file");
	int err = 0;

	for (unsigned i = 0; err == 0 && i < 1000; i++)
		err = files_grant(sc.files, RW, SPOOL_JOURNAL, &g);
	is_int(err, E_LIMIT, "endless wishes for files are refused");
	is_int(files_jref_take(sc.files, RW + 1, (struct proto_jref){ g.number, 5 }, &a), E_PEER,
	       "an outcome in another worker's journal");
	is_int(files_jref_take(sc.files, RW, (struct proto_jref){ g.number, 5 }, &a), 0, "a place");
	struct proto_jref back = files_jref_unpack(sc.files, a);

	ok(a != 0 && back.journal == g.number && back.off16 == 5, "survives packing");
	is_int(files_jref_take(sc.files, RW, (struct proto_jref){ g.number, 1u << 22 }, &b), 0,
	       "one that is too far");
	is_int(b, 0, "is not known afterwards");
	files_jref_dup(sc.files, a);
	files_jref_drop(sc.files, a);
	ok(files_jref_unpack(sc.files, a).journal == g.number, "counted references");
	files_jref_drop(sc.files, a);
	finish(&sc);
}

/* The spool's state cannot be written for a while: who asked for a file gets it afterwards. */
static void test_late_grant(void)
{
	static struct scene sc;
	struct proto_file need = { .kind = PROTO_FILE_NEED, .file_kind = SPOOL_JOURNAL };
	struct proto_file g;

	begin(&sc);
	restart(&sc, "");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	for (int i = 0; i < 1023; i++) { /* to the end of what is reserved */
		files_grant(sc.files, 1000000u + (uint32_t)i, SPOOL_JOURNAL, &g);
	}
	int root = sc.f.dirs.root;

	sc.f.dirs.root = -1;
	while (files_grant(sc.files, 2000000u, SPOOL_JOURNAL, &g) == 0)
		;
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &need, sizeof(need)), 0, "asked for");
	is_int(world_left(&sc.w), 0, "there is none");
	world_pass(&sc.w, 1100);
	is_int(world_left(&sc.w), 0, "still none");
	sc.f.dirs.root = root;
	world_pass(&sc.w, 1100);
	struct sent_rec *r = world_next(&sc.w);

	ok(r != NULL && r->u.kind == PROTO_FILE_GRANT && r->u.file.file_kind == SPOOL_JOURNAL,
	   "it comes when it can");
	world_pass(&sc.w, 1100);
	is_int(world_left(&sc.w), 0, "once");
	finish(&sc);
}

/* A worker died with a record that it had committed and not announced. */
static void test_adopt(void)
{
	static struct scene sc;
	struct proto_file g;
	struct seen s;

	begin(&sc);
	restart(&sc, "");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	/* the same directory gets a writer again, which uses that number */
	fx_writer(&sc.f, 1, 0);
	sc.f.needs = 0;
	sc.f.next_number = g.number;
	spool_writer_grant(sc.f.w, sc.f.next_number++, 0);
	sc.n = sc.f.done_count;
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 2, 70, 0, NULL);
	fx_end_writer(&sc.f);
	struct {
		struct proto_new n;
		struct proto_entry e;
	} r = { .n = { .kind = PROTO_NEW,
		       .qid = { .time_us = msg_id(1).time_us, .life = 7 },
		       .place = sc.f.done[sc.n - 2].place,
		       .rcpt_count = 1,
		       .entry_total = 1,
		       .entry_count = 1 },
		.e = { .dest = UINT32_MAX, .mask = 1 } };

	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "one is announced");
	sched_worker_gone(sc.w.s, CLASS_REWRITE, 0, RW);
	pass(&sc, 20000);
	ok(exists(&sc, "seg", g.number, "seg"), "its segment waits for adoption");
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 1, "the other one is adopted");
	s = look(&sc, 2);
	is_int(s.entries, 2, "with all its recipients");
	is_int(sc.w.q.shm->msg_live, 2, "the announced one counts once");
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 0, "adoption is not repeated");
	finish(&sc);
}

/* One of the records in a dead worker's ring is refused: what was announced behind it is not taken
 * from there, for adoption has to begin at the refused one, and finds it all. */
static void test_adopt_refused(void)
{
	static struct scene sc;
	struct proto_file g;

	begin(&sc);
	restart(&sc, "");
	world_up(&sc.w, CLASS_REWRITE, 0, RW);
	files_grant(sc.files, RW, SPOOL_SEGMENT, &g);
	fx_writer(&sc.f, 1, 0);
	sc.f.needs = 0;
	sc.f.next_number = g.number;
	spool_writer_grant(sc.f.w, sc.f.next_number++, 0);
	sc.n = sc.f.done_count;
	for (unsigned k = 1; k <= 3; k++)
		add(&sc, k, 1, 0, NULL);
	fx_end_writer(&sc.f);
	for (unsigned k = 1; k <= 3; k++) {
		struct {
			struct proto_new n;
			struct proto_entry e;
		} r = { .n = { .kind = PROTO_NEW,
			       .qid = { .time_us = msg_id(k).time_us, .life = 7 },
			       .place = sc.f.done[sc.n - 4 + k].place,
			       .rcpt_count = 1,
			       .entry_total = 1,
			       .entry_count = 1 },
			.e = { .dest = UINT32_MAX, .mask = k == 2 ? 2 : 1 } };

		is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)),
		       k == 2 ? E_PEER : 0, k == 2 ? "the second is refused" : "message %u", k);
		if (k == 2)
			sched_worker_refused(sc.w.s, CLASS_REWRITE, 0, RW);
	}
	is_int(sc.w.q.shm->msg_live, 1, "the third waits");
	sched_worker_gone(sc.w.s, CLASS_REWRITE, 0, RW);
	struct spool_dirs broken = sc.f.dirs;

	broken.seg = -1;
	is_int(recover_adopt(sc.w.s, sc.files, &broken), 0, "the segment cannot be read now");
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 2, "two are adopted");
	ok(look(&sc, 2).entries == 1 && look(&sc, 3).entries == 1, "each once");
	finish(&sc);
}

/* ---- copying forward ---- */

/* Twenty messages in one segment; the first is alive, and waits. */
static void one_alive(struct scene *sc)
{
	begin(sc);
	for (unsigned k = 1; k <= 20; k++)
		add(sc, k, 1, 0, NULL);
	for (unsigned k = 2; k <= 20; k++)
		result(sc, k, 0, 1, 0, 0, 50);
	result(sc, 1, 0, 0, 1, 0, 50);
	restart(sc, "spool_spare_segments = 0\n");
}

/* What a rewrite worker is asked first. It has the segment *g_r. */
static struct sent_rec *asked_to_copy(struct scene *sc, struct proto_file *g_r)
{
	world_up(&sc->w, CLASS_REWRITE, 0, RW);
	files_grant(sc->files, RW, SPOOL_SEGMENT, g_r);
	for (int i = 0; i < 10 && world_left(&sc->w) == 0; i++) {
		pass(sc, 20000);
		loop_turn(sc->f.loop, 2);
		sched_tick(sc->w.s);
		world_turn(&sc->w);
	}
	return world_next(&sc->w);
}

/* What is added from here on goes to that segment. */
static void write_to(struct scene *sc, uint32_t segment)
{
	fx_writer(&sc->f, 1, 0);
	sc->f.needs = 0;
	spool_writer_grant(sc->f.w, segment, 0);
	sc->n = sc->f.done_count;
}

static struct proto_copied copied(const struct sent_rec *c, uint32_t rcpt_count,
				  struct proto_place place)
{
	return (struct proto_copied){ .kind = PROTO_COPIED,
				      .msg = c->u.copy.msg,
				      .rcpt_count = rcpt_count,
				      .msg_seq = c->u.copy.msg_seq,
				      .qid = c->u.copy.qid,
				      .place = place };
}

/* A mostly dead segment: its live message moves on, and after a restart all is as before. */
static void test_copy_forward(void)
{
	static struct scene sc;
	struct proto_file g;
	struct sent_rec *c;
	struct seen s;

	begin(&sc);
	for (unsigned k = 1; k <= 20; k++)
		add(&sc, k, k == 7 ? 3 : 1, 0, NULL);
	for (unsigned k = 1; k <= 20; k++) {
		if (k != 7)
			result(&sc, k, 0, 1, 0, 0, 50);
	}
	result(&sc, 7, 0, 1, 6, 0, 50); /* one of three is done */
	restart(&sc, "spool_spare_segments = 0\n");
	is_int(sc.w.q.shm->msg_live, 1, "one of twenty is alive");
	c = asked_to_copy(&sc, &g);
	ok(c != NULL && c->u.kind == PROTO_COPY, "it is to be copied forward");
	write_to(&sc, g.number);
	add(&sc, 7, 3, 0, NULL); /* the copy */
	struct proto_copied r = copied(c, 3, sc.f.done[sc.n - 1].place);

	wait_for_marks(&sc);
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "copied");
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), E_PEER, "once");
	ok(strstr(sc.w.log, "mark in the journal failed") == NULL, "its state is journaled anew");
	pass(&sc, 20000);
	pass(&sc, 20000);
	ok(!exists(&sc, "seg", c->u.copy.place.seg, "seg"), "the old segment is gone");
	s = look(&sc, 7);
	is_int(s.by_state[QS_DEFERRED], 6, "the message waits as before");
	char reason[100] = "";

	ok(s.jref.journal != 0 && files_reason(sc.files, s.jref, reason, sizeof(reason)),
	   "its reason came along: %s", reason);
	uint32_t old_due = s.due_s;

	end_supervisor(&sc);
	sc.j = NULL;
	restart(&sc, "");
	s = look(&sc, 7);
	is_int(s.by_state[QS_DEFERRED], 6, "after a restart the same recipients are left");
	ok(s.due_s + 1000 > old_due && s.due_s < old_due + 1000, "due about when they were");
	is_int(sc.w.q.shm->msg_live, 1, "and no other message");
	finish(&sc);
}

/* The message ends while it is being copied: the copy must not come to life at a restart, when the
 * old segment and its journals are gone. */
static void test_copy_of_finished(void)
{
	static struct scene sc;
	struct proto_file g;
	struct sent_rec *c;
	struct sched_cmd_result cmd = { 0 };

	one_alive(&sc);
	c = asked_to_copy(&sc, &g);
	ok(c != NULL && c->u.kind == PROTO_COPY, "the last one is to be copied");
	write_to(&sc, g.number);
	add(&sc, 1, 1, 0, NULL);
	struct proto_copied r = copied(c, 1, sc.f.done[sc.n - 1].place);

	wait_for_marks(&sc);
	/* it ends, and what says so is not to be seen at the restart */
	sc.w.s->su.files = NULL;
	is_int(sched_cmd(sc.w.s, SCHED_DELETE, msg_id(1), &cmd), 0, "it ends before");
	sc.w.s->su.files = sc.files;
	is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "copied");
	is_int(files_mark_sync(sc.files), 0, "marks are on disk");
	end_supervisor(&sc);
	sc.j = NULL;
	restart(&sc, "");
	is_int(sc.w.q.shm->msg_live, 0, "it does not come back");
	finish(&sc);
}

/* A rewrite worker dies with a copy that it had committed; the message ended meanwhile. */
static void test_copy_of_dead_worker(bool reported)
{
	static struct scene sc;
	struct proto_file g;
	struct sent_rec *c;
	struct sched_cmd_result cmd = { 0 };

	one_alive(&sc);
	c = asked_to_copy(&sc, &g);
	ok(c != NULL && c->u.kind == PROTO_COPY, "a message is being copied");
	write_to(&sc, g.number);
	add(&sc, 1, 1, 0, NULL);
	add(&sc, 30, 1, 0, NULL); /* a new one behind it */
	struct proto_copied r = copied(c, 1, sc.f.done[sc.n - 2].place);

	wait_for_marks(&sc);
	sc.w.s->su.files = NULL;
	is_int(sched_cmd(sc.w.s, SCHED_DELETE, msg_id(1), &cmd), 0, "it ends before");
	sc.w.s->su.files = sc.files;
	if (reported)
		is_int(sched_input(sc.w.s, CLASS_REWRITE, 0, RW, &r, sizeof(r)), 0, "copied");
	sched_worker_gone(sc.w.s, CLASS_REWRITE, 0, RW);
	is_int(recover_adopt(sc.w.s, sc.files, &sc.f.dirs), 1, "one is adopted");
	is_int(look(&sc, 1).entries, 0, "not the copy");
	is_int(look(&sc, 30).entries, 1, "but the new one");
	is_int(files_mark_sync(sc.files), 0, "marks are on disk");
	end_supervisor(&sc);
	sc.j = NULL;
	restart(&sc, "");
	is_int(look(&sc, 1).entries, 0, "nor does it come back at the next start");
	finish(&sc);
}

/* What cannot be journaled is not done. */
static void test_mark_refused(void)
{
	static struct scene sc;
	struct sched_cmd_result cmd = { 0 };

	begin(&sc);
	add(&sc, 1, 1, 0, NULL);
	restart(&sc, "");
	/* its journal has no file yet */
	ok(sched_cmd(sc.w.s, SCHED_HOLD, msg_id(1), &cmd) != 0, "a hold is refused");
	is_int(cmd.messages, 0, "no message changed");
	is_int(cmd.failed, 1, "and one is said not to");
	is_int(sc.w.s->count[QS_HOLD], 0, "nor is it on hold");
	finish(&sc);
}

int main(void)
{
	test_retire();
	test_spares_make_way();
	test_journal_stays();
	test_table_full();
	test_copy_of_finished();
	test_copy_of_dead_worker(false);
	test_copy_of_dead_worker(true);
	test_hidden();
	test_mark_refused();
	test_accounting();
	test_adopt();
	test_late_grant();
	test_adopt_refused();
	test_copy_forward();
	return tap_done();
}
