# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_shm.a
libph_shm_a_SOURCES = shm/proto.h
