# SPDX-License-Identifier: GPL-3.0-or-later

SCHED_TESTS = t/unit/daemon/sched_limit_test t/unit/daemon/sched_flow_test t/unit/daemon/sched_dest_test \
	t/unit/daemon/sched_op_test t/unit/daemon/recover_test \
	t/unit/daemon/files_test t/unit/daemon/sched_mem_test
check_PROGRAMS += $(SCHED_TESTS)
UNIT_TESTS += $(SCHED_TESTS)
SCHED_TEST_LIBS = libph_daemon.a libph_spool.a libph_mail.a libph_shm.a $(CONF_LIBS)
t_unit_daemon_sched_limit_test_SOURCES = t/unit/daemon/sched_limit_test.c t/unit/daemon/sched_world.h
t_unit_daemon_sched_limit_test_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_sched_flow_test_SOURCES = t/unit/daemon/sched_flow_test.c t/unit/daemon/sched_world.h
t_unit_daemon_sched_flow_test_LDADD = $(SCHED_TEST_LIBS)
# measured by hand, not by make check
check_PROGRAMS += t/bench/sched_bench t/bench/recover_bench
t_bench_recover_bench_SOURCES = t/bench/recover_bench.c t/unit/daemon/sched_world.h
t_bench_recover_bench_LDADD = $(SCHED_TEST_LIBS)
t_bench_sched_bench_SOURCES = t/bench/sched_bench.c t/unit/daemon/sched_world.h
t_bench_sched_bench_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_sched_dest_test_SOURCES = t/unit/daemon/sched_dest_test.c t/unit/daemon/sched_world.h
t_unit_daemon_sched_dest_test_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_sched_op_test_SOURCES = t/unit/daemon/sched_op_test.c t/unit/daemon/sched_world.h
t_unit_daemon_sched_op_test_LDADD = $(SCHED_TEST_LIBS)
RECOVER_SCENE = t/unit/daemon/recover_scene.h t/unit/daemon/sched_world.h
t_unit_daemon_recover_test_SOURCES = t/unit/daemon/recover_test.c $(RECOVER_SCENE)
t_unit_daemon_recover_test_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_files_test_SOURCES = t/unit/daemon/files_test.c $(RECOVER_SCENE)
t_unit_daemon_files_test_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_sched_mem_test_SOURCES = t/unit/daemon/sched_mem_test.c t/unit/daemon/sched_world.h
t_unit_daemon_sched_mem_test_LDADD = $(SCHED_TEST_LIBS)
check_PROGRAMS += t/unit/daemon/procs_test t/unit/daemon/control_test t/unit/daemon/plan_test \
	t/unit/daemon/qwire_test
UNIT_TESTS += t/unit/daemon/procs_test t/unit/daemon/control_test t/unit/daemon/plan_test t/unit/daemon/qwire_test
t_unit_daemon_procs_test_SOURCES = t/unit/daemon/procs_test.c daemon/procs.c
t_unit_daemon_procs_test_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_control_test_SOURCES = t/unit/daemon/control_test.c
t_unit_daemon_control_test_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_plan_test_SOURCES = t/unit/daemon/plan_test.c daemon/plan.c t/unit/workers/testconf.h
t_unit_daemon_plan_test_LDADD = $(SCHED_TEST_LIBS)
check_PROGRAMS += t/unit/daemon/qclock_test
UNIT_TESTS += t/unit/daemon/qclock_test
t_unit_daemon_qclock_test_SOURCES = t/unit/daemon/qclock_test.c
t_unit_daemon_qclock_test_LDADD = $(SCHED_TEST_LIBS)
t_unit_daemon_qwire_test_SOURCES = t/unit/daemon/qwire_test.c
t_unit_daemon_qwire_test_LDADD = $(SCHED_TEST_LIBS)
