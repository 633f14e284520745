/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Header section of a message; see workers/rewrite/header.h. Called by message.c. */
#include "workers/rewrite/header.h"

#include <string.h>

#include "lib/err.h"
#include "lib/mailaddr.h"
#include "lib/util.h"
#include "workers/mail/date.h"
#include "workers/rewrite/fromname.h"
#include "workers/rewrite/wire.h"

enum header_id {
	H_FROM,
	H_SENDER,
	H_REPLY_TO,
	H_TO,
	H_CC,
	H_BCC,
	H_DATE,
	H_MESSAGE_ID,
	H_RESENT_FROM,
	H_RESENT_SENDER,
	H_RESENT_REPLY_TO,
	H_RESENT_TO,
	H_RESENT_CC,
	H_RESENT_BCC,
	H_RESENT_DATE,
	H_RESENT_MESSAGE_ID,
	H_RECEIVED,
	H_APPARENTLY_TO,
	H_ERRORS_TO,
	H_RETURN_RECEIPT_TO,
	H_DISPOSITION,
	H_COUNT
};

#define BIT(id) (1u << (id))
#define NAME(literal)                                                                              \
	{                                                                                          \
		(literal), sizeof(literal) - 1                                                     \
	}

static const struct header_desc {
	struct sv name;
	bool address; /* holds addresses to complete */
	bool sender;  /* and they are senders, for canonical maps */
	bool resent;
} header_descs[H_COUNT] = {
	[H_FROM] = { .name = NAME("From"), .address = true, .sender = true },
	[H_SENDER] = { .name = NAME("Sender"), .address = true, .sender = true },
	[H_REPLY_TO] = { .name = NAME("Reply-To"), .address = true, .sender = true },
	[H_TO] = { .name = NAME("To"), .address = true },
	[H_CC] = { .name = NAME("Cc"), .address = true },
	[H_BCC] = { .name = NAME("Bcc"), .address = true },
	[H_DATE] = { .name = NAME("Date") },
	[H_MESSAGE_ID] = { .name = NAME("Message-Id") },
	[H_RESENT_FROM] = { .name = NAME("Resent-From"),
			    .address = true,
			    .sender = true,
			    .resent = true },
	[H_RESENT_SENDER] = { .name = NAME("Resent-Sender"),
			      .address = true,
			      .sender = true,
			      .resent = true },
	[H_RESENT_REPLY_TO] = { .name = NAME("Resent-Reply-To"), .address = true, .resent = true },
	[H_RESENT_TO] = { .name = NAME("Resent-To"), .address = true, .resent = true },
	[H_RESENT_CC] = { .name = NAME("Resent-Cc"), .address = true, .resent = true },
	[H_RESENT_BCC] = { .name = NAME("Resent-Bcc"), .address = true, .resent = true },
	[H_RESENT_DATE] = { .name = NAME("Resent-Date"), .resent = true },
	[H_RESENT_MESSAGE_ID] = { .name = NAME("Resent-Message-Id"), .resent = true },
	[H_RECEIVED] = { .name = NAME("Received") },
	[H_APPARENTLY_TO] = { .name = NAME("Apparently-To"), .address = true },
	[H_ERRORS_TO] = { .name = NAME("Errors-To"), .address = true, .sender = true },
	[H_RETURN_RECEIPT_TO] = { .name = NAME("Return-Receipt-To"),
				  .address = true,
				  .sender = true },
	[H_DISPOSITION] = { .name = NAME("Disposition-Notification-To"),
			    .address = true,
			    .sender = true },
};

static enum header_id find_header(struct sv name)
{
	for (unsigned i = 0; i < H_COUNT; i++) {
		if (header_descs[i].name.len == name.len &&
		    ascii_lower(header_descs[i].name.p[0]) == ascii_lower(name.p[0]) &&
		    sv_eq_nocase(header_descs[i].name, name))
			return (enum header_id)i;
	}
	return H_COUNT;
}

/* What was put out from `mark` on is not what came. */
static void note_lines(struct header_state *h, size_t mark)
{
	if (h->out->len > mark)
		h->longest = u64_max(h->longest, wire_longest_line((struct sv){
							 h->out->p + mark, h->out->len - mark }));
}

