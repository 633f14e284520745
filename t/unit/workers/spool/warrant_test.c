/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Warrants: the key's file, what a code covers, and that outcomes and heads carry them. */
#include "t/unit/workers/spool/support.h"
#include "workers/spool/outcome.h"
#include "workers/spool/warrant.h"

static void test_file(void)
{
	struct fixture f;
	struct warrant_key a, b;

	fx_init(&f, 0, 0);
	is_int(warrant_key_open(&f.dirs, false, 5, &a), E_NOENT, "there is none");
	is_int(warrant_key_open(&f.dirs, true, 5, &a), 0, "it is made");
	is_int(warrant_key_open(&f.dirs, true, 9, &b), 0, "and read again");
	ok(memcmp(&a, &b, sizeof(a)) == 0 && b.first_file == 5, "as it was");
	is_int(warrant_key_open(&f.dirs, false, 0, &b), 0, "also by who makes none");
	struct stat st;

	ok(fstatat(f.dirs.root, "secret", &st, 0) == 0 && (st.st_mode & 0777) == 0600,
	   "nobody else can read it");
	int fd = openat(f.dirs.root, "secret", O_RDWR);
	char c;

	if (pread(fd, &c, 1, 30) != 1 || pwrite(fd, c == '0' ? "1" : "0", 1, 30) != 1)
		die("secret");
	close(fd);
	log_set_sink(log_sink, NULL);
	is_int(warrant_key_open(&f.dirs, false, 0, &b), E_CORRUPT, "damaged");
	is_int(warrant_key_open(&f.dirs, true, 9, &b), 0, "is made anew");
	ok(b.first_file == 9 && memcmp(a.key, b.key, sizeof(a.key)) != 0, "for later files");
	ok(strstr(logged, "damaged and made anew") != NULL, "which is said");
	log_set_sink(NULL, NULL);
	fx_fini(&f);
}

static struct outcome warranted(const struct warrant_key *k, uint32_t life, uint8_t kind)
{
	struct outcome o = { .kind = kind,
			     .qid = fx_qid(3),
			     .rcpt_first = 64,
			     .mask = 7,
			     .sent = 5,
			     .deferred = 2,
			     .warrant = { .order = (uint64_t)100 << WARRANT_LIFE_SHIFT | 77 } };
	struct warrant_of of = { .life = life,
				 .kind = life == 0 ? kind : OUTCOME_RESULT,
				 .rcpt_first = o.rcpt_first,
				 .mask = o.mask,
				 .done = life == 0 ? o.sent : 0,
				 .order = o.warrant.order,
				 .qid = o.qid };

	o.warrant.code = warrant_code(k, &of);
	return o;
}

static void test_codes(void)
{
	struct warrant_key k = { { 1, 2 }, 1 }, other = { { 1, 3 }, 1 };
	struct outcome o = warranted(&k, 200, OUTCOME_RESULT), x;
	uint32_t life;

	ok(warrant_holds(&k, 200, &o), "what the job was about");
	o.kind = OUTCOME_STARTED;
	ok(warrant_holds(&k, 200, &o), "its beginning, too");
	o.kind = OUTCOME_WITHDRAWN;
	ok(warrant_holds(&k, 200, &o), "and that it was given back");
	o.kind = OUTCOME_NOTIFIED;
	ok(!warrant_holds(&k, 200, &o), "not that it was reported");
	o.kind = OUTCOME_DELETED;
	ok(!warrant_holds(&k, 200, &o), "nor an operator's word");
	o.kind = OUTCOME_RESULT;
	ok(!warrant_holds(&k, 201, &o), "another life");
	ok(!warrant_holds(&k, 0, &o), "the supervisor");
	ok(!warrant_holds(&other, 200, &o), "another key");
	x = o, x.mask = 15;
	ok(!warrant_holds(&k, 200, &x), "more recipients");
	x = o, x.rcpt_first = 0;
	ok(!warrant_holds(&k, 200, &x), "other recipients");
	x = o, x.qid = fx_qid(4);
	ok(!warrant_holds(&k, 200, &x), "another message");
	x = o, x.warrant.order++;
	ok(!warrant_holds(&k, 200, &x), "a later attempt");
	x = o, x.warrant.code = 0;
	ok(!warrant_holds(&k, 200, &x), "no code");
	o = warranted(&k, 0, OUTCOME_DELETED);
	ok(warrant_holds(&k, 0, &o), "the supervisor's own");
	x = o, x.kind = OUTCOME_HELD;
	ok(!warrant_holds(&k, 0, &x), "of that kind");
	x = o, x.sent = 7;
	ok(!warrant_holds(&k, 0, &x), "and about those recipients");
	o = warranted(&k, 130, OUTCOME_RESULT);
	ok(warrant_find_life(&k, &o, &life) && life == 130, "the writer can be found");
	o.warrant.code++;
	ok(!warrant_find_life(&k, &o, &life), "if there is one");
	ok(warrant_file_code(&k, 5, 200) != warrant_file_code(&k, 5, 201) &&
		   warrant_file_code(&k, 5, 200) != warrant_file_code(&k, 6, 200),
	   "files have codes by number and life");
}

static void test_written(void)
{
	static const struct proto_warrant w = { 0x1122334455667788, 0x99aabbccddeeff00 };
	struct outcome_reason reasons[64], why = { .mask = 2, .text = SV("because") };
	struct outcome o = { .kind = OUTCOME_RESULT,
			     .qid = fx_qid(1),
			     .mask = 3,
			     .sent = 1,
			     .deferred = 2,
			     .report = 1,
			     .warrant = w,
			     .transport = SV("smtp"),
			     .nexthop = SV("example.org"),
			     .reasons = &why,
			     .reason_count = 1 };
	struct buf rec = BUF_INIT;
	struct outcome got;

	is_int(spool_outcome_encode(&o, 9, 4711, &rec), 0, "written");
	is_int(spool_outcome_decode(buf_sv(&rec), &got, reasons), 0, "read");
	ok(got.warrant.order == w.order && got.warrant.code == w.code, "with its warrant");
	ok(got.sent == 1 && got.deferred == 2 && got.report == 1 &&
		   sv_eq_str(got.nexthop, "example.org") && got.reason_count == 1 &&
		   sv_eq_str(got.reasons[0].text, "because"),
	   "and all else");
	buf_reset(&rec);
	o = (struct outcome){ .kind = OUTCOME_STARTED, .qid = fx_qid(1), .mask = 3, .warrant = w };
	is_int(spool_outcome_encode(&o, 9, 4711, &rec), 0, "a beginning");
	ok(spool_outcome_decode(buf_sv(&rec), &got, reasons) == 0 && got.warrant.code == w.code &&
		   got.sent == 0,
	   "has one, too");
	buf_reset(&rec);
	o.warrant = (struct proto_warrant){ 0, 0 };
	is_int(spool_outcome_encode(&o, 9, 4711, &rec), 0, "without");
	is_int(rec.len, 64, "it is as short as before");
	ok(spool_outcome_decode(buf_sv(&rec), &got, reasons) == 0 && got.warrant.order == 0,
	   "and read");
	buf_fini(&rec);
}

int main(void)
{
	test_file();
	test_codes();
	test_written();
	return tap_done();
}
