# SPDX-License-Identifier: GPL-3.0-or-later
# Stress tests: threads (the race check with --enable-tsan), processes that are killed, crash points.
# Each takes a few seconds at most and runs with the unit tests.
STRESS_TESTS = \
	t/stress/ring_threads \
	t/stress/ring_processes \
	t/stress/table_readers \
	t/stress/shm_faults
check_PROGRAMS += $(STRESS_TESTS)
# must fail: the ring with orders that are too weak
check_PROGRAMS += t/stress/ring_threads_weak
.PHONY: stress-programs
stress-programs: $(STRESS_TESTS) t/stress/ring_threads_weak
UNIT_TESTS += $(STRESS_TESTS)

t_stress_ring_threads_SOURCES = t/stress/ring_threads.c
t_stress_ring_threads_LDADD = $(SHM_LIBS)
t_stress_ring_threads_weak_SOURCES = t/stress/ring_threads.c t/stress/weak_order.h shm/ring.c
t_stress_ring_threads_weak_CPPFLAGS = $(AM_CPPFLAGS) -include $(top_srcdir)/t/stress/weak_order.h
t_stress_ring_threads_weak_LDADD = $(LIB_LIBS)
t_stress_ring_processes_SOURCES = t/stress/ring_processes.c
t_stress_ring_processes_LDADD = $(SHM_LIBS)
t_stress_table_readers_SOURCES = t/stress/table_readers.c
t_stress_table_readers_LDADD = $(SHM_LIBS)
# its own copy of shm/, compiled with the crash points
t_stress_shm_faults_SOURCES = t/stress/shm_faults.c t/stress/fault_small.c t/stress/fault_case.h \
	$(libph_shm_a_SOURCES)
t_stress_shm_faults_CPPFLAGS = $(AM_CPPFLAGS) -DPH_FAULT_POINTS
t_stress_shm_faults_LDADD = $(LIB_LIBS)