/* ---- missing headers ---- */

static bool is_missing(const struct header_state *h, enum header_id plain, enum header_id resent,
		       bool is_resent)
{
	return (h->seen & BIT(is_resent ? resent : plain)) == 0;
}

static void add_from(struct header_state *h, const char *prefix)
{
	struct sv sender = h->facts->sender(h->facts->sender_ctx);

	buf_add_str(h->out, prefix);
	buf_add_str(h->out, "From: ");
	if (sender.len > 0)
		from_value_add(h->facts->full_name, sender, h->rules->obsolete_from,
			       h->rules->name_charset, h->out);
	else
		buf_add_str(h->out, "MAILER-DAEMON");
	buf_add_str(h->out, "\r\n");
}

static void add_message_id(struct header_state *h, const char *prefix, bool resent)
{
	size_t at;
	char *keep = resent ? h->resent_message_id : h->message_id;

	buf_add_str(h->out, prefix);
	buf_add_str(h->out, "Message-Id: ");
	at = h->out->len;
	buf_add_c(h->out, '<');
	buf_add_sv(h->out, h->facts->qid);
	buf_add_c(h->out, '@');
	buf_add_sv(h->out, h->rules->myhostname);
	buf_add_c(h->out, '>');
	str_copy(keep, HEADER_MSGID_SIZE, (struct sv){ h->out->p + at, h->out->len - at });
	buf_add_str(h->out, "\r\n");
}

/* As Postfix: behind the headers the message has, in this order. */
static void add_missing(struct header_state *h)
{
	uint32_t resent_bits = 0,
		 visible = BIT(H_TO) | BIT(H_CC) | BIT(H_RESENT_TO) | BIT(H_RESENT_CC);
	size_t mark = h->out->len;
	bool resent;
	const char *prefix;

	if (!h->add)
		return;
	for (unsigned i = 0; i < H_COUNT; i++)
		resent_bits |= header_descs[i].resent ? BIT(i) : 0;
	resent = (h->seen & resent_bits) != 0;
	prefix = resent ? "Resent-" : "";
	if (is_missing(h, H_MESSAGE_ID, H_RESENT_MESSAGE_ID, resent))
		add_message_id(h, prefix, resent);
	if (is_missing(h, H_DATE, H_RESENT_DATE, resent)) {
		buf_add_str(h->out, prefix);
		buf_add_str(h->out, "Date: ");
		mail_date_add(h->facts->arrival_s, h->out);
		buf_add_str(h->out, "\r\n");
	}
	if (is_missing(h, H_FROM, H_RESENT_FROM, resent))
		add_from(h, prefix);
	if ((h->seen & visible) == 0 && h->rules->undisclosed.len > 0) {
		buf_add_sv(h->out, h->rules->undisclosed);
		buf_add_str(h->out, "\r\n");
	}
	note_lines(h, mark);
}

/* ---- one logical header ---- */

static bool is_dropped(const struct header_rules *r, struct sv name)
{
	for (size_t i = 0; i < r->drop_count; i++) {
		if (sv_eq_nocase(r->drop[i], name))
			return true;
	}
	return false;
}

static void note_id(char *keep, struct sv value)
{
	size_t n;

	if (keep[0] != '\0')
		return;
	value = sv_trim(value);
	str_copy(keep, HEADER_MSGID_SIZE, value);
	/* a folded id is logged as one line */
	n = strlen(keep);
	for (size_t i = 0; i < n; i++) {
		if (keep[i] == '\r' || keep[i] == '\n')
			keep[i] = ' ';
	}
}

struct header_mapping { /* one header's addresses on their way through the tables */
	struct header_state *h;
	enum mapping_use use;
};

static struct sv map_address(void *ctx, struct sv addr)
{
	struct header_mapping *hm = ctx;
	struct sv out;
	int err = mapping_apply(hm->h->rules->mapping, hm->use, addr, hm->h->facts->arena, &out);

	if (err == 0)
		return out;
	hm->h->map_error = err;
	return addr;
}

