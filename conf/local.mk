# SPDX-License-Identifier: GPL-3.0-or-later
noinst_LIBRARIES += libph_conf.a
libph_conf_a_SOURCES = conf/conf.h \
	conf/bounce_text.c conf/bounce_text.h \
	conf/command.c conf/command.h \
	conf/conf.c conf/conf_priv.h \
	conf/defaults.c \
	conf/effect.c conf/effect.h \
	conf/expand.c \
	conf/lines.h \
	conf/maincf.c \
	conf/mastercf.c \
	conf/names.c \
	conf/param.c \
	conf/ports.c conf/ports.h \
	conf/pool.c conf/pool.h \
	conf/sasl.c conf/sasl.h \
	conf/scope.c \
	conf/spawn.c conf/spawn.h \
	conf/transport.c \
	conf/screen_use.c conf/screen_use.h \
	conf/verify_use.c conf/verify_use.h \
	conf/effect_reasons.inc conf/params_alias.inc conf/params_idle.inc conf/params_where.inc conf/params_inert.inc \
	conf/params.inc conf/params_bounce.inc conf/params_filter.inc \
	conf/params_lmtp.inc conf/params_local.inc conf/params_main.inc conf/params_own.inc \
	conf/params_queue.inc conf/params_rewrite.inc conf/params_smtp.inc \
	conf/params_screen.inc conf/params_smtpd.inc conf/params_tls.inc
libph_conf_a_SOURCES += \
	conf/map.c conf/map.h conf/map_impl.h \
	conf/map_cidr.c \
	conf/map_hash.c \
	conf/map_kch.c \
	conf/map_list.c \
	conf/map_multi.c \
	conf/map_regex.c \
	conf/map_remote.c conf/map_remote.h \
	conf/map_rules.c \
	conf/map_simple.c \
	conf/map_text.c conf/map_text.h \
	conf/map_watch.c conf/map_watch.h \
	conf/matchlist.c \
	conf/peermap.c conf/peermap.h \
	conf/policy_spec.c conf/policy_spec.h

sbin_PROGRAMS += conf/postconf
conf_postconf_SOURCES = \
	conf/postconf.c conf/postconf.h \
	conf/postconf_doc.c \
	conf/postconf_edit.c \
	conf/postconf_effect.c \
	conf/postconf_master.c \
	conf/postconf_options.c \
	conf/postconf_print.c
conf_postconf_LDADD = $(CONF_LIBS)
