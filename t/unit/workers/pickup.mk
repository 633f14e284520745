# SPDX-License-Identifier: GPL-3.0-or-later
PICKUP_TESTS = t/unit/workers/compose_test t/unit/workers/maildrop_test t/unit/workers/fromname_test
check_PROGRAMS += $(PICKUP_TESTS)
UNIT_TESTS += $(PICKUP_TESTS)
t_unit_workers_compose_test_SOURCES = t/unit/workers/compose_test.c
t_unit_workers_compose_test_LDADD = libph_pickup.a libph_mail.a $(LIB_LIBS)
t_unit_workers_maildrop_test_SOURCES = t/unit/workers/maildrop_test.c
t_unit_workers_maildrop_test_LDADD = libph_pickup.a libph_mail.a $(LIB_LIBS)
t_unit_workers_fromname_test_SOURCES = t/unit/workers/fromname_test.c
t_unit_workers_fromname_test_LDADD = libph_rewrite.a $(LIB_LIBS)
