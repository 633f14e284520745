# SPDX-License-Identifier: GPL-3.0-or-later

check_PROGRAMS += t/unit/conf/map_test t/unit/conf/matchlist_test
UNIT_TESTS += t/unit/conf/map_test t/unit/conf/matchlist_test
t_unit_conf_map_test_SOURCES = t/unit/conf/map_test.c
t_unit_conf_map_test_LDADD = $(CONF_LIBS)
t_unit_conf_matchlist_test_SOURCES = t/unit/conf/matchlist_test.c
t_unit_conf_matchlist_test_LDADD = $(CONF_LIBS)
check_PROGRAMS += t/unit/conf/postmap_test
UNIT_TESTS += t/unit/conf/postmap_test
t_unit_conf_postmap_test_SOURCES = t/unit/conf/postmap_test.c conf/kch_build.c
t_unit_conf_postmap_test_LDADD = $(CONF_LIBS)

check_PROGRAMS += t/unit/conf/param_test t/unit/conf/expand_test t/unit/conf/conf_test
UNIT_TESTS += t/unit/conf/param_test t/unit/conf/expand_test t/unit/conf/conf_test
t_unit_conf_param_test_SOURCES = t/unit/conf/param_test.c
t_unit_conf_param_test_LDADD = $(CONF_LIBS)
t_unit_conf_expand_test_SOURCES = t/unit/conf/expand_test.c
t_unit_conf_expand_test_LDADD = $(CONF_LIBS)
t_unit_conf_conf_test_SOURCES = t/unit/conf/conf_test.c
t_unit_conf_conf_test_LDADD = $(CONF_LIBS)
check_PROGRAMS += t/unit/conf/ports_test
UNIT_TESTS += t/unit/conf/ports_test
t_unit_conf_ports_test_SOURCES = t/unit/conf/ports_test.c
t_unit_conf_ports_test_LDADD = $(CONF_LIBS)
check_PROGRAMS += t/unit/conf/policyspec_test
UNIT_TESTS += t/unit/conf/policyspec_test
t_unit_conf_policyspec_test_SOURCES = t/unit/conf/policyspec_test.c
t_unit_conf_policyspec_test_LDADD = $(CONF_LIBS)
check_PROGRAMS += t/unit/conf/mapwatch_test
UNIT_TESTS += t/unit/conf/mapwatch_test
t_unit_conf_mapwatch_test_SOURCES = t/unit/conf/mapwatch_test.c
t_unit_conf_mapwatch_test_LDADD = $(CONF_LIBS)
UNIT_TESTS += $(srcdir)/t/unit/conf/postconf.t
EXTRA_DIST += t/unit/conf/postconf.t
UNIT_TESTS += $(srcdir)/t/unit/conf/effects.t
EXTRA_DIST += t/unit/conf/effects.t t/systems
