# SPDX-License-Identifier: GPL-3.0-or-later
check_PROGRAMS += t/unit/lib/qid_test t/unit/lib/twheel_test t/unit/lib/lib_test
UNIT_TESTS += t/unit/lib/qid_test t/unit/lib/twheel_test t/unit/lib/lib_test
t_unit_lib_qid_test_SOURCES = t/unit/lib/qid_test.c
t_unit_lib_qid_test_LDADD = $(LIB_LIBS)
t_unit_lib_twheel_test_SOURCES = t/unit/lib/twheel_test.c
t_unit_lib_twheel_test_LDADD = $(LIB_LIBS)
t_unit_lib_lib_test_SOURCES = t/unit/lib/lib_test.c
t_unit_lib_lib_test_LDADD = $(LIB_LIBS)
check_PROGRAMS += t/unit/lib/fault_test
UNIT_TESTS += t/unit/lib/fault_test
t_unit_lib_fault_test_SOURCES = t/unit/lib/fault_test.c
t_unit_lib_fault_test_LDADD = $(LIB_LIBS)
check_PROGRAMS += t/unit/lib/loop_test
UNIT_TESTS += t/unit/lib/loop_test
t_unit_lib_loop_test_SOURCES = t/unit/lib/loop_test.c
t_unit_lib_loop_test_LDADD = $(LIB_LIBS)
