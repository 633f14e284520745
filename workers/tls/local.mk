# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_tls.a
libph_tls_a_SOURCES = \
	workers/tls/ctx.c \
	workers/tls/hello.c \
	workers/tls/keys.c \
	workers/tls/loglevel.c \
	workers/tls/suites.c \
	workers/tls/tickets.c \
	workers/tls/tls.c workers/tls/tls.h workers/tls/tls_int.h \
	workers/tls/verify.c \
	workers/tls/x509.c
libph_tls_a_CFLAGS = $(AM_CFLAGS) $(WOLFSSL_CFLAGS)
