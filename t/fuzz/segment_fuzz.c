/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Segment bytes. First byte of the input: 1 = the index is there too, 2 = checksums are made right
 * after the patches (so that what they guard is reached). Recovery and readers must survive
 * anything; a record that no patch touched must be found.
 */
#include "t/fuzz/spool_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	bool record[IMAGE_RECORDS];
	struct spool_reader *reader;
	bool by_index, honest;
};

static int see(void *ctx, const struct spool_found *f)
{
	struct seen *s = ctx;
	struct spool_record h;
	struct buf env = BUF_INIT, content = BUF_INIT;
	uint64_t off = (uint64_t)f->place.off8 * SPOOL_ALIGN;

	ASSERT(off >= SPOOL_FIRST_OFF && f->place.len >= sizeof(h));
	ASSERT(off + f->place.len <= IMAGE_SEG_BYTES);
	ASSERT((f->flags & SPOOL_ENV_LAST) == 0);
	int err = spool_read_head(s->reader, f->qid, f->place, true, &h, &env);

	ASSERT(err == 0 || err == E_CORRUPT);
	ASSERT(err == 0 || s->by_index); /* from the segment only what passes its checksum */
	if (err == 0) {
		ASSERT(env.len == h.env_len);
		ASSERT(spool_read_content(s->reader, &h, f->place, 0, (size_t)h.content_len,
					  &content) == 0);
	}
	for (unsigned k = 0; k < IMAGE_RECORDS; k++) {
		if (f->qid.time_us == 1700000000000000u + k &&
		    f->place.off8 == image_make()->place[k].off8)
			s->record[k] = true;
	}
	buf_fini(&env);
	buf_fini(&content);
	return 0;
}

/* Right checksums for whatever looks like a header. */
static void reseal(char *seg)
{
	struct spool_file_head head;

	memcpy(&head, seg, sizeof(head));
	head.crc = 0;
	head.crc = crc32c(0, &head, sizeof(head));
	memcpy(seg, &head, sizeof(head));
	for (size_t off = SPOOL_FIRST_OFF; off + 64 <= IMAGE_SEG_BYTES; off += SPOOL_ALIGN) {
		struct spool_record h;
		uint64_t bytes;

		memcpy(&h, seg + off, sizeof(h));
		if (!spool_record_plausible(&h, IMAGE_NUMBER, NULL, off, IMAGE_SEG_BYTES, &bytes))
			continue;
		spool_record_seal(&h, crc32c(0, seg + off + 64, h.env_len + h.content_len));
		memcpy(seg + off, &h, sizeof(h));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spool_image *m = image_make();
	static char seg[IMAGE_SEG_BYTES];
	static bool registered;
	struct seen s = { .reader = spool_reader_new(&m->dirs, 1) };
	struct spool_scan_stats stats = { 0 };

	if (!registered)
		atexit(image_end);
	registered = true;
	unsigned mode = size > 0 ? data[0] : 0;

	memcpy(seg, m->seg, sizeof(seg));
	if (size > 0)
		fuzz_patch(seg, sizeof(seg), data + 1, size - 1);
	if ((mode & 2) != 0)
		reseal(seg);
	s.by_index = (mode & 1) != 0;
	image_put(m->dirs.seg, "seg", seg, sizeof(seg));
	image_put(m->dirs.seg, "idx", m->idx, s.by_index ? sizeof(m->idx) : 0);
	ASSERT(spool_scan_segment(&m->dirs, IMAGE_NUMBER, 0, see, &s, &stats) == 0);
	for (unsigned k = 0; k < IMAGE_RECORDS && (mode & 2) == 0; k++) {
		uint64_t off = image_off(m, k);

		/* a head with another nonce that is right by chance cannot be in an input */
		ASSERT(s.record[k] || memcmp(seg + off, m->seg + off, m->place[k].len) != 0 ||
		       (memcmp(seg, m->seg, 64) != 0 && !s.by_index));
	}
	spool_reader_free(&s.reader);
	return 0;
}
