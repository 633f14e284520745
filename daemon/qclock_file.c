/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The file `clock` in the queue directory: what the supervisor last saw of the clocks. Two pages of
 * text that are written in turn, in place, each with its sequence and checksum, so that one of them
 * is whole whatever happens. Losing both costs the knowledge of former jumps, no mail.
 * Called by the scheduler.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/qclock.h"
#include "lib/crc32c.h"
#include "lib/err.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/util.h"

#define PAGE_BYTES 4096

static void read_boot_id(char out[QCLOCK_BOOT_SIZE])
{
	struct buf text = BUF_INIT;

	/* unknown: every start counts as one after a boot */
	snprintf(out, QCLOCK_BOOT_SIZE, "?");
	if (io_read_file("/proc/sys/kernel/random/boot_id", 64, &text) == 0 && text.len > 36)
		snprintf(out, QCLOCK_BOOT_SIZE, "%.36s", buf_cstr(&text));
	buf_fini(&text);
}

static void format(const struct qclock_seen *s, uint64_t sequence, char page[PAGE_BYTES])
{
	int n = snprintf(page, PAGE_BYTES,
			 "posthaste-clock 1\nsequence %" PRIu64 "\nwall %" PRId64 "\nboot %" PRId64
			 " %s\nspans %u\n",
			 sequence, s->wall_s, s->boot_ms, s->boot_id, s->count);

	for (unsigned i = 0; i < s->count; i++)
		n += snprintf(page + n, PAGE_BYTES - (size_t)n,
			      "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 "\n",
			      s->span[i].from_s, s->span[i].to_s, s->span[i].off_s,
			      s->span[i].gap_s);
	n += snprintf(page + n, PAGE_BYTES - (size_t)n, "crc32c %08x\n",
		      crc32c(0, page, (size_t)n));
	memset(page + n, '\n', PAGE_BYTES - (size_t)n);
}

static int parse(const char *page, struct qclock_seen *s, uint64_t *sequence_r)
{
	int n = 0, more;
	unsigned crc;

	memset(s, 0, sizeof(*s));
	if (sscanf(page,
		   "posthaste-clock 1\nsequence %" SCNu64 "\nwall %" SCNd64 "\nboot %" SCNd64
		   " %39s\nspans %u\n%n",
		   sequence_r, &s->wall_s, &s->boot_ms, s->boot_id, &s->count, &n) != 5 ||
	    n == 0 || s->count == 0 || s->count > QCLOCK_SPANS)
		return E_CORRUPT;
	for (unsigned i = 0; i < s->count; i++) {
		struct qspan *p = &s->span[i];

		more = 0;
		if (sscanf(page + n, "%" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64 "\n%n",
			   &p->from_s, &p->to_s, &p->off_s, &p->gap_s, &more) != 4 ||
		    more == 0)
			return E_CORRUPT;
		n += more;
	}
	if (sscanf(page + n, "crc32c %8x", &crc) != 1 || crc != crc32c(0, page, (size_t)n))
		return E_CORRUPT;
	return 0;
}

bool qclock_file_open(struct qclock_file *f, int dirfd, bool create, struct qclock_seen *seen_r)
{
	char page[PAGE_BYTES + 1];
	bool found = false;

	read_boot_id(f->boot_id);
	f->sequence = 0;
	f->fd = openat(dirfd, "clock",
		       (create ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->fd < 0) {
		if (create)
			log_warn("queue directory: clock: %s", err_str(err_errno()));
		return false;
	}
	for (int i = 0; i < 2; i++) {
		struct qclock_seen seen;
		uint64_t sequence;

		page[PAGE_BYTES] = '\0';
		if (io_pread_all(f->fd, page, PAGE_BYTES, (off_t)i * PAGE_BYTES) != 0 ||
		    parse(page, &seen, &sequence) != 0 || sequence < f->sequence)
			continue;
		f->sequence = sequence;
		*seen_r = seen;
		found = true;
	}
	return found;
}

int qclock_file_write(struct qclock_file *f, const struct qclock *c, bool sync)
{
	struct qclock_seen seen;
	char page[PAGE_BYTES];

	if (f->fd < 0)
		return 0;
	qclock_look(c, f->boot_id, &seen);
	f->sequence++;
	format(&seen, f->sequence, page);
	int err = io_pwrite_all(f->fd, page, sizeof(page), (off_t)(f->sequence % 2) * PAGE_BYTES);

	if (err == 0 && sync && fdatasync(f->fd) < 0)
		err = err_errno();
	return err;
}

void qclock_file_close(struct qclock_file *f)
{
	io_close(&f->fd);
}
