# SPDX-License-Identifier: GPL-3.0-or-later
EXTRA_DIST += t/unit/workers/spool/support.h t/unit/workers/spool/flip.h
SPOOL_TESTS = t/unit/workers/spool/writer_test t/unit/workers/spool/journal_test \
	t/unit/workers/spool/scan_test t/unit/workers/spool/state_test \
	t/unit/workers/spool/fault_test t/unit/workers/spool/postcat_test \
	t/unit/workers/spool/journal_scan_test t/unit/workers/spool/doubt_test \
	t/unit/workers/spool/segment_test t/unit/workers/spool/warrant_test \
	t/unit/workers/spool/journal_lanes_test
check_PROGRAMS += $(SPOOL_TESTS)
UNIT_TESTS += $(SPOOL_TESTS)
t_unit_workers_spool_segment_test_SOURCES = t/unit/workers/spool/segment_test.c
t_unit_workers_spool_segment_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_warrant_test_SOURCES = t/unit/workers/spool/warrant_test.c
t_unit_workers_spool_warrant_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_doubt_test_SOURCES = t/unit/workers/spool/doubt_test.c
t_unit_workers_spool_doubt_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_writer_test_SOURCES = t/unit/workers/spool/writer_test.c
t_unit_workers_spool_writer_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_journal_test_SOURCES = t/unit/workers/spool/journal_test.c
t_unit_workers_spool_journal_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_scan_test_SOURCES = t/unit/workers/spool/scan_test.c
t_unit_workers_spool_scan_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_state_test_SOURCES = t/unit/workers/spool/state_test.c
t_unit_workers_spool_state_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_fault_test_SOURCES = t/unit/workers/spool/fault_test.c
t_unit_workers_spool_fault_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_fault_test_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pwrite,--wrap=fdatasync \
	-Wl,--wrap=fsync,--wrap=fallocate
t_unit_workers_spool_postcat_test_SOURCES = t/unit/workers/spool/postcat_test.c
t_unit_workers_spool_postcat_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_journal_scan_test_SOURCES = t/unit/workers/spool/journal_scan_test.c
t_unit_workers_spool_journal_scan_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_journal_scan_test_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pwrite,--wrap=fdatasync
t_unit_workers_spool_journal_lanes_test_SOURCES = t/unit/workers/spool/journal_lanes_test.c
t_unit_workers_spool_journal_lanes_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_journal_lanes_test_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=fdatasync
