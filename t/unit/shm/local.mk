# SPDX-License-Identifier: GPL-3.0-or-later
SHM_TESTS = t/unit/shm/region_test \
	t/unit/shm/ring_test \
	t/unit/shm/link_test \
	t/unit/shm/blocks_test \
	t/unit/shm/counters_test \
	t/unit/shm/qtab_test \
	t/unit/shm/dtab_test
check_PROGRAMS += $(SHM_TESTS)
UNIT_TESTS += $(SHM_TESTS)
t_unit_shm_region_test_SOURCES = t/unit/shm/region_test.c
t_unit_shm_region_test_LDADD = $(SHM_LIBS)
t_unit_shm_ring_test_SOURCES = t/unit/shm/ring_test.c
t_unit_shm_ring_test_LDADD = $(SHM_LIBS)
t_unit_shm_link_test_SOURCES = t/unit/shm/link_test.c
t_unit_shm_link_test_LDADD = $(SHM_LIBS)
t_unit_shm_blocks_test_SOURCES = t/unit/shm/blocks_test.c
t_unit_shm_blocks_test_LDADD = $(SHM_LIBS)
t_unit_shm_counters_test_SOURCES = t/unit/shm/counters_test.c
t_unit_shm_counters_test_LDADD = $(SHM_LIBS)
t_unit_shm_qtab_test_SOURCES = t/unit/shm/qtab_test.c
t_unit_shm_qtab_test_LDADD = $(SHM_LIBS)
t_unit_shm_dtab_test_SOURCES = t/unit/shm/dtab_test.c
t_unit_shm_dtab_test_LDADD = $(SHM_LIBS)
check_PROGRAMS += t/unit/shm/layout_test
UNIT_TESTS += t/unit/shm/layout_test
t_unit_shm_layout_test_SOURCES = t/unit/shm/layout_test.c
t_unit_shm_layout_test_CPPFLAGS = $(AM_CPPFLAGS) -DTOP_SRCDIR='"$(abs_top_srcdir)"'
t_unit_shm_layout_test_LDADD = $(SHM_LIBS)
