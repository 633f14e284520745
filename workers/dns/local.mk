# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_dns.a
libph_dns_a_SOURCES = workers/dns/dns.h workers/dns/answer.c workers/dns/client.c \
	workers/dns/filter.c workers/dns/filter.h workers/dns/name.c
