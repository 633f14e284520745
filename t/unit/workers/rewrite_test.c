/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Submissions, loads, copies and notifications against a real spool. */
#include "t/unit/workers/rewrite_rig.h"

#include "lib/log.h"
#include "t/unit/tap.h"
#include "t/unit/workers/spool/flip.h"
#include "workers/rewrite/idset.h"

static char logged[65536];

static void sink(void *ctx, enum log_level level, const char *program, const char *text, size_t len)
{
	size_t used = strlen(logged);

	(void)ctx;
	(void)level;
	if (used + len + 100 < sizeof(logged))
		snprintf(logged + used, sizeof(logged) - used, "%s: %.*s\n", program, (int)len,
			 text);
}

static uint64_t next_us = 1700000000000000;
static uint32_t next_tx = 1;

static void encode(const char *sender, const char *rcpt, uint8_t notify, struct buf *out)
{
	struct env_rcpt r = { .addr = sv_from(rcpt), .notify = notify };
	struct envelope e = { .sender = sv_from(sender),
			      .rcpts = &r,
			      .rcpt_count = 1,
			      .arrival_us = clock_now_wall().us };

	env_encode(&e, out);
}

static struct proto_submit record(unsigned flags, const char *env, size_t env_len, const char *data,
				  size_t len, uint32_t tx)
{
	struct buf both = BUF_INIT;
	struct proto_submit s = { .kind = PROTO_SUBMIT,
				  .flags = flags,
				  .session = 9,
				  .tx = tx,
				  .env_len = (uint32_t)env_len,
				  .data_len = (uint32_t)len,
				  .qid = { .time_us = next_us, .life = rig.peer.life } };

	if (flags & SUBMIT_BEGIN)
		s.qid.time_us = ++next_us;
	buf_add(&both, env, env_len);
	buf_add(&both, data, len);
	s.first_block = rig_chain(both.p, both.len);
	buf_fini(&both);
	return s;
}

static const void *find(uint32_t kind)
{
	for (size_t i = 0; i < rig.count && i < RIG_CAUGHT; i++) {
		uint32_t k;

		memcpy(&k, rig.caught[i].rec, sizeof(k));
		if (k == kind)
			return rig.caught[i].rec;
	}
	return NULL;
}

static size_t place_of(uint32_t kind)
{
	for (size_t i = 0; i < rig.count && i < RIG_CAUGHT; i++) {
		uint32_t k;

		memcpy(&k, rig.caught[i].rec, sizeof(k));
		if (k == kind)
			return i;
	}
	return SIZE_MAX;
}

/* Submit in pieces of `step` bytes of content. */
static void submit(const char *sender, const char *rcpt, uint8_t notify, const char *data,
		   size_t len, size_t step)
{
	struct buf env = BUF_INIT;
	uint32_t tx = next_tx++;
	size_t at = 0;

	encode(sender, rcpt, notify, &env);
	rig.count = 0;
	do {
		size_t n = size_min(step, len - at);
		unsigned flags = (at == 0 ? SUBMIT_BEGIN : 0u) | (at + n == len ? SUBMIT_END : 0u);
		struct proto_submit s =
			record(flags, env.p, at == 0 ? env.len : 0, data + at, n, tx);

		rig_submit(&s);
		at += n;
	} while (at < len);
	buf_fini(&env);
	rig_settle();
}

static struct proto_new new_msg;
static struct proto_entry new_entry;

static bool take_new(void)
{
	const char *n = find(PROTO_NEW);

	if (n == NULL)
		return false;
	memcpy(&new_msg, n, sizeof(new_msg));
	memcpy(&new_entry, n + sizeof(new_msg), sizeof(new_entry));
	return true;
}

static void content_of(const struct proto_new *n, struct buf *out)
{
	struct spool_record hdr;
	struct buf env = BUF_INIT;
	struct qid id = qid_of_proto(n->qid);

	buf_reset(out);
	if (spool_read_head(rig.r.reader, id, n->place, true, &hdr, &env) == 0)
		spool_read_content(rig.r.reader, &hdr, n->place, 0, (size_t)hdr.content_len, out);
	buf_fini(&env);
}