/* The envelope sender as it stands in a From header. */
static void output_header(struct header_state *h, struct sv value, struct sv whole,
			  const struct header_desc *desc)
{
	size_t mark = h->out->len;
	struct header_mapping hm = {
		.h = h,
		.use = desc != NULL && desc->sender ? MAPPING_HEADER_SENDER
						    : MAPPING_HEADER_RECIPIENT,
	};
	bool map = !h->facts->no_mapping && mapping_acts(h->rules->mapping, hm.use);

	if (desc != NULL && desc->address && h->complete) {
		buf_add(h->out, whole.p, whole.len - value.len);
		if (addr_rewrite_header(&h->addr, value, map ? map_address : NULL, &hm, h->out)) {
			note_lines(h, mark);
			return;
		}
		h->out->len = mark;
	}
	buf_add_sv(h->out, whole);
}

/* What header_checks make of it; false: nothing is left. */
static bool check_header(struct header_state *h, struct sv *whole, size_t *name_len, size_t *colon)
{
	struct check_run *run = h->facts->checks;

	switch (checks_header(run, *whole)) {
	case CHECK_DROP:
		return false;
	case CHECK_REPLACED:
		*whole = buf_sv(&run->text);
		return mime_header_name(*whole, name_len, colon) == MIME_NAME_YES;
	case CHECK_KEEP:
		break;
	}
	return true;
}

/* `whole` is a logical header with its CRLFs; `name_len` and `colon` describe its first line. */
static void process_header(struct header_state *h, struct sv whole, size_t name_len, size_t colon)
{
	struct sv name = { whole.p, name_len }, value;
	enum header_id id = find_header(name);

	if (id == H_RECEIVED && ++h->received > h->rules->hopcount_limit)
		h->too_many_hops = true;
	if (h->facts->checks != NULL) {
		if (!check_header(h, &whole, &name_len, &colon))
			return;
		name = (struct sv){ whole.p, name_len };
		id = find_header(name);
	}
	value = (struct sv){ whole.p + colon + 1, whole.len - colon - 1 };
	if (id < H_COUNT)
		h->seen |= BIT(id);
	if (id == H_MESSAGE_ID)
		note_id(h->message_id, value);
	else if (id == H_RESENT_MESSAGE_ID)
		note_id(h->resent_message_id, value);
	if (is_dropped(h->rules, name) && !h->facts->internal)
		return;
	output_header(h, value, whole, id < H_COUNT ? &header_descs[id] : NULL);
}

/*
 * What Postfix keeps of a header that is too long: its whole lines within the limit when they are
 * nine tenths of it, else the limit's worth of bytes. A line end counts as one byte.
 */
static size_t long_header_end(struct sv whole, size_t limit)
{
	size_t at = 0, counted = 0;

	while (at < whole.len) {
		const char *nl = memchr(whole.p + at, '\n', whole.len - at);
		size_t next = nl != NULL ? (size_t)(nl + 1 - whole.p) : whole.len;
		size_t len = nl != NULL ? next - at - 2 : next - at;

		if (counted + len > limit) {
			bool most_is_there = counted * 10 > limit * 9;

			return most_is_there ? at : at + limit - counted;
		}
		counted += len + 1;
		at = next;
	}
	return whole.len;
}

/* What is left of a header goes on, within the limit. */
static void process_kept(struct header_state *h, struct buf *kept)
{
	size_t name_len, colon;

	kept->len = long_header_end(buf_sv(kept), h->rules->size_limit);
	if (kept->len < 2 || kept->p[kept->len - 1] != '\n')
		buf_add_str(kept, "\r\n");
	if (mime_header_name(buf_sv(kept), &name_len, &colon) == MIME_NAME_YES)
		process_header(h, buf_sv(kept), name_len, colon);
	buf_fini(kept);
}

static void process_long(struct header_state *h, struct sv whole)
{
	struct buf cut = BUF_INIT;

	buf_add_sv(&cut, whole);
	process_kept(h, &cut);
}

