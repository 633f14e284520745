# SPDX-License-Identifier: GPL-3.0-or-later

dist_man_MANS += doc/posthaste.8
dist_man_MANS += doc/postcat.1
