# SPDX-License-Identifier: GPL-3.0-or-later
# What knows no processes is a library, for its test.
noinst_LIBRARIES += libph_verify.a
libph_verify_a_SOURCES = \
	workers/verify/cache.c workers/verify/cache.h \
	workers/verify/core.c workers/verify/core.h \
	workers/verify/screened.c workers/verify/screened.h

pkglibexec_PROGRAMS += workers/verify/verify
workers_verify_verify_SOURCES = workers/verify/main.c workers/verify/submit.c workers/verify/submit.h
workers_verify_verify_LDADD = libph_verify.a libph_smtpin.a libph_rewrite.a $(WORKER_LIBS)
