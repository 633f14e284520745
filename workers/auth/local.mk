# SPDX-License-Identifier: GPL-3.0-or-later
# The SASL library is in two programs: this one, and saslclient.
noinst_LIBRARIES += libph_auth.a
libph_auth_a_CPPFLAGS = $(AM_CPPFLAGS) $(SASL_CFLAGS)
libph_auth_a_SOURCES = \
	workers/auth/auth.h \
	workers/auth/crew.c workers/auth/crew.h \
	workers/auth/cyrus.c workers/auth/cyrus.h workers/auth/cyrus_int.h \
	workers/auth/cyrusclient.c workers/auth/cyrusclient.h \
	workers/auth/dialogue.c \
	workers/auth/dovecot.c workers/auth/dovecot.h

pkglibexec_PROGRAMS += workers/auth/auth
workers_auth_auth_SOURCES = workers/auth/main.c
workers_auth_auth_LDADD = libph_auth.a $(WORKER_LIBS) $(SASL_LIBS)
