# SPDX-License-Identifier: GPL-3.0-or-later
# Fuzz targets: t/fuzz/NAME_fuzz.c defines LLVMFuzzerTestOneInput(); seed files are in
# t/fuzz/corpus/NAME/. To add one: a row in FUZZ_TARGETS, its _SOURCES, and
# _LDADD = $(FUZZ_MAIN) and the libraries it needs. In ordinary builds t/fuzz/driver.c runs each
# over a fixed set of inputs as part of "make check"; with --enable-fuzz they are libFuzzer programs.
FUZZ_TARGETS = \
	t/fuzz/segment_fuzz \
	t/fuzz/index_fuzz \
	t/fuzz/journal_fuzz \
	t/fuzz/maincf_fuzz \
	t/fuzz/ring_fuzz \
	t/fuzz/link_fuzz \
	t/fuzz/blocks_fuzz \
	t/fuzz/qtab_fuzz \
	t/fuzz/dtab_fuzz \
	t/fuzz/counters_fuzz \
	t/fuzz/envelope_fuzz \
	t/fuzz/address_fuzz \
	t/fuzz/smtpdata_fuzz \
	t/fuzz/reply_fuzz \
	t/fuzz/smtpcommand_fuzz \
	t/fuzz/smtpsession_fuzz t/fuzz/qmqp_fuzz \
	t/fuzz/map_fuzz \
	t/fuzz/header_fuzz \
	t/fuzz/dns_fuzz \
	t/fuzz/client_fuzz
FUZZ_TARGETS += t/fuzz/submit_fuzz t/fuzz/http_fuzz
FUZZ_TARGETS += t/fuzz/sched_fuzz t/fuzz/convert_fuzz
FUZZ_TARGETS += t/fuzz/tableanswer_fuzz
FUZZ_TARGETS += t/fuzz/milter_fuzz
FUZZ_TARGETS += t/fuzz/proxyfilter_fuzz
FUZZ_TARGETS += t/fuzz/dovecot_fuzz t/fuzz/smtpauth_fuzz
FUZZ_TARGETS += t/fuzz/screen_fuzz t/fuzz/screentalk_fuzz
FUZZ_TARGETS += t/fuzz/tls_fuzz
EXTRA_DIST += t/fuzz/corpus t/fuzz/patch.h t/fuzz/spool_image.h

.PHONY: fuzz-programs
fuzz-programs: $(FUZZ_TARGETS)

if FUZZ
noinst_PROGRAMS += $(FUZZ_TARGETS)
FUZZ_MAIN = $(FUZZ_ENGINE)
else
check_PROGRAMS += $(FUZZ_TARGETS)
UNIT_TESTS += $(FUZZ_TARGETS)
check_LIBRARIES = libph_fuzz.a
libph_fuzz_a_SOURCES = t/fuzz/driver.c
libph_fuzz_a_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS_DIR='"$(abs_top_srcdir)/t/fuzz/corpus"'
FUZZ_MAIN = libph_fuzz.a
endif

t_fuzz_dovecot_fuzz_SOURCES = t/fuzz/dovecot_fuzz.c
t_fuzz_dovecot_fuzz_LDADD = $(FUZZ_MAIN) libph_auth.a $(WORKER_LIBS)
t_fuzz_smtpauth_fuzz_SOURCES = t/fuzz/smtpauth_fuzz.c t/unit/workers/smtpin_fake.h
t_fuzz_smtpauth_fuzz_LDADD = $(FUZZ_MAIN) libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_fuzz_screen_fuzz_SOURCES = t/fuzz/screen_fuzz.c t/unit/workers/testconf.h
t_fuzz_screen_fuzz_LDADD = $(FUZZ_MAIN) libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_fuzz_screentalk_fuzz_SOURCES = t/fuzz/screentalk_fuzz.c t/unit/workers/screentalk_rig.h
t_fuzz_screentalk_fuzz_LDADD = $(FUZZ_MAIN) libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_fuzz_tls_fuzz_SOURCES = t/fuzz/tls_fuzz.c t/unit/workers/tls_rig.h
t_fuzz_tls_fuzz_LDADD = $(FUZZ_MAIN) libph_tls.a libph_conf.a $(LIB_LIBS) $(PCRE2_LIBS) $(KYOTO_LIBS) $(WOLFSSL_LIBS)
t_fuzz_milter_fuzz_SOURCES = t/fuzz/milter_fuzz.c
t_fuzz_milter_fuzz_LDADD = $(FUZZ_MAIN) $(REWRITE_LIBS)
t_fuzz_proxyfilter_fuzz_SOURCES = t/fuzz/proxyfilter_fuzz.c t/unit/workers/smtpin_fake.h
t_fuzz_proxyfilter_fuzz_LDADD = $(FUZZ_MAIN) libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_fuzz_ring_fuzz_SOURCES = t/fuzz/ring_fuzz.c
t_fuzz_ring_fuzz_LDADD = $(FUZZ_MAIN) $(SHM_LIBS)
t_fuzz_link_fuzz_SOURCES = t/fuzz/link_fuzz.c
t_fuzz_link_fuzz_LDADD = $(FUZZ_MAIN) $(SHM_LIBS)
t_fuzz_blocks_fuzz_SOURCES = t/fuzz/blocks_fuzz.c
t_fuzz_blocks_fuzz_LDADD = $(FUZZ_MAIN) $(SHM_LIBS)
t_fuzz_qtab_fuzz_SOURCES = t/fuzz/qtab_fuzz.c
t_fuzz_qtab_fuzz_LDADD = $(FUZZ_MAIN) $(SHM_LIBS)
t_fuzz_dtab_fuzz_SOURCES = t/fuzz/dtab_fuzz.c
t_fuzz_dtab_fuzz_LDADD = $(FUZZ_MAIN) $(SHM_LIBS)
t_fuzz_counters_fuzz_SOURCES = t/fuzz/counters_fuzz.c
t_fuzz_counters_fuzz_LDADD = $(FUZZ_MAIN) $(SHM_LIBS)
t_fuzz_envelope_fuzz_SOURCES = t/fuzz/envelope_fuzz.c
t_fuzz_envelope_fuzz_LDADD = $(FUZZ_MAIN) libph_mail.a $(LIB_LIBS)
t_fuzz_address_fuzz_SOURCES = t/fuzz/address_fuzz.c
t_fuzz_address_fuzz_LDADD = $(FUZZ_MAIN) libph_mail.a $(LIB_LIBS)
t_fuzz_smtpdata_fuzz_SOURCES = t/fuzz/smtpdata_fuzz.c
t_fuzz_smtpdata_fuzz_LDADD = $(FUZZ_MAIN) libph_smtp.a $(LIB_LIBS)
t_fuzz_reply_fuzz_SOURCES = t/fuzz/reply_fuzz.c
t_fuzz_reply_fuzz_LDADD = $(FUZZ_MAIN) libph_smtp.a $(LIB_LIBS)
t_fuzz_map_fuzz_SOURCES = t/fuzz/map_fuzz.c
t_fuzz_map_fuzz_LDADD = $(FUZZ_MAIN) $(CONF_LIBS)
t_fuzz_maincf_fuzz_SOURCES = t/fuzz/maincf_fuzz.c
t_fuzz_maincf_fuzz_LDADD = $(FUZZ_MAIN) $(CONF_LIBS)
t_fuzz_header_fuzz_SOURCES = t/fuzz/header_fuzz.c
t_fuzz_header_fuzz_LDADD = $(FUZZ_MAIN) $(REWRITE_LIBS)
t_fuzz_convert_fuzz_SOURCES = t/fuzz/convert_fuzz.c workers/deliver/convert.c workers/deliver/convert_act.c \
	workers/deliver/generic.c
