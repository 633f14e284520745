# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_spool.a
libph_spool_a_SOURCES = workers/spool/spool.h \
	workers/spool/commit.c \
	workers/spool/crew.c workers/spool/crew.h \
	workers/spool/dirs.c \
	workers/spool/doubt.c workers/spool/doubt.h \
	workers/spool/fdcache.c workers/spool/fdcache.h \
	workers/spool/format.c workers/spool/format.h \
	workers/spool/journal.c \
	workers/spool/journal_file.c workers/spool/journal_file.h \
	workers/spool/journal_read.c \
	workers/spool/outcome.c workers/spool/outcome.h \
	workers/spool/quarantine.c \
	workers/spool/reader.c \
	workers/spool/scan.c workers/spool/scan_int.h \
	workers/spool/scan_damage.c \
	workers/spool/scan_index.c \
	workers/spool/scan_mend.c \
	workers/spool/scan_journal.c \
	workers/spool/segment.c workers/spool/segment.h \
	workers/spool/state.c \
	workers/spool/stream.c \
	workers/spool/warrant.c workers/spool/warrant.h \
	workers/spool/window.c workers/spool/window.h \
	workers/spool/writer.c workers/spool/writer.h

sbin_PROGRAMS += workers/spool/postcat
workers_spool_postcat_SOURCES = workers/spool/postcat.c workers/spool/postcat.h \
	workers/spool/postcat_print.c
workers_spool_postcat_LDADD = libph_spool.a libph_mail.a libph_shm.a $(CONF_LIBS)
