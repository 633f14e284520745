# SPDX-License-Identifier: GPL-3.0-or-later
check_PROGRAMS += t/unit/policy/policy_test t/unit/policy/relay_test t/unit/policy/server_test
UNIT_TESTS += t/unit/policy/policy_test t/unit/policy/relay_test t/unit/policy/server_test
t_unit_policy_policy_test_SOURCES = t/unit/policy/policy_test.c t/unit/policy/bench.h t/unit/workers/smtpin_fake.h
t_unit_policy_policy_test_CPPFLAGS = $(AM_CPPFLAGS) -DTOP_SRCDIR='"$(abs_top_srcdir)"'
t_unit_policy_policy_test_LDADD = libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_unit_policy_relay_test_SOURCES = t/unit/policy/relay_test.c t/unit/workers/smtpin_fake.h
t_unit_policy_relay_test_LDADD = libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_unit_policy_server_test_SOURCES = t/unit/policy/server_test.c t/unit/policy/bench.h t/unit/workers/smtpin_fake.h
t_unit_policy_server_test_LDADD = libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
check_PROGRAMS += t/unit/policy/unverified_test
UNIT_TESTS += t/unit/policy/unverified_test
t_unit_policy_unverified_test_SOURCES = t/unit/policy/unverified_test.c t/unit/policy/bench.h t/unit/workers/smtpin_fake.h
t_unit_policy_unverified_test_LDADD = libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
