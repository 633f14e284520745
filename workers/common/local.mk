# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_worker.a
libph_worker_a_SOURCES = workers/common/worker.h workers/common/classes.h \
	workers/common/deliverlog.c workers/common/deliverlog.h
