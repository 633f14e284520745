# SPDX-License-Identifier: GPL-3.0-or-later
pkglibexec_PROGRAMS += workers/stats/stats
workers_stats_stats_SOURCES = \
	workers/stats/json.c \
	workers/stats/prometheus.c \
	workers/stats/snapshot.c workers/stats/snapshot.h \
	workers/stats/stats.c
workers_stats_stats_LDADD = $(WORKER_LIBS) $(JANSSON_LIBS)
