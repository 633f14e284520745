/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Journal bytes. First byte of the input: 2 = checksums are made right after the patches, 4 = the
 * file is cut off. Recovery and the reader must survive anything, and agree.
 */
#include "t/fuzz/spool_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct journal_reader *reader;
	bool head_intact;
	unsigned count;
};

static int see(void *ctx, const struct outcome *o, struct proto_jref ref)
{
	struct seen *s = ctx;
	struct outcome again;
	struct outcome_reason reasons[SPOOL_REASON_MAX];
	struct buf mem = BUF_INIT;
	uint64_t sum = o->mask;

	ASSERT(ref.journal == IMAGE_NUMBER && o->reason_count <= SPOOL_REASON_MAX);
	for (size_t i = 0; i < o->reason_count; i++) {
		for (size_t k = 0; k < o->reasons[i].text.len; k++)
			sum += (unsigned char)o->reasons[i].text.p[k];
		sum += o->reasons[i].diag.len + o->reasons[i].mta.len;
	}
	int err = journal_read(s->reader, ref, &mem, &again, reasons);

	ASSERT(err == 0 || !s->head_intact);
	ASSERT(err != 0 || (again.mask == o->mask && again.kind == o->kind &&
			    again.reason_count == o->reason_count));
	s->count += 1 + (sum == 0xdeadbeef);
	buf_fini(&mem);
	return 0;
}

static void reseal(char *jnl, size_t size)
{
	for (size_t off = sizeof(struct spool_file_head); off + 64 <= size;
	     off += SPOOL_OUTCOME_ALIGN) {
		struct spool_outcome h;

		memcpy(&h, jnl + off, sizeof(h));
		if (!spool_outcome_plausible(&h, IMAGE_NUMBER, NULL, size - off))
			continue;
		h.crc = 0;
		memcpy(jnl + off, &h, sizeof(h));
		h.crc = crc32c(0, jnl + off, h.len);
		memcpy(jnl + off, &h, sizeof(h));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spool_image *m = image_make();
	struct seen s = { .reader = journal_reader_new(&m->dirs, 1) };
	struct spool_scan_stats stats = { 0 };
	char *jnl = xmalloc(m->jnl.len);
	static bool registered;
	size_t len = m->jnl.len;

	if (!registered)
		atexit(image_end);
	registered = true;
	unsigned mode = size > 0 ? data[0] : 0;

	memcpy(jnl, m->jnl.p, m->jnl.len);
	if (size > 2) {
		fuzz_patch(jnl, m->jnl.len, data + 2, size - 2);
		if ((mode & 2) != 0)
			reseal(jnl, m->jnl.len);
		if ((mode & 4) != 0)
			len = len * data[1] / 256;
	}
	s.head_intact = memcmp(jnl, m->jnl.p, sizeof(struct spool_file_head)) == 0;
	image_put(m->dirs.journal, "jnl", jnl, len);
	ASSERT(spool_scan_journal(&m->dirs, IMAGE_NUMBER, see, &s, &stats) == 0);
	ASSERT(s.count >= stats.outcomes);
	ASSERT(memcmp(jnl, m->jnl.p, m->jnl.len) != 0 || len != m->jnl.len || s.count == 6);
	free(jnl);
	journal_reader_free(&s.reader);
	return 0;
}