static void test_submit(void)
{
	struct buf text = BUF_INIT;
	static char big[3 << 20];
	static const size_t sizes[] = { 2000, 300000, sizeof(big) };

	submit("s@x.test", "r@far.test", 0, "A: b\r\n\r\nx\r\n", 11, 4096);
	ok(take_new(), "announced");
	const struct proto_submit_done *d = find(PROTO_SUBMIT_DONE);
	ok(d != NULL && d->verdict == SUBMIT_OK && d->session == 9, "answered");
	ok(place_of(PROTO_DEST) < place_of(PROTO_NEW) &&
		   place_of(PROTO_NEW) < place_of(PROTO_SUBMIT_DONE),
	   "destination, message, answer: in this order");
	ok(place_of(PROTO_SUBMIT_FREE) != SIZE_MAX, "blocks given back");
	content_of(&new_msg, &text);
	is_str(buf_cstr(&text), "A: b\r\n\r\nx\r\n", "record");
	ok(strstr(logged, "postfix/cleanup: ") && strstr(logged, ": message-id=<>\n"),
	   "message-id line");
	ok(strstr(logged, ": from=<s@x.test>, size=11, nrcpt=1 (queue active)\n"), "qmgr line");
	submit("s@x.test", "r2@far.test", 0, "A: b\r\n\r\nx\r\n", 11, 4096);
	ok(find(PROTO_DEST) == NULL, "a destination is told once");

	for (size_t i = 0; i + 80 <= sizeof(big); i += 80) {
		memset(big + i, 'a' + (int)(i / 80 % 26), 78);
		memcpy(big + i + 78, "\r\n", 2);
	}
	memcpy(big, "Subject: big\r\n\r\n", 16);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		size_t len = sizes[i] / 80 * 80;

		submit("s@x.test", "r@far.test", 0, big, len, 50000);
		ok(take_new(), "%zu bytes in pieces: announced", len);
		content_of(&new_msg, &text);
		ok(text.len == len && memcmp(text.p, big, len) == 0, "content is the same");
		is_int(new_msg.size, len, "size");
	}
	is_int(rig.accused, 0, "nobody accused: %s", rig.accused_of);
	is_int(rig.blocks.free_count, RIG_BLOCKS, "all blocks are free");
	buf_fini(&text);
}

static void test_refused(void)
{
	static char hops[2000];
	const struct proto_submit_done *d;

	for (int i = 0; i < 60; i++)
		strcat(hops, "Received: x\r\n");
	strcat(hops, "\r\n");
	submit("s@x.test", "r@far.test", 0, hops, strlen(hops), 4096);
	d = find(PROTO_SUBMIT_DONE);
	ok(d != NULL && d->verdict == SUBMIT_PERMFAIL && d->code == 554 && d->text_len == 20,
	   "too many hops");
	submit("s@x.test", "r@far.test", 0, hops, strlen(hops), 100);
	d = find(PROTO_SUBMIT_DONE);
	ok(d != NULL && d->code == 554, "too many hops, in pieces");
	ok(find(PROTO_NEW) == NULL, "not announced");
	is_int(rig.accused, 0, "nobody accused: %s", rig.accused_of);
}

static void test_waiting(void)
{
	struct buf env = BUF_INIT;
	struct proto_submit s;
	unsigned done = 0;

	/* nothing granted: use up what there is, then submissions wait */
	rig.no_grant = true;
	encode("s@x.test", "r@far.test", 0, &env);
	rig.count = 0;
	spool_writer_free(&rig.r.writer);
	spool_dirs_close(&rig.r.dirs);
	journal_writer_free(&rig.r.journal);
	spool_reader_free(&rig.r.reader);
	journal_reader_free(&rig.r.journal_reader);
	is_int(rig_open_spool(&rig.r), 0, "fresh spool writer");
	for (int i = 0; i < 5; i++) {
		s = record(SUBMIT_BEGIN | SUBMIT_END, env.p, env.len, "A: b\r\n\r\n", 8, next_tx++);
		rig_submit(&s);
	}
	rig_turn(0);
	ok(rig.r.stalled && find(PROTO_SUBMIT_DONE) == NULL, "five wait");
	ok(find(PROTO_SUBMIT_FREE) == NULL, "in their blocks");
	rig.no_grant = false;
	rig_settle();
	for (size_t i = 0; i < rig.count; i++) {
		struct proto_submit_done d;

		memcpy(&d, rig.caught[i].rec, sizeof(d));
		done += d.kind == PROTO_SUBMIT_DONE && d.verdict == SUBMIT_OK;
	}
	is_int(done, 5, "and go on with the grant");
	rig.no_grant = true;
	rig.count = 0;
	buf_fini(&env);
	rig.no_grant = false;
	rig_settle();
}

