# SPDX-License-Identifier: GPL-3.0-or-later
# The session machine is a library: unit tests and fuzz targets run it without sockets.
noinst_LIBRARIES += libph_smtpin.a
libph_smtpin_a_SOURCES = \
	workers/smtp_in/auth.c workers/smtp_in/auth.h \
	workers/smtp_in/cmd_data.c \
	workers/smtp_in/cmd_mail.c \
	workers/smtp_in/cmd_x.c workers/smtp_in/qmqp.c workers/smtp_in/qmqp.h \
	workers/smtp_in/command.c workers/smtp_in/command.h \
	workers/smtp_in/connector.c workers/smtp_in/connector.h \
	workers/smtp_in/content.c workers/smtp_in/content.h \
	workers/smtp_in/limits.c workers/smtp_in/limits.h \
	workers/smtp_in/listener.c workers/smtp_in/listener.h \
	workers/smtp_in/listentls.c workers/smtp_in/listentls.h \
	workers/smtp_in/overrides.c \
	workers/smtp_in/peertls.c workers/smtp_in/peertls.h \
	workers/smtp_in/peername.c workers/smtp_in/peername.h \
	workers/smtp_in/proxy.c workers/smtp_in/proxy.h \
	workers/smtp_in/received.c \
	workers/smtp_in/refusal.c workers/smtp_in/refusal.h \
	workers/smtp_in/screentalk.c workers/smtp_in/screentalk.h \
	workers/smtp_in/screentalk_conf.c \
	workers/smtp_in/screentls.c workers/smtp_in/screentls.h \
	workers/smtp_in/screen.c workers/smtp_in/screen.h \
	workers/smtp_in/screenconf.c workers/smtp_in/screenconf.h \
	workers/smtp_in/sessclient.c \
	workers/smtp_in/session.c workers/smtp_in/session.h \
	workers/smtp_in/sessfilter.c workers/smtp_in/sessfilter.h \
	workers/smtp_in/sessmilter.c workers/smtp_in/sessmilter.h \
	workers/smtp_in/sesspol.c \
	workers/smtp_in/sesstalk.c workers/smtp_in/sesstalk.h \
	workers/smtp_in/sesstls.c workers/smtp_in/sesstls.h

pkglibexec_PROGRAMS += workers/smtp_in/smtpd
workers_smtp_in_smtpd_SOURCES = workers/smtp_in/smtpd.c workers/smtp_in/conn.c \
	workers/smtp_in/filterconn.c workers/smtp_in/filterconn.h \
	workers/smtp_in/authlink.c workers/smtp_in/authlink.h \
	workers/smtp_in/screenconn.c workers/smtp_in/screenconn.h \
	workers/smtp_in/standalone.c workers/smtp_in/standalone.h \
	workers/smtp_in/server.c workers/smtp_in/server.h
workers_smtp_in_smtpd_LDADD = libph_smtpin.a libph_pickup.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
