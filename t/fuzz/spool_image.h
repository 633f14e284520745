/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * For the spool targets: a small sound spool in memory, put on disk (in memory, /dev/shm, where
 * that exists) for each input after its patches.
 */
#ifndef PH_T_FUZZ_SPOOL_IMAGE_H
#define PH_T_FUZZ_SPOOL_IMAGE_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"
#include "t/fuzz/patch.h"
#include "workers/mail/envelope.h"
#include "workers/spool/outcome.h"

#define IMAGE_NUMBER    7u
#define IMAGE_NONCE     0x0123456789abcdefull
#define IMAGE_SEG_BYTES (4u * SPOOL_PAGE)
#define IMAGE_RECORDS   5u

struct spool_image {
	char dir[64];
	struct spool_dirs dirs;
	char seg[IMAGE_SEG_BYTES];
	struct spool_row idx[IMAGE_RECORDS + 2]; /* [0] is the head */
	struct buf jnl;
	struct proto_place place[IMAGE_RECORDS];
};

static inline uint64_t image_off(const struct spool_image *m, unsigned k)
{
	return (uint64_t)m->place[k].off8 * SPOOL_ALIGN;
}

/* Record k at `off`; returns the byte behind it. */
static inline uint64_t image_record(struct spool_image *m, unsigned k, uint64_t off, bool env_last,
				    size_t content_len)
{
	struct envelope e = { .sender = SV("s@x.example"), .bounce_of = SV("4a 0 1 0") };
	struct spool_record h = { .seg = IMAGE_NUMBER,
				  .flags = MSGF_INTERNAL | (env_last ? SPOOL_ENV_LAST : 0),
				  .qid_us = 1700000000000000u + k,
				  .qid_life = 5,
				  .rcpt_count = 1,
				  .content_len = content_len,
				  .nonce = IMAGE_NONCE };
	struct buf env = BUF_INIT;
	char *p = m->seg + off + sizeof(h);

	ASSERT(env_encode(&e, &env) == 0);
	h.env_len = (uint32_t)env.len;
	memcpy(env_last ? p + content_len : p, env.p, env.len);
	memset(env_last ? p : p + env.len, 'A' + (int)k, content_len);
	spool_record_seal(&h, crc32c(0, p, env.len + content_len));
	memcpy(m->seg + off, &h, sizeof(h));
	uint64_t bytes = spool_record_bytes(env.len, content_len);

	m->place[k] = (struct proto_place){ .seg = IMAGE_NUMBER,
					    .off8 = (uint32_t)(off / SPOOL_ALIGN),
					    .len = (uint32_t)bytes };
	m->idx[k + 1] = (struct spool_row){ .magic = SPOOL_ROW_MAGIC,
					    .nonce = IMAGE_NONCE,
					    .qid_us = h.qid_us,
					    .qid_life = h.qid_life,
					    .off8 = m->place[k].off8,
					    .len = m->place[k].len,
					    .flags = h.flags,
					    .row = k };
	spool_row_seal(&m->idx[k + 1]);
	buf_fini(&env);
	return off + bytes;
}

static inline void image_journal(struct spool_image *m)
{
	struct spool_file_head head;
	struct outcome_reason reasons[2] = { { .mask = 1,
					       .dsn = { 4, 4, 1 },
					       .mta = SV("mx[10.0.0.1]"),
					       .text = SV("connect timed out"),
					       .diag = SV("450 busy") },
					     { .mask = 2, .dsn = { 5, 1, 1 } } };

	spool_head_fill(&head, SPOOL_JOURNAL_MAGIC, IMAGE_NUMBER, IMAGE_NONCE, 1);
	buf_add(&m->jnl, &head, sizeof(head));
	for (unsigned k = 0; k < 6; k++) {
		struct outcome o = { .kind = (uint8_t)(k % 3 + 1),
				     .qid = { 1000 + k, 5 },
				     .mask = 3,
				     .deferred = k % 2,
				     .transport = SV("smtp"),
				     .nexthop = SV("example.com"),
				     .reasons = reasons,
				     .reason_count = k % 3 };

		ASSERT(spool_outcome_encode(&o, IMAGE_NUMBER, IMAGE_NONCE, &m->jnl) == 0);
	}
}

static inline struct spool_image *image_make(void)
{
	static struct spool_image m;
	struct spool_file_head head;

	if (m.dir[0] != '\0')
		return &m;
	snprintf(m.dir, sizeof(m.dir), "%s/spool-fuzz-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	ASSERT(mkdtemp(m.dir) != NULL);
	ASSERT(spool_dirs_open(m.dir, true, &m.dirs) == 0);
	io_close(&m.dirs.corrupt); /* look only */
	spool_head_fill(&head, SPOOL_SEGMENT_MAGIC, IMAGE_NUMBER, IMAGE_NONCE, 1);
	memcpy(m.seg, &head, sizeof(head));
	uint64_t at = image_record(&m, 0, SPOOL_PAGE, false, 100);

	at = image_record(&m, 1, at, false, 0);
	image_record(&m, 2, at, false, 333);
	image_record(&m, 3, 2 * SPOOL_PAGE, true, 1500);
	image_record(&m, 4, 3 * SPOOL_PAGE, false, 50);
	spool_head_fill(&head, SPOOL_INDEX_MAGIC, IMAGE_NUMBER, IMAGE_NONCE, 1);
	memcpy(&m.idx[0], &head, sizeof(head));
	m.idx[IMAGE_RECORDS + 1] = (struct spool_row){ .magic = SPOOL_CLOSE_MAGIC,
						       .nonce = IMAGE_NONCE,
						       .row = IMAGE_RECORDS };
	spool_row_seal(&m.idx[IMAGE_RECORDS + 1]);
	image_journal(&m);
	return &m;
}

static inline void image_put(int dirfd, const char *suffix, const void *data, size_t len)
{
	char name[SPOOL_NAME_SIZE];
	int fd = openat(dirfd, spool_name(IMAGE_NUMBER, suffix, name),
			O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT(fd >= 0 && io_write_all(fd, data, len) == 0);
	close(fd);
}

static inline void image_end(void)
{
	struct spool_image *m = image_make();
	char *cmd = xasprintf("rm -rf %s", m->dir);

	if (system(cmd) != 0)
		fprintf(stderr, "# %s stays\n", m->dir);
	free(cmd);
}

#endif