static unsigned given_back(void)
{
	unsigned n = 0;

	for (size_t i = 0; i < rig.count && i < RIG_CAUGHT; i++) {
		uint32_t kind;

		memcpy(&kind, rig.caught[i].rec, sizeof(kind));
		n += kind == PROTO_SUBMIT_FREE;
	}
	return n;
}

/* One peer's backlog is worked off a share at a time. */
static void test_shares(void)
{
	struct buf env = BUF_INIT;
	struct proto_submit s;

	encode("s@x.test", "r@far.test", 0, &env);
	is_int(rig.peer.claim_bytes, (uint64_t)RIG_BLOCKS * BLOCK_SIZE, "what a peer may leave");
	rig.peer.turn_bytes = 0;
	s = record(SUBMIT_BEGIN | SUBMIT_END, env.p, env.len, "A: b\r\n\r\n", 8, next_tx++);
	rig_submit(&s);
	is_int(rig.peer.turn_bytes, env.len + 8, "its bytes are counted");
	rig_settle();
	rig.r.stalled = true; /* as if the spool had had no room */
	rig.count = 0;
	spool_writer_free(&rig.r.writer);
	spool_dirs_close(&rig.r.dirs);
	journal_writer_free(&rig.r.journal);
	spool_reader_free(&rig.r.reader);
	journal_reader_free(&rig.r.journal_reader);
	rig.no_grant = true;
	is_int(rig_open_spool(&rig.r), 0, "a spool without room");
	for (int i = 0; i < 5; i++) {
		s = record(SUBMIT_BEGIN | SUBMIT_END, env.p, env.len, "A: b\r\n\r\n", 8, next_tx++);
		rig_submit(&s);
	}
	rig.no_grant = false;
	rig.spent = WORKER_PEER_TURN_BYTES;
	rig_turn(0);
	for (unsigned i = 0; given_back() == 0 && i < 100; i++)
		rig_turn(1);
	is_int(given_back(), 1, "a peer that has had its share gets one record on");
	rig_turn(0);
	is_int(given_back(), 2, "the next in the next turn");
	rig.spent = 0;
	rig_turn(0);
	is_int(given_back(), 5, "with a share to spend: all");
	rig_settle();
	buf_fini(&env);
}

/* Clients that stop in the middle: what began first is given up, what comes now gets through. */
static void test_shed(void)
{
	static char text[200000];
	struct proto_submit s;
	struct buf env = BUF_INIT;
	struct proto_submit_done d;
	uint32_t first = next_tx;
	unsigned refused = 0, taken = 0;

	for (size_t i = 0; i < sizeof(text); i += 80) {
		memset(text + i, 'x', 78);
		memcpy(text + i + 78, "\r\n", 2);
	}
	memcpy(text, "A: b\r\n\r\n", 8);
	encode("s@x.test", "r@far.test", 0, &env);
	rig.r.peer_memory = 1 << 20;
	rig.count = 0;
	for (int i = 0; i < 10; i++) {
		s = record(SUBMIT_BEGIN, env.p, env.len, text, sizeof(text), next_tx++);
		rig_submit(&s);
	}
	ok(rig.counters.counter[CTR_rewrite_given_up] >= 5, "too much: %u are given up",
	   (unsigned)rig.counters.counter[CTR_rewrite_given_up]);
	for (uint32_t tx = first; tx < next_tx; tx++) {
		s = record(SUBMIT_END, "", 0, "the end\r\n", 9, tx);
		rig_submit(&s);
	}
	rig_settle();
	for (size_t i = 0; i < rig.count && i < RIG_CAUGHT; i++) {
		memcpy(&d, rig.caught[i].rec, sizeof(d));
		if (d.kind == PROTO_SUBMIT_DONE && d.tx < first + 5) {
			refused += d.verdict == SUBMIT_TEMPFAIL && d.code == 452;
		} else if (d.kind == PROTO_SUBMIT_DONE && d.tx > first + 6) {
			taken += d.verdict == SUBMIT_OK;
		}
	}
	is_int(refused, 5, "those that began first");
	is_int(taken, 3, "the newest are taken");
	is_int(rig.blocks.free_count, RIG_BLOCKS, "all blocks are free");
	rig.r.peer_memory = 64u << 20;
	buf_fini(&env);
}

