# SPDX-License-Identifier: GPL-3.0-or-later
# Load generator and sink: used by scripts/bench and by t/e2e.
noinst_PROGRAMS += t/bench/load t/bench/sink
WIRE = t/bench/wire.c t/bench/wire.h
WIRE_LIBS = libph_tls.a libph_conf.a $(LIB_LIBS) $(PCRE2_LIBS) $(KYOTO_LIBS) $(WOLFSSL_LIBS)
t_bench_load_SOURCES = t/bench/load.c $(WIRE)
t_bench_load_LDADD = $(WIRE_LIBS)
t_bench_sink_SOURCES = t/bench/sink.c $(WIRE)
t_bench_sink_LDADD = $(WIRE_LIBS)
check_PROGRAMS += t/bench/rewrite_bench
t_bench_rewrite_bench_SOURCES = t/bench/rewrite_bench.c $(REWRITE_RIG)
t_bench_rewrite_bench_LDADD = $(REWRITE_LIBS)
noinst_PROGRAMS += t/bench/spool_bench
t_bench_spool_bench_SOURCES = t/bench/spool_bench.c
t_bench_spool_bench_LDADD = $(SPOOL_LIBS)
EXTRA_DIST += t/bench/lib t/bench/slowsync.c
