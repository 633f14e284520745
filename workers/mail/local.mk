# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_mail.a
libph_mail_a_SOURCES = \
	workers/mail/addr.c workers/mail/addr.h \
	workers/mail/address.c workers/mail/address.h \
	workers/mail/addrlist.c \
	workers/mail/date.c workers/mail/date.h \
	workers/mail/envelope.c workers/mail/envelope.h \
	workers/mail/mime.c workers/mail/mime.h \
	workers/mail/probeaddr.c workers/mail/probeaddr.h \
	workers/mail/transcript.c workers/mail/transcript.h \
	workers/mail/verp.c workers/mail/verp.h \
	workers/mail/xtext.c workers/mail/xtext.h