static void expect_accused(struct proto_submit s, size_t len, const char *what)
{
	rig_detach();
	if (rig_attach(s.qid.life != 0 ? 5 : 6) != 0)
		ok(false, "attach");
	s.qid.life = s.qid.life == 999 ? 999 : rig.peer.life;
	submit_record(&rig.r, &rig.peer, &s, len);
	is_int(rig.accused, 1, "accused: %s (%s)", what, rig.accused_of);
	submit_record(&rig.r, &rig.peer, &s, len);
	is_int(rig.accused, 1, "once");
}

static void test_hostile(void)
{
	struct buf env = BUF_INIT;
	struct proto_submit good = { .kind = PROTO_SUBMIT,
				     .flags = SUBMIT_BEGIN | SUBMIT_END,
				     .tx = 5,
				     .first_block = 3,
				     .env_len = 100,
				     .data_len = 100,
				     .qid = { .time_us = 1000, .life = 5 } };
	struct proto_submit s = good;

	encode("s@x.test", "r@far.test", 0, &env);
	expect_accused(s, sizeof(s) - 1, "short record");
	s.kind = PROTO_NEW;
	expect_accused(s, sizeof(s), "other kind");
	s = good;
	s.tx = 0;
	expect_accused(s, sizeof(s), "transaction 0");
	s = good;
	s.flags = 64;
	expect_accused(s, sizeof(s), "unknown flag");
	s = good;
	s.env_len = UINT32_MAX;
	s.data_len = UINT32_MAX;
	expect_accused(s, sizeof(s), "lengths past everything");
	s = good;
	s.first_block = 1u << 30;
	expect_accused(s, sizeof(s), "block out of range");
	s = good;
	s.first_block = BLOCK_NONE;
	expect_accused(s, sizeof(s), "no blocks");
	s = good;
	s.qid.life = 999;
	expect_accused(s, sizeof(s), "queue id of another life");
	s = good;
	s.qid.time_us = QID_MAX_TIME_US;
	expect_accused(s, sizeof(s), "queue id too large");
	s = good;
	s.flags = SUBMIT_END;
	expect_accused(s, sizeof(s), "envelope without a beginning");
	s = good;
	s.flags = SUBMIT_END;
	s.env_len = 0;
	expect_accused(s, sizeof(s), "end of no transaction");
	expect_accused(good, sizeof(good), "no envelope in the blocks");

	/* a queue id that is used twice */
	rig_detach();
	rig_attach(8);
	s = record(SUBMIT_BEGIN | SUBMIT_END, env.p, env.len, "A: b\r\n\r\n", 8, 70);
	rig_submit(&s);
	is_int(rig.accused, 0, "first use");
	s.tx = 71;
	rig_submit(&s);
	is_int(rig.accused, 1, "second use of a queue id: %s", rig.accused_of);
	/* a transaction that begins twice */
	rig_detach();
	rig_attach(9);
	s = record(SUBMIT_BEGIN, env.p, env.len, "A: b\r\n\r\n", 8, 80);
	rig_submit(&s);
	is_int(rig.accused, 0, "open");
	s = record(SUBMIT_BEGIN, env.p, env.len, "A: b\r\n\r\n", 8, 80);
	rig_submit(&s);
	is_int(rig.accused, 1, "begins twice: %s", rig.accused_of);
	rig_detach();
	rig_attach(10);
	s = record(SUBMIT_BEGIN, env.p, env.len, "A: b\r\n\r\n", 8, 81);
	rig_submit(&s);
	s = record(SUBMIT_ABORT, NULL, 0, NULL, 0, 81);
	rig_submit(&s);
	is_int(rig.accused, 0, "abort");
	s = record(SUBMIT_END, NULL, 0, "x\r\n", 3, 81);
	rig_submit(&s);
	is_int(rig.accused, 1, "after the abort there is nothing: %s", rig.accused_of);
	rig_settle();
	rig_detach();
	rig_attach(11);
	buf_fini(&env);
}

