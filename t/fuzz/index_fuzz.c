/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Index bytes beside a sound segment. First byte of the input: 2 = rows are given right checksums.
 * Without that, no index may hide a record; with it, places must still be inside the file.
 */
#include "t/fuzz/spool_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int see(void *ctx, const struct spool_found *f)
{
	bool *record = ctx;
	uint64_t off = (uint64_t)f->place.off8 * SPOOL_ALIGN;

	ASSERT(off >= SPOOL_FIRST_OFF && f->place.len >= sizeof(struct spool_record));
	ASSERT(off + f->place.len <= IMAGE_SEG_BYTES);
	for (unsigned k = 0; k < IMAGE_RECORDS; k++) {
		if (memcmp(&f->place, &image_make()->place[k], sizeof(f->place)) == 0)
			record[k] = true;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spool_image *m = image_make();
	struct spool_row idx[ARRAY_LEN(m->idx)];
	bool record[IMAGE_RECORDS] = { false };
	struct spool_scan_stats stats = { 0 };
	static bool registered;
	size_t len = sizeof(idx);

	if (!registered)
		atexit(image_end);
	registered = true;
	unsigned mode = size > 0 ? data[0] : 0;

	memcpy(idx, m->idx, sizeof(idx));
	if (size > 2) {
		fuzz_patch(idx, sizeof(idx), data + 2, size - 2);
		if ((mode & 4) != 0)
			len = data[1] * 2u % sizeof(idx);
	}
	for (size_t i = 1; i < ARRAY_LEN(idx) && (mode & 2) != 0; i++)
		spool_row_seal(&idx[i]);
	image_put(m->dirs.seg, "seg", m->seg, sizeof(m->seg));
	image_put(m->dirs.seg, "idx", idx, len);
	ASSERT(spool_scan_segment(&m->dirs, IMAGE_NUMBER, 0, see, record, &stats) == 0);
	for (unsigned k = 0; k < IMAGE_RECORDS && (mode & 2) == 0; k++)
		ASSERT(record[k]);
	return 0;
}
