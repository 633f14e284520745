# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_spool.a
libph_spool_a_SOURCES = workers/spool/spool.h
