# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_daemon.a
libph_daemon_a_SOURCES = \
	daemon/control.c daemon/control.h \
	daemon/control_client.c \
	daemon/doubts.c daemon/doubts.h \
	daemon/files.c daemon/files.h daemon/files_int.h \
	daemon/files_mark.c daemon/files_search.c daemon/files_thread.c \
	daemon/offline.c daemon/offline.h \
	daemon/qclock.c daemon/qclock.h daemon/qclock_file.c \
	daemon/qctl.c daemon/qctl.h \
	daemon/qpublic.c daemon/qpublic.h \
	daemon/recover.c daemon/recover.h daemon/recover_hidden.c daemon/recover_int.h \
	daemon/recover_plan.c \
	daemon/sched.c daemon/sched.h daemon/sched_int.h \
	daemon/sched_death.c daemon/sched_dest.c daemon/sched_input.c daemon/sched_job.c daemon/sched_list.c \
	daemon/sched_op.c daemon/sched_transport.c daemon/sched_wheel.c daemon/sched_window.c \
	daemon/sched_work.c

DAEMON_LIBS = libph_daemon.a $(WORKER_LIBS)

pkglibexec_PROGRAMS += daemon/priv
daemon_priv_SOURCES = daemon/priv.c daemon/priv_plan.c daemon/priv_plan.h daemon/priv_proto.h \
	daemon/priv_rights.c daemon/priv_rights.h
daemon_priv_LDADD = libph_worker.a libph_lib.a

sbin_PROGRAMS += daemon/posthaste
daemon_posthaste_SOURCES = daemon/posthaste.c daemon/check.c daemon/check.h daemon/logrotate.c daemon/logrotate.h \
	daemon/plan.c daemon/plan.h
daemon_posthaste_LDADD = libph_daemon.a $(CONF_LIBS)

libph_daemon_a_SOURCES += daemon/qdoubt.c daemon/qdoubt.h \
	daemon/qlist.c daemon/qlist.h daemon/qprint.c daemon/qprint.h daemon/qread.c daemon/qread.h \
	daemon/qwire.c daemon/qwire.h
QUEUE_LIBS = libph_daemon.a libph_spool.a libph_mail.a libph_shm.a $(CONF_LIBS) $(JANSSON_LIBS)
sbin_PROGRAMS += daemon/postqueue daemon/postsuper
daemon_postqueue_SOURCES = daemon/postqueue.c
daemon_postqueue_LDADD = $(QUEUE_LIBS)
sbin_PROGRAMS += daemon/postmulti
daemon_postmulti_SOURCES = daemon/postmulti.c daemon/postmulti.h daemon/postmulti_life.c
daemon_postmulti_LDADD = $(CONF_LIBS)
sbin_PROGRAMS += daemon/postkick
daemon_postkick_SOURCES = daemon/postkick.c
daemon_postkick_LDADD = $(QUEUE_LIBS)
daemon_postsuper_SOURCES = daemon/postsuper.c
daemon_postsuper_LDADD = $(DAEMON_LIBS) $(JANSSON_LIBS)
pkglibexec_PROGRAMS += daemon/supervisor
daemon_supervisor_SOURCES = \
	daemon/life.c \
	daemon/peers.c \
	daemon/procs.c daemon/procs.h \
	daemon/supctl.c \
	daemon/supervisor.c daemon/supervisor.h
daemon_supervisor_LDADD = $(DAEMON_LIBS) $(JANSSON_LIBS)

pkglibexec_PROGRAMS += daemon/showq
daemon_showq_SOURCES = daemon/showq.c
daemon_showq_LDADD = $(DAEMON_LIBS) $(JANSSON_LIBS)

# one program, two names
sbin_PROGRAMS += daemon/postmap daemon/postalias
POSTMAP_SOURCES = daemon/postmap.c daemon/postmap_message.c daemon/postmap_message.h \
	conf/kch_build.c conf/kch_build.h conf/map_ask.c conf/map_ask.h
daemon_postmap_SOURCES = $(POSTMAP_SOURCES)
daemon_postmap_LDADD = libph_mail.a $(CONF_LIBS)
daemon_postalias_SOURCES = $(POSTMAP_SOURCES)
daemon_postalias_LDADD = libph_mail.a $(CONF_LIBS)

dist_sbin_SCRIPTS = daemon/qshape

# the name that scripts know
install-exec-hook: install-postfix-name
install-postfix-name:
	cd $(DESTDIR)$(sbindir) && rm -f postfix && $(LN_S) posthaste postfix
.PHONY: install-postfix-name
uninstall-hook: uninstall-postfix-name
uninstall-postfix-name:
	rm -f $(DESTDIR)$(sbindir)/postfix
.PHONY: uninstall-postfix-name
