# SPDX-License-Identifier: GPL-3.0-or-later
pkglibexec_PROGRAMS += workers/log/log
workers_log_log_SOURCES = workers/log/log.c workers/log/format.c workers/log/format.h \
	workers/log/tags.c workers/log/tags.h workers/log/budget.c workers/log/budget.h
workers_log_log_LDADD = $(WORKER_LIBS)
sbin_PROGRAMS += workers/log/postlog
workers_log_postlog_SOURCES = workers/log/postlog.c workers/log/format.c workers/log/format.h
workers_log_postlog_LDADD = $(CONF_LIBS)