static void test_idset(void)
{
	struct idset s;

	idset_init(&s);
	s.limit = 1000;
	for (uint64_t i = 1; i <= 900; i++)
		idset_use(&s, i * 7);
	is_int(idset_use(&s, 700), IDSET_USED, "used");
	is_int(idset_use(&s, 701), IDSET_NEW, "not used, though lower");
	is_int(idset_use(&s, 701), IDSET_USED, "used now");
	for (uint64_t i = 901; i <= 1900; i++)
		idset_use(&s, i * 7);
	is_int(idset_use(&s, 700), IDSET_USED, "the generation before is kept");
	for (uint64_t i = 1901; i <= 4000; i++)
		idset_use(&s, i * 7);
	is_int(idset_use(&s, 703), IDSET_TOO_OLD, "older ones are not told apart");
	is_int(idset_use(&s, 4001 * 7), IDSET_NEW, "new ones are");
	ok(s.now.count <= 1000 && s.before.count <= 1000, "bounded");
	idset_fini(&s);
}

/* ---- load and copy ---- */

static void test_load(void)
{
	struct proto_load l = { .kind = PROTO_LOAD };
	const struct proto_loaded *d;
	struct proto_entry e;

	submit("s@x.test", "r@far.test", 0, "A: b\r\n\r\n", 8, 4096);
	ok(take_new(), "a message");
	l.ref = (struct proto_ref){
		.word = 4711, .entry = 12, .mask = 1, .qid = new_msg.qid, .place = new_msg.place
	};
	rig.count = 0;
	queue_load(&rig.r, &l, sizeof(l));
	d = find(PROTO_LOADED);
	ok(d != NULL && d->status == LOAD_OK && d->word == 4711 && d->entry == 12 &&
		   d->entry_count == 1,
	   "loaded");
	memcpy(&e, (const char *)d + sizeof(*d), sizeof(e));
	ok(e.mask == 1 && e.rcpt_first == 0 && e.dest == new_entry.dest, "same destination");
	l.ref.mask = 2;
	rig.count = 0;
	queue_load(&rig.r, &l, sizeof(l));
	d = find(PROTO_LOADED);
	ok(d != NULL && d->status == LOAD_DAMAGED, "recipient that does not exist");
	l.ref.mask = 1;
	l.ref.qid.time_us++;
	rig.count = 0;
	queue_load(&rig.r, &l, sizeof(l));
	d = find(PROTO_LOADED);
	ok(d != NULL && d->status == LOAD_DAMAGED, "another message's id");
	ok(strstr(logged, "record is damaged") != NULL, "logged");
}

/* Large records are not read when they are loaded, unless somebody found them damaged. */
static void test_load_large(void)
{
	static char big[300000];
	struct proto_load l = { .kind = PROTO_LOAD };
	const struct proto_loaded *d;
	char text[QID_TEXT_SIZE];

	memset(big, 'x', sizeof(big));
	for (size_t i = 80; i <= sizeof(big); i += 80)
		memcpy(big + i - 2, "\r\n", 2);
	memcpy(big, "A: b\r\n\r\n", 8);
	submit("s@x.test", "r@far.test", 0, big, sizeof(big), 50000);
	ok(take_new(), "a large message");
	struct qid id = qid_of_proto(new_msg.qid);

	l.ref = (struct proto_ref){ .mask = 1, .qid = new_msg.qid, .place = new_msg.place };
	is_int(spool_quarantine(&rig.r.dirs, id, new_msg.place), 0, "called damaged");
	rig.count = 0;
	queue_load(&rig.r, &l, sizeof(l));
	d = find(PROTO_LOADED);
	ok(d != NULL && d->status == LOAD_OK, "though it is not");
	fx_flip(&rig.r.dirs, new_msg.place, 100000);
	rig.count = 0;
	queue_load(&rig.r, &l, sizeof(l));
	d = find(PROTO_LOADED);
	ok(d != NULL && d->status == LOAD_DAMAGED, "it is");
	unlinkat(rig.r.dirs.corrupt, qid_format(id, text), 0);
	rig.count = 0;
	queue_load(&rig.r, &l, sizeof(l));
	d = find(PROTO_LOADED);
	ok(d != NULL && d->status == LOAD_OK, "nobody noticed");
}

