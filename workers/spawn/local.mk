# SPDX-License-Identifier: GPL-3.0-or-later
pkglibexec_PROGRAMS += workers/spawn/spawn
workers_spawn_spawn_SOURCES = workers/spawn/keeper.c workers/spawn/keeper.h workers/spawn/main.c
workers_spawn_spawn_LDADD = $(WORKER_LIBS)
