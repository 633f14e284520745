# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_conf.a
libph_conf_a_SOURCES = conf/conf.h
