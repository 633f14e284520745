# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_smtp.a
libph_smtp_a_SOURCES =