static void test_copy(size_t bytes)
{
	char *data = malloc(bytes);
	struct proto_copy c = { .kind = PROTO_COPY, .msg = 5, .msg_seq = 6 };
	const struct proto_copied *d;
	struct buf text = BUF_INIT;

	for (size_t i = 0; i + 80 <= bytes; i += 80) {
		memset(data + i, 'x', 78);
		memcpy(data + i + 78, "\r\n", 2);
	}
	memcpy(data, "\r\n", 2);
	submit("s@x.test", "r@far.test", 0, data, bytes / 80 * 80, 100000);
	take_new();
	c.qid = new_msg.qid;
	c.place = new_msg.place;
	for (int i = 0; i < 20; i++) { /* the first one may find no room in the segment */
		rig.count = 0;
		queue_copy(&rig.r, &c, sizeof(c));
		rig_settle();
		d = find(PROTO_COPIED);
		if (d != NULL && d->status == 0)
			break;
		rig_turn(50);
	}
	ok(d != NULL && d->status == 0 && d->msg == 5 && d->msg_seq == 6, "%zu bytes copied",
	   bytes);
	ok(d->place.off8 != c.place.off8 || d->place.seg != c.place.seg, "elsewhere");
	new_msg.place = d->place;
	content_of(&new_msg, &text);
	ok(text.len == bytes / 80 * 80 && memcmp(text.p, data, text.len) == 0, "same content");
	c.qid.time_us++;
	rig.count = 0;
	queue_copy(&rig.r, &c, sizeof(c));
	d = find(PROTO_COPIED);
	ok(d != NULL && d->status != 0, "copy of what is not there");
	buf_fini(&text);
	free(data);
}

/* ---- notifications ---- */

static struct proto_jref reason(uint8_t d0, const char *text, const char *diag)
{
	struct outcome_reason why = { .mask = 1,
				      .dsn = { d0, 1, 1 },
				      .mta = SV("mx.far.test[192.0.2.1]"),
				      .text = sv_from(text),
				      .diag = sv_from(diag) };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = qid_of_proto(new_msg.qid),
			     .mask = 1,
			     .bounced = d0 == 5,
			     .deferred = d0 == 4,
			     .reasons = &why,
			     .reason_count = 1 };
	struct proto_jref ref = { 0, 0 };

	for (int i = 0; i < 50 && journal_append(rig.r.journal, &o, &ref) == E_AGAIN; i++)
		rig_turn(5);
	rig_turn(0);
	return ref;
}

static const struct proto_bounced *bounce(enum bounce_kind kind, struct proto_jref jref)
{
	struct proto_bounce b = { .kind = PROTO_BOUNCE,
				  .bounce = (uint16_t)kind,
				  .ref = { .word = 99,
					   .entry = 3,
					   .mask = 1,
					   .qid = new_msg.qid,
					   .place = new_msg.place },
				  .jref = jref };

	rig.count = 0;
	notify_bounce(&rig.r, &b, sizeof(b));
	rig_settle();
	return find(PROTO_BOUNCED);
}

static bool has(const struct buf *b, const char *what)
{
	bool hit = strstr(buf_cstr(b), what) != NULL;

	if (!hit)
		printf("# not found: %s\n", what);
	return hit;
}

