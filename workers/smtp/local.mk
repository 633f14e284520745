# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_smtp.a
libph_smtp_a_SOURCES = \
	workers/smtp/line.c workers/smtp/line.h \
	workers/smtp/reply.c workers/smtp/reply.h
