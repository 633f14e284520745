# SPDX-License-Identifier: GPL-3.0-or-later

# Models: "make check-model" runs them (spin and gcc are needed). moves.pml is compared with
# qtab_moves[] by t/unit/shm/layout_test.
EXTRA_DIST += t/model/run t/model/moves.pml t/model/recover.pml t/model/ring.pml t/model/slot.pml
.PHONY: check-model
check-model:
	$(top_srcdir)/t/model/run
