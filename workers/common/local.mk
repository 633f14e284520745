# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_worker.a
libph_worker_a_SOURCES = \
	workers/common/classes.h \
	workers/common/ctl.h \
	workers/common/deliverlog.c workers/common/deliverlog.h \
	workers/common/statusfilter.c workers/common/statusfilter.h \
	workers/common/drop.c workers/common/drop.h \
	workers/common/evil.c workers/common/evil.h workers/common/evil_int.h \
	workers/common/evil_probe.c workers/common/evil_probe.inc workers/common/evil_probe_proc.c \
	workers/common/evil_records.c \
	workers/common/landlock.c workers/common/landlock.h \
	workers/common/logring.c workers/common/logring.h \
	workers/common/outbox.c workers/common/outbox.h \
	workers/common/sandbox.c workers/common/sandbox.h \
	workers/common/sandbox_calls.c workers/common/sandbox_calls.h \
	workers/common/starter.c workers/common/starter.h \
	workers/common/worker.c workers/common/worker.h