/* A header's line ends at a NUL in it, as with Postfix. */
static void process_nul(struct header_state *h, struct sv whole)
{
	struct buf cut = BUF_INIT;

	while (whole.len > 0) {
		const char *nl = memchr(whole.p, '\n', whole.len);
		size_t len = nl != NULL ? (size_t)(nl + 1 - whole.p) : whole.len;
		const char *nul = memchr(whole.p, '\0', len);

		buf_add(&cut, whole.p, nul != NULL ? (size_t)(nul - whole.p) : len);
		if (nul != NULL)
			buf_add_str(&cut, "\r\n");
		whole = (struct sv){ whole.p + len, whole.len - len };
	}
	process_kept(h, &cut);
}

/* "Name : value" goes on as "Name: value", as with Postfix. */
static void process_spaced(struct header_state *h, struct sv whole, size_t name_len, size_t colon)
{
	struct buf tight = BUF_INIT;

	buf_add(&tight, whole.p, name_len);
	buf_add(&tight, whole.p + colon, whole.len - colon);
	process_header(h, buf_sv(&tight), name_len, name_len);
	buf_fini(&tight);
}

static void process(struct header_state *h, struct sv whole, size_t name_len, size_t colon)
{
	if (memchr(whole.p, '\0', whole.len) != NULL)
		process_nul(h, whole);
	else if (whole.len > h->rules->size_limit)
		process_long(h, whole);
	else if (colon > name_len)
		process_spaced(h, whole, name_len, colon);
	else
		process_header(h, whole, name_len, colon);
}

/* ---- bytes ---- */

/* The header section is over; `bad`: by this line of the body, else by an empty one, which is
 * taken.
 */
static void finish(struct header_state *h, struct sv bad)
{
	bad = bad.len == 0 ? h->facts->bad_end : bad;
	bool blank = bad.len == 0;

	h->done = true;
	add_missing(h);
	if (!blank && h->facts->checks != NULL) {
		size_t mark = h->out->len;

		checks_unended(h->facts->checks, bad);
		note_lines(h, mark);
	}
	buf_add_str(h->out, "\r\n");
	h->section_bytes = h->out->len;
	if (h->facts->checks != NULL)
		checks_headers_end(h->facts->checks, blank);
}

static void flush_carry(struct header_state *h)
{
	size_t name_len, colon;
	struct sv c = buf_sv(&h->carry);

	if (c.len == 0)
		return;
	if (mime_header_name(c, &name_len, &colon) == MIME_NAME_YES)
		process(h, c, name_len, colon);
	buf_reset(&h->carry);
	h->carry_is_header = false;
	h->line_open = false;
}

/* Keep bytes of an incomplete header, as many as may count; of the others only the last one is
 * looked at. */
static void carry_add(struct header_state *h, const char *p, size_t len)
{
	size_t limit = 2 * size_max(h->rules->size_limit, MIME_NAME_MAX_BYTES) + 2;

	buf_add(&h->carry, p, size_min(len, limit - size_min(limit, h->carry.len)));
	h->line_open = p[len - 1] != '\n';
}

/* The carried bytes turn out to be no header: they are the first line of the body. */
static void carry_is_body(struct header_state *h)
{
	finish(h, buf_sv(&h->carry));
	if (h->facts->checks != NULL)
		checks_body(h->facts->checks, buf_sv(&h->carry));
	else
		buf_add_sv(h->out, buf_sv(&h->carry));
	buf_reset(&h->carry);
}

/* Judge the carried first line as soon as that is possible. False: the header section is over. */
static bool judge_carry(struct header_state *h)
{
	size_t name_len, colon;

	if (h->carry_is_header)
		return true;
	if (h->carry.len == 2 && h->carry.p[0] == '\r' && h->carry.p[1] == '\n') {
		buf_reset(&h->carry);
		finish(h, (struct sv){ "", 0 });
		return false;
	}
	if (h->carry.len == 1 && h->carry.p[0] == '\r')
		return true;
	switch (mime_header_name(buf_sv(&h->carry), &name_len, &colon)) {
	case MIME_NAME_YES:
		h->carry_is_header = true;
		return true;
	case MIME_NAME_MAYBE:
		return true;
	case MIME_NAME_NO:
		break;
	}
	carry_is_body(h);
	return false;
}

/* Go on with a header that began in an earlier piece. Returns bytes taken; the carry is empty or
 * the piece is used up afterwards. */
