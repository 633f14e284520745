# SPDX-License-Identifier: GPL-3.0-or-later
pkglibexec_PROGRAMS += workers/local/local
workers_local_local_SOURCES = \
	workers/local/agent.c workers/local/agent.h \
	workers/local/alias.c workers/local/alias.h \
	workers/local/biff.c workers/local/biff.h \
	workers/local/cmdstatus.c workers/local/cmdstatus.h \
	workers/local/command.c workers/local/command.h \
	workers/local/content.c workers/local/content.h \
	workers/local/expand_act.c workers/local/expand_addr.c workers/local/expand_int.h \
	workers/local/expand_list.c workers/local/expand_run.c \
	workers/local/forward.c workers/local/forward.h \
	workers/local/job.c workers/local/job.h workers/local/job_int.h \
	workers/local/local.c \
	workers/local/local_expand.c workers/local/local_expand.h workers/local/local_lookup.c \
	workers/local/maildir.c workers/local/maildir.h \
	workers/local/mailcopy.c workers/local/mailcopy.h \
	workers/local/mbox.c workers/local/mbox.h \
	workers/local/piped.c workers/local/piped.h \
	workers/local/pipejob.c \
	workers/local/pool.c workers/local/pool.h \
	workers/local/readfile.c workers/local/readfile.h \
	workers/local/runner.c workers/local/runner.h \
	workers/local/target.c workers/local/target.h
workers_local_local_LDADD = libph_smtpin.a libph_rewrite.a $(WORKER_LIBS)
sbin_PROGRAMS += workers/local/postlock
workers_local_postlock_SOURCES = workers/local/postlock.c
workers_local_postlock_LDADD = $(CONF_LIBS)
