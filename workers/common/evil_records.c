/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The records of a taken-over worker; see evil.h. */
#include "workers/common/evil.h"

#ifdef PH_FAULT_POINTS

#include <string.h>
#include <time.h>

#include "lib/util.h"
#include "workers/common/evil_int.h"

/* Any ring we write to. */
static struct ring_prod *any_ring(void)
{
	size_t n = evil_rand() % (evil.b->peer_count + 1);
	const struct worker_peer *p = n == 0 ? NULL : evil.b->peers[n - 1];

	return p == NULL || p->link == NULL ? &evil.b->w->super.out : &p->link->out;
}

static void put(struct ring_prod *r, const void *rec, size_t len)
{
	ring_put(r, rec, len);
	ring_publish(r);
}

static void put_super(const void *rec, size_t len)
{
	put(&evil.b->w->super.out, rec, len);
}

/* Not what would settle an entry that is really ours: that harm is allowed for. */
static bool settles_ours(const char *rec, size_t len)
{
	uint64_t word;
	uint32_t kind;

	memcpy(&kind, rec, sizeof(kind));
	if ((kind != PROTO_RESULT && kind != PROTO_LOADED && kind != PROTO_BOUNCED) || len < 16)
		return kind == PROTO_COPIED || kind == PROTO_SUBMIT_DONE;
	memcpy(&word, rec + 8, sizeof(word));
	for (uint32_t i = 0; i < EVIL_RECS && i < evil.rec_count; i++) {
		if (evil.recs[i].len >= 16 && memcmp(evil.recs[i].bytes + 8, &word, 8) == 0)
			return true;
	}
	return false;
}

static size_t replayed(char *rec)
{
	const struct evil_rec *r =
		&evil.recs[evil_rand() % (evil.rec_count < EVIL_RECS ? evil.rec_count : EVIL_RECS)];

	memcpy(rec, r->bytes, r->len);
	for (uint64_t n = evil_rand() % 4; n > 0; n--) {
		uint64_t v = evil_value();

		memcpy(rec + (evil_rand() % (r->len / 4) * 4), &v, 4);
	}
	return r->len;
}

static size_t random_record(char *rec, size_t cap)
{
	uint32_t kind = (uint32_t)(evil_rand() % (PROTO_KIND_COUNT + 2));
	size_t len = 4 + evil_rand() % (evil_rand() % 4 == 0 ? cap - 4 : 160);

	for (size_t i = 0; i + 4 <= len; i += 4) {
		uint64_t v = evil_value();

		memcpy(rec + i, &v, 4);
	}
	memcpy(rec, &kind, sizeof(kind));
	return len;
}

void evil_record(void)
{
	static char rec[RING_RECORD_MAX];
	size_t len = evil.rec_count > 0 && evil_rand() % 2 == 0 ? replayed(rec)
								: random_record(rec, sizeof(rec));

	if (len >= 8 && !settles_ours(rec, len))
		put(any_ring(), rec, len);
}

/* ---- lies of a rewrite worker ---- */

static void define(void)
{
	struct {
		struct proto_dest d;
		char names[4 + 250];
	} r = { .d = { .kind = PROTO_DEST, .local_id = (uint32_t)(evil_rand() % 1048576) } };

	r.d.transport_len = 4;
	r.d.nexthop_len = (uint16_t)(evil_rand() % 250);
	memcpy(r.names, "smtp", 4);
	memset(r.names + 4, 'a' + (int)(evil_rand() % 26), 250);
	put_super(&r, sizeof(r.d) + r.d.transport_len + r.d.nexthop_len);
}

/* Mail that does not exist, at places that do. */
static void announce(bool open)
{
	struct {
		struct proto_new n;
		struct proto_entry e;
	} r = { .n = { .kind = PROTO_NEW,
		       .rcpt_count = 1,
		       .size = 500,
		       .entry_total = 1,
		       .entry_count = 1 } };
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	r.n.qid = (struct proto_qid){ .time_us = (uint64_t)t.tv_sec * 1000000 +
						 (uint64_t)t.tv_nsec / 1000 - evil.next,
				      .life = evil.b->w->life };
	r.n.place = (struct proto_place){ .seg = evil.grant[1],
					  .off8 = 512 + evil.next * 64,
					  .len = 512 };
	evil.next++;
	r.e = (struct proto_entry){ .dest = UINT32_MAX, .mask = 1 };
	if (open) {
		r.n.rcpt_count = r.n.entry_total = (uint32_t)(evil_rand() % 10000000) + 2;
		r.n.place.len = UINT32_MAX & ~7u;
	}
	put_super(&r, sizeof(r));
}

static void need(uint32_t kind, uint32_t file_kind)
{
	struct proto_file f = { .kind = kind,
				.file_kind = file_kind,
				.number = evil.grant[file_kind == SPOOL_SEGMENT],
				.bytes = evil_value() };

	put_super(&f, sizeof(f));
}

/* Takes what the supervisor answers, so that the ring does not stop us. */
static void read_super(void)
{
	static char rec[RING_RECORD_MAX];
	size_t len;

	while (ring_get(&evil.b->w->super.in, rec, sizeof(rec), &len) == 1)
		evil_saw(rec, len);
	ring_release(&evil.b->w->super.in);
}

/* A word that this life could have had. */
static uint64_t some_word(unsigned state)
{
	return (uint64_t)state << 56 | (uint64_t)(evil.b->w->life & 0xffffff) << 32 |
	       (evil_rand() % 2 == 0 ? 0xfffffff0u : 0u) | (uint32_t)(evil_rand() % 8);
}

