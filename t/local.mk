# SPDX-License-Identifier: GPL-3.0-or-later
include t/unit/lib/local.mk
include t/unit/shm/local.mk
include t/unit/conf/local.mk
include t/unit/policy/local.mk
include t/unit/workers/local.mk
include t/unit/workers/rewrite.mk
include t/unit/workers/smtpin.mk
include t/unit/workers/deliver.mk
include t/unit/daemon/local.mk
include t/fuzz/local.mk
include t/crash/local.mk
include t/stress/local.mk
include t/model/local.mk
include t/bench/local.mk

EXTRA_DIST += t/unit/tap.h

check-local: $(check_PROGRAMS)
	$(top_srcdir)/scripts/check-layers $(top_srcdir)
	prove -j2 -e '' $(UNIT_TESTS)
