# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_daemon.a
libph_daemon_a_SOURCES = \
	daemon/control.c daemon/control.h \
	daemon/control_client.c
