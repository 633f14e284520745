/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "lookup -q CONFIG_DIRECTORY TYPE:NAME": one table for a program that may block (postmap -q,
 * conf/map_ask.c). Keys come as netstrings on standard input; each is answered by F, N or E and a
 * netstring: the value, nothing, or the reason. */
#ifndef PH_WORKERS_LOOKUP_QUERY_H
#define PH_WORKERS_LOOKUP_QUERY_H

int query_main(const char *config_directory, const char *spec);

#endif
