# SPDX-License-Identifier: GPL-3.0-or-later
pkglibexec_PROGRAMS += workers/resolver/resolver
workers_resolver_resolver_SOURCES = workers/resolver/engine.c workers/resolver/engine.h \
	workers/resolver/hosts.c workers/resolver/hosts.h workers/resolver/main.c \
	workers/resolver/packet.c workers/resolver/packet.h
workers_resolver_resolver_LDADD = $(WORKER_LIBS) $(UNBOUND_LIBS)
