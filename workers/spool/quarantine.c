/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Damaged records are kept for a human, in corrupt/QID as they were found; postcat prints them. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/err.h"
#include "lib/io.h"
#include "lib/util.h"
#include "workers/spool/format.h"

#define CHUNK 65536u

static int copy_bytes(int from, uint64_t off, uint64_t len, int to)
{
	char *chunk = xmalloc(CHUNK);
	int err = 0;

	while (len > 0 && err == 0) {
		ssize_t n = pread(from, chunk, (size_t)u64_min(len, CHUNK), (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			err = err_errno();
		if (n <= 0)
			break; /* the file ends before the record: keep what there is */
		err = io_write_all(to, chunk, (size_t)n);
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	free(chunk);
	return err;
}

static int keep_as(const struct spool_dirs *d, const char *as, struct proto_place place)
{
	char name[SPOOL_NAME_SIZE];
	int to = openat(d->corrupt, as, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (to < 0)
		return errno == EEXIST ? 0 : err_errno();
	int from = openat(d->seg, spool_name(place.seg, "seg", name),
			  O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int err = from < 0 ? err_errno()
			   : copy_bytes(from, (uint64_t)place.off8 * SPOOL_ALIGN, place.len, to);

	if (err == 0 && (fsync(to) < 0 || fsync(d->corrupt) < 0))
		err = err_errno();
	if (err != 0)
		unlinkat(d->corrupt, as, 0);
	io_close(&from);
	close(to);
	return err;
}

int spool_quarantine(const struct spool_dirs *d, struct qid id, struct proto_place place)
{
	char text[QID_TEXT_SIZE];

	return keep_as(d, qid_format(id, text), place);
}

int spool_quarantine_torn(const struct spool_dirs *d, struct qid id, struct proto_place place)
{
	char text[QID_TEXT_SIZE], name[QID_TEXT_SIZE + sizeof(SPOOL_TORN_SUFFIX)];

	snprintf(name, sizeof(name), "%s" SPOOL_TORN_SUFFIX, qid_format(id, text));
	return keep_as(d, name, place);
}

const char *spool_bytes_name(struct proto_place place, char out[SPOOL_BYTES_NAME_SIZE])
{
	snprintf(out, SPOOL_BYTES_NAME_SIZE, "%08x-%llu", place.seg,
		 (unsigned long long)place.off8 * SPOOL_ALIGN);
	return out;
}

int spool_quarantine_bytes(const struct spool_dirs *d, struct proto_place place)
{
	char name[SPOOL_BYTES_NAME_SIZE];

	return keep_as(d, spool_bytes_name(place, name), place);
}

int spool_count_quarantined(const struct spool_dirs *d, uint64_t *count_r)
{
	int fd = openat(d->corrupt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t torn = strlen(SPOOL_TORN_SUFFIX);
	uint64_t n = 0;

	if (dir == NULL) {
		int err = err_errno();

		io_close(&fd);
		return err;
	}
	for (struct dirent *e; (e = readdir(dir)) != NULL;) {
		size_t len = strlen(e->d_name);

		if (e->d_name[0] != '.' &&
		    (len < torn || strcmp(e->d_name + len - torn, SPOOL_TORN_SUFFIX) != 0))
			n++;
	}
	closedir(dir);
	*count_r = n;
	return 0;
}

bool spool_is_quarantined(const struct spool_dirs *d, struct qid id)
{
	char text[QID_TEXT_SIZE];

	return faccessat(d->corrupt, qid_format(id, text), F_OK, 0) == 0;
}
