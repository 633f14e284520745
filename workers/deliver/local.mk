# SPDX-License-Identifier: GPL-3.0-or-later
pkglibexec_PROGRAMS += workers/deliver/deliver
DELIVER_ENGINE = workers/deliver/client.c workers/deliver/client.h workers/deliver/client_hello.c \
	workers/deliver/client_auth.c workers/deliver/saslmech.c workers/deliver/saslmech.h \
	workers/deliver/client_int.h workers/deliver/command.c \
	workers/deliver/command.h
DELIVER_TLS = workers/deliver/conntls.c workers/deliver/conntls.h workers/deliver/dane.c \
	workers/deliver/dane.h workers/deliver/tlsa.c workers/deliver/tlsa.h \
	workers/deliver/tlsclient.c workers/deliver/tlsclient.h \
	workers/deliver/tlsname.c workers/deliver/tlsname.h workers/deliver/tlspolicy.c \
	workers/deliver/tlspolicy.h workers/deliver/tlsverify.c workers/deliver/tlsverify.h
DELIVER_LOGIN = workers/deliver/connlogin.c workers/deliver/connlogin.h workers/deliver/login.c \
	workers/deliver/login.h workers/deliver/sasllink.c workers/deliver/sasllink.h
workers_deliver_deliver_SOURCES = $(DELIVER_ENGINE) workers/deliver/changed.c workers/deliver/changed.h \
	workers/deliver/conn.c \
	workers/deliver/conntalk.c workers/deliver/conntalk.h \
	workers/deliver/connect.c workers/deliver/convert.c workers/deliver/convert.h \
	workers/deliver/convert_act.c workers/deliver/convert_int.h \
	workers/deliver/deliver.h workers/deliver/pass.c workers/deliver/generic.c workers/deliver/generic.h \
	workers/deliver/dest.c workers/deliver/headflags.c workers/deliver/headflags.h workers/deliver/job.c workers/deliver/jobhead.c workers/deliver/main.c \
	workers/deliver/nexthop.c workers/deliver/nexthop.h workers/deliver/route.c \
	workers/deliver/route.h workers/deliver/tconf.c workers/deliver/tconf.h \
	$(DELIVER_TLS) $(DELIVER_LOGIN)
workers_deliver_deliver_LDADD = libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
