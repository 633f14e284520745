# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_policy.a
libph_policy_a_SOURCES = \
	policy/access.c \
	policy/check_backup.c \
	policy/check_basic.c \
	policy/check_dest.c \
	policy/check_server.c \
	policy/check_login.c \
	policy/compile.c \
	policy/delegate.c \
	policy/look.c \
	policy/names.c policy/names.h \
	policy/own_addr.c policy/own_addr.h \
	policy/policy.h policy/policy_int.h \
	policy/rbl.c policy/rbl_pattern.c policy/rbl_pattern.h \
	policy/resolve.c \
	policy/run.c \
	policy/table.c \
	policy/verify.c
