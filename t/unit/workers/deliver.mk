# SPDX-License-Identifier: GPL-3.0-or-later
# Unit tests of workers/dns, workers/resolver and workers/deliver.
check_PROGRAMS += t/unit/workers/dns_test
UNIT_TESTS += t/unit/workers/dns_test
t_unit_workers_dns_test_SOURCES = t/unit/workers/dns_test.c
t_unit_workers_dns_test_LDADD = libph_dns.a $(SHM_LIBS)
check_PROGRAMS += t/unit/workers/resolver_test
UNIT_TESTS += t/unit/workers/resolver_test
t_unit_workers_resolver_test_SOURCES = t/unit/workers/resolver_test.c workers/resolver/packet.c \
	workers/resolver/hosts.c workers/resolver/engine.c
t_unit_workers_resolver_test_LDADD = libph_dns.a $(SHM_LIBS)
EXTRA_DIST += t/unit/workers/client_rig.h
check_PROGRAMS += t/unit/workers/client_test t/unit/workers/client_chunk_test
UNIT_TESTS += t/unit/workers/client_test t/unit/workers/client_chunk_test
t_unit_workers_client_chunk_test_SOURCES = t/unit/workers/client_chunk_test.c $(DELIVER_ENGINE)
t_unit_workers_client_chunk_test_LDADD = libph_mail.a libph_smtp.a $(LIB_LIBS) $(WOLFSSL_LIBS)
t_unit_workers_client_test_SOURCES = t/unit/workers/client_test.c $(DELIVER_ENGINE)
t_unit_workers_client_test_LDADD = libph_mail.a libph_smtp.a $(LIB_LIBS) $(WOLFSSL_LIBS)
check_PROGRAMS += t/unit/workers/client_tls_test
UNIT_TESTS += t/unit/workers/client_tls_test
t_unit_workers_client_tls_test_SOURCES = t/unit/workers/client_tls_test.c $(DELIVER_ENGINE)
t_unit_workers_client_tls_test_LDADD = libph_mail.a libph_smtp.a $(LIB_LIBS) $(WOLFSSL_LIBS)
check_PROGRAMS += t/unit/workers/deliver_test
UNIT_TESTS += t/unit/workers/deliver_test
t_unit_workers_deliver_test_SOURCES = t/unit/workers/deliver_test.c $(DELIVER_ENGINE) \
	workers/deliver/changed.c workers/deliver/conn.c workers/deliver/conntalk.c workers/deliver/connect.c \
	workers/deliver/convert.c workers/deliver/convert_act.c workers/deliver/dest.c workers/deliver/generic.c workers/deliver/headflags.c workers/deliver/job.c workers/deliver/jobhead.c workers/deliver/pass.c \
	workers/deliver/nexthop.c workers/deliver/route.c workers/deliver/tconf.c $(DELIVER_TLS) $(DELIVER_LOGIN)
t_unit_workers_deliver_test_LDADD = libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
check_PROGRAMS += t/unit/workers/convert_test
UNIT_TESTS += t/unit/workers/convert_test
t_unit_workers_convert_test_SOURCES = t/unit/workers/convert_test.c t/unit/workers/testconf.h \
	workers/deliver/convert.c workers/deliver/convert_act.c workers/deliver/generic.c
t_unit_workers_convert_test_LDADD = $(WORKER_LIBS)
check_PROGRAMS += t/unit/workers/route_test
UNIT_TESTS += t/unit/workers/route_test
t_unit_workers_route_test_SOURCES = t/unit/workers/route_test.c t/unit/workers/testconf.h $(DELIVER_ENGINE) \
	workers/deliver/dane.c workers/deliver/nexthop.c workers/deliver/route.c \
	workers/deliver/tconf.c workers/deliver/tlsa.c workers/dns/filter.c workers/dns/name.c
t_unit_workers_route_test_LDADD = libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
check_PROGRAMS += t/unit/workers/tlspolicy_test
UNIT_TESTS += t/unit/workers/tlspolicy_test
t_unit_workers_tlspolicy_test_SOURCES = t/unit/workers/tlspolicy_test.c workers/deliver/tlspolicy.c
t_unit_workers_tlspolicy_test_LDADD = $(WORKER_LIBS)
check_PROGRAMS += t/unit/workers/tlsname_test t/unit/workers/dane_test t/unit/workers/tlsclient_test
UNIT_TESTS += t/unit/workers/tlsname_test t/unit/workers/dane_test t/unit/workers/tlsclient_test
t_unit_workers_tlsclient_test_SOURCES = t/unit/workers/tlsclient_test.c \
	workers/deliver/tlsclient.c workers/deliver/tlspolicy.c
t_unit_workers_tlsclient_test_LDADD = libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_unit_workers_tlsname_test_SOURCES = t/unit/workers/tlsname_test.c workers/deliver/tlsname.c
t_unit_workers_tlsname_test_LDADD = libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_unit_workers_dane_test_SOURCES = t/unit/workers/dane_test.c workers/deliver/dane.c
t_unit_workers_dane_test_LDADD = libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
check_PROGRAMS += t/unit/workers/statusfilter_test
UNIT_TESTS += t/unit/workers/statusfilter_test
t_unit_workers_statusfilter_test_SOURCES = t/unit/workers/statusfilter_test.c \
	t/unit/workers/testconf.h
t_unit_workers_statusfilter_test_LDADD = $(WORKER_LIBS)
check_PROGRAMS += t/unit/workers/sasllink_test t/unit/workers/failures_test
UNIT_TESTS += t/unit/workers/sasllink_test t/unit/workers/failures_test
t_unit_workers_sasllink_test_SOURCES = t/unit/workers/sasllink_test.c workers/deliver/sasllink.c
t_unit_workers_sasllink_test_LDADD = $(SHM_LIBS)
t_unit_workers_failures_test_SOURCES = t/unit/workers/failures_test.c
t_unit_workers_failures_test_LDADD = libph_saslclient.a libph_verify.a $(WORKER_LIBS)
check_PROGRAMS += t/unit/workers/client_auth_test t/unit/workers/saslmech_test t/unit/workers/login_test
UNIT_TESTS += t/unit/workers/client_auth_test t/unit/workers/saslmech_test t/unit/workers/login_test
t_unit_workers_client_auth_test_SOURCES = t/unit/workers/client_auth_test.c $(DELIVER_ENGINE)
t_unit_workers_client_auth_test_LDADD = libph_mail.a libph_smtp.a $(LIB_LIBS) $(WOLFSSL_LIBS)
t_unit_workers_saslmech_test_SOURCES = t/unit/workers/saslmech_test.c workers/deliver/saslmech.c
t_unit_workers_saslmech_test_LDADD = $(LIB_LIBS) $(WOLFSSL_LIBS)
t_unit_workers_login_test_SOURCES = t/unit/workers/login_test.c t/unit/workers/testconf.h \
	workers/deliver/login.c workers/deliver/saslmech.c
t_unit_workers_login_test_LDADD = $(WORKER_LIBS) $(WOLFSSL_LIBS)
check_PROGRAMS += t/unit/workers/headflags_test
UNIT_TESTS += t/unit/workers/headflags_test
t_unit_workers_headflags_test_SOURCES = t/unit/workers/headflags_test.c workers/deliver/headflags.c \
	workers/deliver/headflags.h
t_unit_workers_headflags_test_LDADD = $(WORKER_LIBS)
