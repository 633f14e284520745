# SPDX-License-Identifier: GPL-3.0-or-later
pkglibexec_PROGRAMS += workers/stats/stats
STATS_SOURCES = \
	workers/stats/http.c workers/stats/http.h \
	workers/stats/json.c \
	workers/stats/prometheus.c \
	workers/stats/snapshot.c workers/stats/snapshot.h
workers_stats_stats_SOURCES = workers/stats/stats.c $(STATS_SOURCES)
workers_stats_stats_LDADD = $(WORKER_LIBS) $(JANSSON_LIBS)
