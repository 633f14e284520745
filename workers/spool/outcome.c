/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Outcome records by byte; see outcome.h and doc/spool-format.md. */
#include "workers/spool/outcome.h"

#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/util.h"

#define TEXT_MAX UINT16_MAX
#define KIND_MAX OUTCOME_EXPIRED

static uint16_t cut(size_t len)
{
	return (uint16_t)size_min(len, TEXT_MAX);
}

static void add_reason(const struct outcome_reason *r, struct buf *out)
{
	struct spool_reason h = { .mask = r->mask,
				  .dsn = { r->dsn[0], r->dsn[1], r->dsn[2] },
				  .mta_len = cut(r->mta.len),
				  .text_len = cut(r->text.len),
				  .diag_len = cut(r->diag.len) };

	buf_add(out, &h, sizeof(h));
	buf_add(out, r->mta.p, h.mta_len);
	buf_add(out, r->text.p, h.text_len);
	buf_add(out, r->diag.p, h.diag_len);
}

static uint8_t masks_of(const struct outcome *o)
{
	unsigned masks = o->report != 0 ? 2 : (o->sent | o->deferred | o->bounced) != 0;

	return (uint8_t)(masks | (o->warrant.order != 0 ? SPOOL_WARRANTED : 0));
}

/* sent, deferred, bounced; and report */
static size_t masks_size(unsigned masks)
{
	return (masks > 1 ? 4 : 3) * sizeof(uint64_t);
}

int spool_outcome_encode(const struct outcome *o, uint32_t journal, uint64_t nonce, struct buf *out)
{
	size_t start = out->len;
	struct spool_outcome h = { .magic = SPOOL_OUTCOME_MAGIC,
				   .journal = journal,
				   .nonce = nonce,
				   .kind = o->kind,
				   .reason_count = (uint8_t)o->reason_count,
				   .transport_len = cut(o->transport.len),
				   .nexthop_len = cut(o->nexthop.len),
				   .masks = masks_of(o),
				   .unsure = o->unsure,
				   .qid_us = o->qid.time_us,
				   .qid_life = o->qid.life,
				   .rcpt_first = o->rcpt_first,
				   .mask = o->mask,
				   .when_us = o->when_us };

	if (o->reason_count > SPOOL_REASON_MAX)
		return E_INVAL;
	buf_add(out, &h, sizeof(h));
	if (o->warrant.order != 0)
		buf_add(out, &o->warrant, sizeof(o->warrant));
	if ((h.masks & ~SPOOL_WARRANTED) != 0) {
		uint64_t masks[4] = { o->sent, o->deferred, o->bounced, o->report };

		buf_add(out, masks, masks_size(h.masks & ~SPOOL_WARRANTED));
	}
	buf_add(out, o->transport.p, h.transport_len);
	buf_add(out, o->nexthop.p, h.nexthop_len);
	for (size_t i = 0; i < o->reason_count; i++)
		add_reason(&o->reasons[i], out);
	size_t len = align_up(out->len - start, SPOOL_OUTCOME_ALIGN);

	if (len > SPOOL_OUTCOME_MAX) {
		out->len = start;
		return E_LIMIT;
	}
	while (out->len - start < len)
		buf_add_c(out, '\0');
	h.len = (uint32_t)len;
	memcpy(out->p + start, &h, sizeof(h));
	h.crc = crc32c(0, out->p + start, len);
	memcpy(out->p + start, &h, sizeof(h));
	return 0;
}

bool spool_outcome_plausible(const struct spool_outcome *h, uint32_t journal, const uint64_t *nonce,
			     uint64_t room)
{
	return h->magic == SPOOL_OUTCOME_MAGIC && h->journal == journal &&
	       (nonce == NULL || h->nonce == *nonce) && h->len >= sizeof(*h) && h->len <= room &&
	       h->len <= SPOOL_OUTCOME_MAX && h->len % SPOOL_OUTCOME_ALIGN == 0;
}

static bool take(struct sv *rest, size_t len, struct sv *out)
{
	if (len > rest->len)
		return false;
	*out = (struct sv){ rest->p, len };
	rest->p += len;
	rest->len -= len;
	return true;
}

static bool take_reason(struct sv *rest, struct outcome_reason *r)
{
	struct spool_reason h;
	struct sv fixed;

	if (!take(rest, sizeof(h), &fixed))
		return false;
	memcpy(&h, fixed.p, sizeof(h));
	*r = (struct outcome_reason){ .mask = h.mask, .dsn = { h.dsn[0], h.dsn[1], h.dsn[2] } };
	return take(rest, h.mta_len, &r->mta) && take(rest, h.text_len, &r->text) &&
	       take(rest, h.diag_len, &r->diag);
}

static bool crc_ok(struct sv rec, struct spool_outcome h)
{
	uint32_t want = h.crc;

	h.crc = 0;
	return crc32c(crc32c(0, &h, sizeof(h)), rec.p + sizeof(h), rec.len - sizeof(h)) == want;
}

int spool_outcome_decode(struct sv rec, struct outcome *o, struct outcome_reason reasons[64])
{
	struct spool_outcome h;
	uint64_t masks[4] = { 0, 0, 0, 0 };
	struct proto_warrant warrant = { 0, 0 };
	struct sv fixed;

	if (rec.len < sizeof(h))
		return E_CORRUPT;
	memcpy(&h, rec.p, sizeof(h));
	if (h.len != rec.len || !crc_ok(rec, h))
		return E_CORRUPT;
	if (h.kind == 0 || h.kind > KIND_MAX || h.reason_count > SPOOL_REASON_MAX)
		return E_CORRUPT;
	rec.p += sizeof(h);
	rec.len -= sizeof(h);
	if ((h.masks & SPOOL_WARRANTED) != 0) {
		if (!take(&rec, sizeof(warrant), &fixed))
			return E_CORRUPT;
		memcpy(&warrant, fixed.p, sizeof(warrant));
		h.masks &= (uint8_t)~SPOOL_WARRANTED;
	}
	if (h.masks != 0) {
		if (!take(&rec, masks_size(h.masks), &fixed))
			return E_CORRUPT;
		memcpy(masks, fixed.p, fixed.len);
	}
	*o = (struct outcome){ .kind = h.kind,
			       .qid = { h.qid_us, h.qid_life },
			       .rcpt_first = h.rcpt_first,
			       .mask = h.mask,
			       .sent = masks[0],
			       .deferred = masks[1],
			       .bounced = masks[2],
			       .report = masks[3],
			       .unsure = h.unsure != 0,
			       .when_us = h.when_us,
			       .warrant = warrant,
			       .reasons = reasons,
			       .reason_count = h.reason_count };
	if (!take(&rec, h.transport_len, &o->transport) || !take(&rec, h.nexthop_len, &o->nexthop))
		return E_CORRUPT;
	for (size_t i = 0; i < o->reason_count; i++) {
		if (!take_reason(&rec, &reasons[i]))
			return E_CORRUPT;
	}
	return 0;
}