t_fuzz_convert_fuzz_LDADD = $(FUZZ_MAIN) $(REWRITE_LIBS)
t_fuzz_tableanswer_fuzz_SOURCES = t/fuzz/tableanswer_fuzz.c t/unit/workers/testconf.h
t_fuzz_tableanswer_fuzz_LDADD = $(FUZZ_MAIN) libph_lookup.a $(WORKER_LIBS) $(LOOKUP_SOURCE_LIBS)
t_fuzz_tableanswer_fuzz_LDFLAGS = -Wl,--wrap=stream_connect
t_fuzz_dns_fuzz_SOURCES = t/fuzz/dns_fuzz.c workers/resolver/packet.c workers/resolver/hosts.c
t_fuzz_dns_fuzz_LDADD = $(FUZZ_MAIN) libph_dns.a libph_shm.a $(CONF_LIBS)
t_fuzz_client_fuzz_SOURCES = t/fuzz/client_fuzz.c $(DELIVER_ENGINE) workers/deliver/nexthop.c
t_fuzz_client_fuzz_LDADD = $(FUZZ_MAIN) libph_mail.a libph_smtp.a $(CONF_LIBS) $(WOLFSSL_LIBS)
t_fuzz_submit_fuzz_SOURCES = t/fuzz/submit_fuzz.c $(REWRITE_RIG)
t_fuzz_submit_fuzz_LDADD = $(FUZZ_MAIN) $(REWRITE_LIBS)
t_fuzz_smtpcommand_fuzz_SOURCES = t/fuzz/smtpcommand_fuzz.c t/unit/workers/smtpin_fake.h
t_fuzz_smtpcommand_fuzz_LDADD = $(FUZZ_MAIN) libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_fuzz_smtpsession_fuzz_SOURCES = t/fuzz/smtpsession_fuzz.c t/unit/workers/smtpin_fake.h
t_fuzz_smtpsession_fuzz_LDADD = $(FUZZ_MAIN) libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_fuzz_qmqp_fuzz_SOURCES = t/fuzz/qmqp_fuzz.c t/unit/workers/smtpin_fake.h
t_fuzz_qmqp_fuzz_LDADD = $(FUZZ_MAIN) libph_smtpin.a libph_tls.a $(WORKER_LIBS) $(WOLFSSL_LIBS)
t_fuzz_segment_fuzz_SOURCES = t/fuzz/segment_fuzz.c
t_fuzz_segment_fuzz_LDADD = $(FUZZ_MAIN) $(SPOOL_LIBS)
t_fuzz_index_fuzz_SOURCES = t/fuzz/index_fuzz.c
t_fuzz_index_fuzz_LDADD = $(FUZZ_MAIN) $(SPOOL_LIBS)
t_fuzz_journal_fuzz_SOURCES = t/fuzz/journal_fuzz.c
t_fuzz_journal_fuzz_LDADD = $(FUZZ_MAIN) $(SPOOL_LIBS)
t_fuzz_http_fuzz_SOURCES = t/fuzz/http_fuzz.c $(STATS_SOURCES)
t_fuzz_http_fuzz_LDADD = $(FUZZ_MAIN) $(WORKER_LIBS) $(JANSSON_LIBS)
t_fuzz_sched_fuzz_SOURCES = t/fuzz/sched_fuzz.c t/unit/daemon/sched_world.h
t_fuzz_sched_fuzz_LDADD = $(FUZZ_MAIN) $(SCHED_TEST_LIBS)
