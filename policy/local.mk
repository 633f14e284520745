# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_policy.a
libph_policy_a_SOURCES =
