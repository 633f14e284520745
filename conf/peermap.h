/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tables that are asked by the name and the address of a peer (smtpd_tls_loglevel_maps and its
 * kin): the name, its parent domains (".example.com"; "example.com" when the parameter stands in
 * parent_domain_matches_subdomains), then the address and the networks it is in, cut at dots or
 * colons. Tables of patterns are asked for the whole name and the whole address only.
 */
#ifndef PH_CONF_PEERMAP_H
#define PH_CONF_PEERMAP_H

#include "conf/map.h"

struct peermap;

/* *m_r is NULL when there are no tables. Remote ones are refused. */
int peermap_open(const struct conf *c, const char *specs, const char *param_name,
		 struct peermap **m_r, struct conf_diag *d);
void peermap_close(struct peermap **m);
/* What they say; the value "DUNNO" is MAP_NOT_FOUND. name: "" = none, a name in A-label form.
 * NULL for m finds nothing. */
enum map_status peermap_get(const struct peermap *m, const char *name, const char *addr,
			    struct buf *out);

#endif
