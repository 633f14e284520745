# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_milter.a
libph_milter_a_SOURCES = \
	workers/milter/answer.c \
	workers/milter/client.c workers/milter/client.h workers/milter/client_int.h \
	workers/milter/codec.c workers/milter/codec.h \
	workers/milter/content.c workers/milter/content.h \
	workers/milter/link.c \
	workers/milter/spec.c workers/milter/spec.h
