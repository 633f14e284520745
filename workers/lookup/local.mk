# SPDX-License-Identifier: GPL-3.0-or-later
# The tables are a library, which unit tests use; the libraries of databases are in this program
# alone.
noinst_LIBRARIES += libph_lookup.a
libph_lookup_a_CPPFLAGS = $(AM_CPPFLAGS)
libph_lookup_a_SOURCES = \
	workers/lookup/options.c workers/lookup/options.h \
	workers/lookup/source_memcache.c \
	workers/lookup/source_policy.c \
	workers/lookup/source_redis.c \
	workers/lookup/source_socketmap.c \
	workers/lookup/source_tcp.c \
	workers/lookup/sql.c workers/lookup/sql.h \
	workers/lookup/stream.c workers/lookup/stream.h \
	workers/lookup/table.c workers/lookup/table.h \
	workers/lookup/template.c workers/lookup/template.h
LOOKUP_SOURCE_LIBS =
if HAVE_LDAP
libph_lookup_a_SOURCES += workers/lookup/source_ldap.c
libph_lookup_a_CPPFLAGS += $(LDAP_CFLAGS) $(SASL_CFLAGS)
LOOKUP_SOURCE_LIBS += $(LDAP_LIBS) -llber
endif
if HAVE_MYSQL
libph_lookup_a_SOURCES += workers/lookup/source_mysql.c
libph_lookup_a_CPPFLAGS += $(MYSQL_CFLAGS)
LOOKUP_SOURCE_LIBS += $(MYSQL_LIBS)
endif
if HAVE_PGSQL
libph_lookup_a_SOURCES += workers/lookup/source_pgsql.c
libph_lookup_a_CPPFLAGS += $(PGSQL_CFLAGS)
LOOKUP_SOURCE_LIBS += $(PGSQL_LIBS)
endif
if HAVE_SQLITE
libph_lookup_a_SOURCES += workers/lookup/source_sqlite.c
libph_lookup_a_CPPFLAGS += $(SQLITE_CFLAGS)
LOOKUP_SOURCE_LIBS += $(SQLITE_LIBS)
endif

pkglibexec_PROGRAMS += workers/lookup/lookup
workers_lookup_lookup_SOURCES = \
	workers/lookup/crew.c workers/lookup/crew.h \
	workers/lookup/main.c \
	workers/lookup/query.c workers/lookup/query.h
workers_lookup_lookup_LDADD = libph_lookup.a $(WORKER_LIBS) $(LOOKUP_SOURCE_LIBS)
