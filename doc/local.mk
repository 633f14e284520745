# SPDX-License-Identifier: GPL-3.0-or-later

dist_man_MANS += doc/posthaste.8
EXTRA_DIST += doc/tls.md doc/delivery.md doc/local-delivery.md doc/PERFORMANCE.md doc/growth.svg
dist_man_MANS += doc/postcat.1

dist_man_MANS += doc/postconf.1

# The parameter reference comes from the table, so it is made, not written.
nodist_doc_DATA = doc/parameters.md
doc/parameters.md: conf/postconf$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) doc && conf/postconf -G >$@.tmp && mv $@.tmp $@
CLEANFILES += doc/parameters.md

dist_man_MANS += doc/postmap.1 doc/postalias.1 doc/newaliases.1

EXTRA_DIST += doc/COMPATIBILITY.md doc/content.md doc/master.md doc/INTERNALS.md doc/growth.svg doc/MIGRATING.md doc/milters.md doc/PROOF.md doc/SECURITY.md doc/sasl.md doc/statistics.md doc/tables.md
EXTRA_DIST += doc/shm-layout.md
EXTRA_DIST += doc/spool-format.md

dist_man_MANS += doc/postqueue.1 doc/mailq.1 doc/postsuper.1

EXTRA_DIST += doc/restrictions.md doc/verify.md doc/postscreen.md

dist_man_MANS += doc/sendmail.1 doc/postdrop.1 doc/postlog.1 doc/postlock.1 doc/postkick.1 doc/postmulti.1 doc/qshape.1
