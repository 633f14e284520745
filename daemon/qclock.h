/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Queue time: the seconds that really passed, as far as anybody saw. The wall clock can be set,
 * also by years and back again; what waits in the queue must neither expire nor become due by that.
 * So the scheduler counts in queue seconds, which the monotonic clock moves, and stamps of the wall
 * clock are translated: a `span` is a time through which the wall clock ran without being set, with
 * the difference that held then. Steps of less than QCLOCK_STEP_MIN_S are taken for time that
 * passes.
 *
 * A restart goes on from what the last run wrote down (daemon/qclock_file.c). On the same boot the
 * boot clock tells how long nobody looked. On another one the wall clock is believed if it went
 * ahead, until it is set back: then what it had credited is taken back.
 * After a gap of QCLOCK_GAP_MIN_S or more nothing is too old before it has been tried again
 * (`back_s`): the network may be the last thing to come back.
 *
 * Called by the scheduler, recovery and the queue lists. All times in seconds.
 */
#ifndef PH_DAEMON_QCLOCK_H
#define PH_DAEMON_QCLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/qid.h"

#define QCLOCK_SPANS      16
#define QCLOCK_STEP_MIN_S 60
#define QCLOCK_GAP_MIN_S  600
#define QCLOCK_BOOT_SIZE  40

struct qspan {
	int64_t from_s, to_s; /* wall clock */
	int64_t off_s;        /* wall second minus queue second while it lasted */
	int64_t gap_s;        /* passed unseen before it, on the word of the wall clock alone */
};

/* What a run leaves to the next one: spans of its own queue time, the newest last. */
struct qclock_seen {
	int64_t wall_s, boot_ms; /* when it was written; clock_boot_ms() */
	char boot_id[QCLOCK_BOOT_SIZE];
	unsigned count;
	struct qspan span[QCLOCK_SPANS];
};

struct qclock {
	int64_t now_s;  /* queue time; never runs backwards, fits 32 bits for decades */
	int64_t wall_s; /* as of the last tick */
	int64_t back_s; /* when somebody began to look again after a gap; INT64_MIN = no gap */
	int64_t base_s, base_ms;
	unsigned count;
	struct qspan span[QCLOCK_SPANS];
};

/* `last` may be NULL: nothing is known. Returns the seconds by which the wall clock was set
 * meanwhile, 0 = it was not. */
int64_t qclock_init(struct qclock *c, const struct qclock_seen *last, const char *boot_id);
/* Reads clock_now() and clock_now_wall(); the seconds by which the wall clock was set, 0 = not. */
int64_t qclock_tick(struct qclock *c);
/* The queue second of a stamp of the wall clock: never later than now. A stamp that fits several
 * spans belongs to the newest of them. May be negative. */
int64_t qclock_of(const struct qclock *c, int64_t wall_s);
/* The queue second of a message's arrival. Ids of one worker grow also while the clock is behind,
 * so an id may lie in the future of its record (`commit_us`, 0 = not known). */
int64_t qclock_arrival(const struct qclock *c, struct qid id, int64_t commit_us);
/* What the wall clock says, as it goes now, at a queue second. */
int64_t qclock_wall(const struct qclock *c, int64_t queue_s);
void qclock_look(const struct qclock *c, const char *boot_id, struct qclock_seen *seen_r);

/* ---- daemon/qclock_file.c: the file `clock` in the queue directory ---- */
struct qclock_file {
	int fd; /* -1 = cannot be written; the queue goes on without */
	uint64_t sequence;
	char boot_id[QCLOCK_BOOT_SIZE];
};

/* Opens it, makes it if `create`. True when it could tell what the last run saw. */
bool qclock_file_open(struct qclock_file *f, int dirfd, bool create, struct qclock_seen *seen_r);
/* `sync`: the spans have changed. A minute more or less is not worth a sync. */
int qclock_file_write(struct qclock_file *f, const struct qclock *c, bool sync);
void qclock_file_close(struct qclock_file *f);

#endif
