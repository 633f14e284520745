# SPDX-License-Identifier: GPL-3.0-or-later
# The processing of messages is a library of its own, so that tests, the fuzz target and the
# benchmark use it without processes.
noinst_LIBRARIES += libph_rewrite.a
libph_rewrite_a_SOURCES = \
	workers/rewrite/checks.c workers/rewrite/checks.h \
	workers/rewrite/badchars.c workers/rewrite/badchars.h \
	workers/rewrite/checks_act.c workers/rewrite/checks_strict.c \
	workers/deliver/convert.c workers/deliver/convert_act.c workers/deliver/generic.c \
	workers/rewrite/dsn.c workers/rewrite/dsn.h \
	workers/rewrite/expand.c workers/rewrite/expand.h \
	workers/rewrite/fromname.c workers/rewrite/fromname.h \
	workers/rewrite/header.c workers/rewrite/header.h \
	workers/rewrite/idset.c workers/rewrite/idset.h \
	workers/rewrite/mapping.c workers/rewrite/mapping.h \
	workers/rewrite/message.c workers/rewrite/message.h \
	workers/rewrite/names.c workers/rewrite/names.h \
	workers/rewrite/ownaddr.c workers/rewrite/ownaddr.h \
	workers/rewrite/plan.c workers/rewrite/plan.h \
	workers/rewrite/resolve.c workers/rewrite/resolve.h \
	workers/rewrite/rules.c workers/rewrite/rules.h \
	workers/rewrite/wire.c workers/rewrite/wire.h
REWRITE_LIBS = libph_rewrite.a libph_milter.a $(WORKER_LIBS)

pkglibexec_PROGRAMS += workers/rewrite/rewrite
workers_rewrite_rewrite_SOURCES = \
	workers/rewrite/commit.c \
	workers/rewrite/filter.c workers/rewrite/filter.h \
	workers/rewrite/filter_edit.c workers/rewrite/filter_macro.c \
	workers/rewrite/filters.c workers/rewrite/filters.h \
	workers/rewrite/notify.c workers/rewrite/ownmail.c workers/rewrite/peernotice.c workers/rewrite/probed.c \
	workers/rewrite/queue.c \
	workers/rewrite/rewrite.c workers/rewrite/rewrite.h \
	workers/rewrite/submit.c workers/rewrite/submit.h workers/rewrite/submit_tx.c
workers_rewrite_rewrite_LDADD = $(REWRITE_LIBS)