static void test_bounces(void)
{
	const struct proto_bounced *d;
	struct buf text = BUF_INIT;
	struct proto_new orig;

	submit("joe@x.test", "r@far.test", 0, "Subject: hi\r\n\r\nbody text\r\n", 26, 4096);
	take_new();
	orig = new_msg;
	d = bounce(BOUNCE_FAILURE,
		   reason(5,
			  "host mx.far.test[192.0.2.1] said: 550 5.1.1 no (in reply to RCPT TO "
			  "command)",
			  "550 5.1.1 no"));
	ok(d != NULL && d->status == 0 && d->word == 99 && d->entry == 3, "failure reported");
	ok(place_of(PROTO_NEW) < place_of(PROTO_BOUNCED), "after it was announced");
	ok(take_new(), "a new message");
	ok((new_msg.flags & (MSGF_NULL_SENDER | MSGF_INTERNAL)) ==
		   (MSGF_NULL_SENDER | MSGF_INTERNAL),
	   "null sender, internal");
	content_of(&new_msg, &text);
	ok(has(&text, "\r\nFrom: Mail Delivery System <MAILER-DAEMON@mx.example.org>\r\n"), "From");
	ok(has(&text, "\r\nSubject: Undelivered Mail Returned to Sender\r\n"), "Subject");
	ok(has(&text, "\r\nTo: joe@x.test\r\n"), "To");
	ok(has(&text, "\r\nAuto-Submitted: auto-replied\r\n"), "Auto-Submitted");
	ok(has(&text, "report-type=delivery-status"), "report");
	ok(has(&text, "\r\nFinal-Recipient: rfc822; r@far.test\r\n"), "Final-Recipient");
	ok(has(&text, "\r\nOriginal-Recipient: rfc822;r@far.test\r\n"), "Original-Recipient");
	ok(has(&text, "\r\nAction: failed\r\nStatus: 5.1.1\r\n"), "Action, Status");
	ok(has(&text, "\r\nRemote-MTA: dns; mx.far.test\r\n"), "Remote-MTA");
	ok(has(&text, "\r\nDiagnostic-Code: smtp; 550 5.1.1 no\r\n"), "Diagnostic-Code");
	ok(has(&text, "\r\nX-Postfix-Sender: rfc822; joe@x.test\r\n"), "X-Postfix-Sender");
	ok(has(&text, "Content-Type: message/rfc822"), "full original");
	ok(has(&text, "\r\n\r\nSubject: hi\r\n\r\nbody text\r\n\r\n--"), "original text");
	ok(strstr(logged, "sender non-delivery notification: ") != NULL, "log line");

	new_msg = orig;
	d = bounce(BOUNCE_DELAY, reason(4, "connect to mx.far.test[192.0.2.1]:25: timed out", ""));
	ok(d != NULL && d->status == 0 && take_new(), "delay warning");
	content_of(&new_msg, &text);
	ok(has(&text, "Subject: Delayed Mail (still being retried)"), "Subject");
	ok(has(&text, "Action: delayed") && has(&text, "Will-Retry-Until: "), "Action");
	ok(has(&text, "Diagnostic-Code: X-Postfix; connect to mx.far.test[192.0.2.1]:25: timed"),
	   "no remote reply: our text");
	ok(has(&text, "text/rfc822-headers") && strstr(buf_cstr(&text), "body text") == NULL,
	   "headers only");

	new_msg = orig;
	d = bounce(BOUNCE_EXPIRED, (struct proto_jref){ 0, 0 });
	ok(d != NULL && d->status == 0 && take_new(), "expired, reason lost");
	content_of(&new_msg, &text);
	ok(has(&text, "Status: 4.4.7") && has(&text, "Action: failed"), "general reason");
	ok(strstr(logged, ", status=expired, returned to sender") != NULL, "log line");

	new_msg = orig;
	d = bounce(BOUNCE_FORCED, (struct proto_jref){ 0, 0 });
	ok(d != NULL && d->status == 0 && take_new(), "expired by an operator, never tried");
	content_of(&new_msg, &text);
	ok(has(&text, "Status: 4.7.0") && has(&text, "message is administratively expired"),
	   "says so");
	ok(strstr(logged, ", status=force-expired, returned to sender") != NULL, "log line");
	buf_fini(&text);
}

