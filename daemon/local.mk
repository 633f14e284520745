# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_daemon.a
libph_daemon_a_SOURCES = \
	daemon/control.c daemon/control.h \
	daemon/control_client.c

DAEMON_LIBS = libph_daemon.a $(WORKER_LIBS)

pkglibexec_PROGRAMS += daemon/priv
daemon_priv_SOURCES = daemon/priv.c daemon/priv_plan.c daemon/priv_plan.h daemon/priv_proto.h
daemon_priv_LDADD = libph_lib.a

pkglibexec_PROGRAMS += daemon/supervisor
daemon_supervisor_SOURCES = \
	daemon/life.c \
	daemon/peers.c \
	daemon/procs.c daemon/procs.h \
	daemon/supctl.c \
	daemon/supervisor.c daemon/supervisor.h
daemon_supervisor_LDADD = $(DAEMON_LIBS) $(JANSSON_LIBS)

sbin_PROGRAMS += daemon/posthaste
daemon_posthaste_SOURCES = daemon/posthaste.c daemon/plan.c daemon/plan.h
daemon_posthaste_LDADD = libph_daemon.a $(CONF_LIBS)
