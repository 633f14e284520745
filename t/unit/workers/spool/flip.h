/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Damage to records on disk, for tests. */
#ifndef PH_T_SPOOL_FLIP_H
#define PH_T_SPOOL_FLIP_H

#include <fcntl.h>
#include <unistd.h>

#include "lib/log.h"
#include "workers/spool/format.h"

/* Damages (or restores) byte `at` of a record. */
__attribute__((unused)) static void fx_flip(const struct spool_dirs *dirs, struct proto_place place,
					    uint64_t at)
{
	char name[SPOOL_NAME_SIZE], c;
	off_t pos = (off_t)((uint64_t)place.off8 * SPOOL_ALIGN + at);
	int fd = openat(dirs->seg, spool_name(place.seg, "seg", name), O_RDWR | O_CLOEXEC);

	if (fd < 0 || pread(fd, &c, 1, pos) != 1)
		die("cannot read the segment");
	c ^= 1;
	if (pwrite(fd, &c, 1, pos) != 1)
		die("cannot write the segment");
	close(fd);
}

#endif