/* The postmaster hears of a session with a server. */
static void test_peer_notice(void)
{
	static const char peer[] = "mx.x[192.0.2.1]:25", talk[] = "Out: WHAT \x01\nIn:  500 no\n";
	struct proto_notice n = { .kind = PROTO_NOTICE,
				  .peer_len = sizeof(peer) - 1,
				  .text_len = sizeof(talk) - 1 };
	struct buf rec = BUF_INIT, text = BUF_INIT;

	buf_add(&rec, &n, sizeof(n));
	buf_add_str(&rec, peer);
	buf_add_str(&rec, talk);
	rig.count = 0;
	notify_of_peer(&rig.r, rec.p, rec.len);
	rig_settle();
	ok(take_new(), "a message");
	ok((new_msg.flags & (MSGF_DOUBLE_BOUNCE | MSGF_INTERNAL)) ==
		   (MSGF_DOUBLE_BOUNCE | MSGF_INTERNAL),
	   "of ours, which never bounces");
	content_of(&new_msg, &text);
	ok(has(&text, "SMTP client: errors from mx.x[192.0.2.1]:25\r\n") &&
		   has(&text, "\r\nUnexpected response from mx.x[192.0.2.1]:25.\r\n") &&
		   has(&text, "\r\n Out: WHAT ?\r\n In:  500 no\r\n"),
	   "says what was said");
	rig.count = 0;
	notify_of_peer(&rig.r, rec.p, rec.len - 1);
	rig_settle();
	ok(find(PROTO_NEW) == NULL, "a damaged record is no notice");
	buf_fini(&rec);
	buf_fini(&text);
}

static void test_no_bounce(void)
{
	const struct proto_bounced *d;
	struct buf text = BUF_INIT;

	submit("joe@x.test", "r@far.test", NOTIFY_NEVER, "A: b\r\n\r\n", 8, 4096);
	take_new();
	d = bounce(BOUNCE_FAILURE, (struct proto_jref){ 0, 0 });
	ok(d != NULL && d->status == 0 && find(PROTO_NEW) == NULL, "NOTIFY=NEVER");
	submit("joe@x.test", "r@far.test", NOTIFY_SUCCESS, "A: b\r\n\r\n", 8, 4096);
	take_new();
	d = bounce(BOUNCE_FAILURE, (struct proto_jref){ 0, 0 });
	ok(d != NULL && find(PROTO_NEW) == NULL, "NOTIFY=SUCCESS: no failure report");
	d = bounce(BOUNCE_SUCCESS, (struct proto_jref){ 0, 0 });
	ok(d != NULL && take_new(), "but a success report");
	content_of(&new_msg, &text);
	ok(has(&text, "Action: delivered") && has(&text, "Successful Mail Delivery Report"),
	   "success text");
	submit("", "r@far.test", 0, "A: b\r\n\r\n", 8, 4096);
	take_new();
	d = bounce(BOUNCE_DELAY, (struct proto_jref){ 0, 0 });
	ok(d != NULL && find(PROTO_NEW) == NULL, "no delay warning for a bounce");
	d = bounce(BOUNCE_FAILURE, (struct proto_jref){ 0, 0 });
	ok(d != NULL && take_new(), "a bounce that fails: postmaster (notify_classes has 2bounce)");
	ok(new_msg.flags & MSGF_DOUBLE_BOUNCE, "from the double bounce address");
	d = bounce(BOUNCE_FAILURE, (struct proto_jref){ 0, 0 });
	ok(d != NULL && d->status == 0 && find(PROTO_NEW) == NULL,
	   "a double bounce that fails: nothing more");
	ok(strstr(logged, "undeliverable postmaster notification discarded") != NULL, "logged");
	new_msg.qid.time_us++;
	d = bounce(BOUNCE_FAILURE, (struct proto_jref){ 0, 0 });
	ok(d != NULL && d->status == 0, "message is gone: nobody to tell");
	buf_fini(&text);
}

int main(void)
{
	log_set_sink(sink, NULL);
	if (!ok(rig_open("relayhost = [192.0.2.9]:25\nmydestination =\nhopcount_limit = 50\n"
			 "notify_classes = resource, software, 2bounce\n") == 0,
		"opened") ||
	    !ok(rig_attach(4) == 0, "attached")) {
		printf("# %s\n", logged);
		return tap_done();
	}
	rig_turn(0);
	test_submit();
	test_refused();
	test_waiting();
	test_shares();
	test_shed();
	test_hostile();
	test_idset();
	test_load();
	test_load_large();
	test_copy(2000);
	test_copy(900000);
	test_bounces();
	test_peer_notice();
	test_no_bounce();
	rig_detach();
	rig_close();
	return tap_done();
}
