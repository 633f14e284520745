# SPDX-License-Identifier: GPL-3.0-or-later
check_PROGRAMS += t/unit/workers/smtpin_test
UNIT_TESTS += t/unit/workers/smtpin_test
SMTPIN_LIBS = libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_unit_workers_smtpin_test_SOURCES = t/unit/workers/smtpin_test.c t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_stream_test t/unit/workers/smtpin_content_test
UNIT_TESTS += t/unit/workers/smtpin_stream_test t/unit/workers/smtpin_content_test
t_unit_workers_smtpin_stream_test_SOURCES = t/unit/workers/smtpin_stream_test.c \
	t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_stream_test_LDADD = $(SMTPIN_LIBS)
t_unit_workers_smtpin_content_test_SOURCES = t/unit/workers/smtpin_content_test.c
t_unit_workers_smtpin_content_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_qmqp_test
UNIT_TESTS += t/unit/workers/smtpin_qmqp_test
t_unit_workers_smtpin_qmqp_test_SOURCES = t/unit/workers/smtpin_qmqp_test.c t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_qmqp_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_x_test
UNIT_TESTS += t/unit/workers/smtpin_x_test
t_unit_workers_smtpin_x_test_SOURCES = t/unit/workers/smtpin_x_test.c t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_x_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_proxy_test
UNIT_TESTS += t/unit/workers/smtpin_proxy_test
t_unit_workers_smtpin_proxy_test_SOURCES = t/unit/workers/smtpin_proxy_test.c
t_unit_workers_smtpin_proxy_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_peer_test
UNIT_TESTS += t/unit/workers/smtpin_peer_test
t_unit_workers_smtpin_peer_test_SOURCES = t/unit/workers/smtpin_peer_test.c
t_unit_workers_smtpin_peer_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_tables_test
UNIT_TESTS += t/unit/workers/smtpin_tables_test
t_unit_workers_smtpin_tables_test_SOURCES = t/unit/workers/smtpin_tables_test.c \
	t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_tables_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/tables_test
UNIT_TESTS += t/unit/workers/tables_test
t_unit_workers_tables_test_SOURCES = t/unit/workers/tables_test.c
t_unit_workers_tables_test_LDADD = $(WORKER_LIBS)
check_PROGRAMS += t/unit/workers/policyservice_test
UNIT_TESTS += t/unit/workers/policyservice_test
t_unit_workers_policyservice_test_SOURCES = t/unit/workers/policyservice_test.c
t_unit_workers_policyservice_test_LDADD = libph_lookup.a $(WORKER_LIBS) $(LOOKUP_SOURCE_LIBS)
check_PROGRAMS += t/unit/workers/lookup_test
UNIT_TESTS += t/unit/workers/lookup_test
t_unit_workers_lookup_test_SOURCES = t/unit/workers/lookup_test.c
t_unit_workers_lookup_test_LDADD = libph_lookup.a $(WORKER_LIBS) $(LOOKUP_SOURCE_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_milter_test
UNIT_TESTS += t/unit/workers/smtpin_milter_test
t_unit_workers_smtpin_milter_test_SOURCES = t/unit/workers/smtpin_milter_test.c \
	t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_milter_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_filter_test
UNIT_TESTS += t/unit/workers/smtpin_filter_test
t_unit_workers_smtpin_filter_test_SOURCES = t/unit/workers/smtpin_filter_test.c \
	t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_filter_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_auth_test
UNIT_TESTS += t/unit/workers/smtpin_auth_test
t_unit_workers_smtpin_auth_test_SOURCES = t/unit/workers/smtpin_auth_test.c \
	t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_auth_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/smtpin_talk_test
UNIT_TESTS += t/unit/workers/smtpin_talk_test
t_unit_workers_smtpin_talk_test_SOURCES = t/unit/workers/smtpin_talk_test.c \
	t/unit/workers/smtpin_fake.h
t_unit_workers_smtpin_talk_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/screentalk_test
UNIT_TESTS += t/unit/workers/screentalk_test
t_unit_workers_screentalk_test_SOURCES = t/unit/workers/screentalk_test.c \
	t/unit/workers/screentalk_rig.h t/unit/workers/tls_rig.h
t_unit_workers_screentalk_test_LDADD = $(SMTPIN_LIBS)
check_PROGRAMS += t/unit/workers/screen_test
UNIT_TESTS += t/unit/workers/screen_test
t_unit_workers_screen_test_SOURCES = t/unit/workers/screen_test.c t/unit/workers/testconf.h
t_unit_workers_screen_test_LDADD = $(SMTPIN_LIBS)
