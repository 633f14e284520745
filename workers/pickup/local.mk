# SPDX-License-Identifier: GPL-3.0-or-later
# What the programs and their tests share.
noinst_LIBRARIES += libph_pickup.a
libph_pickup_a_SOURCES = \
	workers/pickup/compose.c workers/pickup/compose.h \
	workers/pickup/dropenv.c workers/pickup/dropenv.h \
	workers/pickup/droppipe.c workers/pickup/droppipe.h \
	workers/pickup/maildrop.c workers/pickup/maildrop.h

pkglibexec_PROGRAMS += workers/pickup/pickup
workers_pickup_pickup_SOURCES = workers/pickup/job.c workers/pickup/pickup.c workers/pickup/pickup.h \
	workers/pickup/report.c
workers_pickup_pickup_LDADD = libph_pickup.a libph_smtpin.a libph_rewrite.a $(WORKER_LIBS)

SUBMIT_LIBS = libph_pickup.a libph_mail.a $(CONF_LIBS)
sbin_PROGRAMS += workers/pickup/postdrop
workers_pickup_postdrop_SOURCES = workers/pickup/postdrop.c
workers_pickup_postdrop_LDADD = $(SUBMIT_LIBS)
# one program, three names
sbin_PROGRAMS += workers/pickup/sendmail workers/pickup/mailq workers/pickup/newaliases
SENDMAIL_SOURCES = workers/pickup/sendmail.c workers/pickup/sendmail.h workers/pickup/sendmail_send.c
workers_pickup_sendmail_SOURCES = $(SENDMAIL_SOURCES)
workers_pickup_sendmail_LDADD = $(SUBMIT_LIBS)
workers_pickup_mailq_SOURCES = $(SENDMAIL_SOURCES)
workers_pickup_mailq_LDADD = $(SUBMIT_LIBS)
workers_pickup_newaliases_SOURCES = $(SENDMAIL_SOURCES)
workers_pickup_newaliases_LDADD = $(SUBMIT_LIBS)
