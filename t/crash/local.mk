# SPDX-License-Identifier: GPL-3.0-or-later
# The fault campaigns: stories (*.t) and what they start. Power cuts: root only, skipped otherwise.
# A longer run of one: t/crash/spool_cut -n 500 -f xfs
check_PROGRAMS += t/crash/spool_cut
UNIT_TESTS += t/crash/spool_cut
t_crash_spool_cut_SOURCES = t/crash/spool_cut.c
t_crash_spool_cut_LDADD = $(SPOOL_LIBS)
t_crash_spool_cut_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pwrite,--wrap=fdatasync,--wrap=fsync \
	-Wl,--wrap=fallocate,--wrap=ftruncate,--wrap=renameat,--wrap=renameat2,--wrap=unlinkat

EXTRA_DIST += t/crash/lib t/crash/00-oracle.t t/crash/00-prove.t scripts/proof
# Faults at system calls of a running system; see t/crash/inject.c.
check_PROGRAMS += t/crash/inject
t_crash_inject_SOURCES = t/crash/inject.c t/crash/inject_act.c t/crash/inject_ctl.c t/crash/inject_rule.c \
	t/crash/inject.h
t_crash_inject_LDADD = $(LIB_LIBS) $(SECCOMP_LIBS)
EXTRA_DIST += t/crash/00-inject.t
EXTRA_DIST += t/crash/11-in-doubt.t
EXTRA_DIST += t/crash/12-privileges.t
EXTRA_DIST += t/crash/05-shm-points.t
EXTRA_DIST += t/crash/03-kill-every-call.t
# Reordered and torn block writes; see t/crash/blocklog.h.
check_PROGRAMS += t/crash/blocklog t/crash/blockplay
t_crash_blocklog_SOURCES = t/crash/blocklog.c t/crash/blocklog.h
t_crash_blocklog_LDADD = $(LIB_LIBS)
t_crash_blockplay_SOURCES = t/crash/blockplay.c t/crash/blockimage.c t/crash/blockimage.h t/crash/blocklog.h
t_crash_blockplay_LDADD = $(SCHED_TEST_LIBS)
EXTRA_DIST += t/crash/02-block-replay.t
# A file system that keeps what was synced and no more; see t/crash/strictfs.c.
check_PROGRAMS += t/crash/strictfs
t_crash_strictfs_SOURCES = t/crash/strictfs.c t/crash/strictfs_tree.c t/crash/strictfs.h
t_crash_strictfs_LDADD = $(LIB_LIBS)
EXTRA_DIST += t/crash/00-found.t t/crash/04-error-every-call.t
# A queue of a million; see t/crash/make_queue.c.
check_PROGRAMS += t/crash/make_queue
t_crash_make_queue_SOURCES = t/crash/make_queue.c
t_crash_make_queue_LDADD = $(SPOOL_LIBS)
EXTRA_DIST += t/crash/10-big-queue.t
EXTRA_DIST += t/crash/06-taken-over.t
# Damage to a spool; see t/crash/spool_flip.c. At length: t/crash/spool_flip -a
check_PROGRAMS += t/crash/spool_flip
UNIT_TESTS += t/crash/spool_flip
t_crash_spool_flip_SOURCES = t/crash/spool_flip.c t/crash/spool_flip_how.c t/crash/spool_flip_text.c \
	t/crash/spool_flip.h
t_crash_spool_flip_LDADD = $(SCHED_TEST_LIBS)
# for the control, in which checksums say nothing
t_crash_spool_flip_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=crc32c
EXTRA_DIST += t/crash/08-corruption.t t/crash/13-submission.t
EXTRA_DIST += t/crash/01-power-cut.t t/crash/mutants
EXTRA_DIST += t/crash/07-clock.t
# Peers that stall; see t/crash/slow.c.
check_PROGRAMS += t/crash/slow
t_crash_slow_SOURCES = t/crash/slow.c
t_crash_slow_LDADD = $(LIB_LIBS)
check_PROGRAMS += t/crash/slowhop
t_crash_slowhop_SOURCES = t/crash/slowhop.c
t_crash_slowhop_LDADD = $(LIB_LIBS)
EXTRA_DIST += t/crash/09-hostile-peers.t
# Models and races; see t/model and t/stress.
EXTRA_DIST += t/crash/14-models.t t/crash/15-mailbox-files.t