static size_t feed_carry(struct header_state *h, const char *data, size_t len)
{
	size_t pos = 0;

	while (pos < len) {
		const char *nl;
		size_t n;

		if (!h->line_open && data[pos] != ' ' && data[pos] != '\t') {
			flush_carry(h);
			return pos;
		}
		nl = memchr(data + pos, '\n', len - pos);
		n = nl == NULL ? len - pos : (size_t)(nl + 1 - data) - pos;
		if (!h->carry_is_header) /* few bytes at a time: no header name is longer */
			n = size_min(n, MIME_NAME_MAX_BYTES + 2);
		carry_add(h, data + pos, n);
		pos += n;
		if (!judge_carry(h))
			return pos;
	}
	return pos;
}

/* End of the logical header that starts at `start`: the place of the first byte behind it, or 0
 * when the piece ends before that is known. */
static size_t logical_end(const char *data, size_t start, size_t len)
{
	size_t pos = start;

	for (;;) {
		const char *nl = memchr(data + pos, '\n', len - pos);

		if (nl == NULL)
			return 0;
		pos = (size_t)(nl + 1 - data);
		if (pos == len)
			return 0;
		if (data[pos] != ' ' && data[pos] != '\t')
			return pos;
	}
}

size_t header_feed(struct header_state *h, const char *data, size_t len)
{
	size_t pos = 0;

	while (pos < len && !h->done) {
		size_t end, name_len, colon;
		enum mime_name v;

		if (h->carry.len > 0) {
			pos += feed_carry(h, data + pos, len - pos);
			continue;
		}
		if (data[pos] == '\r' && pos + 1 < len && data[pos + 1] == '\n') {
			finish(h, (struct sv){ "", 0 });
			return pos + 2;
		}
		v = mime_header_name((struct sv){ data + pos, len - pos }, &name_len, &colon);
		if (v == MIME_NAME_NO && data[pos] != '\r') {
			finish(h, (struct sv){ data + pos, len - pos });
			return pos;
		}
		end = v == MIME_NAME_YES ? logical_end(data, pos, len) : 0;
		if (end == 0) {
			h->carry_is_header = v == MIME_NAME_YES;
			carry_add(h, data + pos, len - pos);
			return len;
		}
		process(h, (struct sv){ data + pos, end - pos }, name_len, colon);
		pos = end;
	}
	return pos;
}

static void add_prepended(struct header_state *h)
{
	size_t mark = h->out->len;

	for (size_t i = 0; i < h->facts->prepend_count; i++) {
		struct sv line = h->facts->prepend[i];

		if (line.len == 0)
			continue;
		if (line.p[0] == '.')
			buf_add_c(h->out, '.');
		buf_add_sv(h->out, line);
		buf_add_str(h->out, "\r\n");
	}
	note_lines(h, mark);
}

void header_begin(struct header_state *h, const struct header_rules *rules,
		  const struct header_facts *facts, struct buf *out)
{
	struct buf carry = h->carry;

	*h = (struct header_state){ .rules = rules, .facts = facts, .out = out, .carry = carry };
	buf_reset(&h->carry);
	h->complete = !facts->internal && (facts->local || rules->remote_domain.len > 0);
	h->add = !facts->internal &&
		 (facts->local || rules->remote_domain.len > 0 || rules->always_add_missing);
	h->addr = rules->addr;
	if (!facts->local && rules->remote_domain.len > 0) {
		h->addr.myorigin = rules->remote_domain;
		h->addr.mydomain = rules->remote_domain;
	}
	add_prepended(h);
}

void header_end(struct header_state *h)
{
	if (h->done)
		return;
	flush_carry(h);
	add_missing(h);
	h->section_bytes = h->out->len;
	h->done = true;
}

void header_fini(struct header_state *h)
{
	buf_fini(&h->carry);
}

void header_drop_list(const char *text, struct header_rules *rules)
{
	rules->drop_count = 0;
	while (*text != '\0' && rules->drop_count < HEADER_DROP_MAX) {
		size_t skip = strspn(text, ", \t\r\n"), n;

		text += skip;
		n = strcspn(text, ", \t\r\n:");
		if (n > 0)
			rules->drop[rules->drop_count++] = (struct sv){ text, n };
		text += n;
		text += *text == ':';
	}
}
