# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_lib.a
libph_lib_a_SOURCES = \
	lib/arena.c lib/arena.h lib/base64.c lib/base64.h \
	lib/buf.c lib/buf.h \
	lib/clock.c lib/clock.h \
	lib/crc32c.c lib/crc32c.h \
	lib/err.c lib/err.h \
	lib/fault.c lib/fault.h lib/fault.inc \
	lib/hash.c lib/hash.h \
	lib/idn.c lib/idn.h \
	lib/io.c lib/io.h \
	lib/log.c lib/log.h \
	lib/loop.c lib/loop.h \
	lib/mailaddr.c lib/mailaddr.h \
	lib/qid.c lib/qid.h \
	lib/rand.c lib/rand.h \
	lib/str.c lib/str.h \
	lib/twheel.c lib/twheel.h \
	lib/util.c lib/util.h
