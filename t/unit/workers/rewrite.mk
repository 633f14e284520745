# SPDX-License-Identifier: GPL-3.0-or-later
# Tests of the rewrite and local workers.
check_PROGRAMS += t/unit/workers/deliverlog_test
UNIT_TESTS += t/unit/workers/deliverlog_test
t_unit_workers_deliverlog_test_SOURCES = t/unit/workers/deliverlog_test.c
t_unit_workers_deliverlog_test_LDADD = libph_worker.a $(LIB_LIBS)

check_PROGRAMS += t/unit/workers/message_test
UNIT_TESTS += t/unit/workers/message_test
t_unit_workers_message_test_SOURCES = t/unit/workers/message_test.c t/unit/workers/testconf.h
t_unit_workers_message_test_LDADD = $(REWRITE_LIBS)

check_PROGRAMS += t/unit/workers/message_tables_test
UNIT_TESTS += t/unit/workers/message_tables_test
t_unit_workers_message_tables_test_SOURCES = t/unit/workers/message_tables_test.c t/unit/workers/testconf.h
t_unit_workers_message_tables_test_LDADD = $(REWRITE_LIBS)

check_PROGRAMS += t/unit/workers/checks_test
UNIT_TESTS += t/unit/workers/checks_test
t_unit_workers_checks_test_SOURCES = t/unit/workers/checks_test.c t/unit/workers/testconf.h
t_unit_workers_checks_test_LDADD = $(REWRITE_LIBS)

check_PROGRAMS += t/unit/workers/mapping_test
UNIT_TESTS += t/unit/workers/mapping_test
t_unit_workers_mapping_test_SOURCES = t/unit/workers/mapping_test.c t/unit/workers/testconf.h
t_unit_workers_mapping_test_LDADD = $(REWRITE_LIBS)

check_PROGRAMS += t/unit/workers/maildir_test
UNIT_TESTS += t/unit/workers/maildir_test
t_unit_workers_maildir_test_SOURCES = t/unit/workers/maildir_test.c workers/local/maildir.c \
	workers/local/content.c workers/local/pool.c
t_unit_workers_maildir_test_LDADD = $(WORKER_LIBS)
t_unit_workers_maildir_test_DEPENDENCIES = workers/local/local $(noinst_LIBRARIES)

check_PROGRAMS += t/unit/workers/rewrite_test
UNIT_TESTS += t/unit/workers/rewrite_test
REWRITE_RIG = t/unit/workers/rewrite_rig.h t/unit/workers/testconf.h workers/rewrite/commit.c \
	workers/rewrite/filter.c workers/rewrite/filter_edit.c workers/rewrite/filter_macro.c \
	workers/rewrite/filters.c \
	workers/rewrite/notify.c workers/rewrite/ownmail.c workers/rewrite/peernotice.c workers/rewrite/probed.c workers/rewrite/queue.c workers/rewrite/submit.c \
	workers/rewrite/submit_tx.c
t_unit_workers_rewrite_test_SOURCES = t/unit/workers/rewrite_test.c $(REWRITE_RIG)
t_unit_workers_rewrite_test_LDADD = $(REWRITE_LIBS)

check_PROGRAMS += t/unit/workers/alias_test
UNIT_TESTS += t/unit/workers/alias_test
t_unit_workers_alias_test_SOURCES = t/unit/workers/alias_test.c workers/local/alias.c \
	workers/local/readfile.c
t_unit_workers_alias_test_LDADD = $(WORKER_LIBS)
check_PROGRAMS += t/unit/workers/mbox_test
UNIT_TESTS += t/unit/workers/mbox_test
t_unit_workers_mbox_test_SOURCES = t/unit/workers/mbox_test.c workers/local/mbox.c
t_unit_workers_mbox_test_LDADD = $(WORKER_LIBS)
check_PROGRAMS += t/unit/workers/command_test
UNIT_TESTS += t/unit/workers/command_test
t_unit_workers_command_test_SOURCES = t/unit/workers/command_test.c workers/local/cmdstatus.c \
	workers/local/command.c workers/local/mailcopy.c workers/local/piped.c
t_unit_workers_command_test_LDADD = $(WORKER_LIBS)
t_unit_workers_command_test_DEPENDENCIES = workers/local/local $(noinst_LIBRARIES)
check_PROGRAMS += t/unit/workers/target_test
UNIT_TESTS += t/unit/workers/target_test
t_unit_workers_target_test_SOURCES = t/unit/workers/target_test.c workers/local/target.c workers/local/mbox.c
t_unit_workers_target_test_LDADD = $(WORKER_LIBS)

check_PROGRAMS += t/unit/workers/milter_test
UNIT_TESTS += t/unit/workers/milter_test
t_unit_workers_milter_test_SOURCES = t/unit/workers/milter_test.c t/unit/workers/testconf.h
t_unit_workers_milter_test_LDADD = libph_milter.a $(WORKER_LIBS)
