# SPDX-License-Identifier: GPL-3.0-or-later
check_PROGRAMS += t/unit/workers/spool/writer_test t/unit/workers/spool/journal_test
UNIT_TESTS += t/unit/workers/spool/writer_test t/unit/workers/spool/journal_test
EXTRA_DIST += t/unit/workers/spool/support.h
t_unit_workers_spool_writer_test_SOURCES = t/unit/workers/spool/writer_test.c
t_unit_workers_spool_writer_test_LDADD = $(SPOOL_LIBS)
t_unit_workers_spool_journal_test_SOURCES = t/unit/workers/spool/journal_test.c
t_unit_workers_spool_journal_test_LDADD = $(SPOOL_LIBS)
