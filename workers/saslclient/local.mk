# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_saslclient.a
libph_saslclient_a_SOURCES = workers/saslclient/failures.c workers/saslclient/failures.h

pkglibexec_PROGRAMS += workers/saslclient/saslclient
workers_saslclient_saslclient_SOURCES = workers/saslclient/main.c
workers_saslclient_saslclient_LDADD = libph_saslclient.a libph_auth.a libph_verify.a $(WORKER_LIBS) $(SASL_LIBS)
