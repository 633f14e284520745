# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_shm.a
libph_shm_a_SOURCES = \
	shm/blocks.c shm/blocks.h \
	shm/board.h \
	shm/counters.c shm/counters.h shm/counters.inc \
	shm/dtab.c shm/dtab.h \
	shm/link.c shm/link.h \
	shm/order.h \
	shm/proto.h \
	shm/qtab.c shm/qtab.h shm/qtab_check.c shm/qtab_private.h \
	shm/region.c shm/region.h \
	shm/ring.c shm/ring.h