static void answer_foreign(void)
{
	struct proto_result res = { .kind = PROTO_RESULT,
				    .word = some_word((unsigned)(evil_rand() % 12)),
				    .entry = (uint32_t)(evil_rand() % 4096),
				    .sent = evil_value() };
	struct {
		struct proto_loaded l;
		struct proto_entry e;
	} loaded = { .l = { .kind = PROTO_LOADED,
			    .status = (uint32_t)(evil_rand() % 4),
			    .word = res.word,
			    .entry = res.entry,
			    .entry_count = 1 },
		     .e = { .dest = UINT32_MAX, .mask = evil_value() } };
	struct proto_bounced b = { .kind = PROTO_BOUNCED, .word = res.word, .entry = res.entry };

	if (evil.who != CLASS_REWRITE)
		put_super(&res, sizeof(res));
	else if (evil_rand() % 2 == 0)
		put_super(&loaded, sizeof(loaded));
	else
		put_super(&b, sizeof(b));
}

static void lie_to_supervisor(void)
{
	read_super();
	switch (evil_rand() % (evil.page->seed % 2 == 0 ? 6 : 3)) {
	case 0:
		need(PROTO_FILE_NEED, evil.who == CLASS_REWRITE ? SPOOL_SEGMENT : SPOOL_JOURNAL);
		break;
	case 1:
		need(PROTO_FILE_CLOSED, evil.who == CLASS_REWRITE ? SPOOL_SEGMENT : SPOOL_JOURNAL);
		break;
	case 2:
	case 3:
		if (evil.who == CLASS_REWRITE && evil_rand() % 8 == 0)
			announce(evil_rand() % 64 == 0);
		else if (evil.who == CLASS_REWRITE)
			define();
		break;
	default:
		answer_foreign();
	}
}

/* ---- lies of the others ---- */

static void submit(struct ring_prod *out)
{
	struct proto_submit s = { .kind = PROTO_SUBMIT,
				  .flags = (uint32_t)(evil_rand() % 8),
				  .session = (uint32_t)(evil_rand() % 64),
				  .tx = 1 + (uint32_t)(evil_rand() % 1000000),
				  .first_block = (uint32_t)(evil_rand() % 512),
				  .env_len = (uint32_t)(evil_rand() % 65536),
				  .data_len = (uint32_t)(evil_rand() % (32 << 20)),
				  .qid = { .time_us = 1 + evil_rand() % (1ull << 50),
					   .life = evil.b->w->life + (evil_rand() % 16 == 0) } };

	if ((s.flags & SUBMIT_BEGIN) == 0)
		s.env_len = 0;
	put(out, &s, sizeof(s));
}

static void verdict(struct ring_prod *out)
{
	struct {
		struct proto_submit_done d;
		char text[64];
	} r = { .d = { .kind = PROTO_SUBMIT_DONE,
		       .session = (uint32_t)(evil_rand() % 64),
		       .tx = (uint32_t)evil_rand(), /* hits one of the millions it does not have */
		       .verdict = (uint16_t)(evil_rand() % 6),
		       .code = (uint16_t)evil_rand(),
		       .text_len = 64 },
		.text = "x\r\n250 2.0.0 Ok: queued as FORGED\r\n" };
	struct proto_submit_free f = { .kind = PROTO_SUBMIT_FREE,
				       .first_block = (uint32_t)(evil_rand() % 8192),
				       .session = r.d.session,
				       .tx = r.d.tx };

	if (evil_rand() % 2 == 0)
		put(out, &r, sizeof(r));
	else
		put(out, &f, sizeof(f));
}

static void answer_dns(struct ring_prod *out)
{
	struct {
		struct proto_dns_answer a;
		unsigned char rdata[600];
	} r = { .a = { .kind = PROTO_DNS_ANSWER,
		       .id = (uint32_t)(evil_rand() % 4096),
		       .status = (uint16_t)(evil_rand() % 7),
		       .rrtype = (uint16_t)(evil_rand() % 60),
		       .rr_count = (uint16_t)(evil_rand() % 200),
		       .ttl_s = (uint32_t)evil_value() } };

	for (size_t i = 0; i < sizeof(r.rdata); i++)
		r.rdata[i] = (unsigned char)evil_rand();
	put(out, &r, sizeof(r.a) + evil_rand() % sizeof(r.rdata));
}

static void ask_dns(struct ring_prod *out)
{
	struct {
		struct proto_dns_query q;
		char name[40];
	} r = { .q = { .kind = PROTO_DNS_QUERY,
		       .id = (uint32_t)evil_rand(),
		       .rrtype = (uint16_t)(evil_rand() % 60),
		       .name_len = 40 } };

	for (size_t i = 0; i < sizeof(r.name); i++)
		r.name[i] = (char)('a' + evil_rand() % 26);
	memcpy(r.name + 30, ".sink.test", 10);
	put(out, &r, sizeof(r));
}

static void lie_to_peer(void)
{
	const struct worker_peer *p = evil.b->peers[evil_rand() % evil.b->peer_count];

	if (p == NULL || p->link == NULL)
		return;
	if (p->class_id == CLASS_RESOLVER)
		ask_dns(&p->link->out);
	else if (evil.who == CLASS_RESOLVER)
		answer_dns(&p->link->out);
	else if (evil.who == CLASS_REWRITE)
		verdict(&p->link->out);
	else if (evil.who == CLASS_SMTP_IN)
		submit(&p->link->out);
}

void evil_lie(void)
{
	if (evil.b->peer_count > 0 && evil_rand() % 2 == 0)
		lie_to_peer();
	else if (evil.who == CLASS_REWRITE || evil.who == CLASS_DELIVER || evil.who == CLASS_LOCAL)
		lie_to_supervisor();
}

#endif
