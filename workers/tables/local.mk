# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_tables.a
libph_tables_a_SOURCES = workers/tables/client.c workers/tables/client.h
