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

EXTRA_DIST += t/e2e t/run t/source.t

check-local: $(check_PROGRAMS)
	$(top_srcdir)/scripts/check-layers $(top_srcdir)
	@$(top_srcdir)/scripts/check-sizes $(top_srcdir)
	prove -j2 -e '' $(UNIT_TESTS)

# Everything at length, half an hour or so: stress and power cuts ten times as long, a million inputs for
# each fuzz target, all models, and the stories with 50,000 messages. As root also the power cuts.
.PHONY: check-e2e check-long
check-long: $(check_PROGRAMS)
	POSTHASTE_STRESS=$${POSTHASTE_STRESS:-10} POSTHASTE_FUZZ_RUNS=$${POSTHASTE_FUZZ_RUNS:-1000000} \
		prove -j2 -e '' $(UNIT_TESTS) $(srcdir)/t/model/run
	POSTHASTE_MESSAGES=$${POSTHASTE_MESSAGES:-50000} $(MAKE) check-e2e

# Every campaign of t/crash in whole, an hour or two, as root; its results make doc/PROOF.md.
# POSTHASTE_SEED=n for other choices. One campaign: POSTHASTE_CAMPAIGNS=07-clock
.PHONY: prove
prove: all $(check_PROGRAMS)
	$(MAKE) -s prefix='$(abs_builddir)/inst' install-exec >/dev/null
	$(MKDIR_P) proof
	POSTHASTE_PROVE=full POSTHASTE_PROOF='$(abs_builddir)/proof' POSTHASTE_BUILD='$(abs_builddir)' \
		prove -e perl $(srcdir)/t/crash/$${POSTHASTE_CAMPAIGNS:-*}.t
	$(top_srcdir)/scripts/proof proof $(top_srcdir)/doc/PROOF.md

# The stories need an installed system: below the build folder, whatever prefix was configured.
check-e2e: all $(check_PROGRAMS)
	$(MAKE) -s prefix='$(abs_builddir)/inst' install-exec >/dev/null
	POSTHASTE_BUILD='$(abs_builddir)' prove -e perl $(srcdir)/t/e2e/*.t
