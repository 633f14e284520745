# SPDX-License-Identifier: GPL-3.0-or-later
include t/unit/lib/local.mk
include t/unit/shm/local.mk
include t/unit/conf/local.mk
include t/unit/policy/local.mk
include t/unit/workers/local.mk
include t/unit/workers/rewrite.mk
include t/unit/workers/pickup.mk
include t/unit/workers/smtpin.mk
include t/unit/workers/deliver.mk
include t/unit/daemon/local.mk
include t/fuzz/local.mk
include t/crash/local.mk
include t/stress/local.mk
include t/model/local.mk
include t/bench/local.mk

EXTRA_DIST += t/unit/tap.h

EXTRA_DIST += t/e2e t/run t/source.t t/README.md scripts/prove

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
	POSTHASTE_MESSAGES=$${POSTHASTE_MESSAGES:-50000} POSTHASTE_SITUATIONS=all $(MAKE) check-e2e

# Every campaign of t/crash in whole, as root; their results make doc/PROOF.md (scripts/prove).
# POSTHASTE_SEED=n for other choices. Some of them: POSTHASTE_CAMPAIGNS='07-clock 14-models'
.PHONY: prove
prove: all $(check_PROGRAMS)
	$(MAKE) -s prefix='$(abs_builddir)/inst' install-exec >/dev/null
	$(top_srcdir)/scripts/prove '$(abs_builddir)' $(POSTHASTE_CAMPAIGNS)

# The stories need an installed system: below the build folder, whatever prefix was configured.
check-e2e: all $(check_PROGRAMS)
	$(MAKE) -s prefix='$(abs_builddir)/inst' install-exec >/dev/null
	POSTHASTE_BUILD='$(abs_builddir)' prove -e perl $(srcdir)/t/e2e/*.t
